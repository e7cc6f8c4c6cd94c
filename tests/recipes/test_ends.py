"""A reward under which it pays not to end answers is said so while the run can still be stopped."""

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recipes.test_recipes import sets
from trueup.ledger import metric_rows, read_lines
from trueup.recipes import registry
from trueup.recipes.rollouts import Rollout
from trueup.recipes.rollouts.ends import end_metrics, no_end_pays
from trueup.types import Completion, StopReason


def rollout(scores, ends, penalties):
    """A rollout of which only scores, ends and penalties matter."""
    size = len(scores)
    stops = [StopReason.EOS if end else StopReason.LENGTH for end in ends]
    zeros_BC = torch.zeros(size, 1)
    return Rollout(
        (((1,), (2,)),) * size,
        tuple(Completion("a", (2,), stop) for stop in stops),
        zeros_BC,
        zeros_BC,
        zeros_BC,
        torch.ones(size, 1, dtype=torch.bool),
        torch.tensor(scores),
        torch.tensor(penalties),
        0.0,
        0,
    )


def pays(lead, penalty, ended=10, open_=10):
    """What is said where answers without an end lead by ``lead`` before a penalty."""
    noise = [0.1 * (i % 5 - 2) for i in range(ended)], [0.1 * (i % 5 - 2) for i in range(open_)]
    ends = [True] * ended + [False] * open_
    scores = [*noise[0], *(lead + x for x in noise[1])]
    return no_end_pays(rollout(scores, ends, [0.0 if end else penalty for end in ends]))


def test_a_lead_beyond_the_penalty_is_said_with_its_size():
    assert "score 4.00 more" in pays(5.0, 1.0)
    assert "larger by 4.0" in pays(5.0, 1.0)


@pytest.mark.parametrize(
    ("lead", "penalty", "ended", "open_"), [(0.9, 1.0, 10, 10), (1.0, 1.0, 10, 10), (5, 1, 7, 10), (5, 1, 10, 7)]
)
def test_nothing_is_said_where_the_penalty_outweighs_or_too_few_are_compared(lead, penalty, ended, open_):
    assert pays(lead, penalty, ended, open_) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=16, max_size=40), st.floats(-3, 3, width=32))
def test_what_is_said_does_not_depend_on_where_zero_lies(scores, shift):
    ends = [i % 2 == 0 for i in range(len(scores))]
    penalties = [0.0 if end else 0.5 for end in ends]
    one = no_end_pays(rollout(scores, ends, penalties))
    other = no_end_pays(rollout([score + 8 * round(shift) for score in scores], ends, penalties))
    assert (one is None) == (other is None)


def test_the_score_without_an_end_is_logged_where_there_is_one():
    assert end_metrics(rollout([1.0, 2.0, 4.0], [True, False, False], [0.0] * 3)) == {"score_no_eos": 3.0}
    assert end_metrics(rollout([1.0], [True], [0.0])) == {}


def test_a_run_says_it_once_and_keeps_it(material, tmp_path, caplog):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(Path(material["prompts"]).read_text() * 4)
    flags = {"data": str(prompts), "reward": "tests.rewards.scorers:likes_no_end"}
    flags |= {"model.name": material["policy"]}
    settings_ = sets(
        batch__size=48, batch__max_length=64, steps=6, epochs=1, sampling__max_new_tokens=30, probes=0, seed=3
    )
    config = registry.resolve("ppo", None, flags, settings_)
    with caplog.at_level(logging.WARNING, "trueup.recipes"):
        out = registry.execute("ppo", config, tmp_path / "run", quiet=True)
    rows = metric_rows(out)
    assert [48 * row["eos_rate"] for row in rows if 8 <= 48 * row["eos_rate"] <= 40], "nothing to compare"
    assert all(row["score_no_eos"] > 4.9 for row in rows)
    events = [row for row in read_lines(out / "events.jsonl")[0] if row["event"] == "no_end_pays"]
    said = [line for line in caplog.messages if "learn not to end" in line]
    assert len(events) == len(said) == 1
    assert "missing_eos_penalty larger by" in events[0]["problem"]
