"""Sequence classifiers of other tools, by their own forward pass: their pooling, their head, its bias.

What a class does between its body and its head differs: Llama and GPT-2 read the last token that is not padding, BERT
the first through a pooler, RoBERTa and DeBERTa the first through two layers. None of it is written again here.

Shapes: B rows, T positions, L labels.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn

from trueup.config import Model
from trueup.errors import ConfigError, ModelError, nearest
from trueup.models.failures import clear_errors
from trueup.models.load import load_classifier, load_tokenizer, resolve_device
from trueup.models.regimes import context_of
from trueup.models.tokens import require_embedded
from trueup.models.trunk import accepted

log = logging.getLogger("trueup.models")

TOLERANCE = 1e-3
"""Largest gap, relative to the logits' size, between a row in a padded batch and the same row alone."""
NO_LIMIT = 1 << 30
"""Tokenizers without a limit name a larger number."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the tokenizer wrote it; ``types`` are its ``token_type_ids``, empty where it has none."""

    ids: tuple[int, ...]
    types: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """Which number of the logits is the score.

    ``one``: the only logit. ``odds``: log-odds of label ``index``, its logit less the log-sum-exp of the others, which
    for two labels is the difference of the logits. ``own``: the logit of ``index``, where labels do not exclude each
    other.
    """

    kind: str
    index: int = 0
    name: str = ""

    def __call__(self, logits_BL: torch.Tensor) -> torch.Tensor:
        """Scores [B]."""
        own_B = logits_BL[:, self.index]
        if self.kind != "odds":
            return own_B
        others_BL = torch.cat([logits_BL[:, : self.index], logits_BL[:, self.index + 1 :]], dim=1)
        return own_B - others_BL.logsumexp(dim=1)


Labels: TypeAlias = dict[int, str]


def output_of(config: Any, label: str | None, source: str) -> Output:
    """Which number is the score, by the config's labels and the one that the user calls good.

    Raises:
        ModelError: Several labels and none named, or labels that cannot be told apart.
        ConfigError: There is no such label, or there is only one output and a label is named.
    """
    labels: Labels = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    count, where = len(labels), f"{source}, id2label in config.json"
    shown = ", ".join(f"{index}: {name!r}" for index, name in sorted(labels.items())[:8])
    if count == 1:
        if label is None:
            return Output("one", 0, labels[0])
        raise ConfigError(
            f"label is {label!r}, and the classifier has one output",
            where=where,
            expected="no label: its only logit is the score",
            fix=f"--reward {source}",
        )
    problem = getattr(config, "problem_type", None)
    if problem == "regression":
        raise ModelError(
            f"the classifier is a regression with {count} outputs ({shown}), and which is the score is not said",
            where=where,
            expected="one output, or labels of which one is good",
            fix="write a Python reward that combines them: --reward my_rewards:score",
        )
    if label is None:
        example = next((name for _, name in sorted(labels.items(), reverse=True)), "good")
        raise ModelError(
            f"the classifier has {count} labels, and which of them is good is not said ({shown})",
            where=where,
            expected="one output, or the name of the good label",
            fix=f"name it after a #: --reward '{source}#label={example}'; the score is then its log-odds",
        )
    matches = [index for index, name in labels.items() if name == label]
    matches = matches or [index for index, name in labels.items() if name.lower() == label.lower()]
    if len(matches) > 1:
        raise ModelError(
            f"{len(matches)} outputs are called {label!r}",
            where=where,
            expected="labels with names of their own",
            fix="give each entry of id2label its own name in config.json",
        )
    if not matches:
        raise ConfigError(f"there is no label {label!r}", where=where, expected=nearest(label, list(labels.values())))
    kind = "own" if problem == "multi_label_classification" else "odds"
    return Output(kind, matches[0], labels[matches[0]])


@dataclass(eq=False)
class SequenceClassifier:
    """A frozen classifier. Rows are padded on the right where that gives each the number that it has alone.

    Attributes:
        batches: Whether it does; else every row runs by itself. Two rows show it when the model is opened.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    compute: torch.dtype
    source: str
    output: Output
    batches: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.embedded = int(self.model.get_input_embeddings().weight.shape[0])
        self._typed = "token_type_ids" in inspect.signature(self.model.forward).parameters
        compute, self.compute = self.compute, torch.float32
        self.batches = self._batches_as_alone()
        self.compute = compute
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith(f"{self.model.base_model_prefix}."):
                _read_whole(module)

    @property
    def longest(self) -> int | None:
        """Tokens of the longest row that the model's positions and its tokenizer allow; None where neither says."""
        limits = [context_of(self.model.config), getattr(self.tokenizer, "model_max_length", None)]
        for name, module in self.model.named_modules():
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                limits.append(module.num_embeddings - module.padding_idx - 1)  # RoBERTa counts from padding_idx + 1
        known = [limit for limit in limits if limit is not None and 0 < limit < NO_LIMIT]
        return min(known, default=None)

    @torch.no_grad()
    def logits(self, rows: Sequence[Row]) -> torch.Tensor:
        """Logits [B, L] in float32 or wider, on the model's device."""
        if not self.batches and len(rows) > 1:
            return torch.cat([self.logits([row]) for row in rows])
        pad = self._pad(rows)
        length = max(len(row.ids) for row in rows)
        ids_BT = torch.tensor([[*row.ids, *[pad] * (length - len(row.ids))] for row in rows], device=self.device)
        mask_BT = torch.tensor([[1] * len(row.ids) + [0] * (length - len(row.ids)) for row in rows], device=self.device)
        given = accepted(self.model, attention_mask=mask_BT, use_cache=False)
        if self._typed and any(row.types for row in rows):
            filler = int(getattr(self.tokenizer, "pad_token_type_id", 0) or 0)
            types = [[*row.types, *[filler] * (length - len(row.types))] for row in rows]
            given["token_type_ids"] = torch.tensor(types, device=self.device)
        with self._padding_by(pad), self._precision():
            logits_BL = self.model(input_ids=ids_BT, **given).logits
        return logits_BL if logits_BL.dtype is torch.float64 else logits_BL.float()  # type: ignore[no-any-return]

    def scores(self, rows: Sequence[Row]) -> torch.Tensor:
        """Scores [B]: higher is better."""
        return self.output(self.logits(rows))

    @property
    def _own_pad(self) -> int | None:
        """The padding that the config names, which for such as Llama also says where a row ends."""
        pad = self.model.config.get_text_config().pad_token_id
        return pad if isinstance(pad, int) and 0 <= pad < self.embedded else None

    def _pad(self, rows: Sequence[Row]) -> int:
        """The config's padding; where it names none, an id that no row holds, so that rows end where they end."""
        if self._own_pad is not None:
            return self._own_pad
        there = {index for row in rows for index in row.ids}
        return next((index for index in range(self.embedded) if index not in there), 0)

    @contextlib.contextmanager
    def _padding_by(self, pad: int) -> Iterator[None]:
        config = self.model.config.get_text_config()
        before = config.pad_token_id
        config.pad_token_id = pad
        try:
            yield
        finally:
            config.pad_token_id = before

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.compute is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)

    def _batches_as_alone(self) -> bool:
        special = {*self.tokenizer.all_special_ids, self._own_pad}
        words = [index for index in range(self.embedded) if index not in special][:64] or [0]
        most = self.longest or 12
        lengths = sorted({min(most, length) for length in (3, 5, 12)})
        rows = [Row(tuple(words[(7 * i + length) % len(words)] for i in range(length))) for length in lengths]
        alone_BL = torch.cat([self.logits([row]) for row in rows])
        try:
            together_BL = self.logits(rows)
        except Exception as error:  # code of any origin: what cannot take a padded batch takes rows alone
            log.info("%s: %s", self.source, error)
            together_BL = torch.full_like(alone_BL, torch.nan)
        gap = (together_BL - alone_BL).abs().max() / alone_BL.abs().max().clamp(min=1.0)
        if bool(gap <= TOLERANCE):
            return True
        log.warning("%s gives other numbers in a padded batch than alone: its rows run one at a time", self.source)
        return False


def open_classifier(config: Model, label: str | None = None) -> SequenceClassifier:
    """Open a sequence classifier, frozen, whole, with all labels that its config names.

    Args:
        config: Directory or hub name, precision, device.
        label: The label that is good, of a classifier with several.

    Raises:
        ModelError: It is not there, not whole, no sequence classifier, or it is not clear what its score is.
        ConfigError: ``label`` is none of its labels.
    """
    model = load_classifier(config.name, as_saved=True)
    output = output_of(model.config, label, config.name)
    tokenizer = load_tokenizer(config.name)
    tokenizer.truncation_side = "right"  # an answer that is too long loses its end
    require_embedded(model, tokenizer, config.name)
    model.eval()
    model.requires_grad_(False)
    device = resolve_device(config.device)
    model.to(device)
    compute = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    with clear_errors(config.name):
        return SequenceClassifier(model, tokenizer, device, compute, config.name, output)


def _read_whole(head: nn.Linear) -> None:
    """Let a head compute in float32 under autocast: a score of three digits would tie answers that differ."""
    forward = head.forward

    def whole(states: torch.Tensor) -> torch.Tensor:
        with torch.autocast(states.device.type, enabled=False):
            return forward(states.to(head.weight.dtype))

    head.forward = whole  # type: ignore[assignment, method-assign]
