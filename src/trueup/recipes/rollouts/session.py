"""A run of an online method from its models to its last step: opened, stepped, logged, saved and resumed in one place.

A method gives ``fit`` one function: prompts in, what it learned from its answers to them out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from trueup.config.seeds import derive
from trueup.engine.control import obey
from trueup.engine.loop import Loop
from trueup.engine.processes import rank
from trueup.engine.resume import resume_from_checkpoint, saver
from trueup.engine.sampler import Sampler
from trueup.engine.servers.pool import ServersGone
from trueup.engine.step import Stepper
from trueup.errors import Paused
from trueup.ledger import Run
from trueup.models.heads import ValueHead
from trueup.models.policy import Policy
from trueup.recipes.rollouts.actors import (
    Actors,
    PromptPlan,
    open_actors,
    prompt_plan,
    usable_prompts,
    with_servers,
)
from trueup.recipes.rollouts.draw import Rollout, describe, draw_rollout, log_probes
from trueup.recipes.rollouts.ends import end_metrics, no_end_pays
from trueup.recipes.rollouts.mismatch import check_mismatch, importance_weights, mismatch_metrics
from trueup.recipes.rollouts.moving_reference import reopen_reference, reset_reference
from trueup.recipes.rollouts.on_alert import AlertWatch
from trueup.recipes.rollouts.settings import AdaptiveKl, FixedKl, RolloutSettings, kl_controller
from trueup.recipes.rollouts.trained import Trained
from trueup.types import Prompt

log = logging.getLogger("trueup.recipes")

HEADLINE = ("score", "kl", "beta", "completion_length")


@dataclass(eq=False)
class Session:
    """What a run holds from its first step to its last."""

    actors: Actors
    prompts: tuple[Prompt, ...]
    plan: PromptPlan
    budget: int
    """Padded tokens of one forward pass of the policy."""

    @property
    def policy(self) -> Policy:
        """The model that learns."""
        return self.actors.policy


def open_session(config: RolloutSettings, run: Run, *, asked: int, purpose: str) -> Session:
    """Models, reward and prompts of a run, checked and pinned, and the order in which the prompts are asked.

    Args:
        config: Settings of the method.
        run: The run.
        asked: Prompts of a step.
        purpose: Names the draws: another method has another order of prompts.

    Raises:
        ConfigError: The file of rollout servers cannot be read, is empty, or holds something else.
    """
    if config.rollout is not None:
        config.rollout.addresses()  # before models are opened, which takes minutes
    torch.manual_seed(derive(config.seed, purpose))
    actors = open_actors(
        run,
        config.model,
        config.reward,
        reference=config.reference,
        batch=config.batch,
        read=config.read,
        seed=config.seed,
    )
    prompts = usable_prompts(run, actors, config.data, read=config.read, batch=config.batch, sampling=config.sampling)
    if config.rollout is not None:
        actors = with_servers(run, actors, config.rollout, prompts)
    plan = prompt_plan(prompts, asked, config.steps, seed=config.seed, purpose=f"{purpose} prompts")
    return Session(actors, prompts, plan, actors.policy.trunk.budget(config.batch))


def draw(
    config: RolloutSettings,
    session: Session,
    prompts: Sequence[Prompt],
    *,
    seed: int,
    value_head: ValueHead | None = None,
) -> Rollout:
    """``draw_rollout`` by the settings of the method; what servers drew is compared with the policy, and weighed."""
    rollout = draw_rollout(
        session.actors,
        prompts,
        config.sampling,
        seed=seed,
        budget=session.budget,
        missing_eos_penalty=config.missing_eos_penalty,
        length_penalty=config.length_penalty,
        value_head=value_head,
    )
    if config.rollout is None:
        return rollout
    check_mismatch(
        rollout,
        session.policy,
        limit=config.rollout.max_mismatch,
        temperature=config.sampling.temperature,
        budget=session.budget,
    )
    if config.rollout.tis_cap is None:
        return rollout
    return replace(rollout, importance_BC=importance_weights(rollout, config.rollout.tis_cap))


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a method."""

    number: int
    prompts: tuple[Prompt, ...]
    beta: float
    """Coefficient of the KL penalty; 0 in a method that has none."""
    trained: Trained
    """Takes note of what this step learns from: ``see`` is given the answers, and the statistics are given this."""


Learn: TypeAlias = Callable[[Step], tuple[Rollout, Mapping[str, float]]]
"""A step -> what was drawn, and the metrics of the updates that followed."""


def fit(
    config: RolloutSettings,
    run: Run,
    session: Session,
    stepper: Stepper,
    learn: Learn,
    *,
    kl: AdaptiveKl | FixedKl | None = None,
    headline: Sequence[str] = HEADLINE,
) -> None:
    """Take all steps that are left and write ``final/``, a directory that Hugging Face opens.

    Args:
        config: Settings of the method.
        run: The run.
        session: Its models and prompts.
        stepper: Holds what is trained; a checkpoint restores it.
        learn: One step of the method.
        kl: The method's KL penalty, if it has one: its beta goes to ``learn``, to the log and into checkpoints.
        headline: Metrics that the progress shows.
    """
    controller = None if kl is None else kl_controller(kl)
    state: dict[str, Any] = {} if controller is None else {"beta": controller.beta}
    state |= resume_from_checkpoint(run, stepper)
    if "reference" in state:
        session.actors = reopen_reference(run, session.actors, config.model, *state["reference"])
    run.note(steps=config.steps)
    save = saver(run, stepper, state.copy)
    loop = Loop(run, session.plan, save=save, save_every=config.save_every, headline=headline)
    watch = AlertWatch(run, config.on_alert)
    said, sampler = False, session.actors.sampler
    with closing(sampler):
        # A run that ended before its last step has its last checkpoint there, and is not gone on with.
        for step, prompts in () if "ended" in state else loop:
            beta = state.get("beta")
            probed = step % config.probe_every == 0 or step + 1 == config.steps
            trained = Trained(config.probes if probed else 0)
            with _resumable(run, sampler, step, save):
                sampler.sync(step)
                rollout, learned = learn(Step(step, prompts, beta or 0.0, trained))
            measured = _measured(rollout, beta, sampler)
            row = {**learned, **measured, **({"kl_target": kl.target} if isinstance(kl, AdaptiveKl) else {})}
            run.log(step, row)
            trained.write(run, step, session.actors.renderer, rollout)
            said = said or _say_no_end(run, step, rollout)
            watch.look(step, row)
            if kl is not None and controller is not None and beta is not None:
                state["beta"] = watch.price(step, controller.update(beta, measured["kl"], len(rollout)), kl.beta)
            asked = obey(run, step, loop, allowed=config.control)
            ends = watch.act(step, loop) or _kl_stop(config, run, step, measured["kl"]) or asked
            if probed or ends:
                _probe(config, run, session, step)
            if config.resets_after(step + 1):
                session.actors = reset_reference(run, session.actors, config.model, session.prompts, step + 1)
                state["reference"] = [step + 1, session.actors.reference.fingerprint]
            loop.time(step, tokens=float(rollout.mask_BC.sum()))
            if ends:
                state["ended"] = step
                loop.end()
    session.actors.export(run, session.prompts)


def _probe(config: RolloutSettings, run: Run, session: Session, step: int) -> None:
    """Ask the fixed prompts."""
    probes, seed = session.prompts[: config.probes], derive(config.seed, "probes")
    log_probes(run, step, session.actors, probes, config.sampling, seed=seed, budget=session.budget)


def _measured(rollout: Rollout, beta: float | None, sampler: Sampler) -> dict[str, float]:
    """All that is measured of the rollouts themselves."""
    elsewhere = mismatch_metrics(rollout, sampler.version) | sampler.facts()
    return describe(rollout, beta) | end_metrics(rollout) | elsewhere


@contextmanager
def _resumable(run: Run, sampler: Sampler, step: int, save: Callable[[int], None]) -> Iterator[None]:
    """Save and pause where no rollout server is left. A step that has drawn may have taught the reward something, so it
    is taken again from the last checkpoint."""
    try:
        yield
    except ServersGone as error:
        last = "as it was last saved"
        if sampler.drawn == 0 and step > run.first_step:
            save(step)
            last = f"after step {step}, and everything is saved"
        raise Paused(f"paused {last}: {error.what}", where=error.where, fix=error.fix) from error


def _kl_stop(config: RolloutSettings, run: Run, step: int, kl: float) -> bool:
    """Whether the KL of a step is over ``kl_stop``; it is written down."""
    if config.kl_stop is None or kl <= config.kl_stop:
        return False
    run.event("kl_stop", step=step, kl=kl, limit=config.kl_stop)
    return True


def _say_no_end(run: Run, step: int, rollout: Rollout) -> bool:
    """Say, and write down, that it pays not to end; whether it does."""
    problem = no_end_pays(rollout)
    if problem is None:
        return False
    run.event("no_end_pays", step=step, problem=problem)
    if rank() == 0:
        log.warning("step %d: %s", step, problem)
    return True
