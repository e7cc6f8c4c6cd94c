"""Inner products of gradients without gradients, against gradients that autograd makes of one example at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from trueup.engine.influence import (
    LayerGradient,
    Owners,
    adam_scale,
    gradient,
    inner_products,
    linear_layers,
    scaled,
    visits,
)
from trueup.errors import ModelError


class Net(nn.Module):
    """Two linear layers, one kept the way of GPT-2, over rows of positions; a head on gathered positions."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 5)
        self.blocks = nn.ModuleList([nn.ModuleDict({"up": nn.Linear(5, 7)}), nn.ModuleDict({"up": Conv1D(5, 7)})])
        self.head = nn.Linear(5, 3, bias=False)

    def forward(self, ids_BT, last_B):
        hidden = torch.tanh(self.blocks[0]["up"](self.embed(ids_BT)))
        hidden = torch.tanh(self.blocks[1]["up"](hidden)).cumsum(1)
        return torch.log_softmax(self.head(hidden[torch.arange(len(ids_BT)), last_B]), -1)


def net(seed):
    torch.manual_seed(seed)
    model = Net().double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def flat(grads):
    return torch.cat([g.reshape(-1) for g in grads])


def weights_of(layers):
    return [p for layer in layers.values() for p in layer.parameters(recurse=False)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(2, 6), width=st.integers(1, 5), scaled_by_adam=st.booleans())
def test_inner_products_are_those_of_autograd(seed, rows, width, scaled_by_adam):
    model = net(seed)
    layers = linear_layers(model, {name for name, _ in model.named_parameters()})
    assert set(layers) == {"blocks.0.up", "blocks.1.up", "head"}
    ids_BT, query_BT = torch.randint(11, (rows, width)), torch.randint(11, (2, width))
    last_B, target_B = torch.randint(width, (rows,)), torch.randint(3, (rows,))
    examples = max(1, rows // 2)  # a pair's two rows belong to one example
    owner_B = torch.arange(rows) % examples

    def losses():
        return -model(ids_BT, last_B).gather(1, target_B[:, None]).squeeze(1)

    def answer():
        return model(query_BT, torch.zeros(2, dtype=torch.long))[:, 1].sum()

    learned = weights_of(layers)
    wanted = torch.autograd.grad(answer(), learned, allow_unused=True)
    wanted = [torch.zeros_like(p) if g is None else g for p, g in zip(learned, wanted, strict=True)]
    moments = {id(p): torch.rand_like(p) for p in learned}
    if scaled_by_adam:
        wanted = [g / ((moments[id(p)] / 0.3).sqrt() + 1e-3) for p, g in zip(learned, wanted, strict=True)]
    own = [flat(torch.autograd.grad(losses()[owner_B == e].sum(), learned)) @ flat(wanted) for e in range(examples)]
    query = gradient(visits(layers, answer), layers)
    query = scaled(query, layers, adam_scale(moments, 0.3, 1e-3) if scaled_by_adam else lambda _, g: g)
    model.requires_grad_(False)
    seen = visits(layers, lambda: losses().sum())
    ours = inner_products(seen, query, Owners([owner_B], owner_B), examples)
    torch.testing.assert_close(ours, torch.stack(own), rtol=1e-9, atol=1e-9)


def test_the_last_blocks_alone_and_what_learns_alone():
    model = GPT2LMHeadModel(GPT2Config(n_layer=3, n_head=2, n_embd=8, vocab_size=20, n_positions=16))
    everything = {name for name, _ in model.named_parameters()}
    last = linear_layers(model, everything, 1)
    assert {name.split(".h.")[1][0] for name in last if ".h." in name} == {"2"}
    assert "lm_head" in last  # its weight is the embedding's, under whose name it learned
    some = linear_layers(model, {"transformer.h.0.mlp.c_fc.weight"})
    assert list(some) == ["transformer.h.0.mlp.c_fc"]
    with pytest.raises(ModelError, match="none of its linear layers"):
        linear_layers(model, {"transformer.wpe.weight"})


def test_hooks_are_gone_and_a_layer_that_nothing_depends_on_counts_nothing():
    model = net(1)
    layers = linear_layers(model, {name for name, _ in model.named_parameters()})
    seen = visits(layers, lambda: model.blocks[0]["up"](model.embed(torch.zeros(2, 3, dtype=torch.long))).sum())
    assert seen["head"] == []
    assert set(gradient(seen, layers)) == {"blocks.0.up"}
    assert not any(layer._forward_hooks for layer in layers.values())


def test_positions_without_an_owner_are_refused():
    model = net(2)
    layers = linear_layers(model, {name for name, _ in model.named_parameters()})
    ids_BT, last_B = torch.zeros(4, 3, dtype=torch.long), torch.zeros(4, dtype=torch.long)
    seen = visits(layers, lambda: model(ids_BT, last_B).sum())
    query = {"head": LayerGradient(torch.ones(3, 5).double(), None)}
    with pytest.raises(ModelError, match="no row and no token"):
        inner_products(seen, query, Owners([torch.arange(4)], torch.arange(3)), 4)
