"""The trunk of a model (everything below its head), run on padded rows or on a packed stream.

Shapes: B rows, T positions, N stream tokens, D width.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import distributed
from transformers.modeling_layers import GradientCheckpointingLayer

from trueup.config import Batch
from trueup.errors import ModelError
from trueup.kernels import Kernels, apply
from trueup.kernels.door import TOLERANCE, brief, largest_gap
from trueup.kernels.linears import cast_frozen_weights
from trueup.kernels.packing import SHARED_FROM, Stream, pack, packed, padded, remembered
from trueup.kernels.products import has_amx
from trueup.models.regimes import Regimes, context_of

log = logging.getLogger("trueup.models")
Ids: TypeAlias = tuple[int, ...]

SMALL = 1 << 16
"""Elements of a parameter whose gradient is tried when a model is opened to be trained."""
MOST_TOKENS, LEAST_TOKENS = 8192, 2048
"""Of a micro-batch, padded, where none are set."""
KEPT_STATES, KEPT_STATES_AMX = 16 << 20, 80 << 20
"""Tokens times layers times width of a micro-batch on a CPU: 0.4 GB or less for the backward pass in bfloat16, and 2 GB
with AMX."""


@dataclass(eq=False)
class Trunk:
    """A model without its head, with its device and compute precision.

    When it is opened, each fast way is compared with the model as transformers has it, row by row, on random rows that
    are as long as the config's windows and other thresholds ask for. What differs, or does not run, is not used.

    Attributes:
        only: The kernels that are wanted, as ``model.kernels`` names them.
        kernels: Those that are in use.
        regimes: Lengths at which the model changes what it does.
        packs: Whether a packed stream gives this model's own hidden states.
        batches: Whether right-padded rows do; else every row runs by itself.
    """

    model: Any
    body: Any
    device: torch.device
    compute: torch.dtype
    source: str
    only: str | tuple[str, ...] = "auto"
    kernels: Kernels = field(init=False)
    regimes: Regimes = field(init=False)
    packs: bool = field(default=False, init=False)
    batches: bool = field(default=True, init=False)
    recomputed: tuple[Any, ...] = field(default=(), init=False)
    """Blocks under gradient checkpointing."""
    quiet: dict[str, Any] = field(init=False)
    """Arguments of the body's ``forward`` that keep it from making a cache."""

    def __post_init__(self) -> None:
        size = sum(parameter.numel() for parameter in self.model.parameters())
        self.regimes = Regimes.of(self.model.config, size)
        self.quiet = accepted(self.body, use_cache=False)
        compute, self.compute = self.compute, torch.float32  # the weights' own precision, until all is compared
        probe = self._probe()
        wanted = self._alone(probe)
        self._require_causal(probe[0], wanted[0])
        self.kernels = apply(
            self.model,
            only=self.only,
            states=functools.partial(self._comparable, probe),
            expected=wanted if self.only == "plain" else wanted + self._input_gradients(probe),
            source=self.source,
        )
        self.batches = self.batch_as(self.rows)
        own_attention = {"packing", "attention"} & self.kernels.names
        self.packs = bool(own_attention) and self.batches and self._packed_equals(probe, wanted)
        self.compute = compute

    @property
    def context(self) -> int | None:
        """Longest sequence the positions allow, or None if the config does not say."""
        return context_of(self.model.config)

    def budget(self, batch: Batch) -> int:
        """Padded tokens of one micro-batch: what was set, or what suits this model where it runs.

        On a CPU products of a thousand tokens are as fast as larger ones, so a pass need not hold more: what it keeps
        for the backward pass grows with tokens, layers and width. On a GPU larger passes are faster. So are they with
        AMX: products are so fast there that casting weights and adding up their gradients, once a pass, tells.
        """
        if batch.micro_tokens is not None:
            return batch.micro_tokens
        config = self.model.config.get_text_config()
        size = int(getattr(config, "hidden_size", 0)) * int(getattr(config, "num_hidden_layers", 0))
        if self.device.type != "cpu" or not size:
            return MOST_TOKENS
        kept = KEPT_STATES_AMX if self.compute is torch.bfloat16 and has_amx() else KEPT_STATES
        return min(MOST_TOKENS, max(LEAST_TOKENS, kept // size))

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast for the matrix products when ``compute`` is not float32; float64 models stay as they are."""
        if self.compute is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)

    @torch.no_grad()
    def freeze(self) -> None:
        """The model learns no more: no gradients, and on the CPU its linear weights in the precision of their products.

        Not a number may change, which a few tokens show. Not among several processes, where sharding wants all weights
        in one precision.
        """
        self.model.requires_grad_(False)
        alone = not (distributed.is_available() and distributed.is_initialized())
        if (
            "frozen_weights" not in self.kernels
            or not alone
            or self.device.type != "cpu"
            or self.compute is not torch.bfloat16
        ):
            return
        probe_BT = torch.arange(min(8, int(self.model.config.get_text_config().vocab_size)))[None]
        wanted = self.rows(probe_BT)
        cast = cast_frozen_weights(self.model, self.compute)
        if not torch.equal(self.rows(probe_BT), wanted):
            self.kernels.drop("frozen_weights", "gives other numbers", "weights are held in float32")
            for parameter, before in cast:
                parameter.data = before
            return
        for parameter in self.model.parameters():
            if parameter.dtype is not self.compute:  # it may lie in the file that was mapped and would hold all of it
                parameter.data = parameter.clone()

    def checkpoint_blocks(self) -> None:
        """Turn gradient checkpointing on: blocks are recomputed in the backward pass, packed streams included.

        Raises:
            ModelError: The architecture has no blocks that can.
        """
        options = {"use_reentrant": False, "context_fn": remembered}
        if hasattr(self.model, "activation_checkpointing_enable"):  # the name since transformers 5
            self.model.activation_checkpointing_enable(options)
        else:
            self.model.gradient_checkpointing_enable(options)
        self.recomputed = tuple(m for m in self.body.modules() if isinstance(m, GradientCheckpointingLayer))
        if not self.recomputed:
            raise ModelError(
                f"{type(self.model).__name__} has no blocks that can be recomputed",
                where="model.gradient_checkpointing",
                fix="set it to false, and make batch.micro_tokens smaller instead",
            )

    @contextlib.contextmanager
    def recomputing(self) -> Iterator[None]:
        """Where gradient checkpointing is on, blocks keep only their inputs for the backward pass.

        Models here are never in training mode, which would turn dropout on, and Hugging Face blocks recompute only in
        that mode: so each block is switched by itself, for a forward pass with gradients and no other.
        """
        blocks = self.recomputed if torch.is_grad_enabled() else ()
        for block in blocks:
            block.training = True
        try:
            yield
        finally:
            for block in blocks:
                block.training = False

    def rows(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Last hidden states [B, T, D] of right-padded rows, which must be of one kind (``apart``).

        No attention mask is needed: under causal attention nothing to the right of a token reaches it.
        """
        low_precision = self.compute is torch.bfloat16 and self.device.type == "cpu"
        ours = self.packs and low_precision and "attention" in self.kernels and self.regimes.checked(ids_BT.shape[1])
        self.reset_rotary()
        with self.precision(), self.recomputing(), padded(self.model) if ours else contextlib.nullcontext():
            state_BTD: torch.Tensor = self.body(input_ids=ids_BT, **self.quiet).last_hidden_state
            return state_BTD

    def stream(self, stream: Stream) -> torch.Tensor:
        """Last hidden states [N, D] of a packed stream, whose rows must be of one kind (``apart``)."""
        self.reset_rotary()
        with self.precision(), self.recomputing(), self._packed(stream) as inputs:
            state_ND: torch.Tensor = self.body(**inputs, **self.quiet).last_hidden_state[0]
            return state_ND

    def _packed(self, stream: Stream) -> contextlib.AbstractContextManager[dict[str, torch.Tensor]]:
        return packed(self.model, stream, own_backward="attention" in self.kernels)

    def packs_up_to(self, length: int) -> bool:
        """Whether rows of at most ``length`` tokens may be packed."""
        return self.packs and "packing" in self.kernels and self.regimes.checked(length)

    def apart(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of the rows that may share a pass, so that no row depends on its mates."""
        return self.regimes.apart(lengths) if self.batches else [[index] for index in range(len(lengths))]

    def reset_rotary(self) -> None:
        """Make rotary positions that grow with the row forget the rows before: transformers keeps the longest."""
        if not self.regimes.continuous:
            return
        for module in self.body.modules():
            if hasattr(module, "original_inv_freq") and hasattr(module, "max_seq_len_cached"):
                module.inv_freq = module.original_inv_freq.to(module.inv_freq.device, copy=True)
                module.max_seq_len_cached = module.original_max_seq_len

    def _probe(self) -> list[tuple[Ids, Ids]]:
        """Prompts and completions: two share a prompt, long enough to cross what the config names; one is short."""
        draw = torch.Generator().manual_seed(0)
        rows = int(self.model.get_input_embeddings().weight.shape[0])

        def ids(count: int) -> Ids:
            return tuple(torch.randint(0, rows, (count,), generator=draw).tolist())

        room = self.context or 1 << 20
        shared = ids(min(max(SHARED_FROM, self.regimes.reached + 1), max(1, room - 5)))
        return [(shared, ids(min(5, max(1, room - len(shared))))), (ids(3), ids(6)), (shared, ids(2))]

    @torch.no_grad()
    def _alone(self, probe: Sequence[tuple[Ids, Ids]]) -> list[torch.Tensor]:
        """Hidden states [T, D] of each row by itself.

        Raises:
            ModelError: The model cannot be run, or gives numbers that are not finite.
        """
        states = []
        for prompt, completion in probe:
            try:
                states.append(self.rows(torch.tensor([prompt + completion], device=self.device))[0])
            except Exception as error:  # whatever a model of any origin raises
                raise ModelError(
                    f"the model does not run: {type(error).__name__}: {brief(error)}", where=self.source
                ) from error
        if not all(bool(torch.isfinite(state_TD).all()) for state_TD in states):
            raise ModelError(
                "the weights give numbers that are not finite",
                where=self.source,
                fix="the file is damaged or was saved from a run that had diverged: take an earlier one",
            )
        return states

    @torch.no_grad()
    def _require_causal(self, row: tuple[Ids, Ids], wanted_TD: torch.Tensor) -> None:
        ids = list(row[0] + row[1])
        ids[-1] = (ids[-1] + 1) % int(self.model.get_input_embeddings().weight.shape[0])
        found_TD = self.rows(torch.tensor([ids], device=self.device))[0]
        if largest_gap([found_TD[:-1]], [wanted_TD[:-1]]) > TOLERANCE:
            raise ModelError(
                "a later token changes what the model says of earlier ones: it is no causal language model",
                where=self.source,
                expected="a decoder; of an encoder's kind with is_decoder: true in config.json",
            )

    @torch.enable_grad()
    def require_gradients(self) -> None:
        """Refuse a model that can only be asked: some kinds in transformers have no backward pass that runs.

        Raises:
            ModelError: It says what transformers says.
        """
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        seen: list[torch.Tensor] = []

        def watch(_: Any, __: Any, embedded: torch.Tensor) -> torch.Tensor:
            seen.append(embedded.detach().requires_grad_())
            return seen[-1]

        hook = self.model.get_input_embeddings().register_forward_hook(watch)
        try:
            for parameter in learning:  # of large gradients no memory is to be made
                parameter.requires_grad_(parameter.numel() <= SMALL)
            state_BTD = self.rows(torch.tensor([sum(self._probe()[1], ())], device=self.device))
            wanted = [seen[0], *(parameter for parameter in learning if parameter.requires_grad)]
            torch.autograd.grad(state_BTD.float().square().sum(), wanted, allow_unused=True)
        except Exception as error:  # whatever a model of any origin raises
            raise ModelError(
                f"{type(self.model).__name__} cannot be trained: its gradients do not run ({brief(error)})",
                where=self.source,
                expected="a model that transformers can train; this one can be sampled and evaluated only",
            ) from error
        finally:
            hook.remove()
            for parameter in learning:
                parameter.requires_grad_(True)

    def _comparable(self, probe: Sequence[tuple[Ids, Ids]]) -> list[torch.Tensor]:
        """What must stay the same when layers are replaced: hidden states, and gradients of what goes in."""
        return self._alone(probe) + self._input_gradients(probe)

    @torch.enable_grad()
    def _input_gradients(self, probe: Sequence[tuple[Ids, Ids]]) -> list[torch.Tensor]:
        """Gradients [1, T, D] of the embedded short row; none where none can be had."""
        ids_BT = torch.tensor([sum(probe[1], ())], device=self.device)
        embedded: list[torch.Tensor] = []

        def watch(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
            embedded.append(output.detach().requires_grad_())
            return embedded[-1]

        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        hook = self.model.get_input_embeddings().register_forward_hook(watch)
        try:
            for parameter in learning:  # of weights no gradient is wanted
                parameter.requires_grad_(False)
            state_BTD = self.rows(ids_BT)
            # Of any direction but the states' own, along which a norm lets nothing through.
            direction_BTD = torch.randn(state_BTD.shape, generator=torch.Generator().manual_seed(0)).to(state_BTD)
            (grad_BTD,) = torch.autograd.grad((state_BTD * direction_BTD).sum(), embedded[:1])
        except Exception as error:  # a model that can only be asked is refused by `require_gradients`, if it must learn
            log.info("%s: gradients do not run (%s); kernels are compared without", self.source, brief(error))
            return []
        finally:
            hook.remove()
            for parameter in learning:
                parameter.requires_grad_(True)
        return [grad_BTD]

    @torch.no_grad()
    def batch_as(self, run: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """Whether ``run`` gives right-padded rows [B, T] what it gives each by itself; if not, rows run one by one."""
        probe = [torch.tensor(prompt + completion, device=self.device) for prompt, completion in self._probe()]
        try:
            gap = 0.0
            for group in self.regimes.apart([len(row_T) for row_T in probe]):
                rows = [probe[i] for i in group]
                padded_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
                states = [state[: len(row)] for state, row in zip(run(padded_BT), rows, strict=True)]
                gap = max(gap, largest_gap(states, [run(row_T[None])[0] for row_T in rows]))
            problem = f"differ from single ones by {gap:.1e}" if not gap < TOLERANCE else None
        except Exception as error:  # whatever a model of any origin raises
            problem = f"do not run ({brief(error)})"
        if problem is not None:
            log.warning("%s: padded rows %s; rows run one by one", self.source, problem)
        return problem is None

    @torch.no_grad()
    def _packed_equals(self, probe: Sequence[tuple[Ids, Ids]], wanted: Sequence[torch.Tensor]) -> bool:
        """Compare packed streams with each row by itself, at the positions that score completions."""
        if not accepted(self.body, position_ids=None):
            self._drop_packing("the model takes no positions")
            return False
        if sum(len(p) >= SHARED_FROM for p, _ in probe) < 2:
            self._drop_packing(f"rows of {self.context} tokens are too short to compare them")
            return False
        try:
            gap = 0.0
            for group in self.regimes.apart([len(p) + len(c) for p, c in probe]):
                some = [probe[i] for i in group]
                stream = pack([p for p, _ in some], [c for _, c in some], self.device)
                states_ND = self.stream(stream)[stream.source_N]
                rows = [wanted[i][len(p) - 1 : len(p) + len(c) - 1] for i, (p, c) in zip(group, some, strict=True)]
                gap = max(gap, largest_gap([states_ND], [torch.cat(rows)]))
        except Exception as error:
            self._drop_packing(f"packed streams do not run ({brief(error)})")
            return False
        if not gap < TOLERANCE:
            self._drop_packing(f"packed streams differ from rows by {gap:.1e}")
            return False
        return True

    def _drop_packing(self, problem: str) -> None:
        for name in sorted({"attention", "packing"} & self.kernels.names):
            self.kernels.drop(name, problem, "padded rows are used")


def accepted(module: Any, **arguments: Any) -> dict[str, Any]:
    """Those of ``arguments`` that the module's ``forward`` takes."""
    named = inspect.signature(module.forward).parameters
    rest = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in named.values())
    return {name: value for name, value in arguments.items() if rest or name in named}
