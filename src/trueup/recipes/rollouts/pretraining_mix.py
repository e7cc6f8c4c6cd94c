"""PPO-ptx: a language-modelling loss on other texts beside the policy's, against what RLHF unlearns.

Ouyang et al. 2022 (arXiv:2203.02155, section 3.5) add gamma times the log-likelihood of pretraining text to the
objective; more KL penalty does not do the same.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, field_validator

from trueup.config import Reading, Settings, one_name
from trueup.data.batch import EpochPlan, Rows
from trueup.data.read import read_demonstrations
from trueup.data.render import Rendered
from trueup.engine.score import score
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.recipes.rollouts.session import Session


class Ptx(Settings):
    """Texts that the policy goes on learning beside the reward."""

    data: str
    """Texts or demonstrations: any format that has them. Of a demonstration the answer is learned, of a plain text all
    of it."""
    weight: float = Field(default=1.0, gt=0)
    """Weight of their mean loss per token beside the policy's, which is a mean per token too."""
    size: int = Field(default=32, ge=1)
    """How many of them go into each update."""

    @field_validator("data", mode="before")
    @classmethod
    def _as_one_name(cls, value: Any) -> Any:
        return one_name(value)


class PretrainingMix:
    """The texts of a run, a batch of them for each update."""

    def __init__(self, config: Ptx, run: Run, session: Session, read: Reading, seed: int) -> None:
        loaded = read_demonstrations(config.data, **read.options())
        rendered, report = session.actors.renderer.render_demonstrations(loaded)
        run.note(ptx={"read": loaded.report.to_dict(), "render": report.to_dict()})
        self.config, self.session = config, session
        self.plan: EpochPlan[Rendered] = EpochPlan(rendered, config.size, 1, seed, "ptx")

    def accumulate(self, stepper: Stepper) -> float:
        """Add the gradient of the batch that belongs to the coming update; returns its loss, nats per token.

        Each text counts by its weight.
        """
        batch = self.plan[stepper.updates]
        budget = self.session.budget
        count = sum(text.weight * _tokens(text) for text in batch)
        total = 0.0
        micros = stepper.share(batch, lambda text: len(text.prompt_ids) + len(text.completion_ids), budget)
        for micro in micros:
            rows = Rows.of([(text.prompt_ids, text.completion_ids) for text in micro], self.session.policy.device)
            weight_B1 = torch.tensor([[text.weight] for text in micro], device=rows.device)
            nll_BC = -score(self.session.policy, rows).logps_BC * weight_B1
            stepper.accumulate(nll_BC, count=count / self.config.weight)
            total += float(nll_BC.detach().sum())
        return micros.sum(total)[0] / count


def _tokens(text: Rendered) -> int:
    """Tokens that carry loss; without a prompt the first one conditions the rest."""
    return len(text.completion_ids) if text.prompt_ids else len(text.completion_ids) - 1
