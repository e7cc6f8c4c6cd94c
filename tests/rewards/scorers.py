"""Rewards that are ordinary Python: what tests name as ``tests.rewards.scorers:...``."""

import os


def brevity(prompts, completions):
    """Shorter is better; all of an answer's tokens count."""
    return [-len(completion.ids) / 8 for completion in completions]


def by_process(prompts, completions):
    """Scores that would differ between the processes of a job, if each asked for its own."""
    return [len(c.text) / 10 + 50 * int(os.environ.get("RANK", "0")) for c in completions]


class Favourite:
    """Counts a letter; made without arguments, called like a function."""

    def __init__(self, letter="e"):
        self.letter = letter

    def __call__(self, prompts, completions):
        return [completion.text.count(self.letter) for completion in completions]


class Shouting(Favourite):
    """Has a ``score``, which is then what is called."""

    def score(self, prompts, completions):
        return [sum(map(str.isupper, completion.text)) for completion in completions]


favourite = Favourite("a")


class Needy:
    """Cannot be made without an argument."""

    def __init__(self, letter):
        self.letter = letter


number = 5


def fails_on_e(prompts, completions):
    """Cannot score an answer with an ``e`` in it."""
    for completion in completions:
        if "e" in completion.text:
            raise ValueError("an e")
    return [1.0 for _ in completions]


def nan_for_long(prompts, completions):
    """Has no number for an answer that hit the length limit."""
    return [len(c.ids) / 8 if c.ended else float("nan") for c in completions]


def never(prompts, completions):
    """Cannot score anything."""
    raise ValueError("never")


def only_alone(prompts, completions):
    """Cannot score two answers at once."""
    if len(completions) > 1:
        raise ValueError("together")
    return [0.0]


def nan_for_odd(prompts, completions):
    """Two for an answer whose ids have an even sum, and no number for others."""
    return [float("nan") if sum(c.ids) % 2 else 2.0 for c in completions]


def likes_no_end(prompts, completions):
    """An answer without an end is worth five more."""
    return [5.0 * (not c.ended) + 0.01 * (len(c.text) % 3) for c in completions]
