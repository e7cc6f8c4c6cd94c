"""The settings of ``trueup constitution run``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from trueup.config import Model, Sampling, Settings

SANDBOX = "sandbox"
"""Name of the model, or of the prompts, that come with the package."""
RULES = "rules"
"""Name of the judge that reads the sandbox's truth."""


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
    """Who judges: ``rules`` (the truth of the sandbox), a model's name or directory, or http://host/v1#model=NAME."""
    reviser: Literal["resample", "model"] = "resample"
    """How answers are rewritten: ``resample`` draws again and takes the first that the judge accepts; ``model`` asks a
    model for a critique and a revision."""
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
    method: Literal["sft", "dpo"] = "sft"
    """What is trained: ``sft`` on revisions and on answers that broke nothing, ``dpo`` on labelled pairs of them."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Settings of the method, as in its own file: ``epochs``, ``batch``, ``optim``, ``objective``."""
    sampling: Sampling = Sampling(max_new_tokens=64)
    """How answers are drawn."""
    seed: int = Field(default=0, ge=0)
    """World, principles, answers, revisions and training."""

    @model_validator(mode="after")
    def _rules_know_the_sandbox_only(self) -> Constitutional:
        if self.judge == RULES and (self.prompts, self.test_prompts) != (SANDBOX, SANDBOX):
            raise ValueError("judge: rules knows the sandbox's prompts only; name a model for prompts of a file")
        if self.reviser == "resample" and self.critic is not None:
            raise ValueError("critic is for reviser: model; resample asks the policy itself")
        if self.attacks and SANDBOX in (self.prompts, self.test_prompts):
            raise ValueError("attacks are for prompts of a file; the sandbox's truth knows its own wordings only")
        for attack in self.attacks:
            if attack.count("{prompt}") != 1:
                raise ValueError(f"attacks holds {attack!r:.80}; expected a text with {{prompt}} once")
        taken = sorted({"data", "model", "seed"} & set(self.train))
        if taken:
            raise ValueError(f"train.{taken[0]} is set by the loop; leave it out")
        return self
