"""Settings of rollouts that are drawn by servers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from trueup.config import Settings
from trueup.errors import ConfigError


class ServerRollouts(Settings):
    """Servers of vLLM's protocol that draw the rollouts in the place of the trainer's own sampler."""

    servers: str | tuple[str, ...]
    """Addresses as ``[http://host:8000, ...]``, or the name of a text file that has one a line. A file is read again
    at each synchronisation, so servers may come and go while the run is going on."""
    weights: str | None = None
    """Folder for the weights, under the same name on the trainer's machine and on the servers'. None: ``weights/`` in
    the run's folder."""
    keep_weights: int = Field(default=2, ge=1)
    """Versions of the weights that stay in that folder; older ones are removed."""
    sync_every: int = Field(default=1, ge=1)
    """Steps from one synchronisation of the weights to the next; more saves transfers and makes rollouts staler."""
    max_staleness: int = Field(default=0, ge=0)
    """How many policy versions older than the trainer's own a rollout may be. A staler one is refused, counted and
    drawn again; it never trains."""
    tis_cap: float | None = Field(default=None, ge=1)
    """Cap of truncated importance sampling: each token's loss is multiplied by min(trainer's probability / server's
    probability, cap), as 2. None: no weights, the mismatch is only measured. For methods with a policy gradient."""
    max_mismatch: float = Field(default=0.5, gt=0)
    """Mean absolute difference, in nats a token, between the server's log-probs and the trainer's from which on the run
    stops: the server has another model."""
    concurrency: int = Field(default=32, ge=1, le=1024)
    """Requests that are open at each server at a time."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds that one answer may take, and one reload."""
    attempts: int = Field(default=5, ge=1, le=20)
    """How often a server is asked, with growing pauses, before it is left out until the next synchronisation; and how
    often stale rollouts are drawn again."""

    @field_validator("servers")
    @classmethod
    def _there_are_some(cls, servers: str | tuple[str, ...]) -> str | tuple[str, ...]:
        listed = servers
        if isinstance(servers, str) and servers.startswith(("http://", "https://")):
            listed = tuple(part.strip() for part in servers.split(",") if part.strip())
        if not listed:
            raise ValueError("no server is named; expected addresses as [http://host:8000], or the name of a file")
        for address in listed if isinstance(listed, tuple) else ():
            _check_address(address)
        return listed

    @model_validator(mode="after")
    def _a_sync_comes_in_time(self) -> ServerRollouts:
        if self.sync_every > self.max_staleness + 1:
            raise ValueError(
                f"sync_every {self.sync_every} makes rollouts {self.sync_every - 1} versions old, and max_staleness is"
                f" {self.max_staleness}: raise max_staleness to {self.sync_every - 1}, or lower sync_every"
            )
        return self

    def addresses(self) -> tuple[str, ...]:
        """Where the servers are now, without a slash or ``/v1`` at the end, each once.

        Raises:
            ConfigError: The file of servers cannot be read, is empty, or holds something else.
        """
        if isinstance(self.servers, tuple):
            return _plain(self.servers)
        file = Path(self.servers)
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the file of servers cannot be read: {error}",
                where=f"rollout.servers={self.servers}",
                expected="addresses as [http://host:8000], or a text file that has one a line",
            ) from error
        listed = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
        for number, line in listed:
            try:
                _check_address(line)
            except ValueError as error:
                raise ConfigError(str(error), where=f"{self.servers}:{number}") from error
        if not listed:
            raise ConfigError("the file of servers names none", where=self.servers, fix="write one address a line")
        return _plain(line for _, line in listed)


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{address!r} is no address; expected http://host:port")
    if parts.username or parts.password:
        raise ValueError(f"the address of {parts.hostname} holds a password: set TRUEUP_ROLLOUT_KEY instead")


def _plain(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address.rstrip("/").removesuffix("/v1") for address in addresses))
