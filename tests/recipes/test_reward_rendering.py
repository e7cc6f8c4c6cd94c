"""A reward model reads exactly what it was trained to read, through every door: PPO, evaluate, sample, Python."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.recipes.test_recipes import config_of
from trueup.commands.panel import Panel
from trueup.config import Batch, Model, Sampling
from trueup.data.render import Renderer
from trueup.data.template import PLAIN_TEMPLATE
from trueup.engine.score import rewards
from trueup.errors import ConfigError, DataError, ModelError
from trueup.ledger import metric_rows, read_lines, read_run
from trueup.models.heads import open_reward_model
from trueup.recipes.registry import execute
from trueup.rewards.registry import open_reward
from trueup.types import Completion, Message, StopReason

ASKED = (Message("user", "What does the cat like?"),)


def without_template(source, folder):
    """A copy of a saved model whose tokenizer has no chat template, as base models have none."""
    shutil.copytree(source, folder)
    (folder / "chat_template.jinja").unlink()
    return str(folder)


@pytest.fixture(scope="module")
def doors(material, tmp_path_factory):
    """A policy with a template of its own, and a reward model of the same vocabulary trained with ``plain``."""
    folder = tmp_path_factory.mktemp("doors")
    base = without_template(material["policy"], folder / "base")
    config = config_of("reward", material | {"policy": base}, epochs=2, model__template="plain")
    out = execute("reward", config, folder / "reward", quiet=True)
    return material | {"base": base, "plain_judge": str(out / "final")}


def by_hand(directory, question, text, *, ended):
    """The score of an answer by the built-in template, written out here without the code that is tested."""
    model = open_reward_model(Model(name=directory), new_head=False)
    shown = Renderer(model.tokenizer, max_length=64, template="plain").render(
        (Message("user", question),), text, ended=ended
    )
    return float(rewards(model, [(shown.prompt_ids, shown.completion_ids)])[0])


def test_the_export_holds_template_and_limits(doors):
    stored = json.loads(Path(doors["plain_judge"], "trueup_reward.json").read_text())["rendering"]
    assert stored["max_length"] == 64
    assert (stored["chats"], stored["texts"]) == (True, False)
    assert open_reward(doors["plain_judge"]).renderer.max_length == 64


def test_ppo_shows_it_its_own_rendering(doors, tmp_path):
    config = config_of("ppo", doors | {"judge": doors["plain_judge"]}, steps=1)
    out = execute("ppo", config, tmp_path / "r", quiet=True)
    samples, _ = read_lines(out / "samples.jsonl")
    assert samples
    for row in samples:
        wanted = by_hand(doors["plain_judge"], row["question"], row["completion"], ended=row["stop"] == "eos")
        assert row["score"] == pytest.approx(wanted, abs=1e-5)


def test_evaluate_and_sample_give_the_same_number(doors, tmp_path):
    from trueup.commands.comparison import compare_models

    prompts = tmp_path / "p.jsonl"
    prompts.write_text(json.dumps({"prompt": [{"role": "user", "content": "What does the cat like?"}]}) + "\n")
    sampling = Sampling(max_new_tokens=8)
    compare_models(
        [doors["policy"]],
        str(prompts),
        open_reward(doors["plain_judge"]),
        tmp_path / "e",
        sampling=sampling,
        tell=lambda _: None,
    )
    (row,), _ = read_lines(tmp_path / "e" / "eval.jsonl")
    (answer,) = Panel([doors["policy"]], reward=open_reward(doors["plain_judge"])).ask(
        ASKED[0].content, sampling, seed=0
    )
    for text, stop, value in (
        (row["completion"], row["stop"], row["reward"]),
        (answer.text, answer.stop, answer.reward),
    ):
        wanted = by_hand(doors["plain_judge"], ASKED[0].content, text, ended=stop == "eos")
        assert value == pytest.approx(wanted, abs=1e-5)


def test_an_unfinished_answer_is_never_shown_with_an_end_token(doors):
    reward = open_reward(doors["plain_judge"])
    text = "The cat likes warm milk"
    cut, whole = (Completion(text, (), stop) for stop in (StopReason.LENGTH, StopReason.EOS))
    cut_score, whole_score = reward.score([ASKED, ASKED], [cut, whole]).tolist()
    assert cut_score == pytest.approx(by_hand(doors["plain_judge"], ASKED[0].content, text, ended=False), abs=1e-5)
    assert whole_score == pytest.approx(by_hand(doors["plain_judge"], ASKED[0].content, text, ended=True), abs=1e-5)
    assert cut_score != whole_score


def test_a_judge_with_fewer_positions_is_refused_before_the_first_step(doors, tmp_path):
    reward = execute(
        "reward",
        config_of("reward", doors, epochs=1, batch__max_length=24, batch__max_truncated=1.0),
        tmp_path / "reward",
        quiet=True,
    )
    short = doors | {"judge": str(reward / "final")}
    with pytest.raises(DataError, match=r"prompts\.jsonl:1: .* reward model .*24 tokens it was trained on") as told:
        execute("ppo", config_of("ppo", short, sampling__max_new_tokens=20), tmp_path / "r", quiet=True)
    assert told.value.exit_code == 2
    assert metric_rows(tmp_path / "r") == []


def test_a_judge_without_a_template_cannot_read_chats(doors, tmp_path):
    texts = tmp_path / "pairs.jsonl"
    texts.write_text(
        "".join(json.dumps({"prompt": f"{i}?", "chosen": " yes", "rejected": " no"}) + "\n" for i in range(4))
    )
    config = config_of("reward", doors | {"policy": doors["base"], "pairs": str(texts)}, epochs=1)
    out = execute("reward", config, tmp_path / "reward", quiet=True)
    with pytest.raises(ModelError, match="12 of 12 prompts are chats and the reward model has no chat template"):
        execute("ppo", config_of("ppo", doors | {"judge": str(out / "final")}), tmp_path / "r", quiet=True)
    (answer,) = Panel([doors["policy"]], reward=open_reward(str(out / "final"))).ask(
        "1?", Sampling(max_new_tokens=4), seed=0
    )
    assert answer.reward is not None  # one question is text as well as a chat


def test_prompts_of_a_kind_that_it_never_read_are_said(doors, caplog):
    reward = open_reward(doors["plain_judge"])
    reward.check(["plain text", ASKED])
    assert "trained on chats only; 1 of 2 prompts are plain text" in caplog.text


def test_a_directory_without_rendering_says_so(doors, tmp_path, caplog):
    shutil.copytree(doors["plain_judge"], tmp_path / "old")
    card = tmp_path / "old" / "trueup_reward.json"
    card.write_text(json.dumps({"mean": 0.0, "std": 1.0}))
    open_reward(str(tmp_path / "old"))
    assert "does not say how it was trained to read" in caplog.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "holds list"),
        ("{}", "mean"),
        ('{"mean": 0, "std": 0}', "std"),
        ('{"mean": NaN, "std": 1}', "mean"),
        ('{"mean": 0, "std": 1, "rendering": {"max_length": "long"}}', "rendering.max_length"),
        ('{"mean": 0, "std": 1, "rendring": null}', "rendring"),
    ],
)
def test_a_damaged_card_is_named(content, says, doors, tmp_path):
    shutil.copytree(doors["plain_judge"], tmp_path / "odd")
    (tmp_path / "odd" / "trueup_reward.json").write_text(content)
    with pytest.raises((ModelError, ConfigError), match=says) as told:
        open_reward(str(tmp_path / "odd"))
    assert "trueup_reward.json" in str(told.value)


def test_answers_longer_than_it_reads_are_cut_as_in_training_and_counted(doors, caplog):
    reward = open_reward(doors["plain_judge"])
    long = Completion("milk " * 80, (), StopReason.EOS)
    short = Completion("milk", (), StopReason.EOS)
    found = reward.score([ASKED] * 3, [long, short, long])
    assert reward.cut == 2
    assert caplog.text.count("was cut, as in its training") == 1
    assert found[0] == found[2]
    shown = reward.renderer.render(ASKED, long.text)
    assert len(shown.prompt_ids) + len(shown.completion_ids) == 64
    assert shown.completion_ids[-1] not in reward.renderer.stop_ids


def test_an_answer_of_nothing_but_dropped_tokens_has_a_score(doors):
    reward = open_reward(doors["plain_judge"])
    empty = [Completion("", (), stop) for stop in (StopReason.LENGTH, StopReason.EOS)]
    assert bool(torch.isfinite(reward.score([ASKED] * 2, empty)).all())


def test_plain_is_recognised_on_opening(doors):
    reward = open_reward(doors["plain_judge"])
    again = Renderer.of(reward.model.tokenizer, Batch(max_length=64), template="plain")
    assert reward.renderer.chat.plain
    assert PLAIN_TEMPLATE in str(reward.renderer.chat.source)
    assert reward.renderer.render(ASKED, "Milk.") == again.render(ASKED, "Milk.")


def test_the_run_of_ppo_counts_what_was_cut(doors, tmp_path):
    rows = metric_rows(execute("ppo", config_of("ppo", doors, steps=2), tmp_path / "r", quiet=True))
    assert [row["score_cut"] for row in rows] == [0.0, 0.0]
    assert read_run(tmp_path / "r")["facts"]["fit"]["kept"] == 12
