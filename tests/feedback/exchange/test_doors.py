"""One reader of judged data: what training reads, what import stores, what the browser takes and what is curated.

Every row goes through all doors. What one of them takes the others take, with the same prompt, the same responses and
the same id of each pair, so that `trueup trace` can follow it. Where a door differs on purpose, the reason stands here.
"""

import gzip
import json
from itertools import combinations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.test_read import BAD_LINES, PAIR, PAIR_ROWS
from tests.feedback.exchange.test_refusals import GOOD
from tests.feedback.exchange.test_shapes import SHAPES, A, B, Q, battle, said
from tests.published import path, rows
from trueup.data.read import read_labelled, read_pairs
from trueup.errors import DataError
from trueup.feedback.exchange.formats import read_bytes, read_in, recognised
from trueup.feedback.exchange.landing import land
from trueup.feedback.snapshot.candidates import SnapshotSettings
from trueup.feedback.snapshot.selection import select_rows
from trueup.feedback.store.reading import read_project, shown_turns, stored_prompt
from trueup.types import PreferencePair, prompt_json
from trueup.web.annotate.intake import read_items

ASK = {"role": "user", "content": Q}
SIDES = {"chosen": A, "rejected": B}
TURNS = {"chosen": said([ASK], A), "rejected": said([ASK], B)}
OWN = {
    "from prompter to bot": {
        "chosen": [{"from": "prompter", "value": Q}, {"from": "bot", "value": A}],
        "rejected": [{"from": "prompter", "value": Q}, {"from": "bot", "value": B}],
    },
    "a developer": {"prompt": [{"role": "developer", "content": "Be brief."}, ASK]} | SIDES,
    "roles in capitals": {"prompt": [{"role": " User", "content": Q}]} | SIDES,
    "a question": {"question": Q} | SIDES,
    "a question with context": {"question": Q, "context": "A map."} | SIDES,
    "an instruction": {"instruction": Q, "input": "Ours."} | SIDES,
    "earlier turns": {"question": Q, "history": [["Hi", "Hello"]]} | SIDES,
    "tools": {"prompt": [ASK], "tools": [{"type": "function"}]} | SIDES,
    "a name": {"prompt": [ASK | {"name": "Ada"}]} | SIDES,
    "a speaker twice": {side: f"\n\nHuman: {Q}\n\nHuman: Well?\n\nAssistant: {SIDES[side]}\n" for side in SIDES},
    "white space in a transcript": {side: f"\n\nHuman:  {Q} \n\nAssistant:\n{SIDES[side]} " for side in SIDES},
    "a system prompt in the turns": {"prompt": Q}
    | {side: said([{"role": "system", "content": "s"}, ASK], SIDES[side]) for side in SIDES},
    "stated strength": {"prompt": Q, "strength": 0.8, "weight": 2} | SIDES,
    "a verdict in words": {"prompt": Q, "response_a": A, "response_b": B, "winner": "A is much better"},
    "a verdict with a degree": {
        "prompt": Q,
        "response_1": A,
        "response_2": B,
        "winner": "Response 2 is slightly better",
    },
    "a verdict of the side": {"prompt": Q, "answer_left": A, "answer_right": B, "preferred": "right"},
    "two columns of verdicts": {"prompt": Q, "response_a": A, "response_b": B, "label": "b", "winner": "response_a"},
    "two prompts": {"prompt": Q, "chosen": said([ASK], A), "rejected": said([ASK | {"content": "x"}], B)},
    "a prompt that ends with an answer": {"prompt": said([ASK], "x")} | SIDES,
    "no prompt": dict(SIDES),
    "a role that is none": {"prompt": [ASK | {"role": "oracle"}]} | SIDES,
    "neither": {"prompt": Q, "response_a": A, "response_b": B, "winner": "neither"},
    "strength out of range": {"prompt": Q, "strength": 0.2} | SIDES,
    "one half": {"prompt": Q, "strength": 0.5} | SIDES,
    "reasoning in an answer": {
        "prompt": [ASK],
        "chosen": [said([], A)[0] | {"thinking": "hm"}],
        "rejected": said([], B),
    },
    "a call of a tool": {"prompt": [ASK], "chosen": [said([], A)[0] | {"tool_calls": [{}]}], "rejected": said([], B)},
    "a text beside a turn": {"prompt": [ASK], "chosen": said([], A), "rejected": B},
    "a list of one text": {"prompt": Q, "chosen": [A], "rejected": [B]},
    "an empty prompt beside turns": {"prompt": None} | TURNS,
    "a query": {"query": Q} | SIDES,
    "a common beginning": {"chosen": f"{Q} {A}", "rejected": f"{Q} {B}"},
    "a system prompt by another name": {"system_prompt": "s"} | TURNS,
}
ROWS = (
    {f"pair: {name}": row for name, (row, _) in PAIR_ROWS.items()}
    | {f"good: {name}": row for name, row in GOOD.items()}
    | {f"shape: {name}": row for name, row in SHAPES.items()}
    | {f"arena: {winner}": battle(winner) for winner in ("model_a", "B", "m2", "tie")}
    | {f"own: {name}": row for name, row in OWN.items()}
)
_TOOL = "an export of an annotation tool holds what people said one by one; training reads what it comes to (curate)"
_PERSON = "import keeps one person's answer; how sure a label is, is the aggregate's, and training's alone to read"
_LOOSE = "a person looks at what import read; training asks for the name or the form (read.columns)"
_RATED = "import takes whole points on named axes from a person; training takes any numbers, and all of one prompt"
DIFFERENT = {
    "pair: rated": _RATED,
    "pair: rated objects": _RATED,
    **dict.fromkeys(("good: argilla", "good: label-studio", "shape: flat task"), _TOOL),
    **dict.fromkeys(("shape: flat record", "shape: prodigy"), _TOOL),
    **dict.fromkeys(("shape: summaries", "shape: webgpt", "shape: one hot", "arena: m2"), _LOOSE),
    "own: strength out of range": _PERSON,
    "own: one half": _PERSON,
    "own: reasoning in an answer": "people judge the text, and the id is that of what they judged",
    "own: a call of a tool": "nobody can be shown it",
    **{
        f"own: {name}": _LOOSE
        for name in (
            "a text beside a turn",
            "a list of one text",
            "an empty prompt beside turns",
            "a query",
            "a common beginning",
            "a system prompt by another name",
        )
    },
}
"""Row -> why the doors differ on it."""


def trained(file):
    """Ids of the pairs that training reads, an empty set where it refuses all."""
    try:
        return {pair.key for pair in read_pairs(file, on_bad="skip").items}
    except DataError:
        return set()


def imported(file):
    try:
        return read_in(file)
    except DataError:
        return None


def pairs_of(incoming):
    """The pairs that its answers state."""
    for vote in incoming.votes if incoming else ():
        row, answer = incoming.rows[vote.item], vote.answer or {}
        if answer.get("preferred") is not None:
            place = answer["preferred"]
            yield PreferencePair(row.prompt, row.responses[place], row.responses[1 - place])
        for better, worse in combinations(answer.get("tiers", ()), 2):
            yield from (PreferencePair(row.prompt, row.responses[a], row.responses[b]) for a in better for b in worse)


def shown(items):
    """Ids of both orders of every two responses that people would be shown."""
    found = set()
    for item in items:
        for one, two in combinations(item.responses, 2):
            found |= {PreferencePair(item.prompt, one, two).key, PreferencePair(item.prompt, two, one).key}
    return found


def written(folder, row):
    file = folder / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    return file


@pytest.mark.parametrize("name", ROWS)
def test_every_door_takes_the_same_pairs_of_a_row(name, tmp_path):
    file = written(tmp_path, ROWS[name])
    here, there = trained(file), {pair.key for pair in pairs_of(imported(file))}
    if name in DIFFERENT:
        assert here != there, "the doors agree: take it out of the list"
        return
    assert here == there
    if here:
        data = file.read_bytes()
        assert here <= shown(read_items(data, recognised(data)).items)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "chosen" in row])
def test_the_browser_takes_pairs_as_import_does(name, tmp_path):
    file = written(tmp_path, ROWS[name])
    found = read_in(file, "preference")
    items = read_items(file.read_bytes(), "trl")
    assert [(item.prompt, item.responses) for item in items.items] == [(i.prompt, i.responses) for i in found.rows]
    assert len(items.rejected) == len(found.rejected)


def test_what_is_stored_and_curated_keeps_the_ids(store, tmp_path):
    checked = 0
    for name, row in ROWS.items():
        found = imported(written(tmp_path, row))
        wanted = {pair.key for pair in pairs_of(found)}
        if not wanted or set(found.kinds) != {"pairwise"} or len(wanted) > 1:
            continue
        landed = land(store, found, name)
        judged = read_project(store, landed.project)
        chosen = select_rows(judged, SnapshotSettings(method="majority"))
        assert {one["pair_id"] for split in chosen.rows.values() for one in split} == wanted, name
        checked += 1
    assert checked > 40


def test_a_prompt_is_stored_whole_and_shown_as_text(tmp_path):
    prompts = [
        item.prompt for row in ROWS.values() if (found := imported(written(tmp_path, row))) for item in found.rows
    ]
    assert any(turn.turn for prompt in prompts if not isinstance(prompt, str) for turn in prompt)
    for prompt in prompts:
        turns = json.loads(json.dumps(prompt_json(prompt)))
        assert stored_prompt(turns) == prompt
        for turn in shown_turns(turns):
            assert turn.keys() == {"role", "content"}
            assert turn["role"] in ("system", "user", "assistant", "tool")
            assert isinstance(turn["content"], str)


TAKEN = {"strength": _PERSON, "nan": _PERSON, "list of texts": _LOOSE}
"""Bad lines that import takes -> why."""


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_refused_by_every_door_with_its_number(name, tmp_path):
    line, _, _ = BAD_LINES[name]
    good = json.dumps(PAIR).encode()
    file = tmp_path / "rows.jsonl"
    file.write_bytes(good + b"\n" + line + b"\n")
    assert {n for count in read_pairs(file, on_bad="skip").report.skipped.values() for n in count.lines} == {2}
    if name == "utf8":  # training can leave a line out; import asks for the encoding of the file
        with pytest.raises(DataError, match="line 2"):
            read_in(file)
        return
    refused = {number for number, _ in read_in(file, "preference").rejected}
    assert refused == (set() if name in TAKEN else {2})
    assert {number for number, _ in read_items(file.read_bytes(), "trl").rejected} == refused


LABELS = {
    "a label": {"prompt": Q, "completion": A, "label": True},
    "a number": {"question": Q, "response": A, "label": 0},
    "a word": {"prompt": Q, "completion": A, "label": "good"},
    "a thumb": {"prompt": Q, "completion": A, "label": "thumbs_down"},
    "a dialogue": {"messages": said([ASK], A), "label": "no"},
    "a dialogue with a tag": {"messages": said([ASK], A), "kto_tag": True},
    "a turn": {"prompt": Q, "completion": said([], A), "label": False},
    "an unknown word": {"prompt": Q, "completion": A, "label": "perhaps"},
    "no label": {"prompt": Q, "completion": A, "label": None},
    "a list of labels": {"prompt": Q, "completion": A, "label": ["yes"]},
    "safe": {"prompt": Q, "response": A, "is_safe": False},
    "an output": {"prompt": Q, "output": A, "label": True},
}
LABELS_DIFFER = {"a list of labels": _TOOL, "safe": _LOOSE, "an output": _LOOSE}


@pytest.mark.parametrize("name", LABELS)
def test_every_door_takes_the_same_label(name, tmp_path):
    file = written(tmp_path, LABELS[name])
    try:
        here = {(one.prompt, one.completion, one.desirable) for one in read_labelled(file, on_bad="skip").items}
    except DataError:
        here = set()
    found = read_in(file, "kto")
    there = {(found.rows[v.item].prompt, *found.rows[v.item].responses, v.answer["acceptable"]) for v in found.votes}
    assert (here != there) if name in LABELS_DIFFER else (here == there)


@pytest.mark.parametrize("name", ["preference/hh_harmless", "preference/dpo_demo_sharegpt"])
def test_files_in_the_shapes_of_published_sets_have_the_same_ids(name, tmp_path):
    file = path("own", name, tmp_path)
    found = read_in(file)
    assert {pair.key for pair in pairs_of(found)} == trained(file)
    assert len(trained(file)) > 5
    skipped = read_pairs(file, on_bad="skip").report.skipped.values()
    assert {n for count in skipped for n in count.lines} == {line for line, _ in found.rejected}
    assert len(found.rows) + len(found.rejected) == len(rows("own", name))


# Containers -----------------------------------------------------------------------------------------------------------

PAIRS = [PAIR | {"prompt": f"Question {n}?"} for n in range(3)]
TABLE = "prompt,chosen,rejected\n" + "".join(f"{p['prompt']},{p['chosen']},{p['rejected']}\n" for p in PAIRS)
LINES = "".join(json.dumps(pair) + "\n" for pair in PAIRS)


def parquet(folder):
    pq.write_table(pa.Table.from_pylist(PAIRS), folder / "rows.parquet")
    return (folder / "rows.parquet").read_bytes()


CONTAINERS = {
    "rows.jsonl": LINES.encode(),
    "rows.json": json.dumps(PAIRS, indent=1).encode(),
    "rows.csv": TABLE.encode(),
    "rows.tsv": TABLE.replace(",", "\t").encode(),
    "rows.jsonl.gz": gzip.compress(LINES.encode()),
    "rows.csv.gz": gzip.compress(TABLE.encode()),
    "crlf.jsonl": b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode(),
    "blank.jsonl": LINES.replace("\n", "\n\n").encode(),
    "rows.parquet": parquet,
    "semicolons.csv": TABLE.replace(",", ";").encode(),
    "utf16.csv": TABLE.encode("utf-16"),
    "sep.csv": b"sep=;\n" + TABLE.replace(",", ";").encode(),
    "wrapped.json": json.dumps({"data": PAIRS}).encode(),
    "torn.jsonl.gz": gzip.compress(LINES.encode())[:-9],
    "cut.json": json.dumps(PAIRS)[:-5].encode(),
    "behind.json": json.dumps(PAIRS).encode() + b" more",
    "empty.jsonl": b"",
}
CONTAINERS_DIFFER = {
    "semicolons.csv": "spreadsheets write what their language parts numbers with; training has one dialect",
    "sep.csv": "a line for Excel",
    "utf16.csv": "a person sees what was read; training names the command that makes it UTF-8",
    "wrapped.json": "a person sees what was read; training names the command that takes the rows out",
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_door_opens_the_same_containers(name, tmp_path):
    content = CONTAINERS[name]
    file = tmp_path / name
    file.write_bytes(content(tmp_path) if callable(content) else content)
    here, found = trained(file), imported(file)
    assert (here != {p.key for p in pairs_of(found)}) == (name in CONTAINERS_DIFFER)
    if here:
        assert list(read_pairs(file).lines) == found.lines
        if name.count(".") == 1:  # what the browser sends is not packed
            assert here <= shown(read_items(file.read_bytes(), recognised(file.read_bytes())).items)


def test_a_bad_record_of_a_table_has_one_line_at_every_door(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('prompt,chosen,rejected\np,"two\nlines",r\np,,r\np,only\n')
    lines = {line for count in read_pairs(file, on_bad="skip").report.skipped.values() for line in count.lines}
    assert lines == {4, 5} == {line for line, _ in read_bytes(file.read_bytes(), "csv").rejected}
