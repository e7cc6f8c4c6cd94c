"""A reward head that reads the mean of an answer's states: whatever is packed, padded, saved or adapted."""

import json

import pytest
import torch

import trueup
from tests.recipes.test_rankings import ranked
from tests.recipes.test_recipes import config_of, digest
from trueup.config import Model
from trueup.data.batch import Rows
from trueup.engine.score import all_states, rewards, states
from trueup.ledger import metric_rows
from trueup.models.heads import SCALE_FILE, open_reward_model
from trueup.recipes.registry import execute

SEQUENCES = [((5, 6, 7), (8, 9)), ((5, 6, 7), (8, 9, 10, 11, 12)), ((5,), (6,)), ((9, 8, 7, 6), (5, 4, 3))]


def opened(material, pooling="mean", kernels="auto"):
    return open_reward_model(Model(name=material["policy"], kernels=kernels), new_head=True, seed=2, pooling=pooling)


@pytest.mark.parametrize("kernels", ["auto", "plain"])
def test_it_is_the_mean_of_the_states_that_plain_passes_give(kernels, material):
    model = opened(material, kernels=kernels)
    read_BD = all_states(model, SEQUENCES)
    for (prompt, answer), read_D in zip(SEQUENCES, read_BD, strict=True):
        ids_BT = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            hidden_TD = model.model.base_model(input_ids=ids_BT).last_hidden_state[0]
        expected_D = hidden_TD[len(prompt) - 1 :].mean(0)  # before each token of the answer, and after the last
        torch.testing.assert_close(read_D, expected_D, rtol=1e-4, atol=1e-5)


def test_together_and_alone_are_the_same(material):
    model = opened(material)
    alone = torch.cat([rewards(model, [one]) for one in SEQUENCES])
    torch.testing.assert_close(rewards(model, SEQUENCES), alone, rtol=1e-5, atol=1e-6)


def test_every_token_of_the_answer_counts_and_the_last_too(material):
    model = opened(material)
    one, other, cut = rewards(model, [((5, 6), (8, 9, 10)), ((5, 6), (8, 9, 11)), ((5, 6), (8, 9))]).tolist()
    assert len({one, other, cut}) == 3
    assert rewards(opened(material, "last"), [((5, 6), (8, 9, 10))]).item() != one


def test_gradients_reach_every_state_alike(material):
    model = opened(material)
    hidden_SD, source_N, last_B = states(model.trunk, Rows.of(SEQUENCES[:1], model.device))
    leaf_SD = hidden_SD.detach().requires_grad_()
    read_D = (leaf_SD[source_N].sum(0) + leaf_SD[last_B[0]]) / 3
    model.outputs(read_D[None])[0, 0].backward()
    grads = leaf_SD.grad[[*source_N.tolist(), int(last_B[0])]]
    torch.testing.assert_close(grads, grads[:1].expand_as(grads))


@pytest.mark.parametrize("changes", [{}, {"model__lora": {"rank": 2, "alpha": 4}}, {"head_start": "fit"}])
def test_trained_saved_and_opened_it_gives_the_same(changes, material, tmp_path):
    config = config_of("reward", material, pooling="mean", **changes)
    out = execute("reward", config, tmp_path / "rm", quiet=True)
    rows = metric_rows(out)
    assert rows[-1]["heldout_accuracy"] > 0.9
    assert json.loads((out / "final" / SCALE_FILE).read_text())["pooling"] == "mean"
    again = open_reward_model(Model(name=str(out / "final")), new_head=False)
    assert again.pooling == "mean"
    raw = rewards(again, SEQUENCES, scaled=False)
    again.pooling = "last"
    assert not torch.allclose(raw, rewards(again, SEQUENCES, scaled=False))
    if "model__lora" in changes:
        beside = open_reward_model(Model(name=str(out / "adapter")), new_head=False)
        torch.testing.assert_close(rewards(beside, SEQUENCES, scaled=False), raw, rtol=1e-4, atol=1e-5)
    card = (out / "final" / "README.md").read_text()
    assert "library_name: trueup" in card
    assert "reads the mean of an answer's states" in card
    assert len(trueup.open_reward(out / "final").score(["Hello!"], ["Hello, how can I help?"])) == 1


def test_it_repeats(material, tmp_path):
    config = config_of("reward", material, pooling="mean")
    one, two = (digest(execute("reward", config, tmp_path / name, quiet=True)) for name in ("one", "two"))
    assert one == two


def test_rankings_and_ratings_have_it_too(material, tmp_path):
    config = config_of("reward", material, objective__kind="plackett-luce", pooling="mean", epochs=1)
    config = config.model_copy(update={"data": ranked(tmp_path / "r.jsonl"), "validation": None})
    out = execute("reward", config, tmp_path / "rankings", quiet=True)
    assert open_reward_model(Model(name=str(out / "final")), new_head=False).pooling == "mean"
    rows = [{"prompt": f"p {n}", "response": f"r {n}", "good": n % 3} for n in range(12)]
    (tmp_path / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    objective = {"kind": "ratings", "columns": ["good"]}
    config = config_of("reward", material, objective=objective, pooling="mean", epochs=1)
    config = config.model_copy(update={"data": str(tmp_path / "rated.jsonl"), "validation": None})
    out = execute("reward", config, tmp_path / "ratings", quiet=True)
    assert open_reward_model(Model(name=str(out / "final")), new_head=False).pooling == "mean"


def test_what_is_read_at_the_last_token_is_saved_as_before(material, tmp_path):
    out = execute("reward", config_of("reward", material, epochs=1), tmp_path / "rm", quiet=True)
    assert "pooling" not in json.loads((out / "final" / SCALE_FILE).read_text())
    assert "library_name: transformers" in (out / "final" / "README.md").read_text()
