"""The reference's log-probs are written durably with their hash, and damage is found and mended."""

import pytest

from tests.recipes.test_recipes import config_of, digest
from trueup.recipes.reference import keep_logps, kept_logps
from trueup.recipes.registry import execute


def cut(file):
    file.write_bytes(file.read_bytes()[:-8])


def flip(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 0x10
    file.write_bytes(data)


def empty(file):
    file.write_bytes(b"")


def of_other_sequences(file):
    keep_logps(file, kept_logps(file, 24)[:5])


@pytest.mark.parametrize("harm", [cut, flip, empty, of_other_sequences])
def test_damaged_reference_log_probs_are_computed_again(harm, material, tmp_path, caplog):
    config = config_of("dpo", material, epochs=1)
    whole = digest(execute("dpo", config, tmp_path / "whole", quiet=True))
    (kept,) = (tmp_path / "whole" / "cache").iterdir()
    before = kept.read_bytes()
    harm(kept)
    (tmp_path / "other" / "cache").mkdir(parents=True)
    (tmp_path / "other" / "cache" / kept.name).write_bytes(kept.read_bytes())
    (tmp_path / "other" / ".lock").touch()
    assert digest(execute("dpo", config, tmp_path / "other", quiet=True)) == whole
    assert "is damaged: the reference's log-probs are computed again" in caplog.text
    assert (tmp_path / "other" / "cache" / kept.name).read_bytes() == before
