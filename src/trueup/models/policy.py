"""Policies and references: one causal language model, opened once, checked, and asked for logits.

Shapes: B rows, T positions, N gathered positions, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from trueup.config import Model
from trueup.errors import ModelError
from trueup.kernels.door import TOLERANCE
from trueup.models.adapter import with_adapters
from trueup.models.adapter_files import save_adapter
from trueup.models.failures import clear_errors, quiet
from trueup.models.fingerprint import fingerprint
from trueup.models.load import load_causal_lm, load_tokenizer, resolve_device
from trueup.models.merge import whole_weights
from trueup.models.rendering import Rendering, complete_generation, end_ids_of, save_tokenizer
from trueup.models.tiny import new_tiny
from trueup.models.tokens import require_embedded
from trueup.models.trunk import Trunk, accepted

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
    only: str | tuple[str, ...] = "auto"
    """The kernels that are wanted (``model.kernels``); ``trunk.kernels`` are those in use."""
    gathers: bool = field(default=False, init=False)
    vocabulary: int = field(init=False)
    """Number of logits of each position, V."""
    trunk: Trunk = field(init=False)
    decodes: bool | None = field(default=None, init=False)
    """Whether the fast decoder gives this model's logits; found out at the first sampling."""
    caches: bool | None = field(default=None, init=False)
    """Whether the model's own cache does; found out likewise."""

    def __post_init__(self) -> None:
        self.model.eval()
        plain = self.plain
        self._quiet = accepted(plain, use_cache=False)
        ids_BT = torch.randint(0, _rows(plain), (1, 5), generator=torch.Generator().manual_seed(0)).to(self.device)
        with clear_errors(self.source), torch.no_grad():
            whole_TV = self.model(input_ids=ids_BT, **self._quiet).logits[0]  # before any layer of it is replaced
        self.vocabulary = int(whole_TV.shape[-1])
        self.trunk = Trunk(plain, _body(plain), self.device, self.compute, self.source, self.only)
        self.gathers = self._trunk_and_head_agree(ids_BT, whole_TV)
        if not self.gathers:
            log.warning("%s: the LM head cannot be run apart from the trunk; full logits are computed", self.source)
            self.trunk.batches = self.trunk.batches and self.trunk.batch_as(self.full_logits)

    @property
    def plain(self) -> Any:
        """The model as transformers has it, without the object that holds its adapters."""
        return self.model.get_base_model() if self.adapters else self.model

    @property
    def linear_head(self) -> nn.Linear | None:
        """The output layer, where logits are nothing but ``hidden @ weight.T + bias`` and its kernel is in use."""
        layer = self.model.get_output_embeddings()
        linear = self.gathers and type(layer) is nn.Linear and not self._cap
        return layer if linear and "head" in self.trunk.kernels else None

    @property
    def _cap(self) -> float | None:
        return getattr(self.plain.config.get_text_config(), "final_logit_softcapping", None)

    @property
    def context(self) -> int | None:
        """Longest sequence the positions allow, or None if the config does not say."""
        return self.trunk.context

    def head(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Logits [N, V] in float32 (float64 for a float64 model) of hidden states."""
        with self.trunk.precision():
            logits_NV: torch.Tensor = self.model.get_output_embeddings()(hidden_ND)
        wide_NV = logits_NV if logits_NV.dtype is torch.float64 else logits_NV.float()
        return torch.tanh(wide_NV / self._cap) * self._cap if self._cap else wide_NV

    def full_logits(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Logits [B, T, V] by the model's own forward pass."""
        self.trunk.reset_rotary()
        with self.trunk.precision():
            logits_BTV: torch.Tensor = self.model(input_ids=ids_BT, **self._quiet).logits
        return logits_BTV if logits_BTV.dtype is torch.float64 else logits_BTV.float()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that receive gradients, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def fingerprint(self) -> str:
        """Content hash of all weights."""
        return fingerprint(self.model.state_dict().items())

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer, as the model's own generation settings name them."""
        return end_ids_of(self.plain)

    def export(self, path: Path, rendering: Rendering | None = None) -> None:
        """Write a directory that ``AutoModelForCausalLM.from_pretrained`` opens; adapters are merged into it.

        Args:
            path: The directory.
            rendering: How the training examples were rendered: the template and the end tokens travel along.
        """
        with quiet():
            self.plain.save_pretrained(path, state_dict=whole_weights(self.plain))
        complete_generation(self.plain, self.tokenizer, rendering, path)
        save_tokenizer(self.tokenizer, path, rendering)

    def export_adapter(self, path: Path, rendering: Rendering | None = None) -> None:
        """Write the adapters alone into a directory, as PEFT has them, with the tokenizer of training."""
        save_adapter(self.plain, path, base=self.source)
        save_tokenizer(self.tokenizer, path, rendering)

    @torch.no_grad()
    def _trunk_and_head_agree(self, ids_BT: torch.Tensor, whole_TV: torch.Tensor) -> bool:
        try:
            hidden_TD = self.trunk.body(input_ids=ids_BT, **self.trunk.quiet).last_hidden_state[0]
            apart_TV = self.model.get_output_embeddings()(hidden_TD)
            cap = self._cap
            apart_TV = torch.tanh(apart_TV / cap) * cap if cap else apart_TV
        except Exception as error:  # whatever a model of any origin raises
            log.info("%s: its head does not run apart (%s)", self.source, error)
            return False
        scale = whole_TV.abs().max().clamp(min=1e-6)
        return apart_TV.shape == whole_TV.shape and bool(((apart_TV - whole_TV).abs().max() / scale) < TOLERANCE)


class _Whole(nn.Module):
    """Hidden states of a model whose trunk is not to be had apart from its head."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> Any:
        """The output of the trunk, by the name that trunks give it."""
        output = self.model(input_ids=input_ids, output_hidden_states=True, **accepted(self.model, use_cache=False))
        states = output.hidden_states
        return SimpleNamespace(last_hidden_state=output.logits if not states else states[-1])


def _body(model: Any) -> Any:
    """What is below the head: the model's own trunk, if it runs by itself."""
    body = getattr(model, "base_model", None)
    if body is not None and body is not model:
        try:
            with torch.no_grad():
                ids_BT = torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device)
                state = body(input_ids=ids_BT, **accepted(body, use_cache=False)).last_hidden_state
            if isinstance(state, torch.Tensor) and state.ndim == 3:
                return body
        except Exception as error:
            log.info("%s does not run without its head (%s)", type(body).__name__, error)
    return _Whole(model)


def _rows(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


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
    policy = _opened(config, texts, seed)
    if frozen:
        policy.trunk.freeze()
    else:
        policy.trunk.require_gradients()
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
        frozen = _opened(config.model_copy(update={"lora": None, "gradient_checkpointing": False}), None, 0)
        reference = Reference(frozen, adapters_off=False, fingerprint=frozen.fingerprint())
        frozen.trunk.freeze()
    if pinned is not None and pinned != reference.fingerprint:
        raise ModelError(
            f"the reference changed: the run was started with {pinned}, {config.name} now is {reference.fingerprint}",
            where="reference",
            fix="restore the weights the run was started with, or start a new run",
        )
    return reference


def _opened(config: Model, texts: list[str] | None, seed: int) -> Policy:
    device = resolve_device(config.device)
    if config.name == "tiny":
        if not texts:
            raise ModelError("a tiny model needs texts to learn its tokenizer from", where="model.name")
        model, tokenizer = new_tiny(config.tiny, texts, seed)
    else:
        model = load_causal_lm(config)
        tokenizer = load_tokenizer(config.name, trust_remote_code=config.trust_remote_code)
    require_embedded(model, tokenizer, config.name)
    if config.lora is not None:
        model = with_adapters(model, config.lora, seed)
    model.to(device)
    compute = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    adapters = config.lora is not None
    policy = Policy(model, tokenizer, device, compute, source=config.name, adapters=adapters, only=config.kernels)
    if config.gradient_checkpointing:
        policy.trunk.checkpoint_blocks()
    return policy
