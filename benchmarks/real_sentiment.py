"""Sentiment, offline: Ziegler et al. (2019) and the controlled experiment of Rafailov et al. (2023), section 6.1.

A pretrained model continues openings, and is fine-tuned to end where its own sentence ends: the start. VADER (Hutto
and Gilbert 2014), a published system of rules that trueup did not write, says how positive a continuation is, from -1
to 1; of two continuations of the start the more positive one is preferred. A reward model learns that, PPO follows the
reward model and DPO the pairs, each at several strengths of the KL penalty, and the best of n continuations of the
start is taken by the reward model. All are measured by VADER on openings that none of them saw, over the KL that they
spent from the start.

Shapes: K prompts, N samples of each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import trueup
from benchmarks.real_model import smollm2
from benchmarks.real_stages import evaluations, read_costs, run
from benchmarks.shown import interval, svg, without_frame
from trueup.config import Sampling
from trueup.config.seeds import derive
from trueup.data.write import write_jsonl
from trueup.engine.ask import ask
from trueup.engine.device import tuned_process
from trueup.engine.score import sequence_logps
from trueup.errors import RunError
from trueup.evaluation.bestofn import best_of_n, kl_bound
from trueup.evaluation.intervals import mean_interval
from trueup.ledger import metric_rows
from trueup.reports.figures import COLOURS, GREY
from trueup.types import Completion

RESULTS = Path("benchmarks/results/real_sentiment.json")
SUBJECTS = (
    "the new restaurant on the corner,the hotel by the sea,the film that we saw on Friday,my first day at work,"
    "the train to the city,my neighbour's dog,the book that my sister gave me,the concert in the park,"
    "the phone that I bought last week,our holiday in the mountains,the doctor at the clinic,the football match,"
    "my grandmother's kitchen,the exam this morning,the flight home,the play at the theatre,the garden behind the barn,"
    "my old car,the meeting with the manager,the bus driver,the party last night,the museum in the old town,"
    "the weather this summer,our new flat,the teacher of my son,the market on Sunday,the coffee at this place,"
    "the game that everyone plays,the speech of the mayor,the waiter at dinner,the long walk along the river,"
    "the service at the bank,the haircut that I got,the wedding of my cousin,the first snow,the course in cooking,"
    "the repair of my bike,the choir at school,the letter from the landlord,the swimming pool"
).split(",")
STARTS = (
    "I have to say that {} was,When I think about {} I,Let me tell you about {}. It,Everyone asked me about {}. I said,"
    "After all that I had heard about {} I,{} turned out to be,For me {} was,This is what happened with {}:,"
    "To be honest {} made me feel,We talked about {} and my friend,I wrote a review of {}:,In the end {} left me,"
    "My opinion of {} is that,Last week {} was,If you ask me about {} I would,Nobody told me that {} was,"
    "The thing about {} is,I had expected more of {} and,At first {} seemed,Yesterday {} was the reason that I,"
    "What I remember of {} is,Again and again {} has been,The best word for {} is,I cannot forget {} because it,"
    "You should know that {} was,By the evening {} had,Compared with last year {} is,I must admit that {} did,"
    "It is hard to describe {} but,They say that {} was"
).split(",")
NEW_TOKENS = 32
SENTENCE = re.compile(r"^.{20,}?[.!?](?=\s|$)", re.DOTALL)
"""A continuation up to the end of its first sentence of some length."""
BETAS = {"ppo": (0.2, 0.05, 0.0), "dpo": (1.0, 0.2, 0.05)}
BEST_OF = (1, 2, 4, 8, 16)
NO_END = 8.0
"""Taken off a continuation without an end. The reward model saw none, and scores some of them at 5 and more."""
EXAMPLES = 3
SIDES = {"pairs": False, "held-out": True}


def openings() -> list[str]:
    """All 1,200 of them, in an order that mixes them."""
    filled = (start.format(subject) for start, subject in itertools.product(STARTS, SUBJECTS))
    texts = [text[0].upper() + text[1:] for text in filled]
    random.Random(7).shuffle(texts)
    return texts


class Vader:
    """How positive texts are by VADER's compound score, from -1 to 1."""

    def __init__(self) -> None:
        try:
            from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
        except ImportError as error:
            raise RunError("vaderSentiment is not installed", fix="pip install 'trueup[real]'") from error
        self._rules = SentimentIntensityAnalyzer()

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """One number for each text."""
        return [float(self._rules.polarity_scores(text)["compound"]) for text in texts]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Continuations of prompts, as many of each, and the numbers that describe them."""

    completions: tuple[Completion, ...]
    gold: tuple[float, ...]
    proxy: tuple[float, ...]
    kl: tuple[float, ...]
    natural: tuple[float, ...]
    """Nats a token that the start gives them."""


class Street:
    """A model that continues openings, and what judges continuations."""

    def __init__(self, model: str | Path, settings: dict[str, Any], *, seed: int) -> None:
        self.base = trueup.open_policy(model, **settings)
        self.settings, self.seed, self.vader = settings, seed, Vader()

    def drawn(self, model: trueup.LanguageModel, prompts: Sequence[str], name: str) -> list[Completion]:
        """One continuation of each prompt."""
        sampling, seed = Sampling(max_new_tokens=NEW_TOKENS), derive(self.seed, name)
        with tuned_process():
            return ask(model.policy, model.renderer, prompts, sampling, seed=seed)[1]

    def measured(self, folder: Path | None, prompts: Sequence[str], reward: trueup.Scorer) -> Drawn:
        """Continuations by the model in a folder, or by the start: sampled with one seed, scored, and their KL."""
        model = self.base if folder is None else trueup.open_policy(folder / "final", **self.settings)
        completions = self.drawn(model, prompts, "test")
        rows = [(model.renderer.render_prompt(p), c.ids) for p, c in zip(prompts, completions, strict=True)]
        with tuned_process():
            own, fixed = sequence_logps(model.policy, rows), sequence_logps(self.base.policy, rows)
            proxy = reward.reward.score(prompts, completions).tolist()
        return Drawn(
            tuple(completions),
            tuple(self.vader([c.text for c in completions])),
            tuple(proxy),
            tuple(float((a.double() - b.double()).sum()) for a, b in zip(own, fixed, strict=True)),
            tuple(float(b.double().mean()) for b in fixed),
        )


def write_sentences(street: Street, prompts: Sequence[str], data: Path) -> dict[str, int]:
    """The model's own continuations up to the end of their sentence; those that reach no end are left out."""
    whole = [SENTENCE.match(c.text) for c in street.drawn(street.base, prompts, "sentences")]
    rows = [
        {"prompt": p, "completion": m.group()} for p, m in zip(prompts, whole, strict=True) if m and m.group().strip()
    ]
    write_jsonl(data / "sentences.jsonl", rows)
    return {"openings": len(prompts), "sentences": len(rows)}


def write_pairs(street: Street, prompts: Sequence[str], data: Path, *, held: set[str]) -> dict[str, int]:
    """Two continuations of each opening, the more positive one preferred; what cannot be a pair is counted.

    Pairs of the openings ``held`` are held out.
    """
    one, two = (street.drawn(street.base, prompts, side) for side in ("one", "two"))
    rows, counts = [], {"drawn": len(prompts), "no_end": 0, "ties": 0}
    for prompt, a, b in zip(prompts, one, two, strict=True):
        first, second = street.vader([a.text, b.text])
        if not (a.ended and b.ended and a.text.strip() and b.text.strip()):
            counts["no_end"] += 1
        elif first == second:
            counts["ties"] += 1
        else:
            better, worse = (a, b) if first > second else (b, a)
            rows.append({"prompt": prompt, "chosen": better.text, "rejected": worse.text})
    sides = {side: [row for row in rows if (row["prompt"] in held) is out] for side, out in SIDES.items()}
    if not all(sides.values()):
        raise RunError(
            f"{ {side: len(some) for side, some in sides.items()} } pairs", expected=f"some of each: {counts}"
        )
    for side, some in sides.items():
        write_jsonl(data / f"{side}.jsonl", some)
    write_jsonl(data / "prompts.jsonl", ({"prompt": prompt} for prompt in dict.fromkeys(prompts)))
    return counts | {side: len(some) for side, some in sides.items()}


def first_stage(data: Path, model: dict[str, Any], seed: int) -> dict[str, Any]:
    """The model learns to end where its sentence ends."""
    rate = {"learning_rate": 2e-5, "warmup": 0.1}
    batch = {"size": 32, "max_length": 96}
    sentences = str(data / "sentences.jsonl")
    return {
        "name": "start",
        "kind": "sft",
        "data": sentences,
        "model": model,
        "seed": seed,
        "batch": batch,
        "optim": rate,
    }


def stages(data: Path, settings: dict[str, Any], *, steps: int, rollouts: int, seed: int) -> list[dict[str, Any]]:
    """The reward model, then DPO and PPO at each beta, all from the start."""
    common = {"model": {"name": "@start", **settings}, "seed": seed}
    offline = common | {
        "data": str(data / "pairs.jsonl"),
        "validation": str(data / "held-out.jsonl"),
        "batch": {"size": 32, "max_length": 96},
        "optim": {"learning_rate": 2e-5, "warmup": 0.1},
        "epochs": 2,
    }
    chain = [{"name": "reward", "kind": "reward", **offline}]
    for beta in BETAS["dpo"]:
        chain.append({"name": f"dpo-{beta:g}", "kind": "dpo", **offline, "objective": {"kind": "dpo", "beta": beta}})
    online = common | {
        "data": str(data / "prompts.jsonl"),
        "reward": "@reward",
        "batch": {"size": rollouts, "max_length": 96},
        "steps": steps,
        "epochs": 2,
        "sampling": {"max_new_tokens": NEW_TOKENS},
        "missing_eos_penalty": NO_END,
        "optim": {"learning_rate": 1e-5, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
        "probe_every": max(1, steps // 4),
    }
    for beta in BETAS["ppo"]:
        chain.append({"name": f"ppo-{beta:g}", "kind": "ppo", **online, "kl": {"kind": "fixed", "beta": beta}})
    return chain


def best(street: Street, prompts: Sequence[str], reward: trueup.Scorer, seed: int) -> list[dict[str, Any]]:
    """The best of n continuations of the start by the reward model, by VADER."""
    samples = max(BEST_OF)
    gold_KN, proxy_KN = np.zeros((len(prompts), samples)), np.zeros((len(prompts), samples))
    for n in range(samples):
        completions = street.drawn(street.base, prompts, f"best {n}")
        gold_KN[:, n] = street.vader([c.text for c in completions])
        with tuned_process():
            proxy_KN[:, n] = reward.reward.score(prompts, completions).numpy()
    return [
        {"n": n, "kl_bound": kl_bound(n), "gold": best_of_n(proxy_KN, gold_KN, n, seed=seed).to_dict()} for n in BEST_OF
    ]


def summary(drawn: Drawn, prompts: Sequence[str]) -> dict[str, Any]:
    """Means with intervals over prompts."""
    values = {"gold": drawn.gold, "proxy": drawn.proxy, "kl": drawn.kl, "natural": drawn.natural}
    bigrams = [pair for c in drawn.completions for pair in itertools.pairwise(c.ids)]
    return {name: mean_interval(of, prompts).to_dict() for name, of in values.items()} | {
        "distinct_2": len(set(bigrams)) / len(bigrams)
    }


def measure(out: Path, *, model: str, settings: dict[str, Any], sizes: dict[str, int], seed: int) -> dict[str, Any]:
    """The whole experiment; its figures."""
    texts = openings()
    test, train = texts[: sizes["test"]], texts[sizes["test"] :]
    data, asked = out / "data", list(itertools.islice(itertools.cycle(train), sizes["pairs"]))
    data.mkdir(parents=True, exist_ok=True)
    counts = _once(
        data / "sentences.json", lambda: write_sentences(Street(model, settings, seed=seed), asked[: len(train)], data)
    )
    first = first_stage(data, {"name": model, **settings}, seed)
    street = Street(run(out, [first])["start"] / "final", settings, seed=seed)
    counts |= _once(data / "pairs.json", lambda: write_pairs(street, asked, data, held=set(train[: sizes["held"]])))
    runs = run(out, [first, *stages(data, settings, steps=sizes["steps"], rollouts=sizes["rollouts"], seed=seed)])
    reward = trueup.open_reward(runs["reward"] / "final")
    found = {
        name: street.measured(folder, test, reward)
        for name, folder in {"start": None, **{n: f for n, f in runs.items() if n not in ("start", "reward")}}.items()
    }
    return {
        "counts": counts,
        "sizes": sizes,
        "seed": seed,
        "reward_accuracy": evaluations(runs["reward"])["heldout_accuracy"],
        "models": {name: summary(drawn, test) for name, drawn in found.items()},
        "best_of_n": best(street, test[: sizes["best"]], reward, seed),
        "along": {
            name: [
                [row["step"], row["score"], row["kl"]] for row in metric_rows(folder)[:: max(1, sizes["steps"] // 8)]
            ]
            for name, folder in runs.items()
            if name.startswith("ppo")
        },
        "examples": [
            {"opening": test[i]} | {name: drawn.completions[i].text for name, drawn in found.items()}
            for i in range(EXAMPLES)
        ],
        "costs": read_costs(out),
    }


def _once(file: Path, work: Callable[[], dict[str, int]]) -> dict[str, int]:
    """The counts of work whose files lie beside; it is done where they are not there."""
    if not file.exists():
        file.write_text(json.dumps(work()))
    return dict(json.loads(file.read_text()))


WHOLE = {"pairs": 1600, "held": 150, "test": 200, "best": 100, "steps": 40, "rollouts": 64}
SMALL = {"pairs": 48, "held": 12, "test": 12, "best": 4, "steps": 2, "rollouts": 8}
"""Enough to see that it runs through."""


def main() -> None:
    """Run it and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="Another pretrained model than SmolLM2-135M-Instruct.")
    parser.add_argument("--out", type=Path, default=Path("runs/real/sentiment"))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--small", action="store_true", help="A few rows and steps, to see that it runs.")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = measure(
        args.out,
        model=args.model or str(smollm2()),
        settings={"dtype": args.dtype},
        sizes=SMALL if args.small else WHOLE,
        seed=args.seed,
    )
    if not (args.small or args.model):  # the page is about SmolLM2
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))


def table(found: dict[str, Any]) -> str:
    """Markdown: VADER, the reward model and KL of each model, and of the best of n."""
    lines = [
        "| model | VADER | reward model | KL, nats | nats a token by the start | distinct-2 |",
        "|---|---|---|---|---:|---:|",
    ]
    for name, m in found["models"].items():
        cells = " | ".join(interval(m[key], ".2f") for key in ("gold", "proxy", "kl"))
        lines.append(f"| {name} | {cells} | {m['natural']['estimate']:.2f} | {m['distinct_2']:.3f} |")
    for row in found["best_of_n"]:
        lines.append(
            f"| best of {row['n']} | {interval(row['gold'], '.2f')} | – | at most {row['kl_bound']:.2f} | – | – |"
        )
    return "\n".join(lines)


def conclusions(found: dict[str, Any]) -> list[str]:
    """What the intervals say, and whether anything is over-optimised."""
    models = dict(found["models"])
    start = models.pop("start")["gold"]
    better = [name for name, m in models.items() if m["gold"]["low"] > start["high"]]
    said = [f"More positive than the start, interval above interval: {', '.join(better) or 'none'}."]
    if rest := [name for name in models if name not in better]:
        said.append(f"Not shown to be: {', '.join(rest)}.")
    for family in ("dpo", "ppo"):
        path = sorted(
            (m for name, m in models.items() if name.startswith(family)), key=lambda m: float(m["kl"]["estimate"])
        )
        if path:
            said.append(
                _turn(f"{family.upper()} up to {path[-1]['kl']['estimate']:.1f} nats", [m["gold"] for m in path])
            )
    if found["best_of_n"]:
        curve = [row["gold"] for row in found["best_of_n"]]
        said.append(_turn(f"Best-of-n up to {found['best_of_n'][-1]['n']}", curve))
    return said


def _turn(what: str, gold: Sequence[dict[str, float]]) -> str:
    """Whether gold is lower at the end than it was, interval below interval."""
    best = max(gold, key=lambda one: one["estimate"])
    if gold[-1]["high"] < best["low"]:
        return f"{what} is over-optimised: VADER falls from {best['estimate']:.2f} to {gold[-1]['estimate']:.2f}."
    return f"{what} is not shown to be over-optimised."


def frontier(found: dict[str, Any]) -> str:
    """VADER over KL with intervals, a line for each family and for best-of-n by its bound, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axis = figure.subplots()
    models = found["models"]
    for colour, family in zip(COLOURS, ("dpo", "ppo"), strict=False):
        names = ["start", *(name for name in models if name.startswith(family))]
        own = sorted((models[name] for name in names), key=lambda m: m["kl"]["estimate"])
        _draw(axis, [m["kl"]["estimate"] for m in own], [m["gold"] for m in own], colour, family.upper())
    bounds = [row["kl_bound"] for row in found["best_of_n"]]
    _draw(axis, bounds, [row["gold"] for row in found["best_of_n"]], GREY, "best of n (KL at most)")
    axis.set_xlabel("KL from the start, nats")
    axis.set_ylabel("VADER")
    axis.legend(frameon=False, fontsize=8)
    without_frame(axis)
    return svg(figure)


def _draw(axis: Any, kl: list[float], gold: list[dict[str, float]], colour: str, label: str) -> None:
    middle = [one["estimate"] for one in gold]
    below = [one["estimate"] - one["low"] for one in gold]
    above = [one["high"] - one["estimate"] for one in gold]
    axis.errorbar(kl, middle, yerr=[below, above], color=colour, marker="o", capsize=2, label=label)


if __name__ == "__main__":
    main()
