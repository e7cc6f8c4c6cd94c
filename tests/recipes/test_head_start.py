"""The score head's start: fitted to a frozen model it knows what is there to know, and says when that is nothing."""

import json
import math
import signal

import numpy as np
import pytest

from tests.recipes.test_rankings import ranked
from tests.recipes.test_recipes import config_of, digest, run_and_kill
from trueup.errors import ConfigError
from trueup.ledger import metric_rows, read_run
from trueup.recipes.head_start import CHANCE, Contest, fit_head
from trueup.recipes.registry import execute


def world(pairs=300, width=12, signal=1.0, seed=0, strength=1.0):
    """States of which one direction decides, and the pairs as judged by it."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(width)
    state_ND = rng.standard_normal((2 * pairs, width)) + 5.0  # a mean that is large, as that of a language model
    margin = signal * (state_ND[:pairs] - state_ND[pairs:]) @ direction
    first = rng.random(pairs) < 1 / (1 + np.exp(-margin))
    contests = [
        Contest(i, pairs + i, strength, 1.0, i // 2) if yes else Contest(pairs + i, i, strength, 1.0, i // 2)
        for i, yes in enumerate(first)
    ]
    return state_ND, contests, direction


def test_it_finds_the_direction_and_centres_the_rewards():
    state_ND, contests, direction = world()
    fitted = fit_head(state_ND, contests, seed=0)
    cosine = fitted.weight_D @ direction / np.linalg.norm(fitted.weight_D) / np.linalg.norm(direction)
    assert cosine > 0.9
    assert fitted.ridge is not None
    assert fitted.loss < 0.5
    assert fitted.accuracy > 0.8
    assert abs((state_ND @ fitted.weight_D).mean()) < 1e-9


def test_its_held_out_figures_are_of_pairs_that_it_did_not_see():
    """More widths than pairs: a head fits every training pair, and noise must not look like knowledge."""
    state_ND, contests, _ = world(pairs=60, width=200, signal=0.0)
    fitted = fit_head(state_ND, contests, seed=0)
    assert fitted.loss > CHANCE - 0.02
    assert abs(fitted.accuracy - 0.5) < 0.2


def test_where_nothing_is_known_it_is_zero():
    state_ND, contests, _ = world(pairs=40, signal=0.0, seed=3)
    flipped = [Contest(c.worse, c.better, 1.0, 1.0, c.prompt) for c in contests]
    fitted = fit_head(state_ND, [*contests, *flipped], seed=0)  # each pair both ways: no knowledge
    assert fitted.ridge is None
    assert not fitted.weight_D.any()


def test_one_prompt_cannot_be_held_out_from_itself():
    state_ND, contests, _ = world(pairs=20)
    fitted = fit_head(state_ND, [Contest(c.better, c.worse, 1.0, 1.0, "p") for c in contests], seed=0)
    assert fitted.ridge is None
    assert not fitted.weight_D.any()


def test_strength_and_weight_count():
    state_ND, contests, _ = world()
    towards = fit_head(state_ND, contests, seed=0).weight_D
    swapped = [Contest(c.worse, c.better, 1.0 - c.strength, c.weight, c.prompt) for c in contests]
    assert fit_head(state_ND, swapped, seed=0).weight_D == pytest.approx(towards, rel=1e-3, abs=1e-4)
    noisy = [*contests, *(Contest(c.worse, c.better, 1.0, 0.0, c.prompt) for c in contests)]
    assert fit_head(state_ND, noisy, seed=0).weight_D == pytest.approx(towards, rel=1e-3, abs=1e-4)


def test_a_state_that_never_changes_gets_no_weight():
    state_ND, contests, _ = world()
    state_ND[:, 0] = 7.0
    fitted = fit_head(state_ND, contests, seed=0)
    assert fitted.weight_D[0] == 0.0
    assert np.isfinite(fitted.weight_D).all()


def first_loss(out):
    return metric_rows(out)[0]["loss"]


def test_a_run_starts_from_the_fitted_head(material, tmp_path, caplog):
    changes = {"epochs": 1, "optim__learning_rate": 1e-6, "centre": 0.0}
    with caplog.at_level("INFO", logger="trueup.recipes"):
        out = execute(
            "reward", config_of("reward", material, head_start="fit", **changes), tmp_path / "fit", quiet=True
        )
    facts = read_run(out)["facts"]["head"]
    assert facts["pairs"] == read_run(out)["facts"]["render"]["kept"]
    assert facts["ridge"] is not None
    assert first_loss(out) < 0.6
    assert [r.getMessage() for r in caplog.records if r.getMessage().startswith("head: fitted to")]
    zero = execute("reward", config_of("reward", material, head_start="zero", **changes), tmp_path / "zero", quiet=True)
    assert first_loss(zero) == pytest.approx(math.log(2), rel=1e-6)
    assert "head" not in read_run(zero)["facts"]


def test_rankings_are_fitted_by_their_pairs(material, tmp_path):
    data = ranked(tmp_path / "r.jsonl")
    config = config_of("reward", material, objective__kind="plackett-luce", head_start="fit", epochs=1)
    config = config.model_copy(update={"data": data, "validation": None})
    out = execute("reward", config, tmp_path / "r", quiet=True)
    assert read_run(out)["facts"]["head"]["pairs"] == 12 * 6
    assert first_loss(out) < math.log(24)


@pytest.mark.parametrize("step", [0, 3])
def test_killed_it_resumes_to_the_same_bytes(step, material, tmp_path):
    config = config_of("reward", material, head_start="fit")
    straight = digest(execute("reward", config, tmp_path / "straight", quiet=True))
    died = run_and_kill("reward", config, tmp_path / "killed", step=step)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert digest(execute("reward", config, tmp_path / "killed", quiet=True)) == straight


def test_ratings_refuse_it(material):
    with pytest.raises(ConfigError, match="head_start: fit is for pairs and rankings"):
        config_of("reward", material, objective=json.loads('{"kind": "ratings", "columns": ["a"]}'), head_start="fit")


def test_heads_of_an_ensemble_do_not_start_alike(material):
    with pytest.raises(ConfigError, match="head_start: fit starts all 3 heads alike"):
        config_of("reward", material, heads=3, head_start="fit")


def test_adapters_start_from_it_too(material, tmp_path):
    config = config_of("reward", material, head_start="fit", epochs=1, model__lora={"rank": 2, "alpha": 4})
    out = execute("reward", config, tmp_path / "lora", quiet=True)
    assert first_loss(out) < 0.6
