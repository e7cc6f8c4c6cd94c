"""The processes of one job: who takes which part of a batch, and how their numbers come together.

Started plainly, a job is one process and everything here is the identity. Started by ``torchrun`` it is several, and
each computes a share of every batch. Recipes never ask for a rank: they share out a batch, and gather or sum what
came of it. All processes know the whole batch, so the cut needs no message.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import torch
from torch import distributed
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from trueup.data.batch import micro_batches
from trueup.errors import ConfigError

T = TypeVar("T")
V = TypeVar("V")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others; the slowest thing between two messages is writing a checkpoint."""

PAUSE = 0.1
"""Seconds between the end of a process group and whatever follows, for its threads to come to rest."""

_JOBS = itertools.count()


def rank() -> int:
    """Number of this process, 0 for the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def joined() -> Iterator[None]:
    """Join the process group that ``torchrun`` describes in the environment; nothing to do for a single process.

    Raises:
        ConfigError: More processes on this machine than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise ConfigError(
                f"process {local + 1} of this machine has no GPU: there are {gpus}",
                where="torchrun --nproc-per-node",
                fix=f"start at most {gpus} processes, or hide the GPUs with CUDA_VISIBLE_DEVICES=''",
            )
        torch.cuda.set_device(local)
    _meet("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        _part()


def _part() -> None:
    distributed.destroy_process_group()
    # A thread of gloo lets go of a collective's tensors some time after that has returned. A process that by then is
    # shutting its interpreter down aborts (pytorch#179291): six exits of 400 on a crowded core, none after this pause.
    time.sleep(PAUSE)


def _meet(backend: str) -> None:
    # The store may hold the addresses of an earlier job of these processes, or of an attempt that died.
    store, number, count = next(iter(rendezvous("env://", timeout=PATIENCE)))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    fresh = PrefixStore(f"attempt {attempt} job {next(_JOBS)}", store)
    distributed.init_process_group(backend, store=fresh, rank=number, world_size=count, timeout=PATIENCE)


@dataclass(frozen=True, eq=False)
class Share(Generic[T]):
    """This process's micro-batches of a batch. Every process has the same number of them.

    ``copies`` is 1, or the number of processes when the batch had fewer items than that: then each computes all.
    """

    groups: tuple[tuple[T, ...], ...]
    copies: int

    def __iter__(self) -> Iterator[tuple[T, ...]]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def gather(self, values: Sequence[V]) -> list[V]:
        """What all processes found, in order of process; equal on all of them."""
        if self.copies > 1 or world() == 1:
            return list(values)
        return gathered(values)

    def sum(self, *values: float) -> tuple[float, ...]:
        """Sums over all processes, each item counted once."""
        return tuple(total / self.copies for total in summed(*values))


def share(items: Sequence[T], length: Callable[[T], int], budget: int) -> Share[T]:
    """Cut a batch into micro-batches of at most ``budget`` padded tokens and give this process its part.

    Among several processes the number of micro-batches is a multiple of theirs, so that collective operations inside
    a model meet; micro-batches that run at the same time hold about equally many tokens. With too few items for that,
    one may exceed the budget: choose a batch size that the number of processes divides.
    """
    processes = world()
    if processes == 1:
        return Share(tuple(micro_batches(items, length, budget)), 1)
    if len(items) < processes:
        return Share(tuple(micro_batches(items, length, budget)), processes)
    groups = _cut(items, length, budget, processes)
    groups.sort(key=lambda group: -sum(length(item) for item in group))
    own = []
    for turn in range(len(groups) // processes):
        place = rank() if turn % 2 == 0 else processes - 1 - rank()  # there and back evens out what each has to do
        own.append(groups[turn * processes + place])
    return Share(tuple(own), 1)


def _cut(items: Sequence[T], length: Callable[[T], int], budget: int, processes: int) -> list[tuple[T, ...]]:
    """Contiguous groups of the items in order of length: the smallest multiple of ``processes`` that fits."""
    ordered = sorted(items, key=length, reverse=True)
    most = len(ordered) // processes
    for turns in range(1, most + 1):
        groups = _even(ordered, length, turns * processes)
        if turns == most or all(len(group) * length(group[0]) <= budget for group in groups):
            return groups
    raise AssertionError("there are at least as many items as processes")


def _even(ordered: Sequence[T], length: Callable[[T], int], parts: int) -> list[tuple[T, ...]]:
    """``parts`` groups, none empty, each closed when it has its even share of the tokens that are left."""
    groups: list[tuple[T, ...]] = []
    left, begin = sum(length(item) for item in ordered), 0
    for part in range(parts, 0, -1):
        room, end, taken = len(ordered) - begin - (part - 1), begin, 0
        while end - begin < room and (end == begin or part == 1 or taken + length(ordered[end]) / 2 <= left / part):
            taken += length(ordered[end])
            end += 1
        groups.append(tuple(ordered[begin:end]))
        left -= taken
        begin = end
    return groups


def barrier() -> None:
    """Wait until all processes are here."""
    if world() > 1:
        distributed.barrier()


def gathered(values: Sequence[V]) -> list[V]:
    """The lists of all processes, one after the other."""
    if world() == 1:
        return list(values)
    parts: list[Any] = [None] * world()
    distributed.all_gather_object(parts, list(values))
    return [value for part in parts for value in part]


def from_first(work: Callable[[], V]) -> V:
    """What ``work`` gives in the first process, in all of them; no other does it, and all raise its error."""
    if world() == 1:
        return work()
    result: V | Exception | None = None
    if rank() == 0:
        try:
            result = work()
        except Exception as error:  # the others wait for an answer
            result = error
    first = gathered([result])[0]
    if isinstance(first, Exception):
        raise first
    return first  # type: ignore[return-value]


def summed(*values: float) -> tuple[float, ...]:
    """Each value summed over all processes."""
    if world() == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(sums)
    return tuple(sums.tolist())


def highest(value: float) -> float:
    """The largest value of all processes."""
    if world() == 1:
        return value
    maximum = torch.tensor([value], dtype=torch.float64)
    distributed.all_reduce(maximum, op=distributed.ReduceOp.MAX)
    return float(maximum)


def everywhere(fact: bool) -> bool:
    """Whether ``fact`` holds in all processes."""
    return highest(float(not fact)) == 0.0
