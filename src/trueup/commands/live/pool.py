"""The runs whose numbers are in memory, and what is known of the others since they were.

Numbers of runs that nobody has asked about for longest are let go once all together take more than ``MOST_BYTES``. What
changes while a run goes on (verdict, alerts, counts) is kept for every run beside what the system said of its files: so
a page that follows a run costs nothing while that is not written, whether its numbers are held or not.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.commands.live.cursor import STREAMS, Cursor
from trueup.commands.live.follow import Followed
from trueup.commands.live.normal import beside_clean_runs, planned_steps
from trueup.commands.live.sample_index import stamp_of
from trueup.commands.live.samples import Samples
from trueup.commands.live.story import Verdict, alarmed, tell
from trueup.ledger.alerts import Alert, alerts

MOST_BYTES = 64 << 20
"""Bytes of numbers and indexes that are held; more where the newest ``LEAST`` runs take more."""
LEAST = 10
"""Runs that are held however large they are: as many as are compared at once."""
WRITTEN = ("run.json", "events.jsonl", "samples.jsonl", "rollouts.jsonl", *(f"{stream}.jsonl" for stream in STREAMS))
"""Files of a run that tell how it stands."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands, by its numbers."""

    origin: str
    verdict: Verdict
    alerts: tuple[Alert, ...]
    last_step: int | None
    rows: int
    left_out: int
    probes: tuple[int, ...]
    """Steps that have samples."""
    trained: int
    """Steps of which some answers that they learned from are there."""
    pace: float | None
    """Seconds of the newest step."""
    normal: Mapping[str, dict[str, Any]]
    """By metric, how it lies to what clean runs showed; see ``beside_clean_runs``."""


class Reading:
    """The numbers and the samples of one run, as they are read."""

    def __init__(self, folder: Path) -> None:
        self.followed, self.samples = Followed(folder), Samples(folder)
        self.trained = Samples(folder, "training")
        self._judged: tuple[Cursor, Verdict, list[Alert]] | None = None

    @property
    def bytes(self) -> int:
        """Bytes that they take."""
        return self.followed.metrics.bytes + self.followed.timing.bytes + self.samples.bytes + self.trained.bytes

    def judge(self, config: Mapping[str, Any]) -> tuple[Verdict, list[Alert]]:
        """Verdict and alerts of the numbers by now."""
        cursor = self.followed.refresh()
        if self._judged is None or self._judged[0] != cursor:
            raised = alerts(self.followed.metrics, config)
            told = tell(self.followed.metrics, config)
            self._judged = (cursor, alarmed(told, [a.message for a in raised if a.until is None]), raised)
        return self._judged[1], self._judged[2]


class Pool:
    """Readings by the run's name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Reading] = OrderedDict()
        self._standings: dict[str, tuple[object, Standing]] = {}

    def reading(self, name: str, folder: Path) -> Reading:
        """The numbers of a run, which may have to be read anew."""
        with self._lock:
            reading = self._held.get(name)
            if reading is None:
                while len(self._held) >= LEAST and sum(one.bytes for one in self._held.values()) > MOST_BYTES:
                    self._held.popitem(last=False)
                reading = self._held[name] = Reading(folder)
            self._held.move_to_end(name)
            return reading

    def standing(self, name: str, folder: Path, record: Mapping[str, Any]) -> Standing:
        """How a run stands; its numbers are read only if one of its files was written since they were."""
        stamp = (folder, *(stamp_of(folder / file) for file in WRITTEN))
        known = self._standings.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        reading = self.reading(name, folder)
        followed, samples = reading.followed, reading.samples
        config = record["config"]
        verdict, raised = reading.judge(config)
        complete = samples.look() & reading.trained.look()
        standing = Standing(
            origin=followed.refresh().origin,
            verdict=verdict,
            alerts=tuple(raised),
            last_step=followed.metrics.last_step,
            rows=followed.metrics.rows,
            left_out=followed.left_out + samples.left_out + reading.trained.left_out,
            probes=tuple(samples.steps),
            trained=len(reading.trained.steps),
            pace=followed.timing.last("seconds"),
            normal=beside_clean_runs(followed.metrics, record["kind"], config, planned_steps(record)),
        )
        if complete:
            self._standings[name] = (stamp, standing)
        return standing

    def pace(self, name: str) -> float | None:
        """Seconds of the newest step of a run, where that was read once."""
        known = self._standings.get(name)
        return None if known is None else known[1].pace
