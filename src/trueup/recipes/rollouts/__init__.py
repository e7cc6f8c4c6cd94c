"""What online methods share, as functions of plain arguments: a method is one file on top of these.

``settings``: the fields that every online method has. ``actors``: the models and prompts of a run. ``draw``: answers,
their scores and the numbers that describe them. ``update``: passes with gradients over what was drawn.
CONTRIBUTING.md says how to add a method.
"""

from trueup.recipes.rollouts.actors import Actors, PromptPlan, open_actors, prompt_plan, usable_prompts
from trueup.recipes.rollouts.draw import Rollout, describe, draw_rollout, log_probes
from trueup.recipes.rollouts.settings import AdaptiveKl, FixedKl, OnlineSettings, kl_controller
from trueup.recipes.rollouts.update import Part, UpdateStatistics, mini_batches, passes

__all__ = [
    "Actors",
    "AdaptiveKl",
    "FixedKl",
    "OnlineSettings",
    "Part",
    "PromptPlan",
    "Rollout",
    "UpdateStatistics",
    "describe",
    "draw_rollout",
    "kl_controller",
    "log_probes",
    "mini_batches",
    "open_actors",
    "passes",
    "prompt_plan",
    "usable_prompts",
]
