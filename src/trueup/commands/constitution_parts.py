"""The models and files behind a constitution: a policy that answers, a judge, prompts with what is known of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from trueup.collectors.constitution import Constitution, read_constitution
from trueup.collectors.constitution_revise import Drawn, Judging, Reviser
from trueup.collectors.constitution_revisers import ModelReviser, Resampler
from trueup.collectors.constitution_sandbox import RuleJudge, red_team
from trueup.commands.constitution_settings import JUDGES, RULES, SANDBOX, SELF, Constitutional, rules_error
from trueup.config import Batch, Model, Sampling
from trueup.data.listing import data_hash
from trueup.data.read import read_prompts, read_rows
from trueup.data.render import Renderer
from trueup.data.write import write_jsonl
from trueup.engine.ask import draw_answers
from trueup.engine.rendering import renderer_of, whole_context
from trueup.engine.sampler import LocalSampler
from trueup.errors import DataError, ModelError, RunError, nearest
from trueup.ledger import read_lines
from trueup.models.files import identity
from trueup.models.policy import Policy, open_policy
from trueup.types import Completion, Message, Prompt

KINDS = ("harmful", "lookalike", "other")
CHUNK = 64
"""Answers that are written at a time; what a kill costs at most."""
REASONED = (0.4, 0.6)
"""Bounds of the labels of a judge that reasons first (Bai et al. 2022, section 4.1)."""
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
    def opened(self) -> tuple[Policy, Renderer]:
        """The model and how it is asked."""
        policy = open_policy(self.model, frozen=True)
        return policy, renderer_of(policy, self.model, self.batch or whole_context(policy.context))

    @property
    def chat(self) -> bool:
        """Whether it takes chat turns."""
        return self.opened[1].chat.exists

    def fits(self, prompt: Prompt) -> bool:
        """Whether a prompt leaves room for the longest answer."""
        _, renderer = self.opened
        try:
            head = renderer.render_prompt(prompt)
        except DataError:
            return False
        return len(head) + self.sampling.max_new_tokens <= renderer.max_length

    def __call__(self, prompts: Sequence[Prompt], seed: int) -> list[Completion]:
        """One sampled answer to each prompt."""
        policy, renderer = self.opened
        if not prompts:
            return []
        drawn = draw_answers(LocalSampler(policy), policy, renderer, prompts, self.sampling, seed=seed)
        return [
            Drawn(one.text, one.ids, one.stop, tuple(source.logps.tolist()))
            for one, source in zip(drawn.completions, drawn.generations, strict=True)
        ]


def open_constitutional_judge(source: str, constitution: Constitution, beside: Model) -> Judging:
    """The judge that ``source`` names; ``rules`` is the sandbox's, ``rules:error=0.2`` the same with errors.

    Raises:
        ConfigError: Something else than ``error=SHARE`` stands behind ``rules:``.
    """
    if source.partition(":")[0] == RULES:
        return RuleJudge(constitution, rules_error(source))
    from trueup.rewards.judge import open_judge

    return open_judge(source, beside)


def own_judge(policy: Speaker) -> Judging:
    """The policy of a round as its own judge."""
    from trueup.rewards.judge_model import ModelJudge

    opened, renderer = policy.opened
    return ModelJudge(opened, renderer, f"{SELF} ({policy.model.name})", identity(policy.model.name))


def clamp_of(clamp: tuple[float, float] | None, judge: Judging) -> tuple[float, float] | None:
    """Bounds of the labels: those that were asked for, else the paper's for a judge that reasons first."""
    reasons = bool(getattr(judge, "reasons", 0))
    return REASONED if clamp is None and reasons else clamp


def inputs_of(config: Constitutional) -> dict[str, Callable[[], str]]:
    """What gives the hash of what the rounds read, by setting; what comes with the package has none."""
    read: dict[str, Callable[[], str]] = {"constitution": lambda: read_constitution(config.constitution).sha}
    for name, source in (("prompts", config.prompts), ("test_prompts", config.test_prompts)):
        if source != SANDBOX:
            read[name] = partial(data_hash, source)
    if config.model.name != SANDBOX:
        read["model.name"] = partial(identity, config.model.name)
    if config.judge_model is not None:
        read["judge"] = partial(_judge_identity, config.judge_model)
    if config.critic is not None:
        read["critic"] = partial(identity, config.critic)
    return read


def _judge_identity(model: str) -> str:
    try:
        return identity(model)
    except ModelError as error:
        error.expected = f"{JUDGES}; {error.expected}" if error.expected else JUDGES
        raise


def reviser_for(config: Constitutional, policy: Speaker, judge: Judging) -> Reviser:
    """Who rewrites answers of ``policy``."""
    if config.reviser == "resample":
        return Resampler(policy, judge, config.tries, Path(policy.model.name).name)
    if config.critic is None:
        return ModelReviser(policy, policy.model.name, policy.chat, policy.fits)
    opening = config.model.model_copy(update={"name": config.critic, "lora": None, "template": None})
    critic = Speaker(opening, config.sampling)
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
    return read_whole(path)


def pieces(
    folder: Path,
    name: str,
    rows: Sequence[dict[str, Any]],
    make: Callable[[Sequence[dict[str, Any]], int], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """``folder/name.jsonl``, made in parts, so that a kill costs one of them."""
    parts = [
        piece(
            folder / "parts" / f"{name}-{at // CHUNK:04d}.jsonl",
            lambda at=at: make(rows[at : at + CHUNK], at),  # type: ignore[misc]
        )
        for at in range(0, len(rows), CHUNK)
    ]
    return piece(folder / f"{name}.jsonl", lambda: [row for part in parts for row in part])


def read_whole(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that was written whole.

    Raises:
        RunError: A line is damaged, or the last one is cut off.
    """
    rows, end = read_lines(path)
    if end != path.stat().st_size:
        raise RunError("its last line is cut off", where=str(path), fix="remove the file, so that it is made again")
    return rows


def read_mapping(path: Path, otherwise: str) -> dict[str, Any]:
    """A JSON object that says what a folder was made of.

    Raises:
        RunError: It is none; the fix is ``otherwise``.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"is damaged: {error}", where=str(path), expected="a JSON object", fix=otherwise) from error
