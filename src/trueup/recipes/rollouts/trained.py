"""What the updates of a step did to its answers, token by token, for whoever looks at the run: ``rollouts.jsonl``.

The fixed prompts of ``samples.jsonl`` show what a policy has become; these are some of the answers that made it so,
with the advantage of each token and how often clipping stopped it. Nothing here changes a number of the run.

Shapes: B rollouts, C completion positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from trueup.data.render import Renderer
from trueup.engine.processes import gathered
from trueup.ledger import Run
from trueup.recipes.probes import named, numbers, rounded, token_texts
from trueup.recipes.rollouts.draw import Rollout


class Trained:
    """The first answers of a step, as its updates see them.

    Args:
        count: How many; the answers to the last prompt among them are taken whole, so that a group can be compared.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._rollout: Rollout | None = None
        self._advantages_BC: torch.Tensor | None = None
        self._labels: Mapping[int, str] = {}
        self._rows = 0
        self._clipped: list[tuple[int, list[float]]] = []

    def see(
        self,
        rollout: Rollout,
        advantages_BC: torch.Tensor | None = None,
        *,
        labels: Mapping[int, str] | None = None,
    ) -> None:
        """Take note of the answers that the updates of the step learn from.

        Args:
            rollout: All of them.
            advantages_BC: Their advantages, in a method that has them.
            labels: What a rollout, by its number, is used as.
        """
        self._rollout, self._advantages_BC, self._labels = rollout, advantages_BC, labels or {}
        rows, prompts = min(self._count, len(rollout)), rollout.prompts
        while 0 < rows < len(rollout) and prompts[rows] == prompts[rows - 1]:
            rows += 1
        self._rows = rows

    def clip(self, index: tuple[int, ...], clipped_BC: torch.Tensor) -> None:
        """Take note of one pass over the rollouts ``index``: where clipping acted, True or 1."""
        for place, row in enumerate(index):
            if row < self._rows:
                self._clipped.append((row, clipped_BC[place].double().tolist()))

    def write(self, run: Run, step: int, renderer: Renderer, drawn: Rollout) -> None:
        """Append the answers to ``rollouts.jsonl``: of ``drawn`` where the method did not say what it learned from.

        Every process of a job calls it.
        """
        if self._rollout is None:
            self.see(drawn)
        clipped: dict[int, list[list[float]]] = {}
        for row, values in gathered(self._clipped):
            clipped.setdefault(row, []).append(values)
        for row in range(self._rows):
            run.rollout(step, **self._described(row, clipped.get(row, []), renderer))

    def _described(self, row: int, clipped: list[list[float]], renderer: Renderer) -> dict[str, Any]:
        rollout = self._rollout
        assert rollout is not None
        completion, (prompt_ids, ids) = rollout.completions[row], rollout.sequences[row]
        size = len(ids)
        ratio_C = (rollout.logps_BC[row] - rollout.reference_BC[row])[:size].double()
        tokens: dict[str, Any] = {"text": token_texts(renderer, prompt_ids, ids), "log_ratio": numbers(ratio_C)}
        if self._advantages_BC is not None:
            tokens["advantage"] = numbers(self._advantages_BC[row, :size])
        if clipped:
            tokens["clipped"] = numbers(torch.tensor([values[:size] for values in clipped]).mean(0))
        described: dict[str, Any] = {
            **named(rollout.prompts[row]),
            "completion": completion.text,
            "stop": completion.stop.value,
        }
        described |= {"label": self._labels[row]} if row in self._labels else {}
        described |= {"score": rounded(float(rollout.score_B[row])), "log_ratio": rounded(float(ratio_C.sum()))}
        if rollout.parts:
            described["parts"] = {part.name: part.of(row) for part in rollout.parts}
        return described | {"tokens": tokens}
