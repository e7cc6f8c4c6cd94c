"""Small real inputs for recipe tests: chat data, a saved policy and a saved reward model."""

import json

import pytest
import torch

from tests.conftest import tiny_model
from trueup.config import Model
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy

ANIMALS = ["cat", "dog", "owl", "fox", "bee", "hen", "ant", "bat", "cow", "elk", "pig", "rat"]


def prompt(animal):
    return [{"role": "user", "content": f"What does the {animal} like?"}]


def rows(kind):
    for i, animal in enumerate(ANIMALS):
        good, bad = f"The {animal} likes warm milk and a nap.", f"No idea, go away {animal}."
        if kind == "pairs":
            yield {"prompt": prompt(animal), "chosen": good, "rejected": bad, "strength": 0.9 if i % 3 else 1.0}
        elif kind == "labelled":
            yield {"prompt": prompt(animal), "completion": good if i % 2 else bad, "label": bool(i % 2)}
        elif kind == "demonstrations":
            yield {"prompt": prompt(animal), "completion": good}
        else:
            yield {"prompt": prompt(animal)}


@pytest.fixture(scope="session")
def material(tmp_path_factory):
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
