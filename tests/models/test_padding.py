"""An exported reward model is read by Hugging Face where it is read here, alone and in padded batches."""

import logging

import pytest
import torch
import transformers as t
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.conftest import TEXTS, tiny_model
from trueup.config import Lora, Model
from trueup.engine.score import rewards
from trueup.errors import ModelError
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy
from trueup.models.rendering import Rendering

END = 1
ROWS = [(10, 11, 12, END), (20, 21, 22, 23, 24, 25, END), (30,), (50, 51, 52, 53, 2), (60, 61, 0)]


def agree(model, path, *, ends=(END,), rows=ROWS, left=True):
    """Scores here, and by Hugging Face from the exported directory: alone, and padded on either side."""
    model.export(path, Rendering(end_ids=ends, max_length=50, chats=False, texts=True))
    ours = rewards(model, [(row[:1], row[1:]) for row in rows], scaled=False)
    theirs = AutoModelForSequenceClassification.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.pad_token_id == theirs.config.pad_token_id < theirs.get_input_embeddings().weight.shape[0]
    assert tokenizer.padding_side == "right"
    with torch.no_grad():
        alone = torch.cat([theirs(torch.tensor([row])).logits[0] for row in rows])
        torch.testing.assert_close(alone, ours, rtol=1e-4, atol=1e-5)
        for side in ("right", "left") if left else ("right",):
            tokenizer.padding_side = side
            batch = tokenizer.pad({"input_ids": [list(row) for row in rows]}, return_tensors="pt")
            found = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
            torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-5)
    again = open_reward_model(Model(name=str(path)), new_head=False)
    torch.testing.assert_close(
        rewards(again, [(row[:1], row[1:]) for row in rows], scaled=False), ours, rtol=1e-4, atol=1e-5
    )
    return tokenizer


def opened(folder, **more):
    return open_reward_model(Model(name=str(folder), **more), new_head=True, seed=2)


def test_padding_that_ends_no_row_stays(saved_policy, tmp_path):
    tokenizer = agree(opened(saved_policy), tmp_path / "judge", rows=ROWS[:4])
    assert tokenizer.pad_token == "<|pad|>"


@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["whole", "lora"])
@pytest.mark.parametrize("pad", ["eos", "none", "unknown"])
def test_padding_that_can_end_a_row_is_replaced(saved_policy, tmp_path, pad, lora):
    model = opened(saved_policy, lora=lora)
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    if pad == "unknown":
        model.tokenizer.add_special_tokens({"unk_token": "<|pad|>"})
    model.tokenizer.pad_token = {"eos": "<|end|>", "none": None, "unknown": "<|pad|>"}[pad]
    special = set(model.tokenizer.added_tokens_decoder)
    rows = ROWS if pad == "unknown" else ROWS[:4]  # where <|pad|> is there to pad, no row ends with it
    tokenizer = agree(model, tmp_path / "judge", rows=rows)
    assert tokenizer.pad_token not in ("<|end|>", None)
    assert model.tokenizer.pad_token_id in {None, 0, END}  # the one that trains is left as it is
    assert special == set(model.tokenizer.added_tokens_decoder)


def test_a_reserved_token_is_taken_before_a_new_one(saved_policy, tmp_path):
    model = opened(saved_policy)
    spare = {"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|system|>", "<|reserved_0|>"]}
    model.tokenizer.add_special_tokens(spare)
    model.model.resize_token_embeddings(len(model.tokenizer) + 4, mean_resizing=False)
    model.tokenizer.pad_token = "<|end|>"
    assert agree(model, tmp_path / "judge", rows=ROWS[:4]).pad_token in ("<|reserved_0|>", "<|pad|>")


def test_padding_beyond_the_embeddings_is_replaced(saved_policy, tmp_path):
    model = opened(saved_policy)
    rows = model.model.get_input_embeddings().weight.shape[0]
    model.model.config.pad_token_id = rows + 7
    tokenizer = agree(model, tmp_path / "judge", ends=(END, 0))
    assert tokenizer.pad_token_id == rows  # the embeddings had no row to spare: they got one
    assert model.model.config.vocab_size == rows


@pytest.mark.parametrize("family", ["GPT2", "Bloom", "OPT", "GPTNeoX", "GPTJ", "Falcon", "Gemma2", "Mixtral"])
def test_families_that_are_read_in_their_own_code(family, tmp_path):
    tokenizer = open_policy(tiny_model(), texts=TEXTS).tokenizer
    tokenizer.pad_token = "<|end|>"
    ends = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": END}
    size = len(tokenizer) + (3 if family == "GPT2" else 0)
    old = {"vocab_size": size, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64, **ends}
    new = {
        "vocab_size": size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 64, **ends,
    }  # fmt: skip
    config = {
        "GPT2": lambda: t.GPT2Config(**old),
        "GPTJ": lambda: t.GPTJConfig(**old, rotary_dim=4),
        "Bloom": lambda: t.BloomConfig(vocab_size=size, hidden_size=32, n_layer=1, n_head=2, **ends),
        "OPT": lambda: t.OPTConfig(
            vocab_size=size, hidden_size=32, ffn_dim=48, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=64, word_embed_proj_dim=32, **ends,
        ),
        "GPTNeoX": lambda: t.GPTNeoXConfig(**new),
        "Falcon": lambda: t.FalconConfig(
            vocab_size=size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, **ends
        ),
        "Gemma2": lambda: t.Gemma2Config(**new, num_key_value_heads=1, head_dim=16),
        "Mixtral": lambda: t.MixtralConfig(**new, num_key_value_heads=1, num_local_experts=2, num_experts_per_tok=1),
    }[family]()  # fmt: skip
    torch.manual_seed(0)
    t.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    # Positions that are learned are counted from the left by Hugging Face, padding included.
    agree(opened(tmp_path / "model"), tmp_path / "judge", rows=ROWS[:4], left=family != "GPT2")


def test_with_adapters_only_they_and_the_head_learn(saved_policy):
    model = opened(saved_policy, lora=Lora(rank=2))
    names = set(model.trainable())
    assert "score.weight" in names
    assert all("lora_" in name for name in names - {"score.weight"})
    assert len(names) == 1 + 2 * 7 * 2


def test_a_new_head_over_a_reward_models_own_is_said(saved_policy, tmp_path, caplog):
    opened(saved_policy).export(tmp_path / "judge")
    with caplog.at_level(logging.WARNING):
        opened(tmp_path / "judge")
    assert "its score head is replaced by a new one" in caplog.text


def test_families_without_a_linear_head_are_refused(tmp_path):
    config = t.CTRLConfig(vocab_size=340, n_embd=32, n_layer=1, n_head=2, dff=32, n_positions=64)
    t.CTRLLMHeadModel(config).save_pretrained(tmp_path)
    open_policy(tiny_model(), texts=TEXTS).tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no linear `score` head"):
        opened(tmp_path)
