"""Whether the explorer stays quick on many long runs: seconds of what a person waits for, and the server's memory.

    python -m benchmarks.explorer_scale            # 50 runs, some minutes, 2 GB; writes results/explorer_scale.json
    python -m benchmarks.explorer_scale --small    # a few seconds, to see that it works; writes nothing

The runs are written by the run directory's own writers into a folder that is removed afterwards (``--folder`` keeps it,
and takes one that is there). Then the server is started as a process, twice: without the index beside samples.jsonl,
and with it. Its answers are timed over HTTP, and where there are playwright and a Chromium, the page in that browser:
from the click to the frame in which the result is drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.contention import processor
from benchmarks.explorer_browser import PAUSE, in_browser, spread
from benchmarks.explorer_runs import FREQUENT, NEEDLE, SMALL, Scale, make_runs

RESULTS = Path("benchmarks/results/explorer_scale.json")
TARGETS = {"first paint": 1.0, "zoom": 0.2, "scrub": 0.2, "memory": 300.0}
"""Seconds, and megabytes."""
_VERDICTS = {True: "Reached", False: "Missed", None: "Not measured, because there was no Chromium"}
COMPARED = 10
"""Runs that are compared at once: as many as the page takes."""
SEARCHES = {"rare": NEEDLE, "frequent": FREQUENT, "in most answers": "the", "in none": "quartz"}


def main() -> None:
    """Make the runs, measure without and with the index, and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few short runs; nothing is stored")
    parser.add_argument("--folder", type=Path, help="where the runs are made, or lie since they were made; kept")
    parser.add_argument("--times", type=int, default=40, help="zooms, scrubs and searches of each kind")
    args = parser.parse_args()
    scale = SMALL if args.small else Scale()
    figures = measure(scale, args.folder, times=5 if args.small else args.times)
    print(table(figures))
    print(conclusion(figures))
    if not args.small:
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(scale: Scale, folder: Path | None, times: int) -> dict[str, Any]:
    """All figures. Seconds are [median, 95th percentile] where something was done several times."""
    place = folder or Path(tempfile.mkdtemp(prefix="trueup-explorer-"))
    try:
        _say(f"{scale.runs} runs of {scale.steps:,} steps in {place}")
        make_runs(place, scale)
        for run in range(scale.runs):
            shutil.rmtree(place / f"run-{run:02d}" / "cache", ignore_errors=True)
        _say("a server without indexes")
        cold = _visit(place, scale, times)
        _say("a server with the indexes that it left")
        warm = _visit(place, scale, times)
        machine = {"cores": os.cpu_count(), "processor": processor(), "python": platform.python_version()}
        size = {name: getattr(scale, name) for name in ("runs", "steps", "metrics", "samples", "prompts")}
        return {"machine": machine, "scale": size, "cold": cold, "warm": warm}
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)


def _visit(place: Path, scale: Scale, times: int) -> dict[str, Any]:
    """One server from its start to its end, and everything that is asked of it."""
    began = time.perf_counter()
    with _server(place) as (address, process):
        figures: dict[str, Any] = {"start": time.perf_counter() - began}
        with httpx.Client(base_url=f"{address}/api/v1", timeout=600) as client:
            _say(f"it listens after {figures['start']:.1f} s; the page in a browser")
            figures["browser"] = in_browser(address, times)
            for name, value in (figures["browser"] or {}).items():
                _say(f"  {name}: {_shown(value)} ms")
            _say("the server's answers")
            figures["http"] = _over_http(client, scale, times)
        figures["memory"] = _peak_megabytes(process.pid)
        _say(f"its memory was {figures['memory']:.0f} MB at most")
    return figures


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _server(place: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "trueup", "explore", str(place), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = next((word for word in line.split() if word.startswith("http")), "").rstrip("/")
        if not address:
            raise SystemExit(f"the server did not start: it said {line!r}")
        yield address, process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:  # it is still in the middle of an answer
            process.kill()


def _peak_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1000


def _over_http(client: httpx.Client, scale: Scale, times: int) -> dict[str, Any]:
    draw = random.Random(0)

    def get(path: str, **query: Any) -> Any:
        reply = client.get(path, params=query)
        reply.raise_for_status()
        return reply.json()

    run = "run-00"
    figures = _Told()
    figures["list of runs"] = _seconds(lambda: get("/runs"))
    figures["a run"] = _seconds(lambda: [get("/run", run="run-01"), get("/series", run="run-01")])
    figures["the run with samples"] = _seconds(lambda: [get("/run", run=run), get("/series", run=run)])
    figures["its probes"] = _seconds(lambda: get("/probes", run=run))
    steps = [row["step"] for row in get("/probes", run=run)["probes"]]
    if sum(row["answers"] for row in get("/probes", run=run)["probes"]) != scale.samples:
        raise SystemExit("the server does not have all samples")

    def zoom() -> None:
        first = draw.randrange(scale.steps // 2)
        get("/series", run=run, first=first, last=first + draw.randrange(scale.steps // 10, scale.steps // 2))

    figures["zoom"] = _several(zoom, times)
    figures["scrub"] = _several(lambda: get("/samples", run=run, step=draw.choice(steps)), times)
    figures["scrub, best first"] = _several(
        lambda: get("/samples", run=run, step=draw.choice(steps), sort="reward"), times
    )
    prompt = get("/samples", run=run, step=steps[0])["rows"][0]["prompt"]
    figures["one prompt at every step"] = _several(lambda: get("/history", run=run, prompt=prompt), 5)
    for kind, text in SEARCHES.items():
        figures[f"search, {kind}"] = _several(lambda text=text: get("/search", run=run, text=text), 5)
    compared = [f"run-{n:02d}" for n in range(min(COMPARED, scale.runs))]
    time.sleep(2 * len(compared) * PAUSE)
    figures["compare, the first time"] = _seconds(lambda: [get("/series", run=name) for name in compared])
    figures["compare, again"] = _several(lambda: [get("/series", run=name) for name in compared], 5, 2 * len(compared))
    time.sleep(scale.runs * PAUSE)
    figures["every run once"] = _seconds(lambda: [get("/run", run=f"run-{n:02d}") for n in range(scale.runs)])
    return dict(figures)


class _Told(dict[str, float | list[float]]):
    """Figures that are said when they are known."""

    def __setitem__(self, name: str, value: float | list[float]) -> None:
        super().__setitem__(name, value)
        _say(f"  {name}: {_shown(value)} ms")


def _seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _several(what: Callable[[], object], times: int, requests: int = 1) -> list[float]:
    """Median and 95th percentile of something that takes so many requests; between two the server's limit recovers."""
    taken = []
    for _ in range(times):
        taken.append(_seconds(what))
        time.sleep(requests * PAUSE)
    return spread(taken)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return " / ".join(f"{1e3 * one:,.0f}" for one in (value if isinstance(value, list) else [value]))


def table(figures: dict[str, Any]) -> str:
    """Milliseconds of everything, cold and warm, as Markdown."""
    cold, warm = figures["cold"], figures["warm"]
    lines = ["| milliseconds (median / p95) | without indexes | with indexes |", "|---|---:|---:|"]
    lines.append(f"| start of the server | {_shown(cold['start'])} | {_shown(warm['start'])} |")
    for kind, head in (("browser", "page: "), ("http", "server: ")):
        for name in cold[kind] or ():
            lines.append(f"| {head}{name} | {_shown(cold[kind][name])} | {_shown(warm[kind][name])} |")
    lines.append(f"| peak memory of the server, MB | {cold['memory']:.0f} | {warm['memory']:.0f} |")
    return "\n".join(lines)


def reached(figures: dict[str, Any]) -> dict[str, bool | None]:
    """Which targets are reached, with the index and without; None where nothing was measured."""
    both = (figures["cold"], figures["warm"])
    seen = [one["browser"] for one in both if one["browser"]]
    answers = {
        "first paint": [one["curves drawn"] for one in seen],
        "zoom": [one["zoom"][1] for one in seen],
        "scrub": [one["scrub"][1] for one in seen],
        "memory": [one["memory"] for one in both],
    }
    return {name: max(values) < TARGETS[name] if values else None for name, values in answers.items()}


def conclusion(figures: dict[str, Any]) -> str:
    """Which targets are reached and which are missed, in a sentence each."""
    verdicts = reached(figures)
    parts = [
        f"{opening}: {', '.join(names)}."
        for verdict, opening in _VERDICTS.items()
        if (names := [name for name, is_reached in verdicts.items() if is_reached is verdict])
    ]
    return " ".join(parts)


if __name__ == "__main__":
    main()
