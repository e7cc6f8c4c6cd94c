"""What online methods promise: they learn, start at ratio 1, refuse groups of one, make nothing of equal answers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes.test_recipes import ONLINE, config_of, digest
from trueup.config import Model
from trueup.engine.decoding import Padded
from trueup.errors import ConfigError, ModelError, UsageError
from trueup.kernels import decoder as decoding
from trueup.ledger import Run, metric_rows
from trueup.models.policy import open_policy
from trueup.recipes import rollouts
from trueup.recipes.best_of_n import choose_best
from trueup.recipes.online_dpo import best_and_worst
from trueup.recipes.registry import execute
from trueup.recipes.rollouts.resample import choose_groups, join
from trueup.types import Completion, StopReason

GROUPED = [kind for kind in ONLINE if kind != "ppo"]
CRITIC_FREE = [kind for kind in GROUPED if kind not in ("online-dpo", "best-of-n")]


def low_ids(prompts, completions):
    """The share of an answer's tokens that have a low number: about a half at first, and each token counts."""
    return [sum(i < 165 for i in c.ids) / len(c.ids) for c in completions]


def level(prompts, completions):
    """Whatever was answered is worth the same, up to what a forward pass in another batch makes of it."""
    return [0.3 + 1e-8 * i for i in range(len(completions))]


def hates_e(prompts, completions):
    """Cannot score an answer with a certain letter."""
    return [1 / 0 if "e" in c.text else float(len(c.ids)) for c in completions]


def brief(kind, material, **changes):
    quick = {
        "optim__learning_rate": 3e-3,
        "batch__size": 24,
        "save_every": 100,
        "probes": 0,
        "missing_eos_penalty": 0.0,
    }
    quick |= {"model__dtype": "float32"} | ({} if kind == "ppo" else {"answers": 4})
    return config_of(kind, material | {"judge": f"{__name__}:low_ids"}, **(quick | changes))


def fails_at(step, kind, config, out, monkeypatch):
    """Start a run that ends in the middle of a step, after its line was logged."""
    log = Run.log

    def failing(self, number, *groups, **more):
        log(self, number, *groups, **more)
        if number == step:
            raise RuntimeError("the power is out")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", failing)
        with pytest.raises(RuntimeError, match="power"):
            execute(kind, config, out, quiet=True)


@pytest.mark.parametrize("kind", GROUPED)
def test_the_reward_rises_and_the_first_ratio_is_one(kind, material, tmp_path):
    config = brief(kind, material, steps=20, optim__learning_rate=1e-2)
    rows = metric_rows(execute(kind, config, tmp_path / "r", quiet=True))
    score = torch.tensor([row["score"] for row in rows])
    assert score[-5:].mean() > score[:5].mean() + 0.1
    assert all(row["first_ratio_error"] < 1e-5 for row in rows if "first_ratio_error" in row)
    assert "first_ratio_error" in rows[0]
    assert abs(rows[0]["kl"]) < 1e-5
    assert "dead_groups" in rows[0]


@pytest.mark.parametrize("kind", GROUPED)
def test_a_run_that_failed_goes_on_to_the_same_bytes(kind, material, tmp_path, monkeypatch):
    config = config_of(kind, material, steps=4)
    straight = digest(execute(kind, config, tmp_path / "straight", quiet=True))
    fails_at(2, kind, config, tmp_path / "failed", monkeypatch)
    assert digest(execute(kind, config, tmp_path / "failed", quiet=True)) == straight
    assert {"metrics.jsonl", "samples.jsonl", "final/model.safetensors"} <= straight.keys()


@pytest.mark.parametrize("kind", GROUPED)
def test_groups_of_one_and_batches_that_hold_no_whole_groups_are_refused(kind, material):
    with pytest.raises(ConfigError, match="take 2 or more"):
        brief(kind, material, answers=1)
    with pytest.raises(ConfigError, match=r"no multiple of answers 5: take batch\.size 20"):
        brief(kind, material, answers=5)


@pytest.mark.parametrize("kind", GROUPED)
def test_answers_of_equal_worth_move_nothing(kind, material, tmp_path):
    free = {"kl__kind": "fixed", "kl__beta": 0.0} if kind in CRITIC_FREE else {}
    free |= {"overlong_share": 0.0} if kind == "grpo" else {}
    config = brief(kind, material, steps=2, **free).model_copy(update={"reward": f"{__name__}:level"})
    out = execute(kind, config, tmp_path / "r", quiet=True)
    assert [row["dead_groups"] for row in metric_rows(out)] == [1.0, 1.0]
    before, after = (load_file(Path(p) / "model.safetensors") for p in (material["policy"], out / "final"))
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("kind", ONLINE)
def test_an_answer_that_cannot_be_scored_is_left_out_and_counted(kind, material, tmp_path):
    part = {"source": f"{__name__}:hates_e", "on_error": "drop"}
    out = execute(
        kind,
        brief(kind, material, steps=2).model_copy(
            update={"reward": config_of(kind, material | {"judge": [part]}).reward}
        ),
        tmp_path / "r",
        quiet=True,
    )
    rows = metric_rows(out)
    assert sum(row["dropped"] for row in rows) > 0
    assert all(row["loss"] == row["loss"] for row in rows)


@pytest.mark.parametrize("place", ["reward", "k2", "k3"])
def test_the_penalty_holds_the_policy_wherever_it_acts(place, material, tmp_path):
    def last(beta):
        changes = {"steps": 12, "kl__kind": "fixed", "kl__beta": beta, "kl_place": place, "scale": False}
        changes |= {"optim__learning_rate": 1e-2}
        rows = metric_rows(execute("grpo", brief("grpo", material, **changes), tmp_path / f"{beta}", quiet=True))
        return sum(row["kl_k3"] for row in rows[-4:]) / 4

    assert last(3.0) < 0.5 * last(0.0)


@pytest.mark.parametrize(("preset", "settings"), [("dr-grpo", (False, "constant")), ("dapo", (True, "token"))])
def test_presets_of_grpo_run(preset, settings, material, tmp_path):
    from trueup.recipes.registry import resolve

    flags = {"data": material["prompts"], "reward": "tests.rewards.scorers:brevity", "model.name": material["policy"]}
    sets = [f"preset={preset}", "batch.size=16", "batch.max_length=64", "sampling.max_new_tokens=8", "steps=1"]
    config = resolve("grpo", None, flags, sets)
    assert (config.scale, config.normalise) == settings
    (row,) = metric_rows(execute("grpo", config, tmp_path / "r", quiet=True))
    assert ("resampled" in row) == (preset == "dapo")


def test_dead_groups_are_replaced_by_other_prompts(material, tmp_path):
    config = brief("grpo", material, steps=2, resample=3).model_copy(update={"reward": f"{__name__}:first_letter"})
    rows = metric_rows(execute("grpo", config, tmp_path / "r", quiet=True))
    assert any(0 < row["dead_groups"] < 1 for row in rows)
    assert all((row["resampled"] > 0) == (row["dead_groups"] > 0) for row in rows)


def first_letter(prompts, completions):
    """One or nothing, so that many groups are dead."""
    return [float(sum(c.ids) % 5 == 0) for c in completions]


def some_rollout(kept, dropped, *, width=3, start=0):
    count = len(kept)
    completions = tuple(Completion(f"{start + k}", (start + k,), StopReason.EOS) for k in kept)
    grid = torch.arange(count * width).view(count, width).float() + start
    mask = torch.ones(count, width, dtype=torch.bool)
    scores = torch.tensor(kept, dtype=torch.float32) + start
    sequences = tuple(((1, 2), c.ids) for c in completions)
    return rollouts.Rollout(
        sequences, completions, grid, grid, grid, mask, scores, scores, 1.0 + start, 1, tuple(kept), dropped=dropped
    )


def test_groups_are_chosen_and_joined_whole_also_where_answers_were_dropped():
    first = some_rollout([0, 1, 2, 4, 5], 1)  # three groups of two; the second has lost an answer
    chosen = choose_groups(first, 2, [1, 2])
    assert (chosen.kept, chosen.dropped) == ((0, 2, 3), 1)
    assert chosen.score_B.tolist() == [2, 4, 5]
    both = join([chosen, some_rollout([1], 1, width=5, start=10)])
    assert (both.kept, both.dropped, both.cut) == ((0, 2, 3, 5), 2, 2)
    assert both.mask_BC.tolist() == [[True] * 3 + [False] * 2] * 3 + [[True] * 5]
    groups = rollouts.group(both.score_B, both, 2)
    assert groups.rewards_GK.tolist() == [[2, 0], [4, 5], [0, 11]]
    assert groups.valid_GK.tolist() == [[True, False], [True, True], [False, True]]
    assert groups.dead_G.tolist() == [True, False, True]
    spread = rollouts.spread(torch.tensor([[7.0, 0], [8, 9], [0, 6]]), both)
    assert spread[:, 0].tolist() == [7, 8, 9, 6]


def test_among_equal_answers_the_lot_decides_and_not_the_place():
    rewards = torch.tensor([[1.0, 1.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0], [0.0, 5.0, 9.0, 1.0]])
    groups = rollouts.Groups(rewards, torch.tensor([[True] * 4, [True] * 4, [True, True, False, True]]))
    rollout = some_rollout([*range(10), 11], 1)
    bests, pairs = set(), set()
    for seed in range(40):
        best = choose_best(groups, 1, None, seed=seed)
        assert best.sum(-1).tolist() == [1, 0, 1]
        assert best[2].tolist() == [False, True, False, False]
        bests.add(int(best[0].nonzero()))
        one, two = best_and_worst(groups, rollout, seed=seed)
        assert two == (9, 8)
        pairs.add(one)
    assert bests == {0, 1}
    assert pairs == {(0, 2), (0, 3), (1, 2), (1, 3)}
    assert choose_best(groups, 3, 4.0, seed=0).sum() == 1


def test_a_bar_that_nobody_clears_leaves_the_weights(material, tmp_path):
    out = execute("best-of-n", brief("best-of-n", material, steps=2, threshold=1.0), tmp_path / "r", quiet=True)
    assert [row["kept"] for row in metric_rows(out)] == [0.0, 0.0]
    before, after = (load_file(Path(p) / "model.safetensors") for p in (material["policy"], out / "final"))
    assert all(torch.equal(after[name], value) for name, value in before.items())
    with pytest.raises(ConfigError, match="nothing is chosen"):
        brief("best-of-n", material, keep=4)


def test_online_dpo_takes_any_objective(material, tmp_path):
    config = brief("online-dpo", material, steps=2, objective__kind="ipo", objective__tau=0.5)
    rows = metric_rows(execute("online-dpo", config, tmp_path / "r", quiet=True))
    assert {"margin", "accuracy", "chosen_logratio", "dead_groups"} <= rows[-1].keys()
    assert rows[0]["loss"] == pytest.approx(1.0)  # (0 - 1 / (2 tau))^2


def test_a_prompt_is_read_once_for_all_of_its_answers(material, monkeypatch):
    """Three prompts with four answers each: the decoder computes three prompts, not twelve."""
    policy = open_policy(Model(name=material["policy"]))
    seen = []
    pack = decoding.pack

    def counting(prompts, completions, device="cpu"):
        stream = pack(prompts, completions, device)
        seen.append(int(stream.last_B.max()) + 1)
        return stream

    monkeypatch.setattr(decoding, "pack", counting)
    prompts = [tuple(range(10 * k, 10 * k + 10)) for k in range(3)]
    decoder = decoding.Decoder(policy.plain, torch.float32, 12)
    logits, _ = decoder.prefill([p for p in prompts for _ in range(4)], 4)
    assert seen == [30]
    assert logits.shape[0] == 12
    assert Padded.of(prompts, policy.device).ids_BT.shape == (3, 10)


# Settings of PPO ---------------------------------------------------------------------------------------------------


def test_while_the_critic_warms_up_the_policy_stays_to_the_bit(material, tmp_path):
    warm = brief("ppo", material, steps=3, critic_warmup=3, entropy_weight=0.1)
    out = execute("ppo", warm, tmp_path / "r", quiet=True)
    before, after = (load_file(Path(p) / "model.safetensors") for p in (material["policy"], out / "final"))
    assert all(torch.equal(after[name], value) for name, value in before.items())
    rows = metric_rows(out)
    assert rows[-1]["value_loss"] < rows[0]["value_loss"]
    assert all(abs(row["ratio_max"] - 1) < 1e-5 for row in rows)


@pytest.mark.parametrize("kind", ["ppo", "rloo"])
def test_an_entropy_bonus_keeps_entropy_up(kind, material, tmp_path):
    def entropy(weight):
        config = brief(kind, material, steps=8, entropy_weight=weight, kl__kind="fixed", kl__beta=0.0)
        return metric_rows(execute(kind, config, tmp_path / f"{weight}", quiet=True))[-1]["entropy"]

    assert entropy(1.0) > entropy(0.0) + 0.01


def test_texts_that_are_mixed_in_are_learned_and_are_part_of_the_run(material, tmp_path, monkeypatch):
    texts = tmp_path / "texts.jsonl"
    texts.write_text(Path(material["demonstrations"]).read_text())
    mix = {"ptx__data": str(texts), "ptx__weight": 3.0, "ptx__size": 5}
    config = brief("ppo", material, steps=10, save_every=2, **mix)
    out = execute("ppo", config, tmp_path / "r", quiet=True)
    rows = metric_rows(out)
    assert rows[-1]["ptx_nll"] < rows[0]["ptx_nll"] - 0.5
    fails_at(5, "ppo", config, tmp_path / "killed", monkeypatch)
    assert digest(execute("ppo", config, tmp_path / "killed", quiet=True)) == digest(out)
    fails_at(5, "ppo", config, tmp_path / "other", monkeypatch)
    texts.write_text("".join(texts.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UsageError, match="ptx"):
        execute("ppo", config, tmp_path / "other", quiet=True)


@pytest.mark.parametrize("lora", [None, {"rank": 4}])
def test_a_reference_that_is_set_anew_is_the_policy_of_then_also_after_a_resume(lora, material, tmp_path, monkeypatch):
    changes = {"steps": 7, "save_every": 2, "reset_reference_every": 3, "optim__learning_rate": 1e-2}
    config = brief("rloo", material, **changes, model__lora=lora)
    out = execute("rloo", config, tmp_path / "r", quiet=True)
    kl = [row["kl"] for row in metric_rows(out)]
    assert [step for step, value in enumerate(kl) if abs(value) < 1e-3] == [0, 3, 6]
    assert [path.name for path in sorted((out / "references").iterdir())] == ["step-00000003", "step-00000006"]
    for step in (3, 4):
        fails_at(step, "rloo", config, tmp_path / f"{step}", monkeypatch)
        assert digest(execute("rloo", config, tmp_path / f"{step}", quiet=True)) == digest(out)


def test_a_reference_that_was_changed_meanwhile_is_refused(material, tmp_path, monkeypatch):
    config = brief("rloo", material, steps=6, save_every=1, reset_reference_every=2)
    fails_at(3, "rloo", config, tmp_path / "r", monkeypatch)
    made = tmp_path / "r" / "references" / "step-00000002" / "model.safetensors"
    made.write_bytes((Path(material["policy"]) / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="the reference changed"):
        execute("rloo", config, tmp_path / "r", quiet=True)
