"""One pair followed through all three ledgers: judgments, snapshot, runs."""

import json
import math

import pytest

from tests.recipes.conftest import ANIMALS, material, prompt  # noqa: F401
from tests.recipes.test_recipes import config_of
from tests.test_commands import trueup
from trueup.errors import UsageError
from trueup.feedback.history import Vote, import_judged
from trueup.feedback.projects import NewItem, add_person, add_template, create_project
from trueup.feedback.reading import read_project
from trueup.feedback.store import Store
from trueup.recipes.registry import execute
from trueup.trace import trace
from trueup.types import Message, content_id, prompt_json


@pytest.fixture(scope="module")
def world(material, tmp_path_factory):  # noqa: F811
    """Twelve judged pairs, a training file that names their judgments, and two runs on it."""
    folder = tmp_path_factory.mktemp("trace")
    db = str(folder / "feedback.db")
    rows, lines = [], []
    with Store(db) as store:
        project = create_project(store, "demo", simulated=True)
        template = add_template(store, project, "pairwise", "pairs")
        people = [add_person(store, name, simulated=True) for name in "abc"]
        for animal in ANIMALS:
            asked = tuple(Message(t["role"], t["content"]) for t in prompt(animal))
            rows.append(NewItem(asked, (f"No idea, go away {animal}.", f"The {animal} likes warm milk and a nap.")))
        at = "2026-01-05T09:00:0{}.000000Z"
        votes = [
            Vote(i, who, {"preferred": 1, "strength": 2} if n else {"strength": 0}, (1, 0), at.format(n), 4000, "kind")
            for i in range(len(rows))
            for n, who in enumerate(people)
        ]
        items = import_judged(store, template, rows, votes)
        judged = read_project(store, project)
        for name, row in zip(items, rows, strict=True):
            origin = [j.id for j in judged.judgments if j.item == name]
            bad, good = row.responses
            lines.append(
                {
                    "prompt": prompt_json(row.prompt),
                    "chosen": good,
                    "rejected": bad,
                    "strength": 0.9,
                    "origin": origin,
                    "pair_id": content_id(prompt_json(row.prompt), good, bad),
                }
            )
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs = []
    for kind in ("reward", "dpo"):
        config = config_of(kind, {**material, "pairs": str(file)})
        runs.append(execute(kind, config, folder / kind, quiet=True))
    return db, runs, lines


def test_a_life_from_judgment_to_margin(world):
    db, runs, lines = world
    life = trace(lines[3]["pair_id"], runs, db=db)
    assert life.prompt.endswith(f"What does the {ANIMALS[3]} like?")
    assert [v.verdict for v in life.voices] == ["tie", "chosen", "chosen"]
    assert {v.shown_first for v in life.voices} == {"chosen"}
    assert [v.judgment for v in life.voices] == lines[3]["origin"]
    assert life.missing == ()
    for run in runs:
        steps = life.runs[str(run)]
        assert len(steps) == 4  # four epochs
        assert [math.ceil(s.epoch) for s in steps] == [1, 2, 3, 4]
        assert all(s.margin == pytest.approx(s.chosen_reward - s.rejected_reward) for s in steps)
    by_dpo = life.runs[str(runs[1])]
    assert by_dpo[-1].margin > by_dpo[0].margin  # it started from the reference, where every margin is zero


def test_the_command_says_it_in_words_and_in_json(world):
    db, runs, lines = world
    said = trueup("trace", lines[0]["pair_id"][:10], *map(str, runs), "--db", db)
    assert said.returncode == 0, said.stderr
    for words in ("judged 3 times", "4 s, simulated", "seen 4 times", "the model agrees with the label"):
        assert words in said.stdout
    parsed = json.loads(trueup("trace", lines[0]["pair_id"], str(runs[0]), "--json").stdout)
    assert parsed["missing"] == ["judgments: give the feedback store with --db"]


def test_unknown_and_ambiguous_ids_say_what_to_do(world):
    db, runs, _ = world
    with pytest.raises(UsageError, match="0 pairs"):
        trace("zzzz", runs, db=db)
    with pytest.raises(UsageError, match="12 pairs"):
        trace("", runs, db=db)
    with pytest.raises(UsageError, match="no run"):
        trace("a", [])
