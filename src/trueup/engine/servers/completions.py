"""One completion by vLLM's ``/v1/completions``: what is asked for, and everything that its answer must be.

Token ids go in and come out (``prompt`` as a list of ids, ``return_token_ids``), so no text is tokenised twice. Every
filter is switched off by name, because a server takes those that are not named from the model's
``generation_config.json``. End tokens are ours (``ignore_eos`` and ``stop_token_ids``), and part of a completion.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from trueup.config import Sampling
from trueup.data.batch import Ids
from trueup.engine.generate import Generation
from trueup.errors import RunError
from trueup.types import StopReason

ABOVE = 1e-3
"""How far above 0 a log-prob may be by rounding."""


def completion_request(
    model: str, prompt: Ids, sampling: Sampling, stop_ids: Collection[int], seed: int
) -> dict[str, Any]:
    """Body of a request for one completion."""
    return {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        **NO_FILTERS,
        "seed": seed,
        "ignore_eos": True,
        "stop_token_ids": sorted(stop_ids),
        "logprobs": 1,
        "return_token_ids": True,
    }


NO_FILTERS = {
    "n": 1,
    "stream": False,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""The plain distribution, which the trainer's log-probs are of."""


def scoring_request(model: str, ids: Ids) -> dict[str, Any]:
    """Body of a request for the log-probs of a text that is there."""
    return {
        "model": model,
        "prompt": list(ids),
        "max_tokens": 1,
        "temperature": 1.0,
        **NO_FILTERS,
        "prompt_logprobs": 0,
        "return_token_ids": True,
    }


def read_completion(
    reply: Any,
    prompt: Ids,
    sampling: Sampling,
    stop_ids: Collection[int],
    *,
    vocabulary: int,
    version: int | None,
    where: str,
) -> Generation:
    """The completion in a server's answer.

    Args:
        reply: The answer.
        prompt: What was asked.
        sampling: How.
        stop_ids: Tokens that end a completion.
        vocabulary: Tokens that the policy knows.
        version: Of the policy that the server holds.
        where: The server's name.

    Raises:
        RunError: It is something else than what was asked for; names what.
    """
    choice = _choice(reply, where)
    ids = _ids(choice.get("token_ids"), vocabulary, reply, where)
    echoed = choice.get("prompt_token_ids")
    if echoed is not None and echoed != list(prompt):
        raise RunError(
            f"the server read another prompt: {len(prompt)} tokens were sent, it read {str(echoed)[:80]}",
            where=where,
            expected="the ids as they were sent",
            fix="let it add no tokens of its own",
        )
    logps = _numbers((choice.get("logprobs") or {}).get("token_logprobs"), reply, where)
    if len(logps) != len(ids):
        raise RunError(
            f"{len(logps)} log-probs came for {len(ids)} tokens",
            where=where,
            expected="one log-prob for each token, the end token included",
            fix="update the server, or see what stands between it and this machine",
        )
    stop = _stop(choice.get("finish_reason"), ids, sampling, stop_ids, where)
    return Generation(tuple(ids), torch.tensor(logps), stop, version)


def read_prompt_logps(reply: Any, ids: Ids, where: str) -> torch.Tensor:
    """Log-probs [T - 1] of a text's tokens after its first one, from the answer to ``scoring_request``.

    Raises:
        RunError: The answer holds something else.
    """
    positions = _choice(reply, where).get("prompt_logprobs")
    if not isinstance(positions, Sequence) or len(positions) != len(ids):
        raise _other_form(reply, where, f"prompt_logprobs, one entry for each of {len(ids)} tokens")
    logps = []
    for token, entries in zip(ids[1:], positions[1:], strict=True):
        entry = entries.get(str(token)) if isinstance(entries, Mapping) else None
        logps.append(entry.get("logprob") if isinstance(entry, Mapping) else None)
    return torch.tensor(_numbers(logps, reply, where))


def _choice(reply: Any, where: str) -> Mapping[str, Any]:
    choices = reply.get("choices") if isinstance(reply, Mapping) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        raise _other_form(reply, where, "a completion of vLLM's protocol with one choice")
    return choices[0]


def _ids(ids: Any, vocabulary: int, reply: Any, where: str) -> list[int]:
    if ids is None:
        raise RunError(
            "the answer holds no token ids",
            where=where,
            expected="token_ids in each choice, as vLLM gives them for return_token_ids",
            fix="take a server that has it; text alone cannot be turned back into the tokens that were drawn",
        )
    if not isinstance(ids, list) or not ids or not all(type(token) is int for token in ids):
        raise _other_form(reply, where, "token_ids, a list of whole numbers that is not empty")
    outside = [token for token in ids if not 0 <= token < vocabulary]
    if outside:
        raise RunError(
            f"token {outside[0]} came back, and the policy's vocabulary has {vocabulary} tokens",
            where=where,
            expected=f"ids from 0 to {vocabulary - 1}",
            fix="start the server with the model that is trained; this one has another tokenizer",
        )
    return ids


def _numbers(logps: Any, reply: Any, where: str) -> list[float]:
    if not isinstance(logps, list):
        raise _other_form(reply, where, "logprobs.token_logprobs, a list of numbers")
    for place, logp in enumerate(logps):
        number = isinstance(logp, (int, float)) and not isinstance(logp, bool)
        if not number or not math.isfinite(logp) or logp > ABOVE:
            raise RunError(
                f"the log-prob of token {place} is {logp!r}",
                where=where,
                expected="a finite number of at most 0",
                fix="the server's weights or precision are broken; look at its log",
            )
    return [float(logp) for logp in logps]


def _stop(reason: Any, ids: Sequence[int], sampling: Sampling, stop_ids: Collection[int], where: str) -> StopReason:
    ends = ids[-1] in stop_ids
    inside = next((token for token in ids[:-1] if token in stop_ids), None)
    if inside is not None:
        raise RunError(
            f"the completion goes on after the end token {inside}",
            where=where,
            expected="a completion that stops at its first end token",
            fix="update the server: it must take stop_token_ids",
        )
    if reason == "stop" and ends:
        return StopReason.EOS
    if reason in ("stop", "length") and len(ids) == sampling.max_new_tokens:
        return StopReason.EOS if ends else StopReason.LENGTH
    if reason == "length":
        raise RunError(
            f"the completion was cut at {len(ids)} tokens",
            where=where,
            expected=f"an end token, or {sampling.max_new_tokens} tokens (sampling.max_new_tokens)",
            fix="start the server with a longer context (--max-model-len)",
        )
    raise RunError(
        f"the completion ended for the reason {reason!r} after token {ids[-1]}",
        where=where,
        expected=f"one of the end tokens {sorted(stop_ids)} as its last one",
        fix="start the server without stop strings of its own",
    )


def _other_form(reply: Any, where: str, expected: str) -> RunError:
    return RunError(f"an answer of another form: {json.dumps(reply)[:200]}", where=where, expected=expected)
