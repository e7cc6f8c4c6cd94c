"""Verdicts on two responses: numbers mean what the whole file shows, and where it shows nothing the reader asks."""

import json

import pytest

from trueup.config import Reading, build
from trueup.data.check import check_file
from trueup.data.read import read_pairs
from trueup.errors import ConfigError, DataError, UsageError

LAYOUTS = {
    "output_1, output_2": ({"output_1": "x", "output_2": "y"}, "output_1", "output_2"),
    "response_a, response_b": ({"response_a": "x", "response_b": "y"}, "response_a", "response_b"),
    "completion_a, completion_b": ({"completion_a": "x", "completion_b": "y"}, "completion_a", "completion_b"),
    "a, b": ({"a": "x", "b": "y"}, "a", "b"),
    "a list": ({"responses": ["x", "y"]}, "responses[0]", "responses[1]"),
    "answers in a list": ({"answers": ["x", "y"]}, "answers[0]", "answers[1]"),
}
FIRST, SECOND = ("x", "y"), ("y", "x")


@pytest.fixture
def file(tmp_path):
    def write(layout, verdicts, column="label", name="rows.jsonl"):
        sides, *_ = LAYOUTS[layout]
        rows = [{"prompt": f"p{n}", **sides, column: verdict} for n, verdict in enumerate(verdicts)]
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def sides(path, **options):
    loaded = read_pairs(path, **options)
    return [(p.chosen, p.rejected) for p in loaded.items], sum(n.count for n in loaded.report.left_out.values())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("column", ["label", "preference", "winner", "preferred", "choice", "best"])
def test_what_a_file_shows_is_read(file, layout, column):
    _, first, second = LAYOUTS[layout]
    assert sides(file(layout, [1, 2], column)) == ([FIRST, SECOND], 0)
    assert sides(file(layout, ["1", " 2.0 ", 1.0], column)) == ([FIRST, SECOND, FIRST], 0)
    assert sides(file(layout, [0, 1, 2], column)) == ([FIRST, SECOND], 1)
    assert sides(file(layout, ["a", "B", "tie"], column)) == ([FIRST, SECOND], 1)
    assert sides(file(layout, [second, first], column)) == ([SECOND, FIRST], 0)
    assert sides(file(layout, ["y", "x"], column)) == ([SECOND, FIRST], 0)  # the better text itself


OPEN = {
    "0 and 1": [0, 1, 1],
    "0 and 1 as text": ["0", "1"],
    "0 and 1 with a fraction": [0.0, 1.0],
    "only 0": [0, 0],
    "true and false": [True, False],
    "true and false as text": ["True", "false"],
    "-1 and 1": [-1, 1],
    "-1, 0 and 1": [1, 0, -1],
    "halves": [0, 0.5, 1],
    "shares": [0.1, 0.9, 0.4],
    "a scale": [1, 2, 3, 4, 5],
    "a scale around 0": [-3, 2, 1],
    "numbers among words": ["a", 1, 0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("verdicts", OPEN)
def test_what_a_file_leaves_open_is_asked(file, layout, verdicts):
    path = file(layout, OPEN[verdicts])
    for read in (read_pairs, lambda path: read_pairs(path, on_bad="skip"), check_file):
        with pytest.raises(DataError, match="nothing says which response") as caught:
            read(path)
        line = 2 if verdicts == "numbers among words" else 1
        assert caught.value.where == f"{path}:{line}: field 'label'"
        assert "--set 'read.verdicts={" in caught.value.fix
        assert "--verdict" in caught.value.fix


def test_only_1_is_open_unless_the_responses_are_numbered(file):
    assert sides(file("output_1, output_2", [1, 1])) == ([FIRST, FIRST], 0)
    with pytest.raises(DataError, match="the verdicts are only 1, and"):
        read_pairs(file("response_a, response_b", [1, 1]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_answer_settles_it(file, layout):
    path = file(layout, [0, 1, "1", 0.0])
    assert sides(path, verdicts={"0": "first", "1": "second"}) == ([FIRST, SECOND, SECOND, FIRST], 0)
    assert sides(path, verdicts={"0": "second", "1": "first"}) == ([SECOND, FIRST, FIRST, SECOND], 0)
    assert sides(path, verdicts={"0": "tie", "1": "first", "2": "second"}) == ([FIRST, FIRST], 2)
    assert check_file(path, verdicts={"0": "first", "1": "second"}).read.items == 4
    truth = file(layout, [True, "FALSE"], name="b.jsonl")
    assert sides(truth, verdicts={"true": "second", "False": "first"}) == ([SECOND, FIRST], 0)
    words = file(layout, ["left one", "same", -1, 0.5], name="c.jsonl")
    given = {"Left one": "first", "same": "tie", "-1": "second", "0.5": "tie"}
    assert sides(words, verdicts=given) == ([FIRST, SECOND], 2)


def test_the_question_offers_flags_that_answer_it(file):
    """What the message proposes is taken by the setting and by the option, and the two ways are opposite."""
    with pytest.raises(DataError) as caught:
        read_pairs(file("a list", [-1, 0, 1]))
    proposed = [part.split("'")[0] for part in caught.value.fix.split("--set 'read.")[1:]]
    assert len(proposed) == 2
    from trueup.config.text import parse_assignments

    settings = [build(Reading, parse_assignments([one])) for one in proposed]
    found = [sides(file("a list", [-1, 0, 1]), verdicts=one.verdicts) for one in settings]
    assert found == [([FIRST, SECOND], 1), ([SECOND, FIRST], 1)]


def test_the_setting_takes_what_yaml_makes_of_it_and_nothing_else():
    assert build(Reading, {"verdicts": {0: "first", True: "second", 0.5: "tie"}}).verdicts == {
        "0": "first",
        "true": "second",
        "0.5": "tie",
    }
    with pytest.raises(ConfigError, match="verdicts"):
        build(Reading, {"verdicts": {0: "left"}})
    with pytest.raises(UsageError, match="'0' means 'left'"):
        read_pairs("no-such-file.jsonl", verdicts={"0": "left"})


def test_the_file_decides_and_not_the_row(file):
    """A 0 among 1s is open for sixty rows; the first 2, wherever it stands, makes all of them ties."""
    assert sides(file("a, b", [*[0, 1] * 30, 2])) == ([*[FIRST] * 30, SECOND], 30)
    with pytest.raises(DataError, match="nothing says"):
        read_pairs(file("a, b", [0, 1] * 30), limit=1)


def test_each_file_is_asked_for_itself(file):
    shown, unclear = file("a, b", [0, 1, 2]), file("a, b", [0, 1], name="held.jsonl")
    assert read_pairs(shown).items
    with pytest.raises(DataError, match="nothing says") as caught:
        check_file(shown, against=[unclear])
    assert str(unclear) in caught.value.where


def test_a_stray_number_is_a_fault_of_its_row(file):
    path = file("a, b", [*[1, 2] * 10, 7])
    with pytest.raises(DataError, match="is 7") as caught:
        read_pairs(path)
    assert caught.value.where == f"{path}:21: field 'label'"
    assert len(read_pairs(path, on_bad="skip").items) == 20


def test_votes_are_read_together(tmp_path):
    """Three people who never say 2: open. One 2 in the whole file: the 0s are ties."""
    rows = [{"instruction": "p", "response1": "x", "response2": "y", "annotator1": 0, "annotator2": 1}]
    path = tmp_path / "votes.jsonl"
    path.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(DataError, match="only 0 and 1"):
        read_pairs(path)
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0] | {"annotator1": 2, "annotator2": 2}]))
    assert sides(path) == ([SECOND], 1)


def test_responses_that_are_numbered_from_0_and_signed_preferences(tmp_path):
    path = tmp_path / "rows.jsonl"
    zero = [{"prompt": "p", "response_0": "x", "response_1": "y", "better_response_id": n} for n in (0, 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in zero))
    assert sides(path) == ([FIRST, SECOND], 0)
    signed = [{"prompt": "p", "response1": "x", "response2": "y", "overall_preference": n} for n in (-3, -1, 0, 2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in signed))
    loaded = read_pairs(path)
    assert [(p.chosen, p.strength) for p in loaded.items] == [("x", 1.0), ("x", 0.75), ("y", 1.0)]


def test_battles_of_two_conversations(tmp_path):
    ask, rows = {"role": "user", "content": "q"}, []
    for winner, other in (("model_b", "q"), ("tie", "q"), ("model_a", "something else")):
        turns = [[ask | {"content": c}, {"role": "assistant", "content": t}] for c, t in (("q", "x"), (other, "y"))]
        rows.append({"conversation_a": turns[0], "conversation_b": turns[1], "winner": winner})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="conversation_a and conversation_b already differ"):
        read_pairs(path)
    assert sides(path, on_bad="skip") == ([SECOND], 1)


def test_more_than_two_responses_want_ranks(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "p", "responses": ["x", "y", "z"], "label": 2}) + "\n")
    with pytest.raises(DataError, match="has 3 entries, and a verdict names one of two"):
        read_pairs(path)


def test_one_verdict_for_all_is_doubted_and_what_numbers_mean_is_noted(file):
    report = check_file(file("output_1, output_2", [2] * 12))
    assert report.problems["every label is 2"].count == 12
    assert "label: 2 names output_2" in report.format_text()


def test_0_and_2_without_a_1_may_name_the_two_responses(file):
    with pytest.raises(DataError, match="only 0 and 2, and nothing says which response 0 names"):
        read_pairs(file("response_a, response_b", [0, 2, 0, 2]))
    given = {"0": "first", "2": "second"}
    assert sides(file("response_a, response_b", [0, 2]), verdicts=given) == ([FIRST, SECOND], 0)
    assert sides(file("response_a, response_b", [0, 1, 2])) == ([FIRST, SECOND], 1)
