"""People as judges: blind pairs of answers into the feedback room, and their verdicts back into the evaluation.

An item shows one prompt and two answers; nothing on the page says whose they are. Which answer comes first in the store
is drawn for each item, and the room draws the order shown anew for each person, so each pair is seen in both orders.
Two answers of the same text are a tie that nobody is asked about.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.config.seeds import derive
from trueup.errors import DataError, UsageError
from trueup.evaluation.judge import JudgedPair, judged_pair, paired_answers
from trueup.evaluation.rows import Row, read_rows
from trueup.feedback.exchange.landing import project_named
from trueup.feedback.quality.comparisons import PairVote, votes
from trueup.feedback.store.database import Store
from trueup.feedback.store.items import NewItem, check_item
from trueup.feedback.store.projects import add_guideline, add_template, create_project, import_items
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.records import Judged
from trueup.reports.build import Report
from trueup.types import Message, Outcome, Prompt

GUIDELINE = """# Which answer is better?

Two answers to the same prompt; nobody can see who wrote them. Prefer the one that you would rather have been given:
right, to the point, kind, and no longer than it needs to be. Length is no merit. A request that would harm somebody is
better refused; a harmless one is better answered. Say that it is a tie when you see no difference.
"""
LABEL, COLUMN = "people", "true_quality"
NO_TEXT = "[no text]"
"""What is shown for an empty answer."""


@dataclass(frozen=True, slots=True)
class Room:
    """Where people judge: a database, a new project in it, and how many are asked about each pair."""

    db: str
    project: str
    votes: int = 2

    def check(self) -> None:
        """Refuse, before anything is sampled, what could not be written in the end.

        Raises:
            UsageError: The project exists, or nobody would be asked.
            DataError: The database cannot be used.
        """
        if self.votes < 1:
            raise UsageError(f"{self.votes} people for each pair", where="--votes", expected="at least 1")
        with Store(self.db) as store:
            try:
                project_named(store, self.project)
            except UsageError:
                return
        raise UsageError(
            f"there is a project {self.project!r} already",
            where=self.db,
            fix="choose another name; to read its answers: trueup evaluate --read-back PROJECT",
        )


def put_up(rows: Sequence[Row], baseline: str, room: Room, seed: int, tell: Callable[[str], None]) -> None:
    """Write the answers of each model against the baseline's as blind pairs into a new project.

    Raises:
        DataError: A pair cannot be shown; names the prompt.
    """
    pairs = [pair for name in _others(rows, baseline) for pair in paired_answers(rows, name, baseline)]
    items = [blind_item(ours, theirs, seed) for ours, theirs in pairs if not same_text(ours, theirs)]
    if not items:
        raise DataError("all answers are the same text", where="--judge people", expected="answers that differ")
    order = random.Random(derive(seed, "people", "order"))
    order.shuffle(items)  # of several models, so that nobody judges one first and another when tired
    for item in items:  # before there is a project
        check_item("pairwise", item)
    with Store(room.db) as store:
        project = create_project(store, room.project)
        add_guideline(store, project, GUIDELINE)
        template = add_template(store, project, "pairwise", "which answer is better")
        done = import_items(store, template, items, overlap=room.votes)
    if done.rejected:
        number, why = done.rejected[0]
        raise DataError(f"cannot be judged: {why}", where=f"prompt {items[number].context['prompt_id']}")
    tell(
        f"{len(items)} pairs wait in the project {room.project} of {room.db}, {room.votes} people each: "
        f"trueup serve --db {room.db}; then: trueup evaluate --read-back {room.project} --db {room.db}"
    )


def read_back(project: str, db: str, out: Path, *, tell: Callable[[str], None] = print) -> Report:
    """Take what people said into an evaluation: a win-rate, the column ``true_quality``, and the report anew.

    Args:
        project: Name or id of the project.
        db: Its database, which is only read.
        out: The folder of the evaluation.
        tell: Progress lines.

    Raises:
        UsageError: There is no such project or no evaluation.
        DataError: The project is of another evaluation, or nobody has judged anything yet.
    """
    from trueup.commands.comparison import RECORD, read_verdicts, write_evaluation

    file = out / RECORD
    if not file.is_file():
        raise UsageError("no evaluation", where=str(file), expected="the folder that trueup evaluate --out wrote")
    try:
        record = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"is damaged: {error}", where=str(file), fix="evaluate again") from error
    rows = read_rows(out / "eval.jsonl")
    with Store(db, read_only=True) as store:
        judged = read_project(store, project_named(store, project))
    verdicts = human_verdicts(rows, record["baseline"], judged, project)
    told = [pair for pairs in verdicts.values() for pair in pairs]
    quality = true_quality(told)
    for row in rows:
        row[COLUMN] = quality.get((row["model"], row["prompt_id"], row.get("sample", 0)))
    people = _described(judged, verdicts, project, tell)
    judges = [judge for judge in record["judges"] if judge["kind"] != LABEL]
    return write_evaluation(
        out,
        rows,
        {**read_verdicts(out), people["label"]: verdicts},
        {**record, "judges": [*judges, people]},
        tell,
    )


def human_verdicts(rows: Sequence[Row], baseline: str, judged: Judged, project: str) -> dict[str, list[JudgedPair]]:
    """By model: one pair for each vote, and a tie for each pair of equal answers.

    Raises:
        DataError: Answers of the project are not those of the evaluation, or there is no vote.
    """
    answers = {(row["model"], row["prompt_id"], int(row.get("sample", 0))): row for row in rows}
    verdicts: dict[str, list[JudgedPair]] = {name: [] for name in _others(rows, baseline)}
    cast = votes(judged)
    if not cast:
        raise DataError("nobody has judged a pair yet", where=f"project {project}", fix="trueup serve, and judge some")
    for vote in cast:
        item = judged.items[vote.item]
        names = {response.id: response.generator for response in item.responses}
        place = item.context.get("prompt_id"), int(item.context.get("sample", 0))
        model = next((names[side] for side in (vote.first, vote.second) if names[side] != baseline), "")
        ours, theirs = answers.get((model, *place)), answers.get((baseline, *place))
        if ours is None or theirs is None or {r.text for r in item.responses} != {_shown(ours), _shown(theirs)}:
            raise DataError(
                f"the answers of item {vote.item} are not those of this evaluation",
                where=f"project {project}",
                fix="name the project and the --out of the same trueup evaluate",
            )
        verdicts[model].append(judged_pair(ours, theirs, outcome_of(vote, names[vote.first] == model), None))
    for name in verdicts:
        same = [pair for pair in paired_answers(rows, name, baseline) if same_text(*pair)]
        verdicts[name] += [judged_pair(*pair, Outcome.TIE, None) for pair in same]
    return verdicts


def true_quality(pairs: Sequence[JudgedPair]) -> dict[tuple[str, str, int], float]:
    """(model, prompt, sample) -> share of its comparisons that the answer won, ties half; unjudged ones are absent."""
    worth: dict[tuple[str, str, int], list[float]] = {}
    for pair in pairs:
        won = {Outcome.A: 1.0, Outcome.TIE: 0.5, Outcome.B: 0.0}[pair.outcome]
        worth.setdefault((pair.a, pair.prompt, pair.sample), []).append(won)
        worth.setdefault((pair.b, pair.prompt, pair.sample), []).append(1 - won)
    return {place: sum(values) / len(values) for place, values in worth.items()}


def _described(
    judged: Judged, verdicts: Mapping[str, Sequence[JudgedPair]], project: str, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The record of people as a judge, with what their answers say about themselves."""
    cast = votes(judged)
    asked, answered = len(judged.items), len({vote.item for vote in cast})
    people = len({vote.annotator for vote in cast})
    notes = [f"{answered} of {asked} pairs were judged, {len(cast)} times, by {people} people who saw no names."]
    sides = [vote.left_win for vote in cast if vote.left_win is not None]
    notes += [f"The answer shown first won {sum(sides) / len(sides):.0%} of the time."] if sides else []
    same = sum(len(pairs) for pairs in verdicts.values()) - len(cast)
    notes += [f"{same} pairs of equal answers count as ties; nobody was asked about them."] if same else []
    if judged.simulated:
        notes.append("The people of this project are simulated.")
    if answered < asked:
        tell(f"{asked - answered} of {asked} pairs have not been judged yet")
    return {
        "label": LABEL,
        "kind": LABEL,
        "about": f"people, in the project {project}",
        "scores": False,
        "bounds": None,
        "notes": notes,
    }


def _others(rows: Sequence[Row], baseline: str) -> list[str]:
    return [name for name in dict.fromkeys(str(row["model"]) for row in rows) if name != baseline]


def blind_item(ours: Row, theirs: Row, seed: int) -> NewItem:
    """One prompt with two answers; which one comes first is drawn. Their models are known to the store alone."""
    sides = [ours, theirs]
    random.Random(derive(seed, "people", str(ours["model"]), str(ours["prompt_id"]), str(ours["sample"]))).shuffle(
        sides
    )
    return NewItem(
        _prompt(ours),
        tuple(_shown(side) for side in sides),
        tuple(str(side["model"]) for side in sides),
        stream="holdout",  # its prompts are held out: nothing of it may be trained on
        split="test",
        context={"prompt_id": ours["prompt_id"], "sample": int(ours["sample"])},
    )


def _prompt(row: Row) -> Prompt:
    """The prompt as people are shown it: a question as a turn, anything longer as its text."""
    prompt, question = str(row["prompt"]), str(row["question"])
    return (Message("user", question if prompt == f"user: {question}" else prompt),)


def _shown(row: Row) -> str:
    text = str(row["completion"]).encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text if text.strip() else NO_TEXT


def same_text(ours: Row, theirs: Row) -> bool:
    """Whether people would be shown the same answer twice."""
    return _shown(ours) == _shown(theirs)


def outcome_of(vote: PairVote, ours_first: bool) -> Outcome:
    """A vote from our side, which is the first of its pair or the second."""
    if vote.sign == 0:
        return Outcome.TIE
    return Outcome.A if (vote.sign > 0) == ours_first else Outcome.B
