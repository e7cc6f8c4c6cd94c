"""Settings that every online method has, and the controllers of its KL penalty."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from trueup.config import Batch, Model, Optim, Reading, Sampling, Settings, one_name
from trueup.config.log import Log
from trueup.engine.servers.settings import ServerRollouts
from trueup.rewards.mixture import RewardSetting
from trueup.spec.kl import AdaptiveController, FixedController


class AdaptiveKl(Settings):
    """Beta follows the measured KL (Ziegler et al. 2019, section 2.2)."""

    kind: Literal["adaptive"] = "adaptive"
    """Name of the controller."""
    beta: float = Field(default=0.1, gt=0)
    """Coefficient at the start."""
    target: float = Field(default=6.0, gt=0)
    """Sequence KL in nats to settle at."""
    horizon: float = Field(default=10000.0, gt=0)
    """Episodes over which beta may change by a factor of about e^0.2."""


class FixedKl(Settings):
    """Beta stays as it is."""

    kind: Literal["fixed"] = "fixed"
    """Name of the controller."""
    beta: float = Field(default=0.05, ge=0)
    """Coefficient of the KL penalty; 0 switches it off, which over-optimises sooner or later."""


def kl_controller(kl: AdaptiveKl | FixedKl) -> AdaptiveController | FixedController:
    """What moves beta from step to step."""
    if isinstance(kl, AdaptiveKl):
        return AdaptiveController(kl.beta, kl.target, kl.horizon)
    return FixedController(kl.beta)


def check_mini_batches(pieces: int, size: int) -> None:
    """Refuse to cut a batch into more parts than it has rollouts.

    Raises:
        ValueError: Says so.
    """
    if pieces > size:
        raise ValueError(
            f"mini_batches is {pieces} and batch.size {size}: a batch of rollouts cannot be cut into more parts than"
            " it has"
        )


class RolloutSettings(Settings):
    """What a method needs that learns from its own answers; its own settings come after these."""

    data: str
    """Prompts: any format that has prompts; one that is written twice is asked twice as often."""
    read: Reading = Reading()
    """How the file is read."""
    reward: RewardSetting
    """What scores the answers: the directory of a reward model trained by ``trueup reward``, a sequence classifier of
    another tool (``path#label=POSITIVE`` where it has several labels), or the Python function or class
    ``package.module:name``. Or a list of parts whose weighted values are added up."""
    model: Model = Model(name="")
    """The policy to start from, usually the SFT model."""
    reference: str | None = None
    """The fixed reference; by default the weights the policy starts from."""
    optim: Optim = Optim(learning_rate=1e-5, eps=1e-5, schedule="constant", warmup=0.0)
    """How gradients become updates."""
    batch: Batch = Batch(size=128)
    """Rollouts per step, and how they are cut into micro-batches."""
    sampling: Sampling = Sampling()
    """How completions are drawn; only temperature and length may differ from plain sampling."""
    rollout: ServerRollouts | None = None
    """Servers that draw the rollouts, as ``{servers: [http://host:8000]}``. None: the trainer draws them itself."""
    steps: int = Field(default=100, ge=1)
    """Rollout-and-update cycles."""
    missing_eos_penalty: float = Field(default=1.0, ge=0)
    """Taken off the score of a completion that hit the length limit, in standard deviations of a reward model."""
    length_penalty: float = Field(default=0.0, ge=0)
    """Taken off the score for each completion token."""
    kl_stop: float | None = Field(default=None, gt=0)
    """Stop the run when the KL of a step exceeds this many nats."""
    on_alert: Literal["warn", "pause", "stop", "raise_kl"] = "warn"
    """What an alert of the run's own numbers does (``trueup watch`` has the same): say it and write it down; save and
    leave, so that the same command goes on; end the run with the model as it is; or double the KL's coefficient."""
    control: bool = False
    """Whether whoever has the token of ``trueup explore --control`` may pause and stop this run from the page."""
    log: Log = Log()
    """Copies of the numbers for TensorBoard and others."""
    reset_reference_every: int | None = Field(default=None, ge=1)
    """Steps after which the policy as it then is becomes the reference, again and again: KL is then measured from where
    the policy lately was, and may grow without bound from where it started. None: the reference stays."""
    probes: int = Field(default=8, ge=0)
    """Fixed prompts whose completions are logged along the run."""
    probe_every: int = Field(default=10, ge=1)
    """Steps between probe samples."""
    save_every: int = Field(default=25, ge=1)
    """Steps between checkpoints."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Names every random draw of the run."""

    @field_validator("data", mode="before")
    @classmethod
    def _as_one_name(cls, value: Any) -> Any:
        return one_name(value)

    @model_validator(mode="after")
    def _rollouts_are_sound(self) -> RolloutSettings:
        filters = [
            name
            for name, off in (("top_p", 1.0), ("top_k", 0), ("repetition_penalty", 1.0))
            if getattr(self.sampling, name) != off
        ]
        if filters:
            raise ValueError(
                f"sampling.{filters[0]} modifies the distribution that rollouts are drawn from, so the first ratio "
                "would not be 1; leave it off here and use it in `trueup sample`"
            )
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature 0 is greedy: nothing is explored; use a value near 1")
        if self.rollout is not None and self.rollout.tis_cap is not None and "kl" not in type(self).model_fields:
            raise ValueError(
                "rollout.tis_cap weighs the tokens of a policy gradient, and this method has none; leave it out"
            )
        if self.on_alert == "raise_kl" and "kl" not in type(self).model_fields:
            raise ValueError("on_alert is raise_kl, but this method has no KL penalty; use warn, pause or stop")
        return self

    def resets_after(self, done: int) -> bool:
        """Whether the reference is set anew after so many steps; after the last one nobody would read it."""
        every = self.reset_reference_every
        return every is not None and done % every == 0 and done < self.steps


class OnlineSettings(RolloutSettings):
    """The same for a method with a KL penalty."""

    kl: AdaptiveKl | FixedKl = Field(default=AdaptiveKl(), discriminator="kind")
    """Controller of the KL penalty."""

    @model_validator(mode="after")
    def _there_is_something_to_raise(self) -> OnlineSettings:
        if self.on_alert == "raise_kl" and self.kl.beta == 0:
            raise ValueError("on_alert is raise_kl, but kl.beta is 0, and twice nothing is nothing; set kl.beta")
        return self
