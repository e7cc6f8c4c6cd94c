"""The life of a pair in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from trueup.commands.life import Life, Passage, Reply, Voice

T = TypeVar("T")

SHOWN = 8
"""Steps that are printed of each run: the first, the last, and some between."""


def format_text(life: Life, *, models: bool = False) -> str:
    """For people; ``models`` says whether opening them was asked for."""
    noun = "response" if life.chosen is None or life.rejected is None else "pair"
    lines = [
        f"{noun} {life.pair_id}, from {life.source}" + (f", key {life.key}" if life.key != life.pair_id else ""),
        f"  prompt:   {_short(life.prompt)}",
    ]
    if noun == "pair":
        lines += [f"  chosen:   {_short(life.chosen or '')}", f"  rejected: {_short(life.rejected or '')}"]
        lines.append(f"  strength: {life.strength:.3f} (probability that chosen is better); {_target(life)}")
    else:
        label = "good" if life.rejected is None else "bad"
        lines.append(f"  {label + ':':<9} {_short(life.chosen or life.rejected or '')}")
        lines.append(f"  strength: {life.strength:.3f} (probability that the label is right)")
    if life.voices:
        lines.append(f"judged {len(life.voices)} times:")
        lines += map(_voice_line, life.voices)
    if life.why_labels_differ:
        lines.append(f"labels: {life.why_labels_differ}")
    for run, steps in life.runs.items():
        if steps:
            lines.append(f"{run}: seen {len(steps)} times")
            lines += [_passage_line(passage, noun) for passage in some(steps)]
            lines.append(f"  in the end the model {_verdict(steps)}")
        lines += _measured_lines(life, run)
    for run, replies in life.replies.items():
        if replies:
            lines.append(f"{run}: its own answers to this prompt")
            lines += [f"  step {reply.step:>6}  {_scored(reply)}" for reply in some(replies)]
        lines += _measured_lines(life, run)
    lines += [f"not shown: {what}" for what in life.missing]
    if noun == "pair" and not models:
        lines.append("--models opens the models: how likely each answer is, scaled rewards, shares of the gradient")
    return "\n".join(lines)


def _target(life: Life) -> str:
    """Where the pair stops pulling."""
    if life.target_logit is None:
        return "target logit: none, it pulls for ever and ever less"
    return f"target logit {life.target_logit:+.3f}, where it stops pulling"


def _scored(reply: Reply) -> str:
    score = "not scored" if reply.score is None else f"reward {reply.score:+.3f}"
    return f"{score}  {_short(reply.text)}"


def _measured_lines(life: Life, run: str) -> list[str]:
    """What the run's models say."""
    measured = life.models.get(run)
    if measured is None:
        return []
    lines = [f"{run}: what its models say"]
    for at in measured.likelihoods:
        odds = f"log-prob {at.chosen:.2f} of chosen, {at.rejected:.2f} of rejected"
        lines += [f"  {at.model}: {odds}", f"    says itself: {_short(at.answer)}"]
    if measured.rewards is not None:
        r = measured.rewards
        lines.append(f"  raw rewards {r.chosen_raw:+.3f} of chosen and {r.rejected_raw:+.3f} of rejected")
        lines.append(f"  scaled, as PPO sees them: {r.chosen:+.3f} and {r.rejected:+.3f}")
    for push in measured.pushes:
        share = f"{push.share:.1%} of the gradient of step {push.step}'s batch"
        lines.append(f"  at {push.point}: its gradient has norm {push.norm:.4g}, {share}")
    return lines


def _voice_line(voice: Voice) -> str:
    extras = [f"{voice.active_seconds:.0f} s"] if voice.active_seconds is not None else []
    extras += ["simulated"] if voice.simulated else []
    rationale = f" {_short(voice.rationale, 60)!r}" if voice.rationale else ""
    return (
        f"  {voice.created_at[:16]}  {voice.annotator}: {voice.verdict}"
        + (f" (strength {voice.strength})" if voice.strength else "")
        + (f"; {voice.shown_first} was shown first" if voice.shown_first else "")
        + (f"; {', '.join(extras)}" if extras else "")
        + rationale
    )


def _passage_line(passage: Passage, noun: str) -> str:
    line = f"  step {passage.step:>6}  " + (f"epoch {passage.epoch:.2f}  " if passage.epoch is not None else "")
    if passage.margin is not None:
        line += f"margin {passage.margin:+.3f}  "
    if passage.probability is not None and passage.loss is not None:
        share = "" if passage.share is None else f", {passage.share:.1%} of the step's pull"
        line += f"= {passage.probability:.1%}, loss {passage.loss:.3f}{share}  "
    sides = [("chosen", passage.chosen_reward), ("rejected", passage.rejected_reward)]
    if noun == "response":
        return line + "".join(f"reward {reward:+.3f}" for _, reward in sides if reward is not None)
    return line + f"({', '.join(f'{name} {reward:+.3f}' for name, reward in sides if reward is not None)})"


def _verdict(steps: Sequence[Passage]) -> str:
    """What the last rewards of the sides say of the label; of a single response its reward is measured from 0."""
    chosen = next((p.chosen_reward for p in reversed(steps) if p.chosen_reward is not None), 0.0)
    rejected = next((p.rejected_reward for p in reversed(steps) if p.rejected_reward is not None), 0.0)
    last = steps[-1].margin if steps[-1].margin is not None else chosen - rejected
    return f"{'agrees with' if last > 0 else 'goes against' if last < 0 else 'does not decide'} the label"


def some(steps: Sequence[T]) -> list[T]:
    """The first, the last, and a few between."""
    if len(steps) <= SHOWN:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (SHOWN - 1))] for i in range(SHOWN)]


def _short(text: str, room: int = 100) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= room else flat[: room - 3] + "..."
