"""Reports stand alone, say what the numbers say, and treat model text as hostile."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from tests.evaluation.test_evaluation import rows
from trueup.errors import UsageError
from trueup.ledger import Run
from trueup.reports.build import build_report, number, oneline, report_run
from trueup.reports.figures import panels, smooth
from trueup.reports.verdict import verdict


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
    with Run.start(tmp_path / "ppo", kind="ppo", config=config, inputs={"data": "abc"}, quiet=True) as run:
        for step in run.steps(range(20), save=lambda step: None, save_every=100):
            run.log(
                step[0], {"score": 0.1 * step[0], "kl": 5.9 + 0.01 * step[0], "beta": 0.1, "completion_length": 9.0}
            )
            run.time(step[0])
    return {"ppo": tmp_path / "ppo"}


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def written(runs, out, **more):
    evaluation = rows("sft", [0.2, 0.4] * 10) + rows("ppo", [0.8, 0.9] * 10)
    evaluation[0]["completion"] = HOSTILE
    return build_report(runs, evaluation, out, title="A & B", facts={"noise_ceiling": 0.8}, **more)


def test_html_is_whole_self_contained_and_escapes_model_text(runs, tmp_path):
    report = written(runs, tmp_path / "out", defaults={"ppo": {"seed": 1}}, commands=["trueup x"])
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

    data = {
        "comparison": {"baseline": "sft", "models": {"a": entry(0.1, 0.4), "b": entry(0.4, 0.6)}},
        "runs": {"ppo": {"status": "stopped"}},
        "overoptimization": {"found": True, "at": 12.0, "gold_lost": 0.2},
    }
    said = "\n".join(verdict(data))
    assert "a is worse than sft" in said
    assert "b is not distinguishable" in said
    assert "from step 12 on the proxy rises while gold falls" in said
    assert "not finished" in said


def test_figures_skip_what_was_not_logged_and_gaps():
    assert panels("x", "t", "c", [{"step": 0, "kl": "nan"}], [("kl", "KL")]) is None
    assert smooth([1.0] * 30) == [1.0] * 30
    assert (number(None), number(0.12345), number(3), oneline("a\n|b|")) == ("–", "0.123", "3", r"a \|b\|")
