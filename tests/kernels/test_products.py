"""Products by the faster library give the same numbers and gradients, whichever library the processor prefers."""

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from tests.kernels.test_decoder import packs_bfloat16
from tests.kernels.test_packing import FAMILIES, assert_same_loss_and_gradients, build
from trueup.kernels import products
from trueup.kernels.gradients import GradBuffer
from trueup.kernels.linears import FastConv1D, FastLinear, use_fast_linears
from trueup.kernels.products import COARSEST, add_weight_grad_, product, rounded, weight_grad

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


@pytest.fixture
def onednn(monkeypatch):
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)


@given(st.integers(0, 100_000))
def test_rounding_up_costs_a_sixteenth_at_most_and_gives_few_shapes(count):
    found = rounded(count)
    assert count <= found <= count + count / 16
    assert rounded(found) == found
    if count >= 16 * COARSEST:
        assert found % COARSEST == 0


@given(st.integers(1, 100_000))
def test_coarser_rounding_costs_an_eighth_at_most(count):
    assert count <= rounded(count, share=8) <= count * 9 / 8
    assert len({rounded(n, share=8) for n in range(256, 512)}) <= 9


def test_few_shapes_occur():
    assert len({rounded(count) for count in range(1000, 2000)}) <= 32


@needs_onednn
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(1, 40), st.integers(8, 50), st.booleans(), st.booleans(), st.integers(0, 9))
def test_values_and_gradients_are_those_of_pytorch(tokens, inputs, outputs, biased, turned, seed):
    torch.manual_seed(seed)
    plain = Conv1D(outputs, inputs) if turned else nn.Linear(inputs, outputs, bias=biased)
    nn.init.normal_(plain.weight)
    fast = FastConv1D(outputs, inputs) if turned else FastLinear(inputs, outputs, bias=biased)
    fast.load_state_dict(plain.state_dict())
    x, slope = torch.randn(1, tokens, inputs), torch.randn(1, tokens, outputs)
    results = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(products, "prefers_onednn", lambda: True)
        for layer in (plain, fast):
            given_ = x.clone().requires_grad_()
            found = layer(given_)
            found.backward(slope)
            results.append([found.detach(), given_.grad, *(p.grad for p in layer.parameters())])
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * (tokens * inputs * outputs) ** 0.25)


@needs_onednn
@pytest.mark.parametrize("shape", [(64, 16, 48), (64, 48, 16), (1, 8, 8)])
def test_bare_products(onednn, shape):
    tokens, inputs, outputs = shape
    x, weight, grad = torch.randn(tokens, inputs), torch.randn(outputs, inputs), torch.randn(tokens, outputs)
    torch.testing.assert_close(product(x, weight), x @ weight.t(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(product(grad, weight.t()), grad @ weight, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weight_grad(grad, x), grad.t() @ x, rtol=1e-5, atol=1e-4)
    assert product(x[:0], weight).shape == (0, outputs)
    wide = x.double()
    torch.testing.assert_close(product(wide, weight.double()), wide @ weight.double().t(), rtol=1e-12, atol=1e-12)


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wide", ["outputs", "inputs"])
def test_no_product_falls_back_to_the_plain_loops_of_onednn(onednn, capfd, monkeypatch, dtype, wide):
    monkeypatch.setattr(products, "GRAD_ROWS", 256)  # the slope of a wide weight is made in parts
    outputs, inputs = (600, 32) if wide == "outputs" else (32, 600)
    x, grad, weight = torch.randn(64, inputs), torch.randn(64, outputs), torch.randn(outputs, inputs)
    parameter = nn.Parameter(torch.zeros(outputs, inputs))
    slope = GradBuffer(parameter)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        product(x.to(dtype), weight.to(dtype))
        product(grad.to(dtype), weight.to(dtype).t())
        add_weight_grad_(slope, grad.to(dtype), x.to(dtype))
        ctypes.CDLL(None).fflush(None)
    used = [line.split(",")[6] for line in capfd.readouterr().out.splitlines() if ",exec,cpu," in line]
    # In bfloat16 PyTorch chooses: not always oneDNN, and never where the processor has no such products.
    assert len(used) >= (3 if dtype is torch.float32 else int(packs_bfloat16()))
    assert not [name for name in used if name.startswith(("ref", "simple"))]
    torch.testing.assert_close(slope.total, grad.t() @ x, rtol=0.05, atol=0.2)


@needs_onednn
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_whole_model_computes_the_same_and_keeps_its_names(onednn, family):
    plain, fast = build(family, torch.float32), build(family, torch.float32)
    names = list(fast.state_dict())
    assert use_fast_linears(fast) > 0
    assert list(fast.state_dict()) == names
    assert type(fast.get_output_embeddings()) is nn.Linear
    assert_same_loss_and_gradients(plain, fast, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frozen", [False, True])
def test_bfloat16_is_autocasts_and_keeps_no_copy_of_the_weight(turned, dtype, frozen):
    torch.manual_seed(0)
    plain = Conv1D(48, 24) if turned else nn.Linear(24, 48)
    nn.init.normal_(plain.weight)
    fast = FastConv1D(48, 24) if turned else FastLinear(24, 48)
    fast.load_state_dict(plain.state_dict())
    x, slope = torch.randn(2, 5, 24).to(dtype), torch.randn(2, 5, 48).bfloat16()
    results, kept = [], []
    for layer in (plain, fast):
        layer.requires_grad_(not frozen)
        given_, held = x.clone().requires_grad_(), []
        with (
            torch.autograd.graph.saved_tensors_hooks(lambda t, held=held: held.append(t) or t, lambda t: t),
            torch.autocast("cpu", torch.bfloat16),
        ):
            found = layer(given_)
        assert found.dtype is torch.bfloat16
        found.backward(slope)
        results.append([found.detach(), given_.grad, *(p.grad for p in layer.parameters() if not frozen)])
        kept.append(sum(t.numel() == layer.weight.numel() and t.dtype is torch.bfloat16 for t in held))
    assert kept == [1, 0]
    for wanted, found in zip(*results, strict=True):
        assert found.dtype is wanted.dtype
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)


def test_other_precisions_are_pytorchs_own(onednn):
    fast = FastLinear(8, 8).double()
    assert fast(torch.randn(3, 8, dtype=torch.float64)).dtype is torch.float64
    with torch.autocast("cpu", torch.float16):
        assert FastLinear(8, 8)(torch.randn(3, 8)).dtype is torch.float16
    assert FastLinear(8, 8)(torch.empty(0, 8)).shape == (0, 8)


def test_a_processor_that_prefers_mkl_has_pytorchs_own_float32(monkeypatch):
    monkeypatch.setattr(products, "prefers_onednn", lambda: False)
    fast, plain = build("Llama", torch.float32), build("Llama", torch.float32)
    assert use_fast_linears(fast) > 0
    ids = torch.arange(9)[None]
    assert torch.equal(fast(input_ids=ids).logits, plain(input_ids=ids).logits)


@pytest.mark.parametrize(
    ("vendor", "capability", "wanted"), [("GenuineIntel", "AVX512", False), ("AuthenticAMD", "AVX2", False)]
)
def test_the_choice_follows_the_processor(monkeypatch, vendor, capability, wanted):
    monkeypatch.setattr(products, "_vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    products.prefers_onednn.cache_clear()
    try:
        assert products.prefers_onednn() is wanted
        monkeypatch.setattr(products, "_vendor", lambda: "AuthenticAMD")
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        products.prefers_onednn.cache_clear()
        assert products.prefers_onednn() is (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available())
    finally:
        products.prefers_onednn.cache_clear()


@pytest.mark.parametrize(
    ("flags", "wanted"), [("fpu amx_bf16 amx_tile", True), ("fpu avx512_bf16", False), ("", False)]
)
def test_matrix_units_are_read_from_the_processors_flags(monkeypatch, flags, wanted):
    monkeypatch.setattr(products, "_processor", lambda field: flags if field == "flags" else "")
    products.has_amx.cache_clear()
    try:
        assert products.has_amx() is wanted
    finally:
        products.has_amx.cache_clear()
