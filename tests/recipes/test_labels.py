"""What a row's strength, weight and margin do to training: sums over weights, and nothing that is used for nothing."""

import json
from pathlib import Path

import pytest

from tests.golden import PREFERENCES
from tests.recipes.test_recipes import config_of
from trueup.data.read import read_pairs
from trueup.errors import DataError
from trueup.ledger import metric_rows
from trueup.recipes.agreement import SeenPair, agreement, pair_metrics
from trueup.recipes.registry import execute

FILE = {"sft": "demonstrations", "reward": "pairs", "dpo": "pairs", "kto": "labelled"}
METHODS = sorted(FILE)


def relabelled(material, folder, kind, change):
    """``material`` with the rows of a method's file changed: ``change(number, row)`` gives a row or a list of them."""
    lines = Path(material[FILE[kind]]).read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines):
        changed = change(number, json.loads(line))
        rows += changed if isinstance(changed, list) else [changed]
    file = folder / f"{kind}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return material | {FILE[kind]: str(file)}


def run(kind, material, out, **changes):
    one = {"epochs": 1, "batch__size": 64} | changes
    config = config_of(kind, material, **one)
    if kind == "sft":  # not one whose tokenizer is learned from the data
        config = config.model_copy(update={"model": config.model.model_copy(update={"name": material["policy"]})})
    path = execute(kind, config, out, quiet=True)
    return metric_rows(path), path


def weighed(number, row):
    return row | {"weight": float(1 + number % 3)}


def repeated(number, row):
    return [row] * (1 + number % 3)


@pytest.mark.parametrize("kind", METHODS)
def test_a_weight_counts_like_as_many_copies_of_the_row(kind, material, tmp_path):
    """One step over all: loss, metrics and the step itself are those of rows that stand there 1, 2 or 3 times."""
    keep = {"evaluate_every": 1}
    (one,), _ = run(kind, relabelled(material, tmp_path, kind, weighed), tmp_path / "w", **keep)
    folder = tmp_path / "copies"
    folder.mkdir()
    (two,), _ = run(kind, relabelled(material, folder, kind, repeated), tmp_path / "c", **keep)
    shared = set(one) & set(two) - {"step", "epoch", "tokens", "ids", "kl"}
    assert {"loss", "grad_norm"} <= shared
    for name in shared:
        assert one[name] == pytest.approx(two[name], rel=2e-4, abs=1e-6), name


@pytest.mark.parametrize("kind", METHODS)
def test_weights_of_one_are_no_weights_and_a_common_factor_changes_nothing(kind, material, tmp_path):
    (plain,), _ = run(kind, material, tmp_path / "plain")
    (ones,), _ = run(
        kind, relabelled(material, tmp_path, kind, lambda n, row: row | {"weight": 1.0}), tmp_path / "ones"
    )
    assert plain == ones
    (sevens,), _ = run(kind, relabelled(material, tmp_path, kind, lambda n, row: row | {"weight": 7}), tmp_path / "7")
    assert sevens["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert sevens["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("kind", METHODS)
def test_weights_do_not_depend_on_how_a_step_is_cut(kind, material, tmp_path):
    with_weights = relabelled(material, tmp_path, kind, weighed)
    (whole,), _ = run(kind, with_weights, tmp_path / "whole")
    (cut,), _ = run(kind, with_weights, tmp_path / "cut", batch__micro_tokens=80)
    for name in ("loss", "grad_norm"):
        assert cut[name] == pytest.approx(whole[name], rel=1e-4), name


@pytest.mark.parametrize("kind", METHODS)
def test_rows_of_weight_0_train_nothing_and_wrong_weights_are_refused(kind, material, tmp_path):
    (kept,), _ = run(
        kind, relabelled(material, tmp_path, kind, lambda n, row: row if n // 2 % 2 else []), tmp_path / "kept"
    )
    zeros = relabelled(material, tmp_path, kind, lambda n, row: row | {"weight": float(n // 2 % 2)})
    (dropped,), path = run(kind, zeros, tmp_path / "zeros")
    assert dropped["loss"] == kept["loss"]
    assert "its weight is 0" in (path / "run.json").read_text()


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("weight", [-1.0, "much", float("nan"), float("inf"), True])
def test_weights_that_mean_nothing_are_refused_with_their_line(kind, weight, material, tmp_path):
    bad = relabelled(material, tmp_path, kind, lambda n, row: row | {"weight": weight if n == 3 else 1})
    with pytest.raises(DataError, match=r"jsonl:4"):
        run(kind, bad, tmp_path / "r")


@pytest.mark.parametrize("kind", METHODS)
def test_weights_that_sum_to_nothing_are_refused(kind, material, tmp_path):
    with pytest.raises(DataError, match="its weight is 0"):
        run(kind, relabelled(material, tmp_path, kind, lambda n, row: row | {"weight": 0}), tmp_path / "r")


@pytest.mark.parametrize("objective", PREFERENCES)
def test_every_objective_uses_strength(objective, material, tmp_path):
    losses = []
    for strength in (1.0, 0.7):
        data = relabelled(material, tmp_path, "dpo", lambda n, row, p=strength: row | {"strength": p})
        # Away from the reference, where a hard and a soft label differ for every loss.
        rows, _ = run("dpo", data, tmp_path / f"{strength}", objective__kind=objective, batch__size=6, epochs=2)
        losses.append(rows[-1]["loss"])
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("kind", ["reward", "kto"])
def test_the_reward_model_and_kto_use_strength(kind, material, tmp_path):
    losses = []
    for strength in (1.0, 0.7):
        data = relabelled(material, tmp_path, kind, lambda n, row, p=strength: row | {"strength": p})
        rows, _ = run(kind, data, tmp_path / f"{strength}", batch__size=6, epochs=4)
        losses.append((rows[-1]["loss"], rows[-1]["heldout_loss"]))
    assert losses[0][0] != pytest.approx(losses[1][0], rel=1e-4)
    assert losses[0][1] != pytest.approx(losses[1][1], rel=1e-4)


def test_sft_says_once_that_it_does_not_use_strength(material, tmp_path, capfd):
    _, path = run("sft", relabelled(material, tmp_path, "sft", lambda n, row: row | {"strength": 0.9}), tmp_path / "r")
    assert capfd.readouterr().err.count("sft does not use the data's column strength") == 1
    assert '"unused"' in (path / "events.jsonl").read_text()


def test_margins_train_a_reward_model_that_asks_for_them_and_are_said_where_not(material, tmp_path, capfd):
    data = relabelled(material, tmp_path, "reward", lambda n, row: row | {"margin": 1.0 + n, "strength": 1.0})
    (plain,), _ = run("reward", data, tmp_path / "plain")
    assert "reward (margin 0) does not use the data's column margin" in capfd.readouterr().err
    (apart,), _ = run("reward", data, tmp_path / "apart", margin=0.5)
    assert "does not use" not in capfd.readouterr().err
    assert apart["loss"] > plain["loss"] + 0.5
    run("dpo", data, tmp_path / "dpo")
    assert "dpo (dpo) does not use the data's column margin" in capfd.readouterr().err
    with pytest.raises(DataError, match="no pair has a margin"):
        run("reward", material, tmp_path / "none", margin=0.5)
    odd = [-1.0, "large", None, True, float("inf")]  # no lead of chosen: other files have such columns too
    data = relabelled(material, tmp_path, "reward", lambda n, row: row | {"margin": odd[n] if n < len(odd) else 2})
    assert [p.margin for p in read_pairs(data["pairs"]).items] == [None] * len(odd) + [2.0] * (12 - len(odd))


def test_kto_of_pairs_takes_their_strength_and_weight_and_says_that_margins_are_lost(material, tmp_path, capfd):
    data = relabelled(material, tmp_path, "dpo", lambda n, row: row | {"margin": 1.0, "weight": 2.0, "strength": 0.8})
    config = config_of("kto", data, epochs=1).model_copy(update={"data": data["pairs"], "validation": None})
    execute("kto", config, tmp_path / "r", quiet=True)
    assert "kto does not use the data's column margin" in capfd.readouterr().err


def test_metrics_over_pairs_are_weighted_means():
    seen = [SeenPair("a", "k", 1.0, 0.0, 0.5, 0.1, weight=3.0), SeenPair("b", "l", 0.0, 1.0, 0.2, 0.3, weight=1.0)]
    found = pair_metrics(seen)
    assert found["accuracy"] == found["strict_accuracy"] == 0.75
    assert found["margin"] == pytest.approx(0.5)
    assert found["chosen_logratio"] == pytest.approx((3 * 0.5 + 0.2) / 4)


def test_loss_and_calibration_of_soft_labels():
    """A model that says 0.8 where the labels say 0.8 is calibrated, and its loss is the entropy."""
    import math

    margin = math.log(0.8 / 0.2)
    soft = agreement([margin] * 5, [0.0] * 5, strength=[0.8] * 5)
    assert soft.calibration_error == pytest.approx(0.0, abs=1e-12)
    assert soft.loss == pytest.approx(-0.8 * math.log(0.8) - 0.2 * math.log(0.2))
    assert agreement([margin] * 5, [0.0] * 5).calibration_error == pytest.approx(0.2)
    wrong_way = agreement([0.0] * 5, [margin] * 5, strength=[0.8] * 5)
    assert wrong_way.calibration_error == pytest.approx(0.6)
    double = agreement([margin, 0.0], [0.0, margin], weight=[3.0, 1.0])
    assert double.accuracy == 0.75
