"""What a person at the explorer's page waits for, timed in a headless Chromium by the page's own frames."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

PAUSE = 0.06
"""Seconds after a request, so that the server's limit of 20 a second is not what is measured."""
PATIENCE = 60
"""Seconds after which a page that does not show what was asked for ends the benchmark."""
UNTIL = f"""globalThis.until = (began, shown) => new Promise((done, fail) => {{
  const look = () => requestAnimationFrame(() => {{
    const taken = (performance.now() - began) / 1000;
    if (shown()) requestAnimationFrame(() => done(taken));
    else if (taken > {PATIENCE}) fail(new Error(`not shown in {PATIENCE} s: ${{document.body.innerText.slice(-600)}}`));
    else look();
  }});
  look();
}});"""
CURVES = """() => until(0, () => document.querySelector(".hero canvas"))"""
PAINT = """() => performance.getEntriesByName("first-contentful-paint")[0].startTime / 1000"""
ZOOM = """([first, last]) => {
  const [from, to] = document.querySelectorAll("form.zoom input");
  [from.value, to.value] = [first, last];
  const slider = document.querySelector(".cursor-row input[type=range]");
  const began = performance.now();
  from.form.requestSubmit();
  return until(began, () => Number(slider.min) === first);
}"""
SCRUB = """(place) => {
  const slider = document.querySelector(".scrub input[type=range]");
  const began = performance.now();
  slider.value = place;
  slider.dispatchEvent(new Event("input"));
  const step = /Step (\\d+)/.exec(document.querySelector(".step-name").textContent)[1];
  return until(began, () => document.querySelector(".sample .links a")?.textContent === `Step ${step}`);
}"""
ANSWERS = """() => document.querySelector(".sample") && document.querySelector(".scrub input[type=range]").max > 0"""


def spread(values: list[float]) -> list[float]:
    """Median and 95th percentile."""
    return [float(value) for value in np.quantile(values, (0.5, 0.95))]


def in_browser(address: str, times: int) -> dict[str, Any] | None:
    """The same in a headless Chromium; None where there is none.

    Raises:
        SystemExit: The page did not show what was asked for; the message holds what it says instead.
    """
    program = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return None
    if program is None:
        return None
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(1e3 * PATIENCE)
        page.add_init_script(UNTIL)
        try:
            return _timed(page, address, times)
        except Error as error:
            raise SystemExit(f"the page at {address}: {error.message}") from error
        finally:
            browser.close()


def _timed(page: Any, address: str, times: int) -> dict[str, Any]:
    draw = random.Random(1)
    page.goto(f"{address}/#run=run-00")
    figures: dict[str, Any] = {"curves drawn": page.evaluate(CURVES), "first paint": page.evaluate(PAINT)}
    last = int(page.evaluate("() => document.querySelector('.cursor-row input[type=range]').max"))
    zooms = [(first, first + last // 3) for first in (draw.randrange(1, last // 2) for _ in range(times))]
    figures["zoom"] = _several(page, ZOOM, [list(ends) for ends in dict.fromkeys(zooms)])
    page.goto(f"{address}/#run=run-00&view=samples")
    page.wait_for_function(ANSWERS)
    places = int(page.evaluate("() => document.querySelector('.scrub input[type=range]').max"))
    chosen = [draw.randrange(places) for _ in range(times)]
    steps = [place for n, place in enumerate(chosen) if n == 0 or place != chosen[n - 1]]
    figures["scrub"] = _several(page, SCRUB, steps)
    return figures


def _several(page: Any, script: str, values: Sequence[Any]) -> list[float]:
    taken = []
    for value in values:
        taken.append(page.evaluate(script, value))
        page.wait_for_timeout(1e3 * PAUSE)
    return spread(taken)
