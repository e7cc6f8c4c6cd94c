"""How long a client may keep a connection open without asking anything, and how many may be open at once.

uvicorn waits for ever for a request's head and for a reader that does not read. Here each connection has an alarm
while no whole head is there, and one while the client does not take its reply; bodies have theirs in ``security``.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from trueup.web.shell.limits import Limits

FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

MOST_AHEAD = 64_000
"""Bytes that may come while a whole request is being answered. uvicorn keeps whatever comes, without an end."""


class Doorway:
    """The open connections of one server.

    Args:
        limits: How many, how long.
        proxies: Addresses or networks of proxies, comma-separated, or ``*``: through one of them everybody comes, so
            the limit of one address is not theirs.
    """

    def __init__(self, limits: Limits, proxies: str | None = None) -> None:
        self.limits = limits
        self.everywhere = proxies is not None and proxies.strip() == "*"
        self.proxies = () if self.everywhere else tuple(_networks(proxies or ""))
        self.waiting: dict[Connection, None] = {}
        """Connections without a whole request, the longest waiting first."""
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Count a new connection, or say that there is no room; where all is full, the longest waiting one goes."""
        if not self._is_proxy(address) and self._open[address] >= self.limits.connections_each:
            return False
        if self._open.total() >= self.limits.connections:
            if not self.waiting:
                return False
            next(iter(self.waiting)).drop()
        self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A counted connection is gone."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]

    def _is_proxy(self, address: str) -> bool:
        try:
            return self.everywhere or any(ipaddress.ip_address(address) in network for network in self.proxies)
        except ValueError:
            return False


def _networks(proxies: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    networks = []
    for part in filter(None, (part.strip() for part in proxies.split(","))):
        try:
            networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError:  # the path of a socket: uvicorn compares it as text, and it has no connections of its own
            continue
    return networks


class Connection(H11Protocol):
    """One connection with its alarms."""

    def __init__(self, doorway: Doorway, **settings: Any) -> None:
        super().__init__(**settings)
        self.doorway, self.address = doorway, ""
        self._inside = False
        self._head: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._begun = False
        self._ahead = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, or say that there is no room."""
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self.doorway.enter(self.address):
            self.transport = transport
            transport.write(FULL)
            transport.close()
            return
        self._inside = True
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Read on; the alarm goes on until a head is whole."""
        if not self._inside:
            return
        self._begun = True
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self._ahead += len(data)
            if self._ahead > MOST_AHEAD:
                self.drop()
                return
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """The next request may come, within its time."""
        self._begun = False
        self._await_head()
        super().on_response_complete()
        self._look()
        if self._head is not None:  # nothing was waiting behind that request
            self._ahead = 0

    def pause_writing(self) -> None:
        """The client does not take its reply."""
        super().pause_writing()
        if self._taking is None:
            self._taking = self.loop.call_later(self.doorway.limits.taking_seconds, self.drop)

    def resume_writing(self) -> None:
        """It took enough of it."""
        super().resume_writing()
        self._taken()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if not self._inside:
            return
        self._inside = False
        self._busy()
        self._taken()
        self.doorway.leave(self.address)
        super().connection_lost(exc)

    def drop(self) -> None:
        """End it at once, whatever the client does."""
        self._busy()
        self.transport.abort()

    def _look(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._busy()

    def _busy(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
        self.doorway.waiting.pop(self, None)

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _await_head(self) -> None:
        self._busy()
        self.doorway.waiting[self] = None
        self._head = self.loop.call_later(self.doorway.limits.head_seconds, self._late)

    def _late(self) -> None:
        if self._begun and self.cycle is None:
            self.transport.write(LATE)
            self.transport.close()
            self._head = self.loop.call_later(self.doorway.limits.head_seconds, self.drop)
        else:
            self.drop()
