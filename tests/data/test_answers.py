"""The text of an answer is what went into its rendering, whatever template and tokenizer stand around it."""

import pytest

from tests.data.templates import SHAPES
from tests.data.test_render import MAKERS, byte_level, renderer
from tests.data.test_template import CONTROL
from trueup.data.answers import answer_text
from trueup.data.encode import Text
from trueup.data.render import Renderer
from trueup.types import Message

CHAT = (Message("user", "it costs what?"),)
ANSWERS = ["It costs $46 now.", "General. Hello there,\n\nagain", "", "  two blanks before", "a"]
TRIMMED = ("llama3", "llama2")
"""Templates that take blanks off an answer: there is nothing that could give them back."""


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("text", ANSWERS)
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_it_is_the_inverse_of_rendering_an_answer(name, text, ended):
    r = renderer(name)
    shown = r.render(CHAT, text, ended=ended)
    found = answer_text(r, CHAT, shown.prompt_ids, shown.completion_ids, ended=ended)
    if not ended:  # what closes an answer is not told from the answer where no end token follows
        found = found.removesuffix(r.chat.closing)
        text = text.removesuffix(r.chat.closing)
    assert found == (text.strip() if name in TRIMMED else text)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_the_answer_to_a_plain_text_keeps_its_blanks(name):
    r = renderer(name)
    shown = r.render("it costs", " $46 now")
    assert answer_text(r, "it costs", shown.prompt_ids, shown.completion_ids, ended=True) == " $46 now"


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"r1"}))  # which no text answer fits
def test_nothing_of_a_template_is_left_in_an_answer(shape):
    tokenizer = byte_level(bos=True)
    tokenizer.add_special_tokens({"additional_special_tokens": CONTROL})
    tokenizer.chat_template = SHAPES[shape]
    r = Renderer(tokenizer, max_length=4000)
    shown = r.render(CHAT, "It costs 46 now.")
    ended = shown.completion_ids[-1] in r.stop_ids
    found = answer_text(r, CHAT, shown.prompt_ids, shown.completion_ids, ended=ended)
    assert found.strip() == "It costs 46 now."


def test_an_end_token_that_is_not_marked_as_special_is_no_text():
    r = renderer("bytes")
    ids = r.encoder.encode([Text("yes")])[0]
    ordinary = r.encoder.tokenizer.convert_tokens_to_ids("a")
    assert answer_text(r, "it", (5,), (*ids, ordinary), ended=True) == "yes"
