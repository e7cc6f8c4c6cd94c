"""No dead setting: a config notes which of its settings a run reads, over two steps of each recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import pytest

from tests.recipes.test_recipes import ONLINE, config_of
from trueup.config import Settings
from trueup.config.errors import blocks_in
from trueup.engine.servers.settings import ServerRollouts
from trueup.recipes.objectives import Objective
from trueup.recipes.registry import execute
from trueup.recipes.table import RECIPES

BRIEF = {"epochs": 0.7, "save_every": 1, "evaluate_every": 1}
STEPS = {"steps": 2, "save_every": 1, "probe_every": 1}
OBJECTIVES: list[dict[str, object]] = [
    {"objective__kind": kind.model_fields["kind"].default} for kind in get_args(Objective)
]
OBJECTIVES[-1]["objective__call"] = "tests.recipes.test_settings_are_read:plain_margin"


def plain_margin(policy, reference, strength_B):
    """An objective in Python."""
    return policy.rejected_B - policy.chosen_B + 0 * strength_B


LORA = {"model__lora": {"rank": 2}}
COSINE = {"optim__schedule": "cosine"}
ADAPTIVE, FIXED = ({"kl": {"kind": kind}, **COSINE} for kind in ("adaptive", "fixed"))
EVERY_PART: list[dict[str, object]] = [
    {"source": "tests.rewards.scorers:brevity"},
    {"kind": "length", "at_least": 3},
    {"kind": "repetition"},
    {"kind": "diversity", "memory": 2},
    {"kind": "refusal", "phrases": ["a", "e", "o"]},
    {"kind": "regex", "rules": [{"pattern": "a", "score": 1}]},
    {
        "kind": "ensemble",
        "members": ["tests.rewards.scorers:brevity", "tests.rewards.scorers:by_process"],
        "combine": "mean_minus_sd",
    },
]
PARTS = {"reward": EVERY_PART}
VARIANTS: dict[str, list[dict[str, object]]] = {
    "sft": [LORA],
    "reward": [LORA, {"heads": 2}],
    "dpo": [LORA, *OBJECTIVES],
    "kto": [LORA, {"objective__kind": "bco"}],
    "ppo": [
        LORA | FIXED | PARTS,
        {"critic_warmup": 1, "entropy_weight": 0.1, "reset_reference_every": 1, "ptx__data": "demonstrations"},
    ],
    "rloo": [LORA | ADAPTIVE | PARTS, FIXED],
    "grpo": [LORA | ADAPTIVE | PARTS],
    "reinforce-pp": [LORA | ADAPTIVE | PARTS, FIXED],
    "cispo": [LORA | ADAPTIVE | PARTS],
    "gspo": [LORA | ADAPTIVE | PARTS],
    "online-dpo": [LORA | COSINE | PARTS, OBJECTIVES[0], OBJECTIVES[-1]],
    "best-of-n": [LORA | COSINE | PARTS],
}
"""Runs beside the plain one that reach what only some settings make active."""
READ_BY_DPO = {f"{kind.__name__}.{name}" for kind in get_args(Objective) for name in kind.model_fields}
"""Settings of the objectives, which ``trueup online-dpo`` calls as ``trueup dpo`` does."""
NOT_REACHED = {"Optim.on_nonfinite"}
"""Read where a gradient is not finite: ``tests/engine/test_step.py`` has both of its meanings."""
WITH_OTHER_DATA = {"reward": {"Ratings.columns"}}
"""Read where there are ratings, which these files have not: ``tests/recipes/test_ratings.py``."""
WITH_SERVERS = {f"ServerRollouts.{name}" for name in ServerRollouts.model_fields}
"""Read where servers draw the rollouts: ``tests/recipes/test_server_rollouts.py`` has all of them."""
FROM_SCRATCH = {"Model.tiny", "Tiny.context", "Tiny.heads", "Tiny.hidden", "Tiny.layers", "Tiny.vocabulary"}
"""Read where a model is made; these runs start from one that is there. Theirs is the way of sft, which reads them."""
OPENED = {"Model.trust_remote_code"}
"""Read where a model is opened from files, as all but sft do here."""
TAG = "kind"  # chooses the class of a tagged union, and is read by pydantic


@contextmanager
def reads() -> Iterator[set[tuple[type, str]]]:
    """(class, setting) of every setting that is read while this is open."""
    seen: set[tuple[type, str]] = set()
    plain = Settings.__getattribute__

    def noting(self, name):
        if name in type(self).model_fields:
            seen.add((type(self), name))
        return plain(self, name)

    Settings.__getattribute__ = noting
    try:
        yield seen
    finally:
        del Settings.__getattribute__


def settings_below(kind: type[Settings]) -> Iterator[tuple[type, str]]:
    """Every setting of a config, as the class that holds it and its name."""
    for name, info in kind.model_fields.items():
        if name != TAG:
            yield kind, name
        for block in blocks_in(info.annotation):
            yield from settings_below(block)


def never_read(kind, material, folder) -> list[str]:
    """Settings of a recipe that none of its short runs reads."""
    brief = STEPS if kind in ONLINE else BRIEF
    seen: set[tuple[type, str]] = set()
    for number, variant in enumerate([{}, *VARIANTS[kind]]):
        given = material | {"judge": variant.get("reward", material["judge"])}
        named = {k: material[v] if k == "ptx__data" else v for k, v in variant.items() if k != "reward"}
        config = config_of(kind, given, **(brief | named))
        with reads() as some:
            execute(kind, config, folder / str(number), quiet=True)
        seen |= some
    by_name = {(block.__name__, name) for block, name in seen}
    return sorted(
        f"{block.__name__}.{name}"
        for block, name in settings_below(RECIPES[kind].settings())
        if not any((parent.__name__, name) in by_name for parent in (block, *block.__mro__, *block.__subclasses__()))
    )


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_every_setting_is_read(kind, material, tmp_path):
    unread = set(never_read(kind, material, tmp_path))
    unread -= READ_BY_DPO if kind == "online-dpo" else set()
    unread -= WITH_SERVERS if kind in ONLINE else set()
    assert unread - (OPENED if kind == "sft" else FROM_SCRATCH) == NOT_REACHED | WITH_OTHER_DATA.get(kind, set())


def test_a_setting_that_nobody_reads_is_named(material, tmp_path, monkeypatch):
    class Longer(RECIPES["sft"].settings()):
        forgotten: int = 3

    monkeypatch.setattr(type(RECIPES["sft"]), "settings", lambda recipe: Longer)
    assert never_read("sft", material, tmp_path) == sorted({"Longer.forgotten", *OPENED, *NOT_REACHED})
