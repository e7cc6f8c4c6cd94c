"""Sequence classifiers of other tools as rewards: the numbers are those of transformers' own forward pass."""

import json
import shutil

import pytest
import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.conftest import TEXTS
from tests.data.templates import CHATML
from tests.recipes.conftest import _kernels, material  # noqa: F401
from tests.recipes.test_recipes import config_of
from trueup.commands.comparison import compare_models
from trueup.config import Model, Sampling
from trueup.errors import ConfigError, DataError, ModelError, TrueupError, UsageError
from trueup.ledger import metric_rows, read_lines, read_run
from trueup.recipes.registry import execute
from trueup.rewards.classifier import ClassifierReward
from trueup.rewards.protocol import check_prompts, cut_by, windows_of
from trueup.rewards.registry import identify, open_reward
from trueup.types import Completion, Message, StopReason

V = 340
SHAPE = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
}
FAMILIES = {
    "Llama": lambda **more: t.LlamaConfig(**SHAPE, num_key_value_heads=2, **more),
    "GPT-2": lambda **more: t.GPT2Config(
        vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=96, initializer_range=0.3, **more
    ),
    "BERT": lambda **more: t.BertConfig(**SHAPE, **more),
    "RoBERTa": lambda **more: t.RobertaConfig(**SHAPE, **more),
    "DeBERTa": lambda **more: t.DebertaV2Config(
        **SHAPE, relative_attention=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, **more
    ),
}
DECODERS = ("Llama", "GPT-2")
PROMPT = (Message("user", "What is the capital of France?"),)
ANSWERS = [
    Completion("Paris.", (), StopReason.EOS),
    Completion("I am sorry, but I cannot help with breaking into a house, whoever asks.", (), StopReason.EOS),
    Completion("Water boils at", (), StopReason.LENGTH),
    Completion("", (), StopReason.EOS),
]


def bpe(side="right", template=None, pad="<pad>"):
    """A byte-level tokenizer of a decoder."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=V, special_tokens=special, initial_alphabet=alphabet)
    )
    made = t.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=pad, bos_token="<s>", eos_token="</s>", padding_side=side
    )
    made.chat_template = template
    return made


def wordpiece(side="right", pad=0):
    """A tokenizer that writes ``[CLS] a [SEP] b [SEP]``; with padding under 1, as RoBERTa's, it gives no types."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if pad == 1:
        special[:2] = special[1::-1]
    core.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=V, special_tokens=special))
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return t.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        padding_side=side,
        model_max_length=96,
        model_input_names=["input_ids", *(["token_type_ids"] if pad == 0 else []), "attention_mask"],
    )


def written(folder, family, tokenizer, labels=None, bias=False, **more):
    """A random classifier on disk, as other tools write them; its scores differ visibly."""
    torch.manual_seed(3)
    labels = labels or ["LABEL_0"]
    more.setdefault("pad_token_id", tokenizer.pad_token_id)
    config = FAMILIES[family](id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)}, **more)
    model = t.AutoModelForSequenceClassification.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def own(folder, text, *pair, **how):
    """Logits [L] of transformers' own forward pass on one row."""
    model = t.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    if isinstance(text, list):
        row = tokenizer.apply_chat_template(text, return_tensors="pt", return_dict=True)
    else:
        row = tokenizer(text, *pair, return_tensors="pt", **how)
    if family_is_decoder(model):
        row.pop("token_type_ids", None)
    with torch.no_grad():
        return model(**row).logits[0]


def family_is_decoder(model):
    return model.config.model_type in ("llama", "gpt2")


def turns(answer):
    return [{"role": "user", "content": PROMPT[0].content}, {"role": "assistant", "content": answer}]


def close(scores, expected):
    torch.testing.assert_close(scores, torch.stack(list(expected)), rtol=1e-4, atol=1e-5)
    assert scores.unique().numel() > 1


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", DECODERS)
def test_a_chat_classifier_gives_the_numbers_of_transformers_by_its_own_template(family, side, tmp_path):
    folder = written(tmp_path, family, bpe(side, CHATML))
    reward = open_reward(folder)
    assert isinstance(reward, ClassifierReward)
    ended = [a for a in ANSWERS if a.ended]
    scores = reward.score([PROMPT] * len(ended), ended)
    close(scores, [own(folder, turns(a.text))[0] for a in ended])
    close(scores, [reward.score([PROMPT], [a])[0] for a in ended])
    assert reward.model.batches


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["BERT", "RoBERTa", "DeBERTa"])
def test_a_text_classifier_reads_prompt_and_answer_as_a_pair_with_types(family, side, tmp_path):
    tokenizer = wordpiece(side, pad=1 if family == "RoBERTa" else 0)
    types = {"type_vocab_size": 1} if family == "RoBERTa" else {"type_vocab_size": 2}
    folder = written(tmp_path, family, tokenizer, **types)
    reward = open_reward(folder)
    assert reward.reading.kind == "pair"
    scores = reward.score([PROMPT] * len(ANSWERS), ANSWERS)
    close(scores, [own(folder, PROMPT[0].content, a.text)[0] for a in ANSWERS])
    close(scores, [reward.score([PROMPT], [a])[0] for a in ANSWERS])
    assert reward.model.batches


def test_token_types_matter_and_are_given(tmp_path):
    reward = open_reward(written(tmp_path, "BERT", wordpiece()))
    (row,) = [reward._whole(PROMPT, ANSWERS[0], "")]
    assert set(row.types) == {0, 1}
    bare = type(row)(row.ids)
    assert not torch.allclose(reward.model.scores([row]), reward.model.scores([bare]), rtol=1e-3)


def test_a_decoder_without_a_template_reads_one_text_and_says_so(tmp_path, caplog):
    folder = written(tmp_path, "GPT-2", bpe())
    reward = open_reward(folder)
    check_prompts(reward, ["The capital of France", PROMPT])
    assert "reads prompt and answer as one text (it has no chat template), at most 96 tokens; its one logit is the" in (
        caplog.text
    )
    scores = reward.score(["The capital of France "] * 2, ANSWERS[:2])
    close(scores, [own(folder, "The capital of France " + a.text)[0] for a in ANSWERS[:2]])
    several = (Message("system", "Be brief."), *PROMPT)
    assert reward.score([several], ANSWERS[:1])[0] == pytest.approx(
        float(own(folder, f"System: Be brief.\n\nUser: {PROMPT[0].content}Paris.")[0]), rel=1e-4
    )
    caplog.clear()
    check_prompts(reward, [several])
    assert "1 of 1 prompts have several turns" in caplog.text


@pytest.mark.parametrize(("family", "pad"), [("Llama", "</s>"), ("GPT-2", "</s>")])
def test_padding_that_is_the_end_token_is_read_as_the_class_reads_it(family, pad, tmp_path):
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    folder = written(tmp_path, family, bpe(template=template, pad=pad))
    ended = ANSWERS[:2]
    close(open_reward(folder).score([PROMPT] * 2, ended), [own(folder, turns(a.text))[0] for a in ended])


@pytest.mark.parametrize("pad", [None, -1])
@pytest.mark.parametrize("family", DECODERS)
def test_no_padding_in_the_config_is_no_obstacle_to_batches(family, pad, tmp_path):
    folder = written(tmp_path, family, bpe("left", CHATML), pad_token_id=None)
    if pad is not None:
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"pad_token_id": pad}))
    reward = open_reward(folder)
    ended = [a for a in ANSWERS if a.ended]
    assert reward.model.batches
    scores = reward.score([PROMPT] * len(ended), ended)
    close(scores, [own(folder, turns(a.text))[0] for a in ended])
    assert reward.model.model.config.pad_token_id == pad


def test_a_class_that_cannot_take_right_padding_runs_row_by_row(tmp_path, caplog, monkeypatch):
    folder = written(tmp_path, "GPT-2", bpe(template=CHATML))
    forward = t.GPT2ForSequenceClassification.forward

    def at_the_last_position(self, input_ids, attention_mask=None, use_cache=None):
        before, self.config.pad_token_id = self.config.pad_token_id, None
        try:
            outputs = [forward(self, input_ids=row[None], use_cache=False).logits for row in input_ids]
        finally:
            self.config.pad_token_id = before
        return t.modeling_outputs.SequenceClassifierOutputWithPast(logits=torch.cat(outputs))

    monkeypatch.setattr(t.GPT2ForSequenceClassification, "forward", at_the_last_position)
    reward = open_reward(folder)
    assert "gives other numbers in a padded batch than alone: its rows run one at a time" in caplog.text
    close(reward.score([PROMPT] * 2, ANSWERS[:2]), [reward.score([PROMPT], [a])[0] for a in ANSWERS[:2]])


def test_an_answer_that_did_not_end_is_shown_without_an_end(tmp_path):
    folder = written(tmp_path, "Llama", bpe(template=CHATML))
    reward = open_reward(folder)
    text = f"<|im_start|>user\n{PROMPT[0].content}<|im_end|>\n<|im_start|>assistant\nWater boils at"
    score = float(reward.score([PROMPT], [ANSWERS[2]])[0])
    assert score == pytest.approx(float(own(folder, text, add_special_tokens=False)[0]), rel=1e-4)
    finished = Completion(ANSWERS[2].text, (), StopReason.EOS)
    assert score != pytest.approx(float(reward.score([PROMPT], [finished])[0]), rel=1e-3)


def test_control_tokens_that_data_spells_stay_text(tmp_path):
    reward = open_reward(written(tmp_path / "chat", "Llama", bpe(template=CHATML)))
    end = reward.model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    spelled = Completion("Paris.<|im_end|>", (), StopReason.EOS)
    assert reward._whole(PROMPT, spelled, "").ids.count(end) == reward._whole(PROMPT, ANSWERS[0], "").ids.count(end)
    pairs = open_reward(written(tmp_path / "pair", "BERT", wordpiece()))
    spelled = Completion("Paris.[SEP][PAD]", (), StopReason.EOS)
    row = pairs._whole(PROMPT, spelled, "")
    assert (row.ids.count(3), row.ids.count(0)) == (2, 0)


# Labels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", ["POSITIVE", "positive", "NEGATIVE"])
def test_of_two_labels_the_named_one_is_good_by_its_log_odds(good, tmp_path):
    folder = written(tmp_path, "BERT", wordpiece(), ["NEGATIVE", "POSITIVE"])
    scores = open_reward(f"{folder}#label={good},text=answer").score([PROMPT] * 3, ANSWERS[:3])
    logits = torch.stack([own(folder, a.text) for a in ANSWERS[:3]])
    odds = torch.log_softmax(logits, 1)
    index = 0 if good == "NEGATIVE" else 1
    torch.testing.assert_close(scores, odds[:, index] - odds[:, 1 - index], rtol=1e-4, atol=1e-5)


def test_of_several_labels_it_is_the_odds_against_all_others_and_of_independent_ones_the_logit(tmp_path):
    names = ["bad", "neutral", "good"]
    folder = written(tmp_path / "one", "RoBERTa", wordpiece(pad=1), names, type_vocab_size=2)
    score = open_reward(f"{folder}#label=good").score([PROMPT], ANSWERS[:1])
    p = float(own(folder, PROMPT[0].content, ANSWERS[0].text).softmax(0)[2])
    assert float(score) == pytest.approx(float(torch.tensor(p).logit()), rel=1e-3)
    many = written(
        tmp_path / "many",
        "RoBERTa",
        wordpiece(pad=1),
        names,
        type_vocab_size=2,
        problem_type="multi_label_classification",
    )
    score = open_reward(f"{many}#label=bad").score([PROMPT], ANSWERS[:1])
    assert float(score) == pytest.approx(float(own(many, PROMPT[0].content, ANSWERS[0].text)[0]), rel=1e-4)


@pytest.mark.parametrize(
    ("labels", "asked", "says"),
    [
        (["LABEL_0", "LABEL_1"], "", "has 2 labels, and which of them is good is not said"),
        (["LABEL_0", "LABEL_1"], "", "#label=LABEL_1"),
        (["bad", "good"], "#label=god", "no label 'god'.*did you mean 'good'"),
        (["same", "same"], "#label=same", "2 outputs are called 'same'"),
        (["LABEL_0"], "#label=LABEL_0", "has one output"),
        (["bad", "good"], "#label=good,text=chat", "its tokenizer has no chat template"),
        (["bad", "good"], "#label=good,max_length=97", "at most 96 tokens"),
        (["bad", "good"], "#label=good,max_length=few", "max_length"),
        (["bad", "good"], "#lable=good", "label"),
        (["bad", "good"], "#good", "'good' stands behind the #"),
        (["bad", "good"], "#label=", "'label=' stands behind the #"),
    ],
)
def test_what_is_ambiguous_or_unknown_is_refused_with_a_way_out(labels, asked, says, tmp_path):
    folder = written(tmp_path, "BERT", wordpiece(), labels)
    with pytest.raises((ConfigError, ModelError), match=f"(?s){says}"):
        open_reward(folder + asked)


def test_a_regression_of_several_outputs_has_no_score(tmp_path):
    folder = written(tmp_path, "BERT", wordpiece(), ["help", "harm"], problem_type="regression")
    with pytest.raises(ModelError, match=r"a regression with 2 outputs.*0: 'help', 1: 'harm'"):
        open_reward(f"{folder}#label=help")


def test_a_classifier_whose_head_is_missing_is_refused(tmp_path):
    folder = written(tmp_path, "BERT", wordpiece())
    model = t.BertModel.from_pretrained(folder)
    config = (tmp_path / "config.json").read_text()
    model.save_pretrained(folder)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"classifier\.bias"):
        open_reward(folder)


# Length ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["Llama", "BERT", "RoBERTa"])
def test_an_answer_that_is_too_long_loses_its_end_and_is_counted(family, tmp_path, caplog):
    tokenizer = bpe(template=CHATML) if family == "Llama" else wordpiece(pad=int(family == "RoBERTa"))
    reward = open_reward(written(tmp_path, family, tokenizer, **({"type_vocab_size": 2} if family != "Llama" else {})))
    longest = 94 if family == "RoBERTa" else 96  # RoBERTa's positions start behind that of its padding
    assert reward.max_length == longest
    long = Completion("Water boils at one hundred degrees, and ice melts at zero. " * 9, (), StopReason.EOS)
    reward.score([PROMPT, PROMPT], [ANSWERS[0], long])
    assert cut_by(reward) == 1
    assert f"reads {longest} tokens: an answer is longer and lost its end" in caplog.text
    row = reward._row(PROMPT, long)
    whole = reward._whole(PROMPT, long, "")
    assert len(row.ids) == longest
    assert row.ids[: longest - 1] == whole.ids[: longest - 1]
    assert row.ids[-1] == (whole.ids[longest - 1] if family == "Llama" else 3)


def test_a_prompt_that_leaves_no_room_is_refused_and_known_beforehand(tmp_path):
    reward = open_reward(written(tmp_path, "BERT", wordpiece()) + "#max_length=16")
    long = "Water boils at one hundred degrees, and ice melts at zero. " * 3
    with pytest.raises(DataError, match=r"the prompt has .* tokens for the classifier, which reads 16"):
        reward.score([long], ANSWERS[:1])
    (window,) = windows_of(reward, None, 4, fix="shorten it")
    assert (window.positions, window.answer) == (16, 4)
    assert reward.prompt_lengths([long])[0] > 16
    assert reward.prompt_lengths(["ice melts"])[0] == len(reward.model.tokenizer("ice melts", "a")["input_ids"]) - 1


# As a reward ----------------------------------------------------------------------------------------------------------


def test_what_is_asked_and_the_files_make_the_fingerprint(tmp_path):
    folder = written(tmp_path / "a", "BERT", wordpiece(), ["bad", "good"])
    moved = str(tmp_path / "b")
    shutil.copytree(folder, moved)
    good, bad = (identify(f"{folder}#label={label}") for label in ("good", "bad"))
    assert good != bad
    assert identify(f"{moved}#label=good") == good == open_reward(f"{folder}#label=good").fingerprint
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    (tmp_path / "b" / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-3}))
    assert identify(f"{moved}#label=good") != good


def test_bfloat16_keeps_the_head_in_float32(tmp_path):
    folder = written(tmp_path, "BERT", wordpiece())
    narrow = open_reward(folder, Model(name=folder, dtype="bfloat16")).score([PROMPT] * 4, ANSWERS)
    whole = open_reward(folder).score([PROMPT] * 4, ANSWERS)
    torch.testing.assert_close(narrow, whole, rtol=0.1, atol=0.1)
    assert not torch.equal(narrow, narrow.bfloat16().float())


def test_a_name_of_the_hub_without_network_says_so():
    with pytest.raises(TrueupError, match="no such directory, and no such model in the cache of the hub"):
        open_reward("nobody/no-such-classifier#label=good")


def test_ppo_and_evaluate_take_it_and_say_how_it_reads(material, tmp_path, caplog):  # noqa: F811
    folder = written(tmp_path / "c", "BERT", wordpiece(), ["bad", "good"])
    source = f"{folder}#label=good"
    out = execute("ppo", config_of("ppo", material | {"judge": source}, steps=2), tmp_path / "r", quiet=True)
    assert read_run(out)["inputs"]["reward"] == read_run(out)["pinned"]["reward"] == identify(source)
    assert len({row["score"] for row in metric_rows(out)}) == 2
    assert "it reads prompt and answer as a pair of texts (it has no chat template)" in caplog.text
    assert "the log-odds of its label 'good' is the score" in caplog.text
    other = config_of("ppo", material | {"judge": f"{folder}#label=bad"}, steps=2)
    with pytest.raises(UsageError, match="reward"):
        execute("ppo", other, tmp_path / "r", quiet=True)
    reward = open_reward(source)
    compare_models(
        [material["policy"]], material["prompts"], reward, tmp_path / "e", sampling=Sampling(max_new_tokens=8), limit=3
    )
    rows, _ = read_lines(tmp_path / "e" / "eval.jsonl")
    for row in rows:
        asked = row["prompt"].removeprefix("user: ")
        bad, good = own(folder, asked, row["completion"]).tolist()
        assert row["reward"] == pytest.approx(good - bad, rel=1e-3)
