"""Writing files so that a reader sees the old or the new one, never half of one, and reading what was not changed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argyase.datalake.errors import CorruptRunError, DatalakeError

LATE_SECONDS = 10.0
"""How long a network file system may take to show what was renamed."""


def fsync(path: str | Path) -> None:
    """Make a file, or the entries of a directory, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(path: Path) -> None:
    """Make every file and directory below `path` durable."""
    for folder, _, names in os.walk(path):
        for name in names:
            fsync(os.path.join(folder, name))
        fsync(folder)


def replace_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path` durably and at once."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(aside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    rename(aside, path)


def replace_json(path: Path, content: Any) -> None:
    """Put JSON at `path` durably and at once."""
    replace_bytes(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=True).encode())


def rename(source: Path, target: Path) -> None:
    """Put `source` at `target` at once and durably, and wait until it is seen there.

    A network file system may do it, lose its answer, and call the second try an error; or show what was there before
    for some seconds.

    Raises
    ------
    OSError
        If it cannot be done, or is not seen after `LATE_SECONDS`.
    """
    moved = os.stat(source)
    try:
        os.replace(source, target)
    except FileNotFoundError:
        if not _is(target, moved):
            raise
    deadline = time.monotonic() + LATE_SECONDS
    while not target.exists():  # what another process put there meanwhile is right, too
        if time.monotonic() > deadline:
            raise TimeoutError(f"{target}: was put in place, and is not seen after {LATE_SECONDS:.0f} s")
        time.sleep(0.05)
    fsync(target.parent)


def _is(path: Path, known: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), known)
    except FileNotFoundError:
        return False


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file where the system only says why it cannot be written.

    Raises
    ------
    DatalakeError
        Instead of an OSError: of a full disk, a quota, a lake that may only be read.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise DatalakeError(
            f"{path}: cannot be written: {why} (a full disk, a quota, a read-only lake?); what is published and the "
            "last checkpoint are whole: when it can be written again, run the same command"
        ) from error


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """JSON with a hash over all of it."""
    plain = json.loads(json.dumps(content))
    plain.pop("seal", None)
    return {**plain, "seal": _seal(plain)}


def unsealed(path: Path, without: Collection[str]) -> dict[str, Any]:
    """Read JSON that was `sealed`; of older lakes also what was not, if all its keys are among `without`.

    Raises
    ------
    FileNotFoundError
        If there is none.
    CorruptRunError
        If it cannot be read, or was changed.
    """
    try:
        content = dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise CorruptRunError(f"{path}: cannot be read: {error!r}") from None
    seal = content.pop("seal", None)
    if seal != _seal(content) if seal is not None else not content.keys() <= set(without):
        raise CorruptRunError(f"{path}: content changed")
    return content


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file, each compared with its checksum.

    `numpy.load` compares it only where the array is as long as the file says: a shape of fewer numbers, made by one
    changed bit, would go unseen.

    Raises
    ------
    FileNotFoundError
        If there is none.
    CorruptRunError
        If it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = {name: file.read(name) for name in file.namelist()}
        return {n.removesuffix(".npy"): np.load(io.BytesIO(m), allow_pickle=False) for n, m in members.items()}
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy and zipfile raise anything
        raise CorruptRunError(f"{path}: damaged ({error})") from error


def sha256(path: Path) -> str:
    """Hash of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
