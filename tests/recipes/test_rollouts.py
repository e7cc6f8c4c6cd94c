"""The seam of online methods: one more of them on ``recipes.rollouts``, registered by one line.

It trains, repeats, resumes and refuses as those that are built in.
"""

import pytest
import torch
from pydantic import Field

from tests.recipes.test_recipes import digest, sets
from trueup.config.seeds import derive
from trueup.engine.step import Stepper
from trueup.errors import ConfigError, UsageError
from trueup.ledger import metric_rows, read_lines, read_run
from trueup.losses import advantage as advantages
from trueup.losses import policy as losses
from trueup.recipes import registry, rollouts
from trueup.recipes.table import RECIPES, Recipe


class Mine(rollouts.OnlineSettings):
    """REINFORCE with the other answers to the same prompt as baseline."""

    answers: int = Field(default=4, ge=2)
    """Answers to each prompt."""


def train(config, run):
    """One update a step, on whole answers; the KL penalty is part of the reward."""
    session = rollouts.open_session(config, run, asked=config.batch.size // config.answers, purpose="mine")
    stepper = Stepper(session.policy.trainable(), config.optim, config.steps)
    temperature = config.sampling.temperature

    def learn(step):
        asked = [prompt for prompt in step.prompts for _ in range(config.answers)]
        rollout = rollouts.draw(config, session, asked, seed=derive(config.seed, "rollout", step.number))
        total_B = rollout.net_B - step.beta * (rollout.kl_BC * rollout.mask_BC).sum(-1)
        advantage_B = advantages.rloo(total_B.view(-1, config.answers)).flatten()
        advantages_BC = advantage_B[:, None] * rollout.mask_BC
        statistics, count = rollouts.UpdateStatistics(), float(rollout.mask_BC.sum())
        for part in rollouts.passes(
            session.policy, stepper, rollout, range(len(rollout)), temperature=temperature, budget=session.budget
        ):
            loss_BC = losses.reinforce(part.logps_BC, part.of(advantages_BC)) * part.mask_BC
            stepper.accumulate(loss_BC, count=count)
            statistics.add(part, part.of(rollout.logps_BC), policy_loss=loss_BC)
        return rollout, stepper.step() | statistics.summary()

    rollouts.fit(config, run, session, stepper, learn, kl=config.kl)


@pytest.fixture
def mine(material, monkeypatch):
    """Settings of the method, once its line is in the table."""
    inputs = ("model.name", "data", "reward", "reference")
    line = Recipe(__name__, "Mine", inputs, "reinforce", "Reinforce answers that beat the others.", "trueup mine")
    monkeypatch.setitem(RECIPES, "mine", line)
    common = {"batch__size": 16, "batch__max_length": 64, "seed": 5, "optim__learning_rate": 3e-3, "save_every": 4}
    common |= {"kl__kind": "fixed", "kl__beta": 0.01, "sampling__max_new_tokens": 8, "probes": 2}
    flags = {"data": material["prompts"], "reward": "tests.rewards.scorers:brevity", "model.name": material["policy"]}

    def settings(**changes):
        return registry.resolve(
            "mine", None, flags | {"reward": changes.pop("reward", flags["reward"])}, sets(**(common | changes))
        )

    return settings


def test_a_method_of_one_function_raises_the_reward_that_it_is_given(mine, tmp_path):
    out = registry.execute("mine", mine(steps=40), tmp_path / "r", quiet=True)
    scores = torch.tensor([row["score"] for row in metric_rows(out)])
    assert scores[-8:].mean() > scores[:8].mean() + 0.2  # from about seven tokens of eight to half of that
    assert metric_rows(out)[0]["first_ratio_error"] < 1e-5
    samples, _ = read_lines(out / "samples.jsonl")
    assert {row["step"] for row in samples} == {0, 10, 20, 30, 39}


def test_it_repeats_to_the_byte_and_runs_on_a_reward_model_too(mine, material, tmp_path):
    config = mine(steps=4, reward=material["judge"])
    one, two = (registry.execute("mine", config, tmp_path / name, quiet=True) for name in ("one", "two"))
    assert digest(one) == digest(two)
    assert "metrics.jsonl" in digest(one)
    assert read_run(one)["pinned"].keys() >= {"reference", "reward"}


def test_another_reward_is_another_run(mine, tmp_path):
    registry.execute("mine", mine(steps=1), tmp_path / "r", quiet=True)
    with pytest.raises(UsageError, match="reward"):
        registry.execute("mine", mine(steps=1, reward="tests.rewards.scorers:Favourite"), tmp_path / "r", quiet=True)


def test_sampling_that_would_change_the_first_ratio_is_refused_for_every_method(mine):
    with pytest.raises(ConfigError, match="top_p"):
        mine(sampling__top_p=0.5)
