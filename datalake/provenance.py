"""Where, when and how a run was made."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from typing import Any


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def collect() -> dict[str, Any]:
    """Host, command, versions and start time of this process."""
    return {
        "host": platform.node(),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "pid": os.getpid(),
        "start": now(),
        "container": os.environ.get("APPTAINER_NAME", ""),
        "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
    }
