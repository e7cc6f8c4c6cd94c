"""The embedded sandbox world: prompts, answers, truth and simulated judges, generated from a seed, offline."""

from __future__ import annotations

from trueup.data.sandbox.annotators import Annotator, biased_panel, collect, label_pairs, noise_ceiling, panel
from trueup.data.sandbox.card import count_distinct, data_card
from trueup.data.sandbox.gold import PARTS, GoldScore, explain, gold, kind_of, knows
from trueup.data.sandbox.topics import Kind
from trueup.data.sandbox.world import (
    BEST,
    CANDIDATE,
    DEMONSTRATION,
    RAW,
    Profile,
    SandboxPrompt,
    World,
    split_of,
)

__all__ = [
    "BEST",
    "CANDIDATE",
    "DEMONSTRATION",
    "PARTS",
    "RAW",
    "Annotator",
    "GoldScore",
    "Kind",
    "Profile",
    "SandboxPrompt",
    "World",
    "biased_panel",
    "collect",
    "count_distinct",
    "data_card",
    "explain",
    "gold",
    "kind_of",
    "knows",
    "label_pairs",
    "noise_ceiling",
    "panel",
    "split_of",
]
