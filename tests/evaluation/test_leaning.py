"""What a reward leans on: planted leanings are found, others are not, and the figures are those of plain formulas."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import DataError
from trueup.evaluation import edits
from trueup.evaluation.leaning import calibrate, cross_fitted, halves_of, leaning, within_pairs
from trueup.types import PreferencePair

NOUNS = "cat dog owl fox bee hen ant bat cow elk pig rat".split()


def answer(draw, *, length):
    """Sentences of nouns; some say indeed, some have markup."""
    parts = [" ".join(draw.choices(NOUNS, k=draw.randint(3, 6))).capitalize() + "." for _ in range(length)]
    if draw.random() < 0.4:
        parts.insert(draw.randint(0, len(parts)), "Indeed it is so.")
    return ("\n".join(f"- **{part}**" for part in parts) if draw.random() < 0.4 else " ".join(parts)).strip()


def pairs_of(count=120, seed=0, prompts=60):
    draw = random.Random(seed)
    pairs = []
    while len(pairs) < count:
        one, two = (answer(draw, length=draw.randint(2, 5)) for _ in range(2))
        if one != two:
            pairs.append(PreferencePair(f"Question {len(pairs) % prompts}?", one, two))
    return pairs


def by(rule):
    return lambda prompts, texts: [rule(text) for text in texts]


def test_a_reward_that_counts_words_is_seen_to_count_words():
    measured = leaning(pairs_of(), by(lambda text: len(text.split()) / 7))
    assert measured.correlations["words"].estimate == pytest.approx(1)
    by_part = {removal.part: removal.change for removal in measured.removals}
    assert by_part["the first three words"].estimate == pytest.approx(-3 / 7)
    assert by_part["the first sentence"].below(0)
    assert by_part["any other sentence"].below(0)


def test_a_reward_that_counts_markup_answers_to_its_removal_alone():
    pairs = pairs_of()
    measured = leaning(pairs, by(lambda text: float(edits.marks(text))))
    assert measured.correlations["marks of markup"].estimate == pytest.approx(1)
    removal = next(removal for removal in measured.removals if removal.part == "markup")
    marked = [edits.marks(text) for pair in pairs for text in (pair.chosen, pair.rejected) if edits.marks(text)]
    assert removal.answers == len(marked)
    assert removal.change.estimate == pytest.approx(-np.mean(marked))


def test_a_word_that_the_reward_likes_is_found_by_taking_it_out():
    measured = leaning(pairs_of(), by(lambda text: 2.0 * ("indeed" in text.lower()) + 0.01 * len(text)))
    first, *others = measured.words
    assert first.part == "indeed"
    assert first.change.estimate == pytest.approx(-2 - 0.07, abs=0.04)
    assert first.change.below(-1.9)
    assert all(abs(other.change.estimate) < 0.2 for other in others if other.part not in ("it", "is", "so"))


def test_an_opening_that_the_reward_likes_stands_first():
    pairs = [
        PreferencePair(f"Q{i}?", f"Great question here: {NOUNS[i % 12]}.", f"Well then now, {NOUNS[i % 7]} it is.")
        for i in range(30)
    ]
    measured = leaning(pairs, by(lambda text: float(text.startswith("Great"))))
    assert [(one.words, one.lead) for one in measured.openings] == [
        ("great question here", 0.5),
        ("well then now", -0.5),
    ]


def test_a_reward_turned_round_trips_the_canary_and_says_so_in_words():
    pairs = [PreferencePair(f"Q{i}?", "a good one " * 3, f"bad {i}") for i in range(40)]
    right, wrong = (leaning(pairs, by(lambda text, sign=sign: sign * float("good" in text))) for sign in (1, -1))
    assert not right.canary.flipped
    assert wrong.canary.flipped
    assert "SIGN IS WRONG" in wrong.format_text()
    assert "SIGN IS WRONG" not in right.format_text()
    assert right.skill.accuracy.estimate == 1
    assert wrong.skill.accuracy.estimate == 0


def test_a_constant_reward_leans_on_nothing_and_has_no_calibration():
    measured = leaning(pairs_of(30, prompts=15), by(lambda text: 1.0))
    assert measured.ties == 1
    assert measured.skill.accuracy.estimate == 0.5
    assert measured.correlations == {}
    assert measured.calibration is None
    assert all(removal.change.estimate == 0 for removal in measured.removals)
    assert "nan" not in json.dumps(measured.to_dict()).lower()


def test_one_pair_is_enough_and_none_is_refused():
    measured = leaning([PreferencePair("Q?", "one two three four", "five")], by(lambda text: float(len(text))))
    assert measured.skill.baselines == {}
    assert "1 pairs" in measured.format_text()
    json.dumps(measured.to_dict())
    with pytest.raises(DataError, match="no pairs"):
        leaning([], by(len))


# Formulas -------------------------------------------------------------------------------------------------------------

SIDES = st.lists(st.tuples(*[st.floats(-5, 5)] * 4), min_size=3, max_size=20)


@given(SIDES)
@settings(max_examples=60, deadline=None)
def test_correlation_within_pairs_is_that_of_values_less_the_mean_of_their_pair(rows):
    x, y = np.array([row[:2] for row in rows]), np.array([row[2:] for row in rows])
    keys = [str(i) for i in range(len(rows))]
    measured = within_pairs(x[:, 0] - x[:, 1], y[:, 0] - y[:, 1], keys)
    centred = [(values - values.mean(1, keepdims=True)).ravel() for values in (x, y)]
    if min(np.square(c).sum() for c in centred) < 1e-12:
        return
    assert measured is not None
    assert measured.estimate == pytest.approx(np.corrcoef(*centred)[0, 1], abs=1e-9)
    swapped = np.arange(len(rows)) % 2 * 2 - 1
    turned = within_pairs(swapped * (x[:, 0] - x[:, 1]), swapped * (y[:, 0] - y[:, 1]), keys)
    assert turned is not None
    assert turned.estimate == pytest.approx(measured.estimate)


def test_margins_of_a_known_scale_are_calibrated_by_it_and_by_no_other():
    draw = np.random.default_rng(0)
    size = draw.exponential(1.0, 20000)
    margin = np.where(draw.random(20000) < 1 / (1 + np.exp(-2 * size)), size, -size)
    own, half = calibrate(margin, 2.0), calibrate(margin, 1.0)
    assert own is not None
    assert half is not None
    assert own.best_scale == pytest.approx(2.0, rel=0.05)
    assert own.error < 0.01 < 0.08 < half.error
    fitted = calibrate(margin)
    assert fitted is not None
    assert not fitted.known
    assert fitted.scale == pytest.approx(2.0, rel=0.05)
    assert sum(cell.pairs for cell in own.bins) == 20000


@pytest.mark.parametrize("margin", [[1.0, 2.0, 3.0], [-1.0, -2.0]])
def test_where_every_pair_is_right_or_wrong_no_scale_fits_best(margin):
    assert calibrate(np.array(margin)) is None
    known = calibrate(np.array(margin), 1.0)
    assert known is not None
    assert known.best_scale is None


def test_halves_share_no_prompt_and_baselines_are_fitted_on_the_other():
    pairs = [PreferencePair(f"Q{i // 2}?", " ".join(["word"] * (4 + i % 3)), "word word") for i in range(40)]
    keys = [str(pair.prompt) for pair in pairs]
    first, second = halves_of(keys)
    assert sorted(first + second) == list(range(40))
    assert {keys[i] for i in first}.isdisjoint(keys[i] for i in second)
    right = cross_fitted(pairs, keys)
    assert right["length alone"].tolist() == [1.0] * 40
    assert cross_fitted(pairs[:2], keys[:2]) == {}


# Edits ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count", "plain"),
    [
        ("# Title\nText", 1, "Title Text"),
        ("- one\n- two\n* three", 3, "one two three"),
        ("1. one\n2) two", 2, "one two"),
        ("**bold** and `code`", 4, "bold and code"),
        ("```python\nx = 1\n```", 2, "x = 1"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", 3, "a b 1 2"),
        ("3.5 and 2 - 1 = 1, snake_case, a*b", 0, "3.5 and 2 - 1 = 1, snake_case, a*b"),
        ("", 0, ""),
    ],
)
def test_markup_is_counted_and_taken_off(text, count, plain):
    assert edits.marks(text) == count
    assert edits.without_markup(text) == plain


@given(st.text(max_size=60), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_edits_never_fail_and_only_take_away(text, seed):
    for edit in edits.EDITS.values():
        assert len(edit(text, random.Random(seed)).split()) <= len(text.replace("|", " ").split()) + text.count("|")
    assert "".join("".join(edits.sentences(text)).split()) == "".join(text.split())


def test_parts_of_a_text():
    text = "One is here. Two, too! Three?\nFour"
    assert edits.sentences(text) == ["One is here.", "Two, too!", "Three?", "Four"]
    assert edits.without_sentence(text, lambda n: 0) == "Two, too! Three? Four"
    assert edits.without_sentence("Only one.", lambda n: 0) == "Only one."
    assert edits.without_opening_words("a b c d e") == "d e"
    assert edits.without_opening_words("a b c") == "a b c"
    assert edits.opening("Great, I THINK so") == "great i think"
    assert edits.without_word("Cat, the cat's cat.", "cat") == ", the cat's ."
