"""A trained model as a folder to give away: checked first, written whole or not at all.

What is exported is a finished run (its ``final/`` or ``adapter/``) or a model's own folder. The target is new; nothing
that is there is written over.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueup.errors import ModelError, RunError, UsageError
from trueup.ledger import read_run, storage_error, whole_folder, write_json
from trueup.ledger.card import CARD, LICENCE, front_matter
from trueup.models.files import (
    ADAPTER,
    CONFIG,
    INDEX,
    REWARD_SCALE,
    WEIGHTS,
    Folder,
    check,
    near,
    read_json,
    weights,
)

KINDS = ("hf", "adapter", "gguf")
DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""Precisions of a Hugging Face folder, and what transformers calls them."""
LEFT = (".lock", "optimizer.pt", "training_args.bin")
"""Files of a model's folder that are of no use to others."""


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        name: As the user wrote it.
        title: What to call the model: the run's name, or the folder's.
        folder: The whole model; None where there is only an adapter.
        adapter: The adapter's folder; None where there is none.
    """

    name: str
    title: str
    folder: Folder | None
    adapter: Path | None


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The folder.
        kind: ``hf``, ``adapter`` or ``gguf``.
        files: Bytes of each file by its name in the folder.
        remarks: What whoever uses it should know, one sentence each.
    """

    path: Path
    kind: str
    files: dict[str, int]
    remarks: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"path": str(self.path), "kind": self.kind, "files": self.files, "remarks": list(self.remarks)}


def find_source(name: str) -> Source:
    """The model that a run's folder or a model's folder holds.

    Raises:
        UsageError: Neither is there.
        RunError: The run is not finished, or makes no model.
        ModelError: The model's files are not whole, not readable, or quantised.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        problem = "this is a file" if path.exists() else "no such directory"
        fix = None if path.exists() else near(path)
        raise UsageError(problem, where=name, expected="a run's folder, or a model's", fix=fix)
    if (path / "run.json").exists():
        return _of_run(name, path)
    if (path / CONFIG).is_file() or (path / ADAPTER).is_file():
        folder = check(name, path)
        title = path.resolve().parent.name if path.resolve().name == "final" else path.resolve().name
        adapter = path if folder.adapter is not None else None
        return Source(name, title, None if adapter else folder, adapter)
    shown = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise UsageError(
        "neither a run nor a model is here",
        where=name,
        expected="a run's folder (run.json), or a model's (config.json)",
        fix=f"it holds: {shown}",
    )


def _of_run(name: str, path: Path) -> Source:
    status = read_run(path)["status"]
    if status != "done":
        raise RunError(
            f"the run is not finished: {status}",
            where=name,
            expected="a run that is done",
            fix=f"go on with it: trueup resume {name}",
        )
    final = path / "final"
    if not final.is_dir():
        raise RunError("the run has made no model", where=str(final), expected="final/ of a training run")
    adapter = path / "adapter"
    return Source(name, path.resolve().name, check(str(final), final), adapter if adapter.is_dir() else None)


def export_adapter(source: Source, out: Path) -> Exported:
    """Copy the adapter that a run with LoRA learned.

    Raises:
        UsageError: There is none, or the target is there.
        RunError: The disk refuses.
    """
    if source.adapter is None:
        raise UsageError(
            "there is no adapter: all weights were trained, or the run is older than adapter/",
            where=source.name,
            expected="a run with model.lora",
            fix="--to hf exports the whole model",
        )
    checked = check(str(source.adapter), source.adapter)
    remarks = []
    if Path(checked.base).expanduser().is_dir():
        remarks.append(
            f"the adapter's base is a folder of this machine, {checked.base}: whoever gets the adapter needs that"
            " model too; name it under base_model_name_or_path in adapter_config.json"
        )
    with written(out, _size(source.adapter)) as folder:
        _copy(source.adapter, folder)
    return done(out, "adapter", remarks)


def export_hf(source: Source, out: Path, dtype: str | None = None) -> Exported:
    """Write a model as Hugging Face has it: safetensors, tokenizer, settings and card.

    Args:
        source: The model; reward models too.
        out: New folder.
        dtype: ``f32``, ``f16`` or ``bf16``; None keeps the weights as they are.

    Raises:
        UsageError: The precision is none of these, only an adapter is here, or the target is there.
        ModelError: A weight does not fit into float16.
        RunError: The disk refuses.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"{dtype!r}", where="--dtype", expected=f"for --to hf one of {', '.join(DTYPES)}")
    with whole_model(source, out) as (folder, remarks), written(out, _size(folder.path)) as target:
        if dtype is None:
            _copy(folder.path, target)
        else:
            _copy(folder.path, target, leave=lambda file: file.suffix == ".safetensors" or file.name == INDEX)
            _cast(folder, target, dtype)
    return done(out, "hf", remarks)


@contextlib.contextmanager
def whole_model(source: Source, out: Path) -> Iterator[tuple[Folder, list[str]]]:
    """The folder of the whole model, and remarks; an adapter alone is merged into its base beside ``out`` for a while.

    Raises:
        UsageError: The target is there.
        ModelError: The adapter or its base cannot be opened.
    """
    _require_new(out)
    if source.folder is not None:
        yield source.folder, []
        return
    from trueup.config import Model
    from trueup.models.load import load_causal_lm, load_classifier, load_tokenizer
    from trueup.models.rendering import complete_generation

    adapter = check(source.name, Path(source.name).expanduser())
    tokenizer = load_tokenizer(source.name)
    with _storage(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".trueup-merge-", dir=out.parent) as name:
            merged = Path(name)
            if adapter.is_reward_model:
                load_classifier(source.name, new_head=False).save_pretrained(merged)
            else:
                model = load_causal_lm(Model(name=source.name))
                model.save_pretrained(merged)
                complete_generation(model, tokenizer, None, merged)
            tokenizer.save_pretrained(merged)
            for beside in (LICENCE, REWARD_SCALE):
                if (adapter.path / beside).is_file():
                    shutil.copyfile(adapter.path / beside, merged / beside)
            remark = (
                f"the adapter was merged into its base, {adapter.base}; its model card describes it alone and is left"
            )
            yield check(source.name, merged), [f"{remark} out"]


@contextlib.contextmanager
def written(out: Path, size: int) -> Iterator[Path]:
    """A folder to write into that becomes ``out`` once all of it is safe.

    Args:
        out: Must not be there, or be empty.
        size: Bytes that it will take, about.

    Raises:
        UsageError: The target is there.
        RunError: No permission, too little space, or the disk fails.
    """
    _require_new(out)
    with _storage(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out.parent).free
        if free < size:
            raise RunError(
                f"the model takes {size / 2**30:.2f} GB, and {free / 2**30:.2f} GB are free",
                where=str(out.parent),
                fix="make room there, or set --out to another disk",
            )
        if out.is_dir():
            out.rmdir()
        with whole_folder(out) as folder:
            yield folder


def _require_new(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise UsageError(
            "the target is there already",
            where=str(out),
            expected="a new or empty folder",
            fix="choose another --out, or move it away",
        )


@contextlib.contextmanager
def _storage(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, "the model cannot be exported", out) from error


def done(out: Path, kind: str, remarks: list[str]) -> Exported:
    """The account of a finished export."""
    sizes = {str(p.relative_to(out)): p.stat().st_size for p in sorted(out.rglob("*")) if p.is_file()}
    return Exported(out, kind, sizes, tuple(remarks))


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file())


def _copy(source: Path, target: Path, leave: Callable[[Path], bool] = lambda _: False) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in LEFT and not file.name.endswith(".tmp") and not leave(file):
            shutil.copyfile(file, target / file.name)


def _cast(folder: Folder, target: Path, dtype: str) -> None:
    """Write the weights in another precision, file by file; whole numbers stay as they are."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    kind = getattr(torch, DTYPES[dtype])
    names = sorted(p.name for p in folder.path.glob("*.safetensors"))
    index = read_json(folder.path / INDEX) if not (folder.path / WEIGHTS).is_file() else None
    used = [WEIGHTS] if index is None else sorted(set(index["weight_map"].values()))
    for name in [name for name in names if name in used]:
        with safe_open(folder.path / name, framework="pt") as opened:
            tensors = {key: to_kind(opened.get_tensor(key), kind, key, folder.name) for key in opened.keys()}  # noqa: SIM118
        save_file(tensors, target / name, metadata={"format": "pt"})
    if index is not None:
        write_json(target / INDEX, index)
        spans = [entry["data_offsets"] for entry in weights(target).values()]
        size = sum(end - begin for begin, end in spans)
        write_json(target / INDEX, index | {"metadata": index["metadata"] | {"total_size": size}})
    config = read_json(folder.path / CONFIG)
    config.pop("torch_dtype", None)
    write_json(target / CONFIG, config | {"dtype": DTYPES[dtype]})


def to_kind(tensor: Any, kind: Any, name: str, where: str) -> Any:
    """A weight in another precision; what is no floating number stays.

    Raises:
        ModelError: It does not fit: float16 ends at 65,504.
    """
    if not tensor.is_floating_point():
        return tensor
    cast = tensor.to(kind)
    if not bool(cast.isfinite().all()):
        raise ModelError(
            f"the weight {name} does not fit into {kind}: its largest number is {float(tensor.abs().max()):g}",
            where=where,
            fix="--dtype bf16, which has the range of float32",
        )
    return cast


def card_facts(folder: Path) -> dict[str, Any]:
    """What the front matter of the card beside a model says; empty where there is none."""
    file = folder / CARD
    return front_matter(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else {}
