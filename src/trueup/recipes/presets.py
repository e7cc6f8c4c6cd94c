"""Named settings with their sources; ``preset: name`` in a recipe file or ``--set preset=name``."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # The hyper-parameter table of the course activity (fourth seed document), for GPT-2 on one GPU. It has no row for
    # DPO, which it leaves as an extension; those numbers are of exercise 10.10 (first seed document).
    "activity-16": {
        "sft": {"optim": {"learning_rate": 2e-5}, "epochs": 3},
        "reward": {"optim": {"learning_rate": 1e-5}, "batch": {"size": 8}},
        "dpo": {
            "optim": {"learning_rate": 1e-6},
            "batch": {"size": 4},
            "epochs": 1,
            "objective": {"kind": "dpo", "beta": 0.1},
        },
        "ppo": {
            "optim": {"learning_rate": 1e-6},
            "batch": {"size": 32},
            "kl": {"kind": "fixed", "beta": 0.05},
        },
    },
    # Ziegler et al. 2019: GPT-2 124M, short continuations, KL steered to 6 nats.
    "ziegler-2019": {
        "reward": {"optim": {"learning_rate": 5e-5}, "batch": {"size": 32}, "epochs": 1},
        "ppo": {
            "optim": {"learning_rate": 1e-5},
            "batch": {"size": 512},
            "sampling": {"temperature": 0.7, "max_new_tokens": 24},
            "kl": {"kind": "adaptive", "beta": 0.15, "target": 6.0, "horizon": 10000},
            "epochs": 4,
            "lam": 0.95,
            "value_weight": 0.1,
        },
    },
    # Liu et al. 2025 (arXiv:2503.20783), what makes it Dr. GRPO; batch, length and learning rate stay yours.
    "dr-grpo": {
        "grpo": {"scale": False, "normalise": "constant", "kl": {"kind": "fixed", "beta": 0.0}},
    },
    # Yu et al. 2025 (arXiv:2503.14476), what makes it DAPO. Its buffer is 4,096 of 20,480 tokens and its penalty 1,
    # where rewards are 1 and -1; it has no other one for answers without an end.
    "dapo": {
        "grpo": {
            "clip_low": 0.2,
            "clip_high": 0.28,
            "normalise": "token",
            "resample": 4,
            "overlong_share": 0.2,
            "missing_eos_penalty": 0.0,
            "kl": {"kind": "fixed", "beta": 0.0},
            "mini_batches": 16,
        },
    },
    # Huang et al. 2024 (N+ implementation details): one learning rate for all stages, Pythia 1B and up.
    "n-plus-2024": {
        "sft": {"optim": {"learning_rate": 3e-6, "eps": 1e-5}, "epochs": 1},
        "reward": {"optim": {"learning_rate": 3e-6, "eps": 1e-5}, "batch": {"size": 64}, "epochs": 1},
        "dpo": {"optim": {"learning_rate": 3e-6, "eps": 1e-5}, "objective": {"kind": "dpo", "beta": 0.05}},
        "ppo": {
            "optim": {"learning_rate": 3e-6, "eps": 1e-5},
            "batch": {"size": 512},
            "sampling": {"temperature": 0.7, "max_new_tokens": 53},
            "kl": {"kind": "fixed", "beta": 0.05},
        },
    },
}
