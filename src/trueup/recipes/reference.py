"""The fixed reference of an offline method: opened, checked, pinned, and asked once for all that a run will look up."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from trueup.data.batch import Ids, micro_batches
from trueup.data.render import Renderer
from trueup.engine.placement import place_both
from trueup.engine.probe import Plan, StepOrder
from trueup.engine.processes import everywhere
from trueup.engine.rendering import check_reference
from trueup.engine.score import sequence_logps
from trueup.ledger import Run, storage_error, write_atomic
from trueup.models.policy import Policy, Reference, open_reference
from trueup.recipes.offline import Offline

log = logging.getLogger("trueup.recipes")

Example = TypeVar("Example")
Logps: TypeAlias = Mapping[tuple[Ids, Ids], float]
"""Log-probs of whole completions, by the ids of prompt and completion."""


class WithReference(Offline):
    """Settings of an offline method that compares the policy with a fixed reference."""

    reference: str | None = None
    """The fixed reference; by default the weights the policy starts from."""
    evaluate_every: int = Field(default=50, ge=1)
    """Steps between held-out measurements; one is always made at the end."""
    save_every: int = Field(default=100, ge=1)
    """Steps between checkpoints."""


def place_with_reference(
    config: WithReference, run: Run, policy: Policy, renderer: Renderer, longest: int
) -> Reference:
    """Open the reference, check that it reads ``longest`` tokens as the policy does, pin it, and place both."""
    named = config.model.model_copy(update={"name": config.reference or config.model.name})
    shared = policy if config.reference is None else None
    reference = open_reference(named, policy=shared, pinned=run.fingerprint("reference"))
    check_reference(reference, renderer, config.model, longest)
    run.pin("reference", reference.fingerprint)
    place_both(policy, reference, config.model.engine)
    return reference


def reference_logps(run: Run, reference: Reference, sequences: Sequence[tuple[Ids, Ids]], budget: int) -> Logps:
    """Reference log-probs of whole completions, computed once and cached in the run directory.

    Raises:
        RunError: The disk refuses.
    """
    distinct = list(dict.fromkeys(sequences))
    file = run.path / "cache" / f"reference-{_name(reference, distinct)}.safetensors"
    kept = kept_logps(file, len(distinct))
    if everywhere(kept is not None):
        assert kept is not None
        logps = kept
    else:
        began = time.perf_counter()
        pieces = sequence_logps(reference, distinct, budget=2 * budget)
        logps = torch.stack([piece.double().sum() for piece in pieces])
        if run.writes:
            keep_logps(file, logps)
        run.event("reference", tokens=tokens_of(distinct), seconds=time.perf_counter() - began)
    return dict(zip(distinct, logps.tolist(), strict=True))


KEPT = 1 << 30
"""Bytes of weights of a reference of its own that a run keeps beside its policy for the log-ratios of its probes."""


def kept(config: WithReference, run: Run, reference: Reference) -> Reference | None:
    """The reference, for probes to measure from, where it costs little: it is the policy's own base, or small.

    A larger one is let go once all else is scored; probes then have no log-ratio, and events.jsonl says why.
    """
    if not config.probes:
        return None
    weights = reference.policy.model.state_dict().values()
    size = 0 if reference.adapters_off else sum(weight.numel() * weight.element_size() for weight in weights)
    if size <= KEPT:
        return reference
    run.event("reference_let_go", bytes=size, limit=KEPT, samples="without log_ratio")
    return None


_DIGEST = "sha256"


def keep_logps(file: Path, logps: torch.Tensor) -> None:
    """Write reference log-probs durably, with the hash of their bytes.

    Raises:
        RunError: The disk refuses.
    """
    logps = logps.contiguous()
    try:
        file.parent.mkdir(exist_ok=True)
        write_atomic(file, save({"logps": logps}, metadata={_DIGEST: _digest(logps)}))
    except OSError as error:
        raise storage_error(error, "the reference's log-probs cannot be written", file) from error


def kept_logps(file: Path, count: int) -> torch.Tensor | None:
    """The log-probs of ``count`` sequences that ``keep_logps`` wrote; None where there are none, or they are damaged.

    Damage is said: they are computed again, which gives the same numbers.
    """
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            digest, logps = (opened.metadata() or {}).get(_DIGEST), opened.get_tensor("logps")
        if tuple(logps.shape) == (count,) and logps.dtype == torch.float64 and _digest(logps) == digest:
            whole: torch.Tensor = logps
            return whole
    except (OSError, SafetensorError, ValueError):
        pass  # the same damage: not to be read at all
    log.warning("%s is damaged: the reference's log-probs are computed again", file)
    return None


def _digest(logps: torch.Tensor) -> str:
    return hashlib.sha256(logps.numpy().tobytes()).hexdigest()


def tokens_of(sequences: Sequence[tuple[Ids, Ids]]) -> int:
    """Tokens of the distinct ones."""
    return sum(map(sequence_length, set(sequences)))


def sequence_length(sequence: tuple[Ids, Ids]) -> int:
    """Tokens of prompt and completion."""
    return len(sequence[0]) + len(sequence[1])


def _name(reference: Reference, sequences: Sequence[tuple[Ids, Ids]]) -> str:
    """Hash of what the log-probs depend on."""
    digest = hashlib.sha256(f"{reference.fingerprint} {reference.policy.compute}".encode())
    for prompt_ids, completion_ids in sequences:
        digest.update(f"{prompt_ids}{completion_ids}".encode())
    return digest.hexdigest()[:16]


def steps_to_score(run: Run, plan: Plan[Any]) -> Sequence[int]:
    """Steps whose examples need reference log-probs in this process: all of the run, or those that a probe takes."""
    order = StepOrder(plan, run.first_step, run.probe)
    return (*order.steps, *order.others) if order.partial else range(len(plan))


def needed(
    run: Run, plan: Plan[Sequence[Example]], examples: Sequence[Example], length: Callable[[Example], int], budget: int
) -> Sequence[Example]:
    """The examples whose reference log-probs this process will read: all of them, unless it only probes.

    A probe also scores as many of the longest as go into one pass, which takes the most memory of all.
    """
    if not StepOrder(plan, run.first_step, run.probe).partial:
        return examples
    longest = micro_batches(examples, length, 2 * budget)[0]
    return [*(example for step in steps_to_score(run, plan) for example in plan[step]), *longest]
