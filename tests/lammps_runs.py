"""One evaluation of ``pair_style mtp`` by LAMMPS, for tests on one rank or many."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism
from ase.data import atomic_masses, atomic_numbers
from strategies import SPECIES

from argyase.potentials.lammps_plugin import create_lammps
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.structures.argyrodite import argyrodite

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


# ---- ranks, errors ----


def mpiexec(ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python on some MPI ranks, with the helpers of the tests."""
    launcher = Path(sysconfig.get_path("scripts")) / "mpiexec"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [str(launcher), "-n", str(ranks), sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=120)


def finalize() -> None:
    """The end of MPI: mpiexec kills the other ranks when one leaves without."""
    create_lammps(["-log", "none", "-screen", "none"]).finalize()


def refused(*commands: str) -> str:
    lmp = create_lammps(["-log", "none", "-screen", "none", "-nocite"])
    try:
        for command in commands:
            lmp.command(command)
    except Exception as error:  # LAMMPS raises plain exceptions
        return " ".join(str(error).split())
    else:
        return "nothing was wrong"
    finally:
        lmp.close()


BOX_OF_FOUR = ("region b block 0 9 0 9 0 9", "create_box 4 b", "mass * 1.0")
BOX = ("units metal", "region b block 0 9 0 9 0 9", "create_box 2 b", "create_atoms 1 single 1 1 1", "mass * 1.0")


# ---- longer use ----

STUDY = find_potential("LiPSCl-study").path
HOT = ("velocity all create 1500 7 mom yes dist gaussian", "fix move all nve")
"""Atoms that move by more than the skin in 100 steps, so that neighbour lists are renewed many times."""


def cell(*, rattle: float = 0.1, repeat: tuple[int, int, int] = (1, 1, 1), sheared: bool = False) -> Atoms:
    atoms = argyrodite(0.0, 0.5, a=10.0).repeat(repeat)
    if sheared:
        h = atoms.cell.array.copy()
        h[1, 0], h[2, 0], h[2, 1] = 0.3 * h[0, 0], -0.2 * h[0, 0], 0.25 * h[1, 1]
        atoms.set_cell(h, scale_atoms=True)
    atoms.rattle(rattle, seed=3)
    return atoms


def begin(
    atoms: Atoms,
    path: Path,
    *commands: str,
    before: Sequence[str] = (),
    boundary: str = "p p p",
    plugin: Path | None = None,
) -> Any:
    """LAMMPS with the atoms of a cell oriented as LAMMPS wants it, and pair style mtp unless `commands` set another.

    Thermodynamic output at every step also asks for what every atom has of the energy and the virial.
    """
    lmp = create_lammps(["-log", "none", "-screen", "none", "-nocite"], plugin=plugin)
    h = atoms.cell.array
    lmp.commands_list(["units metal", "atom_style atomic", "atom_modify map yes", f"boundary {boundary}", *before])
    lmp.commands_list(
        [
            "box tilt large",
            "region box prism " + " ".join(f"0 {h[k, k]:.17g}" for k in range(3))
            + f" {h[1, 0]:.17g} {h[2, 0]:.17g} {h[2, 1]:.17g} units box",
            f"create_box {len(SPECIES)} box",
            *(f"mass {k} {atomic_masses[atomic_numbers[s]]:.6f}" for k, s in enumerate(SPECIES, start=1)),
        ]
    )  # fmt: skip
    types = [SPECIES.index(s) + 1 for s in atoms.get_chemical_symbols()]
    made = lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, atoms.positions.ravel().tolist())
    assert made == len(atoms)
    lmp.commands_list(list(commands) or [f'pair_style mtp "{path}"', "pair_coeff * *"])
    lmp.commands_list(
        [
            "compute e all pe/atom pair",
            "compute v all stress/atom NULL pair",
            "compute w all pressure NULL pair",
            "compute p all pe pair",
            "compute es all reduce sum c_e",
            "compute vs all reduce sum c_v[1]",
            "thermo_style custom step c_p c_w c_es c_vs pe press",
            "thermo_modify norm no lost error flush yes",
            "thermo 1",
            "timestep 0.002",
        ]
    )
    return lmp


def atoms_of(lmp: Any, *, periodic: bool = True) -> Atoms:
    """The atoms as they are in LAMMPS, by their numbers."""
    low, high, xy, yz, xz, *_ = lmp.extract_box()
    lx, ly, lz = np.subtract(high, low)
    x = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
    symbols = [SPECIES[t - 1] for t in lmp.gather_atoms("type", 0, 1)]
    cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
    return Atoms(symbols, x - np.array(low), cell=cell, pbc=periodic)


def found(lmp: Any) -> dict[str, np.ndarray]:
    """What LAMMPS had of the pair style at the last step: eV, eV/A; virials in the order xx yy zz yz xz xy."""
    n = int(lmp.get_natoms())
    volume = lmp.get_thermo("vol")
    order = [0, 1, 2, 5, 4, 3]
    return {
        "energy": np.array(lmp.extract_compute("p", 0, 0)),
        "energies": np.array(lmp.gather("c_e", 1, 1)),
        "forces": np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3),
        "virial": np.array([lmp.extract_compute("w", 0, 1)[k] for k in order]) * volume / METAL_NKTV2P,
        "virials": -np.array(lmp.gather("c_v", 1, 6)).reshape(n, 6)[:, order] / METAL_NKTV2P,
    }


def expected(atoms: Atoms, path: Path) -> dict[str, np.ndarray]:
    """The same by the ASE calculator (without the virial of each atom), which finds its neighbours by itself."""
    calculator = MTP(path, SPECIES)
    calculator.calculate(atoms)
    results = calculator.results
    wanted = {name: np.array(results[name]) for name in ("energy", "energies", "forces")}
    if "stress" in results:
        wanted["virial"] = -results["stress"] * atoms.get_volume()
    return wanted


def compare(theirs: dict[str, np.ndarray], ours: dict[str, np.ndarray]) -> None:
    """Equal but for rounding: sums of n atoms, of about 100 neighbours each, in another order."""
    n = len(ours["forces"])
    scale = 1e-12 * max(1.0, np.abs(ours["forces"]).max(), np.abs(ours["energies"]).max())
    for name, factor in {"energy": n, "energies": 4, "forces": 10, "virial": 10 * n, "virials": 10 * n}.items():
        if name in ours:
            np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=factor * scale, err_msg=name)
    # LAMMPS' shares of the atoms must make the whole.
    np.testing.assert_allclose(theirs["energies"].sum(), theirs["energy"], rtol=0, atol=n * scale)
    np.testing.assert_allclose(theirs["virials"].sum(axis=0), theirs["virial"], rtol=0, atol=10 * n * scale)
