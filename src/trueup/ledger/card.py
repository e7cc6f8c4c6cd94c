"""The model card of a run: what Hugging Face shows of a model, written from the run's own record and logs.

Nothing in it is guessed. What the run does not know is said as not known, and the base's licence is carried on as the
base states it. The front matter holds ``trueup.stages``, one entry for each training stage, so that the card of a
later stage tells the whole way from the first base.

Absolute paths are cut to their last two parts: a card is made to be published.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueup.ledger.card_use import how_to_open
from trueup.ledger.record import rated_columns
from trueup.ledger.streams import read_lines
from trueup.metrics import metric_of

CARD, LICENCE = "README.md", "LICENSE"
UNKNOWN_LICENCE = "unknown: look at the base"
LAST = 10
"""Steps over which a value without held-out data is averaged."""
METHODS = {
    "sft": "supervised fine-tuning on demonstrations",
    "reward": "a reward model, trained on preferences",
    "dpo": "direct preference optimisation on preference pairs (DPO and its family)",
    "kto": "Kahneman-Tversky optimisation on single responses marked good or bad",
    "ppo": "reinforcement learning against a reward, with PPO and a KL penalty to the reference",
    "rloo": "reinforcement learning against a reward, with RLOO and a KL penalty to the reference",
    "grpo": "reinforcement learning against a reward, with GRPO and a KL penalty to the reference",
    "reinforce-pp": "reinforcement learning against a reward, with REINFORCE++ and a KL penalty to the reference",
    "cispo": "reinforcement learning against a reward, with CISPO and a KL penalty to the reference",
    "gspo": "reinforcement learning against a reward, with GSPO and a KL penalty to the reference",
    "online-dpo": "a preference objective on pairs of the model's own answers, judged by a reward",
    "best-of-n": "imitation of the best of several of the model's own answers, by a reward",
}
ONLINE = ("score", "kl", "completion_length", "eos_rate")
"""Metrics of runs that sample; their prompts are those of training."""


@dataclass(frozen=True)
class Base:
    """What is known of the model that a run started from.

    Attributes:
        name: As the settings name it; ``tiny`` is a new model with random weights.
        hub: Its name on the hub, or that of the model it was itself made from; None where it is not known.
        licence: Fields ``license``, ``license_name``, ``license_link`` of its card, as far as it has them.
        licence_text: Its licence file; None where it has none.
        stages: What trueup did to it before, from its card.
        datasets: Datasets of the hub that its card names.
    """

    name: str
    hub: str | None = None
    licence: Mapping[str, str] = field(default_factory=dict)
    licence_text: bytes | None = None
    stages: Sequence[Mapping[str, Any]] = ()
    datasets: Sequence[str] = ()


@dataclass(frozen=True)
class ModelKind:
    """What was saved.

    Attributes:
        reward: Whether it is a reward model, not a language model.
        adapter: Whether it is the adapter alone, not the whole model.
        chats: Whether it was trained on chats.
        context: Longest sequence in tokens; None if the model does not say.
        parameters: Of the whole model.
    """

    reward: bool
    adapter: bool = False
    chats: bool = False
    context: int | None = None
    parameters: int | None = None


def model_card(folder: Path, record: Mapping[str, Any], base: Base, kind: ModelKind) -> str:
    """The text of ``README.md``.

    Args:
        folder: The run, whose logs are read; they hold every step by now.
        record: Its run.json.
        base: The model that it started from.
        kind: What was saved.
    """
    import yaml

    rows = read_lines(folder / "metrics.jsonl", damaged=[])[0] if (folder / "metrics.jsonl").exists() else []
    measured = read_lines(folder / "eval.jsonl", damaged=[])[0] if (folder / "eval.jsonl").exists() else []
    stages = [*base.stages, _stage(record, base, int(rows[-1]["step"]) + 1 if rows else 0)]
    front = yaml.safe_dump(_front(record, base, kind, stages), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---\n",
        f"# {_plain(folder.resolve().name)}\n",
        _what(record, base, kind),
        "## How it was made\n",
        _how(folder, record, stages),
        "## Data\n",
        _data(record),
        "## Evaluation\n",
        _evaluation(record, rows, measured),
        "## Limits\n",
        _limits(record, kind, measured),
        "## Use\n",
        _block(_use(record, kind), "python") + "\n",
        "## Licence\n",
        _licence(base),
    ]
    return "\n".join(parts)


def _use(record: Mapping[str, Any], kind: ModelKind) -> str:
    pooled = _pooled(record, kind)
    return how_to_open(rated_columns(record), reward=kind.reward, adapter=kind.adapter, chats=kind.chats, pooled=pooled)


def _pooled(record: Mapping[str, Any], kind: ModelKind) -> bool:
    """Whether the head reads a mean of states, which trueup alone does."""
    return kind.reward and record["config"].get("pooling") == "mean"


def stages_of(front: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The stages that the front matter of a card names; none where it is not a card of trueup."""
    own = front.get("trueup")
    stages = own.get("stages") if isinstance(own, Mapping) else None
    return [stage for stage in stages if isinstance(stage, Mapping)] if isinstance(stages, list) else []


def front_matter(text: str) -> dict[str, Any]:
    """What stands between the first two lines ``---`` of a card; empty where that is no YAML object."""
    import yaml

    match = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, re.DOTALL)
    try:
        values = yaml.safe_load(match[1]) if match else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _stage(record: Mapping[str, Any], base: Base, steps: int) -> dict[str, Any]:
    stage: dict[str, Any] = {"method": record["kind"], "base": _short(base.name)}
    if base_hash := record["inputs"].get("model.name"):
        stage["base_hash"] = base_hash
    stage["data"] = [{k: v for k, v in row.items() if v is not None} for row in _files(record)]
    return stage | {"steps": steps, "trueup": record.get("versions", {}).get("trueup")}


def _front(
    record: Mapping[str, Any], base: Base, kind: ModelKind, stages: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    front: dict[str, Any] = {}
    if base.hub is not None:
        front |= {"base_model": base.hub, "base_model_relation": "adapter" if kind.adapter else "finetune"}
    front["library_name"] = "trueup" if _pooled(record, kind) else "peft" if kind.adapter else "transformers"
    front["pipeline_tag"] = "text-classification" if kind.reward else "text-generation"
    front |= {"license": "unknown"} | dict(base.licence)
    named = [str(row["name"]).removeprefix("hf:") for row in _files(record) if str(row["name"]).startswith("hf:")]
    datasets = list(dict.fromkeys([*base.datasets, *(name.split("@")[0].split(":")[0] for name in named)]))
    if datasets:
        front["datasets"] = datasets
    tags = ["trueup", *dict.fromkeys(str(stage.get("method")) for stage in stages)]
    front["tags"] = tags + (["reward-model"] if kind.reward else []) + (["conversational"] if kind.chats else [])
    return front | {"trueup": {"stages": [dict(stage) for stage in stages]}}


def _files(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the run read beside models, with hash and rows where it knows them."""
    config, facts = record["config"], record.get("facts", {})
    rows = []
    for role, fact in (("data", "read"), ("validation", "read_validation")):
        source = config.get(role)
        if not isinstance(source, str) or not source:
            continue
        report = facts.get(fact) or {}
        row = {"role": role, "name": _short(source), "hash": record["inputs"].get(role)}
        rows.append(row | {"rows": report.get("rows"), "items": report.get("items"), "format": report.get("format")})
    return rows


def _what(record: Mapping[str, Any], base: Base, kind: ModelKind) -> str:
    method = METHODS.get(record["kind"], f"a recipe of its own, {_code(record['kind'])}")
    if record["kind"] == "kto" and (record["config"].get("objective") or {}).get("kind") == "bco":
        method = "binary classifier optimisation on single responses marked good or bad"
    if columns := rated_columns(record):
        method = f"a reward model, trained on ratings ({', '.join(map(_code, columns))})"
    noun = "A reward model" if kind.reward else "A language model"
    if kind.adapter:
        noun = f"A LoRA adapter for {_code(_short(base.name))}: {noun[0].lower()}{noun[1:]}"
    if base.name == "tiny":
        start = "new random weights"
    elif base.hub is not None and base.hub != base.name:
        start = f"{_code(_short(base.name))}, itself made from {_code(base.hub)}"
    else:
        start = _code(_short(base.name))
    size = "number of parameters: not known" if kind.parameters is None else f"{kind.parameters:,} parameters"
    context = "context: not stated by the model" if kind.context is None else f"context: {kind.context:,} tokens"
    return f"{noun}. Started from {start}; method: {method}. Made with trueup; {size}; {context}.\n"


def _how(folder: Path, record: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| stage | method | started from | data | steps |", "|---|---|---|---|---|"]
    for number, stage in enumerate(stages, 1):
        rows = stage.get("data") if isinstance(stage.get("data"), list) else []
        data = ", ".join(str(row.get("name")) for row in rows or [] if isinstance(row, Mapping)) or "not known"
        cells = (number, stage.get("method"), stage.get("base"), data, stage.get("steps"))
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    config = _shortened(record["config"])
    import yaml

    settings = yaml.safe_dump(config, sort_keys=False, allow_unicode=True).rstrip()
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    pinned = ", ".join(f"{name} {_code(value)}" for name, value in record.get("pinned", {}).items())
    lines += ["", "The last stage, as a command:", "", _block(_command(folder, record), "sh"), ""]
    lines += ["Absolute paths are cut to their last two parts.", ""]
    lines += [f"Versions: {versions or 'not known'}.{f' Fingerprints: {pinned}.' if pinned else ''}", ""]
    lines += ["<details><summary>All settings</summary>", "", _block(settings, "yaml"), "", "</details>", ""]
    return "\n".join(lines)


def _command(folder: Path, record: Mapping[str, Any]) -> str:
    config, defaults = _flat(_shortened(record["config"])), _flat(record.get("defaults", {}))
    changed = {name: value for name, value in config.items() if name not in defaults or defaults[name] != value}
    kind = str(record["kind"])
    if kind not in METHODS:
        return f"# in Python: trueup.train({kind!r}, {{the settings below}})"
    words = ["trueup", kind, "--out", f"runs/{folder.resolve().name}"]
    for name, value in changed.items():
        words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"]
    return shlex.join(words)


def _data(record: Mapping[str, Any]) -> str:
    files, facts = _files(record), record.get("facts", {})
    if not files:
        return "Not known: the run names no data.\n"
    lines = ["| role | name | SHA-256, first 16 digits | rows | used | form |", "|---|---|---|---|---|---|"]
    for row in files:
        known = [row[key] if row[key] is not None else "not known" for key in ("role", "name", "hash", "rows")]
        known += ["not known" if row["items"] is None else row["items"], row["format"] or "not known"]
        lines.append("| " + " | ".join(_cell(cell) for cell in known) + " |")
    report = facts.get("read") or {}
    for key, what in (("skipped", "left out as damaged"), ("left_out", "left out")):
        for why, count in (report.get(key) or {}).items():
            number = count.get("count") if isinstance(count, Mapping) else count
            lines.append(f"\n{number} rows were {what}: {_plain(why)}.")
    lines.append("\nA hash that begins with `name:` is of no file: only the name is known.\n")
    return "\n".join(lines)


def _evaluation(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], measured: Sequence[Any]) -> str:
    lines: list[str] = []
    if measured:
        last = measured[-1]
        counted = next(((name, last[name]) for name in ("pairs", "rows", "examples") if name in last), None)
        lines += [f"On held-out data ({_validation(record)}), after step {last.get('step', 'not known')}"]
        lines[-1] += f", {counted[1]} {counted[0]}:" if counted else ":"
        lines += ["", "| metric | value | 95 % interval | what it is |", "|---|---|---|---|"]
        for name, value in last.items():
            if metric_of(name) is not None and isinstance(value, int | float):
                low, high = (last.get("intervals") or {}).get(name, (None, None))
                bounds = "not known" if low is None or high is None else f"{_number(low)} to {_number(high)}"
                lines.append(f"| {name} | {_number(value)} | {bounds} | {_meaning(name)} |")
        lines += ["", "Intervals count the rows of one prompt together. They do not cover another training seed.", ""]
    else:
        lines += ["Not measured on held-out data: the run had none.", ""]
    seen = [name for name in ONLINE if any(name in row for row in rows[-LAST:])]
    if seen:
        lines += [f"On prompts of training, mean over the last {min(LAST, len(rows))} steps:", ""]
        lines += ["| metric | value | lowest to highest step | what it is |", "|---|---|---|---|"]
        for name in seen:
            values = [float(row[name]) for row in rows[-LAST:] if isinstance(row.get(name), int | float)]
            if values:
                span = f"{_number(min(values))} to {_number(max(values))}"
                mean = _number(sum(values) / len(values))
                lines.append(f"| {name} | {mean} | {span} | {_meaning(name)} |")
        lines.append("")
    lines += ["Comparisons with other models, or by people, are not part of this run and not known to this card.", ""]
    return "\n".join(lines)


def _meaning(name: str) -> str:
    metric = metric_of(name)
    return "" if metric is None else _cell(f"{metric.meaning}, in {metric.unit}")


def _validation(record: Mapping[str, Any]) -> str:
    return _code(_short(str(record["config"].get("validation") or "not known")))


def _limits(record: Mapping[str, Any], kind: ModelKind, measured: Sequence[Any]) -> str:
    render, inputs = record.get("facts", {}).get("render") or {}, record["inputs"]
    lines = []
    if measured and inputs.get("validation") == inputs.get("data"):
        lines.append("the held-out data is the file of training: the evaluation above says nothing of other data;")
    if not measured:
        lines.append("nothing was measured on data that it was not trained on;")
    if render.get("truncated"):
        lines.append(f"{render['truncated']} training examples were cut at {render.get('max_length')} tokens;")
    dropped = sum(n for n in (render.get("dropped") or {}).values() if isinstance(n, int))
    if dropped:
        lines.append(f"{dropped} training examples were dropped: {', '.join(map(_plain, render['dropped']))};")
    if kind.reward:
        lines.append("a reward is a proxy: a policy trained against it can learn what raises it and helps nobody;")
        lines.append("it scores whole answers, rendered as in training (`trueup_reward.json`), and speaks no language;")
    if "reward" in record["config"] and not kind.reward:
        lines.append("it was trained to raise a score; whether people prefer its answers was not measured here;")
    lines += [
        "languages, topics and safety behaviour beyond the data above: not measured by this run;",
        "licence and contents of the training data were not looked at: see where the data comes from.",
    ]
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _licence(base: Base) -> str:
    if base.name == "tiny" or (base.stages and base.stages[0].get("base") == "tiny" and not base.licence):
        return "Not chosen: the weights started from random numbers, so no base has a say; the training data may.\n"
    named = base.licence.get("license")
    if named is None and base.licence_text is None:
        return f"{UNKNOWN_LICENCE}, {_code(_short(base.name))}. Neither its card nor a licence file states one.\n"
    lines = [f"That of the base, carried on: {_code(named)}." if named else "That of the base, carried on."]
    if base.licence_text is not None:
        lines.append(f"Its text is in [{LICENCE}]({LICENCE}).")
    return " ".join(lines) + " Whether its terms allow your use is for you to read.\n"


def _short(source: str) -> str:
    """A path or name that can be published: an absolute path by its last two parts."""
    if not source.startswith(("/", "~")):
        return source
    return "/".join([part for part in Path(source).parts if part not in ("/", "~")][-2:])


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(inner) for inner in value]
    return _short(value) if isinstance(value, str) else value


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _plain(text: Any) -> str:
    """One line without markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(str(text).split()))


def _code(text: Any) -> str:
    flat = " ".join(str(text).split()).replace("`", "'")
    return f"`{flat}`"


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, int) else _plain("not known" if value is None else value)


def _block(text: str, language: str) -> str:
    """A fenced block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
