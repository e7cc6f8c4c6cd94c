"""The arithmetic of the three-seed benchmarks: crossed differences, noisy labels, what the sentences say."""

import json
import random

import pytest

from benchmarks import bend, methods, noise
from trueup.recipes.registry import resolve

JUDGED = [(f"q{i}", f"good {i}", f"bad {i}", 1.0 if i % 2 else -1.0) for i in range(2000)]


def seed_of(gold):
    """Values of one seed: gold by model, each prompt a little different."""
    own = {}
    for name, (level, spread) in gold.items():
        draw = random.Random(name)
        values = [level + draw.gauss(0, spread) for _ in range(60)]
        columns = {"gold": values, "reward": values, "kl": [1.0] * 60, "words": [9.0 + i % 3 for i in range(60)]}
        own[name] = {"values": columns, "seconds": 2.0 if name == "ppo" else 1.5, "minutes": 1.0, "gb": 0.5}
    return own


def test_models_are_compared_on_the_same_seeds_and_prompts():
    gold = {"sft": (0.2, 0.3), "ppo": (0.5, 0.3), "rloo": (0.5, 0.3), "best-of-n": (0.21, 0.3)}
    measurement = methods.compared({seed: seed_of(gold) for seed in (0, 1, 2)})
    rows = measurement["models"]
    assert set(rows) == set(gold)
    gap = rows["ppo"]["over_sft"]
    mean = rows["ppo"]["gold"]["estimate"] - rows["sft"]["gold"]["estimate"]
    assert gap["estimate"] == pytest.approx(mean)
    assert gap["low"] > 0
    said = methods.conclusions(measurement)
    assert said[0] == "Better than SFT with the whole interval: ppo, rloo."
    assert said[1] == "Not shown to be better than SFT: best-of-n."
    assert "no difference shown; a step takes 0.75 of PPO's time" in said[2]
    assert methods.table(measurement).count("\n") == 5


@pytest.mark.parametrize("name", sorted(methods.METHODS))
def test_every_method_of_the_table_is_a_run(tmp_path, name):
    kind, _ = methods.METHODS[name]
    stage = methods.online(name, {"prompts": "prompts.jsonl"}, 10, 5e-4, 0)
    stage |= {"model": {"name": "policy"}, "reward": "reward"}
    del stage["name"], stage["kind"]
    assignments = [f"preset={stage.pop('preset')}"] if "preset" in stage else []
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(stage))
    assert resolve(kind, str(file), {}, assignments).batch.size == methods.ANSWERS


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("votes", [1, 3, 5])
def test_votes_are_wrong_at_the_rate(rate, votes):
    rows = noise.labels(JUDGED, rate, votes, "share", 0)
    truly = [("good" if gap > 0 else "bad") in row["chosen"] for row, (*_, gap) in zip(rows, JUDGED, strict=True)]
    wrong = 1 - sum(truly) / len(truly)
    majority = {1: rate, 3: 3 * rate**2 - 2 * rate**3, 5: 10 * rate**3 - 15 * rate**4 + 6 * rate**5}[votes]
    assert wrong == pytest.approx(majority, abs=0.035)
    strengths = {row["strength"] for row in rows}
    assert strengths <= {k / votes for k in range(votes // 2 + 1, votes + 1)}
    assert {row["strength"] for row in noise.labels(JUDGED, rate, votes, "majority", 0)} == {1.0}


def test_the_same_votes_make_majority_and_share():
    hard, soft = (noise.labels(JUDGED, 0.3, 3, how, 1) for how in ("majority", "share"))
    assert [row["chosen"] for row in hard] == [row["chosen"] for row in soft]


def test_noise_says_where_more_votes_help():
    rewards = [
        {"seed": seed, "rate": rate, "labels": name, "accuracy": 0.6 + 0.001 * seed + (0.05 if bonus else 0.0)}
        for seed in range(3)
        for rate in (0.0, 0.4)
        for name in noise.VOTES
        if (bonus := rate > 0 and name == "3 votes, majority") is not None
    ]
    policies = [
        {"seed": seed, "rate": rate, "loss": loss, "wins": [1.0, 0.0, 0.5 + 0.01 * seed]}
        for seed in range(3)
        for rate in (0.0, 0.4)
        for loss in noise.LOSSES
    ]
    measurement = noise.summary(rewards, policies)
    row = measurement["rewards"]["0.4"]["3 votes, majority"]["over_one_vote"]
    assert row["estimate"] == pytest.approx(0.05)
    said = " ".join(noise.conclusions(measurement))
    assert "from 0.601 to 0.601" in said
    assert noise.reward_table(measurement).count("|") > 20
    assert noise.policy_table(measurement).startswith("| wrong labels")


def test_the_table_of_bends_names_where_gold_turns():
    def curve(golds):
        return [{"step": 5 * i, "kl": float(i), "gold": [g, g, g], "proxy": [i, i, i]} for i, g in enumerate(golds)]

    turning = {"at": {"estimate": 10.0, "low": 5.0, "high": 15.0}}
    names = ["one", "mean", "min", *(f"beta-{beta:g}" for beta in bend.BETAS)]
    measurement = {
        "curves": {name: curve([0.1, 0.3, 0.5, 0.2]) for name in names},
        "turns": {name: turning if name == "one" else None for name in names},
    }
    lines = bend.table(measurement).splitlines()
    assert lines[2] == "| one | 10 (5 to 15) | 2.0 | 0.500 | 0.200 | 3.00 | 3.0 |"
    assert "does not turn" in lines[3]
    assert bend.sweep_table(measurement).splitlines()[2].startswith(f"| {bend.LOW:g} | 3.0 | 3.00 | 0.200")
