"""Constitutions: the file, critique and revision, soft labels in both orders, the store, the sandbox's rules."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.collectors.constitution import BUNDLED, Constitution, Principle, read_constitution
from trueup.collectors.constitution_labels import calibration, judge_report, label_json, label_pairs, training_pair
from trueup.collectors.constitution_revise import (
    STATES,
    Revised,
    Row,
    broken_at_the_end,
    demonstrations,
    revise,
    row_json,
)
from trueup.collectors.constitution_revisers import ModelReviser, Resampler
from trueup.collectors.constitution_sandbox import RuleJudge, observe, red_team
from trueup.collectors.constitution_store import store_labels
from trueup.errors import ConfigError, DataError
from trueup.feedback.store.database import Store
from trueup.feedback.store.reading import read_project
from trueup.sandbox import BEST, Kind, World, gold_score
from trueup.types import Completion, Message, StopReason


def principle(name, weight=1.0, **more):
    return Principle(id=name, text=f"text of {name}", critique="c", revision="r", weight=weight, **more)


TWO = Constitution("two", (principle("one"), principle("other", 3.0)))


class Fixed:
    """A judge whose verdicts are given: by principle and answer, with an inclination to what is shown first."""

    name = "fixed"

    def __init__(self, worth=None, place=0.0, silent=()):
        self.worth, self.place, self.silent = worth or {}, place, set(silent)

    def first_wins(self, asked):
        return [
            None if rule in self.silent else 1 / (1 + math.exp(-(self.worth[first] - self.worth[second] + self.place)))
            for rule, _, first, second in asked
        ]

    def breaks(self, asked):
        return [None if rule in self.silent else float("bad" in answer) for rule, _, answer in asked]


# The file -------------------------------------------------------------------------------------------------------------

GOOD = """name: ours
principles:
  - id: a
    text: Be kind.
    critique: What is unkind?
    revision: Make it kind.
  - id: b
    text: Be brief.
    critique: What is long?
    revision: Make it short.
"""


def test_the_bundled_constitution_covers_all_aspects_and_judges_in_the_sandbox():
    known = read_constitution()
    assert {p.aspect for p in known.principles} == {"harmless", "honest", "helpful"}
    assert all(p.examples for p in known.principles)
    assert sum(known.weights.values()) == pytest.approx(1)
    RuleJudge(known)


def test_the_annotator_is_what_the_principles_say_and_not_how_they_are_written(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(GOOD)
    before = read_constitution(file).annotator
    file.write_text("# a comment\n" + GOOD.replace("name: ours", 'name: "theirs"'))
    assert read_constitution(file).annotator == before
    file.write_text(GOOD.replace("Be kind.", "Be kinder."))
    assert read_constitution(file).annotator != before


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("    revision: Make it kind.\n", "", 3, "is required and was not given"),
        ("    text: Be brief.", "    txet: Be brief.", 8, "unknown setting; did you mean 'text'"),
        ("  - id: b", "  - id: a", 7, "two principles have the id 'a'"),
        ("Be brief.", "Be kind.", 8, "two principles have the text 'Be kind.'"),
        ("  - id: b", "  - id: B b", 7, "found 'B b'"),
        ("    text: Be brief.", "    text: ''", 8, "at least 1 character"),
        ("    text: Be brief.", "    text: '  '", 8, "expected a sentence"),
        ("    text: Be brief.", "    weight: 0\n    text: Be brief.", 8, "greater than 0"),
        ("    text: Be brief.", "    aspect: nice\n    text: Be brief.", 8, "aspect"),
        ("name: ours", "nmae: ours", 1, "unknown key 'nmae'"),
        ("name: ours", "name: 3", 1, "name is 3"),
        ("  - id: b", "  - 7\n  - id: b", 2, "principles[1] is 7"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path, old, new, line, said):
    file = tmp_path / "c.yaml"
    assert old in GOOD
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_constitution(file)
    assert said in str(caught.value)
    assert f"c.yaml:{line}" in str(caught.value)


@pytest.mark.parametrize("text", ["name: x\nprinciples: []\n", "name: x\n", "", "- 1\n", "name: x\nprinciples: 3\n"])
def test_a_file_without_principles_is_refused(tmp_path, text):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        read_constitution(file)


def test_principles_are_drawn_by_weight_and_alike_for_the_same_purpose():
    drawn = [TWO.draw(0, number, 0).id for number in range(2000)]
    assert drawn == [TWO.draw(0, number, 0).id for number in range(2000)]
    assert drawn != [TWO.draw(1, number, 0).id for number in range(2000)]
    assert drawn.count("other") / 2000 == pytest.approx(0.75, abs=0.04)


# Soft labels ----------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    worth=st.tuples(*[st.floats(-4, 4)] * 2),
    place=st.floats(-4, 4),
    weights=st.tuples(*[st.floats(0.1, 9)] * 3),
)
def test_a_label_is_the_swap_corrected_mean_of_both_orders(worth, place, weights):
    """Bai et al. 2022, section 4.1, by an oracle in float64; swapping the answers gives the complement."""
    rules = Constitution("c", tuple(principle(f"p{i}", w) for i, w in enumerate(weights)))
    judge = Fixed(dict(zip("xy", worth, strict=True)), place)
    (label,) = label_pairs([("q", "x", "y")], rules, judge)
    gap = np.float64(worth[0]) - np.float64(worth[1])
    ahead, behind = 1 / (1 + np.exp(-(gap + place))), 1 - 1 / (1 + np.exp(-(-gap + place)))
    assert label.p_first == pytest.approx(float((ahead + behind) / 2), abs=1e-12)
    (swapped,) = label_pairs([("q", "y", "x")], rules, judge)
    assert swapped.p_first == pytest.approx(1 - label.p_first, abs=1e-12)
    (same,) = label_pairs([("q", "x", "x")], rules, judge)
    assert same.p_first == pytest.approx(0.5, abs=1e-12)
    (clamped,) = label_pairs([("q", "x", "y")], rules, judge, clamp=(0.4, 0.6))
    assert clamped.p_first == pytest.approx(min(max(label.p_first, 0.4), 0.6))


def test_principles_count_by_weight_and_one_without_a_verdict_does_not_count():
    class ByRule(Fixed):
        def first_wins(self, asked):
            given = {"text of one": {"x": 0.9, "y": 0.1}, "text of other": {"x": 0.3, "y": 0.7}}
            return [None if rule in self.silent else given[rule][first] for rule, _, first, _ in asked]

    (label,) = label_pairs([("q", "x", "y")], TWO, ByRule())
    assert label.p_first == pytest.approx(0.25 * 0.9 + 0.75 * 0.3)
    (label,) = label_pairs([("q", "x", "y")], TWO, ByRule(silent=["text of other"]))
    assert label.p_first == pytest.approx(0.9)
    (label,) = label_pairs([("q", "x", "y")], TWO, ByRule(silent=["text of one", "text of other"]))
    assert label.p_first is None
    assert training_pair(label_json(label, TWO, "j")) is None


@pytest.mark.parametrize("clamp", [(0.6, 0.7), (0.4, 0.5), (-0.1, 0.6), (0.4, 1.1), (0.5, 0.6)])
def test_bounds_that_hold_no_half_are_refused(clamp):
    with pytest.raises(ConfigError, match="clamp"):
        label_pairs([("q", "x", "y")], TWO, Fixed({"x": 0.0, "y": 0.0}), clamp=clamp)


def test_the_report_finds_the_planted_bias_of_places():
    draw = np.random.default_rng(0)
    worth = {f"{side}{i}": float(draw.normal()) for i in range(200) for side in "ab"}
    pairs = [("q", f"a{i}", f"b{i}") for i in range(200)]

    def report(place):
        rows = [label_json(one, TWO, "j") for one in label_pairs(pairs, TWO, Fixed(worth, place))]
        return judge_report(rows, [float(worth[a] > worth[b]) for _, a, b in pairs])

    fair, tilted = report(0.0), report(3.0)
    assert fair["position"] == {"bias": pytest.approx(0, abs=1e-12), "first_shown": pytest.approx(0.5), "flips": 0}
    assert fair["agreement"]["right"] == tilted["agreement"]["right"] == 200  # the orders cancel
    assert tilted["position"]["first_shown"] > 0.8
    assert tilted["position"]["bias"] > 0.5
    assert tilted["position"]["flips"] > 0.8
    assert tilted["principles"]["one"] == {
        "uses": 200,
        "without_verdict": 0,
        "flips": round(200 * tilted["position"]["flips"]),
        "against": 0,
    }
    assert fair["calibration"]["brier"] < tilted["calibration"]["brier"] < 0.25


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=30))
def test_calibration_by_an_oracle_and_whichever_is_called_first(judged):
    p, t = np.array(judged, dtype=np.float64).T
    report = calibration(judged)
    assert report["brier"] == pytest.approx(float(((p - t) ** 2).mean()))
    turned = calibration([(1 - a, 1 - b) for a, b in judged])
    assert turned["brier"] == pytest.approx(report["brier"])
    assert sum(one["n"] for one in report["bins"]) == 2 * len(judged)


# Critique and revision ------------------------------------------------------------------------------------------------


class Scripted:
    """A reviser that says what it was told, call by call."""

    name = "scripted"

    def __init__(self, *calls):
        self.calls, self.drafts, self.seeds = list(calls), [], []

    def revise(self, drafts, seed):
        self.drafts.append(list(drafts))
        self.seeds.append(seed)
        said = self.calls.pop(0)
        return [said(draft) for draft in drafts]


def rows_of(*answers):
    return [Row(f"q{i}", "all", text, True, i) for i, text in enumerate(answers)]


def test_an_answer_that_breaks_nothing_stays_and_is_not_asked_about():
    reviser = Scripted()
    rows = rows_of("good", "fine")
    revise(rows, TWO, Fixed(), reviser, rounds=4)
    assert [(row.state, row.answer) for row in rows] == [("kept", "good"), ("kept", "fine")]
    assert reviser.drafts == []
    assert all(len(row.rounds) == 4 for row in rows)


def test_a_malformed_revision_is_asked_again_with_another_seed_and_then_counted():
    bad = Revised("c", "", "the revision is empty")
    reviser = Scripted(lambda d: bad, lambda d: bad if d.answer == "bad 1" else Revised("c", "better"), lambda d: bad)
    rows = rows_of("bad 0", "bad 1", "good")
    revise(rows, TWO, Fixed(), reviser, rounds=1, retries=2)
    assert [row.state for row in rows] == ["revised", "malformed", "kept"]
    assert [row.answer for row in rows] == ["better", "bad 1", "good"]
    assert [len(drafts) for drafts in reviser.drafts] == [2, 2, 1]
    assert len(set(reviser.seeds)) == 3
    assert rows[1].rounds[0]["attempts"] == 3
    assert rows[1].rounds[0]["problem"] == "the revision is empty"


def test_a_revision_equal_to_the_original_is_dropped_and_counted():
    rows = rows_of("bad")
    revise(rows, TWO, Fixed(), Scripted(lambda d: Revised("c", " bad\n")), rounds=1, retries=0)
    assert (rows[0].state, rows[0].answer) == ("equal", "bad")


def test_all_answers_are_rewritten_where_that_is_asked_for_whatever_the_judge_says():
    rows = rows_of("good", "bad", "fine")
    judge = Fixed(silent=["text of one", "text of other"])
    reviser = Scripted(lambda d: Revised("c", f"not {d.answer}", logps={"critique": [-0.5], "revision": [-0.25, -1.0]}))
    revise(rows, TWO, judge, reviser, rounds=1, rewrite_all=True)
    assert [row.answer for row in rows] == ["not good", "not bad", "not fine"]
    note = rows[0].rounds[0]
    assert (note["state"], note["p_breaks"]) == ("revised", None)
    assert note["logps"] == {"critique": [-0.5], "revision": [-0.25, -1.0]}
    assert row_json(rows[0], {}, TWO)["logps"] == []


def test_no_verdict_is_no_violation_and_no_demonstration():
    rows = rows_of("bad")
    judge = Fixed(silent=["text of one", "text of other"])
    revise(rows, TWO, judge, Scripted(), rounds=2)
    assert rows[0].state == "unjudged"
    written = [row_json(row, end, TWO) for row, end in zip(rows, broken_at_the_end(rows, TWO, judge), strict=True)]
    assert demonstrations(written) == ([], {f"unjudged: {STATES['unjudged']}": 1})


def test_rows_keep_where_they_come_from_and_demonstrations_say_why_not():
    rows = [
        *rows_of("bad", "good", "bad bad"),
        Row("q", "all", "good but cut", False, 3),
        Row("q", "all", " ", True, 4),
    ]
    reviser = Scripted(lambda d: Revised("c", "better" if d.answer == "bad" else "still bad"))
    revise(rows, TWO, Fixed(), reviser, rounds=1, retries=0, seed=5)
    written = [row_json(row, end, TWO) for row, end in zip(rows, broken_at_the_end(rows, TWO, Fixed()), strict=True)]
    json.dumps(written, allow_nan=False)
    note = written[0]["rounds"][0]
    assert note["principle"] == TWO.draw(5, 0, 0).id
    assert {"p_breaks", "judge", "reviser", "seed", "attempts", "critique", "state"} <= set(note)
    assert written[0]["annotator"] == TWO.annotator
    shown, left_out = demonstrations(written)
    assert [row["completion"] for row in shown] == ["better", "good"]
    assert left_out == {"still breaks a principle": 1, "cut at the length limit": 1, "empty": 1}
    assert shown[0]["origin"] == [TWO.annotator, "revised", note["principle"]]


@pytest.mark.parametrize(
    ("critique", "revision", "ended", "problem"),
    [
        ("It is unkind.", " Kind. ", True, ""),
        (" ", "Kind.", True, "the critique is empty"),
        ("c", "\n", True, "the revision is empty"),
        ("c", "Kind.", False, "the revision was cut at the length limit"),
        ("c", "Revised answer: Kind.", True, "the revision begins with a label of the question"),
    ],
)
def test_what_a_model_writes_is_read_or_named(critique, revision, ended, problem):
    asked = []

    def answering(prompts, seed):
        asked.append((prompts, seed))
        said, end = (critique, True) if len(asked) == 1 else (revision, ended)
        return [Completion(said, (), StopReason.EOS if end else StopReason.LENGTH) for _ in prompts]

    rows = [Row((Message("user", "How?"),), "all", "bad", True, 0)]
    revise(rows, TWO, Fixed(), ModelReviser(answering, "m"), rounds=1, retries=0)
    assert rows[0].rounds[0]["problem"] == problem
    assert rows[0].answer == ("bad" if problem else "Kind.")
    assert "How?" in asked[0][0][0][0].content
    assert asked[0][1] != asked[1][1]
    if not problem:
        assert "It is unkind." in asked[1][0][0][0].content


def test_resampling_takes_the_first_answer_that_the_judge_accepts():
    texts = iter(["bad 1", "good 1", "good 2"])

    def answering(prompts, seed):
        return [Completion(next(texts), (), StopReason.EOS) for _ in prompts]

    rows = rows_of("bad")
    revise(rows, TWO, Fixed(), Resampler(answering, Fixed(), 3), rounds=1, retries=0)
    assert rows[0].answer == "good 1"
    rows, texts = rows_of("bad"), iter(["bad"] * 3)
    revise(rows, TWO, Fixed(), Resampler(answering, Fixed(), 3), rounds=1, retries=0)
    assert rows[0].state == "malformed"
    assert rows[0].rounds[0]["problem"] == "none of 3 samples keeps the principle"


# The sandbox ----------------------------------------------------------------------------------------------------------


def test_the_rules_agree_with_gold_and_the_best_writer_breaks_none():
    known = read_constitution()
    judge, world = RuleJudge(known), World(1)
    pairs = world.candidate_pairs("train", 150)
    labels = label_pairs([(p.text, a, b) for p, a, b in pairs], known, judge)
    truth = [float(gold_score(p.text, a).total > gold_score(p.text, b).total) for p, a, b in pairs]
    report = judge_report([label_json(label, known, judge.name) for label in labels], truth)
    assert report["agreement"]["right"] / report["agreement"]["pairs"] > 0.85
    assert report["position"]["bias"] < 1e-9
    import random

    draw = random.Random(0)
    asked = [
        (p.text, prompt.text, world.respond(prompt, BEST, draw))
        for prompt in world.prompts("train", 100)
        for p in known.principles
    ]
    assert sum(judge.breaks(asked)) == 0


def test_red_team_prompts_are_what_they_say_and_splits_do_not_meet():
    train, test = red_team(0, "train", 30, 20, 10), red_team(0, "test", 30, 20, 10)
    assert not {one.text for one in train} & {one.text for one in test}
    assert [sum(one.kind == kind for one in train) for kind in ("harmful", "lookalike", "other")] == [30, 20, 10]
    assert all(one.category in ("unfair", "law", "trust", "hurt") for one in train if one.kind == "harmful")
    with pytest.raises(ConfigError):
        red_team(0, "test", 5000, 0, 0)


def test_an_audit_sees_harm_refusals_and_evasions():
    world = World(0)
    prompts = {p.kind: p.text for p in world.prompts("train", 200)}
    harmful, harmless = prompts[Kind.HARMFUL], prompts[Kind.LOOKALIKE]
    no = "I can't help you do that."
    assert observe(harmful, no) | {"total": 0} == {
        "harmful": False, "refused": True, "evasive": True, "helpful": 0.3, "total": 0,
    }  # fmt: skip
    assert observe(harmless, no)["refused"]
    assert observe(harmless, "There is a lot to say about this.")["evasive"]
    assert not observe(harmless, no)["harmful"]


def test_rules_need_aspects():
    with pytest.raises(ConfigError, match="has no aspect"):
        RuleJudge(TWO)


# The store ------------------------------------------------------------------------------------------------------------


def test_labels_are_judgments_of_the_constitution_and_enter_once(tmp_path):
    worth = {"x": 0.0, "y": 0.3, "z": 5.0, "same": 0.0}
    pairs = [("q1", "x", "y"), ("q2", "z", "x"), ("q3", "x", "same")]
    rows = [label_json(label, TWO, "j") for label in label_pairs(pairs, TWO, Fixed(worth))]
    rows.append(rows[0] | {"prompt": "q4", "p_first": None, "orders": {"one": None}})
    for _ in range(2):
        project = store_labels(tmp_path / "f.db", "p", "round 1", rows, TWO, simulated=True)
    with Store(tmp_path / "f.db", read_only=True) as store:
        judged = read_project(store, project)
        answers = {}
        for row in judged.judgments:
            item = judged.items[row.item]
            texts = {one.id: one.text for one in item.responses}
            answers[item.prompt] = row.answer and (texts.get(row.answer["preferred"]), row.answer["strength"])
        assert answers == {"q1": ("y", 1), "q2": ("z", 3), "q3": (None, 0), "q4": None}
        assert len(judged.judgments) == 4
        assert all(row.simulated for row in judged.judgments)
        with store.read() as connection:
            from sqlalchemy import select

            from trueup.feedback.store.schema import person

            assert connection.execute(select(person.c.handle)).scalars().all() == [TWO.annotator]


def test_the_bundled_file_ships_with_the_package():
    assert BUNDLED.is_relative_to(Path(__file__).parents[1] / "src" / "trueup")


class Preferring(Fixed):
    """Prefers what begins with a word, in both orders."""

    def __init__(self, word):
        super().__init__()
        self.word = word

    def first_wins(self, asked):
        return [0.9 if first.startswith(self.word) else 0.1 for _, _, first, _ in asked]


def test_people_review_revisions_and_what_they_say_is_counted_by_principle(tmp_path):
    from trueup.commands.constitution_label import review_lines
    from trueup.data.write import write_jsonl
    from trueup.feedback.store.projects import add_person
    from trueup.feedback.workflow.assignment import acknowledge, next_seat
    from trueup.feedback.workflow.judgments import submit

    rows = rows_of("bad 0", "bad 1", "good", "bad 3")
    revise(rows, TWO, Fixed(), Scripted(lambda d: Revised("too bad", f"better than {d.answer[-1]}")), rounds=1)
    for row in rows:
        for note in row.rounds:
            note["principle"] = "one"
    ends = broken_at_the_end(rows, TWO, Fixed())
    file = write_jsonl(tmp_path / "r.jsonl", [row_json(row, e, TWO) for row, e in zip(rows, ends, strict=True)])
    rules = tmp_path / "c.yaml"
    rules.write_text(
        "name: two\nprinciples:\n" + "".join(f"  - {json.dumps(p.model_dump(mode='json'))}\n" for p in TWO.principles)
    )
    options = {"constitution": rules, "overlap": 1, "limit": None}
    for _ in range(2):  # queued once
        (line,) = review_lines(file, tmp_path / "f.db", "review", **options)
    assert line.startswith("3 revisions in 'review'")
    with Store(tmp_path / "f.db") as store:
        project = store_labels(tmp_path / "f.db", "review", "none", [], TWO, simulated=False)
        who = add_person(store, "ann")
        with store.read() as connection:
            from sqlalchemy import select

            from trueup.feedback.store.schema import guideline

            acknowledge(store, who, connection.execute(select(guideline.c.id)).scalar_one())
        items = read_project(store, project).items
        for number in range(3):
            seat = next_seat(store, project, who)
            item = items[seat.item]
            assert item.context["principle"] == "text of one"
            assert item.context["critique"] == "too bad"
            texts = {one.text: one.id for one in item.responses}
            revision = next(name for text, name in texts.items() if text.startswith("better"))
            preferred = revision if number < 2 else None
            answer = {"kind": "review", "preferred": preferred, "follows_principle": number == 0}
            submit(store, seat.item, who, f"k{number}", answer=answer, active_ms=5000, shown=seat.shown)
        assert next_seat(store, project, who).__class__.__name__ == "Nothing"
    lines = list(review_lines(file, tmp_path / "f.db", "review", **options))
    assert "one: 3 reviews; better than the original 83 %" in lines[1]
    assert "follows the principle 33 %" in lines[1]
    known = label_pairs(
        [(row.prompt, row.answer, row.original) for row in rows if row.state == "revised"], TWO, Preferring("better")
    )
    write_jsonl(tmp_path / "labels.jsonl", [label_json(label, TWO, "j") for label in known])
    page = tmp_path / "page"
    lines = list(review_lines(file, tmp_path / "f.db", "review", **options, out=page))
    assert "People reviewed 3 of 3 revisions." in lines[2]
    summary = json.loads((page / "summary.json").read_text())
    cases = {case["revision"]: case for case in summary["cases"]}
    assert [cases[f"better than {n}"]["better"] for n in (0, 1, 3)].count(1.0) == 2
    assert all(case["p_better"] == pytest.approx(0.9) for case in cases.values())
    # the judge finds no principle broken in any revision; one person of one says so too of the first alone
    assert sum(case["parts_on_rule"] for case in cases.values()) == 2
    assert not any(case["parts_on_better"] for case in cases.values())  # an even split is no other preference
    text = (page / "report.md").read_text()
    assert "| one | 3 | 3 | 83 % " in text
    assert "Where they part" in text
    with pytest.raises(DataError, match="no revisions"):
        list(review_lines(tmp_path / "nothing.jsonl", tmp_path / "f.db", "review", **options))
    with pytest.raises(DataError, match="principle 'one'"):
        list(review_lines(file, tmp_path / "g.db", "review", **options | {"constitution": None}))
