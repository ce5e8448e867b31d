"""An engine as they are: it counts its calls in a file, takes its time, and does what it is told at certain atoms."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

FAILS, DIES, NAN = 60.0, 70.0, 80.0
"""x of the first atom at which it raises, ends the process, gives no number."""


class Faulty(Calculator):
    """Springs to the origin, without a stress."""

    implemented_properties = ("energy", "forces")

    def __init__(self, log: str, seconds: float = 0.0) -> None:
        super().__init__()
        self.log, self.seconds = log, seconds
        self._note("built")

    def _note(self, text: str) -> None:
        with Path(self.log).open("a") as file:
            file.write(f"{text}\n")

    def calculate(self, atoms: Atoms, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        x = float(atoms.positions[0, 0])
        self._note(f"{x:g}")
        time.sleep(self.seconds)
        if x == FAILS:
            raise ValueError("did not converge")
        if x == DIES:
            os._exit(1)
        energy = np.nan if x == NAN else 0.5 * float((atoms.positions**2).sum())
        self.results = {"energy": energy, "forces": -atoms.positions}


def no_licence(log: str) -> Calculator:
    raise RuntimeError(f"no licence, see {log}")
