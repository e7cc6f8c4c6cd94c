"""How far each training example moved a quantity of interest: TracIn by inner products, without per-example gradients.

TracIn (Pruthi et al. 2020, arXiv 2002.08484, eq. 1 and section 3.2) sums over checkpoints: learning rate times the
inner product of the example's gradient with that of the query. For a linear layer an example's weight gradient is the
sum over its tokens of outer(delta_t, a_t), with a_t what went into the layer and delta_t the gradient of its output, so
with the query's gradient G the inner product is the sum of delta_t^T G a_t: one product a layer for a whole batch, and
nothing the size of the weights is made for any example.

Weights that are not those of linear layers (embeddings, norms) are left out; of a head that is tied to the embedding
its use as a head counts.

Shapes: B rows, T positions, N flat positions, E examples, I and O inputs and outputs of a layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trueup.errors import ModelError


@dataclass(frozen=True, eq=False)
class LayerGradient:
    """Gradient of a scalar with respect to one linear layer."""

    weight_OI: torch.Tensor
    bias_O: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class Visit:
    """One call of a linear layer: what went in ``[..., I]``, and the gradient of what came out ``[..., O]``."""

    input: torch.Tensor
    delta: torch.Tensor


@dataclass(frozen=True, eq=False)
class Owners:
    """Which example each row, and each flat position, of a forward pass belongs to.

    ``groups_B`` has one tensor for each padded pass ``[B, T, ...]`` in the order of the passes; ``flat_N`` is for calls
    on gathered positions ``[N, ...]``.
    """

    groups_B: Sequence[torch.Tensor]
    flat_N: torch.Tensor


BLOCK = re.compile(r"\.(\d+)\.")


def linear_layers(model: Any, learned: Collection[str], blocks: int | None = None) -> dict[str, nn.Module]:
    """The linear layers whose weights learn, by name; of the last ``blocks`` blocks and of what is in none.

    Args:
        model: The network; GPT-2's ``Conv1D`` counts as linear.
        learned: Names of the parameters that training changes.
        blocks: How many of the last blocks; None for all.

    Raises:
        ModelError: There is none.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers = {
        name: module
        for name, module in model.named_modules()
        if _is_linear(module) and names.get(id(module.weight)) in learned
    }
    numbers = {name: int(match[1]) for name in layers if (match := BLOCK.search(name))}
    if blocks is not None and numbers:
        first = max(numbers.values()) + 1 - blocks
        layers = {name: layer for name, layer in layers.items() if numbers.get(name, first) >= first}
    if not layers:
        raise ModelError("none of its linear layers learned", where=type(model).__name__)
    return layers


def _is_linear(module: Any) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def visits(layers: Mapping[str, nn.Module], scalar: Callable[[], torch.Tensor]) -> dict[str, list[Visit]]:
    """Run ``scalar`` and its backward pass, and keep what each layer saw. No gradient of any weight is made.

    The backward pass ends at the first of the layers, since nothing before it is asked for. The parameters of the
    model need not require gradients, and a forward pass keeps less if they do not.
    """
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in layers}
    watching = True

    def watch(name: str) -> Callable[[Any, Any, torch.Tensor], torch.Tensor | None]:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            probe = torch.zeros_like(output, requires_grad=True)
            if watching:  # a piece that is recomputed in the backward pass comes by once more
                seen[name].append((inputs[0].detach(), probe))
            return output + probe

        return hook

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        with torch.enable_grad():
            value = scalar()
            watching = False
            probes = [probe for calls in seen.values() for _, probe in calls]
            deltas = iter(torch.autograd.grad(value, probes, allow_unused=True))
    finally:
        for hook in hooks:
            hook.remove()
    calls = {name: [(given, next(deltas)) for given, _ in pairs] for name, pairs in seen.items()}
    return {name: [Visit(a, delta) for a, delta in pairs if delta is not None] for name, pairs in calls.items()}


def gradient(seen: Mapping[str, Sequence[Visit]], layers: Mapping[str, nn.Module]) -> dict[str, LayerGradient]:
    """Gradient of the scalar with respect to each of ``layers`` that it depends on."""
    gradients = {}
    for name, calls in seen.items():
        if calls:
            delta_NO = torch.cat([_flat(call.delta) for call in calls])
            input_NI = torch.cat([_flat(call.input) for call in calls])
            biased = getattr(layers[name], "bias", None) is not None
            gradients[name] = LayerGradient(delta_NO.T @ input_NI, delta_NO.sum(0) if biased else None)
    return gradients


def inner_products(
    seen: Mapping[str, Sequence[Visit]], query: Mapping[str, LayerGradient], owners: Owners, examples: int
) -> torch.Tensor:
    """Inner products [E], in float64, of each example's own gradient with ``query``.

    Raises:
        ModelError: A layer is called on positions that cannot be told apart by example, as experts are.
    """
    products_E = torch.zeros(examples, dtype=torch.float64)
    for name, calls in seen.items():
        if name not in query:
            continue
        padded = iter(owners.groups_B)
        for call in calls:
            owner = next(padded, None) if call.delta.ndim == 3 else owners.flat_N
            if owner is None or owner.shape[0] != call.delta.shape[0]:
                raise ModelError(
                    f"the layer is called on {list(call.input.shape)}, which is no row and no token of an example",
                    where=name,
                    expected="a model without mixtures of experts",
                )
            products_E.index_add_(0, owner.cpu(), _products(call, query[name]).double().cpu())
    return products_E


def _products(call: Visit, query: LayerGradient) -> torch.Tensor:
    """delta^T G a, summed over all but the first axis."""
    delta, given = _wide(call.delta), _wide(call.input)
    value = ((delta @ query.weight_OI) * given).sum(-1)
    if query.bias_O is not None:
        value = value + delta @ query.bias_O
    return value.flatten(1).sum(1) if value.ndim > 1 else value


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype is torch.float64 else tensor.float()


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return _wide(tensor).reshape(-1, tensor.shape[-1])


def scaled(
    query: Mapping[str, LayerGradient],
    layers: Mapping[str, nn.Module],
    scale: Callable[[nn.Parameter, torch.Tensor], torch.Tensor],
) -> dict[str, LayerGradient]:
    """``query`` in the metric of the optimizer.

    Args:
        query: Gradients by layer.
        layers: The layers.
        scale: (parameter, its gradient in its own shape) -> the step that the optimizer would make of it.
    """
    steps = {}
    for name, layer in layers.items():
        if name not in query:
            continue
        weight, bias = layer.weight, getattr(layer, "bias", None)
        assert isinstance(weight, nn.Parameter)
        across = not isinstance(layer, nn.Linear)  # Conv1D keeps [I, O]
        weight_OI, bias_O = query[name].weight_OI, query[name].bias_O
        step = scale(weight, weight_OI.T if across else weight_OI)
        step_O = scale(bias, bias_O) if isinstance(bias, nn.Parameter) and bias_O is not None else None
        steps[name] = LayerGradient(step.T if across else step, step_O)
    return steps


def adam_scale(
    moments: Mapping[int, torch.Tensor], correction: float, eps: float
) -> Callable[[nn.Parameter, torch.Tensor], torch.Tensor]:
    """Gradient -> gradient / (sqrt(v / correction) + eps): the step of Adam with its second moments held.

    So the estimate is of what Adam does with a gradient, to first order and apart from its momentum, which only
    spreads it over later steps (as in LESS, Xia et al. 2024, arXiv 2402.04333, section 3.1).

    Args:
        moments: Second moments v by ``id`` of the parameter, in its shape; one without any did not learn, and gives 0.
        correction: 1 - beta2 to the power of the steps taken.
        eps: Adam's epsilon.
    """

    def scale(parameter: nn.Parameter, value: torch.Tensor) -> torch.Tensor:
        moment = moments.get(id(parameter))
        if moment is None:
            return torch.zeros_like(value)
        return value / ((moment.to(value) / correction).sqrt() + eps)

    return scale
