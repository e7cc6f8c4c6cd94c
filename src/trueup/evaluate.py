"""``trueup evaluate``: the same held-out prompts to several models, judged by a reward model, as rows and a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trueup.config import Batch, Model, Reading, Sampling
from trueup.data.read import read_prompts
from trueup.data.render import Renderer
from trueup.errors import UsageError, nearest
from trueup.evaluation.collect import collect
from trueup.evaluation.rows import write_rows
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy
from trueup.reports.build import Report, build_report

NOTE = (
    "Quality here is what the reward model says: a proxy. A policy that was trained on this very reward model can "
    "raise it without being better; judge with another one, trained on other pairs, or by people."
)


def named(models: Sequence[str]) -> dict[str, str]:
    """``NAME=PATH`` arguments by name; a bare path is named by its last folder that is not ``final``.

    Raises:
        UsageError: Two models have one name.
    """
    found: dict[str, str] = {}
    for argument in models:
        name, equals, path = argument.partition("=")
        if not equals:
            parts = [p for p in Path(argument).parts if p != "final"]
            name, path = (parts[-1] if parts else argument), argument
        if name in found:
            raise UsageError(f"two models are called {name!r}", where="models", fix="name them: NAME=PATH")
        found[name] = path
    return found


def evaluate(
    models: Sequence[str],
    data: str,
    reward: str,
    out: Path,
    *,
    baseline: str | None = None,
    reference: str | None = None,
    limit: int = 400,
    sampling: Sampling | None = None,
    read: Reading | None = None,
    device: str = "auto",
    dtype: str = "float32",
    max_length: int = 512,
    seed: int = 0,
    tell: Callable[[str], None] = print,
) -> Report:
    """Sample, score, compare; writes ``eval.jsonl``, ``report.html``, ``report.md`` and ``summary.json`` into ``out``.

    Args:
        models: ``NAME=PATH`` or paths; names appear in the report.
        data: Prompts that no model was trained on.
        reward: Directory of a reward model, best of all not the one PPO was trained with.
        out: Folder.
        baseline: Name of the model the others are compared with; the first by default.
        reference: Name of the model from which KL is measured; the baseline by default.
        limit: Prompts used, from the top of the file.
        sampling: How answers are drawn.
        read: How the file is read.
        device, dtype, max_length: As in the settings of a run.
        seed: Names the draws, which all models share.
        tell: Progress lines.
    """
    paths = named(models)
    base = baseline or next(iter(paths))
    anchor = reference or base
    for name in (base, anchor):
        if name not in paths:
            raise UsageError(f"no model {name!r}", where="baseline or reference", expected=nearest(name, paths))
    loaded = read_prompts(data, **(read or Reading()).options())
    prompts = loaded.items[:limit]
    batch = Batch(max_length=max_length)
    policies = {n: open_policy(Model(name=p, device=device, dtype=dtype), frozen=True) for n, p in paths.items()}
    judge = open_reward_model(Model(name=reward, device=device, dtype=dtype), new_head=False)
    shared = len({tuple(sorted(p.tokenizer.get_vocab().items())) for p in policies.values()}) == 1
    if not shared:
        tell("KL is not measured: the models' vocabularies differ")
    tell(f"{len(prompts)} prompts to {', '.join(paths)}")
    rows = collect(
        policies,
        prompts,
        renderers={n: Renderer.of(p.tokenizer, batch, context=p.context) for n, p in policies.items()},
        sampling=sampling or Sampling(),
        seed=seed,
        reward=judge,
        reward_renderer=Renderer.of(judge.tokenizer, batch, context=judge.context),
        reference=policies[anchor] if shared else None,
    )
    out.mkdir(parents=True, exist_ok=True)
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
        commands=(f"trueup evaluate {command} --data {data} --reward {reward} --baseline {base} --out {out}",),
    )
    for line in report.verdict:
        tell(line)
    return report
