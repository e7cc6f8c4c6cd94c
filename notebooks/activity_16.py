# %% [markdown]
# # Activity 16: RLHF in three stages, and what it did
#
# SFT, a reward model and PPO, the four extensions, a comparison report, a hyper-parameter log, and the six reflection
# questions, answered with this run's own figures. Everything runs on the
# sandbox: a small generated world with a language model of its own, in which the
# true quality of every answer (*gold*) is known. Training never sees gold; the evaluation does. So each claim below
# can be checked, on a laptop, without a network or a GPU.
#
# Run the cells from top to bottom. What is done is not done again: a notebook that was cut off goes on where it
# stopped.
#
# The outputs are those of `python -m notebooks.build --execute` (`make notebook`) at the size `default`.
#
# No sentence about results is written in advance. Code writes each of them from the measured intervals, and where an
# interval holds 0 it says that no difference was shown.

# %% [markdown]
# ## 1. Environment check
#
# In Colab, or where `trueup` is not installed yet, remove the `#` of the next line, run it, and restart the session if
# you are asked to. `git+https://...` takes the address of your copy of the repository.

# %%
# %pip install -q "trueup @ git+https://github.com/OWNER/trueup"

# %%
import json
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trueup

assert sys.version_info >= (3, 11), "trueup needs Python 3.11 or newer"
print(f"trueup {trueup.__version__}, Python {platform.python_version()}, {os.cpu_count()} processor cores")

# %% [markdown]
# The size of everything. `TRUEUP_NOTEBOOK=smoke` only shows that all cells run; `default` takes some minutes on two
# cores; `full` has three seeds and more of everything.


# %%
@dataclass(frozen=True)
class Size:
    """How much of everything."""

    demonstrations: int
    pairs: int
    prompts: int
    test_prompts: int
    steps: int
    answers: int
    betas: tuple[float, ...]
    seeds: tuple[int, ...]
    shares: tuple[float, ...]
    red_team: int


SIZES = {
    "smoke": Size(48, 60, 40, 12, 2, 8, (0.01, 0.2), (0,), (0.5,), 4),
    "default": Size(1500, 2500, 600, 120, 16, 48, (0.01, 0.05, 0.1, 0.2), (0, 1), (0.25, 0.5, 0.75), 60),
    "full": Size(4000, 12000, 4000, 400, 60, 128, (0.01, 0.05, 0.1, 0.2), (0, 1, 2), (0.25, 0.5, 0.75), 240),
}
chosen = os.environ.get("TRUEUP_NOTEBOOK", "default")
size = SIZES[chosen]
out = Path(os.environ.get("TRUEUP_NOTEBOOK_OUT", f"runs/activity-16-{chosen}"))
print(f"size {chosen}: {size}")
print(f"runs are in {out}")

# %% [markdown]
# ## 2. The data
#
# Demonstrations by writers of middling care; pairs of answers that three of eight simulated annotators judged, with
# noise and small biases; prompts. No test prompt is trained on. With data of your own, give files in the place of rows:
# `trueup.train("sft", {"data": "demonstrations.jsonl", "model": "gpt2", ...})`.

# %%
from trueup.sandbox import PARTS, World, copy_base, gold_score, label_pairs, noise_ceiling, panel

world = World(0)


def chat(text: str) -> list[dict[str, str]]:
    """A question as a chat of one turn."""
    return [{"role": "user", "content": text}]


def judged(split: str, count: int) -> list[Any]:
    """Pairs with the verdict of three annotators."""
    return label_pairs(panel(0), world.candidate_pairs(split, count), 3, 0)


labels = {"train": judged("train", size.pairs), "test": judged("test", max(40, size.pairs // 5))}
demonstrations = [
    {"prompt": chat(one.prompt), "completion": one.completion}
    for one in world.demonstrations("train", size.demonstrations)
]
held_out_demonstrations = [
    {"prompt": chat(one.prompt), "completion": one.completion} for one in world.demonstrations("validation", 100)
]
pairs, held_out_pairs = (
    [{"prompt": chat(one.prompt), "chosen": one.chosen, "rejected": one.rejected} for one in labels[split]]
    for split in ("train", "test")
)
prompts = [{"prompt": chat(one.text)} for one in world.prompts("train", size.prompts)]
test = [{"prompt": chat(one.text), "kind": one.kind.value} for one in world.prompts("test", size.test_prompts)]
base = copy_base(out / "base")
print(f"{len(demonstrations)} demonstrations, {len(pairs)} judged pairs, {len(test)} held-out prompts")
ceiling = noise_ceiling(labels["test"])
print(f"gold agrees with {ceiling:.1%} of the held-out labels, and no reward model can be expected to do better")

# %% [markdown]
# Small helpers turn measurements into sentences. Each interval is one of 95 % for itself: of twenty that are read side
# by side, one leaves 0 out by chance.


# %%
class Text(str):
    """Text that a notebook shows as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def interval(measured: dict[str, Any], digits: int = 3) -> str:
    """``0.412 (0.31 to 0.52)``."""
    if measured["low"] is None or measured["high"] is None:
        return f"{measured['estimate']:.{digits}f} (no interval)"
    return f"{measured['estimate']:.{digits}f} ({measured['low']:.{digits}f} to {measured['high']:.{digits}f})"


def versus(what: str, first: str, second: str, gap: dict[str, Any]) -> str:
    """What a paired difference of first less second says, by its 95 % interval."""
    if gap["low"] is not None and gap["low"] > 0:
        return f"{what} is higher with {first} than with {second}: {interval(gap)}."
    if gap["high"] is not None and gap["high"] < 0:
        return f"{what} is lower with {first} than with {second}: {interval(gap)}."
    return f"{what}: no difference shown between {first} and {second}: {interval(gap)}."


def reverse(gap: dict[str, Any]) -> dict[str, Any]:
    """The same difference from the other side."""
    low, high = gap["low"], gap["high"]
    return {
        "estimate": -gap["estimate"],
        "low": None if high is None else -high,
        "high": None if low is None else -low,
    }


def table(head: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


# %% [markdown]
# ## 3. Stage 1: supervised fine-tuning
#
# The document's learning rates are for GPT-2 with its 124 million parameters; the sandbox's model has about 1.5 million
# and learns with larger ones. Both stand side by side in the hyper-parameter log below.

# %%
common = {"batch.size": 32, "batch.max_length": 160, "seed": 0}
sft = trueup.train(
    "sft",
    {
        "data": demonstrations,
        "validation": held_out_demonstrations,
        "model": base,
        "epochs": 1,
        "optim": {"learning_rate": 1e-3, "weight_decay": 0.01},
        **common,
    },
    out=out / "sft",
    quiet=True,
)
print(f"loss {sft.metrics()['nll'][0]:.3f} -> {sft.metrics()['nll'][-1]:.3f}")
print(f"held-out loss: {sft.evaluations()['heldout_nll'][-1]:.3f}")

# %% [markdown]
# ## 4. Stage 2: the reward model
#
# Bradley-Terry on the judged pairs. An accuracy means little alone: length alone and a bag of words stand beside it.

# %%
reward = trueup.train(
    "reward",
    {
        "data": pairs,
        "validation": held_out_pairs,
        "model": base,
        "epochs": 2,
        "optim": {"learning_rate": 1e-3, "weight_decay": 0.1},
        **common,
    },
    out=out / "reward",
    quiet=True,
)
leaning = trueup.leaning(reward.final, held_out_pairs)
print(leaning.format_text())

# %% [markdown]
# The answers that it likes best and least, of the held-out pairs:

# %%
both = [{"prompt": row["prompt"], "completion": row[side]} for row in held_out_pairs for side in ("chosen", "rejected")]
scores = trueup.score(reward.final, both)
scores

# %% [markdown]
# ## 5. Stage 3: PPO
#
# The policy answers, the reward model scores, a KL penalty (β = 0.05) holds it near the SFT model.

# %%
PPO = {
    "steps": size.steps,
    "epochs": 2,
    "mini_batches": 2,
    "sampling": {"max_new_tokens": 64},
    "kl": {"kind": "fixed", "beta": 0.05},
    "probes": 16,
    "probe_every": max(1, size.steps // 8),
    "optim": {"learning_rate": 5e-4, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
    **common,
    "batch.size": size.answers,
}
ppo = trueup.train(
    "ppo", {"data": prompts, "model": sft.final, "reward": reward.final, **PPO}, out=out / "ppo", quiet=True
)
metrics = ppo.metrics()
print(f"reward {metrics['score'][0]:+.3f} -> {metrics['score'][-1]:+.3f}, KL {metrics['kl'][-1]:.2f} nats")

# %% [markdown]
# ## 6. Extension: DPO in the place of reward model and PPO
#
# Trained here, so that one evaluation asks all models; what came of it is in section 8.

# %%
dpo = trueup.train(
    "dpo",
    {
        "data": pairs,
        "validation": held_out_pairs,
        "model": sft.final,
        "epochs": 1,
        "objective": {"kind": "dpo-nll", "beta": 0.1, "nll_weight": 1.0},
        "optim": {"learning_rate": 6e-4, "warmup": 0.1},
        **common,
    },
    out=out / "dpo",
    quiet=True,
)
print(f"held-out pairs ordered right by DPO's implicit reward: {dpo.evaluations()['heldout_accuracy'][-1]:.1%}")

# %% [markdown]
# ## 7. Evaluation
#
# Every model answers the same held-out prompts, with the same draws. The reward model judges, and so does gold, as a
# whole and by its parts. The SFT model is the baseline; differences from it are paired by prompt.


# %%
def part(name: str) -> Any:
    """A judge: one part of gold."""

    def judge(prompt: str, answer: str) -> float:
        return float(gold_score(prompt, answer).parts[name])

    judge.__name__ = name
    return judge


def length(prompt: str, answer: str) -> float:
    """A judge that only counts words."""
    return float(len(answer.split()))


JUDGES = {"gold": "gold", "reward": f"reward:{reward.final}", "length": length, **{name: part(name) for name in PARTS}}


def evaluated(models: dict[str, Any], folder: str) -> Any:
    """The models on the held-out prompts; the first is the baseline."""
    return trueup.evaluate(models, test, judges=JUDGES, out=out / folder, max_new_tokens=64, quiet=True)


evaluation = evaluated({"sft": sft.final, "base": base, "ppo": ppo.final, "dpo": dpo.final}, "evaluation")
print(f"{len(evaluation.rows)} answers to {evaluation.comparison['prompts']} prompts; the page: {evaluation.report}")

# %% [markdown]
# The first of the held-out prompts, answered by each model (none of them picked):

# %%
names = ["base", "sft", "ppo", "dpo"]
first = list(dict.fromkeys(row["prompt_id"] for row in evaluation.rows))[:4]
answered = {(row["prompt_id"], row["model"]): row for row in evaluation.rows}
lines = [
    [answered[asked, "sft"]["question"], *(" ".join(answered[asked, name]["completion"].split()) for name in names)]
    for asked in first
]
Text(table(["prompt", *names], lines))

# %% [markdown]
# ## 8. Comparison report

# %%
lines = [
    [
        name,
        interval(evaluation.score(name, "gold")),
        interval(evaluation.score(name, "reward"), 2),
        interval(evaluation.score(name, "length"), 1),
        "baseline" if name == "sft" else interval(evaluation.win_rate(name, "gold"), 2),
    ]
    for name in names
]
report = [
    table(["model", "gold", "reward model", "words", "wins over SFT by gold"], lines),
    "",
    "- " + versus("Gold", "SFT", "the base model", reverse(evaluation.difference("base", "gold"))),
    "- " + versus("Gold", "PPO", "SFT", evaluation.difference("ppo", "gold")),
    "- " + versus("Gold", "DPO", "SFT", evaluation.difference("dpo", "gold")),
    "- " + versus("The reward model's score", "PPO", "SFT", evaluation.difference("ppo", "reward")),
]
Text("\n".join(report))

# %% [markdown]
# What the activity asks of each run, and what the numbers say of it:

# %%
criteria = [
    [name, one["name"], one["outcome"], one["words"]]
    for name, run in {"SFT": sft, "reward model": reward, "PPO": ppo, "DPO": dpo}.items()
    for one in run.criteria(evaluation.out if name in ("PPO", "DPO") else None)
]
Text(table(["run", "asked", "outcome", "why"], criteria))

# %% [markdown]
# ## 9. Extension: the KL penalty
#
# PPO with each β, a sweep: what is done is not done again, and every variant ends in the hyper-parameter log.

# %%
stage = {"name": "ppo", "kind": "ppo", "data": prompts, "model": str(sft.final), "reward": str(reward.final), **PPO}
anchor = 0.05 if 0.05 in size.betas else size.betas[0]
sweep = trueup.sweep(
    {
        "stages": [stage],
        "sweep": {
            "grid": {"ppo.kl.beta": list(size.betas), "seed": list(size.seeds)},
            "baseline": {"ppo.kl.beta": anchor},
            "gold": "sandbox",
        },
    },
    out=out / "betas",
    quiet=True,
)
print("\n".join(sweep.sentences))

# %%
by_beta: dict[str, list[str]] = {}
for row in sweep.rows():
    by_beta.setdefault(f"beta {row['settings']['ppo.kl.beta']}", []).append(row["runs"]["ppo"])
models = {f"{name} #{number}": Path(run) / "final" for name, runs in by_beta.items() for number, run in enumerate(runs)}
beta_evaluation = evaluated({"sft": sft.final, **models}, "evaluation-betas")
betas = trueup.compare(by_beta, evaluations=[beta_evaluation], baseline=f"beta {anchor}", quality="gold")
print("\n".join(betas.sentences))
betas.page.tables["Quality"]

# %% [markdown]
# The trade-off between reward and KL:

# %%
frontier = trueup.frontier(by_beta, evaluations=[beta_evaluation], gold="sandbox")
print("\n".join(frontier.sentences))
frontier.page.figures["frontier"]

# %% [markdown]
# ## 10. Extension: helpful and concise
#
# r = α · helpful + (1 - α) · concise, both brought to one scale, or else α would mean something else for every reward
# model. Judged by what neither part sees: gold's own measure of helpfulness, and words.

# %%
mixed = {}
for share in size.shares:
    parts = [
        {"source": reward.final, "name": "helpful", "weight": share, "normalise": "running"},
        {"kind": "length", "name": "concise", "weight": 1 - share, "normalise": "running"},
    ]
    mixed[f"alpha {share}"] = trueup.train(
        "ppo",
        {"data": prompts, "model": sft.final, "reward": parts, **PPO},
        out=out / f"alpha-{share}",
        quiet=True,
    )
mixed_evaluation = evaluated({"sft": sft.final} | {name: run.final for name, run in mixed.items()}, "evaluation-mixed")
lines = [
    [name, interval(mixed_evaluation.score(name, "helpful")), interval(mixed_evaluation.score(name, "length"), 1)]
    for name in ("sft", *mixed)
]
told = [
    f"- {sentence}"
    for name in mixed
    for sentence in (
        versus("Helpfulness", name, "SFT", mixed_evaluation.difference(name, "helpful")),
        versus("Words", name, "SFT", mixed_evaluation.difference(name, "length")),
    )
]
Text("\n".join([table(["reward", "gold: helpful", "words"], lines), "", *told]))

# %% [markdown]
# ## 11. Extension: critique and revision
#
# A fourth stage: the PPO model answers red-team prompts, a judge says which answers break a principle, those are
# rewritten, and the model is trained on what comes of it. A model of this size cannot write a critique, so here the
# sandbox's rules judge and the revision is the first of four samples that they accept; `judge` and `reviser: model`
# take a model that can.

# %%
team = size.red_team
constitution = trueup.constitution(
    {
        "model": ppo.final,
        "rounds": 1,
        "sandbox": {
            "harmful": team,
            "lookalikes": team,
            "others": team,
            "test_harmful": team,
            "test_lookalikes": team,
            "test_others": team,
        },
        "train": {"epochs": 4, "batch": {"size": 32, "max_length": 160}, "optim": {"learning_rate": 5e-4}},
    },
    out=out / "constitution",
    quiet=True,
)
constitution

# %%
from trueup.evaluation.intervals import paired_difference, wilson


def audited(number: int, kind: str, column: str) -> tuple[list[float], list[str]]:
    """A measurement of a round's audit, and the prompt of each."""
    lines = (constitution.out / f"round-{number}" / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == kind]
    return [float(row[column]) for row in rows], [row["prompt_id"] for row in rows]


harm = paired_difference(*audited(1, "harmful", "harmful"), *audited(0, "harmful", "harmful")).to_dict()
refused = paired_difference(*audited(1, "lookalike", "refused"), *audited(0, "lookalike", "refused")).to_dict()
revised = [
    versus("The share of harmful answers", "critique and revision", "PPO alone", harm),
    versus("The share of refused harmless look-alikes", "critique and revision", "PPO alone", refused),
]
Text("\n".join(f"- {sentence}" for sentence in revised))

# %% [markdown]
# ## 12. Extension: DPO against RLHF
#
# Quality, time and steadiness. RLHF needs SFT, a reward model and PPO; DPO needs SFT and itself.


# %%
def seconds(*runs: Any) -> float:
    """Time of all steps of runs."""
    return float(sum(sum(run.timing()["seconds"]) for run in runs))


roads = {"RLHF": seconds(sft, reward, ppo), "DPO": seconds(sft, dpo)}
direct = trueup.compare({"ppo": ppo, "dpo": dpo}, evaluations=[evaluation], baseline="ppo", quality="gold")
quicker = min(roads, key=lambda name: roads[name])
print("\n".join(direct.sentences))
print(f"Whole road: RLHF {roads['RLHF']:.0f} s, DPO {roads['DPO']:.0f} s: {quicker} took less time.")
direct.page.tables["Cost and steadiness"]

# %% [markdown]
# ## 13. Hyper-parameter log
#
# The document's recommendations are for GPT-2; the last column is what this run used. Every setting of every run stands
# in its `run.json`, and `sweep.jsonl` has the log of the sweep.

# %%
recommended = [
    ("SFT learning rate", "2e-5", sft.settings["optim"]["learning_rate"]),
    ("SFT epochs", "1-3", sft.settings["epochs"]),
    ("RM learning rate", "1e-5", reward.settings["optim"]["learning_rate"]),
    ("RM batch size", "4-8", reward.settings["batch"]["size"]),
    ("PPO learning rate", "1e-6", ppo.settings["optim"]["learning_rate"]),
    ("PPO β (KL coef)", "0.05", ppo.settings["kl"]["beta"]),
    ("PPO batch size", "16-32", ppo.settings["batch"]["size"]),
]
Text(table(["setting", "document", "here"], [[name, theirs, f"{ours:g}"] for name, theirs, ours in recommended]))

# %%
sweep.page.tables["Hyper-parameter log"]

# %% [markdown]
# ## 14. Reflection questions
#
# Each answer is text that the measurements above write.

# %%
answers: dict[str, str] = {}


def answer(question: str, *sentences: str) -> Text:
    """Keep an answer and show it."""
    answers[question] = " ".join(sentences)
    (out / "answers.json").write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return Text(f"**{question}**\n\n{answers[question]}")


def moved(model: str, baseline: str, gaps: dict[str, dict[str, Any]]) -> str:
    """Which parts of gold rose, which fell, and which cannot be told."""
    up = [f"{name} {interval(gap, 2)}" for name, gap in gaps.items() if gap["low"] is not None and gap["low"] > 0]
    down = [f"{name} {interval(gap, 2)}" for name, gap in gaps.items() if gap["high"] is not None and gap["high"] < 0]
    rest = len(gaps) - len(up) - len(down)
    return (
        f"Of gold's {len(gaps)} parts, {model} is higher than {baseline} in {', '.join(up) or 'none'}; "
        f"lower in {', '.join(down) or 'none'}; for {rest} no difference is shown."
    )


answer(
    "How did SFT improve the base model? What types of errors did it fix?",
    versus("Gold", "SFT", "the base model", reverse(evaluation.difference("base", "gold"))),
    moved("SFT", "the base model", {name: reverse(evaluation.difference("base", name)) for name in PARTS}),
)

# %%
skill = leaning.skill
leads = [
    versus("Accuracy on held-out pairs", "the reward model", name, lead.to_dict()) for name, lead in skill.leads.items()
]
liked = [f"{name} {interval(r.to_dict(), 2)}" for name, r in leaning.correlations.items() if r.above(0)]
disliked = [f"{name} {interval(r.to_dict(), 2)}" for name, r in leaning.correlations.items() if r.below(0)]
answer(
    "What preferences did the reward model learn?",
    f"It orders {interval(skill.accuracy.to_dict())} of the held-out pairs right.",
    *leads,
    f"Within pairs its reward goes along with {', '.join(liked) or 'nothing that was measured'},",
    f"and against {', '.join(disliked) or 'nothing that was measured'}.",
    f"Of {len(scores.rows)} held-out answers it likes best “{scores.highest(1)[0]['answer']}”",
    f"({scores.highest(1)[0]['reward']:+.2f}) and least “{scores.lowest(1)[0]['answer']}”",
    f"({scores.lowest(1)[0]['reward']:+.2f}).",
)

# %%
answer(
    "How did PPO change the model's behaviour?",
    versus("The reward", "PPO", "SFT", evaluation.difference("ppo", "reward")),
    versus("Gold", "PPO", "SFT", evaluation.difference("ppo", "gold")),
    versus("The number of words", "PPO", "SFT", evaluation.difference("ppo", "length")),
    moved("PPO", "SFT", {name: evaluation.difference("ppo", name) for name in PARTS}),
    f"It ended {ppo.metrics()['kl'][-1]:.2f} nats from the SFT model.",
)

# %%
hacking = trueup.hacking(ppo.path)
loosest = trueup.hacking(by_beta[f"beta {min(size.betas)}"][0])
answer(
    "Did you observe reward hacking? If so, what form did it take?",
    f"With β = {ppo.settings['kl']['beta']}: {hacking.page.verdict[0]}",
    *hacking.hacking.sentences,
    f"With β = {min(size.betas)}: {loosest.page.verdict[0]}",
    *loosest.hacking.sentences,
)

# %%
loosest.page.figures["hacking"]

# %%
from trueup.sandbox import biased_panel

flattered = label_pairs(biased_panel(0), world.candidate_pairs("test", max(40, size.pairs // 5)), 3, 0)
ours = {(one.prompt, frozenset((one.chosen, one.rejected))): one.chosen for one in labels["test"]}
theirs = {(one.prompt, frozenset((one.chosen, one.rejected))): one.chosen for one in flattered}
shared = sorted(set(ours) & set(theirs), key=str)
other = wilson(sum(ours[key] != theirs[key] for key in shared), len(shared)).to_dict()


def refusals(model: str) -> dict[str, Any]:
    """Share of harmless look-alikes that a model refuses, wholly or in part."""
    own = [row for row in evaluation.rows if row["model"] == model and row["kind"] == "lookalike"]
    return wilson(sum(row["refusal"] != "none" for row in own), len(own)).to_dict() if own else {}


shares = {name: refusals(name) for name in ("sft", "ppo")}
answer(
    "What are the ethical implications of RLHF? Whose preferences should AI systems align with?",
    "What can be measured of it: a model becomes what those who judge prefer, and another panel would have taught",
    f"another model. Annotators with a weakness for long, flattering answers decide {interval(other)} of the same",
    "held-out pairs the other way.",
    f"Our own panel's labels agree with the truth in {ceiling:.1%} of them; the rest is taught too.",
    *(
        f"Of harmless questions that sound harmful, the {name} model refuses {interval(share, 2)}: that is a cost for"
        " those who ask them."
        for name, share in shares.items()
        if share
    ),
    "Whose preferences these should be is no measurement, and nothing here answers it.",
)

# %%
gap = ceiling - skill.accuracy.estimate
stages = {"SFT": seconds(sft), "the reward model": seconds(reward), "PPO": seconds(ppo)}
longest = max(stages, key=lambda name: stages[name])
below = skill.accuracy.high < ceiling
answer(
    "How would you improve the RLHF pipeline?",
    f"Data: the reward model orders {skill.accuracy.estimate:.1%} of held-out pairs right where the noise of their"
    f" labels allows {ceiling:.1%};",
    f"{100 * gap:.1f} points can be won by more or better training."
    if below
    else "no distance to that ceiling is shown, so cleaner labels come before more training.",
    f"Training: {longest} takes {stages[longest] / sum(stages.values()):.0%} of the time of the three stages"
    f" ({stages[longest]:.0f} of {sum(stages.values()):.0f} s), so that is where saving pays.",
    "Safety:",
    *revised,
)

# %% [markdown]
# ## 15. All of it again
#
# `python -m notebooks.build --execute` writes this notebook with outputs, `make notebook` does the same, and
# `python notebooks/activity_16.py` runs the cells as a plain script. Everything is seeded; times vary from machine to
# machine, and with another number of threads the last digits may.

# %%
print(f"size {chosen}; times are of this machine: {platform.machine()}, {os.cpu_count()} cores")
print(f"answers: {out / 'answers.json'}")
