"""Reports stand alone, say what the numbers say, and treat model text as hostile."""

from __future__ import annotations

import json
import re
import warnings
from html.parser import HTMLParser

import pytest

from tests.evaluation.test_evaluation import rows
from trueup.errors import UsageError
from trueup.ledger import Run
from trueup.reports.build import build_report, report_run
from trueup.reports.figures import Series, over_root_kl, panels, smooth
from trueup.reports.logs import read_log
from trueup.reports.page import Section, Table, number, oneline, write_page
from trueup.reports.verdict import SMOKE, verdict


def misplaced(html):
    """Tables in which a header does not stand as the cells below it."""
    tables = re.findall(r"<thead><tr>(.*?)</tr></thead>\s*<tbody>\s*<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
    assert tables
    classes = [[re.findall(r"<t[hd]([^>]*)>", row)[1:] for row in table] for table in tables]
    found = [[["class=" in one and one.split('"')[-2] for one in row] for row in table] for table in classes]
    return [head for (head, _), (above, below) in zip(tables, found, strict=True) if above != below]


class Page(HTMLParser):
    void = {"meta", "link", "br", "hr", "img"}  # noqa: RUF012

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.text, self.attributes = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def runs(tmp_path):
    config = {"kl": {"kind": "adaptive", "target": 6.0}, "seed": 0, "optim": {"learning_rate": 0.1}}
    given = {"config": config, "defaults": config | {"seed": 1}, "inputs": {"data": "abc"}}
    with Run.start(tmp_path / "ppo", kind="ppo", quiet=True, **given) as run:
        for step in range(20):
            run.log(step, {"score": 0.1 * step, "kl": 5.9 + 0.01 * step, "beta": 0.1, "completion_length": 9.0})
            run.time(step, 0.5)
    return {"ppo": tmp_path / "ppo"}


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def written(runs, out, **more):
    evaluation = rows("sft", [0.2, 0.4] * 10) + rows("ppo", [0.8, 0.9] * 10)
    evaluation[0]["completion"] = HOSTILE
    return build_report(runs, evaluation, out, title="A & B", facts={"seed": 1}, **more)


def test_html_is_whole_self_contained_and_escapes_model_text(runs, tmp_path):
    report = written(runs, tmp_path / "out", commands=["trueup x"])
    text = report.html.read_text()
    page = Page(text)
    assert page.stack == []
    assert "script" not in page.tags
    assert HOSTILE not in text
    assert any("alert(1)" in piece for piece in page.text)
    outside = [v for k, v in page.attributes if k in ("src", "href") and v and not v.startswith("#")]
    assert outside == []
    assert page.tags.count("svg") == 2
    assert "changed" in [v for k, v in page.attributes if k == "class"]


def test_markdown_and_summary_carry_the_same_numbers(runs, tmp_path):
    report = written(runs, tmp_path / "out")
    summary = json.loads(report.summary.read_text())
    assert summary["comparison"]["models"]["ppo"]["gold"]["estimate"] == pytest.approx(0.85)
    assert "| ppo | 0.850 |" in report.markdown.read_text()
    assert "<script>" not in report.markdown.read_text()
    assert (tmp_path / "out" / "figures" / "quality.svg").exists()
    assert any("ppo is better than sft: it wins 100.0%" in line for line in report.verdict)
    assert any("inside the target band" in line for line in report.verdict)


def test_equal_runs_give_equal_bytes(runs, tmp_path):
    one, two = (written(runs, tmp_path / name).html.read_bytes() for name in ("one", "two"))
    assert one == two


def test_report_of_one_run_and_of_no_run(runs, tmp_path):
    assert report_run(runs["ppo"]).html.parent == runs["ppo"]
    with pytest.raises(UsageError, match="not a run directory"):
        report_run(tmp_path)


def test_verdict_says_worse_and_undecided_and_hacked():
    def entry(low, high):
        return {"win_rate": {"rate": {"estimate": (low + high) / 2, "low": low, "high": high}}}

    def compared(kind, **models):
        return {"baseline": "sft", "models": {}, "judges": [{"label": kind, "kind": kind, "models": models}]}

    data = {
        "comparison": compared("gold", a=entry(0.1, 0.4), b=entry(0.4, 0.6)),
        "runs": {"ppo": {"status": "stopped"}},
        "overoptimization": {"found": True, "at": 12.0, "gold_lost": 0.2},
    }
    said = "\n".join(verdict(data))
    assert "a is worse than sft" in said
    assert "b is not distinguishable" in said
    assert "from step 12 on the proxy rises while gold falls" in said
    assert "not finished" in said
    judged = compared("reward", a=entry(0.6, 0.8))
    assert "a is better than sft by the reward's score" in next(verdict({"comparison": judged}))


def share(estimate, low=None, high=None):
    return {"estimate": estimate, "low": low, "high": high, "n": 100}


def skill(**leads):
    return {
        "accuracy": share(0.76, 0.74, 0.78),
        "ceiling": share(0.8, 0.78, 0.82),
        "learned": share(0.867, 0.8, 0.93),
        "baselines": {name: share(0.7) for name in leads},
        "leads": leads,
    }


def test_verdict_on_the_reward_model_is_corrected_for_chance_and_names_who_beats_whom():
    found = skill(length=share(0.2, 0.18, 0.22), words=share(0.01, -0.01, 0.03), better=share(-0.04, -0.06, -0.02))
    said = list(verdict({"skill": found}))
    assert "agrees with 76.0% (95 % interval 74.0% to 78.0%)" in said[0]
    assert "a coin would with 50 %" in said[0]
    assert "Of what can be learned between the two it has 86.7% (95 % interval 80.0% to 93.0%)" in said[0]
    assert not any("95.0%" in line for line in said)  # accuracy over the ceiling flatters
    assert said[1].startswith("The reward model beats length")
    assert said[2].startswith("The reward model does not beat words")
    assert said[3].startswith("The reward model is beaten by better")
    unknown = skill(words=share(0.1)) | {"learned": None}
    said = list(verdict({"skill": unknown}))
    assert "may be no more than a coin" in said[0]
    assert "too little to say whether that is more than chance" in said[1]
    assert "noise" not in next(verdict({"skill": skill() | {"ceiling": None, "learned": None}}))


def test_verdict_on_the_kl_says_where_it_ended_and_whether_it_moves():
    def band(**more):
        found = {"low": 4.8, "high": 7.2, "steps": 32, "mean": 6.05, "end": 8.0, "moving": True, "inside": False}
        return {"runs": {"ppo": {"status": "done", "kl_band": found | {"slope": share(0.1, 0.08, 0.12)} | more}}}

    (said,) = verdict(band())
    assert "the KL ended at 8.00 nats and still rises (+1.00 nats in ten steps, 95 % interval +0.80 to +1.20)" in said
    assert "not inside the target band of 4.8 to 7.2" in said
    (said,) = verdict(band(end=6.0, moving=False, inside=True))
    assert "no longer moves beyond its noise" in said
    assert "That is inside the target band" in said
    (said,) = verdict(band(end=7.0))
    assert "at this pace it does not stay there" in said
    (said,) = verdict(band(end=5.0, mean=9.0, slope=share(-0.1, -0.12, -0.08)))
    assert "still falls (-1.00" in said
    assert "its mean was not" in said
    (said,) = verdict(band(end=6.0, slope=None, moving=None, inside=True))
    assert "too few steps to say whether it still moves" in said


def test_a_smoke_run_says_so_first_and_claims_nothing(runs, tmp_path):
    report = written(runs, tmp_path / "out", smoke=True, skill=skill(words=share(0.1, 0.05, 0.2)))
    assert report.verdict == (SMOKE,)
    html, plain = report.html.read_text(), report.markdown.read_text()
    assert "<h1>Smoke run: A &amp; B</h1>" in html
    assert misplaced(html) == []
    assert html.index(SMOKE) < html.index("<h2>")
    assert f"**{SMOKE}**" in plain
    for claim in ("is better than", "The reward model", "target band", "Over-optimisation"):
        assert claim not in html
        assert claim not in plain


def test_the_page_shows_learned_share_baselines_and_a_coin(runs, tmp_path):
    report = written(runs, tmp_path / "out", skill=skill(words=share(0.01, -0.01, 0.03)))
    for text in (report.html.read_text(), report.markdown.read_text()):
        assert "0.800 to 0.930" in text
        assert "-0.010 to 0.030" in text
        assert "None" not in text
    assert "a coin" in report.html.read_text()


def test_all_ties_show_an_interval_and_one_prompt_a_dash(runs, tmp_path):
    tied = rows("sft", [0.5] * 16) + rows("ppo", [0.5] * 16)
    report = build_report(runs, tied, tmp_path / "tied", title="t")
    assert "0.397 to 0.603" in report.html.read_text()
    assert any("not distinguishable" in line for line in report.verdict)
    one = build_report(runs, rows("sft", [0.5]) + rows("ppo", [0.9]), tmp_path / "one", title="t")
    assert any("too few to tell" in line for line in one.verdict)


def test_figures_skip_what_was_not_logged_and_gaps():
    assert panels("x", "t", "c", [{"step": 0, "kl": "nan"}], [("kl", "KL")]) is None
    assert smooth([1.0] * 30) == [1.0] * 30
    assert (number(None), number(0.12345), number(3), oneline("a\n|b|")) == ("–", "0.123", "3", r"a \|b\|")


@pytest.mark.parametrize("stream", ["metrics", "timing", "eval"])
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"step": 3, "lo', "not JSON"),
        (b"[1, 2]", "not an object"),
        (b'{"step": "x", "score": 1}', "step is 'x'"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_damaged_lines_of_a_run_are_named_and_left_out(runs, tmp_path, stream, line, problem):
    file = runs["ppo"] / f"{stream}.jsonl"
    lines = file.read_bytes().splitlines() if file.exists() else [b'{"step": 0}', b'{"step": 1}']
    file.write_bytes(b"\n".join([*lines[:1], line, *lines[1:]]) + b"\n")
    report = written(runs, tmp_path / "out")
    (said,) = report.problems
    assert f"{file}:2" in said
    assert problem in said
    assert "the line is left out" in report.html.read_text()
    assert json.loads(report.summary.read_text())["problems"] == [said]


def test_intervals_of_held_out_figures_are_nothing_odd(runs, tmp_path):
    row = {"step": 20, "heldout_accuracy": 0.7, "intervals": {"heldout_accuracy": [0.6, 0.8]}}
    with (runs["ppo"] / "eval.jsonl").open("a") as handle:
        handle.write(json.dumps(row) + "\n")
    assert not written(runs, tmp_path / "out").problems
    assert read_log(runs["ppo"]).evaluation[-1] == row


ODD = [
    {"score": {"a": 1}},
    {"score": True},
    {"score": "high"},
    {"score": None},
    {"intervals": 3},
    {"intervals": {"score": [1.0]}},
    {"intervals": {"score": "wide"}},
    {},
]


@pytest.mark.parametrize("row", ODD)
def test_rows_that_hold_no_numbers_are_counted_and_left_out(runs, tmp_path, row):
    with (runs["ppo"] / "metrics.jsonl").open("a") as handle:
        handle.write(json.dumps(row if not row else {"step": 20, **row}) + "\n")
    (said,) = written(runs, tmp_path / "out").problems
    assert "1 lines hold something else than numbers" in said


def test_a_log_that_is_not_what_the_checkpoint_knew_is_said(runs, tmp_path):
    folder = runs["ppo"] / "checkpoints" / "step-00000020"
    folder.mkdir(parents=True)
    (folder.parent / "latest").write_text(folder.name)
    with Run.start(tmp_path / "other", kind="ppo", config={}, inputs={}, quiet=True) as run:
        nothing = {name: position.to_json() for name, position in run.sync().items()}
    known = nothing | {"metrics": {"bytes": 10, "sha256": "0" * 64}}
    (folder / "state.json").write_text(json.dumps({"positions": known}))
    (said,) = written(runs, tmp_path / "out").problems
    assert "is not what checkpoint step-00000020 knew" in said
    (folder / "state.json").write_text("[]")  # no state to compare with is no reason to stop
    assert written(runs, tmp_path / "out").problems == ()


def test_settings_that_differ_from_the_defaults_are_shown_whole_blocks_and_kinds_too(tmp_path):
    from trueup.config import default_values
    from trueup.recipes.registry import resolve
    from trueup.recipes.table import RECIPES

    sets = ["optim.learning_rate=3e-4", "objective.kind=ipo", "objective.tau=0.3", "model.lora.rank=4", "epochs=2"]
    config = resolve("dpo", None, {"data": "d", "model.name": "m"}, sets)
    given = {"config": config.model_dump(mode="json"), "defaults": default_values(RECIPES["dpo"].settings())}
    Run.start(tmp_path / "r", kind="dpo", inputs={}, quiet=True, **given).__exit__(None, None, None)
    text = report_run(tmp_path / "r").markdown.read_text()
    for shown in (
        "optim.learning_rate=0.0003",
        "objective.kind=ipo",
        "objective.tau=0.3",
        "model.lora.rank=4",
        "epochs=2.0",
    ):
        assert f"`{shown}`" in text
    for same in ("optim.warmup", "batch.size", "seed"):
        assert f"`{same}=" not in text


@pytest.mark.parametrize("kl", [(0.0, 0.0), (-0.01, -0.02), (0.0, 4.0)])
def test_a_figure_over_kl_can_be_drawn_wherever_the_points_are(kl):
    line = Series("a", kl, (0.1, 0.2), (0.0, None), (0.2, None))
    dots = Series("b", kl, (0.1, 0.2), (0.0, None), (0.2, None), line=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = over_root_kl("x", "t", "c", [("gold", [line]), ("reward", [dots])], marks=[1.0])
    assert figure.svg.startswith("<svg")
    assert figure.svg.count(">a</text>") == 1  # each label once, whichever panel has it
    assert figure.svg.count(">b</text>") == 1


def test_a_table_for_the_terminal_has_its_columns_under_one_another():
    table = Table(("name", "n"), (("a", "1"), ("long name", "23")))
    assert table.plain().splitlines() == ["name        n", "a           1", "long name  23"]


def test_words_stand_to_the_left_with_their_header_and_numbers_to_the_right(tmp_path):
    rows = (
        ("a", "ppo", "0.5", "−3 (cut)", "–"),
        ("b", "best of n", "–", "not separable", "–"),
        ("c", "", "1e-4", "12", "–"),
    )
    table = Table(("run", "method", "rate", "at equal length", "gaps"), rows)
    assert table.kinds == ("word", "word", "", "", "")
    assert table.plain().splitlines()[2] == "b    best of n     –    not separable     –"
    longer = Table(
        ("run", "answer", "reward"), (("a", "It is 3.", "0.1"), ("b", "4, I think", "0.2"), ("c", "No.", "1")), True
    )
    assert longer.kinds == ("text", "text", "")
    html = write_page(tmp_path, "t", [], [Section("s", table=longer)], {}).html.read_text()
    assert '<th scope="col" class="text">answer</th><th scope="col">reward</th>' in html
    assert '<td class="text">4, I think</td><td>0.2</td>' in html


def test_a_page_escapes_what_models_and_people_wrote(tmp_path):
    table = Table(("run", "answer"), ((HOSTILE, HOSTILE),), texts=True)
    written = write_page(tmp_path, HOSTILE, [HOSTILE], [Section(HOSTILE, (HOSTILE,), table, None, (HOSTILE,))], {})
    page = Page(written.html.read_text())
    assert page.stack == []
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert "<script>" not in written.markdown.read_text().replace("```sh\n" + HOSTILE, "")
