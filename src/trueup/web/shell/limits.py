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
    anonymous_body: int = 20_000
    """Of whoever is not signed in: enough for a handle and a password."""
    free_tries: int = 5
    first_wait: float = 2.0
    longest_wait: float = 900.0
    account_tries: int = 10
    account_wait: float = 300.0
    """The longest wait that wrong passwords from anywhere bring upon one account."""
    connections: int = 512
    connections_each: int = 128
    """From one address, which may be a whole office; not for a proxy."""
    head_seconds: float = 20.0
    """From the connection, or the reply before, to the whole head of the next request."""
    taking_seconds: float = 60.0
    """How long a client may take nothing of its reply."""


class Buckets:
    """One token bucket for each key; the keys that were full again long ago are forgotten."""

    def __init__(self, rate: float, burst: float, *, clock: Ticks = monotonic, most: int = 50_000) -> None:
        self.rate, self.burst, self.clock, self.most = rate, burst, clock, most
        self._keys: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Take one token: 0 if there was one, else the seconds until there is."""
        with self._lock:
            now = self.clock()
            level, at = self._keys.get(key, (self.burst, now))
            level = min(self.burst, level + (now - at) * self.rate)
            if key not in self._keys and len(self._keys) >= self.most:
                self._forget(now)
            taken = level >= 1.0
            self._keys[key] = (level - 1.0 if taken else level, now)
        return 0.0 if taken else (1.0 - level) / self.rate

    def _forget(self, now: float) -> None:
        full = self.burst / self.rate
        self._keys = {key: bucket for key, bucket in self._keys.items() if now - bucket[1] < full}
        while len(self._keys) >= self.most:
            del self._keys[next(iter(self._keys))]


class Tries:
    """Back-off by key: after some free tries the wait doubles with each further one, up to a longest.

    Where too many keys are held, those with the fewest tries are forgotten: whoever invents names by the thousand does
    not make the guard forget the one name that is attacked.
    """

    def __init__(self, free: int, first: float, longest: float, clock: Ticks, most: int) -> None:
        self.free, self.first, self.longest, self.clock, self.most = free, first, longest, clock, most
        self._keys: dict[str, tuple[int, float]] = {}

    def wait(self, key: str) -> float:
        """Seconds until the next try may be made."""
        return max(0.0, self._keys.get(key, (0, 0.0))[1] - self.clock())

    def count(self, key: str) -> None:
        """One try more."""
        now = self.clock()
        tries, until = self._keys.get(key, (0, now))
        if tries and now - until > self.longest:
            tries = 0
        if key not in self._keys and len(self._keys) >= self.most:
            kept = sorted(self._keys, key=lambda name: self._keys[name])[self.most // 4 + 1 :]
            self._keys = {name: self._keys[name] for name in kept}
        over = tries + 1 - self.free
        wait = min(self.longest, self.first * 2.0 ** min(over, 30)) if over >= 0 else 0.0
        self._keys[key] = (tries + 1, now + wait)

    def forgive(self, key: str) -> None:
        """The last try was right: it does not count. Wrong ones before it still do."""
        tries, until = self._keys.pop(key, (1, 0.0))
        if tries > 1:
            self._keys[key] = (tries - 1, self.clock() if tries - 1 < self.free else until)


class LoginGuard:
    """Counts tries of passwords, by address and by account.

    A try is counted before the password is looked at, so that many at once are many; a refused try is not counted.
    Accounts are counted by the name that was given, whether there is one or not, so that the replies do not tell. A
    browser that is known to the account is counted by itself: strangers who guess slow each other down, and not the
    person. Only keyed hashes are held; the key is drawn when the process starts.
    """

    def __init__(self, limits: Limits, *, clock: Ticks = monotonic, most: int = 50_000) -> None:
        self.limits = limits
        self._key = os.urandom(32)
        self._addresses = Tries(limits.free_tries, limits.first_wait, limits.longest_wait, clock, most)
        self._accounts = Tries(limits.account_tries, limits.first_wait, limits.account_wait, clock, most)
        self._lock = threading.Lock()

    def name(self, address: str) -> str:
        """Keyed hash of an address, 128 bits."""
        return hmac.new(self._key, address.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]

    def enter(self, address: str, account: str | None = None, browser: str | None = None) -> float:
        """Count a try: 0 if it may go on, else the seconds to wait.

        Args:
            address: Where it comes from.
            account: Skeleton of the handle.
            browser: Mark of a browser that is known to the account; it is then counted by that alone.
        """
        with self._lock:
            counters = self._counted(address, account, browser)
            wait = max(table.wait(key) for table, key in counters)
            if not wait:
                for table, key in counters:
                    table.count(key)
        return wait

    def forgive(self, address: str, account: str | None = None, browser: str | None = None) -> None:
        """The try was right: it does not count. Wrong ones before it still do."""
        with self._lock:
            for table, key in self._counted(address, account, browser):
                table.forgive(key)

    def _counted(self, address: str, account: str | None, browser: str | None) -> list[tuple[Tries, str]]:
        if browser is not None:
            return [(self._addresses, self.name(f"browser {browser}"))]
        counters = [(self._addresses, self.name(address))]
        return counters if account is None else [*counters, (self._accounts, self.name(f"account {account}"))]
