"""The shared files of real judgments, where they are present."""

import gzip
import json
from pathlib import Path

import pytest

DATA = Path(__file__).parents[4] / "shared" / "data" / "annotators"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared real data is not here")


def rows(name):
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
