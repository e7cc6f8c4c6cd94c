"""The embedded sandbox world: prompts, answers, truth and simulated judges, generated from a seed, offline."""

from __future__ import annotations

from trueup.sandbox.annotators import (
    Annotator,
    biased_panel,
    draw_verdicts,
    gold_agrees,
    label_pairs,
    noise_ceiling,
    panel,
)
from trueup.sandbox.card import count_distinct, data_card
from trueup.sandbox.gold import PARTS, GoldScore, explain_gold, gold_score, kind_of, knows, well_formed
from trueup.sandbox.shipped import copy_base, shipped_base
from trueup.sandbox.topics import Kind
from trueup.sandbox.world import Answering, SandboxPrompt, World, split_of_prompt
from trueup.sandbox.writer import BEST, CANDIDATES, CAREFUL, CARELESS, DEMONSTRATION, RAW, Profile

__all__ = [
    "BEST",
    "CANDIDATES",
    "CAREFUL",
    "CARELESS",
    "DEMONSTRATION",
    "PARTS",
    "RAW",
    "Annotator",
    "Answering",
    "GoldScore",
    "Kind",
    "Profile",
    "SandboxPrompt",
    "World",
    "biased_panel",
    "copy_base",
    "count_distinct",
    "data_card",
    "draw_verdicts",
    "explain_gold",
    "gold_agrees",
    "gold_score",
    "kind_of",
    "knows",
    "label_pairs",
    "noise_ceiling",
    "panel",
    "shipped_base",
    "split_of_prompt",
    "well_formed",
]
