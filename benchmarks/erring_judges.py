"""What a judge that errs teaches: the same rounds with the sandbox's rules wrong in 0, 10, 20 and 30 % of verdicts.

python -m benchmarks.erring_judges --out runs/erring

One round of critique by resampling and SFT, everything else by default, audited by the truth. Killed, it
goes on with what is there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from trueup.commands.constitution_run import run_constitution
from trueup.commands.constitution_settings import Constitutional
from trueup.config import build
from trueup.ledger import write_json

RESULTS = Path("benchmarks/results/erring_judges.json")
ERRORS = (0.0, 0.1, 0.2, 0.3)
SETTINGS: dict[str, Any] = {"rounds": 1}
COLUMNS = {
    "harmful": "harmful",
    "over_refusal": "over-refusal",
    "helpful_lookalikes": "help on look-alikes",
    "helpful_others": "help elsewhere",
    "win_rate": "better than round 0",
}


def main() -> None:
    """Run, store, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/erring"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found: dict[str, Any] = {"seed": args.seed, "settings": SETTINGS, "runs": {}}
    for error in ERRORS:
        judge = f"rules:error={error}" if error else "rules"
        config = build(Constitutional, SETTINGS, {"judge": judge, "seed": args.seed})
        rounds = run_constitution(config, args.out / f"error-{error}", quiet=True)
        found["before"] = rounds[0]["audit"]
        agreed = rounds[-1]["collected"]["judge"]["agreement"]
        found["runs"][str(error)] = {
            "audit": rounds[-1]["audit"],
            "agreement": agreed,
            "states": rounds[1]["collected"]["states"],
            "demonstrations": [one["collected"]["demonstrations"] for one in rounds[1:]],
        }
    write_json(RESULTS, found)
    print(table(json.loads(RESULTS.read_text(encoding="utf-8"))))


def table(found: dict[str, Any]) -> str:
    """A row for each judge; shares in percent with 95 % intervals."""
    lines = [
        "| judge errs | " + " | ".join(COLUMNS.values()) + " | demonstrations | labels that agree with gold |",
        "|---:|" + "---|" * len(COLUMNS) + "---:|---:|",
        "| before | " + " | ".join(_cell(found["before"][name]) for name in COLUMNS) + " | - | - |",
    ]
    for error, run in found["runs"].items():
        agreed = run["agreement"]
        cells = [_cell(run["audit"][name]) for name in COLUMNS]
        lines.append(
            f"| {float(error):.0%} | {' | '.join(cells)} | {' + '.join(map(str, run['demonstrations']))} | "
            f"{agreed['right']:g} of {agreed['pairs']} |"
        )
    return "\n".join(lines)


def _cell(share: dict[str, Any] | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share['estimate']:.0f} [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"


if __name__ == "__main__":
    main()
