"""Weights & Biases: an offline run in the mirror's folder; or online where that is asked for.

Nothing but the run's own numbers and settings: no code, no console, no host name, no use of the machine.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from shlex import quote
from typing import Any, ClassVar

from trueup.commands.mirrors.sink import MOST_TEXT, Head
from trueup.ledger.alerts import Alert


class WeightsAndBiases:
    """One run of a project. An offline one cannot be added to, so it is written anew."""

    overwrites: ClassVar[bool] = False
    goes_on: ClassVar[bool] = False

    def __init__(self, head: Head, first: int, key: str, *, new: bool) -> None:
        wandb = _wandb()
        self._remote, self._folder = head.remote, head.folder
        self._run = wandb.init(
            project=head.project,
            entity=head.remote,
            id=key,
            name=head.name,
            dir=str(head.folder),
            config=head.config,
            reinit="finish_previous",
            mode="offline" if head.remote is None else "online",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
            ),
        )

    def step(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """All values of the step."""
        self._run.log({**values, "timing/training_seconds": seconds}, step=step)

    def alert(self, alert: Alert) -> None:
        """In the run's summary: an alert of W&B's own would send mail each time that the mirror is written anew."""
        self._run.summary[f"alert/{alert.rule}/{alert.step}"] = alert.message

    def flush(self) -> None:
        """Its own process hands over, and all of it when it is closed."""

    def close(self, status: str, facts: Mapping[str, Any]) -> None:
        """How the run ended goes into the summary."""
        self._run.summary["status"] = status
        self._run.summary["facts"] = json.dumps(facts, ensure_ascii=False)[:MOST_TEXT]
        self._run.finish(exit_code=1 if status == "failed" else 0)

    def place(self) -> str:
        """The address, or the command that would send it."""
        return (
            f"wandb sync {quote(str(self._folder))}/wandb/offline-run-*" if self._remote is None else str(self._run.url)
        )

    @staticmethod
    def forget(head: Head, key: str) -> None:
        """Remove what was written offline, or the run that is online."""
        if head.remote is None:
            for folder in head.folder.glob(f"wandb/offline-run-*-{key}"):
                shutil.rmtree(folder)
        else:
            _wandb().Api().run(f"{head.remote}/{head.project}/{key}").delete()


def _wandb() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb
