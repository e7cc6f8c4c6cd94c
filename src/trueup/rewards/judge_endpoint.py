"""A judge behind a server that speaks OpenAI's protocol: ``http://127.0.0.1:8080/v1#model=NAME``.

Log-probs are asked for, one token an answer. P(first) = exp(l_A) / (exp(l_A) + exp(l_B)) where the server names both
letters among its likeliest; a letter that it does not name has no log-prob, and no verdict is made up. A server
without log-probs answers with the word alone: probability 1 or 0. The key is read from the environment
(``TRUEUP_JUDGE_KEY``, else ``OPENAI_API_KEY``) and is never written anywhere.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import exp
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from trueup.config import build
from trueup.config.text import parse_assignments
from trueup.engine.endpoint import Endpoint
from trueup.errors import ConfigError, RunError
from trueup.rewards.judge import BROKEN, DECIDE, KEPT, LETTERS, THINK, WHICH, Asking, asked_for, think, which
from trueup.types import Prompt, content_id

if TYPE_CHECKING:
    import httpx

KEYS = ("TRUEUP_JUDGE_KEY", "OPENAI_API_KEY")
WORDS = ("YES", "NO")
LIKELIEST = 20
"""Tokens whose log-probs are asked for; servers give no more."""


Said = TypeVar("Said")


class Asked(Asking):
    """What stands behind the ``#`` of an address."""

    model: str
    """Name under which the server has the model."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Questions that are open at a time."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds that one answer may take."""
    attempts: int = Field(default=5, ge=1, le=20)
    """How often a question is asked before the run stops."""


@dataclass
class Cost:
    """What the questions took so far; counted by the server."""

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, usage: Mapping[str, Any], retries: int) -> None:
        """Count one answered question."""
        with self.lock:
            self.requests += 1
            self.retries += retries
            self.prompt_tokens += int(usage.get("prompt_tokens", 0))
            self.completion_tokens += int(usage.get("completion_tokens", 0))


def parse_address(source: str) -> tuple[str, Asked]:
    """The address that ``http://host/v1#model=NAME,concurrency=4`` names, and how its model is asked; asks nobody.

    Raises:
        ConfigError: No model is named, or a setting is unknown.
    """
    address, _, rest = source.partition("#")
    if not rest:
        raise ConfigError("no model is named", where=source, expected=f"{address}#model=NAME")
    given = parse_assignments([part for part in rest.split(",") if part])
    return address, build(Asked, {key: given[key] for key in given}, where=source)


class EndpointJudge:
    """A judge behind an address.

    Args:
        address: Up to ``/v1``.
        asked: The model and how it is asked.
        client: For tests; else one of its own.
        wait: Called with the seconds to wait before another attempt.
    """

    def __init__(
        self,
        address: str,
        asked: Asked,
        client: httpx.Client | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.asked = asked
        self.name = f"{address.rstrip('/')}#model={asked.model}"
        self.reasons = asked.reasons
        reasoning = (asked.reasons, THINK, DECIDE) if asked.reasons else ()
        self.fingerprint = content_id(self.name, WHICH, BROKEN, KEPT, WORDS, *reasoning)
        self.cost = Cost()
        self.endpoint = Endpoint(
            address,
            name=self.name,
            keys=KEYS,
            timeout=asked.timeout,
            attempts=asked.attempts,
            test_client=client,
            wait=wait,
            not_found="see that the address ends in /v1 and the server has the model",
        )

    @classmethod
    def at(cls, source: str) -> EndpointJudge:
        """The judge that ``http://host/v1#model=NAME,concurrency=4`` names.

        Raises:
            ConfigError: No model is named, or a setting is unknown.
        """
        return cls(*parse_address(source))

    def first_wins(self, asked: Sequence[tuple[str, Prompt, str, str]]) -> list[float | None]:
        """P(the answer shown first is better); None where the server names a letter only, and not the other.

        Raises:
            RunError: The server refuses, or does not answer in all attempts.
        """
        if not self.reasons:
            return self._all([(which(*one), LETTERS) for one in asked])
        questions = [think(*one) for one in asked]
        with ThreadPoolExecutor(self.asked.concurrency) as pool:
            written = list(pool.map(self._thoughts, questions))
        decisions = [DECIDE.format(question=q, thoughts=t) for q, t in zip(questions, written, strict=True)]
        return self._all([(decision, LETTERS) for decision in decisions])

    def _thoughts(self, question: str) -> str:
        body = {
            "model": self.asked.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": self.reasons,
            "temperature": 0,
        }
        return self._read(body, lambda choice: str(choice["message"]["content"] or "").strip())

    def breaks(self, asked: Sequence[tuple[str, Prompt, str]]) -> list[float | None]:
        """P(the answer breaks the principle), from both ways of asking; None where one of them has no verdict.

        Raises:
            RunError: As ``first_wins``.
        """
        yes, no = WORDS
        questions = [
            form.format(principle=principle, prompt=asked_for(prompt), answer=answer, yes=yes, no=no)
            for principle, prompt, answer in asked
            for form in (BROKEN, KEPT)
        ]
        both = self._all([(question, WORDS) for question in questions])
        return [
            None if broken is None or kept is None else (broken + 1 - kept) / 2
            for broken, kept in zip(both[::2], both[1::2], strict=True)
        ]

    def _all(self, questions: Sequence[tuple[str, tuple[str, str]]]) -> list[float | None]:
        with ThreadPoolExecutor(self.asked.concurrency) as pool:
            return list(pool.map(lambda one: self._one(*one), questions))

    def _one(self, question: str, words: tuple[str, str]) -> float | None:
        body = {
            "model": self.asked.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": LIKELIEST,
        }
        return self._read(body, lambda choice: probability(choice, words))

    def _read(self, body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Said]) -> Said:
        """What ``read`` makes of the server's choice."""
        answer, retries = self.endpoint.post("/chat/completions", body)
        try:
            self.cost.add(answer.get("usage") or {}, retries)
            return read(answer["choices"][0])
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise RunError(
                f"an answer of another form: {json.dumps(answer)[:200]}",
                where=self.name,
                expected="a chat completion of OpenAI's protocol",
            ) from error


def probability(choice: Mapping[str, Any], words: tuple[str, str]) -> float | None:
    """P(first word) against the second, from one choice of a chat completion; None where it says neither."""
    content = (choice.get("logprobs") or {}).get("content")
    if content:
        logps = [_logp(content[0]["top_logprobs"], word) for word in words]
        if logps[0] is None or logps[1] is None:
            return None
        return 1 / (1 + exp(min(700.0, logps[1] - logps[0])))
    said = str(choice["message"]["content"]).strip().strip(".*\"'()").casefold()
    return None if said not in (words[0].casefold(), words[1].casefold()) else float(said == words[0].casefold())


def _logp(entries: Sequence[Mapping[str, Any]], word: str) -> float | None:
    """Log-prob of a word by the likeliest of its spellings: with a space before it or without."""
    logps = [float(entry["logprob"]) for entry in entries if str(entry["token"]).strip() == word]
    return max(logps) if logps else None
