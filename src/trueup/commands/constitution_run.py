"""Rounds of Constitutional AI: answer, judge by principles, rewrite, train, audit, and again from the new model.

    out/constitution.json            settings, and hashes of everything that was read
    out/round-0/audit.jsonl          the model that it starts from
    out/round-1/revisions.jsonl      answers with what happened to them (SL-CAI)
    out/round-1/labels.jsonl         revision beside original, labelled softly in both orders (RL-CAI)
    out/round-1/demonstrations.jsonl, pairs.jsonl      for trueup sft and trueup dpo
    out/round-1/train/               an ordinary run
    out/feedback.db                  the labels as judgments of constitution:<sha>
    out/report.md, report.json

Every file is written once, whole. A call that was killed is made again: what is there is kept, what is not is made,
to the same bytes (the store has times and random ids of its own).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.collectors.constitution import Constitution, read_constitution
from trueup.collectors.constitution_labels import judge_report, label_json, label_pairs, training_pair
from trueup.collectors.constitution_revise import (
    Judging,
    Row,
    broken_at_the_end,
    demonstrations,
    revise,
    row_json,
)
from trueup.collectors.constitution_sandbox import question
from trueup.collectors.constitution_store import store_labels
from trueup.commands.constitution_audit import category_table, figures, observed, seen_by_judge, seen_by_truth, table
from trueup.commands.constitution_parts import (
    SANDBOX_CONTEXT,
    Speaker,
    open_constitutional_judge,
    piece,
    prompts_of,
    reviser_for,
)
from trueup.commands.constitution_settings import RULES, SANDBOX, Constitutional
from trueup.commands.pipeline import Stage, run_stages
from trueup.config import Batch, Model
from trueup.config.seeds import derive
from trueup.engine.device import tuned_process
from trueup.errors import DataError, RunError, UsageError
from trueup.feedback.store.reading import stored_prompt
from trueup.ledger import one_writer, outcome, write_atomic, write_json
from trueup.models.files import identity
from trueup.sandbox import copy_base, gold_score
from trueup.types import content_id, prompt_json

CHUNK = 64
"""Answers that are written at a time; what a kill costs at most."""
SANDBOX_TRAIN: Mapping[str, Mapping[str, Any]] = {
    "sft": {"epochs": 4, "batch": {"size": 32, "max_length": SANDBOX_CONTEXT}, "optim": {"learning_rate": 5e-4}},
    "dpo": {"epochs": 1, "batch": {"size": 32, "max_length": SANDBOX_CONTEXT}, "optim": {"learning_rate": 2e-4}},
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
        self.judge: Judging = open_constitutional_judge(config.judge, self.constitution, self.start)
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
        rounds = [self._audited(0, model, None)]
        for number in range(1, self.config.rounds + 1):
            collected = self._collect(number, model)
            model = self._train(number, model, collected)
            rounds.append(self._audited(number, model, collected))
        self._report(rounds)
        return rounds

    def _speaker(self, model: Model) -> Speaker:
        batch = Batch(max_length=SANDBOX_CONTEXT) if self.config.model.name == SANDBOX else None
        return Speaker(model, self.config.sampling, batch)

    # A round -------------------------------------------------------------------------------------------------------

    def _collect(self, number: int, model: Model) -> dict[str, Any]:
        """Revisions, labels and training files of a round; returns the counts."""
        folder = self.out / f"round-{number}"
        policy = self._speaker(model)
        revisions = self._pieces(
            folder, "revisions", self.train_rows, lambda rows, at: self._revised(rows, at, number, policy)
        )
        apart = [row for row in revisions if row["state"] == "revised" and row["original"].strip()]
        labels = self._pieces(folder, "labels", apart, lambda rows, _: self._labelled(rows))
        shown, left_out = demonstrations(revisions)
        pairs = [pair for row in labels if (pair := training_pair(row)) is not None and pair["chosen"] == row["first"]]
        piece(folder / "demonstrations.jsonl", lambda: shown)
        piece(folder / "pairs.jsonl", lambda: pairs)
        truth = [_truth(row) for row in labels] if self.in_sandbox else None
        collected: dict[str, Any] = {
            "answers": len(revisions),
            "states": dict(Counter(row["state"] for row in revisions)),
            "rounds": _by_principle(revisions),
            "demonstrations": len(shown),
            "left_out": dict(left_out),
            "pairs": len(pairs),
            "revision_judged_no_better": len(labels) - len(pairs),
            "judge": judge_report(labels, truth),
        }
        write_json(folder / "collected.json", collected)
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

    def _pieces(
        self,
        folder: Path,
        name: str,
        rows: Sequence[dict[str, Any]],
        make: Callable[[Sequence[dict[str, Any]], int], list[dict[str, Any]]],
    ) -> list[dict[str, Any]]:
        """``folder/name.jsonl``, made chunk by chunk."""
        parts = [
            piece(
                folder / "parts" / f"{name}-{at // CHUNK:04d}.jsonl",
                lambda at=at: make(rows[at : at + CHUNK], at),  # type: ignore[misc]
            )
            for at in range(0, len(rows), CHUNK)
        ]
        return piece(folder / f"{name}.jsonl", lambda: [row for part in parts for row in part])

    def _revised(self, rows: Sequence[dict[str, Any]], at: int, number: int, policy: Speaker) -> list[dict[str, Any]]:
        config = self.config
        drawn = policy([row["prompt"] for row in rows], derive(config.seed, "answer", number, at))
        work = [
            Row(row["prompt"], row["category"], one.text, one.ended, at + place)
            for place, (row, one) in enumerate(zip(rows, drawn, strict=True))
        ]
        revise(
            work,
            self.constitution,
            self.judge,
            reviser_for(config, policy, self.judge),
            rounds=config.revisions,
            retries=config.retries,
            seed=derive(config.seed, "round", number, at),
        )
        ends = broken_at_the_end(work, self.constitution, self.judge)
        return [row_json(row, end, self.constitution) for row, end in zip(work, ends, strict=True)]

    def _labelled(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        pairs = [(stored_prompt(row["prompt"]), row["answer"], row["original"]) for row in rows]
        labels = label_pairs(pairs, self.constitution, self.judge)
        return [label_json(label, self.constitution, self.judge.name) for label in labels]

    def _train(self, number: int, model: Model, collected: Mapping[str, Any]) -> Model:
        folder, method = self.out / f"round-{number}", self.config.method
        name = "demonstrations" if method == "sft" else "pairs"
        if not collected[name]:
            raise RunError(
                f"there is nothing to train on: {_sentence(collected)}",
                where=str(folder / f"{name}.jsonl"),
                fix="look at revisions.jsonl; ask more prompts, allow more tries, or take another judge",
            )
        settings: dict[str, Any] = dict(SANDBOX_TRAIN[method]) if self.config.model.name == SANDBOX else {}
        settings |= self.config.train
        settings |= {
            "data": str(folder / f"{name}.jsonl"),
            "model": model.model_dump(mode="json"),
            "seed": derive(self.config.seed, "train", number) % 2**31,
        }
        runs = run_stages(folder, [Stage("train", method, settings)], quiet=self.quiet, tell=self.tell)
        return model.model_copy(update={"name": str(outcome(runs["train"]))})

    def _audited(self, number: int, model: Model, collected: Mapping[str, Any] | None) -> dict[str, Any]:
        folder = self.out / f"round-{number}"
        policy = self._speaker(model)
        rows = self._pieces(folder, "audit", self.test_rows, lambda rows, at: self._observed(rows, at, policy))
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
        write_json(self.out / "report.json", {"constitution": self.constitution.annotator, "rounds": list(rounds)})
        by = "the sandbox's truth" if self.in_sandbox else f"the judge {self.judge.name}, which is no truth"
        notes = [
            f"# Constitution {self.constitution.name}: {len(rounds) - 1} rounds of {self.config.method}",
            f"Annotator `{self.constitution.annotator}`, judge {self.judge.name}, answers rewritten by "
            f"{self.config.reviser}. Shares in percent with 95 % intervals; the audit is by {by}.",
        ]
        if self.config.judge == RULES:
            notes.append("The judge reads the truth of the sandbox: this is what a perfect judge would teach.")
        if self.config.reviser == "resample":
            notes.append(
                f"No critique was written: of at most {self.config.tries} samples the first was taken that the judge "
                "accepted (rejection sampling)."
            )
        parts = [*notes, table(rounds), "## Harmful answers by category", category_table(rounds)]
        write_atomic(self.out / "report.md", ("\n\n".join(parts) + "\n").encode())


def _truth(row: Mapping[str, Any]) -> float:
    asked = question(stored_prompt(row["prompt"]))
    first, second = (gold_score(asked, row[side]).total for side in ("first", "second"))
    return 0.5 if first == second else float(first > second)


def _by_principle(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How often each principle was drawn, and what came of it."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        for one in row["rounds"]:
            counts.setdefault(one["principle"], Counter())[one["state"]] += 1
    return {name: {"drawn": sum(states.values()), **states} for name, states in sorted(counts.items())}


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
        RunError: A round has nothing to train on.
    """
    out.mkdir(parents=True, exist_ok=True)
    with one_writer(out), tuned_process():
        loop = Loop(config, out, quiet, tell)
        record, wanted = out / "constitution.json", json.loads(json.dumps(loop.identity()))
        if record.exists():
            known = json.loads(record.read_text(encoding="utf-8"))
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
