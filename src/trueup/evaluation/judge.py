"""Judging pairs without position bias: every pair is shown in both orders, and a change of mind is a tie.

A judge that always picks the first answer therefore scores every model exactly 50 %, and a model against itself
scores exactly 50 %. A judge that raises stops the evaluation; its error is never turned into a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from trueup.errors import DataError, ShapeError, UsageError, nearest
from trueup.evaluation.intervals import Interval, wilson
from trueup.evaluation.rows import Row, by_prompt, of_model, same_prompts
from trueup.evaluation.winrate import WORTH, Contest, WinRate, win_rate_of_outcomes
from trueup.types import Outcome

Judge: TypeAlias = Callable[[str, str, str], Outcome]
"""(prompt, first answer, second answer) -> which is better, ``A`` the first."""


@dataclass(frozen=True, slots=True)
class BothVerdicts:
    """Both verdicts on a pair, each told from answer a's side, and what they amount to."""

    first: Outcome
    swapped: Outcome

    @property
    def consistent(self) -> bool:
        """Whether the order made no difference."""
        return self.first == self.swapped

    @property
    def outcome(self) -> Outcome:
        """The common verdict, or a tie."""
        return self.first if self.consistent else Outcome.TIE


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """A judge's verdict on two answers to one prompt, from the side of model ``a``.

    ``swapped`` is the verdict with the sides exchanged, told from the same side; None where each pair was shown once,
    as people are. ``length`` is that of a's answer minus that of b's, in tokens, or in words where nobody counted them.
    """

    a: str
    b: str
    prompt: str
    sample: int
    kind: str | None
    first: Outcome
    swapped: Outcome | None
    length: float

    @property
    def outcome(self) -> Outcome:
        """The verdict; a tie where the order changed it."""
        return self.first if self.swapped in (None, self.first) else Outcome.TIE

    def to_dict(self) -> dict[str, Any]:
        """One line of ``verdicts.jsonl``."""
        return {
            "a": self.a,
            "b": self.b,
            "prompt_id": self.prompt,
            "sample": self.sample,
            "kind": self.kind,
            "first": self.first.value,
            "swapped": None if self.swapped is None else self.swapped.value,
            "length": self.length,
        }

    @classmethod
    def of(cls, row: Mapping[str, Any], where: str) -> JudgedPair:
        """The pair of such a line.

        Raises:
            DataError: It is none; names ``where``.
        """
        try:
            swapped = None if row["swapped"] is None else Outcome(row["swapped"])
            return cls(
                str(row["a"]),
                str(row["b"]),
                str(row["prompt_id"]),
                int(row["sample"]),
                None if row["kind"] is None else str(row["kind"]),
                Outcome(row["first"]),
                swapped,
                float(row["length"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            expected = "a, b, prompt_id, sample, kind, first, swapped, length"
            raise DataError(f"is no verdict: {error!r}", where=where, expected=expected) from error


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """Win-rate of ``a`` over ``b`` and how far the judge can be trusted.

    ``first_position`` is the share of inconsistent pairs in which the judge stayed with the first position:
    near 1 it likes what it reads first, near 0 what it reads last; None without inconsistent pairs. ``consistency`` is
    None where each pair was shown once.
    """

    win_rate: WinRate
    consistency: Interval | None
    first_position: float | None
    outcomes: tuple[tuple[str, Outcome], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form without the single verdicts."""
        return {
            "win_rate": self.win_rate.to_dict(),
            "consistency": self.consistency.to_dict() if self.consistency else None,
            "first_position": self.first_position,
        }


def judge_pair(judge: Judge, prompt: str, a: str, b: str) -> BothVerdicts:
    """Ask twice, the second time with the sides exchanged."""
    return BothVerdicts(_asked(judge, prompt, a, b), _asked(judge, prompt, b, a).swap())


def _asked(judge: Judge, prompt: str, first: str, second: str) -> Outcome:
    verdict = judge(prompt, first, second)
    if not isinstance(verdict, Outcome):
        raise UsageError(f"the judge answered {verdict!r}", where="judge", expected="an Outcome: A, B or TIE")
    return verdict


def judge_models(
    rows: Sequence[Row], a: str, b: str, judge: Judge, *, resamples: int = 2000, seed: int = 0
) -> JudgeReport:
    """Judge the answers of two models to the same prompts; the k-th sample of one meets the k-th of the other."""
    return report_on(judge_answers(rows, a, b, judge), resamples=resamples, seed=seed)


def judge_answers(rows: Sequence[Row], a: str, b: str, judge: Judge) -> list[JudgedPair]:
    """The verdict on each pair of answers to the same prompt.

    Raises:
        DataError: The models were asked different prompts.
        ShapeError: One has more samples of a prompt than the other.
        UsageError: The judge answered something else than an outcome.
    """
    judged = []
    for answer, opponent in paired_answers(rows, a, b):
        verdict = judge_pair(judge, asked_text(answer), str(answer["completion"]), str(opponent["completion"]))
        judged.append(judged_pair(answer, opponent, verdict.first, verdict.swapped))
    return judged


def judged_pair(answer: Row, opponent: Row, first: Outcome, swapped: Outcome | None) -> JudgedPair:
    """A verdict on two rows."""
    kind = answer.get("kind")
    return JudgedPair(
        str(answer["model"]),
        str(opponent["model"]),
        str(answer["prompt_id"]),
        int(answer.get("sample", 0)),
        None if kind is None else str(kind),
        first,
        swapped,
        _length(answer, opponent),
    )


def paired_answers(rows: Sequence[Row], a: str, b: str) -> list[tuple[Row, Row]]:
    """The k-th answers of both models to each prompt.

    Raises:
        DataError, ShapeError: As ``judge_answers``.
    """
    left, right = of_model(rows, a), of_model(rows, b)
    grouped_a, grouped_b = by_prompt(left), by_prompt(right)
    pairs: list[tuple[Row, Row]] = []
    for prompt in same_prompts(left, right):
        ours, theirs = grouped_a[prompt], grouped_b[prompt]
        if len(ours) != len(theirs):
            raise ShapeError(
                f"{len(ours)} answers of {a} and {len(theirs)} of {b}",
                where=f"prompt {prompt}",
                expected="equally many samples a prompt",
            )
        pairs += zip(ours, theirs, strict=True)
    return pairs


def asked_text(row: Row) -> str:
    """What a judge is given as the prompt: the question of a single turn as it is, a conversation with its roles."""
    prompt, question = str(row["prompt"]), row.get("question")
    return str(question) if question is not None and prompt == f"user: {question}" else prompt


def _length(answer: Row, opponent: Row) -> float:
    counted = [row.get("tokens") for row in (answer, opponent)]
    ours, theirs = (
        counted if None not in counted else [len(str(row["completion"]).split()) for row in (answer, opponent)]
    )
    return float(ours) - float(theirs)  # type: ignore[arg-type]


def report_on(pairs: Sequence[JudgedPair], *, resamples: int = 2000, seed: int = 0) -> JudgeReport:
    """Win-rate over all verdicts of one contest, and the judge's consistency."""
    outcomes, prompts = [pair.outcome for pair in pairs], [pair.prompt for pair in pairs]
    twice = [pair for pair in pairs if pair.swapped is not None]
    split = [pair for pair in twice if pair.swapped != pair.first]
    stayed = [pair for pair in split if pair.first is Outcome.A or pair.swapped is Outcome.B]
    a, b = (pairs[0].a, pairs[0].b) if pairs else ("a", "b")
    return JudgeReport(
        win_rate_of_outcomes(outcomes, prompts, a=a, b=b, resamples=resamples, seed=seed),
        wilson(len(twice) - len(split), len(twice)) if twice else None,
        len(stayed) / len(split) if split else None,
        tuple(zip(prompts, outcomes, strict=True)),
    )


def contest_of(pairs: Sequence[JudgedPair]) -> Contest:
    """The verdicts of one contest with the lengths of the answers."""
    return Contest(
        pairs[0].a,
        pairs[0].b,
        np.array([WORTH[pair.outcome] for pair in pairs]),
        np.array([pair.length for pair in pairs]),
        tuple(pair.prompt for pair in pairs),
    )


VERDICTS = {"a": Outcome.A, "first": Outcome.A, "b": Outcome.B, "second": Outcome.B, "tie": Outcome.TIE}
"""What a judge written as a function may say."""


def verdict_of(said: Any, judge: str) -> Outcome:
    """A verdict as an outcome.

    Raises:
        UsageError: It is none.
    """
    outcome = said if isinstance(said, Outcome) else VERDICTS.get(str(said).lower())
    if outcome is None:
        raise UsageError(f"the judge said {said!r}", where=judge, expected=nearest(str(said), VERDICTS))
    return outcome


def score_judge(scorer: Callable[[str, str], Mapping[str, float] | float], tie: float = 0.0) -> Judge:
    """A judge from a scoring function such as the gold score: the higher score wins, differences up to ``tie`` tie."""

    def judge(prompt: str, first: str, second: str) -> Outcome:
        first_score, second_score = (_total(scorer(prompt, text)) for text in (first, second))
        if abs(first_score - second_score) <= tie:
            return Outcome.TIE
        return Outcome.A if first_score > second_score else Outcome.B

    return judge


def _total(score: Mapping[str, float] | float) -> float:
    return float(score["total"]) if isinstance(score, Mapping) else float(score)


@dataclass(frozen=True, slots=True)
class VerdictAgreement:
    """Agreement of two lists of verdicts; ``kappa`` is None where chance agreement is already complete."""

    raw: Interval
    kappa: float | None


def verdict_agreement(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> VerdictAgreement:
    """Share of equal verdicts and Cohen's kappa (Cohen 1960), for calibrating a judge against gold or people."""
    if len(ours) != len(theirs) or not ours:
        raise ShapeError(f"{len(ours)} and {len(theirs)} verdicts", expected="equally many, at least one")
    n = len(ours)
    same = sum(x == y for x, y in zip(ours, theirs, strict=True))
    chance = sum(list(ours).count(o) * list(theirs).count(o) for o in Outcome) / n**2
    kappa = None if chance == 1 else (same / n - chance) / (1 - chance)
    return VerdictAgreement(wilson(same, n), kappa)
