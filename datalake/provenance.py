"""Where, when and how a run was made."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib import metadata, util
from pathlib import Path
from typing import Any


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def cpu_seconds() -> float:
    """Processor time of this process and of those that it started and that have ended, s."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in usages)


def collect(package: str) -> dict[str, Any]:
    """Host, command, image, code of `package`, versions and start time of this process."""
    return {
        "host": platform.node(),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "pid": os.getpid(),
        "start": now(),
        "code": code(package),
        "image": {
            "name": os.environ.get("APPTAINER_CONTAINER", ""),
            # An image does not know its own hash: whoever starts it can tell.
            "digest": os.environ.get(f"{package.upper()}_IMAGE_DIGEST", ""),
        },
        "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
    }


@cache
def code(package: str) -> dict[str, Any]:
    """What of `package` is running: its version, and the commit of a checkout or the hash of an installed wheel.

    ``git`` is the commit, with ``+changes`` if tracked files differ from it; ``wheel`` is the sha256 sum of the list
    of hashes of all installed files (RECORD). Both are empty where there is neither.
    """
    try:
        distribution = metadata.distribution(package)
        version, record = distribution.version, distribution.read_text("RECORD")
    except metadata.PackageNotFoundError:
        version, record = "", None
    spec = util.find_spec(package)
    commit = _commit(Path(spec.origin).resolve().parent) if spec and spec.origin else ""
    wheel = "" if commit or not record else sha256(record.encode()).hexdigest()
    return {"package": package, "version": version, "git": commit, "wheel": wheel}


def _commit(folder: Path) -> str:
    # Only where the package is in a checkout of its own, not in an environment that happens to lie in one.
    if not (folder.parent / ".git").exists():
        return ""
    try:
        head, changes = (
            subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True, timeout=10)
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout of another user, which git refuses
        return ""
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
