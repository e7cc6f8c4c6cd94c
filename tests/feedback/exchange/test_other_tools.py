"""Rows of other tools and published sets: read where they say one thing, else refused with what to write instead."""

import json

import pytest

from trueup.errors import DataError
from trueup.feedback.exchange.formats import read_bytes, recognised
from trueup.types import Message
from trueup.web.annotate.intake import read_items

Q, A, B = "How deep is the lake?", "Lower a rope.", "Very deep."
PRODIGY = {"_input_hash": 1, "_task_hash": 2, "_annotator_id": "ada", "_timestamp": 1700000000}
SIDES = {"model_a_response": A, "model_b_response": B}


def read(*rows):
    data = "\n".join(map(json.dumps, rows)).encode()
    return read_bytes(data, recognised(data))


def table(text):
    return read_bytes(text.encode(), recognised(text.encode()))


def refusal(data):
    with pytest.raises(DataError) as caught:
        read_bytes(data, recognised(data))
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "column", "value"),
    [
        (("output_1", "output_2", "output_3"), "preference", 2),
        (("response_a", "response_b", "response_c"), "winner", "A"),
        (("answer0", "answer1", "answer2"), "choice", 0),
        (("model_a_response", "model_b_response", "model_c_response"), "vote", "model_a"),
    ],
)
def test_one_verdict_on_three_responses_loses_none_of_them(names, column, value):
    row = {"prompt": Q, **dict(zip(names, (A, B, "c"), strict=True)), column: value}
    found = read(row)
    assert found.rows == []
    ((line, why),) = found.rejected
    assert line == 1
    assert ", ".join(names) in why
    assert "responses and ranks" in why
    assert len(read(row, row | {names[2]: None}).rows) == 1


@pytest.mark.parametrize(
    ("row", "preferred"),
    [
        ({"left": A, "right": B, "choice": "right"}, 1),
        ({"left": A, "right": B, "winner": "left"}, 0),
        (SIDES | {"vote": "model_b"}, 1),
        (SIDES | {"winner": "A"}, 0),
        (SIDES | {"winner": "model_a_response"}, 0),
        (SIDES | {"winner": "tie"}, None),
        ({"first_response": A, "second_response": B, "preferred": "second"}, 1),
        ({"left_answer": A, "right_answer": B, "selection": "left"}, 0),
    ],
)
def test_sides_are_known_by_where_they_stood_and_by_who_wrote_them(row, preferred):
    found = read({"prompt": Q} | row)
    assert found.rejected == []
    assert found.rows[0].responses == (A, B)
    assert found.votes[0].answer["preferred"] == preferred


@pytest.mark.parametrize("number", [0, 1])
def test_a_number_names_neither_left_nor_right(number):
    rows = [{"prompt": Q, "left": A, "right": B, "choice": n} for n in (0, 1)]
    assert "which of left and right" in read(*rows).rejected[number][1]


def test_what_was_pressed_in_prodigy_is_no_response():
    found = read(*({"prompt": Q, "response": text, "answer": key} | PRODIGY for text, key in PRESSED.items()))
    assert (found.kind, found.rejected) == ("binary", [])
    assert [row.responses for row in found.rows] == [(text,) for text in PRESSED]
    assert [vote.answer and vote.answer["acceptable"] for vote in found.votes] == [True, False, None]
    assert {vote.annotator for vote in found.votes} == {"ada"}
    labelled = {"prompt": Q, "completion": A, "label": "GOOD", "answer": "reject"} | PRODIGY
    assert read(labelled).votes[0].answer["acceptable"] is False
    assert "of Prodigy" in refusal(json.dumps({"text": A, "label": "TOPIC", "answer": "accept"} | PRODIGY).encode())


PRESSED = {A: "accept", B: "reject", "c": "ignore"}


def test_options_of_prodigy_may_be_html_without_markup():
    row = {"html": Q, "options": [{"id": "a", "html": A}, {"id": "b", "html": B}], "accept": ["b"], "answer": "accept"}
    found = read(row | PRODIGY)
    assert (found.rows[0].prompt, found.rows[0].responses, found.votes[0].answer["preferred"]) == (Q, (A, B), 1)
    row["options"] = [{"id": "a", "html": "<p>one</p>"}, {"id": "b", "html": "a &amp; b"}]
    assert "options.0.html: is marked up" in read(row | PRODIGY).rejected[0][1]


def test_ranked_answers_of_nectar_are_a_ranking():
    answers = [{"answer": text, "model": f"m-{text}", "rank": rank} for text, rank in (("a", 2.0), ("b", 1.0))]
    found = read({"prompt": "\n\nHuman: Hi?\n\nAssistant: ", "answers": answers})
    assert found.votes[0].answer == {"tiers": [[1], [0]]}
    assert found.rows[0].generators == ("m-a", "m-b")
    assert [(turn.role, turn.content) for turn in found.rows[0].prompt] == [("user", "Hi?")]


def test_lists_of_distilabel_are_ratings():
    row = {"instruction": Q, "generations": [A, B], "ratings": [4, None], "generation_models": ["m", "n"]}
    found = read(row | {"rationales": ["short", ""]})
    assert [(item.responses, item.generators) for item in found.rows] == [((A,), ("m",)), ((B,), ("n",))]
    assert [(vote.answer["scores"], vote.rationale) for vote in found.votes] == [({"overall": 4}, "short")]
    assert "one for each generation" in read(row | {"ratings": [4]}).rejected[0][1]
    assert "nobody has rated" in refusal(json.dumps({"instruction": Q, "generations": [A, B]}).encode())


def test_safety_labels_and_answers_with_more_votes_are_read():
    found = read({"prompt": Q, "response": A, "category": {"theft": False}, "is_safe": False})
    assert found.votes[0].answer["acceptable"] is False
    assert "is_safe" in found.notes[0]
    assert table(f"prompt,response,is_safe\n{Q},{A},True\n").votes[0].answer["acceptable"] is True
    found = read({"qid": 1, "question": Q, "response_j": B, "response_k": A})
    assert found.rows[0].responses[found.votes[0].answer["preferred"]] == B


@pytest.mark.parametrize("indent", [None, 1])
def test_rows_under_a_key_of_one_object_are_rows_with_their_lines(indent):
    rows = [{"prompt": Q, "chosen": A, "rejected": B}, {"prompt": Q, "chosen": A}]
    data = json.dumps({"version": "1", "data": rows}, indent=indent).encode()
    found = read_bytes(data, recognised(data))
    assert len(found.rows) == 1
    ((line, why),) = found.rejected
    assert line == (1 if indent is None else 9)
    assert "rejected: is missing" in why


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"prompt": Q, "responses": [A, B], "ranking_scores": [1, 2]}, "whether more is better"),
        ({"user_prompt": Q, "model_response": A, "score": 3, "if_chosen": True}, "PRISM"),
        ({"context": [{"role": "user", "content": Q}], "original_response": A, "edited_response": B}, "HelpSteer3"),
        ({"prompt": Q, "response_a": A, "response_b": B, "mood": "x"}, "call it winner"),
        ({"prompt": Q, "gpt": A, "llama": B, "winner": "gpt"}, "call them response_a and response_b"),
    ],
)
def test_a_known_set_is_called_by_its_name(row, advice):
    why = refusal(json.dumps(row).encode())
    assert advice in why
    assert ", ".join(row) in why


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("id,text,label,Comments\n1,a,good,\n", "doccano"),
        ("user\tinstance_id\tdisplayed_text\tpref:::A\nada\t1\tx\t1\n", "Potato"),
        ("text,label,answer,_input_hash\na,GOOD,accept,1\n", "Prodigy"),
        ("message_id,parent_id,text,role\na,,x,prompter\n", "OpenAssistant"),
        ("prompt,response_a,response_b,mood\nq,a,b,x\n", "call it winner"),
        ("prompt,completion\nq,a\n", "trueup sft"),
    ],
)
def test_tables_of_tools_get_the_same_advice(text, advice):
    assert advice in refusal(text.encode())


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "<NA>", "N/A"])
@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("prompt,chosen,rejected\nq,a,b\nq,{},b\n", "chosen"),
        ("prompt,chosen,rejected\nq,a,b\n{},qa,qb\n", "prompt"),
        ("prompt\tcompletion\tlabel\nq\ta\t1\nq\t{}\t1\n", "completion"),
        ("prompt,completion,label\nq,a,1\nq,b,{}\n", "label"),
        ("prompt,response_a,response_b,winner\nq,a,b,A\nq,a,{},B\n", "response_b"),
        ("prompt,response_a,response_b,winner\nq,a,b,A\nq,a,b,{}\n", "winner"),
    ],
)
def test_a_word_for_an_empty_cell_is_no_text(rows, named, word):
    found = table(rows.format(word))
    assert len(found.rows) == 1
    ((line, why),) = found.rejected
    assert line == 3
    assert why.startswith(f"{named}: the cell says {word!r}")
    ((_, why),) = table(rows.format("")).rejected
    assert why.startswith(f"{named}: the cell is empty")


def test_a_word_for_an_empty_cell_is_nothing_where_nothing_is_needed():
    found = table("instruction,input,output_1,output_2,preference,annotator\nq,nan,a,b,1,None\nq,,c,b,2,ada\n")
    assert found.rejected == []
    assert [row.prompt for row in found.rows] == [(Message("user", "q"),)] * 2
    assert [vote.annotator for vote in found.votes] == ["unnamed", "ada"]
    own = 'kind,prompt,responses\npairwise,None,"[""nan"",""null""]"\n'
    assert (table(own).rows[0].prompt, table(own).rows[0].responses) == ("None", ("nan", "null"))
    assert "the cell says 'nan'" in read_items(b'prompt,responses\nnan,"[""a"",""b""]"\n', "csv").rejected[0][1]


def test_a_table_whose_labels_are_all_missing_says_so():
    assert [why.split("\n")[0] for _, why in table("prompt,completion,label\nq,a,\nq,b,\n").rejected] == [
        "label: the cell is empty"
    ] * 2


NAMES = {"val": "validation", "valid": "validation", "dev": "validation", "eval": "validation", "Train": "train"}


@pytest.mark.parametrize("name", NAMES)
def test_other_names_of_splits_are_taken_and_said(name):
    row = {"prompt": Q, "chosen": A, "rejected": B, "split": name}
    rated = {"prompt": Q, "response": A, "helpfulness": 4, "split": name}
    for found in (read(row), read(rated), table(f"prompt,chosen,rejected,split\n{Q},{A},{B},{name}\n")):
        assert [item.split for item in found.rows] == [NAMES[name]]
        assert f"the split {name!r} is taken to be {NAMES[name]!r}" in found.notes
    items = read_items(json.dumps({"prompt": Q, "responses": [A, B], "split": name}).encode(), "jsonl")
    assert items.items[0].split == NAMES[name]
    assert name in items.notes[0]
    mixed = read(row, row | {"split": NAMES[name], "annotator": "x"})
    assert mixed.rejected == []


def test_a_table_written_by_columns_is_called_so():
    columns = {"prompt": {"0": Q, "1": Q}, "chosen": {"0": A, "1": B}, "rejected": {"0": B, "1": A}}
    lists = {name: list(cells.values()) for name, cells in columns.items()}
    for written in (columns, lists):
        assert "orient='records'" in refusal(json.dumps(written).encode())


@pytest.mark.parametrize(
    ("value", "why"), [("9" * 5000, "more than 4300 digits"), ("[" * 100000 + "]" * 100000, "at most 64")]
)
def test_numbers_and_nesting_beyond_any_use_are_refused_in_words_of_the_file(value, why):
    good = json.dumps({"prompt": Q, "chosen": A, "rejected": B})
    bad = f'{good[:-1]}, "x": {value}}}'
    found = read_bytes(f"{good}\n{bad}\n".encode(), "preference")
    assert [line for line, _ in found.rejected] == [2]
    assert why in found.rejected[0][1]
    assert "sys." not in found.rejected[0][1]
    assert why in refusal(f"[{bad}]".encode())


def test_turns_whose_beginning_is_another_prompt_say_where_they_part():
    def talk(*said):
        return [{"role": role, "content": text} for role, text in said]

    other = talk(("user", "Who?"), ("assistant", A))
    ((_, why),) = read({"prompt": Q, "chosen": other, "rejected": talk(("user", "Who?"), ("assistant", B))}).rejected
    assert f"{Q!r} is not what the assistant answers in chosen" in why
    longer = talk(("system", "s"), ("user", Q))
    sides = {name: longer + talk(("assistant", text)) for name, text in (("chosen", A), ("rejected", B))}
    (item,) = read({"prompt": Q} | sides).rows
    assert [turn.role for turn in item.prompt] == ["system", "user"]
