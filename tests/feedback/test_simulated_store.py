"""The simulated crowd works through the real store, and the command freezes what it said."""

from typer.testing import CliRunner

from trueup.cli import app
from trueup.feedback.reading import read_project
from trueup.feedback.simulate import crowd, plant, work
from trueup.feedback.simulate_store import simulated_project, store_client
from trueup.feedback.store import Store


def test_from_seats_to_a_snapshot(tmp_path):
    world, people = plant(25, seed=2, gold=0.2), crowd(4, seed=2)
    gold = sum(row.stream == "gold" for row in world.rows)
    with Store(tmp_path / "f.db") as store:
        project, names = simulated_project(store, "demo", world, people, overlap=2)
        done = work(world, people, store_client(store, project, names), seed=2)
        judged = read_project(store, project)
    assert done == len(judged.judgments) == 4 * gold + 2 * (25 - gold)
    assert all(row.simulated for row in judged.judgments)
    arguments = ["curate", "demo", "--db", str(tmp_path / "f.db"), "--out", str(tmp_path / "snap")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert (tmp_path / "snap" / "card.html").exists()
    assert '"simulated":true' in next((tmp_path / "snap" / "train").iterdir()).read_text()
