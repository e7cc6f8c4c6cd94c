"""BCO: the reward shift along a run, batches in which it has little to go by, and resuming it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.recipes.test_kto import cut_off_after
from tests.recipes.test_recipes import config_of
from trueup.commands.app import app
from trueup.errors import ConfigError, UsageError
from trueup.evaluation.implicit import open_implicit
from trueup.ledger import metric_rows, read_run
from trueup.recipes import kto
from trueup.recipes.registry import execute
from trueup.recipes.unpaired import RewardShift
from trueup.spec import unpaired as spec

BCO = {"objective__kind": "bco"}


def rewards(out):
    """Step -> (desirable, reward) of each response."""
    rows: dict[int, list[tuple[bool, float]]] = {}
    for line in (out / "pairs.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row["step"], []).append((row["desirable"], row["reward"]))
    return rows


def test_the_shift_is_the_middle_of_two_running_means_and_batches_of_one_label_leave_the_other():
    shift = RewardShift(0.5)
    assert shift.value == 0.0
    shift.update([2.0, 2.0, 2.0], [True] * 3, [1.0] * 3)  # nothing bad yet: its mean is that of the reference, 0
    assert shift.value == 1.0
    shift.update([4.0, -3.0, 100.0], [True, False, False], [1.0, 2.0, 0.0])  # what has no weight says nothing
    assert shift.means == {True: 3.0, False: -3.0}
    shift.update([], [], [])
    assert shift.value == 0.0
    other = RewardShift(0.5)
    other.restore(json.loads(json.dumps(shift.state())))
    assert other.means == shift.means
    other.restore({"good": None, "bad": 1.5})
    assert other.value == 0.75


def test_many_of_one_label_do_not_move_the_middle():
    """Peers take the mean of all rewards, which is near that of the label that is more frequent."""
    shift = RewardShift(0.9)
    shift.update([1.0] * 99 + [-1.0], [True] * 99 + [False], [1.0] * 100)
    assert shift.value == 0.0


def test_bco_starts_at_log_two_shifts_as_its_formula_says_and_separates_good_from_bad(material, tmp_path):
    config = config_of("kto", material, epochs=10, **BCO)
    out = execute("kto", config, tmp_path / "r", quiet=True)
    rows, seen = metric_rows(out), rewards(out)
    assert rows[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert rows[-1]["heldout_margin"] > 0.2
    assert rows[-1]["heldout_loss"] < 0.69
    means: dict[bool, float] = {}
    for row in rows:
        assert "kl" not in row
        assert row["reward_shift"] == pytest.approx((means.get(True, 0.0) + means.get(False, 0.0)) / 2, abs=1e-9)
        logits = [(good, reward) for good, reward in seen[row["step"]]]
        for good in {good for good, _ in logits}:
            mean = sum(r for g, r in logits if g is good) / sum(g is good for g, _ in logits)
            means[good] = mean if good not in means else 0.9 * means[good] + 0.1 * mean
        reward_B = np.array([reward for _, reward in logits])
        label_B = np.array([good for good, _ in logits])
        expected = spec.bco(reward_B, np.zeros_like(reward_B), label_B, row["reward_shift"], 1.0).mean()
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
    assert any(abs(row["reward_shift"]) > 1e-3 for row in rows)


def test_bco_asks_for_no_mismatched_rows_and_takes_batches_of_one(material, tmp_path, monkeypatch):
    with_mismatched = execute("kto", config_of("kto", material, epochs=1), tmp_path / "kto", quiet=True)
    monkeypatch.setattr(kto, "mismatched", None)  # whatever asks for them fails
    config = config_of("kto", material, epochs=1, batch__size=1, **BCO)
    out = execute("kto", config, tmp_path / "r", quiet=True)
    assert len(metric_rows(out)) == 12
    one, other = (read_run(folder)["facts"]["reference_tokens"] for folder in (out, with_mismatched))
    assert one < other


def test_micro_batches_do_not_change_the_shift(material, tmp_path):
    runs = []
    for tokens in (20, 4096):
        config = config_of("kto", material, epochs=3, batch__size=6, batch__micro_tokens=tokens, **BCO)
        runs.append(metric_rows(execute("kto", config, tmp_path / str(tokens), quiet=True)))
    for one, other in zip(*runs, strict=True):
        assert one["reward_shift"] == pytest.approx(other["reward_shift"], rel=1e-3, abs=1e-5)


def test_a_run_that_is_cut_off_goes_on_with_its_shift(material, tmp_path, monkeypatch):
    config = config_of("kto", material, epochs=3, batch__size=6, save_every=1, **BCO)
    straight = execute("kto", config, tmp_path / "straight", quiet=True)
    cut_off_after(3, config, tmp_path / "r", monkeypatch)
    out = execute("kto", config, tmp_path / "r", quiet=True)
    for name in ("metrics.jsonl", "pairs.jsonl", "eval.jsonl"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()


def test_the_implicit_reward_and_the_card_know_a_bco_run(material, tmp_path):
    out = execute("kto", config_of("kto", material, epochs=1, beta=0.3, **BCO), tmp_path / "r", quiet=True)
    assert open_implicit(str(out)).beta == 0.3
    assert "binary classifier optimisation" in (out / "final" / "README.md").read_text()
    kto_run = execute("kto", config_of("kto", material, epochs=1), tmp_path / "kto", quiet=True)
    assert open_implicit(str(kto_run)).beta == 0.1


def test_knobs_that_do_not_apply_and_batches_of_one_are_refused(material, tmp_path):
    with pytest.raises((ConfigError, UsageError), match="shift_decay"):
        config_of("kto", material, objective__kind="kto", objective__shift_decay=0.5)
    with pytest.raises(ConfigError, match="bco") as caught:
        execute("kto", config_of("kto", material, batch__size=1), tmp_path / "one", quiet=True)
    assert caught.value.fix
    assert "BCO" in CliRunner().invoke(app, ["kto", "--help"]).output
