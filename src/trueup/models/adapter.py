"""Adapters by PEFT: new ones that learn, and ones trained elsewhere, merged into their base with nothing lost."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from trueup.config import Lora
from trueup.errors import ModelError
from trueup.models.files import ADAPTER, ADAPTER_WEIGHTS, Folder, header

log = logging.getLogger("trueup.models")

PREFIX = "base_model.model."
"""Of every name in an adapter's file, before the name in its base."""


def merge_adapter(base: Any, folder: Folder, *, must_hold: Sequence[str] = ()) -> Any:
    """``base`` with the adapter in ``folder`` merged into its weights, as a plain model again.

    Args:
        base: A model of transformers in float32, changed in place.
        folder: The adapter's directory.
        must_hold: Beginnings of names in the base, each of which the adapter must bring weights for.

    Raises:
        ModelError: The adapter is of a kind that cannot be merged, is for another base, or is not whole.
    """
    from peft import PeftConfig, PeftModel

    where = str(folder.path)
    shapes = {name: tuple(entry["shape"]) for name, entry in header(folder.path / ADAPTER_WEIGHTS).items()}
    for start in must_hold:
        if not any(name.startswith(f"{PREFIX}{start}") for name in shapes):
            raise ModelError(f"the adapter holds no {start}weight", where=where, expected="a reward model's adapter")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PEFT warns of here is checked below, and an error
            config = PeftConfig.from_pretrained(where)
            if config.is_prompt_learning or not hasattr(config, "target_modules"):
                raise ModelError(
                    f"the adapter is of the kind {_kind(folder)}, which cannot be merged into weights",
                    where=str(folder.path / ADAPTER),
                    expected="LoRA or another adapter of weights",
                )
            _fit_embeddings(base, shapes)
            adapted = PeftModel.from_pretrained(base, where, config=config)
            _require_whole(adapted, set(shapes), where)
            merged = _merged(adapted)
    except ModelError:
        raise
    except Exception as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if isinstance(error, (TypeError, KeyError, AttributeError)):  # a value that no adapter has
            raise ModelError(
                f"the adapter's settings cannot be used: {type(error).__name__}: {first}",
                where=str(folder.path / ADAPTER),
                expected="adapter_config.json as PEFT writes it (peft_type, r, lora_alpha, target_modules, ...)",
                fix="mend it, or get it again from where the adapter comes from",
            ) from error
        if "size mismatch" in str(error):
            first = "the adapter was made for a model of other shapes: " + next(
                line.strip() for line in str(error).splitlines() if "size mismatch" in line
            )
        raise ModelError(
            first,
            where=where,
            fix=f"its base here is {folder.base}; give the one that it was trained on: --model BASE+{folder.path}, or "
            f"base_model_name_or_path in {folder.path / ADAPTER}",
        ) from error
    _compare_bases(folder)
    others = sorted(path.parent.name for path in folder.path.glob(f"*/{ADAPTER}"))
    if others:
        log.warning("%s: adapters in its folders are not used: %s", folder.name, ", ".join(others))
    log.info("%s: %s adapter merged into %s", folder.name, _kind(folder), folder.base)
    merged.requires_grad_(True)
    return merged.eval()


def _merged(adapted: Any) -> Any:
    """The base with the adapter in its weights.

    An adapter of the embeddings of a model whose head is tied to them changes the embeddings only: merged in place it
    would change both. So the two are parted first, and tied again only if they came out the same.
    """
    model = adapted.get_base_model()
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    weights = [getattr(module, "base_layer", module) for module in (head, embedding) if module is not None]
    tied = len(weights) == 2 and getattr(weights[0], "weight", None) is getattr(weights[1], "weight", 0)
    if tied:
        weights[0].weight = torch.nn.Parameter(weights[0].weight.detach().clone())
    merged = adapted.merge_and_unload(safe_merge=True)
    if not getattr(merged.config.get_text_config(), "tie_word_embeddings", False) or head is None:
        return merged
    if torch.equal(merged.get_output_embeddings().weight, merged.get_input_embeddings().weight):
        merged.get_output_embeddings().weight = merged.get_input_embeddings().weight
    else:
        merged.config.get_text_config().tie_word_embeddings = merged.config.tie_word_embeddings = False
        merged.all_tied_weights_keys = {}
    return merged


def with_adapters(model: Any, lora: Lora, seed: int) -> Any:
    """A language model whose linear layers have new adapters, which alone learn; the same seed gives the same ones."""
    from peft import get_peft_model

    with _drawn(seed), _suited(model):
        return get_peft_model(model, _settings(lora, "CAUSAL_LM"))


def adapt_classifier(model: Any, head: Any, lora: Lora, seed: int) -> None:
    """Give the linear layers of a sequence classifier new adapters, in place; they and its ``head`` learn."""
    from peft import inject_adapter_in_model

    with _drawn(seed), _suited(model):
        inject_adapter_in_model(_settings(lora, "SEQ_CLS"), model)
    head.requires_grad_(True)


def _settings(lora: Lora, task: str) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules="all-linear", task_type=task)


@contextlib.contextmanager
def _drawn(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _suited(model: Any) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of layers that PEFT cannot adapt
        raise ModelError(
            f"{type(model).__name__} cannot have adapters: {error}",
            where="model.lora",
            fix="train all of its weights: leave model.lora out",
        ) from error


def _compare_bases(folder: Folder) -> None:
    """Say where the base that the user named is not the one that the adapter names."""
    named = (folder.adapter or {}).get("base_model_name_or_path")
    if folder.under is not None and named and not _same(str(named), folder.under):
        log.warning("%s: by its own settings the adapter is of %s; merged into %s", folder.path, named, folder.under)


def _same(first: str, second: str) -> bool:
    """Whether two names of a model are one, as far as that can be known without opening it."""
    paths = [Path(name).expanduser() for name in (first, second)]
    return first == second or (all(path.exists() for path in paths) and paths[0].samefile(paths[1]))


def _kind(folder: Folder) -> str:
    return str((folder.adapter or {}).get("peft_type"))


def _fit_embeddings(base: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Give the base as many tokens as the adapter's own embeddings have."""
    inner = {id(module): name for name, module in base.named_modules()}
    name = inner.get(id(base.get_input_embeddings()))
    shape = shapes.get(f"{PREFIX}{name}.weight")
    if shape is not None and shape[0] != base.get_input_embeddings().weight.shape[0]:
        base.resize_token_embeddings(shape[0], mean_resizing=False)


def _require_whole(adapted: Any, stored: set[str], where: str) -> None:
    from peft import get_peft_model_state_dict

    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    inner = [name for name, _ in adapted.get_base_model().named_parameters(remove_duplicate=False)]
    plain = {PREFIX + name for name in inner} | {PREFIX + name.replace(".base_layer.", ".") for name in inner}
    missing, unknown = wanted - stored, stored - wanted - plain
    if missing or unknown:
        what = [
            f"{len(names)} weights are {state} ({', '.join(sorted(names)[:3])})"
            for names, state in ((missing, "missing"), (unknown, "not of this base"))
            if names
        ]
        raise ModelError(
            f"the adapter does not fit its base: {', '.join(what)}",
            where=where,
            expected="an adapter of this very base, whole",
            fix="check base_model_name_or_path in its adapter_config.json",
        )
