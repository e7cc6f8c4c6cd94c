"""The readers on files in published shapes: row counts, and numbers that others computed on the real ones."""

import gzip
from collections import Counter

import pytest

from tests.published import DATA, SOURCES, path, rows
from trueup.data.read import (
    read_demonstrations,
    read_labelled,
    read_pairs,
    read_prompts,
    read_ranked,
    read_rows,
    read_texts,
)

SIZES = [
    # reader, file, format, and of our rows and of the real ones: rows, items, ties, skipped
    (read_pairs, "preference/hh_harmless", "two transcripts", (40, 38, 0, 2), (1193, 1191, 0, 2)),
    (read_pairs, "preference/dpo_demo_sharegpt", "ShareGPT pairs", (12, 12, 0, 0), (297, 297, 0, 0)),
    (
        read_pairs,
        "preference/llmbar_natural_neighbor",
        "two responses and a verdict",
        (50, 50, 0, 0),
        (234, 234, 0, 0),
    ),
    (
        read_pairs,
        "annotators/pandalm_three_annotators",
        "two responses and a verdict",
        (90, 81, 6, 3),
        (595, 509, 50, 36),
    ),
    (read_pairs, "annotators/tulu1_human_eval", "two responses and a verdict", (80, 60, 20, 0), (745, 503, 242, 0)),
    (read_pairs, "rankings/oasst_trees", "OpenAssistant trees", (6, 24, 0, 0), (60, 446, 0, 0)),
    (read_ranked, "rankings/oasst_trees", "OpenAssistant trees", (6, 12, 0, 0), (60, 122, 0, 0)),
    (read_labelled, "preference/kto_demo_binary", "conversation and label", (14, 14, 0, 0), (194, 194, 0, 0)),
    (
        read_labelled,
        "annotators/tulu1_human_eval",
        "two responses, each acceptable or not",
        (80, 160, 0, 0),
        (745, 1490, 0, 0),
    ),
    (
        read_demonstrations,
        "instruction/alpaca_style_demo",
        "instruction, input, output",
        (9, 9, 0, 0),
        (998, 998, 0, 0),
    ),
    (read_demonstrations, "instruction/self_instruct_seed_tasks", "seed tasks", (7, 7, 0, 0), (175, 175, 0, 0)),
    (
        read_demonstrations,
        "safety/xstest_labelled_completions",
        "prompt, completion",
        (8, 8, 0, 0),
        (500, 500, 0, 0),
    ),
    (read_prompts, "instruction/mt_bench_questions", "turns", (5, 5, 0, 0), (80, 80, 0, 0)),
    (read_prompts, "safety/advbench_harmful_behaviors", "prompt", (6, 6, 0, 0), (513, 513, 0, 0)),
    (
        read_prompts,
        "preference/hh_harmless",
        "two conversations or transcripts",
        (40, 40, 0, 0),
        (1193, 1193, 0, 0),
    ),
    (
        read_prompts,
        "noncommercial/alpaca_eval/reference_outputs",
        "instruction",
        (10, 10, 0, 0),
        (805, 805, 0, 0),
    ),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("read", "name", "form", "own", "real"), SIZES)
def test_row_counts(read, name, form, own, real, source, tmp_path):
    count, items, ties, skipped = own if source == "own" else real
    file = path(source, name, tmp_path)
    loaded = read(file, on_bad="skip")
    report = loaded.report
    assert (report.format, report.rows, len(loaded)) == (form, count, items)
    assert {why: n.count for why, n in report.left_out.items()} == ({"a tie": ties} if ties else {})
    assert sum(n.count for n in report.skipped.values()) == skipped
    assert len(list(read_rows(file))) == count


@pytest.mark.parametrize("source", SOURCES)
def test_transcripts_lose_no_word(source, tmp_path):
    """Every pair, written back as a transcript, is the original up to blanks and joined turns."""
    names = {"user": "Human:", "assistant": "Assistant:"}
    name = "preference/hh_harmless"
    loaded = read_pairs(path(source, name, tmp_path), on_bad="skip")
    originals = rows(source, name)
    for pair, line in zip(loaded.items, loaded.lines, strict=True):
        for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            turns = " ".join(f"{names[m.role]} {m.content}" for m in pair.prompt)
            original = originals[line - 1][side].split()
            again = f"{turns} Assistant: {answer}".split()
            joined = original.count("Assistant:") - again.count("Assistant:")
            assert len(original) - len(again) == joined, line
            assert [w for w in original if w != "Assistant:"] == [w for w in again if w != "Assistant:"], line


@pytest.mark.parametrize("source", SOURCES)
def test_tulu_verdicts_by_model_match_the_counts(source, tmp_path):
    """The real counts are published; ours are counted from the rows."""
    name = "annotators/tulu1_human_eval"
    loaded = read_pairs(path(source, name, tmp_path))
    judged = rows(source, name)
    wins = {}
    for pair, line in zip(loaded.items, loaded.lines, strict=True):
        row = judged[line - 1]
        winner = "a" if pair.chosen == row["completion_a"] else "b"
        models = frozenset((row["model_a"], row["model_b"]))
        wins[models, row[f"model_{winner}"]] = wins.get((models, row[f"model_{winner}"]), 0) + 1
        assert pair.strength == (0.75 if "slightly" in row["preference"] else 1.0)
    if source == "own":
        counted = Counter(
            (frozenset((r["model_a"], r["model_b"])), r["model_a" if r["preference"].startswith("a") else "model_b"])
            for r in judged
            if r["preference"] != "tie"
        )
        assert wins == counted
        assert len(wins) == 4
        return
    small, human = frozenset(("tulu_65B", "tulu_7B")), frozenset(("tulu_65B", "tulu_human_only_65B"))
    assert (wins[small, "tulu_65B"], wins[small, "tulu_7B"]) == (178, 85)
    assert (wins[human, "tulu_65B"], wins[human, "tulu_human_only_65B"]) == (169, 71)


@pytest.mark.parametrize("source", SOURCES)
def test_tulu_acceptable_shares_match(source, tmp_path):
    name = "annotators/tulu1_human_eval"
    loaded = read_labelled(path(source, name, tmp_path))
    judged = rows(source, name)
    models = [judged[line - 1][f"model_{side}"] for line, side in zip(loaded.lines, "ab" * len(judged), strict=True)]
    versus = [frozenset((judged[n - 1]["model_a"], judged[n - 1]["model_b"])) for n in loaded.lines]
    share = {}
    for item, model, pair in zip(loaded.items, models, versus, strict=True):
        share.setdefault((pair, model), []).append(item.desirable)
    if source == "own":
        for (pair, model), told in share.items():
            mine = [r for r in judged if frozenset((r["model_a"], r["model_b"])) == pair]
            yes = sum(r["a_acceptable" if r["model_a"] == model else "b_acceptable"] == "yes" for r in mine)
            assert (sum(told), len(told)) == (yes, len(mine))
        return
    small = frozenset(("tulu_65B", "tulu_7B"))
    assert sum(share[small, "tulu_65B"]) / len(share[small, "tulu_65B"]) == pytest.approx(0.8025, abs=5e-5)
    assert sum(share[small, "tulu_7B"]) / len(share[small, "tulu_7B"]) == pytest.approx(0.6889, abs=5e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_pandalm_strengths_are_shares_of_three_votes(source, tmp_path):
    file = path(source, "annotators/pandalm_three_annotators", tmp_path)
    strengths = {round(p.strength, 6) for p in read_pairs(file, on_bad="skip").items}
    assert strengths == {1.0, round(2 / 3, 6), round(5 / 6, 6)}


@pytest.mark.parametrize("source", SOURCES)
def test_llmbar_labels_choose_the_labelled_output(source, tmp_path):
    name = "preference/llmbar_natural_neighbor"
    for pair, row in zip(read_pairs(path(source, name, tmp_path)).items, rows(source, name), strict=True):
        assert pair.chosen == row[f"output_{row['label']}"]
        assert pair.prompt[0].content == row["input"]


@pytest.mark.parametrize("source", SOURCES)
def test_texts(source, tmp_path):
    if source == "real":
        assert len(read_texts(DATA / "text/tinystories_sample.txt")) == 5
        (play,) = read_texts(DATA / "text/tinyshakespeare.txt.gz").items
        assert len(play.splitlines()) == 40_000
        return
    (tmp_path / "stories.txt").write_text("One.\nMore.\n<|endoftext|>\nTwo.\n<|endoftext|>\n")
    assert read_texts(tmp_path / "stories.txt").items == ("One.\nMore.", "Two.")
    with gzip.open(tmp_path / "play.txt.gz", "wt") as file:
        file.write("A line.\n" * 300)
    (play,) = read_texts(tmp_path / "play.txt.gz").items
    assert len(play.splitlines()) == 300
