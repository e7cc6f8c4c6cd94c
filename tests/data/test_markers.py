"""Text that already went through a chat template is known by its markers, whatever the template."""

import json

import pytest

from trueup.data.check import check_file
from trueup.data.markers import family_of
from trueup.data.read import read_demonstrations, read_pairs, read_prompts
from trueup.errors import DataError

TEMPLATED = {
    "ChatML": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "Llama 3": "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    "Llama 4": "<|header_start|>user<|header_end|>\n\nHi<|eot|>",
    "Llama 2 or Mistral": "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST]",
    "Gemma": "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
    "DeepSeek": "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>",
    "Command R": "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>",
    "Granite": "<|start_of_role|>user<|end_of_role|>Hi",
    "Harmony": "<|start|>user<|message|>Hi<|end|>",
    "Phi, Zephyr or GLM": "<|user|>\nHi<|end|>\n<|assistant|>\n",
    "EXAONE": "[|user|]Hi\n[|assistant|]",
    "Nemotron": "<extra_id_0>System\n\n<extra_id_1>User\nHi\n<extra_id_1>Assistant\n",
    "Baichuan": "<reserved_106>Hi<reserved_107>",
    "special tokens": "<|turn_of_mine|>Hi",
    "begin or end of sequence": "<s> Hi </s>",
    "Alpaca": "Below is an instruction.\n\n### Instruction:\nSay hi\n\n### Response:\n",
    "OpenChat": "GPT4 Correct User: Hi GPT4 Correct Assistant:",
    "a transcript": "Human: Hi\n\nAssistant:",
}
WORDS = {"Alpaca", "OpenChat", "a transcript"}
PLAIN = [
    "What does <b>bold</b> do, and when is a < b | c > d true?",
    "Fill in: [NAME], [INSTRUCTIONS], <placeholder>, {slot} and |pipe|.",
    "Our assistant: a person who helps. The user: a person who asks?",
    "### A heading\n\nSome text, and then: a list.",
    "Price: 5 | 6 || 7, x <= y and y >= z. <end>",
    "```python\nx = a[0] | b[1]\n```",
    "He said: Hi. She said: Ho.",
    "Q: why? A: because.",
    "s>t, <s, /s>",
]


@pytest.mark.parametrize("family", TEMPLATED)
def test_templates_are_known(family):
    found = family_of(TEMPLATED[family])
    assert found is not None
    assert found[0].name == family
    assert found[0].control is (family not in WORDS)


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_plain(text):
    assert family_of(text) is None


@pytest.fixture
def file(tmp_path):
    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def pair(prompt):
    return {"prompt": prompt, "chosen": "good", "rejected": "bad"}


@pytest.mark.parametrize("family", TEMPLATED)
def test_a_file_of_them_is_refused_where_its_markers_are_control_tokens(file, family):
    path = file(*(pair(TEMPLATED[family]) for _ in range(3)))
    said = []
    if family in WORDS:  # the model reads these words as they are, template or not
        assert len(read_pairs(path, refuse_templated=True, tell=said.append).items) == 3
    else:
        with pytest.raises(DataError, match=r"3 of 3 prompts already went through a chat template") as caught:
            read_pairs(path, refuse_templated=True)
        assert caught.value.where == f"{path}:1"
        assert len(read_pairs(path, tell=said.append).items) == 3
    assert any(f"a chat template, {family} (" in line for line in said)
    assert any(
        name.startswith(f"prompts already went through a chat template: {family}") for name in check_file(path).problems
    )


def test_a_few_are_a_warning(file):
    path = file(pair("Hi"), pair(TEMPLATED["ChatML"]))
    said = []
    assert len(read_pairs(path, refuse_templated=True, tell=said.append).items) == 2
    assert said == [
        f"{path}: prompts already went through a chat template, ChatML (<|im_start|>): 1 (line 2); it is read as plain"
        " text"
    ]


def test_turns_and_plain_texts_are_looked_at_too(file):
    turns = {"messages": [{"role": "user", "content": TEMPLATED["Gemma"]}, {"role": "assistant", "content": "ho"}]}
    with pytest.raises(DataError, match="Gemma"):
        read_demonstrations(file(turns), refuse_templated=True)
    with pytest.raises(DataError, match="Llama 3"):
        read_prompts(file({"prompt": TEMPLATED["Llama 3"]}), refuse_templated=True)
    with pytest.raises(DataError, match="ChatML"):
        read_demonstrations(file({"text": TEMPLATED["ChatML"] + "ho"}), refuse_templated=True)
    novel = "A long story. " * 100 + "<|im_start|>"  # a text that mentions a marker somewhere is no rendered chat
    assert read_demonstrations(file({"text": novel}), refuse_templated=True).items
