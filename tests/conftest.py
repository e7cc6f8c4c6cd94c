"""Shared fixtures: tiny models that open in a fraction of a second."""

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from trueup.config import Model, Tiny
from trueup.models.policy import Policy, open_policy

TEXTS = [
    "The capital of France is Paris. Happy to help you with that.",
    "I am sorry, but I cannot help with breaking into a house.",
    "Water boils at one hundred degrees, and ice melts at zero.",
    "Numbers such as 12, 46 or 1987 are written with digits; $5 is a price.",
] * 5


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def tiny_model(**changes) -> Model:
    """Config of a model with a few ten thousand parameters."""
    shape = {"hidden": 32, "layers": 2, "heads": 2, "vocabulary": 330, "context": 96} | changes
    return Model(name="tiny", tiny=Tiny(**shape))


@pytest.fixture
def policy() -> Policy:
    """A fresh tiny policy in float32."""
    return open_policy(tiny_model(), texts=TEXTS, seed=7)


@pytest.fixture
def policy64(policy) -> Policy:
    """The same in float64, for exactness tests."""
    policy.model.double()
    return policy


@pytest.fixture
def saved_policy(policy, tmp_path):
    """Directory of a saved tiny policy."""
    policy.export(tmp_path / "model")
    return tmp_path / "model"
