"""Checking files: every finding counted with its lines, none invented."""

import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import TEXTS
from trueup.data.check import Lengths, check_file, is_mojibake
from trueup.data.similar import SIMILAR, Similar, jaccard, near_duplicates, shingles, words_of
from trueup.errors import DataError
from trueup.models.tiny import learn_tokenizer

DATA = Path(__file__).parents[3] / "shared" / "data"
WORDS = "river stone lamp paper cloud metal garden window signal bridge candle forest mirror engine harbor".split()


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(prompt, chosen="yes, gladly", rejected="no", **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def sentence(seed, n=20):
    return " ".join(random.Random(seed).choices(WORDS, k=n))


def lines(report):
    return {name: found.lines for name, found in report.problems.items()}


def test_a_sound_file_has_no_problems(tmp_path):
    report = check_file(jsonl(tmp_path / "a.jsonl", [pair(sentence(i)) for i in range(20)]))
    assert report.problems == {}
    assert "no problems found" in report.format_text()
    assert report.prompts == 20
    assert report.longer_chosen == 1.0


def test_every_finding_names_its_lines(tmp_path):
    rows = [
        pair("one question about lamps and stones"),
        pair("another question about rivers"),
        pair("one question about lamps and stones"),  # 3: duplicate
        pair("another question about rivers", "no", "yes, gladly"),  # 4: contradicts 2
        pair("a third", "same", "same"),  # 5: identical
        pair("a fourth", "caf\u00c3\u00a9"),  # 6: mojibake
        pair("a fifth", "lost \ufffd"),  # 7: replacement
        pair("a sixth", "bell \x07"),  # 8: control
        pair("a seventh \ufeff"),  # 9: byte-order mark
        {"prompt": "an eighth", "chosen": "c"},  # 10: missing
        pair(sentence(1, 30)),
        pair(sentence(1, 30) + " indeed"),  # 12: nearly 11
        pair("tie", strength=0.5),  # 13: left out
    ]
    report = check_file(jsonl(tmp_path / "a.jsonl", rows))
    assert lines(report) == {
        "skipped: the sides are identical": [5],
        "skipped: rejected is missing": [10],
        "duplicates": [3],
        "near-duplicate prompts or texts": [12],
        "contradictions": [4],
        "encoding: UTF-8 that was read as Latin-1": [6],
        "encoding: replacement characters (U+FFFD), text was lost when it was decoded": [7],
        "encoding: control characters": [8],
        "encoding: a byte-order mark inside text": [9],
    }
    assert report.read.left_out["a tie"].lines == [13]
    text = report.format_text()
    assert "! duplicates: 1 (line 3)" in text
    assert "left out: a tie: 1 (line 13)" in text
    again = json.loads(json.dumps(report.to_dict()))
    assert again["contradictions"] == {"count": 1, "lines": [4]}
    assert again["read"]["rows"] == 13


def test_lengths_are_exact(tmp_path):
    rows = [pair("p" * (n + 1), "c" * (10 * n + 1), "r") for n in range(21)]
    report = check_file(jsonl(tmp_path / "a.jsonl", [r for r in rows if r["chosen"] != "c" * 0]))
    assert report.lengths["prompt"] == [Lengths("characters", 1, 11.0, 20.0, 21)]
    assert report.lengths["chosen"] == [Lengths("characters", 1, 101.0, 191.0, 201)]
    assert report.lengths["rejected"] == [Lengths("characters", 1, 1.0, 1.0, 1)]
    assert report.longer_chosen == 1.0  # the pair of equal lengths does not count


def test_tokens_are_measured_and_special_tokens_found_with_a_tokenizer(tmp_path):
    tokenizer = learn_tokenizer(TEXTS, 330, 96)
    path = jsonl(tmp_path / "a.jsonl", [pair("Paris"), pair("water <|end|>", "boils")])
    report = check_file(path, tokenizer=tokenizer)
    _, tokens = report.lengths["rejected"]
    assert tokens.unit == "tokens"
    assert tokens.most == len(tokenizer("no", add_special_tokens=False)["input_ids"])
    assert lines(report) == {"encoding: spells a special token of the tokenizer (encoded as plain text)": [2]}
    assert "tokens" in report.format_text()


def test_prompts_shared_with_another_split(tmp_path):
    mine = jsonl(
        tmp_path / "a.jsonl",
        [pair("What is a lamp?"), pair(sentence(3, 30)), pair("only here"), pair("What is a lamp?", "x")],
    )
    # The same prompt as a chat and in other case and punctuation; another nearly the same.
    other = jsonl(
        tmp_path / "b.jsonl",
        [
            {"instruction": "what is a LAMP", "output": "."},
            {"instruction": f"{sentence(3, 30)} too", "output": "."},
        ],
    )
    report = check_file(mine, against=[other])
    (shared,) = report.shared
    assert shared.exact.to_dict() == {"count": 2, "lines": [1, 4]}
    assert shared.near.to_dict() == {"count": 1, "lines": [2]}
    assert f"! prompts also in {other}: 2 (line 1, 4)" in report.format_text()
    assert check_file(mine, against=[jsonl(tmp_path / "c.jsonl", [{"prompt": "something else"}])]).problems == {}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (pair("p"), "preference pairs"),
        ({"prompt": "p", "completion": "c", "label": True}, "labelled responses"),
        ({"prompt": "p", "completion": "c"}, "demonstrations"),
        ({"prompt": "p"}, "prompts"),
        ({"text": "t"}, "demonstrations"),
        ({"prompt": "p", "responses": ["a", "b"], "ranks": [0, 1]}, "preference pairs"),
    ],
)
def test_the_kind_is_recognised(tmp_path, row, kind):
    assert check_file(jsonl(tmp_path / "a.jsonl", [row])).read.kind == kind


def test_labels(tmp_path):
    rows = [{"prompt": "p", "completion": c, "label": bool(label)} for c, label in (("a", 1), ("b", 1), ("a", 0))]
    report = check_file(jsonl(tmp_path / "a.jsonl", rows))
    assert report.desirable == 2 / 3
    assert lines(report) == {"contradictions": [3]}
    assert "66.7% of the responses are labelled yes" in report.format_text()


def test_columns_apply(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"q": "p", "good": "c", "rejected": "r"}])
    assert check_file(path, columns={"prompt": "q", "chosen": "good"}).read.items == 1


def test_what_no_reader_knows_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no known format of training data"):
        check_file(jsonl(tmp_path / "a.jsonl", [{"x": 1}]))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="the source is empty"):
        check_file(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    "text", ["plain", "café", "naïve Ångström", "“quotes”", "日本語", "£5 and €6", "Â is a letter", "«à»"]
)
def test_sound_text_is_not_mojibake(text):
    assert not is_mojibake(text)


@pytest.mark.parametrize("text", ["café", "“quoted”", "it’s", "£5", "日本"])
def test_mojibake_is_found(text):
    assert is_mojibake(text.encode("utf-8").decode("latin-1"))
    try:
        windows = text.encode("utf-8").decode("cp1252")
    except UnicodeDecodeError:
        return  # a byte that Windows-1252 does not define
    assert is_mojibake(windows)


# Similarity -----------------------------------------------------------------------------------------------------------


def test_words_ignore_case_punctuation_and_width():
    assert words_of("Hello,  WORLD!\n") == words_of("hello world") == words_of("ｈｅｌｌｏ—world") == "hello world"
    assert words_of("?!") == ""


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=12))
def test_near_duplicates_are_never_invented(texts):
    for number, earlier in near_duplicates(texts):
        assert earlier < number
        assert texts[earlier] != texts[number]
        assert jaccard(shingles(texts[earlier]), shingles(texts[number])) >= SIMILAR


def test_near_duplicates_are_found():
    """200 texts, each once more with one word in forty changed at the end: Jaccard 37/39 or more."""
    texts = [sentence(i, 40) for i in range(200)]
    changed = [" ".join([*t.split()[:-1], f"new{i}"]) for i, t in enumerate(texts)]
    found = dict(near_duplicates([*texts, *changed]))
    assert found == {200 + i: i for i in range(200)}


def test_the_most_similar_is_named():
    index = Similar()
    base = sentence(5, 60).split()
    for text in (" ".join([*base[:-3], "x", "y", "z"]), " ".join([*base[:-1], "x"]), "something else"):
        index.add(text)
    assert index.nearest(" ".join(base)) == 1
    assert index.nearest("nothing of the kind here") is None


# Real files -----------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.skipif(not (DATA / "README.md").exists(), reason="the shared real data is not beside the repository")
def test_the_share_of_longer_chosen_on_llmbar(tmp_path):
    """Published for these files: the longer output is better in 0.56 of Natural and 0.1194 of Neighbor."""
    with gzip.open(DATA / "preference/llmbar_natural_neighbor.jsonl.gz", "rt", encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    for subset, share in (("Natural", 0.56), ("Neighbor", 0.1194)):
        some = [row for row in rows if row["subset"] == subset]
        report = check_file(jsonl(tmp_path / f"{subset}.jsonl", some))
        unequal = sum(len(row["output_1"]) != len(row["output_2"]) for row in some)
        assert report.longer_chosen == pytest.approx(share * len(some) / unequal, abs=5e-4)


def test_property_18_circles_of_preference_are_found_and_straight_orders_are_not(tmp_path):
    straight = [pair("a straight question", "one", "two"), pair("a straight question", "two", "three")]
    circle = [pair("a round question", *sides) for sides in (("x", "y"), ("y", "z"), ("z", "x"), ("z", "w"))]
    report = check_file(jsonl(tmp_path / "a.jsonl", [*straight, pair("a straight question", "one", "three"), *circle]))
    assert report.cycles.lines == [4, 5, 6]  # the pair that leads out of the circle is not part of it
    assert "preferences that run in a circle" in report.format_text()
