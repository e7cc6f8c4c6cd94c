"""Packed streams: every distinct token of a batch is computed once, in one row without padding.

A batch of sequences becomes one row of N tokens. Sequences that share a prompt share its tokens: the row holds
``prompt | answer 1 | answer 2 | ...`` and positions restart at the prompt's end. Everything that works token by
token (projections, norms, activations, the MLP) then runs on real tokens only. Attention alone needs to know which
tokens belong together: queries, keys and values are gathered into right-padded rows, ordinary causal attention runs
there, and each token takes back its own output. No dense mask exists, and the numbers are those of plain rows.
A few idle tokens at the end bring N to a round number, because kernels are compiled for each shape that occurs; nothing
reads them, and they attend to nothing.

Shapes: N tokens of the stream, R rows (sequences) of one attention bucket, T positions, H heads, K key-value heads,
E head width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from trueup.kernels.attention import causal, causal_grads, has_own_backward
from trueup.kernels.products import autocast_dtype, rounded

NAME = "trueup"
"""Our attention, as Hugging Face configurations call it."""
POSITION_ARGUMENTS = frozenset({"position_ids", "cache_position"})
"""Tensors that attention layers pass on and that say nothing but where the tokens are."""
SHARED_FROM = 8
"""Prompts shorter than this are not worth sharing: the bookkeeping would cost more than the tokens."""

_ACTIVE: ContextVar[_Attending | None] = ContextVar("attending", default=None)


@dataclass(frozen=True, eq=False)
class Stream:
    """Token ids and positions of a packed batch, and where attention finds each row."""

    ids_N: torch.Tensor
    positions_N: torch.Tensor
    rows: tuple[torch.Tensor, ...]
    """Per attention bucket: stream index of each position, [R, T]; padding points at the row's first token."""
    primary_slot: torch.Tensor
    """Where in the flattened, concatenated buckets the own output of each token stands; idle tokens have none."""
    duplicates: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """For gradients of shared tokens: (stream index, flat bucket index) of the second, third, ... copies."""
    source_N: torch.Tensor
    """Stream index of the position whose output scores each completion token, completions in order."""
    last_B: torch.Tensor
    """Stream index of the last token of each sequence."""

    def __len__(self) -> int:
        return int(self.ids_N.shape[0])


@dataclass(frozen=True, eq=False)
class _Attending:
    """How a model attends by us for now."""

    config: Any
    stream: Stream | None
    """None: in right-padded rows."""
    own_backward: bool
    """Whether the backward pass of ``kernels.attention`` may be used."""


def pack(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], device: torch.device | str = "cpu"
) -> Stream:
    """The stream of a batch; sequences with equal prompts share the prompt's tokens.

    Args:
        prompts: Token ids, none empty.
        completions: Token ids; an empty one adds a row that scores nothing.
        device: Where the tensors go.
    """
    ids: list[Sequence[int]] = []
    positions: list[np.ndarray[Any, Any]] = []
    heads: dict[tuple[int, ...], int] = {}
    spans: list[tuple[int, int, int, int]] = []  # prompt start, prompt length, completion start, completion length
    size = 0
    for prompt, completion in zip(prompts, completions, strict=True):
        key = tuple(prompt)
        start = heads.get(key)
        if start is None:
            start = size
            ids.append(prompt)
            positions.append(np.arange(len(prompt)))
            size += len(prompt)
            if len(prompt) >= SHARED_FROM:
                heads[key] = start
        ids.append(completion)
        positions.append(np.arange(len(prompt), len(prompt) + len(completion)))
        spans.append((start, len(prompt), size, len(completion)))
        size += len(completion)
    source = [
        np.concatenate([[p + pn - 1], np.arange(c, c + cn - 1)]) if cn else np.empty(0, dtype=np.int64)
        for p, pn, c, cn in spans
    ]
    last = np.array([c + cn - 1 if cn else p + pn - 1 for p, pn, c, cn in spans])
    rows, primary_slot, duplicates = _attention_rows(spans, size)
    idle = rounded(size) - size
    ids.append([0] * idle)
    positions.append(np.zeros(idle, dtype=np.int64))

    def move(array: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(device)

    return Stream(
        move(np.fromiter((t for piece in ids for t in piece), dtype=np.int64, count=size + idle)),
        move(np.concatenate(positions)),
        tuple(move(index) for index in rows),
        move(primary_slot),
        tuple((move(token), move(flat)) for token, flat in duplicates),
        move(np.concatenate(source)),
        move(last),
    )


def _attention_rows(
    spans: Sequence[tuple[int, int, int, int]], size: int
) -> tuple[list[np.ndarray[Any, Any]], np.ndarray[Any, Any], list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]]:
    """Rows bucketed by length (padding stays under a fifth), each token's primary slot, and copies of shared ones."""
    order = sorted(range(len(spans)), key=lambda i: -(spans[i][1] + spans[i][3]))
    buckets: list[list[int]] = []
    for i in order:
        length = spans[i][1] + spans[i][3]
        longest = spans[buckets[-1][0]][1] + spans[buckets[-1][0]][3] if buckets else 0
        if buckets and length >= 0.8 * longest:
            buckets[-1].append(i)
        else:
            buckets.append([i])
    primary_slot = np.full(size, -1, dtype=np.int64)
    rows: list[np.ndarray[Any, Any]] = []
    duplicates: list[list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]] = []
    copies: dict[int, int] = {}
    flat = 0
    for bucket in buckets:
        width = rounded(max(1, *(spans[i][1] + spans[i][3] for i in bucket)), share=8)
        index = np.empty((len(bucket), width), dtype=np.int64)
        for row, i in enumerate(bucket):
            start, pn, completion, cn = spans[i]
            prompt = np.arange(start, start + pn)
            index[row, :pn] = prompt
            index[row, pn : pn + cn] = np.arange(completion, completion + cn)
            index[row, pn + cn :] = start
            slot = flat + row * width + np.arange(pn + cn)
            seen = copies.get(start, 0)
            copies[start] = seen + 1
            if seen == 0:
                primary_slot[prompt] = slot[:pn]
            else:
                while len(duplicates) < seen:
                    duplicates.append([])
                duplicates[seen - 1].append((prompt, slot[:pn]))
            primary_slot[completion : completion + cn] = slot[pn:]
        rows.append(index)
        flat += index.size
    joined = [
        (np.concatenate([token for token, _ in level]), np.concatenate([slot for _, slot in level]))
        for level in duplicates
    ]
    return rows, primary_slot, joined


class _ToRows(torch.autograd.Function):
    """``[N, ...] -> [sum R*T, ...]``, the positions of all rows."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, stream: Stream) -> torch.Tensor:
        ctx.stream = stream
        return torch.cat([values.index_select(0, index.flatten()) for index in stream.rows])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _sum_duplicates(grad, ctx.stream), None


class _ToStream(torch.autograd.Function):
    """``[sum R*T, ...] -> [N, ...]``: each token takes its own output."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, stream: Stream) -> torch.Tensor:
        ctx.stream = stream
        return _gather(values, stream)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _scatter(grad, ctx.stream), None


class _InRows(torch.autograd.Function):
    """Plain causal attention of a stream; what its rows hold is gathered again in the backward pass, not kept."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, stream: Stream, scale: float | None
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.stream, ctx.scale = stream, scale
        outputs = [_flat(causal(*_picked(index_RT, query, key, value), scale=scale)) for index_RT in stream.rows]
        return _gather(torch.cat(outputs), stream)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        stream: Stream = ctx.stream
        kept = ctx.saved_tensors
        grads: list[tuple[torch.Tensor, ...]] = []
        sizes = [index.numel() for index in stream.rows]
        for index_RT, part in zip(stream.rows, torch.split(_scatter(grad, stream), sizes), strict=True):
            query, key, value = _picked(index_RT, *kept)
            grads.append(tuple(map(_flat, causal_grads(query, key, value, _rows(part, index_RT), ctx.scale))))
        grad_query, grad_key, grad_value = (
            _sum_duplicates(torch.cat(pieces), stream) for pieces in zip(*grads, strict=True)
        )
        return grad_query, grad_key, grad_value, None, None


def _picked(index_RT: torch.Tensor, *values: torch.Tensor) -> list[torch.Tensor]:
    """``[N, H, E] -> [R, H, T, E]`` of one bucket."""
    return [_rows(tensor.index_select(0, index_RT.flatten()), index_RT) for tensor in values]


def _rows(flat: torch.Tensor, index_RT: torch.Tensor) -> torch.Tensor:
    """``[R*T, H, E] -> [R, H, T, E]``."""
    return flat.view(*index_RT.shape, *flat.shape[1:]).transpose(1, 2)


def _flat(rows_RHTE: torch.Tensor) -> torch.Tensor:
    """``[R, H, T, E] -> [R*T, H, E]``."""
    return rows_RHTE.transpose(1, 2).flatten(0, 1)


def _gather(values: torch.Tensor, stream: Stream) -> torch.Tensor:
    """``[sum R*T, ...] -> [N, ...]``: what stands at each token's primary slot, zero for idle tokens."""
    real = len(stream.primary_slot)
    own = values.new_empty((len(stream), *values.shape[1:]))
    torch.index_select(values, 0, stream.primary_slot, out=own[:real])
    own[real:] = 0
    return own


def _scatter(values: torch.Tensor, stream: Stream) -> torch.Tensor:
    """``[N, ...] -> [sum R*T, ...]``: each token's value at its primary slot, zero elsewhere."""
    slots = values.new_zeros((sum(index.numel() for index in stream.rows), *values.shape[1:]))
    slots[stream.primary_slot] = values[: len(stream.primary_slot)]
    return slots


def _sum_duplicates(values: torch.Tensor, stream: Stream) -> torch.Tensor:
    """``[sum R*T, ...] -> [N, ...]``: sums over the copies of each token, without atomics or sorting."""
    sums = _gather(values, stream)
    for token, flat in stream.duplicates:
        sums[token] += values.index_select(0, flat)
    return sums


def our_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each sequence of the active stream, or inside each right-padded row where there is none.

    In the form that Hugging Face attention layers call.

    Args:
        query: [1, H, N, E], or [B, H, T, E] of rows; ``key`` and ``value`` may have fewer heads (grouped queries).
        sliding_window: Tokens that a token may look back on, itself included.
        softcap: Logits are ``softcap * tanh(logits / softcap)`` (Gemma 2).

    Returns:
        ``([1, N, H, E], None)``, or ``([B, T, H, E], None)``.

    Raises:
        ValueError: The model brings a mask, a bias or sinks of its own, which would be left out. So learned ones count
            that are still zero, and change nothing yet.
    """
    own = [name for name, value in more.items() if isinstance(value, torch.Tensor) and name not in POSITION_ARGUMENTS]
    if attention_mask is not None or own:
        raise ValueError(f"its attention has {', '.join(own) or 'a mask'} of its own")
    attending = _ACTIVE.get()
    assert attending is not None, "our attention runs inside `packed()` and `padded()` only"
    stream = attending.stream
    # Cast as PyTorch's own attention would, but before rows are gathered.
    query, key, value = (_as_used(tensor) for tensor in (query, key, value))
    options: dict[str, Any] = {
        "scale": scaling,
        "window": sliding_window,
        "softcap": softcap,
        "own_backward": attending.own_backward,
    }
    if stream is None:
        return causal(query, key, value, **options).transpose(1, 2), None
    q_NHE, k_NKE, v_NKE = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return attend_in_rows(q_NHE, k_NKE, v_NKE, stream, **options)[None], None


def _as_used(tensor: torch.Tensor) -> torch.Tensor:
    low_precision = autocast_dtype(tensor.device.type)
    return tensor if low_precision is None else tensor.to(low_precision)


def attend_in_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    stream: Stream,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    own_backward: bool = True,
) -> torch.Tensor:
    """Causal attention inside each sequence of ``stream``: ``[N, H, E]`` and twice ``[N, K, E] -> [N, H, E]``.

    The options are those of ``causal``.
    """
    output: torch.Tensor
    widths = [index.shape[1] for index in stream.rows]
    if own_backward and all(has_own_backward(query, key, width, window=window, softcap=softcap) for width in widths):
        output = _InRows.apply(query, key, value, stream, scale)  # type: ignore[no-untyped-call]
        return output
    flat = [_ToRows.apply(tensor, stream) for tensor in (query, key, value)]  # type: ignore[no-untyped-call]
    sizes = [index.numel() for index in stream.rows]
    outputs = []
    # One split, not slices: its backward is one concatenation.
    for index, *parts in zip(stream.rows, *(tensor.split(sizes) for tensor in flat), strict=True):
        q, k, v = (_rows(part, index) for part in parts)
        rows = causal(q, k, v, scale=scale, window=window, softcap=softcap, own_backward=own_backward)
        outputs.append(_flat(rows))
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    output = _ToStream.apply(joined, stream)  # type: ignore[no-untyped-call]
    return output


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def install() -> None:
    """Make our attention known to Hugging Face models; doing it twice changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, our_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def remembered() -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
    """Contexts of a checkpointed block's forward pass and of its recomputation: both attend in the same way."""
    attending = _ACTIVE.get()
    if attending is None:
        return contextlib.nullcontext(), contextlib.nullcontext()
    return contextlib.nullcontext(), _as(attending)


@contextlib.contextmanager
def _as(attending: _Attending) -> Iterator[None]:
    config = attending.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    token = _ACTIVE.set(attending)
    try:
        yield
    finally:
        _ACTIVE.reset(token)
        config._attn_implementation = before


@contextlib.contextmanager
def packed(model: Any, stream: Stream, *, own_backward: bool = True) -> Iterator[dict[str, torch.Tensor]]:
    """Inside, ``model`` attends by ``stream``; yields the inputs for its forward call."""
    install()
    with _as(_Attending(model.config.get_text_config(), stream, own_backward)):
        yield {"input_ids": stream.ids_N[None], "position_ids": stream.positions_N[None]}


@contextlib.contextmanager
def padded(model: Any) -> Iterator[None]:
    """Inside, ``model`` attends in right-padded rows by our kernels."""
    install()
    with _as(_Attending(model.config.get_text_config(), None, True)):
        yield
