"""Scalar heads: a value head on the policy's trunk, and reward models.

Shapes: B rows, T positions, D width.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trueup.config import Model
from trueup.errors import ModelError
from trueup.ledger import write_json
from trueup.models.load import load_classifier, load_tokenizer, resolve_device
from trueup.models.merge import whole_weights
from trueup.models.trunk import Trunk
from trueup.seeds import derive

SCALE_FILE = "trueup_reward.json"


class ValueHead(nn.Module):
    """Expected return from the state *before* a token; starts at zero so that early advantages are the returns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[..., D] -> [...]`` in float32 or wider."""
        wide = hidden if hidden.dtype is torch.float64 else hidden.float()
        return self.linear(wide).squeeze(-1)  # type: ignore[no-any-return]


@dataclass(eq=False)
class RewardModel:
    """A sequence classifier with one output, read at the last real token.

    ``mean`` and ``std`` are those of raw rewards on reference responses, so that ``score`` is centred
    and in units that do not depend on the training run (Stiennon et al. 2020, Ziegler et al. 2019).
    """

    model: Any
    tokenizer: Any
    device: torch.device
    compute: torch.dtype
    source: str
    mean: float = 0.0
    std: float = 1.0
    trunk: Trunk = field(init=False)

    def __post_init__(self) -> None:
        self.trunk = Trunk(self.model, self.model.base_model, self.device, self.compute, self.source)

    @property
    def context(self) -> int | None:
        """Longest sequence the positions allow, or None if the config does not say."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return int(limit) if limit else None

    def read(self, last_BD: torch.Tensor) -> torch.Tensor:
        """Raw rewards [B] of the trunk's states at each last token (the EOS of a finished response)."""
        wide_BD = last_BD if last_BD.dtype is torch.float64 else last_BD.float()
        return head_of(self.model)(wide_BD).squeeze(-1)  # type: ignore[no-any-return]

    def scale(self, raw_B: torch.Tensor) -> torch.Tensor:
        """Centred, scaled rewards."""
        return (raw_B - self.mean) / self.std

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that receive gradients, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def export(self, path: Path) -> None:
        """Write a directory that ``AutoModelForSequenceClassification`` opens, plus the scale."""
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self.model.save_pretrained(path, state_dict=whole_weights(self.model))
        self.tokenizer.save_pretrained(path)
        write_json(path / SCALE_FILE, {"mean": self.mean, "std": self.std})


def head_of(model: Any) -> nn.Module:
    """The one-output linear layer of a sequence classifier (``score`` in decoders)."""
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear `score` head",
            expected="a decoder such as GPT-2, Llama, Qwen, Mistral or Gemma",
            where=str(getattr(model.config, "_name_or_path", "")),
        )
    return head


def open_reward_model(config: Model, *, new_head: bool, seed: int = 0) -> RewardModel:
    """Open a reward model.

    Args:
        config: Name or path, precision, device. ``tiny`` is refused: start from a trained (SFT) model.
        new_head: True to train one: the head is drawn from N(0, 1/(D+1)) (Stiennon et al. 2020).
            False to use one, which is then frozen: the directory must have been written by ``RewardModel.export``.
    """
    if config.name == "tiny":
        raise ModelError(
            "a reward model needs a trained backbone",
            where="model.name",
            fix="train one first: trueup sft --out runs/sft, then --model runs/sft/final",
        )
    scale_file = Path(config.name) / SCALE_FILE
    if not new_head and not scale_file.is_file():
        raise ModelError(
            f"no {SCALE_FILE} here", where=config.name, expected="a reward model trained by `trueup reward`"
        )
    tokenizer = load_tokenizer(config.name, trust_remote_code=config.trust_remote_code)
    model = load_classifier(config.name, trust_remote_code=config.trust_remote_code)
    model.eval()
    head = head_of(model)
    if new_head:
        assert isinstance(head, nn.Linear)
        generator = torch.Generator().manual_seed(derive(seed, "reward head"))
        with torch.no_grad():
            head.weight.normal_(0.0, (1.0 / (head.in_features + 1)) ** 0.5, generator=generator)
            if head.bias is not None:
                head.bias.zero_()
    device = resolve_device(config.device)
    model.to(device)
    compute = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    scale = {"mean": 0.0, "std": 1.0} if new_head else json.loads(scale_file.read_text())
    opened = RewardModel(model, tokenizer, device, compute, config.name, mean=scale["mean"], std=scale["std"])
    if config.gradient_checkpointing:
        opened.trunk.checkpoint_blocks()
    if not new_head:
        opened.trunk.freeze()
    return opened
