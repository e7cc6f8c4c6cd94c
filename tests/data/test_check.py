"""Checking files: every finding counted with its lines, none invented."""

import json
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import TEXTS
from tests.published import SOURCES, rows
from trueup.data.check import Lengths, check_file, is_mojibake
from trueup.data.similar import SIMILAR, Index, jaccard, shingles, words_of
from trueup.errors import DataError
from trueup.models.tiny import learn_tokenizer

WORDS = "river stone lamp paper cloud metal garden window signal bridge candle forest mirror engine harbor".split()


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(prompt, chosen=None, rejected=None, **more):
    sides = {"chosen": chosen or sentence(f"good {prompt}", 6), "rejected": rejected or sentence(f"bad {prompt}", 6)}
    return {"prompt": prompt, **sides, **more}


def indexed(texts):
    index = Index()
    for text in texts:
        index.add(text)
    return index


def sentence(seed, n=20):
    return " ".join(random.Random(seed).choices(WORDS, k=n))


def lines(report):
    return {name: found.lines for name, found in report.problems.items()}


def test_a_sound_file_has_no_problems(tmp_path):
    report = check_file(jsonl(tmp_path / "a.jsonl", [pair(sentence(i)) for i in range(20)]))
    assert report.problems == {}
    assert "no problems found" in report.format_text()
    assert report.prompts == 20
    assert 0.0 < report.longer_chosen < 1.0


def test_every_finding_names_its_lines(tmp_path):
    rows = [
        pair("one question about lamps and stones"),
        pair("another question about rivers", "yes, gladly", "no"),
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
    path = jsonl(tmp_path / "a.jsonl", [pair("Paris", "yes", "no"), pair("water <|end|>", "boils", "no")])
    report = check_file(path, tokenizer=tokenizer)
    _, tokens = report.lengths["rejected"]
    assert tokens.unit == "tokens"
    assert tokens.most == len(tokenizer("no", add_special_tokens=False)["input_ids"])
    assert lines(report) == {
        "encoding: spells a special token of the tokenizer (encoded as plain text)": [2],
        "prompts already went through a chat template: Phi, Zephyr or GLM (<|end|>)": [2],
    }
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
    for number, earlier in indexed(texts).near_duplicates().items():
        assert earlier < number
        assert texts[earlier] != texts[number]
        assert jaccard(shingles(texts[earlier]), shingles(texts[number])) >= SIMILAR


def test_near_duplicates_are_found():
    """200 texts, each once more with one word in forty changed at the end: Jaccard 37/39 or more."""
    texts = [sentence(i, 40) for i in range(200)]
    changed = [" ".join([*t.split()[:-1], f"new{i}"]) for i, t in enumerate(texts)]
    found = indexed([*texts, *changed]).near_duplicates()
    assert found == {200 + i: i for i in range(200)}


def test_what_another_index_has_too_or_nearly():
    base = sentence(5, 60).split()
    mine = indexed([" ".join(base), "something else", "", " ".join(base), "of one kind only here"])
    near = indexed(["quite another text of no kind", " ".join([*base[:-1], "x"])])
    assert [found.tolist() for found in mine.also_in(near)] == [[False] * 5, [True, False, False, True, False]]
    same = indexed(["something else", " ".join(base)])
    assert [found.tolist() for found in mine.also_in(same)] == [[True, True, False, True, False], [False] * 5]
    assert indexed([]).near_duplicates() == {}
    assert [found.tolist() for found in mine.also_in(indexed([]))] == [[False] * 5] * 2


# Published files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_the_share_of_longer_chosen_on_llmbar(source, tmp_path):
    """Published of the real file: the longer output is better in 0.56 of Natural and 0.1194 of Neighbor."""
    judged = rows(source, "preference/llmbar_natural_neighbor")
    for subset, share in (("Natural", 0.56), ("Neighbor", 0.1194 if source == "real" else 4 / 25)):
        some = [row for row in judged if row["subset"] == subset]
        report = check_file(jsonl(tmp_path / f"{subset}.jsonl", some))
        unequal = sum(len(row["output_1"]) != len(row["output_2"]) for row in some)
        assert report.longer_chosen == pytest.approx(share * len(some) / unequal, abs=5e-4)


def test_circles_of_preference_are_found_and_straight_orders_are_not(tmp_path):
    """Property 18."""
    straight = [pair("a straight question", "one", "two"), pair("a straight question", "two", "three")]
    circle = [pair("a round question", *sides) for sides in (("x", "y"), ("y", "z"), ("z", "x"), ("z", "w"))]
    report = check_file(jsonl(tmp_path / "a.jsonl", [*straight, pair("a straight question", "one", "three"), *circle]))
    assert report.cycles.lines == [4, 5, 6]  # the pair that leads out of the circle is not part of it
    assert "preferences that run in a circle" in report.format_text()


# Roles of columns -----------------------------------------------------------------------------------------------------


def answer(n):
    return f"It is {n}, of course: {sentence(n, 8)}."


def asked(n):
    return f"What is {n} plus {sentence(f'q{n}', 3)}?"


def sums(
    count, chosen=answer, rejected=lambda n: f"I would say that {n} {sentence(f'b{n}', 8)}.", prompt=asked, **more
):
    """Pairs with nothing wrong with them but what is asked for; each argument makes a text of the row's number."""
    return [
        {"prompt": prompt(n), "chosen": chosen(n), "rejected": rejected(n)} | {name: of(n) for name, of in more.items()}
        for n in range(1, count + 1)
    ]


def exchanged(rows, numbers):
    return [
        row | {"chosen": row["rejected"], "rejected": row["chosen"]} if n in numbers else row
        for n, row in enumerate(rows, 1)
    ]


def test_sound_columns_raise_no_suspicion(tmp_path):
    assert lines(check_file(jsonl(tmp_path / "a.jsonl", sums(40)))) == {}


def test_one_side_that_begins_like_the_other_is_no_exchange(tmp_path):
    """Only where both sides do is it more than a matter of wording."""
    rows = sums(40, chosen=lambda n: f"I would say that {n} {sentence(n, 8)}." if n in (5, 17) else answer(n))
    rows[7] |= {"rejected": f"It is said: {sentence('r', 8)}."}
    assert lines(check_file(jsonl(tmp_path / "a.jsonl", rows))) == {}


ALL = list(range(1, 21))
SUSPECT = {
    "chosen is the prompt": (lambda: sums(20, chosen=lambda n: asked(n) if n == 3 else answer(n)), [3]),
    "chosen begins with the prompt": (
        lambda: sums(20, chosen=lambda n: f"{asked(n)} {answer(n)}" if n < 3 else answer(n)),
        [1, 2],
    ),
    "chosen and rejected begin with the prompt": (
        lambda: sums(
            20, chosen=lambda n: f"{asked(n)}\n{answer(n)}", rejected=lambda n: f"{asked(n)} Sad {sentence(n, 9)}."
        ),
        ALL,
    ),
    "the prompt holds the text of rejected": (
        lambda: sums(
            20, rejected=lambda n: f"A {sentence(f'r{n}', 7)}.", prompt=lambda n: f"A {sentence(f'r{n}', 7)}. Right?"
        ),
        ALL,
    ),
    "rejected is the same text in most rows": (
        lambda: sums(20, rejected=lambda n: "This is what I always say." if n > 5 else f"I {sentence(n, 9)}."),
        list(range(6, 21)),
    ),
    "prompt is the same text in most rows": (lambda: sums(20, prompt=lambda n: "Go on with the story."), ALL),
    "rejected stands for no answer, as 'N/A'": (
        lambda: sums(20, rejected=lambda n: "N/A" if n == 4 else "- none -" if n == 9 else f"I {sentence(n, 9)}."),
        [4, 9],
    ),
    "chosen begins with a speaker's name, as 'Assistant:'": (
        lambda: sums(20, chosen=lambda n: f"Assistant: {answer(n)}" if n == 7 else answer(n)),
        [7],
    ),
    "chosen goes on with a turn by the user": (
        lambda: sums(20, chosen=lambda n: answer(n) + ("\n\nHuman: and then?" if n == 7 else "")),
        [7],
    ),
    "chosen holds HTML": (
        lambda: sums(20, chosen=lambda n: f"<p>{answer(n)}</p>" if n == 2 else answer(n) + " Tom &amp; I." * (n == 5)),
        [2, 5],
    ),
    "rejected is a list or an object spelled as text": (
        lambda: sums(
            20,
            rejected=lambda n: {2: "['a b', 'c']", 3: '{"content": "x"}', 4: "[{'role': 'user'} {'role': 'a'}]"}.get(
                n, f"I {sentence(n, 9)}."
            ),
        ),
        [2, 3, 4],
    ),
    "prompt looks like an identifier": (lambda: sums(20, prompt=lambda n: f"conv-{n}"), ALL),
    "chosen looks like an identifier": (
        lambda: sums(20, chosen=lambda n: f"{n:08d}-0000-4000-8000-000000000000"),
        ALL,
    ),
    "rejected is the chosen answer to another prompt": (lambda: sums(20, rejected=lambda n: answer(n % 20 + 1)), ALL),
    "chosen gives no answer and rejected does: are the sides exchanged?": (
        lambda: sums(20, chosen=lambda n: f"I do not know, number {n}.", rejected=answer),
        ALL,
    ),
    "chosen begins as rejected does elsewhere, and rejected as chosen: exchanged?": (
        lambda: exchanged(sums(40), {5, 17, 18}),
        [5, 17, 18],
    ),
    "chosen is nearly always more than twice as long as rejected": (
        lambda: sums(
            20, chosen=lambda n: f"It is {n}. {sentence(n, 40)}.", rejected=lambda n: f"I say {sentence(n, 4)}."
        ),
        ALL,
    ),
    "only chosen begins with white space: the form gives the side away": (
        lambda: sums(20, chosen=lambda n: f" {answer(n)}"),
        ALL,
    ),
    "only rejected breaks off without a full stop: the form gives the side away": (
        lambda: sums(20, rejected=lambda n: f"I would say that {sentence(n, 9)}"),
        ALL,
    ),
    "chosen breaks off at 60 characters": (
        lambda: sums(20, chosen=lambda n: f"It is {n} {sentence(n, 30)}"[:60] if n < 8 else f"It is {n}."),
        list(range(1, 8)),
    ),
    "chosen asks and the prompt does not: are the columns mixed up?": (
        lambda: sums(20, chosen=asked, prompt=lambda n: f"{n} {sentence(n, 9)}."),
        ALL,
    ),
    "a score of the rejected response is above that of the chosen one": (
        lambda: sums(20, score_chosen=lambda n: 5.0, score_rejected=lambda n: 9 if n == 6 else 1),
        [6],
    ),
    "chosen holds markers of a chat template (ChatML)": (
        lambda: sums(20, chosen=lambda n: answer(n) + ("<|im_end|>" if n == 6 else "")),
        [6],
    ),
}


@pytest.mark.parametrize("finding", SUSPECT)
def test_columns_that_are_not_what_their_names_say(tmp_path, finding):
    make, expected = SUSPECT[finding]
    report = check_file(jsonl(tmp_path / "a.jsonl", make()))
    found = lines(report)
    assert found.get(finding) == expected, found
    assert f"! {finding}: {len(expected)} (line " in report.format_text()
    assert (report.to_dict()["structure"] | report.to_dict()["read"]["doubts"])[finding]["count"] == len(expected)


@pytest.mark.parametrize(
    "scores",
    [
        {"chosen_score": 1, "rejected_score": "2.5"},
        {"rating_chosen": "3", "rating_rejected": "4"},
        {"chosen-rating": 1.0, "rejected-rating": 5.0},
        {"margin": -0.25},
    ],
)
def test_scores_that_contradict_the_sides_by_any_name(tmp_path, scores):
    path = jsonl(tmp_path / "a.jsonl", [sums(1)[0] | scores, sums(2)[1]])
    assert lines(check_file(path)) == {"a score of the rejected response is above that of the chosen one": [1]}


def test_labels_that_are_all_the_same(tmp_path):
    rows = [{"prompt": asked(n), "completion": answer(n), "label": True} for n in range(8)]
    assert lines(check_file(jsonl(tmp_path / "a.jsonl", rows))) == {"every label is yes": list(range(1, 9))}


def test_repeated_ids_are_said_and_a_repeated_row_is_a_duplicate_only(tmp_path):
    rows = sums(4, pair_id=lambda n: "conv-1" if n > 1 else "other")
    report = check_file(jsonl(tmp_path / "a.jsonl", [*rows, rows[1]]))
    assert lines(report) == {"pair_id repeats with other content (nothing goes by it)": [3, 4], "duplicates": [5]}


def test_text_that_is_not_used_is_said(tmp_path):
    rows = sums(3, notes=lambda n: "read me" if n == 2 else "", grade=float, tags=lambda n: ["x"] * (n == 3))
    text = check_file(jsonl(tmp_path / "a.jsonl", rows)).format_text()
    assert "! column 'notes' holds text and is not used: 1 (line 2)" in text
    assert "! column 'tags' holds text and is not used: 1 (line 3)" in text
    assert "columns not used: grade" in text
    assert "no problems found" not in text


# Memory ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_a_check_does_not_hold_the_file(tmp_path, name):
    """What Python allocates at its height is far below the file: rows go by one at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"prompt": sentence(n, 9), "chosen": sentence(-n, 900), "rejected": sentence(n + 0.5, 900)} for n in range(250)
    ]
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=20)
    elif name == "a.json":
        path.write_text(json.dumps(rows))
    else:
        jsonl(path, rows)
    size = sum(len(text) for row in rows for text in row.values())
    del rows
    check_file(path, against=[path])  # what is imported and cached once does not count
    tracemalloc.start()
    check_file(path)
    _, height = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert height < size / 2
