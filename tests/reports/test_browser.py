"""The report in a real browser, on a desk and on a phone. Needs Chromium; required in CI, skipped elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess

import matplotlib.image
import numpy as np
import pytest

from tests.evaluation.test_evaluation import rows
from trueup.reports.build import build_report

BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
if BROWSER is None and os.environ.get("CI") != "true":
    pytest.skip("no Chromium here", allow_module_level=True)

PROBE = """<!doctype html><style>body{margin:0}</style><iframe id=f src="report.html" width=%d height=2000
 style="border:0" onload="document.title=(f.contentDocument.documentElement.scrollWidth-%d)+' over'"></iframe>"""


def browse(*words):
    assert BROWSER, "CI must install chromium"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    ran = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    evaluation = rows("sft", [0.2, 0.4] * 10) + rows("ppo", [0.8, 0.9] * 10)
    build_report({}, evaluation, out, title="A report", facts={"seed": 0})
    return out


@pytest.mark.parametrize("width", [360, 1280])
def test_page_is_drawn_and_never_wider_than_the_screen(page, width, tmp_path):
    picture = tmp_path / "page.png"
    browse(f"--window-size={width},2000", f"--screenshot={picture}", (page / "report.html").as_uri())
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] == 2000
    assert np.ptp(pixels[:400, :, :3]) > 0.5
    (page / f"probe-{width}.html").write_text(PROBE % (width, width))
    dom = browse("--allow-file-access-from-files", "--dump-dom", (page / f"probe-{width}.html").as_uri())
    assert "<title>0 over</title>" in dom
