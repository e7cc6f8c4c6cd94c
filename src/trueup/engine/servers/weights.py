"""Versions of a policy's weights in a folder that trainer and servers share, and how a version is recognised.

version-00000042/   what ``from_pretrained`` opens; whole or absent

A server says that it has loaded new weights, and that is not believed: it is asked for the log-probs of a few fixed
texts, which are compared with those of the trainer at each version.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from trueup.engine.checkpoint import system_error
from trueup.ledger import storage_error, whole_folder

CLEARLY = 0.5
"""An older version is taken for what a server holds when its distance is below this share of the newest one's."""
REMEMBERED = 4096
"""Versions whose log-probs are kept."""


class WeightFolder:
    """The newest versions of the weights of one run; what an earlier start of the run left is removed.

    Args:
        path: The folder; nothing else may write into it.
        keep: Versions that stay.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path.absolute()
        self.keep = keep
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for old in (*self.path.glob("version-*"), *self.path.glob(".version-*.tmp")):
                shutil.rmtree(old)
        except OSError as error:
            raise storage_error(error, "the folder for the servers' weights cannot be used", self.path) from error

    def write(self, version: int, export: Callable[[Path], None]) -> Path:
        """Let ``export`` write a version into a folder, which gets its name once it is whole; the oldest ones go.

        Raises:
            RunError: The disk refuses.
        """
        folder = self.path / f"version-{version:08d}"
        try:
            with whole_folder(folder) as temporary:
                export(temporary)
            for old in sorted(self.path.glob("version-*"))[: -self.keep]:
                shutil.rmtree(old)
        except (OSError, SafetensorError) as error:
            what = f"version {version} of the weights cannot be written for the servers"
            raise storage_error(system_error(error), what, folder) from error
        return folder


class Versions:
    """Log-probs of fixed texts by the trainer, version by version.

    Args:
        limit: Mean absolute difference of log-probs, in nats a token, from which on two are of different models.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._logps: dict[int, torch.Tensor] = {}

    def add(self, version: int, logps: Sequence[torch.Tensor]) -> None:
        """Remember the log-probs [T] of each text at a version."""
        self._logps[version] = torch.cat(list(logps)).double()
        for old in sorted(self._logps)[:-REMEMBERED]:
            del self._logps[old]

    def recognise(self, logps: Sequence[torch.Tensor]) -> tuple[int | None, float]:
        """The version that somebody's log-probs of the same texts are of, and the mean distance to it in nats.

        None where they are of none. An older version has to fit clearly better than the newest: two that differ less
        than the two machines' arithmetic cannot be told apart, and a server that never takes new weights is noticed
        once the policy has moved by more than that.
        """
        theirs_T = torch.cat(list(logps)).double()
        newest = max(self._logps)
        errors = {version: float((theirs_T - own_T).norm()) for version, own_T in self._logps.items()}
        best = min(errors, key=lambda version: (errors[version], -version))
        version = best if errors[best] < CLEARLY * errors[newest] else newest
        distance = float((theirs_T - self._logps[version]).abs().mean())
        return (version if distance <= self.limit else None), distance
