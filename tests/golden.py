"""Golden runs: whether the code still writes the same bytes as another version of it did.

``python -m tests.golden write FILE`` runs every method and command that leaves files on a tiny model, and stores a hash
of each file; ``python -m tests.golden check FILE`` runs them again and names what differs. It goes by the command line
alone, so that it holds through a move of the code behind it. Equal bytes are meant on one machine with one torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ANIMALS = "cat dog owl fox bee hen ant bat cow elk pig rat".split()
KEPT = ("metrics.jsonl", "samples.jsonl", "eval.jsonl", "pairs.jsonl", "final/*", "*.csv", "*.json", "*.md", "*.jsonl")
LEFT_OUT = ("run.json", "timing.jsonl", "events.jsonl", "manifest.json", "card.json")
"""Files that hold times, paths, versions or ids that are drawn."""
TINY = {"model.tiny": {"hidden": 32, "layers": 2, "heads": 2, "vocabulary": 330, "context": 96}}
COMMON = {"batch.size": 4, "batch.max_length": 64, "save_every": 3, "seed": 5, "optim.learning_rate": 0.01}
PREFERENCES = [
    "dpo",
    "robust-dpo",
    "ipo",
    "hinge",
    "length-normalised-dpo",
    "dpo-nll",
    "simpo",
    "orpo",
    "cpo",
    "apo-zero",
    "apo-down",
]


def prompt(animal: str) -> list[dict[str, str]]:
    """One question as a chat turn."""
    return [{"role": "user", "content": f"What does the {animal} like?"}]


def rows(kind: str) -> Iterator[dict[str, object]]:
    """Rows of a small file of each kind of data."""
    for i, animal in enumerate(ANIMALS):
        asked = prompt(animal)
        good, bad = f"The {animal} likes warm milk and a nap.", f"No idea, go away {animal}."
        if kind == "pairs":
            yield {"prompt": asked, "chosen": good, "rejected": bad, "strength": 0.9 if i % 3 else 1.0}
        elif kind == "labelled":
            yield {"prompt": asked, "completion": good if i % 2 else bad, "label": bool(i % 2)}
        elif kind == "demonstrations":
            yield {"prompt": asked, "completion": good}
        else:
            yield {"prompt": asked}


def trueup(folder: Path, *line: str, **settings: object) -> str:
    """Run one command in a folder; returns what it printed."""
    flags = [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "trueup", *line, *flags],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"trueup {' '.join(line)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def run_all(folder: Path) -> None:
    """Everything, each into a folder of its own."""
    for kind in ("pairs", "labelled", "demonstrations", "prompts"):
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(kind)), encoding="utf-8")
    pairs = ("--data", "pairs.jsonl", "--validation", "pairs.jsonl", "--model", "sft/final")
    sft = ("--data", "demonstrations.jsonl", "--validation", "demonstrations.jsonl", "--model", "tiny")
    trueup(folder, "sft", *sft, "--out", "sft", **COMMON, **TINY, epochs=3)
    trueup(folder, "reward", *pairs, "--out", "reward", **COMMON, epochs=3)
    for objective in PREFERENCES:
        trueup(folder, "dpo", *pairs, "--out", f"dpo-{objective}", **COMMON, **{"objective.kind": objective})
    labelled = ("--data", "labelled.jsonl", "--validation", "labelled.jsonl", "--model", "sft/final")
    trueup(folder, "kto", *labelled, "--out", "kto", **COMMON, epochs=2)
    ppo = {"steps": 4, "epochs": 2, "mini_batches": 2, "sampling.max_new_tokens": 8, "probes": 2}
    online = ("--data", "prompts.jsonl", "--reward", "reward/final", "--model", "sft/final")
    trueup(folder, "ppo", *online, "--out", "ppo", **(COMMON | ppo))
    asked = ("--data", "prompts.jsonl", "--reward", "reward/final", "--out", "evaluation")
    trueup(folder, "evaluate", "sft=sft/final", "dpo=dpo-dpo/final", *asked, "--max-new-tokens", "8")
    (folder / "sample.md").write_text(trueup(folder, "sample", "sft/final", "dpo-dpo/final", "--prompt", "What?"))
    feedback = ("--db", "feedback.db")
    trueup(folder, "feedback", "import", "pairs.jsonl", "--project", "golden", *feedback)
    trueup(folder, "curate", "golden", "--out", "snapshot", *feedback)
    snapshot = [
        json.loads(line) for file in folder.glob("snapshot/*/*.jsonl") for line in file.read_text().splitlines()
    ]
    kept = sorted(
        json.dumps({key: row[key] for key in ("prompt", "chosen", "rejected", "strength")}) for row in snapshot
    )
    (folder / "curated.json").write_text("\n".join(kept))
    for kind in ("pairs", "labelled", "demonstrations"):
        (folder / f"check-{kind}.md").write_text(trueup(folder, "data", "check", f"{kind}.jsonl"))


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that must be the same, by its path."""
    files = {file for kept in KEPT for file in folder.rglob(kept) if file.is_file() and file.name not in LEFT_OUT}
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
        if not {"checkpoints", "snapshot"} & set(file.parts)
    }


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What is not as it was, in words."""
    gone = [f"gone: {name}" for name in before if name not in after]
    new = [f"new: {name}" for name in after if name not in before]
    return gone + new + [f"differs: {name}" for name in before if name in after and before[name] != after[name]]


def main(verb: str, file: str, keep: str | None = None) -> int:
    """``write`` or ``check``; a third argument names a folder in which the files stay to be looked at."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(keep or temporary)
        folder.mkdir(exist_ok=True)
        run_all(folder)
        after = hashes(folder)
    if verb == "write":
        Path(file).write_text(json.dumps(after, indent=1) + "\n", encoding="utf-8")
        print(f"{len(after)} files")
        return 0
    found = differences(json.loads(Path(file).read_text(encoding="utf-8")), after)
    print("\n".join(found) or f"{len(after)} files, all as they were")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
