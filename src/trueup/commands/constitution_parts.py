"""The models and files behind a constitution: a policy that answers, a judge, prompts with what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from trueup.collectors.constitution import Constitution
from trueup.collectors.constitution_revise import Judging, Reviser
from trueup.collectors.constitution_revisers import ModelReviser, Resampler
from trueup.collectors.constitution_sandbox import RuleJudge, red_team
from trueup.commands.constitution_settings import RULES, SANDBOX, Constitutional
from trueup.config import Batch, Model, Sampling
from trueup.data.read import read_prompts, read_rows
from trueup.data.render import Renderer
from trueup.data.write import write_jsonl
from trueup.engine.ask import ask
from trueup.engine.rendering import renderer_of, whole_context
from trueup.errors import DataError, nearest
from trueup.ledger import read_lines
from trueup.models.policy import Policy, open_policy
from trueup.types import Completion, Message, Prompt

KINDS = ("harmful", "lookalike", "other")
SANDBOX_CONTEXT = 160
"""Longest prompt with answer in tokens, as the sandbox's models are trained."""


class Speaker:
    """A model that answers, opened when it is first asked.

    Args:
        model: Which, and how it is opened.
        sampling: How answers are drawn.
        batch: Limits; the whole context of the model if absent.
    """

    def __init__(self, model: Model, sampling: Sampling, batch: Batch | None = None) -> None:
        self.model = model
        self.sampling = sampling
        self.batch = batch

    @cached_property
    def _opened(self) -> tuple[Policy, Renderer]:
        policy = open_policy(self.model, frozen=True)
        return policy, renderer_of(policy, self.model, self.batch or whole_context(policy.context))

    @property
    def chat(self) -> bool:
        """Whether it takes chat turns."""
        return self._opened[1].chat.exists

    def fits(self, prompt: Prompt) -> bool:
        """Whether a prompt leaves room for the longest answer."""
        _, renderer = self._opened
        try:
            head = renderer.render_prompt(prompt)
        except DataError:
            return False
        return len(head) + self.sampling.max_new_tokens <= renderer.max_length

    def __call__(self, prompts: Sequence[Prompt], seed: int) -> list[Completion]:
        """One sampled answer to each prompt."""
        policy, renderer = self._opened
        return ask(policy, renderer, prompts, self.sampling, seed=seed)[1] if prompts else []


def open_constitutional_judge(source: str, constitution: Constitution, beside: Model) -> Judging:
    """The judge that ``source`` names; ``rules`` is the sandbox's."""
    if source == RULES:
        return RuleJudge(constitution)
    from trueup.rewards.judge import open_judge

    return open_judge(source, beside)


def reviser_for(config: Constitutional, policy: Speaker, judge: Judging) -> Reviser:
    """Who rewrites answers of ``policy``."""
    if config.reviser == "resample":
        return Resampler(policy, judge, config.tries, Path(policy.model.name).name)
    if config.critic is None:
        return ModelReviser(policy, policy.model.name, policy.chat, policy.fits)
    settings = config.model.model_dump() | {"name": config.critic, "revision": None, "template": None}
    critic = Speaker(Model(**settings), config.sampling)
    return ModelReviser(critic, config.critic, critic.chat, critic.fits)


def prompts_of(config: Constitutional, split: str) -> list[dict[str, Any]]:
    """Rows with ``prompt``, ``kind`` and ``category`` to collect from (``train``) or to audit with (``test``).

    Raises:
        DataError: A row without a prompt, or with an unknown kind; names the line.
    """
    source = config.prompts if split == "train" else config.test_prompts
    if source != SANDBOX:
        return attacked(prompts_in(source), config.attacks)
    sizes = config.sandbox
    counts = (
        (sizes.harmful, sizes.lookalikes, sizes.others)
        if split == "train"
        else (sizes.test_harmful, sizes.test_lookalikes, sizes.test_others)
    )
    made = red_team(config.seed, "train" if split == "train" else "test", *counts)
    return [{"prompt": (Message("user", one.text),), "kind": one.kind, "category": one.category} for one in made]


def attacked(rows: Sequence[dict[str, Any]], attacks: Sequence[str]) -> list[dict[str, Any]]:
    """The rows, and each harmful one in each wording of an attack: its last turn is put into the template."""
    made = list(rows)
    for number, attack in enumerate(attacks, 1):
        for row in rows:
            if row["kind"] == "harmful":
                made.append(row | {"prompt": _put_into(attack, row["prompt"]), "category": f"attack {number}"})
    return made


def _put_into(attack: str, prompt: Prompt) -> Prompt:
    if isinstance(prompt, str):
        return attack.replace("{prompt}", prompt)
    last = prompt[-1]
    return (*prompt[:-1], Message(last.role, attack.replace("{prompt}", last.content), context=last.context))


def prompts_in(source: str) -> list[dict[str, Any]]:
    """Red-team prompts of a file.

    Raises:
        DataError: A row cannot be read, or its kind is unknown; names the line.
    """
    rows = []
    for number, row in read_rows(source):
        where = f"{source}:{number}"
        kind, category = row.get("kind", "harmful"), row.get("category", "all")
        if kind not in KINDS:
            raise DataError(f"kind is {kind!r:.80}", where=where, expected=nearest(str(kind), KINDS))
        if not isinstance(category, str):
            raise DataError(f"category is {category!r:.80}", where=where, expected="a text")
        (prompt,) = read_prompts([row]).items
        rows.append({"prompt": prompt, "kind": kind, "category": category})
    if not rows:
        raise DataError("no prompts", where=source, expected='rows such as {"prompt": "...", "kind": "harmful"}')
    return rows


def piece(path: Path, make: Callable[[], Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of a file that is written once: what is there is read, what is not is made and appears whole."""
    if not path.exists():
        write_jsonl(path, make())
    return read_lines(path)[0]
