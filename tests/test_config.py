import pytest

from trueup.config import Model, Optim, Settings, build, default_values, describe, merge
from trueup.config.errors import setting_paths
from trueup.config.names import FOREIGN, explain
from trueup.config.text import parse_assignments, parse_yaml, read_yaml
from trueup.errors import ConfigError
from trueup.recipes.presets import PRESETS
from trueup.recipes.registry import preset_layer, resolve
from trueup.recipes.table import RECIPES


class Recipe(Settings):
    """A stand-in recipe config."""

    model: Model = Model()
    """What to train."""
    optim: Optim = Optim()
    """How."""


def test_defaults_file_and_assignments_in_order():
    config = build(Recipe, {"optim": {"warmup": 0.2, "weight_decay": 0.1}}, parse_assignments(["optim.warmup=0.3"]))
    assert config.optim.warmup == 0.3
    assert config.optim.weight_decay == 0.1
    assert config.optim.schedule == "cosine"


def test_unknown_key_names_the_near_one():
    with pytest.raises(ConfigError, match=r"optim\.learning_rte: unknown setting; did you mean 'learning_rate'"):
        build(Recipe, {"optim": {"learning_rte": 1e-4}})


@pytest.mark.parametrize(
    "block",
    [{"learning_rate": -1}, {"learning_rate": 0}, {"learning_rate": "fast"}, {"warmup": 1.5}, {"schedule": "sine"}],
)
def test_bad_values_are_refused_with_field_and_value(block):
    (key, value), *_ = block.items()
    with pytest.raises(ConfigError) as caught:
        build(Recipe, {"optim": block})
    assert f"optim.{key}" in str(caught.value)
    assert repr(value) in str(caught.value)


def test_scientific_notation_without_a_dot_is_a_number():
    assert parse_yaml("a: 1e-5")["a"] == 1e-5
    assert parse_assignments(["optim.learning_rate=3e-4"]) == {"optim": {"learning_rate": 3e-4}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("- a\n- b\n", "found list"),
        ("a: 1\na: 2\n", r"'a' is written twice \(lines 1 and 2\)"),
        ("a:\n\tb: 1\n", "use spaces, not tabs"),
        ("a: ${TRUEUP_SURELY_NOT_SET}\n", "TRUEUP_SURELY_NOT_SET is not set"),
    ],
)
def test_bad_yaml_says_where(tmp_path, text, message):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(file)
    assert "recipe.yaml" in str(caught.value)


def test_missing_file():
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml("nowhere.yaml")


def test_setting_twice_is_an_error():
    with pytest.raises(ConfigError, match="set twice"):
        parse_assignments(["a.b=1", "a.b=2"])


def test_a_block_of_another_kind_replaces_the_old_one():
    assert merge({"o": {"kind": "dpo", "beta": 0.1}}, {"o": {"kind": "ipo", "tau": 0.2}}) == {
        "o": {"kind": "ipo", "tau": 0.2}
    }
    assert merge({"o": {"kind": "dpo", "beta": 0.1}}, {"o": {"beta": 0.2}}) == {"o": {"kind": "dpo", "beta": 0.2}}


def test_every_setting_is_documented():
    missing = [name for name, _, default, text in describe(Recipe) if not text]
    assert missing == []


def test_a_setting_of_the_default_kind_needs_no_kind_beside_it():
    from trueup.recipes.dpo import Dpo

    given = {"data": "d", "model": {"name": "m"}}
    assert build(Dpo, given, {"objective": {"beta": 0.3}}).objective.beta == 0.3
    assert build(Dpo, given, {"objective": {"kind": "ipo", "tau": 0.3}}).objective.tau == 0.3
    with pytest.raises(ConfigError, match="tau"):
        build(Dpo, given, {"objective": {"tau": 0.3}})


GIVEN = {"data": "d", "model.name": "m"}


def dpo(*assignments, **flags):
    return resolve("dpo", None, GIVEN | flags, assignments)


def test_a_block_set_in_part_keeps_the_defaults_of_its_method():
    ppo = resolve("ppo", None, GIVEN | {"reward": "r"}, ["optim.learning_rate=1e-6", "batch.max_length=99"])
    assert (ppo.optim.schedule, ppo.optim.warmup, ppo.optim.eps, ppo.batch.size) == ("constant", 0.0, 1e-5, 128)
    assert dpo("optim.learning_rate=1e-6").optim.warmup == 0.1
    assert resolve("dpo", None, {"data": "d"}, ["model.dtype=bfloat16"]).model.name == ""  # never a new tiny model


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_documented_defaults_are_those_that_a_run_has(kind):
    settings = RECIPES[kind].settings()
    shown = {name: default for name, _, default, _ in describe(settings) if "[" not in name}
    values = build(settings, {name: "x" for name in ("data", "reward") if settings.model_fields.get(name)})
    for name, default in shown.items():
        value = values
        for part in name.split("."):
            value = getattr(value, part, None)
        if default != "required" and not str(default).startswith("block") and value is not None:
            assert value == default, name
    assert default_values(settings)["optim"] == values.model_dump(mode="json")["optim"]


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
MERGES = "k0: &k0 {x: 1}\n" + "".join(f"k{i}: &k{i} {{<<: [*k{i - 1}, *k{i - 1}], z{i}: 1}}\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "aliases .* make more than"),
        (MERGES, "aliases .* make more than"),
        ("a: &a [*a]\n", "an alias stands for a block that holds it"),
        ("a: &a {b: *a}\n", "an alias stands for a block that holds it"),
        ("a: " + "[" * 50_000, "levels deep"),
        ("a: " + "{a: " * 50_000, "levels deep"),
        ("".join("  " * i + f"k{i}:\n" for i in range(100)), "levels deep"),
        ("a: [" + "1," * 50_000 + "1]", "values"),
        ("a: " + "x" * 300_000, "KiB"),
        ("? [a]\n: b\n", "1: a key is a list"),
        ("a: 1\n? {b: 1}\n: c\n", "2: a key is a list or a mapping"),
        ("a: 1\n? \n: b\n", "2: a key is empty"),
        ("a: {b: 1, c: 2, b: 3}\n", "'b' is written twice"),
        ("hello", "found str"),
        ("# nothing\n", "empty"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("a: 'x\n", "2: not valid YAML|1: not valid YAML"),
        ("a: b: c\n", "1: not valid YAML"),
        ("a: *nowhere\n", "undefined alias"),
        ("a: \x00\n", "1: character 0x0000"),
        ("ok: 1\na: \x07\n", "2: character 0x0007"),
        ("seed: 010\n", "010 can be read as octal or as decimal"),
        ("seed: " + "9" * 5000 + "\n", "5000 digits"),
        ("a: !!python/object/apply:os.system [x]\n", "python/object"),
        ("a: !!binary aGk=\n", "binary"),
        ("a: !mine 3\n", "!mine"),
        ("<<: 3\n", "merges something that is no mapping"),
    ],
)
def test_what_no_settings_file_holds_is_refused_quickly_with_its_line(tmp_path, text, message):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(file)
    assert "recipe.yaml" in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfea\x00:\x00 \x001\x00", b"ok: 1\n\x80\x81", bytes(range(256))])
def test_bytes_that_are_no_text_are_refused(tmp_path, data):
    file = tmp_path / "recipe.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match="UTF"):
        read_yaml(file)


def test_a_directory_and_an_impossible_name_are_refused(tmp_path):
    for path in (tmp_path, "a\0b", tmp_path / "x" / "y", "n" * 300):
        with pytest.raises(ConfigError):
            read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1.5E3", 1500.0), (".5", 0.5), ("-3", -3), ("+3", 3), ("0x10", 16), ("0o17", 15), ("0", 0),
        ("true", True), ("False", False), ("null", None), ("~", None), ("no", "no"), ("on", "on"), ("Yes", "Yes"),
        ("y", "y"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("1_000", "1_000"), ("v1.0", "v1.0"),
        ("'010'", "010"), ('"1"', "1"), ("[1, 2]", [1, 2]), ("{a: no}", {"a": "no"}),
    ],
)  # fmt: skip
def test_plain_words_mean_what_yaml_1_2_says_in_files_and_assignments(text, value):
    assert parse_yaml(f"a: {text}") == {"a": value}
    assert parse_assignments([f"a={text}"]) == {"a": value}


def test_a_byte_order_mark_and_merges_are_read(tmp_path):
    (tmp_path / "r.yaml").write_bytes("\ufeffa: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n".encode())
    assert read_yaml(tmp_path / "r.yaml")["b"] == {"x": 1, "y": 3}


def test_variables_are_values_and_never_structure(monkeypatch):
    monkeypatch.setenv("TRUEUP_TEST", "7")
    assert parse_yaml("# ${TRUEUP_SURELY_NOT_SET}\na: ${TRUEUP_TEST}\nb: '${TRUEUP_TEST}'\nc: x${TRUEUP_TEST}") == {
        "a": 7, "b": "7", "c": "x7"
    }  # fmt: skip
    monkeypatch.setenv("TRUEUP_TEST", "x\nb: 2")
    assert parse_yaml("a: ${TRUEUP_TEST}") == {"a": "x\nb: 2"}
    with pytest.raises(ConfigError, match=r"2: environment variable TRUEUP_SURELY_NOT_SET"):
        parse_yaml("a: 1\nb: ${TRUEUP_SURELY_NOT_SET}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a"], "expected: name=value"),
        (["=b"], "expected: name=value"),
        (["a..b=1"], "expected: name=value"),
        ([".a=1"], "expected: name=value"),
        (["a.=1"], "expected: name=value"),
        (["epochs="], "has no value"),
        (["epochs=[1"], "not valid YAML"),
        (["epochs=1", "epochs=1"], "'epochs' is set twice"),
        (["optim.warmup=0.1", "optim={warmup: 0.2}"], "'warmup' is set twice"),
        (["optim=1", "optim.warmup=0.2"], "gave a value"),
        (["a.b.c.d=1"], "a .*unknown setting"),
        (["optim.learning_rate.x=1"], r"optim\.learning_rate .*valid number"),
        (["optim.betas.0=0.9"], r"optim\.betas"),
        (["optim.betas=[0.9]"], r"optim\.betas"),
        (["optim.betas=[-1, 2]"], "at least 0 and below 1"),
        (["optim.learning_rate=.nan"], "finite"),
        (["optim.learning_rate=.inf"], "finite"),
        (["optim.weight_decay=-1e-3"], r"optim\.weight_decay"),
        (["epochs=true"], "found True; expected a number"),
        (["batch.size=2.5"], r"batch\.size"),
        (["batch.max_length=8", "batch.max_prompt_length=8"], "leaves no completion"),
        (["objective=ipo"], "did you mean 'ipo'"),
        (["objective.kind=ipp"], "'ipp' is unknown; did you mean 'ipo'"),
        (["objective.kind=dpo", "objective.tau=0.1"], "objective.kind=dpo has no such setting"),
        (["optim=adamw"], "expected a block of settings"),
        (["optim.schedule=sine"], "did you mean 'cosine'"),
        (["preset=activty-16"], "did you mean 'activity-16'"),
        (["preset=[1]"], "no preset"),
        (["data=e"], "data is given twice"),
        (["model.name=null"], r"model\.name is given twice"),
        (["model.tiny.heads=0"], r"model\.tiny\.heads"),
        (["model.tiny.heads=-2"], r"model\.tiny\.heads"),
        (["model.tiny.heads=3"], "3 heads do not divide hidden 128"),
        (["model.tiny.hidden=10", "model.tiny.heads=2"], "even widths: heads may be 1, 5"),
        (["model.tiny.hidden=9", "model.tiny.heads=1"], "take an even hidden"),
        (["model.tiny.hidden=1000000"], r"model\.tiny\.hidden"),
        (["model.tiny.layers=0"], r"model\.tiny\.layers"),
        (["model.tiny.vocabulary=0"], r"model\.tiny\.vocabulary"),
        (["model.tiny.context=1"], r"model\.tiny\.context"),
        (["model.lora=8"], "rank: ..., alpha: ..."),
        (["model.lora.alpha=.nan"], "finite"),
        (["x" * 5000 + "=1"], "unknown setting"),
    ],
)
def test_assignments_that_cannot_be_used_say_which_and_why(given, message):
    with pytest.raises(ConfigError, match=message) as caught:
        dpo(*given)
    assert len(str(caught.value)) < 1000


def test_assignments_take_json_text_and_blocks_in_any_order():
    config = dpo("optim.warmup=0.2", 'optim={"learning_rate": 1e-4}', "read.split=no", "objective.kind=ipo")
    assert (config.optim.warmup, config.optim.learning_rate, config.read.split) == (0.2, 1e-4, "no")
    assert parse_assignments(["data=*.jsonl", "b=a: b # c", "c=@sft", "d=a=b"]) == {
        "data": "*.jsonl", "b": "a: b # c", "c": "@sft", "d": "a=b"
    }  # fmt: skip


def test_complaints_name_the_file_and_line_or_the_flag(tmp_path):
    file = tmp_path / "dpo.yaml"
    file.write_text("data: d\nmodel: {name: m}\noptim:\n  warmup: 0.1\n  learning_rate: -1\nbatch.size: 3\n")
    with pytest.raises(ConfigError) as caught:
        resolve("dpo", str(file), {}, ["epochs=-1"])
    message = str(caught.value)
    assert f"optim.learning_rate ({file}:5): found -1" in message
    assert f"batch.size ({file}:6): a dot is for --set; in a file write batch: {{size: ...}}" in message
    assert "epochs (--set epochs=-1): found -1" in message


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_names_of_other_tools_lead_to_real_settings_of_the_method_or_a_sentence(kind):
    paths = setting_paths(RECIPES[kind].settings())
    everywhere = {path for recipe in RECIPES.values() for path in setting_paths(recipe.settings())}
    for name, foreign in FOREIGN.items():
        assert set(foreign.paths) <= everywhere, name
        assert foreign.paths or foreign.note, name
        sentence = explain(name, paths)
        assert sentence, name
        here = [path for path in foreign.paths if path in paths]
        if here:
            assert f"'{here[0]}'" in sentence


@pytest.mark.parametrize(
    ("kind", "name", "leads_to"),
    [
        ("ppo", "init_kl_coef", "kl.beta"),
        ("ppo", "kl_coef", "kl.beta"),
        ("dpo", "kl_coef", "objective.beta"),
        ("dpo", "beta", "objective.beta"),
        ("ppo", "beta", "kl.beta"),
        ("ppo", "target", "kl.target"),
        ("ppo", "target_kl", "kl_stop"),
        ("ppo", "horizon", "kl.horizon"),
        ("ppo", "cliprange", "clip_range"),
        ("ppo", "reward_funcs", "reward"),
        ("ppo", "clip_ratio", "clip_range"),
        ("ppo", "ppo_epochs", "epochs"),
        ("ppo", "mini_batch_size", "mini_batches"),
        ("ppo", "entropy_coef", "entropy_weight"),
        ("grpo", "num_generations", "answers"),
        ("grpo", "epsilon_high", "clip_high"),
        ("grpo", "cliprange", "clip_low"),
        ("rloo", "rloo_k", "answers"),
        ("ppo", "num_generations", "this method has no such setting"),
        ("ppo", "response_length", "sampling.max_new_tokens"),
        ("ppo", "temperature", "sampling.temperature"),
        ("sft", "per_device_train_batch_size", "batch.size"),
        ("sft", "gradient_accumulation_steps", "batch.micro_tokens"),
        ("sft", "fp16", "model.dtype"),
        ("sft", "bf16", "model.dtype"),
        ("sft", "learning_rate", "optim.learning_rate"),
        ("sft", "lr", "optim.learning_rate"),
        ("sft", "num_train_epochs", "epochs"),
        ("sft", "warmup_ratio", "optim.warmup"),
        ("sft", "lr_scheduler_type", "optim.schedule"),
        ("sft", "max_grad_norm", "optim.max_grad_norm"),
        ("sft", "max_seq_length", "batch.max_length"),
        ("sft", "cutoff_len", "batch.max_length"),
        ("dpo", "max_prompt_length", "batch.max_prompt_length"),
        ("dpo", "loss_type", "objective.kind"),
        ("dpo", "label_smoothing", "objective.label_smoothing"),
        ("dpo", "lora_r", "model.lora.rank"),
        ("dpo", "lora_alpha", "model.lora.alpha"),
        ("dpo", "gradient_checkpointing", "model.gradient_checkpointing"),
        ("dpo", "model_name_or_path", "model.name"),
        ("dpo", "ref_model", "reference"),
        ("dpo", "eval_steps", "evaluate_every"),
        ("dpo", "save_steps", "save_every"),
        ("dpo", "logging_steps", "every step is logged"),
        ("dpo", "output_dir", "--out"),
        ("dpo", "Learning-Rate", "optim.learning_rate"),
        ("reward", "center_rewards_coefficient", "centre"),
        ("kto", "beta_", "beta"),
        ("sft", "init_kl_coef", "this method has no such setting"),
    ],
)
def test_a_setting_as_another_tool_calls_it_is_answered_with_ours(kind, name, leads_to):
    flags = GIVEN | ({"reward": "r"} if "reward" in RECIPES[kind].inputs else {})
    with pytest.raises(ConfigError, match="unknown setting") as caught:
        resolve(kind, None, flags, [f"{name}=1"])
    assert leads_to in str(caught.value)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in PRESETS.items() for kind in kinds])
def test_every_preset_resolves(name, kind):
    flags = GIVEN | ({"reward": "r"} if "reward" in RECIPES[kind].inputs else {})
    config, layer = resolve(kind, None, flags, [f"preset={name}"]), preset_layer(kind, name)
    assert config.model_dump(include=layer.keys()) == merge(config.model_dump(include=layer.keys()), layer)


def test_the_preset_of_the_course_covers_dpo():
    config = dpo("preset=activity-16")
    assert (config.objective.kind, config.objective.beta, config.optim.learning_rate) == ("dpo", 0.1, 1e-6)
    assert (config.batch.size, config.epochs) == (4, 1)
