"""Reading: every container, every format, every fault named with its line; the books always balance."""

import csv
import gzip
import json

import pytest

from trueup.data.read import (
    Reading,
    read_demonstrations,
    read_labelled,
    read_pairs,
    read_prompts,
    read_ranked,
    read_rows,
    read_texts,
)
from trueup.errors import DataError, UsageError
from trueup.types import Demonstration, Labelled, Message, PreferencePair, Ranked

PAIR = {"prompt": "Hi", "chosen": "good", "rejected": "bad"}
USER, ANSWER, OTHER = (
    Message("user", "Hi"),
    {"role": "assistant", "content": "good"},
    {"role": "assistant", "content": "bad"},
)
ASK = {"role": "user", "content": "Hi"}


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return lambda *rows, name="rows.jsonl": jsonl(tmp_path / name, rows)


# Containers -----------------------------------------------------------------------------------------------------------


def numbered(n):
    return [{"prompt": f"p{i}", "chosen": f"c{i}, yes\nline", "rejected": f'r{i} "no"'} for i in range(n)]


def containers(folder, rows):
    yield jsonl(folder / "a.jsonl", rows)
    yield jsonl(folder / "a.ndjson", rows)
    yield jsonl(folder / "lines.json", rows)
    (folder / "a.json").write_text(json.dumps(rows, indent=2))
    yield folder / "a.json"
    with gzip.open(folder / "a.jsonl.gz", "wt") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
    yield folder / "a.jsonl.gz"
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with open(folder / name, "w", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        yield folder / name


def test_every_text_container_gives_the_same_pairs(tmp_path):
    expected = read_pairs(jsonl(tmp_path / "expected.jsonl", numbered(7))).items
    assert len(expected) == 7
    for path in containers(tmp_path, numbered(7)):
        loaded = read_pairs(path)
        assert loaded.items == expected, path
        assert loaded.report.rows == loaded.report.items == 7


def test_parquet_and_saved_datasets_give_the_same_pairs(tmp_path):
    from datasets import Dataset, DatasetDict

    rows = [
        {"prompt": [ASK], "chosen": [ANSWER], "rejected": [OTHER]},
        *(
            {"prompt": [ASK], "chosen": [ANSWER], "rejected": [{"role": "assistant", "content": f"{i}"}]}
            for i in range(3)
        ),
    ]
    expected = read_pairs(jsonl(tmp_path / "a.jsonl", rows)).items
    dataset = Dataset.from_list(rows)
    dataset.to_parquet(tmp_path / "a.parquet")
    dataset.save_to_disk(tmp_path / "saved")
    DatasetDict({"train": dataset, "test": dataset.select([0])}).save_to_disk(tmp_path / "splits")
    assert read_pairs(tmp_path / "a.parquet").items == expected
    assert read_pairs(tmp_path / "saved").items == expected
    assert read_pairs(tmp_path / "splits", split="test").items == expected[:1]
    with pytest.raises(DataError, match="2 splits") as caught:
        read_pairs(tmp_path / "splits")
    assert "test, train" in caught.value.fix
    with pytest.raises(DataError, match="no split 'tset'") as caught:
        read_pairs(tmp_path / "splits", split="tset")
    assert "did you mean 'test'" in caught.value.fix
    with pytest.raises(UsageError, match="split"):
        read_pairs(tmp_path / "saved", split="train")


def test_a_fault_in_a_dataset_names_its_row(tmp_path):
    from datasets import Dataset

    Dataset.from_list([PAIR, PAIR | {"chosen": None}]).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="is null") as caught:
        read_pairs(tmp_path / "saved")
    assert caught.value.where == f"{tmp_path / 'saved'} row 2: field 'chosen'"


def test_the_hub_out_of_reach_is_said_with_a_way_out():
    with pytest.raises(DataError, match="cannot be loaded from the Hugging Face hub") as caught:
        read_pairs("hf:nobody/nothing-of-this-name")
    assert caught.value.where == "hf:nobody/nothing-of-this-name"
    assert "save_to_disk" in caught.value.fix


def test_text_files_are_documents(tmp_path):
    one, many = tmp_path / "one.txt", tmp_path / "many.txt"
    one.write_text("a\n\nb\n")
    many.write_text("first\nstory\n<|endoftext|>\n\nsecond\n<|endoftext|>\n\n")
    assert read_texts(one).items == ("a\n\nb",)
    loaded = read_texts(many)
    assert loaded.items == ("first\nstory", "second")
    assert loaded.lines == (1, 5)
    assert read_demonstrations(many).items == (Demonstration("", "first\nstory"), Demonstration("", "second"))
    with gzip.open(tmp_path / "z.txt.gz", "wb") as handle:
        handle.write(many.read_bytes())
    assert read_texts(tmp_path / "z.txt.gz").items == loaded.items


def test_rows_come_raw_with_their_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"x": 1}\n\n{"y": [2]}\n')
    assert list(read_rows(path)) == [(1, {"x": 1}), (3, {"y": [2]})]


def test_csv_lines_count_the_lines_of_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,chosen,rejected\np,"two\nlines",r\np,,r\n')
    with pytest.raises(DataError, match="is empty") as caught:
        read_pairs(path)
    assert caught.value.where == f"{path}:4: field 'chosen'"


def test_json_array_lines_count_the_lines_of_the_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([PAIR, {"prompt": "p", "chosen": "c"}], indent=1))
    with pytest.raises(DataError, match="no such field") as caught:
        read_pairs(path)
    assert caught.value.where == f"{path}:7: field 'rejected'"


# Pair formats ---------------------------------------------------------------------------------------------------------

CHAT = (USER,)
SYSTEM = {"role": "system", "content": "Be kind"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
PAIR_ROWS = {
    "text": (PAIR, "Hi"),
    "messages as prompt": ({"prompt": [ASK], "chosen": "good", "rejected": "bad"}, CHAT),
    "prompt and answering turns": ({"prompt": [ASK], "chosen": [ANSWER], "rejected": [OTHER]}, CHAT),
    "text prompt and answering turns": ({"prompt": "Hi", "chosen": [ANSWER], "rejected": [OTHER]}, CHAT),
    "text prompt and whole conversations": ({"prompt": "Hi", "chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]}, CHAT),
    "prompt and whole conversations": ({"prompt": [ASK], "chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]}, CHAT),
    "implicit prompt": ({"chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]}, CHAT),
    "system turn": (
        {"chosen": [SYSTEM, ASK, ANSWER], "rejected": [SYSTEM, ASK, OTHER]},
        (Message("system", "Be kind"), USER),
    ),
    "system column": (
        {"system": "Be kind", "chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]},
        (Message("system", "Be kind"), USER),
    ),
    "transcripts": (
        {"chosen": "\n\nHuman: Hi\n\nAssistant: good", "rejected": "\n\nHuman: Hi\n\nAssistant: bad"},
        CHAT,
    ),
    "sharegpt": (
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        CHAT,
    ),
    "instruction": ({"instruction": "Hi", "input": "", "chosen": "good", "rejected": "bad"}, CHAT),
    "text parts": (
        {
            "prompt": [PARTS],
            "chosen": "good",
            "rejected": "bad",
        },
        (Message.of("user", "Hi", PARTS),),
    ),
    "llmbar 1": ({"input": "Hi", "output_1": "good", "output_2": "bad", "label": 1}, CHAT),
    "llmbar 2": ({"input": "Hi", "output_1": "bad", "output_2": "good", "label": 2}, CHAT),
    "three annotators": (
        {
            "instruction": "Hi",
            "input": "",
            "response1": "bad",
            "response2": "good",
            "annotator1": 2,
            "annotator2": 2,
            "annotator3": 2,
        },
        CHAT,
    ),
    "five levels": ({"prompt": "Hi", "completion_a": "good", "completion_b": "bad", "preference": "a-is-better"}, "Hi"),
    "arena": ({"prompt": "Hi", "response_a": "bad", "response_b": "good", "winner": "model_b"}, "Hi"),
    "better id": ({"prompt": "Hi", "response_0": "bad", "response_1": "good", "better_response_id": 1}, "Hi"),
    "shp": ({"history": "Hi", "human_ref_A": "good", "human_ref_B": "bad", "labels": 1}, CHAT),
    "ranked": ({"prompt": "Hi", "responses": ["bad", "good"], "ranks": [1, 0]}, "Hi"),
    "rated": ({"prompt": "Hi", "responses": ["bad", "good"], "ratings": [1.5, 4]}, "Hi"),
    "rated objects": (
        {
            "instruction": "Hi",
            "completions": [{"response": "bad", "overall_score": 3}, {"response": "good", "overall_score": 8}],
        },
        CHAT,
    ),
}


@pytest.mark.parametrize("name", PAIR_ROWS)
def test_each_pair_format_gives_the_same_pair(file, name):
    row, prompt = PAIR_ROWS[name]
    loaded = read_pairs(file(row))
    assert loaded.items == (PreferencePair(prompt, "good", "bad", origin=loaded.items[0].origin),)
    assert loaded.report.format
    assert loaded.report.unused_columns == () or name in ("instruction",)


def test_a_row_per_rating_is_grouped_by_prompt(file):
    rows = [("a", "x", 1), ("b", "u", 5), ("a", "y", 3), ("b", "v", 5), ("a", "x", 4), ("c", "only", 1)]
    path = file(*({"prompt": p, "completion": c, "rating": r} for p, c, r in rows))
    assert read_ranked(path).items == (Ranked("a", ("x", "y"), (1, 0)), Ranked("b", ("u", "v"), (0, 0)))
    loaded = read_pairs(path)
    assert loaded.items == (PreferencePair("a", "y", "x"),)  # x has mean 2.5
    assert {why: n.to_dict() for why, n in loaded.report.left_out.items()} == {
        "a tie": {"count": 1, "lines": [2]},
        "a prompt with one rated response": {"count": 1, "lines": [6]},
    }


def test_a_ranking_gives_all_pairs_and_ties_give_none(file):
    row = {"prompt": "p", "responses": ["w", "x", "y", "z"], "ranks": [2, 0, 2, 5]}
    loaded = read_pairs(file(row))
    assert {(p.chosen, p.rejected) for p in loaded.items} == {
        ("x", "w"),
        ("x", "y"),
        ("x", "z"),
        ("w", "z"),
        ("y", "z"),
    }
    assert loaded.report.left_out["a tie"].count == 1
    assert len(loaded.items) + 1 == 4 * 3 // 2
    assert read_ranked(file(row)).items == (Ranked("p", ("w", "x", "y", "z"), (1, 0, 1, 2)),)


def test_the_same_text_twice_in_a_ranking_makes_no_pair(file):
    loaded = read_pairs(file({"prompt": "p", "responses": ["x", "y", "x"], "ranks": [0, 1, 2]}))
    assert [(p.chosen, p.rejected) for p in loaded.items] == [("x", "y"), ("y", "x")]
    assert loaded.report.left_out["the same text twice in one ranking"].count == 1


@pytest.mark.parametrize(
    ("votes", "strength"),
    [((2, 2, 1), 2 / 3), ((2, 2, 0), 5 / 6), ((1, 0, 2), None), ((0, 0, 2), None), ((1, 2), None)],
)
def test_several_annotators_give_the_share_of_votes(file, votes, strength):
    row = {"instruction": "Hi", "response1": "bad", "response2": "good"}
    row |= {f"annotator{n}": vote for n, vote in enumerate(votes, 1)}
    if strength is None:
        with pytest.raises(DataError, match="none of its 1 rows gives preference pairs"):
            read_pairs(file(row))
    else:
        (pair,) = read_pairs(file(row)).items
        assert (pair.chosen, pair.rejected) == ("good", "bad")
        assert pair.strength == pytest.approx(strength)


@pytest.mark.parametrize(
    ("sides", "column", "verdict", "swapped"),
    [
        (("output_1", "output_2"), "label", 1, 2),
        (("response1", "response2"), "label", 2, 1),
        (("completion_a", "completion_b"), "preference", "a-is-slightly-better", "b-is-slightly-better"),
        (("response_a", "response_b"), "winner", "model_a", "model_b"),
        (("response_0", "response_1"), "better_response_id", 0, 1),
        (("human_ref_A", "human_ref_B"), "labels", 0, 1),
        (("output_1", "output_2"), "preference", 1.25, 1.75),
        (("a", "b"), "outcome", "b", "a"),
    ],
)
def test_exchanging_the_sides_and_the_verdict_changes_nothing(file, sides, column, verdict, swapped):
    """Property 17."""
    first, second = sides
    one = read_pairs(file({"prompt": "p", first: "x", second: "y", column: verdict}, name="one.jsonl"))
    two = read_pairs(file({"prompt": "p", first: "y", second: "x", column: swapped}, name="two.jsonl"))
    assert one.items == two.items


@pytest.mark.parametrize("verdict", ["c", 7, None, True, 2.5])
def test_a_verdict_that_is_none_is_an_error(file, verdict):
    with pytest.raises(DataError) as caught:
        read_pairs(file({"prompt": "p", "output_1": "x", "output_2": "y", "label": verdict}))
    assert "field 'label'" in caught.value.where


def test_a_strength_of_one_half_is_a_tie(file):
    loaded = read_pairs(file(PAIR, PAIR | {"strength": 0.5}, PAIR | {"strength": 0.8, "chosen": "other"}))
    assert [p.strength for p in loaded.items] == [1.0, 0.8]
    assert loaded.report.left_out["a tie"].lines == [2]


def test_transcripts_with_a_speaker_twice_in_a_row_are_joined(file):
    chosen = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d\n\nAssistant: e"
    rejected = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: f"
    (pair,) = read_pairs(file({"chosen": chosen, "rejected": rejected})).items
    assert pair.prompt == (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    assert (pair.chosen, pair.rejected) == ("d\n\ne", "f")


def test_sides_with_different_prompts_are_an_error(file):
    row = {"chosen": [ASK, ANSWER], "rejected": [{"role": "user", "content": "Ho"}, OTHER]}
    with pytest.raises(DataError, match="differ before the last turn, at turn 1"):
        read_pairs(file(row))
    longer = {"chosen": [ASK, ANSWER, ASK, ANSWER], "rejected": [ASK, OTHER]}
    with pytest.raises(DataError, match="in length, 4 and 2 turns"):
        read_pairs(file(longer))


def test_a_prompt_that_is_not_in_the_conversation_is_an_error(file):
    with pytest.raises(DataError, match="is not what the assistant answers"):
        read_pairs(file({"prompt": "Ho", "chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]}))


def test_plain_chosen_and_rejected_without_a_prompt_ask_for_the_prompt(file):
    with pytest.raises(DataError, match="no known format of preference pairs") as caught:
        read_pairs(file({"question_text": "q", "chosen": "good", "rejected": "bad"}))
    assert '"prompt": "<your column>"' in caught.value.fix


# Other kinds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "meaning"), [(True, True), (0, False), ("yes", True), ("False", False), (1.0, True), ("0", False)]
)
def test_yes_no_labels(file, label, meaning):
    path = file({"prompt": "p", "completion": "c", "label": label})
    assert read_labelled(path).items == (Labelled("p", "c", meaning),)
    chat = file({"messages": [ASK, ANSWER], "label": label}, name="chat.jsonl")
    assert read_labelled(chat).items == (Labelled(CHAT, "good", meaning),)


@pytest.mark.parametrize("label", [2, "maybe", -1, [1]])
def test_a_label_that_is_neither_yes_nor_no_is_an_error(file, label):
    with pytest.raises(DataError) as caught:
        read_labelled(file({"prompt": "p", "completion": "c", "label": label}))
    assert "field 'label'" in caught.value.where


def test_pairs_as_labels(file):
    loaded = read_labelled(file(PAIR))
    assert loaded.items == (Labelled("Hi", "good", True), Labelled("Hi", "bad", False))
    assert loaded.report.notes == ("each pair gives a yes and a no",)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "p", "completion": "c"}, [Demonstration("p", "c")]),
        ({"prompt": "", "completion": "c"}, [Demonstration("", "c")]),
        ({"prompt": "p", "response": "c"}, [Demonstration("p", "c")]),
        ({"prompt": [ASK], "completion": [ANSWER]}, [Demonstration(CHAT, "good")]),
        ({"messages": [ASK, ANSWER]}, [Demonstration(CHAT, "good")]),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "good"}]},
            [Demonstration(CHAT, "good")],
        ),
        ({"instruction": "Hi", "input": "", "output": "o"}, [Demonstration(CHAT, "o")]),
        ({"instruction": "Do", "input": "it", "output": "o"}, [Demonstration((Message("user", "Do\n\nit"),), "o")]),
        ({"instruction": "Do", "context": "it", "response": "o"}, [Demonstration((Message("user", "Do\n\nit"),), "o")]),
        ({"question": "Hi", "answer": "o"}, [Demonstration(CHAT, "o")]),
        (
            {"instruction": "Do", "instances": [{"input": "", "output": "1"}, {"input": "x", "output": "2"}]},
            [Demonstration((Message("user", "Do"),), "1"), Demonstration((Message("user", "Do\n\nx"),), "2")],
        ),
        ({"text": "t"}, [Demonstration("", "t")]),
    ],
)
def test_demonstration_formats(file, row, expected):
    loaded = read_demonstrations(file(row))
    assert list(loaded.items) == expected
    assert loaded.report.unused_columns == ()


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "p"}, "p"),
        ({"prompt": [ASK]}, CHAT),
        ({"messages": [ASK, ANSWER]}, CHAT),
        ({"messages": [ASK]}, CHAT),
        ({"turns": ["Hi", "more"]}, CHAT),
        ({"instruction": "Hi"}, CHAT),
        ({"chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]}, CHAT),
        ({"chosen": "\n\nHuman: Hi\n\nAssistant: ", "rejected": "\n\nHuman: Hi\n\nAssistant: x"}, CHAT),
        (PAIR, "Hi"),
    ],
)
def test_prompt_formats(file, row, prompt):
    assert read_prompts(file(row)).items == (prompt,)


@pytest.mark.parametrize("read", [read_pairs, read_labelled, read_prompts, read_ranked])
def test_an_empty_prompt_is_only_for_demonstrations(file, read):
    row = PAIR | {"prompt": " ", "completion": "c", "label": 1, "responses": ["a", "b"], "ranks": [0, 1]}
    with pytest.raises(DataError, match="is empty") as caught:
        read(file(row))
    assert "field 'prompt'" in caught.value.where


# Columns, limit -------------------------------------------------------------------------------------------------------


def test_columns_can_be_named(file):
    row = {"question_text": "q", "win": "good", "loss": "bad", "prompt": "not this one"}
    loaded = read_pairs(file(row), columns={"prompt": "question_text", "chosen": "win", "rejected": "loss"})
    assert loaded.items == (PreferencePair("q", "good", "bad"),)
    assert loaded.report.to_dict()["columns"] == {"prompt": "question_text", "chosen": "win", "rejected": "loss"}
    assert loaded.report.unused_columns == ("prompt (the file's own)",)  # what gave way is said


def test_the_chosen_side_can_be_read_as_a_demonstration(file):
    assert read_demonstrations(file(PAIR), columns={"completion": "chosen"}).items == (Demonstration("Hi", "good"),)


def test_columns_can_be_exchanged(file):
    (pair,) = read_pairs(file(PAIR), columns={"chosen": "rejected", "rejected": "chosen"}).items
    assert (pair.chosen, pair.rejected) == ("bad", "good")


def test_unknown_columns_name_what_is_there_and_what_is_near(file):
    with pytest.raises(DataError) as caught:
        read_pairs(file({"prompt": "q", "chosen_response": "good", "rejected_response": "bad"}))
    text = str(caught.value)
    assert "the columns are prompt, chosen_response, rejected_response" in text
    assert 'columns={"chosen": "chosen_response", "rejected": "rejected_response"}' in text
    assert "prompt, chosen, rejected" in caught.value.expected


def test_a_column_that_the_file_has_not_is_named_with_the_nearest(file):
    with pytest.raises(DataError, match="no such column: chosen='wim'") as caught:
        read_pairs(file({"prompt": "q", "win": "g", "lose": "b"}), columns={"chosen": "wim", "rejected": "lose"})
    assert "did you mean 'win'" in caught.value.fix


def test_a_column_of_ours_that_does_not_exist_is_a_usage_error(file):
    with pytest.raises(UsageError, match="'choosen' is not one of our columns") as caught:
        read_pairs(file(PAIR), columns={"choosen": "chosen"})
    assert "did you mean 'chosen'" in caught.value.fix


def test_errors_name_the_column_of_the_file_too(file):
    with pytest.raises(DataError) as caught:
        read_pairs(file({"prompt": "q", "win": " ", "rejected": "b"}), columns={"chosen": "win"})
    assert "field 'chosen' (column 'win' of the file)" in caught.value.where


def test_limit_stops_early_and_says_so(file):
    path = file(*numbered(5), {"broken": 1})
    loaded = read_pairs(path, limit=3)
    assert [p.prompt for p in loaded.items] == ["p0", "p1", "p2"]
    assert loaded.report.limited
    assert not read_pairs(file(*numbered(5)), limit=5).report.limited
    with pytest.raises(UsageError, match="limit is 0"):
        read_pairs(path, limit=0)


def test_on_bad_has_two_values(file):
    with pytest.raises(UsageError, match="on_bad is 'ignore'"):
        read_pairs(file(PAIR), on_bad="ignore")


# Bad input ------------------------------------------------------------------------------------------------------------

GOOD = json.dumps(PAIR).encode()


def changed(**fields):
    return json.dumps(PAIR | fields).encode()


BAD_LINES = {
    "json": (b'{"prompt": "x", "chos', "not valid JSON", None),
    "list": (b"[1, 2]", "not a JSON object", None),
    "utf8": (b'{"prompt": "caf\xe9"}', "not UTF-8", None),
    "nul": (b'{"prompt": "x\0"}', "NUL bytes", None),
    "twice": (b'{"prompt": "x", "chosen": "c", "chosen": "d", "rejected": "r"}', "a field is there twice", "chosen"),
    "missing": (b'{"prompt": "x", "rejected": "r"}', "chosen is missing", "chosen"),
    "null": (changed(chosen=None), "chosen is null", "chosen"),
    "empty": (changed(chosen=" \n"), "chosen is empty", "chosen"),
    "number": (changed(chosen=4), "chosen is not text", "chosen"),
    "list of texts": (changed(rejected=["r"]), "rejected is not text", "rejected"),
    "identical": (changed(rejected="good"), "the sides are identical", "rejected"),
    "empty prompt": (changed(prompt=""), "prompt is empty", "prompt"),
    "surrogate": (changed(chosen="\ud83d"), "chosen holds half a character", "chosen"),
    "strength": (changed(strength=0.2), "strength is out of range", "strength"),
    "nan": (changed(strength=float("nan")), "strength is not a number", "strength"),
    "role": (changed(prompt=[ASK | {"role": "oracle"}]), "a turn has an unknown role", "prompt[0].role"),
    "assistant": (changed(prompt=[ASK, ANSWER]), "the prompt does not end with a user turn", "prompt"),
    "no turns": (changed(prompt=[]), "prompt is not a conversation", "prompt"),
    "image": (
        changed(prompt=[ASK | {"content": [{"type": "image"}]}]),
        "a turn holds a part that is no text (image)",
        "prompt[0].content[0]",
    ),
    "deep": (b"[" * 100_000, "not valid JSON", None),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_an_error_with_its_number_or_skipped_and_counted(tmp_path, name):
    line, reason, field = BAD_LINES[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([GOOD] * 16 + [line] + [GOOD] * 3) + b"\n")
    with pytest.raises(DataError) as caught:
        read_pairs(path)
    assert caught.value.where == (f"{path}:17: field {field!r}" if field else f"{path}:17")
    assert caught.value.expected
    loaded = read_pairs(path, on_bad="skip")
    assert {why: n.to_dict() for why, n in loaded.report.skipped.items()} == {reason: {"count": 1, "lines": [17]}}
    assert loaded.report.rows == 20
    assert len(loaded.items) == 19
    assert loaded.report.duplicates.to_dict() == {"count": 18, "lines": [*range(2, 17), *range(18, 21)]}


def test_a_bad_first_line_does_not_decide_the_format(tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", [{"prompt": "x", "rejected": "r"}, PAIR, PAIR])
    with pytest.raises(DataError, match="no such field") as caught:
        read_pairs(path)
    assert caught.value.where == f"{path}:1: field 'chosen'"
    assert len(read_pairs(path, on_bad="skip")) == 2


def test_byte_order_mark_crlf_and_blank_lines_are_accepted_and_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n" + GOOD + b"\r\n")
    report = read_pairs(path).report
    assert (report.bom, report.crlf_lines, report.blank_lines, report.items) == (True, 3, 1, 2)
    plain = read_pairs(jsonl(tmp_path / "plain.jsonl", [PAIR])).report
    assert (plain.bom, plain.crlf_lines, plain.blank_lines) == (False, 0, 0)


def test_crlf_leaves_no_carriage_return_in_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n<|endoftext|>\r\nthree\r\n")
    assert read_texts(tmp_path / "a.txt").items == ("one\ntwo", "three")
    (tmp_path / "a.csv").write_bytes(b'prompt,completion\r\np,"one\r\ntwo"\r\n')
    assert read_demonstrations(tmp_path / "a.csv").items == (Demonstration("p", "one\ntwo"),)


def test_a_line_with_several_findings_is_named_once(file):
    row = {"prompt": "p", "responses": ["w", "x", "y", "z"], "ranks": [0, 0, 0, 1]}
    assert read_pairs(file(row)).report.left_out["a tie"].to_dict() == {"count": 3, "lines": [1]}


def test_a_torn_gzip_is_refused_whatever_was_readable(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress(b"\n".join(json.dumps(r).encode() for r in numbered(500)))
    path.write_bytes(whole[: len(whole) // 2])
    for on_bad in ("error", "skip"):
        with pytest.raises(DataError, match="cut off or damaged"):
            read_pairs(path, on_bad=on_bad)
    path.write_bytes(GOOD)
    with pytest.raises(DataError, match="cut off or damaged"):
        read_pairs(path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_an_empty_file_is_an_error(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="the source is empty"):
        read_demonstrations(tmp_path / name)


def test_a_file_of_which_nothing_is_left_is_an_error(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [PAIR | {"rejected": "good"}] * 3)
    with pytest.raises(DataError, match=r"the sides are identical: 3 \(line 1, 2, 3\)"):
        read_pairs(path, on_bad="skip")


def test_only_lines_that_are_no_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("one\ntwo\n")
    with pytest.raises(DataError, match="not valid JSON") as caught:
        read_pairs(path)
    assert caught.value.where == f"{path}:1"
    with pytest.raises(DataError, match=r"none of its 2 rows .* not valid JSON: 2 \(line 1, 2\)"):
        read_pairs(path, on_bad="skip")


@pytest.mark.parametrize("name", ["a.docx", "a", "a.gz", "a.parquet.gz", "a.jsonl.zst"])
def test_an_unknown_extension_lists_the_known_ones(tmp_path, name):
    (tmp_path / name).write_bytes(GOOD)
    with pytest.raises(DataError, match="extension") as caught:
        read_pairs(tmp_path / name)
    assert ".jsonl" in caught.value.expected


def test_a_path_that_is_not_there_suggests_the_nearest(file, tmp_path):
    file(PAIR, name="pairs.jsonl")
    with pytest.raises(DataError, match="no such file") as caught:
        read_pairs(tmp_path / "pair.jsonl")
    assert "pairs.jsonl" in caught.value.fix
    with pytest.raises(DataError, match="there is no folder"):
        read_pairs(tmp_path / "x" / "pair.jsonl")
    with pytest.raises(DataError) as caught:
        read_pairs("owner/name")
    assert caught.value.fix == "for a dataset of the Hugging Face hub write hf:owner/name"


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        ("prompt,chosen,rejected\np,c\n", "2 cells and the header 3", 2),
        ('prompt,chosen,rejected\np,"c,r\n', "not valid CSV", 2),
        ("prompt,chosen,chosen\np,c,r\n", "columns repeat", 1),
        ("prompt,chosen,rejected\np,c,r\0\n", "NUL bytes", 2),
    ],
)
def test_bad_csv(tmp_path, content, message, line):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_pairs(path)
    assert caught.value.where == f"{path}:{line}"


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        ('[{"prompt": "a"},\n {"prompt"', "not valid JSON", 2),
        ('[{"prompt": "a"}\n {"prompt": "b"}]', "found", 2),
        ('[{"prompt": "a"}', "not closed", 1),
        ('[{"prompt": "a", "prompt": "b"}]', "twice", 1),
        ('[{"prompt": "a"},\n 7]', "found 7", 2),
    ],
)
def test_bad_json_arrays(tmp_path, content, message, line):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_prompts(path)
    assert caught.value.where.startswith(f"{path}:{line}")


def test_utf16_and_text_behind_an_array(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"prompt": "a"}] more')
    with pytest.raises(DataError, match="text behind the array"):
        read_prompts(path)
    path.write_text('[{"prompt": "a"}]', encoding="utf-16")
    with pytest.raises(DataError, match="UTF-16"):
        read_prompts(path)


def test_damaged_parquet(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="not a whole Parquet file"):
        read_pairs(tmp_path / "a.parquet")


def test_columns_that_nobody_read_are_reported(file):
    loaded = read_pairs(file(PAIR | {"model": "m"}, PAIR | {"time": 3}))
    assert loaded.report.unused_columns == ("model", "time")


@pytest.mark.parametrize("spelled", ['["fair", "good"]', "['fair', 'good']"])
def test_csv_cells_may_spell_lists(tmp_path, spelled):
    file = tmp_path / "ranked.csv"
    quoted = spelled.replace('"', '""')
    file.write_text(f'prompt,responses,ranks\nWhich?,"{quoted}","[1, 0]"\n', encoding="utf-8")
    (found,) = read_pairs(file).items
    assert (found.chosen, found.rejected) == ("good", "fair")


def test_csv_cells_may_spell_chat_turns_and_other_brackets_stay_text(tmp_path):
    file = tmp_path / "chat.csv"
    turns = json.dumps([{"role": "user", "content": "Hi"}]).replace('"', '""')
    file.write_text(f'prompt,chosen,rejected\n"{turns}","[1, 2]","[{{not json"\n', encoding="utf-8")
    (found,) = read_pairs(file).items
    assert found.prompt == (Message("user", "Hi"),)
    assert (found.chosen, found.rejected) == ("[1, 2]", "[{not json")


def test_a_csv_cell_that_is_no_list_is_named(tmp_path):
    file = tmp_path / "ranked.csv"
    file.write_text('prompt,responses,ranks\nWhich?,"[fair, good","[1, 0]"\n', encoding="utf-8")
    with pytest.raises(DataError, match="expected: a list"):
        read_pairs(file)


# Ids ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [("conv-1", "conv-1"), (7, "7"), (0, "0"), (-3, "-3"), (10**30, str(10**30)), ("0", "0"), (" a ", " a ")],
)
def test_an_id_is_text_or_a_whole_number(file, given, name):
    (pair,) = read_pairs(file(PAIR | {"pair_id": given, "origin": [given, "b"]})).items
    assert (pair.pair_id, pair.origin) == (name, (name, "b"))
    assert pair.key == PreferencePair("Hi", "good", "bad").key


@pytest.mark.parametrize("given", [None, "", "  "])
def test_no_id_is_the_key(file, given):
    (pair,) = read_pairs(file(PAIR | {"pair_id": given, "origin": given})).items
    assert pair.pair_id == pair.key
    assert pair.origin == ()


@pytest.mark.parametrize("given", [1.0, 0.5, True, False, [], ["a"], {}, {"a": 1}, float("nan"), "half \ud83d"])
def test_other_ids_are_refused_alike(file, given):
    with pytest.raises(DataError, match=r"half a character|is ") as caught:
        read_pairs(file(PAIR | {"pair_id": given}))
    assert "field 'pair_id'" in caught.value.where
    assert len(read_pairs(file(PAIR | {"pair_id": given}, PAIR), on_bad="skip").items) == 1


def test_ids_are_the_same_from_every_container(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row | {"pair_id": n} for n, row in enumerate(numbered(3))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for path in (*containers(tmp_path, rows), tmp_path / "a.parquet"):
        assert [p.pair_id for p in read_pairs(path).items] == ["0", "1", "2"], path


def test_repeated_ids_are_said(file):
    said = []
    rows = [PAIR | {"pair_id": "x"}, PAIR | {"pair_id": "x"}, PAIR | {"pair_id": "x", "chosen": "other"}]
    report = read_pairs(file(*rows), tell=said.append).report
    assert report.repeated_ids.lines == [3]  # the second row is the same pair once more
    assert report.duplicates.lines == [2]
    assert "pair_id repeats with other content: 1 (line 3)" in said[0]


# Columns that are not used, and those that were not ------------------------------------------------------------------

BEFORE = (Message("user", "q"), Message("assistant", "a"))


@pytest.mark.parametrize(
    "history",
    [
        [["q", "a"]],
        [("q", "a")],
        '[["q", "a"]]',
        "[['q', 'a']]",
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    ],
)
@pytest.mark.parametrize("column", ["instruction", "question"])
def test_earlier_turns_come_before_the_question(file, history, column):
    more = {column: "and?", "system": "Be kind.", "history": history, "input": "of this"}
    turns = (Message("system", "Be kind."), *BEFORE, Message("user", "and?\n\nof this"))
    for read, row in (
        (read_pairs, {"chosen": "good", "rejected": "bad"}),
        (read_demonstrations, {"response": "o"}),
        (read_prompts, {}),
        (read_labelled, {"completion": "c", "label": True}),
        (read_ranked, {"responses": ["x", "y"], "ranks": [1, 2]}),
        (read_pairs, {"output_1": "x", "output_2": "y", "label": 2}),
    ):
        loaded = read(file(more | row))
        item = loaded.items[0]
        assert (item if read is read_prompts else item.prompt) == turns
        assert loaded.report.unused_columns == ()


@pytest.mark.parametrize("history", [None, [], "", "[]"])
def test_no_earlier_turns(file, history):
    loaded = read_prompts(file({"instruction": "and?", "history": history}))
    assert loaded.items == ((Message("user", "and?"),),)
    assert loaded.report.unused_text == {}


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([["q"]], "is no list of earlier turns|is"),
        ([["q", 3]], "is 3, a number"),
        (["q", "a"], "is"),
        ([["q", ""]], "is empty"),
        ([{"role": "user", "content": "q"}], "ends with a turn by user"),
        ([{"role": ["user"], "content": "q"}], "is"),
    ],
)
def test_earlier_turns_that_are_none_are_refused(file, history, message):
    with pytest.raises(DataError, match=message) as caught:
        read_prompts(file({"instruction": "and?", "history": history}))
    assert "field 'history" in caught.value.where


def test_text_and_lists_that_are_not_used_are_told(file):
    said = []
    rows = [
        PAIR
        | {"system": "Be kind.", "history": [["q", "a"]], "notes": "", "grade": 3, "conv_id": "c", "split": "train"},
        PAIR | {"system": "", "history": [], "notes": "read me", "grade": 4, "chosen": "other"},
    ]
    loaded = read_pairs(file(*rows), tell=said.append)
    # A prompt that is text is used as it stands: there is no turn that a system text could stand before.
    assert [line.split(": ", 1)[1] for line in said] == [
        "column 'system' is not used; it holds text or lists in 1 of 2 rows, from line 1 on",
        "column 'history' is not used; it holds text or lists in 1 of 2 rows, from line 1 on",
        "column 'notes' is not used; it holds text or lists in 1 of 2 rows, from line 2 on",
    ]
    assert set(loaded.report.unused_columns) == {"system", "history", "notes", "grade", "conv_id", "split"}


def test_a_context_that_is_no_text_is_told(file):
    said = []
    row = {"question": "q", "answer": "a", "context": {"title": ["x"]}}
    assert read_demonstrations(file(row), tell=said.append).items == (Demonstration((Message("user", "q"),), "a"),)
    assert "column 'context' is not used" in said[0]


# Ratings, trees, numbers ----------------------------------------------------------------------------------------------


def test_ultrafeedback_as_it_is_published(file):
    def said(text, overall, **axes):
        ratings = {axis: {"Rating": str(v), "Rationale": "because"} for axis, v in axes.items()}
        return {"response": text, "model": "m", "overall_score": overall, "annotations": ratings, "critique": "c"}

    row = {
        "source": "s",
        "instruction": "Hi",
        "models": ["m"],
        "completions": [said("x", 7.5, a=1), said("y", 8.0, a=1)],
    }
    (pair,) = read_pairs(file(row)).items
    assert (pair.chosen, pair.rejected) == ("y", "x")
    without = row | {"completions": [one | {"overall_score": None} for one in row["completions"]]}
    assert read_pairs(file(without, row)).report.left_out["a tie"].lines == [1]  # both have 1 on the axis


@pytest.mark.parametrize(
    ("rows", "left_out"),
    [
        ([{"completion": "x", "rating": {"a": 1, "b": 9}}, {"completion": "y", "rating": {"a": 2}}], {}),
        ([{"response": "x", "score": "1"}, {"response": "y", "score": 2.5}], {}),
        ([{"answer": "x", "scores": {"a": "N/A", "b": 2}}, {"answer": "y", "scores": {"b": 3}}], {}),
        (
            [{"answer": "x", "scores": {"a": 2}}, {"answer": "y", "scores": {"b": 3}}, {"answer": "z", "scores": {}}],
            {"responses that were rated on different axes": 1, "a response without a rating": 1},
        ),
    ],
)
def test_one_rated_response_a_row(file, rows, left_out):
    path = file(*({"prompt": "p"} | row for row in rows))
    if left_out:
        with pytest.raises(DataError, match="none of its 3 rows gives preference pairs"):
            read_pairs(path)
        return
    loaded = read_pairs(path)
    assert [(p.chosen, p.rejected) for p in loaded.items] == [("y", "x")]


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("hold", [1, 7, 1000])
def test_ratings_that_are_gathered_in_portions_are_the_same(file, tmp_path, hold, array):
    rows = [{"prompt": f"p{n % 7}", "completion": f"text {n}", "rating": n % 3} for n in range(60)]
    rows = [*rows, {"prompt": "p0", "completion": "", "rating": 1}, {"prompt": "p0", "other": 2}, *rows[:5]]
    path = tmp_path / "array.json" if array else file(*rows)
    if array:
        path.write_text(json.dumps(rows))  # on one line
    whole = read_pairs(path, on_bad="skip")
    portions = Reading(path, "preference pairs", on_bad="skip", hold=hold)
    found = list(portions.each())
    assert sorted((line, item.key) for line, item in found) == sorted(
        (line, item.key) for line, item in zip(whole.lines, whole.items, strict=True)
    )
    for counts in ("rows", "items", "skipped"):
        assert getattr(portions.report, counts) == getattr(whole.report, counts)
    assert portions.report.left_out["a tie"].count == whole.report.left_out["a tie"].count


def test_single_ratings_say_what_they_can_train(file):
    with pytest.raises(DataError, match="a prompt with one rated response: 2") as caught:
        read_pairs(file(*({"prompt": p, "completion": "c", "rating": 3} for p in "pq")))
    assert "trueup kto" in caught.value.fix


def test_ratings_under_other_names_are_asked_for(file):
    row = {"prompt": "p", "response": "x", "helpfulness": 4, "correctness": 3}
    with pytest.raises(DataError, match="no known format") as caught:
        read_pairs(file(row))
    assert 'columns={"rating": "<your column>"}' in caught.value.fix
    other = row | {"response": "y", "helpfulness": 1}
    (pair,) = read_pairs(file(row, other), columns={"rating": "helpfulness"}).items
    assert (pair.chosen, pair.rejected) == ("x", "y")


def test_prompts_of_other_data_name_what_is_not_used_in_one_line(file):
    said = []
    read_prompts(file(PAIR | {"notes": "n"}), tell=said.append)
    assert [line.split(": ", 1)[1] for line in said] == ["columns not used for prompts: 'chosen', 'rejected', 'notes'"]


def test_unranked_responses_are_left_out(file):
    loaded = read_ranked(file({"prompt": "p", "responses": ["x", "y", "z"], "ranks": [2, None, 1]}))
    assert loaded.items == (Ranked("p", ("x", "z"), (1, 0)),)
    assert loaded.report.left_out["a response without a rank"].count == 1


LEAF = {"role": "assistant", "text": "a", "rank": 0, "replies": []}


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ({"role": ["prompter"], "text": "t"}, r"is \['prompter'\]"),
        ({"role": "judge", "text": "t"}, "is 'judge'"),
        ({"role": "prompter", "text": "t", "replies": 3}, "is 3"),
        ({"role": "prompter", "text": "t", "replies": {"a": 1}}, "is {"),
        ({"role": "prompter", "text": "t", "replies": [LEAF, "b"]}, "is "),
        ({"role": "prompter", "text": None, "replies": [LEAF, LEAF]}, "is None"),
        ({"role": "prompter", "text": "t", "replies": [LEAF, LEAF | {"rank": [1]}]}, r"is \[1\]"),
        ({"role": "prompter", "text": "t", "replies": [LEAF, LEAF | {"rank": 10**400}]}, "is 1000"),
        ({"role": "prompter", "text": "t", "replies": [LEAF, LEAF | {"role": {"x": 1}, "replies": [LEAF]}]}, "is {"),
        ("no tree", "is 'no tree'"),
    ],
)
def test_odd_message_trees_are_errors_with_their_line(file, root, message):
    sound = {"prompt": {"role": "prompter", "text": "t", "replies": [LEAF, LEAF | {"text": "b", "rank": 1}]}}
    path = file(sound, sound, {"prompt": root})
    with pytest.raises(DataError, match=message) as caught:
        read_pairs(path)
    assert caught.value.where.startswith(f"{path}:3: field ")


@pytest.mark.parametrize("number", [10**400, -(10**400), 1e999, "1e999", float("nan"), "ten", True, [1], None])
def test_numbers_that_are_none_are_errors_with_their_line(file, number):
    for row in (
        {"prompt": "p", "responses": ["a", "b"], "ratings": [number, 2]},
        {"prompt": "p", "responses": ["a", "b"], "ranks": [1, [number]]},
        PAIR | {"strength": number if number is not None else "none"},
    ):
        path = file(row)
        with pytest.raises(DataError) as caught:
            read_pairs(path)
        if number is not None or "ratings" not in row:
            assert caught.value.where.startswith(f"{path}:1: field ")


def test_the_name_of_a_field_may_not_hold_half_a_character(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "p", "chosen": "a", "rejected": "b", "x\\ud83d": 1}\n')
    with pytest.raises(DataError, match="half a character in its name") as caught:
        read_pairs(path)
    assert caught.value.where == f"{path}:1"


# Arrays that are read in pieces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_many_pieces_is_read_as_its_lines_are(tmp_path, indent, monkeypatch):
    monkeypatch.setattr("trueup.data.containers._CHUNK", 7)  # cuts numbers, escapes and characters of several bytes
    rows = [
        PAIR | {"chosen": 'né \u2028 \\ "q" \U0001f600' * n, "strength": 0.75, "pair_id": 123456789} for n in (1, 9)
    ]
    rows += [PAIR | {"more": [1.25e-7, -0.5, True, None, {"a": [{}]}]}]
    path = tmp_path / "a.json"
    for ascii_only in (True, False):
        path.write_text("\n " + json.dumps(rows, indent=indent, ensure_ascii=ascii_only) + " \n", encoding="utf-8")
        loaded = read_pairs(path)
        assert loaded.items == read_pairs(jsonl(tmp_path / "b.jsonl", rows)).items
        if indent:
            whole = path.read_text(encoding="utf-8").split("\n")
            assert [whole[line - 1].strip() for line in loaded.lines] == ["{"] * 3


@pytest.mark.parametrize("chunk", range(1, 9))
def test_a_number_is_not_cut_between_two_pieces(tmp_path, chunk, monkeypatch):
    monkeypatch.setattr("trueup.data.containers._CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([PAIR, 12345, -1.5e10, PAIR | {"chosen": "other"}]))
    report = read_pairs(path, on_bad="skip").report
    assert (report.rows, report.items, report.skipped["not a JSON object"].count) == (4, 2, 2)


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_an_array_that_is_cut_anywhere_is_an_error(tmp_path, cut):
    whole = json.dumps([PAIR, PAIR | {"strength": 0.75}], indent=1)
    path = tmp_path / "a.json"
    path.write_text(whole[:-cut])
    with pytest.raises(DataError, match=r"not valid JSON|not closed") as caught:
        read_pairs(path)
    assert caught.value.where.startswith(f"{path}:")


def test_a_bad_byte_in_an_array_names_its_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'[\n{"prompt": "p"},\n{"prompt": "caf\xe9"}\n]')
    with pytest.raises(DataError, match="byte 0xe9 at byte 16 of the line") as caught:
        read_prompts(path)
    assert caught.value.where == f"{path}:3"


def test_a_pipe_is_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        read_pairs(tmp_path / "a.jsonl")


@pytest.mark.parametrize("weight", [1e308, 1e-320])
def test_weights_whose_sums_are_no_numbers_are_refused_by_line(file, weight):
    row = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    with pytest.raises(DataError, match=r"between 1e-09 and 1e.09") as caught:
        read_pairs(file(row, row | {"weight": weight}))
    assert caught.value.where.endswith(":2: field 'weight'")


@pytest.mark.parametrize(("spelled", "says"), [("prompt;chosen;rejected\na;b;c\n", "';' in it"),
                                               ("prompt\tchosen\trejected\na\tb\tc\n", "named .tsv")])  # fmt: skip
def test_a_table_with_other_marks_between_its_cells_is_told_apart(tmp_path, spelled, says):
    path = tmp_path / "rows.csv"
    path.write_text(spelled)
    with pytest.raises(DataError, match="the header is one cell") as caught:
        read_pairs(path)
    assert says in str(caught.value)


@pytest.mark.parametrize("names", [["data"], ["train", "test"]])
def test_rows_inside_of_one_object_are_pointed_to(tmp_path, names):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({name: [{"prompt": "Hi", "chosen": "a", "rejected": "b"}] for name in names}))
    with pytest.raises(DataError, match="the whole file is one object") as caught:
        read_pairs(path)
    assert f"jq '.{names[0]}'" in caught.value.fix
