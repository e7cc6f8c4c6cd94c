"""Whatever can answer a text, as one function: a callable, ``generate(str)``, a pipeline, a model with its tokenizer.

Models are taken by what they can do; nothing of transformers or torch is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trueup.errors import ConfigError, DataError

LONGEST = 128
"""Tokens of an answer."""
WORDS = (("YES", "NO"), ("Yes", "No"), ("yes", "no"))
_EXPECTED = (
    "a function from text to text, an object with generate(text), a text-generation pipeline, or (model, tokenizer)"
)


class HuggingFaceSpeaker:
    """A causal language model with its tokenizer: answers greedily, and gives a verdict by its log-probs.

    Args:
        model: Has ``generate`` and, called with ids, gives ``logits``.
        tokenizer: Its tokenizer; with a chat template the text is a user's turn.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def __call__(self, text: str) -> str:
        """The greedy answer."""
        inputs = self._inputs(text)
        longest = inputs["input_ids"].shape[1]
        # Without a padding token generate() takes the end token and says so in a warning.
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids = self.model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False, pad_token_id=pad)
        return str(self.tokenizer.decode(ids[0][longest:], skip_special_tokens=True))

    def says_yes(self, text: str) -> float:
        """P(yes) against no as the first word of the answer, from the logits.

        Raises:
            ConfigError: Neither word is one token in any spelling.
        """
        for yes, no in WORDS:
            ids = [self.tokenizer(word, add_special_tokens=False)["input_ids"] for word in (yes, no)]
            if all(len(one) == 1 for one in ids):
                logits_V = self.model(**self._inputs(text)).logits[0, -1].detach().float()
                return float((logits_V[ids[0][0]] - logits_V[ids[1][0]]).sigmoid())
        raise ConfigError(
            "its tokenizer has no single tokens for yes and no",
            where="ConstitutionalCritic",
            expected="a model that can give a verdict in one token, or a function that answers in words",
        )

    def _inputs(self, text: str) -> dict[str, Any]:
        if getattr(self.tokenizer, "chat_template", None):
            turns = [{"role": "user", "content": text}]
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            inputs = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)
        else:
            inputs = self.tokenizer(f"{text}\n", return_tensors="pt")
        device = getattr(self.model, "device", "cpu")
        return {name: inputs[name].to(device) for name in ("input_ids", "attention_mask")}


def as_speaker(model: Any) -> Callable[[str], str]:
    """A function from text to text.

    Raises:
        ConfigError: A model without its tokenizer, or something that cannot answer.
    """
    if isinstance(model, (tuple, list)) and len(model) == 2 and hasattr(model[0], "generate") and callable(model[1]):
        return HuggingFaceSpeaker(*model)
    pipeline_tokenizer, inner = getattr(model, "tokenizer", None), getattr(model, "model", None)
    if pipeline_tokenizer is not None and hasattr(inner, "generate") and callable(model):
        return HuggingFaceSpeaker(inner, pipeline_tokenizer)
    if hasattr(model, "generate"):
        if hasattr(model, "get_input_embeddings"):
            raise ConfigError(
                f"{type(model).__name__} reads token ids and came without its tokenizer",
                where="ConstitutionalCritic",
                expected=_EXPECTED,
                fix="give both: ConstitutionalCritic((model, tokenizer), principles)",
            )
        return _checked(model.generate)
    if callable(model):
        return _checked(model)
    raise ConfigError(f"model is {type(model).__name__}", where="ConstitutionalCritic", expected=_EXPECTED)


def _checked(function: Callable[[str], Any]) -> Callable[[str], str]:
    def speak(text: str) -> str:
        answer = function(text)
        if not isinstance(answer, str):
            raise DataError(
                f"the model gave {type(answer).__name__}: {answer!r:.80}",
                where="ConstitutionalCritic",
                expected="a text",
            )
        return answer

    return speak
