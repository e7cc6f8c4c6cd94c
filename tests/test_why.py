"""Which judgments pushed an answer: estimates against gradients of autograd, and what the command says of people."""

import json
import shutil

import pytest
import torch

from tests.recipes.conftest import _kernels, material  # noqa: F401
from tests.recipes.test_recipes import config_of
from tests.test_commands import trueup
from tests.test_trace import world  # noqa: F401
from trueup.commands.causes import explanation, format_text
from trueup.commands.influences import BLOCKS, Query, explain, influences, products
from trueup.data.batch import Rows
from trueup.engine.influence import gradient, linear_layers, visits
from trueup.engine.score import raw_rewards, score
from trueup.errors import DataError, RunError, UsageError
from trueup.ledger import metric_rows
from trueup.models.heads import RewardModel
from trueup.recipes.lessons import open_lessons, points, put, step_rates
from trueup.recipes.registry import execute

ASKED, GOOD, BAD = "What does the cat like?", "The cat likes warm milk and a nap.", "No idea, go away cat."


@pytest.fixture(scope="module")
def runs(world, material, tmp_path_factory):  # noqa: F811
    """One run of each kind that can be followed, by kind, and the feedback store."""
    db, (reward, dpo), _ = world
    sft = execute("sft", config_of("sft", material), tmp_path_factory.mktemp("why") / "sft", quiet=True)
    return {"reward": reward, "dpo": dpo, "sft": sft}, db


@pytest.mark.parametrize("kind", ["reward", "dpo", "sft"])
def test_estimates_are_sums_of_inner_products_that_autograd_gives(kind, runs):
    lessons = open_lessons(runs[0][kind])
    lessons.model.model.double()
    queries = [Query(ASKED, GOOD), Query(ASKED, BAD, -0.5)]
    done = influences(lessons, queries, blocks=99)
    model, config = lessons.model, lessons.config
    layers = linear_layers(model.model, lessons.learned)
    weights = {name: p for name, p in model.model.named_parameters() if name in lessons.learned}
    chosen = {
        name
        for name, p in weights.items()
        if any(p is q for layer in layers.values() for q in layer.parameters(recurse=False))
    }
    examples, plan = list(lessons.data.examples), lessons.data.plan
    rates = step_rates(lessons)
    kept = points(lessons)
    assert next(point.name for point in kept) == "start"
    assert len(kept) == 3
    wanted = torch.zeros(len(examples), dtype=torch.float64)
    for number, point in enumerate(kept):
        put(lessons, point)
        used = [weights[name] for name in chosen]
        model.model.requires_grad_(True)
        tied = model.model.get_input_embeddings()  # its use as an embedding does not count
        hook = (
            tied.register_forward_hook(lambda _, __, out: out.detach()) if not isinstance(model, RewardModel) else None
        )

        def rows_of(query):
            message = lessons.data.renderer.render(_chat(query.prompt), query.answer)
            return Rows.of([(message.prompt_ids, message.completion_ids)])

        def measure(query):
            rows = rows_of(query)
            value = raw_rewards(model, rows) if kind == "reward" else score(model, rows).sum_B
            return query.sign * value.sum()

        grads = torch.autograd.grad(sum(map(measure, queries)), used, allow_unused=True)
        moments = [point.moments[name].double() / (1 - config.optim.betas[1] ** point.moments_step) for name in chosen]
        steps = [g / (v.sqrt() + config.optim.eps) for g, v in zip(grads, moments, strict=True)]
        for i, example in enumerate(examples):
            near = [
                rate
                for step, rate in rates.items()
                if example in plan[step]
                and number == min(range(len(kept)), key=lambda k: abs(kept[k].step - step - 0.5))
            ]
            own = torch.autograd.grad(lessons.losses([example]).sum(), used, allow_unused=True)
            wanted[i] -= sum(near) * float(sum((g * s).sum() for g, s in zip(own, steps, strict=True)))
        if hook is not None:
            hook.remove()
    torch.testing.assert_close(done.values_E, wanted, rtol=1e-6, atol=1e-10)
    assert float(done.shares_E.abs().sum()) == pytest.approx(1)


def _chat(text):
    from trueup.types import Message

    return (Message("user", text),)


def test_rates_are_those_of_the_steps(runs):
    run = runs[0]["dpo"]
    lessons = open_lessons(run)
    rates = step_rates(lessons)
    for row in metric_rows(run):
        clipped = min(1, lessons.config.optim.max_grad_norm / row["grad_norm"])
        assert rates[row["step"]] == pytest.approx(row["learning_rate"] * clipped / 4)


def test_losses_are_those_of_training(runs):
    for kind, run in runs[0].items():
        lessons = open_lessons(run)
        put(lessons, points(lessons)[0])
        first = metric_rows(run)[0]
        batch = lessons.data.plan[0]
        loss = float(lessons.losses(batch).sum()) / sum(map(lessons.weight, batch))
        assert loss == pytest.approx(first["loss"], rel=1e-4), kind


def test_a_fitted_head_is_where_the_run_starts(material, tmp_path):  # noqa: F811
    out = execute("reward", config_of("reward", material, head="fit"), tmp_path / "fit", quiet=True)
    test_losses_are_those_of_training(({"reward": out}, None))


def test_shares_of_a_batch_sum_to_its_gradient(runs):
    lessons = open_lessons(runs[0]["dpo"])
    layers = linear_layers(lessons.model.model, lessons.learned, 1)
    batch = lessons.data.plan[0]
    whole = gradient(visits(layers, lambda: lessons.losses(batch).sum()), layers)
    square = sum(float((g.weight_OI**2).sum()) for g in whole.values())
    assert float(products(lessons, layers, batch, whole).sum()) == pytest.approx(square, rel=1e-3)


def test_the_people_behind_an_answer_are_named(runs):
    by_kind, db = runs
    done = explain(by_kind["dpo"], [ASKED], [GOOD], [BAD])
    said = explanation("runs/dpo", done, top=3, db=db)
    assert said.change > 0
    assert said.estimate > 0
    assert said.towards[0].value == pytest.approx(float(done.values_E.max()))
    assert [voice.verdict for voice in said.towards[0].voices] == ["tie", "chosen", "chosen"]
    assert sum(person.value for person in said.people) == pytest.approx(said.estimate)
    assert {person.pairs for person in said.people} == {12}
    text = format_text(said)
    for words in (
        f"why {GOOD!r}",
        "rather than",
        "towards it:",
        "said chosen",
        "by annotator",
        f"last {BLOCKS} blocks",
    ):
        assert words in text


def test_the_command_answers_in_words_and_in_json_from_anywhere(runs, tmp_path):
    by_kind, db = runs
    spoken = trueup("why", by_kind["sft"], "--prompt", ASKED, "--answer", GOOD, "--top", 2, cwd=tmp_path)
    assert "shown:    The" in spoken.stdout
    assert "who judged: give the feedback store with --db" in spoken.stdout
    own = trueup("why", by_kind["dpo"], "--prompt", ASKED, "--db", db, "--json", cwd=tmp_path)
    parsed = json.loads(own.stdout)
    assert parsed["questions"][0][0] == ASKED
    assert parsed["examples"] == 12
    assert parsed["missing"] == []


def test_ppo_is_explained_by_the_reward_model_that_it_followed(world, runs, material, tmp_path):  # noqa: F811
    config = config_of("ppo", {**material, "judge": str(runs[0]["reward"] / "final")}, steps=1)
    ppo = execute("ppo", config, tmp_path / "ppo", quiet=True)
    done = explain(ppo, [ASKED])
    said = explanation(str(ppo), done)
    assert said.taught_by == str(runs[0]["reward"])
    assert said.unit == "reward"
    assert "what follows is about its reward" in format_text(said)
    judge = config_of("ppo", material, steps=1)  # a reward model without a run
    with pytest.raises(UsageError, match="is no run of"):
        explain(execute("ppo", judge, tmp_path / "other", quiet=True), [ASKED])


def test_what_cannot_be_answered_is_said(runs, material, tmp_path):  # noqa: F811
    by_kind, _ = runs
    with pytest.raises(UsageError, match="no prompt"):
        explain(by_kind["dpo"], [])
    with pytest.raises(UsageError, match="2 prompts and 3 answers"):
        explain(by_kind["dpo"], ["a", "b"], ["c", "d", "e"])
    with pytest.raises(UsageError, match="gives no answers"):
        explain(by_kind["reward"], [ASKED])
    kto = execute("kto", config_of("kto", material, epochs=1), tmp_path / "kto", quiet=True)
    with pytest.raises(UsageError, match="a run of kto"):
        explain(kto, [ASKED])
    with pytest.raises(DataError, match="data is not what the run was trained on"):
        explain(by_kind["dpo"], [ASKED], data=material["pairs"])
    record = json.loads((by_kind["dpo"] / "run.json").read_text())
    record["inputs"]["model.name"] = "0" * 16
    other = tmp_path / "other"
    shutil.copytree(by_kind["dpo"], other)
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"model\.name is not what the run was trained on"):
        explain(other, [ASKED])
    bare = tmp_path / "bare"
    shutil.copytree(by_kind["dpo"], bare)
    shutil.rmtree(bare / "checkpoints")
    with pytest.raises(RunError, match="no checkpoint is left"):
        explain(bare, [ASKED], [GOOD])


def test_adapters_are_followed_by_their_own_weights(world, runs, material, tmp_path):  # noqa: F811
    rows = {**material, "pairs": str(open_lessons(runs[0]["dpo"]).config.data)}
    config = config_of("dpo", rows, epochs=2, model__lora__rank=2)
    run = execute("dpo", config, tmp_path / "lora", quiet=True)
    done = explain(run, [ASKED], [GOOD], [BAD])
    layers = linear_layers(done.lessons.model.model, done.lessons.learned)
    assert all("lora_" in name for name in layers)
    assert float(done.values_E.abs().sum()) > 0
    assert done.change > 0
