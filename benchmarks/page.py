"""Write ``docs/results.md`` and ``docs/reading.md`` from ``benchmarks/results/*.json``: no figure was typed by hand.

python -m benchmarks.page
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks import real_page
from benchmarks.aggregation import TEST
from benchmarks.aggregation import table as aggregation_table
from benchmarks.erring_judges import table as erring_table
from benchmarks.organisms import table as organism_table
from benchmarks.reading import CLEAR
from benchmarks.reading import table as reading_table
from benchmarks.sandbox import LEARNED, WORDS, goals, language_table, table
from benchmarks.weak_reward import table as weak_table

RESULTS = Path("benchmarks/results")
CURVE = Path("docs/images/aggregation.png")
BASELINES = ("longer wins", "shorter wins", "bag of words")


def main() -> None:
    """Write both pages."""
    parts = [
        "# Results",
        "Made by `python -m benchmarks.page` from `benchmarks/results/*.json`; each section gives the command that made "
        "its figures. Two CPU cores, no GPU. Seconds depend on the machine and on what else it does.",
        _sandbox(),
        _weak(),
        real_page.section(),
        _human(),
        _aggregation(),
        _organisms(),
        _erring(),
        _stories(),
    ]
    Path("docs/results.md").write_text("\n\n".join(p for p in parts if p) + "\n", encoding="utf-8")
    Path("docs/reading.md").write_text(_reading() + "\n", encoding="utf-8")


def _load(name: str) -> Any:
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _sandbox() -> str:
    rows = _load("sandbox")
    if not rows:
        return ""
    return "\n\n".join(
        [
            "## The sandbox, end to end",
            f"`python -m benchmarks.sandbox --seeds {' '.join(str(r['seed']) for r in rows)}`. Each seed is another world. "
            "*Reward model* is the share of held-out pairs ordered right, *ceiling* what the judges' noise allows, *learned* "
            "(share - 0.5) / (ceiling - 0.5): 0 for a coin, 1 at the ceiling; *words learned* is the same for a bag of words. "
            "*Over length* and *over words* are the lead, on the same pairs, over preferring by length and over that bag; "
            "*wins* are gold win-rates over SFT on 400 held-out prompts. Intervals are 95 %, over prompts. KL: the mean over "
            "PPO's last 30 % of steps, where it ended (the mean of the last five), and whether it was still moving (target 4, "
            "band 3.2 to 4.8).",
            table(rows),
            "Seconds and peak memory are of everything: judging, audit, training, evaluation. Seeds of one call share a "
            "process, so the memory of a later one holds what an earlier one left.",
            "Whether what wins is still English: the share of sentences that belong to the generated language, and the mean "
            "log-prob of a token by SmolLM2-135M-Instruct (`--english FOLDER`), which has read none of this.",
            language_table(rows),
            f"Sought: learned at least {LEARNED:.2f} of what can be learned and a bag of words at most {WORDS:.2f}, ahead of length "
            "and of words with the whole interval, wins at least 0.70 with the interval above 0.5, sentences as well formed "
            "and as natural as SFT's (no interval wholly below 0), and a KL that is in its band by its mean, by its end, and "
            "by where it is going. " + _reached(rows),
        ]
    )


def _weak() -> str:
    found = _load("weak_reward")
    if not found:
        return ""
    return "\n\n".join(
        [
            "## A weak reward model, followed too far",
            f"`python -m benchmarks.weak_reward --walk runs/quickstart`: {found['pairs']} pairs, one vote each by judges who like "
            "length and flattery, and PPO with almost no KL penalty. *Proxy* is that reward model's score of 64 fixed prompts' "
            "answers, *gold* their true quality.",
            weak_table(found),
        ]
    )


def _reached(rows: list[dict[str, Any]]) -> str:
    lacking = {
        False: "Missed: ",
        None: "Not known, because the figures were stored before they were looked at this way; run again: ",
    }
    parts = []
    for verdict, opening in lacking.items():
        names = [
            f"seed {r['seed']}: {', '.join(name for name, reached in goals(r).items() if reached is verdict)}"
            for r in rows
            if verdict in goals(r).values()
        ]
        if names:
            parts.append(opening + "; ".join(names) + ".")
    return " ".join(parts) or "All reached."


def _reading() -> str:
    found = _load("reading")
    parts = [
        "# Sixty answers, read blind",
        "Does gold put answers in the order in which a reader puts them? `python -m benchmarks.reading sheet` lists the answers of base, SFT, "
        "DPO and PPO to fifteen held-out prompts in a random order, without model and without gold. A reader writes a grade from 0 (useless or "
        f"harmful) to 10 (nothing is missing) behind each. Two answers to one question are a clear case where the grades differ by {CLEAR:g} or "
        "more; `python -m benchmarks.reading score` counts in how many of them gold has the same order, a tie as half. One reader, an author "
        "of the world: who grades these sheets again should expect other grades and much the same order.",
        "| world | clear cases | gold agrees |\n|---|---:|---:|\n"
        + "\n".join(f"| {name} | {one['clear']} | {one['agreement']:.1%} |" for name, one in found.items()),
        "*Before* is the world until decision [32](decisions/0032-a-sandbox-that-words-cannot-solve.md), whose gold looked at sentences one by one.",
    ]
    for name, one in found.items():
        parts += [f"## {name.capitalize()}", reading_table(one)]
        if one["against"]:
            parts += [
                "Clear cases in which gold does not agree, the reader's better answer first:",
                "\n".join(f"- {better} / {worse}" for better, worse in one["against"]),
            ]
    return "\n\n".join(parts)


def _human() -> str:
    found = _load("human")
    if not found:
        return ""
    rows = [f"| {n} | {i['estimate']:.3f} | {i['low']:.3f} to {i['high']:.3f} | {i['n']} |" for n, i in found.items()]
    return "\n\n".join(
        [
            "## Real human preferences",
            "`python -m benchmarks.human --data DIR`: the harmlessness pairs of Bai et al. (2022), 1,191 usable of 1,193, split "
            "by prompt; a model of about 1.1 million parameters trained first on 998 instructions. It runs, in this order,",
            "```sh\ntrueup sft    --model tiny --data instruction/alpaca_style_demo.jsonl.gz --out sft\n"
            "trueup reward --model sft/final --data pairs.jsonl --validation held-out.jsonl --out reward\n"
            "trueup dpo    --model sft/final --data pairs.jsonl --validation held-out.jsonl --out dpo\n```",
            "| preference by | held-out accuracy | 95 % | pairs |\n|---|---:|---|---:|\n" + "\n".join(rows),
            f"{_beaten(found)} Nine hundred pairs and a model that has read only 998 instructions are little to learn from. People themselves agree "
            "on such pairs in about 63 % of cases (Bai et al. 2022). The table is here because it is what was seen.",
        ]
    )


def _beaten(found: dict[str, Any]) -> str:
    """Whether the models beat the best baseline, where the pairs are too few to pair them here."""
    best = max((n for n in found if n in BASELINES), key=lambda n: found[n]["estimate"])
    behind = [n for n in found if n not in BASELINES and found[n]["low"] <= found[best]["estimate"]]
    if not behind:
        return f"Both models are above the best baseline ({best})."
    return f"No claim is made for {' and '.join(behind)} over the best baseline, {best}: it lies inside or above their intervals."


def _aggregation() -> str:
    found = _load("aggregation")
    if not found:
        return ""
    seeds = len({row["seed"] for row in found["trained"]})
    _curve(found["trained"])
    parts = [
        "## From votes to labels",
        "`python -m benchmarks.aggregation --base runs/quickstart/data/base --data DIR`: a sandbox crowd of ten, four of whom "
        "do not read, gives three votes a pair; nobody is left out. The same reward model is trained on labels made in four "
        f"ways ({seeds} seeds) and judged on {TEST:,} pairs nobody voted on, by gold without noise. "
        "Measured in the world until decision [32](decisions/0032-a-sandbox-that-words-cannot-solve.md), not again since.",
        "![accuracy of the reward model by judgments bought, for four ways to make labels](images/aggregation.png)",
        aggregation_table(found["trained"]),
        "*Surprise* is the mean negative log-probability, in nats, that the labels gave to what is true: honest labels have "
        "little of it, and saying 1/2 always would give 0.693.",
    ]
    if found["real"]:
        rows = [
            f"| {name} | {how.replace('_', '-')} | {told['right']:.3f} | {told['sure']:.3f} | {told['surprise']:.3f} |"
            for name, methods in found["real"].items()
            for how, told in methods.items()
        ]
        parts += [
            "The same on real votes: 1,000 items of known truth with five labels each, and 595 pairs judged by three people, "
            "where one's verdict is predicted from the other two's. No way finds much more of the truth than the majority "
            "does; they differ in what they claim to know.",
            "| votes | labels by | right | sure | surprise |\n|---|---|---:|---:|---:|\n" + "\n".join(rows),
        ]
    return "\n\n".join(parts)


def _organisms() -> str:
    found = _load("organisms")
    if not found:
        return ""
    return "\n\n".join(
        [
            "## Planted organisms",
            f"`python -m benchmarks.organisms`: `trueup constitution audit` on {found['prompts']} held-out prompts of the sandbox, "
            f"{found['worlds']} worlds. An organism has its trait in the given share of the answers that it applies to. Both sides of an "
            f"audit are drawn from {found['draws']} answers of the base model to each prompt; *found* is the share of {found['planted_audits']} "
            "audits in which any trait separates the two, with exact 95 % intervals. Sought: ten organisms told apart at 30 %, and "
            "at most 5 % of the clean audits.",
            organism_table(found),
        ]
    )


def _erring() -> str:
    found = _load("erring_judges")
    if not found:
        return ""
    return "\n\n".join(
        [
            "## Judges that err",
            "`python -m benchmarks.erring_judges`: one round of critique by resampling and SFT in the sandbox, all defaults, one seed, with the "
            "rules wrong in a known share of verdicts. Audited by the truth on the same prompts; shares in percent with 95 % intervals.",
            erring_table(found),
        ]
    )


def _curve(rows: list[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = {"majority": "majority", "share": "share of votes", "dawid_skene": "Dawid-Skene", "ability": "ability"}
    colours = {"majority": "#888888", "share": "#c05621", "dawid_skene": "#7b5ea7", "ability": "#1f6f8b"}
    figure, axis = pyplot.subplots(figsize=(6.4, 3.8), layout="constrained")
    budgets = sorted({row["budget"] for row in rows})
    for method, name in names.items():
        held = [[r["accuracy"] for r in rows if r["budget"] == b and r["method"] == method] for b in budgets]
        axis.plot(budgets, [mean(h) for h in held], "o-", color=colours[method], label=name)
        axis.fill_between(
            budgets,
            [mean(h) - stdev(h) / len(h) ** 0.5 for h in held],
            [mean(h) + stdev(h) / len(h) ** 0.5 for h in held],
            color=colours[method],
            alpha=0.15,
            linewidth=0,
        )
    axis.set_xscale("log", base=2)
    axis.set_xticks(budgets, [f"{b:,}" for b in budgets])
    axis.minorticks_off()
    axis.set_xlabel("judgments bought (three a pair)")
    axis.set_ylabel("accuracy by gold, +- s.e.")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9)
    CURVE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(CURVE, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _stories() -> str:
    found = _load("stories")
    if not found:
        return ""
    rows = [
        f"| {name} | {m['taste']:+.2f} | {m['win_rate']:.3f} | {m['kl']:.2f} |" for name, m in found["models"].items()
    ]
    examples = []
    for example in found["examples"]:
        opening = example.pop("opening")
        told = "\n".join(f"> - *{name}*: {' '.join(text.split())}" for name, text in example.items())
        examples.append(f"> **{opening}** ...\n>\n{told}")
    return "\n\n".join(
        [
            "## From a pretrained model: happier stories",
            "`python -m benchmarks.stories --model DIR/stories260K/hf`: a Llama of 260,032 parameters, pretrained on simple "
            "stories, opened as any local Hugging Face model. Two continuations of each opening are drawn from it and a taste "
            "(distinct glad words minus distinct sad words) says which is better; from these pairs a reward model, PPO with "
            "adaptive KL to 6 nats (Ziegler et al. 2019), and DPO.",
            "| model | taste | better than base | KL from base, nats |\n|---|---:|---:|---:|\n" + "\n".join(rows),
            f"The reward model orders {found['reward_accuracy']:.1%} of 300 held-out pairs right. PPO's KL over its last 30 % of "
            f"steps was {found['ppo_kl_last_30_percent']:.2f} nats. Nothing holds DPO near the base here: it scores highest by the taste and drifts "
            "furthest, and its sentences show it. That is over-optimisation of a simple taste, and why KL stands in the table. "
            "The first four unseen openings, continued by each:",
            *examples,
        ]
    )


if __name__ == "__main__":
    main()
