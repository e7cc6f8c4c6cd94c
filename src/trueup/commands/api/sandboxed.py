"""The sandbox's data as files, as ``trueup data sandbox`` writes them."""

from __future__ import annotations

from pathlib import Path

from trueup.commands.sandbox_recipe import DEFAULT, SMOKE
from trueup.commands.walkthrough import prepared
from trueup.errors import UsageError


def write_sandbox(
    out: str | Path, *, seed: int = 0, smoke: bool = False, from_scratch: bool = False, quiet: bool = False
) -> dict[str, Path]:
    """Write what ``trueup quickstart`` trains on and is measured by: the same files for the same seed.

    Args:
        out: A new folder, or one that holds this world already, which is then left as it is.
        seed: World and annotators.
        smoke: So little that everything runs in seconds and nothing is proven.
        from_scratch: The corpus of a base model in the place of the base model that comes with the package.
        quiet: Print nothing.

    Returns:
        Paths by what they are: ``base`` (a model; with ``from_scratch`` its corpus), ``demonstrations``,
        ``held_out_demonstrations``, ``pairs``, ``held_out_pairs``, ``prompts``, ``test_prompts``.

    Raises:
        UsageError: The folder holds something else.
        RunError: It holds a world that is damaged.
    """
    folder = Path(out)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "world.json").exists():
        raise UsageError(
            "the folder is not empty and holds no world",
            where=str(folder),
            fix="choose another --out, or remove it where writing it was cut off",
        )
    size = SMOKE if smoke else DEFAULT
    world = prepared(folder, seed, size, from_scratch, (lambda _: None) if quiet else print, anew=False)
    return {name: Path(path) for name, path in world["files"].items()}
