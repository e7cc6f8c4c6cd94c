"""Comparisons whose meaning is open are asked about, and lost turns are no text."""

import json

import pytest

from trueup.feedback.exchange.formats import read_bytes, recognised


def read(*rows):
    data = "\n".join(map(json.dumps, rows)).encode()
    return read_bytes(data, recognised(data))


BATTLE = {"prompt": '["Say hi"]', "response_a": '["hi"]', "response_b": '["no"]', "winner": "model_a"}


@pytest.mark.parametrize(
    ("column", "value", "turn"),
    [
        ("response_a", "[null]", 1),
        ("response_b", '["no", null]', 2),
        ("prompt", "[null]", 1),
    ],
)
def test_a_turn_that_was_lost_is_named_and_never_stored_as_json(column, value, turn):
    found = read(BATTLE, BATTLE | {column: value})
    assert [row.responses for row in found.rows] == [("hi", "no")]
    ((line, why),) = found.rejected
    assert line == 2
    assert column in why
    assert f"turn {turn} is null" in why


@pytest.mark.parametrize("word", ["Neither", "none", "Nothing", "neither one", "None of them"])
def test_a_word_that_may_mean_two_things_is_asked_about(word):
    row = {"prompt": "q", "response_a": "one", "response_b": "two", "winner": word}
    found = read(row | {"winner": "tie"}, row)
    assert len(found.votes) == 1
    ((line, why),) = found.rejected
    assert line == 2
    assert "a tie or that both are bad" in why


def task(*results, **data):
    data = data or {"prompt": "q", "answer1": "one", "answer2": "two"}
    return {"data": data, "annotations": [{"completed_by": 1, "result": list(results)}]}


PAIR = {"type": "pairwise", "from_name": "pw", "to_name": "answer1,answer2", "value": {"selected": "right"}}
SAFE = {"type": "choices", "from_name": "safety", "to_name": "prompt", "value": {"choices": ["Safe", "Short"]}}
TAXONOMY = {"type": "taxonomy", "from_name": "t", "to_name": "prompt", "value": {"taxonomy": [["a", "b"]]}}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_other_tags_of_a_label_studio_task_do_not_cost_the_verdict(order):
    results = [(PAIR, SAFE, TAXONOMY)[place] for place in order]
    found = read_bytes(json.dumps([task(*results)]).encode(), "label-studio")
    assert found.rejected == []
    (said,) = found.votes
    assert said.answer["preferred"] == 1
    assert said.rationale == "safety: Safe, Short"
    assert any("'taxonomy' are not used" in note for note in found.notes)


@pytest.mark.parametrize("result", [SAFE, TAXONOMY])
def test_without_a_verdict_they_are_no_answer(result):
    found = read_bytes(json.dumps([task(PAIR), task(result)]).encode(), "label-studio")
    assert len(found.votes) == len(found.rejected) == 1
