"""Whole files and directories: written durably, held by one writer, moved aside but never deleted."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trueup.errors import RunError, UsageError

_REASONS: dict[int, tuple[str, str]] = {
    errno.ENOENT: ("there is no such file or folder", "check the path; a folder that is to hold a file must be there"),
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EFBIG: ("the file would be larger than this process may write", "raise the limit (ulimit -f)"),
    errno.EROFS: ("the disk is read-only", "choose a directory on a disk that can be written"),
    errno.EACCES: ("no permission", "change the permissions, or choose another directory"),
    errno.EPERM: ("no permission", "change the permissions, or choose another directory"),
    errno.ENOTDIR: ("a part of the path is a file", "choose another directory, or move that file away"),
    errno.EISDIR: ("there is a directory where a file belongs", "move that directory away"),
    errno.EEXIST: ("there is a file where a directory belongs", "move that file away"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.EIO: ("the disk fails", "copy what is there to another disk"),
}

_LEFTOVERS = {
    ".": re.compile(r"\.(run\.json|control\.json|final|adapter)\.[0-9]+(\.old)?\.tmp"),
    "checkpoints": re.compile(r"\.(latest|step-[0-9]+)\.[0-9]+\.tmp"),
    "cache": re.compile(r"(reference-[0-9a-f]+|\..+\.[0-9]+)\.tmp"),
    "final": re.compile(r"\..+\.[0-9]+\.tmp"),
}
"""Names, by folder of a run, under which only the holder of its lock writes; others are not ours."""


LOOKED_AT = 0.05
"""Seconds after which a lock is asked for again: ``is_held`` has let go of it by then."""


def storage_problem(error: OSError) -> tuple[str, str | None]:
    """What the system's error means, and what to do about it (None where we know nothing better than its text)."""
    what, fix = _REASONS.get(error.errno or 0, (error.strerror or str(error), None))
    return what, fix


def storage_error(error: OSError, what: str, where: Path) -> RunError:
    """``what`` failed at ``where`` because of ``error``, as an error of ours."""
    problem, fix = storage_problem(error)
    return RunError(f"{what}: {problem}", where=str(where), fix=fix)


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds all of it or what it held before, even after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_file(path: Path, data: bytes, what: str) -> None:
    """``write_atomic`` of a file that the user named; its folders are made.

    Args:
        path: Where.
        data: The content.
        what: What it is, as the message begins: ``the page``.

    Raises:
        UsageError: There is a directory of that name.
        RunError: The disk refuses it; says why, and what to do.
    """
    if path.is_dir():
        raise UsageError("is a directory", where=str(path), expected=f"a file for {what}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    except OSError as error:
        raise storage_error(error, f"{what} cannot be written", path) from error


def sync_folder(path: Path) -> None:
    """Make a rename inside ``path`` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: Path) -> None:
    """Make every file and folder below ``path`` durable, whoever wrote them; nothing where there is none."""
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder) / name
            if file.is_file() and not file.is_symlink():
                sync_folder(file)
        sync_folder(Path(folder))


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``path`` once all of it is safe; until then ``path`` is what it was.

    A kill leaves the folder under a name that ``clear_leftovers`` knows; an error removes it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    before = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
    try:
        temporary.mkdir()
        yield temporary
        sync_tree(temporary)
        if path.exists():
            os.rename(path, before)
        os.rename(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if before.exists() and not path.exists():
            os.rename(before, path)
        raise
    shutil.rmtree(before, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Atomic, readable, key order kept."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def clear_leftovers(folder: Path) -> list[Path]:
    """Remove what killed writes left in a run directory. Only for the holder of its lock."""
    removed = []
    for place, name in _LEFTOVERS.items():
        inside = folder / place
        for path in sorted(inside.iterdir()) if inside.is_dir() else ():
            if not name.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed.append(path)
    return removed


class Lock:
    """The right to write one directory. It ends with the process that holds it, however that ends.

    Both the file ``.lock`` (which names the holder) and the directory itself are locked, so that a second writer is
    refused even after somebody deleted the file.
    """

    def __init__(self, folder: Path) -> None:
        self._handles: list[int] = []
        try:
            self._handles.append(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644))
            self._handles.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
        except OSError as error:
            self.release()
            raise storage_error(error, "cannot write here", folder) from error
        file, directory = self._handles
        try:
            _lock_file(file)
            _lock_folder(directory)
        except BlockingIOError as error:
            holder = os.pread(file, 64, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise RunError(
                f"another process (pid {holder}) is writing this run", where=str(folder), fix="wait for it, or stop it"
            ) from error
        except OSError as error:
            self.release()
            raise RunError(
                f"this file system has no locks: {error.strerror}", where=str(folder), fix="choose another --out"
            ) from error
        with contextlib.suppress(OSError):  # a full disk; the number only helps people
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others write."""
        while self._handles:
            os.close(self._handles.pop())


def is_held(folder: Path) -> bool:
    """Whether a process holds the right to write a run directory, here or through a shared file system.

    Raises:
        RunError: The file system cannot tell.
    """
    try:
        handle = os.open(folder / ".lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, "nobody can tell whether a process writes this run", folder) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go at once; see ``LOOKED_AT``
    except BlockingIOError:
        return True
    except OSError as error:
        raise storage_error(error, "nobody can tell whether a process writes this run", folder) from error
    finally:
        os.close(handle)
    return False


def _lock_folder(directory: int) -> None:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # some network file systems cannot lock a directory; the lock of the file holds there as well
        return


def _lock_file(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # perhaps ``is_held`` is looking at this moment
        time.sleep(LOOKED_AT)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold the right to write ``folder`` for a while.

    Raises:
        RunError: Another process holds it.
    """
    lock = Lock(folder)
    try:
        yield
    finally:
        lock.release()


def move_aside(folder: Path) -> Path | None:
    """Give the run at ``folder`` another name beside it, which is returned; None where there is nothing to move.

    Raises:
        UsageError: It holds files but no run of ours.
        RunError: Another process is writing it, or the disk refuses.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    if not any((folder / name).exists() for name in ("run.json", ".lock", "checkpoints")):
        raise UsageError("the directory is not empty and holds no run", where=str(folder), fix="choose another --out")
    real = folder.resolve()
    number = 1
    while (aside := real.with_name(f"{real.name}.old-{number}")).exists() or aside.is_symlink():
        number += 1
    with one_writer(real):
        try:
            os.rename(real, aside)
            if folder.is_symlink():
                real.mkdir()
            sync_folder(real.parent)
        except OSError as error:
            raise storage_error(error, f"the run cannot be moved to {aside}", folder) from error
    return aside
