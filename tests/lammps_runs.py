"""One evaluation of ``pair_style mtp`` by LAMMPS, for tests on one rank or many."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism
from strategies import SPECIES

from argyase.potentials.lammps_plugin import create_lammps

METAL_NKTV2P = 1.6021765e6
"""LAMMPS' own constant, eV/A^3 in bar, of its units metal: rounded to 8 digits."""


def run_lammps(atoms: Atoms, path: Path, options: str = "", coeffs: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Energies, forces, virial and per-atom virials by LAMMPS, in its orientation of the cell (see `oriented`)."""
    lmp = create_lammps(["-log", "none", "-screen", "none", "-nocite"])
    try:
        periodic = "p p p" if atoms.pbc.all() else "f f f"
        for command in ("units metal", "atom_style atomic", "atom_modify map yes", f"boundary {periodic}"):
            lmp.command(command)
        h = atoms.cell.array
        lmp.command("box tilt large")
        lmp.command(
            "region box prism " + " ".join(f"0 {h[k, k]:.17g}" for k in range(3))
            + f" {h[1, 0]:.17g} {h[2, 0]:.17g} {h[2, 1]:.17g} units box"
        )  # fmt: skip
        lmp.command("create_box 4 box")
        lmp.command("mass * 1.0")
        n = len(atoms)
        types = [SPECIES.index(s) + 1 for s in atoms.get_chemical_symbols()]
        made = lmp.create_atoms(n, list(range(1, n + 1)), types, atoms.get_positions().ravel().tolist())
        assert made == n
        lmp.command(f'pair_style mtp "{path}" {options}')
        for line in ("pair_coeff * *", *coeffs):
            lmp.command(line)
        lmp.command("compute e all pe/atom")
        lmp.command("compute v all stress/atom NULL virial")
        lmp.command("compute es all reduce sum c_e")
        for k in range(1, 7):
            lmp.command(f"compute v{k} all reduce sum c_v[{k}]")
        lmp.command(
            "thermo_style custom step pe pxx pyy pzz pyz pxz pxy c_es " + " ".join(f"c_v{k}" for k in range(1, 7))
        )
        lmp.command("thermo_modify norm no")
        lmp.command("run 0")
        pressure = np.array([lmp.get_thermo(f"p{k}") for k in ("xx", "yy", "zz", "yz", "xz", "xy")])
        order = np.argsort(lmp.gather_atoms("id", 0, 1))
        assert len(order) == n
        return {
            "energy": np.array(lmp.get_thermo("pe")),
            "forces": np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3),
            "virial": pressure * lmp.get_thermo("vol") / METAL_NKTV2P,
            "sum_energies": np.array(lmp.extract_compute("es", 0, 0)),
            # stress/atom is -virial x nktv2p, in the order xx yy zz xy xz yz.
            "sum_virials": -np.array([lmp.extract_compute(f"v{k}", 0, 0) for k in (1, 2, 3, 6, 5, 4)]) / METAL_NKTV2P,
        }
    finally:
        lmp.close()


def oriented(atoms: Atoms) -> Atoms:
    """The same crystal in LAMMPS' orientation: a along x, b in the xy plane; a right-handed cell."""
    if np.linalg.det(atoms.cell.array) < 0:
        atoms = Atoms(atoms.symbols, -atoms.positions, cell=-atoms.cell.array, pbc=atoms.pbc)
    prism = Prism(atoms.cell.array, pbc=atoms.pbc.all(), reduce_cell=False)
    xhi, yhi, zhi, xy, xz, yz = prism.get_lammps_prism()
    cell = np.array([[xhi, 0, 0], [xy, yhi, 0], [xz, yz, zhi]])
    fractional = atoms.get_scaled_positions(wrap=True)
    return Atoms(atoms.symbols, fractional @ cell, cell=cell, pbc=atoms.pbc)


def mpiexec(ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python on some MPI ranks, with the helpers of the tests."""
    launcher = Path(sysconfig.get_path("scripts")) / "mpiexec"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [str(launcher), "-n", str(ranks), sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=120)
