"""``trueup sample``: ask models the same thing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from trueup.errors import DataError

if TYPE_CHECKING:
    from trueup.commands.panel import Answer


def sample(
    models: Annotated[list[str], typer.Argument(help="Names or directories; answers are shown side by side.")],
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="Repeatable; without it you are asked.")] = None,
    reward: Annotated[str | None, typer.Option("--reward", help="Reward that scores the answers, as for ppo.")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Model to measure KL from.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 is off.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="0 is off.")] = 0,
    repetition_penalty: Annotated[float, typer.Option(help="1 is off.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same answers.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Ask models the same thing.

    Example: `trueup sample runs/sft/final runs/ppo/final --prompt "How do I learn Python?" --reward runs/reward/final`
    """
    import dataclasses
    import json

    from trueup.config import Sampling, build

    values = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "repetition_penalty": repetition_penalty,
    }
    settings = build(Sampling, values, where="command line")
    from trueup.commands.panel import Panel
    from trueup.commands.scoring import open_source

    panel = Panel(models, reward=None if reward is None else open_source(reward), reference=reference)
    panel.check(prompt or (), settings)
    for turn, text in enumerate(prompt or _ask()):
        try:
            answers = panel.ask(text, settings, seed + turn)
        except DataError as error:
            if prompt:
                raise
            typer.echo(f"error: {error}", err=True)  # who types can type another one
            continue
        for answer in answers:
            if as_json:
                typer.echo(json.dumps(dataclasses.asdict(answer), ensure_ascii=False))
            else:
                _show(answer)


def _ask() -> Iterator[str]:
    """Prompts typed by the user, until an empty line or the end of input."""
    while True:
        try:
            text = input("prompt> ").strip()
        except EOFError:
            return
        if not text:
            return
        yield text


def _show(answer: Answer) -> None:
    notes = [f"{answer.tokens} tokens, {answer.stop.value}"]
    notes += [f"reward {answer.reward:+.2f}"] if answer.reward is not None else []
    notes += [f"KL {answer.kl:.2f}"] if answer.kl is not None else []
    typer.secho(f"{answer.model}  ({'; '.join(notes)})", bold=True)
    typer.echo(f"  {answer.text.strip()}\n")
