"""The guided tour: two recorded runs that come with the package, and the numbers that its text names.

``python -m benchmarks.tour_runs`` trains the runs in the sandbox and packs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trueup.commands.live.runs import Runs
from trueup.errors import RunError

TOUR = Path(__file__).parent / "tour_runs"
HEALTHY, DRIFTING = RUNS = ("healthy", "drifting")
_NAMED = ("score", "kl", "beta", "gold")
"""Metrics of which the tour names the first and the last value."""


class TourRuns(Runs):
    """The recorded runs, which nobody writes any more.

    Raises:
        RunError: A run is missing, or is not the one that the tour tells of.
    """

    def __init__(self, root: Path = TOUR) -> None:
        super().__init__(root)
        self._facts = {name: self._of(name) for name in RUNS}

    def tour(self) -> dict[str, Any]:
        """What the tour says of each run; ``runs`` has their names, the healthy one first."""
        return {"runs": list(RUNS), "facts": self._facts}

    def _of(self, name: str) -> dict[str, Any]:
        reinstall = "install trueup again"
        try:
            run = self.describe(name)
            series = self.series(name, _NAMED, 10_000)["series"]
            ends = {metric: _ends(series[metric]["values"]) for metric in _NAMED}
            peak = max(zip(series["gold"]["values"], series["gold"]["steps"], strict=True))
        except (KeyError, IndexError, ValueError) as error:
            raise RunError(
                f"the tour's recorded run {name!r} cannot be used: {error}", where=str(self.root), fix=reinstall
            ) from error
        return {
            **ends,
            "gold_peak": {"value": peak[0], "step": peak[1]},
            "band": run["band"],
            "last_step": run["last_step"],
            "last_probe": self.samples(name).steps[-1],
            "alert": run["alerts"][0] if run["alerts"] else None,
        }


def _ends(values: list[float]) -> list[float]:
    """First and last value; of more than a few the mean of five, as single steps are mostly noise."""
    width = 5 if len(values) > 30 else 1
    return [sum(values[:width]) / width, sum(values[-width:]) / width]
