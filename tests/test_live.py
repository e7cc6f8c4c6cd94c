"""Runs as they grow: decimation keeps what matters, alerts have hysteresis, verdicts follow from the numbers."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web.explorer.planted import CONFIG, PROMPTS, append, plant, row, start, write, write_offline
from trueup.commands.live.cursor import Cursor
from trueup.commands.live.follow import Followed
from trueup.commands.live.samples import Samples, prompt_key
from trueup.commands.live.story import penalty, tell
from trueup.ledger.alerts import CLEAR, HELD, alerts, running_correlation, running_mean, spans
from trueup.ledger.columns import Columns, extremes

VALUES = st.lists(st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf]), min_size=5, max_size=400)


def columns(values, name="score"):
    filled = Columns()
    for step, value in enumerate(values):
        filled.append({"step": step, name: value})
    return filled


@given(VALUES, st.integers(4, 50))
def test_a_decimated_curve_keeps_its_ends_and_extremes_and_gaps(values, points):
    steps, kept = columns(values).decimate("score", points)
    assert steps == sorted(set(steps))
    assert all(values[step] == value or value != value for step, value in zip(steps, kept, strict=True))
    assert (steps[0], steps[-1]) == (0, len(values) - 1)
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        assert min(finite) in kept
        assert max(finite) in kept
    assert len(finite) == len(values) or any(not math.isfinite(value) for value in kept)
    assert len(kept) <= max(3 * (points // 2 + 1) + 2, points)


@given(VALUES, st.integers(1, 40))
def test_every_bucket_keeps_its_own_extremes(values, buckets):
    kept = set(extremes(np.array(values), buckets))
    width = -(-len(values) // buckets)
    for begin in range(0, len(values), width):
        part = {place: values[place] for place in range(begin, min(begin + width, len(values)))}
        finite = [value for value in part.values() if math.isfinite(value)]
        shown = [values[place] for place in kept & set(part)]
        assert not finite or (min(finite) in shown and max(finite) in shown)


@given(st.text(max_size=60))
def test_a_cursor_is_one_or_is_none(text):
    cursor = Cursor.parse(text)
    assert cursor is None or str(cursor) == text or int(text.split(".")[1]) == cursor.resumes


@given(st.from_regex(r"[0-9a-f]{8}", fullmatch=True), st.integers(0, 10**8), st.integers(0, 10**14))
def test_a_cursor_comes_back(origin, resumes, offset):
    cursor = Cursor(origin, resumes, (offset, 2 * offset % 10**14))
    assert Cursor.parse(str(cursor)) == cursor


@given(st.lists(st.integers(0, 2), max_size=60))
def test_hysteresis_opens_late_and_closes_late(levels):
    """0 is clear, 2 is bad, 1 is between: it neither opens nor closes."""
    bad, clear = np.array([n == 2 for n in levels], dtype=bool), np.array([n == 0 for n in levels], dtype=bool)
    expected, opened = [], None
    for place in range(len(levels)):
        lately = levels[: place + 1]
        if opened is None:
            since = expected[-1][1] if expected else -1
            if lately[-HELD:] == [2] * HELD and place - since >= HELD:
                opened = place
        elif lately[-CLEAR:] == [0] * CLEAR and place - opened >= CLEAR:
            expected.append((opened, place))
            opened = None
    if opened is not None:
        expected.append((opened, None))
    assert spans(bad, clear) == expected


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(1, 9))
def test_a_running_mean_is_the_mean_of_the_last(values, width):
    expected = [np.mean(values[max(0, n + 1 - width) : n + 1]) for n in range(len(values))]
    assert running_mean(np.array(values), width) == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 10**6), st.integers(30, 80), st.sampled_from([0.0, 1.0, 1e6]))
def test_a_running_correlation_is_pearsons(seed, count, offset):
    draw = np.random.default_rng(seed)
    left, right = draw.normal(size=count) + offset, draw.normal(size=count)
    expected = [
        np.corrcoef(left[n - 29 : n + 1], right[n - 29 : n + 1])[0, 1] if n >= 29 else 0.0 for n in range(count)
    ]
    assert running_correlation(left, right, 30) == pytest.approx(expected, abs=1e-6)
    assert (running_correlation(np.full(count, 3.0), right, 30) == 0).all()


def run_of(tmp_path, values, steps=60, config=CONFIG, kind="ppo"):
    followed = Followed(plant(tmp_path / "r", steps, values=values, config=config, kind=kind))
    followed.refresh()
    return followed.metrics


def test_a_clean_run_raises_nothing(tmp_path):
    assert alerts(run_of(tmp_path, row), CONFIG) == []


PLANTED = {
    "kl_runaway": lambda step: {**row(step), "kl": 4.0 if step < 20 else 12.0},
    "entropy_collapse": lambda step: {**row(step), "entropy": 1.0 if step < 20 else 0.1},
    "repetition": lambda step: {**row(step), "distinct_2": 0.5 if step < 20 else 0.1},
    "length": lambda step: {**row(step), "completion_length": 20.0 if step < 20 else 20.0 + 2 * (step - 20)},
    "loops": lambda step: {**row(step), "repeated_3": 0.05 if step < 20 else 0.6},
    "refusals": lambda step: {**row(step), "refusals": 0.1 if step < 20 else 0.5},
    "dead_groups": lambda step: {**row(step), "dead_groups": 0.3 if step < 20 else 1.0},
    "value_collapse": lambda step: {**row(step), "explained_variance": 0.1 if step < 20 else -1.0},
    "ensemble_divergence": lambda step: {**row(step), "reward/ensemble/spread": 0.2 if step < 20 else 0.7},
    "proxy_gold": lambda step: {**row(step), "gold": 0.5 + 0.01 * (min(step, 20) - 2 * max(0, step - 20))},
    "not_finite": lambda step: {**row(step), "loss": 1.0 if step < 20 else math.nan},
    "both_fall": lambda step: {"loss": 0.5, "margin": 0.1 * step, "chosen_logratio": min(0.0, 19 - step),
                               "rejected_logratio": -2.0 * step},
}  # fmt: skip


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_fault_raises_its_own_alert_near_its_step(tmp_path, rule):
    raised = alerts(run_of(tmp_path, PLANTED[rule]), CONFIG)
    assert [one.rule for one in raised] == [rule]
    assert 20 <= raised[0].step <= (38 if rule == "length" else 28)
    assert raised[0].until is None


def test_an_alert_ends_when_its_cause_does(tmp_path):
    raised = alerts(run_of(tmp_path, lambda step: {**row(step), "kl": 12.0 if 20 <= step < 30 else 4.0}), CONFIG)
    assert [one.rule for one in raised] == ["kl_runaway"]
    assert 30 < raised[0].until <= 45


STORIES = [
    (row, CONFIG, "Reward rises, KL is inside its band", "good"),
    (lambda s: {**row(s), "kl": 1.0}, CONFIG, "Reward rises, KL is below its band", "good"),
    (lambda s: {**row(s), "score": 1.0 + 0.1 * (s % 2), "kl": 4.0 if s < 30 else 9.0}, CONFIG,
     "KL left its band at step 30 while reward gained nothing", "bad"),
    (lambda s: {**row(s), "kl": 4.0 if s < 30 else 9.0}, CONFIG,
     "KL left its band at step 30 while reward still rises", "watch"),
    (lambda s: {**row(s), "kl": 4.0 if s < 57 else 40.0}, CONFIG,
     "KL left its band at step 57, too recently to say what for", "watch"),
    (lambda s: {**row(s), "kl": 0.1 * s}, {}, "Reward rises; KL rises", "watch"),
    (lambda s: {**row(s), "score": 1.0 + 0.1 * (s % 2), "kl": 0.1 * s}, {}, "Reward is flat; KL rises", "bad"),
    (PLANTED["both_fall"], {}, "Both fall: chosen answers become less likely too", "bad"),
    (lambda s: {"loss": 1 / (1 + s)}, {}, "Loss falls", "good"),
    (lambda s: {"loss": 1 / (1 + s), "heldout_loss": 0.5 + abs(s - 20) / 40}, {},
     "Held-out loss is past its best: over-fitting", "watch"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "config", "headline", "tone"), STORIES, ids=[story[2] for story in STORIES])
def test_the_verdict_follows_from_the_numbers(tmp_path, values, config, headline, tone):
    verdict = tell(run_of(tmp_path, values, config=config), config)
    assert (verdict.headline, verdict.tone) == (headline, tone)
    assert verdict.reasons


def test_a_few_steps_say_nothing(tmp_path):
    assert tell(run_of(tmp_path, row, steps=4), CONFIG).tone == "wait"


@pytest.mark.parametrize(
    ("config", "metric", "where"),
    [
        ({}, "kl", "penalised in the reward"),
        ({"kl": {"kind": "fixed", "beta": 0.1}, "kl_place": "k3"}, "kl_k3", "penalised in the loss, by k3"),
        ({"kl": {"kind": "fixed", "beta": 0.0}}, "kl", "measured, not penalised"),
    ],
)
def test_the_kl_that_is_penalised_is_named(config, metric, where):
    filled = Columns()
    filled.append({"step": 0, "kl": 1.0, "kl_k3": 1.0})
    assert penalty(config, filled) == {"metric": metric, "where": where}
    assert penalty(config, columns([1.0])) is None


@pytest.mark.parametrize(
    "line", ["{", "[]", '"x"', "{}x", '{"step": -1}', '{"step": true}', '{"step": 99999999999999999999}', "\x00"]
)
def test_a_damaged_line_is_left_out_and_counted(tmp_path, line):
    run = start(tmp_path / "r")
    write(run, range(3))
    for stream in ("metrics", "samples"):
        with open(run.path / f"{stream}.jsonl", "a") as handle:
            handle.write(f"{line}\n")
    append(run.path, "metrics", {"step": 3, "score": 9.0})
    followed, samples = Followed(run.path), Samples(run.path)
    followed.refresh()
    samples.refresh()
    assert list(followed.metrics.pairs("score"))[-1] == (3, 9.0)
    assert (followed.left_out, samples.left_out) == (1, 1)
    run.__exit__(None, None, None)


def test_files_are_read_on_and_not_read_again(tmp_path, monkeypatch):
    from trueup.commands.live import follow

    run = start(tmp_path / "r")
    write(run, range(50))
    followed = Followed(run.path)
    followed.refresh()
    parsed = []
    monkeypatch.setattr(follow, "parse_line", lambda line: parsed.append(line) or json.loads(line))
    write(run, range(50, 52))
    followed.refresh()
    assert len(parsed) == 4  # two of metrics, two of timing
    assert followed.metrics.rows == 52
    run.__exit__(None, None, None)


def trueup(*words):
    command = [sys.executable, "-m", "trueup", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_rollouts_and_watch_in_a_terminal(tmp_path):
    plant(tmp_path / "good")
    shown = trueup("rollouts", tmp_path / "good", "--step", 10, "--sort", "reward", "--limit", 1)
    assert "step 10 | " in shown.stdout
    assert "Answer 10 to prompt 0" in shown.stdout
    assert "prompt 1" not in shown.stdout
    assert trueup("watch", tmp_path / "good").returncode == 0
    plant(tmp_path / "bad", values=PLANTED["kl_runaway"])
    found = trueup("watch", tmp_path / "bad", "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)["rule"] == "kl_runaway"
    refused = trueup("rollouts", tmp_path / "good", "--step", 11)
    assert refused.returncode == 2
    assert "8 probe steps" in refused.stderr


def test_rollouts_mark_changes_and_go_by_the_log_ratio(tmp_path):
    with start(tmp_path / "a", kind="dpo") as run:
        write_offline(run, (0, 4, 8))
    shown = trueup("rollouts", tmp_path / "a", "--sort", "kl", "--against", "start", "--limit", 1).stdout
    assert "step 8 | " in shown
    assert "log-ratio +0.800" in shown
    assert "Said [-0-]{+8+} 2" in shown
    life = trueup("rollouts", tmp_path / "a", "--prompt", prompt_key({"prompt": f"user: {PROMPTS[1]}"}))
    assert life.stdout.count("Said") == 3
    beside = trueup("rollouts", tmp_path / "a", "--prompt", prompt_key({"prompt": f"user: {PROMPTS[1]}"}),
                    "--against", "before").stdout  # fmt: skip
    assert "Said 0 1" in beside
    assert "Said [-0-]{+4+} 1" in beside
    assert "Said [-4-]{+8+} 1" in beside
    for wrong in (("--against", "x"), ("--search", "Said", "--against", "start")):
        refused = trueup("rollouts", tmp_path / "a", *wrong)
        assert refused.returncode == 2
        assert "--against" in refused.stderr


def test_rollouts_of_a_reward_model_name_the_label_and_the_reward(tmp_path):
    with start(tmp_path / "a", kind="reward") as run:
        write_offline(run, (0, 5), labels=("chosen", "rejected"))
    shown = trueup("rollouts", tmp_path / "a", "--against", "before", "--limit", 2).stdout
    assert "| chosen | reward +0.500 | +0.500 since step 0 |" in shown
    assert "| rejected | reward +0.000 | +0.000 since step 0 |" in shown


def test_a_models_answer_cannot_steer_the_terminal():
    from trueup.commands.rollouts import _plain

    assert "\x1b" not in _plain("\x1b[2J\x07 red \x9b31m \ud800 and \u202e")
