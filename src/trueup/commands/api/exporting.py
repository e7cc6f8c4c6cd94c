"""Trained models for others: as Hugging Face has them, as an adapter, as GGUF; and uploaded, where that is wished."""

from __future__ import annotations

from pathlib import Path

from trueup.errors import UsageError, nearest
from trueup.models.export_folder import KINDS, Exported, export_adapter, export_hf, find_source


def export_model(
    source: str | Path,
    to: str = "hf",
    out: str | Path | None = None,
    *,
    dtype: str | None = None,
    push: str | None = None,
    private: bool = True,
) -> Exported:
    """Write a trained model into a folder of its own.

    Args:
        source: A finished run, or a model's folder.
        to: ``hf`` (safetensors, tokenizer, card), ``adapter`` (what a run with LoRA learned) or ``gguf`` (llama.cpp,
            Ollama).
        out: New folder; by default ``export/<to>`` in the run, or beside the model's folder, with the precision in
            its name where one is given.
        dtype: ``f32``, ``f16``, ``bf16``; for GGUF also ``q8_0``. By default the weights stay as they are.
        push: ``OWNER/NAME`` on the Hugging Face hub: the folder is uploaded there too.
        private: Whether a new repository is private.

    Returns:
        The folder, its files with their sizes, and what one should know of it.

    Raises:
        UsageError: No run or model is there, the target is, or nobody is logged in.
        RunError: The run is not finished, the disk or the hub refuses.
        ModelError: The model cannot be written in this form.
    """
    if to not in KINDS:
        raise UsageError(f"{to!r}", where="to", expected=f"one of {', '.join(KINDS)}", fix=nearest(to, KINDS))
    if dtype is not None and to == "adapter":
        raise UsageError("an adapter keeps its precision", where="dtype", fix="leave it out")
    if push is not None:
        from trueup.models.upload import require_upload

        require_upload(push)
    known = find_source(str(source))
    folder = Path(out) if out is not None else _beside(Path(source).expanduser(), f"{to}-{dtype}" if dtype else to)
    if to == "adapter":
        exported = export_adapter(known, folder)
    elif to == "hf":
        exported = export_hf(known, folder, dtype)
    else:
        from trueup.models.export_gguf import export_gguf

        exported = export_gguf(known, folder, dtype)
    if push is not None:
        from trueup.models.upload import upload

        upload(exported.path, push, private=private)
    return exported


def _beside(source: Path, name: str) -> Path:
    """Where an export goes that nobody gave a place."""
    if (source / "run.json").exists():
        return source / "export" / name
    real = source.resolve()
    if real.name in ("final", "adapter") and (real.parent / "run.json").exists():
        return source.parent / "export" / name if source.name == real.name else real.parent / "export" / name
    return real.with_name(f"{real.name}-{name}")
