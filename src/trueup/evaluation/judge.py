"""Judging pairs without position bias: every pair is shown in both orders, and a change of mind is a tie.

A judge that always picks the first answer therefore scores every model exactly 50 %, and a model against itself
scores exactly 50 %. A judge that raises stops the evaluation; its error is never turned into a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from trueup.errors import ShapeError, UsageError
from trueup.evaluation.intervals import Interval, wilson
from trueup.evaluation.rows import Row, by_prompt, of_model, same_prompts
from trueup.evaluation.winrate import WinRate, win_rate_of_outcomes
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
class JudgeReport:
    """Win-rate of ``a`` over ``b`` and how far the judge can be trusted.

    ``first_position`` is the share of inconsistent pairs in which the judge stayed with the first position:
    near 1 it likes what it reads first, near 0 what it reads last; None without inconsistent pairs.
    """

    win_rate: WinRate
    consistency: Interval
    first_position: float | None
    outcomes: tuple[tuple[str, Outcome], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form without the single verdicts."""
        return {
            "win_rate": self.win_rate.to_dict(),
            "consistency": self.consistency.to_dict(),
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
    left, right = of_model(rows, a), of_model(rows, b)
    grouped_a, grouped_b = by_prompt(left), by_prompt(right)
    judged: list[tuple[str, BothVerdicts]] = []
    for prompt in same_prompts(left, right):
        ours, theirs = grouped_a[prompt], grouped_b[prompt]
        if len(ours) != len(theirs):
            raise ShapeError(
                f"{len(ours)} answers of {a} and {len(theirs)} of {b}",
                where=f"prompt {prompt}",
                expected="equally many samples a prompt",
            )
        for answer, opponent in zip(ours, theirs, strict=True):
            verdict = judge_pair(judge, str(answer["prompt"]), str(answer["completion"]), str(opponent["completion"]))
            judged.append((prompt, verdict))
    outcomes = [verdict.outcome for _, verdict in judged]
    prompts = [prompt for prompt, _ in judged]
    split = [verdict for _, verdict in judged if not verdict.consistent]
    stayed = [v for v in split if v.first is Outcome.A or v.swapped is Outcome.B]
    return JudgeReport(
        win_rate_of_outcomes(outcomes, prompts, a=a, b=b, resamples=resamples, seed=seed),
        wilson(len(judged) - len(split), len(judged)),
        len(stayed) / len(split) if split else None,
        tuple(zip(prompts, outcomes, strict=True)),
    )


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
