import json
import os
import shutil

import pytest
import torch
from torch import nn

from trueup.config import Optim
from trueup.engine import checkpoint
from trueup.engine.loop import Loop
from trueup.engine.resume import inspect_run, resume_from_checkpoint, saver
from trueup.engine.step import Stepper
from trueup.errors import CheckpointError, UsageError
from trueup.ledger import Run


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
    assert f"trueup resume {tmp_path} --from step-00000001" in str(caught.value)
    with pytest.raises(CheckpointError):
        checkpoint.select(tmp_path, "step-00000002")
    checkpoint.select(tmp_path, "step-00000001")
    assert checkpoint.load(tmp_path).step == 1


def test_a_write_that_fails_leaves_the_previous_checkpoint_whole(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="the disk is full"):
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


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"state.json": 1, "tensors.safetensors": 2}', "", "\x00"])
def test_a_manifest_that_lists_nothing_vouches_for_nothing(tmp_path, content):
    write(tmp_path, 1)
    (write(tmp_path, 2) / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match="--from step-00000001"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\xff\x00\x01", b"step-00000009", b"step-1", b"../other/step-00000002", b"/etc", b"step-00000001/..",
     b"step-00000001\nstep-00000002"],
)  # fmt: skip
def test_a_pointer_that_names_no_checkpoint_of_this_run_is_refused(tmp_path, content):
    for step in (1, 2):
        write(tmp_path, step)
    (tmp_path / "checkpoints" / "latest").write_bytes(content)
    with pytest.raises(CheckpointError, match="--from step-00000002") as caught:
        checkpoint.load(tmp_path)
    assert "latest" in str(caught.value)


def test_a_lost_pointer_means_the_newest_since_only_whole_ones_get_their_name(tmp_path):
    for step in (1, 2):
        write(tmp_path, step)
    (tmp_path / "checkpoints" / "latest").unlink()
    assert checkpoint.load(tmp_path).step == 2


def test_an_unknown_checkpoint_and_one_of_another_format_are_refused(tmp_path, monkeypatch):
    write(tmp_path, 1)
    with pytest.raises(UsageError, match="step-00000001"):
        checkpoint.select(tmp_path, "step-00000007")
    with pytest.raises(UsageError):
        checkpoint.select(tmp_path, "../checkpoints/step-00000001")
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    with pytest.raises(CheckpointError, match="format 2, this trueup reads 99"):
        checkpoint.load(tmp_path)


def test_after_going_on_from_an_older_checkpoint_the_new_one_is_kept_and_the_later_ones_go(tmp_path):
    for step in (2, 4, 6):
        checkpoint.save(tmp_path, step, {"param/w": torch.zeros(1)}, {}, keep=3)
    checkpoint.select(tmp_path, "step-00000002")
    write(tmp_path, 3)
    assert checkpoint.names(tmp_path) == ["step-00000002", "step-00000003"]
    assert checkpoint.load(tmp_path).step == 3


def test_a_full_disk_is_said_in_words_whoever_met_it(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="the disk is full; there is no earlier one"):
        write(tmp_path, 2)


# A whole run: logs and checkpoints together.


class Weights:
    """A stepper with one weight, and a plan of five steps."""

    def __init__(self):
        self.stepper = Stepper({"w": nn.Parameter(torch.zeros(2))}, Optim(), total=5)

    def train(self, path, until=None, **options):
        with Run.start(path, kind="dpo", config={"beta": 0.1}, inputs={}, quiet=True) as run:
            for name, value in options.items():
                setattr(run, name, value)
            resume_from_checkpoint(run, self.stepper)
            for step, _ in Loop(run, range(5), save=saver(run, self.stepper), save_every=2):
                self.stepper.accumulate(self.stepper.parameters["w"].square().sum() + step, count=1)
                run.log(step, self.stepper.step())
                run.pair(step, f"pair-{step}", 0.1, 0.2)
                if step + 1 == until:
                    break


@pytest.fixture
def half(tmp_path):
    """A run that was cut off in its last step, with checkpoints at 2 and 4; and the bytes of its metrics."""
    Weights().train(tmp_path / "r", until=5)
    return tmp_path / "r", (tmp_path / "r" / "metrics.jsonl").read_bytes()


def test_logs_are_durable_before_the_checkpoint_that_counts_on_them(tmp_path, monkeypatch):
    order = []
    sync, rename, replace = os.fsync, os.rename, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (order.append(f"rename {b}"), rename(a, b)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(f"replace {b}"), replace(a, b)))
    Weights().train(tmp_path / "r", until=3)
    run = tmp_path / "r"
    named = [entry.replace(f"{run}/", "") for entry in order]
    tensors = next(i for i, entry in enumerate(named) if entry.endswith("tensors.safetensors"))
    whole = named.index("rename checkpoints/step-00000002")
    last = named.index("replace checkpoints/latest")
    assert max(named.index("metrics.jsonl"), named.index("pairs.jsonl")) < tensors < whole < last
    assert "checkpoints" in named[whole:last]  # the folder, so that the name is there before latest says it
    assert str(run) in named[named.index("metrics.jsonl") : tensors]  # and the folder that names the logs


def test_a_log_that_lost_its_end_falls_back_only_when_asked_and_then_to_the_same_bytes(half, tmp_path):
    run, _ = half
    Weights().train(tmp_path / "straight")
    lines = (run / "pairs.jsonl").read_bytes().splitlines(keepends=True)
    (run / "pairs.jsonl").write_bytes(b"".join(lines[:3]))
    with pytest.raises(CheckpointError, match=r"pairs\.jsonl: only") as caught:
        Weights().train(run)
    assert f"trueup resume {run} --from step-00000002" in str(caught.value)
    assert "--accept-damaged-logs" in str(caught.value)
    checkpoint.select(run, "step-00000002")
    Weights().train(run)
    for name in ("metrics.jsonl", "pairs.jsonl"):
        assert (run / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert inspect_run(run).problem is None


def test_a_changed_digit_stops_the_resume_unless_it_is_accepted(half):
    run, straight = half
    (run / "metrics.jsonl").write_bytes(straight.replace(b'"loss": 1', b'"loss": 7', 1))
    state = inspect_run(run)
    assert "bytes were changed" in state.problem
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl"):
        Weights().train(run)
    Weights().train(run, accept_damage=True)
    assert inspect_run(run).problem is None


def test_a_checkpoint_of_another_run_and_a_forged_state_are_refused(half, tmp_path):
    run, _ = half
    other = tmp_path / "other"
    with Run.start(other, kind="dpo", config={"beta": 0.9}, inputs={}, quiet=True):
        pass
    shutil.rmtree(other / "checkpoints", ignore_errors=True)
    shutil.copytree(run / "checkpoints", other / "checkpoints")
    with (
        Run.start(other, kind="dpo", config={"beta": 0.9}, inputs={}, quiet=True) as wrong,
        pytest.raises(CheckpointError, match="belongs to another run"),
    ):
        resume_from_checkpoint(wrong, Weights().stepper)


@pytest.mark.parametrize("missing", ["stepper", "positions", "run"])
def test_a_state_with_right_hashes_and_wrong_content_is_an_error_of_ours(half, missing):
    run, _ = half
    folder = run / "checkpoints" / checkpoint.latest(run)
    state = json.loads((folder / "state.json").read_text())
    state[missing] = []
    (folder / "state.json").write_text(json.dumps(state))
    manifest = {name: checkpoint._sha256(folder / name) for name in ("tensors.safetensors", "state.json")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError):
        Weights().train(run)
    assert inspect_run(run).problem is not None or missing == "stepper"


def test_checkpoints_that_vanished_are_not_a_new_run(half):
    run, straight = half
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match="4 steps of this run were saved"):
        Weights().train(run)
    assert (run / "metrics.jsonl").read_bytes() == straight


def test_examine_says_what_is_whole_and_what_is_not(half):
    run, _ = half
    state = inspect_run(run)
    assert (state.problem, state.latest) == (None, "step-00000004")
    assert [one.name for one in state.checkpoints] == ["step-00000002", "step-00000004"]
    (run / "checkpoints/step-00000004/manifest.json").write_text("{}")
    state = inspect_run(run)
    assert "manifest" in state.problem
    assert state.fix == f"go on from step-00000002: trueup resume {run} --from step-00000002"
    assert "step-00000004 (latest): manifest.json" in state.format_text()
    assert json.loads(json.dumps(state.to_dict()))["status"] == "done"
