"""GELU in fewer passes over memory.

Hugging Face spells GPT-2's activation out as tanh, pow and products; PyTorch has it as one kernel. On the CPU the
result is computed again in the backward pass (``kernels.recompute``), not kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.activations import ACT2FN

from trueup.kernels.elementwise import gelu
from trueup.kernels.recompute import tag_recompute


class RecomputedGELU(nn.GELU):
    """``nn.GELU`` whose result a linear layer need not keep."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``[..., D] -> [..., D]``."""
        if self.approximate == "tanh":
            return gelu(input)
        return tag_recompute(functional.gelu(input), functional.gelu, input)


def use_fast_activations(model: Any) -> int:
    """Replace activation modules that PyTorch has a kernel for, in place. Returns how many were replaced.

    Those of a model on the CPU can also be recomputed.
    """
    spelled_out = {type(ACT2FN["gelu_new"]), type(ACT2FN["gelu_fast"])}
    exact = type(ACT2FN["gelu"])
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    kind = RecomputedGELU if on_cpu else nn.GELU
    count = 0
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) in spelled_out:
                setattr(module, name, kind(approximate="tanh").train(child.training))
            elif type(child) is exact and child.act is functional.gelu:
                setattr(module, name, kind().train(child.training))
            elif type(child) is nn.GELU and on_cpu:
                child.__class__ = RecomputedGELU
            else:
                continue
            count += 1
    return count
