"""The command line, and a small campaign for it."""

import subprocess
import sys
from pathlib import Path

CAMPAIGN = """
[campaign]
name = "tiny"
[grid]
inversion = [{inversions}]
temperature_K = [{temperature}]
[structures]
a = 10.0
[md]
potential = "LiPSCl-study"
sample_ps = 0.02
segments = [
  {{ kind = "equilibrate", ensemble = "nvt", duration_ps = 0.2 }},
  {{ kind = "produce", ensemble = "npt", duration_ps = {length} }},
]
"""


def argyase(*arguments: object, cwd: Path | str = "/") -> subprocess.CompletedProcess[str]:
    """The ``argyase`` command in a process of its own."""
    command = [sys.executable, "-m", "argyase.stages._cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
