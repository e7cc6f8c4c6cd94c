"""Ensembles whose members are adapters of one base, or heads of one model: one backbone, the scores of each alone."""

import gc
import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.recipes.conftest import _kernels, material  # noqa: F401
from tests.recipes.test_recipes import config_of, digest
from trueup.commands.life_steps import margin_loss
from trueup.config import Model
from trueup.errors import ConfigError, DataError, ModelError, UsageError
from trueup.ledger import metric_rows, read_lines
from trueup.models.heads import RewardModel
from trueup.recipes.bootstrap import Bootstrap
from trueup.recipes.lessons import open_lessons
from trueup.recipes.registry import execute
from trueup.recipes.reward import PairLoss
from trueup.rewards.members import AdapterReward, OutputReward, open_members
from trueup.rewards.mixture import Mixture, as_parts
from trueup.rewards.model import ModelReward
from trueup.rewards.protocol import readers
from trueup.rewards.registry import open_reward
from trueup.types import Completion, Message, StopReason

PROMPTS = [
    (Message("user", "What does the cat like?"),),
    (Message("user", "How?"),),
    (Message("user", "Why the cat?"),),
]
ANSWERS = [Completion(text, (), StopReason.EOS) for text in ("Milk, and a warm nap.", "No.", "The cat likes milk.")]


@pytest.fixture(scope="module")
def runs(material, tmp_path_factory):  # noqa: F811
    """Two adapters of one base from two seeds, and a model of three heads."""
    folder = tmp_path_factory.mktemp("members")
    made = {}
    for seed in (1, 2):
        config = config_of("reward", material, epochs=2, seed=seed, model__lora={"rank": 2})
        made[f"adapter {seed}"] = str(execute("reward", config, folder / f"lora-{seed}", quiet=True) / "adapter")
    config = config_of("reward", material, epochs=6, heads=3)
    made["run"] = str(execute("reward", config, folder / "heads", quiet=True))
    made["heads"] = f"{made['run']}/final"
    return made


def ensemble(*members, **more):
    return Mixture.of(as_parts([{"kind": "ensemble", "members": list(members), **more}]), None, None)


def backbones():
    gc.collect()
    return {id(one.model) for one in gc.get_objects() if isinstance(one, RewardModel)}


def test_adapters_of_one_base_hold_it_once_and_score_as_each_alone(runs):
    names = [runs["adapter 1"], runs["adapter 2"]]
    alone = [open_reward(name).score(PROMPTS, ANSWERS) for name in names]
    assert (alone[0] - alone[1]).abs().max() > 0.01  # or whichever adapter is on would do
    before = backbones()
    members = open_members([*names, names[0]], None, None)
    assert all(isinstance(member, AdapterReward) for member in members)
    assert len(backbones() - before) == 1
    for order in ((0, 1, 2), (1, 0, 1), (2, 1, 0)):
        for number in order:
            expected = alone[number % 2]
            torch.testing.assert_close(members[number].score(PROMPTS, ANSWERS), expected, rtol=1e-4, atol=1e-4)
    for member, name in zip(members, names, strict=False):
        single = open_reward(name)
        assert isinstance(single, ModelReward)
        assert (member.name, member.fingerprint, member.log_odds) == (name, single.fingerprint, single.log_odds)
        assert member.renderer.max_length == single.renderer.max_length
        assert member.as_prompt("How?") == single.as_prompt("How?")


@pytest.mark.parametrize("combine", ["mean", "min", "mean_minus_sd"])
def test_ensembles_combine_shared_members_as_they_would_separate_ones(runs, combine, material):  # noqa: F811
    heads = [f"{runs['heads']}#label=head-{number}" for number in range(3)]
    members = [runs["adapter 1"], heads[0], material["judge"], heads[2], runs["adapter 2"]]
    alone_MB = torch.stack([open_reward(member).score(PROMPTS, ANSWERS) for member in members])
    expected = {
        "mean": alone_MB.mean(0),
        "min": alone_MB.amin(0),
        "mean_minus_sd": alone_MB.mean(0) - 0.5 * alone_MB.std(0, correction=0),
    }
    only = {"k": 0.5} if combine == "mean_minus_sd" else {}
    whole = ensemble(*members, combine=combine, **only)
    torch.testing.assert_close(whole.score(PROMPTS, ANSWERS), expected[combine], rtol=1e-4, atol=1e-4)
    assert len(list(readers(whole))) == 5


def test_heads_of_one_model_are_read_in_one_pass_and_score_as_each_alone(runs, monkeypatch):
    heads = [f"{runs['heads']}#label=head-{number}" for number in (2, 0, 1)]
    alone = [open_reward(head).score(PROMPTS, ANSWERS) for head in heads]
    assert all((one - other).abs().max() > 0.01 for one, other in pairwise(alone))
    before = backbones()
    members = open_members(heads, None, None)
    assert all(isinstance(member, OutputReward) for member in members)
    assert len(backbones() - before) == 1
    passes = []
    outputs = RewardModel.outputs
    monkeypatch.setattr(RewardModel, "outputs", lambda model, last: passes.append(len(last)) or outputs(model, last))
    for member, expected in zip(members, alone, strict=True):
        torch.testing.assert_close(member.score(PROMPTS, ANSWERS), expected, rtol=1e-6, atol=1e-6)
    assert passes == [3]
    other = members[0].score(PROMPTS[:1], [Completion("Else.", (), StopReason.LENGTH)])
    expected = open_reward(heads[0]).score(PROMPTS[:1], [Completion("Else.", (), StopReason.LENGTH)])
    torch.testing.assert_close(other, expected, rtol=1e-6, atol=1e-6)


def test_heads_are_centred_and_scaled_each_and_disagree(runs, material):  # noqa: F811
    card = json.loads(Path(runs["heads"], "trueup_reward.json").read_text())
    assert [head["name"] for head in card["heads"]] == ["head-0", "head-1", "head-2"]
    pairs = [json.loads(line) for line in Path(material["pairs"]).read_text().splitlines()]
    prompts = [tuple(Message(turn["role"], turn["content"]) for turn in pair["prompt"]) for pair in pairs] * 2
    texts = [pair[side] for side in ("chosen", "rejected") for pair in pairs]
    answers = [Completion(text, (), StopReason.EOS) for text in texts]
    for number in range(3):
        reward_N = open_reward(f"{runs['heads']}#label=head-{number}").score(prompts, answers)
        assert float(reward_N.mean()) == pytest.approx(0, abs=1e-3)
        assert float(reward_N.std()) == pytest.approx(1, abs=1e-3)
    rows = metric_rows(runs["run"])
    assert rows[-1]["heldout_accuracy"] > 0.8
    assert read_lines(Path(runs["run"]) / "pairs.jsonl")[0]


def test_a_run_of_heads_gives_the_same_bytes_twice(material, tmp_path):  # noqa: F811
    config = config_of("reward", material, epochs=2, heads=2, batch__micro_tokens=64)
    one, two = (digest(execute("reward", config, tmp_path / name, quiet=True)) for name in ("a", "b"))
    assert one == two


def test_a_bootstrap_is_named_by_what_it_counts_and_has_mean_and_variance_one():
    keys = [f"pair-{number}" for number in range(2000)]
    weight_BH = Bootstrap(7, 3).weights(keys).double()
    assert Bootstrap(7, 3).weights(keys[::-1]).flip(0).equal(weight_BH.long())
    assert Bootstrap(7, 2).weights(keys).equal(weight_BH[:, :2].long())  # another number of heads draws the same
    assert not Bootstrap(8, 3).weights(keys).equal(weight_BH.long())
    assert weight_BH.mean(0).tolist() == pytest.approx([1.0] * 3, abs=0.08)
    assert weight_BH.var(0).tolist() == pytest.approx([1.0] * 3, abs=0.15)
    assert abs(float(torch.corrcoef(weight_BH.T)[0, 1])) < 0.08


def test_heads_are_of_pairs_and_a_head_is_named(runs, material):  # noqa: F811
    with pytest.raises(ConfigError, match="only pairs are bootstrapped"):
        config_of("reward", material, heads=2, objective__kind="plackett-luce")
    with pytest.raises(ModelError, match="it has 3 outputs") as told:
        open_reward(runs["heads"])
    assert "#label=head-0" in str(told.value.fix)
    with pytest.raises(ConfigError, match="no label"):
        open_members([f"{runs['heads']}#label=head-{number}" for number in (0, 7)], None, None)


def test_a_head_for_which_no_pair_was_drawn_is_refused():
    pairs = [SimpleNamespace(key="one")]
    seeds = {seed: Bootstrap(seed, 2).weights(["one"])[0].tolist() for seed in range(12)}
    idle = next(seed for seed, counts in seeds.items() if counts[1] == 0 < counts[0])
    busy = next(seed for seed, counts in seeds.items() if min(counts) > 0)
    with pytest.raises(DataError, match=r"no pair was drawn for head-1 of 2 heads \(1 pairs\)"):
        PairLoss(0.0, 0.0, Bootstrap(idle, 2)).require_enough(pairs, "one.jsonl")
    PairLoss(0.0, 0.0, Bootstrap(busy, 2)).require_enough(pairs, "one.jsonl")
    PairLoss(0.0, 0.0).require_enough(pairs, "one.jsonl")


def test_what_several_heads_learned_is_not_followed_by_the_mean_of_their_rewards(runs):
    with pytest.raises(UsageError, match="it has 3 heads"):
        open_lessons(runs["run"])
    assert margin_loss("reward", {"heads": 1}) is not None
    assert margin_loss("reward", {"heads": 3}) is None


def test_adapters_of_other_bases_or_cut_pieces_are_opened_by_themselves(runs, material, tmp_path):  # noqa: F811
    apart = open_members([runs["adapter 1"], runs["adapter 2"]], Model(name="", engine="fsdp2"), None)
    assert [type(member) for member in apart] == [ModelReward, ModelReward]
    elsewhere = tmp_path / "adapter"
    elsewhere.mkdir()
    for file in Path(runs["adapter 2"]).iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    settings = json.loads((elsewhere / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = material["judge"]
    (elsewhere / "adapter_config.json").write_text(json.dumps(settings))
    members = open_members([runs["adapter 1"], str(elsewhere)], None, None)
    assert not any(isinstance(member, AdapterReward) for member in members)


def test_an_adapter_of_another_rank_joins_and_one_that_is_not_whole_is_refused(runs, material, tmp_path):  # noqa: F811
    from safetensors.torch import load_file, save_file

    config = config_of("reward", material, epochs=1, seed=3, model__lora={"rank": 4})
    third = str(execute("reward", config, tmp_path / "rank-4", quiet=True) / "adapter")
    members = open_members([runs["adapter 1"], third], None, None)
    for member, name in zip(members, (runs["adapter 1"], third), strict=True):
        torch.testing.assert_close(
            member.score(PROMPTS, ANSWERS), open_reward(name).score(PROMPTS, ANSWERS), rtol=1e-4, atol=1e-4
        )
    weights = Path(third) / "adapter_model.safetensors"
    kept = dict(sorted(load_file(weights).items())[1:])
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="does not fit its base"):
        open_members([runs["adapter 1"], third], None, None)
