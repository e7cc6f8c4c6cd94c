"""Small real inputs for recipe tests: chat data, a saved policy and a saved reward model."""

import json
import os

import pytest
import torch

from tests.conftest import tiny_model
from tests.golden import rows
from trueup.config import Model
from trueup.kernels import door
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy

KERNELS = os.environ.get("TRUEUP_TEST_KERNELS", "auto")
"""``plain`` runs these tests once more without our kernels, as continuous integration does."""


@pytest.fixture(scope="session", autouse=True)
def _kernels():
    """Where a test says nothing of kernels, the variable does."""
    honest = door.selected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "selected", lambda value: honest(KERNELS if value == "auto" else value))
        yield


@pytest.fixture(scope="session")
def material(tmp_path_factory, _kernels):
    """Files by name, and directories of a tiny policy and reward model that fit them."""
    folder = tmp_path_factory.mktemp("material")
    found = {}
    for kind in ("pairs", "labelled", "demonstrations", "prompts"):
        file = folder / f"{kind}.jsonl"
        file.write_text("".join(json.dumps(r) + "\n" for r in rows(kind)))
        found[kind] = str(file)
    texts = [f"{r['prompt'][0]['content']} {r['completion']}" for r in rows("demonstrations")]
    torch.set_num_threads(1)
    policy = open_policy(tiny_model(), texts=texts, seed=3)
    policy.export(folder / "policy")
    found["policy"] = str(folder / "policy")
    judge = open_reward_model(Model(name=found["policy"]), new_head=True, seed=4)
    judge.export(folder / "judge")
    found["judge"] = str(folder / "judge")
    return found
