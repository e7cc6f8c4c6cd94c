"""Find and read weights and tokenizers, and turn what can go wrong there into clear errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from trueup.config import Model
from trueup.errors import ModelError
from trueup.models.fuse import fuse


def resolve_device(wanted: str) -> torch.device:
    """``auto`` prefers a GPU; a GPU that is demanded and absent is an error, never a silent CPU run."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("no CUDA GPU here", where="model.device", fix="--set model.device=cpu")
    return torch.device(wanted)


def load_causal_lm(config: Model) -> Any:
    """A float32 causal LM in evaluation mode from a name or directory; safetensors only."""
    from transformers import AutoModelForCausalLM

    with _clear_errors(config.name):
        model = AutoModelForCausalLM.from_pretrained(
            config.name,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=config.trust_remote_code,
            local_files_only=_is_local(config.name),
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError("this is an encoder-decoder model", where=config.name, expected="a causal language model")
    fuse(model)
    return model


def load_classifier(name: str, *, trust_remote_code: bool = False) -> Any:
    """A float32 one-output sequence classifier on the backbone of ``name``; a missing head is initialised later."""
    from transformers import AutoModelForSequenceClassification

    with _clear_errors(name):
        model = AutoModelForSequenceClassification.from_pretrained(
            name,
            num_labels=1,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            local_files_only=_is_local(name),
        )
    fuse(model)
    return model


def load_tokenizer(name: str, *, trust_remote_code: bool = False) -> Any:
    """The fast tokenizer that belongs to ``name``."""
    from transformers import AutoTokenizer

    with _clear_errors(name):
        return AutoTokenizer.from_pretrained(
            name, trust_remote_code=trust_remote_code, local_files_only=_is_local(name)
        )


def _is_local(name: str) -> bool:
    return Path(name).is_dir()


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).parts[0] == "runs"


@contextlib.contextmanager
def _clear_errors(name: str) -> Iterator[None]:
    from safetensors import SafetensorError

    if not _is_local(name) and _looks_like_path(name):
        parent = Path(name).parent
        near = sorted(p.name for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []
        raise ModelError(
            "no such directory",
            where=name,
            expected="a directory with config.json and model.safetensors, or a Hugging Face name such as gpt2",
            fix=f"in {parent} there is: {', '.join(near) or 'nothing'}",
        )
    try:
        yield
    except SafetensorError as error:
        raise ModelError(
            f"the weights file is damaged: {error}", where=name, fix="copy or download it again"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(_first_line(error), where=name, fix=_advice(name, error)) from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _advice(name: str, error: Exception) -> str:
    text = str(error).lower()
    if _is_local(name):
        held = ", ".join(sorted(p.name for p in Path(name).iterdir())[:8])
        if "safetensors" in text:
            return f"only safetensors are read, never pickle; convert the weights. The directory holds: {held}"
        return f"the directory must hold config.json, model.safetensors and a tokenizer; it holds: {held}"
    if "gated" in text or "401" in text or "403" in text:
        return "the repository is private or gated: log in with `huggingface-cli login` and accept its terms"
    if any(word in text for word in ("connect", "offline", "resolve", "cached", "network", "max retries")):
        return "the hub cannot be reached and the model is not cached; go online once, or give a local directory"
    return "check the name on the hub, or give a local directory"
