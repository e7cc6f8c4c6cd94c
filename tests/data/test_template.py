"""What is trained and what is sampled from is what ``apply_chat_template`` writes, for templates of many shapes."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.data.templates import SHAPES
from tests.data.test_render import byte_level
from trueup.data.conversations import messages, split_answer, with_system
from trueup.data.render import Renderer
from trueup.errors import DataError

CONTROL = "<|call|> <|return|> <|channel|> <|message|> <|user|> <|system|> <|assistant|> [TOOL_CALLS] [INST]".split()
CONTROL += ["<|User|>", "<|Assistant|>", "<start_of_turn>", "[/INST]"]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(arguments, **more):
    return {"type": "function", "function": {"name": "search", "arguments": arguments}, **more}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "search",
            "description": 'Looks "things" up\nin a book.',
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "integer"}}},
        },
    }
]
ID = "abcdefghi"
ROWS = {
    "one turn": {"messages": [user("Hello"), assistant("there")]},
    "blanks": {"messages": [user("  Hello \n"), assistant("\n there  ")]},
    "empty answer": {"messages": [user("Hello"), assistant("")]},
    "system": {"messages": [system("Be kind."), user("Hello"), assistant("there")]},
    "empty system": {"messages": [system(""), user("Hello"), assistant("there")]},
    "system column": {"system": "Be kind.", "messages": [user("Hello"), assistant("there")]},
    "developer": {"messages": [{"role": "developer", "content": "Be kind."}, user("Hello"), assistant("there")]},
    "three turns": {
        "messages": [user("1 + 1?"), assistant("2"), user("2 + 2?"), assistant("4"), user("And 3?"), assistant("6.")]
    },
    "two users": {"messages": [user("Hello"), user("Are you there?"), assistant("Yes.")]},
    "think in text": {"messages": [user("Hello"), assistant("<think>\nhm\n</think>\n\nthere")]},
    "think twice": {
        "messages": [
            user("1 + 1?"),
            assistant("<think>\none\n</think>\n\n2"),
            user("2 + 2?"),
            assistant("<think>\ntwo\n</think>\n\n4"),
        ]
    },
    "reasoning_content": {"messages": [user("Hello"), assistant("there", reasoning_content="step by step")]},
    "reasoning": {"messages": [user("Hello"), assistant("there", reasoning="step by step")]},
    "thinking": {"messages": [user("Hello"), assistant("there", thinking="step by step")]},
    "reasoning before": {
        "messages": [user("1 + 1?"), assistant("2", reasoning_content="one"), user("2 + 2?"), assistant("4")]
    },
    "not thinking": {
        "messages": [user("Hello"), assistant("there")],
        "chat_template_kwargs": {"enable_thinking": False},
    },
    "a date": {"messages": [user("Hello"), assistant("there")], "chat_template_kwargs": {"date_string": "1 May 2020"}},
    "call": {"messages": [user("Who?"), assistant("", tool_calls=[call({"q": "AI", "n": 2}, id=ID)])], "tools": TOOLS},
    "call, no content": {
        "messages": [user("Who?"), {"role": "assistant", "tool_calls": [call({"q": "AI"}, id=ID)]}],
        "tools": TOOLS,
    },
    "call, content null": {
        "messages": [user("Who?"), assistant(None, tool_calls=[call({"q": "AI"}, id=ID)])],
        "tools": TOOLS,
    },
    "call in a text": {"messages": [user("Who?"), assistant("Let me look.", tool_calls=[call('{"q":"AI"}', id=ID)])]},
    "two calls": {
        "messages": [user("Who?"), assistant("", tool_calls=[call({"q": "a"}, id=ID), call({"q": "b"}, id=ID)])],
        "tools": TOOLS,
    },
    "call and result": {
        "messages": [
            user("Who?"),
            assistant("", tool_calls=[call({"q": "AI"}, id=ID)], reasoning_content="I must look"),
            {"role": "tool", "content": '{"found": "a book"}', "tool_call_id": ID, "name": "search"},
            assistant("A book.", reasoning_content="there it is"),
        ],
        "tools": json.dumps(TOOLS),
    },
    "two results": {
        "messages": [
            user("Who?"),
            assistant("", tool_calls=[call({"q": "a"}, id=ID), call({"q": "b"}, id=ID)]),
            {"role": "tool", "content": "one", "tool_call_id": ID},
            {"role": "tool", "content": "", "tool_call_id": ID},
            assistant("Both."),
        ]
    },
    "nothing said by keys": {
        "messages": [user("Hello") | {"name": None, "weight": 1}, assistant("there", tool_calls=None, id="x")]
    },
    "documents": {
        "messages": [user("Who?"), assistant("He.")],
        "documents": [{"title": "A book", "text": "He did it."}],
    },
    "parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "there"}]},
        ]
    },
    "quotes": {"messages": [user('say "é" and {{ 7 * 7 }}'), assistant("{% raw %} 'é' \\n \t")]},
}


@pytest.fixture(scope="module")
def tokenizer():
    made = byte_level(bos=True)
    made.add_special_tokens({"additional_special_tokens": CONTROL})
    return made


def renderer(tokenizer, template, **more):
    tokenizer.chat_template = template
    return Renderer(tokenizer, max_length=4000, **({"allow_unwritten": True} | more))


def read(row):
    """Prompt and answer of a row, as the readers give them."""
    turns = with_system(row, messages(row["messages"], "messages"))
    if turns[-1].content == "" and not turns[-1].turn:
        return turns[:-1], ""
    return split_answer(turns, "messages")


def takes(tokenizer, turn):
    """Whether transformers writes the text of a turn by a role, or given in parts."""
    probe = "qwerty"
    written = turn | {"content": [{"type": "text", "text": probe}] if isinstance(turn["content"], list) else probe}
    for turns in ([written, user("Hello")] if turn["role"] == "developer" else [written], [user("Hello"), written]):
        if turn["role"] == "developer" and turns[0] != written:
            continue
        try:
            text = tokenizer.apply_chat_template(turns, tokenize=False)
        except Exception:
            continue
        if probe in text and f"'{probe}'" not in text:
            return True
    return False


def shown(tokenizer, turn):
    """The turn as it should reach the template: parts are joined, and a developer is the system, where it must be."""
    if isinstance(turn.get("content"), list) and not takes(tokenizer, turn):
        turn = turn | {"content": "".join(part["text"] for part in turn["content"])}
    if turn["role"] == "developer" and not takes(tokenizer, turn):
        turn = turn | {"role": "system"}
    return turn


def applied(tokenizer, row, *, ask, tokenize=False):
    """What transformers makes of the row itself."""
    turns = [system(row["system"])] if "system" in row else []
    turns += [shown(tokenizer, turn) for turn in row["messages"]]
    tools = row.get("tools")
    return tokenizer.apply_chat_template(
        turns[:-1] if ask else turns,
        tools=json.loads(tools) if isinstance(tools, str) else tools,
        documents=row.get("documents"),
        add_generation_prompt=ask,
        tokenize=tokenize,
        return_dict=False,
        **row.get("chat_template_kwargs", {}),
    )


def decode(tokenizer, ids):
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def check(tokenizer, r, row):
    """Equal to transformers in text and in ids, or refused for the same reason; says which."""
    asked, answer = read(row)
    try:
        prompt, whole = applied(tokenizer, row, ask=True), applied(tokenizer, row, ask=False)
    except Exception:
        with pytest.raises(DataError, match="refuses"):
            r.render(asked, answer)
        return "refused"
    if not whole.startswith(prompt):
        with pytest.raises(DataError, match="is not how it begins"):
            r.render(asked, answer)
        return "apart"
    one = r.render(asked, answer)
    ids = [*one.prompt_ids, *one.completion_ids]
    assert decode(tokenizer, one.prompt_ids) == prompt
    assert list(one.prompt_ids) == applied(tokenizer, row, ask=True, tokenize=True)
    trained = decode(tokenizer, ids)
    if not whole.startswith(trained):  # the template has no end token: EOS stands for it
        trained = trained.removesuffix(tokenizer.eos_token)
        assert whole.startswith(trained)
    assert whole[len(trained) :].strip() in ("", tokenizer.eos_token), "nothing but an end was left out"
    expected = applied(tokenizer, row, ask=False, tokenize=True)
    if expected[: len(one.prompt_ids)] == list(one.prompt_ids):  # else a token straddles the end of the prompt
        assert expected[: len(ids) - 1] == ids[:-1]
    assert ids[-1] in (r.eos_id, *r.encoder.special_ids.values())
    return "equal"


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_conversation_is_what_apply_chat_template_writes(tokenizer, shape, name):
    check(tokenizer, renderer(tokenizer, SHAPES[shape]), ROWS[name])


def test_most_conversations_can_be_rendered_and_some_cannot(tokenizer):
    """The table above would prove nothing if everything were refused."""
    results = {
        (shape, name): check(tokenizer, renderer(tokenizer, template), ROWS[name])
        for shape, template in SHAPES.items()
        for name in ("one turn", "system", "think in text", "call and result")
    }
    assert {shape for shape in SHAPES if results[shape, "one turn"] != "equal"} == {"r1"}
    assert results["r1", "think in text"] == "apart"  # it opens the reasoning, and drops it again
    assert results["gemma", "system"] == "refused"
    assert sum(result == "equal" for result in results.values()) > 60


text = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufdd0\ufdd1▁"), max_size=12)
words = st.one_of(
    text, st.sampled_from(["<think>\na\n</think>\n\nb", " two\nlines \n", "{{ 1 }}", '"quoted"', "\\n", "'"])
)
values = st.recursive(
    st.one_of(words, st.integers(-9, 9), st.booleans(), st.none()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
calls = st.builds(lambda a: [call(a, id=ID)], st.dictionaries(words, values, max_size=2))


@st.composite
def conversations(draw):
    turns = draw(st.lists(st.builds(system, words), max_size=1))
    for _ in range(draw(st.integers(1, 3))):
        turns.append(user(draw(words)))
        answer = assistant(draw(words))
        if draw(st.booleans()):
            answer["reasoning_content"] = draw(words)
        if draw(st.integers(0, 3)) == 0:
            answer["tool_calls"] = draw(calls)
            if draw(st.booleans()):
                turns += [answer, {"role": "tool", "content": draw(words), "tool_call_id": ID}]
                answer = assistant(draw(words))
        turns.append(answer)
    return {"messages": turns} | ({"tools": TOOLS} if draw(st.booleans()) else {})


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=conversations())
def test_any_conversation_is_what_apply_chat_template_writes(tokenizer, shape, row):
    for turn in row["messages"]:
        if turn["role"] == "user" and not turn["content"].strip():
            turn["content"] = "?"
        if turn["role"] == "assistant" and not turn["content"].strip() and turn is not row["messages"][-1]:
            turn["content"] = "!"
    if not row["messages"][-1]["content"].strip():
        row["messages"][-1]["content"] = "."
    # Ours reads a control token in somebody's words as words (tests of markers), transformers as the token.
    assume(not any(token in json.dumps(row, ensure_ascii=False) for token in tokenizer.get_added_vocab()))
    check(tokenizer, renderer(tokenizer, SHAPES[shape]), row)
