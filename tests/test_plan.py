"""``trueup plan`` takes real steps; ``trueup doctor`` says what follows from what it measured."""

import json

import pytest

from tests.conftest import TEXTS, tiny_model
from tests.models.gguf_files import write_gguf
from tests.test_commands import trueup
from trueup.commands.costs import Cost, _extrapolate, measure, plan, table
from trueup.commands.machine import advise
from trueup.commands.pipeline import Stage
from trueup.data.render import RenderedPair, pair_length
from trueup.data.write import write_jsonl
from trueup.engine.probe import StepOrder
from trueup.errors import RunError
from trueup.ledger import Run, write_json
from trueup.ledger.progress import duration
from trueup.models.policy import open_policy
from trueup.recipes.reference import needed


@pytest.fixture
def stages(tmp_path):
    texts = [
        f"The {a} {b} sees the {c}." for a in ("red", "old", "new") for b in ("cat", "dog") for c in ("sun", "sea")
    ]
    demos = write_jsonl(tmp_path / "demos.jsonl", [{"prompt": "Say:", "completion": t} for t in texts * 8])
    pairs = write_jsonl(
        tmp_path / "pairs.jsonl",
        [{"prompt": f"Say {i}:", "chosen": t, "rejected": "No."} for i, t in enumerate(texts * 8)],
    )
    tiny = {"hidden": 32, "layers": 1, "heads": 2, "vocabulary": 300, "context": 96}
    batch = {"size": 4, "max_length": 64}
    return [
        Stage("sft", "sft", {"data": str(demos), "model": {"name": "tiny", "tiny": tiny}, "batch": batch, "epochs": 1}),
        Stage(
            "dpo",
            "dpo",
            {
                "data": str(pairs),
                "validation": str(pairs),
                "model": {"name": "@sft"},
                "batch": batch,
                "evaluate_every": 10,
            },
        ),
    ]


@pytest.mark.slow
def test_a_few_steps_tell_the_steps_and_the_memory_of_the_whole(stages):
    probed, whole = measure(stages, steps=4), measure(stages, steps=10**6)
    assert [c.stage for c in probed] == ["sft", "dpo"]
    for few, every in zip(probed, whole, strict=True):
        assert few.steps == every.steps == 24
        assert abs(few.peak_gb / every.peak_gb - 1) < 0.25
        assert few.step_seconds > 0
        assert few.seconds > few.once_seconds > 0


def test_a_probe_has_the_reference_of_every_step_it_may_take(tmp_path):
    pairs = [RenderedPair(str(i), (1,), (2,) * (9 if i == 7 else 2), (3,), 1.0) for i in range(40)]
    steps = [[pair] for pair in pairs]
    with Run.start(tmp_path / "r", kind="dpo", config={"a": 1}, inputs={}, quiet=True, probe=3) as run:
        found = {int(pair.pair_id) for pair in needed(run, steps, pairs, pair_length, 10)}
        order = StepOrder(steps, run.first_step, run.probe)
        assert found >= {*order.steps, *order.others, 7}
        assert found < set(range(40))


def test_each_cost_of_a_run_is_told_apart_and_counted_as_often_as_it_will_occur(tmp_path):
    """101 steps of 2 s, 11 held-out passes of 3 s, 6 checkpoints of 1 s, kernels 10 s, reference 40 s, start 5 s."""
    config = {"validation": "held-out.jsonl", "evaluate_every": 10, "save_every": 20}
    facts = {"steps": 101, "reference_tokens": 4_000}
    record = {"kind": "dpo", "config": config, "inputs": {}, "status": "done", "facts": facts}
    write_json(tmp_path / "run.json", record)
    taken = [0, 20, 33, 40, 60, 80, 0, 20, 33, 40, 60, 80, 100]
    rows, seen = [], set()
    for step in taken:
        seconds = 9.0 if step == 33 else 2.0
        seconds += 3.0 if step == 100 else 0.0
        seconds += 10.0 if step == 0 and step not in seen else 0.0
        seen.add(step)
        rows.append({"step": step, "seconds": seconds})
    write_jsonl(tmp_path / "timing.jsonl", rows)
    events = [{"event": "saved", "step": 101, "seconds": 1.0}, {"event": "reference", "tokens": 400, "seconds": 4.0}]
    write_jsonl(tmp_path / "events.jsonl", events)
    wall = 5.0 + sum(row["seconds"] for row in rows) + 1.0 + 4.0
    found = _extrapolate(Stage("dpo", "dpo", {}), tmp_path, 6, wall, 1.5)
    assert (found.steps, found.step_seconds, found.peak_gb) == (101, 2.0, 1.5)
    assert found.once_seconds == pytest.approx(5 + 11 * 3 + 6 * 1 + 10 + 40)


@pytest.mark.slow
def test_a_stage_that_cannot_run_is_found_now(stages):
    broken = Stage("dpo", "dpo", stages[1].settings | {"data": "absent.jsonl"})
    with pytest.raises(RunError, match=r"(?s)stage dpo.*absent\.jsonl"):
        measure([stages[0], broken], steps=3)


def test_the_table_sums_times_and_takes_the_highest_memory():
    costs = [Cost("sft", "sft", 10, 0.5, 5.0, 1.0), Cost("ppo", "ppo", 3600, 1.0, 60.0, 2.5)]
    shown = table(costs).splitlines()
    assert shown[-1].split() == ["all", "1:01:10", "2.5", "GB"]
    assert duration(249.6) == "4:10"


@pytest.mark.slow
def test_doctor_measures_and_advises():
    found = json.loads(trueup("doctor", "--json").stdout)
    assert found["float32_gflops"] > 0.1
    assert found["bfloat16_gflops"] > 0
    assert found["copy_gb_per_s"] > 0
    assert found["cores"] >= 1
    assert "matrix products" in trueup("doctor").stdout


def test_advice_follows_from_the_facts():
    fast = " ".join(advise(cores=4, threads=4, memory_gb=32.0, ratio=6.0, gpus=False))
    slow = " ".join(advise(cores=4, threads=1, memory_gb=None, ratio=0.4, gpus=False))
    assert "model.dtype=bfloat16" in fast
    assert "1000 million" in fast
    assert "leave model.dtype at float32" in slow
    assert "OMP_NUM_THREADS=4" in slow
    assert "GPU is here" in advise(cores=1, threads=1, memory_gb=None, ratio=1, gpus=True)[0]


@pytest.mark.slow
def test_a_recipe_file_with_a_gguf_model_is_planned_and_its_conversion_is_not_counted(tmp_path, monkeypatch, capfd):
    pytest.importorskip("gguf", reason="the package gguf reads such files: pip install 'trueup[gguf]'")
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    small = open_policy(tiny_model(hidden=64), texts=TEXTS, seed=7)
    file = write_gguf(small, tmp_path / "small.gguf", template=small.tokenizer.chat_template)
    demos = write_jsonl(tmp_path / "demos.jsonl", [{"prompt": "Say:", "completion": t} for t in TEXTS])
    (tmp_path / "recipe.yaml").write_text(
        f"stages:\n  - {{kind: sft, data: {demos}, model: {{name: {file}}}, batch: {{size: 4, max_length: 64}}}}\n"
    )
    (cost,) = plan(tmp_path / "recipe.yaml", steps=3)
    assert cost.steps == 10  # two epochs
    assert "converted in" in capfd.readouterr().err  # here, and not in the process that is measured
