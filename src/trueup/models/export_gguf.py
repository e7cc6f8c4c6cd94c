"""A model as one GGUF file, which llama.cpp and Ollama open. Written with the ``gguf`` package (MIT) of llama.cpp.

llama.cpp's own converter is a script of its repository and in no package. This writer does the same for the
architectures below and refuses all others, and every setting of these that llama.cpp would not act on: a file that
computes something else than the model is worse than none. tests/models/test_export_gguf.py compares log-probs, ids and
chat template with llama.cpp itself.

Two things differ between the file and Hugging Face's weights. llama.cpp turns neighbouring dimensions of queries and
keys by rotary positions where Hugging Face's Llama turns halves, so their rows are reordered. GPT-2's layers are
transposed.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from trueup.errors import ModelError, UsageError
from trueup.ledger.card import CARD, LICENCE
from trueup.models.export_architectures import ARCHITECTURES, Architecture, refuse
from trueup.models.export_folder import Exported, Source, card_facts, done, whole_model, written
from trueup.models.export_tensors import BLOCK, plan_tensors
from trueup.models.export_vocabulary import Vocabulary, read_vocabulary
from trueup.models.files import Folder, read_json, weights
from trueup.models.load import load_tokenizer

DTYPES = ("f32", "f16", "bf16", "q8_0")


def export_gguf(source: Source, out: Path, dtype: str | None = None) -> Exported:
    """Write ``<title>-<dtype>.gguf`` with card and licence into a new folder.

    Args:
        source: A language model.
        out: New folder.
        dtype: ``f32``, ``f16``, ``bf16`` or ``q8_0``; None keeps the precision of the weights. Vectors, norms and
            learned positions stay in float32, as llama.cpp wants them.

    Raises:
        UsageError: The ``gguf`` package is absent, the precision is none of these, or the target is there.
        ModelError: It is a reward model, of another architecture, or has a tokenizer or a setting that llama.cpp does
            not know.
        RunError: The disk refuses.
    """
    _require_package()
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"{dtype!r}", where="--dtype", expected=f"for --to gguf one of {', '.join(DTYPES)}")
    with whole_model(source, out) as (folder, remarks):
        if folder.is_reward_model:
            raise ModelError(
                "this is a reward model: GGUF is written for language models",
                where=source.name,
                fix="--to hf, and score with trueup.open_reward or transformers",
            )
        config, architecture = _opened(folder)
        tokenizer = load_tokenizer(str(folder.path))
        stored = weights(folder.path)
        embedding = next((t for name, t in stored.items() if name.endswith(EMBEDDINGS)), None)
        if embedding is None:
            raise refuse(f"no weight is called {' or '.join(EMBEDDINGS)}", folder.name)
        vocabulary = read_vocabulary(folder.path, tokenizer, int(embedding["shape"][0]))
        kind = dtype or _kind_of(folder)
        size = sum(math.prod(entry["shape"]) for entry in stored.values()) * {"f32": 4.0, "q8_0": 1.07}.get(kind, 2.0)
        with written(out, int(size)) as target:
            file = target / f"{source.title}-{kind}.gguf"
            remarks += vocabulary.remarks
            remarks += _write(file, folder, config, architecture, vocabulary, tokenizer, kind, source.title)
            for name in (CARD, LICENCE):
                if (folder.path / name).is_file():
                    shutil.copyfile(folder.path / name, target / name)
    return done(out, "gguf", remarks)


EMBEDDINGS = ("embed_tokens.weight", "wte.weight")


def _require_package() -> None:
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "the gguf package is not installed", where="--to gguf", fix='pip install "trueup[gguf]"'
        ) from error


def _opened(folder: Folder) -> tuple[Any, Architecture]:
    from transformers import AutoConfig

    kind = folder.config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ModelError(
            f"models of the kind {kind!r} cannot be written as GGUF here",
            where=folder.name,
            expected=f"one of {', '.join(ARCHITECTURES)}",
            fix="--to hf, and llama.cpp's own convert_hf_to_gguf.py on that folder",
        )
    return AutoConfig.from_pretrained(str(folder.path), local_files_only=True), ARCHITECTURES[kind]


def _kind_of(folder: Folder) -> str:
    kinds = {entry["dtype"] for entry in weights(folder.path).values() if len(entry["shape"]) > 1}
    return {"BF16": "bf16", "F16": "f16"}.get(kinds.pop(), "f32") if len(kinds) == 1 else "f32"


def _write(
    file: Path,
    folder: Folder,
    config: Any,
    architecture: Architecture,
    vocabulary: Vocabulary,
    tokenizer: Any,
    kind: str,
    title: str,
) -> list[str]:
    import gguf

    planned = plan_tensors(folder, config, architecture, kind)
    writer = gguf.GGUFWriter(file, architecture.name)
    try:
        _add_general(writer, folder, title, kind)
        architecture.describe(writer, config, folder.name)
        remarks = _add_vocabulary(writer, vocabulary, tokenizer, folder.path)
        for tensor in planned:
            writer.add_tensor_info(
                tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes, raw_dtype=tensor.stored
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in planned:
            writer.write_tensor_data(tensor.read(folder, config))
    finally:
        writer.close()
    if kind == "q8_0" and (kept := [t.name for t in planned if t.stored is gguf.GGMLQuantizationType.F16]):
        remarks.append(f"{len(kept)} weights are float16, not q8_0: their rows are no multiple of {BLOCK} ({kept[0]})")
    return remarks


def _add_general(writer: Any, folder: Folder, title: str, kind: str) -> None:
    import gguf

    types = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
    front = card_facts(folder.path)
    writer.add_type("model")
    writer.add_name(title)
    for key, add in (
        ("license", writer.add_license),
        ("license_name", writer.add_license_name),
        ("license_link", writer.add_license_link),
    ):
        if isinstance(front.get(key), str):
            add(front[key])
    if isinstance(front.get("tags"), list):
        writer.add_tags([str(tag) for tag in front["tags"]])
    writer.add_file_type(gguf.LlamaFileType[types[kind]])
    if kind == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary, tokenizer: Any, path: Path) -> list[str]:
    """Tokens, special ids and chat template; returns what could not be said."""
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    if vocabulary.model == "gpt2":
        writer.add_tokenizer_pre(vocabulary.pre)
        writer.add_token_merges(vocabulary.merges)
    else:
        writer.add_token_scores(vocabulary.scores)
    writer.add_add_space_prefix(vocabulary.space)
    writer.add_add_bos_token(vocabulary.first)
    writer.add_add_eos_token(vocabulary.last)
    for index, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if index is not None:
            add(index)
    if tokenizer.chat_template is not None:
        template = tokenizer.chat_template
        named = isinstance(template, dict)
        writer.add_chat_template([{"name": n, "template": t} for n, t in template.items()] if named else template)
    ends = _ends(tokenizer, path)
    for index, add in zip(ends, (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)):  # noqa: B905
        add(index)
    more = [repr(vocabulary.tokens[index]) for index in ends[3:]]
    return [f"llama.cpp does not stop at {', '.join(more)}: GGUF names three end tokens"] if more else []


def _ends(tokenizer: Any, path: Path) -> list[int]:
    """End tokens, the tokenizer's own first: chat templates call it ``eos_token``."""
    file = path / "generation_config.json"
    named = read_json(file).get("eos_token_id") if file.is_file() else None
    listed = named if isinstance(named, list) else [named]
    return list(dict.fromkeys(i for i in (tokenizer.eos_token_id, *listed) if isinstance(i, int)))
