"""``trueup evaluate``: the same held-out prompts to several models, judged or only described, as rows and a report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.commands.judges import NamedJudge, OpenedJudge, open_judge, parse_judges, reward_judge, with_marks
from trueup.commands.people import Room, put_up
from trueup.config import Model, Reading, Sampling, build
from trueup.data.fit import fitting_prompts
from trueup.data.read import Loaded, read_prompts
from trueup.data.render import Renderer
from trueup.engine.ask import policy_window
from trueup.engine.rendering import renderer_difference, renderer_of, whole_context
from trueup.errors import DataError, UsageError, nearest
from trueup.evaluation.collect import collect_answers
from trueup.evaluation.compare import Judging
from trueup.evaluation.judge import JudgedPair, judge_answers
from trueup.evaluation.marks import Columns, Marks, read_marks
from trueup.evaluation.rows import Row, write_rows
from trueup.ledger import read_lines, write_atomic, write_json
from trueup.models.policy import Policy, open_policy
from trueup.reports.build import Report, build_report
from trueup.rewards.columns import column_remarks, give_columns
from trueup.rewards.protocol import Parted, Reward, check_prompts, cut_by, windows_of
from trueup.rewards.refusal_phrases import refusal
from trueup.sandbox import Kind, gold_score, kind_of
from trueup.types import Prompt, question

RECORD, VERDICTS = "evaluation.json", "verdicts.jsonl"
"""What the evaluation was, and the verdicts of judges that compare, beside ``eval.jsonl``."""
UNJUDGED = (
    "Quality was not judged: nothing here says which answers are better. The tables describe them; add a judge for "
    "more: --judge reward:PATH, implicit:RUN, python:package.module:name, reference or people."
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
    reward: Reward | None,
    out: Path,
    *,
    judges: Sequence[str] = (),
    baseline: str | None = None,
    reference: str | None = None,
    limit: int = 400,
    samples: int = 1,
    columns: Columns | None = None,
    sampling: Sampling | None = None,
    read: Reading | None = None,
    room: Room | None = None,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    tell: Callable[[str], None] = print,
) -> Report:
    """Sample, judge, compare; writes ``eval.jsonl``, ``report.html``, ``report.md`` and ``summary.json`` into ``out``.

    Args:
        models: ``NAME=PATH`` or paths; names appear in the report.
        data: Prompts that no model was trained on.
        reward: Scores the answers, as the judge ``reward``; best of all not the one PPO was trained with.
        out: Folder.
        judges: Further judges, as ``--judge`` takes them; with none at all answers are only described.
        baseline: Name of the model the others are compared with; the first by default.
        reference: Name of the model from which KL is measured; the baseline by default.
        limit: Prompts used, from the top of the file.
        samples: Answers of each model to each prompt.
        columns: Where the data says a prompt's kind, whether it is safe, and reference answers.
        sampling: How answers are drawn.
        read: How the file is read; by default prompts that went through a chat template are a warning.
        room: Where people judge, for the judge ``people``.
        device, dtype: As in the settings of a run.
        seed: Names the draws, which all models share.
        tell: Progress lines.

    Raises:
        UsageError: Two models have one name, or ``baseline`` or ``reference`` names none; a judge does not exist.
        ConfigError: A setting out of its range.
        ModelError: A model cannot be opened, or a judge cannot read chats.
        DataError: A prompt with the longest answer does not fit a model or a judge; nothing was sampled.
    """
    paths = named(models)
    base = baseline or next(iter(paths))
    reference_model = reference or base
    for name in (base, reference_model):
        if name not in paths:
            raise UsageError(f"no model {name!r}", where="baseline or reference", expected=nearest(name, paths))
    if out.exists() and not out.is_dir():
        raise UsageError("is a file", where=str(out), expected="a folder for the report")
    parsed = parse_judges([*(["reward:REWARD"] if reward else []), *judges])
    if any(judge.kind == "people" for judge in parsed) and room is None:
        raise UsageError("where they judge is not said", where="--judge people", fix="add --project NAME and --db FILE")
    if room is not None:
        room.check()
    sampling, read = sampling or Sampling(), read or Reading(templated=True)
    setting = {"device": device, "dtype": dtype}
    opened = _opened(parsed, reward, paths, setting)
    if len(paths) == 1 and (alone := next((judge for judge in opened if judge.needs_two), None)):
        raise UsageError("has nothing to compare", where=f"--judge {alone.named.text}", expected="two models or more")
    asking = _Asked.open(paths, setting, sampling)
    options = read.options()
    loaded = read_prompts(data, limit=limit, **{**options, "tell": None})
    prompts = asking.fitting(loaded, opened, read, tell)
    marks = read_marks(data, loaded, prompts, columns or Columns(), split=read.split)
    scorers = [judge.reward for judge in opened if judge.reward is not None]
    for scorer in scorers:
        give_columns(scorer, data, loaded, prompts, prompts, split=read.split)
    for remark in (*_remarks(loaded, marks), *(line for scorer in scorers for line in column_remarks(scorer))):
        options["tell"](remark)
    opened = [with_marks(judge, marks, prompts, data) for judge in opened]
    out.mkdir(parents=True, exist_ok=True)  # what cannot be written is known before anything is sampled
    tell(f"{len(prompts)} prompts to {', '.join(paths)}")
    rows = asking.collect(prompts, opened, marks, reference_model, samples, seed, tell)
    verdicts = {judge.named.label: _verdicts(rows, base, judge) for judge in opened if judge.compares is not None}
    marked = columns or Columns()
    again = {
        "reference": reference,
        "limit": limit,
        "samples": samples,
        "kind": marked.kind,
        "safe": marked.safe,
        "references": marked.references,
        "max-new-tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "dtype": dtype,
        "seed": seed,
    }
    record = {
        "models": paths,
        "baseline": base,
        "data": data,
        "seed": seed,
        "judges": [_recorded(judge) for judge in opened],
        "command": _command(paths, parsed, reward, {"data": data, "baseline": base, **again, "out": out}),
    }
    report = write_evaluation(out, rows, verdicts, record, tell)
    if room is not None and any(judge.kind == "people" for judge in parsed):
        put_up(rows, base, room, seed, tell)
    return report


def write_evaluation(
    out: Path,
    rows: Sequence[Row],
    verdicts: Mapping[str, Mapping[str, Sequence[JudgedPair]]],
    record: Mapping[str, Any],
    tell: Callable[[str], None],
) -> Report:
    """Rows, verdicts, the record and the report of an evaluation.

    Args:
        out: Folder.
        rows: All answers, with the scores of judges that give some.
        verdicts: By label and model: the pairs of judges that compare.
        record: What the evaluation was.
        tell: Gets the sentences of the report.
    """
    write_rows(rows, out / "eval.jsonl")
    lines = [
        {"judge": label, **pair.to_dict()}
        for label, by_model in verdicts.items()
        for pairs in by_model.values()
        for pair in pairs
    ]
    if lines:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomic(out / VERDICTS, text.encode("utf-8", "surrogatepass"))
    write_json(out / RECORD, dict(record))
    judgings = [_judging(judge, verdicts) for judge in record["judges"]]
    judgings = [judging for judging in judgings if judging.pairs is None or any(judging.pairs.values())]
    scored = next((judging.label for judging in judgings if judging.pairs is None), None)
    report = build_report(
        {},
        rows,
        out,
        title=f"Evaluation of {', '.join(record['models'])}",
        notes=[] if judgings else [UNJUDGED],
        baseline=record["baseline"],
        score=scored,
        judges=judgings,
        facts={"seed": record["seed"]},
        commands=(record["command"],) if record["command"] else (),
    )
    for line in (*report.verdict, *([] if judgings else [UNJUDGED])):
        tell(line)
    return report


def read_verdicts(out: Path) -> dict[str, dict[str, list[JudgedPair]]]:
    """The verdicts of an earlier evaluation, by judge and model; none where no judge compared.

    Raises:
        DataError: A line is no verdict.
    """
    file = out / VERDICTS
    verdicts: dict[str, dict[str, list[JudgedPair]]] = {}
    for number, line in enumerate(read_lines(file)[0] if file.exists() else [], 1):
        pair = JudgedPair.of(line, f"{file}:{number}")
        if "judge" not in line:
            raise DataError("no judge", where=f"{file}:{number}", expected="the label of a judge")
        verdicts.setdefault(str(line["judge"]), {}).setdefault(pair.a, []).append(pair)
    return verdicts


def _judging(judge: Mapping[str, Any], verdicts: Mapping[str, Mapping[str, Sequence[JudgedPair]]]) -> Judging:
    pairs = None if judge["scores"] else verdicts.get(judge["label"], {})
    bounds = None if judge["bounds"] is None else (float(judge["bounds"][0]), float(judge["bounds"][1]))
    return Judging(judge["label"], judge["kind"], judge["about"], pairs, bounds, tuple(judge["notes"]))


def _recorded(judge: OpenedJudge) -> dict[str, Any]:
    return {
        "label": judge.named.label,
        "kind": judge.named.kind,
        "about": judge.about,
        "scores": judge.scorer is not None,
        "bounds": judge.bounds,
        "notes": list(judge.notes),
    }


def _opened(
    parsed: Sequence[NamedJudge], reward: Reward | None, paths: Mapping[str, str], setting: Mapping[str, str]
) -> list[OpenedJudge]:
    """The judges; a reward that is open already is the first of them."""
    opened = [reward_judge(reward, NamedJudge(parsed[0].label, "reward", reward.name))] if reward else []
    return opened + [open_judge(judge, paths, setting) for judge in parsed[len(opened) :]]


def _remarks(loaded: Loaded[Prompt], marks: Marks) -> list[str]:
    """What is to be said of the data; columns that are marks are used here."""
    for column in (marks.columns.kind, marks.columns.safe, marks.columns.references):
        loaded.report.unused_text.pop(column or "", None)
    return loaded.report.remarks()


def _verdicts(rows: Sequence[Row], base: str, judge: OpenedJudge) -> dict[str, list[JudgedPair]]:
    assert judge.compares is not None
    names = [name for name in dict.fromkeys(str(row["model"]) for row in rows) if name != base]
    return {name: judge_answers(rows, name, base, judge.compares) for name in names}


def _command(
    paths: Mapping[str, str], parsed: Sequence[NamedJudge], reward: Reward | None, options: Mapping[str, object]
) -> str:
    """The command that does it again, as a shell reads it: every option that has a value; empty where the reward is a
    sum of parts, which no option can hold."""
    if isinstance(reward, Parted):
        return ""
    words = ["trueup", "evaluate", *(f"{name}={path}" for name, path in paths.items())]
    words += ["--reward", reward.name] if reward else []
    for judge in parsed[1:] if reward else parsed:
        words += ["--judge", judge.text]
    for name, value in options.items():
        words += [f"--{name}", str(value)] if value is not None else []
    return shlex.join(words)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The models, open and ready to answer."""

    policies: Mapping[str, Policy]
    renderers: Mapping[str, Renderer]
    sampling: Sampling

    @classmethod
    def open(cls, paths: Mapping[str, str], setting: Mapping[str, str], sampling: Sampling) -> _Asked:
        models = {n: build(Model, {"name": p, **setting}, where="models") for n, p in paths.items()}
        policies = {n: open_policy(model, frozen=True) for n, model in models.items()}
        renderers = {n: renderer_of(p, models[n], whole_context(p.context)) for n, p in policies.items()}
        return cls(policies, renderers, sampling)

    def fitting(
        self, loaded: Loaded[Prompt], judges: Sequence[OpenedJudge], read: Reading, tell: Callable[[str], None]
    ) -> tuple[Prompt, ...]:
        """The prompts that every model can answer and every judge can read."""
        fix = "shorten or remove it, or lower --max-new-tokens"
        windows = [policy_window(p, self.renderers[n], self.sampling, fix=fix) for n, p in self.policies.items()]
        for judge in judges:
            if judge.reward is None:
                continue
            for renderer in self.renderers.values():
                windows += windows_of(judge.reward, renderer, self.sampling.max_new_tokens, fix=fix)
            check_prompts(judge.reward, loaded.items)
        prompts, fit = fitting_prompts(loaded, windows, skip_refused=read.skip_bad_rows)
        if fit.lost:
            tell(str(fit))
        return prompts

    def collect(
        self,
        prompts: Sequence[Prompt],
        judges: Sequence[OpenedJudge],
        marks: Marks,
        reference: str,
        samples: int,
        seed: int,
        tell: Callable[[str], None],
    ) -> list[dict[str, Any]]:
        """Answers of all models as rows, scored by the judges that score."""
        own = self.renderers[reference]
        apart = next((why for r in self.renderers.values() if (why := renderer_difference(r, own))), None)
        if apart:
            tell(f"KL is not measured: {apart}")
        gold = any(judge.named.kind == "gold" for judge in judges)
        safe = marks.safe
        if safe is None and gold:  # the sandbox knows it of each of its prompts
            safe = [kind_of(question(prompt)) is not Kind.HARMFUL for prompt in prompts]
        cut_before = {judge.named.label: cut_by(judge.reward) for judge in judges if judge.reward is not None}
        rows = collect_answers(
            self.policies,
            prompts,
            renderers=self.renderers,
            sampling=self.sampling,
            seed=seed,
            samples=samples,
            kinds=marks.kinds,
            gold=gold_score if gold else None,
            scorers={j.named.label: j.scorer for j in judges if j.scorer is not None and j.named.kind != "gold"},
            marks=None if safe is None else [{"safe": value} for value in safe],
            reference=self.policies[reference] if apart is None else None,
        )
        for row in rows:
            row["refusal"] = refusal(row["completion"]).value
        for judge in judges:
            if judge.reward is not None and (cut := cut_by(judge.reward) - cut_before[judge.named.label]):
                tell(
                    f"{cut} of {len(rows)} answers were longer than the reward model reads and were cut, as in training"
                )
        return rows
