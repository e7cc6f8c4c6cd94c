"""Reward model: learn a scalar from preferences, read at the last token of prompt + response.

    trueup reward --model runs/sft/final --data pairs.jsonl --validation held-out.jsonl --out runs/reward
    trueup reward --model runs/sft/final --data rankings.jsonl --set objective.kind=plackett-luce --out runs/reward

Ratings of single responses are another kind of lesson, with a loop of their own in ``recipes.ratings``.
Pairs are learned by Bradley-Terry, rankings as a whole by Plackett-Luce, which over two responses is the same.
Training and scoring render through the same code, EOS included. After training the rewards of the training
responses have mean 0 and standard deviation 1; the scale is stored beside the weights.

Shapes: B pairs or rankings, K responses of the longest ranking, N responses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar

import torch
from pydantic import Field, model_validator

from trueup.config import EpochBatch, Optim, Settings
from trueup.data.batch import Ids, Rows
from trueup.data.read import Loaded, read_pairs
from trueup.data.render import RenderedPair, Renderer, RenderReport, pair_length, ranking_length
from trueup.engine.placement import place
from trueup.engine.score import outputs, raw_outputs, raw_rewards, rewards
from trueup.engine.step import Stepper
from trueup.errors import DataError
from trueup.ledger import Run
from trueup.losses import preference as losses
from trueup.models.heads import HeadCard, Pooling, RewardModel, open_reward_model
from trueup.recipes.agreement import Named, PairAgreement, SeenPair, agreement, in_order, label, pair_metrics
from trueup.recipes.bootstrap import Bootstrap
from trueup.recipes.head_start import FITTED, Contest, HeadStart, say_fit, start_head
from trueup.recipes.labels import say_unused
from trueup.recipes.offline import HeldOut, Learned, Offline, Prompted, finish, fit, prepare, read
from trueup.recipes.probes import reward_probe
from trueup.recipes.rankings import RankingLoss, read_rankings
from trueup.recipes.ratings import Ratings, train_ratings
from trueup.types import PreferencePair


class BradleyTerry(Settings):
    """Pairs: the difference of the rewards is the log-odds that chosen is better (Bradley and Terry 1952)."""

    kind: Literal["bradley-terry"] = "bradley-terry"
    """Name of the objective."""


class PlackettLuce(Settings):
    """Rankings: the best response is chosen among all, the next among the rest (Plackett 1975; Luce 1959)."""

    kind: Literal["plackett-luce"] = "plackett-luce"
    """Name of the objective."""


CENTRE = 0.01
"""Weight of the term that keeps rewards of pairs near zero."""


class Reward(Offline):
    """Settings of ``trueup reward``."""

    data: str
    """Preference pairs: any of the documented formats; for ``plackett-luce`` rankings or ratings; for ``ratings``
    prompts, responses and columns of numbers."""
    validation: str | None = None
    """Held-out data of the same kind, best of all with other prompts; none means no held-out accuracy."""
    optim: Optim = Optim(learning_rate=1e-5, weight_decay=0.01)
    """How gradients become updates."""
    batch: EpochBatch = EpochBatch(size=32)
    """How pairs or rankings become steps."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the data; more than one over-fits soon (Ouyang et al. 2022)."""
    objective: BradleyTerry | PlackettLuce | Ratings = Field(default=BradleyTerry(), discriminator="kind")
    """What is learned from: pairs, whole rankings, or ratings of single responses."""
    centre: float = Field(default=CENTRE, ge=0)
    """Weight of the squared sum of the two rewards, which keeps them near zero (Eisenstein et al. 2023); of a ranking,
    of twice their mean. Ratings say themselves where zero is, and do not use it."""
    pooling: Pooling = "last"
    """Which state of an answer the head reads: ``last``, at its last token; or ``mean``, over its tokens, which no
    other tool reads: ``final/`` is then for trueup alone."""
    head_start: HeadStart = "random"
    """How the score head starts: ``random``; ``zero``; or ``fit``, a linear head fitted to the training pairs on the
    frozen model, which costs a forward pass over them (Kumar et al. 2022)."""
    margin: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """By how much the rewards should be apart for each unit of the column ``margin`` (Touvron et al. 2023); 0 does not
    use that column."""
    heads: int = Field(default=1, ge=1)
    """Outputs on one backbone, each trained on a bootstrap of the pairs: members of an ensemble
    (``final#label=head-0``)."""

    @model_validator(mode="after")
    def _settings_fit_the_objective(self) -> Reward:
        if self.heads > 1 and self.head_start != "random":
            raise ValueError(
                f"head_start: {self.head_start} starts all {self.heads} heads alike; leave one of both out"
            )
        if self.heads > 1 and not isinstance(self.objective, BradleyTerry):
            raise ValueError("heads: only pairs are bootstrapped; leave it out, or set objective.kind=bradley-terry")
        if self.margin and not isinstance(self.objective, BradleyTerry):
            what = "a ranking has" if isinstance(self.objective, PlackettLuce) else "ratings have"
            raise ValueError(f"margin: {what} none; leave it out, or train on pairs (objective.kind=bradley-terry)")
        if isinstance(self.objective, Ratings) and self.centre not in (0.0, CENTRE):
            raise ValueError("centre: ratings say themselves where zero is; leave it out")
        if isinstance(self.objective, Ratings) and self.head_start != "random":
            raise ValueError(f"head_start: {self.head_start} is for pairs and rankings; leave it out")
        return self


def train(config: Reward, run: Run) -> None:
    """Train and write ``final/``, which Hugging Face opens as a sequence classifier."""
    if isinstance(config.objective, Ratings):
        train_ratings(config, config.objective.columns, run, config.pooling)
    elif isinstance(config.objective, PlackettLuce):
        _train(config, run, read_rankings, Renderer.render_rankings, ranking_length, RankingLoss(config.centre))
    else:
        bootstrap = Bootstrap(config.seed, config.heads) if config.heads > 1 else None
        loss = PairLoss(config.centre, config.margin, bootstrap)
        _train(config, run, read_pairs, Renderer.render_pairs, pair_length, loss)


Item = TypeVar("Item", bound=Prompted)
Example = TypeVar("Example", bound="Weighted")
Judged = TypeVar("Judged", bound="Weighted", contravariant=True)


class Weighted(Protocol):
    """What counts by a weight."""

    @property
    def weight(self) -> float:
        """How much it counts beside others."""


class RewardLoss(Protocol[Judged]):
    """How rewards are judged by examples of one kind."""

    def unused(self, loaded: Loaded[Any]) -> list[str]:
        """Columns of the data that are not learned from."""

    def require_enough(self, examples: Sequence[Judged], source: str) -> None:
        """Refuse data from which a part of the model would learn nothing."""

    def __call__(self, model: RewardModel, examples: Sequence[Judged]) -> tuple[torch.Tensor, list[SeenPair]]:
        """Losses [B] with gradients, and the rewards of every pair that the examples hold."""

    def answers(self, item: Any) -> list[tuple[str, str]]:
        """The answers of an item of the data: what it says of each, and the text."""

    def pairs(self, examples: Sequence[Judged]) -> Sequence[Named]:
        """Every pair that the examples hold, by name."""

    def sequences(self, examples: Sequence[Judged]) -> list[tuple[Ids, Ids]]:
        """Prompt and completion of every response."""

    def contests(self, examples: Sequence[Judged]) -> list[Contest]:
        """Every pair that the examples hold, by the numbers that ``sequences`` gives its responses."""

    def evaluate(self, model: RewardModel, examples: Sequence[Judged], budget: int) -> PairAgreement:
        """How well the rewards agree with examples that were not trained on."""


def _train(
    config: Reward,
    run: Run,
    reader: Callable[..., Loaded[Item]],
    render: Callable[[Renderer, Loaded[Item]], tuple[list[Example], RenderReport]],
    length: Callable[[Example], int],
    loss: RewardLoss[Example],
) -> None:
    files = read(config, reader)
    unused = loss.unused(files.training)
    names = [f"head-{number}" for number in range(config.heads)] if config.heads > 1 else ()
    model = open_reward_model(config.model, new_head=True, seed=config.seed, columns=names, pooling=config.pooling)
    data = prepare(config, run, model, files, render, length)
    loss.require_enough(data.examples, config.data)
    head = {} if run.saved_step() is not None else head_facts(config, model, data.examples, loss)
    place(model, config.model.engine)
    stepper, budget = Stepper(model.trainable(), config.optim, len(data.plan)), model.trunk.budget(config.batch)
    if head and run.writes:
        say_fit(head["head"])
    say_unused(run, "reward (margin 0)" if "margin" in unused else "reward", unused)
    run.note(**data.facts, **head)

    def learn(batch: Sequence[Example]) -> Learned:
        seen: list[SeenPair] = []
        weight = sum(example.weight for example in batch)
        micros = stepper.share(batch, length, budget)
        for micro in micros:
            losses_B, pairs = loss(model, micro)
            weight_B = torch.tensor([example.weight for example in micro], device=model.device)
            stepper.accumulate(losses_B, count=weight, weight=weight_B)
            seen += pairs
        names = loss.pairs(batch)
        info = stepper.step(tuple(map(label, names)))
        ordered = in_order(micros.gather(seen), names)
        return Learned(info | pair_metrics(ordered), {"pairs": float(len(names))}, pairs=ordered)

    def evaluate() -> HeldOut:
        measured = loss.evaluate(model, data.held_out, budget)
        metrics = {
            "heldout_loss": measured.loss,
            "heldout_accuracy": measured.accuracy,
            "heldout_margin": measured.margin,
            "calibration_error": measured.calibration_error,
        }
        pairs = len(loss.pairs(data.held_out))
        return HeldOut(metrics, {"strict_accuracy": measured.strict_accuracy, "pairs": pairs}, measured.intervals)

    headline = ("loss", "accuracy", "heldout_accuracy")
    judged = ((item.prompt, loss.answers(item)) for item in files.probed)
    probe = reward_probe(config, run, model, data.renderer, judged, budget=2 * budget)
    measure = evaluate if data.held_out else None
    fit(config, run, data, stepper, learn=learn, evaluate=measure, headline=headline, probe=probe)
    calibrate(model, loss.sequences(data.examples[:CALIBRATED]), budget)
    if model.heads:
        run.note(heads=[head.model_dump(mode="json") for head in model.heads])
    else:
        run.note(reward_mean=model.mean, reward_std=model.std)
    finish(run, model, data)


def head_facts(
    config: Reward, model: RewardModel, examples: Sequence[Judged], loss: RewardLoss[Judged]
) -> dict[str, Any]:
    """Start the head as the settings say, before the model is placed; what run.json says about it."""
    if config.head_start == "random":
        return {}
    known = examples[:FITTED]
    budget = 2 * model.trunk.budget(config.batch)
    return start_head(
        model, config.head_start, loss.sequences(known), loss.contests(known), budget=budget, seed=config.seed
    )


CALIBRATED = 2000
"""So many of the first examples decide mean and scale of the rewards."""


class PairLoss:
    """Bradley-Terry on pairs; see ``Reward`` for ``centre`` and ``margin``.

    With ``bootstrap`` each head has its own loss and its own weight of the pair, and the pair's rewards are the means
    over the heads.
    """

    def __init__(self, centre: float, margin: float, bootstrap: Bootstrap | None = None) -> None:
        self.centre = centre
        self.margin = margin
        self.bootstrap = bootstrap

    def unused(self, loaded: Loaded[PreferencePair]) -> list[str]:
        """Columns of the data that are not learned from.

        Raises:
            DataError: The settings ask for margins and the data has none.
        """
        measured = any(pair.margin is not None for pair in loaded.items)
        if self.margin and not measured:
            raise DataError(
                f"margin is {self.margin:g} and no pair has a margin",
                where=loaded.report.source,
                expected="a column margin: by how much chosen is better",
                fix="set margin=0, or take pairs of ratings (trueup curate)",
            )
        return [*loaded.report.unused_columns, *(["margin"] if measured and not self.margin else [])]

    def require_enough(self, examples: Sequence[RenderedPair], source: str) -> None:
        """Refuse few pairs of which a head's bootstrap has none.

        Raises:
            DataError: Such a head would learn nothing.
        """
        if self.bootstrap is None:
            return
        idle = self.bootstrap.idle([pair.key for pair in examples])
        if idle:
            raise DataError(
                f"no pair was drawn for {', '.join(f'head-{head}' for head in idle)} of {self.bootstrap.heads} heads"
                f" ({len(examples)} pairs)",
                where=source,
                expected="a pair for each head, as ten pairs or more almost always give",
                fix="take more pairs, leave heads out, or set another seed",
            )

    def __call__(self, model: RewardModel, examples: Sequence[RenderedPair]) -> tuple[torch.Tensor, list[SeenPair]]:
        """Losses [B] with gradients, and the rewards of every pair."""
        # Both sides in one forward pass, so no cache can be overwritten between them.
        rows = Rows.of(self.sequences(examples), model.device)
        if self.bootstrap is not None:
            return self._of_heads(raw_outputs(model, rows), examples, self.bootstrap)
        raw_N = raw_rewards(model, rows)
        chosen_B, rejected_B = raw_N[: len(examples)], raw_N[len(examples) :]
        losses_B = self._losses(chosen_B, rejected_B, *self._labels(examples, model.device))
        both = zip(examples, chosen_B.tolist(), rejected_B.tolist(), strict=True)
        return losses_B, [SeenPair(p.pair_id, p.key, chosen, rejected, weight=p.weight) for p, chosen, rejected in both]

    def _labels(
        self, examples: Sequence[RenderedPair], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Strengths [B] and, where they are used, margins [B]."""
        strength_B = torch.tensor([pair.strength for pair in examples], device=device)
        if not self.margin:
            return strength_B, None
        return strength_B, torch.tensor([self.margin * (pair.margin or 0.0) for pair in examples], device=device)

    def _losses(
        self, chosen_B: torch.Tensor, rejected_B: torch.Tensor, strength_B: torch.Tensor, margin_B: torch.Tensor | None
    ) -> torch.Tensor:
        """Bradley-Terry with the term that keeps rewards near zero [B]."""
        losses_B = losses.bradley_terry(chosen_B, rejected_B, strength_B, margin_B)
        return losses_B + self.centre * (chosen_B + rejected_B) ** 2 if self.centre else losses_B

    def _of_heads(
        self, raw_NH: torch.Tensor, examples: Sequence[RenderedPair], bootstrap: Bootstrap
    ) -> tuple[torch.Tensor, list[SeenPair]]:
        """Losses [B], by the heads' own weights of each pair, and the heads' mean rewards."""
        chosen_BH, rejected_BH = raw_NH[: len(examples)], raw_NH[len(examples) :]
        weight_BH = bootstrap.weights([pair.key for pair in examples]).to(raw_NH)
        labels = self._labels(examples, raw_NH.device)
        heads = zip(chosen_BH.unbind(1), rejected_BH.unbind(1), strict=True)
        columns = [self._losses(chosen_B, rejected_B, *labels) for chosen_B, rejected_B in heads]
        losses_B = (weight_BH * torch.stack(columns, 1)).mean(1)
        both = zip(examples, chosen_BH.mean(1).tolist(), rejected_BH.mean(1).tolist(), strict=True)
        return losses_B, [SeenPair(p.pair_id, p.key, chosen, rejected, weight=p.weight) for p, chosen, rejected in both]

    def answers(self, item: PreferencePair) -> list[tuple[str, str]]:
        """Both sides."""
        return [("chosen", item.chosen), ("rejected", item.rejected)]

    def pairs(self, examples: Sequence[RenderedPair]) -> Sequence[RenderedPair]:
        """The examples are the pairs."""
        return examples

    def sequences(self, examples: Sequence[RenderedPair]) -> list[tuple[Ids, Ids]]:
        """Prompt and completion of all chosen sides, then of all rejected ones."""
        chosen = [(pair.prompt_ids, pair.chosen_ids) for pair in examples]
        return chosen + [(pair.prompt_ids, pair.rejected_ids) for pair in examples]

    def contests(self, examples: Sequence[RenderedPair]) -> list[Contest]:
        """The examples are the pairs."""
        count = len(examples)
        return [Contest(i, count + i, p.strength, p.weight, p.prompt_ids) for i, p in enumerate(examples)]

    def evaluate(self, model: RewardModel, examples: Sequence[RenderedPair], budget: int) -> PairAgreement:
        """Accuracy with ties half, margin, loss and calibration."""
        chosen, rejected = both_rewards(model, examples, budget)
        strength, weight = [p.strength for p in examples], [p.weight for p in examples]
        prompts = [p.prompt_ids for p in examples]
        return agreement(chosen, rejected, strength=strength, weight=weight, prompts=prompts)


def both_rewards(model: RewardModel, pairs: Sequence[RenderedPair], budget: int) -> tuple[list[float], list[float]]:
    """Raw rewards of the chosen and of the rejected sides, without gradients; of several heads their means."""
    sides = PairLoss(0.0, 0.0).sequences(pairs)
    if model.heads:
        raw = outputs(model, sides, budget=2 * budget).mean(1).tolist()
    else:
        raw = rewards(model, sides, budget=2 * budget, scaled=False).tolist()
    return raw[: len(pairs)], raw[len(pairs) :]


def calibrate(model: RewardModel, sequences: Sequence[tuple[Ids, Ids]], budget: int) -> None:
    """Set ``mean`` and ``std`` from the rewards of ``sequences``, of several heads each its own; ordering is unchanged,
    and it is idempotent."""
    if model.heads:
        cards = []
        for head, raw_N in zip(model.heads, outputs(model, sequences, budget=2 * budget).double().T, strict=True):
            spread = float(raw_N.std()) if len(raw_N) > 1 and float(raw_N.std()) > 0 else 1.0
            cards.append(HeadCard(name=head.name, mean=-float(raw_N.mean()) / spread, std=1 / spread))
        model.heads = tuple(cards)
        return
    model.mean, model.std = 0.0, 1.0
    raw = rewards(model, sequences, budget=2 * budget).double()
    spread = float(raw.std()) if len(raw) > 1 else 0.0
    model.mean, model.std = float(raw.mean()), spread if spread > 0 else 1.0
