"""How many reward models ``trueup plan --on`` counts: members of an ensemble that share a backbone hold it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.commands.pipeline import Stage
from trueup.config.code import names_code
from trueup.errors import TrueupError
from trueup.rewards.options import apart


@dataclass(frozen=True, slots=True)
class Scorers:
    """What scores the answers of a step. Each model is taken to have the policy's shape."""

    models: int
    """Whole models that are held; adapters, which come on top, are a hundredth of one or so."""
    passes: int
    """Forward passes over each answer: one for all outputs of a model, one for each adapter."""

    def __add__(self, other: Scorers) -> Scorers:
        return Scorers(self.models + other.models, self.passes + other.passes)


NONE = Scorers(0, 0)


def adapter_bases(out: Path, stages: Sequence[Stage]) -> dict[str, str]:
    """The folders of the adapters that stages will write, and the models that these change."""
    bases = {}
    for stage in stages:
        model = stage.settings.get("model")
        if isinstance(model, Mapping) and model.get("lora") and "name" in model:
            bases[_resolved(out / stage.name / "adapter")] = str(model["name"])
    return bases


def scorers_of(reward: Any, bases: Mapping[str, str], engine: str) -> Scorers:
    """Models and passes of a reward as a recipe names it: Python and rules on texts need none.

    Args:
        reward: A source, or parts of a reward.
        bases: As ``adapter_bases`` gives them.
        engine: Of the stage; with ``fsdp2`` members share nothing.
    """
    if isinstance(reward, str):
        return Scorers(1, 1) if _is_model(reward) else NONE
    total = NONE
    for part in reward:
        if hasattr(part, "source"):
            total += scorers_of(part.source, bases, engine)
        elif members := [member for member in getattr(part, "members", ()) if _is_model(member)]:
            total += Scorers(len(members), len(members)) if engine == "fsdp2" else _shared(members, bases)
    return total


def _is_model(source: str) -> bool:
    return source.startswith("@") or not names_code(source)  # @name is a stage here


def _shared(members: Sequence[str], bases: Mapping[str, str]) -> Scorers:
    """Members by what they share: outputs of one model are of one pass, adapters of one base are of one model."""
    models = {apart(member)[0] for member in members}
    return Scorers(len({_backbone(model, bases) for model in models}), len(models))


def _backbone(model: str, bases: Mapping[str, str]) -> str:
    """The base of an adapter, that is there or that a stage will write; else the model itself."""
    if model.startswith("@"):
        return model
    if (planned := bases.get(_resolved(Path(model)))) is not None:
        return planned if planned.startswith("@") else _base_name(planned)
    from trueup.models.adapter_members import shared_base  # loads torch: only where there may be an adapter

    try:
        return _base_name(shared_base(model) or model)
    except TrueupError:  # not there yet, or not whole: opening it will say so
        return _base_name(model)


def _base_name(name: str) -> str:
    return _resolved(Path(name)) if Path(name).is_dir() else name


def _resolved(path: Path) -> str:
    return str(path.expanduser().resolve())
