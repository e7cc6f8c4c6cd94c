"""What online methods share, as functions of plain arguments: a method is one file on top of these.

``settings``: the fields that every online method has. ``actors``: the models and prompts of a run. ``draw``: answers,
their scores and the numbers that describe them. ``update``: passes with gradients over what was drawn. ``session``: the
loop around them. ``groups``: several answers to a prompt, compared with each other;
``resample``: others in the place of those that teach nothing.
CONTRIBUTING.md says how to add a method.
"""

from trueup.recipes.rollouts.actors import Actors, PromptPlan, open_actors, prompt_plan, usable_prompts
from trueup.recipes.rollouts.draw import Rollout, describe, draw_rollout, log_probes
from trueup.recipes.rollouts.groups import (
    ClippedSettings,
    Grouped,
    Groups,
    GroupSettings,
    Surrogate,
    draw_groups,
    group,
    improve,
    spread,
    total_rewards,
)
from trueup.recipes.rollouts.pretraining_mix import PretrainingMix, Ptx
from trueup.recipes.rollouts.resample import live_groups
from trueup.recipes.rollouts.session import Session, Step, draw, fit, open_session
from trueup.recipes.rollouts.settings import (
    AdaptiveKl,
    FixedKl,
    OnlineSettings,
    RolloutSettings,
    check_mini_batches,
    kl_controller,
)
from trueup.recipes.rollouts.update import Part, UpdateStatistics, mini_batches, passes

__all__ = [
    "Actors",
    "AdaptiveKl",
    "ClippedSettings",
    "FixedKl",
    "GroupSettings",
    "Grouped",
    "Groups",
    "OnlineSettings",
    "Part",
    "PretrainingMix",
    "PromptPlan",
    "Ptx",
    "Rollout",
    "RolloutSettings",
    "Session",
    "Step",
    "Surrogate",
    "UpdateStatistics",
    "check_mini_batches",
    "describe",
    "draw",
    "draw_groups",
    "draw_rollout",
    "fit",
    "group",
    "improve",
    "kl_controller",
    "live_groups",
    "log_probes",
    "mini_batches",
    "open_actors",
    "open_session",
    "passes",
    "prompt_plan",
    "spread",
    "total_rewards",
    "usable_prompts",
]
