"""``trueup evaluate``: the same held-out prompts to several models, scored by a reward, as rows and a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trueup.config import Model, Reading, Sampling, build
from trueup.data.fit import fitting_prompts
from trueup.data.read import read_prompts
from trueup.engine.ask import policy_window
from trueup.engine.rendering import renderer_difference, renderer_of, whole_context
from trueup.errors import UsageError, nearest
from trueup.evaluation.collect import collect_answers
from trueup.evaluation.rows import write_rows
from trueup.models.policy import open_policy
from trueup.reports.build import Report, build_report
from trueup.rewards.protocol import Reward, check_prompts, cut_by, windows_of

NOTE = (
    "Quality here is what the reward says: a proxy. A policy that was trained on this very reward can "
    "raise it without being better; judge with another one, trained on other pairs, or by people."
)


def named(models: Sequence[str]) -> dict[str, str]:
    """``NAME=PATH`` arguments by name; a bare path is named by its last folder that is not ``final``.

    Raises:
        UsageError: Two models have one name.
    """
    paths: dict[str, str] = {}
    for argument in models:
        name, equals, path = argument.partition("=")
        if not equals:
            parts = [p for p in Path(argument).parts if p != "final"]
            name, path = (parts[-1] if parts else argument), argument
        if name in paths:
            raise UsageError(f"two models are called {name!r}", where="models", fix="name them: NAME=PATH")
        paths[name] = path
    return paths


def compare_models(
    models: Sequence[str],
    data: str,
    reward: Reward,
    out: Path,
    *,
    baseline: str | None = None,
    reference: str | None = None,
    limit: int = 400,
    sampling: Sampling | None = None,
    read: Reading | None = None,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    tell: Callable[[str], None] = print,
) -> Report:
    """Sample, score, compare; writes ``eval.jsonl``, ``report.html``, ``report.md`` and ``summary.json`` into ``out``.

    Args:
        models: ``NAME=PATH`` or paths; names appear in the report.
        data: Prompts that no model was trained on.
        reward: Scores the answers; best of all not the one PPO was trained with.
        out: Folder.
        baseline: Name of the model the others are compared with; the first by default.
        reference: Name of the model from which KL is measured; the baseline by default.
        limit: Prompts used, from the top of the file.
        sampling: How answers are drawn.
        read: How the file is read; by default prompts that went through a chat template are a warning.
        device, dtype: As in the settings of a run.
        seed: Names the draws, which all models share.
        tell: Progress lines.

    Raises:
        UsageError: Two models have one name, or ``baseline`` or ``reference`` names none.
        ConfigError: A setting out of its range.
        ModelError: A model cannot be opened, or the reward cannot read chats.
        DataError: A prompt with the longest answer does not fit a model or the reward; nothing was sampled.
    """
    paths = named(models)
    base = baseline or next(iter(paths))
    reference_model = reference or base
    for name in (base, reference_model):
        if name not in paths:
            raise UsageError(f"no model {name!r}", where="baseline or reference", expected=nearest(name, paths))
    if out.exists() and not out.is_dir():
        raise UsageError("is a file", where=str(out), expected="a folder for the report")
    sampling, read = sampling or Sampling(), read or Reading(templated=True)
    opening = {n: build(Model, {"name": p, "device": device, "dtype": dtype}, where="models") for n, p in paths.items()}
    loaded = read_prompts(data, limit=limit, **read.options())
    policies = {n: open_policy(model, frozen=True) for n, model in opening.items()}
    renderers = {n: renderer_of(p, opening[n], whole_context(p.context)) for n, p in policies.items()}
    fix = "shorten or remove it, or lower --max-new-tokens"
    windows = [policy_window(p, renderers[n], sampling, fix=fix) for n, p in policies.items()]
    windows += [w for r in renderers.values() for w in windows_of(reward, r, sampling.max_new_tokens, fix=fix)]
    check_prompts(reward, loaded.items)
    prompts, fit = fitting_prompts(loaded, windows, skip_refused=read.skip_bad_rows)
    if fit.lost:
        tell(str(fit))
    apart = next((why for r in renderers.values() if (why := renderer_difference(r, renderers[reference_model]))), None)
    if apart:
        tell(f"KL is not measured: {apart}")
    out.mkdir(parents=True, exist_ok=True)  # what cannot be written is known before anything is sampled
    tell(f"{len(prompts)} prompts to {', '.join(paths)}")
    cut_before = cut_by(reward)
    rows = collect_answers(
        policies,
        prompts,
        renderers=renderers,
        sampling=sampling,
        seed=seed,
        reward=reward,
        reference=policies[reference_model] if apart is None else None,
    )
    if cut := cut_by(reward) - cut_before:
        tell(f"{cut} of {len(rows)} answers were longer than the reward model reads and were cut, as in training")
    write_rows(rows, out / "eval.jsonl")
    command = " ".join(f"{name}={path}" for name, path in paths.items())
    report = build_report(
        {},
        rows,
        out,
        title=f"Evaluation of {', '.join(paths)}",
        notes=(NOTE,),
        baseline=base,
        score="reward",
        facts={"seed": seed},
        commands=(f"trueup evaluate {command} --data {data} --reward {reward.name} --baseline {base} --out {out}",),
    )
    for line in report.verdict:
        tell(line)
    return report
