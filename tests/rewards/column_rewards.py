"""Rewards that ask for columns."""

SEEN = []


def exact(prompts, completions, *, answer):
    """1 where the reference answer was given, part for part."""
    SEEN.append(list(answer))
    return [float(completion.text.strip() == wanted) for completion, wanted in zip(completions, answer, strict=True)]


def optional(prompts, completions, *, weight=None, kind="none"):
    """A number that the rows may hold."""
    SEEN.append((weight, kind))
    return [0.0 if weight is None else float(w or 0) for w in weight or prompts]


def everything(prompts, completions, **columns):
    """As TRL gives them: whatever there is."""
    SEEN.append(columns)
    return [float(len(columns))] * len(prompts)


class Class:
    """Its ``score`` asks."""

    def score(self, prompts, completions, *, answer):
        return [float(len(text)) for text in answer]


def too_few(prompts, completions, *, answer):
    return [1.0]


def nothing(prompts, completions, *, answer):
    return [float("nan") for _ in answer]


def raises(prompts, completions, *, answer):
    raise ValueError(f"cannot read {answer[-1]}")
