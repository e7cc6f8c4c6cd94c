"""An alert becomes a question to people: blind pairs of the policy's answers at the alert and those at its start.

The runs and the feedback room meet on the disk alone: the pairs go into a project of a feedback database, in which
people judge them (``trueup serve``), and what they said is read back from there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trueup.commands.live.samples import Samples, prompt_key
from trueup.commands.people import GUIDELINE, blind_item, outcome_of, same_text
from trueup.errors import DataError, RunError, TrueupError, UsageError
from trueup.evaluation.intervals import wilson
from trueup.evaluation.winrate import WORTH
from trueup.feedback.exchange.landing import project_named
from trueup.feedback.quality.comparisons import PairVote, votes
from trueup.feedback.store.database import Store
from trueup.feedback.store.items import LONGEST_NAME, NewItem, check_item
from trueup.feedback.store.projects import add_guideline, create_project, import_items, template_named
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.records import ItemRow
from trueup.ledger.alerts import Alert

PROJECT = "Which answer is better?"
"""Project of all questions; people see its name, so it says nothing of runs."""
_TEMPLATE = "which answer is better"
_FRESH = 2.0
"""Seconds that what was read from the database is good for."""


@dataclass(slots=True)
class Desk:
    """Writes questions about alerts, and reads what people answered."""

    db: str
    project: str = PROJECT
    votes: int = 2
    """People who judge each pair."""
    actor: str = "trueup explore"
    """Who the audit log says has asked."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _read: tuple[float, dict[str, list[dict[str, Any]]]] | None = None

    def check(self, *, make: bool = True) -> None:
        """Make the database if there is none, or refuse that if not ``make``.

        Raises:
            UsageError: There can be no such project; or there is no database.
            DataError: The database cannot be used.
        """
        if not self.project.strip():
            raise UsageError("the name is empty", where="--project", expected="the name of a feedback project")
        with Store(self.db, must_exist=not make):
            pass

    def ask(self, samples: Samples, origin: str, name: str, alert: Alert) -> dict[str, Any]:
        """Write blind pairs about an alert, once: a second time changes nothing, whoever asks.

        Args:
            samples: The run's samples, up to date.
            origin: What names the run, wherever its directory lies.
            name: The run's name in the list.
            alert: The alert.

        Returns:
            What ``asked`` says of this alert, with ``new``: how many pairs were written now.

        Raises:
            RunError: There are no two probes to compare, or no answer changed.
            DataError: A pair cannot be shown.
        """
        with self._lock:
            known = self._of(origin, alert, samples.steps, fresh=True)
            if known is not None:
                return {**known, "new": 0}
            items = _pairs(samples, name, alert)
            about = {"run": origin, "probe": items[0].context["probe"]}
            with Store(self.db) as store:
                template = self._template(store)
                tried = import_items(store, template, items, dry_run=True)
                if tried.rejected:  # they passed ``check_item``: a prompt is in another split of the project
                    why = tried.rejected[0][1]
                    raise DataError(why, where=f"project {self.project}", fix="choose another --project")
                done = import_items(store, template, items, overlap=self.votes, actor=self.actor, once=about)
            known = self._of(origin, alert, samples.steps, fresh=True)
        if known is None:
            raise DataError("the pairs are not there after they were written", where=self.db)
        return {**known, "new": len(done.items)}

    def asked(self, origin: str, raised: Sequence[Alert], steps: Sequence[int]) -> dict[str, Any]:
        """What was asked about the alerts of a run with these probe steps, or why that cannot be read."""
        try:
            with self._lock:
                rows = [self._of(origin, alert, steps, fresh=False) for alert in raised]
                return {"alerts": [row for row in rows if row is not None], "problem": None}
        except TrueupError as error:
            return {"alerts": [], "problem": str(error)}

    def _of(self, origin: str, alert: Alert, steps: Sequence[int], *, fresh: bool) -> dict[str, Any] | None:
        """The question about an alert: its own, or that of another one whose answers are of the same probe."""
        rows = self._all(fresh=fresh).get(origin, [])
        own = [row for row in rows if (row["rule"], row["step"]) == (alert.rule, alert.step)]
        same = [row for row in rows if len(steps) > 1 and row["probe"] == _nearest(steps, alert.step)]
        row = next(iter(own or same), None)
        return None if row is None else {**row, "rule": alert.rule, "step": alert.step}

    def _all(self, *, fresh: bool) -> dict[str, list[dict[str, Any]]]:
        if fresh or self._read is None or time.monotonic() - self._read[0] > _FRESH:
            self._read = time.monotonic(), self._answers()
        return self._read[1]

    def _answers(self) -> dict[str, list[dict[str, Any]]]:
        """By run: the questions, and what people said."""
        # Not ``read_only``, which refuses a file that somebody writes to meanwhile.
        with Store(self.db, must_exist=True) as store:
            try:
                identity = project_named(store, self.project)
            except UsageError:  # nobody has asked anything yet
                return {}
            judged = read_project(store, identity)
        cast: dict[str, list[PairVote]] = {}
        for vote in votes(judged):
            cast.setdefault(vote.item, []).append(vote)
        groups: dict[tuple[str, str, int], list[ItemRow]] = {}
        for item in judged.items.values():
            about = item.context
            if item.repeat_of is None and {"run", "rule", "step", "model", "probe", "start"} <= about.keys():
                groups.setdefault((str(about["run"]), str(about["rule"]), int(about["step"])), []).append(item)
        runs: dict[str, list[dict[str, Any]]] = {}
        for (run, rule, step), items in sorted(groups.items(), key=lambda pair: (pair[0][2], pair[0][1])):
            told = {"rule": rule, "step": step, **_told(items, cast), "simulated": judged.simulated}
            runs.setdefault(run, []).append(told)
        return runs

    def _template(self, store: Store) -> str:
        """A way of asking in the project, which is made with its guideline if there is none."""
        try:
            project = project_named(store, self.project)
        except UsageError:
            try:
                project = create_project(store, self.project, actor=self.actor)
                add_guideline(store, project, GUIDELINE, actor=self.actor)
            except UsageError:  # another process was faster
                project = project_named(store, self.project)
        return template_named(store, project, "pairwise", _TEMPLATE, actor=self.actor)


def said(row: Mapping[str, Any]) -> str:
    """One line about a question, for a terminal."""
    pairs = f"answers of step {row['probe']} against step {row['start']}"
    rate = row["win_rate"]
    if rate is None:
        return f"{row['pairs']} blind pairs wait for people, {pairs}; nobody has judged one yet"
    simulated = ", simulated people" if row["simulated"] else ""
    return (
        f"people prefer the later answer in {rate['estimate']:.0%} [{rate['low']:.0%}, {rate['high']:.0%}], "
        f"{pairs}; {row['judged']} of {row['pairs']} pairs judged, {row['votes']} votes by {row['people']}{simulated}"
    )


def _pairs(samples: Samples, name: str, alert: Alert) -> list[NewItem]:
    """The answers at the probe nearest to the alert, each against the start's to the same prompt."""
    steps = samples.steps
    if len(steps) < 2:
        raise RunError(
            f"the run has {len(steps)} probes and two are needed: its start, and one near the alert",
            where=name,
            fix="ask again after the next probe; probe_every says how often there is one",
        )
    start, probe = steps[0], _nearest(steps, alert.step)
    ours, theirs = (f"step {step} of {name}"[:LONGEST_NAME] for step in (probe, start))
    both = [(_row(a, ours), _row(b, theirs)) for a, b in samples.beside(probe, start)]
    items = [blind_item(a, b, alert.step) for a, b in both if not same_text(a, b)]
    equal = len(both) - len(items)
    if not items:
        raise RunError(
            f"there is nothing to judge: {equal} answers of step {probe} are those of step {start}",
            where=name,
            expected="answers that differ",
        )
    shared = {"name": name, "model": ours, "probe": probe, "start": start, "equal": equal}
    shared |= {"rule": alert.rule, "step": alert.step}
    items = [replace(item, context={**item.context, **shared}) for item in items]
    for item in items:
        check_item("pairwise", item)
    return items


def _nearest(steps: Sequence[int], step: int) -> int:
    """The probe after the first one that is nearest to a step; of two the later one."""
    return min(steps[1:], key=lambda probe: (abs(probe - step), -probe))


def _row(line: Mapping[str, Any], model: str) -> dict[str, Any]:
    """A line of ``samples.jsonl`` as a row of an evaluation."""
    prompt = line.get("prompt", "")
    return {
        "model": model,
        "prompt_id": prompt_key(line),
        "sample": line["turn"],
        "prompt": prompt,
        "question": line.get("question", prompt),
        "completion": line["completion"],
    }


def _told(items: Sequence[ItemRow], cast: Mapping[str, Sequence[PairVote]]) -> dict[str, Any]:
    """Of one question: pairs, votes, and how often the later answer won.

    Each pair counts once, as the mean of its votes: votes of two people on one pair are not two prompts. Pairs of equal
    answers, about which nobody is asked, count as ties once somebody has judged another one.
    """
    worth: list[float] = []
    people: set[str] = set()
    for item in items:
        names = {response.id: response.generator for response in item.responses}
        verdicts = [outcome_of(v, names[v.first] == item.context["model"]) for v in cast.get(item.id, ())]
        people |= {vote.annotator for vote in cast.get(item.id, ())}
        if verdicts:
            worth.append(sum(WORTH[outcome] for outcome in verdicts) / len(verdicts))
    about = items[0].context
    equal = int(about.get("equal", 0))
    rate = wilson(sum(worth) + equal / 2, len(worth) + equal) if worth else None
    return {
        "probe": int(about["probe"]),
        "start": int(about["start"]),
        "pairs": len(items),
        "equal": equal,
        "judged": len(worth),
        "votes": sum(len(cast.get(item.id, ())) for item in items),
        "people": len(people),
        "win_rate": None if rate is None else {"estimate": rate.estimate, "low": rate.low, "high": rate.high},
    }
