"""``trueup export`` as a user meets it: what it says, what it asks before an upload, exit codes."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from trueup.commands.app import app
from trueup.errors import UsageError
from trueup.models.lineage import lineage


@pytest.fixture
def hub(monkeypatch):
    """A hub that notes what it is told; somebody is logged in."""
    import huggingface_hub

    calls = []

    class Api:
        def create_repo(self, name, **options):
            calls.append((name, options["private"]))
            return f"https://hub.example/{name}"

        def upload_folder(self, **options):
            calls.append(options["folder_path"])

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "not-a-token")
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return calls


def ask(*words, answer=None):
    return CliRunner().invoke(app, ["export", *map(str, words)], input=answer)


def test_the_help_says_what_each_form_is_for():
    text = ask("--help").output
    for word in ("vLLM", "llama.cpp", "adapter", "--push", "Nothing leaves this machine", "q8_0"):
        assert word in text


def test_it_prints_the_folder_or_json(saved_policy, tmp_path):
    assert ask(saved_policy, "--to", "hf", "--out", tmp_path / "a").output.strip().endswith(str(tmp_path / "a"))
    said = json.loads(ask(saved_policy, "--to", "hf", "--dtype", "bf16", "--out", tmp_path / "b", "--json").stdout)
    assert (said["kind"], said["uploaded"]) == ("hf", None)
    assert said["files"]["model.safetensors"] > 0


@pytest.mark.parametrize(("answer", "uploads"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_an_upload_is_shown_and_asked_for(saved_policy, tmp_path, hub, answer, uploads):
    done = ask(saved_policy, "--to", "hf", "--out", tmp_path / "out", "--push", "me/model", answer=answer)
    assert done.exit_code == 0
    assert "to upload to me/model (private if it is new)" in done.output
    assert "model.safetensors" in done.output
    assert hub == ([("me/model", True), str(tmp_path / "out")] if uploads else [])
    assert ("nothing was uploaded" in done.output) != uploads
    assert (tmp_path / "out" / "config.json").is_file()


def test_yes_and_public_are_said_in_so_many_words(saved_policy, tmp_path, hub):
    done = ask(saved_policy, "--to", "hf", "--out", tmp_path / "o", "--push", "me/model", "--yes", "--public", "--json")
    assert json.loads(done.stdout)["uploaded"] == "https://hub.example/me/model"
    assert hub[0] == ("me/model", False)


def test_where_nobody_can_answer_nothing_is_uploaded(saved_policy, tmp_path, hub):
    done = ask(saved_policy, "--to", "hf", "--out", tmp_path / "out", "--push", "me/model", answer="")
    assert isinstance(done.exception, UsageError)
    assert "--yes" in done.exception.fix
    assert hub == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere", "--to", "hf"], 2, "no such directory"),
        (["nowhere", "--to", "onnx"], 2, "onnx"),
        (["nowhere", "--to", "hf", "--yes"], 2, "only with --push"),
        (["nowhere", "--to", "hf", "--push", "me/model"], 2, "switched off"),
        (["nowhere"], 2, "--to"),
    ],
    ids=["no run", "no such form", "yes alone", "offline", "no form"],
)
def test_wrong_use_is_a_line_and_exit_code_2(words, code, message, tmp_path):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "trueup", "export", *words]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_of_the_hub_that_is_not_here_has_its_name_and_no_licence():
    base = lineage("some-group/some-model-that-is-nowhere")
    assert (base.hub, dict(base.licence), base.licence_text) == ("some-group/some-model-that-is-nowhere", {}, None)
