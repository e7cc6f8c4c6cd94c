"""Several parts as one reward: their sum, what is dropped, what errors name, and who reads what."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recipes.conftest import _kernels, material  # noqa: F401
from trueup.commands.api.material import reward_part
from trueup.errors import ConfigError, NonFiniteError, RunError
from trueup.rewards.mixture import Mixture, as_parts, attempt
from trueup.rewards.protocol import check_prompts, cut_by, prompt_for, readers, scored, windows_of
from trueup.rewards.python import PythonReward
from trueup.rewards.registry import open_reward
from trueup.spec import rewards as spec
from trueup.types import Completion, Message, StopReason

SCORERS = "tests.rewards.scorers"
ANSWERS = [
    Completion("One fox sleeps", (1, 2, 3), StopReason.EOS),
    Completion("a dog", (4, 5), StopReason.LENGTH),
    Completion("a cat and a cat", (6,), StopReason.EOS),
]
PROMPTS = ["Why?", (Message("user", "How?"),), "Who?"]


def mixture(*parts):
    return Mixture.of(as_parts(parts), None, None)


VALUES = st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=4)


@given(VALUES, st.data())
@settings(max_examples=60, deadline=None)
def test_the_score_is_the_weighted_sum_of_normalised_and_clipped_parts(value_PB, data):
    weights = [data.draw(st.floats(-2, 2)) for _ in value_PB]
    clips = [data.draw(st.none() | st.floats(0.1, 3)) for _ in value_PB]
    modes = [data.draw(st.sampled_from(["none", "batch", "running"])) for _ in value_PB]
    listed = [
        {"source": f"{SCORERS}:brevity", "weight": w, "clip": c, "normalise": m}
        for w, c, m in zip(weights, clips, modes, strict=True)
    ]
    whole = mixture(*listed)
    for component, value_B in zip(whole.components, value_PB, strict=True):
        component.reward.function = lambda prompts, completions, value_B=value_B: value_B
    judged = whole.scored(PROMPTS, ANSWERS, learn=True)
    scaled_PB = [
        np.array(v) if m == "none" else spec.normalised([np.array(v)], m == "running")
        for v, m in zip(value_PB, modes, strict=True)
    ]
    expected = spec.weighted_sum(np.array(scaled_PB), np.array(weights), clips)
    np.testing.assert_allclose(judged.score_K, expected, rtol=1e-5, atol=1e-4)
    total = sum(part.weighted_K.double() for part in judged.parts)
    np.testing.assert_allclose(total, judged.score_K, rtol=1e-5, atol=1e-4)


def test_one_part_of_weight_one_is_the_reward_itself():
    alone = open_reward(f"{SCORERS}:brevity").score(PROMPTS, ANSWERS)
    assert torch.equal(mixture({"source": f"{SCORERS}:brevity"}).score(PROMPTS, ANSWERS), alone)
    assert torch.equal(scored(open_reward(f"{SCORERS}:brevity"), PROMPTS, ANSWERS).score_K, alone)


def test_a_missing_end_costs_its_part_and_weight_zero_only_measures():
    part = {"kind": "length", "per": 1, "missing_eos_penalty": 0.5, "weight": 2, "clip": 4}
    assert mixture(part).score(PROMPTS, ANSWERS).tolist() == [-6, -5, -8]
    judged = mixture(part | {"weight": 0}).scored(PROMPTS, ANSWERS)
    assert judged.score_K.tolist() == [0, 0, 0]
    assert judged.parts[0].raw_K.tolist() == [-3, -2, -5]


def test_an_error_stops_by_default_and_names_part_prompt_and_answer():
    whole = mixture({"kind": "length"}, {"source": f"{SCORERS}:fails_on_e", "name": "strict"})
    with pytest.raises(RunError, match=r"reward part strict: .*prompt 'Why\?', answer 'One fox sleeps'.*ValueError"):
        whole.scored(PROMPTS, ANSWERS)


@pytest.mark.parametrize("source", ["fails_on_e", "nan_for_long"])
def test_what_cannot_be_scored_is_dropped_counted_and_said_and_is_never_a_number(source, caplog):
    whole = mixture(
        {"kind": "length", "per": 1, "normalise": "batch"}, {"source": f"{SCORERS}:{source}", "on_error": "drop"}
    )
    with caplog.at_level(logging.WARNING, "trueup.rewards"):
        judged = whole.scored(PROMPTS, ANSWERS, learn=True)
        whole.scored(PROMPTS, ANSWERS)
    kept = (1, 2) if source == "fails_on_e" else (0, 2)
    assert judged.kept == kept
    assert [part.dropped for part in judged.parts] == [0, 1]
    assert len(judged.score_K) == len(judged.parts[0].raw_K) == 2
    assert torch.isfinite(judged.score_K).all()
    assert judged.parts[0].weighted_K.tolist() == [1, -1]  # mean and deviation of those that are kept
    assert caplog.text.count("is dropped and counted") == 1


def test_whoever_needs_every_score_gets_the_error_instead():
    whole = mixture({"source": f"{SCORERS}:nan_for_long", "on_error": "drop"})
    with pytest.raises(NonFiniteError, match="reward part nan_for_long"):
        whole.score(PROMPTS, ANSWERS)


def test_if_nothing_is_left_or_only_the_batch_fails_the_run_stops():
    with pytest.raises(RunError, match="none of the 3 answers"):
        mixture({"source": f"{SCORERS}:never", "on_error": "drop"}).scored(PROMPTS, ANSWERS, learn=True)
    assert mixture({"source": f"{SCORERS}:never", "on_error": "drop"}).scored(PROMPTS, ANSWERS).kept == ()
    with pytest.raises(RunError, match="together"):
        mixture({"source": f"{SCORERS}:only_alone", "on_error": "drop"}).scored(PROMPTS, ANSWERS)


def test_ctrl_c_is_dropped_by_nobody():
    def slow(prompts, completions):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(PythonReward(slow, "my:slow", "f"), PROMPTS, ANSWERS, drop=True)


def test_the_state_goes_through_json_to_the_bit():
    parts = [{"kind": "diversity", "memory": 4}, {"source": f"{SCORERS}:brevity", "normalise": "running"}]
    straight, first, second = mixture(*parts), mixture(*parts), mixture(*parts)
    for whole in (straight, first):
        whole.scored(PROMPTS, ANSWERS, learn=True)
    second.restore(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    for _ in range(3):
        one, two = (whole.scored(PROMPTS[::-1], ANSWERS[::-1], learn=True) for whole in (straight, second))
        assert one.score_K.tolist() == two.score_K.tolist()
    fresh = mixture(*parts).scored(PROMPTS[::-1], ANSWERS[::-1], learn=True)
    assert fresh.score_K.tolist() != one.score_K.tolist()


def another(judge, folder):
    """A copy of a reward model that says the same and is another one by its files."""
    other = shutil.copytree(judge, folder / "other")
    card = json.loads((other / "trueup_reward.json").read_text())
    (other / "trueup_reward.json").write_text(json.dumps(card | {"mean": card["mean"] + 0.25}))
    return str(other)


def test_parts_are_asked_as_readers_each_by_its_own_template(material, tmp_path):  # noqa: F811
    judge = material["judge"]
    other = another(judge, tmp_path)
    whole = mixture({"kind": "length"}, {"source": judge}, {"kind": "ensemble", "members": [judge, other]})
    assert len(list(readers(whole))) == 3
    alone = open_reward(judge)
    assert prompt_for(whole, "Why?", "asked") == prompt_for(alone, "Why?", "asked") == (Message("user", "Why?"),)
    assert prompt_for(mixture({"kind": "length"}), "Why?", "asked") == "asked"
    policy = alone.renderer
    assert len(windows_of(whole, policy, 8, fix="")) == 3
    assert windows_of(mixture({"kind": "length"}), policy, 8, fix="") == []
    check_prompts(whole, [(Message("user", "How?"),)])
    long = [Completion("cat " * 400, (), StopReason.EOS)]
    judged = whole.scored([(Message("user", "How?"),)], long)
    assert judged.cut == 2  # the ensemble, whose two members both cut it; of parts the one that cut most
    assert cut_by(whole) == 3


@pytest.mark.parametrize(
    "way", ["the same text", "written otherwise", "a link", "a label after spaces", "a function", "a copy"]
)
def test_an_ensemble_of_one_member_twice_is_refused(material, tmp_path, way):  # noqa: F811
    judge = material["judge"]
    if way == "a link":
        (tmp_path / "link").symlink_to(judge)
    one, other = {
        "the same text": (judge, judge),
        "written otherwise": (judge, f"{judge}/../{Path(judge).name}/"),
        "a link": (judge, str(tmp_path / "link")),
        "a label after spaces": (f"{judge}#label=a,text=b", f"{judge}#text=b, label=a"),
        "a function": (f"{SCORERS}:brevity", f"{SCORERS}:brevity"),
        "a copy": (judge, str(tmp_path / "copy")),
    }[way]
    if way == "a copy":  # only its files tell
        shutil.copytree(judge, other)
    with pytest.raises(ConfigError, match=r"members.*leave one out") as error:
        mixture({"kind": "ensemble", "members": [f"{SCORERS}:never", one, other]})
    assert ("is named twice" if one == other else "are the same reward") in str(error.value)


def test_members_may_be_paths_and_functions_in_python(tmp_path):
    def ends_well(prompts, completions):
        return [float(completion.ended) for completion in completions]

    part = reward_part({"kind": "ensemble", "members": [tmp_path / "final", ends_well, "a:b"], "k": 1})
    assert part["members"][0] == str(tmp_path / "final")
    assert part["members"][2] == "a:b"
    scored = open_reward([reward_part({"kind": "ensemble", "members": [ends_well, f"{SCORERS}:brevity"]})])
    assert scored.score(["Why?"], ANSWERS[:1]).tolist() == pytest.approx([(1 - 3 / 8) / 2])


def test_heads_of_one_model_are_not_one_member_twice():
    members = ["runs/rm/final#label=head-0", "runs/rm/final#label=head-1"]
    assert as_parts([{"kind": "ensemble", "members": members}])[0].members == tuple(members)


def test_python_opens_lists_of_parts_with_functions_and_trains_on_them(material, tmp_path):  # noqa: F811
    import trueup

    def ends_well(prompts, completions):
        return [float(completion.ended) for completion in completions]

    listed = [{"source": ends_well, "weight": 2}, {"kind": "length", "per": 1}, material["judge"]]
    alone = trueup.open_reward(material["judge"]).score(["How?"], ["So it is."])
    assert trueup.open_reward(listed).score(["How?"], ["So it is."])[0] == pytest.approx(2 - 3 + alone[0], abs=1e-5)
    settings = {"model": material["policy"], "data": material["prompts"], "reward": listed, "steps": 1, "probes": 0}
    settings |= {"batch": {"size": 4, "max_length": 64}, "sampling.max_new_tokens": 4}
    run = trueup.train("ppo", settings, out=tmp_path / "r", quiet=True)
    assert {"reward/ends_well", "reward/length", "reward/judge"} <= set(run.metrics())
