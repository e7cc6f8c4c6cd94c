"""``tiny``: a random-init Llama and a byte-level BPE tokenizer learned from the data at hand.

The same classes as the large models, so the laptop path exercises the code that real users run.
"""

from __future__ import annotations

from typing import Any

import torch

from trueup.config import Tiny
from trueup.errors import ConfigError

USER, ASSISTANT, SYSTEM, END, PAD = "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|pad|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def learn_tokenizer(texts: list[str], vocabulary: int, context: int) -> Any:
    """A byte-level BPE tokenizer with chat markers; ``<|end|>`` is EOS and never the padding token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_tiny(shape: Tiny, texts: list[str], seed: int) -> tuple[Any, Any]:
    """A new model and tokenizer; the same seed and texts give the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if shape.hidden % shape.heads or (shape.hidden // shape.heads) % 2:
        raise ConfigError(
            f"hidden {shape.hidden} with {shape.heads} heads",
            where="model.tiny",
            expected="an even number of dimensions per head",
            fix="for example hidden 128, heads 4",
        )
    tokenizer = learn_tokenizer(texts, shape.vocabulary, shape.context)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=8 * shape.hidden // 3 // 16 * 16,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.6 * shape.hidden**-0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model, tokenizer
