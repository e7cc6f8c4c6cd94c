"""Passes with gradients over a rollout: which answers make an update, their forward passes, and statistics of both.

Shapes: B rollouts, C completion positions, N completion tokens (flat).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from trueup.config.seeds import derive
from trueup.data.batch import Rows
from trueup.engine.processes import highest, summed
from trueup.engine.score import Scores, score
from trueup.engine.step import Stepper
from trueup.losses import kl
from trueup.losses import policy as losses
from trueup.models.heads import ValueHead
from trueup.models.policy import Policy
from trueup.recipes.rollouts.draw import Rollout, length
from trueup.recipes.rollouts.trained import Trained


def mini_batches(count: int, pieces: int, epochs: int, *, seed: int, step: int) -> Iterator[list[int]]:
    """``epochs`` passes over ``count`` rollouts in seeded order, each in ``pieces`` parts as equal as can be."""
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(derive(seed, "mini-batches", step, epoch))
        order = torch.randperm(count, generator=generator).tolist()
        parts = min(pieces, count)  # the last batch of an epoch may have fewer rollouts than that
        for part in range(parts):
            yield order[part * count // parts : (part + 1) * count // parts]


@dataclass(frozen=True, eq=False)
class Part:
    """Some rollouts of an update in one forward pass; gradients flow through ``scores``."""

    index: tuple[int, ...]
    """Which rollouts they are."""
    rows: Rows
    scores: Scores
    copies: int
    """How many processes compute this very part."""

    @property
    def mask_BC(self) -> torch.Tensor:
        """True at real completion tokens."""
        return self.rows.mask_BC

    @property
    def logps_BC(self) -> torch.Tensor:
        """Log-probs of the policy as it is now."""
        return self.scores.logps_BC

    @property
    def values_BC(self) -> torch.Tensor:
        """Values as the head gives them now; only where ``passes`` was given one."""
        assert self.scores.values_BC is not None
        return self.scores.values_BC

    def of(self, values_BC: torch.Tensor) -> torch.Tensor:
        """These rollouts' rows of a tensor of all of them, as wide as this pass and on its device."""
        return values_BC[list(self.index), : self.mask_BC.shape[1]].to(self.rows.device)


def passes(
    policy: Policy,
    stepper: Stepper,
    rollout: Rollout,
    batch: Sequence[int],
    *,
    temperature: float,
    budget: int,
    entropy_grad: bool = False,
    value_head: ValueHead | None = None,
) -> Iterator[Part]:
    """This process's forward passes over some rollouts, longest first.

    Args:
        policy: The model.
        stepper: Shares the work among the processes.
        rollout: All rollouts of the step.
        batch: Numbers of the rollouts of this update.
        temperature: As they were drawn.
        budget: Padded tokens of one pass.
        entropy_grad: Also entropies, with gradient.
        value_head: Also values.
    """
    groups = stepper.share(batch, lambda i: length(rollout.sequences[i]), budget)
    for group in groups:
        rows = Rows.of([rollout.sequences[i] for i in group], policy.device)
        scores = score(policy, rows, temperature=temperature, entropy_grad=entropy_grad, value_head=value_head)
        yield Part(tuple(group), rows, scores, groups.copies)


WIDE = 0.1
"""A ratio further than this from 1 is counted: a mean KL hides the few tokens that move far."""


class UpdateStatistics:
    """Token-weighted means over the updates of one step, and how far the policy moved in them.

    Args:
        trained: Takes note of where clipping acted, in a step that writes down what it learned from.
    """

    def __init__(self, trained: Trained | None = None) -> None:
        self._trained = trained
        self.ratio_max = self.first_error = 0.0
        self._sums: dict[str, float] = {"tokens": 0.0}
        self._before_update = True

    @torch.no_grad()
    def add(
        self,
        part: Part,
        old_BC: torch.Tensor,
        *,
        clipped_BC: torch.Tensor | None = None,
        **losses_BC: torch.Tensor,
    ) -> None:
        """Count one pass.

        Args:
            part: The pass.
            old_BC: Log-probs of the policy that drew the tokens, on its device.
            clipped_BC: Where clipping acted, in a method that clips.
            losses_BC: Losses by the name of their metric; 0 in the padding.
        """
        new_BC, mask_BC = part.logps_BC.detach(), part.mask_BC
        gap_N = (new_BC - old_BC)[mask_BC]
        ratio_N = gap_N.clamp(-losses.LOG_RATIO_LIMIT, losses.LOG_RATIO_LIMIT).exp()
        values = {name: loss_BC.sum() for name, loss_BC in losses_BC.items()}
        if clipped_BC is not None:
            values["clip_fraction"] = clipped_BC[mask_BC].sum()
            if self._trained is not None:
                self._trained.clip(part.index, clipped_BC)
        values["approx_kl"] = kl.k3(old_BC, new_BC)[mask_BC].sum()
        values["ratio_outside"] = ((ratio_N < 1 - WIDE) | (ratio_N > 1 + WIDE)).sum()
        values["ratio_clamped"] = (gap_N.abs() > losses.LOG_RATIO_LIMIT).sum()
        for name, value in {"tokens": mask_BC.sum(), **values}.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) / part.copies
        self.ratio_max = max(self.ratio_max, float(ratio_N.max()))
        if self._before_update:
            self.first_error = max(self.first_error, float((ratio_N - 1).abs().max()))

    def end_update(self) -> None:
        """The policy has moved: from here on the ratio is allowed to differ from 1."""
        self._before_update = False

    def summary(self) -> dict[str, float]:
        """Means over all processes, by metric."""
        tokens, *sums = summed(*self._sums.values())
        means = {name: value / tokens for name, value in zip(list(self._sums)[1:], sums, strict=True)}
        return means | {"ratio_max": highest(self.ratio_max), "first_ratio_error": highest(self.first_error)}
