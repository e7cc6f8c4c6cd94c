"""The adapter that a run learned, as a directory that PEFT opens over the base that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from trueup.ledger import write_json
from trueup.models.files import ADAPTER, ADAPTER_WEIGHTS

PREFIX = "base_model.model."
"""Of every name in an adapter's file, before the name in its base."""


def has_adapter(model: Any) -> bool:
    """Whether a model of transformers has LoRA layers inside."""
    return any(".lora_A." in name for name, _ in model.named_parameters())


@torch.no_grad()
def save_adapter(model: Any, path: Path, *, base: str, head: str | None = None) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` into ``path``.

    Args:
        model: The model with LoRA layers inside, all of its weights whole.
        path: A directory that is there.
        base: Name or directory of the model that the adapter changes, as the settings name it.
        head: Name of a module that learned beside the adapter, all of it: a reward model's score head.
    """
    weights: dict[str, torch.Tensor] = {}
    for name, p in model.named_parameters():
        beside = head is not None and name.startswith(f"{head}.")
        if ".lora_" in name or beside:
            weights[PREFIX + name.replace(".default.", ".")] = p.detach().cpu().contiguous()
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": base, "inference_mode": True}
    if head is not None:
        config["modules_to_save"] = [head]
    save_file(weights, path / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    write_json(path / ADAPTER, {key: _plain(value) for key, value in sorted(config.items())})


def _plain(value: Any) -> Any:
    """What JSON has: sets in order, kinds by their value."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return getattr(value, "value", value)
