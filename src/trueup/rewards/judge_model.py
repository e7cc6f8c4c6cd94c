"""A local language model as a judge, by the log-probs of the words that a verdict is made of.

P(first) = exp(l_A) / (exp(l_A) + exp(l_B)) for the letters of the two places. A yes-or-no question is asked both ways
round, "does it break" and "does it keep", and the two are averaged, so that a model which says yes to anything says
one half.

Shapes: Q questions, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from trueup.config import Model, Sampling, build
from trueup.data.batch import Ids
from trueup.data.render import Renderer
from trueup.engine.ask import ask
from trueup.engine.placement import place
from trueup.engine.processes import share
from trueup.engine.rendering import renderer_of, whole_context
from trueup.engine.score import next_logits
from trueup.errors import DataError, ModelError
from trueup.models.files import identity
from trueup.models.policy import Policy, open_policy
from trueup.rewards.judge import BROKEN, DECIDE, KEPT, LETTERS, THINK, WHICH, asked_for, think, which
from trueup.types import Message, Prompt, content_id

WORDS = (("YES", "NO"), ("Yes", "No"), ("yes", "no"))
"""Spellings of a verdict; the first of which both words are one token is used."""
BUDGET = 16384
"""Padded tokens of one forward pass."""


class ModelJudge:
    """A language model that judges by log-probs; unless it is to reason first, it writes nothing.

    Args:
        policy: The model; frozen.
        renderer: How it is asked. A model without a chat template reads the question and ``Answer:``.
        name: What it is called.
        fingerprint: Hash of its weights.
        budget: Padded tokens of one forward pass.
        reasons: Tokens of reasons, drawn greedily, that it reads again before it says which answer is better.
    """

    def __init__(
        self, policy: Policy, renderer: Renderer, name: str, fingerprint: str, budget: int = BUDGET, reasons: int = 0
    ) -> None:
        self.policy = policy
        self.renderer = renderer
        self.name = name
        self.budget = budget
        self.lead = "" if renderer.chat.exists else " "
        letters = self._single(LETTERS)
        words = next((pair for pair in WORDS if self._single(pair) is not None), None)
        if letters is None or words is None:
            raise ModelError(
                f"{name} has no single tokens for {'A and B' if letters is None else 'yes and no'}",
                where="judge",
                expected="a tokenizer in which the words of a verdict are one token each",
                fix="judge by another model",
            )
        self.letters = letters
        self.words = words
        self.reasons = reasons
        reasoning = (reasons, THINK, DECIDE) if reasons else ()
        self.fingerprint = content_id(fingerprint, WHICH, BROKEN, KEPT, *words, *reasoning)

    @classmethod
    def load(cls, source: str, beside: Model | None = None, *, reasons: int = 0) -> ModelJudge:
        """Open the model that ``source`` names.

        Raises:
            ModelError: It cannot be opened or cannot judge.
        """
        settings = {key: getattr(beside, key) for key in ("dtype", "device", "engine", "kernels")} if beside else {}
        opening = build(Model, settings, {"name": source}, where="judge")
        policy = open_policy(opening, frozen=True)
        place(policy, opening.engine)
        renderer = renderer_of(policy, opening, whole_context(policy.context))
        name = f"{source}#reasons={reasons}" if reasons else source
        return cls(policy, renderer, name, identity(source), reasons=reasons)

    def first_wins(self, asked: Sequence[tuple[str, Prompt, str, str]]) -> list[float | None]:
        """P(the answer shown first is better) for each (principle, prompt, first answer, second answer).

        Raises:
            DataError: A question does not fit the model; it names the request.
        """
        questions = [which(*one) for one in asked]
        if self.reasons and asked:
            questions = self._with_reasons([think(*one) for one in asked])
        return list(self._odds(questions, self.letters).sigmoid().tolist())

    def _with_reasons(self, questions: Sequence[str]) -> list[str]:
        """The questions with what the judge wrote about each, and how it is then asked for a letter."""
        sampling = Sampling(max_new_tokens=self.reasons, temperature=0)
        written = ask(self.policy, self.renderer, [self._prompt(q) for q in questions], sampling, seed=0)[1]
        return [
            DECIDE.format(question=question, thoughts=one.text.strip())
            for question, one in zip(questions, written, strict=True)
        ]

    def _prompt(self, question: str) -> Prompt:
        return (Message("user", question),) if self.renderer.chat.exists else f"{question}\nAnswer:"

    def breaks(self, asked: Sequence[tuple[str, Prompt, str]]) -> list[float | None]:
        """P(the answer breaks the principle) for each (principle, prompt, answer), from both ways of asking.

        Raises:
            DataError: A question does not fit the model; it names the request.
        """
        yes, no = self.words
        ids = self._single(self.words)
        assert ids is not None
        both = [
            form.format(principle=principle, prompt=asked_for(prompt), answer=answer, yes=yes, no=no)
            for form in (BROKEN, KEPT)
            for principle, prompt, answer in asked
        ]
        broken_Q, kept_Q = self._odds(both, ids).sigmoid().chunk(2) if asked else (torch.zeros(0),) * 2
        return list(((broken_Q + 1 - kept_Q) / 2).tolist())

    def _single(self, words: Sequence[str]) -> tuple[int, int] | None:
        ids: list[Any] = [self.policy.tokenizer(self.lead + word, add_special_tokens=False).input_ids for word in words]
        first, second = ids
        return (first[0], second[0]) if len(first) == len(second) == 1 and first != second else None

    def _odds(self, questions: Sequence[str], ids: tuple[int, int]) -> torch.Tensor:
        """Log-odds [Q] of the first word against the second, in float64 on the CPU."""
        rows = [self._row(question) for question in questions]
        own: list[tuple[int, float]] = []
        micros = share(range(len(rows)), lambda i: len(rows[i]), self.budget)
        for group in micros:
            logits_BV = next_logits(self.policy, [rows[i] for i in group])
            odds_B = (logits_BV[:, ids[0]] - logits_BV[:, ids[1]]).double().cpu()
            own += zip(group, odds_B.tolist(), strict=True)
        by_index = dict(micros.gather(own))
        return torch.tensor([by_index[i] for i in range(len(rows))], dtype=torch.float64)

    def _row(self, question: str) -> Ids:
        try:
            return self.renderer.render_prompt(self._prompt(question))
        except DataError as error:
            raise DataError(
                f"a question cannot be put to the judge, {question[:80]!r}: {error.what}",
                where=self.name,
                expected=f"a request with its answers that fits into {self.renderer.max_length} tokens",
                fix="leave out the long answer, or judge by a model with a longer context",
            ) from error
