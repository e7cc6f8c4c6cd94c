"""A trainer and n rollout servers, simulated: where adding servers stops paying.

    python -m benchmarks.rollout_simulation

Servers draw answers whose lengths are lognormal up to a longest one; a server's tokens a second grow with the answers
that it has in work, up to a limit, and are shared equally among them. The trainer takes the oldest answers of a whole
batch, trains, and gives every server the new weights, during which all of them stand still; answers in work go on with
the new weights. No more answers are started than ``staleness`` + 1 batches beyond what was trained, and the trainer
waits for every answer that would be too old for the batch after this one: to drop it would leave out the long ones.
Staleness 0 is what ``rollout`` does: draw, train, transfer, one after the other.

The figures of a server and of a step are assumptions, given as options. The simulation is compared with published
splits of GPUs, whose generation is as fast as it was in the run beside it that did one after the other: once with
answers of much the same length, so that half the GPUs need twice the time, and once with a long tail, which keeps most
GPUs idle and takes as long with half of them.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

RESULTS = Path("benchmarks/results/rollout_simulation.json")
SERVERS, STALENESS = (1, 2, 4, 8, 16, 32, 64), (0, 1, 2, 4)
PAYS = 0.1
"""Doubling the servers pays where it makes a step shorter by this share at least."""


@dataclass(frozen=True)
class Setup:
    """What is simulated.

    Attributes:
        servers: How many.
        staleness: Versions that an answer may be old.
        batch: Answers of a step.
        tokens: Mean length of an answer, before the longest are cut.
        spread: Standard deviation of the logarithm of lengths; more is a longer tail.
        longest: Longest answer.
        rate: Tokens a second of a server that has very many answers in work.
        half: Answers in work at which it reaches half of that.
        slots: Answers that a server has in work at most.
        train: Seconds of an update, log-probs included.
        transfer: Seconds until every server has new weights.
        steps: Steps that are simulated; the first quarter is left out of the means.
        seed: Of the lengths.
    """

    servers: int = 8
    staleness: int = 0
    batch: int = 512
    tokens: float = 2_000.0
    spread: float = 1.0
    longest: float = 16_384.0
    rate: float = 2_500.0
    half: float = 16.0
    slots: int = 256
    train: float = 60.0
    transfer: float = 10.0
    steps: int = 32
    seed: int = 0


class Server:
    """Answers in work, each of which gets the same share of the server's tokens a second."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.given = 0.0
        """Tokens that each answer in work has got since the beginning."""
        self.work: list[tuple[float, int, int]] = []
        """(tokens given at which it ends, number, version at its start)."""

    def share(self) -> float:
        """Tokens a second of one answer."""
        return self.setup.rate / (len(self.work) + self.setup.half) if self.work else 0.0

    def next_end(self) -> float:
        """Seconds until its next answer ends."""
        return (self.work[0][0] - self.given) / self.share() if self.work else float("inf")

    def start(self, number: int, tokens: float, version: int) -> None:
        """Take an answer into work."""
        heapq.heappush(self.work, (self.given + tokens, number, version))


def draw_lengths(setup: Setup, random: np.random.Generator) -> np.ndarray:
    """Lengths of the answers of some batches."""
    mean_log = np.log(setup.tokens) - setup.spread**2 / 2
    return np.minimum(setup.longest, random.lognormal(mean_log, setup.spread, 4 * setup.batch))


def all_in_time(setup: Setup, version: int, done: list[tuple[int, int]], servers: list[Server]) -> bool:
    """Whether the oldest answers that are done can be trained on now, and all others still before they are too old."""
    left = sorted([drawn for drawn, _ in done])[setup.batch :]
    left += [drawn for server in servers for _, _, drawn in server.work]
    counts = [sum(drawn <= version - setup.staleness + later for drawn in left) for later in range(setup.staleness + 1)]
    return all(count <= later * setup.batch for later, count in enumerate(counts))


def simulate(setup: Setup) -> dict[str, float]:
    """Means over the steps: seconds of a step, shares of idle time, staleness."""
    random = np.random.default_rng(setup.seed)
    servers = [Server(setup) for _ in range(setup.servers)]
    done: list[tuple[int, int]] = []  # (version, number)
    now, version, started, busy_until, paused_until = 0.0, 0, 0, None, 0.0
    ends: list[float] = []
    ages: list[float] = []
    idle_servers = trained = 0.0
    lengths = draw_lengths(setup, random)
    while version < setup.steps:
        limit = (version + setup.staleness + 1) * setup.batch
        while now >= paused_until and started < limit:
            server = min(servers, key=lambda one: len(one.work))
            if len(server.work) >= setup.slots:
                break
            if started >= len(lengths):
                lengths = np.concatenate([lengths, draw_lengths(setup, random)])
            server.start(started, float(lengths[started]), version)
            started += 1
        whole = busy_until is None and len(done) >= setup.batch
        if whole and all_in_time(setup, version, done, servers):
            ages += [version - heapq.heappop(done)[0] for _ in range(setup.batch)]
            busy_until, trained = now + setup.train, trained + setup.train
            continue
        paused = now < paused_until
        ending = [float("inf") if paused else now + server.next_end() for server in servers]
        first = min(range(len(servers)), key=lambda index: ending[index])
        upcoming = min(ending[first], busy_until or float("inf"), paused_until if paused else float("inf"))
        for server in servers:
            if not paused:
                server.given += (upcoming - now) * server.share()
            if paused or not server.work:
                idle_servers += upcoming - now
        now = upcoming
        if upcoming == ending[first]:
            _, number, drawn = heapq.heappop(servers[first].work)
            heapq.heappush(done, (drawn, number))
        elif upcoming == busy_until:
            busy_until, version, paused_until = None, version + 1, now + setup.transfer
            ends.append(now)
    first_step = len(ends) // 4
    seconds = (ends[-1] - ends[first_step]) / (len(ends) - 1 - first_step)
    return {
        "seconds": seconds,
        "trainer_idle": 1 - trained / now,
        "servers_idle": idle_servers / (now * setup.servers),
        "staleness": mean(ages[first_step * setup.batch :]),
        "staleness_max": max(ages),
    }


@dataclass(frozen=True)
class Published:
    """One published run that generates and trains at once, and the run beside it that does one after the other.

    Seconds are means of a step. All of ``gpus`` generate, then train, in the one; in the other they are split.
    """

    name: str
    gpus: int
    rollout: int
    generate: float
    """Seconds of generation on all GPUs."""
    sync_step: float
    train: float
    """Seconds of the update (and of reference log-probs) on the training GPUs of the split."""
    transfer: float
    step: float
    """Seconds of a step of the split."""


SOURCE = "https://verl.readthedocs.io/en/latest/advance/fully_async.html"
PUBLISHED = (
    Published("Qwen2.5-Math-7B", 32, 16, 357.41, 790.10, 313.81, 0.12, 294.77),
    Published("Qwen2.5-Math-7B", 64, 32, 150.72, 365.28, 156.98, 0.12, 189.26),
    Published("Qwen2.5-Math-7B", 128, 64, 177.85, 356.30, 113.16, 0.12, 150.63),
    Published("Qwen3-30B-A3B", 128, 96, 348.05, 497.89, 206.63 + 50.05, 15.76, 282.75),
)
"""verl's own tables for its fully asynchronous trainer on H20 GPUs: 512 prompts of 16 answers a step."""
FOLD = 8
"""GPUs that stand for one server in the comparison, and answers for one answer."""


def compare(row: Published) -> dict[str, Any]:
    """Foretell the step of a split from the generation of the run that was not split."""
    alone = Setup(servers=row.gpus // FOLD, batch=512 * 16 // FOLD, slots=4_096, train=0.0, transfer=0.0, steps=6)
    foretold = {}
    for name, (spread, longest) in LENGTHS.items():
        lengths = replace(alone, spread=spread, longest=longest * alone.tokens)
        rate = lengths.rate * simulate(lengths)["seconds"] / row.generate
        split = replace(lengths, rate=rate, servers=row.rollout // FOLD, train=row.train, transfer=row.transfer)
        foretold[name] = simulate(replace(split, staleness=1, steps=12))["seconds"]
    return asdict(row) | {"foretold": foretold}


LENGTHS = {"even": (0.2, 2.0), "tail": (1.5, 14.0)}
"""Spread of the lengths, and the longest one in mean lengths."""


def last_that_pays(rows: list[dict[str, Any]], staleness: int) -> int:
    """The number of servers whose doubling no longer makes a step shorter by ``PAYS``."""
    seconds = {row["servers"]: row["seconds"] for row in rows if row["staleness_bound"] == staleness}
    counts = sorted(seconds)
    for fewer, more in itertools.pairwise(counts):
        if seconds[more] > (1 - PAYS) * seconds[fewer]:
            return fewer
    return counts[-1]


def table(found: dict[str, Any]) -> str:
    """Markdown: seconds of a step by servers and staleness bound, with what stands idle."""
    rows = found["rows"]
    lines = [
        "| servers | " + " | ".join(f"bound {s}: s a step, trainer idle, servers idle" for s in STALENESS) + " |",
        "|---:|" + "---|" * len(STALENESS),
    ]
    by = {(row["servers"], row["staleness_bound"]): row for row in rows}
    for servers in sorted({row["servers"] for row in rows}):
        cells = [by[servers, bound] for bound in STALENESS]
        shown = [f"{c['seconds']:.0f}, {c['trainer_idle']:.0%}, {c['servers_idle']:.0%}" for c in cells]
        lines.append(f"| {servers} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def published_table(found: dict[str, Any]) -> str:
    """Markdown: published steps beside those that the simulation foretells."""
    lines = [
        "| model, GPUs | one after the other, published | split (rollout : training) | published | simulated, long tail "
        "| simulated, even lengths |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in found["published"]:
        split = f"{row['rollout']} : {row['gpus'] - row['rollout']}"
        shown = [f"{seconds:.0f} s" for seconds in (row["foretold"]["tail"], row["foretold"]["even"])]
        lines.append(
            f"| {row['name']}, {row['gpus']} | {row['sync_step']:.0f} s | {split} | {row['step']:.0f} s "
            f"| {shown[0]} | {shown[1]} |"
        )
    return "\n".join(lines)


def gaps(found: dict[str, Any]) -> str:
    """In words: how far the published steps are from the simulated ones."""
    shares = [1 - row["step"] / row["foretold"]["tail"] for row in found["published"]]
    return (
        f"The published steps are {min(shares):.0%} to {max(shares):.0%} shorter than the simulated ones of a long tail, and all are within"
        f" {max(row['step'] / (row['train'] + row['transfer']) for row in found['published']) - 1:.0%} of their update and transfer alone: with these"
        " splits the trainer is the limit. What the simulation has not: GPUs that only generate have all of their memory for it, and the lengths of"
        " two runs differ."
    )


def conclusions(found: dict[str, Any]) -> str:
    """In words: how many servers pay at each bound, and what the long answers cost."""
    rows = found["rows"]
    by = {(row["servers"], row["staleness_bound"]): row["seconds"] for row in rows}
    pays = {bound: last_that_pays(rows, bound) for bound in STALENESS}
    most = max(row["servers"] for row in rows)
    setup = found["setup"]
    floor = setup["train"] + setup["transfer"]
    words = ", ".join(f"{count} at bound {bound}" for bound, count in pays.items())
    return (
        f"Doubling the servers makes a step at least {PAYS:.0%} shorter up to this many: {words}. With {most} servers a"
        f" step of bound 0 takes {by[most, 0]:.0f} s, of which {floor:.0f} s are update and transfer: the rest is the"
        f" longest answer, which no server makes shorter. A bound of 1 with {pays[1]} servers takes"
        f" {by[pays[1], 1]:.0f} s."
    )


def main() -> None:
    """Simulate all, write JSON, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("batch", "slots", "steps", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Setup(), name))
    for name in ("tokens", "spread", "longest", "rate", "half", "train", "transfer"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Setup(), name))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = vars(parser.parse_args())
    results = args.pop("results")
    setup = Setup(**args)
    rows = [
        {"servers": servers, "staleness_bound": bound} | simulate(replace(setup, servers=servers, staleness=bound))
        for bound in STALENESS
        for servers in SERVERS
    ]
    found = {"setup": asdict(setup), "rows": rows, "source": SOURCE, "published": [compare(row) for row in PUBLISHED]}
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found), conclusions(found), published_table(found), sep="\n\n")


if __name__ == "__main__":
    main()
