"""The template of training is in ``final/``, is used by every later stage, and another one is refused."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GenerationConfig

from tests.recipes.test_recipes import config_of
from tests.recipes.test_reward_rendering import without_template
from trueup.data.template import PLAIN_TEMPLATE
from trueup.errors import ModelError
from trueup.ledger import metric_rows
from trueup.recipes.registry import execute

OTHER = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="module")
def base(material, tmp_path_factory):
    """A saved model without a chat template."""
    return without_template(material["policy"], tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def plain(material, base, tmp_path_factory):
    """``final/`` of an SFT run that gave the base model the built-in template."""
    config = config_of("sft", material, epochs=1)
    config = config.model_copy(update={"model": config.model.model_copy(update={"name": base, "template": "plain"})})
    return str(execute("sft", config, tmp_path_factory.mktemp("plain") / "r", quiet=True) / "final")


def template_of(folder):
    return AutoTokenizer.from_pretrained(folder).chat_template


def of_another_template(source, folder):
    shutil.copytree(source, folder)
    (folder / "chat_template.jinja").write_text(OTHER)
    return str(folder)


def test_sft_leaves_it_to_every_later_stage(material, plain, tmp_path):
    assert template_of(plain).endswith(PLAIN_TEMPLATE)
    for kind in ("dpo", "kto", "reward", "ppo"):
        config = config_of(kind, material | {"policy": plain}, **({"steps": 1} if kind == "ppo" else {"epochs": 1}))
        out = execute(kind, config, tmp_path / kind, quiet=True)
        assert template_of(out / "final") == template_of(plain)


def test_transformers_writes_the_prompt_that_was_trained(plain):
    from trueup.config import Batch
    from trueup.data.render import Renderer
    from trueup.types import Message

    tokenizer = AutoTokenizer.from_pretrained(plain)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What does the cat like?"}], tokenize=False, add_generation_prompt=True
    )
    fed = Renderer.of(tokenizer, Batch(max_length=64)).render_prompt((Message("user", "What does the cat like?"),))
    assert tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) == fed


@pytest.mark.parametrize("kind", ["sft", "reward", "dpo", "kto", "ppo"])
def test_another_template_than_its_own_is_refused_before_the_first_step(kind, material, tmp_path):
    config = config_of(kind, material)
    model = config.model.model_copy(update={"name": material["policy"], "template": "plain"})
    with pytest.raises(ModelError, match="replace-with-plain"):
        execute(kind, config.model_copy(update={"model": model}), tmp_path / "r", quiet=True)
    assert metric_rows(tmp_path / "r") == []


@pytest.mark.parametrize("kind", ["sft", "reward", "dpo", "kto", "ppo"])
def test_said_in_so_many_words_it_takes_the_others_place(kind, material, tmp_path):
    config = config_of(kind, material, **({"steps": 1} if kind == "ppo" else {"epochs": 1}))
    model = config.model.model_copy(update={"name": material["policy"], "template": "replace-with-plain"})
    out = execute(kind, config.model_copy(update={"model": model}), tmp_path / "r", quiet=True)
    assert template_of(out / "final").endswith(PLAIN_TEMPLATE)


@pytest.mark.parametrize("kind", ["dpo", "kto", "ppo"])
def test_a_reference_of_another_template_is_refused(kind, material, tmp_path):
    other = of_another_template(material["policy"], tmp_path / "other")
    config = config_of(kind, material).model_copy(update={"reference": other})
    with pytest.raises(ModelError, match="another chat template"):
        execute(kind, config, tmp_path / "r", quiet=True)


def test_a_reference_without_a_template_is_a_base_model(material, base, tmp_path):
    config = config_of("dpo", material, epochs=1).model_copy(update={"reference": base})
    assert metric_rows(execute("dpo", config, tmp_path / "r", quiet=True))


def test_a_model_trained_on_plain_text_is_given_no_template(material, base, tmp_path):
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"prompt": f"{i}?", "completion": " yes"}) + "\n" for i in range(4)))
    config = config_of("sft", material | {"demonstrations": str(texts)}, epochs=1)
    config = config.model_copy(update={"model": config.model.model_copy(update={"name": base, "template": "plain"})})
    out = execute("sft", config, tmp_path / "r", quiet=True)
    assert template_of(out / "final") is None


def test_end_tokens_are_in_the_generation_settings(material, plain, tmp_path):
    """The template's end of turn ends an answer in every engine that reads generation_config.json."""
    chatml = tmp_path / "chatml"
    shutil.copytree(material["policy"], chatml)
    template = OTHER.replace("<|end|>", "<|system|>")  # an end of turn that is not EOS
    (chatml / "chat_template.jinja").write_text(template)
    config = config_of("dpo", material | {"policy": str(chatml)}, epochs=1)
    out = execute("dpo", config, tmp_path / "r", quiet=True)
    tokenizer = AutoTokenizer.from_pretrained(chatml)
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|system|>")}
    assert set(GenerationConfig.from_pretrained(out / "final").eos_token_id) == ends
    assert GenerationConfig.from_pretrained(plain).eos_token_id == tokenizer.eos_token_id


def test_sampling_stops_where_the_models_own_settings_say(material, tmp_path):
    from trueup.commands.panel import Panel
    from trueup.config import Sampling
    from trueup.types import StopReason

    folder = tmp_path / "stops"
    shutil.copytree(material["policy"], folder)
    file = folder / "generation_config.json"
    every = list(range(2, 330))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": every}))
    (answer,) = Panel([str(folder)]).ask("What does the cat like?", Sampling(max_new_tokens=8), seed=0)
    assert (answer.tokens, answer.stop) == (1, StopReason.EOS)
    assert Path(folder, "chat_template.jinja").exists()
