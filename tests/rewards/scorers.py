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
