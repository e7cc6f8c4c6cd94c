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
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from trueup.errors import ModelError, UsageError
from trueup.ledger.card import CARD, LICENCE
from trueup.models.export_folder import Exported, Source, card_facts, done, whole_model, written
from trueup.models.export_vocabulary import Vocabulary, read_vocabulary
from trueup.models.files import INDEX, WEIGHTS, Folder, read_json, weights
from trueup.models.load import load_tokenizer

DTYPES = ("f32", "f16", "bf16", "q8_0")
BLOCK = 32
"""Weights that share a scale in Q8_0."""
ACTIVATIONS = {"llama": ("silu", "swish"), "gpt2": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")}


@dataclass(frozen=True)
class Architecture:
    """How a family of models is written.

    Attributes:
        name: llama.cpp's name.
        describe: Adds its settings to the file.
        rotated: Whether rows of queries and keys are reordered.
        transposed: Ends of names of weights that Hugging Face has transposed.
    """

    name: str
    describe: Callable[[Any, Any, str], None]
    rotated: bool = False
    transposed: tuple[str, ...] = ()


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
            raise _refuse(f"no weight is called {' or '.join(EMBEDDINGS)}", folder.name)
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


# The settings --------------------------------------------------------------------------------------------------------


def _refuse(what: str, where: str) -> ModelError:
    return ModelError(
        f"llama.cpp would compute something else: {what}",
        where=where,
        fix="serve the Hugging Face folder (--to hf) with vLLM or transformers",
    )


def _describe_llama(writer: Any, config: Any, where: str) -> None:
    if config.hidden_act not in ACTIVATIONS["llama"]:
        raise _refuse(f"hidden_act is {config.hidden_act}", where)
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) and window and window < config.max_position_embeddings:
        raise _refuse(f"attention sees a window of {window} of {config.max_position_embeddings} positions", where)
    heads = config.num_attention_heads
    width = _head_width(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(width)
    writer.add_value_length(width)
    rope = dict(config.rope_parameters or {})
    if float(rope.get("partial_rotary_factor", 1.0)) != 1.0:
        raise _refuse("only a part of each head has rotary positions", where)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if rope.get("rope_type", "default") == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    elif rope.get("rope_type", "default") not in ("default", "llama3"):
        raise _refuse(f"rotary positions are scaled by {rope['rope_type']}", where)


def _describe_gpt2(writer: Any, config: Any, where: str) -> None:
    if config.activation_function not in ACTIVATIONS["gpt2"]:
        raise _refuse(f"activation_function is {config.activation_function}", where)
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights or config.add_cross_attention:
        raise _refuse("attention is scaled by layer, not scaled, or looks at an encoder", where)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


_CONV = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
ARCHITECTURES = {
    "llama": Architecture("llama", _describe_llama, rotated=True),
    "mistral": Architecture("llama", _describe_llama, rotated=True),
    "qwen2": Architecture("qwen2", _describe_llama),
    "qwen3": Architecture("qwen3", _describe_llama),
    "gpt2": Architecture("gpt2", _describe_gpt2, transposed=_CONV),
}
"""By ``model_type`` of config.json."""


# The file ------------------------------------------------------------------------------------------------------------


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

    planned = _planned(folder, config, architecture, kind)
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


@dataclass(frozen=True)
class Tensor:
    """One weight of the file.

    Attributes:
        name: In the file.
        key: In Hugging Face's; empty for what is made from the config.
        shape: As it is written.
        stored: Its type, of ``gguf.GGMLQuantizationType``.
        heads: Heads whose halves are interleaved; 0 for none.
        transposed: Whether Hugging Face has it the other way round.
    """

    name: str
    key: str
    shape: tuple[int, ...]
    stored: Any
    heads: int = 0
    transposed: bool = False

    @property
    def bytes(self) -> int:
        """What it takes in the file."""
        import gguf

        block, size = gguf.GGML_QUANT_SIZES[self.stored]
        return math.prod(self.shape) // int(block) * int(size)

    def read(self, folder: Folder, config: Any) -> np.ndarray[Any, Any]:
        """The weight as it is written.

        Raises:
            ModelError: It does not fit into float16.
        """
        import gguf

        weight = _frequency_factors(config) if not self.key else _load(folder, self.key).float()
        if self.transposed:
            weight = weight.T
        if self.heads:
            halves = weight.reshape(self.heads, 2, weight.shape[0] // self.heads // 2, *weight.shape[1:])
            weight = halves.transpose(1, 2).reshape(weight.shape)
        array: np.ndarray[Any, Any] = np.ascontiguousarray(weight.numpy())
        if self.stored is gguf.GGMLQuantizationType.F16 and np.abs(array).max(initial=0.0) > np.finfo(np.float16).max:
            raise ModelError(
                f"the weight {self.key} does not fit into float16: its largest number is {np.abs(array).max():g}",
                where=folder.name,
                fix="--dtype bf16, which has the range of float32",
            )
        return gguf.quants.quantize(array, self.stored)  # type: ignore[no-any-return]


def _planned(folder: Folder, config: Any, architecture: Architecture, kind: str) -> list[Tensor]:
    """Every weight of the file in order.

    Raises:
        ModelError: A weight has no place in it.
    """
    import gguf

    arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    planned = []
    for key, entry in weights(folder.path).items():
        if MASKS.search(key) or (key == "lm_head.weight" and config.tie_word_embeddings):
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise _refuse(f"GGUF has no place for the weight {key}", folder.name)
        turned = key.endswith(architecture.transposed) if architecture.transposed else False
        shape = tuple(reversed(entry["shape"])) if turned else tuple(entry["shape"])
        heads = _heads(key, config) if architecture.rotated else 0
        planned.append(Tensor(name, key, shape, _stored(name, shape, kind), heads, turned))
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "llama3":
        planned.append(Tensor("rope_freqs.weight", "", (_head_width(config) // 2,), _stored("", (1,), kind)))
    _require_all(folder, config, {tensor.key for tensor in planned})
    return planned


def _require_all(folder: Folder, config: Any, keys: set[str]) -> None:
    """Refuse to leave out a weight that the model computes with.

    Raises:
        ModelError: It says which.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    prefix = f"{model.base_model_prefix}."
    stored = keys | {prefix + key for key in keys}  # older files name the trunk's weights without it
    missing = sorted(name for name, _ in model.named_parameters() if name not in stored)
    if missing:
        raise ModelError(
            f"{len(missing)} weights of the config are not in the files ({', '.join(missing[:3])})",
            where=folder.name,
            expected="every weight that config.json describes",
            fix="config.json and the weights come from different models, or some files are missing: get both again",
        )


MASKS = re.compile(r"(\.attn\.(masked_)?bias|rotary_emb\.inv_freq)$")
"""Tables that old versions saved beside the weights."""


def _heads(key: str, config: Any) -> int:
    if ".self_attn.q_proj." in key:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads or config.num_attention_heads) if ".self_attn.k_proj." in key else 0


def _stored(name: str, shape: tuple[int, ...], kind: str) -> Any:
    """The type of a weight in the file; vectors and learned positions stay in float32."""
    from gguf import GGMLQuantizationType as Type

    if len(shape) < 2 or name.startswith("position_embd"):
        return Type.F32
    if kind == "q8_0" and shape[-1] % BLOCK:
        return Type.F16
    return {"f32": Type.F32, "f16": Type.F16, "bf16": Type.BF16, "q8_0": Type.Q8_0}[kind]


def _frequency_factors(config: Any) -> torch.Tensor:
    """By what llama.cpp divides each rotary frequency of Llama 3.1 and later (its paper's section 3.4.1, "llama3")."""
    rope = config.rope_parameters
    width = _head_width(config)
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    waves = 2 * math.pi * float(rope["rope_theta"]) ** exponents
    low, high, original = (
        float(rope[name]) for name in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    smooth = (original / waves - low) / (high - low)
    between = 1.0 / ((1.0 - smooth) / float(rope["factor"]) + smooth)
    factors = torch.where(waves < original / high, torch.ones_like(waves), between)
    return torch.where(waves > original / low, torch.full_like(waves, float(rope["factor"])), factors).float()


def _load(folder: Folder, key: str) -> torch.Tensor:
    file = WEIGHTS if (folder.path / WEIGHTS).is_file() else read_json(folder.path / INDEX)["weight_map"][key]
    with safe_open(folder.path / file, framework="pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(key)
    return tensor
