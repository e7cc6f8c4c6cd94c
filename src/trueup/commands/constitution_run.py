"""Rounds of Constitutional AI: answer, judge by principles, train, audit, and again from the new model.

    out/constitution.json            settings, and hashes of everything that was read
    out/round-0/audit.jsonl          the model that it starts from
    out/round-1/                     what was collected (``constitution_round``)
    out/round-1/train/               an ordinary run; out/round-1/reward/ another one before it (rlhf)
    out/feedback.db                  the labels as judgments of constitution:<sha>
    out/report.md, report.json

Every file is written once, whole. A call that was killed is made again: what is there is kept, what is not is made,
to the same bytes (the store has times and random ids of its own).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.collectors.constitution import Constitution, read_constitution
from trueup.collectors.constitution_revise import Judging
from trueup.collectors.constitution_sandbox import RuleJudge
from trueup.collectors.constitution_store import store_labels
from trueup.commands.constitution_audit import category_table, figures, observed, seen_by_judge, seen_by_truth, table
from trueup.commands.constitution_parts import (
    SANDBOX_CONTEXT,
    Speaker,
    open_constitutional_judge,
    own_judge,
    piece,
    pieces,
    prompts_of,
    read_mapping,
)
from trueup.commands.constitution_round import Round
from trueup.commands.constitution_settings import SANDBOX, SELF, Constitutional
from trueup.commands.pipeline import Stage, run_stages
from trueup.config import Batch, Model
from trueup.config.seeds import derive
from trueup.engine.device import tuned_process
from trueup.errors import DataError, RunError, UsageError
from trueup.ledger import one_writer, outcome, write_atomic, write_json
from trueup.models.files import identity
from trueup.sandbox import copy_base
from trueup.types import content_id, prompt_json, question

SANDBOX_TRAIN: Mapping[str, Mapping[str, Any]] = {
    "sft": {"epochs": 4, "batch": {"size": 32, "max_length": SANDBOX_CONTEXT}, "optim": {"learning_rate": 5e-4}},
    "dpo": {"epochs": 1, "batch": {"size": 32, "max_length": SANDBOX_CONTEXT}, "optim": {"learning_rate": 2e-4}},
    "reward": {"epochs": 3, "batch": {"size": 32, "max_length": SANDBOX_CONTEXT}, "optim": {"learning_rate": 5e-4}},
    "ppo": {
        "steps": 20,
        "epochs": 2,
        "mini_batches": 2,
        "batch": {"size": 128, "max_length": SANDBOX_CONTEXT},
        "sampling": {"max_new_tokens": 64},
        "kl": {"kind": "adaptive", "beta": 0.05, "target": 4.0, "horizon": 2000},
        "optim": {"learning_rate": 5e-4, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
    },
}
"""What a round trains with in the sandbox, where the settings say nothing."""


class Loop:
    """One call of ``trueup constitution run``.

    Args:
        config: The settings.
        out: Folder of everything.
        quiet: No progress.
        tell: Gets a line for every step.
    """

    def __init__(self, config: Constitutional, out: Path, quiet: bool, tell: Callable[[str], None]) -> None:
        self.config = config
        self.out = out
        self.quiet = quiet
        self.tell = tell
        self.constitution: Constitution = read_constitution(config.constitution)
        self.in_sandbox = config.prompts == config.test_prompts == SANDBOX
        start = str(copy_base(out / "base")) if config.model.name == SANDBOX else config.model.name
        self.start = config.model.model_copy(update={"name": start})
        judge = self.start.name if config.judge == SELF else config.judge
        self.judge: Judging = open_constitutional_judge(judge, self.constitution, self.start)
        self.judge_name = SELF if config.judge == SELF else self.judge.name
        self.train_rows = prompts_of(config, "train")
        self.test_rows = prompts_of(config, "test")
        self._refuse_overlap()

    def _refuse_overlap(self) -> None:
        tested = {content_id(prompt_json(row["prompt"])) for row in self.test_rows}
        both = [row for row in self.train_rows if content_id(prompt_json(row["prompt"])) in tested]
        if both:
            raise DataError(
                f"{len(both)} prompts are trained on and audited with, the first {question(both[0]['prompt'])[:80]!r}",
                where=self.config.test_prompts,
                expected="prompts of an audit that are never trained on",
                fix="take them out of one of the two files",
            )

    def identity(self) -> dict[str, Any]:
        """What the folder's work depends on."""
        rows = [[prompt_json(row["prompt"]), row["kind"], row["category"]] for row in self.train_rows]
        tests = [[prompt_json(row["prompt"]), row["kind"], row["category"]] for row in self.test_rows]
        return {
            "config": self.config.model_dump(mode="json"),
            "constitution": self.constitution.sha,
            "judge": getattr(self.judge, "fingerprint", self.judge.name),
            "model": identity(self.start.name),
            "prompts": content_id(rows),
            "test_prompts": content_id(tests),
        }

    def run(self) -> list[dict[str, Any]]:
        """All rounds; returns their figures."""
        model = self.start
        self._warn_of_plain_text()
        rounds = [self._audited(0, model, None)]
        for number in range(1, self.config.rounds + 1):
            collected = self._collect(number, model)
            model = self._train(number, model, collected)
            rounds.append(self._audited(number, model, collected))
        self._report(rounds)
        return rounds

    def _warn_of_plain_text(self) -> None:
        """A chat model goes on with plain text as a text; it answers turns."""
        plain = sum(isinstance(row["prompt"], str) for row in (*self.train_rows, *self.test_rows))
        if plain and self._speaker(self.start).chat:
            self.tell(
                f"{plain} prompts are plain text, which a chat model goes on with and does not answer; "
                'for answers write {"prompt": [{"role": "user", "content": "..."}]}'
            )

    def _speaker(self, model: Model) -> Speaker:
        batch = Batch(max_length=SANDBOX_CONTEXT) if self.config.model.name == SANDBOX else None
        return Speaker(model, self.config.sampling, batch)

    def _judge(self, policy: Speaker) -> Judging:
        """The judge of a round: the policy itself, or the one that judges all."""
        return own_judge(policy) if self.config.judge == SELF else self.judge

    # A round -------------------------------------------------------------------------------------------------------

    def _collect(self, number: int, model: Model) -> dict[str, Any]:
        policy = self._speaker(model)
        collected, labels = Round(
            self.config,
            self.out,
            number,
            self.train_rows,
            self.constitution,
            self._judge(policy),
            policy,
            self.in_sandbox,
        ).collect()
        store_labels(
            self.out / "feedback.db",
            f"constitution {self.constitution.name}",
            f"round {number}",
            labels,
            self.constitution,
            simulated=self.in_sandbox,
        )
        self.tell(f"round {number}: {_sentence(collected)}")
        self.tell(f"round {number}: {_worth(collected['judge'])}")
        return collected

    def _train(self, number: int, model: Model, collected: Mapping[str, Any]) -> Model:
        folder, method = self.out / f"round-{number}", self.config.method
        name = "demonstrations" if method == "sft" else "pairs"
        if not collected[name]:
            raise RunError(
                f"there is nothing to train on: {_sentence(collected)}",
                where=str(folder / f"{name}.jsonl"),
                fix="look at the answers beside it; ask more prompts, draw more answers, or take another judge",
            )
        if method == "rlhf":
            stages = [
                self._stage("reward", "reward", number, model, self.config.reward, name),
                self._stage("train", "ppo", number, model, self.config.train | {"reward": "@reward"}, "prompts"),
            ]
        else:
            stages = [self._stage("train", method, number, model, self.config.train, name)]
        runs = run_stages(folder, stages, quiet=self.quiet, tell=self.tell)
        return model.model_copy(update={"name": str(outcome(runs["train"]))})

    def _stage(self, stage: str, kind: str, number: int, model: Model, settings: Mapping[str, Any], file: str) -> Stage:
        own = {
            "data": str(self.out / f"round-{number}" / f"{file}.jsonl"),
            "model": model.model_dump(mode="json"),
            "seed": derive(self.config.seed, stage, number) % 2**31,
        }
        defaults = SANDBOX_TRAIN[kind] if self.config.model.name == SANDBOX else {}
        return Stage(stage, kind, {**defaults, **settings, **own})

    def _audited(self, number: int, model: Model, collected: Mapping[str, Any] | None) -> dict[str, Any]:
        folder = self.out / f"round-{number}"
        policy = self._speaker(model)
        rows = pieces(folder, "audit", self.test_rows, lambda rows, at: self._observed(rows, at, policy))
        before = None if number == 0 else piece(self.out / "round-0" / "audit.jsonl", list)
        audit = figures(rows, before)
        one = {"round": number, "model": model.name, "audit": audit, "collected": collected}
        write_json(folder / "round.json", one)
        share = audit["harmful"]
        shown = "unknown" if share is None else f"{100 * share['estimate']:.1f} %"
        self.tell(f"round {number}: audit of {len(rows)} answers, harmful {shown}")
        return one

    def _observed(self, rows: Sequence[dict[str, Any]], at: int, policy: Speaker) -> list[dict[str, Any]]:
        """The same draws in every round, so that rounds are compared on the same chances."""
        drawn = policy([row["prompt"] for row in rows], derive(self.config.seed, "audit", at))
        if self.in_sandbox:
            seen = [seen_by_truth(row, one) for row, one in zip(rows, drawn, strict=True)]
        else:
            seen = seen_by_judge(rows, drawn, self.constitution, self.judge)
        return [observed(row, one, what) for row, one, what in zip(rows, drawn, seen, strict=True)]

    # The end -------------------------------------------------------------------------------------------------------

    def _report(self, rounds: Sequence[Mapping[str, Any]]) -> None:
        figures_of_all = {
            "constitution": self.constitution.annotator,
            "audited_by_truth": self.in_sandbox,
            "rounds": list(rounds),
        }
        write_json(self.out / "report.json", figures_of_all)
        config = self.config
        by = "the sandbox's truth" if self.in_sandbox else f"the judge {self.judge.name}, which is no truth"
        notes = [
            f"# Constitution {self.constitution.name}: {len(rounds) - 1} rounds of {config.method}",
            f"Annotator `{self.constitution.annotator}`, judge {self.judge_name}, {self._source()}. "
            f"Shares in percent with 95 % intervals; the audit is by {by}.",
        ]
        if config.by_rules:
            notes.append(
                f"The judge reads the truth of the sandbox and is wrong with probability {self.judge.error:g}."
                if isinstance(self.judge, RuleJudge) and self.judge.error
                else "The judge reads the truth of the sandbox: this is what a perfect judge would teach."
            )
        if config.collect == "revise" and config.reviser == "resample":
            notes.append(
                f"No critique was written: of at most {config.tries} samples the first was taken that the judge "
                "accepted (rejection sampling)."
            )
        if config.judge == SELF:
            notes.append("Each round's policy judged its own answers; what it is worth as a judge stands in its file.")
        parts = [*notes, table(rounds), "## Harmful answers by category", category_table(rounds)]
        write_atomic(self.out / "report.md", ("\n\n".join(parts) + "\n").encode())

    def _source(self) -> str:
        """Where the training data came from, in words."""
        config = self.config
        if config.collect == "revise":
            return f"answers rewritten by {config.reviser}"
        against = "the worst of them" if config.rejected == "worst" else "the worst of the model of the start"
        return f"the best of {config.candidates} answers beside {against}"


def _sentence(collected: Mapping[str, Any]) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sorted(collected["states"].items()))
    return (
        f"{collected['answers']} answers ({states}); {collected['demonstrations']} demonstrations, "
        f"{collected['pairs']} pairs"
    )


def _worth(report: Mapping[str, Any]) -> str:
    """What the judge is worth, before anything is trained on it."""
    bias, agreed = report["position"]["bias"], report.get("agreement")
    if bias is None:
        return "the judge labelled nothing"
    truth = f"; it agrees with gold on {agreed['right']:g} of {agreed['pairs']} pairs" if agreed else ""
    return f"the order moves the judge's verdicts by {bias:.2f} on average{truth}"


def run_constitution(
    config: Constitutional, out: Path, *, quiet: bool = False, tell: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Run all rounds into ``out``, or go on with what is there. Returns the figures of each round.

    Raises:
        UsageError: ``out`` holds other work.
        RunError: A round has nothing to train on, or another process writes ``out``.
    """
    out.mkdir(parents=True, exist_ok=True)
    with one_writer(out):
        return run_rounds(config, out, quiet=quiet, tell=tell)


def run_rounds(
    config: Constitutional, out: Path, *, quiet: bool = False, tell: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """The same in a folder that the caller holds.

    Raises:
        UsageError, RunError: As ``run_constitution``.
    """
    with tuned_process():
        loop = Loop(config, out, quiet, tell)
        record, wanted = out / "constitution.json", json.loads(json.dumps(loop.identity()))
        if record.exists():
            known = read_mapping(record, "choose another --out, or move this folder away")
            other = sorted(key for key in wanted if known.get(key) != wanted[key])
            if other:
                raise UsageError(
                    f"the work here was started differently: {', '.join(other)}",
                    where=str(record),
                    expected="the same settings, constitution, judge, model and prompts",
                    fix="choose another --out, or move this folder away",
                )
        write_json(record, wanted)
        return loop.run()


def last_model(rounds: Sequence[Mapping[str, Any]]) -> Path:
    """The model of the last round."""
    return Path(rounds[-1]["model"])
