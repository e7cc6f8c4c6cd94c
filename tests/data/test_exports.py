"""What ``trueup feedback export`` writes is read by our own readers, or refused with the command that it needs."""

import itertools

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.feedback.exchange.crowds import projects
from trueup.data.read import read_labelled, read_pairs, read_ranked
from trueup.errors import DataError
from trueup.feedback.exchange.formats import write_out
from trueup.feedback.store.records import ItemRow, Judged, JudgmentRow, ResponseRow
from trueup.types import Labelled, Message, PreferencePair, Ranked

CHAT = (Message("user", "Hi"),)
often = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def project(kind, *answers, prompt=CHAT):
    """Texts a, b, c to judge in one item (in one each, for kinds of one response), and each answer by a person."""
    texts = [ResponseRow(f"r{t}", t) for t in "abc"]
    groups = [texts[:2]] if kind == "pairwise" else [texts] if kind == "ranking" else [[t] for t in texts]
    items = {f"i{n}": ItemRow(f"i{n}", kind, "main", "train", "p", prompt, tuple(g)) for n, g in enumerate(groups)}
    at = itertools.count()
    judged = tuple(
        JudgmentRow(f"j{n}{name}", item, name, answer, (), f"2026-01-01T00:00:{next(at):02d}+00:00")
        for n, (item, name, answer) in enumerate(answers)
    )
    return Judged("p", items, judged)


def rating(text, **scores):
    return {"response": f"r{text}", "scores": scores}


@pytest.mark.parametrize("prompt", ["plain", CHAT])
def test_ratings_by_axis_become_pairs(tmp_path, prompt):
    judged = project(
        "rating",
        ("i0", "ann", rating("a", helpful=2, kind=4)),
        ("i1", "ann", rating("b", helpful=5, kind=3)),
        ("i2", "ann", rating("c", helpful=3)),
        ("i0", "bob", rating("a", helpful=1)),
        ("i1", "cy", rating("b", kind=1)),
        ("i2", "cy", rating("c", helpful=4)),
        prompt=prompt,
    )
    path = write_out(judged, tmp_path / "out.jsonl", "ultrafeedback").path
    loaded = read_pairs(path)
    asked = (Message("user", prompt),) if isinstance(prompt, str) else prompt  # an instruction is a user turn
    # Ann rated all three, and on "helpful" each: 2, 5, 3. Bob rated one; Cy two, on different axes.
    assert [(p.prompt, p.chosen, p.rejected) for p in loaded.items] == [
        (asked, *sides) for sides in (("b", "a"), ("c", "a"), ("b", "c"))
    ]
    assert {why: n.count for why, n in loaded.report.left_out.items()} == {
        "a prompt with one rated response": 1,
        "responses that were rated on different axes": 1,
    }


def test_each_verdict_comes_back_as_it_was(tmp_path):
    pairs = project("pairwise", ("i0", "ann", {"preferred": "rb", "strength": 2, "both_bad": False}))
    assert read_pairs(write_out(pairs, tmp_path / "a.jsonl", "hh").path).items[0].chosen == "b"
    (pair,) = read_pairs(write_out(pairs, tmp_path / "b.jsonl", "preference").path).items
    assert pair == PreferencePair(CHAT, "b", "a", pair.strength)
    labels = project("binary", ("i0", "ann", {"response": "ra", "acceptable": False}))
    assert read_labelled(write_out(labels, tmp_path / "c.jsonl", "kto").path).items == (Labelled(CHAT, "a", False),)
    ranks = project("ranking", ("i0", "ann", {"tiers": [["rc"], ["ra", "rb"]]}))
    (ranked,) = read_ranked(write_out(ranks, tmp_path / "d.jsonl", "ranking").path).items
    assert ranked == Ranked(CHAT, ("a", "b", "c"), (1, 1, 0))


READERS = {
    "preference": read_pairs,
    "hh": read_pairs,
    "kto": read_labelled,
    "ranking": read_ranked,
    "ultrafeedback": read_pairs,
}


def attempt(work, *arguments):
    """What ``work`` gives, or None and why not."""
    try:
        return work(*arguments), ""
    except DataError as error:
        return None, str(error)


@pytest.mark.parametrize("format", READERS)
@given(judged=projects())
@often
def test_whatever_the_texts(tmp_path_factory, format, judged):
    path = tmp_path_factory.mktemp("out") / "out.jsonl"
    # A speaker's name inside a text begins a turn when a transcript is read, as in the files that have the format.
    assume(format != "hh" or not any(name in repr(judged.items) for name in ("Human:", "Assistant:")))
    written, refusal = attempt(write_out, judged, path, format)
    if written is None:
        assert "nothing is left" in refusal
        return
    loaded, refusal = attempt(READERS[format], path)
    if loaded is None:
        assert "rows gives" in refusal  # only ties, or a single rated response to each prompt
    else:
        assert loaded.report.rows == written.rows


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("csv", "o.csv"),
        ("parquet", "o.parquet"),
        ("argilla", "o.json"),
        ("label-studio", "o.json"),
        ("judgments", "o.jsonl"),
    ],
)
def test_single_answers_are_refused_with_the_way_on(tmp_path, format, name):
    judged = project("pairwise", ("i0", "ann", {"preferred": "rb", "strength": 2, "both_bad": False}), prompt="plain")
    path = write_out(judged, tmp_path / name, format).path
    with pytest.raises(DataError, match="a file of judgments") as caught:
        read_pairs(path)
    assert "trueup feedback import FILE --format" in caught.value.fix
    assert "trueup curate" in caught.value.fix
