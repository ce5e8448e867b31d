"""An engine as they are: it counts its calls in a file, takes its time, and does what it is told at certain atoms."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP

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


class Explosive(MTP):
    """The study potential, which after so many calls pushes atoms where they should be pulled, and knows of nothing."""

    def __init__(self, calls: int) -> None:
        potential = find_potential("LiPSCl-study")
        super().__init__(potential.path, potential.species, active_set=potential.active_set)
        self.left = calls

    def calculate(self, *arguments: Any, **named: Any) -> None:
        super().calculate(*arguments, **named)
        self.left -= 1
        if self.left < 0:
            self.results["forces"] = -20 * self.results["forces"]
        self.results["grades"] = np.ones(len(self.atoms))


class Breaking(MTP):
    """The study potential, which after so many calls fails, or dies, until a file says that it was mended."""

    def __init__(self, calls: int, mended: str, dies: bool = False) -> None:
        potential = find_potential("LiPSCl-study")
        super().__init__(potential.path, potential.species)
        self.left, self.mended, self.dies = calls, Path(mended), dies

    def calculate(self, *arguments: Any, **named: Any) -> None:
        self.left -= 1
        if self.left < 0 and not self.mended.exists():
            if self.dies:
                os._exit(1)
            raise MemoryError("out of memory on the accelerator")
        super().calculate(*arguments, **named)


def no_licence(log: str) -> Calculator:
    raise RuntimeError(f"no licence, see {log}")
