"""The judges of ``trueup evaluate``: what ``--judge`` names, opened.

    gold                            the sandbox's gold
    reward:PATH                     any reward that ``--reward`` takes
    implicit:RUN                    beta log pi / pi_ref of a policy trained by dpo or kto
    python:package.module:name      a function of (prompt, answer), or of (prompt, answer, other answer)
    reference, reference:MEASURE    reference answers in the data: f1 (default), exact, rouge
    people                          blind pairs in the feedback room

``NAME=`` before any of them but ``gold`` is what the report calls it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trueup.commands.scoring import named_source, open_source
from trueup.config.code import function_of, names_code
from trueup.config.code import identify as identify_code
from trueup.errors import DataError, RunError, TrueupError, UsageError, nearest
from trueup.evaluation.collect import Scorer
from trueup.evaluation.implicit import open_implicit
from trueup.evaluation.judge import Judge, verdict_of
from trueup.evaluation.marks import Marks
from trueup.evaluation.reference_answers import MEASURES, best
from trueup.models.files import identity as identify_model
from trueup.rewards.protocol import Reward, as_scores, sample_place
from trueup.rewards.registry import identify
from trueup.sandbox import gold_score, knows
from trueup.types import Completion, Outcome, Prompt, prompt_text, question

KINDS = ("gold", "reward", "implicit", "python", "reference", "people")
_WITH_SOURCE = ("reward", "implicit", "python")
_JUDGE = re.compile(r"(?:(?P<label>[^\W\d][\w-]*)=)?(?P<kind>[a-z]+)(?::(?P<source>.+))?", re.DOTALL)
_TAKEN = (
    "model prompt_id prompt question sample completion stop tokens words seed kind kl safe gold gold_parts refusal "
    "true_quality references"
).split()
"""Columns of the rows that are no judge's."""
PROXY = (
    "It is a proxy. A policy that was trained on this very reward can raise it without being better; judge with "
    "another one, trained on other pairs, or by people."
)


@dataclass(frozen=True, slots=True)
class NamedJudge:
    """A judge as it was named: a label for the report, a kind, and what it is made from."""

    label: str
    kind: str
    source: str = ""

    @property
    def text(self) -> str:
        """As it is written after ``--judge``."""
        named = self.kind + (f":{self.source}" if self.source else "")
        return named if self.label == self.kind else f"{self.label}={named}"


@dataclass(frozen=True, slots=True)
class OpenedJudge:
    """A judge, ready: ``scorer`` gives numbers to answers, ``compares`` compares two. People have neither here."""

    named: NamedJudge
    about: str
    scorer: Scorer | None = None
    compares: Judge | None = None
    reward: Reward | None = None
    """What reads prompts by a template of its own, where the judge is such a thing."""
    bounds: tuple[float, float] | None = None
    notes: Sequence[str] = field(default=())

    @property
    def needs_two(self) -> bool:
        """Whether it only compares answers of two models."""
        return self.compares is not None or self.named.kind == "people"


def parse_judges(texts: Sequence[str]) -> list[NamedJudge]:
    """What ``--judge`` names. A second one of a kind is called ``kind-2`` unless it has a name.

    Raises:
        UsageError: There is no such kind, something is missing or too much, or two have one name.
    """
    judges: list[NamedJudge] = []
    for text in texts:
        match = _JUDGE.fullmatch(text)
        kind = match["kind"] if match else text.partition(":")[0]
        if kind == "endpoint":
            raise UsageError(
                "a judge behind an endpoint cannot be asked yet",
                where=f"--judge {text}",
                expected=", ".join(KINDS),
                fix="write a function that asks it: --judge python:package.module:name",
            )
        if match is None or kind not in KINDS:
            raise UsageError(f"there is no judge {kind!r}", where=f"--judge {text}", expected=nearest(kind, KINDS))
        source = match["source"] or ""
        if kind in _WITH_SOURCE and not source:
            raise UsageError("names nothing", where=f"--judge {text}", expected=f"{kind}:{_EXAMPLE[kind]}")
        if kind in ("gold", "people") and source:
            raise UsageError(f"{source!r} is too much", where=f"--judge {text}", expected=kind)
        if kind == "reference" and source and source not in MEASURES:
            raise UsageError(
                f"there is no measure {source!r}", where=f"--judge {text}", expected=nearest(source, MEASURES)
            )
        judges.append(NamedJudge(match["label"] or _own_label(kind, judges), kind, source))
    _check_labels(judges)
    return judges


_EXAMPLE = {"reward": "runs/judge/final", "implicit": "runs/dpo", "python": "package.module:name"}


def _own_label(kind: str, judges: Sequence[NamedJudge]) -> str:
    count = 1 + sum(judge.kind == kind for judge in judges)
    return kind if count == 1 else f"{kind}-{count}"


def _check_labels(judges: Sequence[NamedJudge]) -> None:
    for number, judge in enumerate(judges):
        where = f"--judge {judge.text}"
        if judge.kind == "gold" and judge.label != "gold":
            raise UsageError("gold is always called gold", where=where, fix="leave the name out")
        if judge.label in _TAKEN and judge.kind != "gold":
            raise UsageError(f"{judge.label!r} is a column of every evaluation", where=where, fix="choose another name")
        if any(judge.label == other.label for other in judges[:number]):
            raise UsageError(f"two judges are called {judge.label!r}", where=where, fix="name them: NAME=KIND:...")
        if judge.kind == "people" and any(other.kind == "people" for other in judges[:number]):
            raise UsageError("people are asked once", where=where)


def open_judge(judge: NamedJudge, paths: Mapping[str, str], settings: Mapping[str, Any]) -> OpenedJudge:
    """A judge, ready to be asked.

    Args:
        judge: What was named.
        paths: The models that are evaluated, by name.
        settings: ``device`` and ``dtype`` of models that judge.

    Raises:
        ConfigError, ModelError, UsageError: It cannot be opened.
    """
    if judge.kind == "reward":
        return reward_judge(open_source(judge.source, **settings), judge)
    if judge.kind == "implicit":
        return _implicit(judge, paths, settings)
    if judge.kind == "python":
        return _python(judge)
    if judge.kind == "gold":
        return OpenedJudge(judge, "the sandbox's gold, the true quality of an answer, which no training sees", _gold)
    if judge.kind == "reference":  # what it compares with is known once the data is read: see ``with_marks``
        return OpenedJudge(judge, MEASURES[judge.source or "f1"][1], bounds=(0.0, 1.0))
    return OpenedJudge(judge, "people, who saw two answers side by side and not whose they were")


def judge_identity(judge: NamedJudge) -> str:
    """Hash of what a judge reads, without opening it; its text where that is all there is.

    Raises:
        ConfigError, ModelError, UsageError: There is nothing that could be opened.
    """
    if judge.kind == "reward":
        return identify(named_source(judge.source))
    if judge.kind == "python":
        return identify_code(judge.source, "judge")
    if judge.kind == "implicit":
        path, _, more = judge.source.partition("#")
        final = Path(path) / "final"
        return f"{identify_model(str(final) if final.is_dir() else path)}#{more}"
    return judge.text


def reward_judge(reward: Reward, judge: NamedJudge) -> OpenedJudge:
    """A reward as a judge."""

    def scores(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        return [float(value) for value in reward.score(prompts, completions)]

    return OpenedJudge(judge, f"the score of {reward.name}", scores, reward=reward, notes=(PROXY,))


def with_marks(judge: OpenedJudge, marks: Marks, prompts: Sequence[Prompt], data: str) -> OpenedJudge:
    """The judge with what the data has for it, checked before anything is sampled.

    Raises:
        DataError: Gold does not know a prompt, or there are no reference answers.
    """
    if judge.named.kind == "gold":
        strange = next((prompt for prompt in prompts if not knows(question(prompt))), None)
        if strange is not None:
            raise DataError(
                f"the prompt {question(strange)[:60]!r} is not of the sandbox",
                where=data,
                expected="prompts of the sandbox, whose gold is known",
                fix="take another judge",
            )
    if judge.named.kind != "reference":
        return judge
    references = marks.references
    if references is None:
        raise DataError(
            "there are no reference answers for all prompts",
            where=data,
            expected="a column reference, answer or the like",
            fix="name it: --references COLUMN",
        )
    measure = judge.named.source or "f1"

    def scores(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        return [best(measure, c.text, known) for c, known in zip(completions, references, strict=True)]

    return replace(judge, scorer=scores, about=f"{judge.about}; column {marks.columns.references!r}")


def _gold(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
    return [gold_score(question(p), c.text).total for p, c in zip(prompts, completions, strict=True)]


def _implicit(judge: NamedJudge, paths: Mapping[str, str], settings: Mapping[str, Any]) -> OpenedJudge:
    path, _, more = judge.source.partition("#")
    options = dict(part.partition("=")[::2] for part in more.split(",") if part)
    unknown = [name for name in options if name not in ("reference", "beta")]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no option", where=f"--judge {judge.text}", expected="reference, beta")
    try:
        beta = float(options["beta"]) if "beta" in options else None
    except ValueError as error:
        raise UsageError(f"{options['beta']!r} is no number", where=f"--judge {judge.text}, beta") from error
    reward = open_implicit(path, reference=options.get("reference"), beta=beta, settings=settings)
    about = f"{reward.name}, beta {reward.beta:g}"
    own = [
        name
        for name, place in paths.items()
        if Path(place).resolve() in (Path(path).resolve(), (Path(path) / "final").resolve())
    ]
    notes = [f"{name} judges its own answers here: it was trained to raise exactly this." for name in own]
    return replace(reward_judge(reward, judge), about=about, notes=(*notes, PROXY))


def _python(judge: NamedJudge) -> OpenedJudge:
    where = f"judge {judge.source}"
    if not names_code(judge.source):
        raise UsageError(f"{judge.source!r} names no code", where="--judge", expected="python:package.module:name")
    function = function_of(judge.source, "judge", "prompt, answer or prompt, answer, other answer")
    taken = _arguments(function)
    if taken == 2:
        return OpenedJudge(judge, f"the Python function {judge.source}", python_scorer(function, where))
    if taken == 3:
        return OpenedJudge(
            judge, f"the Python function {judge.source}, both orders", compares=_comparer(function, where)
        )
    raise UsageError(
        f"takes {'any number of' if taken is None else taken} arguments",
        where=where,
        expected="(prompt, answer) for a score, or (prompt, answer, other answer) for a verdict",
    )


def _arguments(function: Callable[..., Any]) -> int | None:
    """Arguments that must be given in order; None where any number may."""
    parameters = inspect.signature(getattr(function, "__self__", function)).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in parameters)


def judged_text(prompt: Prompt) -> str:
    """What a function is given as the prompt: a single question as it is, a conversation with its roles."""
    single = not isinstance(prompt, str) and len(prompt) == 1
    return question(prompt) if single or isinstance(prompt, str) else prompt_text(prompt)


def python_scorer(function: Callable[..., Any], name: str) -> Scorer:
    """A function of (prompt, answer) as a scorer; its exception stops the evaluation and names the answer."""

    def scores(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        values = []
        for prompt, completion in zip(prompts, completions, strict=True):
            try:
                values.append(function(judged_text(prompt), completion.text))
            except TrueupError:
                raise
            except Exception as error:
                place = sample_place(name, prompt, completion)
                raise RunError(f"the judge raised {type(error).__name__}: {error}", where=place) from error
        return [float(value) for value in as_scores(values, prompts, completions, name)]

    return scores


def _comparer(function: Callable[..., Any], name: str) -> Judge:
    def compares(prompt: str, first: str, second: str) -> Outcome:
        try:
            said = function(prompt, first, second)
        except TrueupError:
            raise
        except Exception as error:
            place = f"{name}, prompt {prompt[:80]!r}"
            raise RunError(f"the judge raised {type(error).__name__}: {error}", where=place) from error
        return verdict_of(said, name)

    return compares
