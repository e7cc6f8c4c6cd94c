"""Agreement: published worked examples, independent packages, real files, and the cases that have no answer."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.published import SOURCES, rows
from trueup.errors import ShapeError
from trueup.feedback.quality.agreement import (
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    kendall_w,
    krippendorff_alpha,
    raw_agreement,
    with_interval,
)

# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", four observers and twelve units; 0 is a gap.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3),
    (0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0),
)
FOUR_OBSERVERS = [[v for v in unit if v] for unit in zip(*OBSERVERS, strict=True)]
# Fleiss 1971 as tabulated in textbooks: ten subjects, fourteen raters, five categories.
FLEISS = (
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
)


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorffs_published_example(level, published):
    assert round(krippendorff_alpha(FOUR_OBSERVERS, level).value, 3) == published


def test_fleiss_kappa_of_the_published_example():
    units = [[k for k, n in enumerate(counts) for _ in range(n)] for counts in FLEISS]
    assert round(fleiss_kappa(units).value, 3) == 0.210


def test_cohen_kappa_and_gwet_ac1_of_worked_examples():
    first, second = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohen_kappa(first, second).value == pytest.approx(0.4)
    skewed = [[1, 1]] * 118 + [[1, 0]] * 5 + [[0, 1]] * 2
    # The prevalence paradox: 94 % raw agreement, kappa below zero, AC1 near the raw agreement.
    assert raw_agreement(skewed).value == pytest.approx(0.944)
    assert cohen_kappa(*zip(*skewed, strict=True)).value == pytest.approx(-0.0234, abs=1e-4)
    assert gwet_ac1(skewed).value == pytest.approx(0.9408, abs=1e-4)


values = st.lists(st.lists(st.integers(0, 4), min_size=0, max_size=5), min_size=2, max_size=25)


@settings(max_examples=80, deadline=None)
@given(values, st.sampled_from(["nominal", "ordinal", "interval"]))
def test_alpha_equals_the_reference_package(units, level):
    pytest.importorskip("krippendorff")
    found = krippendorff_alpha(units, level)
    held = [v for unit in units if len(unit) > 1 for v in unit]
    if len(set(held)) < 2:
        assert found.value is None
        assert found.reason
        return
    assert found.value == by_package(units, level)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=20))
def test_fleiss_equals_the_reference_package(units):
    oracle = pytest.importorskip("statsmodels.stats.inter_rater")
    found = fleiss_kappa(units)
    if len({v for unit in units for v in unit}) == 1:
        assert found.value is None
        return
    table = np.array([[unit.count(k) for k in range(4)] for unit in units])
    assert found.value == pytest.approx(oracle.fleiss_kappa(table), abs=1e-12)


@pytest.mark.parametrize(("weights", "theirs"), [("none", None), ("linear", "linear"), ("quadratic", "quadratic")])
def test_weighted_kappa_equals_the_reference_package(weights, theirs):
    oracle = pytest.importorskip("statsmodels.stats.inter_rater")
    draw = np.random.default_rng(1)
    first, second = draw.integers(0, 4, 60), draw.integers(0, 4, 60)
    table = np.zeros((4, 4))
    np.add.at(table, (first, second), 1)
    wanted = oracle.cohens_kappa(table, wt=theirs, return_results=False)
    assert cohen_kappa(first.tolist(), second.tolist(), weights).value == pytest.approx(float(wanted))


def test_random_values_with_gaps_have_no_agreement_beyond_chance():
    draw = np.random.default_rng(0)
    units = [draw.integers(0, 2, draw.integers(2, 5)).tolist() for _ in range(6000)]
    for measure in (krippendorff_alpha, gwet_ac1):
        assert abs(measure(units).value) < 0.03


@pytest.mark.parametrize("measure", [krippendorff_alpha, gwet_ac1, fleiss_kappa, raw_agreement])
def test_what_is_undefined_is_none_with_a_reason(measure):
    for units in ([], [[1], [2]]):
        found = measure(units)
        assert found.value is None
        assert found.reason
    unanimous = measure([[1, 1], [1, 1]])
    assert unanimous.value == 1.0 if measure is raw_agreement else "one category" in unanimous.reason


def test_fleiss_refuses_gaps():
    with pytest.raises(ShapeError, match="krippendorff_alpha"):
        fleiss_kappa([[1, 2], [1, 1, 1]])


def test_relabelling_and_order_do_not_matter():
    flipped = [[6 - v for v in reversed(unit)] for unit in FOUR_OBSERVERS]
    for level in ("nominal", "ordinal", "interval"):
        assert krippendorff_alpha(flipped, level).value == pytest.approx(
            krippendorff_alpha(FOUR_OBSERVERS, level).value
        )


def test_the_interval_covers_the_truth_and_narrows_with_more_items():
    draw = np.random.default_rng(3)

    def noisy(count):
        truth = draw.integers(0, 2, count)
        return [[int(t) if draw.random() < 0.9 else 1 - int(t) for _ in range(3)] for t in truth]

    few, many = (with_interval(krippendorff_alpha, noisy(n), resamples=200) for n in (40, 800))
    true = 0.8**2  # two annotators who are right with 0.9 agree beyond chance by (2 * 0.9 - 1)²
    assert few.low < true < few.high
    assert many.low < true < many.high
    assert many.high - many.low < few.high - few.low


def test_kendall_w_of_equal_reversed_tied_and_single_rankings():
    assert kendall_w([[1, 2, 3], [1, 2, 3]]).value == 1.0
    assert kendall_w([[1, 2, 3], [3, 2, 1]]).value == 0.0
    assert kendall_w([[1, 1, 1], [1, 1, 1]]).value is None
    assert kendall_w([[1, 2, 3]]).value is None


def by_package(units, level="nominal"):
    """Krippendorff's alpha by the independent package."""
    oracle = pytest.importorskip("krippendorff")
    width = max(len(unit) for unit in units)
    matrix = np.array([[*map(float, unit), *[np.nan] * (width - len(unit))] for unit in units]).T
    return pytest.approx(oracle.alpha(reliability_data=matrix, level_of_measurement=level), abs=1e-9)


@pytest.mark.parametrize("source", SOURCES)
def test_reference_values_of_pandalm(source):
    units = [[r[f"annotator{k}"] for k in (1, 2, 3)] for r in rows(source, "annotators/pandalm_three_annotators")]
    if source == "own":
        oracle = pytest.importorskip("statsmodels.stats.inter_rater")
        table = np.array([[unit.count(k) for k in range(3)] for unit in units])
        assert fleiss_kappa(units).value == pytest.approx(oracle.fleiss_kappa(table), abs=1e-12)
        assert krippendorff_alpha(units).value == by_package(units)
        assert 0.5 < krippendorff_alpha(units).value < 0.95
        return
    assert fleiss_kappa(units).value == pytest.approx(0.863151, abs=1e-6)
    assert krippendorff_alpha(units).value == pytest.approx(0.863228, abs=1e-6)
    assert sum(len(set(unit)) == 1 for unit in units) / len(units) == pytest.approx(0.882353, abs=1e-6)
    for (a, b), wanted in {(0, 1): 0.852959, (0, 2): 0.885253, (1, 2): 0.851392}.items():
        assert cohen_kappa([u[a] for u in units], [u[b] for u in units]).value == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("source", SOURCES)
def test_reference_values_of_tulu_where_people_agree_little(source):
    codes = {"a-is-better": 0, "a-is-slightly-better": 1, "tie": 2, "b-is-slightly-better": 3, "b-is-better": 4}
    strength, acceptable = {}, {}
    for row in rows(source, "annotators/tulu1_human_eval"):
        models = sorted((row["model_a"], row["model_b"]))
        swapped = row["model_a"] != models[0]
        code = 4 - codes[row["preference"]] if swapped else codes[row["preference"]]
        item = (row["instance_index"], *models)
        strength.setdefault(item, {}).setdefault(row["evaluator"], code)
        for model in models:
            yes = row["a_acceptable" if row["model_a"] == model else "b_acceptable"] == "yes"
            acceptable.setdefault((*item, model), {}).setdefault(row["evaluator"], float(yes))
    units = [list(v.values()) for v in strength.values()]
    if source == "own":
        told = [list(v.values()) for v in acceptable.values()]
        assert sum(len(unit) == 2 for unit in units) == 20
        for level in ("ordinal", "interval"):
            assert krippendorff_alpha(units, level).value == by_package(units, level)
        assert krippendorff_alpha(told).value == by_package(told)
        return
    assert krippendorff_alpha(units, "ordinal").value == pytest.approx(0.3820, abs=5e-5)
    assert krippendorff_alpha(units, "interval").value == pytest.approx(0.3653, abs=5e-5)
    three_way = [[(v > 2) - (v < 2) for v in unit] for unit in units]
    assert krippendorff_alpha(three_way).value == pytest.approx(0.3341, abs=5e-5)
    assert krippendorff_alpha([list(v.values()) for v in acceptable.values()]).value == pytest.approx(0.4247, abs=5e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_reference_values_of_convabuse_and_its_repeats(source):
    first, again = {}, []
    for row in rows(source, "annotators/convabuse_carbonbot"):
        held = first.setdefault(row["item"], {})
        if row["annotator"] in held:
            again.append(held[row["annotator"]] == row["severity"])
        held.setdefault(row["annotator"], row["severity"])
    units = [list(v.values()) for v in first.values()]
    if source == "own":
        assert (len(units), len(again)) == (40, 4)
        for level in ("ordinal", "interval", "nominal"):
            assert krippendorff_alpha(units, level).value == by_package(units, level)
        return
    found = [krippendorff_alpha(units, level).value for level in ("ordinal", "interval", "nominal")]
    assert found == pytest.approx([0.6241, 0.7574, 0.4375], abs=5e-5)
    assert Counter(again)[True] / len(again) == pytest.approx(0.9685, abs=5e-5)
