"""What is handed on: the tour of the recorded runs, files that open from a disk, and paper."""

import json
from types import SimpleNamespace

import pytest

from tests.web.explorer.planted import CONFIG, Served, append, plant, start, write
from tests.web.screens.conftest import Visit, expect
from tests.web.screens.test_explorer import axe as axe
from tests.web.test_hostile import PAYLOADS
from trueup.commands.explore import means
from trueup.commands.live.runs import Runs
from trueup.commands.live.tour import RUNS, TOUR, TourRuns
from trueup.web.explorer.snapshot import take_snapshot

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture
def window(chromium):
    """Opens a window at an address; its faults, and whatever it loads from elsewhere, fail the test."""
    opened = []

    def open_at(address, **options):
        visit = Visit(chromium, SimpleNamespace(url=address), **options)
        visit.page.set_default_timeout(30_000)
        visit.asked = []
        visit.page.on("request", lambda request: visit.asked.append(request.url))
        opened.append(visit)
        visit.go("")
        return visit.page

    yield open_at
    for visit in opened:
        visit.close()
        home = visit.desk.url.partition("#")[0]
        strange = [url for url in visit.asked if not url.startswith(("data:", "blob:", home))]
        assert strange == []


@pytest.fixture(scope="module")
def toured():
    served = Served(TOUR, source=TourRuns)
    yield served
    served.stop()


def test_the_recorded_runs_hold_the_lesson():
    told = TourRuns().tour()
    good, bad = (told["facts"][name] for name in RUNS)
    assert good["band"]["low"] <= good["kl"][1] <= good["band"]["high"]
    assert good["alert"] is None
    assert good["gold"][1] > good["gold"][0] - 0.05  # the noise of its prompts
    assert bad["score"][1] > bad["score"][0]
    assert bad["kl"][1] > 2 * bad["band"]["target"]
    assert bad["alert"]["rule"] == "kl_runaway"
    assert bad["alert"]["step"] < bad["last_step"]
    assert bad["gold"][1] < bad["gold_peak"]["value"]
    assert bad["gold_peak"]["step"] < bad["last_probe"]
    assert bad["gold"][1] < good["gold"][1]
    files = [file for file in TOUR.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 300_000
    assert not any(b"/home" in file.read_bytes() or b"/tmp" in file.read_bytes() for file in files)


def test_what_is_normal_is_drawn_said_and_switched_off_on_the_page_and_in_a_file(toured, window, tmp_path):
    file = tmp_path / "runs.html"
    file.write_bytes(take_snapshot(Runs(TOUR), means, list(RUNS), f"#run={RUNS[1]}").page)
    picture = "(canvas) => canvas.toDataURL()"
    for address in (file.as_uri(), f"{toured.url}/#run={RUNS[1]}"):
        page = window(address)
        figure = page.locator('figure[data-metrics="distinct_2"]')
        figure.scroll_into_view_if_needed()
        figure.get_by_text("below normal since step").wait_for()
        figure.locator("summary").press("Enter")
        figure.get_by_text("Normal in 5 clean runs of the sandbox").wait_for()
        figure.get_by_text("It is below what 5 clean runs of the sandbox show, since step").wait_for()
        with_range = figure.locator("canvas").evaluate(picture)
        page.get_by_label("What is normal").uncheck()
        figure.scroll_into_view_if_needed()
        figure.get_by_text("below normal since step").wait_for(state="detached")
        assert figure.locator("canvas").evaluate(picture) != with_range
    assert "normal=off" in page.url
    page.get_by_role("link", name=RUNS[0]).first.click()
    page.get_by_role("heading", name=RUNS[0], level=1).wait_for()
    page.get_by_label("What is normal").check()
    assert "normal" not in page.url
    figure.scroll_into_view_if_needed()
    figure.locator("summary").press("Enter")
    figure.get_by_text("It is inside what 5 clean runs of the sandbox show.").wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_tour_goes_to_its_end_by_keys_and_points_at_what_it_speaks_of(toured, window, axe, width, scheme):
    page = window(f"{toured.url}/", viewport={"width": width, "height": 844}, color_scheme=scheme)
    tour = page.locator(".tour")
    for number in range(1, 11):
        tour.get_by_text(f"Tour, {number} of 10").wait_for()
        target = page.locator(".tour-target").first
        target.wait_for()
        page.wait_for_timeout(300)
        box, panel = target.bounding_box(), tour.bounding_box()
        assert box["y"] < 844
        assert box["y"] + box["height"] > 0
        if width < 500:  # what is shown begins above the panel, which lies at the lower edge
            assert box["y"] < panel["y"]
            assert panel["height"] <= 0.5 * 844
        elif number > 1:  # the first step points at the list of runs, above the panel
            assert box["x"] >= panel["x"] + panel["width"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert f"tour={number}" in page.url
        page.keyboard.press("ArrowRight")
    tour.wait_for(state="detached")
    expect(page.locator(".tour-target")).to_have_count(0)
    page.get_by_role("button", name="Start the tour").press("Enter")
    tour.get_by_text("Tour, 1 of 10").wait_for()
    page.evaluate(axe)
    report = page.evaluate("rules => axe.run(document, { runOnly: rules })", RULES)
    assert [(one["id"], one["nodes"][0]["html"]) for one in report["violations"]] == []


def test_the_tour_can_be_left_and_come_back_to(toured, window):
    page = window(f"{toured.url}/#run=drifting&tour=5")
    tour = page.locator(".tour")
    tour.get_by_text("Tour, 5 of 10").wait_for()
    tour.get_by_role("button", name="Back").click()
    tour.get_by_text("Tour, 4 of 10").wait_for()
    page.get_by_role("heading", name="healthy", level=1).wait_for()
    page.go_back()
    tour.get_by_text("Tour, 5 of 10").wait_for()
    page.get_by_role("heading", name="drifting", level=1).wait_for()
    page.get_by_role("link", name="Settings", exact=True).click()  # somebody looks around, and the tour waits
    page.get_by_role("heading", name="Inputs and versions").wait_for()
    tour.get_by_role("button", name="Next").click()
    tour.get_by_text("Tour, 6 of 10").wait_for()
    page.get_by_label("Smoothing").focus()
    page.keyboard.press("ArrowRight")  # keys belong to the control that has the focus
    tour.get_by_text("Tour, 6 of 10").wait_for()
    tour.get_by_role("button", name="Leave").click()
    page.get_by_role("button", name="Start the tour").wait_for()
    assert "tour=" not in page.url
    page.get_by_role("heading", name="drifting", level=1).wait_for()


def saved(tmp_path, names, place=""):
    file = tmp_path / "handed on.html"
    file.write_bytes(take_snapshot(Runs(tmp_path / "runs"), means, names, place).page)
    return file.as_uri()


def test_a_file_shows_curves_answers_and_settings_without_a_server(tmp_path, window):
    plant(tmp_path / "runs" / "a")
    page = window(saved(tmp_path, ["a"]))
    page.get_by_text("40 of 40 steps").wait_for()
    page.get_by_text("Snapshot of 2").first.wait_for()
    expect(page.locator(".reading")).to_contain_text("3.900")
    page.get_by_text("Zoom", exact=True).first.click()
    page.get_by_label("From step").fill("10")
    page.get_by_label("To step").fill("20")
    page.get_by_role("button", name="Zoom").click()
    expect(page.locator(".reading")).to_contain_text("2")
    page.get_by_role("link", name="Samples", exact=True).click()
    page.get_by_text("Step 35, probe 8 of 8").wait_for()
    page.get_by_role("button", name="Probe before").click()
    page.get_by_text("Step 30, probe 7 of 8").wait_for()
    expect(page.locator(".answer ins").first).to_have_text("30")
    page.get_by_label("Order").select_option("Worst first")
    expect(page.locator(".question").first).to_have_text("Hello!")
    page.get_by_role("link", name="All steps of this prompt").first.click()
    page.get_by_text("to one prompt, oldest first").wait_for()
    page.get_by_role("link", name="Back to the steps").click()
    page.get_by_label("Text to search in all steps").fill("ANSWER 10 to")
    page.keyboard.press("Enter")
    page.get_by_text("3 answers").wait_for()
    page.get_by_role("link", name="Settings", exact=True).click()
    page.get_by_role("heading", name="Inputs and versions").wait_for()
    assert page.locator(".save-file").is_hidden()


def test_the_page_saves_what_it_shows_and_the_file_opens_there(tmp_path, window):
    for seed in range(2):
        plant(tmp_path / "runs" / f"seed-{seed}", config={**CONFIG, "seed": seed})
    served = Served(tmp_path / "runs")
    try:
        page = window(f"{served.url}/#view=compare&with=seed-0&with=seed-1&metric=kl")
        with page.expect_download() as waited:
            page.get_by_role("link", name="Save as one file").click()
        assert waited.value.suggested_filename == "trueup-2-runs.html"
        waited.value.save_as(tmp_path / "saved.html")
    finally:
        page.goto("about:blank")
        served.stop()
    copy = window((tmp_path / "saved.html").as_uri(), viewport={"width": 390, "height": 844}, color_scheme="dark")
    copy.get_by_role("heading", name="KL to the reference").wait_for()
    expect(copy.get_by_role("region", name="Settings that differ").get_by_role("rowheader")).to_have_text(["seed"])
    assert copy.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_nothing_in_a_file_becomes_code(tmp_path, window):
    with start(tmp_path / "runs" / "a", config={**CONFIG, PAYLOADS[0]: PAYLOADS[2]}) as run:
        write(run, range(12))
        append(run.path, "samples", *({"step": 20, "prompt": text, "completion": f"</script>{text}", "score": 0.1}
                                      for text in PAYLOADS))  # fmt: skip
    page = window(saved(tmp_path, ["a"], "#run=a&view=samples"))
    page.get_by_text(f"</script>{PAYLOADS[0]}", exact=True).first.wait_for()
    expect(page.locator("main script, main img, main iframe, main form[action]")).to_have_count(0)


def test_paper_gets_every_chart_in_the_light_theme(tmp_path, window):
    plant(tmp_path / "runs" / "a")
    page = window(saved(tmp_path, ["a"]), color_scheme="dark")
    page.get_by_text("40 of 40 steps").wait_for()
    page.wait_for_timeout(500)
    drawn = "document.querySelectorAll('.plot canvas').length"
    charts = page.locator(".plot").count()
    assert page.evaluate(drawn) < charts
    state = """() => new Promise((done) => addEventListener("beforeprint", () => done({
        canvases: document.querySelectorAll(".plot canvas").length, theme: document.documentElement.dataset.theme,
        widest: Math.max(...[...document.querySelectorAll(".plot canvas")].map((c) => c.clientWidth)) })))"""
    page.evaluate(f"() => {{ globalThis.seen = ({state})(); }}")
    assert len(page.pdf(format="A4")) > 10_000
    seen = page.evaluate("globalThis.seen")
    assert seen["canvases"] == charts, json.dumps(seen)
    assert seen["theme"] == "light"
    assert seen["widest"] <= 660
    assert page.evaluate("document.documentElement.dataset.theme ?? ''") == ""
