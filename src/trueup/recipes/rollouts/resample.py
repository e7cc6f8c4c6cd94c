"""Groups that teach nothing, replaced by groups of other prompts: the dynamic sampling of DAPO.

Shapes: B rollouts, C completion positions, G groups, K answers of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import pad

from trueup.recipes.rollouts.draw import Rollout


def live_groups(
    rollout: Rollout,
    answers: int,
    dead: Callable[[Rollout], torch.Tensor],
    more: Callable[[int, int], Rollout],
    draws: int,
) -> tuple[Rollout, int]:
    """The groups of a rollout that teach something, and others in the place of those that do not.

    Args:
        rollout: The first draw.
        answers: Answers of each group.
        dead: Which groups of a rollout teach nothing [G].
        more: (number of the draw, groups that are missing) -> at most so many groups of other prompts.
        draws: How many more draws there may be.

    Returns:
        Live groups only, no more than in the first draw, and how many answers were drawn beside it. The first draw as
        it is where no draw brought a live group.
    """
    wanted, extra = (len(rollout) + rollout.dropped) // answers, 0
    live: list[Rollout] = []
    drawn = rollout
    for number in range(draws + 1):
        groups = (~dead(drawn)).nonzero().flatten().tolist()
        live += [choose_groups(drawn, answers, groups)] if groups else []
        missing = wanted - sum((len(part) + part.dropped) // answers for part in live)
        if missing == 0 or number == draws:
            break
        drawn = more(number, missing)
        extra += len(drawn) + drawn.dropped
    return (join(live) if live else rollout), extra


def choose_groups(rollout: Rollout, answers: int, groups: Sequence[int]) -> Rollout:
    """Some groups of a rollout, named by their numbers, which ascend."""
    number = {group: n for n, group in enumerate(groups)}
    rows = [row for row, place in enumerate(rollout.kept) if place // answers in number]
    places = [rollout.kept[row] for row in rows]
    return Rollout(
        tuple(rollout.sequences[row] for row in rows),
        tuple(rollout.completions[row] for row in rows),
        rollout.logps_BC[rows],
        rollout.reference_BC[rows],
        rollout.values_BC[rows],
        rollout.mask_BC[rows],
        rollout.score_B[rows],
        rollout.penalty_B[rows],
        rollout.entropy,
        rollout.cut,
        tuple(number[place // answers] * answers + place % answers for place in places),
        dropped=len(groups) * answers - len(rows),
        policy_versions=tuple(rollout.policy_versions[row] for row in rows) if rollout.policy_versions else (),
        server_logps_BC=None if rollout.server_logps_BC is None else rollout.server_logps_BC[rows],
        importance_BC=None if rollout.importance_BC is None else rollout.importance_BC[rows],
        prompts=tuple(rollout.prompts[row] for row in rows) if rollout.prompts else (),
    )


def join(parts: Sequence[Rollout]) -> Rollout:
    """Rollouts as one, in the order given."""
    width = max(part.mask_BC.shape[1] for part in parts)

    def wide(name: str) -> torch.Tensor:
        return torch.cat([pad(t, (0, width - t.shape[1])) for t in (getattr(part, name) for part in parts)])

    tokens = [float(part.mask_BC.sum()) for part in parts]
    begins = [sum(len(part) + part.dropped for part in parts[:number]) for number in range(len(parts))]
    return Rollout(
        tuple(sequence for part in parts for sequence in part.sequences),
        tuple(completion for part in parts for completion in part.completions),
        wide("logps_BC"),
        wide("reference_BC"),
        wide("values_BC"),
        wide("mask_BC"),
        torch.cat([part.score_B for part in parts]),
        torch.cat([part.penalty_B for part in parts]),
        sum(part.entropy * count for part, count in zip(parts, tokens, strict=True)) / sum(tokens),
        sum(part.cut for part in parts),
        tuple(begin + place for begin, part in zip(begins, parts, strict=True) for place in part.kept),
        dropped=sum(part.dropped for part in parts),
        policy_versions=tuple(version for part in parts for version in part.policy_versions),
        server_logps_BC=None if parts[0].server_logps_BC is None else wide("server_logps_BC"),
        importance_BC=None if parts[0].importance_BC is None else wide("importance_BC"),
        prompts=tuple(prompt for part in parts for prompt in part.prompts),
    )
