"""The program: its commands in their order, its errors and its exit codes.

Nothing heavy is imported here: each command imports what it needs when it runs.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from trueup.commands import constitution, data, feedback
from trueup.commands.compare import compare
from trueup.commands.curate import curate
from trueup.commands.doctor import doctor
from trueup.commands.evaluate import evaluate
from trueup.commands.exploit import exploit
from trueup.commands.explore import explore
from trueup.commands.export import export
from trueup.commands.frontier import frontier
from trueup.commands.hacking import hacking
from trueup.commands.mirror import mirror
from trueup.commands.options import Commands
from trueup.commands.plan import plan
from trueup.commands.quickstart import quickstart
from trueup.commands.report import report
from trueup.commands.resume import resume
from trueup.commands.rollouts import rollouts
from trueup.commands.run import run
from trueup.commands.sample import sample
from trueup.commands.score import score
from trueup.commands.serve import serve
from trueup.commands.sweep import sweep
from trueup.commands.trace import trace
from trueup.commands.training import command
from trueup.commands.version import version
from trueup.commands.watch import watch
from trueup.commands.why import why
from trueup.errors import RunError, TrueupError
from trueup.recipes.table import RECIPES

app = Commands(
    name="trueup",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="True up a language model to what people prefer.\n\n"
    "The pipeline: `data check` -> `sft` -> `reward` -> `ppo`, or `sft` -> `dpo`; then `sample` and `report`. "
    "`trueup quickstart` runs it on an embedded sandbox in minutes, without network or GPU.",
)
app.add_typer(data.app, name="data")
app.add_typer(feedback.app, name="feedback")
app.add_typer(constitution.app, name="constitution")
BEFORE_TRAINING: tuple[Callable[..., None], ...] = (curate, resume)
AFTER_TRAINING: tuple[Callable[..., None], ...] = (
    run,
    sweep,
    quickstart,
    sample,
    score,
    evaluate,
    hacking,
    exploit,
    trace,
    why,
    report,
    compare,
    frontier,
    explore,
    rollouts,
    watch,
    mirror,
    export,
    plan,
    doctor,
    serve,
    version,
)
for each in (*BEFORE_TRAINING, *(command(kind) for kind in RECIPES), *AFTER_TRAINING):
    app.command()(each)


def main() -> None:
    """Entry point: clear errors on stderr, exit codes 0 done, 1 run failed, 2 wrong use, 3 paused, 130 interrupted."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app(color=False if os.environ.get("NO_COLOR") else None)
    except Exception as error:  # Ctrl-C is typer's: exit code 130
        if debug:
            raise
        known = error if isinstance(error, TrueupError) else _explained(error)
        print(f"error: {known}", file=sys.stderr)
        sys.exit(known.exit_code)


def _explained(error: Exception) -> TrueupError:
    """An error that is not of our family, as one that is; with ``--debug`` the traceback is shown instead."""
    from trueup.ledger import storage_problem

    if isinstance(error, OSError):
        problem, fix = storage_problem(error)
        return RunError(problem, where=str(error.filename) if error.filename else None, fix=fix)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        fix = "lower batch.micro_tokens or batch.max_length, or set model.dtype=bfloat16 or model.lora.rank"
        return RunError(f"out of memory: {error}" if str(error) else "out of memory", fix=fix)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return RunError(
        f"unexpected {type(error).__name__}: {error}",
        where=f"{Path(last.filename).name}:{last.lineno}",
        fix="this is a fault of trueup; --debug shows where it comes from",
    )
