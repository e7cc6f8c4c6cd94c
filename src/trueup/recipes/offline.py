"""The skeleton of the offline methods, which train on a file and learn from nothing that they sample.

A method's own file says what an example is, what a micro-batch loses and what is measured. The rest is here, once: the
settings that all share, reading and rendering, and the loop. What compares with a reference has it from
``recipes.reference``.

    data = prepare(config, run, policy, read(config, read_pairs), Renderer.render_pairs, pair_length)
    fit(config, run, data, stepper, learn=..., evaluate=..., probe=answer_probe(...))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from pydantic import Field, field_validator

from trueup.config import EpochBatch, HeldOutReading, Model, Optim, Settings, one_name
from trueup.config.log import Log
from trueup.data.batch import EpochPlan
from trueup.data.markers import refuse_own
from trueup.data.read import Loaded
from trueup.data.read_report import line_name
from trueup.data.render import Renderer, RenderReport
from trueup.data.similar import shared_prompts
from trueup.engine.control import obey
from trueup.engine.loop import Loop
from trueup.engine.placement import check_export, export
from trueup.engine.probe import sample_distance
from trueup.engine.rendering import renderer_of, rendering_of
from trueup.engine.resume import resume_from_checkpoint, saver
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.ledger.progress import warn
from trueup.models.heads import RewardModel
from trueup.models.policy import Policy
from trueup.recipes.agreement import SeenPair, SeenResponse
from trueup.recipes.probes import Probe, timed
from trueup.types import Prompt


class Prompted(Protocol):
    """What has a prompt."""

    @property
    def prompt(self) -> Prompt:
        """What comes before the response."""


Item = TypeVar("Item", bound=Prompted)
Example = TypeVar("Example")


class Offline(Settings):
    """Settings that every offline method has; each method has its own defaults."""

    data: str
    """What to train on: a file, a folder, a pattern such as ``data/*.parquet``, ``hf:owner/name``, or a list of
    these."""
    validation: str | None = None
    """Held-out data of the same kind; none means that nothing is measured on it."""
    read: HeldOutReading = HeldOutReading()
    """How the files are read."""
    model: Model = Model(name="")
    """The model to start from, usually the SFT model."""
    optim: Optim = Optim()
    """How gradients become updates."""
    batch: EpochBatch = EpochBatch()
    """How examples become steps."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the data."""
    evaluate_every: int = Field(default=100, ge=1)
    """Steps between held-out measurements; one is always made at the end."""
    probes: int = Field(default=4, ge=0)
    """Fixed prompts that the model answers along the run, or whose answers a reward model scores: the first held-out
    ones, or the first of the data where nothing is held out. Each answer has at most 48 tokens; 0 asks nothing."""
    probe_every: int | None = Field(default=None, ge=1)
    """Steps between probes, beside those before the first step and after the last; a quarter of the run by default."""
    save_every: int = Field(default=200, ge=1)
    """Steps between checkpoints."""
    control: bool = False
    """Whether whoever has the token of ``trueup explore --control`` may pause and stop this run from the page."""
    log: Log = Log()
    """Copies of the numbers for TensorBoard and others."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Names every random draw of the run."""

    @field_validator("data", "validation", mode="before")
    @classmethod
    def _as_one_name(cls, value: Any) -> Any:
        return one_name(value)


# From files to steps -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files(Generic[Item]):
    """What the files hold."""

    training: Loaded[Item]
    held_out: Loaded[Item] | None

    @property
    def probed(self) -> Sequence[Item]:
        """What probes are taken from: held-out data, where there is any."""
        return self.training.items if self.held_out is None else self.held_out.items


@dataclass(frozen=True)
class Data(Generic[Example]):
    """Rendered examples, and which of them make which step."""

    examples: list[Example]
    held_out: list[Example]
    plan: EpochPlan[Example]
    renderer: Renderer
    prompts: Sequence[Prompt]
    facts: Mapping[str, Any]
    """What reading and rendering did, for run.json."""


def read(config: Offline, reader: Callable[..., Loaded[Item]]) -> Files[Item]:
    """The training file and, if there is one, the held-out file."""
    training = reader(config.data, **config.read.options())
    if config.validation is None:
        return Files(training, None)
    held_out = reader(config.validation, **config.read.held_out_options())
    shared = shared_prompts(training, held_out)
    if shared.count:
        warn(
            f"{config.validation}: {shared.count} of {len(held_out)} held-out prompts are also in {config.data},"
            f" {line_name(shared.lines[0])} first: what is measured on them is too good"
        )
    return Files(training, held_out)


def prepare(
    config: Offline,
    run: Run,
    model: Policy | RewardModel,
    files: Files[Item],
    render: Callable[[Renderer, Loaded[Item]], tuple[list[Example], RenderReport]],
    length: Callable[[Example], int],
) -> Data[Example]:
    """Refuse what could not be saved or read later, render everything, and cut it into steps.

    Raises:
        DataError, ModelError, RunError: Before the first step, what would go wrong after it.
    """
    check_export(model, run.path / "final")
    renderer = renderer_of(model, config.model, config.batch).for_run(run, config.model, config.read)
    prompts = [item.prompt for item in files.training.items]
    if not config.read.templated:
        refuse_own(config.data, prompts, renderer.encoder.holds_special)
    examples, report = render(renderer, files.training)
    held_out = [] if files.held_out is None else render(renderer, files.held_out)[0]
    plan = EpochPlan(
        examples,
        config.batch.size,
        config.epochs,
        config.seed,
        f"{run.kind} order",
        length=length,
        pool=config.batch.pool,
    )
    facts = {"read": files.training.report.to_dict(), "render": report.to_dict(), "steps": len(plan)}
    if files.held_out is not None:
        facts["read_validation"] = files.held_out.report.to_dict()
    return Data(examples, held_out, plan, renderer, prompts, facts)


# The loop ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """What a step has to say once the weights were updated."""

    metrics: Mapping[str, float]
    """For metrics.jsonl."""
    rates: Mapping[str, float]
    """How much was done in the step, for timing.jsonl."""
    totals: Mapping[str, float] = field(default_factory=dict)
    """For metrics.jsonl, after what was measured on held-out data."""
    pairs: Sequence[SeenPair] = ()
    """Pairs that were learned from."""
    responses: Sequence[SeenResponse] = ()
    """Labelled responses that were learned from."""


@dataclass(frozen=True)
class HeldOut:
    """What was measured on held-out data."""

    metrics: Mapping[str, float]
    """For metrics.jsonl and eval.jsonl."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """For eval.jsonl alone."""
    intervals: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    """Bounds at 95 % of metrics of them, for eval.jsonl and the model card; None where nothing is known."""


def fit(
    config: Offline,
    run: Run,
    data: Data[Example],
    stepper: Stepper,
    *,
    learn: Callable[[tuple[Example, ...]], Learned | None],
    evaluate: Callable[[], HeldOut] | None,
    headline: Sequence[str],
    probe: Probe | None = None,
) -> None:
    """Take the steps that are left, from the newest checkpoint on.

    Args:
        config: The method's settings.
        run: Where everything is written.
        data: What is learned.
        stepper: Owns the weights; ``learn`` hands it the losses of a batch and lets it step.
        learn: Learns from one batch; None where a batch holds nothing to learn from.
        evaluate: Measures held-out data; None where there is none.
        headline: Metrics that the progress shows.
        probe: Writes samples; None where there is nothing to ask.
    """
    state = resume_from_checkpoint(run, stepper)
    total = len(data.plan)
    every = sample_distance(config.probe_every, total)
    loop = Loop(run, data.plan, save=saver(run, stepper, state.copy), save_every=config.save_every, headline=headline)
    # A run that ended before its last step has its last checkpoint there, and is not gone on with.
    for step, batch in () if "ended" in state else loop:
        if probe is not None and step % every == 0:
            timed(run, probe, step)
        learned = learn(batch)
        ends = obey(run, step, loop, allowed=config.control)
        last = ends or step + 1 == total
        if learned is not None:
            held_out = HeldOut({})
            if evaluate is not None and ((step + 1) % config.evaluate_every == 0 or last):
                held_out = evaluate()
            _write(run, step, learned, held_out, (step + 1) / data.plan.per_epoch)
        if probe is not None and last:  # before the last checkpoint, which then counts on its rows
            timed(run, probe, step + 1)
        if learned is not None:
            loop.time(step, **learned.rates)
        if ends:
            state["ended"] = step
            loop.end()


def _write(run: Run, step: int, learned: Learned, held_out: HeldOut, epoch: float) -> None:
    """The rows of a step."""
    for pair in learned.pairs:
        run.pair(step, pair.pair_id, pair.chosen, pair.rejected, key=pair.key)
    for response in learned.responses:
        run.response(step, response.key, response.desirable, response.reward)
    if held_out.metrics:
        known = {name: list(bounds) for name, bounds in held_out.intervals.items() if bounds is not None}
        run.evaluation(step, **held_out.metrics, **held_out.facts, **({"intervals": known} if known else {}))
    ids, keys = [pair.pair_id for pair in learned.pairs], [pair.key for pair in learned.pairs]
    run.log(step, learned.metrics, held_out.metrics, {"epoch": epoch}, learned.totals, ids=ids, keys=keys)


def finish(run: Run, model: Policy | RewardModel, data: Data[Any]) -> None:
    """Write ``final/``, with the rendering that the model was trained on, and ``adapter/`` where one learned."""
    export(model, run, rendering_of(data.renderer, data.prompts))
