"""``trueup plan --on``: counted memory and time of hardware that is not here."""

import json

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, LlamaConfig

from tests.test_commands import trueup
from trueup.commands.estimate import Asked, Estimate, activations, estimate, forward
from trueup.commands.hardware import ACCELERATORS, SHAPES, accelerator, shape_of
from trueup.config import Tiny
from trueup.data.write import write_jsonl
from trueup.errors import ModelError, UsageError

PUBLISHED = {
    "qwen3-0.6b": 0.596e9,
    "llama-3.2-1b": 1.236e9,
    "qwen3-4b": 4.02e9,
    "llama-2-7b": 6.738e9,
    "llama-3.1-8b": 8.030e9,
    "qwen3-32b": 32.76e9,
    "llama-3.1-70b": 70.55e9,
    "smollm2-135m": 134.5e6,
}


def recipe(folder, stages):
    file = folder / "recipe.yaml"
    file.write_text(json.dumps({"out": str(folder / "runs"), "stages": stages}))  # JSON is YAML
    return file


def stage(kind, name="sft", **settings):
    model = {"name": "llama-3.2-1b", "dtype": "bfloat16", **settings.pop("model", {})}
    return {"name": name, "kind": kind, "data": "not-there.jsonl", "model": model, **settings}


def asked(gpu="h100", rows=1000, tokens=600, **more):
    return Asked(accelerator(gpu), rows=rows, tokens=tokens, **more)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_shapes_have_the_published_number_of_weights(name):
    # Norms of queries and keys (Qwen) are the small rest.
    assert SHAPES[name].weights == pytest.approx(PUBLISHED[name], rel=2e-3)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(
            vocab_size=320, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=96, tie_word_embeddings=False,
        ),
        GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=16),
    ],
    ids=["llama", "gpt2"],
)  # fmt: skip
def test_the_count_is_that_of_the_model_itself(tmp_path, config):
    config.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    biases = sum(p.numel() for n, p in model.named_parameters() if n.endswith("bias"))
    positions = sum(p.numel() for n, p in model.named_parameters() if ".wpe." in n)
    norms = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 1 and not n.endswith("bias"))
    shape = shape_of(str(tmp_path))
    counted = shape.weights - (2 * shape.layers + 1) * shape.hidden  # without norms
    assert counted == sum(p.numel() for p in model.parameters()) - biases - positions - norms


def test_a_tiny_model_is_the_one_that_would_be_made():
    tiny = Tiny(hidden=64, layers=2, heads=2, vocabulary=512)
    assert shape_of("tiny", tiny).block_weights == 2 * (4 * 64 * 64 + 3 * 64 * 160 + 2 * 64)


def test_a_published_training_is_met(tmp_path):
    """26,000 tokens a second: 0.6B at 16k context, recomputed, one H100. Within a quarter of it."""
    settings = stage("sft", model={"name": "qwen3-0.6b", "gradient_checkpointing": True}, batch={"max_length": 16384})
    (one,) = estimate(recipe(tmp_path, [settings]), asked(tokens=16384))
    assert one.gpus == 1
    assert one.tokens_s == pytest.approx(26_000, rel=0.25)


def test_forward_is_two_operations_a_weight_and_attention():
    shape = SHAPES["llama-3.2-1b"]
    weights = shape.weights  # tied: the head's weights are the embeddings'
    assert forward(shape, 0) == pytest.approx(2 * weights, rel=1e-3)
    assert forward(shape, 1000) - forward(shape, 0) == 2 * 16 * 2048 * 1000


def test_recomputation_saves_memory_and_costs_time(tmp_path):
    plain, again = (
        estimate(recipe(tmp_path, [stage("sft", model={"gradient_checkpointing": on})]), asked())[0]
        for on in (False, True)
    )
    assert again.memory_gb["activations"] < plain.memory_gb["activations"] / 4
    assert again.seconds == pytest.approx(plain.seconds * 4 / 3, rel=1e-6)


def test_adapters_need_no_state_of_the_base(tmp_path):
    full, lora = (
        estimate(recipe(tmp_path, [stage("dpo", model=model)]), asked())[0] for model in ({}, {"lora": {"rank": 8}})
    )
    assert "reference" in full.memory_gb
    assert "reference" not in lora.memory_gb
    assert sum(lora.memory_gb.values()) < sum(full.memory_gb.values()) / 1.5
    assert lora.seconds < full.seconds


def test_shards_hold_less_and_ends_stay_whole(tmp_path):
    file = recipe(tmp_path, [stage("sft", model={"name": "llama-3.1-8b", "gradient_checkpointing": True})])
    (one,) = estimate(file, asked())
    assert (one.gpus, one.engine) == (4, "fsdp2")
    shape = SHAPES["llama-3.1-8b"]
    assert one.memory_gb["optimizer"] == pytest.approx(8 * (shape.block_weights / 4 + shape.end_weights) / 1e9)


def test_what_does_not_fit_says_what_would(tmp_path):
    (one,) = estimate(recipe(tmp_path, [stage("sft", model={"name": "llama-3.1-8b"})]), asked(gpus=8))
    assert one.gpus is None
    assert one.seconds is None
    assert any("model.gradient_checkpointing 8 (fsdp2) would" in note for note in one.notes)


def test_more_gpus_take_less_time(tmp_path):
    file = recipe(tmp_path, [stage("sft"), stage("rloo", "rloo", reward="@sft", sampling={"max_new_tokens": 64})])
    one, eight = (estimate(file, asked(gpus=gpus)) for gpus in (1, 8))
    assert one[0].seconds == pytest.approx(8 * eight[0].seconds)
    assert eight[1].seconds < one[1].seconds < 8 * eight[1].seconds  # reading the weights is not shared


def test_the_cache_of_sampling_is_shared_by_all_processes(tmp_path):
    many = stage(
        "rloo",
        "rloo",
        reward="words:count",
        batch={"size": 4096, "micro_tokens": 512},
        sampling={"max_new_tokens": 256},
    )
    one, four = (estimate(recipe(tmp_path, [many]), asked("h200", gpus=gpus))[0] for gpus in (1, 4))
    assert four.engine == "ddp"
    assert four.memory_gb["activations"] == pytest.approx(one.memory_gb["activations"] / 4)


def test_later_stages_have_the_model_of_the_stage_that_they_name(tmp_path):
    file = recipe(tmp_path, [stage("sft"), stage("reward", "reward", model={"name": "@sft"})])
    assert {one.model.name for one in estimate(file, asked())} == {"llama-3.2-1b"}


def test_what_is_not_counted_is_said_and_gone_on_from(tmp_path):
    rounds = {"name": "cai", "kind": "constitution", "model": {"name": "@sft"}, "judge": "rules"}
    stages = [stage("sft"), rounds, stage("dpo", "dpo", model={"name": "@cai"})]
    said: list[str] = []
    assert [one.stage for one in estimate(recipe(tmp_path, stages), asked(), said.append)] == ["sft", "dpo"]
    assert said == ["cai: constitution is not counted"]


def test_the_data_say_how_much_there_is(tmp_path):
    rows = [{"prompt": "p" * 40, "chosen": "c" * 80, "rejected": "r" * 40}] * 12
    pairs = str(write_jsonl(tmp_path / "pairs.jsonl", rows))
    (one,) = estimate(recipe(tmp_path, [stage("reward", "reward") | {"data": pairs}]), Asked(accelerator("h100")))
    assert "12 rows, 25 tokens each" in " ".join(one.notes)  # (40 + 60) / 4
    assert one.seconds * one.tokens_s == pytest.approx(12 * 2 * 25)


@pytest.mark.parametrize("kind", ["sft", "reward", "dpo", "kto", "ppo", "rloo", "grpo", "online-dpo", "best-of-n"])
def test_every_method_has_an_estimate(tmp_path, kind):
    extra = {} if kind in ("sft", "reward", "dpo", "kto") else {"reward": "anything"}
    (one,) = estimate(recipe(tmp_path, [stage(kind, kind, **extra)]), asked("a100"))
    assert isinstance(one, Estimate)
    assert one.seconds > 0
    assert all(size > 0 for size in one.memory_gb.values())


def test_float32_is_said(tmp_path):
    (one,) = estimate(recipe(tmp_path, [stage("sft", model={"dtype": "float32"})]), asked())
    assert any("model.dtype=bfloat16" in note for note in one.notes)


def test_activations_grow_with_tokens():
    shape = SHAPES["llama-3.2-1b"]
    assert activations(shape, 2000, recompute=False) == 2 * activations(shape, 1000, recompute=False)


def test_memory_names_its_parts(tmp_path):
    (one,) = estimate(recipe(tmp_path, [stage("ppo", "ppo", reward="anything")]), asked("h200"))
    assert {"weights", "gradients", "optimizer", "reference", "reward model", "activations"} <= set(one.memory_gb)


@pytest.mark.parametrize(
    ("reward", "models"),
    [
        ("runs/reward/final", 1),
        ("@reward", 1),
        ("my_rewards:words", 0),
        ([{"kind": "length"}], 0),
        ([{"source": "my_rewards:words"}, {"source": "runs/reward/final"}, {"kind": "repetition"}], 1),
        ([{"kind": "ensemble", "members": ["runs/a", "runs/b", "my_rewards:words"]}], 2),
    ],
)
def test_only_rewards_that_are_models_take_memory(tmp_path, reward, models):
    stages = [stage("reward", "reward"), stage("ppo", "ppo", reward=reward)]
    _, one = estimate(recipe(tmp_path, stages), asked("h200"))
    parts = [size for name, size in one.memory_gb.items() if name.startswith("reward model")]
    assert parts == [pytest.approx(6e-9 * SHAPES["llama-3.2-1b"].weights)] * models


def members(*names):
    return [{"kind": "ensemble", "members": list(names)}]


def held(one):
    return len([name for name in one.memory_gb if name.startswith("reward model")])


def test_outputs_of_one_model_are_one_model_and_one_pass(tmp_path):
    rewards = ["@reward", members("@reward#label=head-0", "@reward#label=head-1", "@reward#label=head-2")]
    rewards += [members("@reward", "runs/other")]
    single, heads, two = (
        estimate(recipe(tmp_path, [stage("reward", "reward"), stage("ppo", "ppo", reward=reward)]), asked("h200"))[1]
        for reward in rewards
    )
    assert (held(single), held(heads), held(two)) == (1, 1, 2)
    assert heads.seconds == single.seconds < two.seconds


def test_adapters_of_one_base_hold_it_once_and_pass_each(tmp_path):
    trained = [stage("reward", f"rm-{n}", model={"lora": {"rank": 8}}) for n in (1, 2)]
    other = stage("reward", "rm-3", model={"name": "qwen3-0.6b", "lora": {"rank": 8}})
    paths = [str(tmp_path / "runs" / f"rm-{n}" / "adapter") for n in (1, 2, 3)]
    rewards = ["@rm-1", members(*paths[:2]), members(*paths), members("@rm-1", "@rm-2")]
    single, same, three, merged = (
        estimate(recipe(tmp_path, [*trained, other, stage("ppo", "ppo", reward=reward)]), asked("h200"))[-1]
        for reward in rewards
    )
    assert (held(single), held(same), held(three), held(merged)) == (1, 1, 2, 2)
    assert single.seconds < same.seconds == merged.seconds < three.seconds
    whole = stage("ppo", "ppo", reward=members(*paths[:2]), model={"engine": "fsdp2"})
    assert held(estimate(recipe(tmp_path, [*trained, whole]), asked("h200", gpus=2))[-1]) == 2


def test_groups_that_are_drawn_again_take_their_time(tmp_path):
    settings = {"reward": "runs/rm", "batch": {"size": 64}, "sampling": {"max_new_tokens": 64}}
    once, again = (
        estimate(recipe(tmp_path, [stage("grpo", "grpo", **settings, resample=draws)]), asked())[0] for draws in (0, 2)
    )
    assert once.notes == ()
    assert any("0.75 answers drawn again for each answer of a step" in note for note in again.notes)
    shape, length = SHAPES["llama-3.2-1b"], 600 / 3 + 64
    scored = 2 * forward(shape, length) + forward(shape, length, head=False)
    gpu, steps = accelerator("h100"), once.seconds * once.tokens_s / (64 * length)
    more = steps * 48 * length * scored / (gpu.tflops * 1e12 * 0.35)
    read = 2 * 2.0 * shape.product_weights + 48 * 4.0 * shape.layers * shape.kv_width * length / 2
    more += steps * 64 * read / (gpu.gb_s * 1e9 * 0.5)
    assert again.seconds - once.seconds == pytest.approx(more)
    assert again.memory_gb == once.memory_gb  # further draws are smaller


@pytest.mark.parametrize(
    "text",
    [
        "{bad",
        "[]",
        '{"model_type": "nobody-has-this"}',
        '{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 0}',
        '{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": -1}',
        '{"model_type": "llama", "hidden_size": "wide"}',
    ],
)
def test_a_configuration_that_cannot_be_used_is_named_with_its_reason(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json cannot be used|configuration: num_") as refused:
        shape_of(str(tmp_path))
    assert str(tmp_path) in str(refused.value)


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(UsageError, match="is not known"):
        accelerator("h1000")
    assert all(accelerator(name.upper()).name == name for name in ACCELERATORS)
    with pytest.raises(ModelError, match="shape is not known"):
        shape_of("nobody/has-this")
    with pytest.raises(UsageError, match="no stage trains"):
        estimate(recipe(tmp_path, [{"name": "r", "kind": "report", "runs": ["x"]}]), asked())


def test_the_command(tmp_path):
    file = recipe(tmp_path, [stage("sft")])
    much = ("--rows", "1000", "--tokens", "600")
    result = trueup("plan", file, "--on", "h100", *much)
    assert result.returncode == 0, result.stderr
    assert "Counted, not measured: h100" in result.stdout
    assert "optimizer 9.9" in result.stdout
    (one,) = json.loads(trueup("plan", file, "--on", "h100", *much, "--as", "llama-2-7b", "--json").stdout)
    assert one["weights"] == SHAPES["llama-2-7b"].weights


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--gpus", "2"], "--gpus without --on"),
        (["--on", "h1000"], "did you mean"),
        (["--on", "h100"], "not-there.jsonl"),
        (["--on", "h100", "--gpus", "0"], "--gpus"),
        (["--on", "h100", "--rows", "0"], "--rows"),
        (["--on", "h100", "--tokens", "2"], "--tokens"),
        (["--on", "h100", "--efficiency", "1.5"], "--efficiency"),
        (["--on", "h100", "--as", "llama-9"], "shape is not known"),
    ],
)
def test_the_command_refuses(tmp_path, flags, words):
    refused = trueup("plan", recipe(tmp_path, [stage("sft")]), *flags, check=False)
    assert refused.returncode == 2
    assert words in refused.stderr
