"""What is written is read back: all that a format can carry, whatever the texts; the same project, the same bytes."""

import csv
import io
import json
from collections import Counter
from dataclasses import fields as fields_of
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from tests.feedback.exchange.crowds import heard, projects, told
from trueup.data.splits import SPLITS
from trueup.errors import DataError
from trueup.feedback.exchange.cases import open_cases
from trueup.feedback.exchange.fields import asked, prompt
from trueup.feedback.exchange.formats import FORMATS, read_in, write_out
from trueup.feedback.exchange.landing import land
from trueup.feedback.exchange.raw import read_judged
from trueup.feedback.snapshot.candidates import SnapshotSettings
from trueup.feedback.snapshot.selection import select_rows
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.records import TRAINABLE, Judged

often = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ALL = ("shown", "made_at", "active_ms", "rationale", "skip_reason", "surplus", "simulated", "stream", "context", "gold")


def through(judged, tmp_path, format):
    """The file read back, or None where there was nothing to write; written twice, it has the same bytes."""
    try:
        done = write_out(judged, tmp_path / "one", format)
    except DataError as error:
        if "nothing is left" not in str(error):
            raise
        return None
    first = done.path.read_bytes()
    assert write_out(Judged(judged.project, judged.items, judged.judgments), tmp_path / "two", format).rows == done.rows
    assert (tmp_path / "two").read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    return read_in(done.path, format)


@pytest.mark.parametrize("format", ["csv", "parquet"])
@given(judged=projects())
@often
def test_tables_carry_every_answer_with_its_item(format, judged, tmp_path):
    found = through(judged, tmp_path, format)
    assert [why for _, why in found.rejected if not why.startswith("repeat_of")] == []
    assert heard(found, carried=ALL) == told(judged, carried=ALL)
    assert len(found.rows) == len(judged.items)
    names = list(judged.items)
    wanted = {n: 0 for n, name in enumerate(names) if judged.items[name].repeat_of == "i0" and n}
    assert found.repeats == wanted


@given(judged=projects())
@often
def test_judgments_are_lossless(judged, tmp_path):
    found = through(judged, tmp_path, "judgments")
    again = read_judged(tmp_path / "one")
    for one in fields_of(Judged):
        if one.compare and not one.name.startswith("_"):
            assert getattr(again, one.name) == getattr(judged, one.name)
    assert found.rejected == []
    assert heard(found, carried=ALL) == told(judged, carried=ALL)


@given(judged=projects(("pairwise", "ranking", "binary", "rating", "review")))
@often
def test_argilla_carries_items_and_answers(judged, tmp_path):
    found = through(judged, tmp_path, "argilla")
    wanted = told(judged.without_surplus(), kinds=FORMATS_KINDS["argilla"], streams=TRAINABLE, carried=("rationale",))
    got = heard(found, carried=("rationale",)) if found else []
    lost = Counter(wanted) - Counter(got)  # a second answer of one person to the same texts is refused, and said
    assert set(got) <= set(wanted)
    assert all(twice(one, wanted) for one in lost)
    refused = [why for _, why in found.rejected] if found else []
    assert len(refused) == lost.total()
    assert all("answered this item before" in why for why in refused)


@given(judged=projects(("pairwise", "ranking", "binary", "rating")))
@often
def test_label_studio_carries_items_answers_and_times(judged, tmp_path):
    found = through(judged, tmp_path, "label-studio")
    carried = ("rationale", "made_at", "active_ms")
    wanted = told(judged.without_surplus(), kinds=FORMATS_KINDS["label-studio"], streams=TRAINABLE, carried=carried)
    assert found is None or found.rejected == []
    assert (heard(found, carried=carried) if found else []) == wanted
    if found:
        sides = {
            (row.item, row.annotator): [
                [one.id for one in judged.items[row.item].responses].index(name) for name in row.shown
            ]
            for row in judged.without_surplus().judgments
            if row.answer is not None and row.shown and judged.items[row.item].kind == "pairwise"
        }
        carried_items = {case.item.id for case in open_cases(judged, ("pairwise",), "label-studio", [])}
        open_sides = Counter(tuple(v) for k, v in sides.items() if k[0] in carried_items)
        assert Counter(v.shown for v in found.votes if v.shown) == open_sides


@given(judged=projects(("rating", "binary"), skips=False))
@often
def test_ultrafeedback_carries_ratings(judged, tmp_path):
    found = through(judged, tmp_path, "ultrafeedback")
    wanted = told(asking(judged.without_surplus()), kinds=("rating",), streams=TRAINABLE, carried=("rationale",))
    got = heard(found, carried=("rationale",)) if found else []
    assert found is None or found.rejected == []
    assert set(got) <= set(wanted)
    lost = Counter(wanted) - Counter(got)
    assert all(count < Counter(wanted)[one] or twice(one, wanted) for one, count in lost.items())


def asking(judged):
    """The same with plain prompts as user turns: an instruction is what a person asks."""
    items = {name: replace(item, prompt=asked(item.prompt)) for name, item in judged.items.items()}
    return replace(judged, items=items)


def twice(line, wanted):
    """Whether the same person answered for the same texts of the same prompt in another item."""
    kind, asked_, texts, _, who, *_ = json.loads(line)
    return sum(json.loads(o)[:3] == [kind, asked_, texts] and json.loads(o)[4] == who for o in wanted) > 1


FORMATS_KINDS = {
    "argilla": ("pairwise", "ranking", "binary", "rating"),
    "label-studio": ("pairwise", "binary", "rating"),
}


def verdicts(found, chat=False):
    """(prompt, chosen, rejected or ranks, split) of a file of verdicts."""
    rows = []
    for said in found.votes:
        row = found.rows[said.item]
        answer = said.answer
        if "preferred" in answer:
            chosen = row.responses[answer["preferred"]]
            rows.append((row.prompt, chosen, row.responses[1 - answer["preferred"]], row.split))
        elif "acceptable" in answer:
            rows.append((row.prompt, row.responses[0], answer["acceptable"], row.split))
        else:
            tiers = tuple(tuple(sorted(row.responses[place] for place in tier)) for tier in answer["tiers"])
            rows.append((row.prompt, tiers, "", row.split))
    return Counter(rows)


def selected(judged, format):
    """The same from what the selection chose."""
    rows = []
    for split in SPLITS:
        for row in select_rows(judged, SnapshotSettings(format)).rows[split]:
            if format == "preference":
                told_ = row["chosen"], row["rejected"]
            elif format == "kto":
                told_ = row["completion"], row["label"]
            else:
                ranks = dict(zip(row["responses"], row["ranks"], strict=True))
                levels = sorted(set(ranks.values()))
                told_ = tuple(tuple(sorted(t for t, r in ranks.items() if r == level)) for level in levels), ""
            rows.append((prompt(row["prompt"]), *told_, split))
    return Counter(rows)


@pytest.mark.parametrize(
    ("format", "kinds"),
    [("preference", ("pairwise", "review", "ranking")), ("kto", ("binary",)), ("ranking", ("ranking",))],
)
def test_training_files_carry_what_the_selection_chose(format, kinds, tmp_path):
    @given(judged=projects(kinds))
    @often
    def check(judged):
        found = through(judged, tmp_path, format)
        wanted = selected(judged, format)
        assert (verdicts(found) if found else Counter()) == wanted
        assert found is None or found.rejected == []

    check()


@given(judged=projects(("pairwise",), skips=False))
@often
def test_transcripts_say_what_they_can_and_count_the_rest(judged, tmp_path):
    found = through(judged, tmp_path, "hh")
    chosen = selected(judged, "preference")
    # White space around what is said is none of it to any reader of transcripts.
    wanted = Counter((bare(asked(p)), a.strip(), b.strip(), s) for (p, a, b, s), n in chosen.items() for _ in range(n))
    got = verdicts(found) if found else Counter()
    assert got <= wanted
    if found:
        assert found.rejected == []
        done = write_out(judged, tmp_path / "three", "hh")
        unsaid = sum("transcript" in why or "speaker" in why for _, why in done.left_out)
        assert got.total() == done.rows
        assert wanted.total() - got.total() <= unsaid + sum("turns" in why for _, why in done.left_out)
    for asked_, one, two, _ in wanted - got:
        texts = [turn.content for turn in asked_]
        roles = [turn.role for turn in asked_]
        begun = [f"\n\n{text}" for text in [*texts, *answers_of(wanted)]]
        hidden = any("\n\nHuman:" in text or "\n\nAssistant:" in text for text in begun)
        assert hidden or one == two or "system" in roles or roles != alternating(len(roles), roles[0])


def bare(turns):
    return tuple(replace(turn, content=turn.content.strip()) for turn in turns)


def answers_of(rows):
    return [text for _, one, two, _ in rows for text in (one, two)]


def alternating(count, first):
    """Roles that take turns and end with the user."""
    other = {"user": "assistant", "assistant": "user"}.get(first, "user")
    return [first if place % 2 == 0 else other for place in range(count)]


@given(judged=projects())
@often
def test_no_cell_of_a_csv_is_a_formula(judged, tmp_path):
    write_out(judged, tmp_path / "out.csv", "csv")
    content = (tmp_path / "out.csv").read_bytes().decode()
    for row in csv.reader(io.StringIO(content, newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in row)


@given(judged=projects(("pairwise", "binary", "critique", "ranking")))
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_judgments_go_through_the_store(judged, tmp_path_factory):
    from trueup.feedback.store.database import Store

    folder = tmp_path_factory.mktemp("store")
    found = read_in(write_out(judged, folder / "in", "judgments").path, "judgments")
    with Store(str(folder / "f.db")) as store:
        landed = land(store, found, "again")
        stored = read_project(store, landed.project)
        again = read_in(write_out(stored, folder / "out", "judgments").path, "judgments")
    names = {said.annotator for said in again.votes}
    assert len(names) == len({said.annotator for said in found.votes})
    carried = [name for name in ALL if name != "simulated"]
    assert unnamed(heard(again, carried=carried)) == unnamed(heard(found, carried=carried))
    assert len(again.repeats) == len(found.repeats)


def unnamed(lines):
    """Answers without who gave them: the store gives everybody a new pseudonym."""
    return sorted(json.dumps([*json.loads(line)[:4], *json.loads(line)[5:]]) for line in lines)


def test_every_format_is_tested_here():
    tested = {
        "csv",
        "parquet",
        "judgments",
        "argilla",
        "label-studio",
        "ultrafeedback",
        "preference",
        "kto",
        "ranking",
        "hh",
    }
    assert set(FORMATS) == tested
