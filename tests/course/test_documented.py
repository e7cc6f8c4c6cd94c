"""What code written after the documents relies on: lists, seeds, keys, endings, and our own words for torch tensors."""

import math

import numpy as np
import pytest
import torch

from trueup import course
from trueup.errors import ShapeError, UsageError


class Letters:
    """One id a letter; padding 0, end 1."""

    pad_token_id, eos_token_id = 0, 1

    def encode(self, text):
        return [2 + "abcdefgh".index(letter) for letter in text]


def test_the_global_seed_gives_the_weights_of_the_documents_code():
    np.random.seed(7)
    model = course.RewardModel(input_dim=4, hidden_dim=6)
    np.random.seed(7)
    wanted = np.random.randn(4, 6) * np.sqrt(2.0 / 10), np.random.randn(6, 1) * np.sqrt(2.0 / 6)
    np.testing.assert_array_equal(model.W1, wanted[0])
    np.testing.assert_array_equal(model.W2, wanted[1])
    assert (model.input_dim, model.hidden_dim) == (4, 6)
    before = np.random.get_state()[1].copy()
    assert not np.array_equal(course.RewardModel(4, 6, seed=7).W1, model.W1)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # a seed of its own leaves the global state alone


def test_a_loop_over_parameters_and_gradients_trains():
    np.random.seed(0)
    model = course.RewardModel(3, 8)
    x_BD = np.random.randn(20, 3)
    with pytest.raises(UsageError, match="there are no gradients"):
        model.gradients()
    losses = []
    for _ in range(60):
        both = model.forward(np.concatenate([x_BD, -x_BD]))
        loss, up, down = course.reward_loss(both[:20], both[20:])
        model.backward(np.concatenate([up, down]))
        for parameter, gradient in zip(model.parameters(), model.gradients(), strict=True):
            parameter -= 0.3 * gradient
        losses.append(loss)
    assert losses[-1] < 0.5 * losses[0]
    with pytest.raises(ShapeError, match="W1 has shape"):
        model.W1 = np.zeros((2, 2))


def test_steps_are_sentences():
    for facts, count in zip(course.compare_alignment_methods().values(), (5, 4), strict=True):
        assert len(facts["steps"]) == count
        assert all(step.endswith(".") for step in facts["steps"])


def test_a_pair_may_carry_scores():
    (pair,) = course.create_preference_dataset(["p"], ["c"], ["r"], [0.8], [-1.4])
    assert (pair.chosen_score, pair.rejected_score) == (0.8, -1.4)
    assert course.PreferencePair("p", "c", "r").chosen_score is None
    with pytest.raises(ValueError, match="1 prompts, 1 chosen responses, 1 rejected responses, 2 chosen scores"):
        course.create_preference_dataset(["p"], ["c"], ["r"], [0.8, 0.1])


def test_the_buffers_lists_may_be_filled_and_replaced_by_hand():
    filled, replaced = course.PPOBuffer(gamma=0.9, lam=0.8), course.PPOBuffer(gamma=0.9, lam=0.8)
    rows = [(0.5, 0.1, False), (-0.2, 0.3, True), (1.0, 0.2, False)]
    for number, (reward, value, done) in enumerate(rows):
        filled.add(number, 0, reward, value, -1.0, done)
    replaced.rewards, replaced.values, replaced.dones = (list(column) for column in zip(*rows, strict=True))
    for one, other in zip(filled.compute_advantages(0.4), replaced.compute_advantages(0.4), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (filled.states, filled.actions, filled.log_probs) == ([0, 1, 2], [0, 0, 0], [-1.0] * 3)
    filled.rewards.append(1.0)
    with pytest.raises(ShapeError, match="4 rewards, 3 values, 3 dones"):
        filled.compute_advantages()
    with pytest.raises(ShapeError, match="0 states"):
        replaced.get_batch()


@pytest.mark.parametrize("answer", ["ab", "b"])
def test_the_trainer_ends_answers_and_learns_the_end(answer):
    pair = course.PreferencePair("a", answer, "h")
    plain = course.create_preference_batch([pair], Letters())
    ended = course.create_preference_batch([pair], Letters(), add_eos=True)
    assert ended["prompt_ids"].tolist() == plain["prompt_ids"].tolist()
    assert ended["chosen_ids"].tolist() == [[*plain["chosen_ids"][0].tolist(), 1]]
    assert course.create_preference_batch([pair], Letters().encode, add_eos=True)["rejected_ids"].shape == (1, 1)
    model = course.BigramModel(10, seed=0)
    before = model.weights_VV.copy()
    course.DPOTrainer(model, None, Letters(), learning_rate=1.0).train([pair], epochs=3)
    last = Letters().encode(answer)[-1]
    assert model.weights_VV[last, 1] > before[last, 1]  # the end after the chosen answer became likelier


def test_an_answer_that_ends_already_gets_no_second_end():
    class Ending(Letters):
        def encode(self, text):
            return [*super().encode(text), 1]

    pair = course.PreferencePair("a", "b", "c")
    assert course.create_preference_batch([pair], Ending(), add_eos=True)["chosen_ids"].tolist() == [[3, 1]]


@pytest.mark.parametrize("masks", [True, False])
def test_a_plain_dictionary_of_the_three_keys_trains_alike(masks):
    pairs = [course.PreferencePair("ab", "cde", "f"), course.PreferencePair("a", "b", "cdef")]
    batch = course.create_preference_batch(pairs, Letters())
    plain = dict(batch)
    if masks:
        plain |= {f"{k}_mask": (batch[f"{k}_ids"] > 0).astype(int) for k in ("prompt", "chosen", "rejected")}
    results = []
    for given in (batch, plain):
        trainer = course.DPOTrainer(course.BigramModel(10), None, Letters(), learning_rate=0.5)
        results.append((trainer.train_step(given), trainer.train_step(given)))
    assert results[0] == results[1]


def test_padding_that_is_the_end_token_needs_masks_or_our_batch():
    class Same(Letters):
        pad_token_id = 1

    pairs = [course.PreferencePair("ab", "cde", "f"), course.PreferencePair("a", "b", "cdef")]
    batch = course.create_preference_batch(pairs, Same(), add_eos=True)
    trainer = course.DPOTrainer(course.BigramModel(10), None, Same())
    assert trainer.train_step(batch)["loss"] == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="nothing says where the rows"):
        trainer.train_step(dict(batch))


ONE = torch.ones(1)
HALF = np.full((1, 1), 0.5)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: course.reward_loss(t, np.ones(1)),
        lambda t: course.reward_model_loss(np.ones(1), t),
        lambda t: course.dpo_loss(np.ones(1), np.ones(1), t, np.ones(1)),
        lambda t: course.ppo_loss(np.ones(1), np.ones(1), [t]),
        lambda t: course.value_loss(t, np.ones(1)),
        lambda t: course.kl_divergence(t, np.ones(1)),
        lambda t: course.kl_penalty_reward(np.ones(1), t),
        lambda t: course.compute_log_probs(t.reshape(1, 1, 1), np.zeros((1, 1), dtype=int)),
        lambda t: course.compute_log_probs(np.zeros((1, 1, 2)), t.reshape(1, 1).long()),
        lambda t: course.RewardModel(1, 2, seed=0).forward(t.reshape(1, 1)),
        lambda t: course.PPOBuffer().add(0, 0, t, 0.0, 0.0),
        lambda t: course.PPOBuffer().compute_advantages(t),
        lambda t: course.AdaptiveKLController().update(t),
        lambda t: course.analyze_reward_hacking([t, t], [1.0, 2.0]),
    ],
)
@pytest.mark.parametrize("tensor", [ONE, ONE.clone().requires_grad_()], ids=["plain", "with a graph"])
def test_torch_tensors_are_refused_in_our_words(call, tensor):
    with pytest.raises(UsageError, match="is a torch tensor"):
        call(tensor)


@pytest.mark.parametrize("words", ["a", ["a", "b"], [[1.0], [2.0, 3.0]]])
def test_what_is_no_array_of_numbers_is_refused_in_our_words(words):
    with pytest.raises(ValueError, match=r"no array of numbers|NaN|nan"):
        course.reward_loss(words, words)
