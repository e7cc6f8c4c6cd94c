"""rollouts.jsonl: some answers that a step learned from, and what its updates did to each of their tokens."""

import pytest
import torch

from tests.recipes.test_recipes import config_of, digest
from trueup.ledger import metric_rows, read_lines
from trueup.recipes.registry import execute

FEW = {"steps": 3, "probes": 3, "probe_every": 2, "sampling__max_new_tokens": 6}


def trained(folder):
    return read_lines(folder / "rollouts.jsonl")[0]


def run(kind, material, out, **changes):
    return execute(kind, config_of(kind, material, **FEW | changes), out, quiet=True)


def test_answers_of_whole_groups_are_written_at_the_probe_steps_with_the_advantage_of_their_tokens(material, tmp_path):
    settings = {"batch__size": 8, "answers": 4, "kl_place": "k3"}
    out = run("rloo", material, tmp_path / "r", **settings)
    rows = trained(out)
    assert [row["step"] for row in rows] == [0] * 4 + [2] * 4  # three were asked for, and the group is whole
    for step in (0, 2):
        group = [row for row in rows if row["step"] == step]
        assert len({row["prompt"] for row in group}) == 1
        scores = [row["score"] for row in group]
        for row in group:
            others = (sum(scores) - row["score"]) / 3
            tokens = row["tokens"]
            assert tokens["advantage"] == pytest.approx([row["score"] - others] * len(tokens["text"]), abs=2e-3)
            assert len(tokens["text"]) == len(tokens["log_ratio"])
            assert row["log_ratio"] == pytest.approx(sum(tokens["log_ratio"]), abs=2e-3)
    without = run("rloo", material, tmp_path / "without", **settings | {"probes": 0})
    assert not (without / "rollouts.jsonl").exists()
    one, two = digest(out), digest(without)
    assert one.pop("rollouts.jsonl")
    assert one.pop("samples.jsonl")
    assert one == two


def test_clipping_is_the_share_of_the_passes_in_which_it_stopped_a_token(material, tmp_path):
    settings = {"batch__size": 4, "epochs": 4, "mini_batches": 1, "clip_range": 1e-4, "optim__learning_rate": 3e-3}
    out = run("ppo", material, tmp_path / "r", **settings | {"probes": 4})
    rows = [row for row in trained(out) if row["step"] == 0]
    assert len(rows) == 4
    shares = [share for row in rows for share in row["tokens"]["clipped"]]
    assert set(shares) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    fraction = metric_rows(out)[0]["clip_fraction"]
    assert fraction > 0
    assert sum(shares) / len(shares) == pytest.approx(fraction, rel=1e-3)
    mean = torch.tensor([a for row in rows for a in row["tokens"]["advantage"]]).mean()
    assert float(mean) == pytest.approx(0, abs=2e-3)  # PPO's advantages are whitened over the tokens of the step


def test_what_an_answer_is_used_as_is_its_label(material, tmp_path):
    pairs = trained(run("online-dpo", material, tmp_path / "d", batch__size=8, answers=4))
    labels = [row.get("label") for row in pairs if row["step"] == 0]
    assert sorted(filter(None, labels)) in ([], ["chosen", "rejected"])
    best = trained(run("best-of-n", material, tmp_path / "b", batch__size=8, answers=4))
    for step in (0, 2):
        group = [row for row in best if row["step"] == step]
        kept = [row["score"] for row in group if row.get("label") == "imitated"]
        assert all(score == max(row["score"] for row in group) for score in kept)
    assert any(row.get("label") for row in best + pairs)
    assert all("advantage" not in row["tokens"] for row in best + pairs)
