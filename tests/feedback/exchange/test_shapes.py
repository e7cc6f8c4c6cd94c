"""Files as other tools write them: what becomes of each row, and what is said where nothing can."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.feedback.exchange.test_refusals import odd, places
from trueup.errors import DataError, UsageError
from trueup.feedback.exchange.choices import response_fields, verdict
from trueup.feedback.exchange.formats import read_bytes, read_in, recognised
from trueup.web.annotate.intake import read_items

Q, A, B = "How deep is the lake?", "Lower a rope and measure it.", "Very deep."
ASKED = [{"role": "user", "content": Q}]
TASK = {"prompt": Q, "answer1": A, "answer2": B}


def spelled(*rows):
    return "\n".join(json.dumps(row) for row in rows).encode()


def read(*rows, format=None):
    data = spelled(*rows)
    return read_bytes(data, format or recognised(data))


def preferred(*rows, **more):
    """(preferred text or None, strength) of each answer."""
    found = read(*rows, **more)
    assert found.rejected == []
    return [
        (
            None if v.answer["preferred"] is None else found.rows[v.item].responses[v.answer["preferred"]],
            v.answer["strength"],
        )
        for v in found.votes
    ]


def said(talk, text):
    return [*talk, {"role": "assistant", "content": text}]


def battle(winner, **more):
    sides = {"conversation_a": said(ASKED, A), "conversation_b": said(ASKED, B)}
    return sides | {"model_a": "m1", "model_b": "m2", "winner": winner, "judge": "j"} | more


def annotation(*results, **more):
    return {"completed_by": 1, "result": list(results)} | more


def result(kind, value, about="answer1,answer2", name="q"):
    return {"type": kind, "value": value, "to_name": about, "from_name": name}


def record(responses, fields=None, **more):
    asked = {"prompt": Q, "response_a": A, "response_b": B}
    return {"fields": fields or asked, "responses": responses, "suggestions": {}} | more


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        (battle("model_a"), (A, 2)),
        (battle("B"), (B, 2)),
        (battle("m2"), (B, 2)),
        (battle("tie"), (None, 0)),
        (battle("tie (bothbad)"), (None, 0)),
        ({"instruction": Q, "output_1": A, "output_2": B, "preference": 1.23}, (A, 2)),
        ({"instruction": Q, "output_1": A, "output_2": B, "preference": 1.6}, (B, 1)),
        ({"instruction": Q, "output_1": A, "output_2": B, "preference": 2}, (B, 2)),
        ({"instruction": Q, "output_1": A, "output_2": B, "preference": 1.5}, (None, 0)),
        ({"history": Q, "human_ref_A": A, "human_ref_B": B, "labels": 1}, (A, 2)),
        ({"history": Q, "human_ref_A": A, "human_ref_B": B, "labels": 0}, (B, 2)),
        ({"prompt": Q, "response_0": A, "response_1": B, "better_response_id": 1}, (B, 2)),
        ({"prompt": Q, "response_1": A, "response_2": B, "preference_strength": -3}, (A, 3)),
        ({"context": ASKED, "response1": A, "response2": B, "overall_preference": 1}, (B, 1)),
        ({"question": {"full_text": Q}, "answer_0": A, "answer_1": B, "score_0": -1.0, "score_1": 1.0}, (B, 2)),
        (
            {"prompt": f'["{Q}"]', "response_a": f'["{A}"]', "response_b": f'["{B}"]'}
            | dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), (0, 1, 0), strict=True)),
            (B, 2),
        ),
        ({"info": {"post": "p", "title": "t"}, "summaries": [{"text": A}, {"text": B}], "choice": 1}, (B, 2)),
        (
            {"text": Q, "options": [{"id": 1, "text": A}, {"id": 2, "text": B}], "accept": [2], "answer": "accept"},
            (B, 2),
        ),
        ({"prompt": Q, "chosen": A, "rejected": B, "chosen_model": "x", "rejected_model": "y"}, (A, 2)),
        ({"prompt": Q, "chosen": A, "rejected": B, "score": float("nan")}, (A, 2)),
        (
            {"prompt": [{"role": "developer", "content": "Be brief."}, *ASKED], "chosen": said([], A), "rejected": B},
            (A, 2),
        ),
        ({"prompt": [{"role": "user", "content": [{"type": "text", "text": Q}]}], "chosen": A, "rejected": B}, (A, 2)),
        ({"prompt": Q, "chosen": said(ASKED, A), "rejected": said(ASKED, B), "messages": said(ASKED, A)}, (A, 2)),
        ({"data": TASK, "annotations": [annotation(result("pairwise", {"selected": "right"}))]}, (B, 2)),
        (
            {"data": TASK, "annotations": [annotation(result("pairwise", {"selected": "right"}, "answer2,answer1"))]},
            (A, 2),
        ),
        ({"data": TASK, "annotations": [annotation(result("pairwise", {"selected": "left"}, "text2,text1"))]}, (B, 2)),
        ({"data": TASK, "annotations": [annotation(result("choices", {"choices": ["Answer 1"]}, "prompt"))]}, (A, 2)),
        (
            {"data": TASK, "annotations": [annotation(result("choices", {"choices": ["Both are bad"]}, "prompt"))]},
            (None, 0),
        ),
        (TASK | {"annotation_id": 4, "annotator": 1, "side": {"selected": "right"}}, (B, 2)),
        (TASK | {"annotation_id": 4, "annotator": 1, "side": "answer 1"}, (A, 2)),
        (record({"best": [{"value": "B is slightly better", "user_id": 3}]}), (B, 1)),
        (record({"best": [{"value": "A", "user_id": 3}]}), (A, 2)),
        (record({"best": [{"value": "Tie", "user_id": 3}]}), (None, 0)),
        (
            {"prompt": Q, "answer1": A, "answer2": B, "best.responses": ["answer2"], "best.responses.users": ["u"]},
            (B, 2),
        ),
    ],
)
def test_a_comparison_names_the_side_that_its_tool_meant(row, answer):
    assert preferred(row) == [answer]
    (item,) = read(row).rows
    assert sorted(item.responses) == sorted([A, B])
    assert Q in json.dumps(str(item.prompt)) or "TL;DR" in str(item.prompt)


def test_who_wrote_answered_and_when_is_kept():
    found = read(battle("model_b", tstamp=1682351591.1))
    assert found.rows[0].generators == ("m1", "m2")
    assert (found.votes[0].annotator, found.votes[0].made_at) == ("j", "2023-04-24T15:53:11.100000Z")
    found = read({"prompt": Q, "chosen": B, "rejected": A, "chosen_model": "x", "rejected_model": "y", "annotator": 17})
    assert dict(zip(found.rows[0].responses, found.rows[0].generators, strict=True)) == {B: "x", A: "y"}
    assert found.votes[0].annotator == "17"


@pytest.mark.parametrize(
    ("rows", "line", "why"),
    [
        ([{"prompt": Q, "response_a": A, "response_b": B, "winner": n} for n in (0, 1)], 1, "which of response_a"),
        ([{"prompt": Q, "output_1": A, "output_2": B, "preference": n} for n in (0, 1)], 1, "which of output_1"),
        ([{"instruction": Q, "output_1": A, "output_2": B, "preference": None}], 1, "preference: is missing"),
        ([battle("model_c")], 1, "winner: is 'model_c'"),
        ([battle("tie", conversation_a=said(said(ASKED, "x"), A))], 1, "already differ before the last turn"),
        ([{"prompt": Q, "chosen": A, "rejected": A}], 1, "chosen and rejected are both"),
        ([{"prompt": Q, "chosen": A, "rejected": B, "split": "devset"}], 1, "did you mean 'validation'"),
        ([{"prompt": Q, "chosen": A, "rejected": B, "score": float("inf")}, battle("A")], 1, "Infinity"),
        ([{"prompt": Q, "chosen": [A, "x"], "rejected": B}], 1, "has 2 texts"),
        (
            [{"prompt": Q, "chosen": [{"role": "assistant", "content": None, "tool_calls": [{}]}], "rejected": B}],
            1,
            "tool",
        ),
        (
            [{"prompt": [{"role": "user", "content": [{"type": "image_url"}]}], "chosen": A, "rejected": B}],
            1,
            "image_url",
        ),
        ([{"prompt": Q, "responses": list("abcdefghij"), "ranks": list(range(10))}], 1, "import them as pairs"),
        ([{"prompt": Q, "responses": ["a", "b"], "ranks": [1.5, 1]}], 1, "the mean of their places"),
        ([{"data": TASK, "annotations": [annotation(result("pairwise", {"selected": "left"}, "x"))]}], 1, "two tags"),
        (
            [
                {
                    "data": {"prompt": Q, "response": A},
                    "annotations": [annotation(result("rating", {"rating": 3.5}, "response"))],
                }
            ],
            1,
            "double all points",
        ),
        ([{"text": Q, "options": [{"id": n, "text": n} for n in ("GOOD", "BAD")], "accept": ["BAD"]}], 1, "kto"),
        ([{"prompt": Q, "response": A, "helpfulness": 4.5}], 1, "double all points"),
        ([{"prompt": Q, "response": A, "score": 31337}], 1, "leave it out if it is no scale"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence_that_helps(rows, line, why):
    found = read(*rows)
    assert found.rejected[0][0] == line
    assert why in " ".join(found.rejected[0][1].split())
    assert found.votes == [] or rows[-1] == battle("A")


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"id": 1, "text": A, "label": ["good"], "Comments": []}, "prompt, completion (the text) and label"),
        ({"id": 1, "displayed_text": Q, "label_annotations": {"preference": {"A": "true"}}}, "response_a"),
        ({"message_id": "a", "parent_id": None, "text": Q, "role": "prompter"}, "whole trees"),
        ({"text": Q, "_input_hash": 1, "label": "X"}, "prompt, completion and label"),
        ({"instruction": Q, "output": A}, "trueup sft"),
        ({"prompt": Q, "responses": [A, B]}, "in the browser"),
        ({"Prompt": Q, "Chosen": A, "Rejected": B}, "small letters"),
    ],
)
def test_rows_of_no_format_are_refused_with_what_to_write_instead(row, advice):
    with pytest.raises(DataError) as caught:
        recognised(spelled(row))
    assert advice in str(caught.value)
    found = read(row, format="preference")
    assert found.rows == []
    assert any(advice in note for note in found.notes)


def test_a_format_that_is_not_the_files_is_told_from_the_one_that_is():
    (note,) = read(record({}), format="kto").notes
    assert "--format argilla" in note


def test_columns_that_are_no_answers_are_not_judged_and_are_named():
    others = {
        "id": "7",
        "source": "web",
        "model": "m",
        "url": "http://x",
        "category": "c",
        "score": 0.5,
        "language": "en",
    }
    by_name = read(
        record(
            {"best": [{"value": "response_b", "user_id": "u"}]},
            {"prompt": Q, "response_a": A, "response_b": B} | others,
        )
    )
    assert by_name.rows[0].responses == (A, B)
    assert {f"fields.{name}" for name in others} <= set(by_name.unused)
    ranked = {"instruction": Q, "gpt": A, "llama": B} | others
    by_value = read(record({"rank": [{"value": ["llama", "gpt"], "user_id": "u"}]}, ranked))
    assert by_value.rows[0].responses == (A, B)
    assert by_value.votes[0].answer == {"tiers": [[1], [0]]}
    studio = read({"data": TASK | others, "annotations": [annotation(result("choices", {"choices": ["answer2"]}))]})
    assert studio.rows[0].responses == (A, B)
    assert {f"data.{name}" for name in others} <= set(studio.unused)
    flat = read(TASK | others | {"annotation_id": 1, "annotator": 2, "better": "answer2"})
    assert flat.rows[0].responses == (A, B)
    assert set(others) - {"id"} <= set(flat.unused)
    pair = read({"prompt": Q, "chosen": A, "rejected": B, "weight": 0.5, "history": [["a", "b"]]})
    assert pair.unused == {"history": 1, "weight": 1}


def test_fields_of_unknown_names_are_responses_unless_their_name_says_otherwise():
    texts = {"gpt": A, "llama": B, "source": "x", "prompt_id": "y", "notes": "z", "score": 3}
    assert response_fields(texts, ()) == ["gpt", "llama"]
    assert response_fields(texts, {"llama"}) == ["gpt", "llama"]
    assert response_fields({"text": "c", "answer_a": "a", "answer_b": "b"}, ()) == ["answer_a", "answer_b"]
    assert response_fields(texts | {"response_1": "c", "response_2": "d"}, ()) == ["response_1", "response_2"]


@pytest.mark.parametrize(
    ("choice", "names", "place", "strength"),
    [
        ("Response B is much better", ("response_a", "response_b"), 1, 3),
        ("model 1", ("answer1", "answer2"), 0, 2),
        ("second", ("x", "y"), 1, 2),
        ("b", ("completion_1", "completion_2"), 1, 2),
        (2, ("gen_a", "gen_b"), 1, 2),
        ("A is a bit better", ("responseA", "responseB"), 0, 1),
        ("No preference", ("a", "b"), None, 0),
    ],
)
def test_verdicts_in_words(choice, names, place, strength):
    found = verdict(choice, names, "q")
    assert (found["preferred"], found["strength"]) == (place, strength)


@pytest.mark.parametrize("choice", ["0", "maybe", "response", True, None, "a b", "3", "answer"])
def test_a_verdict_that_could_mean_two_things_is_none(choice):
    with pytest.raises(DataError, match="q"):
        verdict(choice, ("answer_1", "answer_2"), "q")


def test_labels_of_a_text_and_words_beside_an_answer_are_kept_as_reasons():
    answers = {"problems": [{"value": ["short", "rude"], "user_id": "u"}], "quality": [{"value": 4, "user_id": "u"}]}
    found = read(record(answers, {"prompt": Q, "response": A}))
    assert (found.votes[0].answer["scores"], found.votes[0].rationale) == ({"quality": 4}, "problems: short, rude")
    answers = {"best": [{"value": "A", "user_id": "u"}], "why": [{"value": "it measures", "user_id": "u"}]}
    assert read(record(answers)).votes[0].rationale == "why: it measures"


def test_drafts_are_left_out_and_said():
    answers = {"best": [{"value": "A", "user_id": "u", "status": "draft"}, {"value": "B", "user_id": "w"}]}
    found = read(record(answers))
    assert [vote.annotator for vote in found.votes] == ["w"]
    assert "draft" in found.notes[0]


def test_a_ground_truth_is_a_right_answer_and_nobodys_vote():
    ok, bad = (result("choices", {"choices": [word]}, "response") for word in ("good", "bad"))
    row = {"data": {"prompt": Q, "response": A}, "annotations": [annotation(ok, ground_truth=True), annotation(bad)]}
    found = read(row)
    assert (found.rows[0].stream, found.rows[0].gold) == ("gold", {"response": 0, "acceptable": True})
    assert [(v.annotator, v.answer["acceptable"]) for v in found.votes] == [("1", False)]
    assert "gold" in found.notes[0]


def test_tags_that_no_field_is_called_after_are_taken_in_order_and_said():
    row = {"data": TASK, "annotations": [annotation(result("pairwise", {"selected": "right"}, "foo,bar"))]}
    assert preferred(row) == [(B, 2)]
    assert "'foo' and 'bar' are taken to be 'answer1' and 'answer2'" in read(row).notes[0]


def test_a_column_for_each_annotator_is_an_answer_of_each():
    row = {"instruction": "sum", "input": "1+1", "response1": A, "response2": B}
    found = read(row | {"annotator1": 1, "annotator2": 2, "annotator3": 0})
    assert found.rejected == []
    assert len(found.rows) == 1
    assert {v.annotator: v.answer["preferred"] for v in found.votes} == {
        "annotator1": 0,
        "annotator2": 1,
        "annotator3": None,
    }


def test_a_response_that_looks_like_a_list_is_a_text():
    row = {"prompt": Q, "output_1": '["a"]', "output_2": "[1.0, 2.0]", "label": 2}
    assert preferred(row) == [("[1.0, 2.0]", 2)]


def test_ratings_of_a_response_have_an_axis_for_each_known_column():
    row = {
        "prompt": Q,
        "response": A,
        "helpfulness": 3.0,
        "verbosity": "2",
        "correctness": None,
        "index": 7,
        "tokens": 90,
    }
    found = read(row)
    assert found.votes[0].answer["scores"] == {"helpfulness": 3, "verbosity": 2}
    assert found.unused == {"index": 1, "tokens": 1}
    assert read({"question": Q, "answer": A, "scores": {"wit": 1}}).votes[0].answer["scores"] == {"wit": 1}


def test_the_ranked_replies_of_a_tree_are_rankings_wherever_they_stand():
    def reply(text, rank=None, *replies, role="assistant", **more):
        return {"text": text, "role": role, "rank": rank, "replies": list(replies)} | more

    deep = reply("more?", None, reply("x", 1), reply("y", 0), reply("z", 0, deleted=True), role="prompter")
    found = read({"message_tree_id": "t", "prompt": reply(Q, None, reply(A, 1, deep), reply(B, 0), role="prompter")})
    assert found.rejected == []
    assert [(row.responses, vote.answer["tiers"]) for row, vote in zip(found.rows, found.votes, strict=True)] == [
        ((A, B), [[1], [0]]),
        (("x", "y"), [[1], [0]]),
    ]
    assert [turn.role for turn in found.rows[1].prompt] == ["user", "assistant", "user"]


def test_ties_that_share_the_mean_of_their_places_are_ties():
    row = {"prompt": Q, "responses": ["a", "b", "c"], "ranks": [2.5, 1, 2.5]}
    assert read(row).votes[0].answer["tiers"] == [[1], [0, 2]]


def test_repeated_and_contrary_rows_are_kept_and_counted():
    one = {"prompt": Q, "chosen": A, "rejected": B, "annotator": "x"}
    other = one | {"chosen": B, "rejected": A}
    found = read(one, other, one, other | {"annotator": "y"})
    assert (len(found.rows), len(found.votes)) == (3, 4)
    assert "before: 2, the first in line 2 about that of line 1; with another answer: 2" in found.notes[0]


def test_white_space_at_the_ends_alone_is_said():
    found = read({"prompt": Q, "chosen": A, "rejected": A + "\n"})
    assert "white space" in found.notes[0]


TABLE = 'prompt;chosen;rejected\nWie heißt die Straße?;"Sie heißt „Hauptstraße“; so";"Weiß\nnicht"\n=SUM(A1);-1;+2\n'
ROWS = [("Wie heißt die Straße?", "Sie heißt „Hauptstraße“; so", "Weiß\nnicht"), ("=SUM(A1)", "-1", "+2")]


def pairs(data, **more):
    found = read_bytes(data, "csv", **more)
    assert found.rejected == []
    texts = [(found.rows[v.item], v.answer["preferred"]) for v in found.votes]
    return [(row.prompt, row.responses[place], row.responses[1 - place]) for row, place in texts]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("first", ["", "sep={}\r\n"])
def test_every_dialect_of_a_spreadsheet_is_read(mark, codec, first):
    told = TABLE.replace("prompt;chosen;rejected", mark.join(("prompt", "chosen", "rejected")))
    told = (
        told.replace("?;", f"?{mark}")
        .replace('";"', f'"{mark}"')
        .replace("=SUM(A1);-1;+2", f"=SUM(A1){mark}-1{mark}+2")
    )
    assert pairs((first.format(mark) + told.replace("\n=", "\r\n=")).encode(codec)) == ROWS


def test_lines_that_end_as_on_old_macs_may_hold_line_feeds():
    assert pairs(b"prompt,chosen,rejected\ra,b\nc,d\re,f,g\r") == [("a", "b\nc", "d"), ("e", "f", "g")]


def test_an_index_empty_columns_and_capitals_do_no_harm():
    data = b",Prompt,Chosen,Rejected,,\n0,a,b,c,,\n,,,,,\n1,d,e,f,,\n"
    assert pairs(data) == [("a", "b", "c"), ("d", "e", "f")]
    assert read_bytes(data, "csv").unused == {"column 1, which has no name": 2}


@pytest.mark.parametrize("codec", ["cp1252", "mac-roman", "utf-16-le", "utf-16-be"])
def test_an_encoding_is_never_guessed_and_can_be_said(codec):
    data = TABLE.encode(codec)
    with pytest.raises(DataError) as caught:
        read_bytes(data, "csv", "table.csv")
    assert caught.value.where.startswith("table.csv, line ")
    assert "--encoding" in caught.value.fix
    assert pairs(data, encoding=codec) == ROWS


def test_the_byte_that_is_no_utf_8_is_named_with_its_line_and_place():
    data = b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "\xe4"}\n'
    with pytest.raises(DataError, match="byte 13 of the line is 0xe4") as caught:
        read_bytes(data, "preference")
    assert "line 2" in caught.value.where


@pytest.mark.parametrize("name", ["utf8x", "hex", "rot13"])
def test_an_encoding_that_is_none_is_refused(name):
    with pytest.raises(UsageError, match="encoding"):
        read_bytes(b"prompt,chosen,rejected\na,b,c\n", "csv", encoding=name)


@pytest.mark.parametrize(("data", "named"), [(b"PK\x03\x04...", "Excel"), (b"PAR1...", "parquet"), (b"%PDF-1", "PDF")])
def test_what_is_no_text_is_called_by_its_name(data, named):
    with pytest.raises(DataError, match=named):
        read_bytes(data, "csv")


def test_tables_of_other_shapes_are_read_by_their_columns():
    header = "annotation_id,annotator,answer1,answer2,side,id,lead_time,prompt"
    label_studio = f'{header}\n5,1,{A},{B},"{{""selected"": ""right""}}",1,2.5,{Q}\n'
    tables = {
        f"instruction,output_1,output_2,preference\n{Q},{A},{B},2.0\n{Q}!,{A},{B},1.0\n": "pairwise",
        f"prompt,response,label\n{Q},{A},1\n": "binary",
        f"prompt,response,helpfulness\n{Q},{A},4.0\n": "rating",
        f'prompt,responses,ranks\n{Q},"[""a"",""b""]","[2,1]"\n': "ranking",
        label_studio: "pairwise",
    }
    for table, kind in tables.items():
        found = read_bytes(table.encode(), "csv")
        assert (found.rejected, found.kind) == ([], kind)
        assert len(found.votes) == len(found.rows)
    (vote,) = read_bytes(label_studio.encode(), "label-studio").votes
    assert (vote.answer["preferred"], vote.active_ms, vote.shown) == (1, 2500, None)
    json_text = 'prompt,chosen,rejected\nQ,"{""a"": 1}","[1, 2]"\n'
    assert read_bytes(json_text.encode(), "csv").rows[0].responses == ("[1, 2]", '{"a": 1}')


def test_a_row_that_is_nested_too_deeply_is_refused():
    deep = '{"prompt": "a", "chosen": "b", "rejected": "c", "x": ' + "[" * 300 + "]" * 300 + "}"
    found = read_bytes(deep.encode() + b"\n" + spelled({"prompt": Q, "chosen": A, "rejected": B}), "preference")
    assert [line for line, _ in found.rejected] == [1]
    assert "nested" in found.rejected[0][1]
    assert len(found.rows) == 1


def test_one_object_over_many_lines_is_one_row_and_a_doubled_field_is_none():
    assert (
        len(read_bytes(json.dumps({"prompt": Q, "chosen": A, "rejected": B}, indent=1).encode(), "preference").rows)
        == 1
    )
    found = read_bytes(b'{"prompt": "a", "prompt": "b", "chosen": "c", "rejected": "d"}', "preference")
    assert "'prompt' is there twice" in found.rejected[0][1]


def test_the_browser_takes_the_same_files(tmp_path):
    found = read_items(spelled(battle("model_a")), "preference")
    assert (found.items[0].responses, found.unused) == ((A, B), {})
    table = 'prompt;responses\nWas heißt das?;"[""a"", ""b""]"\n'
    assert read_items(table.encode("cp1252"), "csv", "cp1252").items[0].prompt == "Was heißt das?"
    assert read_items(b"\xef\xbb\xbf" + spelled({"prompt": Q, "responses": [A, B]}), "jsonl").items[0].responses == (
        A,
        B,
    )
    assert read_items(spelled({"prompt": Q, "chosen": A, "rejected": B, "id": 3}), "trl").unused == {"id": 1}
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(spelled({"prompt": Q, "chosen": A, "rejected": B}))
    assert read_in(path).rows[0].responses == (A, B)


SHAPES = {
    "arena": battle("model_a", tstamp=1.5, turn=1),
    "alpaca": {"instruction": Q, "output_1": A, "output_2": B, "preference": 1.2, "annotator": "x", "generator_1": "g"},
    "prodigy": {
        "text": Q,
        "options": [{"id": "a", "text": A}, {"id": "b", "text": B}],
        "accept": ["a"],
        "answer": "accept",
    },
    "summaries": {
        "info": {"post": "p"},
        "summaries": [{"text": A}, {"text": B, "policy": "p"}],
        "choice": 1,
        "split": "valid1",
    },
    "tree": {
        "prompt": {
            "text": Q,
            "role": "prompter",
            "replies": [{"text": t, "role": "assistant", "rank": n} for n, t in enumerate("ab")],
        }
    },
    "rated": {"prompt": Q, "response": A, "helpfulness": 4, "scores": {"wit": 2}, "model": "m"},
    "one hot": {
        "prompt": f'["{Q}"]',
        "response_a": A,
        "response_b": B,
        "winner_model_a": 1,
        "winner_model_b": 0,
        "winner_tie": 0,
    },
    "webgpt": {"question": {"full_text": Q}, "answer_0": A, "answer_1": B, "score_0": 0, "score_1": 1},
    "flat task": TASK
    | {"annotation_id": 1, "annotator": 2, "lead_time": 3, "created_at": "2026-01-01", "side": {"selected": "left"}},
    "task": {
        "data": TASK,
        "annotations": [annotation(result("choices", {"choices": ["A"]}), ground_truth=True, lead_time=2)],
    },
    "flat record": {
        "prompt": Q,
        "answer1": A,
        "answer2": B,
        "best.responses": ["answer2"],
        "best.responses.users": ["u"],
        "best.responses.status": ["submitted"],
        "best.suggestion": "answer1",
        "best.suggestion.agent": "m",
    },
}
FORMAT = {
    "task": "label-studio",
    "flat task": "label-studio",
    "flat record": "argilla",
    "tree": "ranking",
    "rated": "ultrafeedback",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_any_value_in_any_place_of_a_shape_is_taken_or_refused(shape):
    where = [path for path in places(SHAPES[shape]) if path]

    @given(
        path=st.sampled_from(where),
        value=st.one_of(odd, st.just(10**400), st.sampled_from([True, "", "0", -1, [""], [[]], {"a": []}])),
    )
    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def check(path, value):
        row = json.loads(json.dumps(SHAPES[shape]))
        held = row
        for name in path[:-1]:
            held = held[name]
        held[path[-1]] = value
        found = read_bytes(spelled(row), FORMAT.get(shape, "preference"))
        assert len(found.rows) + len(found.rejected) >= 1

    check()
