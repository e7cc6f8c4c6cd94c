"""Stages that train nothing: skipped when unchanged, done anew when not; mistakes name stage and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import TEXTS
from tests.reports.test_reports import Page
from trueup.commands import stage_kinds
from trueup.commands.frontier_data import gather
from trueup.commands.pipeline import Stage, chain, references, result_of, run_stages
from trueup.config.text import parse_yaml
from trueup.data.write import write_jsonl
from trueup.errors import ConfigError, RunError, TrueupError, UsageError
from trueup.ledger import Run


def stages(text):
    return chain(parse_yaml(text, "r.yaml"), "r.yaml")[1]


@pytest.fixture
def judged(tmp_path):
    rows = [
        {"prompt": f"What does the {animal} like?", "chosen": f"Milk and a nap, {animal}.", "rejected": "No idea."}
        for animal in "cat dog owl fox bee hen ant bat cow elk pig rat gnu yak emu".split()
    ]
    return write_jsonl(tmp_path / "judged.jsonl", rows)


def run(tmp_path, several, **options):
    told = []
    done = run_stages(tmp_path / "out", several, tell=told.append, **options)
    return done, told


def road(judged, min_votes=1):
    return stages(
        f"stages:\n  - {{kind: import, file: {judged}, project: animals}}\n"
        f'  - {{name: labels, kind: curate, db: "@import", project: animals, min_votes: {min_votes}}}\n'
    )


def test_import_and_curate_are_done_once_and_anew_when_the_data_changes(tmp_path, judged):
    done, told = run(tmp_path, road(judged))
    files = list((result_of(done["labels"]) / "train").glob("*.jsonl"))
    assert len(files) == 1
    assert [line.split(":")[0] for line in told] == ["import", "labels"]
    _, told = run(tmp_path, road(judged))
    assert told == ["import: unchanged, skipped", "labels: unchanged, skipped"]
    _, told = run(tmp_path, road(judged, min_votes=0 + 1))
    assert all("skipped" in line for line in told)
    with open(judged, "a", encoding="utf-8") as handle:
        handle.write(json.dumps({"prompt": "And the ape?", "chosen": "Fruit.", "rejected": "No."}) + "\n")
    done, told = run(tmp_path, road(judged))
    assert sum("moved aside" in line or "what was here is in" in line for line in told) == 2
    assert (tmp_path / "out" / "labels.old-1" / "snapshot").is_dir()  # nothing is deleted
    rows = json.loads((result_of(done["labels"]) / "manifest.json").read_text())["files"]
    assert sum(entry["rows"] for entry in rows) == 16


def test_a_file_of_an_earlier_stage_can_be_named():
    stage = Stage("x", "sft", {"data": "@labels/train/pairs.jsonl", "model": {"name": "@sft"}, "more": ["@a", 3]})
    assert references(stage.settings) == {"labels", "sft", "a"}
    several = stages('stages:\n  - {kind: report, run: "@labels/train"}\n')
    with pytest.raises(ConfigError, match="@labels is not an earlier stage"):
        run_stages(Path("unused"), several)


def finished(path, steps=30):
    with Run.start(path, kind="sft", config={"seed": 0}, inputs={}, defaults={"seed": 1}, quiet=True) as one:
        for step in range(steps):
            one.log(step, {"loss": 2.0 - step / 40, "nll": 2.0 - step / 40})
            one.time(step, 0.1)
    return path


def test_a_report_is_written_anew_when_its_run_went_on(tmp_path):
    finished(tmp_path / "sft")
    several = [Stage("page", "report", {"run": str(tmp_path / "sft")})]
    done, told = run(tmp_path, several)
    assert Page((done["page"] / "report.html").read_text()).stack == []
    assert any("done in" in line for line in told)
    assert run(tmp_path, several)[1] == ["page: unchanged, skipped"]
    with open(tmp_path / "sft" / "metrics.jsonl", "a", encoding="utf-8") as handle:
        handle.write(json.dumps({"step": 30, "loss": 1.0}) + "\n")
    assert any("changed" in line for line in run(tmp_path, several)[1])


@pytest.mark.slow
def test_an_evaluation_is_a_stage(tmp_path, saved_policy):
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": text[:20]} for text in TEXTS[:4]])
    (tmp_path / "brief.py").write_text(
        "def brief(prompts, completions):\n    return [-len(c.text) for c in completions]\n"
    )
    settings = {
        "models": {"a": str(saved_policy), "b": str(saved_policy)},
        "data": str(prompts),
        "reward": "brief:brief",
        "sampling": {"max_new_tokens": 4},
        "limit": 4,
        "samples": 2,
    }
    several = [Stage("test", "evaluate", settings)]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        done, _ = run(tmp_path, several)
        rows = [json.loads(line) for line in (done["test"] / "eval.jsonl").read_text().splitlines()]
        assert {row["model"] for row in rows} == {"a", "b"}
        assert len(rows) == 2 * 2 * 4
        assert gather([str(done["test"])], None, (), None).best[-1].n == 2
        assert run(tmp_path, several)[1] == ["test: unchanged, skipped"]
        (done["test"] / "stage.json").unlink()  # as when it was cut off
        assert any("cut off" in line for line in run(tmp_path, several)[1])


@pytest.mark.slow
def test_an_evaluation_takes_judges_and_a_reward_of_parts(tmp_path, saved_policy):
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": text[:20], "answer": text} for text in TEXTS[:4]])
    module = tmp_path / "judging.py"
    module.write_text("def brief(prompt, answer):\n    return -float(len(answer))\n")
    parts = tmp_path / "parts.yaml"
    parts.write_text("reward: [{kind: length, name: short}, {kind: repetition}]\n")
    settings = {
        "models": {"a": str(saved_policy), "b": str(saved_policy)},
        "data": str(prompts),
        "reward": [{"kind": "length", "weight": 2.0}],
        "judges": ["brief=python:judging:brief", f"file=reward:{parts}", "reference"],
        "sampling": {"max_new_tokens": 4},
    }
    several = [Stage("test", "evaluate", settings)]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        done, _ = run(tmp_path, several)
        rows = [json.loads(line) for line in (done["test"] / "eval.jsonl").read_text().splitlines()]
        assert all(row["brief"] == -len(row["completion"]) for row in rows)
        assert {"reward", "file", "reference"} <= set(rows[0])
        assert all(row["reward"] == pytest.approx(-2 * len(row["completion"].split()) / 100) for row in rows)
        assert run(tmp_path, several)[1] == ["test: unchanged, skipped"]
        parts.write_text("reward: [{kind: length, name: short, weight: 3}]\n")  # what a judge reads is part of it
        assert any("changed" in line for line in run(tmp_path, several)[1])
        settings |= {"reward": None, "judges": []}
        done, told = run(tmp_path, [Stage("plain", "evaluate", settings)])
        assert any("Quality was not judged" in line for line in told)


def test_stages_that_judges_name_are_resolved_in_them():
    settings = {"judges": ["reward:@rm", "own=implicit:@dpo#beta=0.1", "python:my:judge", "@rm"]}
    assert references(settings) == {"rm", "dpo"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [{kind: evaluate, data: x, models: {a: m}, judges: [people]}]", "people judge when they have time"),
        ("stages: [{kind: evaluate, data: x, models: {a: m}, judges: [golden]}]", "did you mean 'gold'"),
        ("stages: [{kind: evaluate, data: x, models: {a: m}, reward: [{kind: lenght}]}]", "lenght"),
        ("stages: [{kind: evalute, data: x}]", "kind is 'evalute'"),
        ("stages: [{kind: evaluate, data: x, reward: r}]", r"(?s)stage evaluate.*models"),
        ("stages: [{kind: evaluate, data: x, reward: r, models: {}}]", r"(?s)stage evaluate.*models"),
        (
            "stages: [{kind: evaluate, data: x, reward: r, models: {a: m}, limt: 3}]",
            r"(?s)stage evaluate.*limt \(r\.yaml:1\)",
        ),
        ("stages: [{kind: report}]", r"(?s)stage report.*run"),
        ("stages: [{kind: curate, db: d, project: p, format: xml}]", r"(?s)stage curate.*format"),
        ("stages: [{kind: import, file: f}]", r"(?s)stage import.*project"),
        ("stages: [{kind: sft, name: a}, {kind: sft, name: a}]", "two stages are called 'a'"),
    ],
)
def test_mistakes_name_the_stage_and_the_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        run_stages(tmp_path, stages(text))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("kind: constitution, judge: ruels", r"(?s)stage cai.*judge \(r\.yaml:3\).*did you mean 'rules'"),
        ("kind: constitution, judge: Self", r"(?s)stage cai.*judge \(r\.yaml:3\).*did you mean 'self'"),
        (
            "kind: constitution, judge: 'rules:0.3'",
            r"(?s)stage cai.*judge \(r\.yaml:3\).*rules:error=0\.2 \(0 to 0\.5\)",
        ),
        ("kind: constitution, judge: 'rules:error=nan'", r"(?s)stage cai.*judge \(r\.yaml:3\).*rules:error=0\.2"),
        ("kind: constitution, judge: ' '", r"(?s)stage cai.*judge \(r\.yaml:3\).*no model is named"),
        ("kind: constitution, judge: 'self#reasons=9'", r"(?s)stage cai.*judge \(r\.yaml:3\).*takes nothing behind it"),
        ("kind: constitution, judge: 'd/m#reasons=-1'", r"(?s)stage cai.*judge \(r\.yaml:3\).*reasons"),
        ("kind: constitution, judge: 'https://h/v1#concurrency=2'", r"(?s)stage cai.*judge \(r\.yaml:3\).*model"),
        (
            "kind: constitution, judge: no/such/place/at/all",
            r"stage cai: judge \(r\.yaml:3\): no/such(?s:.*)rules:error",
        ),
        ("kind: constitution, model: {name: no/such/place}", r"stage cai: model\.name \(r\.yaml:3\): no/such/place"),
        (
            "kind: evaluate, data: DATA, models: {a: no/such/place}",
            r"stage cai: models\.a \(r\.yaml:3\): no/such/place",
        ),
        ("kind: evaluate, data: absent.jsonl, models: {a: MODEL}", r"stage cai: data \(r\.yaml:3\): .*absent\.jsonl"),
        (
            "kind: evaluate, data: DATA, models: {a: MODEL}, judges: [gold, 'strict=python:trueup.types:scored']",
            r"stage cai: judges\.strict \(r\.yaml:3\): .*trueup\.types has no 'scored'",
        ),
        (
            "kind: evaluate, data: DATA, models: {a: MODEL}, judges: ['reward:no/such/place']",
            r"stage cai: judges\.reward \(r\.yaml:3\): no/such/place",
        ),
        ("kind: report, run: no/such/run", r"stage cai: run\.json|stage cai: run"),
        ("kind: import, project: p, file: no-file.jsonl", r"stage cai: file \(r\.yaml:3\): no-file\.jsonl"),
    ],
)
def test_what_cannot_be_used_is_named_with_stage_setting_and_line(tmp_path, saved_policy, judged, settings, message):
    filled = settings.replace("DATA", str(judged)).replace("MODEL", str(saved_policy))
    several = stages(f"out: x\nstages:\n  - {{name: cai, {filled}}}\n")
    with pytest.raises(TrueupError, match=message):
        run_stages(tmp_path, several)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path, judged):
    (tmp_path / "out" / "import").mkdir(parents=True)
    (tmp_path / "out" / "import" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not empty"):
        run(tmp_path, road(judged))
    assert (tmp_path / "out" / "import" / "thesis.tex").exists()
    finished(tmp_path / "other" / "import")
    with pytest.raises(UsageError, match="training run"):
        run_stages(tmp_path / "other", road(judged))


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": 3}', '{"result": 3}', "\x00", "[" * 2000])
def test_a_damaged_record_is_named(tmp_path, judged, text):
    done, _ = run(tmp_path, road(judged))
    (done["import"] / "stage.json").write_text(text)
    with pytest.raises(RunError, match=r"stage\.json is damaged"):
        run(tmp_path, road(judged))
    assert "import.old-1" in " ".join(run(tmp_path, road(judged), fresh=True)[1])


def test_every_setting_of_a_stage_is_documented():
    from trueup.config import describe

    for kind, stage in stage_kinds.KINDS.items():
        assert [name for name, _, _, text in describe(stage.settings) if not text] == [], kind
