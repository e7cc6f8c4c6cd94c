"""The seam of online methods: one more of them on ``recipes.rollouts``, registered by one line.

It trains, repeats, resumes and refuses as those that are built in.
"""

import pytest
import torch
from pydantic import Field

from tests.recipes.test_recipes import digest, sets
from trueup.config.seeds import derive
from trueup.engine.loop import Loop
from trueup.engine.resume import resume_from_checkpoint, saver
from trueup.engine.step import Stepper
from trueup.errors import ConfigError, UsageError
from trueup.ledger import metric_rows, read_lines, read_run
from trueup.losses import advantage as advantages
from trueup.losses import policy as losses
from trueup.recipes import registry, rollouts
from trueup.recipes.table import RECIPES, Recipe


class Rloo(rollouts.OnlineSettings):
    """REINFORCE with the other answers to the same prompt as baseline (Ahmadian et al. 2024)."""

    answers: int = Field(default=4, ge=2)
    """Answers to each prompt."""


def train(config, run):
    """One update a step, on whole answers; the KL penalty is part of the reward."""
    actors = rollouts.open_actors(
        run,
        config.model,
        config.reward,
        reference=config.reference,
        batch=config.batch,
        read=config.read,
        seed=config.seed,
    )
    prompts = rollouts.usable_prompts(
        run, actors, config.data, read=config.read, batch=config.batch, sampling=config.sampling
    )
    asked = config.batch.size // config.answers
    plan = rollouts.prompt_plan(prompts, asked, config.steps, seed=config.seed, purpose="rloo prompts")
    stepper = Stepper(actors.policy.trainable(), config.optim, config.steps)
    resume_from_checkpoint(run, stepper)
    budget, temperature, beta = actors.policy.trunk.budget(config.batch), config.sampling.temperature, config.kl.beta
    for step, batch in Loop(run, plan, save=saver(run, stepper, dict), save_every=config.save_every):
        rollout = rollouts.draw_rollout(
            actors,
            [prompt for prompt in batch for _ in range(config.answers)],
            config.sampling,
            seed=derive(config.seed, "rollout", step),
            budget=budget,
            missing_eos_penalty=config.missing_eos_penalty,
        )
        total_B = rollout.net_B - beta * (rollout.kl_BC * rollout.mask_BC).sum(-1)
        advantage_B = advantages.rloo(total_B.view(-1, config.answers)).flatten()
        advantages_BC = advantage_B[:, None] * rollout.mask_BC
        statistics, count = rollouts.UpdateStatistics(), float(rollout.mask_BC.sum())
        chosen = range(len(rollout))
        for part in rollouts.passes(actors.policy, stepper, rollout, chosen, temperature=temperature, budget=budget):
            loss_BC = losses.reinforce(part.logps_BC, part.of(advantages_BC)) * part.mask_BC
            stepper.accumulate(loss_BC, count=count)
            statistics.add(part, part.of(rollout.logps_BC), part.of(advantages_BC), policy_loss=loss_BC)
        run.log(step, stepper.step(), rollouts.describe(rollout, beta), statistics.summary())
        if step % config.probe_every == 0:
            probes = prompts[: config.probes]
            rollouts.log_probes(run, step, actors, probes, config.sampling, seed=derive(config.seed, "probes"))
    actors.export(run, prompts)


@pytest.fixture
def rloo(material, monkeypatch):
    """Settings of the method, once its line is in the table."""
    inputs = ("model.name", "data", "reward", "reference")
    line = Recipe(__name__, "Rloo", inputs, "reinforce", "Reinforce answers that beat the others.", "trueup rloo")
    monkeypatch.setitem(RECIPES, "rloo", line)
    common = {"batch__size": 16, "batch__max_length": 64, "seed": 5, "optim__learning_rate": 3e-3, "save_every": 4}
    common |= {"kl__kind": "fixed", "kl__beta": 0.01, "sampling__max_new_tokens": 8, "probes": 2}
    flags = {"data": material["prompts"], "reward": "tests.rewards.scorers:brevity", "model.name": material["policy"]}

    def settings(**changes):
        return registry.resolve(
            "rloo", None, flags | {"reward": changes.pop("reward", flags["reward"])}, sets(**(common | changes))
        )

    return settings


def test_a_method_of_one_function_raises_the_reward_that_it_is_given(rloo, tmp_path):
    out = registry.execute("rloo", rloo(steps=40), tmp_path / "r", quiet=True)
    scores = torch.tensor([row["score"] for row in metric_rows(out)])
    assert scores[-8:].mean() > scores[:8].mean() + 0.2  # from about seven tokens of eight to half of that
    assert metric_rows(out)[0]["first_ratio_error"] < 1e-5
    samples, _ = read_lines(out / "samples.jsonl")
    assert {row["step"] for row in samples} == {0, 10, 20, 30}


def test_it_repeats_to_the_byte_and_runs_on_a_reward_model_too(rloo, material, tmp_path):
    config = rloo(steps=4, reward=material["judge"])
    one, two = (registry.execute("rloo", config, tmp_path / name, quiet=True) for name in ("one", "two"))
    assert digest(one) == digest(two)
    assert "metrics.jsonl" in digest(one)
    assert read_run(one)["pinned"].keys() >= {"reference", "reward"}


def test_another_reward_is_another_run(rloo, tmp_path):
    registry.execute("rloo", rloo(steps=1), tmp_path / "r", quiet=True)
    with pytest.raises(UsageError, match="reward"):
        registry.execute("rloo", rloo(steps=1, reward="tests.rewards.scorers:Favourite"), tmp_path / "r", quiet=True)


def test_sampling_that_would_change_the_first_ratio_is_refused_for_every_method(rloo):
    with pytest.raises(ConfigError, match="top_p"):
        rloo(sampling__top_p=0.5)
