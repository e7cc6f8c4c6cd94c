"""``trueup serve --demo``: a room that is filled already, to click through. All of it is simulated and says so.

One project was judged by simulated annotators, one of whom does not read; the other is live and holds an item of
every task kind. Accounts get a password that is made anew each time.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.collectors.sandbox_panel import GUIDELINE, JudgingBatch, chat, collect_judgments
from trueup.feedback.store.accounts import hash_password
from trueup.feedback.store.database import Store
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.projects import add_guideline, add_person, add_template, create_project, import_items
from trueup.sandbox import Annotator, World, panel
from trueup.sandbox.annotators import Candidates

ROLES = ("lead", "annotator", "adjudicator", "admin")
JUDGED, VOTES, GOLD = 600, 3, 40


@dataclass(frozen=True, slots=True)
class Demo:
    """A filled store and how to sign in: handles are ``demo-<role>``."""

    db: Path
    password: str


def build(db: Path, *, seed: int = 0, tell: Callable[[str], None] = print) -> Demo:
    """Fill a new store at ``db``.

    Raises:
        ConfigError: The file exists.
    """
    tell("demo: simulated annotators judge 600 pairs three times")
    world = World(seed)
    pairs = [JudgingBatch(world.candidate_pairs("train", JUDGED, per_prompt=2), "train", VOTES, seed)]
    idle = Annotator("who-does-not-read", spam=1.0)
    collect_judgments(db, panel(seed), pairs, idle=idle, gold_items=world.candidate_pairs("test", GOLD), seed=seed)
    password = secrets.token_urlsafe(12)
    with Store(db) as store:
        for role in ROLES:
            handle = f"demo-{role}"
            add_person(store, handle, role=role, simulated=True, password_hash=hash_password(password, handle))
        _live(store, world)
    return Demo(db, password)


def _live(store: Store, world: World) -> None:
    project = create_project(store, "simulated: every kind of task", simulated=True)
    add_guideline(store, project, GUIDELINE)
    pairs = world.candidate_pairs("validation", 24)
    for kind, config in CONFIGS.items():
        template = add_template(store, project, kind, kind, config)
        import_items(store, template, [_item(kind, pairs[i]) for i in PLACES[kind]], overlap=2)
    calibrate = add_template(store, project, "pairwise", "calibration", CONFIGS["pairwise"])
    asked = "What is two and two?"
    import_items(
        store,
        calibrate,
        [
            NewItem(
                asked,
                ("Two and two is four.", "Two and two is five, and always has been."),
                stream="calibration",
                gold={"preferred": 0, "strength": 3},
                explanation="Only one of the two is correct; how it is said does not matter here.",
            )
        ],
        priority=10,
    )


CONFIGS: dict[str, dict[str, Any]] = {
    "pairwise": {},
    "ranking": {},
    "binary": {},
    "rating": {"axes": [{"name": name, "low": 1, "high": 5} for name in ("helpful", "harmless", "honest")]},
    "critique": {"tags": ["wrong", "unclear", "rude", "too long"]},
    "edit": {},
    "redteam": {"categories": ["fraud", "violence", "privacy", "other"]},
    "review": {},
}
PLACES = {kind: range(3 * number, 3 * number + 3) for number, kind in enumerate(CONFIGS)}


def _item(kind: str, pair: Candidates) -> NewItem:
    asked, first, second = pair
    prompt = chat(asked.text)
    if kind == "redteam":
        return NewItem(prompt)
    if kind in ("binary", "rating", "critique", "edit"):
        return NewItem(prompt, (first,))
    if kind == "ranking":
        return NewItem(prompt, (first, second, f"{first} {second}"))
    context = {"principle": "Choose what helps the person who asked and harms nobody."} if kind == "review" else {}
    return NewItem(prompt, (first, second), context=context)
