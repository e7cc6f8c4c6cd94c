"""Several rollout servers: which answer, which version each holds, and requests spread among them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from trueup.data.batch import Ids
from trueup.engine.endpoint import NoAnswer
from trueup.engine.servers.server import RolloutServer
from trueup.engine.servers.settings import ServerRollouts
from trueup.engine.servers.weights import Versions
from trueup.errors import RunError

log = logging.getLogger("trueup.engine")

FURTHER, SLACK = 3.0, 1e-3
"""By what factor, and how many nats a token beside it, a server's distance to the policy may grow under one version."""

T = TypeVar("T")
Work = Callable[[RolloutServer, int], T]
"""(server, number of the task) -> result."""


class ServersGone(RunError):
    """No rollout server is left that answers and is fresh enough."""


class Pool:
    """The servers of a run.

    Args:
        settings: Where they are and how they are asked.
        vocabulary: Tokens that the policy knows.
        versions: The trainer's log-probs of ``texts``, version by version.
        texts: By whose log-probs a version is recognised.
        wait: Called with the seconds to wait before another attempt.
    """

    def __init__(
        self,
        settings: ServerRollouts,
        vocabulary: int,
        versions: Versions,
        texts: Sequence[Ids],
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.vocabulary = vocabulary
        self.versions = versions
        self.texts = texts
        self.wait = wait
        self._servers: dict[str, RolloutServer] = {}
        self._problems: dict[str, str] = {}
        """Of servers that are left out, by address."""
        self._lock = threading.Lock()

    @property
    def usable(self) -> list[RolloutServer]:
        """Servers that are not left out."""
        return [server for address, server in self._servers.items() if address not in self._problems]

    def bring(self, weights: Path, version: int, oldest: int) -> None:
        """Let every server load ``weights`` and look whether it did; those that were left out get another chance.

        Args:
            weights: A folder with the policy at ``version``.
            version: What they should hold afterwards.
            oldest: The oldest version that may still be used.

        Raises:
            ServersGone: None of them is of use.
            RunError: A server refuses, or holds another model.
        """
        for address in self._listed():
            self._servers.setdefault(address, RolloutServer(address, self.settings, self.vocabulary, self.wait))
        self._each(list(self._servers.values()), lambda server: self._bring(server, weights, version, oldest))
        self.require_some()

    def look(self, servers: Sequence[RolloutServer]) -> None:
        """Note which version each of these holds now; one that does not answer is left out.

        One that is nearest to the version that it had, and much further from it than it was, holds other weights.
        """

        def look(server: RolloutServer) -> None:
            try:
                held, distance = self.versions.recognise(server.score(self.texts))
            except NoAnswer as error:
                self.leave_out(server, error.what)
                return
            other = held != server.version or distance > FURTHER * server.distance + SLACK
            server.version = None if other and held == server.version else held

        self._each(servers, look)

    def require_some(self) -> None:
        """Raise ``ServersGone``, with what is wrong with each, where no server is left."""
        if self.usable:
            return
        reasons = "; ".join(f"{address}: {problem}" for address, problem in self._problems.items())
        raise ServersGone(
            f"no rollout server is left: {reasons}",
            where="rollout.servers",
            fix="start the servers again; the same command goes on from what is saved",
        )

    def leave_out(self, server: RolloutServer, problem: str) -> None:
        """Use a server no more until the next synchronisation, and say so once."""
        with self._lock:
            known = server.address in self._problems
            self._problems[server.address] = problem
            server.version = None
        if not known:
            log.warning("rollout server %s is left out until the next synchronisation: %s", server.address, problem)

    def run(self, tasks: Sequence[int], work: Work[T]) -> dict[int, tuple[T, RolloutServer]]:
        """Do every task at some server, each server as many at a time as it may; who is quick does more.

        The tasks of a server that stops answering go to the others.

        Raises:
            ServersGone: All stopped answering.
            RunError: An answer cannot be used.
        """
        waiting, results, failures = deque(tasks), {}, []
        stop = threading.Event()

        def serve(server: RolloutServer) -> None:
            while not stop.is_set() and server.address not in self._problems:
                with self._lock:
                    if not waiting:
                        return
                    task = waiting.popleft()
                try:
                    results[task] = work(server, task), server
                except NoAnswer as error:
                    with self._lock:
                        waiting.append(task)
                    self.leave_out(server, error.what)
                except Exception as error:
                    failures.append(error)
                    stop.set()

        while waiting and not failures:
            self.require_some()
            usable = self.usable
            each = min(self.settings.concurrency, len(waiting))
            with ThreadPoolExecutor(each * len(usable)) as threads:
                try:
                    for done in [threads.submit(serve, server) for server in usable for _ in range(each)]:
                        done.result()
                finally:
                    stop.set()
            stop.clear()
        if failures:
            raise failures[0]
        return results

    def close(self) -> None:
        """Close all connections."""
        for server in self._servers.values():
            server.endpoint.close()

    def _listed(self) -> tuple[str, ...]:
        listed = self.settings.addresses()
        for address in [address for address in self._servers if address not in listed]:
            self._servers.pop(address).endpoint.close()
            self._problems.pop(address, None)
        return listed

    def _each(self, servers: Sequence[RolloutServer], work: Callable[[RolloutServer], None]) -> None:
        if servers:
            with ThreadPoolExecutor(len(servers)) as threads:
                list(threads.map(work, servers))

    def _bring(self, server: RolloutServer, weights: Path, version: int, oldest: int) -> None:
        if server.version == version:
            return
        again = server.address in self._problems
        attempts = 1 if again else None  # one that is down has had its attempts; it may only come back
        try:
            server.connect(attempts)
            for attempt in range(self.settings.attempts):
                if attempt:
                    self.wait(min(30.0, 2.0**attempt))
                server.reload(weights)
                server.version, server.distance = self.versions.recognise(server.score(self.texts))
                if server.version == version:
                    break
        except NoAnswer as error:
            self.leave_out(server, error.what)
            return
        if server.version is None:
            raise RunError(
                f"after loading {weights} its log-probs are {server.distance:.2g} nats a token from the policy's",
                where=server.address,
                expected=f"at most {self.settings.max_mismatch:g} (rollout.max_mismatch)",
                fix="start the server with the model that is trained, in a similar precision, and see that it sees this"
                " folder (rollout.weights)",
            )
        if server.version < oldest:
            self.leave_out(server, f"it still holds version {server.version} after loading version {version}")
            return
        if server.version != version:
            log.warning("rollout server %s holds version %d, not %d", server.address, server.version, version)
        if self._problems.pop(server.address, None) is not None:
            log.info("rollout server %s is back", server.address)
