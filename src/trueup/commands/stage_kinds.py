"""Stages of a chain that train nothing: what each is given, what it reads, what it does.

Each leaves ``stage.json`` in its directory: kind, settings, hashes of what was read, and what it gave. With the same
settings and inputs it is not done again; with others it is, and what it had made before is moved aside first. A kind
that takes long goes on where it was cut off: ``begun.json`` says what the work in the directory belongs to.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from trueup.commands.constitution_settings import Constitutional
from trueup.config import Reading, Sampling, Settings
from trueup.errors import RunError, TrueupError, UsageError, near_file
from trueup.ledger import move_aside, one_writer, read_run, write_json

Tell = Callable[[str], None]
RECORD, BEGUN = "stage.json", "begun.json"
FRESH = "start the stage anew with --fresh, which moves this directory aside"


class Evaluate(Settings):
    """``kind: evaluate``: several models, the same held-out prompts, as ``trueup evaluate`` does it."""

    models: dict[str, str] = Field(min_length=1)
    """Models by name, as ``{sft: "@sft", ppo: "@ppo"}``; the first is the baseline."""
    data: str
    """Held-out prompts."""
    reward: str | tuple[dict[str, Any], ...] | None = None
    """What scores the answers, as ``"@reward"``; a YAML file with ``reward:``, or a list of parts."""
    judges: tuple[str, ...] = ()
    """Further judges, as ``--judge`` of ``trueup evaluate``: ``gold``, ``"strict=reward:@judge"``, ``"implicit:@dpo"``,
    ``"python:package.module:name"``, ``reference``. Without any, and without a reward, answers are described."""
    baseline: str | None = None
    """Model that the others are compared with."""
    reference: str | None = None
    """Model from which KL is measured."""
    limit: int = Field(default=400, ge=1)
    """Prompts used, from the top."""
    samples: int = Field(default=1, ge=1)
    """Answers to each prompt; several of the reference give ``trueup frontier`` its best-of-n."""
    sampling: Sampling = Sampling(max_new_tokens=64)
    """How answers are drawn."""
    read: Reading = Reading(templated=True)
    """How the file is read."""
    device: str = Field(default="auto", pattern="^(auto|cpu|cuda(:[0-9]+)?)$")
    """Where the models are."""
    dtype: str = Field(default="float32", pattern="^(float32|bfloat16)$")
    """Precision of matrix products."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Names the draws, which all models share."""

    @field_validator("reward")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, str):
            from trueup.rewards.mixture import as_parts

            as_parts(value)
        return value

    @field_validator("judges")
    @classmethod
    def _judges(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value:
            from trueup.commands.judges import parse_judges

            if any(judge.kind == "people" for judge in parse_judges(value)):
                raise UsageError(
                    "people judge when they have time, and a stage ends",
                    where="judges",
                    fix="trueup evaluate --judge people",
                )
        return value


class Report(Settings):
    """``kind: report``: the report of one run, as ``trueup report`` writes it."""

    run: str
    """The run, as ``"@ppo"``."""
    evaluation: str | None = None
    """What ``trueup evaluate`` wrote, as ``"@test"``: says whether the run's model is better than the baseline."""


class Import(Settings):
    """``kind: import``: judged data into a feedback database of the stage's own."""

    file: str
    """File of judged data."""
    project: str
    """Name of the project."""
    format: str | None = None
    """``preference``, ``kto``, ``argilla``, ...; by default the columns tell."""
    encoding: str | None = None
    """Of a text file that is not UTF-8."""


class Curate(Settings):
    """``kind: curate``: a project's judgments as training files, as ``trueup curate`` freezes them."""

    project: str
    """Name of the project."""
    db: str
    """Feedback database, as ``"@import"``."""
    format: Literal["preference", "kto", "ranking", "sft"] = "preference"
    """What is written."""
    method: str = "ability"
    """How votes become labels."""
    min_votes: int = Field(default=1, ge=1)
    """Fewest votes a pair needs."""
    min_strength: float = Field(default=0.5, ge=0.5, le=1)
    """Less probable winners are ties."""
    drop: tuple[str, ...] = ()
    """Pseudonyms not to use."""


@dataclass(frozen=True, slots=True)
class StageKind:
    """One of them: its settings, what hashes each input by setting, and the work, which returns what it gave."""

    settings: type[Settings]
    inputs: Callable[[Any], Mapping[str, Callable[[], str]]]
    work: Callable[[Any, Path, Tell], Path]
    goes_on: bool = False
    """Whether work that was cut off is gone on with, and not done anew."""


def is_unchanged(kind: str, config: Settings, folder: Path) -> bool:
    """Whether the stage was done in ``folder`` with the same settings and inputs."""
    record = stage_record(folder)
    return record is not None and all(record.get(name) == value for name, value in _wanted(kind, config).items())


def _wanted(kind: str, config: Settings) -> dict[str, Any]:
    inputs = {setting: _read(setting, hashed) for setting, hashed in KINDS[kind].inputs(config).items()}
    return {"kind": kind, "config": config.model_dump(mode="json"), "inputs": inputs}


def _read(setting: str, hashed: Callable[[], str]) -> str:
    try:
        return hashed()
    except TrueupError as error:
        error.setting = setting
        raise


def run(kind: str, config: Settings, folder: Path, tell: Tell) -> None:
    """Do the stage in ``folder``; what an earlier one with other settings or inputs left there is moved aside."""
    wanted = _wanted(kind, config)
    begun = KINDS[kind].goes_on and _was_begun(folder, wanted)
    if folder.is_dir() and any(folder.iterdir()) and not begun:
        if (folder / "run.json").exists():
            raise UsageError("holds a training run", where=str(folder), fix="give the stage another name")
        tell(f"{folder.name}: settings or inputs changed, or it was cut off; what was here is in {move_aside(folder)}")
    folder.mkdir(parents=True, exist_ok=True)
    with one_writer(folder):
        started = time.perf_counter()
        if KINDS[kind].goes_on:
            write_json(folder / BEGUN, wanted)
        given = KINDS[kind].work(config, folder, tell)
        write_json(folder / RECORD, {**wanted, "result": str(given), "seconds": time.perf_counter() - started})


def _was_begun(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether what lies in ``folder`` is unfinished work of the same settings and inputs."""
    try:
        begun = json.loads((folder / BEGUN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False  # nobody can tell what the work belongs to: it is moved aside, which is said
    return bool(begun == json.loads(json.dumps(wanted)))


def result(folder: Path) -> Path | None:
    """What a stage of these kinds gave; None where there is none in ``folder``."""
    record = stage_record(folder)
    return Path(record["result"]) if record is not None else None


def stage_record(folder: Path) -> dict[str, Any] | None:
    """What a stage of these kinds wrote of itself; None where there is none in ``folder``.

    Raises:
        RunError: It is damaged.
    """
    file = folder / RECORD
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(loaded, dict) and isinstance(loaded["result"], str):
            return loaded
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, RecursionError) as error:
        raise RunError(f"{RECORD} is damaged: {error}", where=str(file), fix=FRESH) from error
    raise RunError(f"{RECORD} is damaged", where=str(file), fix=FRESH)


def _evaluate(config: Evaluate, folder: Path, tell: Tell) -> Path:
    from trueup.commands.comparison import compare_models
    from trueup.commands.scoring import open_source

    reward = None if config.reward is None else open_source(config.reward, device=config.device, dtype=config.dtype)
    compare_models(
        [f"{name}={path}" for name, path in config.models.items()],
        config.data,
        reward,
        folder,
        judges=config.judges,
        baseline=config.baseline,
        reference=config.reference,
        limit=config.limit,
        samples=config.samples,
        sampling=config.sampling,
        read=config.read,
        device=config.device,
        dtype=config.dtype,
        seed=config.seed,
        tell=tell,
    )
    return folder


def _evaluated(config: Evaluate) -> dict[str, Callable[[], str]]:
    from trueup.data.listing import data_hash
    from trueup.models.files import identity

    read: dict[str, Callable[[], str]] = {
        f"models.{name}": partial(identity, path) for name, path in config.models.items()
    }
    read["data"] = partial(data_hash, config.data)
    if config.reward is not None:
        from trueup.commands.scoring import named_source
        from trueup.rewards.registry import identify

        read["reward"] = lambda reward=config.reward: identify(named_source(reward))  # type: ignore[misc]
    if config.judges:
        from trueup.commands.judges import judge_identity, parse_judges

        read |= {f"judges.{judge.label}": partial(judge_identity, judge) for judge in parse_judges(config.judges)}
    return read


def _report(config: Report, folder: Path, tell: Tell) -> Path:
    from trueup.commands.run_report import write_run_report

    report = write_run_report(run_of(config.run), folder, evaluation=config.evaluation)
    for line in (*report.problems, *report.verdict):
        tell(line)
    return folder


def run_of(path: str | Path) -> Path:
    """The run directory of a model that ``@name`` stands for, or of itself."""
    given = Path(path)
    return given.parent if given.name == "final" and (given.parent / "run.json").exists() else given


def _reported(config: Report) -> dict[str, Callable[[], str]]:
    folder = run_of(config.run)
    files = {
        name: folder / name for name in ("run.json", "metrics.jsonl", "eval.jsonl", "samples.jsonl", "pairs.jsonl")
    }
    if config.evaluation is not None:
        files["evaluation"] = Path(config.evaluation) / "eval.jsonl"
    read: dict[str, Callable[[], str]] = {
        name: partial(file_hash, file) for name, file in files.items() if file.exists()
    }
    return read | {"run.json": lambda: _run_hash(folder)}


def _run_hash(folder: Path) -> str:
    read_run(folder)
    return file_hash(folder / "run.json")


def _import(config: Import, folder: Path, tell: Tell) -> Path:
    from trueup.commands.feedback import import_file

    db = folder / "feedback.db"
    import_file(Path(config.file), config.project, config.format, str(db), config.encoding, False)
    return db


def _curate(config: Curate, folder: Path, tell: Tell) -> Path:
    from trueup.commands.curate import curate

    out = folder / "snapshot"
    curate(
        config.project,
        config.db,
        out,
        format=config.format,
        method=config.method,
        min_votes=config.min_votes,
        min_strength=config.min_strength,
        drop=[*config.drop],
    )
    return out


def _curated(config: Curate) -> dict[str, Callable[[], str]]:
    if "://" in config.db:
        raise UsageError(
            "a stage reads a file",
            where="db",
            expected='"@import", or a SQLite file',
            fix="trueup curate reads servers",
        )
    read: dict[str, Callable[[], str]] = {"db": partial(file_hash, Path(config.db))}
    ahead = Path(f"{config.db}-wal")  # what SQLite has not put into the file itself yet
    return read | {"db-wal": partial(file_hash, ahead)} if ahead.exists() and ahead.stat().st_size else read


def _constitution(config: Constitutional, folder: Path, tell: Tell) -> Path:
    from trueup.commands.constitution_run import last_model, run_rounds

    return last_model(run_rounds(config, folder, quiet=True, tell=tell))


def _constituted(config: Constitutional) -> dict[str, Callable[[], str]]:
    from trueup.commands.constitution_parts import inputs_of

    return inputs_of(config)


def file_hash(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file.

    Raises:
        UsageError: There is no such file.
    """
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}", where=str(path), expected="a file", fix=near_file(path)
        ) from error


KINDS: Mapping[str, StageKind] = {
    "import": StageKind(Import, lambda config: {"file": partial(file_hash, Path(config.file))}, _import),
    "curate": StageKind(Curate, _curated, _curate),
    "evaluate": StageKind(Evaluate, _evaluated, _evaluate),
    "report": StageKind(Report, _reported, _report),
    "constitution": StageKind(Constitutional, _constituted, _constitution, goes_on=True),
}
"""Every kind of stage beside the recipes and ``sweep``, which is a chain in a chain."""
