"""Rankings for a reward model: how they are read, and what Plackett-Luce makes of their rewards.

Shapes: B rankings, K responses of the longest of them, N responses of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from trueup.data.batch import Ids, Rows
from trueup.data.read import Loaded, read_ranked
from trueup.data.render import RankedPair, RenderedRanking
from trueup.engine.score import raw_rewards, rewards
from trueup.errors import DataError
from trueup.losses import preference as losses
from trueup.models.heads import RewardModel
from trueup.recipes.agreement import PairAgreement, SeenPair, agreement
from trueup.recipes.head_start import Contest
from trueup.types import Ranked

ALL_TIED = "a ranking in which all responses are tied"


def read_rankings(source: str | Path, **options: Any) -> Loaded[Ranked]:
    """Rankings in which some response is better than another; those without are left out and counted.

    Raises:
        DataError: The source holds no rankings, such as one of preference pairs.
    """
    pairs = "set objective.kind=bradley-terry, which learns from pairs"
    try:
        loaded = read_ranked(source, **options)
    except DataError as error:
        fix = f"{error.fix}; or {pairs}" if error.fix else pairs
        raise DataError(error.what, where=error.where, expected=error.expected, fix=fix) from error
    lines = loaded.lines or tuple(range(1, len(loaded) + 1))
    kept = [(item, line) for item, line in zip(loaded.items, lines, strict=True) if len(set(item.ranks)) > 1]
    for item, line in zip(loaded.items, lines, strict=True):
        if len(set(item.ranks)) == 1:
            loaded.report.leave_out(ALL_TIED, line)
    loaded.report.items = len(kept)
    loaded.report.require_items("take rankings in which some response is better than another")
    return replace(loaded, items=tuple(item for item, _ in kept), lines=tuple(line for _, line in kept))


class RankingLoss:
    """Plackett-Luce on rankings; ``centre`` is the weight of the square of twice their mean reward."""

    def __init__(self, centre: float) -> None:
        self.centre = centre

    def unused(self, loaded: Loaded[Ranked]) -> list[str]:
        """Columns of the data that are not learned from."""
        return list(loaded.report.unused_columns)

    def require_enough(self, examples: Sequence[RenderedRanking], source: str) -> None:
        """One ranking is enough."""

    def __call__(self, model: RewardModel, examples: Sequence[RenderedRanking]) -> tuple[torch.Tensor, list[SeenPair]]:
        """Losses [B] with gradients, and the rewards of every pair that the rankings hold."""
        raw_N = raw_rewards(model, Rows.of(self.sequences(examples), model.device))
        scores_BK, ranks_BK, mask_BK = _padded(raw_N, examples)
        losses_B = losses.plackett_luce(scores_BK, ranks_BK, mask_BK)
        if self.centre:
            losses_B = losses_B + self.centre * (2.0 * scores_BK.sum(-1) / mask_BK.sum(-1)) ** 2
        return losses_B, _seen(raw_N.tolist(), examples)

    def answers(self, item: Ranked) -> list[tuple[str, str]]:
        """All responses with their rank, 1 for the best, best first."""
        ranked = sorted(zip(item.ranks, item.responses, strict=True), key=lambda pair: pair[0])
        return [(f"rank {rank + 1}", text) for rank, text in ranked]

    def pairs(self, examples: Sequence[RenderedRanking]) -> list[RankedPair]:
        """Every two responses of a ranking of which one is better."""
        return [pair for ranking in examples for pair in ranking.pairs]

    def sequences(self, examples: Sequence[RenderedRanking]) -> list[tuple[Ids, Ids]]:
        """Prompt and completion of every response."""
        return [(ranking.prompt_ids, ids) for ranking in examples for ids in ranking.completions]

    def contests(self, examples: Sequence[RenderedRanking]) -> list[Contest]:
        """Every two responses of a ranking of which one is better."""
        contests: list[Contest] = []
        begin = 0
        for ranking in examples:
            for pair in ranking.pairs:
                better, worse = begin + pair.better, begin + pair.worse
                contests.append(Contest(better, worse, 1.0, ranking.weight, ranking.prompt_ids))
            begin += len(ranking.completions)
        return contests

    def evaluate(self, model: RewardModel, examples: Sequence[RenderedRanking], budget: int) -> PairAgreement:
        """Accuracy, margin and calibration over the rankings' pairs; the loss is that of the rankings."""
        raw_N = rewards(model, self.sequences(examples), budget=2 * budget, scaled=False)
        losses_B = losses.plackett_luce(*_padded(raw_N, examples)).double()
        weight_B = torch.tensor([ranking.weight for ranking in examples], dtype=torch.float64)
        seen = _seen(raw_N.tolist(), examples)
        over_pairs = agreement(
            [pair.chosen for pair in seen],
            [pair.rejected for pair in seen],
            weight=[pair.weight for pair in seen],
            prompts=[ranking.prompt_ids for ranking in examples for _ in ranking.pairs],
        )
        return replace(over_pairs, loss=float((losses_B * weight_B).sum() / weight_B.sum()))


def _padded(
    raw_N: torch.Tensor, rankings: Sequence[RenderedRanking]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, ranks and which of them are real, [B, K] each, with zeros where a ranking has no more responses."""
    counts = [len(ranking.completions) for ranking in rankings]
    scores_BK = torch.nn.utils.rnn.pad_sequence(list(torch.split(raw_N, counts)), batch_first=True)
    ranks = [torch.tensor(ranking.ranks, device=raw_N.device) for ranking in rankings]
    ranks_BK = torch.nn.utils.rnn.pad_sequence(ranks, batch_first=True)
    mask_BK = torch.arange(max(counts), device=raw_N.device) < torch.tensor(counts, device=raw_N.device)[:, None]
    return scores_BK, ranks_BK, mask_BK


def _seen(raw: Sequence[float], rankings: Sequence[RenderedRanking]) -> list[SeenPair]:
    seen: list[SeenPair] = []
    begin = 0
    for ranking in rankings:
        for pair in ranking.pairs:
            better, worse = raw[begin + pair.better], raw[begin + pair.worse]
            seen.append(SeenPair(pair.pair_id, pair.key, better, worse, weight=ranking.weight))
        begin += len(ranking.completions)
    return seen
