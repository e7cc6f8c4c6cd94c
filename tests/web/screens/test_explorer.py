"""The explorer in a real browser: it goes on by itself, and no text of a run becomes code."""

import importlib.util
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.web.explorer.planted import (
    CONFIG,
    TOKENS,
    Served,
    append,
    judge,
    plant,
    row,
    runaway,
    start,
    write,
    write_offline,
)
from tests.web.explorer.test_api import taught
from tests.web.screens.conftest import Visit, expect
from tests.web.test_hostile import PAYLOADS
from trueup.commands.live.desk import PROJECT, Desk
from trueup.commands.live.runs import Runs
from trueup.errors import Interrupted
from trueup.ledger.control import pending, take
from trueup.web.explorer.keys import Keys


@pytest.fixture
def served(tmp_path):
    (tmp_path / "runs").mkdir()
    made = Served(tmp_path / "runs")
    yield made
    made.stop()


@pytest.fixture
def window(chromium, served):
    """Opens a window of the explorer at a place; its faults fail the test."""
    opened = []

    def open_at(place="", expected=(), **options):
        visit = Visit(chromium, SimpleNamespace(url=served.url), **options)
        visit.expected = expected
        visit.page.set_default_timeout(30_000)
        opened.append(visit)
        visit.go(f"/#{place}")
        return visit.page

    yield open_at
    for visit in opened:
        visit.close()


def test_an_alert_becomes_a_question_and_the_answer_comes_back_to_the_chart(chromium, tmp_path):
    plant(tmp_path / "runs" / "bad", values=runaway)
    db = str(tmp_path / "feedback.db")
    desk = Desk(db)
    desk.check()
    served = Served(
        tmp_path / "runs", source=lambda root: Runs(root, desk=desk), tokens=Keys({"lead": "secret"}), asks=True
    )
    visit = Visit(chromium, SimpleNamespace(url=served.url))
    visit.page.set_default_timeout(30_000)
    try:
        visit.go("/#token=secret")
        page = visit.page
        page.get_by_role("button", name="Ask people about kl_runaway at step 20").click()
        page.get_by_text("3 blind pairs wait for people").first.wait_for()
        assert "secret" not in page.evaluate("location.href")
        expect(page.get_by_role("button", name="Ask people")).to_have_count(0)
        judge(
            db,
            PROJECT,
            ["ada"],
            lambda shown, texts: {"preferred": min(shown, key=lambda r: "Answer 20" in texts[r]), "strength": 2},
        )
        page.get_by_text("People prefer the later answers in 0 % (95 % interval 0 % to 56 %)").wait_for()
        figure = page.locator(".hero figure").filter(has=page.get_by_role("heading", name="People"))
        figure.locator("summary").press("Enter")
        figure.get_by_text("Step 20: people 0 % [0 %, 56 %], 3 votes.").wait_for()
        expect(figure.locator("canvas")).to_have_count(1)
        shots(page, "people")
        visit.page.reload()
        figure.wait_for()
    finally:
        visit.close()
        served.stop()


MADE_OF = {"helpful": lambda step: 1 + step / 20, "short": lambda step: -0.2 - step / 100, "polite": lambda step: 0.1}


def parted(step):
    """A row of a run whose reward has three parts, one of them below zero."""
    values = {name: value(step) for name, value in MADE_OF.items()}
    parts = {f"reward/{name}{end}": value for name, value in values.items() for end in ("", "/weighted")}
    return {**row(step), **parts, "score": sum(values.values())}


def evaluate(root, run, samples=4):
    """What an evaluation of a run and its reference records, with several answers of the reference to each prompt."""
    rows = []
    for prompt in range(3):
        common = {"prompt_id": f"p{prompt}", "prompt": "x"}
        rows += [
            {**common, "model": "sft", "completion": str(n), "reward": float(n), "kl": 0.0, "gold": n / 10}
            for n in range(samples)
        ]
        rows += [{**common, "model": "ppo", "completion": "x", "reward": 2.0, "kl": 3.0, "gold": 0.4}]
    folder = root / "evaluation"
    folder.mkdir()
    (folder / "eval.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    record = {"models": {"sft": "elsewhere/sft/final", "ppo": f"elsewhere/{run}/final"}}
    (folder / "evaluation.json").write_text(json.dumps(record))


def shots(page, name):
    """The page is as wide as its window in light, dark and on a phone; pictures of it where somebody wants them."""
    for look, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280), ("phone", "light", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if os.environ.get("TRUEUP_SHOTS"):
            page.wait_for_timeout(500)
            page.screenshot(path=f"{os.environ['TRUEUP_SHOTS']}/{name}-{look}.png", full_page=True)


def test_parts_of_the_score_are_stacked_and_told(served, window):
    run = start(served.root / "a")
    write(run, range(12), values=parted)
    page = window("run=a")
    card = page.get_by_role("region", name="Parts of the score").first
    card.scroll_into_view_if_needed()
    card.locator("canvas").wait_for()
    expect(card.locator(".key").first).to_have_text("Score helpful short polite", use_inner_text=True)
    card.locator("summary").press("Enter")
    card.get_by_text("At step 11 the parts add up to 1.340: helpful 1.550, short −0.310, polite 0.100.").wait_for()
    expect(card.get_by_role("columnheader")).to_have_text(["Step", "helpful", "short", "polite", "Score"])
    first = card.locator("tbody tr").first
    expect(first).to_have_text("11 1.550 −0.310 0.100 1.340", use_inner_text=True)
    expect(card.get_by_role("img")).to_have_attribute(
        "aria-label", re.compile(re.escape("short: −0.200 at step 0, −0.310 at step 11"))
    )
    write(run, [12], values=lambda step: {**parted(step), "score": 9.0})
    card.get_by_text("which leaves 7.620 of the score to something else").wait_for()
    run.__exit__(None, None, None)
    shots(page, "parts")


def test_a_stack_goes_up_and_down_from_zero(served, window):
    plant(served.root / "a")
    page = window("run=a")
    stack = page.evaluate("""async () => (await import("/static/stack.js")).stacked([
        {label: "a", steps: [0, 1, 2], values: [1, -1, 2]}, {label: "b", steps: [0, 1, 2], values: [-2, -2, "nan"]},
        {label: "c", steps: [0, 1, 2], values: [3, 3, 3]}])""")
    assert stack["steps"] == [0, 1]
    sides = [[stack["parts"][n][side][end] for side in ("above", "below") for end in ("low", "high")] for n in range(3)]
    assert sides[0] == [[0, 0], [1, 0], [0, -1], [0, 0]]
    assert sides[1] == [[1, 0], [1, 0], [-2, -3], [0, -1]]
    assert sides[2] == [[1, 0], [4, 3], [-2, -3], [-2, -3]]
    assert stack["sums"] == [2, 0]


def test_the_phase_plane_has_gold_and_best_of_n_or_says_that_there_is_none(served, window):
    plant(served.root / "a")
    metrics = plant(served.root / "gold") / "metrics.jsonl"  # no run logs gold: whoever knows the truth adds it
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    rows = [one | ({"gold": 0.5 - one["step"] / 100} if one["step"] % 10 == 0 else {}) for one in rows]
    metrics.write_text("".join(json.dumps(one) + "\n" for one in rows))
    evaluate(served.root, "a")
    page = window("run=gold")
    card = page.get_by_role("region", name="Phase plane").first
    card.get_by_text(
        "Gold: 0.500 at KL 0 (step 0), 0.200 at KL 3.998 (step 30); highest 0.500 (step 0)."
    ).first.wait_for()
    card.get_by_text("Best of n: none.").first.wait_for()
    expect(card.locator(".plane-key li")).to_have_text(["gold, axis at the right"])
    page.evaluate("location.hash = 'run=a'")
    told = "Best of n: 1.500 at KL 0 (n = 1), 3 at KL 0.636 (n = 4); highest 3 (n = 4)."
    card.get_by_text(told).first.wait_for()
    marks = ["best of n", "best of n, gold, axis at the right", "evaluated", "evaluated, gold, axis at the right"]
    expect(card.locator(".plane-key li")).to_have_text(marks)
    card.locator("summary").press("Enter")
    card.locator("tbody tr").first.wait_for()
    rows = [one.split("\t") for one in card.locator("tbody").inner_text().split("\n")]
    assert ["best of n", "n = 2", "0.193", "2.333"] in rows
    assert ["evaluated, gold", "evaluation", "3", "0.400"] in rows
    assert ["reward", "step 39", "4.000", "3.900"] in rows
    expect(card.get_by_role("img")).to_have_attribute("aria-label", re.compile("Best of n: 1.500"))
    shots(page, "plane")


def test_a_lead_pauses_a_run_by_keyboard_and_a_viewer_only_sees_it(chromium, tmp_path, axe):
    root = tmp_path / "runs"
    run = start(root / "a", config={**CONFIG, "control": True})
    write(run, range(5))
    closed = start(root / "b")
    write(closed, range(5))
    served = Served(root, tokens=Keys({"lead": "act", "viewer": "look"}, closed=True), controls=True)
    lead, viewer = (Visit(chromium, SimpleNamespace(url=served.url)) for _ in range(2))
    viewer.expected = ("401",)
    try:
        viewer.go("/#run=a")
        viewer.page.set_default_timeout(30_000)
        viewer.page.get_by_role("heading", name="This explorer takes a token").wait_for()
        viewer.page.evaluate(axe)
        assert viewer.page.evaluate("axe.run(document).then((report) => report.violations.map((one) => one.id))") == []
        viewer.page.get_by_label("Token").fill("wrong")
        viewer.page.keyboard.press("Enter")
        viewer.page.get_by_text("the token is not of this server").wait_for()
        viewer.page.get_by_label("Token").fill(f"{served.url}/#token=look")
        viewer.page.keyboard.press("Enter")
        viewer.page.get_by_text("5 of 40 steps").wait_for()
        expect(viewer.page.get_by_role("button", name="Pause")).to_have_count(0)
        lead.go("/#token=act&run=b")
        page = lead.page
        page.set_default_timeout(30_000)
        page.get_by_text("It cannot be paused or stopped from here").wait_for()
        assert "act" not in page.evaluate("location.href")
        page.evaluate("location.hash = 'run=a'")
        press = page.get_by_role("button", name="Pause")
        press.focus()
        write(run, [5])  # news come, and the focus stays
        page.get_by_text("6 of 40 steps").wait_for()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Pause this run?")
        dialog.get_by_text(f"trueup resume {root / 'a'}").wait_for()
        page.evaluate(axe)
        assert page.evaluate("axe.run(document).then((report) => report.violations.map((one) => one.id))") == []
        page.keyboard.press("Escape")
        assert pending(root / "a") is None
        press.press("Enter")
        page.keyboard.press("Enter")
        for visit in (lead, viewer):
            visit.page.get_by_text("asked it to pause: it does when its running step is done").wait_for()
        asked = take(root / "a")
        run.note(paused={"step": 5, "by": asked.by, "asked": asked.time})
        run.__exit__(Interrupted, Interrupted("asked"), None)
        for visit in (lead, viewer):
            visit.page.get_by_text("Paused after step 5, as").wait_for()
        shots(page, "paused")
    finally:
        for visit in (lead, viewer):
            visit.close()
        served.stop()
        closed.__exit__(None, None, None)


def table(page, title):
    """The table twin of a chart at the top, as rows of texts, oldest first."""
    figure = page.locator(".hero figure").filter(has=page.get_by_role("heading", name=title))
    details = figure.locator("details")
    if not details.evaluate("d => d.open"):
        details.locator("summary").press("Enter")
    figure.locator("tbody tr").first.wait_for()
    return [line.split("\t") for line in figure.locator("tbody").inner_text().split("\n")][::-1]


def wait_for_steps(page, count):
    page.get_by_text(f"{count} of 40 steps").wait_for()


def test_curves_advance_together_while_a_run_trains(served, window):
    run = start(served.root / "a")
    write(run, range(3))
    page = window()
    wait_for_steps(page, 3)
    assert [one[0] for one in table(page, "Score and Reward")] == ["0", "1", "2"]
    for step in range(3, 14):
        write(run, [step])
    wait_for_steps(page, 14)
    score, kl = table(page, "Score and Reward"), table(page, "KL to the reference")
    assert [one[0] for one in score] == [one[0] for one in kl] == [str(step) for step in range(14)]
    assert score[-1][1:] == ["1.300", "1.100"]
    page.get_by_role("heading", name="Reward rises, KL is").wait_for()
    expect(page.get_by_label("Step", exact=True)).to_have_attribute(
        "aria-valuetext", re.compile(re.escape("Score 1.300"))
    )
    run.__exit__(None, None, None)
    page.get_by_text("done", exact=True).first.wait_for()


def test_a_killed_server_trainer_and_tab_lose_and_double_nothing(served, window):
    run = start(served.root / "a")
    write(run, range(5))
    page = window(expected=("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE"))
    wait_for_steps(page, 5)
    served.stop()
    page.get_by_text("No connection").wait_for()
    write(run, range(5, 9))
    served.begin()
    wait_for_steps(page, 9)
    assert [one[0] for one in table(page, "Score and Reward")] == [str(step) for step in range(9)]
    run.rewind(0, {})  # the trainer was killed before its first checkpoint
    write(run, range(7), values=lambda step: {"score": -1.0, "reward": -1.0, "kl": 0.5, "beta": 0.1})
    wait_for_steps(page, 7)
    expect(page.locator(".reading")).to_contain_text("−1")
    assert [one[:2] for one in table(page, "Score and Reward")] == [[str(step), "−1"] for step in range(7)]
    page.reload()
    wait_for_steps(page, 7)
    assert [one[0] for one in table(page, "Score and Reward")] == [str(step) for step in range(7)]
    run.__exit__(None, None, None)


def test_the_scrubber_shows_the_text_of_its_step_and_the_address_keeps_it(served, window):
    plant(served.root / "a")
    page = window("run=a&view=samples")
    slider = page.get_by_label("Probe step")
    page.get_by_text("Step 35, probe 8 of 8").wait_for()
    slider.focus()
    for _ in range(3):
        slider.press("ArrowLeft")
    page.get_by_text("Step 20, probe 5 of 8").wait_for()
    page.get_by_label("Mark changes since").select_option("nothing")
    page.get_by_text("Answer 20 to prompt 0", exact=True).wait_for()
    page.get_by_label("Mark changes since").select_option("the probe before")
    expect(page.locator(".answer ins").first).to_have_text("20")
    expect(page.locator(".answer del").first).to_have_text("15")
    page.get_by_label("Order").select_option("Worst first")
    expect(page.locator(".question").first).to_have_text("Hello!")
    page.reload()
    page.get_by_text("Step 20, probe 5 of 8").wait_for()
    expect(page.locator(".question").first).to_have_text("Hello!")
    page.get_by_role("link", name="All steps of this prompt").first.press("Enter")
    page.get_by_text("to one prompt, oldest first").wait_for()
    expect(page.locator(".sample")).to_have_count(8)
    page.get_by_role("link", name="Back to the steps").press("Enter")
    page.get_by_label("Text to search in all steps").fill("answer 10 to")
    page.keyboard.press("Enter")
    page.get_by_text("3 answers").wait_for()


def test_an_answer_is_compared_with_the_start_shown_by_token_and_exported(served, window):
    with start(served.root / "a", kind="dpo") as run:
        write_offline(run, (0, 4, 8))
    page = window("run=a&view=samples&against=constructor&layer=text")
    sample = page.locator(".sample").first
    sample.wait_for()
    expect(sample.locator("del")).to_have_text(["4"])
    page.get_by_label("Mark changes since").select_option("the first probe")
    page.locator(".sample del").get_by_text("0", exact=True).first.wait_for()
    assert "against=start" in page.url
    page.get_by_label("Mark changes since").select_option("nothing")
    expect(page.locator(".sample del")).to_have_count(0)
    page.get_by_label("Show as").select_option("Log-ratio to the reference")
    page.locator(".token").first.wait_for()
    assert sample.locator(".token").evaluate_all("all => all.map((t) => [t.dataset.level, t.dataset.side])") == [
        ["0", "more"], ["1", "less"], ["3", "more"], ["4", "more"]]  # fmt: skip
    sample.locator("summary").press("Enter")
    cells = sample.locator("tbody tr").nth(1).locator("td, th")
    expect(cells).to_have_text(["2", "two", "−0.300", "1.000"])
    expect(page.get_by_label("Order").locator("option:disabled")).to_have_text(["Best first", "Worst first"])
    with page.expect_download() as download:
        sample.get_by_role("link", name="Download").press("Enter")
    assert download.value.suggested_filename.startswith("a-step-8-")
    exported = json.loads(Path(download.value.path()).read_text())
    assert (exported["completion"], exported["tokens"]) == ("Said 8 0", TOKENS)


def test_j_and_k_go_from_prompt_to_prompt_whose_answers_stand_together(served, window):
    with start(served.root / "a", kind="reward") as run:
        write_offline(run, (0, 5), labels=("chosen", "rejected"))
    page = window("run=a&view=samples")
    page.locator(".group").nth(2).wait_for()
    expect(page.locator(".group .sample")).to_have_count(6)
    page.get_by_role("heading", name="Reward of the fixed answers").wait_for()

    def here():
        return page.evaluate("document.activeElement.querySelector?.('.answer')?.textContent")

    went = []
    for key in ("j", "j", "j", "j", "k"):
        page.keyboard.press(key)
        went.append(here())
    assert went == ["chosen 0", "chosen 1", "chosen 2", "chosen 2", "chosen 1"]
    page.get_by_label("Text to search in all steps").press("j")
    assert here() is None


def test_a_point_of_a_curve_opens_the_answers_behind_it(served, window):
    plant(served.root / "a")
    page = window("run=a")
    wait_for_steps(page, 40)
    page.wait_for_function("() => document.querySelector('.hero .u-over')?.getBoundingClientRect().width > 100")
    chart = page.locator(".hero .u-over").first
    width = chart.evaluate("element => element.getBoundingClientRect().width")  # a redraw may take its place meanwhile
    chart.click(position={"x": width * 17 / 39, "y": 20})
    page.get_by_text("Step 15, probe 4 of 8").wait_for()


def test_nothing_that_a_run_holds_becomes_code(served, window):
    name = "<img src=x onerror=alert(1)>"
    run = start(served.root / name, config={**CONFIG, PAYLOADS[0]: PAYLOADS[2]})
    write(run, range(12))
    append(run.path, "samples", *({"step": 20, "prompt": text, "completion": text, "score": 0.1, "stop": text,
                                   "parts": {text: {"weighted": 1.0}}} for text in PAYLOADS))  # fmt: skip
    append(run.path, "metrics", *({"step": 12 + n, text: 1.0, "score": 1.0} for n, text in enumerate(PAYLOADS)))
    run.__exit__(None, None, None)
    page = window()
    page.get_by_role("heading", name=name, exact=True, level=1).wait_for()
    page.get_by_role("heading", name=PAYLOADS[0], exact=True).first.wait_for()
    for view, shown in (("Samples", PAYLOADS[2]), ("Settings", PAYLOADS[2])):
        page.get_by_role("link", name=view, exact=True).press("Enter")
        page.get_by_text(shown, exact=True).first.wait_for()
        assert (
            page.evaluate("document.querySelectorAll('main script, main img, main iframe, main form[action]').length")
            == 0
        )


def test_runs_are_compared_by_what_is_set_differently(served, window):
    for seed in range(3):
        plant(served.root / f"seed-{seed}", config={**CONFIG, "seed": seed, "steps": 40 if seed < 2 else 41})
    page = window("run=seed-0")
    wait_for_steps(page, 40)
    for seed in range(3):
        page.get_by_label(f"Compare seed-{seed}").check()
    page.get_by_role("link", name="Compare 3 runs").press("Enter")
    page.get_by_role("heading", name="What is set differently").wait_for()
    heads = page.get_by_role("region", name="Settings that differ").get_by_role("rowheader")
    expect(heads).to_have_count(2)
    settings = heads.all_inner_texts()
    assert sorted(settings) == ["seed", "steps"]
    page.get_by_label("Metric").select_option("Entropy")
    page.get_by_role("heading", name="Entropy").wait_for()
    assert "metric=entropy" in page.url


def test_seeds_of_a_configuration_are_a_band_and_a_row_with_an_interval(served, window):
    for number, (seed, beta) in enumerate([(0, 0.1), (1, 0.1), (2, 0.1), (0, 0.5)]):
        config = {**CONFIG, "seed": seed, "beta": beta}
        plant(served.root / f"run-{number}", config=config, values=lambda s, n=number: {"score": s / 10 + n, "kl": 1.0})
    page = window("view=compare&with=run-0&with=run-1&with=run-2&with=run-3")
    card = page.get_by_role("region", name="Configurations with intervals")
    card.locator("tbody tr").first.wait_for()
    rows = [line.split("\t") for line in card.locator("tbody").inner_text().split("\n")]
    # The ends are 3.75, 4.75 and 5.75: mean 4.75, deviation 1, and 4.303 / sqrt(3) of it.
    assert rows[0][:3] == ["beta=0.1 (seeds 0, 1, 2)", "3", "4.750 ± 2.484"]
    assert rows[1][:3] == ["run-3", "1", "6.750"]
    figure = page.locator("figure").filter(has=page.get_by_role("heading", name="Score")).first
    figure.locator("summary").press("Enter")
    heads = ["Step", "mean of beta=0.1 (seeds 0, 1, 2)", "run-3"]
    expect(figure.get_by_role("columnheader")).to_have_text(heads)
    expect(figure.locator("tbody tr").first).to_have_text("39 4.900 6.900", use_inner_text=True)
    figure.get_by_text("lowest to highest of the seeds").wait_for()
    for name, scheme, width in (("light", "light", 1280), ("phone", "dark", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if os.environ.get("TRUEUP_SHOTS"):
            page.wait_for_timeout(500)
            page.screenshot(path=f"{os.environ['TRUEUP_SHOTS']}/seeds-{name}.png", full_page=True)
    page.get_by_label("Seeds as a band").uncheck()
    page.locator(".key").get_by_text("run-1").wait_for()


def test_series_of_other_steps_are_joined_where_all_of_them_are(served, window):
    plant(served.root / "a")
    page = window("run=a")
    joined = page.evaluate("""async () => (await import("/static/seeds.js")).together(
        [{steps: [0, 2, 4], values: [0, 2, "nan"]}, {steps: [1, 2, 3], values: [3, 4, 5]}])""")
    assert joined == {"steps": [1, 2], "mean": [2, 3], "low": [1, 2], "high": [3, 4]}


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, which looks for violations of WCAG."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must install axe-playwright-python")
        pytest.skip("axe-playwright-python is not installed")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_view_can_be_used_by_everybody(served, window, axe, width, scheme):
    plant(
        served.root / "a", values=lambda s: {"loss": 1.0, "score": s / 10, "reward": 0.1 * s, "kl": 12.0, "beta": 0.1}
    )
    plant(served.root / "b", config={**CONFIG, "seed": 1})
    with start(served.root / "c", kind="dpo") as run:
        write_offline(run, (0, 4))
    with start(served.root / "d", kind="reward") as run:
        write_offline(run, (0, 4), labels=("chosen", "rejected"))
    page = window("run=a", viewport={"width": width, "height": 900}, color_scheme=scheme)
    wait_for_steps(page, 40)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    places = ["run=a", "run=a&view=samples&step=10", "run=a&view=settings", "view=compare&with=a&with=b"]
    places += ["run=c&view=samples&layer=log_ratio", "run=c&view=samples&layer=entropy", "run=d&view=samples"]
    for place in places:
        page.evaluate("place => { location.hash = place; }", place)
        page.wait_for_timeout(500)
        page.evaluate("document.querySelectorAll('main details').forEach((d) => (d.open = true))")
        page.wait_for_timeout(200)
        page.evaluate(axe)
        report = page.evaluate("rules => axe.run(document, { runOnly: rules })", rules)
        assert [(one["id"], one["nodes"][0]["html"]) for one in report["violations"]] == [], place
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place


def test_answers_that_were_learned_from_are_shown_by_advantage_and_by_clipping(served, window):
    with start(served.root / "a") as run:
        write(run, range(4))
        taught(run, (0, 2))
    page = window("run=a&view=samples")
    page.get_by_role("combobox", name="Answers").select_option("that it learned from")
    page.get_by_text("Step 2, rollouts 2 of 2").wait_for()
    page.get_by_label("Show as").select_option("Advantage")
    token = page.locator(".strip .token").nth(1)
    expect(token).to_have_attribute("title", "+1.500")
    page.get_by_label("Show as").select_option("Clipped")
    expect(token).to_have_attribute("title", "0.500 of the updates")
    page.get_by_role("button", name="Probe before").click()
    page.get_by_text("Step 0, rollouts 1 of 2").wait_for()
    expect(page.locator(".group .sample")).to_have_count(4)
    page.reload()
    page.get_by_text("Step 0, rollouts 1 of 2").wait_for()
    plant(served.root / "b")  # a link of another run, or a file, where there are none
    page.goto(f"{served.url}#run=b&view=samples&of=training")
    page.get_by_text("Step 35, probe 8 of 8").wait_for()
    expect(page.get_by_role("heading", name="Score of the fixed prompts")).to_have_count(1)
    page.goto(f"{served.url}#run=a&view=samples&of=training&step=0")
    page.get_by_text("Step 0, rollouts 1 of 2").wait_for()
    page.get_by_role("combobox", name="Answers").select_option("to the fixed prompts")
    page.get_by_text("Step 0, probe 1 of 1").wait_for()
    expect(page.get_by_label("Show as").locator("option:disabled")).to_have_text(["Advantage", "Clipped"])
