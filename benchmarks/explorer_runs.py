"""A folder of runs as large as the explorer is to bear, written by the run directory's own writers.

The numbers are drawn, not trained: what is measured on them is how long reading takes, and that does not depend on
what they say. Every run differs from the others in its seed.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trueup.ledger import Run
from trueup.metrics import METRICS

NEEDLE = "zanzibar"
"""A word of one answer alone."""
FREQUENT = "lantern"
"""A word of many answers."""
_WORDS = (
    "the a of and to in is it that for you with on as are be this have from or one had by word but not what all were "
    "we when your can said there use an each which she do how their if will up other about out many then them these so "
    "some her would make like him into time has look two more write go see number no way could people my than first "
    "water been call who oil its now find long down day did get come made may part"
).split()
_FIRST = ("score", "reward", "kl", "beta", "entropy", "completion_length", "loss", "distinct_2", "grad_norm")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much there is."""

    runs: int = 50
    steps: int = 20_000
    metrics: int = 40
    samples: int = 200_000
    """Stored answers, all of them in the first run."""
    prompts: int = 200
    """Answers of one probe."""

    @property
    def probes(self) -> int:
        """Probe steps of the first run."""
        return self.samples // self.prompts


SMALL = Scale(runs=3, steps=400, metrics=12, samples=1_000, prompts=50)
"""For a test."""


def metric_names(count: int) -> list[str]:
    """Metrics that an online run may log, those at the top of its page first."""
    return list(dict.fromkeys([*_FIRST, *METRICS]))[:count]


def make_runs(folder: Path, scale: Scale) -> None:
    """Write all runs below ``folder``, as many at once as there are cores, and say how far that is.

    A run that is there is kept, so that making them can be stopped and gone on with.
    """
    missing = [number for number in range(scale.runs) if not (folder / f"run-{number:02d}").exists()]
    began = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        written = [pool.submit(_make_run, folder / f"run-{number:02d}", number, scale) for number in missing]
        for count, future in enumerate(as_completed(written), 1):
            future.result()
            seconds = time.perf_counter() - began
            left = seconds / count * (len(missing) - count)
            print(f"run {count} of {len(missing)} written, {seconds:.0f} s; about {left:.0f} s left", file=sys.stderr)


def _make_run(folder: Path, number: int, scale: Scale) -> None:
    config = {"kl": {"kind": "adaptive", "beta": 0.05, "target": 4.0}, "seed": number, "steps": scale.steps}
    names = metric_names(scale.metrics)
    draw = np.random.default_rng(number)
    probes = scale.probes if number == 0 else 0
    every = max(scale.steps // probes, 1) if probes else 0
    answers = _Answers(scale)
    drawn = draw.normal(size=(scale.steps, len(names)))
    begun = folder.with_name(f"{folder.name}.tmp")  # of which an end in the middle leaves nothing that counts as a run
    shutil.rmtree(begun, ignore_errors=True)
    with Run.start(begun, kind="ppo", config=config, inputs={"data": "0" * 8}, quiet=True) as run:
        for step in range(scale.steps):
            values = drawn[step].tolist()
            values[:3] = [step / scale.steps + 0.1 * values[0], step / scale.steps, 4.0 + 0.2 * values[2]]
            run.log(step, dict(zip(names, values, strict=True)))
            run.time(step, 2.0 + 0.1 * abs(values[0]), tokens=1_000.0)
            if every and step % every == 0:
                for row in answers.at(step):
                    run.sample(step, **row)
    begun.rename(folder)


class _Answers:
    """Answers to the same prompts at every probe, as an online method writes them."""

    def __init__(self, scale: Scale) -> None:
        self._draw = random.Random(0)
        self._prompts = [" ".join(self._draw.choices(_WORDS, k=24)) for _ in range(scale.prompts)]
        self._last = (scale.probes // 2) * max(scale.steps // scale.probes, 1)

    def at(self, step: int) -> list[dict[str, Any]]:
        """The rows of one probe."""
        rows = []
        for number, prompt in enumerate(self._prompts):
            words = self._draw.choices(_WORDS, k=self._draw.randint(16, 48))
            words += [FREQUENT] if self._draw.random() < 0.2 else []
            words += [NEEDLE] if number == 0 and step == self._last else []
            ratios = [round(self._draw.gauss(0.0, 1.0), 4) for _ in words]
            rows.append(
                {
                    "prompt": f"user: {prompt}",
                    "question": prompt,
                    "completion": " ".join(words),
                    "stop": "eos",
                    "score": self._draw.gauss(0.0, 1.0),
                    "log_ratio": sum(ratios),
                    "tokens": {
                        "text": [f" {word}" for word in words],
                        "entropy": [abs(ratio) for ratio in ratios],
                        "log_ratio": ratios,
                    },
                }
            )
        return rows
