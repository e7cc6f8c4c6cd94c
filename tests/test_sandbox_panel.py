"""The sandbox's annotators in the feedback room: their votes become the labels, the one who does not read is found."""

import pytest

from trueup.collectors.sandbox_panel import JudgingBatch, audit, chat, collect_judgments
from trueup.data.read import read_pairs
from trueup.errors import ConfigError
from trueup.feedback.quality.people import annotator_report
from trueup.sandbox import Annotator, World, label_pairs, panel

IDLE = Annotator("who-does-not-read", spam=1.0)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    world, folder = World(3), tmp_path_factory.mktemp("crowd")
    batches = [
        JudgingBatch(world.candidate_pairs("train", 400, per_prompt=2), "train", 3, 11),
        JudgingBatch(world.candidate_pairs("validation", 60), "validation", 1, 12),
    ]
    gold = world.candidate_pairs("test", 40)
    collected = collect_judgments(folder / "feedback.db", panel(3), batches, idle=IDLE, gold_items=gold, seed=3)
    return collected, audit(collected, folder / "snapshot"), batches


def test_the_snapshot_holds_what_those_who_read_said_and_nothing_else(audited):
    _, done, batches = audited
    for batch in batches:
        labels = label_pairs(panel(3), batch.pairs, per_pair=batch.votes, seed=batch.seed)
        written = read_pairs(str(done.snapshot.files[batch.split])).items
        assert [(p.prompt, p.chosen, p.rejected) for p in written] == [
            (chat(p.prompt), p.chosen, p.rejected) for p in labels
        ]
        assert [p.strength for p in written] == pytest.approx([p.strength for p in labels], abs=1e-12)


def test_only_the_one_who_does_not_read_is_left_out(audited):
    collected, done, _ = audited
    assert [collected.names[name] for name in done.suspects] == [IDLE.name]
    assert any("faster than the texts can be read" in sign for signs in done.suspects.values() for sign in signs)
    votes = sum(row.annotator in done.suspects for row in collected.judged.judgments)
    assert votes > 100


def test_everything_is_marked_as_simulated(audited):
    collected, done, _ = audited
    assert collected.judged.simulated
    assert all(row.simulated for row in collected.judged.judgments)
    assert done.snapshot.manifest["simulated"] is True


def test_a_store_that_exists_is_not_written_over(tmp_path):
    (tmp_path / "feedback.db").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="exists"):
        collect_judgments(tmp_path / "feedback.db", panel(0), [])
    assert (tmp_path / "feedback.db").read_bytes() == b"mine"


def test_through_the_workflow_the_queue_decides_who_judges_and_the_one_who_does_not_read_is_found_too(tmp_path):
    world = World(3)
    batches = [JudgingBatch(world.candidate_pairs("train", 60), "train", 3, 11)]
    gold = world.candidate_pairs("test", 16)
    collected = collect_judgments(
        tmp_path / "feedback.db", panel(3, 4), batches, idle=IDLE, gold_items=gold, seed=3, through="workflow"
    )
    judged = collected.judged
    clear = sum(item.stream == "gold" for item in judged.items.values())
    assert 0 < clear <= 16
    assert len(judged.judgments) == 3 * 60 + 5 * clear
    assert judged.simulated
    assert all(row.guideline is not None for row in judged.judgments)  # they accepted it, as people have to
    signs = {collected.names[row.annotator]: row.signs for row in annotator_report(judged).annotators}
    assert any("faster than the texts can be read" in sign for sign in signs[IDLE.name])
