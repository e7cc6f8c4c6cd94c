"""The models and prompts of an online run: opened, checked against each other, and pinned before the first step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueup.config import Batch, Model, Reading, Sampling
from trueup.data.batch import EpochPlan
from trueup.data.fit import fitting_prompts
from trueup.data.markers import refuse_own
from trueup.data.read import read_prompts
from trueup.data.render import Renderer
from trueup.engine.ask import policy_window, reference_window
from trueup.engine.placement import check_export, export, place_both
from trueup.engine.rendering import check_reference, renderer_of, rendering_of
from trueup.engine.sampler import LocalSampler, Sampler
from trueup.engine.servers.sampler import ServerSampler
from trueup.engine.servers.settings import ServerRollouts
from trueup.ledger import Run
from trueup.ledger.progress import warn
from trueup.models.policy import Policy, Reference, open_policy, open_reference
from trueup.rewards.columns import column_remarks, column_stores, give_columns
from trueup.rewards.mixture import Mixture
from trueup.rewards.part import Part
from trueup.rewards.protocol import Reward, check_prompts, windows_of
from trueup.rewards.registry import open_reward
from trueup.types import Prompt, content_id, prompt_text

log = logging.getLogger("trueup.recipes")


@dataclass(frozen=True, eq=False)
class Actors:
    """Who answers, what it must stay near, how both are fed, and who scores."""

    policy: Policy
    reference: Reference
    renderer: Renderer
    reward: Reward
    sampler: Sampler
    """Draws the policy's answers, here or on servers."""

    def export(self, run: Run, prompts: Sequence[Prompt]) -> None:
        """Write the policy to ``final/``, a directory that Hugging Face opens, with the rendering of its prompts."""
        export(self.policy, run, rendering_of(self.renderer, prompts))


def open_actors(
    run: Run,
    model: Model,
    reward: str | Sequence[Part],
    *,
    reference: str | None,
    batch: Batch,
    read: Reading,
    seed: int,
) -> Actors:
    """Open the policy, its reference and the reward of a run.

    Args:
        run: The run; reference and reward are pinned in it, and another one on resuming is refused.
        model: The policy.
        reward: What scores, see ``rewards.registry``; what it remembers is part of every checkpoint.
        reference: Name or directory of the reference; the policy's own first weights by default.
        batch: Limits of the rendering, and of one pass.
        read: How the data is read, which decides about templates.
        seed: Of new adapters.
    """
    policy = open_policy(model, seed=seed)
    check_export(policy, run.path / "final")
    renderer = renderer_of(policy, model, batch).for_run(run, model, read)
    source = model.model_copy(update={"name": reference or model.name})
    shared = policy if reference is None else None
    reference_model = open_reference(source, policy=shared, pinned=run.fingerprint("reference"))
    check_reference(reference_model, renderer, model, longest=0)  # prompts are measured later, with the answers
    place_both(policy, reference_model, model.engine)
    run.pin("reference", reference_model.fingerprint)
    scorer = open_reward(reward, model, batch)
    run.pin("reward", scorer.fingerprint)
    if isinstance(scorer, Mixture):
        run.carry("reward", scorer)
    return Actors(policy, reference_model, renderer, scorer, LocalSampler(policy))


def usable_prompts(
    run: Run, actors: Actors, data: str, *, read: Reading, batch: Batch, sampling: Sampling
) -> tuple[Prompt, ...]:
    """The prompts that leave room for an answer in the policy, the reference and the reward; what was lost is noted.

    Raises:
        DataError: More than ``batch.max_truncated`` of them do not, or a template refuses one.
    """
    asks = any(True for _ in column_stores(actors.reward))
    loaded = read_prompts(data, **read.options() | ({"tell": None} if asks else {}))
    if not read.templated:
        refuse_own(data, loaded.items, actors.renderer.encoder.holds_special)
    fix = (
        "shorten or remove it, lower sampling.max_new_tokens, keep only the end of long prompts"
        " (batch.max_prompt_length), or drop more of them (batch.max_truncated)"
    )
    shorter = "shorten or remove it, lower sampling.max_new_tokens, or train a {} that takes more than this one"
    windows = [policy_window(actors.policy, actors.renderer, sampling, fix=fix)]
    windows += windows_of(actors.reward, actors.renderer, sampling.max_new_tokens, fix=shorter.format("reward model"))
    if actors.reference.policy is not actors.policy:
        windows.append(reference_window(actors.reference, actors.renderer, sampling, fix=shorter.format("reference")))
    check_prompts(actors.reward, loaded.items)
    prompts, fit = fitting_prompts(loaded, windows, max_lost=batch.max_truncated, skip_refused=read.skip_bad_rows)
    if fit.lost and run.writes:
        log.warning(str(fit))
    if asks:  # which columns are not used is known once the reward has taken its own
        give_columns(actors.reward, data, loaded, prompts, prompts, split=read.split)
        for remark in (*loaded.report.remarks(), *column_remarks(actors.reward)):
            warn(remark)
    run.note(read=loaded.report.to_dict(), fit=fit.to_dict())
    return prompts


def with_servers(run: Run, actors: Actors, settings: ServerRollouts, prompts: Sequence[Prompt]) -> Actors:
    """The same with a sampler that draws at servers, once ``sync`` gave them the policy.

    The weights lie in ``weights/`` of the run, or in a folder of the run's own name under ``rollout.weights``.

    Raises:
        DataError: Fewer than two tokens in every prompt, so that weights cannot be recognised by them.
        RunError: The folder cannot be written.
    """
    rendering = rendering_of(actors.renderer, prompts)
    texts = [actors.renderer.render_prompt(prompt) for prompt in prompts[:LOOKED_AT]]
    folder = run.path / "weights"
    if settings.weights is not None:
        folder = Path(settings.weights) / f"{run.path.name}-{content_id(str(run.path.absolute()))[:8]}"
    policy = actors.policy
    sampler = ServerSampler(policy, settings, texts, folder, lambda path: policy.export(path, rendering))
    return replace(actors, sampler=sampler)


LOOKED_AT = 64
"""Prompts among which the texts are chosen by which a server's weights are recognised."""


class PromptPlan:
    """``steps`` batches of prompts, cycling through seeded epochs."""

    def __init__(self, epochs: EpochPlan[Prompt], steps: int) -> None:
        self.epochs = epochs
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    @property
    def longest(self) -> int:
        """The step with the longest prompts."""
        return self.epochs.longest_of(self.steps)

    def __getitem__(self, step: int) -> tuple[Prompt, ...]:
        return self.epochs[step]


def prompt_plan(prompts: Sequence[Prompt], size: int, steps: int, *, seed: int, purpose: str) -> PromptPlan:
    """Which ``size`` prompts are asked at each step; the last batch of an epoch may be short.

    Args:
        prompts: All of them.
        size: Prompts of a step.
        steps: Steps of the run.
        seed: Of the run.
        purpose: Names the draw: another method has another order.
    """
    # EpochPlan addresses any step of any epoch.
    epochs = EpochPlan(prompts, size, 1, seed, purpose, length=lambda prompt: len(prompt_text(prompt)))
    return PromptPlan(epochs, steps)
