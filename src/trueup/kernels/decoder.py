"""One decoding step as few tensor operations: what makes sampling from small and middle-sized models fast.

Hugging Face's layers spend most of a one-token step in Python. Here a step is a flat list of products on weights that
are cast once per call, beside a cache (``kernels.cache``). Prompts are read by the same products as packed streams,
some at a time, without padding and equal neighbours once. A self-check compares the first logits of a model with its
own; where they differ, or where the architecture is not one of those below, sampling uses the model itself.

Shapes: B rows, T cached positions, H heads, K key-value heads, E head width, D width, N tokens of a stream.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.nn import functional

from trueup.kernels.cache import Cache
from trueup.kernels.packing import attend_in_rows, pack
from trueup.kernels.products import has_amx, prefers_onednn

GATED = ("llama", "mistral", "qwen2", "qwen3")
"""RMS norms, rotary positions, gated MLP."""
Attend: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(queries and keys [N, H + K, E], values [N, K, E]) -> attended, N rows of H * E."""
PREFILL_TOKENS, GPU_PREFILL_TOKENS = 1024, 16_384
"""Tokens of prompts that are read at a time: what a layer makes of them need not be held for all."""
STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Rotary variants whose angles depend on the position only."""


class StagingBuffer:
    """Where weights are made ready to be packed, one after another: made anew each time, they would leave holes."""

    def __init__(self, dtype: torch.dtype, rows: int) -> None:
        self.dtype, self.rows = dtype, rows
        self._memory = torch.empty(0, dtype=dtype)

    def joined(self, weights_OI: Sequence[torch.Tensor]) -> torch.Tensor:
        """The rows of all, dense [O, I], on the CPU; good until the next call."""
        shape = (sum(weight.shape[0] for weight in weights_OI), weights_OI[0].shape[1])
        if self._memory.numel() < math.prod(shape):
            self._memory = torch.empty(math.prod(shape), dtype=self.dtype)
        return torch.cat(list(weights_OI), out=self._memory[: math.prod(shape)].view(shape))


class PackedLinear:
    """``input @ weight + bias`` for few rows: the weight stands as the kernel of this precision wants it.

    On the CPU, weights are packed once by oneDNN in bfloat16, and in float32 where it is the faster library; else
    float32 ones are kept [in, out]. Each is a quarter to a third faster at 32 rows than the layout of training
    (``benchmarks/kernels.py``).

    Args:
        weights_OI: Of layers that read the same input; any precision and strides.
        bias_O: Of all together.
        staging: Says the precision and about how many rows there will be.
    """

    def __init__(self, weights_OI: Sequence[torch.Tensor], bias_O: torch.Tensor | None, staging: StagingBuffer) -> None:
        self.bias_O = None if bias_O is None else bias_O.to(staging.dtype)
        self.packed: Any = None
        self.weight_IO: torch.Tensor | None = None  # not beside the packed one: that would be a second copy
        on_cpu = weights_OI[0].device.type == "cpu"
        low_precision = staging.dtype is torch.bfloat16 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if on_cpu and (low_precision or (staging.dtype is torch.float32 and prefers_onednn())):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(staging.joined(weights_OI), staging.rows)
        else:
            weights = [weight.to(staging.dtype) for weight in weights_OI]
            weight_OI = weights[0] if len(weights) == 1 else torch.cat(weights)
            self.weight_IO = weight_OI.t().contiguous() if on_cpu else weight_OI.t()

    def __call__(self, input_BI: torch.Tensor, *, gelu: bool = False) -> torch.Tensor:
        """The product [B, O]; with ``gelu``, its GELU in the tanh form."""
        if self.packed is not None:
            name, algorithm = ("gelu", "tanh") if gelu else ("none", "")
            packed: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                input_BI, self.packed, self.bias_O, name, [], algorithm
            )
            return packed
        assert self.weight_IO is not None
        bias_O, weight_IO = self.bias_O, self.weight_IO
        output = input_BI @ weight_IO if bias_O is None else torch.addmm(bias_O, input_BI, weight_IO)
        return functional.gelu(output, approximate="tanh") if gelu else output


def _rms(state: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root-mean-square norm in fewer passes over memory than PyTorch's takes on the CPU.

    ``weight`` has been multiplied by the root of the width, so that the norm need not be made a mean.
    """
    size = torch.linalg.vector_norm(state, dim=-1, keepdim=True)
    normed: torch.Tensor = (state * size.square_().add_(eps * state.shape[-1]).rsqrt_()).mul_(weight)
    return normed


def _attend_once(
    query_BHE: torch.Tensor, key_BKTE: torch.Tensor, value_BKTE: torch.Tensor, bias_R1T: torch.Tensor
) -> torch.Tensor:
    """Attention [B, H, E] of one query a row, as two plain products in the precision of the cache; R is B * K.

    PyTorch's CPU kernel is made for many queries: with one it takes up to three times as long in float32 on AMD
    processors, and four times or more in bfloat16 (``benchmarks/kernels.py``).
    """
    grouped = query_BHE.reshape(len(bias_R1T), -1, query_BHE.shape[-1])
    keys, values = (block.view(len(bias_R1T), *block.shape[2:]) for block in (key_BKTE, value_BKTE))
    logits = torch.baddbmm(bias_R1T, grouped, keys.transpose(1, 2), alpha=query_BHE.shape[-1] ** -0.5)
    return torch.bmm(torch.softmax(logits, -1), values).view(query_BHE.shape)


def _attend_by_pytorch(
    query_BHE: torch.Tensor, key_BKTE: torch.Tensor, value_BKTE: torch.Tensor, bias_B11T: torch.Tensor | None
) -> torch.Tensor:
    """The same where PyTorch's kernel is the faster: on GPUs, and in bfloat16 on CPUs that have AMX."""
    grouped = query_BHE.shape[1] != key_BKTE.shape[1]
    output_BH1E = functional.scaled_dot_product_attention(
        query_BHE[:, :, None], key_BKTE, value_BKTE, attn_mask=bias_B11T, enable_gqa=grouped
    )
    return output_BH1E[:, :, 0]


def _groups(lengths: Sequence[int], budget: int) -> Iterator[slice]:
    """Neighbours whose lengths sum to ``budget`` at most; one that is longer stands alone."""
    begin = total = 0
    for end, length in enumerate(lengths):
        if end > begin and total + length > budget:
            yield slice(begin, end)
            begin, total = end, 0
        total += length
    yield slice(begin, len(lengths))


@dataclass(frozen=True, eq=False)
class _Layer:
    norm_in: tuple[torch.Tensor, torch.Tensor | None]
    qkv: PackedLinear
    out: PackedLinear
    norm_mlp: tuple[torch.Tensor, torch.Tensor | None]
    up: PackedLinear
    down: PackedLinear
    qk_norms: tuple[torch.Tensor, torch.Tensor] | None


@dataclass(frozen=True, eq=False)
class _Shape:
    gated: bool
    heads: int
    kv_heads: int
    size: int
    eps: float


def supports(model: Any, length: int) -> bool:
    """Whether ``Decoder`` can stand in for ``model`` on sequences of ``length`` tokens."""
    config = model.config
    if config.model_type == "gpt2":
        plain = config.activation_function in ("gelu_new", "gelu_pytorch_tanh")
        return (
            plain
            and not config.add_cross_attention
            and not config.scale_attn_by_inverse_layer_idx
            and config.scale_attn_weights
        )
    if config.model_type in GATED:
        window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        rope = getattr(config, "rope_parameters", None) or {}
        return (
            config.hidden_act == "silu"
            and (window is None or window >= length)
            and rope.get("rope_type", "default") in STATIC_ROPE
            and rope.get("partial_rotary_factor", 1.0) == 1.0
        )
    return False


class Decoder:
    """The weights of one sampling call, as a decoding step wants them.

    Args:
        model: A causal LM for which ``supports`` holds.
        dtype: Of weights, products and cache. The residual stream is float32 or wider.
        rows: About how many rows a step will have; kernels are chosen for it.
    """

    def __init__(self, model: Any, dtype: torch.dtype, rows: int) -> None:
        config, body = model.config, model.base_model
        gated = config.model_type in GATED
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.dtype = dtype
        self.upcast = torch.promote_types(dtype, torch.float32)
        self.shape = _Shape(
            gated,
            heads,
            (getattr(config, "num_key_value_heads", None) or heads) if gated else heads,
            size,
            float(config.rms_norm_eps if gated else config.layer_norm_epsilon),
        )
        with torch.no_grad():
            self.embedding = model.get_input_embeddings().weight
            self.position_weight = None if gated else body.wpe.weight
            source = body.layers if gated else body.h
            build = self._gated_layer if gated else self._gpt2_layer
            staging = StagingBuffer(dtype, rows)
            self.layers = [build(layer, staging) for layer in source]
            self.final = self._norm(body.norm if gated else body.ln_f)
            del staging  # before the head, which is larger, takes its own
            self.head = _joined([model.get_output_embeddings()], StagingBuffer(dtype, rows))
        self.rotary = body.rotary_emb if gated else None
        self.cosine_TE = self.sine_TE = self.embedding.new_zeros(0)

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> tuple[torch.Tensor, Cache]:
        """Logits [B, V] after the prompts, and the cache that holds these, with columns for ``max_new_tokens`` more."""
        shape, device = self.shape, self.embedding.device
        lengths = [len(p) for p in prompts]
        self._build_rope(max(lengths) + max_new_tokens)
        cache = Cache(
            lengths,
            max_new_tokens,
            layers=len(self.layers),
            heads=shape.kv_heads,
            size=shape.size,
            dtype=self.dtype,
            device=device,
            grows=device.type == "cpu" and not (self.dtype is torch.bfloat16 and has_amx()),
        )
        budget = PREFILL_TOKENS if device.type == "cpu" else GPU_PREFILL_TOKENS
        ends = [self._read(prompts, rows, cache) for rows in _groups(lengths, budget)]
        state_BD, attended_BD = (torch.cat(parts) for parts in zip(*ends, strict=True))
        return self._logits(state_BD, attended_BD), cache

    def _read(self, prompts: Sequence[Sequence[int]], rows: slice, cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
        """Run these prompts and fill their rows of the cache; what ``_logits`` wants, at their ends.

        The rest of the last layer runs there only: of the tokens before, it makes keys and values.
        """
        shape, device, width = self.shape, self.embedding.device, cache.column
        stream = pack(prompts[rows], [()] * (rows.stop - rows.start), device)
        # Left of a short prompt other tokens stand in: masked, so that they need only be finite.
        index_BT = (stream.last_B[:, None] - torch.arange(width - 1, -1, -1, device=device)).clamp(min=0)
        blocks = zip(cache.keys, cache.values, strict=True)

        def attend(query_key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            query, key = query_key[:, : shape.heads], query_key[:, shape.heads :]
            for source, block in zip((key, value), next(blocks), strict=True):
                block[rows, :, :width] = source[index_BT].transpose(1, 2)
            return attend_in_rows(query, key, value, stream)

        state_ND, attended_ND = self._layers(stream.ids_N, stream.positions_N, attend)
        return state_ND[stream.last_B], attended_ND[stream.last_B]

    def _build_rope(self, limit: int) -> None:
        """Rotary angles of ``limit`` positions or more."""
        if self.rotary is None or limit <= len(self.cosine_TE):
            return
        positions = torch.arange(limit, device=self.embedding.device)[None]
        cosine, sine = self.rotary(self.embedding[:1, :1].to(self.upcast)[None], positions)
        half = self.shape.size // 2
        sign = torch.cat([-torch.ones(half), torch.ones(half)]).to(sine)
        self.cosine_TE, self.sine_TE = cosine[0].to(self.upcast), (sine[0] * sign).to(self.upcast)

    @torch.inference_mode()
    def step(self, cache: Cache, token_B: torch.Tensor, position_B: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] after one more token a row; ``position_B`` are their positions, counted without padding."""
        shape, layers = self.shape, iter(range(len(self.layers)))
        bias_B11T = cache.open()
        if bias_B11T is not None and cache.grows:
            bias_R1T = bias_B11T.expand(-1, shape.kv_heads, -1, -1).flatten(0, 1)
            attend_to = functools.partial(_attend_once, bias_R1T=bias_R1T)
        else:
            attend_to = functools.partial(_attend_by_pytorch, bias_B11T=bias_B11T)

        def attend(query_key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            keys, values = cache.add(next(layers), query_key[:, shape.heads :], value)
            return attend_to(query_key[:, : shape.heads], keys, values)

        return self._logits(*self._layers(token_B, position_B, attend))

    def _layers(
        self, token_N: torch.Tensor, position_N: torch.Tensor, attend: Attend
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens at their positions as far as the last layer's attention: residual stream and attended, each [N, D].

        ``attend`` knows who sees whom, layer by layer.
        """
        shape, count = self.shape, token_N.shape[0]
        state_ND = functional.embedding(token_N, self.embedding).to(self.upcast)
        cosine = sine = None
        if self.position_weight is not None:
            state_ND = state_ND + functional.embedding(position_N, self.position_weight)
        else:
            cosine = self.cosine_TE.index_select(0, position_N)[:, None]
            sine = self.sine_TE.index_select(0, position_N)[:, None]
        for layer in self.layers:
            mixed = layer.qkv(self._normed(state_ND, layer.norm_in))
            heads = mixed.view(count, shape.heads + 2 * shape.kv_heads, shape.size)
            query_key = heads[:, : shape.heads + shape.kv_heads]
            if layer.qk_norms is not None:
                query_key = torch.cat(
                    [
                        _rms(part.to(self.upcast), weight, shape.eps)
                        for part, weight in zip(
                            (heads[:, : shape.heads], heads[:, shape.heads : shape.heads + shape.kv_heads]),
                            layer.qk_norms,
                            strict=True,
                        )
                    ],
                    1,
                )
            if cosine is not None and sine is not None:
                swapped = query_key.roll(shape.size // 2, -1)
                query_key = torch.addcmul(query_key * cosine, swapped, sine).to(self.dtype)
            attended = attend(query_key, heads[:, shape.heads + shape.kv_heads :]).reshape(count, -1)
            if layer is self.layers[-1]:
                break
            state_ND = self._after_attention(layer, state_ND, attended)
        return state_ND, attended

    def _after_attention(self, layer: _Layer, state_ND: torch.Tensor, attended_ND: torch.Tensor) -> torch.Tensor:
        """The residual stream [N, D] after the layer."""
        state_ND = state_ND + layer.out(attended_ND)
        inner = layer.up(self._normed(state_ND, layer.norm_mlp), gelu=not self.shape.gated)
        if self.shape.gated:
            gate, value = inner.chunk(2, -1)
            inner = functional.silu(gate).mul_(value)
        return state_ND + layer.down(inner)

    def _logits(self, state_BD: torch.Tensor, attended_BD: torch.Tensor) -> torch.Tensor:
        """Logits [B, V], float32 or wider, of what ``_layers`` returned."""
        state_BD = self._after_attention(self.layers[-1], state_BD, attended_BD)
        return self.head(self._normed(state_BD, self.final)).to(self.upcast)

    def _normed(self, state_BD: torch.Tensor, norm: tuple[torch.Tensor, torch.Tensor | None]) -> torch.Tensor:
        weight, bias = norm
        if self.shape.gated:
            return _rms(state_BD, weight, self.shape.eps).to(self.dtype)
        return functional.layer_norm(state_BD, (state_BD.shape[-1],), weight, bias, self.shape.eps).to(self.dtype)

    def _norm(self, module: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.shape.gated:
            return self._rms_weight(module), None
        return module.weight.to(self.upcast), None if module.bias is None else module.bias.to(self.upcast)

    def _rms_weight(self, module: Any) -> torch.Tensor:
        """As ``_rms`` wants it."""
        weight: torch.Tensor = module.weight.to(self.upcast)
        return weight * math.sqrt(len(weight))

    def _gated_layer(self, layer: Any, staging: StagingBuffer) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        norms = (
            (self._rms_weight(attention.q_norm), self._rms_weight(attention.k_norm))
            if hasattr(attention, "q_norm")
            else None
        )
        return _Layer(
            self._norm(layer.input_layernorm),
            _joined([attention.q_proj, attention.k_proj, attention.v_proj], staging),
            _joined([attention.o_proj], staging),
            self._norm(layer.post_attention_layernorm),
            _joined([mlp.gate_proj, mlp.up_proj], staging),
            _joined([mlp.down_proj], staging),
            norms,
        )

    def _gpt2_layer(self, layer: Any, staging: StagingBuffer) -> _Layer:
        def transposed(module: Any) -> PackedLinear:  # Conv1D keeps [in, out]
            return PackedLinear([module.weight.t()], module.bias, staging)

        return _Layer(
            self._norm(layer.ln_1),
            transposed(layer.attn.c_attn),
            transposed(layer.attn.c_proj),
            self._norm(layer.ln_2),
            transposed(layer.mlp.c_fc),
            transposed(layer.mlp.c_proj),
            None,
        )


def _joined(modules: Sequence[Any], staging: StagingBuffer) -> PackedLinear:
    """One product from several linear layers that read the same input."""
    biases = [module.bias for module in modules if module.bias is not None]
    return PackedLinear([module.weight for module in modules], torch.cat(biases) if biases else None, staging)
