"""Two processes (gloo, CPU) do what one does, for online methods beside PPO.

CISPO and GSPO differ from GRPO in the loss of a token only; the band of GSPO is so narrow that rounding decides what
is clipped.
"""

import pytest

from tests.recipes.test_processes import SHARDED, agree, launch
from tests.recipes.test_recipes import config_of

JOBS = {
    "rloo moving reference fsdp2": ("rloo", {"reset_reference_every": 2} | SHARDED),
    "grpo fsdp2": ("grpo", SHARDED),
    "reinforce-pp ddp": ("reinforce-pp", {"entropy_weight": 0.1}),
    "online-dpo fsdp2": ("online-dpo", {"batch__size": 8} | SHARDED),
    "best-of-n ddp": ("best-of-n", {"batch__size": 8}),
}


@pytest.fixture(scope="module")
def done(material, tmp_path_factory):
    """Every job by two processes, all in one launch."""
    folder = tmp_path_factory.mktemp("two")
    configs = {name: config_of(kind, material, **changes) for name, (kind, changes) in JOBS.items()}
    launch(folder, [(JOBS[name][0], config, folder / name) for name, config in configs.items()])
    return folder, configs


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.slow
def test_two_processes_give_what_one_gives(name, done, tmp_path):
    folder, configs = done
    agree(JOBS[name][0], configs[name], folder / name, tmp_path)
