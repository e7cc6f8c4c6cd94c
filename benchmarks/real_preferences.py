"""Human preferences: the harmlessness pairs of Bai et al. (2022), by five-fold cross-validation.

    python -m benchmarks.real_preferences --data DIR

``DIR`` holds ``preference/hh_harmless.jsonl.gz`` and ``instruction/alpaca_style_demo.jsonl.gz``. Each pair is held out
once; the prompts of a fold are in no other. Reward models start from a pretrained chat model, all its weights or
adapters only, and from the same after SFT on instructions; the authors of the pairs ask that they train preference
models, not dialogue agents by imitation, so SFT never sees them. DPO starts from that SFT model. Beside them: the
longer or shorter answer, a bag of words, what the pretrained model itself finds more likely, and a head alone on the
frozen model. Learning rate and the head's start were chosen on pairs held out from the first fold's training pairs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import trueup
from benchmarks.real_model import smollm2
from benchmarks.real_stages import COSTS, read_costs, run
from benchmarks.shown import interval
from trueup.config import EpochBatch, Model
from trueup.config.seeds import derive
from trueup.data.read import read_pairs
from trueup.data.write import write_pairs
from trueup.engine.device import tuned_process
from trueup.engine.rendering import renderer_of
from trueup.engine.score import all_states
from trueup.evaluation.baselines import bag_of_words, length_only, outcomes
from trueup.evaluation.implicit import open_implicit
from trueup.evaluation.intervals import SHARE, Floats, mean_interval, paired_difference
from trueup.models.heads import Pooling, open_reward_model
from trueup.recipes.head_start import fit_head
from trueup.recipes.reward import PairLoss
from trueup.rewards.protocol import Reward
from trueup.types import Completion, PreferencePair, StopReason, prompt_text

RESULTS = Path("benchmarks/results/real_preferences.json")
EACH = Path("benchmarks/results/real_preferences_each.json")
"""Right or wrong on every held-out pair, so that what was measured can be compared with what comes later."""
_LETTER = {1.0: "1", 0.0: "0", 0.5: "h"}
FOLDS = 5
RIDGES = (1.0, 10.0, 100.0)
"""Ridges of the bag of words; the best on the held-out pairs stands, which favours it."""
BATCH: dict[str, Any] = {"size": 16, "max_length": 384, "max_prompt_length": 256, "max_truncated": 0.5}
FROZEN: dict[str, Pooling] = {"frozen": "last", "frozen mean": "mean"}
"""Heads alone: on the last token's state, and on the mean state of the answer."""
PARTS = (8, 4, 2)
"""The learning curve takes 1/8, 1/4 and 1/2 of a fold's training pairs."""
PUBLISHED = (0.63, 0.70)
"""Held-out accuracy of published reward models on these kinds of pairs."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Pairs to train on and pairs held out, and where they lie as files."""

    number: int
    train: tuple[PreferencePair, ...]
    held: tuple[PreferencePair, ...]
    place: Path

    def file(self, part: int = 1) -> Path:
        """Training pairs, or the first 1/part of them."""
        return write_pairs(self.place / f"train-{self.number}-{part}.jsonl", self.train[: len(self.train) // part])

    def held_file(self) -> Path:
        """Held-out pairs."""
        return write_pairs(self.place / f"held-{self.number}.jsonl", self.held)


def folds(pairs: Sequence[PreferencePair], place: Path, seed: int) -> list[Fold]:
    """Five folds by prompt, in an order that the seed names."""
    prompts = sorted({prompt_text(p.prompt) for p in pairs})
    order = np.random.default_rng(derive(seed, "folds")).permutation(len(prompts))
    fold_of = {prompts[i]: rank % FOLDS for rank, i in enumerate(order)}
    mixed = [pairs[i] for i in np.random.default_rng(derive(seed, "pairs")).permutation(len(pairs))]
    return [
        Fold(
            k,
            tuple(p for p in mixed if fold_of[prompt_text(p.prompt)] != k),
            tuple(p for p in mixed if fold_of[prompt_text(p.prompt)] == k),
            place,
        )
        for k in range(FOLDS)
    ]


def sft_stage(data: Path, model: dict[str, Any], seed: int) -> dict[str, Any]:
    """SFT on instructions, the start of DPO and of one kind of reward model."""
    return {
        "name": "sft",
        "kind": "sft",
        "data": str(data / "instruction/alpaca_style_demo.jsonl.gz"),
        "model": model,
        "batch": {"size": 16, "max_length": 768},
        "optim": {"learning_rate": 2e-5, "warmup": 0.1},
        "seed": seed,
    }


def stage(kind: str, fold: Fold, settings: dict[str, Any], model: str, seed: int, part: int = 1) -> dict[str, Any]:
    """One training on one fold."""
    rates = {"full": 1e-5, "mean": 1e-5, "drawn": 2e-5, "from-sft": 1e-5, "lora": 2e-4, "dpo": 5e-6}
    start = {"name": "@sft" if kind in ("from-sft", "dpo") else model, **settings}
    if kind == "lora":
        start["lora"] = {"rank": 16, "alpha": 32}
    own = {"objective": {"kind": "dpo", "beta": 0.1}} if kind == "dpo" else {}
    if kind not in ("dpo", "drawn"):
        own = {"head_start": "fit"} | ({"pooling": "mean"} if kind == "mean" else {})
    return own | {
        "name": f"{kind}-{fold.number}" + (f"-{part}" if part > 1 else ""),
        "kind": "dpo" if kind == "dpo" else "reward",
        "data": str(fold.file(part)),
        "validation": str(fold.held_file()),
        "model": start,
        "batch": BATCH,
        "epochs": 1,
        "evaluate_every": 1000,
        "optim": {"learning_rate": rates[kind], "warmup": 0.1},
        "seed": seed,
    }


def frozen(
    every: Sequence[Fold], pairs: Sequence[PreferencePair], settings: dict[str, Any], model: str, seed: int
) -> Iterator[tuple[str, list[float]]]:
    """A head alone, fitted to each fold's training pairs on the frozen model: what it orders right, fold by fold.

    A pair of which nothing is left within the limits counts as a tie.
    """
    config = Model(name=model, **settings)
    batch = EpochBatch(**BATCH)
    for kind, pooling in FROZEN.items():
        with tuned_process():
            reader = open_reward_model(config, new_head=True, seed=seed, pooling=pooling)
            rendered, _ = renderer_of(reader, config, batch).render_pairs(pairs)
            sides = PairLoss(0.0, 0.0).sequences(rendered)
            state_ND = all_states(reader, sides, budget=2 * reader.trunk.budget(batch)).double().numpy()
        contests = dict(zip([p.key for p in rendered], PairLoss(0.0, 0.0).contests(rendered), strict=True))
        for fold in every:
            known = [contests[pair.key] for pair in fold.train if pair.key in contests]
            weight_D = fit_head(state_ND, known, seed).weight_D
            held = [contests.get(pair.key) for pair in fold.held]
            gaps = [0.0 if c is None else float((state_ND[c.better] - state_ND[c.worse]) @ weight_D) for c in held]
            yield f"{kind}-{fold.number}", list(outcomes(gaps))


def reward_right(reward: Reward, held: Sequence[PreferencePair]) -> list[float]:
    """What a reward orders right: 1, 1/2 on a tie, 0."""
    with tuned_process():
        sides = [
            reward.score([p.prompt for p in held], [Completion(a, (), StopReason.EOS) for a in answers])
            for answers in ([p.chosen for p in held], [p.rejected for p in held])
        ]
    return list(outcomes((sides[0] - sides[1]).numpy()))


def log_probs(model: str, settings: dict[str, Any], pairs: Sequence[PreferencePair]) -> dict[str, np.ndarray]:
    """Chosen minus rejected log-prob [P] by a model, of the whole answer and for each token."""
    reader = trueup.open_policy(model, **settings)
    sums, means = [], []
    for answers in ([p.chosen for p in pairs], [p.rejected for p in pairs]):
        with tuned_process():
            rows = reader.token_logps([list(p.prompt) for p in pairs], answers)  # dialogues: tuples of turns
        sums.append(np.array([float(row.double().sum()) for row in rows]))
        means.append(np.array([float(row.double().mean()) for row in rows]))
    return {"sum": sums[0] - sums[1], "mean": means[0] - means[1]}


class Right:
    """What each way of preferring orders right, by fold, kept in a file as it comes."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.values: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def put(self, name: str, values: Sequence[float]) -> None:
        """Keep one."""
        self.values[name] = [float(value) for value in values]
        self.file.write_text(json.dumps(self.values) + "\n")

    def to_text(self) -> dict[str, str]:
        """A character a pair: 1 right, 0 wrong, h a tie."""
        return {name: "".join(_LETTER[value] for value in values) for name, values in self.values.items()}

    def learn(self, texts: dict[str, str]) -> None:
        """Take what is not there yet from what another run wrote by ``to_text``."""
        value_of = {letter: value for value, letter in _LETTER.items()}
        for name, text in texts.items():
            if name not in self:
                self.put(name, [value_of[letter] for letter in text])

    def pooled(self, kind: str, numbers: Sequence[int]) -> Floats:
        """Over folds."""
        return np.concatenate([np.array(self.values[f"{kind}-{k}"]) for k in numbers])

    def numbers(self, kind: str) -> list[int]:
        """Folds on which it was measured."""
        return [k for k in range(FOLDS) if f"{kind}-{k}" in self.values]


def baselines(right: Right, every: Sequence[Fold]) -> None:
    """Length and a bag of words, trained on each fold."""
    for fold in every:
        right.put(f"length-{fold.number}", list(length_only(fold.train, fold.held).right_P))
        for ridge in RIDGES:
            words = bag_of_words(fold.train, fold.held, l2=ridge)
            right.put(f"words {ridge:g}-{fold.number}", list(words.right_P))


def measure(data: Path, out: Path, *, model: str, settings: dict[str, Any], plan: dict[str, int], seed: int) -> None:
    """Train and measure what ``plan`` names: on how many folds each kind. What was measured is kept."""
    place = out / "data"
    place.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(data / "preference/hh_harmless.jsonl.gz", on_bad="skip").items
    every = folds(pairs, place, seed)
    right = Right(out / "right.json")
    baselines(right, every)
    for fold in every:
        if f"log-prob sum-{fold.number}" not in right:
            for name, gaps in log_probs(model, settings, fold.held).items():
                right.put(f"log-prob {name}-{fold.number}", list(outcomes(gaps)))
    first = sft_stage(data, {"name": model, **settings}, seed)
    for kind, count in plan.items():
        if kind == "frozen":
            if any(f"{name}-{fold.number}" not in right for name in FROZEN for fold in every):
                for name, values in frozen(every, pairs, settings, model, seed):
                    right.put(name, values)
            continue
        kind, _, part = kind.partition("/")
        for fold in every[:count]:
            name = f"{kind}{'/' + part if part else ''}-{fold.number}"
            if name in right:
                continue
            one = stage(kind, fold, settings, model, seed, int(part or 1))
            runs = run(out, [first, one] if one["model"]["name"] == "@sft" else [one])
            folder = runs[one["name"]]
            trained = str(folder / "final")
            judge = open_implicit(trained, settings=settings) if kind == "dpo" else trueup.open_reward(trained).reward
            values = reward_right(judge, fold.held)
            right.put(name, values)
            print(f"{name}: {np.mean(values):.3f} of {len(values)} held-out pairs", flush=True)
    (out / "prompts.json").write_text(json.dumps([[prompt_text(p.prompt) for p in f.held] for f in every]))


def summary(out: Path) -> dict[str, Any]:
    """Accuracy of everything that was measured, with intervals, and its lead over words on the same pairs."""
    right = Right(out / "right.json")
    prompts = json.loads((out / "prompts.json").read_text())
    kinds = list(dict.fromkeys(name.rpartition("-")[0] for name in right.values))
    best = max((k for k in kinds if k.startswith("words")), key=lambda k: right.pooled(k, range(FOLDS)).mean())
    rows = {}
    for kind in kinds:
        if kind.startswith("words") and kind != best:
            continue
        numbers = right.numbers(kind)
        asked = [prompt for k in numbers for prompt in prompts[k]]
        own, words = right.pooled(kind, numbers), right.pooled(best, numbers)
        rows["words" if kind == best else kind] = {
            "folds": len(numbers),
            "pairs": len(own),
            "accuracy": mean_interval(own, asked, bounds=SHARE).to_dict(),
            "over_words": paired_difference(own, asked, words, asked, bounds=SHARE).to_dict(),
        }
    return {"rows": rows, "ridge": best.split(" ")[1], "curve": curve(right), "costs": read_costs(out)}


def curve(right: Right) -> dict[str, Any] | None:
    """Accuracy over the share of training pairs, and by which factor they would have to grow for published figures.

    A straight line of accuracy over log2 of the share; the interval of its slope is over folds and pairs resampled
    together, and is wide.
    """
    shares = [(f"full/{part}", -float(np.log2(part))) for part in PARTS] + [("full", 0.0)]
    numbers = [k for k in range(FOLDS) if all(f"{name}-{k}" in right for name, _ in shares)]
    if not numbers:
        return None
    x = np.array([share for _, share in shares])
    table = np.stack([right.pooled(name, numbers) for name, _ in shares])
    draws = np.random.default_rng(0).integers(0, table.shape[1], (2000, table.shape[1]))
    slopes = np.array([np.polyfit(x, table[:, rows].mean(1), 1)[0] for rows in draws])
    slope, level = np.polyfit(x, table.mean(1), 1)
    return {
        "folds": len(numbers),
        "points": {name: float(row.mean()) for (name, _), row in zip(shares, table, strict=True)},
        "slope": {
            "estimate": float(slope),
            "low": float(np.quantile(slopes, 0.025)),
            "high": float(np.quantile(slopes, 0.975)),
        },
        "doublings": {f"{goal:.2f}": float((goal - level) / slope) if slope > 0 else None for goal in PUBLISHED},
    }


PLAN = {
    "frozen": 5,
    "mean": 5,
    "full": 2,
    "dpo": 1,
    "lora": 2,
    "from-sft": 2,
    "full/2": 2,
    "full/4": 2,
    "full/8": 2,
    "drawn": 4,
}
"""On how many of the five folds each is trained; the same folds first, so that all compare on the same pairs."""
SMALL = {"frozen": 5, "full/8": 1, "lora/8": 1}


def main() -> None:
    """Run it and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", help="Another pretrained chat model than SmolLM2-135M-Instruct.")
    parser.add_argument("--out", type=Path, default=Path("runs/real/preferences"))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--plan", type=json.loads, default=PLAN, help='As {"full": 5, "lora": 2}.')
    parser.add_argument("--small", action="store_true", help="The least, to see that it runs.")
    parser.add_argument(
        "--known", type=Path, help=f"{EACH.name} of a run with the same seed, model and data: is not measured again."
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model, plan = args.model or str(smollm2()), SMALL if args.small else args.plan
    args.out.mkdir(parents=True, exist_ok=True)
    right = Right(args.out / "right.json")
    if args.known:
        known = json.loads(args.known.read_text())
        right.learn(known["right"])
        costs = known["costs"] | read_costs(args.out)
        (args.out / COSTS).write_text(json.dumps(costs, indent=2) + "\n")
    measure(args.data, args.out, model=model, settings={"dtype": args.dtype}, plan=plan, seed=args.seed)
    found = summary(args.out)
    if not (args.small or args.model):  # the page is about SmolLM2
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        each = {"right": Right(args.out / "right.json").to_text(), "costs": found["costs"]}
        EACH.write_text(json.dumps(each, indent=0) + "\n")
    print(table(found))


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| preference by | held-out accuracy | over the bag of words, same pairs | folds |", "|---|---|---|---:|"]
    for name, row in found["rows"].items():
        lead = "–" if name == "words" else interval(row["over_words"], "+.3f")
        lines.append(f"| {name} | {interval(row['accuracy'])} | {lead} | {row['folds']} |")
    return "\n".join(lines)


def conclusions(found: dict[str, Any]) -> list[str]:
    """Whether what was trained orders more pairs right than the bag of words, by the paired interval."""
    said = []
    for name, row in found["rows"].items():
        if name.startswith(("length", "words", "log-prob")):
            continue
        lead = row["over_words"]
        verdict = "above" if lead["low"] > 0 else "below" if lead["high"] < 0 else "not shown to be above"
        said.append(f"*{name}* is {verdict} the bag of words.")
    return said


if __name__ == "__main__":
    main()
