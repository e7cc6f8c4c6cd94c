import json

import pytest
import torch

from trueup.engine import checkpoint
from trueup.errors import CheckpointError


def write(run, step):
    return checkpoint.save(run, step, {"param/w": torch.full((3,), float(step))}, {"beta": 0.1 * step})


def test_round_trip_and_pruning(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, step)
    found = checkpoint.load(tmp_path)
    assert (found.step, found.state["beta"]) == (3, pytest.approx(0.3))
    assert found.tensors["param/w"].tolist() == [3.0] * 3
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["latest", "step-00000002", "step-00000003"]


def test_no_checkpoint_yet(tmp_path):
    assert checkpoint.load(tmp_path) is None


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest"])
def test_damage_is_named_and_the_older_one_only_suggested(tmp_path, harm):
    write(tmp_path, 1)
    folder = write(tmp_path, 2)
    file = folder / "tensors.safetensors"
    if harm == "truncate":
        file.write_bytes(file.read_bytes()[:-4])
    elif harm == "flip":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(bytes(data))
    elif harm == "remove":
        file.unlink()
    else:
        (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path)
    assert "step-00000002" in str(caught.value)
    assert "go on from step-00000001" in str(caught.value)
    (tmp_path / "checkpoints" / "latest").write_text("step-00000001")
    assert checkpoint.load(tmp_path).step == 1


def test_a_write_that_fails_leaves_the_previous_checkpoint_whole(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        write(tmp_path, 2)
    assert checkpoint.load(tmp_path).step == 1
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["latest", "step-00000001"]


def test_leftovers_of_a_killed_write_are_ignored_and_cleared(tmp_path):
    write(tmp_path, 1)
    torn = tmp_path / "checkpoints" / ".step-00000002.123.tmp"
    torn.mkdir()
    (torn / "tensors.safetensors").write_bytes(b"half")
    assert checkpoint.load(tmp_path).step == 1
    write(tmp_path, 2)
    assert not torn.exists()
    assert json.loads((tmp_path / "checkpoints" / "step-00000002" / "state.json").read_text())["step"] == 2
