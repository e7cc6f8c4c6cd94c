"""Lengths at which a config changes what its model computes, so that self-checks and batches can respect them.

A sliding window, a chunk or a scale that sets in at some position does nothing to shorter rows: a check on short rows
says nothing of it. And where the frequencies of rotary positions depend on how long the row is, rows of different
kinds must not share a pass, because transformers takes the longest row of a pass for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NAMES = re.compile(
    r"window|chunk_size|block_size|block_len|original_max_position|floor_scale|topk|top_k|stride|compress|local_|bucket"
)
NOT_LENGTHS = re.compile(r"layers|chunk_size_feed_forward|pattern|group|experts|num_")
SPARSE = re.compile(r"(index|sparse|block)\w*top_?k|top_?k\w*(index|token|block)")
AFFORDABLE = 1 << 32
"""Parameters times tokens of a row that a self-check may be lengthened to: half a second or so on a laptop."""
LONGEST = 1100
UNNAMED = 144
"""Length of the check of a model whose config names no threshold, where affordable: some stand in the code only."""
CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")


@dataclass(frozen=True, slots=True)
class Regimes:
    """What a config says of lengths.

    Attributes:
        reached: The largest threshold that a self-check crosses, or as far as it goes where none is named.
        limit: Rows longer than this do something that was too long to check; None where all was.
        switch: Longest row whose rotary positions are those of short rows; None where they do not depend on it.
        continuous: Whether beyond ``switch`` every length has its own rotary positions (dynamic NTK scaling).
        sparse: Longest row in which every token attends to all before it; of longer ones the model picks by scores,
            and equal scores are told apart by whatever stands beside them, so that each such row runs by itself.
    """

    reached: int = 0
    limit: int | None = None
    switch: int | None = None
    continuous: bool = False
    sparse: int | None = None

    @classmethod
    def of(cls, config: Any, parameters: int) -> Regimes:
        """Of a configuration of transformers, and a model of so many parameters."""
        values = config.get_text_config().to_dict()
        context = context_of(config)
        affordable = min(LONGEST, AFFORDABLE // max(1, parameters), *([] if context is None else [context - 8]))
        switch, continuous = _switch(values)
        lengths = {length for length in _thresholds(values, NAMES) if context is None or length < context}
        lengths |= set() if switch is None else {switch}
        near = {length for length in lengths if length + 2 <= affordable}
        far = lengths - near
        sparse = min(_thresholds(values, SPARSE), default=None)
        reached = max(near, default=max(0, min(UNNAMED, affordable - 2)))
        return cls(reached, min(far, default=None), switch, continuous, sparse)

    def kind(self, length: int) -> int:
        """Rows of one kind may share a pass."""
        if self.switch is None or length <= self.switch:
            return 0
        return length if self.continuous else 1

    def apart(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of rows that may share a pass, the fewest groups."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, length in enumerate(lengths):
            lonely = self.sparse is not None and length > self.sparse
            groups.setdefault((self.kind(length), index + 1 if lonely else 0), []).append(index)
        return list(groups.values())

    def checked(self, length: int) -> bool:
        """Whether rows of this length do nothing that the self-check did not see."""
        return all(limit is None or length <= limit for limit in (self.limit, self.sparse))


def context_of(config: Any) -> int | None:
    """Longest sequence that the positions allow, or None if the config does not say.

    Dynamic scaling of rotary positions is there to go beyond ``max_position_embeddings``, by its factor.
    """
    inner = config.get_text_config()
    limit = next((getattr(inner, name) for name in CONTEXTS if isinstance(getattr(inner, name, None), int)), None)
    if limit is None or limit <= 0:
        return None
    for rope in _ropes(inner.to_dict()):
        if "dynamic" in str(rope.get("rope_type")):
            return int(limit * max(1.0, float(rope.get("factor") or 1.0)))
    return int(limit)


def _thresholds(values: Any, names: re.Pattern[str], name: str = "") -> Iterator[int]:
    """Whole numbers above 1 under such names, at any depth."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _thresholds(value, names, str(key))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _thresholds(value, names, name)
    elif isinstance(values, int) and values > 1 and names.search(name) and not NOT_LENGTHS.search(name):
        yield values


def _ropes(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Descriptions of rotary positions; some models have one a kind of layer."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        return []
    inner = [value for value in rope.values() if isinstance(value, dict)]
    return inner or [rope]


def _switch(values: dict[str, Any]) -> tuple[int | None, bool]:
    for rope in _ropes(values):
        if rope.get("rope_type") == "longrope":
            at = rope.get("original_max_position_embeddings") or values.get("original_max_position_embeddings")
            return int(at or values["max_position_embeddings"]), False
        if "dynamic" in str(rope.get("rope_type")):
            return int(values["max_position_embeddings"]), True
    return None, False
