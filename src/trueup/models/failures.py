"""What other libraries raise or print while a model is opened, as errors that name the model and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from trueup.errors import ModelError
from trueup.models.files import near


@contextlib.contextmanager
def clear_errors(name: str) -> Iterator[None]:
    """Whatever other libraries raise inside becomes a ``ModelError`` that names the model and what to do."""
    from safetensors import SafetensorError

    try:
        yield
    except ModelError:
        raise
    except SafetensorError as error:
        raise ModelError(
            f"the weights file is damaged: {error}", where=name, fix="copy or download it again"
        ) from error
    except Exception as error:  # configurations, tokenizers and code of any origin: they raise anything
        raise ModelError(_first_line(name, error), where=name, fix=_advice(name, error)) from error


def _first_line(name: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else ""
    if first.endswith(":") and len(lines) > 1:  # a headline, and what it is about below
        first = f"{first} {lines[1]}"
    if _unreachable(error) and not Path(name).exists():
        return "no such directory, and no such model in the cache of the hub, which cannot be reached"
    known = isinstance(error, OSError | ValueError | RuntimeError)
    return first if known and first else f"{type(error).__name__}: {first}" if first else type(error).__name__


def _unreachable(error: Exception) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("connect", "offline", "max retries", "outgoing traffic", "name resolution"))


def _advice(name: str, error: Exception) -> str:
    text = str(error).lower()
    if "trust_remote_code" in text or "custom code" in text:
        return "read the code that comes with the model; if you trust it: --set model.trust_remote_code=true"
    if "StrictDataclass" in type(error).__name__:
        return "mend config.json, or get it again from where the weights come from"
    if Path(name).is_dir():
        listing = ", ".join(sorted(p.name for p in Path(name).iterdir())[:8])
        return f"the directory must hold config.json, model.safetensors and a tokenizer; it holds: {listing}"
    if "gated" in text or "401" in text or "403" in text:
        return "the repository is private or gated: log in with `huggingface-cli login` and accept its terms"
    local = f". {near(Path(name))}" if Path(name).parent.is_dir() and "/" in name else ""
    if _unreachable(error):
        return f"go online once, or give a local directory{local}"
    return f"check the name on the hub, or give a local directory{local}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the tables and bars that transformers prints of what it loads: what matters in them is an error here."""
    from transformers.utils import logging as spoken

    before, bars = spoken.get_verbosity(), spoken.is_progress_bar_enabled()
    spoken.set_verbosity_error()
    spoken.disable_progress_bar()
    try:
        yield
    finally:
        spoken.set_verbosity(before)
        if bars:
            spoken.enable_progress_bar()
