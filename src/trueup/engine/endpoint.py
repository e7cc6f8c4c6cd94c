"""One server over HTTP with JSON in and out: attempts with growing pauses, the key from the environment.

What is busy or ill for the moment is asked again; what refuses is not. A key is read from the environment, sent as a
bearer token, and never written anywhere. Loads no torch.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any

from trueup.errors import RunError

if TYPE_CHECKING:
    import httpx

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Answers of a server that is busy or ill for the moment."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts, at most, unless the server itself asks for more."""


class NoAnswer(RunError):
    """A server did not answer in all attempts."""


@dataclass(eq=False)
class Endpoint:
    """A server behind an address.

    Attributes:
        address: What all paths are under, as ``http://host:8000/v1``.
        name: How messages call it.
        keys: Environment variables that may hold the key, the first one that is set.
        timeout: Seconds that one answer may take.
        attempts: How often something is asked before ``NoAnswer``.
        not_found: What to do where the server has no such path.
        wait: Called with the seconds to wait before another attempt.
        test_client: For tests; else one of its own.
    """

    address: str
    name: str
    keys: Sequence[str]
    timeout: float
    attempts: int
    not_found: str = "see that the address is right"
    wait: Callable[[float], None] = time.sleep
    test_client: InitVar[httpx.Client | None] = None
    client: httpx.Client = field(init=False, repr=False)

    def __post_init__(self, test_client: httpx.Client | None) -> None:
        import httpx

        self.address = self.address.rstrip("/")
        key = next((os.environ[variable] for variable in self.keys if os.environ.get(variable)), None)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self.client = test_client or httpx.Client(timeout=self.timeout, headers=headers, limits=limits)

    def post(self, path: str, body: Mapping[str, Any], *, attempts: int | None = None) -> tuple[Any, int]:
        """The server's answer to ``body``, None where it is empty, and how many attempts failed before it.

        Raises:
            NoAnswer: As ``ask``.
            RunError: The server refuses, or its answer is no JSON.
        """
        return self.ask("POST", path, body, attempts=attempts)

    def get(self, path: str, *, attempts: int | None = None) -> Any:
        """The same for a path that is only read."""
        return self.ask("GET", path, None, attempts=attempts)[0]

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, attempts: int | None = None
    ) -> tuple[Any, int]:
        """The server's answer, None where it is empty, and how many attempts failed before it.

        Args:
            method: POST or GET.
            path: Below the address.
            body: Sent as JSON.
            attempts: Other than its own.

        Raises:
            NoAnswer: No answer in all attempts.
            RunError: The server refuses, or its answer is no JSON.
        """
        import httpx

        most = attempts or self.attempts
        problem = ""
        for attempt in range(most):
            pause = min(LONGEST_PAUSE, 2.0**attempt) * random.uniform(0.5, 1.0)  # many askers do not come back together
            try:
                reply = self.client.request(method, f"{self.address}{path}", json=body)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if reply.status_code == 200:
                    return self._json(reply), attempt
                problem = f"status {reply.status_code}: {reply.text[:200]}"
                if reply.status_code not in AGAIN:
                    raise RunError(f"the server refuses: {problem}", where=self.name, fix=self._fix(reply.status_code))
                pause = max(pause, _seconds(reply.headers.get("retry-after")))
            if attempt + 1 < most:
                self.wait(pause)
        raise NoAnswer(
            f"no answer in {most} attempts; the last one: {problem}",
            where=self.name,
            fix="see that the server runs; the same command goes on with what is done",
        )

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _json(self, reply: httpx.Response) -> Any:
        if not reply.content:
            return None
        try:
            return reply.json()
        except ValueError as error:
            raise RunError(
                f"the answer is no JSON: {reply.text[:200]!r}",
                where=self.name,
                expected="an answer in JSON",
                fix="see that the address is that of the model's server and not of something before it",
            ) from error

    def _fix(self, status: int) -> str:
        if status in (401, 403):
            return f"set {self.keys[0]} to the server's key"
        return self.not_found if status == 404 else "see what it says"


def _seconds(header: str | None) -> float:
    return min(60.0, float(header)) if header and header.replace(".", "", 1).isdigit() else 0.0
