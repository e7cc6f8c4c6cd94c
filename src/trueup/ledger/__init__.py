"""The run directory: the only interface between training and everything that looks at it.

    runs/<name>/run.json        what was asked, from which inputs, with which reference; status
               metrics.jsonl    one line per step; holds no wall-clock value, so equal runs give equal bytes
               timing.jsonl     seconds and throughput per step, kept apart for the same reason
               samples.jsonl    answers to fixed prompts along the run
               rollouts.jsonl   some answers that online methods learned from, with what the updates did to each token
               eval.jsonl       held-out measurements
               pairs.jsonl      one line per trained pair and step: its rewards and margin, for ``trueup trace``;
                                of labelled responses one line each, with its reward
               events.jsonl     start, resume, interrupt, alarms
               control.json     what somebody asks of it while it trains, see ``control``
               checkpoints/     see ``engine.checkpoint``
               cache/           what can be made again: log-probs of the reference, where samples stand for the explorer

``files`` writes whole files and locks a directory, ``streams`` appends lines and knows how many of them are safe,
``record`` is run.json and the rules of starting and resuming, ``run`` is a run that is being written. ``columns`` holds
the numbers of a run as they come, ``alerts`` the detectors that run on them, in training and in the explorer.
"""

from trueup.ledger.files import (
    move_aside,
    one_writer,
    storage_error,
    storage_problem,
    sync_folder,
    sync_tree,
    whole_folder,
    write_atomic,
    write_file,
    write_json,
)
from trueup.ledger.record import identity, outcome, read_run
from trueup.ledger.run import REWOUND, Run, metric_rows
from trueup.ledger.streams import (
    Damage,
    Position,
    Stream,
    StreamError,
    iterate_lines,
    parse_line,
    positions_of,
    read_lines,
)

__all__ = [
    "REWOUND",
    "Damage",
    "Position",
    "Run",
    "Stream",
    "StreamError",
    "identity",
    "iterate_lines",
    "metric_rows",
    "move_aside",
    "one_writer",
    "outcome",
    "parse_line",
    "positions_of",
    "read_lines",
    "read_run",
    "storage_error",
    "storage_problem",
    "sync_folder",
    "sync_tree",
    "whole_folder",
    "write_atomic",
    "write_file",
    "write_json",
]
