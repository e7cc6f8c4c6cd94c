"""What is normal: ranges that name known metrics, hold new clean runs, and leave bad ones outside."""

import json

import numpy as np
import pytest

from benchmarks.bands import measure, range_of, read_clean
from tests.web.explorer.planted import plant, runaway
from trueup.commands.live.normal import PARTS, WEIGHT, beside_clean_runs, smoothed
from trueup.commands.live.tour import RUNS, TOUR
from trueup.errors import RunError
from trueup.ledger import read_lines, read_run
from trueup.ledger.columns import Columns
from trueup.metrics import BANDS, COMPARABLE, METRICS, bands, measured_bands
from trueup.recipes.table import RECIPES

HEALTHY, DRIFTING = RUNS


def rows_of(name):
    return read_lines(TOUR / name / "metrics.jsonl")[0]


def beside(rows, name=HEALTHY, steps=70):
    columns = Columns()
    for row in rows:
        columns.append(row)
    return beside_clean_runs(columns, "ppo", read_run(TOUR / name)["config"], steps)


def test_the_file_names_known_kinds_and_metrics_and_says_where_it_is_from():
    stored = json.loads(BANDS.read_text(encoding="utf-8"))
    assert stored["command"].startswith("python -m benchmarks.bands")
    assert stored["simulated"] is True
    assert {kind.partition("/")[0] for kind in stored["kinds"]} <= set(RECIPES)
    assert {"sft", "reward/bradley-terry", "dpo/dpo", "ppo", "rloo", "grpo"} <= set(stored["kinds"])
    assert set(COMPARABLE) <= set(METRICS)
    for kind, metrics in measured_bands().items():
        assert metrics, kind
        for name, band in metrics.items():
            assert name in COMPARABLE, (kind, name)
            assert band.runs >= 3
            assert band.steps > band.runs
            assert len(band.low) == len(band.high) == PARTS
            rule = COMPARABLE[name]
            for low, high in zip(band.low, band.high, strict=True):
                assert rule.lowest <= low <= high <= rule.highest
                assert rule.odd != "high" or low == rule.lowest
                assert rule.odd != "low" or high == rule.highest


def test_a_clean_run_that_was_not_measured_lies_inside_and_one_that_was_led_astray_outside():
    """The two runs of the tour: other data, steps and coefficient than the runs that were measured."""
    clean, astray = beside(rows_of(HEALTHY)), beside(rows_of(DRIFTING), DRIFTING)
    assert {name: one["state"] for name, one in clean.items()} == dict.fromkeys(clean, "inside")
    assert {"entropy", "distinct_2", "grad_norm", "explained_variance"} <= set(clean)
    assert astray["distinct_2"]["state"] == "below"
    assert 20 < astray["distinct_2"]["since"] < 50


def test_it_is_said_where_a_curve_left_the_range_and_where_it_came_back():
    def planted(until):
        return [
            row | {"entropy": row["entropy"] * (0.2 if 30 <= row["step"] < until else 1.0)} for row in rows_of(HEALTHY)
        ]

    gone, back = beside(planted(70))["entropy"], beside(planted(45))["entropy"]
    assert gone["state"] == "below"
    assert 30 <= gone["since"] <= 33  # smoothed: the first low value alone need not leave it
    assert back["state"] == "inside"
    assert back["left"]["side"] == "below"
    assert back["left"]["first"] == gone["since"]
    assert 44 <= back["left"]["last"] <= 48
    drawn = gone["range"]
    start = np.mean([row["entropy"] for row in rows_of(HEALTHY)[:5]])
    band = bands("ppo", {})["entropy"]
    assert drawn["steps"] == [0, 6, 20, 34, 48, 62, 69]
    assert drawn["high"][3] == pytest.approx(start * band.high[2], rel=0.02)
    assert beside(rows_of(HEALTHY)[:4])["entropy"]["state"] == "early"
    whole = beside(rows_of(HEALTHY), steps=None)["entropy"]["range"]
    assert whole["low"] == pytest.approx([start * min(band.low)] * 2)


def test_what_has_no_measured_kind_gets_no_range():
    columns = Columns()
    for row in rows_of(HEALTHY):
        columns.append(row)
    assert beside_clean_runs(columns, "dpo", {"objective": {"kind": "python"}}, 70) == {}


def test_the_average_is_the_one_that_the_page_draws():
    values = np.random.default_rng(0).normal(size=200)
    mean, norm, expected = 0.0, 0.0, []
    for value in values:  # smoothed() of chart.js
        mean, norm = mean * WEIGHT + (1 - WEIGHT) * value, norm * WEIGHT + (1 - WEIGHT)
        expected.append(mean / norm)
    assert smoothed(values) == pytest.approx(expected, abs=1e-9)
    assert smoothed(values[:3]) == pytest.approx(expected[:3], abs=1e-12)


def test_a_range_reaches_as_far_as_a_new_run_may_and_not_only_as_far_as_the_runs_did():
    """Three runs whose p05 are 0.4, 0.5, 0.6: 0.5 - 4.303 * sqrt(4 / 3) * 0.1 = 0.00317."""
    low = np.array([0.4, 0.5, 0.6])
    ends = np.stack([np.stack([np.full(PARTS, value), np.full(PARTS, value + 1)]) for value in low])
    measured = range_of("entropy", ends)
    assert measured["low"] == [0.00317] * PARTS
    assert measured["high"] == [2.0] * PARTS
    draws = np.random.default_rng(0).normal(5.0, 0.3, size=(2000, 4))
    held = lowest_held = 0
    for *runs, new in draws:
        ends = np.array([[[value] * PARTS, [value + 1] * PARTS] for value in runs])
        measured = range_of("grad_norm", ends)
        held += measured["low"][0] <= new and new + 1 <= measured["high"][0]
        lowest_held += min(runs) <= new <= max(runs)
    assert held / len(draws) > 0.94
    assert lowest_held / len(draws) < 0.55


def test_only_finished_runs_without_an_alert_are_clean(tmp_path):
    with pytest.raises(RunError, match="kl_runaway at step"):
        read_clean(plant(tmp_path / "bad", values=runaway))
    clean = read_clean(plant(tmp_path / "good"))
    assert (clean.kind, clean.steps) == ("ppo", 40)
    assert clean.spread["distinct_2"] == pytest.approx(np.ones((2, PARTS)))
    with pytest.raises(RunError, match="too few runs: ppo: 2"):
        measure([clean, clean])
    assert measure([clean] * 3)["ppo"] == {"runs": 3, "steps": [40] * 3, "metrics": {}}  # nothing of it ever moves
