"""How what a run saved is opened by others, as lines of Python for its model card."""

from __future__ import annotations

import json
from collections.abc import Sequence


def how_to_open(columns: Sequence[str], *, reward: bool, adapter: bool, chats: bool, pooled: bool = False) -> str:
    """Lines of Python.

    Args:
        columns: Outputs of a model of ratings, by name; empty for any other.
        reward: Whether it is a reward model, not a language model.
        adapter: Whether it is the adapter alone.
        chats: Whether it was trained on chats.
        pooled: Whether the head of a reward model reads a mean of states.
    """
    if pooled:
        return _POOLED
    if adapter:
        auto = "AutoPeftModelForSequenceClassification" if reward else "AutoPeftModelForCausalLM"
        more = f", num_labels={max(1, len(columns))}" if reward else ""
        opened = f'model = {auto}.from_pretrained("."{more})  # opens its base too: adapter_config.json names it'
        return f"from peft import {auto}\n\n{opened}"
    said = (_CHAT if chats else _TEXT)[reward]
    if columns:
        label = json.dumps(f"#label={columns[0]}", ensure_ascii=False)
        return (_REWARD + _RATINGS).format(said, f"name + {label}" if len(columns) > 1 else "name")
    return (_REWARD + _RAW).format(said) if reward else _LANGUAGE.format(said)


_LANGUAGE = """from transformers import AutoModelForCausalLM, AutoTokenizer

name = "."  # this folder, or its name on the hub
tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForCausalLM.from_pretrained(name)
{}
print(tokenizer.decode(model.generate(**ids, max_new_tokens=64)[0], skip_special_tokens=True))"""
_REWARD = """from transformers import AutoModelForSequenceClassification, AutoTokenizer

name = "."  # this folder, or its name on the hub
tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForSequenceClassification.from_pretrained(name)
{}
print(model(**ids).logits)  # """
_POOLED = """import trueup

# The head reads the mean of an answer's states. Hugging Face's class opens this folder too, reads the last token, and
# gives other numbers.
reward = trueup.open_reward(".")  # this folder, or its name on the hub
print(reward.score(["Hello!"], ["Hello, how can I help?"]))"""
_RAW = "the raw reward; trueup.open_reward(name).score(...) centres and scales it"
_RATINGS = """in standard deviations from the mean of each of model.config.id2label
# in the units of the data, mean + std * logit by trueup_reward.json: trueup.open_reward({}).score(...)"""
_CHAT = (
    """chat = [{"role": "user", "content": "Hello!"}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)""",
    """chat = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello, how can I help?"}]
ids = tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)""",
)
_TEXT = (
    'ids = tokenizer("Once upon a time", return_tensors="pt")',
    'ids = tokenizer("Question and answer" + tokenizer.eos_token, return_tensors="pt")',
)
"""How a language model and a reward model are fed."""
