"""Judging answers side by side with a judge of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trueup.config.code import as_function, function_of, names_code
from trueup.errors import ShapeError, UsageError
from trueup.evaluation.judge import Judge, JudgeReport, judge_models, verdict_of
from trueup.types import Outcome


def judge(
    prompts: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    by: str | Callable[[str, str, str], Any],
    *,
    seed: int = 0,
) -> JudgeReport:
    """How often the first answers beat the second, by a judge that sees every pair in both orders.

    Args:
        prompts: What was asked.
        first: Answers of one model, one for each prompt.
        second: Answers of the other.
        by: The judge: a function of (prompt, answer, other answer), or ``package.module:name`` of one, that says ``a``,
            ``b`` or ``tie``. One that raises stops the comparison.
        seed: Names the resampling of the interval.

    Returns:
        The win-rate of the first with its interval (a change of mind is a tie), and how far the judge can be trusted.

    Raises:
        ShapeError: Not one answer of each for each prompt.
        UsageError: The judge said something else.
    """
    if not len(prompts) == len(first) == len(second):
        raise ShapeError(
            f"{len(prompts)} prompts, {len(first)} and {len(second)} answers", expected="one of each for each prompt"
        )
    rows = [
        {"model": model, "prompt_id": str(number), "prompt": prompt, "completion": answer, "sample": 0}
        for model, answers in (("first", first), ("second", second))
        for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
    return judge_models(rows, "first", "second", _checked(by), seed=seed)


def _checked(judge: str | Callable[[str, str, str], Any]) -> Judge:
    if isinstance(judge, str) and not names_code(judge):
        raise UsageError(f"{judge!r} names no code", where="judge", expected="package.module:name, or a function")
    arguments = "prompt, answer, other answer"
    function = (
        function_of(judge, "judge", arguments) if isinstance(judge, str) else as_function(judge, "judge", arguments)
    )

    def asked(prompt: str, first: str, second: str) -> Outcome:
        return verdict_of(function(prompt, first, second), "judge")

    return asked
