"""The quickstart on several seeds: the figures of ``docs/results.md``.

python -m benchmarks.sandbox --seeds 0 1 2 --out runs/sandbox --english path/to/SmolLM2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import trueup
from benchmarks.shown import interval
from trueup.commands.walkthrough import quickstart
from trueup.evaluation.intervals import paired_difference
from trueup.ledger import read_lines
from trueup.sandbox import well_formed

RESULTS = Path("benchmarks/results/sandbox.json")
LEARNED, WORDS = 0.90, 0.60
"""Of what lies between a coin and the judges' noise: the least that the reward model, and the most that a bag of words
should reach."""


def main() -> None:
    """Run each seed, write ``benchmarks/results/sandbox.json`` and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox"))
    parser.add_argument("--english", help="A pretrained model of English that says how natural answers are.")
    args = parser.parse_args()
    rows = []
    for seed in args.seeds:
        rows.append(measured(seed, args.out / f"seed-{seed}", args.english))
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows))


def measured(seed: int, out: Path, english: str | None = None) -> dict[str, Any]:
    """One seed's figures, from the summary and the answers that its report wrote."""
    data = quickstart(out, seed=seed).data
    models = data["comparison"]["models"]
    band = data["runs"]["ppo"]["kl_band"]
    lines, _ = read_lines(out / "eval.jsonl")
    return {
        "seed": seed,
        "skill": data["skill"],
        "gold": {name: m["gold"] for name, m in models.items()},
        "win_rate": {name: models[name]["win_rate"]["rate"] for name in ("ppo", "dpo")},
        "kl": {name: band[name] for name in ("mean", "end", "slope", "moving", "inside")},
        "well_formed": over_sft(lines, [well_formed(r["question"], r["completion"]) or 0.0 for r in lines]),
        "english": over_sft(lines, naturalness(english, lines)) if english else None,
        "seconds": data["facts"]["seconds"],
        "peak_memory_gb": data["facts"]["peak_memory_gb"],
    }


def naturalness(model: str, lines: list[dict[str, Any]]) -> list[float]:
    """Mean log-prob of a token, in nats, that a model of English gives each answer after its question."""
    reader = trueup.open_policy(model)
    asked = [[{"role": "user", "content": line["question"]}] for line in lines]
    logps = reader.token_logps(asked, [line["completion"] or "." for line in lines])
    return [float(row.double().mean()) for row in logps]


def over_sft(lines: list[dict[str, Any]], values: list[float]) -> dict[str, Any]:
    """Mean of each model, and for the tuned ones the difference to SFT on the same prompts, with intervals."""
    by_model: dict[str, tuple[list[float], list[str]]] = {}
    for line, value in zip(lines, values, strict=True):
        of_model = by_model.setdefault(line["model"], ([], []))
        of_model[0].append(value)
        of_model[1].append(line["prompt_id"])
    return {
        "mean": {name: sum(values) / len(values) for name, (values, _) in by_model.items()},
        "over_sft": {name: paired_difference(*by_model[name], *by_model["sft"]).to_dict() for name in ("dpo", "ppo")},
    }


def words_share(skill: dict[str, Any]) -> float:
    """What a bag of words has learned of what can be learned: 0 for a coin, 1 at the ceiling."""
    words = skill["baselines"]["a bag of words"]["estimate"]
    return float((words - 0.5) / (skill["ceiling"]["estimate"] - 0.5))


def goals(row: dict[str, Any]) -> dict[str, bool | None]:
    """What is sought, and whether a seed reached it; None where its stored figures cannot tell."""
    learned, leads, wins = row["skill"]["learned"], row["skill"]["leads"], row["win_rate"].values()
    formed, english = row["well_formed"]["over_sft"].values(), (row["english"] or {}).get("over_sft", {}).values()
    return {
        "learned share": learned is not None and learned["estimate"] >= LEARNED,
        "share of words": words_share(row["skill"]) <= WORDS,
        "ahead of length and words": all(lead["low"] is not None and lead["low"] > 0 for lead in leads.values()),
        "win-rates": all(w["estimate"] >= 0.70 and w["low"] > 0.5 for w in wins),
        "well-formed sentences": all(gap["high"] >= 0 for gap in formed),
        "natural English": all(gap["high"] >= 0 for gap in english) if english else None,
        "KL": row["kl"]["inside"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| seed | reward model | ceiling | learned | words learned | over length | over words "
        "| gold: base, SFT, PPO, DPO | PPO wins | DPO wins | KL: mean, end | s | GB |",
        "|---:|---:|---:|---|---:|---|---|---|---|---|---|---:|---:|",
    ]
    for r in rows:
        learned = interval(r["skill"]["learned"]) if r["skill"]["learned"] else "–"
        gold = ", ".join(f"{r['gold'][n]['estimate']:.3f}" for n in ("base", "sft", "ppo", "dpo"))
        skill = r["skill"]
        leads = " | ".join(interval(lead, "+.3f") for lead in skill["leads"].values())
        wins = " | ".join(interval(r["win_rate"][name]) for name in ("ppo", "dpo"))
        lines.append(
            f"| {r['seed']} | {interval(skill['accuracy'])} | {skill['ceiling']['estimate']:.3f} "
            f"| {learned} | {words_share(skill):.3f} | {leads} | {gold} "
            f"| {wins} | {_kl(r['kl'])} | {r['seconds']:.0f} | {r['peak_memory_gb']:.2f} |"
        )
    return "\n".join(lines)


def language_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: how well formed and how natural the answers of each model are."""
    names = ("base", "sft", "ppo", "dpo")
    lines = [
        "| seed | by | base, SFT, PPO, DPO | PPO over SFT | DPO over SFT |",
        "|---:|---|---|---|---|",
    ]
    for r in rows:
        for key, by in (("well_formed", "well-formed sentences"), ("english", "nats a token by a model of English")):
            found = r[key]
            if found is None:
                continue
            means = ", ".join(f"{found['mean'][n]:.3f}" for n in names)
            gaps = " | ".join(interval(found["over_sft"][n], "+.3f") for n in ("ppo", "dpo"))
            lines.append(f"| {r['seed']} | {by} | {means} | {gaps} |")
    return "\n".join(lines)


def _kl(band: dict[str, Any]) -> str:
    end = "not kept" if band["end"] is None else f"{band['end']:.2f}"
    moves = {None: "", False: ", still", True: ", moving"}[band["moving"]]
    return f"{band['mean']:.2f}, {end}{moves}"


if __name__ == "__main__":
    main()
