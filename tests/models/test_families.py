"""Any causal model that transformers runs gives here what it gives there, row by row, whatever its batch mates are."""

import inspect
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers as t

from tests.conftest import TEXTS, tiny_model
from trueup.config import Model, Sampling
from trueup.data.batch import Rows
from trueup.engine.generate import generate
from trueup.engine.score import score
from trueup.errors import ModelError
from trueup.kernels import packing
from trueup.kernels.door import KERNELS, reversible
from trueup.models import trunk
from trueup.models.policy import open_policy
from trueup.models.regimes import Regimes, context_of

V = 340
SHAPE = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
OLD = {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96, "initializer_range": 0.2}
ENDS = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [2.0, 3.0, 4.0, 5.0],
    "factor": 8.0,
    "original_max_position_embeddings": 24,
}
FAMILIES = {
    "GPT-J": lambda: t.GPTJConfig(**OLD, **ENDS, rotary_dim=4),
    "windows": lambda: t.MistralConfig(**SHAPE, sliding_window=40),
    "windows by layer": lambda: t.Cohere2Config(**SHAPE, sliding_window=20, logit_scale=0.25),
    "local attention": lambda: t.GPTNeoConfig(
        vocab_size=V, hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=96, window_size=20,
        attention_types=[[["global", "local"], 1]], initializer_range=0.2, **ENDS,
    ),
    "chunks and scales by position": lambda: t.Llama4TextConfig(
        **SHAPE | {"num_hidden_layers": 4}, head_dim=8, attention_chunk_size=8, floor_scale=8, attn_scale=0.5,
        num_local_experts=2, intermediate_size_mlp=48, no_rope_layers=[1, 1, 1, 0], interleave_moe_layer_step=2,
    ),
    "long and short factors": lambda: t.Phi3Config(
        **SHAPE, original_max_position_embeddings=24, rope_scaling=LONG, sliding_window=None
    ),
    "positions that grow with the row": lambda: t.LlamaConfig(
        **SHAPE | {"max_position_embeddings": 24}, rope_scaling={"rope_type": "dynamic", "factor": 4.0}
    ),
    "ALiBi": lambda: t.BloomConfig(
        vocab_size=V, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2, **ENDS
    ),
    "positions with an offset": lambda: t.OPTConfig(
        vocab_size=V, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, init_std=0.2,
        max_position_embeddings=96, word_embed_proj_dim=32, **ENDS,
    ),
    "no context at all": lambda: t.MambaConfig(
        vocab_size=V, hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.2, **ENDS
    ),
    "experts": lambda: t.MixtralConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2),
    "sinks": lambda: t.GptOssConfig(
        **SHAPE, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "a mask of its own": lambda: t.DogeConfig(**SHAPE),
    "a mix of kinds": lambda: t.Lfm2Config(**SHAPE, layer_types=["conv", "full_attention"]),
}  # fmt: skip
SEQUENCES = [
    (tuple(range(40, 100)), (7, 8, 9, 1)),
    (tuple(range(5, 19)), (30, 31, 32)),
    (tuple(range(5, 19)), (33, 1)),
    ((9,), (200, 201, 202)),
    (tuple(range(60, 85)), (50, 51)),
]


def save(config, path):
    torch.manual_seed(1)
    model = t.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(path)
    open_policy(tiny_model(), texts=TEXTS).tokenizer.save_pretrained(path)
    return path


def plain_logits(model, ids):
    """Of a fresh row: what a row of another length left behind is forgotten first."""
    for module in model.modules():
        if getattr(module, "rope_type", None) == "dynamic":
            module.inv_freq, module.max_seq_len_cached = module.original_inv_freq.clone(), module.original_max_seq_len
    quiet = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    return model(input_ids=torch.tensor([ids]), **quiet).logits[0]


def plain_logps(model, prompt, completion):
    logps = torch.log_softmax(plain_logits(model, [*prompt, *completion]), -1)
    return torch.stack([logps[len(prompt) - 1 + i, token] for i, token in enumerate(completion)])


@pytest.mark.parametrize("kind", FAMILIES)
def test_log_probs_gradients_and_greedy_answers_are_those_of_transformers(kind, tmp_path):
    path = str(save(FAMILIES[kind](), tmp_path))
    policy, plain = open_policy(Model(name=path)), t.AutoModelForCausalLM.from_pretrained(path).eval()
    wanted = [plain_logps(plain, *sequence) for sequence in SEQUENCES]
    together = score(policy, Rows.of(SEQUENCES)).logps_BC
    for row, expected in enumerate(wanted):
        alone = score(policy, Rows.of(SEQUENCES[row : row + 1])).logps_BC[0, : len(expected)]
        torch.testing.assert_close(together[row, : len(expected)], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-4)
    together.sum().backward()
    sum(logps.sum() for logps in wanted).backward()
    ours = dict(policy.model.named_parameters())
    whole = sum(float(p.grad.square().sum()) for p in plain.parameters() if p.grad is not None) ** 0.5
    for name, parameter in plain.named_parameters():
        found, other = (p.grad if p.grad is not None else torch.zeros_like(p) for p in (ours[name], parameter))
        assert float((found - other).norm()) < 1e-4 * whole, name
    prompts = [(5, 6, 7), tuple(range(20, 38)), (9,)]  # those of 18 tokens cross 24 as they grow
    drawn = generate(policy, prompts, Sampling(max_new_tokens=9, temperature=0), stop_ids=[], seed=0)
    for prompt, completion in zip(prompts, drawn, strict=True):
        for end in range(len(completion.ids)):
            with torch.no_grad():
                logits_V = plain_logits(plain, [*prompt, *completion.ids[:end]])[-1]
            assert float(logits_V.max() - logits_V[completion.ids[end]]) < 1e-4


def test_a_row_that_is_longer_than_what_was_checked_is_not_packed(tmp_path, monkeypatch):
    """Where a window is too long to be crossed by the check, rows beyond it run as transformers has them."""
    path = str(save(FAMILIES["windows"](), tmp_path))
    monkeypatch.setattr("trueup.models.regimes.LONGEST", 30)
    policy = open_policy(Model(name=path))
    assert policy.trunk.regimes.limit == 40
    assert policy.trunk.packs_up_to(40)
    assert not policy.trunk.packs_up_to(41)
    seen = []
    monkeypatch.setattr(trunk.Trunk, "stream", lambda self, stream: seen.append(stream))
    score(policy, Rows.of(SEQUENCES[:1]))
    assert not seen


def test_rows_that_change_with_their_mates_run_apart():
    regimes = Regimes.of(FAMILIES["long and short factors"](), 1000)
    assert regimes.apart([24, 25, 3, 60]) == [[0, 2], [1, 3]]
    growing = Regimes.of(FAMILIES["positions that grow with the row"](), 1000)
    assert growing.apart([24, 25, 3, 60, 25]) == [[0, 2], [1, 4], [3]]
    assert context_of(FAMILIES["positions that grow with the row"]()) == 96
    picking = Regimes.of(t.LlamaConfig(**SHAPE, index_topk=16), 1000)
    assert picking.apart([16, 17, 17, 2]) == [[0, 3], [1], [2]]


def test_a_later_row_forgets_the_longer_one_before(tmp_path):
    path = str(save(FAMILIES["positions that grow with the row"](), tmp_path))
    policy = open_policy(Model(name=path))
    with torch.no_grad():
        first = score(policy, Rows.of(SEQUENCES[4:])).logps_BC
        score(policy, Rows.of(SEQUENCES[:1]))
        torch.testing.assert_close(score(policy, Rows.of(SEQUENCES[4:])).logps_BC, first, rtol=0, atol=0)


def test_attention_that_gets_a_mask_or_a_bias_does_not_run_packed():
    stream = packing.pack([(1, 2)], [(3,)])
    tensors = [torch.randn(1, 2, len(stream), 8) for _ in range(3)]
    model = SimpleNamespace(config=t.LlamaConfig(**SHAPE))
    with packing.packed(model, stream):
        for more in ({"attention_mask": torch.zeros(1)}, {"attention_mask": None, "s_aux": torch.zeros(2)}):
            with pytest.raises(ValueError, match="of its own"):
                packing.our_attention(None, *tensors, **more)


def test_an_encoder_is_no_policy(tmp_path):
    config = t.BertConfig(
        vocab_size=V, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=96, initializer_range=0.2,
    )  # fmt: skip
    with pytest.raises(ModelError, match="it is no causal language model"):
        open_policy(Model(name=str(save(config, tmp_path))))


def test_an_encoder_and_decoder_is_no_policy(tmp_path):
    config = t.T5Config(vocab_size=V, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    t.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="encoder-decoder"):
        open_policy(Model(name=str(tmp_path)))


def test_weights_that_give_no_numbers_are_refused(saved_policy):
    from safetensors.torch import load_file, save_file

    weights = load_file(saved_policy / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, saved_policy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        open_policy(Model(name=str(saved_policy)))


def test_layers_that_compute_something_else_are_taken_out_again(saved_policy, monkeypatch, caplog):
    wanted = open_policy(Model(name=str(saved_policy))).full_logits(torch.tensor([[5, 6, 7]]))

    def spoil(model):
        model.model.norm.weight.data.mul_(1.0)
        model.model.norm.__class__ = type("Wrong", (type(model.model.norm),), {"forward": lambda self, x: 2 * x})

    monkeypatch.setitem(KERNELS, "norms", replace(KERNELS["norms"], replace=spoil))
    policy = open_policy(Model(name=str(saved_policy)))
    assert "kernel norms: differs by" in caplog.text
    assert "the model's own code is used" in caplog.text
    assert policy.trunk.kernels.problems.keys() == {"norms"}
    assert policy.trunk.kernels.names == KERNELS.keys() - {"norms"}
    torch.testing.assert_close(policy.full_logits(torch.tensor([[5, 6, 7]])), wanted, rtol=1e-5, atol=1e-5)


def test_what_is_reversible_is_put_back():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.GELU())
    first, second = model
    with reversible(model) as undo:
        model[1] = torch.nn.ReLU()
        first.__class__ = type("Other", (torch.nn.Linear,), {})
        undo()
    assert type(model[0]) is torch.nn.Linear
    assert model[1] is second


def test_a_model_without_a_backward_pass_can_be_asked_but_not_trained(saved_policy, monkeypatch):
    class Stuck(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError("no backward here")

    honest = trunk.Trunk.rows
    monkeypatch.setattr(trunk.Trunk, "rows", lambda self, ids: Stuck.apply(honest(self, ids)))
    with pytest.raises(ModelError, match="cannot be trained: its gradients do not run"):
        open_policy(Model(name=str(saved_policy)))
    assert open_policy(Model(name=str(saved_policy)), frozen=True).gathers
