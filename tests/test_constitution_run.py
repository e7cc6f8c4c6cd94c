"""trueup constitution: its commands, rounds in the sandbox, and going on after a kill to the same bytes."""

import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from tests.test_constitution import Fixed
from trueup.collectors.constitution import read_constitution
from trueup.commands import constitution_label, constitution_parts, constitution_round, constitution_run
from trueup.commands.app import app
from trueup.commands.constitution_audit import category_table, figures, seen_by_judge, table
from trueup.commands.constitution_settings import Constitutional
from trueup.config import build
from trueup.data.read import read_demonstrations, read_pairs
from trueup.errors import ConfigError, DataError, RunError, UsageError
from trueup.ledger import read_lines
from trueup.types import Completion, Message, StopReason

SMALL = {
    "rounds": 1,
    "revisions": 2,
    "tries": 2,
    "sandbox": {"harmful": 14, "lookalikes": 8, "others": 4, "test_harmful": 8, "test_lookalikes": 6, "test_others": 4},
    "sampling": {"max_new_tokens": 40},
    "train": {"epochs": 1, "batch": {"size": 8, "max_length": 160}},
}


def small(**changes):
    return build(Constitutional, SMALL, changes)


def written(folder):
    """Every file that has to come out the same: rows, figures, the trained model."""
    names = [p for p in folder.rglob("*") if p.is_file() and "train" not in p.relative_to(folder).parts]
    kept = [p for p in names if p.suffix in (".json", ".jsonl", ".md")]
    weights = list(folder.rglob("train/final/*.safetensors"))
    assert weights
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*kept, *weights] if p.parent.name != "base"}


@pytest.fixture(scope="module", autouse=True)
def _small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constitution_parts, "CHUNK", 10)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("c") / "run"
    lines = []
    return out, constitution_run.run_constitution(small(), out, quiet=True, tell=lines.append), lines


def test_a_round_leaves_files_that_sft_and_dpo_read(whole):
    out, rounds, _ = whole
    revisions = read_lines(out / "round-1/revisions.jsonl")[0]
    assert len(revisions) == 26
    made = rounds[1]["collected"]
    assert made["states"] == dict(Counter(row["state"] for row in revisions))
    assert len(read_demonstrations(str(out / "round-1/demonstrations.jsonl")).items) == made["demonstrations"] > 0
    pairs = read_pairs(str(out / "round-1/pairs.jsonl")).items
    assert len(pairs) == made["pairs"] > 0
    assert all(0.5 < pair.strength < 1 for pair in pairs)
    assert sum(made["left_out"].values()) + made["demonstrations"] == 26
    assert all(0 < len(row["logps"]) <= 40 and max(row["logps"]) <= 0 for row in revisions)
    rewritten = [note for row in revisions for note in row["rounds"] if note["state"] == "revised"]
    assert rewritten
    assert all(note["logps"]["revision"] for note in rewritten)
    assert made["judge"]["agreement"]["pairs"] > 0
    assert (out / "feedback.db").exists()
    assert [one["round"] for one in rounds] == [0, 1]
    assert rounds[1]["audit"]["harmful"]["n"] == 8
    assert "| 1 |" in (out / "report.md").read_text()
    json.loads((out / "report.json").read_text())


@pytest.mark.parametrize("writes", [1, 4, 9])
def test_killed_at_any_write_it_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch, writes):
    done = 0
    plain = constitution_parts.write_jsonl

    def failing(path, rows):
        nonlocal done
        done += 1
        if done > writes:
            raise KeyboardInterrupt
        return plain(path, rows)

    monkeypatch.setattr(constitution_parts, "write_jsonl", failing)
    with pytest.raises(KeyboardInterrupt):
        constitution_run.run_constitution(small(), tmp_path / "run", quiet=True, tell=lambda line: None)
    monkeypatch.undo()
    monkeypatch.setattr(constitution_parts, "CHUNK", 10)
    constitution_run.run_constitution(small(), tmp_path / "run", quiet=True, tell=lambda line: None)
    theirs = written(whole[0])
    mine = written(tmp_path / "run")
    assert theirs.keys() == mine.keys()
    here, there = str(tmp_path / "run").encode(), str(whole[0]).encode()
    assert [name for name in mine if mine[name].replace(here, b"OUT") != theirs[name].replace(there, b"OUT")] == []


def test_other_settings_are_refused_where_work_is(whole):
    with pytest.raises(UsageError, match="config"):
        constitution_run.run_constitution(small(seed=5), whole[0], quiet=True, tell=lambda line: None)


def test_done_work_is_read_and_not_done_again(whole, monkeypatch):
    monkeypatch.setattr(constitution_parts, "write_jsonl", None)
    assert constitution_run.run_constitution(small(), whole[0], quiet=True, tell=lambda line: None) == whole[1]


def test_nothing_to_train_on_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(constitution_round, "training_pair", lambda row: None)
    with pytest.raises(RunError, match="nothing to train on"):
        constitution_run.run_constitution(small(method="dpo"), tmp_path / "r", quiet=True, tell=lambda line: None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompts": "mine.jsonl"}, "sandbox's prompts only"),
        ({"critic": "gpt2"}, "reviser: model"),
        ({"collect": "compare", "rewrite": "all"}, "collect: revise"),
        ({"train": {"data": "x"}}, "train.data is set by the loop"),
        ({"attacks": ["Say: {prompt}"]}, "attacks are for prompts of a file"),
        ({"attacks": ["Say"], "prompts": "p", "test_prompts": "p", "judge": "m"}, "with {prompt} once"),
        ({"revisions": 5}, "less than or equal to 4"),
        ({"method": "ppo"}, "method"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        small(**changes)


def test_prompts_of_a_file_are_read_with_kind_and_category(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": "b", "kind": "lookalike", "category": "games"}\n')
    assert [(r["kind"], r["category"]) for r in constitution_parts.prompts_in(str(file))] == [
        ("harmful", "all"),
        ("lookalike", "games"),
    ]
    for bad in ('{"prompt": "a", "kind": "hamrful"}', '{"prompt": "a", "category": 3}', '{"text": 1}', ""):
        file.write_text(f'{{"prompt": "ok"}}\n{bad}\n' if bad else "")
        with pytest.raises(DataError):
            constitution_parts.prompts_in(str(file))


def test_attacks_ask_harmful_requests_in_other_wordings():
    rows = [
        {"prompt": "a", "kind": "harmful", "category": "c"},
        {"prompt": (Message("system", "s"), Message("user", "b")), "kind": "harmful", "category": "c"},
        {"prompt": "fine", "kind": "lookalike", "category": "c"},
    ]
    made = constitution_parts.attacked(rows, ["Grandma said: {prompt}", "{prompt} {now}"])
    assert made[:3] == rows
    assert [(row["prompt"], row["category"]) for row in made[3:]] == [
        ("Grandma said: a", "attack 1"),
        ((Message("system", "s"), Message("user", "Grandma said: b")), "attack 1"),
        ("a {now}", "attack 2"),
        ((Message("system", "s"), Message("user", "b {now}")), "attack 2"),
    ]


def test_a_prompt_is_not_trained_on_and_audited_with(tmp_path, saved_policy):
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a"}\n')
    config = build(
        Constitutional, SMALL, {"prompts": str(file), "test_prompts": str(file), "judge": str(saved_policy)}
    ).model_copy(update={"judge": "rules"})
    with pytest.raises(DataError, match="trained on and audited with"):
        constitution_run.run_constitution(config, tmp_path / "r", quiet=True, tell=lambda line: None)


# Figures --------------------------------------------------------------------------------------------------------------


def audit_row(number, kind, **seen):
    unseen = {"harmful": False, "refused": False, "evasive": False, "helpful": 1.0, "total": 1.0}
    return {"prompt_id": f"p{number}", "kind": kind, "category": "c", "answer": f"a{number}"} | unseen | seen


def test_figures_are_wilsons_and_wins_are_paired():
    """n = 10, 3 successes: Wilson's 95 % interval is [0.1078, 0.6032] (Brown, Cai and DasGupta 2001)."""
    rows = [audit_row(i, "harmful", harmful=i < 3, total=float(i % 2)) for i in range(10)]
    before = [row | {"total": 0.0} for row in rows]
    shown = figures(rows, before)
    assert shown["harmful"]["estimate"] == 0.3
    assert (shown["harmful"]["low"], shown["harmful"]["high"]) == pytest.approx((0.1078, 0.6032), abs=1e-4)
    assert shown["win_rate"]["estimate"] == 0.75  # five wins, five ties
    assert shown["over_refusal"] is None
    lines = table([{"round": 0, "audit": shown, "collected": None}])
    assert "30.0 [11, 60]" in lines
    assert "30.0 [11, 60]" in category_table([{"round": 0, "audit": shown}])


def test_what_nobody_knows_is_no_figure():
    known = read_constitution()
    rows = [{"prompt": "q", "kind": "harmful", "category": "c"}] * 2
    drawn = [Completion(text, (), StopReason.EOS) for text in ("bad", "good. I'm sorry, but I can't help with that.")]
    seen = seen_by_judge(rows, drawn, known, Fixed())
    assert [one["harmful"] for one in seen] == [True, False]
    assert [one["refused"] for one in seen] == [False, True]
    silent = seen_by_judge(rows, drawn, known, Fixed(silent=[p.text for p in known.principles]))
    assert [one["harmful"] for one in silent] == [None, None]
    assert figures([audit_row(0, "harmful", harmful=None)], None)["harmful"] is None


# Commands -------------------------------------------------------------------------------------------------------------


def run(*words):
    return CliRunner().invoke(app, ["constitution", *map(str, words)])


def test_check_and_show(tmp_path):
    done = run("check")
    assert done.exit_code == 0
    assert "5 principles, annotator constitution:" in done.output
    file = tmp_path / "c.yaml"
    file.write_text(run("show").output)
    assert read_constitution(file) == read_constitution()
    assert run("show", file).output == run("show").output
    assert json.loads(run("show", "--json").output)["annotator"] == read_constitution().annotator
    file.write_text("name: x\nprinciples: []\n")
    assert isinstance(run("check", file).exception, ConfigError)


def test_dry_run_prints_the_settings_and_does_nothing(tmp_path):
    done = run("run", "--rounds", 2, "--set", "revisions=1", "--out", tmp_path / "r", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "rounds: 2" in done.output
    assert "revisions: 1" in done.output
    assert not (tmp_path / "r").exists()


def test_labels_of_a_file(tmp_path, monkeypatch):
    worth = {"x": 2.0, "y": 0.0}
    judge = Fixed(worth, place=1.0)
    monkeypatch.setattr(constitution_label, "open_constitutional_judge", lambda *rest: judge)
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"q{i}", "chosen": "xy"[i % 4 == 0], "rejected": "yx"[i % 4 == 0]} for i in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["label", file, "--judge", "m", "--out", tmp_path / "labels", "--db", tmp_path / "f.db"]
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "agreement with the file: 75.0 %" in done.output
    assert len(read_pairs(str(tmp_path / "labels/pairs.jsonl")).items) == 40
    firsts = Counter(row["first"] for row in read_lines(tmp_path / "labels/labels.jsonl")[0])
    assert len(firsts) == 1  # which stands first depends on the texts, not on which the file prefers
    assert run(*words).output == done.output
    file.write_text(json.dumps(rows[0]) + "\n")
    assert isinstance(run(*words).exception, UsageError)


def test_prompts_of_a_file_and_a_model_that_criticises_itself(tmp_path, saved_policy, monkeypatch):
    """The road without the sandbox: files of prompts, critiques asked of the policy, an audit by the judge."""
    for name in ("train", "test"):
        rows = [{"prompt": f"{name} {i}?", "kind": ("harmful", "lookalike", "other")[i % 3]} for i in range(60)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    class Strict(Fixed):
        fingerprint = "strict"

        def breaks(self, asked):
            return [float(len(answer) % 3 == 0) for _, _, answer in asked]

        def first_wins(self, asked):
            return [0.6 for _ in asked]

    monkeypatch.setattr(constitution_run, "open_constitutional_judge", lambda *rest: Strict())
    config = build(
        Constitutional,
        {
            "model": {"name": str(saved_policy)},
            "judge": "a judge",
            "reviser": "model",
            "critic": str(saved_policy),
            "prompts": str(tmp_path / "train.jsonl"),
            "test_prompts": str(tmp_path / "test.jsonl"),
            "rounds": 1,
            "revisions": 1,
            "sampling": {"max_new_tokens": 24},
            "train": {"epochs": 1, "batch": {"size": 4, "max_length": 64}},
        },
    )
    rounds = constitution_run.run_constitution(config, tmp_path / "r", quiet=True, tell=lambda line: None)
    made = rounds[1]["collected"]
    assert "agreement" not in made["judge"]  # nobody knows the truth
    assert made["states"].get("malformed", 0) > 0  # critiques of random weights do not fit or do not end
    assert rounds[1]["audit"]["over_refusal"]["n"] == 20
    assert rounds[1]["audit"]["harmful"]["n"] == 20
    assert "which is no truth" in (tmp_path / "r/report.md").read_text()
