"""One pair followed through all three ledgers: judgments, snapshot, runs."""

import json
import math
import shutil

import pytest

from tests.golden import ANIMALS, prompt
from tests.recipes.conftest import _kernels, material  # noqa: F401
from tests.recipes.test_recipes import config_of
from tests.test_commands import trueup
from trueup.commands.life import trace
from trueup.commands.life_text import format_text
from trueup.data.read import read_labelled
from trueup.errors import UsageError
from trueup.feedback.store.database import Store
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.projects import NewItem, add_person, add_template, create_project
from trueup.feedback.store.reading import read_project
from trueup.ledger import read_run
from trueup.recipes.registry import execute
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
            ImportedVote(
                i, who, {"preferred": 1, "strength": 2} if n else {"strength": 0}, (1, 0), at.format(n), 4000, "kind"
            )
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


def test_damaged_lines_of_a_log_are_named_and_the_rest_is_shown(world, tmp_path):
    _, runs, lines = world
    copy = tmp_path / "dpo"
    shutil.copytree(runs[1], copy)
    for name in ("metrics.jsonl", "pairs.jsonl"):
        with (copy / name).open("ab") as handle:
            handle.write(b'{"step": 1, "pair_id": "' + lines[3]["pair_id"].encode() + b'", "margin\n{"torn')
    life = trace(lines[3]["pair_id"], [copy])
    assert len(life.runs[str(copy)]) == 4
    damaged = [said for said in life.missing if "the line is left out" in said]
    assert [said.split(":")[0] for said in damaged] == [str(copy / "metrics.jsonl"), str(copy / "pairs.jsonl")]


@pytest.fixture(scope="module")
def labelled_runs(world, material, tmp_path_factory):  # noqa: F811
    """KTO on the same pairs, and on labels of their own."""
    folder = tmp_path_factory.mktemp("labels")
    pairs = read_run(world[1][0])["config"]["data"]
    config = config_of("kto", material, epochs=2)
    of_pairs = config.model_copy(update={"data": pairs, "validation": None})
    return execute("kto", of_pairs, folder / "pairs", quiet=True), execute("kto", config, folder / "kto", quiet=True)


def test_a_pair_is_followed_through_a_run_on_labels_too(world, labelled_runs):
    db, runs, lines = world
    life = trace(lines[3]["pair_id"], [*runs, labelled_runs[0]], db=db)
    assert life.missing == ()
    steps = life.runs[str(labelled_runs[0])]
    assert len(steps) == 4  # both sides, two epochs
    assert sum(step.chosen_reward is not None for step in steps) == 2
    assert all((step.chosen_reward is None) != (step.rejected_reward is None) for step in steps)
    assert all(step.margin is None for step in steps)
    alone = trace(lines[3]["pair_id"], [labelled_runs[0]], db=db)  # the first run's data is found to be pairs
    assert (alone.chosen, alone.rejected) == (life.chosen, life.rejected)
    text = format_text(life)
    assert "(chosen " in text
    assert text.count("the model agrees with the label") == 3


@pytest.mark.parametrize("number", [3, 4])
def test_a_labelled_response_is_followed_by_its_key(number, labelled_runs, material):  # noqa: F811
    run = labelled_runs[1]
    item = read_labelled(material["labelled"]).items[number]
    life = trace(item.key[:12], [run])
    assert life.pair_id == life.key == item.key
    assert (life.chosen if item.desirable else life.rejected) == item.completion
    assert (life.rejected if item.desirable else life.chosen) is None
    steps = life.runs[str(run)]
    assert [math.ceil(step.epoch) for step in steps] == [1, 2]
    rewards = [step.chosen_reward if item.desirable else step.rejected_reward for step in steps]
    logged = [row for row in map(json.loads, (run / "pairs.jsonl").read_text().splitlines()) if row["key"] == item.key]
    assert rewards == [row["reward"] for row in logged]
    text = format_text(life)
    assert text.startswith(f"response {item.key}, from ")
    assert ("  good:     " if item.desirable else "  bad:      ") + item.completion in text
    assert "seen 2 times" in text
    with pytest.raises(UsageError, match="0 responses have an id or key"):
        trace("zzzz", [run])
