"""trackio's database, in the mirror's folder; or a Hugging Face Space or a trackio server where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from shlex import quote
from typing import Any, ClassVar

from trueup.commands.mirrors.sink import Head
from trueup.errors import RunError
from trueup.ledger.alerts import Alert

ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID", "TRACKIO_WEBHOOK_URL")
"""Variables by which trackio sends things elsewhere. Here only a setting does that."""


class Trackio:
    """One run of a trackio project."""

    overwrites: ClassVar[bool] = False
    goes_on: ClassVar[bool] = True

    def __init__(self, head: Head, first: int, key: str, *, new: bool) -> None:
        self._trackio = _trackio(head)
        self._folder, self._project, self._remote = head.folder, head.project, head.remote
        address = {} if head.remote is None else _address(head.remote)
        self._run = self._trackio.init(
            project=head.project,
            name=key,
            config=head.config,
            resume="never" if new else "allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
            **address,
        )

    def step(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """All values of the step."""
        self._run.log(dict(values), step=step)

    def alert(self, alert: Alert) -> None:
        """As an alert of trackio's own; no webhook is called."""
        self._run.alert(title=alert.rule, text=f"step {alert.step}: {alert.message}")

    def flush(self) -> None:
        """trackio hands over in the background, and all of it when it is closed."""

    def close(self, status: str, facts: Mapping[str, Any]) -> None:
        """All is handed over."""
        self._trackio.finish()

    def place(self) -> str:
        """The command or address that shows it."""
        if self._remote is not None:
            return self._remote
        return f"TRACKIO_DIR={quote(str(self._folder))} trackio show --project {quote(self._project)}"

    @staticmethod
    def forget(head: Head, key: str) -> None:
        """Remove it from the local database; one that was sent elsewhere has to be removed by hand."""
        _trackio(head)
        if head.remote is not None:
            raise RunError(f"the earlier run {key!r} stays there", where=head.remote, fix="remove it by hand")
        from trackio.sqlite_storage import SQLiteStorage

        SQLiteStorage.delete_run(head.project, key)


def _trackio(head: Head) -> Any:
    """The package, which reads where its database lies when it is loaded."""
    os.environ["TRACKIO_DIR"] = str(head.folder.resolve())
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for name in ELSEWHERE:
        os.environ.pop(name, None)
    import trackio

    return trackio


def _address(remote: str) -> dict[str, Any]:
    if remote.startswith(("http://", "https://")):
        return {"server_url": remote}
    return {"space_id": remote, "private": True}
