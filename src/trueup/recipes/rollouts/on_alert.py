"""The explorer's detectors on a run's own numbers while it trains, and what an alert does to the run.

Everything follows from the rows of ``metrics.jsonl`` up to the step, so a resumed run decides as one that was never cut
off: an alert that opened before the checkpoint is known, and does not act again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trueup.engine.loop import Loop
from trueup.engine.processes import from_first, rank
from trueup.ledger import Run, metric_rows
from trueup.ledger.alerts import Alert, alerts
from trueup.ledger.columns import Columns
from trueup.ledger.progress import warn
from trueup.types import Prompt

RAISE_EVERY = 5
"""Steps after which the coefficient is doubled again while an alert stays open."""
MOST_RAISED = 64.0
"""How many times ``kl.beta`` the coefficient is raised to at most."""


class AlertWatch:
    """Detectors on the rows of one run. In a job of several processes the first one looks, and tells the others.

    Args:
        run: The run, resumed already.
        on_alert: What an alert does, as in ``RolloutSettings``.
    """

    def __init__(self, run: Run, on_alert: str) -> None:
        self._run, self._on_alert = run, on_alert
        self._columns = Columns()
        self._raised: list[Alert] = []
        self._opened: list[Alert] = []
        if rank() == 0:
            for row in metric_rows(run.path, damaged=[]):
                self._columns.append(row)
            self._raised = alerts(self._columns, run.record["config"])

    def look(self, step: int, row: Mapping[str, float]) -> None:
        """Take note of the numbers of a step; what opened is written down and said."""
        self._raised, self._opened = from_first(lambda: self._detect(step, row))
        for alert in self._opened:
            self._run.event("alert", **{**alert.to_dict(), "until": None, "on_alert": self._on_alert})
            if rank() == 0:
                warn(f"step {alert.step}: {alert.rule}: {alert.message}")

    def _detect(self, step: int, row: Mapping[str, float]) -> tuple[list[Alert], list[Alert]]:
        known = {(alert.rule, alert.step) for alert in self._raised}
        self._columns.append({"step": step, **row})
        now = alerts(self._columns, self._run.record["config"])
        return now, [alert for alert in now if (alert.rule, alert.step) not in known]

    def price(self, step: int, beta: float, start: float) -> float:
        """The coefficient for the next step: with ``raise_kl`` twice ``beta`` where an alert opened, and again every
        ``RAISE_EVERY`` steps while it stays open, but not over ``MOST_RAISED`` times ``start``."""
        if self._on_alert != "raise_kl":
            return beta
        still = [alert for alert in self._raised if alert.until is None and alert.rule != "not_finite"]
        if all((step - alert.step) % RAISE_EVERY for alert in still):
            return beta
        after = max(beta, min(2 * beta, MOST_RAISED * start))
        if after == beta and not self._opened:  # at its limit, which was said when it got there
            return beta
        self._run.event("raise_kl", step=step, before=beta, after=after)
        if self._opened and rank() == 0:
            limit = "" if after == 2 * beta else f"; {MOST_RAISED:g} times kl.beta is the most"
            warn(f"step {step}: the KL's coefficient goes from {beta:.4g} to {after:.4g}{limit}")
        return after

    def act(self, step: int, loop: Loop[tuple[Prompt, ...]]) -> bool:
        """Pause the loop after this step, or say that the run is to end with it: then True."""
        if not self._opened or self._on_alert not in ("pause", "stop"):
            return False
        first = self._opened[0]
        if self._on_alert == "pause":
            fix = (
                f"look at it: trueup explore {self._run.path}; the same command goes on from here, and this alert does"
            )
            loop.pause(f"{first.rule}: {first.message}", f"{fix} not pause it again")
            return False
        reason: dict[str, Any] = {"step": step, "rule": first.rule, "metric": first.metric, "message": first.message}
        self._run.note(stopped=reason)
        self._run.event("stopped", **reason)
        if rank() == 0:
            warn(f"step {step}: the run ends here (on_alert: stop); final/ holds the model as it is now")
        return True
