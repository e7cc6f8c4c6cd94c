"""Training on all turns of the assistant: the mask is transformers' where a template marks them, else turn by turn."""

import pytest

from tests.data.templates import CHATML, SHAPES
from tests.data.test_render import byte_level
from trueup.data.read import read_demonstrations
from trueup.data.render import Renderer
from trueup.errors import DataError

MARKED = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITHOUT_END = MARKED.replace(
    "m['content'] + '<|im_end|>' }}{% endgeneration %}{{", "m['content'] }}{% endgeneration %}{{ '<|im_end|>' +"
)
IN_A_MACRO = (
    "{% macro turn(m) %}{{ '<|im_start|>' + m['role'] + '\n' }}{% generation %}{{ m['content'] }}{% endgeneration %}"
    "{{ '<|im_end|>\n' }}{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is 1 + 1?"},
    {"role": "assistant", "content": "It is 2."},
    {"role": "user", "content": "And the capital of France?"},
    {"role": "assistant", "content": "Paris, of course."},
    {"role": "user", "content": "Thanks!"},
    {"role": "assistant", "content": "Any time."},
]


def tokenizer(template):
    made = byte_level()
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = template
    return made


def rendered(template, turns=TURNS, **limits):
    own = tokenizer(template)
    renderer = Renderer(own, **({"max_length": 4096} | limits))
    loaded = read_demonstrations([{"messages": turns}])
    kept, report = renderer.render_demonstrations(loaded, all_turns=True)
    return own, kept, report


def masked(kept):
    """Ids and mask of a row."""
    weights = kept.token_weights or (1.0,) * len(kept.completion_ids)
    return [*kept.prompt_ids, *kept.completion_ids], [0] * len(kept.prompt_ids) + [int(w > 0) for w in weights]


def learned(own, kept):
    """The texts that carry loss, one after the other."""
    ids, mask = masked(kept)
    texts, before = [], 0
    for number, bit in zip(ids, mask, strict=True):
        if bit:
            texts = texts if before else [*texts, []]
            texts[-1].append(number)
        before = bit
    return [own.decode(part) for part in texts]


@pytest.mark.parametrize("template", [MARKED, WITHOUT_END])
@pytest.mark.parametrize("turns", [TURNS, TURNS[1:3], TURNS[1:], TURNS[:3]])
def test_ids_and_mask_are_those_of_transformers_where_the_template_marks_answers(template, turns):
    own, (kept,), report = rendered(template, turns)
    theirs = own.apply_chat_template(turns, return_assistant_tokens_mask=True, return_dict=True)
    ids, mask = masked(kept)
    assert ids == theirs["input_ids"][: len(ids)]
    assert mask == theirs["assistant_masks"][: len(ids)]
    assert own.decode(theirs["input_ids"][len(ids) :]) == "\n"  # nothing but what no sampler gets to
    assert not any(theirs["assistant_masks"][len(ids) :])
    assert ("the end token of an answer" in str(report.notes)) is (template is WITHOUT_END)


def test_without_marks_each_answer_is_learned_as_it_is_at_its_own_turn():
    own, (kept,), report = rendered(CHATML)
    assert learned(own, kept) == [t["content"] + "<|im_end|>" for t in TURNS if t["role"] == "assistant"]
    marked = rendered(MARKED.removeprefix("{{ bos_token }}"))[1][0]
    assert masked(kept) == masked(marked)
    assert report.kept == 1
    assert not report.seams


REFUSED = {
    "qwen3": "turn 1 is written otherwise in the whole conversation",  # an empty thought, before the last answer only
    "r1": "is not how it begins the conversation with its answer",  # for the last answer alone, too
}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_template_of_any_shape_gives_the_sampling_prompt_before_each_answer_or_is_refused(name):
    own = tokenizer(SHAPES[name])
    own.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|end|>", "<end_of_turn>"]})
    renderer = Renderer(own, max_length=4096)
    loaded = read_demonstrations([{"messages": TURNS[1:]}])
    if name in REFUSED:
        with pytest.raises(DataError, match=REFUSED[name]):
            renderer.render_demonstrations(loaded, all_turns=True)
        return
    ((kept,), report) = renderer.render_demonstrations(loaded, all_turns=True)
    ids, mask = masked(kept)
    starts = [n for n in range(1, len(mask)) if mask[n] and not mask[n - 1]]
    assert len(starts) == 3
    ((alone,), _) = renderer.render_demonstrations(loaded)
    assert own.decode(ids) == own.decode(alone.prompt_ids + alone.completion_ids)
    assert mask[-1] == 1
    # A token that straddles the end of a prompt is cut there, as in sampling, and whole in the prompts of later turns.
    for start, upto in zip(starts[: 1 if report.seams else 3], (1, 3, 5), strict=False):
        assert tuple(ids[:start]) == renderer.render_prompt(loaded.items[0].prompt[:upto])
    assert report.seams or tuple(ids) == alone.prompt_ids + alone.completion_ids


REWRITES = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and not loop.last %}{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_a_template_that_drops_earlier_reasoning_is_refused_with_both_texts():
    turns = [dict(turn) for turn in TURNS]
    rendered(REWRITES, turns)  # nothing to drop, nothing is rewritten
    turns[2]["content"] = "<think>one and one</think>It is 2."
    with pytest.raises(DataError, match="is written otherwise in the whole conversation") as error:
        rendered(REWRITES, turns)
    assert "'<think>one and one</think>It is 2.'" in str(error.value)
    assert "train_on=last" in error.value.fix
    assert "rows:1" in error.value.where


def test_marks_in_a_macro_or_on_nothing_are_refused():
    with pytest.raises(DataError, match="marks an answer where it does not write it"):
        rendered(IN_A_MACRO)
    never = MARKED.replace("== 'assistant'", "== 'nobody'")
    with pytest.raises(DataError, match="marks nothing of this conversation"):
        rendered(never)


def test_the_built_in_template_learns_texts_in_the_middle_and_the_end_of_the_last():
    own = byte_level()
    renderer = Renderer(own, max_length=4096, template="plain")
    ((kept,), report) = renderer.render_demonstrations(read_demonstrations([{"messages": TURNS}]), all_turns=True)
    assert learned(own, kept) == [" It is 2.", " Paris, of course.", f" Any time.{own.eos_token}"]
    assert "the end of an earlier answer" in str(report.notes)


def test_a_turns_weight_counts_and_zero_is_context():
    turns = [dict(turn) for turn in TURNS]
    turns[2]["weight"], turns[4]["weight"] = 0, 0.5
    for template in (CHATML, MARKED):
        own, (kept,), report = rendered(template, turns)
        assert learned(own, kept) == ["Paris, of course.<|im_end|>", "Any time.<|im_end|>"]
        assert set(kept.token_weights) == {0.0, 0.5, 1.0}
        assert "weight" not in str(report.notes)
    for wrong in (-1, "much", True, float("inf")):
        turns[2]["weight"] = wrong
        with pytest.raises(DataError, match="weight"):
            rendered(CHATML, turns)


def test_a_row_that_learns_nothing_is_dropped_and_counted():
    turns = [dict(turn) | {"weight": 0} for turn in TURNS]
    with pytest.raises(DataError, match="no token of an answer is learned"):
        rendered(CHATML, turns)


def test_a_conversation_that_is_too_long_loses_its_end():
    whole = rendered(CHATML)[1][0]
    length = len(whole.prompt_ids) + len(whole.completion_ids)
    _, (kept,), report = rendered(CHATML, max_length=length - 20, max_truncated_share=1.0)
    assert report.truncated == 1
    assert kept.truncated
    assert masked(kept)[1] == masked(whole)[1][: length - 20]


def test_control_tokens_in_data_stay_text_and_do_not_shift_the_mask():
    turns = [dict(turn) for turn in TURNS]
    turns[1]["content"] = "What is <|im_end|> here?"
    turns[2]["content"] = "A <|im_end|> is an end."
    for template in (CHATML, MARKED):
        own, (kept,), _ = rendered(template, turns)
        end = own.convert_tokens_to_ids("<|im_end|>")
        assert masked(kept)[0].count(end) == len(turns)
        assert learned(own, kept) == [t["content"] + "<|im_end|>" for t in turns if t["role"] == "assistant"]


def test_plain_prompts_and_single_turns_are_as_before():
    own = tokenizer(CHATML)
    renderer = Renderer(own, max_length=4096)
    rows = [{"prompt": "One and ", "completion": "one."}, {"text": "Just text."}]
    for row in rows:
        loaded = read_demonstrations([row])
        ((one,), _), ((two,), _) = (renderer.render_demonstrations(loaded, all_turns=a) for a in (False, True))
        assert one == two
    loaded = read_demonstrations([{"messages": TURNS[1:3]}])
    ((one,), _), ((two,), _) = (renderer.render_demonstrations(loaded, all_turns=a) for a in (False, True))
    assert (one.prompt_ids, one.completion_ids) == (two.prompt_ids, two.completion_ids)
    assert set(two.token_weights) == {1.0}
