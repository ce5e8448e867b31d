"""Small results that are computed once ever, by whichever process comes first; kept by the hash of what they are of.

``lake/store/<name>/<key[:2]>/<key>.npz`` appears by one rename; ``<key>.failed`` holds the reason of a failure, and
what is known of what failed. A process that computes holds a lock on ``<key>.lock``, which the system lets go when the
process dies, however it dies; the size of the file is the number of processes that died so. (On network file systems
without locks two machines may compute the same result; both are right, and one is kept.)
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argyase.datalake.errors import CorruptRunError, DatalakeError
from argyase.datalake.files import load_npz, rename, replace_bytes, writing


@dataclass(frozen=True)
class Failure:
    """A computation that failed when it was tried last."""

    name: str
    key: str
    reason: str
    about: Mapping[str, str]


def failures(lake: Path) -> list[Failure]:
    """All failures of all kinds in a lake, in the order in which they came."""
    found: list[tuple[float, Failure]] = []
    for path in (lake / "store").glob("*/*/[!.]*.failed"):
        with suppress(FileNotFoundError):  # just tried again
            failure = Failure(path.parents[1].name, path.stem, *_reason(path.read_text()))
            found.append((path.stat().st_mtime, failure))
    return [failure for _, failure in sorted(found, key=lambda item: item[0])]


def damaged(lake: Path) -> Iterator[tuple[Path, str]]:
    """Results that cannot be read, and why."""
    for path in sorted((lake / "store").glob("*/*/[!.]*.npz")):
        try:
            load_npz(path)
        except FileNotFoundError:  # just moved aside
            pass
        except CorruptRunError as error:
            yield path, str(error).removeprefix(f"{path}: ")


def _reason(text: str) -> tuple[str, dict[str, str]]:
    try:
        kept = json.loads(text)
        return kept["reason"], kept["about"]
    except (json.JSONDecodeError, TypeError, KeyError):  # of an older lake, the reason alone
        return text, {}


class Store:
    """Results of one kind.

    Parameters
    ----------
    lake
        Folder of the lake.
    name
        Of the kind: results of another program, or with other settings, are another kind.
    """

    def __init__(self, lake: Path, name: str) -> None:
        self._folder = lake / "store" / name

    def _file(self, key: str, suffix: str) -> Path:
        return self._folder / key[:2] / f"{key}{suffix}"

    def get(self, key: str) -> dict[str, NDArray[Any]] | None:
        """The arrays of a result; None if there is none.

        Raises
        ------
        CorruptRunError
            If the file is damaged.
        """
        path = self._file(key, ".npz")
        try:
            return load_npz(path)
        except FileNotFoundError:
            return None
        except CorruptRunError as error:
            raise CorruptRunError(
                f"{error}; argyase lake verify --repair moves it aside, and it is computed again"
            ) from error

    def __contains__(self, key: object) -> bool:
        """Whether there is a result."""
        return self._file(str(key), ".npz").is_file()

    def failure(self, key: str) -> str | None:
        """Why the computation failed when it was tried last; None if it was not, or did not."""
        try:
            return _reason(self._file(key, ".failed").read_text())[0]
        except FileNotFoundError:
            return None

    def forget_failure(self, key: str) -> None:
        """Let a computation that failed be tried again."""
        self._file(key, ".failed").unlink(missing_ok=True)

    def settled(self, key: str) -> bool:
        """Whether there is a result or a failure."""
        return key in self or self._file(key, ".failed").is_file()

    @contextmanager
    def claim(self, key: str) -> Iterator[int | None]:
        """Claim the computation of a result: None if another process is at it, else how many have died at it.

        What is settled may be claimed, too: look again once it is yours.
        """
        path = self._file(key, ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise DatalakeError(f"{path}: cannot be made: {error.strerror}; is the lake read-only?") from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            deaths = os.fstat(handle).st_size
            os.ftruncate(handle, deaths + 1)
            try:
                yield deaths
            finally:
                os.ftruncate(handle, deaths)
        finally:
            os.close(handle)

    def put(self, key: str, arrays: Mapping[str, Any]) -> None:
        """Keep a result; it is whole or absent, whatever happens."""
        path = self._file(key, ".npz")
        new = path.with_name(f".{key}.{os.getpid()}.npz")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with new.open("wb") as file:
                    np.savez(file, **arrays)
                    file.flush()
                    os.fsync(file.fileno())
                rename(new, path)
            finally:
                new.unlink(missing_ok=True)
        self.forget_failure(key)
        self._file(key, ".lock").unlink(missing_ok=True)

    def fail(self, key: str, reason: str, about: Mapping[str, str] | None = None) -> None:
        """Keep the reason of a failure, and what helps to find what failed (see `failures`)."""
        path = self._file(key, ".failed")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_bytes(path, json.dumps({"reason": reason, "about": dict(about or {})}).encode())
        self._file(key, ".lock").unlink(missing_ok=True)
