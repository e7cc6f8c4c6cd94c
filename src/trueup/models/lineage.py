"""What a model's own files say of where it comes from: card, licence, and what it was made from. Needs no torch."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from trueup.errors import ModelError
from trueup.ledger.card import CARD, Base, front_matter, stages_of
from trueup.models.files import Folder, look
from trueup.models.gguf import gguf_of, read_gguf

log = logging.getLogger("trueup.models")

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
LICENCES = ("LICENSE", "LICENCE", "COPYING", "LICENSE.txt", "LICENCE.txt", "LICENSE.md", "LICENCE.md")
LICENCE_FIELDS = ("license", "license_name", "license_link")
LONGEST = 1 << 20
"""Bytes of a card or licence that are read."""


def lineage(name: str) -> Base:
    """Where the model ``name`` comes from, as far as its files here say so. The network is never asked.

    An adapter without a licence of its own has its base's. Files that are gone or damaged by now say nothing: the
    training that has just ended must not be lost for them.

    Args:
        name: Directory or hub name, as in ``model.name``; ``tiny`` comes from nowhere.
    """
    if name == "tiny":
        return Base(name)
    try:
        file = gguf_of(name)
        if file is not None:
            return _of_gguf(name, file)
        folder = look(name)
        if folder is not None:
            return _of_folder(name, folder)
    except ModelError as error:
        log.warning("the model card says nothing of the base: %s", error)
        return Base(name)
    cached = _cached(name)
    base = Base(name) if cached is None else _of_files(name, cached)
    return Base(name, name, base.licence, base.licence_text, base.stages, base.datasets)


def _of_folder(name: str, folder: Folder) -> Base:
    base = _of_files(name, folder.path)
    if folder.adapter is None:
        return base
    under = lineage(folder.base)
    licensed = base if base.licence or base.licence_text else under
    stages = base.stages or under.stages
    return Base(name, base.hub or under.hub, licensed.licence, licensed.licence_text, stages, base.datasets)


def _of_files(name: str, path: Path) -> Base:
    card = _text(path / CARD)
    front = front_matter(card.decode("utf-8", "replace")) if card is not None else {}
    licence = {key: str(front[key]) for key in LICENCE_FIELDS if isinstance(front.get(key), str)}
    if licence.get("license") == "unknown":
        licence = {}
    text = next((data for each in LICENCES if (data := _text(path / each)) is not None), None)
    if text is not None and not licence:
        licence = {"license": "other", "license_name": "see-licence-file", "license_link": "LICENSE"}
    stages = stages_of(front)
    # The card of a model that trueup did not write names what that model was made from, not the model itself.
    bases = front.get("base_model") if stages else None
    first = bases[0] if isinstance(bases, list) and bases else bases
    hub = first if isinstance(first, str) and HUB_NAME.fullmatch(first) else None
    return Base(name, hub, licence, text, stages, _names(front.get("datasets")))


def _of_gguf(name: str, file: Path) -> Base:
    """What stands beside a GGUF file, and where there is nothing, what the file itself says of its licence."""
    base = _of_files(name, file.parent)
    if base.licence:
        return base
    try:
        metadata = read_gguf(file).metadata
    except ModelError as error:
        log.info("%s says nothing of its licence: %s", file, error)
        return base
    said = {key: metadata.get(f"general.{key.replace('_', '.')}") for key in LICENCE_FIELDS}
    licence = {key: value for key, value in said.items() if isinstance(value, str) and value != "unknown"}
    return Base(name, base.hub, licence, base.licence_text, base.stages, base.datasets)


def _names(value: Any) -> list[str]:
    names = value if isinstance(value, list) else [value]
    return [each for each in names if isinstance(each, str) and HUB_NAME.fullmatch(each)]


def _text(file: Path) -> bytes | None:
    """The content of a small file; None where there is none that can be read."""
    try:
        if not file.is_file() or file.stat().st_size > LONGEST:
            return None
        return file.read_bytes()
    except OSError as error:
        log.warning("%s cannot be read: %s", file, error)
        return None


def _cached(name: str) -> Path | None:
    """Where the hub's files of ``name`` are kept on this machine."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception as error:  # none is kept, or the name is none of the hub's: dozens of kinds
        log.info("no files of %s are kept here: %s", name, error)
        return None
