"""The base model that comes with the package: trains it as ``trueup quickstart --from-scratch`` does and packs it.

python -m benchmarks.sandbox_base --out runs/sandbox-base

Weights are stored in half precision, which halves the file and changes log-probs in the third digit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from trueup.commands.pipeline import run_stages
from trueup.commands.sandbox_recipe import DEFAULT, base_stage
from trueup.commands.walkthrough import write_corpus
from trueup.sandbox.shipped import BASE, RECORD

KEPT = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

LICENCE = "apache-2.0"
CARD = f"""---
license: {LICENCE}
language: en
library_name: transformers
pipeline_tag: text-generation
---
# The base model of trueup's sandbox

A Llama of {{parameters:.2f}} million parameters that writes the sandbox's language, good and bad answers alike. It was
trained from scratch on {{texts:,}} generated texts by

    {{command}}

and is the start of `trueup quickstart`. It knows nothing of the world outside the sandbox.
"""


def main() -> None:
    """Train, then pack into ``src/trueup/sandbox/base``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/sandbox-base"))
    parser.add_argument("--texts", type=int, default=DEFAULT.corpus)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    corpus = write_corpus(args.out / "corpus.jsonl", args.texts)
    run = run_stages(args.out, [base_stage(corpus)], tell=print)["base"]
    pack(run / "final", BASE, texts=args.texts, corpus=corpus)
    print(f"packed into {BASE}: {sum(f.stat().st_size for f in BASE.iterdir()) / 1e6:.2f} MB")


def pack(final: Path, target: Path, *, texts: int, corpus: Path) -> None:
    """Copy a trained model with weights in half precision, and write how it was made with the hash of every file."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    weights = {name: tensor.to(torch.float16) for name, tensor in load_file(final / "model.safetensors").items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    for name in KEPT:
        if (final / name).is_file():
            shutil.copyfile(final / name, target / name)
    seal(target, texts, parameters=sum(tensor.numel() for tensor in weights.values()), corpus_sha256=_sha256(corpus))


def seal(target: Path, texts: int, *, parameters: int, corpus_sha256: str) -> None:
    """Write the model's card, and how it was made with the hash of every file."""
    command = f"python -m benchmarks.sandbox_base --texts {texts}"
    card = CARD.format(parameters=parameters / 1e6, texts=texts, command=command)
    (target / "README.md").write_text(card, encoding="utf-8")
    made = {
        "command": command,
        "licence": LICENCE,
        "texts": texts,
        "parameters": parameters,
        "corpus_sha256": corpus_sha256,
        "sha256": {file.name: _sha256(file) for file in sorted(target.iterdir()) if file.name != RECORD},
    }
    (target / RECORD).write_text(json.dumps(made, indent=2) + "\n")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
