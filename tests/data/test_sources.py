"""Several files as one set: folders, patterns, lists, datasets; each row keeps its file and line."""

import gzip
import json
import os

import datasets
import pytest

from trueup.data.check import check_file
from trueup.data.hub import HubName
from trueup.data.listing import data_hash, listed
from trueup.data.read import read_demonstrations, read_pairs, read_prompts, read_rows, read_texts
from trueup.errors import DataError, TrueupError, UsageError


def pairs(*names):
    return [{"prompt": name, "chosen": f"good {name}", "rejected": f"bad {name}"} for name in names]


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows).to_parquet(path)
    return path


@pytest.fixture
def mixed(tmp_path):
    """A folder with five pairs in three files of two kinds, one of them deeper."""
    folder = tmp_path / "data"
    jsonl(folder / "b.jsonl", pairs("b1", "b2"))
    parquet(folder / "a.parquet", pairs("a1", "a2"))
    with gzip.open(folder / "z.jsonl.gz", "wt") as handle:
        handle.write(json.dumps(pairs("z1")[0]) + "\n")
    jsonl(folder / "deep" / "c.jsonl", pairs("c1"))
    return folder


ALL = ["a1", "a2", "b1", "b2", "c1", "z1"]


def prompts(loaded):
    return [item.prompt for item in loaded.items]


# One set --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("{}", ALL),
        ("{}/", ALL),
        ("{}/**/*", ALL),
        ("{}/**", ALL),
        ("{}/*.jsonl", ["b1", "b2"]),
        ("{}/**/*.jsonl", ["b1", "b2", "c1"]),
        ("{}/[ab].*", ["a1", "a2", "b1", "b2"]),
        ("{}/?.jsonl.gz", ["z1"]),
        ("{}/*/c.jsonl", ["c1"]),
        ("{}/b.jsonl,{}/a.parquet", ["b1", "b2", "a1", "a2"]),
        ("{}/z*, {}/deep", ["z1", "c1"]),
    ],
)
def test_folders_patterns_and_lists_are_one_set_in_the_order_of_their_names(mixed, name, expected):
    assert prompts(read_pairs(name.replace("{}", str(mixed)))) == expected


def test_a_list_in_python_keeps_its_order_and_takes_paths_with_commas(mixed):
    odd = jsonl(mixed / "x,y.jsonl", pairs("x1"))
    assert prompts(read_pairs([mixed / "b.jsonl", str(odd)])) == ["b1", "b2", "x1"]
    assert prompts(read_pairs(str(odd))) == ["x1"]
    assert prompts(read_pairs(odd)) == ["x1"]


def test_relative_patterns_start_in_the_current_directory(mixed, monkeypatch):
    monkeypatch.chdir(mixed)
    assert prompts(read_pairs("**/*.jsonl")) == ["b1", "b2", "c1"]
    assert read_pairs("*.jsonl").place(1) == "b.jsonl:2"


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    assert prompts(read_pairs(str(jsonl(tmp_path / "rows[1].jsonl", pairs("p"))))) == ["p"]


def test_every_item_knows_its_file_and_line(mixed):
    loaded = read_pairs(mixed)
    places = [loaded.place(n).removeprefix(f"{mixed}/") for n in range(len(loaded))]
    assert places == ["a.parquet row 1", "a.parquet row 2", "b.jsonl:1", "b.jsonl:2", "deep/c.jsonl:1", "z.jsonl.gz:1"]
    assert [f"{number}".removeprefix(f"{mixed}/") for number, _ in read_rows(mixed)] == places
    assert list(loaded.lines) == sorted(loaded.lines)


def test_an_error_names_the_file_and_its_line(mixed):
    with open(mixed / "deep" / "c.jsonl", "a") as handle:
        handle.write('{"prompt": "x", "chosen": "y"}\n')
    with pytest.raises(DataError, match=r"c\.jsonl:2") as error:
        read_pairs(mixed)
    assert str(mixed / "deep" / "c.jsonl") in error.value.where
    report = read_pairs(mixed, on_bad="skip").report
    (count,) = report.skipped.values()
    assert count.to_dict() == {"count": 1, "lines": [f"{mixed}/deep/c.jsonl:2"]}
    assert f"1 ({mixed}/deep/c.jsonl:2)" in " ".join(report.remarks())
    json.dumps(report.to_dict())


def test_a_broken_file_in_a_set_is_named(mixed):
    (mixed / "z.jsonl.gz").write_bytes((mixed / "z.jsonl.gz").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"z\.jsonl\.gz: the gzip data is cut off"):
        read_pairs(mixed)
    (mixed / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"a\.parquet: not a whole Parquet file"):
        read_pairs(mixed)


def test_the_report_has_each_file_with_rows_items_and_columns(mixed):
    report = read_pairs(mixed).report
    assert {name.removeprefix(f"{mixed}/"): (f.rows, f.items) for name, f in report.files.items()} == {
        "a.parquet": (2, 2),
        "b.jsonl": (2, 2),
        "deep/c.jsonl": (1, 1),
        "z.jsonl.gz": (1, 1),
    }
    assert report.rows == report.items == 6
    assert report.file_remarks() == []
    limited = read_pairs(mixed, limit=3).report
    assert [f.rows for f in limited.files.values()] == [2, 1]
    assert limited.file_remarks() == []


def test_columns_that_differ_between_files_and_files_without_rows_are_said(tmp_path):
    jsonl(tmp_path / "a.jsonl", [row | {"source": "x"} for row in pairs("a", "b")])
    jsonl(tmp_path / "b.jsonl", pairs("c"))
    jsonl(tmp_path / "c.jsonl", pairs("d"))
    (tmp_path / "empty.jsonl").write_text("\n")
    said = []
    read_pairs(tmp_path, tell=said.append)
    lines = "\n".join(said)
    assert f"column 'source' is only in {tmp_path}/a.jsonl (1 of 3 files)" in lines
    assert f"{tmp_path}/empty.jsonl has no rows" in lines


def test_a_file_of_another_format_in_a_set_is_an_error_with_its_place(tmp_path):
    jsonl(tmp_path / "a.jsonl", pairs("a"))
    jsonl(tmp_path / "b.jsonl", [{"instruction": "x", "output": "y"}])
    with pytest.raises(DataError, match=r"b\.jsonl:1"):
        read_pairs(tmp_path)


def test_rankings_that_are_spread_over_files_are_gathered(tmp_path):
    row = {"prompt": "p", "completion": "good", "rating": 5}
    jsonl(tmp_path / "a.jsonl", [row])
    jsonl(tmp_path / "b.jsonl", [row | {"completion": "bad", "rating": 1}])
    loaded = read_pairs(tmp_path)
    assert [(p.chosen, p.rejected) for p in loaded.items] == [("good", "bad")]
    report = check_file(tmp_path)
    assert (report.read.items, report.read.rows) == (1, 2)


def test_duplicates_across_files_are_counted_with_their_place(mixed):
    jsonl(mixed / "y.jsonl", pairs("new", "a1"))
    assert str(read_pairs(mixed).report.duplicates) == f"1 ({mixed}/y.jsonl:2)"


def test_a_file_that_is_named_twice_is_read_once_and_said(mixed):
    loaded = read_pairs(f"{mixed}/b.jsonl,{mixed}/*.jsonl")
    assert prompts(loaded) == ["b1", "b2"]
    assert any("is named twice and read once" in note for note in loaded.report.notes)


def test_texts_alone_in_a_folder_are_documents(tmp_path):
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.txt").write_text("first\n<|endoftext|>\nand more")
    loaded = read_texts(tmp_path)
    assert loaded.items == ("first", "and more", "second")
    assert loaded.place(1) == f"{tmp_path}/a.txt:3"


# What is refused or said ----------------------------------------------------------------------------------------------


def test_what_is_plainly_no_data_is_passed_over_with_a_note(mixed):
    for name in ("README.md", "LICENSE", "NOTICE.txt", "manifest.json", "_SUCCESS", ".hidden.jsonl", "notes.txt"):
        (mixed / name).write_text("{}")
    loaded = read_pairs(mixed)
    assert prompts(loaded) == ALL
    (note,) = loaded.report.notes
    assert "not read, because it is no data: LICENSE, NOTICE.txt, README.md, _SUCCESS, manifest.json, notes.txt" in note
    assert note in check_file(mixed).format_text()


@pytest.mark.parametrize("name", ["d.jsonl.zst", "d.arrow", "d.parquet.gz", "data", "d.bin", "e.xlsx"])
def test_a_file_of_an_unknown_kind_in_a_folder_is_refused(mixed, name):
    (mixed / name).write_bytes(b"x")
    with pytest.raises(DataError, match="1 are of an unknown kind") as error:
        read_pairs(mixed)
    assert name in str(error.value)
    assert "*.parquet'" in error.value.fix or "*.jsonl'" in error.value.fix
    with pytest.raises(DataError, match="unknown kind"):
        read_pairs(f"{mixed}/*")
    assert prompts(read_pairs(f"{mixed}/**/*.jsonl")) == ["b1", "b2", "c1"]


def test_an_empty_folder_and_one_without_data(tmp_path):
    with pytest.raises(DataError, match="the folder holds no data: it is empty"):
        read_pairs(tmp_path)
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(DataError, match=r"the folder holds no data, only README\.md"):
        read_pairs(tmp_path)
    with pytest.raises(DataError, match="nothing that it matches is data"):
        read_pairs(f"{tmp_path}/*")


def test_a_pattern_that_nothing_matches_says_what_is_there(mixed):
    with pytest.raises(DataError, match="no file matches it") as error:
        read_pairs(f"{mixed}/*.json")
    assert f"{mixed}/ holds: a.parquet, b.jsonl, deep/, z.jsonl.gz" in error.value.fix
    with pytest.raises(DataError, match="no file matches it") as error:
        read_pairs(f"{mixed}/nowhere/*.json")
    assert f"there is no folder {mixed}/nowhere" in error.value.fix
    with pytest.raises(DataError, match="no file matches it"):
        read_pairs(f"{mixed}/dee*")  # a folder, which a pattern does not name


def test_a_name_in_a_list_that_is_empty_or_not_there(mixed):
    with pytest.raises(UsageError, match="is empty"):
        read_pairs(f"{mixed}/b.jsonl,,{mixed}/a.parquet")
    with pytest.raises(DataError, match="no such file") as error:
        read_pairs([mixed / "b.jsonl", mixed / "bb.jsonl"])
    assert "b.jsonl" in error.value.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_an_error(mixed):
    (mixed / "deep").chmod(0)
    try:
        for name in (mixed, f"{mixed}/**/*.jsonl"):
            with pytest.raises(DataError, match="cannot be read: Permission denied"):
                read_pairs(name)
    finally:
        (mixed / "deep").chmod(0o755)


def test_a_folder_that_vanishes_is_an_error(mixed, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("trueup.data.listing.os.scandir", refused)
    for name in (mixed, f"{mixed}/**/*.jsonl"):
        with pytest.raises(DataError, match="the folder cannot be read: Permission denied"):
            read_pairs(name)


def test_links_to_folders_do_not_turn_in_a_circle(mixed):
    (mixed / "deep" / "up").symlink_to(mixed, target_is_directory=True)
    assert prompts(read_pairs(mixed)) == ALL
    assert prompts(read_pairs(f"{mixed}/**/c.jsonl")) == ["c1"]


# Splits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.jsonl", "test.jsonl"),
        ("train-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"),
        ("train/pairs-1.jsonl", "test/pairs-1.jsonl"),
        ("training_part.jsonl", "dev/x.jsonl"),
    ],
)
def test_a_folder_of_several_splits_is_never_one_set(tmp_path, train, test):
    jsonl(tmp_path / train, pairs("a"))
    jsonl(tmp_path / test, pairs("b"))
    with pytest.raises(DataError, match="the folder holds files of 2 splits: ") as error:
        read_pairs(tmp_path)
    assert "read.split" in error.value.fix
    assert prompts(read_pairs(tmp_path, split="train")) == ["a"]
    assert prompts(read_pairs(tmp_path, split="validation" if "dev" in test else "test")) == ["b"]
    with pytest.raises(DataError, match="no file of the folder is of split 'held'"):
        read_pairs(tmp_path, split="held")


def test_a_split_may_have_a_name_of_its_own_and_one_split_needs_none(tmp_path):
    jsonl(tmp_path / "train_prefs.jsonl", pairs("a"))
    assert prompts(read_pairs(tmp_path)) == ["a"]
    jsonl(tmp_path / "train_sft.jsonl", pairs("b"))
    assert prompts(read_pairs(tmp_path, split="train_sft")) == ["b"]
    assert prompts(read_pairs(tmp_path, split="train")) == ["a", "b"]


def test_a_pattern_over_several_splits_says_so(tmp_path):
    jsonl(tmp_path / "train.jsonl", pairs("a"))
    jsonl(tmp_path / "test.jsonl", pairs("b"))
    loaded = read_pairs(f"{tmp_path}/*.jsonl")
    assert any("takes files of several splits for one set: test, train" in note for note in loaded.report.notes)


# Datasets -------------------------------------------------------------------------------------------------------------


def test_saved_datasets_stand_in_lists_beside_files(mixed, tmp_path):
    datasets.Dataset.from_list(pairs("s1")).save_to_disk(tmp_path / "saved")
    loaded = read_pairs([tmp_path / "saved", mixed / "b.jsonl"])
    assert prompts(loaded) == ["s1", "b1", "b2"]
    assert loaded.place(0) == f"{tmp_path}/saved row 1"


def test_a_dataset_dict_gives_the_split_that_is_named_or_its_only_one():
    one = datasets.DatasetDict({"train": datasets.Dataset.from_list(pairs("a"))})
    assert prompts(read_pairs(one)) == ["a"]
    two = datasets.DatasetDict(one | {"test": datasets.Dataset.from_list(pairs("b"))})
    assert prompts(read_pairs(two, split="test")) == ["b"]
    with pytest.raises(UsageError, match="split is None"):
        read_pairs(two)
    with pytest.raises(DataError, match="no split 'tset'"):
        read_pairs(two, split="tset")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf:owner/name", ("owner/name", None, None, None)),
        ("hf:squad", ("squad", None, None, None)),
        ("hf:owner/name/main", ("owner/name", "main", None, None)),
        ("hf:o/n@refs/pr/1", ("o/n", None, "refs/pr/1", None)),
        ("hf:o/n/en.v2@0a1b2c:train[:10%]", ("o/n", "en.v2", "0a1b2c", "train[:10%]")),
        ("hf:o/n:train+test", ("o/n", None, None, "train+test")),
    ],
)
def test_the_grammar_of_the_hub(text, parts):
    name = HubName.of(text)
    assert (name.name, name.config, name.revision, name.split) == parts


@pytest.mark.parametrize("text", ["hf:", "hf:a/b/c/d", "hf:a/b@", "hf:a/b:", "hf:a//b", "hf:a/b@x@y", "hf:/a"])
def test_what_is_no_name_of_the_hub_is_refused_with_the_grammar(text):
    with pytest.raises(DataError, match="not the name of a dataset") as error:
        read_pairs(text)
    assert "hf:owner/name, with /config, @revision and :split" in error.value.expected


def test_configuration_revision_and_split_reach_the_library(monkeypatch):
    asked = []

    def load(path, **options):
        asked.append((path, options))
        rows = datasets.Dataset.from_list(pairs("a", "b"))
        return rows if "split" in options else datasets.DatasetDict(train=rows, test=rows.select([1]))

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert prompts(read_pairs("hf:o/n/main@v1:test")) == ["b"]
    assert prompts(read_pairs("hf:o/n", split="train")) == ["a", "b"]
    assert prompts(read_pairs("hf:o/n:train[:2]")) == ["a", "b"]
    assert prompts(read_pairs("hf:o/n:test,hf:o/m:train")) == ["b", "a", "b"]
    assert asked[:3] == [
        ("o/n", {"name": "main", "revision": "v1"}),
        ("o/n", {}),
        ("o/n", {"split": "train[:2]"}),
    ]
    with pytest.raises(UsageError, match="'test', which the name says"):
        read_pairs("hf:o/n:test", split="train")
    with pytest.raises(DataError, match="the dataset has 2 splits"):
        read_pairs("hf:o/n")


def test_a_missing_configuration_lists_those_that_there_are(monkeypatch):
    def load(path, **options):
        raise ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']\nExample: x")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"available configs: \['a', 'b'\]") as error:
        read_pairs("hf:o/n")
    assert "hf:owner/name/CONFIG" in error.value.fix


def test_a_cached_dataset_is_read_by_the_library_itself(tmp_path, monkeypatch):
    """``load_dataset`` reads a local folder of that name as it reads a repository: no network is needed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    jsonl(tmp_path / "owner" / "name" / "train.jsonl", pairs("a"))
    jsonl(tmp_path / "owner" / "name" / "test.jsonl", pairs("b", "c"))
    loaded = read_pairs("hf:owner/name:test")
    assert prompts(loaded) == ["b", "c"]
    assert loaded.place(1) == "hf:owner/name:test:2"


def test_without_network_the_error_says_what_to_do():
    with pytest.raises(DataError, match="cannot be loaded from the Hugging Face hub") as error:
        read_pairs("hf:nobody/nothing-of-this-name/config@main")
    assert "check the name and the connection" in error.value.fix


# What a set is known by -----------------------------------------------------------------------------------------------


def test_the_fingerprint_of_a_set_is_that_of_all_its_files(mixed, tmp_path):
    before = data_hash(str(mixed))
    assert before == data_hash(f"{mixed}/**/*") == data_hash(str(mixed) + "/")
    (mixed / "README.md").write_text("no data")
    assert data_hash(str(mixed)) == before
    moved = tmp_path / "elsewhere"
    mixed.rename(moved)
    assert data_hash(str(moved)) == before
    with open(moved / "deep" / "c.jsonl", "a") as handle:
        handle.write("\n")
    assert data_hash(str(moved)) != before
    assert data_hash(f"{moved}/b.jsonl") == data_hash(str(jsonl(tmp_path / "other.jsonl", pairs("b1", "b2"))))
    assert data_hash(f"{moved}/b.jsonl,{moved}/a.parquet") != data_hash(f"{moved}/a.parquet,{moved}/b.jsonl")
    assert data_hash("hf:owner/name@v1") == "name:hf:owner/name@v1"
    assert data_hash(f"hf:owner/name,{moved}/b.jsonl").startswith("name:hf:owner/name+")
    with pytest.raises(DataError, match="no file matches"):
        data_hash(f"{moved}/*.none")


def test_listing_is_stable_whatever_the_file_system_says(mixed, monkeypatch):
    real = os.scandir

    class Reversed:
        def __init__(self, path):
            with real(path) as entries:
                self.entries = sorted(entries, key=lambda e: e.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            return None

    wanted = [m.name for m in listed(mixed).members]
    monkeypatch.setattr("trueup.data.listing.os.scandir", Reversed)
    assert [m.name for m in listed(mixed).members] == wanted


def test_check_shows_each_file_and_places_by_file(mixed):
    jsonl(mixed / "y.jsonl", [*pairs("a1"), {"prompt": "b1", "chosen": "bad b1", "rejected": "good b1"}])
    report = check_file(mixed, against=[mixed / "deep"])
    text = report.format_text()
    assert f"file {mixed}/a.parquet: 2 rows, 2 preference pairs" in text
    assert f"! duplicates: 1 ({mixed}/y.jsonl:1)" in text
    assert f"! contradictions: 1 ({mixed}/y.jsonl:2)" in text
    assert f"! prompts also in {mixed}/deep: 1 ({mixed}/deep/c.jsonl:1)" in text
    written = json.loads(json.dumps(report.to_dict()))
    assert written["read"]["files"][f"{mixed}/y.jsonl"] == {
        "rows": 2,
        "items": 2,
        "columns": ["prompt", "chosen", "rejected"],
    }
    assert written["contradictions"]["lines"] == [f"{mixed}/y.jsonl:2"]


def test_other_kinds_read_sets_too(tmp_path):
    jsonl(tmp_path / "a.jsonl", [{"prompt": "p", "completion": "c"}])
    parquet(tmp_path / "b.parquet", [{"prompt": "q", "completion": "d"}])
    assert [d.completion for d in read_demonstrations(tmp_path).items] == ["c", "d"]
    assert list(read_prompts(tmp_path).items) == ["p", "q"]


def test_errors_are_of_the_family(mixed):
    for name in (f"{mixed}/*.x", f"{mixed},", "hf:a/b/c/d"):
        with pytest.raises(TrueupError):
            read_pairs(name)
