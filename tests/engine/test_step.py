"""Properties 32-34: accumulation cannot change a step. And the finite gate, and exact restore."""

import itertools
import math

import pytest
import torch

from trueup.config import Optim
from trueup.engine.step import Stepper, schedule
from trueup.errors import CheckpointError, NonFiniteError


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()


def per_example(net, x, y):
    return (net(x).squeeze(-1) - y) ** 2


X = torch.randn(10, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.randn(10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("cuts", [[10], [5, 5], [1, 2, 7], [1] * 10])
def test_any_cut_gives_the_same_update(cuts):
    """Properties 32, 33 and 34."""

    def run(cut):
        net = model()
        stepper = Stepper(dict(net.named_parameters()), Optim(learning_rate=0.01, max_grad_norm=0.05), total=3)
        for _ in range(3):
            begin = 0
            for size in cut:
                part = slice(begin, begin + size)
                stepper.accumulate(per_example(net, X[part], Y[part]), count=10)
                begin += size
            info = stepper.step()
        return info, torch.cat([p.detach().flatten() for p in net.parameters()])

    whole, cut = run([10]), run(cuts)
    assert whole[0]["loss"] == pytest.approx(cut[0]["loss"], rel=1e-12)
    assert whole[0]["grad_norm"] > 0.05
    torch.testing.assert_close(whole[1], cut[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_non_finite_loss_never_reaches_the_weights(poison):
    net = model()
    before = [p.detach().clone() for p in net.parameters()]
    stepper = Stepper(dict(net.named_parameters()), Optim(), total=5)
    losses = per_example(net, X, Y) * torch.tensor([1.0] * 9 + [poison])
    stepper.accumulate(losses, count=10)
    with pytest.raises(NonFiniteError, match="pair-7"):
        stepper.step(ids=("pair-7",))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_a_non_finite_gradient_is_caught_too():
    net = torch.nn.Linear(1, 1, bias=False)
    stepper = Stepper(dict(net.named_parameters()), Optim(on_nonfinite="skip"), total=5)
    before = net.weight.detach().clone()
    stepper.accumulate(torch.sqrt(net(torch.zeros(1, 1)).abs()).flatten(), count=1)  # 0 with gradient 0/0
    info = stepper.step()
    assert info["skipped_steps"] == 1
    assert torch.equal(before, net.weight)
    stepper.accumulate(net(torch.ones(1, 1)).flatten() ** 2, count=1)
    assert stepper.step()["skipped_steps"] == 1
    assert not torch.equal(before, net.weight)


def test_restored_stepper_goes_on_bit_for_bit():
    def go(stepper, net, steps):
        for _ in range(steps):
            stepper.accumulate(per_example(net, X, Y), count=10)
            stepper.step()

    straight = model()
    one = Stepper(dict(straight.named_parameters()), Optim(learning_rate=0.01), total=6)
    go(one, straight, 3)
    tensors = {k: v.clone() for k, v in one.tensors().items()}
    state = one.state()
    go(one, straight, 3)
    resumed = model()
    two = Stepper(dict(resumed.named_parameters()), Optim(learning_rate=0.01), total=6)
    two.restore(tensors, state)
    go(two, resumed, 3)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


def test_restoring_a_foreign_checkpoint_is_refused():
    net = model()
    stepper = Stepper(dict(net.named_parameters()), Optim(), total=1)
    with pytest.raises(CheckpointError, match="parameters differ"):
        stepper.restore({"param/other": torch.zeros(1)}, {"updates": 0, "skipped": 0})


def test_schedule_warms_up_and_lands_on_the_final_fraction():
    optim = Optim(learning_rate=1.0, warmup=0.2, final_fraction=0.1)
    rates = [schedule(optim, s, 10) for s in range(10)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[1:]))
    linear = [schedule(optim.model_copy(update={"schedule": "linear"}), s, 10) for s in range(10)]
    assert linear[-1] == pytest.approx(0.1)
    constant = optim.model_copy(update={"schedule": "constant"})
    assert schedule(constant, 9, 10) == 1.0
