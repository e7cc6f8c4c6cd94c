"""Signs of answers that were not read, each with its evidence. They suggest; they never act.

Real annotators agree little on real texts, so disagreement alone is no sign. What counts is an answer that holds no
information: one side nearly always, far too fast for the text, the same as somebody else's far too often, or an ability
whose whole interval is near zero.

Shapes: none; plain numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

WORDS_PER_SECOND = 12.0
"""Faster than any reader: skimming is at most some 700 words a minute (Rayner et al. 2016)."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Reasons to look at an annotator's work."""

    annotator: str
    reasons: tuple[str, ...]


def suspicion(
    annotator: str,
    *,
    wins: Sequence[float],
    words: Sequence[int] = (),
    seconds: Sequence[float] = (),
    ability: tuple[float, float, float] | None = None,
    copies: Mapping[str, tuple[int, int, float]] | None = None,
    alpha: float = 1e-3,
    least: int = 20,
) -> Suspicion:
    """Collect the signs.

    Args:
        annotator: Pseudonym.
        wins: 1 where the response shown first won, 0 where the second did, 0.5 for ties.
        words: Words shown, judgment by judgment, where known.
        seconds: Active seconds, judgment by judgment, as long as ``words``.
        ability: Estimate and interval from ``fit_abilities``.
        copies: Other annotator -> (same answers, common items, chance that two honest people agree).
        alpha: Level of each test, before no correction: signs are few and looked at by a person.
        least: Fewer judgments than this give no sign but one of speed.
    """
    reasons = []
    decided = [w for w in wins if w != 0.5]
    first = sum(w == 1.0 for w in decided)
    if len(decided) >= least:
        share = first / len(decided)
        if max(share, 1 - share) >= 0.85 and stats.binomtest(first, len(decided), 0.5).pvalue < alpha:
            side = "first" if share > 0.5 else "second"
            reasons.append(
                f"chose the response shown {side} in {max(share, 1 - share):.0%} of {len(decided)} judgments"
            )
    if len(wins) >= least and sum(w == 0.5 for w in wins) / len(wins) >= 0.95:
        reasons.append(f"called {sum(w == 0.5 for w in wins)} of {len(wins)} a tie")
    timed = [(w, s) for w, s in zip(words, seconds, strict=False) if s > 0 and w >= 20]
    rushed = sum(w / s > WORDS_PER_SECOND for w, s in timed)
    if len(timed) >= 10 and rushed / len(timed) >= 0.5:
        reasons.append(f"answered {rushed} of {len(timed)} faster than the texts can be read")
    if ability is not None and len(wins) >= least:
        value, low, high = ability
        if high < 0.35:
            kind = "reversed" if high < -0.1 else "carry no information"
            reasons.append(f"answers {kind}: ability {value:.2f} ({low:.2f} to {high:.2f}), where 1 is typical")
    for other, (same, common, chance) in sorted((copies or {}).items()):
        if common >= least and same == common and stats.binomtest(same, common, min(0.97, chance)).pvalue < alpha:
            reasons.append(f"same answers as {other} on all {common} common items")
    return Suspicion(annotator, tuple(reasons))


def suggestion(signs: int) -> str:
    """What a lead may want to do about so many signs."""
    if signs == 0:
        return ""
    if signs == 1:
        return "look at ten of these judgments"
    return "pause new assignments and look at the judgments"
