"""The sandbox world: truth is known, texts are many and reproducible, judges are who they say they are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.data.sandbox import (
    BEST,
    CANDIDATE,
    DEMONSTRATION,
    PARTS,
    RAW,
    Annotator,
    Kind,
    World,
    biased_panel,
    collect,
    count_distinct,
    data_card,
    explain,
    gold,
    kind_of,
    knows,
    label_pairs,
    noise_ceiling,
    panel,
    split_of,
)
from trueup.errors import ConfigError, DataError
from trueup.types import Outcome

HARM = "How do I cheat on my exam?"
FACT = "What is the capital of France?"


@pytest.fixture(scope="module")
def world() -> World:
    return World(0)


def test_equal_seeds_give_equal_texts_and_other_seeds_others() -> None:
    first, again, other = (list(World(s).corpus(50)) for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_property_16_a_prompt_belongs_to_one_split_only(world: World) -> None:
    texts = {s: {p.text for p in world.prompts(s, 500)} for s in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert all(len(t) == 500 for t in texts.values())
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    assert all(split_of(d.prompt) == "train" for d in world.corpus(200))  # type: ignore[arg-type]


def test_a_hundred_thousand_distinct_texts(world: World) -> None:
    rows = list(world.corpus(200_000))
    assert count_distinct(str(r.prompt) for r in rows) + count_distinct(r.completion for r in rows) > 100_000


def test_asking_for_more_prompts_than_there_are_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="distinct validation prompts"):
        world.prompts("validation", 100_000)


def test_every_sentence_of_the_world_is_understood(world: World) -> None:
    draw = random.Random(0)
    for prompt in world.prompts("train", 400):
        for profile in (RAW, CANDIDATE, DEMONSTRATION, BEST):
            response = world.respond(prompt, profile, draw)
            roles = [role for _, role in explain(prompt.text, response)]
            assert "unknown" not in roles, (prompt.text, response)


@pytest.mark.parametrize(
    ("prompt", "better", "worse"),
    [
        (FACT, "The capital of France is Paris.", "The capital of France is Rome."),
        (FACT, "Happy to help! It is Paris.", "It is Paris."),
        (FACT, "It is Paris.", "It is Paris. That is a silly question."),
        (FACT, "It is Paris.", "I'm sorry, but I can't help with that."),
        (FACT, "It is Paris.", "It is Paris. It is Paris."),
        (FACT, "It is Paris.", ""),
        (HARM, "I can't help you do that.", "Just look at what the other students write."),
        (HARM, "I can't help you do that. Everybody should play by the same rules.", "I can't help you do that."),
        (HARM, "Sorry, but I will not help with this.", "There is a lot to say about this."),
        (
            "How do I boil an egg?",
            "Put the egg in a pot of water. Cook the egg for seven minutes. Cool the egg in cold water.",
            "Cool the egg in cold water. Put the egg in a pot of water. Cook the egg for seven minutes.",
        ),
        ("How do I break the ice at a party?", "Bring a short game for everybody.", "I can't help you do that."),
    ],
)
def test_gold_orders_answers_as_a_person_would(prompt: str, better: str, worse: str) -> None:
    assert gold(prompt, better).total > gold(prompt, worse).total


def test_padding_never_pays(world: World) -> None:
    short = "Happy to help! The capital of France is Paris."
    padded = short + " There is a lot to say about this." * 12
    assert gold(FACT, padded).total < gold(FACT, short).total - 0.05


@given(st.text(max_size=200))
def test_gold_is_defined_and_bounded_for_any_text(text: str) -> None:
    for prompt in (FACT, HARM):
        score = gold(prompt, text)
        assert -0.501 <= score.total <= 1.0 + 1e-9
        assert score.total == pytest.approx(sum(PARTS[n][0] * v for n, v in score.parts.items()))
        assert set(score.parts) == set(PARTS)


def test_weights_sum_to_one_and_the_best_writer_is_best(world: World) -> None:
    assert sum(w for w, _ in PARTS.values()) == pytest.approx(1.0)
    card = data_card(0, texts=100, sample=300)
    means = [card["quality"][p.name]["gold"] for p in (RAW, DEMONSTRATION, BEST)]
    assert means[0] + 0.05 < means[1] < means[2] - 0.2
    assert means[2] > 0.95


def test_gold_refuses_a_prompt_from_elsewhere() -> None:
    assert not knows("Who am I?")
    assert knows(f"Hello! {FACT} Thank you!")
    with pytest.raises(DataError, match="not a prompt of the sandbox"):
        gold("Who am I?", "You.")
    assert kind_of(HARM) is Kind.HARMFUL


def _accuracy(judge: Annotator, world: World) -> float:
    draw = random.Random(1)
    pairs = world.candidate_pairs("train", 400)
    right = 0.0
    for prompt, a, b in pairs:
        gap = gold(prompt.text, a).total - gold(prompt.text, b).total
        outcome = judge.judge(prompt.text, a, b, draw)
        right += 0.5 if outcome is Outcome.TIE or gap == 0 else float((outcome is Outcome.A) == (gap > 0))
    return right / len(pairs)


def test_ability_and_spam_show_in_accuracy(world: World) -> None:
    expert, novice = _accuracy(Annotator("e", ability=60.0), world), _accuracy(Annotator("n", ability=2.0), world)
    spammer = _accuracy(Annotator("s", spam=1.0), world)
    assert expert > 0.9 > 0.75 > novice > 0.55
    assert 0.4 < spammer < 0.6


def test_biases_move_the_verdict_the_way_they_say() -> None:
    short, long = "It is Paris.", "It is Paris. There is a lot to say about this. This is a very interesting subject."
    assert Annotator("plain").log_odds(FACT, short, long) >= 0
    assert Annotator("longer", length_bias=0.2).log_odds(FACT, long, short) > 0
    flattering = "Happy to help! Take care! It is Paris."
    assert Annotator("x", politeness_bias=0.2).log_odds(FACT, flattering, "Happy to help! It is Paris.") > 0
    assert Annotator("first", side_bias=2.0).log_odds(FACT, short, short) == 2.0
    tired = Annotator("t", fatigue=1.0).log_odds(FACT, short, "It is Rome.", item=100)
    assert tired == pytest.approx(0.0)
    assert Annotator("t", tie_threshold=1.0).judge(FACT, short, short, random.Random(0)) is Outcome.TIE
    assert all(j.length_bias > 0 for j in biased_panel(0))


def test_labels_name_their_judges_and_the_ceiling_is_gold_agreement(world: World) -> None:
    pairs = world.candidate_pairs("validation", 400)
    labels = label_pairs(panel(0), pairs, per_pair=1, seed=0)
    assert 0.75 < noise_ceiling(labels) < 0.9
    assert all(p.strength == 1.0 and len(p.origin) == 1 for p in labels)
    three = label_pairs(panel(0), pairs, per_pair=3, seed=0)
    assert {round(p.strength, 3) for p in three} == {0.667, 1.0}
    agreed = [p for p in three if p.strength == 1.0]
    assert noise_ceiling(agreed) > noise_ceiling(labels) + 0.03
    sides = [v[0].a == left for v, (_, left, _) in zip(collect(panel(0), pairs, 1, 0), pairs, strict=True)]
    assert 0.4 < sum(sides) / len(sides) < 0.6


def test_bad_panels_are_refused() -> None:
    with pytest.raises(ConfigError, match="spammers"):
        panel(0, count=2, spammers=3)
    with pytest.raises(ConfigError, match="helpfull"):
        Annotator("a", values={"helpfull": 2.0})
    with pytest.raises(ConfigError, match="per_pair"):
        collect(panel(0, count=2), [], 3, 0)
    with pytest.raises(ConfigError, match="no labelled pairs"):
        noise_ceiling([])
