"""MLflow: a database in the mirror's folder; or a tracking server where that is asked for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import Any, ClassVar, TypeVar

from trueup.commands.mirrors.sink import MOST_TEXT, Head
from trueup.ledger.alerts import Alert

T = TypeVar("T")
MOST_METRICS, MOST_OTHERS = 1000, 100
"""Entries that MLflow takes at once."""
STATES = {"running": "RUNNING", "done": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_ODD = re.compile(r"[^A-Za-z0-9_\-./: ]")


class MlFlow:
    """One run of an experiment. A second value at a step would stand beside the first, so it is written anew."""

    overwrites: ClassVar[bool] = False
    goes_on: ClassVar[bool] = True

    def __init__(self, head: Head, first: int, key: str, *, new: bool) -> None:
        self._client, self._head = _client(head), head
        self._waiting: list[Any] = []
        if not new and (run_id := _find(self._client, head, key)) is not None:
            self._id = run_id
            self._client.update_run(run_id, status="RUNNING")
            return
        from mlflow.entities import Param

        start, tags = round(1000 * head.started), {"mlflow.runName": head.name, "trueup.key": key, "kind": head.kind}
        experiment = _experiment(self._client, head)
        self._id = self._client.create_run(experiment, start_time=start, tags=tags, run_name=head.name).info.run_id
        params = [Param(_plain(name), str(value)) for name, value in head.settings.items()]
        for some in _parts(params, MOST_OTHERS):
            self._client.log_batch(self._id, params=some)

    def step(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """All values of the step; the time is that of the training."""
        from mlflow.entities import Metric

        when = round(1000 * (self._head.started + seconds))
        self._waiting += [Metric(_plain(name), value, when, step) for name, value in values.items()]

    def alert(self, alert: Alert) -> None:
        """A tag."""
        self._client.set_tag(self._id, f"alert.{alert.rule}.{alert.step}", alert.message[:MOST_TEXT])

    def flush(self) -> None:
        """Hand over the steps that wait."""
        for some in _parts(self._waiting, MOST_METRICS):
            self._client.log_batch(self._id, metrics=some)
        self._waiting = []

    def close(self, status: str, facts: Mapping[str, Any]) -> None:
        """How the run ended; facts are a tag."""
        self.flush()
        self._client.set_tag(self._id, "facts", json.dumps(facts, ensure_ascii=False)[:MOST_TEXT])
        if status != "running":
            self._client.set_terminated(self._id, STATES[status])

    def place(self) -> str:
        """The command or address that shows it."""
        return (
            f"mlflow ui --backend-store-uri {quote(_store(self._head))}"
            if self._head.remote is None
            else self._head.remote
        )

    @staticmethod
    def forget(head: Head, key: str) -> None:
        """Delete the run; MLflow keeps it in its bin."""
        client = _client(head)
        if (run_id := _find(client, head, key)) is not None:
            client.delete_run(run_id)


def _store(head: Head) -> str:
    return f"sqlite:///{head.folder.resolve()}/mlflow.db"


def _client(head: Head) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=head.remote or _store(head))


def _experiment(client: Any, head: Head) -> str:
    known = client.get_experiment_by_name(head.project)
    if known is not None:
        return str(known.experiment_id)
    artifacts = None if head.remote is not None else (head.folder.resolve() / "artifacts").as_uri()
    return str(client.create_experiment(head.project, artifact_location=artifacts))


def _find(client: Any, head: Head, key: str) -> str | None:
    runs = client.search_runs([_experiment(client, head)], f"tags.`trueup.key` = '{key}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _plain(name: str) -> str:
    return _ODD.sub("_", name)


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))
