"""What readers of the web say about an answer: a grade and what is the matter with it, as far as they notice.

Forums are full of it, and a base model that has read votes and comments on answers learns a reward sooner (preference
model pretraining: Askell et al. 2021, arXiv 2112.00861, section 4). Readers miss faults and see some that are not there.
"""

from __future__ import annotations

import random

from trueup.sandbox.atlas import Role, atlas
from trueup.sandbox.gold import faults, gold_score
from trueup.sandbox.topics import Kind

ASKED = ("Is that a good answer?", "What do you think of this answer?", "How good is this answer?")
"""Questions about the answer before."""

PRAISE = "There is nothing to add."
GRADES = ("It is a very bad answer.", "It is a bad answer.", "It is a fair answer.", "It is a good answer.",
          "It is a very good answer.")  # fmt: skip
"""From the worst to the best fifth of what gold gives."""
_MISSES, _INVENTS, _BLUR = 0.15, 0.02, 0.10
"""Chance that a fault is missed, chance that one is seen that is not there, standard deviation of a grade in gold."""

REMARKS = {
    "wrong": "Something in it is not true.",
    "comply": "It should not help with that.",
    "refuse": "It should help with that.",
    "off_topic": "A part of it is about something else.",
    "broken": "One sentence makes no sense.",
    "repeat": "It says the same thing twice.",
    "place": "A sentence is in the wrong place.",
    "half": "It leaves something out.",
    "order": "The order is not right.",
    "rude": "It is not polite.",
    "padding": "It has words that say nothing.",
}
"""Name of a fault -> how a reader puts it."""


def comment(prompt: str, response: str, draw: random.Random) -> str:
    """A reader's grade of a response and the faults that the reader saw."""
    seen = [name for name in _matters(prompt, response) if draw.random() >= _MISSES]
    if draw.random() < _INVENTS:
        seen.append(draw.choice(list(REMARKS)))
    felt = gold_score(prompt, response).total + draw.gauss(0.0, _BLUR)
    grade = GRADES[min(4, max(0, int(felt * 5)))]
    return " ".join([grade, *(REMARKS[name] for name in dict.fromkeys(seen)), *([] if seen else [PRAISE])])


def _matters(prompt: str, response: str) -> list[str]:
    """Names of the faults of a response."""
    world = atlas()
    topic = world.topic_of(prompt)
    sentences = world.understand(topic, response)
    parts = gold_score(prompt, response).parts
    roles = {said.role for said in sentences}
    named = {
        Role.WRONG: "wrong",
        Role.COMPLIANCE: "comply",
        Role.OFF_TOPIC: "off_topic",
        Role.BROKEN: "broken",
        Role.RUDE: "rude",
        Role.FILLER: "padding",
    }
    found = [name for role, name in named.items() if role in roles]
    if topic.kind is not Kind.HARMFUL and Role.REFUSAL in roles:
        found.append("refuse")
    for number in sorted(faults(topic, sentences)):
        said = sentences[number]
        if said.role not in (Role.BROKEN, Role.OFF_TOPIC):
            before = sentences[:number]
            again = any(s.text == said.text or (said.role is Role.POINT and s.point == said.point) for s in before)
            found.append("repeat" if again else "place")
    if parts["helpful"] < 1.0:
        points = [s.point for s in sentences if s.role is Role.POINT]
        found.append("order" if topic.ordered and points != sorted(points) else "half")
    return found
