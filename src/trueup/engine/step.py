"""Stepper: losses in, one AdamW update out. Accumulation, clipping, schedule and the finite gate live here.

Reduction happens here and only here: a step's loss is (sum of weighted losses) / (global count), so the
result does not depend on how the batch was cut into micro-batches (property 32 and 33 of the trap list).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from trueup.config import Optim
from trueup.engine.device import Heap
from trueup.engine.placement import clip, full, like, put, sum_gradients
from trueup.engine.processes import Share, rank, share, summed, world
from trueup.errors import CheckpointError, NonFiniteError
from trueup.kernels.gradients import Gradients

T = TypeVar("T")


def schedule(optim: Optim, step: int, total: int) -> float:
    """Learning rate of update ``step`` (0-based) of ``total``: linear warm-up, then the chosen shape."""
    warm = math.ceil(optim.warmup * total)
    if step < warm:
        return optim.learning_rate * (step + 1) / warm
    if optim.schedule == "constant":
        return optim.learning_rate
    progress = (step - warm) / max(1, total - 1 - warm)
    shape = 1.0 - progress if optim.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return optim.learning_rate * (optim.final_fraction + (1.0 - optim.final_fraction) * shape)


class Stepper:
    """Owns the optimizer of one set of named parameters.

    Args:
        parameters: Trainable parameters by name; the names key the checkpoint.
        optim: Hyper-parameters.
        total: Number of updates of the whole run, for the schedule.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], optim: Optim, total: int) -> None:
        self.parameters = dict(parameters)
        self.optim = optim
        self.total = total
        self.updates = 0
        self.skipped = 0
        self._loss = 0.0
        self._bad = False
        self._copies = 1
        self._heap = Heap()
        plain = all(type(p.data) is torch.Tensor for p in self.parameters.values())  # shards come and go
        self._gradients = Gradients(self.parameters.values()) if plain else None
        groups = []
        for kind in sorted({type(p.data).__name__ for p in self.parameters.values()}):  # shards have their own kernels
            same = [p for p in self.parameters.values() if type(p.data).__name__ == kind]
            groups.append({"params": [p for p in same if p.ndim >= 2], "weight_decay": optim.weight_decay})
            groups.append({"params": [p for p in same if p.ndim < 2], "weight_decay": 0.0})
        self.optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=optim.learning_rate, betas=optim.betas, eps=optim.eps, fused=True
        )

    def share(self, items: Sequence[T], length: Callable[[T], int], budget: int) -> Share[T]:
        """The micro-batches of a step that this process computes; what follows is scaled to match."""
        micros = share(items, length, budget)
        self._copies = micros.copies
        return micros

    def accumulate(self, losses: torch.Tensor, *, count: float, weight: torch.Tensor | None = None) -> None:
        """Add the gradient of ``sum(weight * losses) / count`` of one micro-batch.

        Args:
            losses: Per example or per token, any shape; padding must already be zero.
            count: Examples or tokens of the *whole* step, over all micro-batches.
            weight: Same shape as ``losses``.
        """
        total = (losses if weight is None else losses * weight).sum() / (count * self._copies)
        value = float(total.detach())
        self._loss += value
        self._bad |= not math.isfinite(value)
        if math.isfinite(value) or world() > 1:  # the others are waiting for this backward pass
            with self._gradients.accumulating() if self._gradients is not None else nullcontext():
                total.backward()  # type: ignore[no-untyped-call]

    def step(self, ids: tuple[str, ...] = ()) -> dict[str, float]:
        """Clip, check, update. Returns ``loss``, ``grad_norm``, ``learning_rate``, ``skipped_steps``.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite and ``on_nonfinite`` is ``stop``. The
                optimizer and the weights are untouched; ``ids`` name the examples for study.
        """
        rate = schedule(self.optim, self.updates, self.total)
        sum_gradients(self.parameters)
        norm = clip(self.parameters, self.optim.max_grad_norm)
        loss, bad_ones = summed(self._loss, float(self._bad))
        bad = bad_ones > 0 or not math.isfinite(norm)
        self._loss, self._bad, self._copies = 0.0, False, 1
        if bad:
            self.optimizer.zero_grad(set_to_none=True)
            if self.optim.on_nonfinite == "stop":
                raise NonFiniteError(
                    f"update {self.updates}: loss {loss}, gradient norm {norm}; weights are untouched",
                    where=f"examples {', '.join(ids[:8])}{' ...' if len(ids) > 8 else ''}" if ids else None,
                    fix="lower the learning rate, look at these examples, or set optim.on_nonfinite=skip",
                )
            self.skipped += 1
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        self._heap.trim()
        self.updates += 1
        return {"loss": loss, "grad_norm": norm, "learning_rate": rate, "skipped_steps": float(self.skipped)}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights and optimizer moments by name, for a checkpoint.

        All processes must call it together; the first one gets them whole, the others get nothing.
        """
        tensors: dict[str, torch.Tensor] = {}

        def keep(name: str, tensor: torch.Tensor) -> None:
            value = full(tensor.detach())
            if rank() == 0:
                tensors[name] = value.cpu()

        for name, p in self.parameters.items():
            keep(f"param/{name}", p)
        for name, p in self.parameters.items():
            for key, value in self.optimizer.state.get(p, {}).items():
                keep(f"adam/{key}/{name}", value if torch.is_tensor(value) else torch.tensor(value))
        return tensors

    def state(self) -> dict[str, Any]:
        """Counters that go beside the tensors."""
        return {"updates": self.updates, "skipped": self.skipped}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Put back what ``tensors`` and ``state`` returned; a missing or foreign tensor is an error."""
        wanted = {f"param/{name}" for name in self.parameters}
        stored = {name for name in tensors if name.startswith("param/")}
        if wanted != stored:
            odd = sorted(wanted ^ stored)[:4]
            raise CheckpointError(
                f"the checkpoint's parameters differ from the model's: {', '.join(odd)}",
                fix="resume with the model and adapter settings the run was started with",
            )
        for name, p in self.parameters.items():
            put(p.data, tensors[f"param/{name}"])
            moments = {key.split("/", 2)[1]: value for key, value in tensors.items() if _is_moment_of(key, name)}
            if moments:
                self.optimizer.state[p] = {
                    key: value.clone() if key == "step" else like(p.data, value) for key, value in moments.items()
                }
        self.updates = int(state["updates"])
        self.skipped = int(state["skipped"])


def _is_moment_of(key: str, name: str) -> bool:
    parts = key.split("/", 2)
    return len(parts) == 3 and parts[0] == "adam" and parts[2] == name
