"""KTO: single labels move the policy the right way, and what it cannot work with is refused."""

import json
from pathlib import Path

import pytest

from tests.recipes.test_recipes import config_of
from trueup.data.read import read_labelled
from trueup.engine import probe
from trueup.errors import ConfigError, DataError
from trueup.ledger import metric_rows, read_run
from trueup.recipes.registry import execute


def test_kto_starts_at_half_the_weight_and_separates_good_from_bad(material, tmp_path):
    """Property 61."""
    out = execute("kto", config_of("kto", material, epochs=10), tmp_path / "r", quiet=True)
    rows = metric_rows(out)
    assert rows[0]["loss"] == pytest.approx(0.5, abs=1e-6)
    assert rows[0]["kl"] == 0.0
    assert all(r["kl"] >= 0 for r in rows)
    assert rows[-1]["heldout_margin"] > 0.2
    assert rows[-1]["heldout_loss"] < 0.5
    assert read_run(out)["pinned"]["reference"]


def test_weights_scale_their_side_of_the_loss(material, tmp_path):
    config = config_of("kto", material, epochs=1, batch__size=12, desirable_weight=2.0)
    first = metric_rows(execute("kto", config, tmp_path / "r", quiet=True))[0]["loss"]
    # Twelve rows at their reference, half a unit each; the six good ones count double.
    assert first == pytest.approx(0.5 * (6 * 2 + 6) / 12, abs=1e-6)


def test_pairs_serve_as_one_good_and_one_bad_response_each(material, tmp_path):
    config = config_of("kto", material, epochs=1).model_copy(update={"data": material["pairs"], "validation": None})
    out = execute("kto", config, tmp_path / "r", quiet=True)
    assert read_run(out)["facts"]["render"]["examples"] == 24


def test_what_kto_cannot_use_is_refused(material, tmp_path):
    with pytest.raises(ConfigError, match="at least 2"):
        execute("kto", config_of("kto", material, batch__size=1), tmp_path / "one", quiet=True)
    lines = [json.loads(line) for line in Path(material["labelled"]).read_text(encoding="utf-8").splitlines()]
    good = tmp_path / "good.jsonl"
    good.write_text("".join(json.dumps(r) + "\n" for r in lines if r["label"]))
    config = config_of("kto", material).model_copy(update={"data": str(good)})
    with pytest.raises(DataError, match="no response is labelled bad"):
        execute("kto", config, tmp_path / "two", quiet=True)


def test_the_reference_scores_everything_before_the_first_step_and_never_again(material, tmp_path, monkeypatch):
    from trueup.engine.loop import Loop
    from trueup.models.policy import Reference
    from trueup.recipes import kto, reference

    scored, steps = [], []
    plain, ticks = reference.sequence_logps, Loop.__iter__

    def watched(model, sequences, **more):
        if isinstance(model, Reference):
            scored.append((len(steps), list(sequences)))
        return plain(model, sequences, **more)

    def counted(loop):
        for step in ticks(loop):
            steps.append(step)
            yield step

    monkeypatch.setattr(Loop, "__iter__", counted)
    for module in (kto, reference):
        monkeypatch.setattr(module, "sequence_logps", watched)
    out = execute("kto", config_of("kto", material, epochs=2, batch__size=6), tmp_path / "r", quiet=True)
    assert len(steps) == 4
    ((before, sequences),) = scored
    assert before == 0
    assert len(set(sequences)) == len(sequences)
    assert len(list((out / "cache").iterdir())) == 1
    facts, events = read_run(out)["facts"], (out / "events.jsonl").read_text().splitlines()
    (event,) = (json.loads(line) for line in events if '"reference"' in line)
    assert event["tokens"] == facts["reference_tokens"] == sum(len(p) + len(c) for p, c in sequences)


def test_every_step_writes_the_reward_of_each_of_its_responses(material, tmp_path):
    out = execute("kto", config_of("kto", material, epochs=2, batch__size=6), tmp_path / "r", quiet=True)
    rows = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6
    known = {item.key: item.desirable for item in read_labelled(material["labelled"]).items}
    assert len(known) == 12
    for epoch in (rows[:12], rows[12:]):
        assert {row["key"]: row["desirable"] for row in epoch} == known
    for metrics in metric_rows(out):
        for name, label in (("chosen_reward", True), ("rejected_reward", False)):
            here = [r["reward"] for r in rows if r["step"] == metrics["step"] and r["desirable"] is label]
            assert (name in metrics) == bool(here)
            assert not here or metrics[name] == pytest.approx(sum(here) / len(here))


def cut_off_after(updates, config, out, monkeypatch):
    """Start a run and cut it off when it has taken so many updates."""
    from trueup.recipes import kto

    learn = kto.learn

    def cut_off(config, policy, logps, stepper, rows, max_length, shift):
        if stepper.updates == updates:
            raise KeyboardInterrupt
        return learn(config, policy, logps, stepper, rows, max_length, shift)

    with monkeypatch.context() as patch:
        patch.setattr(kto, "learn", cut_off)
        with pytest.raises(KeyboardInterrupt):
            execute("kto", config, out, quiet=True)


def test_a_run_that_is_cut_off_takes_the_reference_from_its_cache(material, tmp_path, monkeypatch):
    from trueup.recipes import reference

    config = config_of("kto", material, epochs=2, batch__size=6, save_every=1)
    straight = execute("kto", config, tmp_path / "straight", quiet=True)
    cut_off_after(2, config, tmp_path / "r", monkeypatch)
    monkeypatch.setattr(reference, "sequence_logps", None)  # whatever asks the reference again fails
    out = execute("kto", config, tmp_path / "r", quiet=True)
    for name in ("metrics.jsonl", "pairs.jsonl", "eval.jsonl"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()


def test_a_probe_asks_the_reference_only_for_the_steps_that_it_takes(material, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.0)
    monkeypatch.setattr(probe, "OTHERS", 0)
    config = config_of("kto", material, epochs=15, batch__size=3)
    out = execute("kto", config, tmp_path / "r", quiet=True, probe=4)
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    (tokens,) = (event["tokens"] for event in events if event["event"] == "reference")
    assert read_run(out)["facts"]["steps"] == 60
    assert tokens < read_run(out)["facts"]["reference_tokens"]
