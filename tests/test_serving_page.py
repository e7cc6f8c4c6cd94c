"""The Python blocks of docs/serving.md run in their order, and its commands are ours or marked as not run here."""

import re
import shutil
from pathlib import Path

import pytest

from trueup.ledger import write_json

PAGE = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_blocks_of_the_page_run(saved_policy, tmp_path, monkeypatch, capsys):
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    pytest.importorskip("xllamacpp", reason="xllamacpp (llama.cpp) is not installed")
    shutil.copytree(saved_policy, tmp_path / "runs" / "dpo" / "final")
    write_json(tmp_path / "runs" / "dpo" / "run.json", {"kind": "dpo", "config": {}, "inputs": {}, "status": "done"})
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S):
        exec(compile(block, "serving.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert "export/gguf-f32" in lines[0]
    assert lines[1].startswith("<|user|>What does the cat like?<|assistant|>")


def test_a_program_that_is_not_ours_is_marked_where_nobody_ran_it():
    for part in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        title, _, text = part.partition("\n")
        for command in re.findall(r"^(llama-server|vllm|ollama|lm_eval) ", text, re.M):
            assert "not run here" in text.lower(), f"{title}: {command}"
