"""What a model's files say before any of them is opened: which they are, whether they are whole and safe to read.

Nothing here loads a weight or needs torch. A directory is a model (``config.json`` and safetensors) or an adapter
(``adapter_config.json`` and safetensors, over a base that it names). Everything that can be known to be wrong from the
files alone is refused here, before minutes go into loading or a directory is hashed that holds no model.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trueup.errors import ModelError, near_file
from trueup.models.gguf import gguf_of
from trueup.models.gguf_cache import content_digest
from trueup.models.quantised import refuse_packed, refuse_quantised

CONFIG, ADAPTER = "config.json", "adapter_config.json"
WEIGHTS, INDEX, ADAPTER_WEIGHTS = "model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"
REWARD_SCALE = "trueup_reward.json"
"""Written beside the weights of a reward model; no other model has it."""
OWN = frozenset({".json", ".safetensors", ".jinja", ".model", ".txt", ".tiktoken", ".py"})
"""Endings of the files that decide what a model computes and how text becomes its ids."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "*.tiktoken", "*.model")
DEEPEST = 8
"""Adapters over adapters."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
BESIDE = ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json", "tokenizer.json")
"""Files that hold one JSON object, where they are there."""
COUNTS = (
    "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "hidden_size", "vocab_size",
    "n_head", "n_layer", "n_embd", "n_heads", "n_layers", "d_model", "max_position_embeddings", "n_positions",
)  # fmt: skip
"""Fields of ``config.json`` that no model has below 1."""
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Those that count layers, of which each has weights of its own."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The checked directory of a model or an adapter.

    Attributes:
        name: As the user wrote it.
        path: Where the files are.
        config: What ``config.json`` says; empty for an adapter.
        adapter: What ``adapter_config.json`` says; None for a whole model.
        under: The base that the user named for an adapter, as in ``base+adapter``; None: the one that it names itself.
    """

    name: str
    path: Path
    config: dict[str, Any]
    adapter: dict[str, Any] | None = None
    under: str | None = None

    @property
    def is_reward_model(self) -> bool:
        """Whether the files are a reward model's."""
        kinds = self.config.get("architectures") or []
        scored = any(str(kind).endswith("ForSequenceClassification") for kind in kinds)
        task = self.adapter is not None and self.adapter.get("task_type") == "SEQ_CLS"
        return scored or task or (self.path / REWARD_SCALE).is_file()

    @property
    def speaks(self) -> bool:
        """Whether a tokenizer is here."""
        return any(next(self.path.glob(pattern), None) is not None for pattern in TOKENIZERS)

    @property
    def base(self) -> str:
        """Directory or hub name of the weights that an adapter changes; a relative path may also start from here."""
        assert self.adapter is not None
        if self.under is not None:
            return self.under
        base = self.adapter.get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise ModelError(
                f"base_model_name_or_path is {base!r}",
                where=str(self.path / ADAPTER),
                expected="the directory or hub name of the model that the adapter was trained on",
            )
        beside = self.path / base
        return str(beside) if not Path(base).is_dir() and beside.is_dir() else base


def names_file(name: str) -> bool:
    """Whether ``name`` ends as files of rows or settings do, which no model's name does."""
    stem = name.lower().removesuffix(".gz")
    return stem.endswith((".jsonl", ".json", ".csv", ".tsv", ".parquet", ".yaml", ".yml", ".txt", ".db"))


def look(name: str) -> Folder | None:
    """The directory ``name``, checked; None where it is no path but the name of a model on the hub.

    Raises:
        ModelError: There is no such directory, or what it holds is no model that can be opened, or not safely.
    """
    if not name:
        raise ModelError("no model is named", where="model.name", fix="--model runs/sft/final")
    path = Path(name).expanduser()
    if not path.exists():
        if "+" in name:
            return _stacked(name)
        if names_file(name):
            raise ModelError(
                "there is no such file, and a model would be a directory",
                where=name,
                expected="a directory with config.json and model.safetensors, or a Hugging Face name such as gpt2",
                fix=near_file(path),
            )
        if looks_like_path(name):
            raise ModelError(
                "no such directory",
                where=name,
                expected="a directory with config.json and model.safetensors, or a Hugging Face name such as gpt2",
                fix=near(path),
            )
        return None
    if not path.is_dir():
        raise ModelError("this is a file", where=name, expected="the directory that holds it and its config.json")
    return check(name, path)


def _stacked(name: str) -> Folder:
    """The adapter that ``base+adapter`` ends with, over the base before it, which may be such a stack itself."""
    base, _, last = name.rpartition("+")
    if not base or not last:
        raise ModelError("a base or an adapter is missing", where=name, expected="base+adapter or base+adapter+adapter")
    folder = look(last)
    if folder is None or folder.adapter is None:
        what = "is no directory" if folder is None else "holds a whole model"
        raise ModelError(
            f"what stands after the + must be an adapter, and {last} {what}",
            where=name,
            expected=f"a directory with {ADAPTER} and {ADAPTER_WEIGHTS}",
            fix="put the whole model first and the adapters after it, in the order in which they were trained",
        )
    return replace(folder, name=name, under=base)


def check(name: str, path: Path) -> Folder:
    """The model or adapter in ``path``, whose files are readable, whole, safe and of one model.

    Raises:
        ModelError: Says which file is wrong, and how.
    """
    model, adapter = (path / CONFIG).is_file(), (path / ADAPTER).is_file()
    if not model and not adapter:
        raise ModelError(f"no {CONFIG} here", where=name, expected="a model's directory", fix=_held(path))
    if adapter and not ((path / WEIGHTS).is_file() or (path / INDEX).is_file()):
        return _checked_adapter(name, path)
    if adapter and (path / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            "the directory holds a whole model and an adapter, and which of them is meant cannot be known",
            where=name,
            fix=f"move {ADAPTER} and {ADAPTER_WEIGHTS} into a directory of their own, or remove them",
        )
    config = read_json(path / CONFIG)
    _check_config(config, path)
    _check_beside(path)
    _check_weights(path)
    _check_layers(config, path)
    return Folder(name, path, config)


def identity(name: str, depth: int = 0) -> str:
    """Content hash of a model's own files, an adapter's base included; a hub name stands for itself.

    Raises:
        ModelError: The directory holds no model; it is not read then, however large it is.
    """
    if name == "tiny":
        return "name:tiny"
    file = gguf_of(name)
    if file is not None:
        return f"gguf:{content_digest(file)[:16]}"
    folder = look(name)
    if folder is None:
        return f"name:{name}"
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.path.iterdir() if p.is_file() and p.suffix in OWN and p.name[0] != "."):
        digest.update(file.name.encode())
        with open(file, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    own = digest.hexdigest()[:16]
    if folder.adapter is None:
        return own
    require_shallow(folder, depth)
    return f"{own}+{identity(folder.base, depth + 1)}"


def require_shallow(folder: Folder, depth: int) -> None:
    """Refuse an adapter whose base is an adapter, and so on, without end.

    Raises:
        ModelError: It is ``depth`` adapters above the first.
    """
    if depth >= DEEPEST:
        raise ModelError("adapters stand over adapters without end", where=folder.name, fix="name a whole model")


def looks_like_path(name: str) -> bool:
    """Whether ``name`` can only be a path, not a name on the hub."""
    written = name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith("/") or "\\" in name
    return written or not name or Path(name).parts[0] == "runs"


def near(path: Path) -> str:
    """What stands where a path that does not exist was looked for, the likeliest first."""
    parent = path.parent
    if not parent.is_dir():
        return f"{parent} is no directory either"
    folders = sorted(p.name for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    close = difflib.get_close_matches(path.name, folders, n=3, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    shown = [*close, *(name for name in folders if name not in close)][:20]
    return f"{hint}in {parent} there is: {', '.join(shown) or 'no directory'}"


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ModelError: It cannot be read, or holds something else.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot be read: {error}", where=str(file), expected="a JSON object", fix="copy or download it again"
        ) from error
    if not isinstance(values, dict):
        raise ModelError(f"holds {type(values).__name__}", where=str(file), expected="a JSON object")
    return values


def header(file: Path) -> dict[str, dict[str, Any]]:
    """Name, dtype and shape of every tensor in a safetensors file.

    Raises:
        ModelError: The file is cut short, or no safetensors file.
    """
    try:
        with open(file, "rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            if not 0 < size <= file.stat().st_size - 8:
                raise ValueError("its header is longer than the file")
            entries = json.loads(handle.read(size))
        tensors = {key: value for key, value in entries.items() if key != "__metadata__"}
        end = max((int(value["data_offsets"][1]) for value in tensors.values()), default=0)
        if end + size + 8 != file.stat().st_size:
            raise ValueError(f"it has {file.stat().st_size} bytes, and its header says {end + size + 8}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"the weights file is damaged: {error}", where=str(file), fix="copy or download it again"
        ) from error
    return tensors


def weights(path: Path) -> dict[str, dict[str, Any]]:
    """What ``header`` says of every weight of the model in a directory."""
    files = [path / WEIGHTS] if (path / WEIGHTS).is_file() else [path / name for name in _shards(path / INDEX)]
    return {name: tensor for file in files for name, tensor in header(file).items()}


def _checked_adapter(name: str, path: Path) -> Folder:
    if not (path / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"no {ADAPTER_WEIGHTS} here",
            where=name,
            expected="an adapter in safetensors; pickle is never read",
            fix=f"save it again with PEFT 0.5 or later (save_pretrained). {_held(path)}",
        )
    header(path / ADAPTER_WEIGHTS)
    _check_beside(path)
    return Folder(name, path, {}, read_json(path / ADAPTER))


def _held(path: Path) -> str:
    below = sorted(p.relative_to(path) for name in (CONFIG, ADAPTER) for p in path.glob(f"*/{name}"))
    if below:
        return f"did you mean {path / below[0].parent}? Models below: {', '.join(str(p.parent) for p in below[:8])}"
    names = sorted(p.name for p in path.iterdir())
    return f"it holds: {', '.join(names[:8]) or 'nothing'}{', ...' if len(names) > 8 else ''}"


def _check_config(config: dict[str, Any], path: Path) -> None:
    where = str(path / CONFIG)
    refuse_quantised(config, path)
    inner = config.get("text_config") or {}
    if not isinstance(inner, dict):
        raise ModelError(f"text_config is {inner!r:.60}", where=where, expected="an object")
    for part in (config, inner):
        for key in COUNTS:
            value = part.get(key)
            least = -1 if key in ("max_position_embeddings", "n_positions") else 1
            if value is not None and (not isinstance(value, int | list) or (isinstance(value, int) and value < least)):
                raise ModelError(f"{key} is {value!r}", where=where, expected="a whole number of 1 or more")
    named = config.get("transformers_weights")
    if named is not None:
        _plain_name(named, where)


def _check_beside(path: Path) -> None:
    """The small files beside the weights must be what they are named after, or nobody could say which one is wrong."""
    for name in BESIDE:
        if (path / name).is_file():
            read_json(path / name)
    template = path / "chat_template.jinja"
    if template.is_file():
        try:
            template.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelError(
                f"cannot be read: {error}", where=str(template), expected="UTF-8", fix="copy or download it again"
            ) from error


def _check_weights(path: Path) -> None:
    if not (path / WEIGHTS).is_file() and not (path / INDEX).is_file():
        names = sorted(p.name for p in path.iterdir())
        pickles = [name for name in names if name.endswith(PICKLES)]
        other = [name for name in names if name.endswith((".gguf", ".h5", ".msgpack", ".safetensors"))]
        raise ModelError(
            f"no {WEIGHTS} here" + (f", but {', '.join((pickles or other)[:3])}" if pickles or other else ""),
            where=str(path),
            expected="weights in safetensors, never pickle" if pickles or not other else f"{WEIGHTS} or {INDEX}",
            fix=f"{_convert_pickles(path) if pickles else 'save the model again with save_pretrained'}. "
            f"The directory holds: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}",
        )
    refuse_packed(weights(path), path)


def _convert_pickles(path: Path) -> str:
    """How weights in PyTorch's pickles, in one file or many, become safetensors: read there as tensors only."""
    target = repr(f"{path.name}-safetensors")
    return (
        'convert them once: python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        f"M.from_pretrained({str(path)!r}).save_pretrained({target}); "
        f'T.from_pretrained({str(path)!r}).save_pretrained({target})"'
    )


def _check_layers(config: dict[str, Any], path: Path) -> None:
    """Refuse more layers than there are weights: to build a hundred thousand of them only to miss them takes hours."""
    count = len(weights(path))
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for key in LAYERS:
            value = part.get(key)
            if isinstance(value, int) and value > count:
                raise ModelError(
                    f"{key} is {value}, and the weights are only {count} tensors",
                    where=str(path / CONFIG),
                    expected="the config.json that the weights were saved with",
                    fix="config.json and the weights come from different models, or some files are missing: get both"
                    " again",
                )


def _shards(index: Path) -> list[str]:
    """The files that a weight index names, all of them in its own directory.

    Raises:
        ModelError: One is elsewhere, missing, or no safetensors file.
    """
    content = read_json(index)
    names = content.get("weight_map")
    if not isinstance(names, dict) or not names or not isinstance(content.get("metadata"), dict):
        raise ModelError("no weight_map or no metadata", where=str(index), fix="copy or download it again")
    shards = list(dict.fromkeys(names.values()))
    for name in shards:
        _plain_name(name, str(index))
    gone = [name for name in shards if not (index.parent / name).is_file()]
    if gone:
        raise ModelError(
            f"{len(gone)} of the {len(shards)} files that the index names are not here: {', '.join(gone[:4])}"
            f"{', ...' if len(gone) > 4 else ''}",
            where=str(index),
            expected="every part of the weights beside the index",
            fix="download or copy them too",
        )
    return shards


def _plain_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
        raise ModelError(
            f"it names {name!r} as weights",
            where=where,
            expected="safetensors files of the same directory; pickle is never read, nor a file from elsewhere",
            fix="do not trust this model; get it from its source again",
        )
