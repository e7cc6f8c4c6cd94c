"""Reward models that are adapters of one backbone: the backbone is held once, and each answers with its own adapter.

Elsewhere an adapter is merged into its base, which gives each a backbone of its own. Here the adapters stay beside the
weights and one is on at a time, so scores agree with the merged ones to rounding.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trueup.config import Model
from trueup.errors import ModelError
from trueup.models.adapter import PREFIX
from trueup.models.failures import clear_errors
from trueup.models.files import ADAPTER_WEIGHTS, Folder, header, look
from trueup.models.heads import RewardModel, card_of, output_of
from trueup.models.load import HEAD, load_classifier, load_tokenizer, resolve_device
from trueup.models.tokens import require_embedded


def shared_base(name: str) -> str | None:
    """The base of a reward model's LoRA adapter that can stay beside others; None for whatever else ``name`` is.

    Raises:
        ModelError: ``name`` is a path and there is no model that can be opened.
    """
    folder = look(name)
    if folder is None or folder.adapter is None or not folder.is_reward_model:
        return None
    names = header(folder.path / ADAPTER_WEIGHTS)
    plain = all(".lora_A." in one or ".lora_B." in one or one.startswith(PREFIX + HEAD) for one in names)
    lora = folder.adapter.get("peft_type") == "LORA" and not folder.adapter.get("revision")
    return folder.base if lora and plain and PREFIX + HEAD + "weight" in names else None


@dataclass(eq=False)
class Backbone:
    """One model with several adapters inside, of which one is on."""

    adapted: Any
    active: str

    def turn_to(self, member: str) -> None:
        """Let this member's adapter and head be on."""
        if self.active != member:
            self.adapted.set_adapter(member)
            self.adapted.requires_grad_(False)
            self.active = member


def open_adapter_members(
    config: Model, names: Sequence[str], labels: Sequence[str | None]
) -> tuple[Backbone, list[RewardModel]]:
    """Frozen reward models [M] on one backbone; turn the backbone to ``member-i`` before number i is asked.

    Args:
        config: Precision, device and kernels.
        names: Directories of adapters with the same ``shared_base``.
        labels: Of each the output that is the score; None where it has one.

    Raises:
        ModelError: An adapter does not fit the base, or is not whole.
    """
    from peft import PeftModel

    folders = [_folder(name) for name in names]
    cards = [card_of(folder) for folder in folders]
    outputs = {max(1, len(card.heads)) for card in cards}
    if len(outputs) > 1:
        raise ModelError(
            f"the members have {' and '.join(map(str, sorted(outputs)))} outputs",
            where=", ".join(names),
            expected="adapters of one base with as many outputs each",
        )
    base = load_classifier(folders[0].base, trust_remote_code=config.trust_remote_code, outputs=outputs.pop())
    adapted: Any = None
    for number, folder in enumerate(folders):
        member, where = f"member-{number}", str(folder.path)
        with clear_errors(folder.name), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PEFT warns of here is checked below, and an error
            if adapted is None:
                adapted = PeftModel.from_pretrained(base, where, adapter_name=member)
            else:
                adapted.load_adapter(where, adapter_name=member)
        _require_loaded(adapted, member, folder)
    adapted.set_adapter("member-0")
    tokenizer = load_tokenizer(names[0], trust_remote_code=config.trust_remote_code)
    model = adapted.get_base_model().eval()
    require_embedded(model, tokenizer, names[0])
    device = resolve_device(config.device)
    model.to(device)
    compute = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    first = RewardModel(model, tokenizer, device, compute, names[0], only=config.kernels)
    first.trunk.freeze()
    members = []
    for name, card, label in zip(names, cards, labels, strict=True):
        one = copy.copy(first)  # the same model and trunk
        one.source, one.mean, one.std, one.rendering, one.heads = name, card.mean, card.std, card.rendering, card.heads
        one.pooling = card.pooling
        one.head = output_of(card, label, name)
        one.tokenizer = load_tokenizer(name, trust_remote_code=config.trust_remote_code)
        require_embedded(model, one.tokenizer, name)
        members.append(one)
    return Backbone(adapted, "member-0"), members


def _folder(name: str) -> Folder:
    folder = look(name)
    assert folder is not None, name  # `shared_base` has looked
    return folder


def _require_loaded(adapted: Any, member: str, folder: Folder) -> None:
    """Every weight of the adapter's file is in the model, to the bit, and none of the model's is missing there."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    stored = load_file(folder.path / ADAPTER_WEIGHTS)
    held = get_peft_model_state_dict(adapted, adapter_name=member, save_embedding_layers=False)
    wrong = sorted(
        name for name in {*stored, *held}
        if name not in stored or name not in held or not torch.equal(stored[name], held[name].to(stored[name]))
    )  # fmt: skip
    if wrong:
        raise ModelError(
            f"the adapter does not fit its base: {len(wrong)} weights are missing or others ({', '.join(wrong[:3])})",
            where=str(folder.path),
            expected="an adapter of this very base, whole",
            fix="check base_model_name_or_path in its adapter_config.json",
        )
