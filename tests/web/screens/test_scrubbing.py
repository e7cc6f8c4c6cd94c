"""Whoever scrubs fast ends at the answers of the last step: no call too many, no error, no text of another step."""

import json
import re
from types import SimpleNamespace

import pytest

from tests.web.explorer.planted import CONFIG, Served, row, start, write
from tests.web.screens.conftest import Visit
from trueup.commands.live.runs import Runs
from trueup.web.shell.limits import Limits

STEPS = 400
DRAG = """async (slider, [first, last]) => {
  const began = performance.now();
  for (let place = first; place <= last; place += 1) {
    slider.value = place;
    slider.dispatchEvent(new Event("input"));
    if (place % 4 === 0) await new Promise((done) => setTimeout(done, 10));
  }
  return performance.now() - began;
}"""
"""Moves a slider as fast as a hand does, in hundreds of places a second; gives the milliseconds that it took."""


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("scrub") / "runs"
    with start(root / "a", config={**CONFIG, "steps": STEPS}) as run:
        write(run, range(STEPS), values=row, probe_every=1)
    return root


@pytest.fixture
def window(chromium, long_run):
    """A window at the samples of a long run, behind a server that allows as much as by default; calls by path."""
    served = Served(long_run, limits=Limits())
    visit = Visit(chromium, SimpleNamespace(url=served.url))
    visit.page.set_default_timeout(60_000)
    visit.calls = []
    visit.page.on("request", lambda request: visit.calls.append(request.url))
    visit.go("/#run=a&view=samples&step=0")
    visit.page.get_by_text("Step 0, probe 1 of 400").wait_for()
    visit.page.locator(".sample").first.wait_for()
    yield visit
    visit.close()
    served.stop()


def asked(visit):
    """Steps whose answers were asked for, in order."""
    return [int(step) for url in visit.calls for step in re.findall(r"/samples\?.*step=(\d+)", url)]


def ends_at(page, step):
    """Position, address, text and links are those of one step, and stay so."""
    from playwright.sync_api import expect

    expect(page.locator(".answers")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".sample .links a:first-child")).to_have_text([f"Step {step}"] * 3)
    expect(page.locator(".step-name")).to_have_text(f"Step {step}, probe {step + 1} of {STEPS}")
    expect(page.locator(".sample ins").first).to_have_text(str(step))
    expect(page.get_by_label("Probe step")).to_have_value(str(step))
    expect(page).to_have_url(re.compile(rf"[#&]step={step}(&|$)"))
    assert page.locator(".notice").all_inner_texts() == []


def test_a_held_key_and_a_dragged_slider_end_at_the_last_step_within_the_limit(window):
    page = window.page
    slider = page.get_by_label("Probe step")
    slider.focus()
    for _ in range(9):
        page.keyboard.down("ArrowRight")  # the key repeats as long as it is down
    page.keyboard.up("ArrowRight")
    ends_at(page, 9)
    taken = slider.evaluate(DRAG, [10, 389])
    ends_at(page, 389)
    steps = asked(window)
    assert steps == sorted(steps)
    assert len([step for step in steps if step > 9]) <= taken / 100 + 3
    page.get_by_role("button", name="Next probe").click()
    ends_at(page, 390)


def test_a_late_reply_does_not_take_the_place_of_a_newer_one_and_one_call_is_under_way(window):
    page = window.page
    held, late = [], [True]
    page.route("**/samples?*", lambda route: held.append(route) if late else route.continue_())
    next_probe = page.get_by_role("button", name="Next probe")
    for _ in range(5):
        next_probe.click()
    page.get_by_text("Step 5, probe 6 of 400").wait_for()
    page.wait_for_timeout(500)
    assert len(held) == 1
    assert page.locator(".answers").get_attribute("aria-busy") == "true"
    assert f"step={5}" in page.url.split("&")  # the address does not wait for the answers
    late.clear()
    held[0].continue_()
    ends_at(page, 5)


def test_refused_calls_are_made_again_and_a_failure_leaves_no_answers_of_another_step(window):
    page = window.page
    window.expected = ("429", "503")
    replies = [429, 429, 503]

    def refuse(route):
        body = json.dumps({"title": "No", "detail": "not now"})
        route.fulfill(
            status=replies.pop(0), content_type="application/problem+json", body=body, headers={"Retry-After": "1"}
        )

    page.route("**/samples?*", lambda route: refuse(route) if replies else route.continue_())
    page.get_by_role("button", name="Next probe").click()
    page.get_by_text("These answers could not be read.").wait_for()
    assert replies == []
    assert page.locator(".sample").count() == 0
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Try again").click()
    ends_at(page, 1)


def test_a_view_that_was_left_writes_no_step_into_the_address(window):
    page = window.page
    page.evaluate("""() => {
      const slider = document.querySelector(".scrub input");
      for (let n = 1; n < 20; n += 1) { slider.value = n; slider.dispatchEvent(new Event("input")); }
      location.hash = "run=a";
    }""")
    page.get_by_role("heading", name="Reward and KL").wait_for()
    page.wait_for_timeout(300)
    assert page.url.endswith("#run=a")


def test_one_prompt_along_a_long_run_comes_page_by_page_also_offline(window, long_run, tmp_path):
    from playwright.sync_api import expect

    from trueup.commands.explore import means
    from trueup.web.explorer.snapshot import take_snapshot

    page = window.page
    page.get_by_role("link", name="All steps of this prompt").first.click()
    page.get_by_text("400 answers").wait_for()
    steps = page.locator(".sample .links a:first-child")
    expect(steps).to_have_text([f"Step {n}" for n in range(20)])
    assert page.locator(".sample ins").count() == 19
    page.get_by_role("button", name="Show 20 more of 380").press("Enter")
    expect(steps).to_have_text([f"Step {n}" for n in range(40)])
    assert page.locator(".sample ins").all_inner_texts() == [
        str(n) for n in range(1, 40)
    ]  # also over the edge of a page
    expect(page.locator(".sample").nth(20)).to_be_focused()
    place = page.url.partition("#")[2]
    file = tmp_path / "runs.html"
    file.write_bytes(take_snapshot(Runs(long_run), means, ["a"], f"#{place}").page)
    page.goto(file.as_uri())
    page.get_by_role("button", name="Show 20 more of 380").press("Enter")
    expect(steps).to_have_text([f"Step {n}" for n in range(40)])
    assert page.locator(".sample ins").count() == 39


def test_the_last_zoom_holds_whichever_reply_comes_last(window):
    from playwright.sync_api import expect

    page = window.page
    page.evaluate("location.hash = 'run=a'")
    page.get_by_text("Zoom", exact=True).first.click()
    held = []
    page.route("**/series?*first=10&*", lambda route: held.append(route))

    def zoom(first, last):
        page.get_by_label("From step").fill(str(first))
        page.get_by_label("To step").fill(str(last))
        page.get_by_role("button", name="Zoom").click()

    slider = page.locator(".cursor-row input[type=range]")
    zoom(10, 50)
    page.wait_for_timeout(100)
    zoom(100, 200)
    expect(slider).to_have_attribute("min", "100")
    held[0].continue_()
    page.wait_for_timeout(500)
    expect(slider).to_have_attribute("min", "100")
    expect(slider).to_have_attribute("max", "200")
