"""The command line, and a small campaign for it."""

import os
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


def on_path(folder: Path) -> dict[str, str]:
    """An environment with the ``argyase`` under test in front of every other program of that name, in a new folder."""
    folder.mkdir()
    command = folder / "argyase"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m argyase.stages._cli "$@"\n')
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def frequent_checkpoints(folder: Path) -> dict[str, str]:
    """An environment in which every Python has a 25th of the work between checkpoints, in a new folder.

    52 atoms at 2 fs: each 11 ps.
    """
    folder.mkdir()
    patch = "from argyase.dynamics import simulation\nsimulation.CHECKPOINT_ATOM_STEPS = 2.857e5\n"
    (folder / "sitecustomize.py").write_text(patch)
    return {**os.environ, "PYTHONPATH": str(folder)}
