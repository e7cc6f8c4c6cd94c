"""Run directories whose every number is known, and the explorer on them behind a real server."""

import json
import math
import threading
import time

import uvicorn

from trueup.commands.explore import means
from trueup.commands.live.runs import Runs
from trueup.feedback.exchange.landing import project_named
from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import add_person
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.schema import guideline
from trueup.feedback.workflow.assignment import Nothing, acknowledge, next_seat
from trueup.feedback.workflow.judgments import submit
from trueup.ledger import Run
from trueup.web.explorer.app import create_app
from trueup.web.shell.limits import Limits
from trueup.web.shell.server import Server

PROMPTS = ("What is a hammer for?", "How do I plant a tree?", "Hello!")
CONFIG = {"kl": {"kind": "adaptive", "beta": 0.05, "target": 4.0, "horizon": 100.0}, "seed": 0, "steps": 40}


def row(step):
    """What a healthy run of PPO logs: the score rises, the KL comes to its target and stays."""
    return {"loss": 1 / (1 + step), "score": step / 10, "reward": step / 10 - 0.2, "kl": 4 * (1 - math.exp(-step / 4)),
            "beta": 0.05, "entropy": 1.0, "completion_length": 20.0, "distinct_2": 0.5}  # fmt: skip


def write(run, steps, *, values=row, probe_every=5):
    """Log steps, and samples at every probe."""
    for step in steps:
        run.log(step, values(step))
        run.time(step, 2.0, tokens=100.0)
        for number, prompt in enumerate(PROMPTS if step % probe_every == 0 else ()):
            text = f"Answer {step} to prompt {number}" + " and more" * number
            run.sample(
                step, prompt=f"user: {prompt}", question=prompt, completion=text, score=step / 10 - number, stop="eos"
            )


TOKENS = {
    "text": ["One", " two", "", " <b>\u202e</b>"],
    "entropy": [0.1, 1.0, 2.0, 4.0],
    "log_ratio": [0.0, -0.3, 1.2, 3.0],
}


def write_offline(run, steps, *, labels=()):
    """Log samples as a run on a file writes them: answers with log-ratios and tokens, or labelled answers of the data
    with rewards."""
    for step in steps:
        for number, prompt in enumerate(PROMPTS):
            common = {"prompt": f"user: {prompt}", "question": prompt}
            for place, label in enumerate(labels):
                run.sample(
                    step, **common, completion=f"{label} {number}", label=label, reward=step * (1.0 - place) / 10
                )
            if not labels:
                ratio = step * (number - 1) / 10
                run.sample(
                    step, **common, completion=f"Said {step} {number}", stop="eos", log_ratio=ratio, tokens=TOKENS
                )


def start(folder, kind="ppo", config=CONFIG, **inputs):
    """An open run."""
    return Run.start(
        folder, kind=kind, config=config, inputs={"data": "abc", **inputs}, defaults={"seed": 0}, quiet=True
    )


def plant(folder, steps=40, **changes):
    """A finished run."""
    values = changes.pop("values", row)
    with start(folder, **changes) as run:
        write(run, range(steps), values=values)
    return folder


RUNAWAY = {"score": 1.0, "reward": 0.5, "beta": 0.01, "entropy": 1.0, "distinct_2": 0.5}


def runaway(step):
    """Reward stands still and the KL runs away: an alert opens at step 20."""
    return {**RUNAWAY, "kl": 4.0 if step < 14 else 4.0 + 2 * (step - 13)}


def judge(db, project, people, prefers):
    """People take seats and answer: ``prefers`` gets the ids of the responses as shown, and their texts."""
    with Store(db) as store:
        identity = project_named(store, project)
        with store.read() as connection:
            version = connection.execute(guideline.select().where(guideline.c.project == identity)).first().id
        for name in people:
            person = add_person(store, name)
            acknowledge(store, person, version)
            while not isinstance(seat := next_seat(store, identity, person), Nothing):
                texts = {r.id: r.text for r in read_project(store, identity).items[seat.item].responses}
                submit(store, seat.item, person, f"{name}-{seat.item}", answer=prefers(seat.shown, texts))


def append(folder, stream, *rows):
    """Lines added to a stream as another machine's copy would add them."""
    with open(folder / f"{stream}.jsonl", "a", encoding="utf-8") as handle:
        handle.writelines(json.dumps(one) + "\n" for one in rows)


class Served:
    """The explorer on a folder, on a port of its own; ``stop`` and ``begin`` are a restart on the same port."""

    def __init__(self, root, port=0, source=Runs, tokens=None, limits=None, **acts):
        self.root, self.port, self.source, self.tokens, self.acts = root, port, source, tokens, acts
        self.limits = limits or Limits(rate=1000, burst=1000)
        self.begin()

    def begin(self):
        """Start, or start again."""
        app = create_app(self.source(self.root), means, tokens=self.tokens, limits=self.limits, **self.acts)
        config = uvicorn.Config(app, port=self.port, log_level="critical", lifespan="off", timeout_graceful_shutdown=5)
        self.server = Server(config, lambda _: None, app.state.closing)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        until = time.monotonic() + 60
        while not self.server.started:
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self):
        """End it as SIGTERM would."""
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()
