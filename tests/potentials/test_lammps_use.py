"""``pair_style mtp`` as LAMMPS is used: every state that a script can reach must be what the ASE calculator says."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mtp_reference
import numpy as np
import pytest
from lammps_runs import (
    BOX,
    HOT,
    METAL_NKTV2P,
    STUDY,
    atoms_of,
    begin,
    cell,
    compare,
    expected,
    found,
    mpiexec,
    oriented,
    refused,
)
from strategies import SPECIES, random_atoms, random_potential

from argyase.potentials.lammps_plugin import create_lammps
from argyase.potentials.mtp_file import write_mtp


@contextmanager
def lammps(*args: Any, **kwargs: Any) -> Iterator[Any]:
    lmp = begin(*args, **kwargs)
    try:
        yield lmp
    finally:
        lmp.close()


def right(lmp: Any, *, periodic: bool = True) -> None:
    compare(found(lmp), expected(atoms_of(lmp, periodic=periodic), STUDY))


def run(lmp: Any, steps: int, stride: int = 10, *, first: bool = True) -> None:
    """Run and compare every `stride` steps, without the setup that would renew the neighbour list."""
    if first:
        lmp.command("run 0 post no")
        right(lmp)
    for _ in range(0, steps, stride):
        lmp.command(f"run {stride} pre no post no")
        right(lmp)


# ---- neighbour lists ----


@pytest.mark.parametrize(
    "how",
    [
        "neigh_modify every 1 delay 0 check yes",
        "neigh_modify every 1 delay 0 check no",
        "neigh_modify every 2 delay 4 check yes",
        "neigh_modify every 5 delay 0 check no",
        "neigh_modify every 1 delay 0 check yes one 5000 page 100000",
        "neighbor 0.3 bin",
        "neighbor 2.5 nsq",
        "neighbor 1.0 multi",
        "atom_modify sort 1 3.0",
        "atom_modify sort 0 0.0",
        "comm_modify mode single cutoff 9.5",
        "comm_style tiled",
    ],
)
def test_neighbours_are_renewed_in_time(how: str) -> None:
    with lammps(cell(), STUDY) as lmp:
        lmp.commands_list(["neigh_modify every 1 delay 0 check yes", how, *HOT])
        run(lmp, 60)
        start = atoms_of(lmp).positions
        run(lmp, 40, first=False)
        assert np.abs(atoms_of(lmp).positions - start).max() > 0.3


def test_neighbours_that_are_never_renewed_are_wrong() -> None:
    """The comparison sees a list that has grown old: it must fail here, or the tests above could not."""
    with lammps(cell(), STUDY) as lmp:
        lmp.commands_list(["neighbor 0.3 bin", "neigh_modify once yes", *HOT])
        with pytest.raises(AssertionError):
            run(lmp, 200)


def test_triclinic_cells_that_flip() -> None:
    """Driven over half an edge of tilt by 5 GPa of shear, where LAMMPS replaces a cell vector by a shorter one."""
    atoms = cell()
    atoms.set_cell([[10, 0, 0], [4.9, 10, 0], [0, 0, 10]], scale_atoms=True)
    with lammps(atoms, STUDY) as lmp:
        lmp.commands_list(["velocity all create 300 7", "fix nph all nph xy -5e4 -5e4 0.1 flip yes"])
        tilts = [4.9]
        for _ in range(20):
            lmp.command(f"run 4 pre {'yes' if len(tilts) == 1 else 'no'} post no")
            right(lmp)
            tilts.append(lmp.extract_box()[2])
            if abs(tilts[-1] - tilts[-2]) > 5:
                break
        else:
            pytest.fail(f"no flip: {tilts}")
        for _ in range(3):
            lmp.command("run 2 pre no post no")
            right(lmp)


def test_barostat_of_a_triclinic_cell() -> None:
    with lammps(cell(sheared=True), STUDY) as lmp:
        lmp.commands_list(["velocity all create 600 7", "fix npt all npt temp 600 600 0.1 tri 0 0 0.5"])
        run(lmp, 100, 20)


def test_shrink_wrapped_and_fixed_boundaries() -> None:
    cluster = cell()
    cluster.center(vacuum=4.0)
    for boundary in ("s s s", "f f f", "m m m"):
        with lammps(cluster, STUDY, boundary=boundary) as lmp:
            lmp.commands_list(["velocity all create 300 7", "fix move all nve"])
            lmp.command("run 0 post no")
            right(lmp, periodic=False)
            lmp.command("run 40 pre no post no")
            right(lmp, periodic=False)


# ---- what else changes atoms ----


def test_runs_without_setup_and_with() -> None:
    with lammps(cell(), STUDY) as lmp:
        lmp.commands_list(list(HOT))
        lmp.command("run 7")
        right(lmp)
        lmp.command("run 7 pre no post yes")
        right(lmp)
        lmp.command("run 6 every 2 NULL")
        right(lmp)
        lmp.command("reset_timestep 0")
        lmp.command("run 5")
        right(lmp)


def test_minimize() -> None:
    with lammps(cell(rattle=0.2), STUDY) as lmp:
        lmp.command("run 0")
        start = found(lmp)["energy"]
        for style in ("cg", "fire"):
            lmp.commands_list([f"min_style {style}", "minimize 0 1e-3 40 200"])
            right(lmp)
        lmp.commands_list(["min_style cg", "fix relax all box/relax iso 0.0 vmax 0.001", "minimize 0 1e-3 40 200"])
        right(lmp)
        assert found(lmp)["energy"] < start - 1


def test_atoms_deleted_created_displaced_and_changed() -> None:
    with lammps(cell(), STUDY) as lmp:
        lmp.commands_list([*HOT, "run 10"])
        lmp.commands_list(["region corner block 0 5 0 5 0 4", "delete_atoms region corner compress yes", "run 10"])
        assert lmp.get_natoms() < 52
        right(lmp)
        before = lmp.get_natoms()
        lmp.commands_list(["create_atoms 1 single 2.1 2.2 1.9 units box", "velocity all scale 300", "run 10"])
        assert lmp.get_natoms() == before + 1
        right(lmp)
        lmp.commands_list(["displace_atoms all random 0.2 0.1 0.3 5", "run 0"])
        right(lmp)
        lmp.commands_list(["group some id 3 5 7 11", "set group some type 4", "run 5"])
        right(lmp)
        lmp.commands_list(["change_box all x scale 1.03 xy final 0.7 remap", "run 5"])
        right(lmp)
        lmp.commands_list(["replicate 2 1 1", "run 5"])
        right(lmp)


def test_rerun(tmp_path: Path) -> None:
    seen = {}
    with lammps(cell(), STUDY) as lmp:
        lmp.commands_list([*HOT, f"dump d all custom 10 {tmp_path}/d.lammpstrj id type x y z"])
        lmp.command("dump_modify d format float %.17g sort id")
        for step in (0, 10, 20, 30):
            lmp.command(f"run {10 if step else 0} post no")
            seen[step] = found(lmp)
    with lammps(cell(rattle=0.0), STUDY) as lmp:
        for step, there in seen.items():
            lmp.command(f"rerun {tmp_path}/d.lammpstrj first {step} last {step} dump x y z box yes")
            compare(found(lmp), there)
        lmp.command(f"rerun {tmp_path}/d.lammpstrj every 10 dump x y z box yes")
        compare(found(lmp), seen[30])


def test_atoms_that_swap_their_species() -> None:
    """Monte Carlo changes types without a new neighbour list; an accepted swap must count at once."""
    with lammps(cell(rattle=0.02), STUDY) as lmp:
        lmp.command("fix mc all atom/swap 1 3 29494 1e6 ke no types 3 4")
        lmp.command("neigh_modify every 1000 delay 1000 check yes")
        lmp.command("run 0 post no")
        start = atoms_of(lmp).get_chemical_symbols()
        for _ in range(5):
            lmp.command("run 1 pre no post no")
            right(lmp)
        assert sum(a != b for a, b in zip(start, atoms_of(lmp).get_chemical_symbols(), strict=True)) >= 2


def test_respa() -> None:
    """There LAMMPS asks for the virial pair by pair."""
    with lammps(cell(), STUDY) as lmp:
        lmp.commands_list(["run_style respa 2 2 pair 2", *HOT])
        for steps in (0, 25, 24):
            lmp.command(f"run {steps} post no")
            right(lmp)


# ---- with other pair styles ----

ZBL = "zbl 3.0 4.0"
ZBL_COEFF = [f"pair_coeff {i} {j} zbl {a} {b}" for i, a in enumerate((3, 15, 16, 17), 1)
             for j, b in enumerate((3, 15, 16, 17), 1) if i <= j]  # fmt: skip


def added(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: a[name] + b[name] for name in a}


@pytest.mark.parametrize(
    ("style", "coefficients"),
    [
        (ZBL, ZBL_COEFF),
        ("lj/cut 8.0", ["pair_coeff * * lj/cut 0.05 2.2", "pair_coeff 1 2*3 lj/cut 0.01 2.0"]),
    ],
)
def test_overlay_is_the_sum(style: str, coefficients: list[str]) -> None:
    atoms, name = cell(sheared=True), style.split()[0]
    alone = [f"pair_style {style}", *(c.replace(f" {name}", "") for c in coefficients)]
    for first in (True, False):
        styles = [f"mtp {STUDY}", style]
        both = [
            "pair_style hybrid/overlay " + " ".join(styles if first else reversed(styles)),
            "pair_coeff * * mtp",
            *coefficients,
        ]
        with lammps(atoms, STUDY, *both) as lmp:
            lmp.commands_list(["velocity all create 300 7", "fix move all nve", "run 30"])
            total, now = found(lmp), atoms_of(lmp)
        with lammps(now, STUDY, *alone) as lmp:
            lmp.command("run 0")
            other = found(lmp)
        with lammps(now, STUDY) as lmp:
            lmp.command("run 0")
            ours = found(lmp)
        assert np.abs(other["forces"]).max() > 1e-3
        compare(ours, expected(now, STUDY))
        compare(total, added(ours, other))


def test_overlay_with_a_style_without_virial_by_forces(tmp_path: Path) -> None:
    """pair_style list and mtp: hybrid then asks each for its virial pair by pair."""
    atoms = cell()
    (tmp_path / "bonds").write_text("1 20 harmonic 0.5 3.0\n2 30 harmonic 0.3 4.0\n")
    style = f"list {tmp_path}/bonds 7.0 nocheck"
    with lammps(atoms, STUDY, f"pair_style {style}", "pair_coeff * *") as lmp:
        lmp.command("run 0")
        other = found(lmp)
    commands = [f"pair_style hybrid/overlay mtp {STUDY} {style}", "pair_coeff * * mtp", "pair_coeff * * list"]
    with lammps(atoms, STUDY, *commands) as lmp:
        lmp.command("run 0")
        compare(
            found(lmp), added({**expected(atoms, STUDY), "virials": found(lmp)["virials"] - other["virials"]}, other)
        )


def test_two_potentials_scaled(tmp_path: Path) -> None:
    """The line between two potentials, as in thermodynamic integration: both are alive at once."""
    atoms = cell()
    second = tmp_path / "second.mtp"
    write_mtp(second, random_potential(8, 4, np.random.default_rng(2)))
    commands = [
        f"pair_style hybrid/scaled 0.25 mtp {STUDY} 0.75 mtp {second}",
        "pair_coeff * * mtp 1",
        "pair_coeff * * mtp 2 3 2 1 0",
    ]
    turned = atoms.copy()
    turned.symbols = [SPECIES[3 - SPECIES.index(s)] for s in atoms.symbols]
    with lammps(atoms, STUDY, *commands) as lmp:
        lmp.command("run 0")
        a, b = expected(atoms, STUDY), expected(turned, second)
        wanted = {name: 0.25 * a[name] + 0.75 * b[name] for name in a}
        theirs = found(lmp)
        compare(theirs, wanted)


@pytest.mark.parametrize(
    ("hybrid", "taken"),
    [("hybrid", "2 2 lj/cut 0.1 2.0"), ("hybrid/overlay", "1 4 none"), ("hybrid", "* 3 lj/cut 0.1 2")],
)
def test_hybrid_that_takes_pairs_away_is_refused(hybrid: str, taken: str) -> None:
    commands = [f"pair_style {hybrid} mtp {STUDY} lj/cut 5.0", "pair_coeff * * mtp", "pair_coeff 3 3 lj/cut 0.1 2.0"]
    with (
        lammps(cell(), STUDY, *commands, f"pair_coeff {taken}") as lmp,
        pytest.raises(Exception, match=r"left to another pair style.*hybrid/overlay"),
    ):
        lmp.command("run 0")


def test_exclusions_are_refused() -> None:
    with lammps(cell(), STUDY) as lmp:
        lmp.command("neigh_modify exclude type 1 2")
        with pytest.raises(Exception, match="does not work with neigh_modify exclude"):
            lmp.command("run 0")


# ---- shares of atoms ----


@pytest.mark.parametrize("level", [6, 10])
def test_virial_of_each_atom(level: int, tmp_path: Path) -> None:
    """Half of each r_ij (dE_i/dr_ij) goes to i, half to j; by the slow twin, from complex steps."""
    rng = np.random.default_rng(level)
    potential, atoms = random_potential(level, 4, rng), oriented(random_atoms(rng, 8))
    write_mtp(tmp_path / "p.mtp", potential)
    with lammps(atoms, tmp_path / "p.mtp") as lmp:
        lmp.command("run 0")
        theirs = found(lmp)
    energies, forces, pairs = mtp_reference.gradients(potential, atoms, SPECIES)
    virials = np.zeros((len(atoms), 3, 3))
    for i, j, r, gradient in pairs:
        share = -0.5 * np.outer(r, gradient)
        virials[i] += share
        virials[j] += share
    voigt = virials[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    # The virial as a whole is symmetric, the share of an atom is not: LAMMPS keeps xy, xz, yz.
    scale = 1e-11 * max(1.0, np.abs(forces).max(), np.abs(energies).max())
    np.testing.assert_allclose(theirs["energies"], energies, rtol=0, atol=scale)
    np.testing.assert_allclose(theirs["forces"], forces, rtol=0, atol=4 * scale)
    np.testing.assert_allclose(theirs["virials"], voigt, rtol=0, atol=40 * scale)


def test_centroid_virials_are_refused() -> None:
    with lammps(cell(), STUDY) as lmp:
        lmp.command("compute c all centroid/stress/atom NULL pair")
        lmp.command("compute cs all reduce sum c_c[1]")
        lmp.command("thermo_style custom step c_cs")
        with pytest.raises(Exception, match="does not support compute centroid/stress/atom"):
            lmp.command("run 0")


def test_forces_are_derivatives_for_lammps_too() -> None:
    """LAMMPS displaces atoms itself, by 1e-4 A: its error is h^2/6 times a third derivative of some 100 eV/A^3."""
    with lammps(cell(), STUDY) as lmp:
        lmp.commands_list(["fix n all numdiff 1 1e-4", "run 1"])
        numbers = np.array(lmp.gather("f_n", 1, 3)).reshape(-1, 3)
        np.testing.assert_allclose(numbers, found(lmp)["forces"], rtol=0, atol=2e-6)


# ---- again and at once ----


def test_another_file_wants_its_own_coefficients(tmp_path: Path) -> None:
    one = tmp_path / "one.mtp"
    write_mtp(one, random_potential(6, 1, np.random.default_rng(0)))
    with lammps(cell(), STUDY) as lmp:
        lmp.commands_list(["run 0", f"pair_style mtp {one}"])
        with pytest.raises(Exception, match=r"atom type 2 is species 1.*repeat pair_coeff"):
            lmp.command("run 0")
    with lammps(cell(), STUDY) as lmp:
        lmp.commands_list(["run 0", f"pair_style mtp {one}", "pair_coeff * * 0 0 0 0", "run 0"])
        assert found(lmp)["energy"] != pytest.approx(expected(cell(), STUDY)["energy"])
        lmp.commands_list([f"pair_style mtp {STUDY}", "pair_coeff * *", "run 0"])
        right(lmp)


def test_two_lammps_at_once() -> None:
    with lammps(cell(), STUDY) as one, lammps(cell(rattle=0.05), STUDY) as two:
        one.command("run 1")
        two.command("run 1")
        right(one)
        right(two)
        two.close()
        one.command("run 1")
        right(one)


def test_clear() -> None:
    lmp = create_lammps(["-log", "none", "-screen", "none", "-nocite"])
    lmp.commands_list([*BOX, f"pair_style mtp {STUDY}", "pair_coeff * *", "run 0", "clear"])
    lmp.commands_list([*BOX, f"pair_style mtp {STUDY}", "pair_coeff * *", "run 0"])
    lmp.close()


def test_no_atoms_at_all() -> None:
    commands = ("delete_atoms group all", f"pair_style mtp {STUDY}", "pair_coeff * *", "run 1")
    assert refused(*BOX, *commands) == "nothing was wrong"


# ---- ranks ----

_MIGRATION = """
from lammps_runs import HOT, STUDY, atoms_of, begin, cell, compare, expected, found
lmp = begin(cell(repeat=(3, 1, 1)), STUDY, before=["processors * 1 1"])
lmp.commands_list([*HOT, "velocity all set 30 0 0 sum yes", "neigh_modify every 1 delay 0 check yes"])
owners = []
for k in range(5):
    lmp.command(f"run {20 if k else 0} pre {'no' if k else 'yes'} post no")
    # Everything is gathered on each rank; the calculator knows nothing of ranks.
    compare(found(lmp), expected(atoms_of(lmp), STUDY))
    owners.append(sorted(lmp.numpy.extract_atom("id")[: lmp.extract_setting("nlocal")].tolist()))
size = lmp.extract_setting("world_size")
lmp.finalize()
if size > 1:
    assert owners[0] != owners[-1], "no atom has changed its rank"
print([size, len(owners[-1])])
"""


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_atoms_that_migrate(ranks: int) -> None:
    done = mpiexec(ranks, "-c", _MIGRATION)
    assert done.returncode == 0, done.stderr
    # Lines of different ranks may run together.
    numbers = [(int(size), int(owned)) for size, owned in re.findall(r"\[(\d+), (\d+)\]", done.stdout)]
    assert [size for size, _ in numbers] == [ranks] * ranks
    assert sum(owned for _, owned in numbers) == 156


def test_a_rank_without_atoms() -> None:
    """All atoms in one corner: the other rank has nothing, at first not even images."""
    script = """
from ase import Atoms
from lammps_runs import STUDY, atoms_of, begin, compare, expected, found
atoms = Atoms("LiSP", [[1, 35, 35], [3.5, 35, 35], [1, 37, 35.5]], cell=[40, 70, 70])
lmp = begin(atoms, STUDY, boundary="f f f", before=["processors 2 1 1"])
lmp.commands_list(["velocity all set 60 0 0", "fix move all nve"])
for steps in (0, 100, 100):
    lmp.command(f"run {steps}")
    compare(found(lmp), expected(atoms_of(lmp, periodic=False), STUDY))
assert atoms_of(lmp).positions[:, 0].min() > 20
lmp.finalize()
"""
    done = mpiexec(2, "-c", script)
    assert done.returncode == 0, done.stderr


def test_unit_of_the_virials() -> None:
    assert pytest.approx(1.602176634e6, rel=1e-6) == METAL_NKTV2P
