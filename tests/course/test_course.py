"""The course's surface: exact signatures, right maths behind them, each audited difference, and the demo."""

from __future__ import annotations

import copy
import inspect
import math
import subprocess
import sys

import numpy as np
import pytest

from trueup import course
from trueup.errors import ConfigError, DataError, ShapeError, UsageError


def parameters(function):
    return [p for p in inspect.signature(function).parameters if p != "self"]


@pytest.mark.parametrize(
    ("function", "documented"),
    [
        (course.create_preference_dataset, ["prompts", "chosen_responses", "rejected_responses"]),
        (course.create_preference_batch, ["pairs", "tokenizer"]),
        (course.RewardModel.__init__, ["input_dim", "hidden_dim"]),
        (course.RewardModel.forward, ["x"]),
        (course.RewardModel.backward, ["grad_reward"]),
        (course.reward_loss, ["reward_chosen", "reward_rejected"]),
        (course.reward_model_loss, ["reward_chosen", "reward_rejected"]),
        (
            course.dpo_loss,
            ["policy_chosen_logp", "policy_rejected_logp", "ref_chosen_logp", "ref_rejected_logp", "beta"],
        ),
        (course.compute_sequence_logprob, ["logits", "tokens", "mask"]),
        (course.compute_log_probs, ["logits", "tokens"]),
        (course.PPOBuffer.__init__, ["gamma", "lam"]),
        (course.PPOBuffer.add, ["state", "action", "reward", "value", "log_prob", "done"]),
        (course.PPOBuffer.compute_advantages, ["last_value"]),
        (course.ppo_loss, ["new_log_probs", "old_log_probs", "advantages", "clip_ratio"]),
        (course.value_loss, ["predicted", "returns", "old_values", "clip_value"]),
        (course.DPOTrainer.__init__, ["model", "ref_model", "tokenizer", "beta", "learning_rate"]),
        (course.DPOTrainer.train_step, ["batch"]),
        (course.DPOTrainer.train, ["dataset", "epochs", "batch_size"]),
        (course.analyze_reward_hacking, ["policy_rewards", "true_quality"]),
        (course.ConstitutionalCritic.__init__, ["model", "principles"]),
        (course.ConstitutionalCritic.critique, ["prompt", "response"]),
        (course.ConstitutionalCritic.revise, ["prompt", "response", "critique"]),
        (course.kl_divergence, ["log_probs_p", "log_probs_q"]),
        (course.kl_penalty_reward, ["policy_log_probs", "ref_log_probs", "kl_coef"]),
    ],
)
def test_documented_signatures_come_first(function, documented):
    assert parameters(function)[: len(documented)] == documented


def test_documented_defaults():
    def default(function, name):
        return inspect.signature(function).parameters[name].default

    assert default(course.RewardModel, "hidden_dim") == 256
    assert (default(course.PPOBuffer, "gamma"), default(course.PPOBuffer, "lam")) == (0.99, 0.95)
    assert (default(course.DPOTrainer, "beta"), default(course.DPOTrainer, "learning_rate")) == (0.1, 1e-6)
    assert default(course.ppo_loss, "clip_ratio") == 0.2
    assert default(course.kl_penalty_reward, "kl_coef") == 0.1


class Words:
    pad_token_id = 0

    def encode(self, text):
        return [1 + (sum(map(ord, w)) % 19) for w in text.split()]


PAIRS = [
    course.PreferencePair("how are you", "very well thanks", "go away"),
    course.PreferencePair("hi", "hello", "no"),
]


def test_dataset_and_batch():
    assert course.create_preference_dataset(["p"], ["c"], ["r"]) == [course.PreferencePair("p", "c", "r")]
    with pytest.raises(DataError, match="2 prompts, 1 chosen"):
        course.create_preference_dataset(["p", "q"], ["c"], ["r"])
    batch = course.create_preference_batch(PAIRS, Words())
    assert batch["prompt_ids"].shape == (2, 3)
    assert list(batch) == ["prompt_ids", "chosen_ids", "rejected_ids"]
    assert batch.lengths["chosen"].tolist() == [3, 1]
    assert course.create_preference_batch(PAIRS, Words().encode)["rejected_ids"].shape == (2, 2)
    with pytest.raises(DataError, match="no pairs"):
        course.create_preference_batch([], Words())


def finite(function, array, h=1e-6):
    found = np.zeros_like(array)
    for at in np.ndindex(array.shape):
        ends = []
        for step in (h, -h):
            moved = array.copy()
            moved[at] += step
            ends.append(function(moved))
        found[at] = (ends[0] - ends[1]) / (2 * h)
    return found


@pytest.mark.parametrize("shape", [(6,), (6, 1), (2, 3)])
def test_losses_and_gradients_are_of_the_mean_over_all_elements(shape):
    """Audit 3: the documents divide gradients by the first axis only."""
    rng = np.random.default_rng(0)
    a, b, c, d = (rng.standard_normal(shape) for _ in range(4))
    _, up, down = course.reward_loss(a, b)
    np.testing.assert_allclose(up, finite(lambda x: course.reward_loss(x, b)[0], a), atol=1e-8)
    np.testing.assert_allclose(down, finite(lambda x: course.reward_model_loss(a, x)[0], b), atol=1e-8)
    trainer = course.DPOTrainer(beta=0.3, label_smoothing=0.1)
    _, _, up, down = trainer.compute_loss(a, b, c, d)
    np.testing.assert_allclose(up, finite(lambda x: trainer.compute_loss(x, b, c, d)[0], a), atol=1e-8)
    np.testing.assert_allclose(down, finite(lambda x: trainer.compute_loss(a, x, c, d)[0], b), atol=1e-8)
    _, grad = course.ppo_loss(a, b, c)
    np.testing.assert_allclose(grad, finite(lambda x: course.ppo_loss(x, b, c)[0], a), atol=1e-7)
    _, grad = course.value_loss(a, b, c, 0.2)
    np.testing.assert_allclose(grad, finite(lambda x: course.value_loss(x, b, c, 0.2)[0], a), atol=1e-7)
    with pytest.raises(ShapeError):
        course.reward_loss(np.zeros((3, 1)), np.zeros(3))


def test_audit_2_clipping_keeps_the_gradient_that_corrects():
    cases = [(1.5, -1.0, 1.5), (0.5, 1.0, -0.5), (1.5, 1.0, 0.0), (0.5, -1.0, 0.0)]
    for ratio, gain, expected in cases:
        _, grad = course.ppo_loss(np.log([ratio]), np.zeros(1), np.array([gain]))
        assert grad[0] == pytest.approx(expected)


def test_audit_4_no_log_of_a_saturated_probability():
    assert course.reward_loss(np.array([-30.0]), np.zeros(1))[0] == pytest.approx(30.0)
    assert course.reward_loss(np.array([40.0]), np.zeros(1))[0] >= 0
    smoothed = course.DPOTrainer(beta=1.0, label_smoothing=0.1).compute_loss(*(np.array([v]) for v in (40.0, 0, 0, 0)))
    assert smoothed[0] == pytest.approx(4.0)
    assert isinstance(smoothed[0], float)


def test_audit_5_ties_are_told_apart():
    zero = np.zeros(3)
    _, metrics, *_ = course.dpo_loss(zero, zero, zero, zero)
    assert (metrics["accuracy"], metrics["accuracy_half_ties"], metrics["tie_rate"]) == (0.0, 0.5, 1.0)
    assert metrics["loss"] == pytest.approx(math.log(2))
    assert {"chosen_reward", "rejected_reward", "reward_margin"} <= set(metrics)


def test_audit_7_two_forward_passes_are_never_confused():
    model = course.RewardModel(3, 5, seed=0)
    rng = np.random.default_rng(0)
    chosen, rejected = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    on_chosen, on_rejected = model.forward(chosen), model.forward(rejected)
    assert on_chosen.shape == (4, 1)
    loss, up, down = course.reward_model_loss(on_chosen, on_rejected)
    with pytest.raises(UsageError, match="2 forward passes are open"):
        model.backward(up)
    assert model.backward(up, x=chosen).shape == (4, 3)
    model.backward(down, x=rejected, accumulate=True)
    twin = copy.deepcopy(model)

    def total(weights):
        twin.W1 = weights
        return course.reward_model_loss(twin.forward(chosen), twin.forward(rejected))[0]

    np.testing.assert_allclose(model.grads["W1"], finite(total, model.W1), atol=1e-7)
    named = [model.W1, model.b1, model.W2, model.b2]
    assert all(one is other for one, other in zip(model.parameters(), named, strict=True))
    assert all(g is model.grads[name] for g, name in zip(model.gradients(), ("W1", "b1", "W2", "b2"), strict=True))
    model.W2[:] = 0
    assert (model.forward(chosen) == model.b2).all()
    with pytest.raises(UsageError, match="no forward pass"):
        model.backward(up, x=chosen + 1)
    assert loss > 0


def test_log_probs_aligned_shifted_and_masked():
    rng = np.random.default_rng(0)
    logits, tokens = rng.standard_normal((2, 4, 5)), rng.integers(0, 5, (2, 4))
    mask = np.array([[1, 1, 0, 0], [0, 0, 0, 0]])
    plain = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(plain, tokens[..., None], -1)[..., 0]
    np.testing.assert_allclose(course.compute_log_probs(logits, tokens), picked.sum(-1))
    np.testing.assert_allclose(course.compute_sequence_logprob(logits, tokens, mask), [picked[0, :2].sum(), 0])
    shifted = np.take_along_axis(plain[:, :-1], tokens[:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(course.compute_log_probs(logits, tokens, shift=True), shifted.sum(-1))


def reference_gae(rewards, values, dones, last, gamma, lam):
    out, trace = np.zeros(len(rewards)), 0.0
    for t in reversed(range(len(rewards))):
        after = last if t == len(rewards) - 1 else values[t + 1]
        alive = 1.0 - dones[t]
        trace = rewards[t] + gamma * after * alive - values[t] + gamma * lam * alive * trace
        out[t] = trace
    return out


def test_buffer_matches_the_documents_recursion():
    rng = np.random.default_rng(0)
    rewards, values = rng.standard_normal(9), rng.standard_normal(9)
    dones = np.array([0, 0, 1, 0, 0, 0, 1, 0, 0])
    buffer = course.PPOBuffer()
    for t in range(9):
        buffer.add([t], t, rewards[t], values[t], -1.0, bool(dones[t]))
    advantages, returns = buffer.compute_advantages(0.7)
    np.testing.assert_allclose(advantages, reference_gae(rewards, values, dones, 0.7, 0.99, 0.95))
    np.testing.assert_allclose(returns, advantages + values)
    batch = buffer.get_batch(0.7, normalize=True)
    assert set(batch) == {"states", "actions", "old_log_probs", "advantages", "returns", "values"}
    assert batch["advantages"].std() == pytest.approx(1)
    np.testing.assert_allclose(batch["returns"], returns)
    buffer.clear()
    assert len(buffer) == 0
    assert buffer.compute_advantages()[0].shape == (0,)


def test_buffer_tells_truncated_from_done():
    cut, ended = course.PPOBuffer(1.0, 1.0), course.PPOBuffer(1.0, 1.0)
    cut.add(0, 0, 1.0, 0.0, 0.0, truncated_value=5.0)
    ended.add(0, 0, 1.0, 0.0, 0.0, done=True)
    assert cut.compute_advantages(99.0)[0][0] == 6.0
    assert ended.compute_advantages(99.0)[0][0] == 1.0
    with pytest.raises(ConfigError, match="done and truncated"):
        cut.add(0, 0, 1.0, 0.0, 0.0, done=True, truncated_value=1.0)


def test_audit_1_kl_and_its_penalty():
    p, q = np.log([0.5, 0.25, 0.25]), np.log([0.6, 0.2, 0.2])
    true = course.kl_divergence(p, q)
    assert true == pytest.approx(0.0204, abs=1e-4)
    weights = np.exp(p)
    assert weights @ course.kl_penalty_reward(p, q, 1.0) == pytest.approx(true)
    assert weights @ course.kl_penalty_reward(p, q, 1.0, estimator="weighted") == pytest.approx(-0.0177, abs=1e-4)
    assert weights @ course.kl_penalty_reward(p, q, 1.0, estimator="k3") == pytest.approx(true)
    np.testing.assert_array_equal(course.kl_penalty_reward(p, p), 0)
    with np.errstate(divide="ignore"):
        assert course.kl_divergence(np.log([1.0, 0.0]), np.log([0.5, 0.5])) == pytest.approx(math.log(2))
    rows = course.kl_divergence(np.stack([p, p]), np.stack([q, q]), axis=-1)
    np.testing.assert_allclose(rows, true)
    with pytest.raises(ConfigError, match="k4"):
        course.kl_penalty_reward(p, q, estimator="k4")


def test_adaptive_controller():
    control = course.AdaptiveKLController(0.1, 6.0, 100)
    assert control.update(12.0, 10) == pytest.approx(0.102)
    assert control.update(6.0, 10) == control.value == pytest.approx(0.102)


def test_full_trainer_without_torch():
    model = course.BigramModel(20, seed=0)
    trainer = course.DPOTrainer(model, None, Words(), beta=0.5, learning_rate=1.0)
    frozen = trainer.ref_model.weights_VV.copy()
    history = trainer.train(PAIRS, epochs=20, batch_size=2)
    assert history[0]["loss"] == pytest.approx(math.log(2))
    assert history[-1]["loss"] < 0.3
    assert history[-1]["accuracy"] == 1.0
    np.testing.assert_array_equal(trainer.ref_model.weights_VV, frozen)


def test_one_numpy_step_follows_the_true_gradient():
    model = course.BigramModel(20, seed=1)
    batch = course.create_preference_batch(PAIRS, Words())
    trainer = course.DPOTrainer(model, None, Words(), beta=0.5, learning_rate=1e-3)

    def loss(weights):
        probe = course.DPOTrainer(copy.deepcopy(model), trainer.ref_model, Words(), beta=0.5, learning_rate=0.0)
        probe.model.weights_VV = weights
        return probe.train_step(batch)["loss"]

    start = model.weights_VV.copy()
    expected = finite(loss, start)
    trainer.train_step(batch)
    np.testing.assert_allclose((start - model.weights_VV) / 1e-3, expected, atol=1e-6)


def test_full_trainer_with_a_hugging_face_model(policy):
    model = copy.deepcopy(policy.model)
    trainer = course.DPOTrainer(model, None, policy.tokenizer, beta=0.5, learning_rate=5e-3)
    history = trainer.train(PAIRS, epochs=12, batch_size=2)
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert history[-1]["loss"] < 0.4


def test_trainer_mistakes_are_named():
    assert course.DPOTrainer(0.3, 0.1).beta == 0.3
    assert course.DPOTrainer(0.3, 0.1).label_smoothing == 0.1
    model = course.BigramModel(5)
    with pytest.raises(UsageError, match="one object"):
        course.DPOTrainer(model, model, Words())
    with pytest.raises(UsageError, match="no model"):
        course.DPOTrainer().train_step({})
    with pytest.raises(UsageError, match="no tokenizer"):
        course.DPOTrainer(model).train(PAIRS)
    for bad in ({"beta": 0.0}, {"label_smoothing": 0.5}):
        with pytest.raises(ConfigError):
            course.DPOTrainer(**bad)


def test_reward_that_rises_while_quality_falls_is_called_hacking():
    """Property 94."""
    reward = [float(i) for i in range(20)]
    quality = [min(i, 20 - i) / 10 for i in range(20)]
    found = course.analyze_reward_hacking(reward, quality)
    assert found["is_hacking"]
    assert abs(found["divergence_point"] - 10) <= 1
    assert course.analyze_reward_hacking([0.0, 1.0, 2.0, 3.0], [0.0, 0.5, 0.4, 0.1])["divergence_point"] == 1
    steady = course.analyze_reward_hacking(reward, [1.0] * 20)
    assert steady["correlation"] is None
    assert not steady["is_hacking"]
    with pytest.raises(ShapeError):
        course.analyze_reward_hacking([1.0, 2.0], [1.0])


def test_the_critic_names_the_violated_principles_and_revises_the_answer():
    """Property 104."""
    asked = []

    def model(text):
        asked.append(text)
        if "Rewrite" in text:
            return "I cannot help with that."
        return "YES: refuse instead" if "Avoid harm" in text and "poison" in text else "No."

    critic = course.ConstitutionalCritic(model, ["Be helpful", "Avoid harm"])
    found = critic.critique("how?", "use poison")
    assert found == {"violations": ["Avoid harm"], "suggestions": ["refuse instead"]}
    assert critic.revise("how?", "use poison", found["suggestions"][0]) == "I cannot help with that."
    fine = critic.critique("how?", "study")
    assert fine["violations"] == []
    assert critic.revise("how?", "study", fine) == "study"
    with pytest.raises(DataError, match="YES or NO"):
        course.ConstitutionalCritic(lambda text: "maybe", ["p"]).critique("q", "a")
    with pytest.raises(ConfigError):
        course.ConstitutionalCritic(model, [])


def test_comparison_of_methods():
    found = course.compare_alignment_methods()
    assert set(found) == {"RLHF (PPO)", "DPO"}
    assert found["DPO"]["models_needed"] < found["RLHF (PPO)"]["models_needed"]


@pytest.mark.slow
def test_demo_prints_the_sections_and_needs_no_torch():
    code = "import sys; from trueup.course import demo; demo(); assert 'torch' not in sys.modules"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heading in (
        "Stage 10: Alignment - RLHF and DPO",
        "1. Reward Model Training",
        "2. Direct Preference Optimization (DPO)",
        "3. PPO Components (for RLHF)",
        "4. RLHF vs DPO Comparison",
        "Advantages shape: (10,)",
    ):
        assert heading in ran.stdout
