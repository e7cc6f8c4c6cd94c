"""Parts of a reward that read texts: each against counting by hand, and what their settings refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import ConfigError, UsageError
from trueup.rewards.ensemble import combined
from trueup.rewards.mixture import as_parts, part_names
from trueup.rewards.part import ngrams, units
from trueup.rewards.registry import identify, open_reward
from trueup.rewards.scale import Scale
from trueup.spec import rewards as spec
from trueup.types import Completion, StopReason


def answer(text, ids=(1,), stop=StopReason.EOS):
    return Completion(text, tuple(ids), stop)


def values(part, *texts):
    completions = [answer(text) if isinstance(text, str) else text for text in texts]
    (opened,) = as_parts([part])
    return opened.open(None, None).score(["?"] * len(completions), completions).tolist()


WORDS = st.lists(st.sampled_from("a b c d".split()), max_size=12)


# Length ---------------------------------------------------------------------------------------------------------------


@given(WORDS, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9), st.floats(0.5, 50))
@settings(max_examples=80, deadline=None)
def test_length_is_minus_the_distance_from_the_band(words, low, high, per):
    if low is not None and high is not None and low > high:
        low, high = high, low
    (measured,) = values({"kind": "length", "at_least": low, "at_most": high, "per": per}, " ".join(words))
    assert measured == pytest.approx(-spec.outside(len(words), low, high) / per)


def test_length_counts_words_tokens_or_characters():
    drawn = answer("three small words", ids=(4, 5, 6, 7, 8))
    for unit, count in (("words", 3), ("tokens", 5), ("characters", 17)):
        assert values({"kind": "length", "unit": unit, "per": 1}, drawn) == [-count]


def test_tokens_of_a_text_that_nobody_drew_are_refused():
    with pytest.raises(UsageError, match="the unit is tokens"):
        values({"kind": "length", "unit": "tokens"}, answer("typed by hand", ids=()))
    assert values({"kind": "length", "unit": "tokens"}, answer("", ids=())) == [0]


# Repetition and diversity ---------------------------------------------------------------------------------------------


@given(WORDS, st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_repetition_is_the_share_of_ngrams_that_stood_before(words, n):
    (measured,) = values({"kind": "repetition", "n": n}, " ".join(words))
    assert measured == pytest.approx(-spec.repeated_share(words, n))


def test_a_loop_is_near_minus_one_and_prose_is_zero():
    loop, prose = "helpful safe accurate " * 50, "The fox jumps over one lazy dog and then it sleeps"
    measured = values({"kind": "repetition"}, loop, prose, "", "two words")
    assert measured[0] < -0.97
    assert measured[1:] == [0, 0, 0]


@given(st.lists(WORDS, min_size=1, max_size=6), st.lists(WORDS, max_size=4), st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_diversity_shares_each_ngram_among_those_who_have_it(batch, earlier, n):
    (part,) = as_parts([{"kind": "diversity", "n": n, "memory": 3}])
    reward = part.open(None, None)
    reward.remember([answer(" ".join(words)) for words in earlier])
    measured = reward.score(["?"] * len(batch), [answer(" ".join(words)) for words in batch])
    np.testing.assert_allclose(measured, spec.diversity(batch, earlier[-3:], n), rtol=1e-6)


def test_equal_answers_share_one_point_and_an_own_one_has_it_alone():
    same = ["the cat sat down"] * 4
    assert values({"kind": "diversity"}, *same) == [0.25] * 4
    assert values({"kind": "diversity"}, *same[:3], "a wholly other line")[3] == 1
    assert values({"kind": "diversity"}, "yes", "yes", "no") == [0.5, 0.5, 1]  # shorter than an n-gram
    assert values({"kind": "diversity"}, "") == [0]


def test_looking_does_not_remember_and_the_memory_forgets_the_oldest():
    (part,) = as_parts([{"kind": "diversity", "memory": 2}])
    reward = part.open(None, None)
    for _ in range(3):
        assert reward.score(["?"], [answer("one two three")]).tolist() == [1]
    reward.remember([answer("one two three"), answer("x y z"), answer("u v w")])
    assert reward.score(["?"], [answer("one two three")]).tolist() == [1]
    assert reward.score(["?"], [answer("u v w")]).tolist() == [0.5]


def test_ngrams_of_less_than_n_are_the_whole():
    assert ngrams("ab", 3) == [("a", "b")]
    assert ngrams("", 3) == []
    assert units(answer("Ein  Wort\nmehr"), "words") == ["ein", "wort", "mehr"]


# Refusal and patterns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I can't help with that.", "full"),
        ("I can\u2019t help with that. Is there anything else?", "full"),
        ("I'm sorry, but I cannot do this.", "full"),
        ("I can't tell you how. But here is what is safe: call a doctor, open a window and wait outside.", "partial"),
        ("Boil the egg for seven minutes and put it in cold water.", "none"),
        ("", "none"),
        ("As an AI, I think it is fine. I can't recommend it enough, and I will not lie about that.", "none"),
    ],
)  # fmt: skip
def test_refusals_are_full_partial_or_none(text, kind):
    part = {"kind": "refusal", "full": -3, "partial": -2}
    assert values(part, text) == [{"full": -3, "partial": -2, "none": 0}[kind]]


def test_refusals_of_the_sandbox_are_seen_and_its_answers_are_not():
    from trueup.sandbox import World
    from trueup.sandbox.phrases import REFUSALS

    assert values({"kind": "refusal", "full": 1}, *REFUSALS) == [1] * len(REFUSALS)
    answers = [text for _, *both in World(0).candidate_pairs("train", 200) for text in map(str, both)]
    others = [text for text in answers if "help" not in text]
    worth = values({"kind": "refusal", "full": 1, "partial": 1}, *others)
    assert [text for text, value in zip(others, worth, strict=True) if value] == []


def test_own_phrases_and_values():
    part = {"kind": "refusal", "phrases": ["Lieber nicht"], "full": 2, "partial": 1}
    assert values(part, "Lieber nicht.", "I can't help with that.") == [2, 0]


def test_patterns_give_points_once_or_each_time():
    rules = [
        {"pattern": "^- ", "score": -1, "each": True},
        {"pattern": "thanks", "score": 0.5, "ignore_case": True},
        {"pattern": r"\bplease\b", "score": 2},
    ]
    text = "Thanks, THANKS\n- one\n- two, please and please"
    assert values({"kind": "regex", "rules": rules}, text, "") == [-2 + 0.5 + 2, 0]


# Ensembles and scales -------------------------------------------------------------------------------------------------

SCORES = st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=2, max_size=5)


@given(SCORES, st.sampled_from(["mean", "min", "mean_minus_sd"]), st.floats(0, 3), st.randoms())
@settings(max_examples=80, deadline=None)
def test_ensembles_are_what_the_formula_says_in_any_order(score_MB, combine, k, random):
    measured = combined(torch.tensor(score_MB, dtype=torch.float64), combine, k)
    np.testing.assert_allclose(measured, spec.ensemble(np.array(score_MB), combine, k), atol=1e-12)
    shuffled = random.sample(score_MB, len(score_MB))
    np.testing.assert_allclose(combined(torch.tensor(shuffled, dtype=torch.float64), combine, k), measured, atol=1e-12)


def test_known_ensembles():
    score_MB = torch.tensor([[1.0, 2.0], [3.0, 2.0]], dtype=torch.float64)
    assert combined(score_MB, "mean_minus_sd", 0).tolist() == combined(score_MB, "mean", 9).tolist() == [2, 2]
    assert combined(score_MB, "mean_minus_sd", 1).tolist() == combined(score_MB, "min", 9).tolist() == [1, 2]


STEPS = st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6), min_size=1, max_size=5)


@given(STEPS, st.booleans())
@settings(max_examples=120, deadline=None)
def test_scales_are_those_of_all_values_at_once(steps, running):
    scale = Scale("running" if running else "batch")
    for step in steps:
        measured = scale(torch.tensor(step), learn=True)
    np.testing.assert_allclose(measured, spec.normalised([np.array(s) for s in steps], running), rtol=1e-5, atol=1e-5)


@given(STEPS, st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_a_scale_goes_on_to_the_bit_from_its_state_and_probes_leave_it_alone(steps, cut):
    import json

    straight, resumed = Scale("running"), Scale("running")
    for number, step in enumerate(steps):
        if number == cut:
            state = json.loads(json.dumps(resumed.state()))
            resumed = Scale("running")
            resumed.restore(state)
        resumed(torch.tensor([7.0, 8.0]), learn=False)
        one, two = (scale(torch.tensor(step), learn=True) for scale in (straight, resumed))
        assert one.tolist() == two.tolist()


def test_values_that_are_alike_come_out_as_exactly_zero():
    noisy = torch.tensor([2.0, 2.0 + 1e-7, 2.0])
    assert Scale("batch")(noisy, learn=True).tolist() == [0, 0, 0]
    assert Scale("running")(torch.tensor([5.0]), learn=True).tolist() == [0]


def test_probes_are_measured_by_the_last_step():
    scale = Scale("batch")
    scale(torch.tensor([0.0, 2.0]), learn=True)
    assert scale(torch.tensor([3.0]), learn=False).tolist() == [2]
    assert Scale("batch")(torch.tensor([0.0, 2.0]), learn=False).tolist() == [-1, 1]


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "at least one part"),
        ([{"weight": 1}], "a block with a kind"),
        ([{"kind": "lenght"}], "did you mean 'length'"),
        ([{"kind": "length", "at_most": 3, "at_least": 5}], "at_least 5 is above at_most 3"),
        ([{"kind": "length", "perr": 3}], "perr.*did you mean 'per'"),
        ([{"kind": "length", "weight": float("nan")}], "finite number"),
        ([{"kind": "length", "weight": True}], "found True; expected a number"),
        ([{"kind": "length", "unit": "wrods"}], "did you mean 'words'"),
        ([{"kind": "length"}, {"kind": "repetition", "normalise": "bach"}], r"reward\.1\.normalise.*mean 'batch'"),
        ([{"kind": "regex", "rules": [{"pattern": "(", "score": 1}]}], "no regular expression"),
        ([{"kind": "regex", "rules": []}], "at least one"),
        ([{"kind": "refusal", "phrases": ["  "]}], "an empty phrase"),
        ([{"kind": "ensemble", "members": ["runs/a/final"]}], "at least 2 of them"),
        ([{"kind": "ensemble", "members": ["a:b", "a:c"], "combine": "min", "k": 2}], "k: combine=min does not use it"),
        ([{"kind": "length", "name": "a/b"}], "name"),
        ([{"kind": "length", "name": "x"}, {"kind": "regex", "name": "x", "rules": [{"pattern": "a", "score": 1}]}],
         "two parts are called 'x'"),
        ([{"kind": "length", "on_error": "zero"}], "known: drop, stop"),
        ([3], "found 3; expected a block"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_say_why(parts, says):
    with pytest.raises(ConfigError, match=says):
        as_parts(parts)


def test_each_mistake_is_said_once():
    with pytest.raises(ConfigError) as error:
        as_parts([{"kind": "lenght"}, {"kind": "regex", "rules": [{"pattern": "a", "scor": 1}]}])
    lines = str(error.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "reward.0",
        "reward.1.rules.0.score",
        "reward.1.rules.0.scor",
    ]


def test_names_are_those_of_source_or_kind_and_never_the_same():
    listed = [
        "runs/helpful/final",
        {"source": "my_rewards:checked"},
        {"source": "org/sentiment#label=GOOD"},
        {"kind": "length"},
        {"kind": "length"},
        {"kind": "length", "name": "length-2"},
        {"source": "other/helpful/final"},
        "..",
    ]
    assert part_names(as_parts(listed)) == [
        "helpful", "checked", "sentiment", "length", "length-3", "length-2", "helpful-2", "source"
    ]  # fmt: skip


def test_the_fingerprint_is_that_of_every_part_and_of_what_it_reads(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    listed = [{"source": "tests.rewards.scorers:brevity"}, {"kind": "length", "per": 10}]
    first = identify(listed)
    assert open_reward(listed).fingerprint == first
    others = [
        [listed[0]],
        [listed[1], listed[0]],
        [listed[0], {"kind": "length", "per": 11}],
        [listed[0] | {"weight": 2}, listed[1]],
        [{"source": "tests.rewards.scorers:Favourite"}, listed[1]],
        [{"kind": "ensemble", "members": ["tests.rewards.scorers:brevity", "tests.rewards.scorers:Favourite"]}],
        [{"kind": "ensemble", "members": ["tests.rewards.scorers:Favourite", "tests.rewards.scorers:brevity"]}],
    ]
    prints = [first, *map(identify, others)]
    assert len(set(prints)) == len(prints)
    with pytest.raises(ConfigError, match="no 'nothing'"):
        identify([{"kind": "ensemble", "members": ["tests.rewards.scorers:brevity", "tests.rewards.scorers:nothing"]}])
