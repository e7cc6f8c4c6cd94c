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

from trueup.models.attention import causal, has_own_backward, slopes
from trueup.models.products import autocast_dtype, rounded

NAME = "trueup"
"""Our attention, as Hugging Face configurations call it."""
SHARED_FROM = 8
"""Prompts shorter than this are not worth sharing: the bookkeeping would cost more than the tokens."""

_ACTIVE: ContextVar[Stream | None] = ContextVar("stream", default=None)
_CONFIG: ContextVar[Any] = ContextVar("config", default=None)


@dataclass(frozen=True, eq=False)
class Stream:
    """Token ids and positions of a packed batch, and where attention finds each row."""

    ids_N: torch.Tensor
    positions_N: torch.Tensor
    rows: tuple[torch.Tensor, ...]
    """Per attention bucket: stream index of each position, [R, T]; padding points at the row's first token."""
    home: torch.Tensor
    """Where in the flattened, concatenated buckets the own output of each token stands; idle tokens have none."""
    again: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """For gradients of shared tokens: (stream index, flat bucket index) of the second, third, ... copies."""
    source_N: torch.Tensor
    """Stream index of the position whose output scores each completion token, completions in order."""
    last_B: torch.Tensor
    """Stream index of the last token of each sequence."""

    def __len__(self) -> int:
        return int(self.ids_N.shape[0])


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
    rows, home, again = _attention_rows(spans, size)
    idle = rounded(size) - size
    ids.append([0] * idle)
    positions.append(np.zeros(idle, dtype=np.int64))

    def move(array: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(device)

    return Stream(
        move(np.fromiter((t for piece in ids for t in piece), dtype=np.int64, count=size + idle)),
        move(np.concatenate(positions)),
        tuple(move(index) for index in rows),
        move(home),
        tuple((move(token), move(flat)) for token, flat in again),
        move(np.concatenate(source)),
        move(last),
    )


def _attention_rows(
    spans: Sequence[tuple[int, int, int, int]], size: int
) -> tuple[list[np.ndarray[Any, Any]], np.ndarray[Any, Any], list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]]:
    """Rows bucketed by length (padding stays under a fifth), the home of each token, and the copies of shared ones."""
    order = sorted(range(len(spans)), key=lambda i: -(spans[i][1] + spans[i][3]))
    buckets: list[list[int]] = []
    for i in order:
        length = spans[i][1] + spans[i][3]
        longest = spans[buckets[-1][0]][1] + spans[buckets[-1][0]][3] if buckets else 0
        if buckets and length >= 0.8 * longest:
            buckets[-1].append(i)
        else:
            buckets.append([i])
    home = np.full(size, -1, dtype=np.int64)
    rows: list[np.ndarray[Any, Any]] = []
    again: list[list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]] = []
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
            seat = flat + row * width + np.arange(pn + cn)
            seen = copies.get(start, 0)
            copies[start] = seen + 1
            if seen == 0:
                home[prompt] = seat[:pn]
            else:
                while len(again) < seen:
                    again.append([])
                again[seen - 1].append((prompt, seat[:pn]))
            home[completion : completion + cn] = seat[pn:]
        rows.append(index)
        flat += index.size
    joined = [
        (np.concatenate([token for token, _ in level]), np.concatenate([seat for _, seat in level])) for level in again
    ]
    return rows, home, joined


class _ToRows(torch.autograd.Function):
    """``[N, ...] -> [sum R*T, ...]``, the positions of all rows."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, stream: Stream) -> torch.Tensor:
        ctx.stream = stream
        return torch.cat([values.index_select(0, index.flatten()) for index in stream.rows])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _summed(grad, ctx.stream), None


class _ToStream(torch.autograd.Function):
    """``[sum R*T, ...] -> [N, ...]``: each token takes its own output."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, stream: Stream) -> torch.Tensor:
        ctx.stream = stream
        return _taken(values, stream)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _at_home(grad, ctx.stream), None


class _InRows(torch.autograd.Function):
    """Plain causal attention of a stream; what its rows hold is gathered again in the backward pass, not kept."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, stream: Stream, scale: float | None
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.stream, ctx.scale = stream, scale
        outputs = [_flat(causal(*_picked(index_RT, query, key, value), scale=scale)) for index_RT in stream.rows]
        return _taken(torch.cat(outputs), stream)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        stream: Stream = ctx.stream
        kept = ctx.saved_tensors
        found: list[tuple[torch.Tensor, ...]] = []
        sizes = [index.numel() for index in stream.rows]
        for index_RT, part in zip(stream.rows, torch.split(_at_home(grad, stream), sizes), strict=True):
            query, key, value = _picked(index_RT, *kept)
            found.append(tuple(map(_flat, slopes(query, key, value, _rows(part, index_RT), ctx.scale))))
        to_query, to_key, to_value = (_summed(torch.cat(pieces), stream) for pieces in zip(*found, strict=True))
        return to_query, to_key, to_value, None, None


def _picked(index_RT: torch.Tensor, *values: torch.Tensor) -> list[torch.Tensor]:
    """``[N, H, E] -> [R, H, T, E]`` of one bucket."""
    return [_rows(tensor.index_select(0, index_RT.flatten()), index_RT) for tensor in values]


def _rows(flat: torch.Tensor, index_RT: torch.Tensor) -> torch.Tensor:
    """``[R*T, H, E] -> [R, H, T, E]``."""
    return flat.view(*index_RT.shape, *flat.shape[1:]).transpose(1, 2)


def _flat(rows_RHTE: torch.Tensor) -> torch.Tensor:
    """``[R, H, T, E] -> [R*T, H, E]``."""
    return rows_RHTE.transpose(1, 2).flatten(0, 1)


def _taken(values: torch.Tensor, stream: Stream) -> torch.Tensor:
    """``[sum R*T, ...] -> [N, ...]``: what stands at each token's home, zero for idle tokens."""
    real = len(stream.home)
    found = values.new_empty((len(stream), *values.shape[1:]))
    torch.index_select(values, 0, stream.home, out=found[:real])
    found[real:] = 0
    return found


def _at_home(values: torch.Tensor, stream: Stream) -> torch.Tensor:
    """``[N, ...] -> [sum R*T, ...]``: each token's value at its home, zero elsewhere."""
    found = values.new_zeros((sum(index.numel() for index in stream.rows), *values.shape[1:]))
    found[stream.home] = values[: len(stream.home)]
    return found


def _summed(values: torch.Tensor, stream: Stream) -> torch.Tensor:
    """``[sum R*T, ...] -> [N, ...]``: sums over the copies of each token, without atomics or sorting."""
    found = _taken(values, stream)
    for token, flat in stream.again:
        found[token] += values.index_select(0, flat)
    return found


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
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each sequence of the active stream, or inside each right-padded row where there is none.

    In the form that Hugging Face attention layers call.

    Args:
        query: [1, H, N, E], or [B, H, T, E] of rows; ``key`` and ``value`` may have fewer heads (grouped queries).
        sliding_window: Tokens that a token may look back on, itself included.
        softcap: Logits are ``softcap * tanh(logits / softcap)`` (Gemma 2).

    Returns:
        ``([1, N, H, E], None)``, or ``([B, T, H, E], None)``.
    """
    assert _CONFIG.get() is not None, "our attention runs inside `packed()` and `padded()` only"
    stream = _ACTIVE.get()
    # Narrowed as PyTorch's own attention would, but before rows are gathered.
    query, key, value = (_as_used(tensor) for tensor in (query, key, value))
    if stream is None:
        found_BHTE = causal(query, key, value, scale=scaling, window=sliding_window, softcap=softcap)
        return found_BHTE.transpose(1, 2), None
    q_NHE, k_NKE, v_NKE = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    found_NHE = attend_in_rows(q_NHE, k_NKE, v_NKE, stream, scale=scaling, window=sliding_window, softcap=softcap)
    return found_NHE[None], None


def _as_used(tensor: torch.Tensor) -> torch.Tensor:
    narrow = autocast_dtype(tensor.device.type)
    return tensor if narrow is None else tensor.to(narrow)


def attend_in_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    stream: Stream,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> torch.Tensor:
    """Causal attention inside each sequence of ``stream``: ``[N, H, E]`` and twice ``[N, K, E] -> [N, H, E]``.

    ``scale``, ``window`` and ``softcap`` are those of ``causal``.
    """
    found: torch.Tensor
    if all(has_own_backward(query, key, index.shape[1], window=window, softcap=softcap) for index in stream.rows):
        found = _InRows.apply(query, key, value, stream, scale)  # type: ignore[no-untyped-call]
        return found
    flat = [_ToRows.apply(tensor, stream) for tensor in (query, key, value)]  # type: ignore[no-untyped-call]
    sizes = [index.numel() for index in stream.rows]
    outputs = []
    # One split, not slices: its backward is one concatenation.
    for index, *parts in zip(stream.rows, *(tensor.split(sizes) for tensor in flat), strict=True):
        q, k, v = (_rows(part, index) for part in parts)
        outputs.append(_flat(causal(q, k, v, scale=scale, window=window, softcap=softcap)))
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    found = _ToStream.apply(joined, stream)  # type: ignore[no-untyped-call]
    return found


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def install() -> None:
    """Make our attention known to Hugging Face models; doing it twice changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, our_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def remembered() -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
    """Contexts of a checkpointed block's forward pass and of its recomputation: both attend in the same way."""
    stream, config = _ACTIVE.get(), _CONFIG.get()
    if config is None:
        return contextlib.nullcontext(), contextlib.nullcontext()
    return contextlib.nullcontext(), _attending(config, stream)


@contextlib.contextmanager
def _attending(config: Any, stream: Stream | None) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = NAME
    tokens = _ACTIVE.set(stream), _CONFIG.set(config)
    try:
        yield
    finally:
        _ACTIVE.reset(tokens[0])
        _CONFIG.reset(tokens[1])
        config._attn_implementation = before


@contextlib.contextmanager
def packed(model: Any, stream: Stream) -> Iterator[dict[str, torch.Tensor]]:
    """Inside, ``model`` attends by ``stream``; yields the inputs for its forward call."""
    install()
    with _attending(model.config.get_text_config(), stream):
        yield {"input_ids": stream.ids_N[None], "position_ids": stream.positions_N[None]}


@contextlib.contextmanager
def padded(model: Any) -> Iterator[None]:
    """Inside, ``model`` attends in right-padded rows by our kernels."""
    install()
    with _attending(model.config.get_text_config(), None):
        yield
