"""GGUF files compute what the model computes: log-probs, ids, template and end tokens against llama.cpp itself."""

import json
import math
import unicodedata
import urllib.request
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trueup.models.export_folder import find_source
from trueup.models.export_gguf import DTYPES, export_gguf
from trueup.models.export_vocabulary import SPLITS

gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")

STORIES = Path(__file__).parents[3] / "shared/data/checkpoints/stories260K/hf"
TEXTS = [
    "What does the cat like? It's warm milk, isn't it: 12, 345 or 6789!",
    "  two spaces,\ttabs\n\nlines \r\n and trailing   ",
    "naïve Ærøskøbing Straße 東京 こんにちは Привет मनस्ते عربى",
    "😀👩‍👩‍👧 e\u0301 \u00a0 \u200b I'LL you'Re don'T",
    'x=1;y[0]==None #$%&*()_+{}|:"<>?~`',
    "",
    " ",
    "a",
    "<|end|> in text <|user|>",
]
CORPUS = [*TEXTS, "The capital of France is Paris. Happy to help you with that."] * 3
CHAT = [{"role": "user", "content": "What does the cat like?"}]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIAL = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|begin|>"]


def byte_level(name):
    """A byte-level BPE tokenizer that cuts text as a known family does."""
    raw = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name in ("gpt-2", "smollm"))
    before = []
    if name == "smollm":
        before = [pre_tokenizers.Digits(individual_digits=True)]
    elif name in SPLITS.values():
        pattern = next(pattern for pattern, known in SPLITS.items() if known == name)
        before = [pre_tokenizers.Split(Regex(pattern), "isolated")]
    raw.pre_tokenizer = pre_tokenizers.Sequence([*before, level]) if before else level
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    if name == "llama-bpe":
        raw.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", 4)]
        )
    return raw


def sentence_piece_like():
    """BPE with bytes for what is not in the vocabulary, and spaces as a sign of their own."""
    tokens = ["<unk>", *SPECIAL[:4], "<s>", *(f"<0x{b:02X}>" for b in range(256))]
    raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    prepared = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.normalizer = prepared
    raw.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=tokens, show_progress=False, max_token_length=12)
    )
    spec = json.loads(raw.to_str())
    spec["added_tokens"] = [entry for entry in spec["added_tokens"] if not entry["content"].startswith("<0x")]
    raw = Tokenizer.from_str(json.dumps(spec))
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", raw.token_to_id("<s>"))]
    )
    return raw


def tokenizer_of(name):
    raw = sentence_piece_like() if name == "llama" else byte_level(name)
    first = {"llama": "<s>", "llama-bpe": "<|begin|>"}.get(name)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        unk_token="<unk>" if name == "llama" else None,
        bos_token=first,
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.2}
CASES = {
    "llama": (LlamaForCausalLM, LlamaConfig, SMALL | {"tie_word_embeddings": False}, "gpt-2"),
    "llama-tied": (LlamaForCausalLM, LlamaConfig, SMALL | {"tie_word_embeddings": True, "head_dim": 32}, "smollm"),
    "llama-biased": (LlamaForCausalLM, LlamaConfig, SMALL | {"attention_bias": True, "mlp_bias": True}, "llama"),
    "llama3": (LlamaForCausalLM, LlamaConfig, SMALL | {"rope_parameters": LLAMA3}, "llama-bpe"),
    "llama-linear": (
        LlamaForCausalLM,
        LlamaConfig,
        SMALL | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}},
        "gpt-2",
    ),
    "mistral": (MistralForCausalLM, MistralConfig, SMALL | {"sliding_window": None}, "llama"),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, SMALL, "qwen2"),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, SMALL | {"head_dim": 32}, "qwen2"),
    "gpt2": (GPT2LMHeadModel, GPT2Config, GPT2, "gpt-2"),
}


def saved(name, folder):
    """A random model of one family with a tokenizer that fits it, saved as transformers saves it."""
    kind, config, shape, cut = CASES[name]
    tokenizer = tokenizer_of(cut)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = kind(config(vocab_size=len(tokenizer) + 3, pad_token_id=tokenizer.pad_token_id, **ids, **shape)).eval()
        for weight in model.parameters():  # norms and biases start at 1 and 0, where a mistake would not show
            if weight.ndim == 1:
                weight.data += 0.3 * torch.randn_like(weight)
    model.generation_config.eos_token_id = [1, 3]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def exported(folder, dtype="f32"):
    return export_gguf(find_source(str(folder)), folder / "out" / dtype, dtype)


class LlamaCpp:
    """llama.cpp's server with one model."""

    def __init__(self, file, context=128):
        xllamacpp = pytest.importorskip("xllamacpp", reason="xllamacpp (llama.cpp) is not installed")
        settings = xllamacpp.CommonParams()
        settings.model.path = str(file)
        settings.n_ctx, settings.n_parallel, settings.n_gpu_layers, settings.port = context, 1, 0, 0
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.warmup, settings.use_jinja, settings.verbosity = False, True, 0
        self.server = xllamacpp.Server(settings)

    def ask(self, where, **body):
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(
            self.server.listening_address + where, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def logps(self, ids, vocabulary, letter):
        """Log-probs of the next token [V]; NaN where llama.cpp names none.

        They are given with the token that is drawn, and only if it is whole text: so ``letter`` is, by a bias that the
        log-probs do not have.
        """
        answer = self.ask(
            "/completion", prompt=ids, n_predict=1, n_probs=vocabulary, temperature=0, cache_prompt=False,
            post_sampling_probs=False, logit_bias=[[letter, 1000.0]],
        )  # fmt: skip
        logps_V = torch.full((vocabulary,), math.nan)
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            logps_V[entry["id"]] = entry["logprob"]
        return logps_V


def theirs(folder, ids):
    with torch.no_grad():
        logits_V = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(torch.tensor([ids])).logits[0, -1]
    return torch.log_softmax(logits_V.double(), -1).float()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_llama_cpp_computes_and_reads_what_transformers_does(name, tmp_path):
    folder = saved(name, tmp_path / "model")
    written_out = exported(folder)
    llama = LlamaCpp(next(written_out.path.glob("*.gguf")))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.randint(5, len(tokenizer), (90,), generator=torch.Generator().manual_seed(1)).tolist()
    letter = tokenizer.convert_tokens_to_ids("a")
    for length in (1, 7, 90):
        expected_V = theirs(folder, ids[:length])
        torch.testing.assert_close(llama.logps(ids[:length], len(expected_V), letter), expected_V, atol=2e-3, rtol=1e-4)
    composes = any("NFC" in remark for remark in written_out.remarks)
    assert composes == (name == "qwen2"), "transformers gives Qwen 2 a step before the vocabulary"
    for text in TEXTS:
        text = unicodedata.normalize("NFC", text) if composes else text
        # The server's own reading of nothing is an error, not ids.
        if text:
            read = llama.ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
            assert read == tokenizer(text)["input_ids"], text
    props = llama.ask("/props")
    assert props["chat_template"] == tokenizer.chat_template
    assert props["eos_token"] == tokenizer.eos_token
    written = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert llama.ask("/apply-template", messages=CHAT)["prompt"] == written


@pytest.mark.slow
def test_greedy_answers_are_the_same_and_stop_at_the_same_end(saved_policy, policy, tmp_path):
    text = "The capital of"
    ids = policy.tokenizer(text)["input_ids"]
    optimiser = torch.optim.AdamW(policy.trainable().values(), 0.01)
    answer = policy.tokenizer(" France is Paris. Happy to help you with that.")["input_ids"]
    row_BT = torch.tensor([[*ids, *answer, policy.tokenizer.eos_token_id]])
    policy.trunk.require_gradients()
    for _ in range(60):
        logits_TV = policy.full_logits(row_BT)[0]
        torch.nn.functional.cross_entropy(logits_TV[:-1], row_BT[0, 1:]).backward()
        optimiser.step()
        optimiser.zero_grad()
    policy.export(tmp_path / "m")
    for dtype in DTYPES:
        llama = LlamaCpp(next(exported(tmp_path / "m", dtype).path.glob("*.gguf")))
        said = llama.ask("/completion", prompt=text, n_predict=60, temperature=0)
        assert said["content"] == policy.tokenizer.decode(answer), dtype
        assert said["stop_type"] == "eos"


@pytest.mark.slow
@pytest.mark.skipif(not STORIES.is_dir(), reason="the stories model is not here")
def test_a_published_llama_with_a_sentencepiece_like_tokenizer(tmp_path):
    import shutil

    shutil.copytree(STORIES, tmp_path / "stories")
    llama = LlamaCpp(next(exported(tmp_path / "stories").path.glob("*.gguf")))
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    model = AutoModelForCausalLM.from_pretrained(STORIES)
    ids = tokenizer("Once upon a time", return_tensors="pt")
    greedy = model.generate(**ids, max_new_tokens=80, do_sample=False)[0, ids["input_ids"].shape[1] :]
    said = llama.ask("/completion", prompt="Once upon a time", n_predict=80, temperature=0)
    assert said["content"].strip() == tokenizer.decode(greedy, skip_special_tokens=True).strip()
    for text in TEXTS[:5]:
        read = llama.ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
        assert read == tokenizer(text)["input_ids"], text


def test_the_licence_goes_into_the_file_and_comes_out_of_it(tmp_path):
    import shutil

    from trueup.models.lineage import lineage

    folder = saved("gpt2", tmp_path / "model")
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: ours\nlicense_link: LICENSE\n---\n")
    (folder / "LICENSE").write_text("Be kind.")
    path = exported(folder, "f16").path
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(next(path.glob("*.gguf")), alone / "m.gguf")
    expected = {"license": "other", "license_name": "ours", "license_link": "LICENSE"}
    for name in (alone, alone / "m.gguf"):
        base = lineage(str(name))
        assert (dict(base.licence), base.licence_text) == (expected, None)
    assert lineage(str(path)).licence_text == b"Be kind."
    (alone / "m.gguf").write_bytes(b"GGUF and nothing")
    assert dict(lineage(str(alone)).licence) == {}
