import numpy as np
import pytest
import torch

from trueup.config import Sampling
from trueup.engine.generate import _draw, generate
from trueup.errors import ModelError
from trueup.types import StopReason

PROMPTS = [(5, 6, 7), (9,), (20, 21, 22, 23, 24, 25), (7, 8)]
STOP = frozenset([1])


def test_a_completion_does_not_depend_on_its_batch_mates(policy):
    sampling = Sampling(max_new_tokens=16)
    together = generate(policy, PROMPTS, sampling, stop_ids=STOP, seed=5)
    in_turn = generate(policy, PROMPTS, sampling, stop_ids=STOP, seed=5, batch=1)
    assert [c.ids for c in together] == [c.ids for c in in_turn]
    assert [c.ids for c in together] != [c.ids for c in generate(policy, PROMPTS, sampling, stop_ids=STOP, seed=6)]


def test_stop_token_is_part_of_the_completion_and_named(policy):
    everything = frozenset(range(0, 400, 3))
    for completion in generate(policy, PROMPTS * 3, Sampling(max_new_tokens=6), stop_ids=everything, seed=1):
        inner, last = completion.ids[:-1], completion.ids[-1]
        assert not set(inner) & everything
        assert (completion.stop is StopReason.EOS) == (last in everything)
        assert completion.stop is StopReason.EOS or len(completion.ids) == 6
        assert len(completion.logps) == len(completion.ids)


def test_greedy_takes_the_arg_max_at_each_position(policy):
    (found,) = generate(policy, [(5, 6)], Sampling(max_new_tokens=5, temperature=0), stop_ids=STOP, seed=0)
    ids = [5, 6]
    for token in found.ids:
        best = int(policy.full_logits(torch.tensor([ids]))[0, -1].argmax())
        assert token == best
        ids.append(best)


def test_draws_follow_the_distribution():
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    uniforms = torch.rand(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens, logps = _draw(probabilities.log().repeat(20000, 1), uniforms, Sampling(), None)
    shares = np.bincount(tokens.numpy(), minlength=4) / 20000
    assert np.abs(shares - probabilities.numpy()).max() < 4 * (0.5 * 0.5 / 20000) ** 0.5
    torch.testing.assert_close(logps, probabilities.log()[tokens])


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(top_k=2), {0, 1}),
        (Sampling(top_p=0.5), {0}),
        (Sampling(top_p=0.51), {0, 1}),
        (Sampling(top_p=0.9), {0, 1, 2}),
    ],
)
def test_levers_cut_and_renormalise(sampling, allowed):
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    uniforms = torch.linspace(0, 0.999, 200, dtype=torch.float64)
    tokens, logps = _draw(probabilities.log().repeat(200, 1), uniforms, sampling, None)
    assert set(tokens.tolist()) == allowed
    kept = sum(float(probabilities[i]) for i in allowed)
    torch.testing.assert_close(logps.exp(), probabilities[tokens] / kept)


def test_repetition_penalty_lowers_tokens_already_seen():
    logits = torch.tensor([[2.0, 1.9, -1.0]])
    seen = torch.tensor([[True, False, True]])
    token, _ = _draw(logits, torch.zeros(1), Sampling(temperature=0, repetition_penalty=1.2), seen)
    assert token.tolist() == [1]


def test_too_long_and_empty_prompts_are_refused(policy):
    with pytest.raises(ModelError, match="exceeds 96 positions"):
        generate(policy, [tuple(range(2, 92))], Sampling(max_new_tokens=10), stop_ids=STOP, seed=0)
    with pytest.raises(ModelError, match="empty prompt"):
        generate(policy, [()], Sampling(max_new_tokens=4), stop_ids=STOP, seed=0)
