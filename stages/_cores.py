"""Cores of this machine for processes of ours: each core for one of them at a time, whoever started it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 10.0
"""How long to wait for a core that others hold, before sharing theirs."""


def allowed() -> list[int]:
    """Cores that this process may use: of a batch job, only its own."""
    return sorted(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Lease:
    """Cores that are ours until all processes that hold `handles` have closed them, or died."""

    cores: tuple[int, ...]
    handles: tuple[int, ...]

    def pin(self, pid: int) -> None:
        """Keep a process, and the threads that it starts from now on, on these cores; say that it uses them."""
        # It has ended; or this system does not let us.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.sched_setaffinity(pid, self.cores)
        for handle in self.handles:
            _sign(handle, pid)

    def release(self) -> None:
        """Let go of them here; a child that inherited the handles holds them on."""
        for handle in self.handles:
            os.close(handle)


def shared(among: Sequence[int]) -> Lease:
    """Any of these cores, beside whoever holds them."""
    return Lease(tuple(among), ())


def lease(count: int, among: Sequence[int] | None = None) -> Lease | None:
    """So many cores that no other process of ours holds; None if there are not enough of them now.

    A core whose holder was stopped (Ctrl-Z) is free for one more, as it is idle. In a job of Slurm, it is Slurm that
    gives cores to processes: all that are allowed, held from nobody.
    """
    if "SLURM_JOB_ID" in os.environ:
        return shared(allowed())
    cores, handles = list[int](), list[int]()
    for core in allowed() if among is None else among:
        if len(cores) == count:
            break
        for path in _files(core):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                if not _stopped(_signed(path).get("pid", 0)):
                    break
            else:
                _sign(handle, os.getpid())
                cores.append(core)
                handles.append(handle)
                break
    found = Lease(tuple(cores), tuple(handles))
    if len(cores) < count:
        found.release()
        return None
    return found


def holders(among: Sequence[int]) -> list[str]:
    """Who else has some of these cores, for people: ``argyase run my.toml (pid 1234)``."""
    found = {}
    for core in among:
        for path in _files(core):
            by, handle = _signed(path), os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if by.get("by") != os.getpid():
                    state = ", stopped" if _stopped(by.get("pid", 0)) else ""
                    found[by.get("by")] = f"{by.get('command', 'a process')} (pid {by.get('by', 'unknown')}{state})"
            finally:
                os.close(handle)
    return list(found.values())


def _files(core: int) -> list[Path]:
    """Locks of a core: the second is for those who use it while the holder of the first is stopped."""
    folder = Path(tempfile.gettempdir()) / f"argyase-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return [folder / str(core), folder / f"{core}.again"]


def _sign(handle: int, pid: int) -> None:
    """Write into a lock who holds it: the process on the core, and the one that the user started."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    text = json.dumps({"pid": pid, "by": os.getpid(), "command": command})
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)


def _signed(path: Path) -> dict[str, int | str]:
    """What `_sign` wrote; empty if there is nothing yet."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def _stopped(pid: int | str) -> bool:
    """Whether a process was stopped by a signal, and not ended."""
    try:
        # After the name, which may have anything in it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:
        return False
