import pytest

from trueup.config import Model, Optim, Settings, build, describe, merge, parse_assignments, parse_yaml, read_yaml
from trueup.errors import ConfigError


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
