"""The course's reward-hacking analysis, constitutional critic and comparison of methods."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from trueup.course.arrays import floats
from trueup.course.speakers import HuggingFaceSpeaker, as_speaker
from trueup.errors import ConfigError, DataError, ShapeError
from trueup.evaluation.hacking import KL_LIMIT, find_hacking
from trueup.spec.shapes import Array

# "YES: ...", "**No**.", "Verdict: yes, ...", '{"answer": "no"}': a word of label is allowed, a sentence is not.
_VERDICT = re.compile(r"[\W_]*(?:(?:answer|verdict|violation)\W+)?(yes|no)\b[\W_]*(.*)", re.IGNORECASE | re.DOTALL)


def analyze_reward_hacking(
    policy_rewards: list[float],
    true_quality: list[float],
    *,
    kl: list[float] | None = None,
    diversity: list[float] | None = None,
    kl_limit: float = KL_LIMIT,
) -> dict[str, Any]:
    """The document's three signs: the reward rises while quality falls, outputs degenerate, the policy runs away.

    Args:
        policy_rewards: What the reward model gave, one number an evaluation.
        true_quality: What people (or a gold scorer) gave at the same evaluations.
        kl: Divergence from the reference in nats, if it was measured.
        diversity: Any number that is lower for degenerate outputs, such as the share of distinct words.
        kl_limit: A policy whose KL ends above it has run away.

    Returns:
        ``correlation`` (None if a series is constant), ``is_hacking``, ``signs`` (``quality``, ``degeneration``,
        ``divergence``: each True, False, or None where it was not measured), ``verdict`` (``hacking``, ``suspected`` or
        ``none``), ``divergence_point`` (index of the last good evaluation, or None), ``correlation_before`` and
        ``correlation_after`` it (None where undefined), ``reward_change`` and ``quality_change`` (over the whole),
        ``quality_lost`` (from the divergence point to the end), ``kl_at_divergence`` and ``diversity_change`` (None
        without the series), ``advice``, and ``summary`` in words.

        Quality decides. Where it does not rise, degeneration and divergence together are hacking too; one of them alone
        is a suspicion, which ``is_hacking`` does not report.

    Raises:
        ShapeError: The lists differ in length or are shorter than 2.
        NonFiniteError: One holds NaN or an infinity.
    """
    reward, quality = floats(policy_rewards=policy_rewards, true_quality=true_quality)
    if reward.ndim != 1 or len(reward) < 2:
        raise ShapeError(f"rewards have shape {reward.shape}", where="policy_rewards", expected="at least two in a row")
    distance = None if kl is None else floats(policy_rewards=reward, kl=kl)[1]
    variety = None if diversity is None else floats(policy_rewards=reward, diversity=diversity)[1]
    outputs = None if variety is None else {"diversity": variety}
    found = find_hacking(reward, quality, outputs=outputs, kl=distance, kl_limit=kl_limit)
    point = found.point
    return {
        "correlation": _correlation(reward, quality),
        "is_hacking": found.verdict == "hacking",
        "signs": found.to_dict()["signs"],
        "verdict": found.verdict,
        "divergence_point": point,
        "correlation_before": None if point is None else _correlation(reward[: point + 1], quality[: point + 1]),
        "correlation_after": None if point is None else _correlation(reward[point:], quality[point:]),
        "reward_change": float(reward[-1] - reward[0]),
        "quality_change": float(quality[-1] - quality[0]),
        "quality_lost": found.quality_lost,
        "kl_at_divergence": float(distance[point]) if distance is not None and point is not None else None,
        "diversity_change": float(variety[-1] - variety[0]) if variety is not None else None,
        "advice": list(found.advice),
        "summary": _summary(found.verdict, found.sentences),
    }


def _summary(verdict: str, sentences: tuple[str, ...]) -> str:
    opening = {
        "hacking": "The reward is being gamed.",
        "suspected": "The reward may be gamed.",
        "none": "No sign that the reward is being gamed.",
    }
    return " ".join([opening[verdict], *sentences])


def _correlation(a: Array, b: Array) -> float | None:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


class ConstitutionalCritic:
    """A model that judges its own answers by principles and rewrites them (Bai et al. 2022).

    ``model`` is a function from a prompt to a text, an object with ``generate(text)``, a text-generation pipeline, or
    a Hugging Face model with its tokenizer as ``(model, tokenizer)``. What answers in words begins with YES or NO;
    of a pipeline or a model the verdict is read from the log-probs of the two words, so that a small one can judge.
    """

    def __init__(self, model: Any, principles: list[str]) -> None:
        if not principles or not all(p.strip() for p in principles):
            raise ConfigError("no principles, or an empty one", where="ConstitutionalCritic", expected="sentences")
        self.model = as_speaker(model)
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
            broken, advice = self._verdict(
                f"Question: {prompt}\nAnswer: {response}\nPrinciple: {principle}\n", principle
            )
            if broken:
                violations.append(principle)
                suggestions.append(advice or f"Follow the principle: {principle}")
        return {"violations": violations, "suggestions": suggestions}

    def _verdict(self, case: str, principle: str) -> tuple[bool, str]:
        """Whether the principle is broken, and how to improve the answer."""
        if isinstance(self.model, HuggingFaceSpeaker):
            if self.model.says_yes(f"{case}Does the answer break the principle? Reply YES or NO.") <= 0.5:
                return False, ""
            return True, self.model(f"{case}The answer breaks the principle. Say how to improve it.").strip()
        answer = self.model(
            f"{case}Does the answer break the principle? Start with YES or NO; if YES, say how to improve it."
        )
        verdict = _VERDICT.match(answer)
        if verdict is None:
            raise DataError(
                f"the model said {answer[:80]!r}",
                where=f"principle {principle!r}",
                expected="an answer that starts with YES or NO",
            )
        return verdict.group(1).lower() == "yes", verdict.group(2).strip()

    def revise(self, prompt: str, response: str, critique: str | dict[str, Any]) -> str:
        """A better response. Without anything to criticise the response comes back as it is."""
        advice = critique if isinstance(critique, str) else " ".join(critique.get("suggestions", ()))
        if not advice.strip():
            return response
        revised = self.model(
            f"Question: {prompt}\nAnswer: {response}\nCritique: {advice}\n"
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
            "steps": [
                "Fine-tune the base model on demonstrations; a frozen copy is the reference.",
                "Collect preferences between answers and train a reward model on them.",
                "Sample answers from the policy and score them with the reward model.",
                "Subtract the KL penalty and estimate advantages with the value head.",
                "Update policy and value head by the clipped PPO loss, and sample again.",
            ],
            "pros": ["Learns from its own answers", "Can use any reward, also one without gradient"],
            "cons": ["Four models and sampling in the loop", "Can game the reward model; needs a KL leash"],
        },
        "DPO": {
            "models_needed": 2,
            "models": ["policy", "reference"],
            "steps": [
                "Fine-tune the base model on demonstrations; a frozen copy is the reference.",
                "Collect preferences between answers.",
                "Compute the reference's log-probs of chosen and rejected answers once.",
                "Train the policy on the DPO loss over the pairs.",
            ],
            "pros": ["A supervised loss: no sampling, no reward model", "Reference log-probs are computed once"],
            "cons": [
                "Offline as printed: learns only from the pairs it has",
                "Also over-optimises, often within one epoch",
            ],
        },
    }
