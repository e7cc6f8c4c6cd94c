"""Who rewrites answers: a language model that is asked for a critique and a revision, or resampling with a judge.

A model of some hundred million parameters can be asked. The sandbox's has 1.5 million and cannot write a critique:
there several answers are drawn and the first is taken that the judge finds in keeping with the principle, which is
rejection sampling against a judge and is called so in every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trueup.collectors.constitution import Principle
from trueup.collectors.constitution_revise import Answering, Draft, Judging, Revised, logps_of
from trueup.config.seeds import derive
from trueup.types import Completion, Message, Prompt, prompt_text

CRITICISE = "Request: {prompt}\n\nAnswer: {answer}\n\n{request}\nPrinciple: {principle}"
REWRITE = (
    "Request: {prompt}\n\nAnswer: {answer}\n\nCritique: {critique}\n\n{request}\n"
    "Reply with the new answer only, and nothing before it."
)
SCAFFOLD = ("request:", "answer:", "critique:", "revision:", "principle:", "new answer:", "revised answer:")
"""Labels of the questions; a revision that begins with one repeats the question instead of answering."""


@dataclass(frozen=True)
class ModelReviser:
    """A language model that criticises and then rewrites.

    Args:
        answering: The model.
        name: What it is called.
        chat: Whether it takes chat turns; plain text otherwise.
        fits: Whether a question leaves the model room for an answer.
    """

    answering: Answering
    name: str
    chat: bool = True
    fits: Callable[[Prompt], bool] = lambda prompt: True

    def revise(self, drafts: Sequence[Draft], seed: int) -> list[Revised]:
        """A critique and a revision of each draft; what cannot be used is named in ``problem``."""
        texts = [CRITICISE.format(**_fields(d), request=_with_examples(d.principle)) for d in drafts]
        critiques = self._ask(texts, derive(seed, "critique"))
        texts = [
            REWRITE.format(**_fields(d), request=d.principle.revision, critique=c.text.strip() if c else "")
            for d, c in zip(drafts, critiques, strict=True)
        ]
        revisions = self._ask(texts, derive(seed, "revision"))
        return [_read(c, r) for c, r in zip(critiques, revisions, strict=True)]

    def _ask(self, texts: Sequence[str], seed: int) -> list[Completion | None]:
        """An answer to each question; None to one that does not fit."""
        prompts = [self._turn(text) for text in texts]
        fitting = [number for number, prompt in enumerate(prompts) if self.fits(prompt)]
        drawn = dict(zip(fitting, self.answering([prompts[i] for i in fitting], seed), strict=True))
        return [drawn.get(number) for number in range(len(prompts))]

    def _turn(self, text: str) -> Prompt:
        return (Message("user", text),) if self.chat else f"{text}\n\n"


def _fields(draft: Draft) -> dict[str, str]:
    one_turn = not isinstance(draft.prompt, str) and len(draft.prompt) == 1
    prompt = draft.prompt[0].content if one_turn and isinstance(draft.prompt[0], Message) else prompt_text(draft.prompt)
    return {"prompt": prompt, "answer": draft.answer, "principle": draft.principle.text}


def _with_examples(principle: Principle) -> str:
    shown = [
        f"For example, to the request {one.prompt!r} the answer {one.breaks!r} breaks it and {one.keeps!r} keeps it."
        for one in principle.examples[:2]
    ]
    return "\n".join([principle.critique, *shown])


def _read(critique: Completion | None, revision: Completion | None) -> Revised:
    if critique is None or revision is None:
        return Revised(problem=f"the {'critique' if critique is None else 'revision'} does not fit the model's context")
    said, text = critique.text.strip(), revision.text.strip()
    problem = ""
    if not said:
        problem = "the critique is empty"
    elif not text:
        problem = "the revision is empty"
    elif not revision.ended:
        problem = "the revision was cut at the length limit"
    elif text.casefold().startswith(SCAFFOLD):
        problem = "the revision begins with a label of the question"
    logps = {"critique": logps_of(critique), "revision": logps_of(revision)}
    return Revised(said, "" if problem else text, problem, logps)


@dataclass(frozen=True)
class Resampler:
    """Draws answers and takes the first that the judge finds in keeping with the principle.

    Args:
        answering: The model.
        judge: Who finds.
        tries: How many answers are drawn at most.
        model: What the model is called.
    """

    answering: Answering
    judge: Judging
    tries: int = 4
    model: str = "the policy"

    @property
    def name(self) -> str:
        """What rows call it."""
        return f"first of {self.tries} samples of {self.model} that {self.judge.name} accepts"

    def revise(self, drafts: Sequence[Draft], seed: int) -> list[Revised]:
        """The first accepted sample for each draft; a draft for which all are rejected says so in ``problem``."""
        made = [Revised(problem=f"none of {self.tries} samples keeps the principle") for _ in drafts]
        waiting = list(range(len(drafts)))
        for number in range(self.tries):
            if not waiting:
                break
            drawn = self.answering([drafts[i].prompt for i in waiting], derive(seed, "sample", number))
            verdicts = self.judge.breaks(
                [(drafts[i].principle.text, drafts[i].prompt, one.text) for i, one in zip(waiting, drawn, strict=True)]
            )
            for i, one, p_breaks in zip(waiting, drawn, verdicts, strict=True):
                if one.ended and one.text.strip() and p_breaks is not None and p_breaks <= 0.5:
                    made[i] = Revised(text=one.text, logps={"revision": logps_of(one)})
            waiting = [i for i in waiting if made[i].problem]
        return made
