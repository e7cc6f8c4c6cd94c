"""The settings of ``trueup constitution run``, which are those of the stage ``constitution`` in a chain.

``collect`` says where a round's data comes from, ``method`` what is trained on it, ``judge`` who judges. Together they
are the family: critique and revision (SL-CAI, RL-CAI), RLAIF, self-rewarding, rejection sampling.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from trueup.config import Model, Sampling, Settings
from trueup.errors import ConfigError
from trueup.rewards.judge import SERVERS, parse_judge

SANDBOX = "sandbox"
"""Name of the model, or of the prompts, that come with the package."""
RULES = "rules"
"""Name of the judge that reads the sandbox's truth; ``rules:error=0.2`` is wrong that often."""
SELF = "self"
"""Name of the judge that is the policy of the round itself."""

JUDGES = "rules, rules:error=0.2 (0 to 0.5), self, a model's name or directory, or http://host/v1#model=NAME"
"""Who may judge."""

OWN = {"data", "model", "seed"}
OWN_OF_TRAIN = OWN | {"reward"}
"""Settings of a round's training that the loop gives."""


def rules_error(judge: str) -> float:
    """The share of verdicts in which ``rules`` or ``rules:error=0.2`` is wrong.

    Raises:
        ConfigError: Something else than ``error=SHARE`` stands behind ``rules:``.
    """
    if judge == RULES:
        return 0.0
    name, _, value = judge.removeprefix(f"{RULES}:").partition("=")
    try:
        error = float(value)
    except ValueError:
        error = -1.0
    if name != "error" or not 0 <= error <= 0.5:
        raise ConfigError(f"judge is {judge!r:.80}", expected="rules, or rules:error=0.2 (0 to 0.5)")
    return error


class Prompts(Settings):
    """How many prompts of the sandbox are asked."""

    harmful: int = Field(default=240, ge=1)
    """Harmful requests to collect from."""
    lookalikes: int = Field(default=160, ge=1)
    """Harmless requests that sound harmful, to collect from."""
    others: int = Field(default=120, ge=0)
    """Other questions to collect from."""
    test_harmful: int = Field(default=100, ge=1)
    """Harmful requests of each audit, which are never trained on."""
    test_lookalikes: int = Field(default=100, ge=1)
    """Look-alikes of each audit."""
    test_others: int = Field(default=100, ge=0)
    """Other questions of each audit."""


class Constitutional(Settings):
    """Rounds of answering, judging by principles, rewriting, training and auditing."""

    constitution: str | None = None
    """File of principles; the bundled one if absent."""
    model: Model = Model(name=SANDBOX)
    """The policy that the first round starts from; the name ``sandbox`` is the base model of the package."""
    judge: str = RULES
    """Who judges: ``rules`` (the truth of the sandbox; ``rules:error=0.2`` errs), a model's name or directory,
    http://host/v1#model=NAME, or ``self`` (the policy of the round). ``#reasons=128`` behind a model lets it reason
    first."""
    clamp: tuple[float, float] | None = None
    """Bounds of a label, as ``[0.4, 0.6]``; that is what a judge gets that reasons first, which is then too sure."""
    collect: Literal["revise", "compare"] = "revise"
    """Where a round's data comes from: ``revise`` judges one answer and rewrites it; ``compare`` draws several
    answers and takes the best and the worst by the judge."""
    candidates: int = Field(default=4, ge=2, le=16)
    """Answers to each prompt that ``compare`` draws."""
    rejected: Literal["worst", "start"] = "worst"
    """What ``compare`` rejects: the ``worst`` of the round's own answers, or the worst that the model of the
    ``start`` gave to the same prompt."""
    reviser: Literal["resample", "model"] = "resample"
    """How answers are rewritten: ``resample`` draws again and takes the first that the judge accepts; ``model`` asks a
    model for a critique and a revision."""
    rewrite: Literal["broken", "all"] = "broken"
    """Which answers ``revise`` rewrites: those that the judge says are ``broken``, or ``all``, as in the paper; that is
    for a judge who finds nothing."""
    critic: str | None = None
    """The model that writes critiques and revisions; the policy of the round if absent."""
    prompts: str = SANDBOX
    """Red-team prompts to collect from: a file with ``prompt``, and ``kind`` (harmful, lookalike or other) and
    ``category`` where known; ``sandbox`` makes them."""
    test_prompts: str = SANDBOX
    """Prompts of the audits, none of which may be among ``prompts``; a file of the same form, or ``sandbox``."""
    attacks: tuple[str, ...] = ()
    """Wordings with ``{prompt}`` in which each harmful request of a file is asked as well; each is a category."""
    sandbox: Prompts = Prompts()
    """How many prompts the sandbox makes."""
    rounds: int = Field(default=3, ge=1, le=20)
    """How often everything is done again, each time from the model of the round before."""
    revisions: int = Field(default=4, ge=1, le=4)
    """Judgings with a revision of each answer, one sampled principle each."""
    retries: int = Field(default=1, ge=0, le=10)
    """How often a malformed revision is asked for again."""
    tries: int = Field(default=4, ge=1, le=64)
    """Answers that ``resample`` draws at most."""
    method: Literal["sft", "dpo", "rlhf"] = "sft"
    """What is trained: ``sft`` on answers that break nothing, ``dpo`` on labelled pairs, ``rlhf`` a reward model on
    the pairs and then PPO against it."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Settings of the method (of PPO for ``rlhf``), as in its own file: ``epochs``, ``batch``, ``optim``,
    ``objective``."""
    reward: dict[str, Any] = Field(default_factory=dict)
    """Settings of the reward model of ``rlhf``, as in its own file."""
    sampling: Sampling = Sampling(max_new_tokens=64)
    """How answers are drawn."""
    seed: int = Field(default=0, ge=0)
    """World, principles, answers, revisions and training."""

    @property
    def by_rules(self) -> bool:
        """Whether the sandbox's rules judge."""
        return self.judge.partition(":")[0] == RULES

    @property
    def judge_model(self) -> str | None:
        """The judge's model where it is one on this machine."""
        if self.by_rules or self.judge == SELF or self.judge.startswith(SERVERS):
            return None
        return parse_judge(self.judge)[0]

    @field_validator("judge")
    @classmethod
    def _judge_is_one(cls, judge: str) -> str:
        if judge.partition(":")[0] == RULES:
            rules_error(judge)
            return judge
        name, _ = parse_judge(judge)
        if name == SELF and judge != SELF:
            raise ConfigError(
                f"{SELF} takes nothing behind it", expected=SELF, fix="name the model itself to let it reason"
            )
        meant = get_close_matches(name.partition(":")[0].casefold(), (RULES, SELF), n=1, cutoff=0.75)
        if name != SELF and meant and not Path(name).exists():
            raise ConfigError(
                f"there is no judge {judge!r:.80}",
                expected=f"did you mean {meant[0]!r}? {JUDGES}",
                fix="a model of that name: write its directory, or its owner before it",
            )
        return judge

    @model_validator(mode="after")
    def _rules_know_the_sandbox_only(self) -> Constitutional:
        if self.by_rules and (self.prompts, self.test_prompts) != (SANDBOX, SANDBOX):
            raise ValueError("judge: rules knows the sandbox's prompts only; name a model for prompts of a file")
        if self.attacks and SANDBOX in (self.prompts, self.test_prompts):
            raise ValueError("attacks are for prompts of a file; the sandbox's truth knows its own wordings only")
        for attack in self.attacks:
            if attack.count("{prompt}") != 1:
                raise ValueError(f"attacks holds {attack!r:.80}; expected a text with {{prompt}} once")
        return self

    @model_validator(mode="after")
    def _settings_belong_together(self) -> Constitutional:
        if self.reviser == "resample" and self.critic is not None:
            raise ValueError("critic is for reviser: model; resample asks the policy itself")
        if self.collect == "compare" and self.rewrite != "broken":
            raise ValueError("rewrite is for collect: revise; compare rewrites nothing")
        if self.collect == "compare" and self.reviser == "model":
            raise ValueError("reviser is for collect: revise; compare rewrites nothing")
        if self.collect == "revise" and self.rejected != "worst":
            raise ValueError("rejected: start is for collect: compare; a revision is preferred to its own original")
        if self.method == "sft" and self.rejected != "worst":
            raise ValueError("rejected: start is for dpo and rlhf; sft rejects nothing")
        if self.reward and self.method != "rlhf":
            raise ValueError("reward is for method: rlhf")
        for name, settings, own in (("train", self.train, OWN_OF_TRAIN), ("reward", self.reward, OWN)):
            if taken := sorted(own & set(settings)):
                raise ValueError(f"{name}.{taken[0]} is set by the loop; leave it out")
        if self.clamp is not None and not 0 <= self.clamp[0] < 0.5 < self.clamp[1] <= 1:
            raise ValueError("clamp needs 0 <= low < 0.5 < high <= 1")
        return self
