"""``trueup export``: a trained model for other programs and other people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Json


def export(
    run: Annotated[str, typer.Argument(help="A finished run, as runs/dpo, or a model's folder.")],
    to: Annotated[str, typer.Option("--to", help="hf, adapter or gguf.")],
    out: Annotated[Path | None, typer.Option("--out", help="New folder. Default: RUN/export/hf, .../gguf.")] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="f32, f16, bf16; for gguf also q8_0. Default: as the weights are.")
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", help="Also upload it to the Hugging Face hub: OWNER/NAME.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="A new repository is public, not private.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Upload without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Write a trained model for others: for Hugging Face and vLLM, as a LoRA adapter, for llama.cpp and Ollama.

    hf: safetensors, tokenizer with its chat template, generation settings, model card, licence. adapter: what a run
    with model.lora learned, for PEFT. gguf: one file with all of it; needs `pip install "trueup[gguf]"`.

    Nothing leaves this machine without `--push`, which says what it would upload and asks.

    Example: `trueup export runs/dpo --to gguf --dtype q8_0`
    """
    import json

    from trueup.commands.api.exporting import export_model
    from trueup.errors import UsageError

    if push is None and (public or yes):
        raise UsageError("only with --push", where="--public" if public else "--yes", fix="leave it out")
    if push is not None:
        from trueup.models.upload import require_upload

        require_upload(push)
    exported = export_model(run, to, out, dtype=dtype)
    uploaded = None
    if push is not None and _agreed(exported.files, push, public, yes):
        from trueup.models.upload import upload

        uploaded = upload(exported.path, push, private=not public)
    if as_json:
        typer.echo(json.dumps(exported.to_dict() | {"uploaded": uploaded}, indent=2, ensure_ascii=False))
        return
    for remark in exported.remarks:
        typer.echo(f"note: {remark}", err=True)
    typer.echo(str(exported.path))
    if uploaded is not None:
        typer.echo(uploaded)


def _agreed(files: dict[str, int], name: str, public: bool, yes: bool) -> bool:
    """Whether the upload is wished, after it was said what it would be."""
    from trueup.errors import UsageError

    typer.echo(f"to upload to {name} ({'public' if public else 'private'} if it is new):", err=True)
    for file, size in files.items():
        typer.echo(f"  {file}  {size / 2**20:.2f} MB", err=True)
    if yes:
        return True
    try:
        agreed = typer.confirm("Upload?", default=False, err=True)
    except typer.Abort as error:
        raise UsageError("nobody is here to agree to the upload", where="--push", fix="add --yes") from error
    if not agreed:
        typer.echo("nothing was uploaded", err=True)
    return agreed
