"""The course's reward-hacking analysis, constitutional critic and comparison of methods."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from trueup.errors import ConfigError, DataError, ShapeError
from trueup.evaluation.overoptimization import turning_point

_FEW = 8
"""Below this many evaluations a fitted turning point means nothing and the peak of quality is used."""


def analyze_reward_hacking(policy_rewards: list[float], true_quality: list[float]) -> dict[str, Any]:
    """Whether the reward went up while the quality went down.

    Returns:
        ``correlation`` (None if a series is constant), ``is_hacking``, ``divergence_point`` (index of the last good
        evaluation, or None), ``reward_change`` and ``quality_change`` (over the whole), ``quality_lost`` (from the
        divergence point to the end), and ``summary`` in words.

    Raises:
        ShapeError: The lists differ in length, are shorter than 2, or hold NaN.
    """
    reward, quality = np.asarray(policy_rewards, dtype=np.float64), np.asarray(true_quality, dtype=np.float64)
    if reward.shape != quality.shape or reward.ndim != 1 or len(reward) < 2:
        raise ShapeError(
            f"{reward.size} rewards and {quality.size} quality scores", expected="equally many, at least two of each"
        )
    constant = np.ptp(reward) == 0 or np.ptp(quality) == 0
    found = turning_point(reward, quality) if len(reward) >= _FEW else None
    point = found.index if found is not None and found.found else None
    if found is None:
        peak = int(np.argmax(quality))
        falls = quality[-1] < quality[peak] and reward[-1] > reward[peak]
        point = peak if falls else None
    lost = float(quality[point] - quality[-1]) if point is not None else 0.0
    summary = (
        f"The reward kept rising after evaluation {point} while quality fell by {lost:.3g}: the reward is being gamed."
        if point is not None
        else "No evaluation after which the reward rises and quality falls."
    )
    return {
        "correlation": None if constant else float(np.corrcoef(reward, quality)[0, 1]),
        "is_hacking": point is not None,
        "divergence_point": point,
        "reward_change": float(reward[-1] - reward[0]),
        "quality_change": float(quality[-1] - quality[0]),
        "quality_lost": lost,
        "summary": summary,
    }


class ConstitutionalCritic:
    """A model that judges its own answers by principles and rewrites them (Bai et al. 2022).

    ``model`` is any function from a prompt to a text.
    """

    def __init__(self, model: Callable[[str], str], principles: list[str]) -> None:
        if not principles or not all(p.strip() for p in principles):
            raise ConfigError("no principles, or an empty one", where="ConstitutionalCritic", expected="sentences")
        self.model = model
        self.principles = list(principles)

    def critique(self, prompt: str, response: str) -> dict[str, Any]:
        """Judge a response by each principle.

        Returns:
            ``violations``: principles that it breaks; ``suggestions``: how to improve, one for each violation.

        Raises:
            DataError: The model answered neither YES nor NO; that is no verdict, and none is made up.
        """
        violations, suggestions = [], []
        for principle in self.principles:
            answer = self.model(
                f"Question: {prompt}\nAnswer: {response}\nPrinciple: {principle}\n"
                "Does the answer break the principle? Start with YES or NO; if YES, say how to improve it."
            )
            verdict = re.match(r"\W*(yes|no)\b[\s:,.;-]*(.*)", answer.strip(), flags=re.IGNORECASE | re.DOTALL)
            if verdict is None:
                raise DataError(
                    f"the model said {answer[:80]!r}",
                    where=f"principle {principle!r}",
                    expected="an answer that starts with YES or NO",
                )
            if verdict.group(1).lower() == "yes":
                violations.append(principle)
                suggestions.append(verdict.group(2).strip() or f"Follow the principle: {principle}")
        return {"violations": violations, "suggestions": suggestions}

    def revise(self, prompt: str, response: str, critique: str | dict[str, Any]) -> str:
        """A better response. Without anything to criticise the response comes back as it is."""
        said = critique if isinstance(critique, str) else " ".join(critique.get("suggestions", ()))
        if not said.strip():
            return response
        revised = self.model(
            f"Question: {prompt}\nAnswer: {response}\nCritique: {said}\n"
            "Rewrite the answer so that the critique no longer applies. Give only the new answer."
        ).strip()
        if not revised:
            raise DataError(
                "the model gave an empty revision", where="ConstitutionalCritic.revise", expected="an answer"
            )
        return revised


def compare_alignment_methods() -> dict[str, dict[str, Any]]:
    """What RLHF with PPO and DPO need and give. The course counts three models for PPO; the critic is the fourth."""
    return {
        "RLHF (PPO)": {
            "models_needed": 4,
            "models": ["policy", "reference", "reward model", "value head"],
            "steps": 5,
            "pros": ["Learns from its own answers", "Can use any reward, also one without gradient"],
            "cons": ["Four models and sampling in the loop", "Can game the reward model; needs a KL leash"],
        },
        "DPO": {
            "models_needed": 2,
            "models": ["policy", "reference"],
            "steps": 4,
            "pros": ["A supervised loss: no sampling, no reward model", "Reference log-probs are computed once"],
            "cons": [
                "Offline as printed: learns only from the pairs it has",
                "Also over-optimises, often within one epoch",
            ],
        },
    }
