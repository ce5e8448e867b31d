"""An engine that knows charges: point charges of closed shells in a background that makes the cell neutral."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.io.ase import AseAtomsAdaptor

FORMAL = {"Li": 1, "P": 5, "S": -2, "Cl": -1}


class Ions(Calculator):
    """Energies of Ewald sums; refuses a charge that the ions do not have."""

    implemented_properties = ("energy", "forces")

    def __init__(self, charge: int = 0) -> None:
        super().__init__()
        self.charge = charge

    def calculate(self, atoms: Atoms, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if sum(FORMAL[s] for s in atoms.symbols) != self.charge:
            raise ValueError(f"{atoms.get_chemical_formula()} has no charge of {self.charge}")
        structure = AseAtomsAdaptor.get_structure(atoms)
        structure.add_oxidation_state_by_element(FORMAL)
        self.results = {"energy": float(EwaldSummation(structure).total_energy), "forces": np.zeros((len(atoms), 3))}
