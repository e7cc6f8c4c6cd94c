"""What comes next besides ordinary work: calibration and qualification, gold, swapped repeats, one more judge."""

import numpy as np
import pytest
from sqlalchemy import select

from trueup.collectors.active import choose_pairs, openness
from trueup.errors import ShapeError, UsageError
from trueup.feedback.store.projects import (
    NewItem,
    add_guideline,
    add_person,
    add_template,
    create_project,
    import_items,
)
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.schema import item
from trueup.feedback.store.schema import template as template_table
from trueup.feedback.workflow.assignment import Assignment, Nothing, acknowledge, next_seat
from trueup.feedback.workflow.judgments import submit

RIGHT = {"preferred": 0, "strength": 2}


def a_room(store, quality, *, main=30, gold=3, calibration=0, overlap=1, per_prompt=1):
    project = create_project(store, "room")
    template = add_template(store, project, "pairwise", "pairs", {"quality": quality})
    rows = [NewItem(f"Question {i // per_prompt}?", (f"good {i}", f"bad {i}")) for i in range(main)]
    import_items(store, template, rows, overlap=overlap)
    for stream, count in (("gold", gold), ("calibration", calibration)):
        made = [
            NewItem(f"{stream} {i}?", (f"right {i}", f"wrong {i}"), stream=stream, gold={"preferred": 0, "strength": 2})
            for i in range(count)
        ]
        import_items(store, template, made)
    return project, add_person(store, "ada")


def work(store, project, person, count, choose=lambda texts, shown: shown[0]):
    """Judge ``count`` items; returns the items in order."""
    done = []
    for _ in range(count):
        seat = next_seat(store, project, person)
        assert isinstance(seat, Assignment), seat
        held = read_project(store, project).items[seat.item]
        texts = {r.id: r.text for r in held.responses}
        answer = {"preferred": choose(texts, seat.shown), "strength": 1}
        submit(store, seat.item, person, f"key-{person}-{seat.item}", answer=answer)
        done.append((held, seat.shown))
    return done


def best(texts, shown):
    return next(name for name in shown if texts[name].startswith(("good", "right")))


def worst(texts, shown):
    return next(name for name in shown if not texts[name].startswith(("good", "right")))


def test_gold_comes_every_so_many_judgments_to_everybody(store):
    project, ada = a_room(store, {"gold_every": 4, "repeat_every": None}, main=24, overlap=2)
    bob = add_person(store, "bob")
    for who in (ada, bob):
        streams = [held.stream for held, _ in work(store, project, who, 16)]
        assert streams == (["main"] * 3 + ["gold"]) * 3 + ["main"] * 4  # three gold items, then there are no more


def test_a_repeat_is_an_own_item_from_some_time_ago_with_the_sides_swapped(store):
    project, ada = a_room(store, {"gold_every": None, "repeat_every": 8}, main=20)
    bob = add_person(store, "bob")
    done = work(store, project, ada, 16)
    repeats = [(place, held, shown) for place, (held, shown) in enumerate(done) if held.stream == "repeat"]
    assert [place for place, _, _ in repeats] == [7, 15]
    for place, held, shown in repeats:
        at = next(n for n, (other, _) in enumerate(done) if other.id == held.repeat_of)
        assert place - at > 5
        assert shown == tuple(reversed(done[at][1]))
    left = work(store, project, bob, 6)
    assert all(held.stream == "main" for held, _ in left)  # nobody gets the repeat of another


def test_calibration_comes_first_and_the_share_right_decides(store):
    quality = {"calibration": 4, "pass_share": 0.75, "gold_every": None, "repeat_every": None}
    project, ada = a_room(store, quality, calibration=4, gold=0)
    bob = add_person(store, "bob")
    assert [held.stream for held, _ in work(store, project, ada, 6, best)] == ["calibration"] * 4 + ["main"] * 2
    work(store, project, bob, 2, best)
    work(store, project, bob, 2, worst)
    refused = next_seat(store, project, bob)
    assert isinstance(refused, Nothing)
    assert refused.reason == "not_qualified"
    assert "pairs" in refused.message


def practice(store, project, count, names):
    template = read_template(store, project)
    rows = [
        NewItem(f"{names} {i}?", (f"right {names} {i}", f"wrong {names} {i}"), stream="calibration", gold=RIGHT)
        for i in range(count)
    ]
    import_items(store, template, rows)


def read_template(store, project):
    with store.read() as connection:
        return connection.execute(select(template_table.c.id).where(template_table.c.project == project)).scalar()


def test_new_practice_gives_another_chance(store):
    quality = {"calibration": 2, "pass_share": 0.6, "gold_every": None, "repeat_every": None}
    project, ada = a_room(store, quality, calibration=2, gold=0)
    work(store, project, ada, 2, worst)
    assert next_seat(store, project, ada).reason == "not_qualified"
    practice(store, project, 3, "again")
    assert [held.stream for held, _ in work(store, project, ada, 4, best)] == ["calibration"] * 2 + ["main"] * 2


@pytest.mark.parametrize("requalify", [True, False])
def test_a_new_guideline_asks_for_calibration_again_where_the_template_says_so(store, requalify):
    quality = {"calibration": 2, "pass_share": 1.0, "gold_every": None, "repeat_every": None, "requalify": requalify}
    project, ada = a_room(store, quality, calibration=2, gold=0)
    acknowledge(store, ada, add_guideline(store, project, "Prefer what helps."))
    assert [held.stream for held, _ in work(store, project, ada, 3, best)] == ["calibration"] * 2 + ["main"]
    newer = add_guideline(store, project, "Prefer what helps, and is true.")
    assert next_seat(store, project, ada).reason == "guideline_not_acknowledged"
    acknowledge(store, ada, newer)
    if not requalify:
        assert [held.stream for held, _ in work(store, project, ada, 2, best)] == ["main"] * 2
        return
    assert next_seat(store, project, ada).reason == "not_qualified"
    practice(store, project, 2, "newer")
    assert [held.stream for held, _ in work(store, project, ada, 3, best)] == ["calibration"] * 2 + ["main"]


def test_an_open_item_gets_another_judge_up_to_the_limit(store):
    quality = {"gold_every": None, "repeat_every": None, "max_overlap": 4, "raise_above": 0.95}
    project, ada = a_room(store, quality, main=2, gold=0, overlap=2)
    people = [ada, *(add_person(store, name) for name in ("bob", "cyd", "dan", "eve"))]
    for number, who in enumerate(people[:2]):  # they differ on the first item and agree on the second
        for _ in range(2):
            seat = next_seat(store, project, who)
            held = read_project(store, project).items[seat.item]
            texts = {r.id: r.text for r in held.responses}
            first = held.prompt == "Question 0?"
            chosen = worst(texts, seat.shown) if first and number else best(texts, seat.shown)
            submit(store, seat.item, who, f"k{number}-{seat.item}", answer={"preferred": chosen, "strength": 1})
    with store.read() as connection:
        rows = connection.execute(select(item.c.overlap, item.c.state).order_by(item.c.created_at)).all()
    assert [tuple(row) for row in rows] == [(3, "open"), (2, "satisfied")]
    work(store, project, people[2], 1, best)  # two to one: still open at this limit
    work(store, project, people[3], 1, worst)
    with store.read() as connection:
        rows = connection.execute(select(item.c.overlap, item.c.state).order_by(item.c.created_at)).all()
    assert tuple(rows[0]) == (4, "satisfied")  # even again, but that is the limit
    assert next_seat(store, project, people[4]).reason == "done"


def test_a_prompt_does_not_come_back_at_once(store):
    project, ada = a_room(store, {"gold_every": None, "repeat_every": None}, main=24, gold=0, per_prompt=2)
    prompts = [held.prompt for held, _ in work(store, project, ada, 24)]
    close = sum(a in prompts[max(0, n - 2) : n] for n, a in enumerate(prompts))
    assert close <= 2  # at the very end there may be no other


@pytest.mark.parametrize(
    ("quality", "named"),
    [({"gold_evry": 3}, "gold_evry"), ({"pass_share": 2}, "pass_share"), ({"repeat_every": 1}, "repeat_every")],
)
def test_wrong_settings_are_named(store, quality, named):
    project = create_project(store, "p")
    with pytest.raises(UsageError, match=named):
        add_template(store, project, "pairwise", "t", {"quality": quality})


# Active selection


def candidates(count, per_prompt=1):
    return [NewItem(f"Q{i // per_prompt}", (f"a{i}", f"b{i}")) for i in range(count)]


def test_open_and_disputed_pairs_score_highest():
    margins = np.array([[0.0, 6.0, 3.0, -0.1], [0.0, 6.0, -3.0, 0.1]])
    score = openness(margins)
    assert score[2] > score[0] > score[1]
    assert score[0] == pytest.approx(0.25)
    assert (score <= 0.5 + 1e-12).all()
    np.testing.assert_allclose(openness(-margins), score)  # which response stands first means nothing


def test_the_holdout_is_a_uniform_share_and_the_rest_leans_to_open_pairs():
    rng = np.random.default_rng(0)
    margins = rng.normal(0, 4, (3, 1)) * 0 + rng.normal(0, 4, 1000)[None] + rng.normal(0, 0.5, (3, 1000))
    pairs = candidates(1000)
    score = openness(margins)
    held, taken = [], []
    for seed in range(20):
        found = choose_pairs(pairs, margins, 100, seed=seed)
        assert (found.random, found.active) == (20, 80)
        assert len({one.prompt for one in found.items}) == 100
        held += [score[pairs_place(one)] for one in found.items if one.stream == "holdout"]
        taken += [score[pairs_place(one)] for one in found.items if one.stream == "main"]
    error = score.std() / len(held) ** 0.5
    assert abs(np.mean(held) - score.mean()) < 4 * error
    assert np.mean(taken) > score.mean() + 0.05


def pairs_place(one):
    return int(one.responses[0][1:])


def test_weighting_back_by_the_stored_probability_recovers_the_mean():
    rng = np.random.default_rng(1)
    margins = rng.normal(0, 2, (2, 400))
    value = np.abs(margins.mean(0))
    pairs = candidates(400)
    estimates = []
    for seed in range(60):
        found = choose_pairs(pairs, margins, 120, share_random=0.0, seed=seed)
        total = sum(value[pairs_place(o)] / o.context["selection"]["probability"] for o in found.items)
        count = sum(1 / o.context["selection"]["probability"] for o in found.items)
        estimates.append(total / count)
    plain = np.mean([value[pairs_place(o)] for o in found.items])
    assert abs(np.mean(estimates) - value.mean()) < abs(plain - value.mean()) / 2


def test_same_seed_same_choice_and_prompts_are_spread():
    margins = np.zeros((1, 40))
    pairs = candidates(40, per_prompt=2)
    one, two = (choose_pairs(pairs, margins, 20, share_random=0.0, seed=3) for _ in range(2))
    assert one == two
    assert len({i.prompt for i in one.items}) == 20


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(UsageError, match="5 of 3"):
        choose_pairs(candidates(3), np.zeros((1, 3)), 5)
    with pytest.raises(ShapeError, match="candidates"):
        choose_pairs(candidates(3), np.zeros((1, 4)), 2)
    with pytest.raises(ShapeError, match="shape"):
        openness(np.array([np.nan]))
