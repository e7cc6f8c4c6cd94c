"""What the course refuses, because the alternative is a plausible wrong number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trueup import course
from trueup.errors import ConfigError, DataError, NonFiniteError, ShapeError, UsageError


class Words:
    def encode(self, text):
        return [1 + len(word) % 4 for word in text.split()]


PAIR = course.PreferencePair("ask me", "kind words", "no")
NAN, ONE = np.array([math.nan]), np.array([1.0])


@pytest.mark.parametrize(
    "call",
    [
        lambda: course.dpo_loss(ONE, NAN, ONE, ONE),
        lambda: course.reward_loss(NAN, ONE),
        lambda: course.ppo_loss(ONE, ONE, NAN),
        lambda: course.value_loss(ONE, NAN),
        lambda: course.kl_penalty_reward(NAN, ONE),
        lambda: course.kl_penalty_reward(ONE, np.array([-math.inf]), estimator="weighted"),
        lambda: course.PPOBuffer().add(0, 0, math.nan, 0.0, -1.0),
        lambda: course.PPOBuffer().add(0, 0, 0.0, 0.0, -math.inf),
        lambda: course.PPOBuffer().compute_advantages(math.nan),
        lambda: course.AdaptiveKLController().update(math.nan, 64),
        lambda: course.analyze_reward_hacking([1.0, math.nan, 2.0], [1.0, 2.0, 1.0]),
        lambda: course.RewardModel(2, 3, seed=0).forward(np.array([[math.nan, 0.0]])),
    ],
)
def test_nan_and_infinity_never_become_a_number(call):
    with pytest.raises(NonFiniteError):
        call()


@pytest.mark.parametrize("function", [course.reward_loss, course.value_loss, course.kl_penalty_reward])
def test_nothing_has_no_mean(function):
    with pytest.raises(ShapeError, match="is empty"):
        function(np.zeros(0), np.zeros(0))


def test_a_stale_or_ambiguous_forward_pass_is_refused():
    rng = np.random.default_rng(0)
    a, b, other = rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), rng.standard_normal((7, 3))
    slope = np.ones((4, 1))
    model = course.RewardModel(3, 5, seed=0)
    with pytest.raises(UsageError, match="no forward pass is open"):
        model.backward(slope)
    model.forward(a)
    model.W1[0, 0] += 1.0
    with pytest.raises(UsageError, match="weights changed"):
        model.backward(slope, x=a)
    assert model.cache == {}
    model.forward(a)  # the old pass is gone: this one is unambiguous
    expected = model.backward(slope)
    model.forward(a)
    model.forward(other)  # other rows cannot be meant by a gradient of four
    np.testing.assert_array_equal(model.backward(slope), expected)
    model = course.RewardModel(3, 5, seed=0)
    model.forward(a)
    model.forward(a)  # one input, one pass
    model.forward(b, record=False)
    assert set(model.cache) == {"x", "h", "h_relu"}
    np.testing.assert_array_equal(model.cache["h_relu"], np.maximum(model.cache["h"], 0))
    assert model.backward(slope).shape == (4, 3)
    for _ in range(10):
        model.forward(rng.standard_normal((5, 3)))
    model.forward(a)
    with pytest.raises(UsageError, match="11 forward passes are open"):  # the oldest were let go: no guessing
        model.backward(slope)
    assert model.backward(slope, x=a).shape == (4, 3)


def test_the_forward_pass_keeps_its_own_input():
    model = course.RewardModel(2, 3, seed=0)
    x = np.array([[1.0, 2.0]])
    model.forward(x)
    model.backward(np.ones((1, 1)))
    expected = model.grads["W1"].copy()
    model.forward(x)
    x[:] = 0  # a caller's buffer that is filled again
    model.backward(np.ones((1, 1)))
    np.testing.assert_array_equal(model.grads["W1"], expected)


def test_ignored_targets_need_a_mask():
    """-100 is a legal NumPy index into a vocabulary of 200 and would score the wrong token."""
    logits = np.random.default_rng(0).standard_normal((1, 2, 200))
    tokens = np.array([[3, -100]])
    with pytest.raises(DataError, match="token -100"):
        course.compute_log_probs(logits, tokens)
    only_first = course.compute_log_probs(logits[:, :1], tokens[:, :1])
    np.testing.assert_allclose(course.compute_log_probs(logits, tokens, mask=np.array([[1, 0]])), only_first)
    with pytest.raises(DataError, match="token 200"):
        course.compute_sequence_logprob(logits, np.array([[3, 200]]))
    with pytest.raises(DataError, match="float64"):
        course.compute_log_probs(logits, tokens.astype(float))
    with pytest.raises(ShapeError):
        course.compute_log_probs(logits, tokens[0])
    with pytest.raises(ShapeError, match="mask"):
        course.compute_log_probs(logits, np.array([[3, 4]]), mask=np.ones((1, 3)))


def test_the_loss_only_trainer_never_drops_an_argument():
    both = course.DPOTrainer(0.3, label_smoothing=0.2)
    assert (both.beta, both.label_smoothing) == (0.3, 0.2)
    assert course.DPOTrainer(np.float32(0.5)).beta == 0.5
    for twice in (
        lambda: course.DPOTrainer(0.3, beta=0.2),
        lambda: course.DPOTrainer(0.3, 0.1, label_smoothing=0.2),
        lambda: course.DPOTrainer(0.3, 0.1, Words()),
    ):
        with pytest.raises(UsageError, match="twice"):
            twice()
    for bad in ({"beta": math.nan}, {"learning_rate": -1.0}):
        with pytest.raises(ConfigError):
            course.DPOTrainer(**bad)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (course.PreferencePair("", "a", "b"), "the prompt of row 0 has no tokens"),
        (course.PreferencePair("p", "", "b"), "the chosen answer of row 0 has no tokens"),
        (course.PreferencePair("p", "a", ""), "the rejected answer of row 0 has no tokens"),
    ],
)
def test_a_pair_without_tokens_is_no_tie(pair, message):
    trainer = course.DPOTrainer(course.BigramModel(5), None, Words())
    with pytest.raises(DataError, match=message):
        trainer.train([pair])


def test_a_batch_that_does_not_say_where_its_rows_end_is_refused():
    trainer = course.DPOTrainer(course.BigramModel(5), None, Words())
    ids = np.ones((1, 2), dtype=np.int64)
    with pytest.raises(DataError, match="nothing says where the rows of prompt_ids end"):
        trainer.train_step({"prompt_ids": ids, "chosen_ids": ids, "rejected_ids": ids})
    with pytest.raises(DataError, match="no rejected_ids"):
        trainer.train_step({"prompt_ids": ids, "chosen_ids": ids, "prompt_mask": ids, "chosen_mask": ids})
    with pytest.raises(DataError, match="no pairs"):
        trainer.train([])


def test_a_broken_model_is_not_updated():
    model = course.BigramModel(5)
    trainer = course.DPOTrainer(model, None, Words(), learning_rate=1.0)
    trainer.ref_model.weights_VV[:] = math.nan
    before = model.weights_VV.copy()
    with pytest.raises(NonFiniteError):
        trainer.train([PAIR])
    np.testing.assert_array_equal(model.weights_VV, before)


def test_a_broken_torch_model_is_not_updated():
    import torch

    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5))
    trainer = course.DPOTrainer(model, None, Words(), learning_rate=1.0)
    with torch.no_grad():
        trainer.ref_model[1].bias.fill_(math.nan)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(NonFiniteError):
        trainer.train([PAIR])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_plain_torch_module_takes_the_step_of_the_bigram_model():
    """One gradient, two roads: torch's autograd and the hand-derived one, through the same trainer."""
    import torch

    table = course.BigramModel(5, seed=4)
    twin = torch.nn.Embedding(5, 5, dtype=torch.float64)
    with torch.no_grad():
        twin.weight.copy_(torch.from_numpy(table.weights_VV))
    trainer = course.DPOTrainer(twin, None, Words(), beta=0.5, learning_rate=0.1)
    trainer._optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    pairs = [PAIR, course.PreferencePair("ask", "me", "words now")]
    ours = course.DPOTrainer(table, None, Words(), beta=0.5, learning_rate=0.1).train(pairs, epochs=3, batch_size=2)
    theirs = trainer.train(pairs, epochs=3, batch_size=2)
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(twin.weight.detach().numpy(), table.weights_VV, rtol=1e-12)


def test_get_batch_bootstraps_as_the_advantages_did():
    buffer = course.PPOBuffer(1.0, 1.0)
    buffer.add(0, 0, 1.0, 0.0, -1.0)
    advantages, _ = buffer.compute_advantages(5.0)
    np.testing.assert_array_equal(buffer.get_batch()["advantages"], advantages)
    np.testing.assert_array_equal(buffer.get_batch(0.0)["advantages"], [1.0])
    buffer.compute_advantages(5.0)
    buffer.add(1, 0, 1.0, 0.0, -1.0)  # the value was V of another state
    np.testing.assert_array_equal(buffer.get_batch()["advantages"], [2.0, 1.0])


def test_any_tokenizer():
    class Encoding:
        ids = (1, 2)

    class Library:
        def encode(self, text, add_special_tokens=True):
            return Encoding()

    for tokenizer in (Library(), lambda text: {"input_ids": [1, 2]}, lambda text: np.array([1, 2])):
        assert course.create_preference_batch([PAIR], tokenizer)["chosen_ids"].tolist() == [[1, 2]]
    for wrong in (lambda text: "1 2", lambda text: [[1, 2]], lambda text: 3):
        with pytest.raises(ShapeError, match="tokenizer"):
            course.create_preference_batch([PAIR], wrong)


@pytest.mark.parametrize(
    ("answer", "violated"),
    [
        ("YES: be kind", True),
        ("**Yes**, be kind", True),
        ("Verdict: yes - be kind", True),
        ('{"answer": "no"}', False),
        ("  no.", False),
        ("No violation.", False),
    ],
)
def test_verdicts_are_read_however_they_are_dressed(answer, violated):
    found = course.ConstitutionalCritic(lambda text: answer, ["Be kind"]).critique("q", "a")
    assert found["violations"] == (["Be kind"] if violated else [])
    assert found["suggestions"] == (["be kind"] if violated else [])


@pytest.mark.parametrize("answer", ["Not sure", "", "It might. Yes?", "Nobody knows", "yesterday"])
def test_no_verdict_is_made_up(answer):
    with pytest.raises(DataError, match="the model said"):
        course.ConstitutionalCritic(lambda text: answer, ["Be kind"]).critique("q", "a")


def test_hacking_signs():
    reward, quality = [0.0, 1.0, 2.0, 3.0], [0.0, 0.5, 0.4, 0.1]
    found = course.analyze_reward_hacking(reward, quality, kl=[0.0, 2.0, 5.0, 9.0], diversity=[0.9, 0.8, 0.4, 0.1])
    assert (found["kl_at_divergence"], found["diversity_change"]) == (2.0, pytest.approx(-0.8))
    assert found["correlation_before"] == pytest.approx(1.0)
    assert found["correlation_after"] < -0.9
    with pytest.raises(ShapeError, match="kl"):
        course.analyze_reward_hacking(reward, quality, kl=[0.0])
