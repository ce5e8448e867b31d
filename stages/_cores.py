"""Cores of this machine for processes of ours: each core for one of them at a time, whoever started it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


def allowed() -> list[int]:
    """Cores that this process may use: of a batch job, only its own."""
    return sorted(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Lease:
    """Cores that are ours until all processes that hold `handles` have closed them, or died."""

    cores: tuple[int, ...]
    handles: tuple[int, ...]

    def pin(self, pid: int) -> None:
        """Keep a process, and the threads that it starts from now on, on these cores."""
        # It has ended; or this system does not let us.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.sched_setaffinity(pid, self.cores)

    def release(self) -> None:
        """Let go of them here; a child that inherited the handles holds them on."""
        for handle in self.handles:
            os.close(handle)


def lease(count: int, among: Sequence[int] | None = None) -> Lease | None:
    """So many cores that no other process of ours holds; None if there are not enough of them now.

    In a job of Slurm, it is Slurm that gives cores to processes: all that are allowed, held from nobody.
    """
    if "SLURM_JOB_ID" in os.environ:
        return Lease(tuple(allowed()), ())
    folder = Path(tempfile.gettempdir()) / f"argyase-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    cores, handles = list[int](), list[int]()
    for core in allowed() if among is None else among:
        if len(cores) == count:
            break
        handle = os.open(folder / str(core), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            continue
        cores.append(core)
        handles.append(handle)
    found = Lease(tuple(cores), tuple(handles))
    if len(cores) < count:
        found.release()
        return None
    return found
