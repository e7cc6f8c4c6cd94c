"""Runs on several files as one set: as on one file, known by all files, and held-out data beside them."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

import trueup
from tests.recipes.test_recipes import config_of, digest
from trueup.errors import ConfigError, DataError, UsageError
from trueup.ledger import read_run
from trueup.recipes.registry import execute, resolve

FEW = {"epochs": 1, "model__tiny__hidden": 16}


@pytest.fixture
def parts(material, tmp_path):
    """The demonstrations in a Parquet and a JSONL file, in their order."""
    rows = [json.loads(line) for line in Path(material["demonstrations"]).read_text().splitlines()]
    folder = tmp_path / "parts"
    folder.mkdir()
    Dataset.from_list(rows[:5]).to_parquet(folder / "a.parquet")
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[5:]))
    return folder


def test_a_set_trains_as_its_files_in_one_do(material, parts, tmp_path):
    whole = digest(execute("sft", config_of("sft", material, **FEW), tmp_path / "whole", quiet=True))
    for number, name in enumerate((str(parts), f"{parts}/*", f"{parts}/a.parquet,{parts}/b.jsonl")):
        config = config_of("sft", material | {"demonstrations": name}, **FEW)
        config = config.model_copy(update={"validation": material["demonstrations"]})
        out = execute("sft", config, tmp_path / str(number), quiet=True)
        assert digest(out) == whole
        files = read_run(out)["facts"]["read"]["files"]
        assert next((Path(file).name, counts["items"]) for file, counts in files.items()) == ("a.parquet", 5)


def test_a_run_goes_on_with_the_same_files_only(material, parts, tmp_path):
    config = config_of("sft", material | {"demonstrations": str(parts)}, **FEW)
    execute("sft", config, tmp_path / "r", quiet=True)
    with open(parts / "b.jsonl", "a") as handle:
        handle.write(json.dumps({"prompt": "x", "completion": "y"}) + "\n")
    with pytest.raises(UsageError, match=r"inputs\.data"):
        execute("sft", config, tmp_path / "r", quiet=True)


def test_a_list_in_a_yaml_file(parts, tmp_path):
    file = tmp_path / "sft.yaml"
    file.write_text(f"data:\n  - {parts}/a.parquet\n  - {parts}/*.jsonl\nmodel: {{name: tiny}}\n")
    assert resolve("sft", str(file), {}, []).data == f"{parts}/a.parquet,{parts}/*.jsonl"
    for bad in ("[]", "[1]", "['a,b.jsonl']"):
        file.write_text(f"data: {bad}\nmodel: {{name: tiny}}\n")
        with pytest.raises(ConfigError, match=r"list of names|empty list"):
            resolve("sft", str(file), {}, [])


def test_held_out_prompts_that_are_trained_on_are_said(material, parts, tmp_path, capsys):
    config = config_of("sft", material | {"demonstrations": str(parts)}, **FEW)
    config = config.model_copy(update={"validation": f"{parts}/*.jsonl"})
    execute("sft", config, tmp_path / "r", quiet=True)
    said = capsys.readouterr().err
    assert (
        f"held-out prompts are also in {parts}, {parts}/b.jsonl:1 first: what is measured on them is too good" in said
    )
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"prompt": "Something that nobody asked", "completion": "y"}\n')
    execute("sft", config.model_copy(update={"validation": str(held_out)}), tmp_path / "s", quiet=True)
    assert "too good" not in capsys.readouterr().err


def test_python_takes_lists_of_files_and_dataset_dicts(material, parts, tmp_path):
    rows = [json.loads(line) for line in Path(material["demonstrations"]).read_text().splitlines()]
    tiny = {"name": "tiny", "tiny": {"hidden": 16, "layers": 1, "heads": 2, "vocabulary": 330, "context": 96}}
    both = DatasetDict(train=Dataset.from_list(rows), test_part=Dataset.from_list(rows[:2]))
    settings = {"epochs": 1, "model": tiny, "batch.size": 8}
    runs = [
        trueup.train("sft", settings | more, out=tmp_path / name, quiet=True)
        for name, more in {
            "files": {"data": [parts / "a.parquet", str(parts / "b.jsonl")]},
            "splits": {"data": both, "read.split": "train"},
            "rows": {"data": both["train"]},
        }.items()
    ]
    nll = [run.metrics()["nll"] for run in runs]
    assert nll[0] == nll[1] == nll[2]
    assert Path(runs[1].settings["data"], "test_part.jsonl").is_file()
    with pytest.raises(DataError, match="files of 2 splits"):
        trueup.train("sft", settings | {"data": both}, out=tmp_path / "none", quiet=True)
    for wrong in ({"prompt": "p"}, {"../x": rows}, {}):
        with pytest.raises((DataError, ConfigError)):
            trueup.train("sft", settings | {"data": wrong}, out=tmp_path / "wrong", quiet=True)
