"""The data card: what the sandbox world holds, counted, not claimed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from statistics import mean
from typing import Any

from trueup.config.seeds import derive
from trueup.sandbox.annotators import label_pairs, noise_ceiling, panel
from trueup.sandbox.gold import PARTS, gold_score
from trueup.sandbox.world import KIND_WEIGHTS, World
from trueup.sandbox.writer import BEST, CANDIDATES, DEMONSTRATION, RAW


def count_distinct(texts: Iterable[str]) -> int:
    """How many different texts there are."""
    return len(set(texts))


def data_card(seed: int, texts: int = 200_000, sample: int = 2_000) -> dict[str, Any]:
    """Counts and qualities of the world for one seed.

    Args:
        seed: Of the world.
        texts: Corpus rows to draw for the count of distinct texts; each has a prompt and a response.
        sample: Prompts per measured quality.
    """
    world = World(seed)
    rows = list(world.corpus(texts))
    prompts = world.prompts("validation", min(sample, 1500))
    draw = random.Random(derive(seed, "card"))
    quality = {}
    for profile in (RAW, DEMONSTRATION, *CANDIDATES, BEST):
        scores = [gold_score(p.text, world.respond(p, profile, draw)) for p in prompts]
        quality[profile.name] = {
            "gold": mean(s.total for s in scores),
            **{part: mean(s.parts[part] for s in scores) for part in PARTS},
        }
    labelled = label_pairs(panel(seed), world.candidate_pairs("validation", len(prompts)), 1, seed)
    return {
        "seed": seed,
        "prompts_possible": world.capacity,
        "topics": len(world.topics),
        "kinds": {k.value: v for k, v in KIND_WEIGHTS.items()},
        "rows_drawn": texts,
        "distinct_texts": count_distinct(str(r.prompt) for r in rows) + count_distinct(r.completion for r in rows),
        "distinct_conversations": count_distinct(f"{r.prompt}\n{r.completion}" for r in rows),
        "words_a_response": mean(len(r.completion.split()) for r in rows),
        "vocabulary": len(Counter(w for r in rows for w in f"{r.prompt} {r.completion}".split())),
        "quality": quality,
        "noise_ceiling": noise_ceiling(labelled),
    }
