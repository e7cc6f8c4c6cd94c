"""The course's log-probs, DPO loss and DPO trainer.

Legend: B pairs, T positions, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trueup.config.seeds import derive
from trueup.course.arrays import array, floats, token_ids
from trueup.course.preferences import SIDES, PreferenceBatch, PreferencePair, create_preference_batch
from trueup.errors import ConfigError, DataError, ShapeError, UsageError
from trueup.spec import logprob, preference
from trueup.spec.shapes import Array, Mask

Metrics = dict[str, float]
Batch = Mapping[str, NDArray[np.int64]]


def compute_log_probs(
    logits: Array, tokens: NDArray[np.int64], *, shift: bool = False, mask: NDArray[Any] | None = None
) -> Array:
    """Sum of log-probs per sequence [B].

    Args:
        logits: [B, T, V]. ``logits[:, t]`` scores ``tokens[:, t]``: they are aligned already.
        tokens: [B, T].
        shift: True for a model's raw output, where ``logits[:, t]`` scores ``tokens[:, t + 1]``; the first token,
            which nothing scores, is left out.
        mask: [B, T], nonzero for tokens that count. Whatever stands at the others is ignored.

    Raises:
        ShapeError: The shapes do not fit.
        DataError: A token that counts is not in the vocabulary.
    """
    logits_BTV = array("logits", logits)
    use_BT: Mask | None = None if mask is None else np.asarray(mask).astype(bool)
    if logits_BTV.ndim != 3 or logits_BTV.shape[:2] != np.shape(tokens):
        raise ShapeError(
            f"logits have shape {logits_BTV.shape}, tokens {np.shape(tokens)}",
            where="logits",
            expected="[batch, length, vocabulary] and [batch, length]",
        )
    ids_BT = token_ids(tokens, logits_BTV.shape[-1], use_BT)
    if shift:
        logits_BTV, ids_BT = logits_BTV[:, :-1], ids_BT[:, 1:]
        use_BT = None if use_BT is None else use_BT[:, 1:]
    return logprob.sequence_logps(logits_BTV, ids_BT, use_BT)


def compute_sequence_logprob(logits: Array, tokens: NDArray[np.int64], mask: NDArray[Any] | None = None) -> Array:
    """Sum of log-probs per sequence [B] over the positions where ``mask`` is nonzero."""
    return compute_log_probs(logits, tokens, mask=mask)


def dpo_loss(
    policy_chosen_logp: Array,
    policy_rejected_logp: Array,
    ref_chosen_logp: Array,
    ref_rejected_logp: Array,
    beta: float = 0.1,
) -> tuple[float, Metrics, Array, Array]:
    """DPO: ``(loss, metrics, grad_policy_chosen, grad_policy_rejected)``, all of the mean over pairs."""
    logps = (policy_chosen_logp, policy_rejected_logp, ref_chosen_logp, ref_rejected_logp)
    return DPOTrainer(beta=beta).compute_loss(*logps)


@runtime_checkable
class LanguageModel(Protocol):
    """What a model without torch must offer to be trained by ``DPOTrainer``."""

    def logits(self, tokens: NDArray[np.int64]) -> Array:
        """Next-token logits [B, T, V] for tokens [B, T]; position t scores token t + 1."""

    def update(self, tokens: NDArray[np.int64], grad_logits: Array, learning_rate: float) -> None:
        """Take one step down the gradient of the loss with respect to those logits."""


class BigramModel:
    """A softmax over the next token given this one: the smallest model that DPO can move."""

    def __init__(self, vocabulary: int, *, seed: int = 0) -> None:
        self.weights_VV = np.random.default_rng(seed).standard_normal((vocabulary, vocabulary)) * 0.1

    def logits(self, tokens: NDArray[np.int64]) -> Array:
        """[B, T, V]."""
        return self.weights_VV[tokens]

    def update(self, tokens: NDArray[np.int64], grad_logits: Array, learning_rate: float) -> None:
        """Gradient descent on the rows of the tokens that were seen."""
        np.add.at(self.weights_VV, tokens, -learning_rate * grad_logits)


class DPOTrainer:
    """Both trainers of the course in one.

    ``DPOTrainer(beta=0.1, label_smoothing=0.0).compute_loss(...)`` works on log-probs.
    ``DPOTrainer(model, ref_model, tokenizer, beta=0.1, learning_rate=1e-6).train(dataset)`` trains a model: a torch
    module with Hugging Face's call, or anything with ``logits`` and ``update`` (see ``LanguageModel``).
    """

    def __init__(
        self,
        model: Any = None,
        ref_model: Any = None,
        tokenizer: Any = None,
        beta: float = 0.1,
        learning_rate: float = 1e-6,
        *,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        if isinstance(model, Real):  # DPOTrainer(0.1, 0.0): beta and label smoothing by position
            if (ref_model is not None and label_smoothing) or tokenizer is not None or beta != 0.1:
                raise UsageError(
                    "beta or label_smoothing is given twice, or a tokenizer without a model",
                    where="DPOTrainer",
                    expected="DPOTrainer(beta, label_smoothing) or DPOTrainer(model, ref_model, tokenizer, ...)",
                )
            beta, label_smoothing = float(model), label_smoothing if ref_model is None else float(ref_model)
            model = ref_model = None
        if not 0 < beta < math.inf:
            raise ConfigError(f"beta is {beta}", where="DPOTrainer", expected="above 0")
        if not 0 <= learning_rate < math.inf:
            raise ConfigError(f"learning_rate is {learning_rate}", where="DPOTrainer", expected="0 or above")
        if not 0 <= label_smoothing < 0.5:
            raise ConfigError(f"label_smoothing is {label_smoothing}", where="DPOTrainer", expected="in [0, 0.5)")
        if model is not None and model is ref_model:
            raise UsageError(
                "model and ref_model are one object",
                where="DPOTrainer",
                fix="copy.deepcopy(model): the reference stays",
            )
        self.model = model
        self.ref_model = copy.deepcopy(model) if ref_model is None else ref_model
        self.tokenizer = tokenizer
        self.beta = beta
        self.lr = learning_rate
        self.label_smoothing = label_smoothing
        self.seed = seed
        self._optimizer: Any = None

    def compute_loss(
        self,
        policy_chosen_logps: Array,
        policy_rejected_logps: Array,
        ref_chosen_logps: Array,
        ref_rejected_logps: Array,
    ) -> tuple[float, Metrics, Array, Array]:
        """``(loss, metrics, grad_policy_chosen, grad_policy_rejected)`` from sequence log-probs of any one shape.

        ``accuracy`` counts strict wins, as documented; ``accuracy_half_ties`` counts ties as half.
        """
        pc, pr, rc, rr = floats(
            policy_chosen_logps=policy_chosen_logps,
            policy_rejected_logps=policy_rejected_logps,
            ref_chosen_logps=ref_chosen_logps,
            ref_rejected_logps=ref_rejected_logps,
        )
        loss = preference.dpo(pc, pr, rc, rr, self.beta, self.label_smoothing)
        up, down = preference.dpo_grad(pc, pr, rc, rr, self.beta, self.label_smoothing)
        chosen = preference.implicit_reward(pc, rc, self.beta)
        rejected = preference.implicit_reward(pr, rr, self.beta)
        margin = chosen - rejected
        ties = float(np.mean(margin == 0))
        metrics = {
            "loss": float(loss.mean()),
            "accuracy": float(np.mean(margin > 0)),
            "accuracy_half_ties": float(np.mean(margin > 0)) + 0.5 * ties,
            "tie_rate": ties,
            "chosen_reward": float(chosen.mean()),
            "rejected_reward": float(rejected.mean()),
            "reward_margin": float(margin.mean()),
        }
        return float(loss.mean()), metrics, up / loss.size, down / loss.size

    def train_step(self, batch: Batch) -> Metrics:
        """One update from ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``; the reference gets no gradient.

        Returns the metrics of ``compute_loss`` before the update. Padding between prompt and answer is taken out; the
        loss counts answer tokens only. Where a row ends, a batch of ``create_preference_batch`` knows; in a plain
        dictionary ``prompt_mask``, ``chosen_mask`` and ``rejected_mask`` say it, or else the tokenizer's padding id,
        if that is not its end token too.

        Raises:
            DataError: An array is missing, nothing says where rows end, or a prompt or answer has no token.
            NonFiniteError: The model gave NaN or infinite log-probs; nothing was updated.
        """
        if self.model is None:
            raise UsageError(
                "the trainer has no model", where="DPOTrainer.train_step", fix="DPOTrainer(model, ref_model, ...)"
            )
        parts = {side: _unpadded(batch, side, self.tokenizer) for side in SIDES}
        rows = {side: _joined(parts["prompt"], parts[side], side) for side in ("chosen", "rejected")}
        if isinstance(self.model, LanguageModel):
            return self._numpy_step(rows)
        return self._torch_step(rows)

    def train(self, dataset: list[PreferencePair], epochs: int = 1, batch_size: int = 4) -> list[Metrics]:
        """Train on ``dataset`` in a seeded order; returns the metrics of each step.

        Answers end with the tokenizer's ``eos_token_id`` where it has one.
        """
        if not dataset:
            raise DataError("no pairs", where="DPOTrainer.train", expected="at least one")
        if self.tokenizer is None:
            raise UsageError("the trainer has no tokenizer", where="DPOTrainer.train")
        if batch_size < 1 or epochs < 0:
            raise ConfigError(
                f"batch_size {batch_size}, epochs {epochs}", where="DPOTrainer.train", expected="1 and 0 or more"
            )
        history = []
        for epoch in range(epochs):
            order = np.random.default_rng(derive(self.seed, "course", epoch)).permutation(len(dataset))
            for start in range(0, len(dataset), batch_size):
                pairs = [dataset[i] for i in order[start : start + batch_size]]
                history.append(self.train_step(create_preference_batch(pairs, self.tokenizer, add_eos=True)))
        return history

    def _numpy_step(self, rows: dict[str, tuple[NDArray[np.int64], Mask]]) -> Metrics:
        policy_logits = [self.model.logits(ids) for ids, _ in rows.values()]
        reference_logits = [self.ref_model.logits(ids) for ids, _ in rows.values()]
        logps = [
            compute_log_probs(logits, ids, shift=True, mask=counts)
            for side in (policy_logits, reference_logits)
            for logits, (ids, counts) in zip(side, rows.values(), strict=True)
        ]
        _, metrics, *slopes = self.compute_loss(*logps)
        for (ids, counts), logits, slope_B in zip(rows.values(), policy_logits, slopes, strict=True):
            (grad,) = logprob.sequence_logps_grad(logits[:, :-1], ids[:, 1:], counts[:, 1:])
            self.model.update(ids[:, :-1], grad * slope_B[:, None, None], self.lr)
        return metrics

    def _torch_step(self, rows: dict[str, tuple[NDArray[np.int64], Mask]]) -> Metrics:
        import torch

        from trueup.losses.logprob import sequence_logps
        from trueup.losses.preference import dpo

        if self._optimizer is None:
            self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=0.0)
            self.model.eval()  # dropout would make policy and reference differ by chance
            self.ref_model.eval()
        device = next(self.model.parameters()).device

        def logps(model: Any) -> list[torch.Tensor]:
            logps_of_answers = []
            for ids, counts in rows.values():
                tokens = torch.as_tensor(ids, device=device)
                mask = torch.as_tensor(counts, device=device)
                # Padding is on the right: under causal attention no counted position sees it, so no mask is needed.
                out = model(tokens)
                logits = out.logits if hasattr(out, "logits") else out
                logps_of_answers.append(sequence_logps(logits[:, :-1], tokens[:, 1:], mask[:, 1:]))
            return logps_of_answers

        with torch.no_grad():
            reference_logps = logps(self.ref_model)
        policy_logps = logps(self.model)
        _, metrics, *_ = self.compute_loss(
            *(x.detach().cpu().double().numpy() for x in (*policy_logps, *reference_logps))
        )
        loss = dpo(
            policy_logps[0],
            policy_logps[1],
            reference_logps[0],
            reference_logps[1],
            self.beta,
            label_smoothing=self.label_smoothing,
        ).mean()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return metrics


def _unpadded(batch: Batch, side: str, tokenizer: Any) -> list[NDArray[np.int64]]:
    """The rows of one side without their padding."""
    where = "DPOTrainer.train_step"
    if f"{side}_ids" not in batch:
        raise DataError(f"the batch has no {side}_ids", where=where, expected="the three of create_preference_batch")
    ids_BT = np.asarray(batch[f"{side}_ids"])
    if isinstance(batch, PreferenceBatch):
        return [row[:length] for row, length in zip(ids_BT, batch.lengths[side], strict=True)]
    if f"{side}_mask" in batch:
        return [row[mask.astype(bool)] for row, mask in zip(ids_BT, np.asarray(batch[f"{side}_mask"]), strict=True)]
    pad, eos = (getattr(tokenizer, name, None) for name in ("pad_token_id", "eos_token_id"))
    if pad is None or pad == eos:
        raise DataError(
            f"nothing says where the rows of {side}_ids end: the tokenizer has no padding token of its own",
            where=where,
            expected="a batch of create_preference_batch, or one with masks",
            fix=f"add {side}_mask [batch, length], 1 for a token and 0 for padding",
        )
    ends = [int(np.flatnonzero(row != pad).max(initial=-1)) + 1 for row in ids_BT]
    return [row[:end] for row, end in zip(ids_BT, ends, strict=True)]


def _joined(
    prompts: list[NDArray[np.int64]], answers: list[NDArray[np.int64]], side: str
) -> tuple[NDArray[np.int64], Mask]:
    """Prompt then answer without the padding between them, padded on the right, and where the answer is."""
    rows, marks = [], []
    for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        for name, ids in (("prompt", prompt), (f"{side} answer", answer)):
            if not len(ids):
                raise DataError(
                    f"the {name} of row {index} has no tokens",
                    where="DPOTrainer.train_step",
                    expected="at least one: the first answer token is scored by the last prompt token",
                    fix="begin prompts with the tokenizer's BOS token" if name == "prompt" else None,
                )
        rows.append(np.concatenate([prompt, answer]))
        marks.append(np.concatenate([np.zeros(len(prompt), dtype=bool), np.ones(len(answer), dtype=bool)]))
    width = max(len(r) for r in rows)
    ids = np.stack([np.pad(r, (0, width - len(r))) for r in rows]).astype(np.int64)
    return ids, np.stack([np.pad(m, (0, width - len(m))) for m in marks])
