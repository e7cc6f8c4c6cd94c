"""Write ``docs/results.md`` and ``docs/reading.md`` from ``benchmarks/results/*.json``: no figure was typed by hand.

python -m benchmarks.page
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks import bend, explorer_scale, methods, noise, real_page
from benchmarks.aggregation import TEST
from benchmarks.aggregation import table as aggregation_table
from benchmarks.erring_judges import table as erring_table
from benchmarks.organisms import table as organism_table
from benchmarks.reading import CLEAR
from benchmarks.reading import table as reading_table
from benchmarks.rollout_simulation import conclusions, gaps, published_table
from benchmarks.rollout_simulation import table as servers_table
from benchmarks.sandbox import LEARNED, WORDS, goals, language_table, table
from benchmarks.weak_reward import table as weak_table

RESULTS = Path("benchmarks/results")
CURVE = Path("docs/images/aggregation.png")


def main() -> None:
    """Write both pages."""
    parts = [
        "# Results",
        "Made by `python -m benchmarks.page` from `benchmarks/results/*.json`; each section gives the command that made "
        "its figures. Two CPU cores, no GPU. Seconds depend on the machine and on what else it does.",
        _sandbox(),
        _weak(),
        _methods(),
        _bend(),
        _noise(),
        real_page.section(),
        _aggregation(),
        _organisms(),
        _erring(),
        _servers(),
        _explorer(),
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


def _methods() -> str:
    found = _load("methods")
    if not found:
        return ""
    return "\n\n".join(
        [
            "## Every online method",
            f"`python -m benchmarks.methods --seeds {' '.join(map(str, found['seeds']))}`: each seed has its own judgments, SFT model and "
            f"reward model, from which every method starts; {found['steps']} steps of {methods.ANSWERS} answers, learning rate "
            f"{found['learning_rate']:g}. PPO, RLOO and REINFORCE++ pay the same KL penalty in the reward (beta "
            f"{methods.FIXED['beta']}); what is not said is a method's default. Intervals are 95 %, over seeds and prompts. *s a step* is the "
            f"median, with {found['threads']} thread{'s' * (found['threads'] > 1)}; minutes and memory are of a run's own process.",
            methods.table(found),
            " ".join(methods.conclusions(found)),
        ]
    )


def _bend() -> str:
    found = _load("bend")
    if not found:
        return ""
    return "\n\n".join(
        [
            "## How far a weak reward can be followed",
            f"`python -m benchmarks.bend --seeds {' '.join(map(str, found['seeds']))}`: {found['pairs']} pairs with one vote each of a crowd "
            f"that likes length and flattery; RLOO for {found['steps']} steps with beta {bend.LOW:g} after one reward model, or the mean "
            f"or minimum of {found['members']} that learned from the same pairs.",
            bend.table(found),
            "The single one with several beta:",
            bend.sweep_table(found),
        ]
    )


def _noise() -> str:
    found = _load("noise")
    if not found:
        return ""
    return "\n\n".join(
        [
            "## Wrong labels",
            f"`python -m benchmarks.noise --seeds {' '.join(map(str, found['seeds']))}`: {found['judgments']:,} judgments that are wrong at a "
            "known rate, as one vote on each pair or as several on fewer pairs; then DPO on single votes, with labels smoothed by a "
            "tenth, and robust DPO that knows the rate. After the semicolon: the difference from the first column, 95 % over seeds.",
            f"![accuracy and win-rate over the share of wrong votes](images/{noise.FIGURE.name})",
            noise.reward_table(found),
            noise.policy_table(found),
            " ".join(noise.conclusions(found)),
        ]
    )


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


def _servers() -> str:
    found = _load("rollout_simulation")
    if not found:
        return ""
    setup = found["setup"]
    return "\n\n".join(
        [
            "## A trainer and rollout servers",
            f"`python -m benchmarks.rollout_simulation`: a simulation, nothing of it was run on GPUs. Assumed: steps of {setup['batch']} answers of "
            f"{setup['tokens']:,.0f} tokens on average (lognormal, sd of the logarithm {setup['spread']:g}, longest {setup['longest']:,.0f}), servers of up to "
            f"{setup['rate']:,.0f} tokens/s (half of that with {setup['half']:g} answers in work), {setup['train']:g} s for an update, {setup['transfer']:g} s until all servers "
            "have new weights. *Bound* is the staleness that is allowed: 0 takes turns, which is what [`rollout`](rollouts.md) does; from 1 on servers draw while the trainer learns.",
            servers_table(found),
            conclusions(found),
            f"Published splits of H20 GPUs ([verl's fully asynchronous trainer]({found['source']}), 512 prompts of 16 answers a step), in seconds a step. Of the published figures "
            "the simulation gets the update and transfer of the split, and the generation of the run that takes turns. It says what follows for generation on the fewer GPUs of the split: as long as before where a few "
            "long answers took the time (*long tail*), longer in proportion where all did (*even lengths*). Updates of the split and of its steps are means of different times, so a step may be below its update.",
            published_table(found),
            gaps(found),
        ]
    )


def _explorer() -> str:
    found = _load("explorer_scale")
    if not found:
        return ""
    size = found["scale"]
    return "\n\n".join(
        [
            "## The explorer on many long runs",
            f"`python -m benchmarks.explorer_scale`: {size['runs']} runs of {size['steps']:,} steps and {size['metrics']} metrics; one of them "
            f"has {size['samples']:,} answers, {size['prompts']} a probe, with their tokens. A server is started without the indexes "
            "beside the streams of the runs, which it makes, and another one with them. *Page*: in a headless Chromium on the same cores, from the click to the "
            "frame that shows the result; *server*: the answer over HTTP.",
            explorer_scale.table(found),
            f"Sought: curves drawn within {explorer_scale.TARGETS['first paint']:g} s, zoom and scrub within "
            f"{1e3 * explorer_scale.TARGETS['zoom']:.0f} ms at their 95th percentile, the server within "
            f"{explorer_scale.TARGETS['memory']:.0f} MB. " + explorer_scale.conclusion(found),
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


if __name__ == "__main__":
    main()
