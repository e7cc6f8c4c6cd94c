"""The weights of a model as they are saved: adapters merged, nothing copied that need not be."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from trueup.errors import ModelError, RunError


@torch.no_grad()
def whole_weights(model: Any) -> dict[str, torch.Tensor]:
    """Weights and saved buffers by the names of the plain architecture.

    With LoRA layers inside, each weight is ``W + scale * B A`` (Hu et al. 2022, section 4.1). Read from the parameters
    themselves, not by ``state_dict()``, whose hooks may hand out shards.
    """
    weights: dict[str, torch.Tensor] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        if ".lora_" not in name:
            weights[name.replace(".base_layer.", ".")] = p.detach()
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            for adapter in module.active_adapters:
                key = f"{name}.weight"
                weights[key] = weights[key] + module.get_delta_weight(adapter).to(weights[key].dtype)
        else:
            saved = dict(module.named_buffers(recurse=False))
            for key in saved.keys() - module._non_persistent_buffers_set:
                weights[f"{name}.{key}" if name else key] = saved[key]
    return weights


def check_saving(model: Any, tokenizer: Any, path: Path) -> None:
    """Whether the model can be written to ``path`` once it is trained: without its weights, that is tried.

    Raises:
        ModelError: The tokenizer, the config or the generation settings cannot be written, or weights share memory in
            a way that the files cannot hold.
        RunError: The place is taken, not to be written to, or too small.
    """
    if path.exists() and not path.is_dir():
        raise RunError("a file stands where the model will be written", where=str(path), fix="move it, or set --out")
    parent = next(p for p in (path, *path.parents) if p.is_dir())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunError("the model cannot be written here: no permission", where=str(parent), fix="set --out")
    weights = {n: p for n, p in model.named_parameters(remove_duplicate=False) if ".lora_" not in n}
    size = sum(tensor.numel() * tensor.element_size() for tensor in {id(t): t for t in weights.values()}.values())
    free = shutil.disk_usage(parent).free
    if free < size:
        raise RunError(
            f"the trained model takes {size / 2**30:.1f} GB, and {free / 2**30:.1f} GB are free",
            where=str(parent),
            fix="make room there, or set --out to another disk",
        )
    _check_shared(model, weights)
    with tempfile.TemporaryDirectory(prefix="trueup-export-") as folder:
        for part in (model.config, getattr(model, "generation_config", None), tokenizer):
            if part is None:
                continue
            try:
                part.save_pretrained(folder)
            except Exception as error:  # whatever a tokenizer or config of any origin raises
                raise ModelError(
                    f"its {type(part).__name__} cannot be saved: {str(error).strip() or type(error).__name__}",
                    where=str(getattr(model.config, "_name_or_path", "")),
                    fix="mend the file that it was read from: training would end with a model that cannot be written",
                ) from error


def _check_shared(model: Any, weights: dict[str, torch.Tensor]) -> None:
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    declared, seen = {*tied, *tied.values()}, dict[int, str]()
    for name, tensor in weights.items():
        other = seen.setdefault(tensor.data_ptr(), name)
        if tensor.numel() and other != name and not {name, other} <= declared:
            raise ModelError(
                f"the weights {other} and {name} share memory, and {type(model).__name__} does not declare them tied",
                where=str(getattr(model.config, "_name_or_path", "")),
                fix="save the model once with copies of its own for each",
            )
