"""Uploading an exported folder to the Hugging Face hub. Nothing here runs unless it was asked for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from trueup.errors import RunError, UsageError

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def require_upload(name: str) -> None:
    """Refuse what could not be uploaded, before anything is exported. The network is not asked.

    Raises:
        UsageError: The name is no ``OWNER/NAME``, the hub is switched off, or nobody is logged in.
    """
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if not NAME.fullmatch(name) or ".." in name or "--" in name or name.endswith((".git", ".ipynb")):
        raise UsageError(f"{name!r}", where="--push", expected="OWNER/NAME, such as my-group/my-model")
    if HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE") == "1":
        raise UsageError(
            "the hub is switched off by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE",
            where="--push",
            fix="unset it, or leave --push out and upload the folder later: hf upload OWNER/NAME FOLDER",
        )
    if not get_token():
        raise UsageError(
            "nobody is logged in to the Hugging Face hub",
            where="--push",
            expected="a token with the right to write",
            fix="hf auth login, or set HF_TOKEN; leave --push out to export only",
        )


def upload(folder: Path, name: str, *, private: bool = True) -> str:
    """Upload a folder as a model of the hub; returns its address.

    A repository that is there stays as public or private as it is.

    Raises:
        RunError: The hub cannot be reached, or refuses. What was exported stays on this machine.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = str(api.create_repo(name, repo_type="model", private=private, exist_ok=True))
        api.upload_folder(
            repo_id=name, folder_path=str(folder), repo_type="model", commit_message="Upload a model trained by trueup"
        )
    except Exception as error:  # the hub's client raises dozens of kinds: no connection, no rights, too large
        first = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise RunError(
            f"the upload failed: {first}",
            where=f"--push {name}",
            fix=f"check the connection, the token's rights and the name; then: hf upload {name} {folder}",
        ) from error
    return address
