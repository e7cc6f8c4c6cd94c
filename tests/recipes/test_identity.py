"""Ids that come with data are names, not keys: whatever a file calls its pairs, each gets its own numbers."""

import json
import math

import pytest

from tests.recipes.test_recipes import config_of
from trueup.commands.life import trace
from trueup.errors import DataError, UsageError
from trueup.ledger import metric_rows
from trueup.recipes.registry import execute
from trueup.types import PreferencePair


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def rows(material):
    return [json.loads(line) for line in open(material["pairs"], encoding="utf-8")]


NAMES = {
    "all the same": lambda n: "conv-1",
    "in twos": lambda n: f"conv-{n // 2}",
    "whole numbers": lambda n: n,
    "keys of other pairs": lambda n: PreferencePair("p", f"{n}", "r").key,
}


@pytest.mark.parametrize("names", NAMES)
def test_a_policy_that_is_its_own_reference_loses_ln_2_whatever_pairs_are_called(material, rows, tmp_path, names):
    called = [NAMES[names](n) for n in range(len(rows))]
    data = written(tmp_path / "d.jsonl", [row | {"pair_id": name} for row, name in zip(rows, called, strict=True)])
    # The held-out file gives its pairs the names of others: reversed.
    held = written(tmp_path / "v.jsonl", [row | {"pair_id": n} for row, n in zip(rows, reversed(called), strict=True)])
    material = material | {"pairs": data}
    config = config_of("dpo", material, optim__learning_rate=1e-12, epochs=1).model_copy(update={"validation": held})
    out = execute("dpo", config, tmp_path / "r", quiet=True)
    for row in metric_rows(out):
        assert abs(row["loss"] - math.log(2)) < 1e-5
        assert abs(row["margin"]) < 1e-4
        assert len(set(row.get("keys", row["ids"]))) == len(row["ids"])
    assert metric_rows(out)[-1]["heldout_loss"] == pytest.approx(math.log(2), abs=1e-5)
    seen = lines_of(out / "pairs.jsonl")
    assert sorted(row["pair_id"] for row in seen) == sorted(map(str, called))  # names are carried along
    assert len({row["key"] for row in seen}) == len(rows)


def test_names_change_no_number(material, rows, tmp_path):
    """The same pairs under other names train to the same bytes, but for the names."""
    runs = []
    for number, name in enumerate((lambda n: None, lambda n: "x", lambda n: len(rows) - n)):
        data = written(tmp_path / f"{number}.jsonl", [r | {"pair_id": name(n)} for n, r in enumerate(rows)])
        for kind in ("dpo", "reward"):
            config = config_of(kind, material | {"pairs": data}, epochs=2)
            out = execute(kind, config, tmp_path / f"{kind}-{number}", quiet=True)
            metrics = [{k: v for k, v in row.items() if k not in ("ids", "keys")} for row in metric_rows(out)]
            keyed = [
                {k: v for k, v in row.items() if k != "pair_id"} | {"key": row.get("key", row["pair_id"])}
                for row in lines_of(out / "pairs.jsonl")
            ]
            runs.append((kind, metrics, keyed))
    for kind in ("dpo", "reward"):
        one, *others = [(metrics, keyed) for name, metrics, keyed in runs if name == kind]
        assert all(other == one for other in others)


def test_a_pair_is_followed_by_key_where_its_name_is_shared(material, rows, tmp_path, capsys):
    data = written(tmp_path / "d.jsonl", [row | {"pair_id": f"conv-{n // 6}"} for n, row in enumerate(rows)])
    out = execute("reward", config_of("reward", material | {"pairs": data}, epochs=2), tmp_path / "r", quiet=True)
    assert "pair_id repeats with other content" in capsys.readouterr().err
    with pytest.raises(UsageError, match="6 pairs have an id or key") as caught:
        trace("conv-1", [out])
    assert "give a key" in caught.value.fix
    keys = {row["key"] for row in lines_of(out / "pairs.jsonl")}
    lives = [trace(key, [out]) for key in keys]
    assert {life.key for life in lives} == keys
    assert all(len(life.runs[str(out)]) == 2 for life in lives)
    assert sorted(life.chosen for life in lives) == sorted(row["chosen"] for row in rows)


def test_a_name_that_begins_another_name_is_its_own_pair(material, rows, tmp_path):
    data = written(tmp_path / "d.jsonl", [row | {"pair_id": n} for n, row in enumerate(rows, 1)])
    out = execute("reward", config_of("reward", material | {"pairs": data}, epochs=1), tmp_path / "r", quiet=True)
    life = trace("1", [out])
    assert (life.pair_id, life.chosen) == ("1", rows[0]["chosen"])
    assert len(life.runs[str(out)]) == 1  # and not those of 10, 11 and 12


def marked(text):
    return f"<|im_start|>{text}<|im_end|>"


FILES = {
    "sft": lambda n: {"prompt": marked(f"q{n}"), "completion": f"a{n}"},
    "dpo": lambda n: {"prompt": marked(f"q{n}"), "chosen": f"a{n}", "rejected": "no"},
    "reward": lambda n: {"prompt": marked(f"q{n}"), "chosen": f"a{n}", "rejected": "no"},
    "kto": lambda n: {"prompt": marked(f"q{n}"), "completion": f"a{n}", "label": n % 2},
    "ppo": lambda n: {"prompt": marked(f"q{n}")},
}


@pytest.mark.parametrize("kind", FILES)
def test_prompts_that_went_through_a_template_are_refused_unless_they_are_meant(material, tmp_path, capsys, kind):
    data = written(tmp_path / "d.jsonl", [FILES[kind](n) for n in range(8)])
    names = {"sft": "demonstrations", "kto": "labelled", "ppo": "prompts"}
    material = material | {names.get(kind, "pairs"): data}
    with pytest.raises(DataError, match="8 of 8 prompts already went through a chat template: ChatML") as caught:
        execute(kind, config_of(kind, material), tmp_path / "r", quiet=True)
    assert caught.value.where == f"{data}:1"
    assert "--set read.templated=true" in caught.value.fix
    meant = {"read__templated": True} | ({"steps": 1} if kind == "ppo" else {"epochs": 1})
    execute(kind, config_of(kind, material, **meant), tmp_path / "meant", quiet=True)
    assert "already went through a chat template, ChatML" in capsys.readouterr().err


def test_markers_of_the_model_that_no_list_knows_are_refused_too(material):
    from trueup.data.encode import Encoder
    from trueup.data.markers import refuse_own
    from trueup.models.load import load_tokenizer

    tokenizer = load_tokenizer(material["policy"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["@@turn@@"]})
    holds = Encoder(tokenizer).holds_special
    refuse_own("d.jsonl", ["@@turn@@ one", "two", "three @@turn@@", "four"], holds)  # half is not most
    with pytest.raises(DataError, match="2 of 3 prompts hold control tokens of the model"):
        refuse_own("d.jsonl", ["@@turn@@ one", "two", "three @@turn@@"], holds)


def test_every_command_says_which_text_is_not_used(material, rows, tmp_path, capsys):
    data = written(tmp_path / "d.jsonl", [row | {"hint": "read me", "grade": 3} for row in rows])
    execute("dpo", config_of("dpo", material | {"pairs": data}, epochs=1), tmp_path / "r", quiet=True)
    said = capsys.readouterr().err
    # The file is also the held-out one.
    assert said.count("column 'hint' is not used; it holds text or lists in 12 of 12 rows, from line 1 on") == 2
    assert "grade" not in said
