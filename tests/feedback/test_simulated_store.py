"""Simulated annotators work through the real store, and the command freezes what it said."""

from typer.testing import CliRunner

from trueup.collectors.planted import plant, planted_panel
from trueup.collectors.simulated import judge_in_workflow, simulated_project
from trueup.commands.app import app
from trueup.feedback.store.database import Store
from trueup.feedback.store.reading import read_project


def test_simulated_judgments_of_the_workflow_become_a_snapshot_that_says_so(tmp_path):
    world, people = plant(25, seed=2, gold=0.2), planted_panel(4, seed=2)
    gold = sum(row.stream == "gold" for row in world.rows)
    with Store(tmp_path / "f.db") as store:
        room = simulated_project(store, "demo", people)
        groups = [
            ([row for row in world.rows if row.stream == "gold"], len(people)),
            ([row for row in world.rows if row.stream == "main"], 2),
        ]
        done = judge_in_workflow(store, room, groups, people, worth=world.worth, seed=2)
        judged = read_project(store, room.project)
    assert done == len(judged.judgments) == 4 * gold + 2 * (25 - gold)
    assert all(row.simulated for row in judged.judgments)
    arguments = ["curate", "demo", "--db", str(tmp_path / "f.db"), "--out", str(tmp_path / "snap")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert (tmp_path / "snap" / "card.html").exists()
    assert '"simulated":true' in next((tmp_path / "snap" / "train").iterdir()).read_text()
