"""TensorBoard's event files, written with TensorBoard's own record writer; needs neither torch nor TensorFlow.

A file is only added to. What is written again begins a new file with the mark of a restart at that step, from which on
TensorBoard drops what earlier files hold.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from shlex import quote
from typing import Any, ClassVar

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from trueup.commands.mirrors.sink import MOST_TEXT, Head
from trueup.ledger.alerts import Alert
from trueup.metrics import metric_of

PATTERN = "events.out.tfevents.*"
VERSION = "brain.Event:2"
"""Of the files' form; from this one on a restart is marked by an event."""


class TensorBoard:
    """Event files in the mirror's folder."""

    overwrites: ClassVar[bool] = True
    goes_on: ClassVar[bool] = True

    def __init__(self, head: Head, first: int, key: str, *, new: bool) -> None:
        self._folder, self._started, self._last = head.folder, head.started, max(first - 1, 0)
        earlier = [int(path.name.split(".")[3]) for path in head.folder.glob(PATTERN)]
        at = max(int(time.time()), *(when + 1 for when in earlier)) if earlier else int(time.time())
        self._file = open(head.folder / f"events.out.tfevents.{at:010d}.trueup", "xb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._seen: set[str] = set()
        self._write(Event(wall_time=head.started, file_version=VERSION))
        if earlier:
            mark = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=head.started, step=first, session_log=mark))
        if first == 0:
            self._write(
                Event(wall_time=head.started, step=0, summary=hparams_pb(dict(head.settings), key, head.started))
            )
            rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in head.settings.items())
            self._text("settings", f"| setting | value |\n|---|---|\n{rows}", 0)

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())

    def _text(self, tag: str, text: str, step: int) -> None:
        self._write(Event(wall_time=self._started, step=step, summary=text_pb(tag, text)))

    def step(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """One event with all values of the step; what a metric means stands beside its first value."""
        summary = Summary()
        for name, value in values.items():
            entry = summary.value.add(tag=name, simple_value=value)
            if name not in self._seen:
                self._seen.add(name)
                entry.metadata.CopyFrom(SummaryMetadata(summary_description=_meaning(name)))
                entry.metadata.plugin_data.plugin_name = "scalars"
        self._last = step
        self._write(Event(wall_time=self._started + seconds, step=step, summary=summary))

    def alert(self, alert: Alert) -> None:
        """A line of text at its step."""
        self._text("alerts", f"**{alert.rule}**: {alert.message}", alert.step)

    def flush(self) -> None:
        """To the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self, status: str, facts: Mapping[str, Any]) -> None:
        """How the run ended, as text at the last step."""
        text = json.dumps(facts, indent=2, ensure_ascii=False)[:MOST_TEXT]
        self._text("end", f"{status}\n\n```\n{text}\n```", self._last)
        self.flush()
        self._file.close()

    def place(self) -> str:
        """The command that shows it."""
        return f"tensorboard --logdir {quote(str(self._folder))}"

    @staticmethod
    def forget(head: Head, key: str) -> None:
        """Nothing: steps are taken back by a mark."""


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _meaning(name: str) -> str:
    metric = metric_of(name)
    return "" if metric is None else f"{metric.meaning} ({metric.estimator}; {metric.unit})"
