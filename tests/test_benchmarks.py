"""The benchmarks' own road, on a model that is too small to say anything about speed."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import explorer_scale, page, peers, rollout_simulation, sampling, sandbox, speed_page, speed_smollm2
from benchmarks.explorer_runs import SMALL, make_runs, metric_names

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_gpu_comparison_runs_through_on_a_cpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--size", "tiny", "--device", "cpu", "--sides", "trueup"]
    command += ["--rounds", "1", "--steps", "2", "--batch", "4"]
    command += ["--out", str(tmp_path / "work"), "--results", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(found["jobs"]) == {"dpo-bf16", "sft-bf16"}
    for row in found["jobs"].values():
        assert len(row["trueup"]["losses"]) == 2
        assert row["trueup"]["seconds"] > 0
    assert found["jobs"]["dpo-bf16"]["trueup"]["losses"][0] == pytest.approx(0.6931, abs=2e-3)
    assert "| dpo-bf16 | trueup |" in done.stdout


def test_comparisons_of_two_things_stop():
    runs = {"trueup": [{"losses": [0.69, 0.60]}], "trl": [{"losses": [0.69, 0.70]}]}
    with pytest.raises(SystemExit, match="two things"):
        peers.same_losses("dpo-bf16", runs)
    with pytest.raises(SystemExit, match="two things"):
        peers._same_work("dpo-bf16", runs)
    lengths = {"trueup": [{"losses": [], "lengths": [32.0]}], "trl": [{"losses": [], "lengths": [31.0]}]}
    with pytest.raises(SystemExit, match="differ in length"):
        peers._same_work("rlhf-tiny", lengths)


def test_the_speed_page_is_that_of_the_results(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert (ROOT / "docs" / "speed.md").read_text(encoding="utf-8") == speed_page.page()


def test_the_latest_row_of_each_kind_of_machine_stands():
    slow, noisy, fast = ({"processor": "one", "gflops_bf16": rate} for rate in (430.0, 500.0, 1000.0))
    other = {"processor": "other", "gflops_bf16": 450.0}
    rows = []
    for job, machine in (("dpo-fp32", slow), ("dpo-bf16", fast), ("dpo-bf16", slow), ("dpo-bf16", other)):
        rows = peers.with_row(rows, {"job": job, "machine": machine})
    assert [row["machine"] for row in rows] == [slow, other, fast, slow]
    assert [row["job"] for row in rows] == ["dpo-bf16", "dpo-bf16", "dpo-bf16", "dpo-fp32"]
    rows = peers.with_row(rows, {"job": "dpo-bf16", "machine": noisy})
    assert [row["machine"] for row in rows] == [other, noisy, fast, slow]
    assert peers.kinds({"rows": rows}) == [[other], [noisy, slow], [fast]]
    assert [peers.letter({"rows": rows}, row) for row in rows] == ["A", "B", "C", "B"]


def test_a_target_that_is_missed_is_called_so(monkeypatch):
    sides = {
        "trueup": {"rate": 5.0, "rate_whole": 5.0, "seconds_a_step": 2.0, "peak_gb": 4.0},
        "trl": {"rate": 2.0, "peak_gb": 5.0},
        "trl-best": {"rate": 2.5, "peak_gb": 9.0},
    }
    machine = {"processor": "one", "gflops_bf16": 400.0}
    found = {
        "rows": [{"job": "reward-bf16", "sides": sides, "machine": machine}],
        "workload": {"flop": {"reward": 4e11}},
    }
    line = speed_page._verdict(found).splitlines()[-1]
    assert "2.5x, 2.0x over best, memory 0.80x" in line
    assert "**no**: speed, at 50% of the matrix rate; memory, of which 50% must be held" in line
    sides["trueup"] |= {"rate": 8.0, "rate_whole": 8.0, "peak_gb": 2.5}
    assert speed_page._verdict(found).endswith("| yes |")


def test_greedy_tokens_agree_up_to_the_first_difference_or_our_end():
    assert sampling.agreement([[5, 6, 7, 8]], [[5, 6, 9, 8]]) == 0.5
    assert sampling.agreement([[5, 6, 7, 8], [5, sampling.END, 7, 8]], [[5, 6, 7, 9], [5, 3, 3, 3]]) == 0.8
    runs = {side: [{"losses": [], "tokens": [[5, 6, 7, 8]], "lengths": [4]}] for side in ("trueup", "llama.cpp")}
    peers._same_work("sample-smollm2-greedy", runs)
    runs["llama.cpp"][0]["tokens"] = [[5, 4, 4, 4]]
    with pytest.raises(SystemExit, match="25% of llama\\.cpp's greedy"):
        peers._same_work("sample-smollm2-greedy", runs)


def real_row(job, **rates):
    """A row of a sampling or training job of SmolLM2, as ``peers.compare`` writes it."""
    machine = {"processor": "one", "cores": 2, "gflops_bf16": 900.0, "copy_gb_per_s": 27.0}
    machine |= {"read_gb_per_s": 30.0, "reread_gb_per_s": 60.0} | dict.fromkeys(speed_smollm2.PACKAGES, "1.0")
    sides = {}
    for side, rate in rates.items():
        run = {"seconds": [0.0, 1 / rate, 1 / rate], "once_seconds": 0.0, "losses": [], "peak_gb": 1.0, "lengths": []}
        more = {"first_seconds": 0.0, "shared_seconds": 0.0, "tokens": [[5]] if "greedy" in job else []}
        sides[side] = peers._summary(job, [run | (more if job.startswith("sample") else {})])
    return {"job": job, "revision": "abc", "machine": machine, "sides": sides}


def test_the_section_on_smollm2_says_what_was_reached_and_what_is_missing():
    assert speed_smollm2.section(None) == ""
    assert speed_smollm2.section({"rows": []}) == ""
    names = ("mean_prompt_tokens", "mean_chosen_tokens", "mean_rejected_tokens", "asked_tokens")
    work = dict.fromkeys(names, 50.0) | {"weights": 135_000_000, "new": 64, "source": "sandbox"}
    rows = [
        real_row("dpo-smollm2", **{"trueup": 0.25, "trl": 0.02, "trl-best": 0.03}),  # steps a second, 8 pairs each
        real_row("sample-smollm2-1", trueup=90 / 63, generate=0.5),
        real_row("sample-smollm2-32", **{"trueup": 3.2, "llama.cpp": 1.0, "llama.cpp-f16": 2.0}),
    ]
    text = speed_smollm2.section({"workload": work, "rows": rows})
    assert "| dpo-smollm2 | A | 2.00 pairs/s | 0.16 | 12.5 |" in text
    assert "1,000 pairs of DPO on A: 8.3 minutes (sought: at most 15): yes." in text
    assert "| 90%: 90 tokens/s of 0.27 GB each, where a copy moves 27 GB/s" in text
    assert "| >= 1.5x the faster rival | 1.60x llama.cpp-f16; vLLM was not there | yes |" in text
    assert (
        "Not measured yet: dpo-smollm2-fp32, reward-smollm2, sft-smollm2, sample-smollm2-8, sample-smollm2-greedy."
        in text
    )
    rows[2] = real_row("sample-smollm2-32", **{"trueup": 3.2, "llama.cpp": 1.0, "vllm": 4.0})
    assert "| 0.80x vllm | **no** |" in speed_smollm2.section({"workload": work, "rows": rows})


def test_goals_of_the_sandbox_are_known_reached_or_missed():
    def span(estimate, low=None, high=None):
        return {"estimate": estimate, "low": low, "high": high}

    def row(words, learned=0.9, inside=True, natural=(-0.1, 0.1), share=0.6):
        leads = {"length alone": span(0.2, 0.18, 0.22), "a bag of words": words}
        skill = {
            "accuracy": span(0.76),
            "ceiling": span(0.8),
            "learned": span(learned),
            "baselines": {"a bag of words": span(0.5 + share * 0.3)},
            "leads": leads,
        }
        wins = dict.fromkeys(("ppo", "dpo"), span(0.8, 0.75, 0.85))
        kl = {"mean": 6.05, "end": 8.0, "slope": None, "moving": True, "inside": inside}
        four = ("base", "sft", "ppo", "dpo")
        gold = dict.fromkeys(four, span(0.5))
        formed = {"mean": dict.fromkeys(four, 0.9), "over_sft": dict.fromkeys(("dpo", "ppo"), span(0.0, -0.01, 0.01))}
        english = {"mean": dict.fromkeys(four, -3.0), "over_sft": dict.fromkeys(("dpo", "ppo"), span(0.0, *natural))}
        one = {"seed": 4, "skill": skill, "win_rate": wins, "kl": kl, "gold": gold, "seconds": 1.0}
        return one | {"well_formed": formed, "english": english, "peak_memory_gb": 1.0}

    good = row(span(0.03, 0.01, 0.05))
    assert set(sandbox.goals(good).values()) == {True}
    assert page._reached([good]) == "All reached."
    close = row(span(0.01, -0.01, 0.03), learned=0.8, inside=False, natural=(-0.3, -0.1), share=0.61)
    assert page._reached([close]) == (
        "Missed: seed 4: learned share, share of words, ahead of length and words, natural English, KL."
    )
    unknown = row(span(0.03, 0.01, 0.05), inside=None) | {"english": None}
    assert page._reached([unknown]).startswith("Not known")
    assert "+0.030 (+0.010 to +0.050)" in sandbox.table([good])
    assert "6.05, 8.00, moving" in sandbox.table([good])
    assert "-3.000" in sandbox.language_table([good])
    assert "model of English" not in sandbox.language_table([unknown])


def test_the_results_page_states_the_goals_of_the_stored_figures(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page._sandbox() in text


def test_servers_are_simulated_as_can_be_reckoned():
    even = rollout_simulation.Setup(
        servers=1,
        batch=8,
        tokens=100.0,
        spread=1e-9,
        longest=1e9,
        rate=50.0,
        half=0.0,
        slots=64,
        train=20.0,
        transfer=3.0,
    )
    generate = 8 * 100 / 50
    turns = rollout_simulation.simulate(even)
    assert turns["seconds"] == pytest.approx(generate + 20 + 3)
    assert turns["staleness_max"] == 0
    both = rollout_simulation.simulate(replace(even, staleness=1, steps=40))
    assert both["seconds"] == pytest.approx(max(generate + 3, 20), rel=0.1)  # servers stand still for the transfer
    assert 0 < both["staleness_max"] <= 1
    assert rollout_simulation.simulate(replace(even, servers=4))["seconds"] == pytest.approx(generate / 4 + 23)


@pytest.mark.parametrize("bound", [0, 1, 3])
def test_no_simulated_answer_is_older_than_the_bound(bound):
    setup = rollout_simulation.Setup(servers=4, staleness=bound, batch=32, train=4.0, transfer=0.5, steps=20)
    found = rollout_simulation.simulate(setup)
    assert found["staleness_max"] <= bound
    assert 0 <= found["trainer_idle"] < 1
    assert 0 <= found["servers_idle"] < 1
    assert found == rollout_simulation.simulate(setup)


def test_the_last_doubling_of_servers_that_pays():
    rows = [
        {"servers": servers, "staleness_bound": 0, "seconds": seconds}
        for servers, seconds in ((1, 100.0), (2, 60.0), (4, 50.0), (8, 47.0), (16, 46.0))
    ]
    assert rollout_simulation.last_that_pays(rows, 0) == 4


def test_targets_of_the_explorer_are_reached_missed_or_not_measured():
    browser = {"curves drawn": 0.5, "first paint": 0.2, "zoom": [0.1, 0.15], "scrub": [0.1, 0.19]}
    one = {"start": 1.0, "browser": browser, "http": {"zoom": [0.02, 0.03], "list of runs": 0.01}, "memory": 180.0}
    figures = {"cold": one, "warm": one}
    assert explorer_scale.conclusion(figures) == "Reached: first paint, zoom, scrub, memory."
    assert "| server: zoom | 20 / 30 | 20 / 30 |" in explorer_scale.table(figures)
    slow = one | {"browser": browser | {"scrub": [0.1, 0.21]}, "memory": 301.0}
    said = explorer_scale.conclusion({"cold": slow, "warm": one})
    assert said == "Reached: first paint, zoom. Missed: scrub, memory."
    unseen = one | {"browser": None}
    said = explorer_scale.conclusion({"cold": unseen, "warm": unseen})
    assert said == "Reached: memory. Not measured, because there was no Chromium: first paint, zoom, scrub."


@pytest.mark.slow
def test_the_explorer_is_measured_on_runs_of_the_ledgers_own_writers(tmp_path):
    make_runs(tmp_path, SMALL)
    rows = (tmp_path / "run-01" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == SMALL.steps
    assert set(json.loads(rows[0])) == {"step", *metric_names(SMALL.metrics)}
    figures = explorer_scale.measure(SMALL, tmp_path, times=2)
    assert {"start", "browser", "http", "memory"} == set(figures["warm"])
    assert all(one["memory"] > 0 for one in (figures["cold"], figures["warm"]))
    assert explorer_scale.table(figures).count("\n") > 15
