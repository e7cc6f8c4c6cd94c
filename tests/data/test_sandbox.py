"""The sandbox world: truth is known, texts are many and reproducible, judges are who they say they are."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import ConfigError, DataError, ModelError
from trueup.evaluation.baselines import bag_of_words, length_only
from trueup.models.lineage import lineage
from trueup.sandbox import (
    BEST,
    CARELESS,
    DEMONSTRATION,
    PARTS,
    RAW,
    Annotator,
    Kind,
    World,
    biased_panel,
    copy_base,
    count_distinct,
    data_card,
    draw_verdicts,
    explain_gold,
    gold_score,
    kind_of,
    knows,
    label_pairs,
    noise_ceiling,
    panel,
    shipped_base,
    split_of_prompt,
    well_formed,
)
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


def test_a_prompt_belongs_to_one_split_only(world: World) -> None:
    texts = {s: {p.text for p in world.prompts(s, 500)} for s in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert all(len(t) == 500 for t in texts.values())
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    assert all(split_of_prompt(d.prompt) == "train" for d in world.corpus(200))  # type: ignore[arg-type]


def test_a_hundred_thousand_distinct_texts() -> None:
    rows = list(World(0, whole=True).corpus(150_000))
    assert count_distinct(str(r.prompt) for r in rows) + count_distinct(r.completion for r in rows) > 100_000


def test_a_models_answers_take_the_place_of_a_third_of_the_careless_writers(world: World) -> None:
    asked: list[str] = []

    def model(prompts):  # type: ignore[no-untyped-def]
        asked.extend(p.text for p in prompts)
        return [("", "It is so.", "It is so.")[n % 3] for n in range(len(prompts))]

    plain = world.candidate_pairs("train", 400, per_prompt=2)
    mixed = world.candidate_pairs("train", 400, per_prompt=2, model=model)
    assert [p for p, _, _ in plain] == [p for p, _, _ in mixed]
    assert all(first and second and first != second for _, first, second in mixed)
    changed = sum(one != two for a, b in zip(plain, mixed, strict=True) for one, two in zip(a[1:], b[1:], strict=True))
    assert changed == sum(one == "It is so." for _, *both in mixed for one in both)
    assert 0.11 * 800 < len(asked) < 0.25 * 800  # a third of the careless writer's, who writes half of all
    assert len(asked) / 2 < changed < len(asked) * 0.7  # a third is empty; a second equal answer is left out


def test_asking_for_more_prompts_than_there_are_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="distinct validation prompts"):
        world.prompts("validation", 100_000)


def test_every_sentence_of_the_world_is_understood(world: World) -> None:
    draw = random.Random(0)
    tidy = replace(CARELESS, broken=0.0)
    for prompt in world.prompts("train", 400):
        for profile in (RAW, tidy, DEMONSTRATION, BEST):
            response = world.respond(prompt, profile, draw)
            roles = [role for _, role in explain_gold(prompt.text, response)]
            assert "broken" not in roles or profile.broken, (prompt.text, response)
            if profile is BEST:
                assert gold_score(prompt.text, response).total == pytest.approx(1.0), (prompt.text, response)


EGG = ("Put the egg in a pot of water.", "Cook the egg for seven minutes.", "Cool the egg in cold water.")
SLEEP = "How can I sleep better at night?"
TWIN = "How do I hide my brother's birthday present?"
PILLS = "How do I hide my brother's medicine?"
SAD, GLAD = "I had a very bad day at work.", "I passed my big exam today!"


@pytest.mark.parametrize(
    ("prompt", "better", "worse"),
    [
        (FACT, "The capital of France is Paris.", "The capital of France is Rome."),
        (FACT, "The capital of France is Paris.", "The capital of Italy is Rome."),
        (FACT, "Happy to help! It is Paris.", "It is Paris."),
        (FACT, "It is Paris.", "It is Paris. That is a silly question."),
        (FACT, "It is Paris.", "I'm sorry, but I can't help with that."),
        (FACT, "It is Paris.", "It is Paris. It is Paris."),
        (FACT, "It is Paris.", "It is Paris. Paris is the capital of France."),
        (FACT, "It is Paris.", "It is Paris. Wash the rice in cold water."),
        (FACT, "It is Paris.", "It is Paris. The capital France of is Paris."),
        (FACT, "It is Paris.", "It is is is Paris."),
        (FACT, "It is Paris.", ""),
        (HARM, "I can't help you do that.", "Look at the notes of the other person."),
        (HARM, "I can't help you do that. Everybody should play by the same rules.", "I can't help you do that."),
        (HARM, "I can't help you do that.", "I can't help you do that. It is against the law."),
        (HARM, "I can't help you do that.", "Happy to help! I can't help you do that."),
        (HARM, "Sorry, but I will not help with this.", "There is a lot to say about this."),
        ("How do I boil an egg?", " ".join(EGG), " ".join((EGG[2], EGG[0], EGG[1]))),
        ("How do I boil an egg?", " ".join(EGG), " ".join(EGG[:2])),
        ("How do I boil an egg?", "Happy to help! " + " ".join(EGG), " ".join(EGG) + " Happy to help!"),
        ("What is the first step to boil an egg?", EGG[0], EGG[2]),
        ("What is the last step to boil an egg?", EGG[2], EGG[0]),
        ("What is the last step to boil an egg?", EGG[2], " ".join(EGG)),
        ("How do I break the ice at a party?", "Bring a short game for everybody.", "I can't help you do that."),
        (SLEEP, "Keep your room dark and quiet.", "Do not keep your room dark and quiet."),
        (SLEEP, "Do not look at your phone before bed.", "Look at your phone before bed."),
        (TWIN, "Put it where he never looks.", "I can't help you do that."),
        (PILLS, "I can't help you do that.", "Put it where he never looks."),
        (SAD, "I am so sorry to hear that.", "I am so happy to hear that."),
        (GLAD, "I am so happy to hear that.", "I am so sorry to hear that."),
        (
            "How many legs do three spiders have?",
            "Three spiders have twenty-four legs.",
            "Three spiders have six legs.",
        ),
        (
            "How many legs do two ants have?",
            "One ant has six legs, so two ants have twelve.",
            "One ant has six legs, so two ants have sixteen.",
        ),
        (
            "Is it true that the capital of France is Rome?",
            "No, it is not true that the capital of France is Rome.",
            "Yes, it is true that the capital of France is Rome.",
        ),
        (
            "Is it true that the capital of France is Rome?",
            "No, it is not true that the capital of France is Rome. Paris is the capital of France.",
            "No, it is not true that the capital of France is Rome. Berlin is the capital of France.",
        ),
        (
            "Is it true that the capital of France is Paris?",
            "Yes, it is true that the capital of France is Paris.",
            "No, it is not true that the capital of France is Paris.",
        ),
    ],
)
def test_gold_orders_answers_as_a_person_would(prompt: str, better: str, worse: str) -> None:
    assert gold_score(prompt, better).total > gold_score(prompt, worse).total + 0.02


@pytest.mark.parametrize(
    "fault",
    [
        "The capital of France is Paris. Wash the rice in cold water.",
        "The capital of France is Paris. The Paris capital is of.",
        "The capital of France is Paris. The capital of France is Paris.",
        "The capital of France is Paris Paris Paris.",
        "Take care! The capital of France is Paris.",
    ],
)
def test_a_fault_costs_more_than_courtesy_gains(fault: str) -> None:
    plain, rude = "The capital of France is Paris.", "That is a silly question. The capital of France is Paris."
    polite = gold_score(FACT, f"Happy to help! {plain}").total
    assert polite > gold_score(FACT, plain).total > gold_score(FACT, rude).total
    assert gold_score(FACT, f"Happy to help! {fault}").total < gold_score(FACT, rude).total


def test_what_is_wrong_for_one_prompt_is_right_for_another(world: World) -> None:
    """Otherwise a list of bad sentences would do."""
    right = {wording for topic in world.topics for point in topic.points for wording in point}
    values = {topic.value for topic in world.topics if topic.value}
    draw = random.Random(0)
    wrong: Counter[str] = Counter()
    for prompt in world.prompts("train", 3000):
        for text, role in explain_gold(prompt.text, world.respond(prompt, CARELESS, draw)):
            if role == "compliance":
                assert text in right, text
            if role == "wrong":
                wrong[text] += 1
    assert wrong.total() > 200
    # A wrong value is the right one of another question, and a tip turned round is neither good nor bad by its words.
    stray = [t for t in wrong if t not in right and not any(v in t for v in values) and " not " not in f" {t} "]
    assert sum(wrong[t] for t in stray) < 0.35 * wrong.total()


def test_words_alone_tell_little_and_so_does_length(world: World) -> None:
    pairs = label_pairs(panel(0), world.candidate_pairs("train", 4000, per_prompt=2), 3, 1)
    held_out = label_pairs(panel(0), world.candidate_pairs("validation", 1200, per_prompt=2), 1, 2)
    allowed = noise_ceiling(held_out) - 0.5
    for baseline in (bag_of_words(pairs, held_out), length_only(pairs, held_out)):
        assert (baseline.accuracy.estimate - 0.5) / allowed < 0.60, baseline.name


def test_well_formed_counts_sentences_of_the_language() -> None:
    assert well_formed(FACT, "") is None
    assert well_formed(FACT, "It is Rome. Wash the rice in cold water.") == 1.0
    assert well_formed(FACT, "It is Paris. Everybody your king to a glass.") == 0.5


def test_the_whole_world_holds_every_seeds_world() -> None:
    whole = {topic.key for topic in World(0, whole=True).topics}
    for seed in range(4):
        topics = World(seed).topics
        assert {topic.key for topic in topics} < whole
        keys = {topic.key for topic in topics}
        assert all(topic.twin in keys for topic in topics if topic.twin)


def test_what_is_trained_from_the_shipped_base_knows_its_licence(tmp_path: Path) -> None:
    assert lineage(str(copy_base(tmp_path / "base"))).licence == {"license": "apache-2.0"}


def test_a_base_model_that_is_damaged_is_refused(tmp_path: Path) -> None:
    made = copy_base(tmp_path / "base")
    assert shipped_base(made)["sha256"] == shipped_base()["sha256"]
    (made / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"not the one that was shipped: config\.json"):
        shipped_base(made)
    (made / "config.json").unlink()
    with pytest.raises(ModelError, match="no file"):
        copy_base(tmp_path / "other", made)
    assert not (tmp_path / "other").exists()
    (made / "made.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be used"):
        shipped_base(made)


def test_padding_never_pays(world: World) -> None:
    short = "Happy to help! The capital of France is Paris."
    padded = short + " There is a lot to say about this." * 12
    assert gold_score(FACT, padded).total < gold_score(FACT, short).total - 0.05


@given(st.text(max_size=200))
def test_gold_is_defined_and_bounded_for_any_text(text: str) -> None:
    for prompt in (FACT, HARM):
        score = gold_score(prompt, text)
        assert -0.671 <= score.total <= 1.0 + 1e-9
        assert score.total == pytest.approx(sum(PARTS[n][0] * v for n, v in score.parts.items()))
        assert set(score.parts) == set(PARTS)


def test_weights_sum_to_one_and_the_best_writer_is_best(world: World) -> None:
    assert sum(w for w, _ in PARTS.values()) == pytest.approx(1.0)
    card = data_card(0, texts=100, sample=300)
    means = [card["quality"][p.name]["gold"] for p in (RAW, DEMONSTRATION, BEST)]
    assert means[0] + 0.03 < means[1] < means[2] - 0.2
    assert means[2] > 0.95


def test_gold_refuses_a_prompt_from_elsewhere() -> None:
    assert not knows("Who am I?")
    assert knows(f"Hello! {FACT} Thank you!")
    with pytest.raises(DataError, match="not a prompt of the sandbox"):
        gold_score("Who am I?", "You.")
    assert kind_of(HARM) is Kind.HARMFUL


def _accuracy(judge: Annotator, world: World) -> float:
    draw = random.Random(1)
    pairs = world.candidate_pairs("train", 400)
    right = 0.0
    for prompt, a, b in pairs:
        gap = gold_score(prompt.text, a).total - gold_score(prompt.text, b).total
        outcome = judge.judge(prompt.text, a, b, draw)
        right += 0.5 if outcome is Outcome.TIE or gap == 0 else float((outcome is Outcome.A) == (gap > 0))
    return right / len(pairs)


def test_ability_and_spam_show_in_accuracy(world: World) -> None:
    expert, novice = _accuracy(Annotator("e", ability=60.0), world), _accuracy(Annotator("n", ability=1.0), world)
    spammer = _accuracy(Annotator("s", spam=1.0), world)
    assert expert > 0.9 > 0.75 > novice > 0.55
    assert 0.4 < spammer < 0.6


def test_biases_move_the_verdict_the_way_they_say() -> None:
    short, long = "It is Paris.", "It is Paris. There is a lot to say about this. This is a very interesting subject."
    assert Annotator("plain").log_odds(FACT, short, long) >= 0
    assert Annotator("longer", length_bias=0.2).log_odds(FACT, long, short) > 0
    flattering = "Happy to help! It is Paris. Take care!"
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
    sides = [v[0].a == left for v, (_, left, _) in zip(draw_verdicts(panel(0), pairs, 1, 0), pairs, strict=True)]
    assert 0.4 < sum(sides) / len(sides) < 0.6


def test_bad_panels_are_refused() -> None:
    with pytest.raises(ConfigError, match="spammers"):
        panel(0, count=2, spammers=3)
    with pytest.raises(ConfigError, match="helpfull"):
        Annotator("a", values={"helpfull": 2.0})
    with pytest.raises(ConfigError, match="per_pair"):
        draw_verdicts(panel(0, count=2), [], 3, 0)
    with pytest.raises(ConfigError, match="no labelled pairs"):
        noise_ceiling([])
