"""The real road: a real pretrained chat model on real preferences, every part one after the other.

    python -m benchmarks.real --data DIR                    all of it
    python -m benchmarks.real --data DIR --only sentiment   one part

What is done is skipped, what was cut off goes on. ``python -m benchmarks.page`` then writes the figures into the docs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PARTS = {
    "sentiment": "SmolLM2 made more positive: PPO, DPO and best-of-n, measured by VADER",
    "preferences": "harmless pairs by five-fold cross-validation: reward models, DPO, baselines",
    "demos": "KTO on marked responses, a reward model on rankings",
    "judges": "reward models and SmolLM2 itself as judges, against people",
    "constitution": "SmolLM2 judges, criticises and rewrites its own answers by a constitution",
    "answers": "answers to MT-bench and XSTest before and after",
}
WITHOUT_DATA = ("sentiment",)
OF_TRAINED = ("judges", "answers")
"""What looks at what the other parts trained, and trains nothing."""


def main() -> None:
    """Run the parts; the first that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder with preference/, annotators/, instruction/, safety/.")
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--small", action="store_true", help="A few rows and steps of each, to see that it runs.")
    args = parser.parse_args()
    lacking = [part for part in args.only if part not in WITHOUT_DATA and args.data is None]
    if lacking:
        parser.error(f"{', '.join(lacking)} need --data DIR; without it: --only {' '.join(WITHOUT_DATA)}")
    for part in args.only:
        print(f"\n{part}: {PARTS[part]}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.real_{part}"]
        command += [] if part in WITHOUT_DATA else ["--data", str(args.data)]
        command += [] if part in OF_TRAINED else ["--out", str(args.out / part)]
        command += ["--trained", str(args.out)] if part in OF_TRAINED else []
        command += ["--small"] if args.small else []
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"{part} failed; run the same again to go on from what is done")


if __name__ == "__main__":
    main()
