"""What an alert does to a run that trains: said, paused, ended, or answered by a higher price of KL; and resumes."""

import json

import pytest

from tests.recipes.test_online import fails_at
from tests.recipes.test_recipes import config_of, digest
from tests.web.explorer.planted import CONFIG, start
from trueup.errors import ConfigError, Paused
from trueup.ledger import metric_rows, read_run
from trueup.ledger.alerts import alerts
from trueup.ledger.columns import Columns
from trueup.recipes.registry import execute
from trueup.recipes.rollouts.on_alert import MOST_RAISED, RAISE_EVERY, AlertWatch

FAR = {"kl__target": 1e-4, "kl__horizon": 1e9, "steps": 9}
"""So near a target that every run is far from it, and a controller that does nothing about it."""
LATE = {**CONFIG, "kl": {**CONFIG["kl"], "target": 4.0}}


def events(run, name):
    rows = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [row for row in rows if row["event"] == name]


def opened(run):
    columns = Columns()
    for row in metric_rows(run):
        columns.append(row)
    return alerts(columns, read_run(run)["config"])


def test_an_alert_is_said_once_and_written_down_with_what_was_measured(material, tmp_path, capfd):
    out = execute("ppo", config_of("ppo", material, **FAR), tmp_path / "r", quiet=True)
    later = opened(out)
    assert [(a.rule, a.step, a.metric, a.message) for a in later] == [
        (e["rule"], e["step"], e["metric"], e["message"]) for e in events(out, "alert")
    ]
    assert "kl_runaway" in {alert.rule for alert in later}
    said = capfd.readouterr().err
    assert all(said.count(f"warning: step {a.step}: {a.rule}: {a.message}\n") == 1 for a in later)
    assert read_run(out)["status"] == "done"
    assert len(metric_rows(out)) == 9


def test_a_paused_run_goes_on_by_the_same_command_and_the_alert_does_not_pause_it_again(material, tmp_path):
    straight = digest(execute("ppo", config_of("ppo", material, **FAR), tmp_path / "straight", quiet=True))
    config = config_of("ppo", material, on_alert="pause", save_every=100, **FAR)
    for alert in {a.step: a for a in opened(tmp_path / "straight") if a.step < 8}.values():
        with pytest.raises(Paused, match=rf"after step {alert.step} \({alert.step + 1} of 9 are") as paused:
            execute("ppo", config, tmp_path / "r", quiet=True)
        assert paused.value.exit_code == 3
        assert read_run(tmp_path / "r")["status"] == "interrupted"
    execute("ppo", config, tmp_path / "r", quiet=True)
    assert digest(tmp_path / "r") == straight


def test_a_stopped_run_is_done_and_says_why(material, tmp_path):
    out = execute("rloo", config_of("rloo", material, on_alert="stop", **FAR), tmp_path / "r", quiet=True)
    record, rows = read_run(out), metric_rows(out)
    assert record["status"] == "done"
    assert record["facts"]["stopped"]["rule"] == "kl_runaway"
    assert record["facts"]["stopped"]["step"] == rows[-1]["step"] == opened(out)[0].step < 8
    assert (out / "final" / "model.safetensors").is_file()


@pytest.mark.parametrize("ending", [{"on_alert": "stop"}, {"kl_stop": 1e-6}])
def test_a_run_that_ended_early_is_saved_and_probed_there_and_takes_no_step_again(ending, material, tmp_path, capfd):
    config = config_of("rloo", material, save_every=100, probes=2, probe_every=100, **ending, **FAR)
    out = execute("rloo", config, tmp_path / "r", quiet=True)
    last = metric_rows(out)[-1]["step"]
    assert last < 8
    assert (out / "checkpoints" / f"step-{last + 1:08d}").is_dir()
    samples = [json.loads(line)["step"] for line in (out / "samples.jsonl").read_text().splitlines()]
    assert sorted(set(samples)) == [0, last]
    before, named = digest(out), [len(events(out, name)) for name in ("alert", "stopped", "kl_stop", "saved")]
    capfd.readouterr()
    execute("rloo", config, tmp_path / "r", quiet=True)
    assert digest(out) == before
    assert [len(events(out, name)) for name in ("alert", "stopped", "kl_stop", "saved")] == named
    assert "the run ends here" not in capfd.readouterr().err


def test_a_mean_of_fewer_steps_says_of_how_many(tmp_path):
    with start(tmp_path / "r", config=LATE) as run:
        far(AlertWatch(run, "warn"), run, range(3), 0.01)
    assert "its mean of 3 steps is 20.00 nats" in events(tmp_path / "r", "alert")[0]["message"]


@pytest.mark.parametrize("kind", ["adaptive", "fixed"])
def test_a_raised_price_survives_a_failure_to_the_same_bytes(kind, material, tmp_path, monkeypatch):
    settings = FAR if kind == "adaptive" else {"steps": 11, "kl__kind": "fixed"}
    if kind == "fixed":  # it has no target: a detector that opens as soon as it has seen eight steps
        monkeypatch.setattr("trueup.ledger.alerts.COLLAPSE", 5.0)
    config = config_of("ppo", material, on_alert="raise_kl", kl__beta=0.01, **settings)
    straight = execute("ppo", config, tmp_path / "straight", quiet=True)
    raised = events(straight, "raise_kl")
    betas = {row["step"]: row["beta"] for row in metric_rows(straight)}
    assert raised
    for event in raised:
        assert event["after"] == pytest.approx(2 * event["before"])
        assert betas.get(event["step"] + 1, event["after"]) == pytest.approx(event["after"])
    fails_at(raised[0]["step"] + 2, "ppo", config, tmp_path / "failed", monkeypatch)
    assert digest(execute("ppo", config, tmp_path / "failed", quiet=True)) == digest(straight)


def far(watch, run, steps, beta, kl=20.0):
    """The coefficient after each of some steps at a KL."""
    betas = []
    for step in steps:
        row = {"kl": kl, "score": 1.0}
        run.log(step, row)
        watch.look(step, row)
        beta = watch.price(step, beta, 0.01)
        betas.append(beta)
    return betas


def test_the_price_is_doubled_while_the_alert_is_open_up_to_a_limit_and_also_after_a_resume(tmp_path, capsys):
    with start(tmp_path / "r", config=LATE) as run:
        betas = far(AlertWatch(run, "raise_kl"), run, range(40), 0.01)
    opens = betas.index(0.02)
    assert opens == 2  # the third step in a row
    for step in range(opens, 40):
        times = (step - opens) // RAISE_EVERY + 1
        assert betas[step] == pytest.approx(0.01 * min(2**times, MOST_RAISED))
    assert "goes from 0.01 to 0.02" in capsys.readouterr().err
    with start(tmp_path / "again", config=LATE) as run:
        first = far(AlertWatch(run, "raise_kl"), run, range(9), 0.01)
        for stream in run._streams.values():
            stream.sync()
        rest = far(AlertWatch(run, "raise_kl"), run, range(9, 40), first[-1])
    assert first + rest == betas
    with start(tmp_path / "calm", config=LATE) as run:
        assert set(far(AlertWatch(run, "raise_kl"), run, range(40), 0.01, kl=1.0)) == {0.01}


def test_a_price_above_the_limit_is_never_lowered(tmp_path):
    with start(tmp_path / "r", config=LATE) as run:
        assert set(far(AlertWatch(run, "raise_kl"), run, range(9), 5.0)) == {5.0}


def test_there_must_be_a_price_to_raise(material):
    with pytest.raises(ConfigError, match="twice nothing is nothing"):
        config_of("ppo", material, on_alert="raise_kl", kl__kind="fixed", kl__beta=0.0)
    with pytest.raises(ConfigError, match="no KL penalty"):
        config_of("best-of-n", material, on_alert="raise_kl")
