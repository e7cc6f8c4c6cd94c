"""What is concluded from a sweep, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from trueup.errors import ShapeError
from trueup.evaluation.intervals import Interval
from trueup.evaluation.variants import Measured, compare_variants, signed


def variant(name, mean, seeds=3, prompts=30, spread=0.05, first=0):
    rng = np.random.default_rng(len(name))
    table = mean + rng.normal(0, spread, (seeds, prompts))
    return Measured(
        name,
        tuple(table.ravel().tolist()),
        tuple(np.repeat(range(first, first + seeds), prompts).tolist()),
        tuple(np.tile(range(prompts), seeds).tolist()),
    )


def words(*measured, **options):
    return " ".join(compare_variants(measured, measured[0].name, quality="gold", **options).conclusion)


def test_nothing_that_differs_is_said_to_be_no_difference():
    text = words(variant("a", 0.5), variant("bb", 0.5), variant("ccc", 0.5))
    assert text.startswith("No difference found")
    assert "better" not in text
    assert "worse" not in text
    assert "compatible with what was measured" in text


@pytest.mark.parametrize(("better", "first", "second"), [("up", "better", "worse"), ("down", "worse", "better")])
def test_what_differs_is_said_with_its_direction(better, first, second):
    text = words(variant("a", 0.5), variant("bb", 0.7), variant("ccc", 0.2), better=better)
    assert f"bb is {first} than a" in text
    assert f"ccc is {second} than a" in text
    assert "No difference" not in text


def test_many_comparisons_need_more_than_one():
    """Of 12 variants that are all alike, at 95 % for each some seem to differ; together they hold."""
    false_alarms = 0
    for trial in range(30):
        rng = np.random.default_rng(trial)
        several = []
        for index in range(12):
            values = rng.normal(0.5, 0.1, (3, 20))
            several.append(
                Measured(
                    f"v{index}",
                    tuple(values.ravel().tolist()),
                    tuple(np.repeat(range(3), 20).tolist()),
                    tuple(np.tile(range(20), 3).tolist()),
                )
            )
        comparison = compare_variants(several, "v0", quality="gold")
        assert all(
            c.decisive.high - c.decisive.low > c.difference.high - c.difference.low for c in comparison.contrasts
        )
        false_alarms += not comparison.conclusion[0].startswith("No difference")
    assert false_alarms <= 4


def test_few_seeds_are_said():
    assert "There is one seed" in words(variant("a", 0.5, seeds=1), variant("bb", 0.9, seeds=1))
    assert "Two seeds are few" in words(variant("a", 0.5, seeds=2), variant("bb", 0.9, seeds=2))


def test_differences_are_paired_on_what_both_have():
    base, other = variant("a", 0.5), variant("bb", 0.6, first=1)
    comparison = compare_variants([base, other], "a", quality="gold")
    (contrast,) = comparison.contrasts
    assert (contrast.seeds, contrast.left_out) == (2, 2)
    assert "left out" in comparison.conclusion[-1]
    rows = {seed: np.array(base.values).reshape(3, 30)[seed] for seed in (1, 2)}
    mine = np.array(other.values).reshape(3, 30)[:2]
    assert contrast.difference.estimate == pytest.approx(float(np.mean(mine - np.stack([rows[1], rows[2]]))))


def test_pairing_goes_by_name_and_not_by_order():
    base = Measured("a", (1.0, 2.0, 3.0, 5.0), (0, 0, 1, 1), ("p", "q", "p", "q"))
    other = Measured("b", (5.5, 3.0, 2.0, 1.5), (1, 1, 0, 0), ("q", "p", "q", "p"))
    (contrast,) = compare_variants([base, other], "a", quality="gold").contrasts
    assert contrast.difference.estimate == pytest.approx((0.5 + 0.0 + 0.0 + 0.5) / 4)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ShapeError, match="no variant 'x'"):
        compare_variants([variant("a", 0.5)], "x", quality="gold")
    with pytest.raises(ShapeError, match="share no seed"):
        compare_variants([variant("a", 0.5), variant("bb", 0.5, first=9)], "a", quality="gold")
    with pytest.raises(ShapeError, match="different prompts"):
        compare_variants([variant("a", 0.5), variant("bb", 0.5, prompts=29)], "a", quality="gold")
    assert words(variant("a", 0.5)) == "There is one variant only: nothing to compare."


def test_an_unknown_interval_is_written_as_that():
    nan = float("nan")
    assert signed(Interval(0.5, nan, nan, 1, 0.95, "none: one value")) == "+0.5 (no interval: one value)"
    assert "99 % interval" in signed(Interval(0.5, 0.1, 0.9, 1, 0.99, "t"))
