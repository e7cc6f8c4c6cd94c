"""One process that serves an app: it tells its address, and ends cleanly."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from trueup.errors import UsageError
from trueup.web.shell.connections import Connection, Doorway
from trueup.web.shell.limits import Limits

DRAIN_SECONDS = 20
"""How long requests that have begun may take to end after SIGTERM."""


class Server(uvicorn.Server):
    """A server that tells its address once it listens, and those who wait for news that it ends."""

    def __init__(
        self, config: uvicorn.Config, tell: Callable[[str], None], closing: threading.Event | None = None
    ) -> None:
        super().__init__(config)
        self.tell, self.closing = tell, closing

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Open the socket, then tell the address."""
        await super().startup(sockets=None)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            self.tell(f"http://{shown}:{port}/")

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """End the streams, which would never end by themselves, then drain."""
        if self.closing is not None:
            self.closing.set()
        await super().shutdown(sockets=None)


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach an address; names other than ``localhost`` are taken to be public."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(
    app: FastAPI,
    host: str,
    port: int,
    *,
    proxy: str | None,
    limits: Limits,
    tell: Callable[[str], None],
    closing: threading.Event | None = None,
) -> None:
    """Serve an app until SIGINT or SIGTERM; requests that have begun are finished first.

    Args:
        app: What answers.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        proxy: Addresses of a proxy whose ``X-Forwarded-For`` and ``-Proto`` are believed, comma-separated.
        limits: Sizes, times and rates.
        tell: Gets the address once it listens.
        closing: Is set when the server begins to end.

    Raises:
        UsageError: The address cannot be used.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=cast(type[asyncio.Protocol], partial(Connection, Doorway(limits, proxy))),
        ws="none",
        log_level="warning",
        access_log=False,  # it would hold addresses of people
        server_header=False,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy or "",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        lifespan="off",
    )
    server = Server(config, tell, closing)
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises the signal again after it has drained; this lets the database be closed in peace.
        signal.signal(signal.SIGTERM, _drained)
    try:
        server.run()
    except KeyboardInterrupt:
        return
    except SystemExit:  # uvicorn's way of saying that the address cannot be bound; its log says why
        raise UsageError(f"cannot listen on {host}:{port}", where="--port", fix="choose another port") from None


def _drained(number: int, frame: FrameType | None) -> None:
    """The drain is over; nothing is left to do."""
