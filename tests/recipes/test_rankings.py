"""Plackett-Luce: whole rankings train a reward model; over two responses it is Bradley-Terry."""

import json
import math

import pytest

from tests.golden import ANIMALS, prompt
from tests.recipes.test_recipes import config_of
from trueup.commands.life import trace
from trueup.data.read import read_pairs
from trueup.errors import ConfigError, DataError
from trueup.ledger import metric_rows, read_run
from trueup.recipes.registry import execute, resolve

ANSWERS = ["The {} likes warm milk and a nap.", "The {} likes milk.", "Milk.", "No idea, go away {}."]


def ranked(path, ranks=(1, 2, 3, 4), answers=ANSWERS, **more):
    """A file of rankings, one for each animal; ``ranks`` as a list or by animal."""
    rows = [
        {
            "prompt": prompt(animal),
            "responses": [answer.format(animal) for answer in answers],
            "ranks": list(ranks(number) if callable(ranks) else ranks),
            **more,
        }
        for number, animal in enumerate(ANIMALS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def reward(material, data, out, kind="plackett-luce", validation=True, **changes):
    config = config_of("reward", material, objective__kind=kind, **changes)
    config = config.model_copy(update={"data": data, "validation": data if validation else None})
    return execute("reward", config, out, quiet=True)


def rows_of(out, name="pairs.jsonl"):
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def test_rankings_of_four_train_a_model_that_orders_them(material, tmp_path):
    data = ranked(tmp_path / "r.jsonl")
    out = reward(material, data, tmp_path / "r", epochs=12)
    rows = metric_rows(out)
    assert rows[-1]["heldout_accuracy"] > 0.9
    assert rows[-1]["heldout_loss"] < math.log(24) / 2  # a model that knows nothing gives each of 4! orders the same
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert read_run(out)["facts"]["render"]["kept"] == 12
    assert read_run(out)["facts"]["reward_std"] > 0


def test_the_loss_of_a_step_is_that_of_its_rewards(material, tmp_path):
    data = ranked(tmp_path / "r.jsonl", weight=2.0)
    out = reward(material, data, tmp_path / "r", epochs=1, batch__size=12, centre=0.0)
    (metrics,) = metric_rows(out)
    pairs = {row["pair_id"]: row for row in rows_of(out)}
    assert len(pairs) == 12 * 6 == len(metrics["ids"])
    total = 0.0
    keys = {(p.prompt[-1].content, p.chosen, p.rejected): p.key for p in read_pairs(data).items}
    for animal in ANIMALS:
        texts = [answer.format(animal) for answer in ANSWERS]
        asked = prompt(animal)[0]["content"]
        scores = [pairs[keys[asked, texts[0], texts[1]]]["chosen_reward"]]
        scores += [pairs[keys[asked, texts[0], text]]["rejected_reward"] for text in texts[1:]]
        total -= sum(s - math.log(sum(map(math.exp, scores[place:]))) for place, s in enumerate(scores))
    assert metrics["loss"] == pytest.approx(total / 12, rel=1e-5)


@pytest.mark.parametrize("centre", [0.0, 0.01])
def test_over_two_responses_it_is_bradley_terry(centre, material, tmp_path):
    data = ranked(tmp_path / "r.jsonl", (1, 2), ANSWERS[::3])
    changes = {"epochs": 2, "centre": centre, "batch__pool": 1}
    one = metric_rows(reward(material, data, tmp_path / "pl", **changes))
    two = metric_rows(reward(material, data, tmp_path / "bt", kind="bradley-terry", **changes))
    assert len(one) == len(two) > 2
    for a, b in zip(one, two, strict=True):
        assert set(a) == set(b)
        assert sorted(a["ids"]) == sorted(b["ids"])
        for name in set(a) - {"ids"}:
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-5), name


def test_tied_responses_make_no_pair_and_rankings_that_are_all_ties_are_left_out(material, tmp_path):
    data = ranked(tmp_path / "r.jsonl", lambda n: (1, 1, 1, 1) if n == 3 else (1, 2, 2, 3))
    out = reward(material, data, tmp_path / "r", epochs=1, batch__size=12)
    (metrics,) = metric_rows(out)
    assert len(metrics["ids"]) == 11 * 5
    read = read_run(out)["facts"]["read"]
    assert read["items"] == 11
    assert read["left_out"]["a ranking in which all responses are tied"]["count"] == 1


def test_a_pair_of_a_ranking_is_traced_through_the_run(material, tmp_path):
    data = ranked(tmp_path / "r.jsonl")
    out = reward(material, data, tmp_path / "r", epochs=3)
    pair = read_pairs(data).items[7]
    steps = trace(pair.key[:12], [out]).runs[str(out)]
    assert len(steps) == 3
    assert all(step.margin == pytest.approx(step.chosen_reward - step.rejected_reward) for step in steps)


def test_what_holds_no_ranking_is_refused(material, tmp_path):
    with pytest.raises(DataError, match=r"no known format of rankings[\s\S]*objective\.kind=bradley-terry"):
        reward(material, material["pairs"], tmp_path / "pairs")
    with pytest.raises(DataError, match="none of its 12 rows gives rankings"):
        reward(material, ranked(tmp_path / "t.jsonl", (1, 1, 1, 1)), tmp_path / "tied")
    flags = {"data": "r.jsonl", "model.name": "m"}
    with pytest.raises(ConfigError, match="a ranking has none"):
        resolve("reward", None, flags, ["objective.kind=plackett-luce", "margin=0.5"])


def test_the_same_tokens_twice_are_one_response_if_they_are_tied_and_no_ranking_if_not(material, tmp_path):
    twice = [*ANSWERS[:3], ANSWERS[2]]
    out = reward(
        material, ranked(tmp_path / "t.jsonl", (1, 2, 3, 3), twice), tmp_path / "tied", epochs=1, batch__size=12
    )
    assert len(metric_rows(out)[0]["ids"]) == 12 * 3
    with pytest.raises(DataError, match="same tokens"):
        reward(material, ranked(tmp_path / "u.jsonl", (1, 2, 3, 4), twice), tmp_path / "apart")
