"""Policies and references: one causal language model, opened once, checked, and asked for logits.

Shapes: B rows, T positions, N gathered positions, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trueup.config import Lora, Model
from trueup.errors import ModelError
from trueup.models.fingerprint import fingerprint
from trueup.models.load import load_causal_lm, load_tokenizer, resolve_device
from trueup.models.merge import whole_weights
from trueup.models.tiny import new_tiny
from trueup.models.trunk import Trunk

log = logging.getLogger("trueup.models")


@dataclass(eq=False)
class Policy:
    """A causal language model with its tokenizer, device and compute precision.

    ``gathers`` says whether the trunk and head can be used apart (the LM head then runs only at
    the positions that are asked for); the self-check at opening decides.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    compute: torch.dtype
    source: str
    adapters: bool = False
    gathers: bool = field(default=False, init=False)
    trunk: Trunk = field(init=False)
    decodes: bool | None = field(default=None, init=False)
    """Whether the fast decoder gives this model's logits; found out at the first sampling."""

    def __post_init__(self) -> None:
        self.model.eval()
        plain = self.model.get_base_model() if self.adapters else self.model
        self.trunk = Trunk(plain, plain.base_model, self.device, self.compute, self.source)
        self.gathers = self._trunk_and_head_agree()
        if not self.gathers:
            log.warning("%s: the LM head cannot be run apart from the trunk; full logits are computed", self.source)

    @property
    def plain_head(self) -> nn.Linear | None:
        """The output layer, where logits are nothing but ``hidden @ weight.T + bias``; else None."""
        layer = self.model.get_output_embeddings()
        capped = getattr(self.model.config, "final_logit_softcapping", None)
        return layer if self.gathers and type(layer) is nn.Linear and not capped else None

    @property
    def vocabulary(self) -> int:
        """Number of rows of the output head, V."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @property
    def context(self) -> int | None:
        """Longest sequence the positions allow, or None if the config does not say."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return int(limit) if limit else None

    def head(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Logits [N, V] in float32 (float64 for a float64 model) of hidden states."""
        with self.trunk.precision():
            logits_NV: torch.Tensor = self.model.get_output_embeddings()(hidden_ND)
        wide_NV = logits_NV if logits_NV.dtype is torch.float64 else logits_NV.float()
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return torch.tanh(wide_NV / cap) * cap if cap else wide_NV

    def full_logits(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Logits [B, T, V] by the model's own forward pass."""
        with self.trunk.precision():
            logits_BTV: torch.Tensor = self.model(input_ids=ids_BT, use_cache=False).logits
        return logits_BTV if logits_BTV.dtype is torch.float64 else logits_BTV.float()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that receive gradients, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def fingerprint(self) -> str:
        """Content hash of all weights."""
        return fingerprint(self.model.state_dict().items())

    def export(self, path: Path) -> None:
        """Write a directory that ``AutoModelForCausalLM.from_pretrained`` opens; adapters are merged into it."""
        plain = self.model.get_base_model() if self.adapters else self.model
        plain.save_pretrained(path, state_dict=whole_weights(plain))
        self.tokenizer.save_pretrained(path)

    @torch.no_grad()
    def _trunk_and_head_agree(self) -> bool:
        generator = torch.Generator().manual_seed(0)
        ids_BT = torch.randint(0, self.vocabulary, (1, 5), generator=generator).to(self.device)
        try:
            apart_TV = self.head(self.trunk.rows(ids_BT)[0])
        except (TypeError, AttributeError, RuntimeError):
            return False
        whole_TV = self.full_logits(ids_BT)[0]
        scale = whole_TV.abs().max().clamp(min=1.0)
        tolerance = 1e-5 if self.compute is torch.float32 else 2e-2
        return apart_TV.shape == whole_TV.shape and bool(((apart_TV - whole_TV).abs().max() / scale) < tolerance)


@dataclass(eq=False)
class Reference:
    """The fixed distribution that KL and DPO measure from. Frozen; its fingerprint is pinned in the run.

    With LoRA it is the policy's own weights with adapters off, which costs no memory.
    """

    policy: Policy
    adapters_off: bool
    fingerprint: str

    @contextlib.contextmanager
    def active(self) -> Iterator[Policy]:
        """The underlying model, without gradients and with adapters off where it has any."""
        off = self.policy.model.disable_adapter() if self.adapters_off else contextlib.nullcontext()
        with torch.no_grad(), off:
            yield self.policy


def open_policy(config: Model, *, texts: list[str] | None = None, seed: int = 0, frozen: bool = False) -> Policy:
    """Open a model that will be trained, or ``frozen`` one that is only asked.

    Args:
        config: Name or path, precision, device, adapters.
        texts: Only for ``tiny``: the texts from which the tokenizer is learned.
        seed: Only for ``tiny`` and adapters: seeds the new weights.
        frozen: No gradients, and less memory (``Trunk.freeze``).
    """
    device = resolve_device(config.device)
    if config.name == "tiny":
        if not texts:
            raise ModelError("a tiny model needs texts to learn its tokenizer from", where="model.name")
        model, tokenizer = new_tiny(config.tiny, texts, seed)
    else:
        model = load_causal_lm(config)
        tokenizer = load_tokenizer(config.name, trust_remote_code=config.trust_remote_code)
    _require_same_vocabulary(model, tokenizer, config.name)
    if config.lora is not None:
        model = _with_adapters(model, config.lora, seed)
    model.to(device)
    compute = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    policy = Policy(model, tokenizer, device, compute, source=config.name, adapters=config.lora is not None)
    if config.gradient_checkpointing:
        policy.trunk.checkpoint_blocks()
    if frozen:
        policy.trunk.freeze()
    return policy


def open_reference(config: Model, *, policy: Policy | None = None, pinned: str | None = None) -> Reference:
    """Open the fixed reference.

    Args:
        config: Where the reference weights come from. ``tiny`` is refused: a new random model is no reference.
        policy: With adapters, the policy whose base weights are the reference.
        pinned: The fingerprint this run was started with, if it is being resumed.

    Raises:
        ModelError: the weights are not the ones the run was started with.
    """
    if config.name == "tiny":
        raise ModelError(
            "a new random-init model cannot be the reference",
            where="model.name",
            expected="the path or name of a trained model",
            fix="train one first: trueup sft --out runs/sft, then --model runs/sft/final",
        )
    if policy is not None and policy.adapters:
        base = {n: t for n, t in policy.model.state_dict().items() if "lora_" not in n}
        reference = Reference(policy, adapters_off=True, fingerprint=fingerprint(base.items()))
    else:
        frozen = open_policy(config.model_copy(update={"lora": None, "gradient_checkpointing": False}))
        reference = Reference(frozen, adapters_off=False, fingerprint=frozen.fingerprint())
        frozen.trunk.freeze()
    if pinned is not None and pinned != reference.fingerprint:
        raise ModelError(
            f"the reference changed: the run was started with {pinned}, {config.name} now is {reference.fingerprint}",
            where="reference",
            fix="restore the weights the run was started with, or start a new run",
        )
    return reference


def _with_adapters(model: Any, lora: Lora, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(
            model,
            LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )


def _require_same_vocabulary(model: Any, tokenizer: Any, name: str) -> None:
    rows = int(model.get_input_embeddings().weight.shape[0])
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens, the model embeds {rows}",
            where=name,
            fix="use the tokenizer that belongs to the model, or resize its embeddings once and save it",
        )
