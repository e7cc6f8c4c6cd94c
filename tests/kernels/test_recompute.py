"""What is made again in the backward pass is what was given in the forward pass, and nothing of it is kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tests.kernels.test_packing import build, kept_by
from trueup.kernels import elementwise
from trueup.kernels.activations import RecomputedGELU, use_fast_activations
from trueup.kernels.elementwise import gelu, layer_norm
from trueup.kernels.linears import FastConv1D, FastLinear, use_fast_linears
from trueup.kernels.norms import FusedLayerNorm, use_fused_norms
from trueup.kernels.packing import pack
from trueup.kernels.recompute import recompute_of, tag_recompute
from trueup.models.trunk import Trunk

shapes = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 12))


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(1, 60), st.integers(0, 99))
def test_gelu_and_its_gradient(shape, at_a_time, seed):
    x = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x.requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elementwise, "ELEMENTS", at_a_time)
        wanted = functional.gelu(x, approximate="tanh")
        torch.testing.assert_close(gelu(x), wanted, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gelu(x.transpose(0, 2)), wanted.transpose(0, 2), rtol=1e-12, atol=1e-14)
        assert torch.autograd.gradcheck(gelu, (x,))
        found = gelu(x)
        tag = found.recompute
        assert torch.equal(tag.fn(*(t.detach() for t in tag.inputs)), found)  # and the derivative with it
        (grad,) = torch.autograd.grad(found.sum(), x)
        torch.testing.assert_close(grad, torch.autograd.grad(wanted.sum(), x)[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_is_as_precise_as_that_of_pytorch(dtype):
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e4, -3e38, 3e38, 0.0])]).to(dtype).requires_grad_()
    wide = x.detach().double().requires_grad_()
    found = []
    for run, given_ in ((functional.gelu, wide), (functional.gelu, x), (lambda x, approximate: gelu(x), x)):
        y = run(given_, approximate="tanh")
        (grad,) = torch.autograd.grad(y[:-3].sum(), given_)
        found.append((y.detach(), grad))
    exact, theirs, ours = found
    for one, other, wanted in zip(ours, theirs, exact, strict=True):
        gaps = [float((some.double() - wanted)[:-3].abs().max()) for some in (one, other)]
        assert gaps[0] <= 2 * gaps[1] + torch.finfo(dtype).eps
    assert ours[0][-3:].tolist() == theirs[0][-3:].tolist()


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(1, 60), st.integers(0, 99))
def test_the_layer_norm_and_its_gradient(shape, at_a_time, seed):
    draw = torch.Generator().manual_seed(seed)
    x, weight_D, bias_D = (
        torch.randn(some, generator=draw, dtype=torch.float64).requires_grad_()
        for some in (shape, shape[-1:], shape[-1:])
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elementwise, "ELEMENTS", at_a_time)
        assert torch.autograd.gradcheck(lambda *given_: layer_norm(*given_, 1e-3), (x, weight_D, bias_D))
        plain = functional.layer_norm(x, shape[-1:], weight_D, bias_D, 1e-3)
        torch.testing.assert_close(layer_norm(x, weight_D, bias_D, 1e-3), plain, rtol=1e-12, atol=1e-12)
        assert torch.equal(
            layer_norm(x.float(), weight_D.float(), bias_D.float(), 1e-3, dtype=torch.bfloat16),
            functional.layer_norm(x.float(), shape[-1:], weight_D.float(), bias_D.float(), 1e-3).bfloat16(),
        )


def test_a_frozen_norm_gives_no_gradient_of_its_own():
    x, weight_D, bias_D = torch.randn(3, 4, requires_grad=True), torch.ones(4), torch.zeros(4)
    layer_norm(x, weight_D, bias_D, 1e-5).pow(3).sum().backward()
    plain = x.detach().clone().requires_grad_()
    functional.layer_norm(plain, (4,)).pow(3).sum().backward()
    torch.testing.assert_close(x.grad, plain.grad)


class Block(nn.Module):
    """As in GPT-2: norm, linear, GELU, linear; fused, or as PyTorch has it."""

    def __init__(self, fast, approximate="tanh"):
        super().__init__()
        torch.manual_seed(0)
        wide, back = (FastLinear, FastConv1D) if fast else (nn.Linear, FastConv1D.__base__)
        self.ln_1, self.ln_2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.c_fc, self.act, self.c_proj = wide(16, 48), nn.GELU(approximate), back(16, 48)
        nn.init.normal_(self.ln_2.weight)
        nn.init.normal_(self.c_proj.weight)
        if fast:
            assert use_fused_norms(self) + use_fast_activations(self) == 3

    def forward(self, x):
        return x + self.c_proj(self.act(self.c_fc(self.ln_2(x))))


@pytest.mark.parametrize("approximate", ["tanh", "none"])
@pytest.mark.parametrize("narrow", [False, True])
def test_linear_layers_do_not_keep_what_can_be_made_again(narrow, approximate):
    plain, fast = Block(False, approximate), Block(True, approximate)
    results, kept = [], []
    for block in (plain, fast):
        x = torch.randn(7, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            found, tensors = kept_by(lambda block=block, x=x: block(x))
        found.float().pow(3).sum().backward()
        kept.append(sum(tensor.shape in ((7, 48), (7, 16)) for tensor in tensors))
        results.append([found.detach().float(), x.grad, *(p.grad for p in block.parameters() if p.grad is not None)])
    assert kept[1] == 2 < kept[0]  # what the norm and what the GELU is given
    assert len(results[0]) == len(results[1]) == 8
    for wanted, ours in zip(*results, strict=True):
        tolerance = 0.03 if narrow else 1e-5
        assert float((ours - wanted).norm() / wanted.norm()) < tolerance


def test_what_was_changed_since_is_kept_as_it_is():
    layer = FastLinear(4, 8)
    x = torch.randn(3, 4, requires_grad=True)
    made = tag_recompute(x * 2, lambda given_: given_ * 2, x)
    assert recompute_of(made, torch.float32) is not None
    assert recompute_of(made, torch.bfloat16) is None
    made += 1
    assert recompute_of(made, torch.float32) is None
    layer(made).sum().backward()
    torch.testing.assert_close(layer.weight.grad[0], (2 * x + 1).sum(0))


def test_without_a_gradient_nothing_is_noted():
    assert recompute_of(tag_recompute(torch.ones(2), torch.ones_like, torch.ones(2)), torch.float32) is None
    with torch.no_grad():
        assert recompute_of(gelu(torch.ones(2, requires_grad=True)), torch.float32) is None


def test_the_input_of_a_frozen_layer_is_not_kept():
    """As under LoRA: the gradient passes through, and needs the weight only."""
    layer = FastLinear(4, 8).requires_grad_(False)
    x = torch.randn(3, 4, requires_grad=True)
    found, tensors = kept_by(lambda: layer(x))
    assert [tensor.shape for tensor in tensors] == [(8, 4)]
    found.sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, 4))


def test_a_second_backward_pass_of_one_graph_gives_the_same():
    block = Block(True)
    x = torch.randn(5, 16, requires_grad=True)
    loss = block(x).pow(2).sum()
    first, second = (torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["GPT2", "GPTNeoX"])
def test_under_autocast_a_model_is_as_close_to_float32_as_it_was(family):
    exact, plain, fast = (build(family, torch.float32) for _ in range(3))
    for model in (plain, fast):
        use_fast_activations(model)
        use_fast_linears(model)
    use_fused_norms(fast)
    assert {type(m) for m in fast.modules()} >= {RecomputedGELU, FusedLayerNorm}
    ids = torch.randint(0, 61, (4, 12), generator=torch.Generator().manual_seed(1))
    found = []
    for model in (exact, plain, fast):
        with torch.autocast("cpu", torch.bfloat16, enabled=model is not exact):
            loss = (model.base_model(input_ids=ids).last_hidden_state.float() ** 3).sum()
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.base_model.parameters()]))
    theirs, ours = (float((f - found[0]).norm() / found[0].norm()) for f in found[1:])
    assert ours < 1.3 * theirs < 0.1


def test_under_gradient_checkpointing_the_gradients_are_the_same_to_the_bit():
    found = []
    for checkpointed in (False, True):
        model = build("GPT2", torch.float32)
        use_fast_activations(model)
        trunk = Trunk(model, model.base_model, torch.device("cpu"), torch.bfloat16, "GPT2")
        assert {type(m) for m in model.modules()} >= {RecomputedGELU, FusedLayerNorm, FastConv1D}
        if checkpointed:
            trunk.checkpoint_blocks()
        shared = tuple(range(1, 12))
        hidden_ND = trunk.stream(pack([shared, shared, (3, 4)], [(5, 6, 7), (8, 9), (10, 11, 12, 13)]))
        hidden_ND.float().pow(3).sum().backward()
        found.append({name: p.grad for name, p in model.base_model.named_parameters()})
    for name, wanted in found[0].items():
        assert wanted.abs().sum() > 0, name
        assert torch.equal(found[1][name], wanted), name
