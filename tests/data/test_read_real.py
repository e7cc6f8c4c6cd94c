"""The readers on real files: row counts, and numbers that other libraries computed on them."""

import gzip
import json
from pathlib import Path

import pytest

from trueup.data.read import (
    read_demonstrations,
    read_labelled,
    read_pairs,
    read_prompts,
    read_ranked,
    read_rows,
    read_texts,
)

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not (DATA / "README.md").exists(), reason="the shared real data is not beside the repository"),
]

SIZES = [
    # reader, file, format, rows, items, ties, skipped
    (read_pairs, "preference/hh_harmless", "two transcripts", 1193, 1191, 0, 2),
    (read_pairs, "preference/dpo_demo_sharegpt", "ShareGPT pairs", 297, 297, 0, 0),
    (read_pairs, "preference/llmbar_natural_neighbor", "two responses and a verdict", 234, 234, 0, 0),
    (read_pairs, "annotators/pandalm_three_annotators", "two responses and a verdict", 595, 509, 50, 36),
    (read_pairs, "annotators/tulu1_human_eval", "two responses and a verdict", 745, 503, 242, 0),
    (read_pairs, "rankings/oasst_trees", "OpenAssistant trees", 60, 446, 0, 0),
    (read_ranked, "rankings/oasst_trees", "OpenAssistant trees", 60, 122, 0, 0),
    (read_labelled, "preference/kto_demo_binary", "conversation and label", 194, 194, 0, 0),
    (read_labelled, "annotators/tulu1_human_eval", "two responses, each acceptable or not", 745, 1490, 0, 0),
    (read_demonstrations, "instruction/alpaca_style_demo", "instruction, input, output", 998, 998, 0, 0),
    (read_demonstrations, "instruction/self_instruct_seed_tasks", "seed tasks", 175, 175, 0, 0),
    (read_demonstrations, "safety/xstest_labelled_completions", "prompt, completion", 500, 500, 0, 0),
    (read_prompts, "instruction/mt_bench_questions", "turns", 80, 80, 0, 0),
    (read_prompts, "safety/advbench_harmful_behaviors", "prompt", 513, 513, 0, 0),
    (read_prompts, "preference/hh_harmless", "two conversations or transcripts", 1193, 1193, 0, 0),
    (read_prompts, "noncommercial/alpaca_eval/reference_outputs", "instruction", 805, 805, 0, 0),
]


@pytest.mark.parametrize(("read", "name", "form", "rows", "items", "ties", "skipped"), SIZES)
def test_row_counts(read, name, form, rows, items, ties, skipped):
    loaded = read(DATA / f"{name}.jsonl.gz", on_bad="skip")
    report = loaded.report
    assert (report.format, report.rows, len(loaded)) == (form, rows, items)
    assert {why: n.count for why, n in report.left_out.items()} == ({"a tie": ties} if ties else {})
    assert sum(n.count for n in report.skipped.values()) == skipped
    assert len(list(read_rows(DATA / f"{name}.jsonl.gz"))) == rows


def raw(name):
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def test_transcripts_lose_no_word():
    """Every pair, written back as a transcript, is the original up to blanks and joined turns."""
    names = {"user": "Human:", "assistant": "Assistant:"}
    name = "preference/hh_harmless"
    loaded = read_pairs(DATA / f"{name}.jsonl.gz", on_bad="skip")
    rows = raw(name)
    for pair, line in zip(loaded.items, loaded.lines, strict=True):
        for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            turns = " ".join(f"{names[m.role]} {m.content}" for m in pair.prompt)
            original = rows[line - 1][side].split()
            again = f"{turns} Assistant: {answer}".split()
            joined = original.count("Assistant:") - again.count("Assistant:")
            assert len(original) - len(again) == joined, line
            assert [w for w in original if w != "Assistant:"] == [w for w in again if w != "Assistant:"], line


def test_tulu_verdicts_by_model_match_the_published_counts():
    name = "annotators/tulu1_human_eval"
    loaded = read_pairs(DATA / f"{name}.jsonl.gz")
    rows = raw(name)
    wins = {}
    for pair, line in zip(loaded.items, loaded.lines, strict=True):
        row = rows[line - 1]
        winner = "a" if pair.chosen == row["completion_a"] else "b"
        models = frozenset((row["model_a"], row["model_b"]))
        wins[models, row[f"model_{winner}"]] = wins.get((models, row[f"model_{winner}"]), 0) + 1
        assert pair.strength == (0.75 if "slightly" in row["preference"] else 1.0)
    small, human = frozenset(("tulu_65B", "tulu_7B")), frozenset(("tulu_65B", "tulu_human_only_65B"))
    assert (wins[small, "tulu_65B"], wins[small, "tulu_7B"]) == (178, 85)
    assert (wins[human, "tulu_65B"], wins[human, "tulu_human_only_65B"]) == (169, 71)


def test_tulu_acceptable_shares_match_the_published_ones():
    name = "annotators/tulu1_human_eval"
    loaded = read_labelled(DATA / f"{name}.jsonl.gz")
    rows = raw(name)
    models = [rows[line - 1][f"model_{side}"] for line, side in zip(loaded.lines, "ab" * len(rows), strict=True)]
    versus = [frozenset((rows[n - 1]["model_a"], rows[n - 1]["model_b"])) for n in loaded.lines]
    share = {}
    for item, model, pair in zip(loaded.items, models, versus, strict=True):
        share.setdefault((pair, model), []).append(item.desirable)
    small = frozenset(("tulu_65B", "tulu_7B"))
    assert sum(share[small, "tulu_65B"]) / len(share[small, "tulu_65B"]) == pytest.approx(0.8025, abs=5e-5)
    assert sum(share[small, "tulu_7B"]) / len(share[small, "tulu_7B"]) == pytest.approx(0.6889, abs=5e-5)


def test_pandalm_strengths_are_shares_of_three_votes():
    strengths = {
        round(p.strength, 6)
        for p in read_pairs(DATA / "annotators/pandalm_three_annotators.jsonl.gz", on_bad="skip").items
    }
    assert strengths == {1.0, round(2 / 3, 6), round(5 / 6, 6)}


def test_llmbar_labels_choose_the_labelled_output():
    name = "preference/llmbar_natural_neighbor"
    for pair, row in zip(read_pairs(DATA / f"{name}.jsonl.gz").items, raw(name), strict=True):
        assert pair.chosen == row[f"output_{row['label']}"]
        assert pair.prompt[0].content == row["input"]


def test_texts():
    assert len(read_texts(DATA / "text/tinystories_sample.txt")) == 5
    (play,) = read_texts(DATA / "text/tinyshakespeare.txt.gz").items
    assert len(play.splitlines()) == 40_000
