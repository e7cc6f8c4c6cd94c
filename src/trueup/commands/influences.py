"""``trueup why``: which training examples of a run moved answers, how far, and who judged them.

Shapes: B rows, E examples, N flat positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trueup.commands.located import input_of, places
from trueup.config import Model, Sampling
from trueup.data.batch import Rows, micro_batches
from trueup.data.render import Renderer
from trueup.engine.ask import ask
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
from trueup.engine.rendering import renderer_of, whole_context
from trueup.engine.score import raw_rewards, score
from trueup.errors import UsageError
from trueup.ledger import read_run
from trueup.models.heads import RewardModel
from trueup.models.policy import open_policy
from trueup.recipes.lessons import Item, Lessons, Point, open_lessons, points, put, step_rates
from trueup.types import Message, Prompt

BLOCKS = 2
"""How many of the last blocks are looked at; chosen on one seed of the sandbox (``docs/why.md``), where two named what
counts better than all four, in three fifths of the time."""


@dataclass(frozen=True, slots=True)
class Query:
    """An answer that is asked about; with ``sign`` -1 it is what the others are measured against."""

    prompt: Prompt
    answer: str
    sign: float = 1.0


@dataclass(frozen=True, eq=False)
class Influences:
    """What each training example did to the log-prob, or reward, of the answers together."""

    lessons: Lessons
    queries: Sequence[Query]
    values_E: torch.Tensor
    """Estimated change that training on each example made, in nats or in raw reward; float64."""
    change: float
    """How far the sum over the answers really moved between the first and the last of ``points``."""
    points: Sequence[str]
    blocks: int
    """How many of the last blocks were looked at."""

    @property
    def unit(self) -> str:
        """What the values are of."""
        return "reward" if isinstance(self.lessons.model, RewardModel) else "log-prob, nats"

    @property
    def shares_E(self) -> torch.Tensor:
        """Each example's part of all that pushed one way or the other; absolute values sum to 1."""
        total = float(self.values_E.abs().sum())
        return self.values_E / total if total else torch.zeros_like(self.values_E)

    def item(self, index: int) -> Item | None:
        """What an example was in the data."""
        return self.lessons.items[index]


def influences(lessons: Lessons, queries: Sequence[Query], *, blocks: int = BLOCKS) -> Influences:
    """Estimate what each example of a run did to the summed log-prob (or raw reward) of answers.

    TracIn over the weights that are kept (``engine.influence``): each step counts at the nearest of them, with its
    learning rate, what clipping left of its gradient and the weight of its batch, in the metric of Adam.

    Args:
        lessons: The run.
        queries: Answers, of which those with a negative sign are subtracted.
        blocks: Look at the last so many blocks and at the head.

    Raises:
        UsageError: No answer.
        RunError, ModelError: What the estimate needs is not kept.
    """
    if not queries:
        raise UsageError("there is no answer to ask about", where="why", expected="at least one")
    model, kept = lessons.model, points(lessons)
    layers = linear_layers(model.model, lessons.learned, blocks)
    rows, signs_B = _query_rows(lessons, queries)
    examples = list(lessons.data.examples)
    mass = _mass(lessons, kept, examples)
    values_E = torch.zeros(len(examples), dtype=torch.float64)
    along: list[float] = []
    for point, mass_E in zip(kept, mass, strict=True):
        put(lessons, point)
        with torch.no_grad():
            along.append(float((_measure(model, rows) * signs_B).sum()))
        if not mass_E.any():
            continue
        seen = visits(layers, lambda: (_measure(model, rows) * signs_B).sum())
        query = scaled(gradient(seen, layers), layers, _adam(lessons, point))
        for micro in _micros(lessons, examples, mass_E):
            values_E[micro] -= mass_E[micro] * products(lessons, layers, [examples[i] for i in micro], query)
    return Influences(lessons, queries, values_E, along[-1] - along[0], [point.name for point in kept], blocks)


def products(
    lessons: Lessons, layers: Mapping[str, Any], examples: Sequence[Any], query: Mapping[str, LayerGradient]
) -> torch.Tensor:
    """Inner products [B] of the gradient of each example's weighted loss with ``query``, at the model's weights."""
    seen = visits(layers, lambda: lessons.losses(examples).sum())
    rows = Rows.of(lessons.sequences(examples), lessons.model.device)
    return inner_products(seen, query, _owners(lessons, rows, len(examples)), len(examples))


def _owners(lessons: Lessons, rows: Rows, examples: int) -> Owners:
    """Row r is of example r modulo their number."""
    owner_B = torch.arange(len(rows)) % examples
    groups = lessons.model.trunk.apart([len(p) + len(c) for p, c in zip(rows.prompts, rows.completions, strict=True)])
    flat_N = owner_B
    if not isinstance(lessons.model, RewardModel):
        flat_N = owner_B.repeat_interleave(rows.completion_lengths_B.cpu())
    return Owners([owner_B[torch.tensor(list(group))] for group in groups], flat_N)


def _measure(model: Any, rows: Rows) -> torch.Tensor:
    """Raw reward or log-prob [B] of each answer."""
    return raw_rewards(model, rows) if isinstance(model, RewardModel) else score(model, rows).sum_B


def _query_rows(lessons: Lessons, queries: Sequence[Query]) -> tuple[Rows, torch.Tensor]:
    renderer = lessons.data.renderer
    chats = any(not isinstance(prompt, str) for prompt in lessons.data.prompts)
    rendered = [renderer.render(_as_trained(query.prompt, chats), query.answer) for query in queries]
    rows = Rows.of([(each.prompt_ids, each.completion_ids) for each in rendered], lessons.model.device)
    return rows, torch.tensor([query.sign for query in queries], device=lessons.model.device)


def _as_trained(prompt: Prompt, chats: bool) -> Prompt:
    return (Message("user", prompt),) if chats and isinstance(prompt, str) else prompt


def _mass(lessons: Lessons, kept: Sequence[Point], examples: Sequence[Any]) -> list[torch.Tensor]:
    """For each point, [E]: the summed rates of the steps nearest to it that trained on each example."""
    index = {id(example): i for i, example in enumerate(examples)}
    mass = [torch.zeros(len(examples), dtype=torch.float64) for _ in kept]
    for step, rate in step_rates(lessons).items():
        nearest = min(range(len(kept)), key=lambda k: abs(kept[k].step - step - 0.5))
        for example in lessons.data.plan[step]:
            mass[nearest][index[id(example)]] += rate
    return mass


def _adam(lessons: Lessons, point: Point) -> Any:
    named = dict(lessons.model.model.named_parameters())
    optim = lessons.config.optim
    moments = {id(named[name]): moment for name, moment in point.moments.items()}
    return adam_scale(moments, 1.0 - optim.betas[1] ** point.moments_step, optim.eps)


def _micros(lessons: Lessons, examples: Sequence[Any], mass_E: torch.Tensor) -> Sequence[list[int]]:
    """Indices of the examples that count, in micro-batches."""
    indices = [i for i in range(len(examples)) if mass_E[i]]
    budget = lessons.model.trunk.budget(lessons.config.batch)
    return [list(micro) for micro in micro_batches(indices, lambda i: lessons.length(examples[i]), budget)]


# From the command line to queries ------------------------------------------------------------------------------------


def explain(
    run: Path,
    prompts: Sequence[str],
    answers: Sequence[str] = (),
    against: Sequence[str] = (),
    *,
    data: str | None = None,
    blocks: int = BLOCKS,
) -> Influences:
    """``influences`` of a run on answers to prompts; without answers the model's own, drawn greedily.

    Args:
        run: A run of sft, dpo or reward; an online run is explained by the reward model that it followed.
        prompts: One for all answers, or one for each.
        answers: What is asked about.
        against: Other answers to the first prompt, to be subtracted: why the first rather than these?
        data: Where the training data lies now, if not where run.json says.
        blocks: As in ``influences``.

    Raises:
        UsageError: Prompts and answers do not fit together, or the run learned from nothing that can be followed.
    """
    if not prompts:
        raise UsageError("there is no prompt", where="command line", expected="--prompt")
    if answers and len(prompts) not in (1, len(answers)):
        raise UsageError(
            f"{len(prompts)} prompts and {len(answers)} answers", where="command line", expected="a prompt for each"
        )
    teacher = teacher_of(run)
    moved = places(teacher, read_run(teacher)) | ({} if data is None else {"data": data})
    lessons = open_lessons(teacher, places=moved)
    answers = answers or own_answers(run, lessons, prompts)
    asked = list(prompts) * (len(answers) if len(prompts) == 1 else 1)
    queries = [Query(prompt, answer) for prompt, answer in zip(asked, answers, strict=True)]
    queries += [Query(prompts[0], answer, -1.0) for answer in against]
    return influences(lessons, queries, blocks=blocks)


def teacher_of(run: Path) -> Path:
    """The run that learned from judged data: the run itself, or the reward model that an online run followed.

    Raises:
        UsageError: Its reward is no reward model that trueup trained, or one of several parts.
    """
    record = read_run(run)
    if "reward" not in record["config"]:
        return run
    source = places(run, record).get("reward") or input_of(record, "reward")
    folder = None if source is None else next((f for f in (Path(source), Path(source).parent) if is_run(f)), None)
    if folder is None:
        raise UsageError(
            f"it followed the reward {record['config']['reward']!r}, which is no run of `trueup reward`",
            where=str(run),
            expected="an online run whose reward is runs/NAME/final",
            fix="ask the run of the part that you mean: trueup why runs/reward --prompt ... --answer ...",
        )
    return folder


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return (folder / "run.json").is_file()


def own_answers(run: Path, lessons: Lessons, prompts: Sequence[str]) -> list[str]:
    """What the trained model of ``run`` says to ``prompts``, drawn greedily.

    Raises:
        UsageError: It is a reward model, which says nothing.
    """
    if isinstance(lessons.model, RewardModel) and lessons.run.path == run:
        raise UsageError("a reward model gives no answers", where=str(run), expected="--answer: what it is to score")
    name = Model(name=str(run / "final"), device=lessons.config.model.device)
    policy = open_policy(name, frozen=True)
    renderer: Renderer = renderer_of(policy, name, whole_context(policy.context))
    chats = any(not isinstance(prompt, str) for prompt in lessons.data.prompts)
    room = Sampling(temperature=0.0, max_new_tokens=64)
    _, completions = ask(policy, renderer, [_as_trained(p, chats) for p in prompts], room, seed=0)
    return [completion.text for completion in completions]
