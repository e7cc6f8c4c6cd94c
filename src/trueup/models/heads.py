"""Scalar heads: a value head on the policy's trunk, and reward models.

Shapes: B rows, T positions, D width.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from pydantic import Field
from torch import nn

from trueup.config import Model, Settings, build
from trueup.config.seeds import derive
from trueup.errors import ConfigError, ModelError, nearest
from trueup.ledger import write_json
from trueup.models.adapter import adapt_classifier
from trueup.models.adapter_files import save_adapter
from trueup.models.failures import clear_errors, quiet
from trueup.models.files import REWARD_SCALE, Folder, read_json
from trueup.models.load import load_classifier, load_tokenizer, located, resolve_device
from trueup.models.merge import whole_weights
from trueup.models.rendering import Rendering, save_tokenizer
from trueup.models.tokens import padded, require_embedded
from trueup.models.trunk import Trunk, accepted

log = logging.getLogger("trueup.models")

SCALE_FILE = REWARD_SCALE
Pooling: TypeAlias = Literal["last", "mean"]
"""Which state of an answer the head reads: at its last token, or the mean over its tokens."""


class HeadCard(Settings):
    """One output of several: ``mean + std * output`` is a rating in the data's own units, or a reward of a head."""

    name: str
    """Its label in ``config.json``: the column of the data that it learned, or ``head-0``, ``head-1``, ..."""
    mean: float
    """Mean of the training ratings; of a head what brings its rewards to mean 0."""
    std: float = Field(gt=0)
    """Standard deviation of the ratings; of a head 1 over that of its raw rewards."""


class RewardCard(Settings):
    """What ``trueup_reward.json`` holds beside the weights of a reward model."""

    mean: float
    """Mean of the raw rewards of the training responses."""
    std: float = Field(gt=0)
    """Their standard deviation."""
    rendering: Rendering | None = None
    """How the training pairs were rendered, which is how anything must be rendered that it scores. None in
    directories that were written before this was kept."""
    heads: tuple[HeadCard, ...] = ()
    """Of a model of ratings its outputs, in order; ``mean`` and ``std`` above then play no part."""
    pooling: Pooling = "last"
    """Which state the head reads. ``mean`` is read by trueup alone."""


class ValueHead(nn.Module):
    """Expected return from the state *before* a token; starts at zero so that early advantages are the returns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[..., D] -> [...]`` in float32 or wider."""
        wide = hidden if hidden.dtype is torch.float64 else hidden.float()
        return self.linear(wide).squeeze(-1)  # type: ignore[no-any-return]


@dataclass(eq=False)
class RewardModel:
    """A sequence classifier with one output, read at the last real token or by the mean of the answer's states; of
    ratings with one for each column.

    ``mean`` and ``std`` are those of raw rewards on reference responses, so that ``score`` is centred
    and in units that do not depend on the training run (Stiennon et al. 2020, Ziegler et al. 2019). A model of ratings
    has ``heads``, of which number ``head`` is the score, in the units of its column.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    compute: torch.dtype
    source: str
    mean: float = 0.0
    std: float = 1.0
    rendering: Rendering | None = None
    only: str | tuple[str, ...] = "auto"
    """The kernels that are wanted (``model.kernels``)."""
    heads: tuple[HeadCard, ...] = ()
    head: int = 0
    pooling: Pooling = "last"
    trunk: Trunk = field(init=False)

    def __post_init__(self) -> None:
        self._require_read_at_the_end()
        self.trunk = Trunk(self.model, self.model.base_model, self.device, self.compute, self.source, self.only)

    @property
    def plain(self) -> Any:
        """The classifier as transformers has it."""
        return self.model

    @property
    def context(self) -> int | None:
        """Longest sequence the positions allow, or None if the config does not say."""
        return self.trunk.context

    def outputs(self, state_BD: torch.Tensor) -> torch.Tensor:
        """Raw outputs [B, H] of all heads, from the state of each answer that they read."""
        wide_BD = state_BD if state_BD.dtype is torch.float64 else state_BD.float()
        return self.model.score(wide_BD)  # type: ignore[no-any-return]

    def read(self, state_BD: torch.Tensor) -> torch.Tensor:
        """Raw rewards [B] of the states that the head reads: at the last token (the EOS of a finished response), or
        their mean (``pooling``)."""
        return self.outputs(state_BD)[:, self.head]

    def scale(self, raw_B: torch.Tensor) -> torch.Tensor:
        """Centred, scaled rewards; of a model of ratings the ratings."""
        if self.heads:
            return self.heads[self.head].mean + self.heads[self.head].std * raw_B
        return (raw_B - self.mean) / self.std

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that receive gradients, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def export(self, path: Path, rendering: Rendering | None = None) -> None:
        """Write a directory that ``AutoModelForSequenceClassification`` opens, plus the scale and the rendering.

        It gives the numbers of ``read`` there, in padded batches too: padding is a token that no row ends with. With
        ``pooling="mean"`` it does not: Hugging Face's class reads the last token.

        Args:
            path: The directory.
            rendering: How the training pairs were rendered: template, limits. Scoring renders the same way.
        """
        ends = rendering.end_ids if rendering is not None else ()
        tokenizer, weights, changes = padded(self.model, self.tokenizer, ends, whole_weights(self.model))
        with _changed(self.model.config.get_text_config(), changes), quiet():
            self.model.save_pretrained(path, state_dict=weights)
        save_tokenizer(tokenizer, path, rendering)
        self._write_card(path, rendering)

    def export_adapter(self, path: Path, rendering: Rendering | None = None) -> None:
        """Write the adapters and the score head alone, as PEFT has them, plus the scale and the rendering."""
        save_adapter(self.model, path, base=self.source, head="score")
        save_tokenizer(self.tokenizer, path, rendering)
        self._write_card(path, rendering)

    def _write_card(self, path: Path, rendering: Rendering | None) -> None:
        card = RewardCard(mean=self.mean, std=self.std, rendering=rendering, heads=self.heads, pooling=self.pooling)
        usual = {"heads"} if not self.heads else set()
        usual |= {"pooling"} if self.pooling == "last" else set()
        write_json(path / SCALE_FILE, card.model_dump(mode="json", exclude=usual))

    @torch.no_grad()
    def _require_read_at_the_end(self) -> None:
        """Hugging Face's classifier of this family must be the head's output at the last token, and nothing else."""
        body = self.model.base_model
        ids_BT = torch.tensor([[i for i in range(6) if i != self.model.config.pad_token_id][:4]], device=self.device)
        with clear_errors(self.source):
            theirs = self.model(input_ids=ids_BT, **accepted(self.model, use_cache=False)).logits[0]
            state_TD = body(input_ids=ids_BT, **accepted(body, use_cache=False)).last_hidden_state[0]
        ours = self.outputs(state_TD[-1:])[0]
        if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=1e-4, atol=1e-5):
            raise ModelError(
                f"{type(self.model).__name__} does not read its score at the last token only",
                where=self.source,
                expected="a decoder such as GPT-2, Llama, Qwen, Mistral or Gemma",
            )


@contextlib.contextmanager
def _changed(config: Any, changes: dict[str, int]) -> Iterator[None]:
    before = {name: getattr(config, name) for name in changes}
    for name, value in changes.items():
        setattr(config, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def open_reward_model(
    config: Model,
    *,
    new_head: bool,
    seed: int = 0,
    columns: Sequence[str] = (),
    label: str | None = None,
    pooling: Pooling = "last",
) -> RewardModel:
    """Open a reward model.

    Args:
        config: Name or path, precision, device, adapters. ``tiny`` is refused: start from a trained (SFT) model.
        new_head: True to train one: the head is drawn from N(0, 1/(D+1)) (Stiennon et al. 2020).
            False to use one, which is then frozen: written by ``RewardModel.export``, or a one-output sequence
            classifier of another tool, whose numbers are then taken as they are.
        seed: Seeds a new head and new adapters.
        columns: Of a new model of ratings the columns that it learns, each by an output of its own.
        label: Of a model of ratings the column whose output is the score; only one with several needs it.
        pooling: Which state a new head reads. One that was trained says itself which.

    Raises:
        ModelError: It is not there, not whole, or no reward model; or it has several outputs and ``label`` is none.
        ConfigError: It has no output ``label``.
    """
    _refuse_tiny(config.name)
    trust = config.trust_remote_code
    folder = located(config.name, trust_remote_code=trust)
    if not new_head:
        _require_trained(folder, config.name)
    card = _new_card(columns, pooling) if new_head else card_of(folder)
    names = [head.name for head in card.heads]
    tokenizer = load_tokenizer(config.name, trust_remote_code=trust)
    model = load_classifier(config.name, trust_remote_code=trust, new_head=new_head, outputs=max(1, len(names)))
    _name_outputs(model.config, names)
    model.eval()
    require_embedded(model, tokenizer, config.name)
    if new_head:
        _start_new(model, config, seed)
    device = resolve_device(config.device)
    model.to(device)
    compute = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    opened = RewardModel(
        model,
        tokenizer,
        device,
        compute,
        config.name,
        mean=card.mean,
        std=card.std,
        rendering=card.rendering,
        only=config.kernels,
        heads=card.heads,
        head=0 if new_head else output_of(card, label, config.name),
        pooling=card.pooling,
    )
    if config.gradient_checkpointing:
        opened.trunk.checkpoint_blocks()
    return opened if new_head else _frozen(opened)


def _frozen(model: RewardModel) -> RewardModel:
    model.trunk.freeze()
    return model


def _start_new(model: Any, config: Model, seed: int) -> None:
    """Draw the head, which `load_classifier` has seen to, and give the backbone its adapters."""
    _draw_head(model.score, seed)
    if config.lora is not None:
        adapt_classifier(model, model.score, config.lora, seed)


def _require_trained(folder: Folder, name: str) -> None:
    if not folder.is_reward_model:
        raise ModelError(
            f"this is no reward model: no {SCALE_FILE} here, and no score head",
            where=name,
            expected="a reward model trained by `trueup reward`, or a one-output sequence classifier",
        )


def _new_card(columns: Sequence[str], pooling: Pooling) -> RewardCard:
    heads = tuple(HeadCard(name=name, mean=0.0, std=1.0) for name in columns)
    return RewardCard(mean=0.0, std=1.0, heads=heads, pooling=pooling)


def _refuse_tiny(name: str) -> None:
    if name == "tiny":
        raise ModelError(
            "a reward model needs a trained backbone",
            where="model.name",
            fix="train one first: trueup sft --out runs/sft, then --model runs/sft/final",
        )


def _name_outputs(config: Any, names: Sequence[str]) -> None:
    """Make the columns of a model of ratings the labels of its config; a reward model has none."""
    if names:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: number for number, name in enumerate(names)}
        config.problem_type = "regression"


@torch.no_grad()
def _draw_head(head: nn.Linear, seed: int) -> None:
    generator = torch.Generator().manual_seed(derive(seed, "reward head"))
    head.weight.normal_(0.0, (1.0 / (head.in_features + 1)) ** 0.5, generator=generator)
    if head.bias is not None:
        head.bias.zero_()


def output_of(card: RewardCard, label: str | None, name: str) -> int:
    """Number of the output that is the score: the one with the label, or the only one.

    Raises:
        ModelError: There are several and ``label`` is none.
        ConfigError: There is no output ``label``.
    """
    names = [head.name for head in card.heads]
    if label is None and len(names) > 1:
        raise ModelError(
            f"it has {len(names)} outputs, and which is the score is not said: {', '.join(names)}",
            where=name,
            expected="the name of one of them, a list of parts that weighs several, or an ensemble of them",
            fix=f"name it after a #: '{name}#label={names[0]}'",
        )
    if label is None:
        return 0
    if label not in names:
        raise ConfigError(
            f"there is no label {label!r}",
            where=name,
            expected=nearest(label, names) if names else "no label: it is a reward model with one output",
            fix=None if names else f"--reward {name}",
        )
    return names.index(label)


def card_of(folder: Folder) -> RewardCard:
    """What a reward model's directory says of scale, rendering and outputs."""
    file = folder.path / SCALE_FILE
    if not file.is_file():
        log.warning("%s has no %s: its rewards are neither centred nor scaled", folder.name, SCALE_FILE)
        return RewardCard(mean=0.0, std=1.0)
    return build(RewardCard, read_json(file), where=str(file))
