"""Order and batches: every example once an epoch, addressable by step, and little padding."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.data.batch import EpochPlan, micro_batches
from trueup.errors import ConfigError


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.integers(0, 5))
def test_every_example_comes_once_an_epoch_and_any_step_can_be_asked_for(count, size, pool, seed):
    items = [(i, (i * 7) % 13) for i in range(count)]
    plan = EpochPlan(items, size, 3, seed, "order", length=lambda item: item[1], pool=pool)
    batches = [plan[step] for step in range(len(plan))]
    per_epoch = -(-count // size)
    for epoch in range(3):
        mine = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert Counter(x for b in mine for x in b) == Counter(items)
        assert all(len(b) == size for b in mine[:-1])
    again = EpochPlan(items, size, 3, seed, "order", length=lambda item: item[1], pool=pool)
    for step in reversed(range(len(plan))):
        assert again[step] == batches[step]


def test_pools_save_padding_and_keep_chance():
    lengths = [(i * 37) % 101 + 1 for i in range(800)]
    plain = EpochPlan(lengths, 16, 2, 0, "order")
    pooled = EpochPlan(lengths, 16, 2, 0, "order", length=lambda n: n, pool=8)

    def padded(plan):
        return sum(len(b) * max(b) for b in (plan[s] for s in range(plan.per_epoch)))

    assert padded(pooled) < 0.7 * padded(plain)
    first, second = ([pooled[s] for s in range(50)], [pooled[50 + s] for s in range(50)])
    assert first != second
    heights = [max(b) for b in first[:8]]
    assert heights != sorted(heights)


def test_one_batch_pools_are_plain_order():
    items = list(range(20))
    plain, pooled = EpochPlan(items, 4, 1, 3, "o"), EpochPlan(items, 4, 1, 3, "o", length=lambda n: -n, pool=1)
    assert [plain[s] for s in range(5)] == [pooled[s] for s in range(5)]


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 3), st.integers(1, 9))
def test_the_longest_step_is_the_one_with_the_most_tokens(lengths, size, pool, within):
    plan = EpochPlan(lengths, size, 1, 0, "order", length=lambda n: n, pool=pool)
    tokens = [sum(plan[step]) for step in range(len(plan))]
    assert tokens[plan.longest] == max(tokens)
    assert tokens[plan.longest_of(within)] == max(tokens[:within])
    assert EpochPlan(lengths, size, 1, 0, "order").longest == 0


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ConfigError, match="no usable examples"):
        EpochPlan([], 4, 1, 0, "sft order")


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200))
def test_micro_batches_hold_everything_once_within_budget(lengths, budget):
    groups = micro_batches(lengths, lambda n: n, budget)
    assert Counter(x for g in groups for x in g) == Counter(lengths)
    assert all(len(g) * max(g) <= budget or len(g) == 1 for g in groups)
    assert max(groups[0]) == max(lengths)
    ordered, fewest = sorted(lengths), 0
    while ordered:  # as many as possible from the longest on
        del ordered[-max(1, budget // ordered[-1]) :]
        fewest += 1
    assert len(groups) == fewest


def test_micro_batches_are_about_equal():
    assert [len(group) for group in micro_batches([10] * 9, lambda n: n, 80)] == [5, 4]
    assert micro_batches([], lambda n: 1, 80) == []
