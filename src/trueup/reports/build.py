"""One report of several runs and their evaluation: self-contained HTML, Markdown, JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.evaluation.compare import Judging, compare
from trueup.evaluation.overoptimization import turning_point
from trueup.evaluation.rows import Row, models, of_model, read_rows
from trueup.evaluation.settling import settling
from trueup.ledger import Damage, read_lines, read_run, write_atomic
from trueup.ledger.record import rated_columns
from trueup.reports import figures
from trueup.reports.again import again, changed, flat
from trueup.reports.criteria import Criterion, criteria, is_trial
from trueup.reports.figures import Figure
from trueup.reports.logs import RunLog, read_log
from trueup.reports.page import Page, rendered
from trueup.reports.parts import part_figure, reward_parts
from trueup.reports.verdict import verdict

CURVES: dict[str, tuple[str, str, tuple[tuple[str, str], ...]]] = {
    "ppo": (
        "reward and KL together",
        "The score that the reward gives and the distance from the reference, step by step. Score that rises "
        "while KL stays near its target is learning; KL that runs away is the model leaving what it knew.",
        (
            ("score", "score of the reward"),
            ("kl", "KL to the reference, nats per sequence"),
            ("beta", "KL coefficient"),
            ("completion_length", "tokens per answer"),
        ),
    ),
    "dpo": (
        "preferences into the policy",
        "Held-out accuracy of the implicit reward, its margin, and the log-ratio of chosen answers (falling means that "
        "chosen answers become less likely too).",
        (
            ("heldout_accuracy", "held-out accuracy"),
            ("margin", "margin of the implicit reward"),
            ("chosen_logratio", "log-ratio of chosen answers, nats"),
        ),
    ),
    "kto": (
        "good and bad responses",
        "Loss and separation.",
        (("loss", "loss"), ("margin", "margin"), ("kl", "KL point"), ("reward_shift", "reward shift")),
    ),
    "reward": (
        "the reward model",
        "Loss on training pairs and accuracy on pairs that were not trained on, ties half.",
        (("loss", "training loss"), ("heldout_accuracy", "held-out accuracy"), ("heldout_loss", "held-out loss")),
    ),
    "sft": (
        "imitation",
        "Negative log-likelihood of the completions, per token.",
        (("nll", "training NLL, nats per token"), ("heldout_nll", "held-out NLL")),
    ),
}
CURVES |= dict.fromkeys(("rloo", "grpo", "reinforce-pp", "cispo", "gspo", "online-dpo", "best-of-n"), CURVES["ppo"])


@dataclass(frozen=True, slots=True)
class Report:
    """What was written, and the data behind it."""

    html: Path
    markdown: Path
    summary: Path
    verdict: tuple[str, ...]
    data: dict[str, Any]
    problems: tuple[str, ...] = ()
    """What is damaged in the runs' logs, one sentence each; the report goes without it."""


def build_report(
    run_dirs: Mapping[str, Path],
    evaluation_rows: Sequence[Row],
    out: Path,
    *,
    title: str,
    notes: Sequence[str] = (),
    baseline: str = "sft",
    score: str | None = "gold",
    judges: Sequence[Judging] = (),
    samples: int = 6,
    facts: Mapping[str, Any] | None = None,
    probes: Sequence[Mapping[str, Any]] = (),
    feedback: Mapping[str, Any] | None = None,
    skill: Mapping[str, Any] | None = None,
    smoke: bool = False,
    commands: Sequence[str] = (),
    demands: Sequence[Mapping[str, str]] = (),
    asked: Sequence[Mapping[str, Any]] = (),
    more: Page | None = None,
) -> Report:
    """Write the report of ``run_dirs`` and ``evaluation_rows`` into ``out``.

    Args:
        run_dirs: Run directories by stage name, in the order to show them.
        evaluation_rows: Rows made by ``evaluation.collect``; may be empty.
        out: Folder; made if absent.
        title: Headline.
        notes: Sentences shown under the verdict.
        baseline: Model that the others are compared with.
        score: The measurement of the rows that decides: ``gold`` or ``reward``; None where quality was not judged.
        judges: Who judged the rows; without them ``score`` is all there is.
        samples: How many prompts to show answers for.
        facts: Known truths, such as ``seed``.
        probes: Answers to fixed prompts along training, with ``step``, ``score`` (proxy) and ``gold``.
        feedback: Where the preferences come from: ``card`` (path from the report), ``judgments``, ``annotators``,
            ``pairs`` by split, ``left_out`` (``annotator``, ``signs``), ``simulated``.
        skill: Of the reward model on held-out pairs: ``evaluation.skill.Skill.to_dict()``.
        smoke: The runs are only a trial that everything runs: the page says so first and claims nothing else.
        commands: Commands that reproduce the report.
        demands: Criteria and whether they are met: ``name``, ``outcome``, ``words``.
        asked: Answers to fixed prompts along one run, to show the first and the last: ``step``, ``question``,
            ``completion``, ``score``.
        more: What else to say: sentences under the verdict, sections before the curves, data of the summary.
    """
    logs = {name: read_log(path) for name, path in run_dirs.items()}
    runs = {name: _run(log) for name, log in logs.items()}
    problems = [problem for log in logs.values() for problem in log.problems]
    comparison = compare(evaluation_rows, baseline, score=score, judges=judges) if evaluation_rows else None
    known = dict(facts or {})
    data: dict[str, Any] = {
        "title": f"Smoke run: {title}" if smoke else title,
        "smoke": smoke,
        "facts": known,
        "runs": {name: {k: v for k, v in run.items() if k != "settings"} for name, run in runs.items()},
        "comparison": comparison,
        "parts": {name: parts for name, log in logs.items() if (parts := reward_parts(log))},
        "reward_model": _reward_card(logs),
        "skill": dict(skill) if skill else None,
        "overoptimization": _probe_curve(probes),
        "feedback": dict(feedback) if feedback else None,
        "commands": list(commands),
        "criteria": [dict(demand) for demand in demands],
        "problems": problems,
        **(more.data if more else {}),
    }
    data["verdict"] = list(verdict(data))
    drawn = _figures(logs, comparison, data["overoptimization"])
    shown = _samples(evaluation_rows, samples)
    out.mkdir(parents=True, exist_ok=True)
    page = {
        **data,
        "notes": [*problems, *notes, *(more.verdict if more else ())],
        "sections": more.sections if more else (),
        "run_settings": runs,
        "figures": drawn,
        "samples": shown,
        "probes": _first_and_last(asked, samples),
        "baseline": baseline,
        "judged": bool(judges) or score is None,
        "shown_scores": [judge.label for judge in judges if judge.pairs is None]
        if judges or score is None
        else ["gold", "reward"],
    }
    return _write(out, page, data)


def report_run(
    run_dir: str | Path,
    out: str | Path | None = None,
    *,
    evaluation: str | Path | None = None,
    model: str | None = None,
    more: Page | None = None,
) -> Report:
    """The report of one run, beside it unless ``out`` says otherwise.

    Args:
        run_dir: The run.
        out: Folder of the report.
        evaluation: Folder of an evaluation in which the run's model took part.
        model: Name of the run's model there; by default the model that lies in the run, or is called like it.
        more: As for ``build_report``.

    Raises:
        UsageError: ``run_dir`` is not a run directory, or its model took no part in the evaluation.
    """
    path = Path(run_dir)
    name = path.resolve().name
    log = read_log(path)
    rows = read_rows(Path(evaluation) / "eval.jsonl") if evaluation is not None else []
    own = (model or evaluated_as(path, Path(evaluation), rows)) if evaluation is not None else None
    if own is not None:
        of_model(rows, own)  # a clear error if it is not there
    probes, damaged = _probes(path)
    commands = [*again(log.record, run_dir), f"trueup report {run_dir}"]
    smoke = is_trial(log)
    return build_report(
        {name: path},
        rows,
        Path(out or path),
        title=f"{log.record['kind']}: {name}",
        notes=[*damaged, *([f"A trial: {smoke}."] if smoke else [])],
        baseline=next((other for other in models(rows) if other != own), "sft"),
        score="gold" if rows and rows[0].get("gold") is not None else "reward",
        smoke=smoke is not None,
        commands=commands,
        demands=[one.to_dict() for one in criteria(log, probes, rows, own)],
        asked=probes,
        more=more,
    )


def run_criteria(run_dir: str | Path, evaluation: str | Path | None = None) -> list[Criterion]:
    """The criteria that apply to a run. Arguments and errors as ``report_run``."""
    path = Path(run_dir)
    rows = read_rows(Path(evaluation) / "eval.jsonl") if evaluation is not None else []
    own = evaluated_as(path, Path(evaluation), rows) if evaluation is not None else None
    if own is not None:
        of_model(rows, own)  # a clear error if it is not there
    return list(criteria(read_log(path), _probes(path)[0], rows, own))


def evaluated_as(run: Path, evaluation: Path, rows: Sequence[Row]) -> str:
    """What an evaluation calls the model of a run: by where it lies, where the evaluation says so, else by its name."""
    own, elsewhere = (run.resolve(), (run / "final").resolve()), set()
    for name, path in evaluated_models(evaluation).items():
        if Path(path).resolve() in own:
            return name
        if Path(path).exists():  # another model, whatever it is called
            elsewhere.add(name)
    kind = str(read_run(run)["kind"])
    known = [name for name in models(rows) if name not in elsewhere]
    return next((name for name in (run.resolve().name, kind) if name in known), run.resolve().name)


def evaluated_models(evaluation: Path) -> dict[str, str]:
    """Where the models of an evaluation lay, by name, as its stage or ``trueup evaluate`` wrote it."""
    for record, block in (("stage.json", "config"), ("evaluation.json", None)):
        if (evaluation / record).exists():
            loaded = json.loads((evaluation / record).read_text(encoding="utf-8"))
            return {str(name): str(path) for name, path in (loaded[block] if block else loaded)["models"].items()}
    return {}


def _probes(run: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Answers to fixed prompts along the run, and what is damaged of them."""
    file, damaged = run / "samples.jsonl", list[Damage]()
    lines = read_lines(file, damaged=damaged)[0] if file.exists() else []
    needed = {"step", "question", "completion", "score"}
    return [line for line in lines if needed <= set(line)], [f"{damage}; the line is left out." for damage in damaged]


def _write(out: Path, page: Mapping[str, Any], data: Mapping[str, Any]) -> Report:
    files = out / "report.html", out / "report.md", out / "summary.json"
    folder = out / "figures"
    folder.mkdir(exist_ok=True)
    for figure in (*page["figures"], *(section.figure for section in page["sections"] if section.figure)):
        write_atomic(folder / f"{figure.name}.svg", figure.svg.encode())
    write_atomic(files[0], rendered("report.html.j2", page))
    write_atomic(files[1], rendered("report.md.j2", page))
    write_atomic(files[2], (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
    return Report(*files, tuple(data["verdict"]), dict(data), tuple(data["problems"]))


def _run(log: RunLog) -> dict[str, Any]:
    record, rows = log.record, log.metrics
    base, other = flat(record.get("defaults", {})), changed(record) if "defaults" in record else {}
    settings = [
        {"name": key, "value": value, "changed": key in other, "default": base.get(key)}
        for key, value in flat(record["config"]).items()
    ]
    return {
        "kind": record["kind"],
        "status": record["status"],
        "steps": len(rows),
        "seconds": sum(float(t["seconds"]) for t in log.timing),
        "parameters": record.get("facts", {}).get("parameters"),
        "versions": record.get("versions", {}),
        "inputs": record.get("inputs", {}),
        "pinned": record.get("pinned", {}),
        "kl_band": _kl_band(record, rows),
        "changed": other,
        "last": {k: v for k, v in (rows[-1] if rows else {}).items() if k != "ids"},
        "settings": settings,
    }


def _kl_band(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Where the KL ended and whether it still moves, against the adaptive controller's target +- 20 %."""
    control = _adaptive_kl(record)
    measured = [float(r["kl"]) for r in rows if isinstance(r.get("kl"), int | float)]
    if control is None or not measured:
        return None
    target = float(control["target"])
    return settling(measured, 0.8 * target, 1.2 * target).to_dict()


def _adaptive_kl(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    control = record["config"].get("kl")
    adaptive = isinstance(control, Mapping) and control.get("kind") == "adaptive"
    return control if adaptive and isinstance(control.get("target"), int | float) else None


def _reward_card(logs: Mapping[str, RunLog]) -> dict[str, Any] | None:
    for log in logs.values():
        if log.record["kind"] != "reward":
            continue
        measured = [row for row in log.evaluation if "heldout_accuracy" in row]
        if not measured:
            return None
        last = measured[-1]
        return {k: last.get(k) for k in ("heldout_accuracy", "strict_accuracy", "calibration_error", "pairs")}
    return None


def _probe_curve(probes: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Proxy and gold of the probe prompts along training, and whether they part; None with too few points."""
    steps: dict[int, list[tuple[float, float]]] = {}
    for line in probes:
        steps.setdefault(int(line["step"]), []).append((float(line["score"]), float(line["gold"])))
    if len(steps) < 4:
        return None
    at = sorted(steps)
    proxy = [sum(p for p, _ in steps[s]) / len(steps[s]) for s in at]
    true = [sum(g for _, g in steps[s]) / len(steps[s]) for s in at]
    return {"steps": at, "proxy": proxy, "gold": true, **turning_point(proxy, true, at).to_dict()}


def _figures(
    logs: Mapping[str, RunLog], comparison: Mapping[str, Any] | None, curve: Mapping[str, Any] | None
) -> list[Figure]:
    drawn: list[Figure] = []
    if curve:
        rows = [
            {"step": s, "proxy": p, "gold": g}
            for s, p, g in zip(curve["steps"], curve["proxy"], curve["gold"], strict=True)
        ]
        caption = "The same prompts answered along PPO. Reward that rises while gold falls is reward hacking."
        both = (("proxy", "proxy: score of the reward"), ("gold", "gold"))
        figure = figures.panels("ppo-probes", "proxy and gold on fixed prompts", caption, rows, both)
        drawn += [figure] if figure else []
    if comparison:
        entries = []
        for name, entry in comparison["models"].items():
            quality = entry.get(comparison["score"])
            if quality:
                low = quality["low"] if quality["low"] is not None else quality["estimate"]
                high = quality["high"] if quality["high"] is not None else quality["estimate"]
                entries.append((name, quality["estimate"], low, high))
        if entries:
            caption = "Mean with 95 % interval over held-out prompts."
            drawn.append(figures.intervals("quality", f"quality: {comparison['score']}", caption, entries))
    drawn += [figure for name, log in logs.items() if (figure := part_figure(name, log))]
    for name, log in logs.items():
        if log.record["kind"] not in CURVES:
            continue
        title, caption, wanted = CURVES[log.record["kind"]]
        if columns := rated_columns(log.record):
            caption = "Loss on ratings, and R^2 of each output on ratings that were not trained on."
            wanted = (wanted[0], *((f"heldout/{column}/r2", f"held-out R^2, {column}") for column in columns))
        bands = {}
        control = _adaptive_kl(log.record)
        if control is not None:
            bands["kl"] = (0.8 * control["target"], 1.2 * control["target"])
        figure = figures.panels(f"curves-{name}", f"{name}: {title}", caption, log.metrics, wanted, bands)
        if figure is not None:
            drawn.append(figure)
    # What most readers look for first: PPO's reward and KL.
    return sorted(drawn, key=lambda f: (f.name != "quality", "ppo" not in f.name))


def _first_and_last(asked: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, Any]]:
    """Of the first fixed prompts, the first answer of the run and the last."""
    steps = sorted({int(line["step"]) for line in asked})
    ends = dict.fromkeys((*steps[:1], *steps[-1:]))
    answers = {step: [line for line in asked if line["step"] == step][:count] for step in ends}
    return [
        {"question": lines[0]["question"], "answers": [{**line, "at": f"step {line['step']}"} for line in lines]}
        for lines in zip(*answers.values(), strict=False)
    ]


def _samples(rows: Sequence[Row], count: int) -> list[dict[str, Any]]:
    """Answers of every model to the same prompts: the first of each kind in turn, in the order of the test file."""
    firsts = [r for r in rows if r.get("sample", 0) == 0]
    prompts: dict[str, list[str]] = {}
    for row in firsts:
        of_kind = prompts.setdefault(str(row.get("kind")), [])
        if row["prompt_id"] not in of_kind:
            of_kind.append(str(row["prompt_id"]))
    order = [ids[i] for i in range(count) for ids in prompts.values() if i < len(ids)][:count]
    shown = []
    for wanted in order:
        answers = [r for r in firsts if r["prompt_id"] == wanted]
        answers.sort(key=lambda r: models(firsts).index(str(r["model"])))
        shown.append({"question": answers[0].get("question", answers[0]["prompt"]), "kind": answers[0].get("kind"),
                      "answers": answers})  # fmt: skip
    return shown
