"""``train_on``: the loss of all turns is the mean over their tokens, each as often as its turn weighs."""

import json

import pytest
import torch

from trueup.config import Model
from trueup.data.read import read_demonstrations
from trueup.data.render import Renderer
from trueup.errors import ConfigError
from trueup.ledger import metric_rows
from trueup.models.policy import open_policy
from trueup.recipes.registry import execute, resolve


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] + ':' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a:' }}{% endif %}"
)
ROWS = [
    {"messages": [user("1 + 1?"), assistant("2, no doubt."), user("And 2 + 2?"), assistant("4.")], "weight": 2.0},
    {"messages": [user("Hello"), assistant("Hi.", weight=0), user("How are you?"), assistant("Fine.", weight=0.5)]},
    {"messages": [user("Bye"), assistant("Bye, and take care of yourself.")]},
]


@pytest.fixture
def chat_policy(material, tmp_path):
    policy = open_policy(Model(name=material["policy"]))
    policy.tokenizer.chat_template = TEMPLATE
    folder = tmp_path / "policy"
    policy.export(folder)
    policy.tokenizer.save_pretrained(folder)
    return str(folder)


def run(folder, out, tmp_path, **more):
    data = tmp_path / "turns.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    values = {"epochs": 1, "batch.size": 4} | more
    flags = {"data": str(data), "validation": str(data), "model.name": folder}
    sets = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    return execute("sft", resolve("sft", None, flags, sets), tmp_path / out, quiet=True)


def by_hand(folder):
    """Weighted mean negative log-likelihood of the learned tokens, by a plain forward pass of each row."""
    policy = open_policy(Model(name=folder))
    total = weight = tokens = 0.0
    loaded = read_demonstrations(ROWS)
    kept, _ = Renderer(policy.tokenizer, max_length=96).render_demonstrations(loaded, all_turns=True)
    for row in kept:
        ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
        with torch.no_grad():
            logps = policy.model(ids).logits[0].log_softmax(-1)
        each = row.token_weights or (1.0,) * len(row.completion_ids)
        for number, own in enumerate(each):
            at = len(row.prompt_ids) + number
            if own and at:
                total -= row.weight * own * float(logps[at - 1, ids[0, at]])
                weight += row.weight * own
                tokens += 1
    return total / weight, tokens


def test_the_loss_is_the_weighted_mean_over_the_tokens_of_all_turns(chat_policy, tmp_path):
    expected, tokens = by_hand(chat_policy)
    (row,) = metric_rows(run(chat_policy, "all", tmp_path, train_on="all"))
    assert row["nll"] == pytest.approx(expected, rel=1e-5)
    assert row["tokens"] == tokens
    (small,) = metric_rows(run(chat_policy, "small", tmp_path, train_on="all", **{"batch.micro_tokens": 40}))
    assert small["nll"] == pytest.approx(expected, rel=1e-5)
    assert small["grad_norm"] == pytest.approx(row["grad_norm"], rel=1e-4)
    assert small["token_accuracy"] == pytest.approx(row["token_accuracy"])
    (last,) = metric_rows(run(chat_policy, "last", tmp_path))
    assert last["tokens"] < tokens


def test_there_is_one_mask(chat_policy, tmp_path):
    with pytest.raises(ConfigError, match="choose one"):
        run(chat_policy, "both", tmp_path, train_on="all", loss_on_prompt=True)
    with pytest.raises(ConfigError, match="train_on"):
        run(chat_policy, "other", tmp_path, train_on="first")
