"""Rows of chats on their way to ids: what is refused, counted and told; dates; what a model is exported with."""

from __future__ import annotations

import json
import threading
from datetime import date

import pytest

from tests.data.templates import CHATML, GEMMA, LLAMA3, QWEN3
from tests.data.test_render import byte_level, sentencepiece
from trueup.config import Batch, Model, Reading
from trueup.data.read import read_demonstrations, read_pairs
from trueup.data.render import Renderer
from trueup.data.template import PLAIN_TEMPLATE, is_plain
from trueup.data.write import pair_from_json, pair_to_json
from trueup.errors import DataError, ModelError, RunError
from trueup.ledger import Run
from trueup.types import AnswerText, Message, PreferencePair, content_id, prompt_json

CALL = [{"type": "function", "function": {"name": "search", "arguments": {"q": "AI"}}}]
ASK, ANSWER = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "there"}


@pytest.fixture
def rows(tmp_path):
    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def renderer(template=CHATML, **more):
    return Renderer(byte_level(template=template), max_length=500, **more)


def test_a_refused_row_is_named_by_line_or_skipped_and_counted(rows):
    path = rows(*[{"messages": [ASK, ANSWER]}] * 2, {"messages": [{"role": "system", "content": "x"}, ASK, ANSWER]})
    loaded = read_demonstrations(path)
    with pytest.raises(DataError, match="System role not supported") as caught:
        renderer(GEMMA).render_demonstrations(loaded)
    assert caught.value.where == f"{path}:3"
    kept, report = renderer(GEMMA, skip_bad_rows=True, max_truncated_share=0).render_demonstrations(loaded)
    assert (len(kept), report.kept, sum(report.refused.values()), report.lost_share) == (2, 2, 1, 0)
    assert any("1 rows left out" in note and f"{path}:3" in note for note in report.notes)
    with pytest.raises(DataError, match="none of 1 examples"):
        renderer(GEMMA, skip_bad_rows=True).render_demonstrations(
            read_demonstrations(rows({"messages": [{"role": "system", "content": "x"}, ASK, ANSWER]}))
        )


@pytest.mark.parametrize(
    ("row", "lost"),
    [
        ({"messages": [ASK, ANSWER | {"tool_calls": CALL}]}, "tool_calls"),
        ({"messages": [ASK, ANSWER | {"reasoning_content": "hm"}]}, "reasoning_content"),
        ({"messages": [ASK, ANSWER], "tools": CALL}, "tools"),
        ({"messages": [ASK, ANSWER], "tools": json.dumps(CALL)}, "tools"),
        ({"messages": [ASK, ANSWER], "documents": [{"title": "t", "text": "x"}]}, "documents"),
        ({"messages": [ASK, ANSWER | {"tool_calls": CALL}, ASK, ANSWER]}, "tool_calls"),
    ],
)
def test_what_was_said_and_is_not_written_refuses_the_row(rows, row, lost):
    told = []
    loaded = read_demonstrations(rows(row))
    with pytest.raises(DataError, match=f"without its .*{lost}") as caught:
        renderer().render_demonstrations(loaded)
    assert caught.value.where.endswith(":1")
    _, report = renderer(allow_unwritten=True, say=told.append).render_demonstrations(loaded)
    assert report.unused[lost] == 1
    assert lost in told[0]


def test_keys_about_a_turn_are_counted_and_told_in_one_line(rows):
    told = []
    row = {"messages": [ASK | {"name": "Ann"}, ANSWER], "chat_template_kwargs": {"enable_thinking": False}}
    _, report = renderer(say=told.append).render_demonstrations(read_demonstrations(rows(row, row)))
    assert report.unused == {"name": 2, "chat_template_kwargs": 2}
    assert len(told) == 1
    assert "name in 2 rows" in told[0]


def test_turns_that_a_template_leaves_out_refuse_the_row():
    only_users = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
    with pytest.raises(DataError, match="text of system turns"):
        renderer(only_users).render((Message("system", "Hel"), Message("user", "Hello")), "there")


def test_keys_of_turns_are_part_of_what_a_pair_is(rows):
    calls = [[{"function": {"name": "search", "arguments": {"q": q}}}] for q in "ab"]
    sides = [[{"role": "assistant", "content": "", "tool_calls": c}] for c in calls]
    path = rows(*({"prompt": [ASK], "chosen": sides[n], "rejected": sides[1 - n], "tools": CALL} for n in (0, 1)))
    loaded = read_pairs(path)
    one, two = loaded.items
    assert isinstance(one.chosen, AnswerText)
    assert one.pair_id != two.pair_id
    assert pair_from_json(json.loads(json.dumps(pair_to_json(one)))) == one
    written = rows(pair_to_json(one))
    assert read_pairs(written).items == (one,)
    kept, _ = renderer(QWEN3, allow_unwritten=True).render_pairs(loaded)
    assert kept[0].chosen_ids == kept[1].rejected_ids != kept[0].rejected_ids
    with_tools = (Message("user", "Hello", context='{"tools":[]}'),)
    assert content_id(prompt_json(with_tools)) != content_id(prompt_json((Message("user", "Hello"),)))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"tools": "hammer"}, "tools"),
        ({"tools": [1]}, "tools"),
        ({"documents": {"a": 1}}, "documents"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"messages": [ASK | {"content": [{"type": "image", "url": "x"}]}, ANSWER]}, "content"),
        ({"messages": [ASK | {"more": ["\ud800"]}, ANSWER]}, "more"),
        ({"messages": [ASK | {"more": json.loads("[" * 150 + "]" * 150)}, ANSWER]}, "more"),
        ({"messages": [{"role": "user"}, ANSWER]}, "messages[0]"),
    ],
)
def test_what_no_template_could_be_given_is_refused_by_line(rows, change, where):
    with pytest.raises(DataError) as caught:
        read_demonstrations(rows({"messages": [ASK, ANSWER]} | change))
    assert ":1" in caught.value.where
    assert where in caught.value.where


# Dates and variables --------------------------------------------------------------------------------------------------


def test_the_day_is_part_of_the_rendering():
    days = [date(2026, 1, 31), date(2026, 2, 1)]
    first, second = (renderer(LLAMA3, today=day) for day in days)
    asked = (Message("user", "Hello"),)
    assert first.render_prompt(asked) != second.render_prompt(asked)
    assert first.fingerprint != second.fingerprint
    assert "31 Jan 2026" in first.encoder.tokenizer.decode(list(first.render_prompt(asked)))
    assert renderer(today=days[0]).fingerprint == renderer(today=days[1]).fingerprint  # ChatML writes no date


def test_a_run_keeps_its_day_and_its_template(tmp_path):
    def opened(**model):
        return Run.start(tmp_path / "run", kind="sft", config={}, inputs={}, quiet=True), Model(**model)

    def for_run(run, model, template=LLAMA3):
        return Renderer.of(byte_level(template=template), Batch()).for_run(run, model, Reading())

    run, model = opened()
    with run:
        run.pin("today", "2026-01-31")  # the run started then
        first = for_run(run, model).fingerprint
        assert run.fingerprint("chat_template")
    run, model = opened()
    with run:
        again = for_run(run, model)
        assert again.chat.text.today == date(2026, 1, 31)
        assert again.fingerprint == first
        with pytest.raises(RunError, match="chat_template changed"):
            for_run(run, model, CHATML)
        with pytest.raises(RunError, match="chat_template changed"):
            for_run(run, Model(template_variables={"x": 1}))
        assert for_run(run, Model(template_date="2026-01-31")).fingerprint == first


def test_variables_of_a_run_are_exported_as_defaults():
    r = renderer(QWEN3, variables={"enable_thinking": False})
    asked = [{"role": "user", "content": "Hello"}]
    prompt = r.encoder.tokenizer.decode(list(r.render_prompt((Message("user", "Hello"),))))
    assert prompt.endswith("<think>\n\n</think>\n\n")
    exported = byte_level(template=r.chat.exported)
    assert exported.apply_chat_template(asked, add_generation_prompt=True, tokenize=False) == prompt
    assert not exported.apply_chat_template(
        asked, add_generation_prompt=True, tokenize=False, enable_thinking=True
    ).endswith("</think>\n\n")


# The built-in template ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [byte_level, lambda **k: byte_level(bos=True, **k), sentencepiece])
def test_plain_is_exported_as_what_transformers_renders(make):
    r = Renderer(make(), max_length=500, template="plain")
    turns = [Message("user", "Hello"), Message("assistant", "Yes?"), Message("user", "Water boils.")]
    one = r.render(tuple(turns), "It does.")
    tokenizer = make(template=r.chat.exported)
    assert is_plain(tokenizer.chat_template)
    written = [m.to_dict() for m in (*turns, Message("assistant", "It does."))]
    assert tokenizer.apply_chat_template(written, return_dict=False) == [*one.prompt_ids, *one.completion_ids]
    asked = tokenizer.apply_chat_template(written[:-1], add_generation_prompt=True, return_dict=False)
    assert asked == list(one.prompt_ids)
    again = Renderer(tokenizer, max_length=500)
    assert again.chat.plain
    assert again.render(tuple(turns), "It does.") == one
    assert not is_plain(CHATML)
    assert is_plain(PLAIN_TEMPLATE)


def test_a_template_names_its_own_markers():
    assert {"<|im_start|>user", "<|im_start|>assistant", "<|im_end|>"} <= set(renderer().chat.markers())
    assert {"User:", "Assistant:"} <= set(Renderer(byte_level(), max_length=500, template="plain").chat.markers())


# Templates that would not end -----------------------------------------------------------------------------------------

HOSTILE = {
    "range": "{% for i in range(10**12) %}{% endfor %}",
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "recursive loop": "{% for i in range(300) recursive %}{{ loop(range(300)) }}{% endfor %}",
    "product": "{{ 'a' * 10**11 }}",
    "list": "{{ [1] * 10**10 }}",
    "doubling": "{% set ns = namespace(s='aa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "joining": "{% set ns = namespace(s='aa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "nesting": "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}",
    "macro": "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "macro tree": "{% macro m(x) %}{% if x %}{{ m(x-1) }}{{ m(x-1) }}{% endif %}{% endmacro %}{{ m(99) }}",
    "width": "{{ 'a'.ljust(10**11) }}",
    "filter width": "{{ 'a' | center(99999999999) }}",
    "format": "{{ '%99999999999d' % 1 }}",
    "format star": "{{ '%*d' % (99999999999, 1) }}",
    "format method": "{{ '{:>{w}}'.format(1, w=99999999999) }}",
    "replace": "{% set x = 'a' * 9999 %}{{ x.replace('a', x) | replace('a', x) }}",
    "join": "{{ range(99999) | join('x' * 99999) }}",
    "power": "{{ (10 ** 99999) ** 99999 }}",
    "json": "{{ (range(99999) | list) | tojson(indent=99999) }}",
    "indent": "{{ ('\n' * 99999) | indent(99999) }}",
    "output": "{% for i in range(99999) %}{% for j in range(99999) %}" + "A" * 5000 + "{% endfor %}{% endfor %}",
    "captured": "{% set s = 'a' * 99999 %}{% set x %}{% for i in range(99999) %}{{ s }}{% endfor %}{% endset %}",
    "parentheses": "{{ " + "(" * 99999 + "1" + ")" * 99999 + " }}",
    "long": "a" * 2_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_template_runs_for_ever_or_fills_the_memory(name):
    with pytest.raises(ModelError, match="the chat template cannot be used"):
        renderer(HOSTILE[name]).render_prompt((Message("user", "Hello"),))


def test_the_budget_holds_in_a_thread_too():
    raised = []

    def work():
        try:
            renderer(HOSTILE["loops"]).render_prompt((Message("user", "Hello"),))
        except ModelError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_a_long_conversation_is_within_the_budget():
    turns = tuple(Message("assistant" if n % 2 else "user", f"turn {n} " + "x" * 2000) for n in range(401))
    assert len(renderer(QWEN3, max_prompt_length=100).render_prompt(turns)) == 100


def test_a_broken_template_is_named():
    with pytest.raises(ModelError, match="not valid"):
        renderer("{% for %}").render_prompt((Message("user", "Hello"),))


def test_a_pair_of_plain_answers_stays_plain():
    pair = PreferencePair((Message("user", "Hello"),), "a", "b")
    assert pair_to_json(pair)["prompt"] == [{"role": "user", "content": "Hello"}]
    assert pair_to_json(pair)["chosen"] == "a"


def test_two_reasonings_of_one_turn_are_refused_and_one_under_two_names_is_not(rows):
    turn = ANSWER | {"reasoning": "because", "thinking": "hm"}
    with pytest.raises(DataError, match="has thinking and reasoning, and they differ"):
        read_demonstrations(rows({"messages": [ASK, turn]}))
    (kept,) = read_demonstrations(rows({"messages": [ASK, turn | {"thinking": "because"}]})).items
    (rendered,), _ = renderer(QWEN3).render_demonstrations([kept])
    assert "because" in renderer(QWEN3).encoder.tokenizer.decode(rendered.completion_ids)


def test_reasoning_that_the_template_takes_out_of_an_answer_is_said(rows):
    answer = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello"}
    loaded = read_demonstrations(rows({"messages": [ASK, answer]}, {"messages": [ASK, ANSWER]}))
    lines = []
    without = CHATML.replace("m['content']", "m['content'].split('</think>')[-1]")
    renderer(without, say=lines.append).render_demonstrations(loaded)
    assert lines == [f"not used by the chat template: a part of the answer's text in 1 rows ({loaded.place(0)})"]
    lines.clear()
    renderer(QWEN3, say=lines.append).render_demonstrations(loaded)
    assert lines == []
