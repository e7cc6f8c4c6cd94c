"""How often: token buckets for requests, back-off for wrong passwords. Kept in this process and for it alone."""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

Ticks = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may do. Rates are per second, sizes in bytes, times in seconds."""

    rate: float = 20.0
    burst: float = 120.0
    body: int = 1_000_000
    import_body: int = 64_000_000
    body_seconds: float = 30.0
    import_seconds: float = 600.0
    free_tries: int = 5
    first_wait: float = 2.0
    longest_wait: float = 900.0


class Buckets:
    """One token bucket for each key; the keys that were full again long ago are forgotten."""

    def __init__(self, rate: float, burst: float, *, clock: Ticks = monotonic, most: int = 50_000) -> None:
        self.rate, self.burst, self.clock, self.most = rate, burst, clock, most
        self._held: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Take one token: 0 if there was one, else the seconds until there is."""
        with self._lock:
            now = self.clock()
            level, at = self._held.get(key, (self.burst, now))
            level = min(self.burst, level + (now - at) * self.rate)
            if key not in self._held and len(self._held) >= self.most:
                self._forget(now)
            taken = level >= 1.0
            self._held[key] = (level - 1.0 if taken else level, now)
        return 0.0 if taken else (1.0 - level) / self.rate

    def _forget(self, now: float) -> None:
        full = self.burst / self.rate
        self._held = {key: held for key, held in self._held.items() if now - held[1] < full}
        while len(self._held) >= self.most:
            del self._held[next(iter(self._held))]


class LoginGuard:
    """Back-off for each address: after some free tries the wait doubles with each wrong one.

    A try is counted before the password is looked at, so that many at once are many. Only a keyed hash of the address
    is held; the key is drawn when the process starts.
    """

    def __init__(self, limits: Limits, *, clock: Ticks = monotonic, most: int = 50_000) -> None:
        self.limits, self.clock, self.most = limits, clock, most
        self._key = os.urandom(32)
        self._held: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def name(self, address: str) -> str:
        """Keyed hash of an address, 128 bits."""
        return hmac.new(self._key, address.encode(), hashlib.sha256).hexdigest()[:32]

    def enter(self, address: str) -> float:
        """Count a try: 0 if it may go on, else the seconds to wait; a refused try is not counted."""
        key = self.name(address)
        with self._lock:
            now = self.clock()
            tries, until = self._held.get(key, (0, now))
            if tries and now - until > self.limits.longest_wait:
                tries = 0
            if until > now:
                return until - now
            if key not in self._held and len(self._held) >= self.most:
                del self._held[next(iter(self._held))]
            over = tries + 1 - self.limits.free_tries
            wait = min(self.limits.longest_wait, self.limits.first_wait * 2.0 ** min(over, 30)) if over >= 0 else 0.0
            self._held[key] = (tries + 1, now + wait)
        return 0.0

    def forgive(self, address: str) -> None:
        """The try was right: it does not count. Wrong ones before it still do."""
        key = self.name(address)
        with self._lock:
            tries, until = self._held.pop(key, (1, 0.0))
            if tries > 1:
                free = tries - 1 < self.limits.free_tries
                self._held[key] = (tries - 1, self.clock() if free else until)
