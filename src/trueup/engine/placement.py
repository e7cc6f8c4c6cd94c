"""Where a model's weights live among the processes of a job, and how to have them whole again.

``ddp``: every process holds all weights; gradients are summed once a step. ``fsdp2``: the transformer blocks, where
nearly all weights are, are sharded by ``torch.distributed.fsdp.fully_shard`` and gathered block by block as they run;
embeddings, final norm and heads stay whole in every process, because the head reads its weight by itself
(``engine.head``) and a tied weight belongs to both ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from trueup.engine.checkpoint import system_error
from trueup.engine.processes import barrier, rank, world
from trueup.errors import ModelError
from trueup.ledger import Run, storage_error, whole_folder
from trueup.ledger.card import CARD, LICENCE, Base, ModelKind, model_card
from trueup.models.adapter_files import has_adapter
from trueup.models.heads import RewardModel
from trueup.models.lineage import lineage
from trueup.models.merge import check_saving
from trueup.models.policy import Policy, Reference
from trueup.models.rendering import Rendering

BUCKET = 1 << 23
"""Elements of gradient that travel in one message."""


def place(model: Policy | RewardModel, engine: str) -> None:
    """Spread an opened model over the processes of the job; call it before anything keeps its parameters.

    Raises:
        ModelError: ``fsdp2``, and the blocks of the model cannot be found.
    """
    if engine != "fsdp2" or world() == 1:
        return
    body = model.trunk.body
    blocks = _blocks(body, model.source)
    for block in blocks:
        _sum_gradients(fully_shard(block))
    # The root only schedules; what is outside the blocks is replicated.
    _sum_gradients(fully_shard(body, ignored_params={p for p in body.parameters() if not _sharded(p)}))


def place_both(policy: Policy, reference: Reference, engine: str) -> None:
    """Spread a policy and its reference, which with adapters is the policy's own base, once its weights were hashed."""
    place(policy, engine)
    if reference.policy is not policy:
        place(reference.policy, engine)


def _sum_gradients(module: Any) -> None:
    # A step's loss is divided by its global count before backward, so gradients are summed, never averaged.
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)


def _blocks(body: nn.Module, source: str) -> list[nn.Module]:
    for name in ("layers", "h", "blocks"):
        blocks = getattr(body, name, None)
        if isinstance(blocks, nn.ModuleList) and len(blocks):
            return list(blocks)
    raise ModelError(
        f"{type(body).__name__} has no list of blocks under `layers`, `h` or `blocks`",
        where=source,
        fix="train it with model.engine=ddp",
    )


def _sharded(tensor: Any) -> bool:
    return isinstance(tensor, DTensor)


@contextmanager
def whole(model: Any) -> Iterator[None]:
    """All weights of a sharded model in this process, as ordinary tensors, until the block ends.

    Inside, a forward pass needs no other process, so each may take as many as it likes.
    """
    shards = [m for m in model.modules() if isinstance(m, FSDPModule)]
    for module in shards:
        module.unshard()
        module.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for module in shards:
            module.set_reshard_after_forward(True, recurse=False)
            module.reshard()


def full(tensor: torch.Tensor) -> torch.Tensor:
    """A parameter or moment with all its elements; every process must ask for the same ones in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def put(target: torch.Tensor, value: torch.Tensor) -> None:
    """Copy ``value``, which is whole, into ``target``, which may be a shard."""
    target.copy_(like(target, value))


def like(target: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """``value`` placed as ``target`` is, sharing no memory with it."""
    if isinstance(target, DTensor):
        whole_value = value.to(target.device)
        return distribute_tensor(whole_value, target.device_mesh, target.placements, src_data_rank=None)
    return value.to(target.device, copy=True)


def sum_gradients(parameters: Mapping[str, nn.Parameter]) -> None:
    """Sum the gradients of replicated parameters over all processes; shards were summed as they were made."""
    if world() == 1:
        return
    waiting: list[torch.Tensor] = []
    for p in parameters.values():
        if p.grad is None or _sharded(p):
            continue
        waiting.append(p.grad)
        if sum(g.numel() for g in waiting) >= BUCKET:
            _reduce(waiting)
            waiting = []
    _reduce(waiting)


def _reduce(gradients: list[torch.Tensor]) -> None:
    if not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    begin = 0
    for g in gradients:
        g.copy_(flat[begin : begin + g.numel()].view_as(g))
        begin += g.numel()


def clip(parameters: Mapping[str, nn.Parameter], limit: float) -> float:
    """Scale all gradients so that their norm over all weights is at most ``limit``; returns the norm before."""
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    if not any(_sharded(g) for g in gradients):
        return float(torch.nn.utils.clip_grad_norm_(list(parameters.values()), limit))
    local = torch.zeros((), dtype=torch.float64)
    for g in gradients:
        if isinstance(g, DTensor):
            local += g.to_local().double().square().sum().cpu()
    distributed.all_reduce(local)
    local += sum(g.double().square().sum().cpu() for g in gradients if not _sharded(g))
    norm = float(local.sqrt())
    if norm > limit:
        scale = limit / (norm + 1e-6)
        for g in gradients:
            (g.to_local() if isinstance(g, DTensor) else g).mul_(scale)
    return norm


def check_export(model: Policy | RewardModel, path: Path) -> None:
    """Refuse before the first step what would only fail when the trained model is written to ``path``.

    Raises:
        ModelError, RunError: As ``models.merge.check_saving``.
    """
    if rank() == 0:
        check_saving(model.plain, model.tokenizer, path)


def export(model: Policy | RewardModel, run: Run, rendering: Rendering) -> None:
    """Write the trained model once, from whole weights, for all processes: ``final/``, and ``adapter/`` beside it.

    ``final/`` is complete for others: weights with adapters merged, tokenizer with the template of training,
    generation settings, model card and licence. ``adapter/`` is what a run with LoRA learned, as PEFT has it. Each
    folder is there whole or not at all, also after a kill or a power cut; ``final/`` comes last.

    Args:
        model: What was trained.
        run: Its record and logs go into the card.
        rendering: How its training examples were rendered.

    Raises:
        RunError: The disk refuses.
    """
    with whole(model.model):
        if rank() == 0:
            path = run.path / "final"
            try:
                base = lineage(model.source)
                if has_adapter(model.plain):
                    path = run.path / "adapter"
                    with whole_folder(path) as folder:
                        model.export_adapter(folder, rendering)
                        _describe(model, run, base, folder, rendering, adapter=True)
                path = run.path / "final"
                with whole_folder(path) as folder:
                    model.export(folder, rendering)
                    _describe(model, run, base, folder, rendering)
            except (OSError, SafetensorError) as error:
                what = "all steps are done, but the model cannot be written"
                raise storage_error(system_error(error), what, path) from error
    barrier()


def _describe(
    model: Policy | RewardModel, run: Run, base: Base, folder: Path, rendering: Rendering, *, adapter: bool = False
) -> None:
    """Add the model card and the base's licence."""
    kind = ModelKind(
        reward=isinstance(model, RewardModel),
        adapter=adapter,
        chats=rendering.chats,
        context=model.context,
        parameters=sum(p.numel() for name, p in model.plain.named_parameters() if ".lora_" not in name),
    )
    (folder / CARD).write_text(model_card(run.path, run.record, base, kind), encoding="utf-8", errors="replace")
    if base.licence_text is not None:
        (folder / LICENCE).write_bytes(base.licence_text)
