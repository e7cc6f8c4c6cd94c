"""What ``ConstitutionalCritic`` takes: functions, objects that generate, pipelines, models with their tokenizers."""

import numpy as np
import pytest
import torch
from transformers import pipeline

from tests.conftest import tiny_model
from trueup import course
from trueup.course.speakers import HuggingFaceSpeaker, as_speaker
from trueup.errors import ConfigError, DataError
from trueup.models.policy import open_policy

TEXTS = ["Question: how? Answer: so. Principle: be kind. Does the answer break the principle? ", "YES", "NO"] * 40


@pytest.fixture(scope="module")
def opened():
    policy = open_policy(tiny_model(context=512), texts=TEXTS, seed=1)
    return policy.model, policy.tokenizer


class Generates:
    def generate(self, text):
        return "YES: be kind" if "Rewrite" not in text else "Kinder."


def test_an_object_that_generates_text():
    critic = course.ConstitutionalCritic(Generates(), ["Be kind"])
    case = critic.critique("how?", "so")
    assert case == {"violations": ["Be kind"], "suggestions": ["be kind"]}
    assert critic.revise("how?", "so", case) == "Kinder."


@pytest.mark.parametrize("given", [tuple, list])
def test_a_model_with_its_tokenizer_judges_by_log_probs_and_keeps_the_keys(opened, given):
    model, tokenizer = opened
    critic = course.ConstitutionalCritic(given(opened), ["Be kind", "Be brief"])
    case = critic.critique("how?", "so")
    assert set(case) == {"violations", "suggestions"}
    assert len(case["violations"]) == len(case["suggestions"])
    turns = [{"role": "user", "content": "Does it? Reply YES or NO."}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        logits_V = model(ids["input_ids"]).logits[0, -1].double().numpy()
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("YES", "NO"))
    wanted = np.exp(logits_V[yes]) / (np.exp(logits_V[yes]) + np.exp(logits_V[no]))
    assert HuggingFaceSpeaker(*opened).says_yes(turns[0]["content"]) == pytest.approx(float(wanted), abs=1e-6)


def test_verdicts_and_advice_of_a_model_go_where_they_belong(opened, monkeypatch):
    monkeypatch.setattr(HuggingFaceSpeaker, "says_yes", lambda self, text: 0.9 if "Be kind" in text else 0.5)
    monkeypatch.setattr(HuggingFaceSpeaker, "__call__", lambda self, text: " Say it kindly. ")
    critic = course.ConstitutionalCritic(opened, ["Be kind", "Be brief"])
    assert critic.critique("q", "a") == {"violations": ["Be kind"], "suggestions": ["Say it kindly."]}
    assert critic.revise("q", "a", {"violations": [], "suggestions": []}) == "a"


def test_a_pipeline_is_its_model_and_tokenizer(opened):
    model, tokenizer = opened
    speak = as_speaker(pipeline("text-generation", model=model, tokenizer=tokenizer))
    assert isinstance(speak, HuggingFaceSpeaker)
    assert speak("how?") == HuggingFaceSpeaker(model, tokenizer)("how?")


def test_a_model_without_a_chat_template_reads_the_text_itself(opened, monkeypatch):
    model, tokenizer = opened
    monkeypatch.setattr(tokenizer, "chat_template", None)
    assert 0 < HuggingFaceSpeaker(model, tokenizer).says_yes("Does it?") < 1


def test_a_model_without_its_tokenizer_says_how_to_give_both(opened):
    with pytest.raises(ConfigError, match=r"\(model, tokenizer\)"):
        course.ConstitutionalCritic(opened[0], ["Be kind"])


@pytest.mark.parametrize("model", [3, None, "gpt2", object(), (1, 2), (1, 2, 3)])
def test_what_cannot_answer_is_refused(model):
    with pytest.raises(ConfigError, match="expected: a function"):
        course.ConstitutionalCritic(model, ["Be kind"])


@pytest.mark.parametrize("answer", [None, 3, ["YES"], {"generated_text": "YES"}])
def test_what_is_no_text_is_no_verdict(answer):
    with pytest.raises(DataError, match="the model gave"):
        course.ConstitutionalCritic(lambda text: answer, ["Be kind"]).critique("q", "a")
