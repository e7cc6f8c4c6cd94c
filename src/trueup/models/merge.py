"""The weights of a model as they are saved: adapters merged, nothing copied that need not be."""

from __future__ import annotations

from typing import Any

import torch


@torch.no_grad()
def whole_weights(model: Any) -> dict[str, torch.Tensor]:
    """Weights and saved buffers by the names of the plain architecture.

    With LoRA layers inside, each weight is ``W + scale * B A`` (Hu et al. 2022, section 4.1). Read from the parameters
    themselves, not by ``state_dict()``, whose hooks may hand out shards.
    """
    found: dict[str, torch.Tensor] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        if ".lora_" not in name:
            found[name.replace(".base_layer.", ".")] = p.detach()
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            for adapter in module.active_adapters:
                key = f"{name}.weight"
                found[key] = found[key] + module.get_delta_weight(adapter).to(found[key].dtype)
        else:
            saved = dict(module.named_buffers(recurse=False))
            for key in saved.keys() - module._non_persistent_buffers_set:
                found[f"{name}.{key}" if name else key] = saved[key]
    return found
