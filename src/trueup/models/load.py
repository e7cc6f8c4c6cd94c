"""Open weights and tokenizers, whole or not at all, and turn what can go wrong there into clear errors.

A name is a directory or a repository of the hub, which becomes a directory first; its files are checked before they are
read (``models.files``). What the weights lack, or have too much of, is refused: a layer without weights would be
trained from random numbers without a word. An adapter's directory is opened as its base with the adapter merged in.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trueup.config import Model
from trueup.errors import ModelError
from trueup.models.adapter import merge_adapter
from trueup.models.failures import clear_errors, quiet
from trueup.models.files import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    INDEX,
    WEIGHTS,
    Folder,
    check,
    look,
    read_json,
    require_shallow,
    weights,
)
from trueup.models.gguf import gguf_of
from trueup.models.gguf_cache import converted

log = logging.getLogger("trueup.models")

HARMLESS = re.compile(r"(rotary_emb\.inv_freq|\.masked_bias|position_ids)$")
"""Tables that old versions saved beside the weights and that are made from the config."""
HEAD = "score."
"""Of every sequence classifier on a decoder."""
SHOWN = 4
"""Names of weights in a message."""


def resolve_device(wanted: str) -> torch.device:
    """``auto`` prefers a GPU; a GPU that is demanded and absent is an error, never a silent CPU run."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("no CUDA GPU here", where="model.device", fix="--set model.device=cpu")
    return torch.device(wanted)


def located(name: str, *, trust_remote_code: bool = False, revision: str | None = None) -> Folder:
    """The checked directory of a model: ``name`` itself, what a GGUF file was converted into, or the hub's files.

    Raises:
        ModelError: It is not there, or its files cannot be opened safely.
    """
    file = gguf_of(name)
    if file is not None:
        return check(name, converted(file))
    folder = look(name)
    if folder is not None:
        return folder
    with clear_errors(name):
        return check(name, _downloaded(name, trust_remote_code, revision))


def load_causal_lm(config: Model) -> Any:
    """A float32 causal LM in evaluation mode from a name or directory; safetensors only, an adapter merged.

    Raises:
        ModelError: It is not there, not whole, not safe, quantised, or no causal language model.
    """
    folder = located(config.name, trust_remote_code=config.trust_remote_code)
    return _language_model(folder, config.trust_remote_code)


def load_classifier(
    name: str, *, trust_remote_code: bool = False, new_head: bool = True, as_saved: bool = False, outputs: int = 1
) -> Any:
    """A float32 sequence classifier with ``outputs`` outputs on the backbone of ``name``.

    Args:
        name: Directory or hub name of a language model or a reward model.
        trust_remote_code: Whether Python code that comes with it may run.
        new_head: The head is drawn by the caller, so the files need not have one.
        as_saved: Instead of that the classifier that the files hold: any architecture, all its labels, its own head.
        outputs: How many numbers the head gives.
    """
    folder = located(name, trust_remote_code=trust_remote_code)
    if as_saved:
        from transformers import AutoModelForSequenceClassification

        return _opened(folder, AutoModelForSequenceClassification, trust_remote_code)
    return _classifier(folder, trust_remote_code, new_head, outputs)


def load_tokenizer(name: str, *, trust_remote_code: bool = False) -> Any:
    """The fast tokenizer that belongs to ``name``; an adapter without one has its base's."""
    from transformers import AutoTokenizer

    folder, depth = located(name, trust_remote_code=trust_remote_code), 0
    while folder.adapter is not None and not folder.speaks:
        folder, depth = _base(folder, trust_remote_code, depth), depth + 1
    if not folder.speaks:
        raise ModelError(
            "no tokenizer here",
            where=name,
            expected="tokenizer.json, or the vocabulary files of an older tokenizer",
            fix="save the tokenizer that the model was trained with into this directory",
        )
    with clear_errors(name):
        return AutoTokenizer.from_pretrained(
            str(folder.path), trust_remote_code=trust_remote_code, local_files_only=True
        )


def _language_model(folder: Folder, trust: bool, depth: int = 0) -> Any:
    from transformers import AutoModelForCausalLM

    if folder.is_reward_model:
        raise ModelError(
            "this is a reward model: it has a score head and speaks no language",
            where=folder.name,
            expected="a causal language model",
            fix="give the model that the reward model was made from, or a policy such as runs/sft/final",
        )
    if folder.adapter is None:
        return _opened(folder, AutoModelForCausalLM, trust)
    with _named(folder):
        base = _language_model(_base(folder, trust, depth), trust, depth + 1)
    return merge_adapter(base, folder)


def _classifier(folder: Folder, trust: bool, new_head: bool, outputs: int, depth: int = 0) -> Any:
    from transformers import AutoModelForSequenceClassification

    if folder.adapter is None:
        return _opened(folder, AutoModelForSequenceClassification, trust, new_head=new_head, num_labels=outputs)
    if folder.is_reward_model:
        with _named(folder):
            base = _base(folder, trust, depth)
            own = base.is_reward_model and base.adapter is None and _outputs(base) == outputs
            backbone = _classifier(base, trust, not own, outputs, depth + 1)
        return merge_adapter(backbone, folder, must_hold=() if own or new_head else (HEAD,))
    # Adapted as a language model: merged as one, then its body becomes the classifier's.
    spoken = _language_model(folder, trust, depth)
    kind = _class_for(spoken.config, AutoModelForSequenceClassification, folder)
    values = {key: value for key, value in spoken.config.to_dict().items() if key not in ("id2label", "label2id")}
    config = type(spoken.config).from_dict(values | {"num_labels": outputs})
    with clear_errors(folder.name), quiet():
        model, info = kind.from_pretrained(
            None, config=config, state_dict=spoken.state_dict(), dtype=torch.float32, output_loading_info=True
        )
    lengths = {name: tensor.shape[0] for name, tensor in spoken.state_dict().items() if tensor.ndim}
    _require_whole(folder, model, info, lengths, new_head=True)
    return model


def _outputs(folder: Folder) -> int:
    """Outputs of a saved classifier, by its config, which leaves the labels out where there are two."""
    return len(folder.config.get("id2label") or {}) or int(folder.config.get("num_labels") or 2)


def _base(folder: Folder, trust: bool, depth: int) -> Folder:
    require_shallow(folder, depth)
    assert folder.adapter is not None
    revision = folder.adapter.get("revision") if folder.under is None else None
    log.info("%s is an adapter: it is merged into its base, %s", folder.name, folder.base)
    return located(folder.base, trust_remote_code=trust, revision=revision if isinstance(revision, str) else None)


@contextlib.contextmanager
def _named(folder: Folder) -> Iterator[None]:
    """Errors of an adapter's base say whose base it is."""
    try:
        yield
    except ModelError as error:
        if error.where in (folder.name, str(folder.path / ADAPTER)):
            raise
        raise ModelError(
            f"the base of the adapter {folder.name} cannot be used: {error.what}",
            where=error.where,
            expected=error.expected,
            fix=f"if it is elsewhere: --model BASE+{folder.path}, or say so under base_model_name_or_path in "
            f"{folder.path / ADAPTER}. {error.fix or ''}",
        ) from error


def _opened(folder: Folder, auto: Any, trust: bool, *, new_head: bool = False, **more: Any) -> Any:
    """The whole model of a directory, by one of the automatic classes of transformers."""
    from transformers import AutoConfig

    path = str(folder.path)
    with clear_errors(folder.name):
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust, local_files_only=True)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError("this is an encoder-decoder model", where=folder.name, expected="a causal language model")
    if not (trust and getattr(config, "auto_map", None)):
        _class_for(config, auto, folder)
    _require_shapes(folder, auto, config, trust, more, new_head=new_head)
    with clear_errors(folder.name), quiet():
        model, info = auto.from_pretrained(
            path,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=new_head,  # only the head's can differ by now
            **more,
        )
    if "num_labels" in more and not isinstance(getattr(model, "score", None), nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear `score` head",
            where=folder.name,
            expected="a decoder such as GPT-2, Llama, Qwen, Mistral or Gemma",
        )
    lengths = {name: tensor["shape"][0] for name, tensor in weights(folder.path).items() if tensor["shape"]}
    _require_whole(folder, model, info, lengths, new_head=new_head)
    return model


def _require_shapes(
    folder: Folder, auto: Any, config: Any, trust: bool, more: Mapping[str, Any], *, new_head: bool
) -> None:
    """Refuse weights of other shapes than the config describes by name, before any memory is taken for them.

    Weights that transformers stores under other names than it computes with are compared when they are opened.
    """
    config = copy.deepcopy(config)
    for name, value in more.items():
        setattr(config, name, value)
    there = {name: tuple(tensor["shape"]) for name, tensor in weights(folder.path).items()}
    with clear_errors(folder.name), quiet(), torch.device("meta"):
        model = auto.from_config(config, trust_remote_code=trust)
    other = {
        f"{name} is {_shape(there[name])} and by the config {_shape(tensor.shape)}"
        for name, tensor in model.state_dict().items()
        if name in there and there[name] != tuple(tensor.shape) and not (new_head and name.startswith(HEAD))
    }
    if other:
        raise ModelError(
            f"the weights are not those of this config: {len(other)} have another shape ({_some(other)})",
            where=folder.name,
            expected=f"every weight of {type(model).__name__} as config.json describes it",
            fix="config.json and the weights come from different models, or one was edited: get both again",
        )


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _class_for(config: Any, auto: Any, folder: Folder) -> Any:
    kind = auto._model_mapping.get(type(config), None)
    if kind is None:
        wanted = "causal language model" if "Causal" in auto.__name__ else "sequence classifier"
        raise ModelError(
            f"transformers has no {wanted} of the kind {config.model_type!r}",
            where=folder.name,
            expected="a decoder such as GPT-2, Llama, Qwen, Mistral or Gemma",
        )
    return kind[0] if isinstance(kind, tuple) else kind


def _require_whole(
    folder: Folder, model: Any, info: dict[str, Any], lengths: dict[str, int], *, new_head: bool
) -> None:
    """Refuse weights that are missing, unknown or of another shape, but for what no result depends on.

    ``lengths`` are the first dimensions of the weights that were there.
    """
    missing = {key for key in info["missing_keys"] if not (new_head and key.startswith(HEAD))}
    unknown = {key for key in info["unexpected_keys"] if not HARMLESS.search(key)}
    if unknown and hasattr(model, "score"):
        unknown -= _language_head(model, lengths)
    other = {key[0] for key in info["mismatched_keys"] if not (new_head and key[0].startswith(HEAD))}
    if folder.is_reward_model and new_head and "score.weight" not in info["missing_keys"]:
        log.warning("%s is a reward model: its score head is replaced by a new one", folder.name)
    if not missing and not unknown and not other and not info["error_msgs"]:
        _require_finite(folder, model)
        return
    parts = [
        f"{len(keys)} {what} ({_some(keys)})"
        for keys, what in (
            (missing, "that the config asks for are missing"),
            (unknown, "that the config does not know are there"),
            (other, "have another shape"),
        )
        if keys
    ]
    if not new_head and any(key.startswith(HEAD) for key in missing):
        raise ModelError("it has no score head", where=folder.name, expected="a reward model")
    raise ModelError(
        f"the weights are not those of this config: of the weights, {', and '.join(parts) or info['error_msgs'][0]}",
        where=folder.name,
        expected=f"every weight of {type(model).__name__} as config.json describes it, and no other",
        fix="config.json and the weights come from different models, or some files are missing: get both again",
    )


@torch.no_grad()
def _require_finite(folder: Folder, model: Any) -> None:
    """Refuse weights that hold NaN or infinity anywhere: training would only find the first step's loss to be none."""
    for name, weight in model.named_parameters():
        # A sum holds every NaN and infinity; only where it is none itself each element is looked at.
        if weight.is_meta or bool(torch.isfinite(weight.sum())) or bool(torch.isfinite(weight).all()):
            continue
        raise ModelError(
            f"the weights are not finite: {name} holds NaN or infinity",
            where=folder.name,
            fix="the file is damaged or was saved from a run that had diverged: take an earlier one",
        )


def _language_head(model: Any, lengths: dict[str, int]) -> set[str]:
    """Weights of a language model's head, one row a token, for which a classifier on the same body has no use."""
    rows, body = int(model.get_input_embeddings().weight.shape[0]), f"{model.base_model_prefix}."
    return {name for name, length in lengths.items() if not name.startswith(body) and length == rows}


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:SHOWN]
    return ", ".join(shown) + (", ..." if len(names) > SHOWN else "")


def _downloaded(name: str, trust: bool, revision: str | None) -> Path:
    """The hub's files of ``name``, in the cache: what describes the model, then the safetensors that it consists of."""
    from huggingface_hub import snapshot_download

    skipped = ["*/*", "*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.ot", "*.gguf"]
    fetch: Callable[..., str] = snapshot_download
    small = skipped + ["*.safetensors"] + ([] if trust else ["*.py"])
    path = Path(fetch(name, revision=revision, ignore_patterns=small))
    wanted = [ADAPTER_WEIGHTS, WEIGHTS]
    if (path / INDEX).is_file():
        index = read_json(path / INDEX)
        wanted += [str(shard) for shard in dict.fromkeys((index.get("weight_map") or {}).values())]
    return Path(fetch(name, revision=revision, allow_patterns=wanted))
