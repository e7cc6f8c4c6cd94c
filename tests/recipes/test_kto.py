"""KTO: single labels move the policy the right way, and what it cannot work with is refused."""

import json
from pathlib import Path

import pytest

from tests.recipes.test_recipes import config_of
from trueup.errors import ConfigError, DataError
from trueup.ledger import metric_rows, read_run
from trueup.recipes.registry import execute


def test_property_61_starts_at_half_the_weight_and_separates_good_from_bad(material, tmp_path):
    out = execute("kto", config_of("kto", material, epochs=10), tmp_path / "r", quiet=True)
    rows = metric_rows(out)
    assert rows[0]["loss"] == pytest.approx(0.5, abs=1e-6)
    assert rows[0]["kl"] == 0.0
    assert all(r["kl"] >= 0 for r in rows)
    assert rows[-1]["heldout_margin"] > 0.2
    assert rows[-1]["heldout_loss"] < 0.5
    assert read_run(out)["pinned"]["reference"]


def test_weights_scale_their_side_of_the_loss(material, tmp_path):
    config = config_of("kto", material, epochs=1, batch__size=12, desirable_weight=2.0)
    first = metric_rows(execute("kto", config, tmp_path / "r", quiet=True))[0]["loss"]
    # Twelve rows at their reference, half a unit each; the six good ones count double.
    assert first == pytest.approx(0.5 * (6 * 2 + 6) / 12, abs=1e-6)


def test_pairs_serve_as_one_good_and_one_bad_response_each(material, tmp_path):
    config = config_of("kto", material, epochs=1).model_copy(update={"data": material["pairs"], "validation": None})
    out = execute("kto", config, tmp_path / "r", quiet=True)
    assert read_run(out)["facts"]["render"]["examples"] == 24


def test_what_kto_cannot_use_is_refused(material, tmp_path):
    with pytest.raises(ConfigError, match="at least 2"):
        execute("kto", config_of("kto", material, batch__size=1), tmp_path / "one", quiet=True)
    lines = [json.loads(line) for line in Path(material["labelled"]).read_text(encoding="utf-8").splitlines()]
    good = tmp_path / "good.jsonl"
    good.write_text("".join(json.dumps(r) + "\n" for r in lines if r["label"]))
    config = config_of("kto", material).model_copy(update={"data": str(good)})
    with pytest.raises(DataError, match="no response is labelled bad"):
        execute("kto", config, tmp_path / "two", quiet=True)
