"""Which renderer belongs to which model that is trained or asked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from trueup.config import Batch, Model
from trueup.data.render import Renderer
from trueup.data.template import is_plain
from trueup.errors import ModelError
from trueup.models import tokens
from trueup.models.heads import RewardModel
from trueup.models.policy import Policy, Reference
from trueup.models.rendering import Rendering
from trueup.types import Prompt

UNLIMITED = 1 << 20
"""Tokens that stand for no limit, where a model's config names none."""


def renderer_of(model: Policy | RewardModel, config: Model, batch: Batch) -> Renderer:
    """The renderer of a model that is trained or asked.

    Raises:
        ModelError: ``model.template`` is another template than the one that the model carries.
    """
    carried = model.tokenizer.chat_template
    if config.template == "plain" and carried is not None and not is_plain(carried):
        raise ModelError(
            "the model carries a chat template of its own, and model.template=plain is another one",
            where=config.name,
            expected="the template that the model was trained with",
            fix="leave model.template out; to train it on the built-in template all the same:"
            " --set model.template=replace-with-plain",
        )
    template = "plain" if config.template is not None else None
    return Renderer.of(
        model.tokenizer,
        batch,
        template=template,
        context=model.context,
        today=None if config.template_date is None else date.fromisoformat(config.template_date),
        variables=config.template_variables,
    )


def whole_context(context: int | None) -> Batch:
    """Limits of a model that is asked, not trained: all of its context, and no prompt is cut."""
    return Batch(max_length=context if context is not None else UNLIMITED)


def rendering_of(renderer: Renderer, prompts: Iterable[Prompt]) -> Rendering:
    """What a trained model must carry of the rendering of its examples, which had these prompts."""
    kinds = {isinstance(prompt, str) for prompt in prompts}
    carried = renderer.encoder.tokenizer.chat_template
    chats = False in kinds
    return Rendering(
        chat_template=renderer.chat.exported if chats and renderer.chat.exported != carried else None,
        today=renderer.chat.text.today if chats and renderer.chat.dated else None,
        end_ids=renderer.stop_ids if chats else (renderer.eos_id,),
        max_length=renderer.max_length,
        max_prompt_length=renderer.max_prompt_length,
        chats=chats,
        texts=True in kinds,
    )


def check_reference(reference: Reference, renderer: Renderer, config: Model, longest: int) -> None:
    """Refuse a reference that cannot read what the policy is trained on, before it has to.

    Args:
        reference: The fixed model.
        renderer: The policy's, whose ids the reference reads too.
        config: The policy's settings.
        longest: Tokens of the longest sequence.

    Raises:
        ModelError: Ids or end tokens mean something else to the reference; it was trained with another chat template,
            and it was not said that this one is to be replaced; or its context is shorter than the longest sequence.
    """
    other = tokens.vocabulary_difference(renderer.encoder.tokenizer, reference.policy.tokenizer)
    if other is not None:
        raise ModelError(
            f"the reference has another tokenizer than the policy: {other}",
            where=reference.policy.source,
            expected="a reference that reads the policy's ids as the policy does",
            fix="take the model that the policy started from, which is the default",
        )
    theirs, context = reference.policy.tokenizer.chat_template, reference.policy.context
    if context is not None and longest > context:
        raise ModelError(
            f"the reference has {context} positions and the longest sequence {longest} tokens",
            where=reference.policy.source,
            fix=f"lower batch.max_length to {context}, or take the model that the policy started from",
        )
    if config.template == "replace-with-plain" or theirs in (None, renderer.chat.source):
        return
    raise ModelError(
        "the reference carries another chat template than the policy is rendered with",
        where=reference.policy.source,
        expected="a reference that was trained with the policy's template, or one without any",
        fix="take the model that the policy started from, which is the default",
    )


def renderer_difference(policy: Renderer, reference: Renderer) -> str | None:
    """Why the policy's ids mean something else to the reference, so that no KL can be measured; None if they do not.

    A reference without a template, such as the base model, reads those of any.
    """
    other = tokens.vocabulary_difference(policy.encoder.tokenizer, reference.encoder.tokenizer)
    if other is not None:
        return f"the models' vocabularies differ ({other})"
    same = reference.chat.source in (None, policy.chat.source)
    return None if same else "the models' chat templates differ"
