"""A reference that is set anew to the policy every so many steps, and is the same after a resume.

The policy is exported to ``references/step-N`` and opened from there as any reference is. A checkpoint names the one
that it counts on, with its fingerprint; those that no checkpoint can need any more are deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

from safetensors import SafetensorError

from trueup.config import Model
from trueup.engine import checkpoint
from trueup.engine.placement import place, whole
from trueup.engine.processes import barrier, rank
from trueup.engine.rendering import rendering_of
from trueup.ledger import Run, storage_error, whole_folder
from trueup.models.policy import open_reference
from trueup.recipes.rollouts.actors import Actors
from trueup.types import Prompt


def reset_reference(run: Run, actors: Actors, model: Model, prompts: Sequence[Prompt], done: int) -> Actors:
    """The same actors with the policy as it is now, after ``done`` steps, for a reference."""
    path = run.path / "references" / _name(done)
    with whole(actors.policy.model):
        if rank() == 0:
            try:
                path.parent.mkdir(exist_ok=True)
                with whole_folder(path) as folder:
                    actors.policy.export(folder, rendering_of(actors.renderer, prompts))
            except (OSError, SafetensorError) as error:
                what = "the new reference cannot be written"
                raise storage_error(checkpoint.system_error(error), what, path) from error
            _prune(run)
    barrier()
    return reopen_reference(run, actors, model, done)


def reopen_reference(run: Run, actors: Actors, model: Model, done: int, pinned: str | None = None) -> Actors:
    """The same actors with the reference that was made after ``done`` steps.

    Raises:
        ModelError: It is not there any more, or is not the one with the fingerprint ``pinned``.
    """
    name = str(run.path / "references" / _name(done))
    reference = open_reference(model.model_copy(update={"name": name, "lora": None}), pinned=pinned)
    place(reference.policy, model.engine)
    return replace(actors, reference=reference)


def _name(done: int) -> str:
    return f"step-{done:08d}"


def _prune(run: Run) -> None:
    """Delete what was the reference before the last one that the oldest checkpoint may count on."""
    kept = checkpoint.names(run.path)
    made = sorted(path for path in (run.path / "references").iterdir() if path.name.startswith("step-"))
    older = [path for path in made if kept and path.name <= kept[0]]
    for path in older[:-1]:
        shutil.rmtree(path)
