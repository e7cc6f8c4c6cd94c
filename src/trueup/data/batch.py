"""Batches: which examples make step k, and how token sequences become right-padded tensors.

Shapes: B rows, T positions, C completion positions (padded), N completion tokens (flat).
Order is seeded and addressable by step: ``plan[k]`` needs nothing of the steps before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from trueup.config.seeds import derive
from trueup.errors import ConfigError

T = TypeVar("T")
Ids = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """Prompt and completion ids of B sequences, right-padded together.

    A row without a prompt conditions on its own first token, which then carries no loss.
    """

    prompts: tuple[Ids, ...]
    completions: tuple[Ids, ...]
    device: torch.device

    @classmethod
    def of(cls, sequences: Sequence[tuple[Ids, Ids]], device: torch.device | str = "cpu") -> Rows:
        """Build from ``(prompt_ids, completion_ids)`` pairs."""
        split = [(p, c) if p else (c[:1], c[1:]) for p, c in sequences]
        return cls(tuple(p for p, _ in split), tuple(c for _, c in split), torch.device(device))

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def width(self) -> int:
        """Positions T of the padded rows."""
        return max(len(p) + len(c) for p, c in zip(self.prompts, self.completions, strict=True))

    @cached_property
    def ids_BT(self) -> torch.Tensor:
        """Token ids; padding is 0, which no mask and no loss ever reads."""
        ids = np.zeros((len(self), self.width), dtype=np.int64)
        for row, (p, c) in enumerate(zip(self.prompts, self.completions, strict=True)):
            ids[row, : len(p)] = p
            ids[row, len(p) : len(p) + len(c)] = c
        return torch.from_numpy(ids).to(self.device)

    @cached_property
    def completion_lengths_B(self) -> torch.Tensor:
        """Tokens of each completion."""
        return torch.tensor([len(c) for c in self.completions], device=self.device)

    @cached_property
    def last_B(self) -> torch.Tensor:
        """Position of the last real token of each row."""
        ends = [len(p) + len(c) - 1 for p, c in zip(self.prompts, self.completions, strict=True)]
        return torch.tensor(ends, device=self.device)

    @cached_property
    def mask_BC(self) -> torch.Tensor:
        """True at real completion tokens."""
        width = max(1, int(self.completion_lengths_B.max()))
        return torch.arange(width, device=self.device)[None, :] < self.completion_lengths_B[:, None]

    @cached_property
    def source_N(self) -> torch.Tensor:
        """Flat indices into ``[B * T]`` of the positions whose logits score the completion tokens."""
        width = self.width
        spans = [
            np.arange(row * width + len(p) - 1, row * width + len(p) - 1 + len(c))
            for row, (p, c) in enumerate(zip(self.prompts, self.completions, strict=True))
        ]
        return torch.from_numpy(np.concatenate(spans).astype(np.int64)).to(self.device)

    @cached_property
    def target_N(self) -> torch.Tensor:
        """The completion tokens, flat, in the order of ``source_N``."""
        flat = np.fromiter((t for c in self.completions for t in c), dtype=np.int64)
        return torch.from_numpy(flat).to(self.device)

    def unflatten(self, values_N: torch.Tensor) -> torch.Tensor:
        """``[N] -> [B, C]`` with zeros in the padding; differentiable."""
        padded_BC = values_N.new_zeros(self.mask_BC.shape)
        return padded_BC.masked_scatter(self.mask_BC, values_N)


class EpochPlan(Generic[T]):
    """``epochs`` passes over ``items`` in batches of ``size``; each epoch has its own seeded order.

    The last batch of an epoch may be smaller; nothing is dropped and nothing crosses an epoch.

    With ``length``, batches are cut from pools of ``pool`` batches sorted by it, and come in random order: rows of
    one batch are about equally long, so little of it is padding, while the order stays random at the scale of a pool.
    """

    def __init__(
        self,
        items: Sequence[T],
        size: int,
        epochs: float,
        seed: int,
        purpose: str,
        *,
        length: Callable[[T], int] | None = None,
        pool: int = 1,
    ) -> None:
        if not items:
            raise ConfigError("there is nothing to train on: no usable examples", where=purpose)
        self.items = items
        self.size = size
        self.per_epoch = -(-len(items) // size)
        self.total = max(1, round(self.per_epoch * epochs))
        self.seed = seed
        self.purpose = purpose
        self.pool = pool
        self.lengths = None if length is None else np.array([length(item) for item in items])
        self._epoch: tuple[int, list[np.ndarray[Any, np.dtype[np.int64]]]] | None = None

    def __len__(self) -> int:
        return self.total

    @property
    def longest(self) -> int:
        """The step of the first epoch whose batch is longest altogether."""
        return self.longest_of(self.total)

    def longest_of(self, steps: int) -> int:
        """The same among the first ``steps`` steps; 0 where lengths are not known."""
        if self.lengths is None:
            return 0
        return int(np.argmax([self.lengths[batch].sum() for batch in self._batches(0)[:steps]]))

    def __getitem__(self, step: int) -> tuple[T, ...]:
        epoch, index = divmod(step, self.per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._batches(epoch))
        return tuple(self.items[i] for i in self._epoch[1][index])

    def _batches(self, epoch: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
        rng = np.random.default_rng(derive(self.seed, self.purpose, epoch))
        order = rng.permutation(len(self.items))
        span = self.size * self.pool
        batches: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        for start in range(0, len(order), span):
            part = order[start : start + span]
            if self.lengths is not None and self.pool > 1:
                part = part[np.argsort(self.lengths[part], kind="stable")]
            pieces = [part[at : at + self.size] for at in range(0, len(part), self.size)]
            full = len(part) // self.size
            turns = rng.permutation(full) if self.lengths is not None and self.pool > 1 else np.arange(full)
            batches += [pieces[turn] for turn in turns] + pieces[full:]  # a short batch stays the last of its epoch
        return batches


def micro_batches(items: Sequence[T], length: Callable[[T], int], budget: int) -> list[tuple[T, ...]]:
    """Cut a batch into the fewest micro-batches within a budget of padded tokens, then make these about equal.

    Items are sorted by length; each is in exactly one micro-batch, the longest in the first. One that is longer than
    the budget runs alone.
    """
    ordered = sorted(items, key=length)
    lengths = [length(item) for item in ordered]
    ends = _ends(lengths, budget)
    low, high = 0, budget
    while high - low > 1:  # the smallest budget that needs no more of them
        middle = (low + high) // 2
        tried = _ends(lengths, middle)
        if len(tried) <= len(ends):
            ends, high = tried, middle
        else:
            low = middle
    return [tuple(ordered[begin:end]) for begin, end in zip([*ends[1:], 0], ends, strict=True)] if items else []


def _ends(lengths: Sequence[int], budget: int) -> list[int]:
    """Where each group of the ascending ``lengths`` ends, the longest group first."""
    ends, end = [], len(lengths)
    while end > 0:
        ends.append(end)
        end -= min(end, max(1, budget // max(1, lengths[end - 1])))
    return ends
