#!/usr/bin/env python3
"""An executable that takes the place of VASP in tests. It is not VASP.

It reads INCAR, POSCAR, KPOINTS and POTCAR as strictly as it can (a tag that it does not know is an error), computes
with the shipped potential (Li, P, S, Cl) or with ASE's EMT, and writes the files that ASE and pymatgen read.

What goes wrong on purpose, by words in the environment variable VASP_STAND_IN:

truncated     ends without a word in the middle of its files, with exit code 0
unconverged   the electrons never converge
killed        kills itself half way through its ionic steps
exchanged     computes other elements than POTCAR says, as if a wrapper had exchanged it
slow          the electrons converge only with ALGO = All
edddav, brmix, zbrent, tet
              dies with the message of VASP, unless INCAR has what custodian corrects it by: ALGO = All, IMIX = 1,
              EDIFF = 1e-6, ISMEAR = 0; edddav at the second ionic step if there are several, zbrent at the third
hopeless      whatever INCAR has
isothermal    ignores TEEND: the temperature stays at TEBEG
unheated      ignores both: the temperature is always 10 K

VASP_STAND_IN_FORMULA limits this to structures of one formula, VASP_STAND_IN_STEP_S makes every electronic step take
that many seconds, VASP_STAND_IN_VERSION is its version, VASP_STAND_IN_UNCONVERGED names ionic steps ("3 7") in which
electrons do not converge, unless ALGO is All; their energies and forces are wrong.

VASP_STAND_IN_BASIS = "P Q" makes its plane waves few: those of the cell that it begins with, of volume V0, which it
keeps. The energy is then too high by P (V - V0) + Q (V - V0)^2 (eV, A^3), and the stress is the slope of that.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator
from ase.io.vasp import read_vasp

VERSION = os.environ.get("VASP_STAND_IN_VERSION", "0.0.0") + "-stand-in"

FLOAT, INT, BOOL, WORD = "float", "int", "logical", "string"
KNOWN = {
    "PREC": (WORD, "Normal"), "ENCUT": (FLOAT, 0.0), "EDIFF": (FLOAT, 1e-4), "EDIFFG": (FLOAT, 1e-3),
    "NELM": (INT, 60), "ISMEAR": (INT, 1), "SIGMA": (FLOAT, 0.2), "LASPH": (BOOL, False), "GGA": (WORD, "--"),
    "PARAM1": (FLOAT, 0.0), "PARAM2": (FLOAT, 0.0), "AGGAC": (FLOAT, 1.0), "LUSE_VDW": (BOOL, False),
    "NELECT": (FLOAT, 0.0), "IBRION": (INT, -1), "NSW": (INT, 0), "ISIF": (INT, 2), "ISYM": (INT, 2),
    "POTIM": (FLOAT, 0.5), "MDALGO": (INT, 0), "SMASS": (FLOAT, -3.0), "TEBEG": (FLOAT, 0.0), "TEEND": (FLOAT, 0.0),
    "ALGO": (WORD, "Normal"), "ISEARCH": (INT, 0), "IMIX": (INT, 4), "NELMIN": (INT, 2), "ISTART": (INT, 0),
    "NELMDL": (INT, -5), "BMIX": (FLOAT, 1.0), "AMIX_MAG": (FLOAT, 1.6), "BMIX_MAG": (FLOAT, 1.0),
    "NBLOCK": (INT, 1), "LCHARG": (BOOL, True), "LWAVE": (BOOL, True), "NCORE": (INT, 1), "KPAR": (INT, 1),
}  # fmt: skip
"""Tags, their type and what they are when they are not given."""

MESSAGES = {
    "edddav": (" Error EDDDAV: Call to ZHEGV failed. Returncode =  17 1   5", "ALGO", "All", 2),
    "brmix": (" BRMIX: very serious problems\n the old and the new charge density differ", "IMIX", 1, 1),
    "zbrent": (" ZBRENT: fatal error in bracketing\n     please rerun with smaller EDIFF, or copy CONTCAR\n"
               "     to POSCAR and continue", "EDIFF", 1e-6, 3),
    "tet": (" VERY BAD NEWS! internal error in subroutine IBZKPT:\n Tetrahedron method fails for NKPT<4. NKPT = 1",
            "ISMEAR", 0, 1),
}  # fmt: skip
"""What VASP prints before it dies, the tag and the value that help, and the ionic step at which it happens."""

FAULTS = ("truncated", "unconverged", "killed", "exchanged", "slow", "hopeless", "isothermal", "unheated", *MESSAGES)


def read_incar() -> dict[str, Any]:
    found = {name: default for name, (_, default) in KNOWN.items()}
    for line in Path("INCAR").read_text().splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or name not in KNOWN:
            sys.exit(f"stand-in: INCAR: I do not know {line!r}")
        kind = KNOWN[name][0]
        if kind == BOOL:
            found[name] = {".TRUE.": True, ".FALSE.": False}[value]
        else:
            found[name] = {FLOAT: float, INT: int, WORD: str}[kind](value)
    return found


def read_potcar() -> tuple[list[str], list[str], list[float]]:
    """Titles, symbols, and numbers of valence electrons."""
    lines = Path("POTCAR").read_text().splitlines()
    at = [n for n, line in enumerate(lines) if "TITEL" in line]
    titles = [lines[n].split("=")[1].strip() for n in at]
    valences = [float(re.search(r"ZVAL\s*=\s*([\d.]+)", lines[n + 4]).group(1)) for n in at]  # type: ignore[union-attr]
    return titles, [title.split()[1].split("_")[0] for title in titles], valences


def read_kpoints() -> list[int]:
    lines = Path("KPOINTS").read_text().splitlines()
    assert lines[1].strip() == "0", lines
    assert lines[2] == "Gamma", lines
    assert lines[4].split() == ["0", "0", "0"], lines
    return [int(n) for n in lines[3].split()]


def engine_of(atoms: Atoms) -> Calculator:
    if set(atoms.symbols) <= {"Li", "P", "S", "Cl"}:
        from argyase.calculators import calculator

        return calculator("mtp", potential="LiPSCl-study")
    from ase.calculators.emt import EMT

    return EMT()


class FewPlaneWaves(Calculator):
    """The error of the energy by a basis that was made for another cell, and its slopes."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, volume: float, linear: float, quadratic: float) -> None:
        super().__init__()
        self.volume, self.linear, self.quadratic = volume, linear, quadratic

    def calculate(self, atoms: Atoms, *arguments: Any) -> None:
        super().calculate(atoms, *arguments)
        more = atoms.get_volume() - self.volume
        energy = self.linear * more + self.quadratic * more**2
        slope = self.linear + 2 * self.quadratic * more
        self.results = {
            "energy": energy, "free_energy": energy, "forces": np.zeros((len(atoms), 3)),
            "stress": np.array([slope] * 3 + [0.0] * 3),
        }  # fmt: skip


def xml_params(values: dict[str, Any]) -> str:
    lines = []
    for name, value in values.items():
        kind, text = KNOWN[name][0], f"{value}"
        if kind == BOOL:
            text = "T" if value else "F"
        elif kind == FLOAT:
            text = f"{value:.8f}"
        kind = "" if kind == FLOAT else f' type="{kind}"'
        lines.append(f'  <i{kind} name="{name}">{text}</i>')
    return "\n".join(lines)


def xml_vectors(name: str, values: Any) -> str:
    rows = "\n".join("   <v>" + "".join(f"{x:17.8f}" for x in row) + " </v>" for row in np.atleast_2d(values))
    return f'  <varray name="{name}" >\n{rows}\n  </varray>'


def xml_structure(atoms: Atoms, name: str = "") -> str:
    # Fractions have more digits than VASP's: so that rounding does not hide an error in the order of atoms.
    rows = "\n".join(
        "   <v>" + "".join(f"{x:20.14f}" for x in row) + " </v>" for row in atoms.get_scaled_positions(wrap=False)
    )
    attribute = f' name="{name}"' if name else ""
    return (
        f" <structure{attribute} >\n  <crystal>\n{xml_vectors('basis', atoms.cell.array)}\n"
        f'   <i name="volume">{atoms.get_volume():16.8f}</i>\n  </crystal>\n'
        f'  <varray name="positions" >\n{rows}\n  </varray>\n </structure>'
    )


def temperature_of(atoms: Atoms) -> float:
    """As VASP, with the centre of mass at rest: of 3N - 3 degrees of freedom."""
    return float(2 * atoms.get_kinetic_energy() / (3 * (len(atoms) - 1) * units.kB))


def poscar(atoms: Atoms, species: list[tuple[str, int]], velocities: bool = False) -> str:
    lines = [f"{atoms.get_chemical_formula()}", "   1.0"]
    lines += ["".join(f"{x:22.16f}" for x in row) for row in atoms.cell.array]
    lines += ["".join(f"{s:>5}" for s, _ in species), "".join(f"{n:5d}" for _, n in species), "Direct"]
    lines += ["".join(f"{x:20.16f}" for x in row) for row in atoms.get_scaled_positions(wrap=False)]
    if velocities:
        lines += [""] + ["".join(f"{x:16.8E}" for x in row) for row in atoms.get_velocities() * units.fs]
    return "\n".join(lines) + "\n"


class Run:
    """The files of a run, as it writes them."""

    def __init__(self) -> None:
        self.incar, self.mesh = read_incar(), read_kpoints()
        titles, symbols, valences = read_potcar()
        self.atoms = read_vasp("POSCAR")
        counts = [len(list(group)) for _, group in groupby(self.atoms.symbols)]
        formula = os.environ.get("VASP_STAND_IN_FORMULA", "")
        self.faults = os.environ.get("VASP_STAND_IN", "").split()
        assert set(self.faults) <= set(FAULTS), self.faults
        if formula and formula != self.atoms.get_chemical_formula("hill"):
            self.faults = []
        if "exchanged" in self.faults:
            symbols.reverse()
        if len(counts) != len(symbols):
            sys.exit(f"stand-in: {len(counts)} species in POSCAR, {len(symbols)} in POTCAR")
        # As VASP: POTCAR decides, whatever POSCAR says.
        self.atoms.set_chemical_symbols([s for s, n in zip(symbols, counts, strict=True) for _ in range(n)])
        self.species = list(zip(symbols, counts, strict=True))
        neutral = sum(n * z for n, z in zip(counts, valences, strict=True))
        self.incar["NELECT"] = self.incar["NELECT"] or neutral
        self.atoms.calc = engine_of(self.atoms)
        if basis := os.environ.get("VASP_STAND_IN_BASIS", ""):
            few = FewPlaneWaves(self.atoms.get_volume(), *map(float, basis.split()))
            self.atoms.calc = SumCalculator([self.atoms.calc, few])
        self.continued = Path("WAVECAR").is_file()
        self.step = 0
        self.done = ""
        self.started = time.monotonic()
        names = ("vasprun.xml", "OUTCAR", "OSZICAR", "XDATCAR")
        self.files = [open(name, "w") for name in names]  # noqa: SIM115
        self.xml, self.outcar, self.oszicar, self.xdatcar = self.files
        self.header(titles)

    def header(self, titles: list[str]) -> None:
        i, n = self.incar, len(self.atoms)
        atoms = "\n".join(
            f"    <rc><c>{s:2s}</c><c>{t + 1:4d} </c></rc>" for t, (s, m) in enumerate(self.species) for _ in range(m)
        )
        types = "\n".join(
            f"    <rc><c>{m:4d} </c><c>{s:2s}</c><c>  1.0</c><c>  1.0</c><c> {title} </c></rc>"
            for (s, m), title in zip(self.species, titles, strict=True)
        )
        given = {k: v for k, v in i.items() if f"{k} =" in Path("INCAR").read_text()}
        self.xml.write(
            '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n <generator>\n'
            '  <i name="program" type="string">stand-in, not VASP </i>\n'
            f'  <i name="version" type="string">{VERSION} </i>\n </generator>\n'
            f" <incar>\n{xml_params(given)}\n </incar>\n"
            f' <kpoints>\n  <generation param="Gamma">\n   <v type="int" name="divisions">'
            f"{' '.join(map(str, self.mesh))}</v>\n"
            '   <v name="usershift">0.0 0.0 0.0</v>\n  </generation>\n'
            f"{xml_vectors('kpointlist', [[0, 0, 0]])}\n{xml_vectors('weights', [[1.0]])}\n </kpoints>\n"
            f' <parameters>\n <separator name="all" >\n{xml_params(i)}\n </separator>\n </parameters>\n'
            f" <atominfo>\n  <atoms>{n:6d} </atoms>\n  <types>{len(self.species):6d} </types>\n"
            '  <array name="atoms" >\n   <dimension dim="1">ion</dimension>\n   <field type="string">element</field>\n'
            f'   <field type="int">atomtype</field>\n   <set>\n{atoms}\n   </set>\n  </array>\n'
            '  <array name="atomtypes" >\n   <dimension dim="1">type</dimension>\n'
            f"   <set>\n{types}\n   </set>\n  </array>\n </atominfo>\n"
            f"{xml_structure(self.atoms, 'initialpos')}\n"
        )
        potcar = "".join(f" POTCAR:    {title}\n" for title in titles)
        potcar += potcar + "".join(f"   TITEL  = {title}\n" for title in titles)
        self.outcar.write(
            f" vasp.{VERSION} (this is a stand-in for tests, not VASP)\n running on    1 total cores\n{potcar}"
            f"   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   "
            f"number of bands    NBANDS=     {n}\n"
            f"   total plane-waves  NPLWV =  {n}\n"
            f"   ions per type =            {''.join(f'{m:5d}' for _, m in self.species)}\n"
            "   ISPIN  =      1    spin polarized calculation?\n"
            f"   NELM   = {i['NELM']:6d}\n   EDIFF  = {i['EDIFF']:.1E}   stopping-criterion for ELM\n"
            f"   IBRION = {i['IBRION']:6d}\n   NSW    = {i['NSW']:6d}\n   NELECT = {i['NELECT']:12.4f}\n"
            " k-points in reciprocal lattice and weights: Gamma\n   0.00000000  0.00000000  0.00000000      1.000\n\n"
        )
        self.xdatcar.write(poscar(self.atoms, self.species).partition("Direct")[0])

    def electrons(self, energy: float) -> list[float]:
        """Energies on the way to the right one; says in OUTCAR how it ended."""
        found: list[float] = []
        error, why = 1.0 if not self.continued else 0.01, "EDIFF was not reached (unconverged)"
        self.oszicar.write(
            "       N       E                     dE             d eps       ncg     rms          rms(c)\n"
        )
        for n in range(1, self.incar["NELM"] + 1):
            time.sleep(float(os.environ.get("VASP_STAND_IN_STEP_S", "0")))
            self.outcar.write(f"--------------------------------------- Iteration {self.step:6d}({n:4d})  --------\n")
            found.append(energy + error)
            self.outcar.write(f" number of electron {self.incar['NELECT']:15.7f} magnetization\n")
            self.die_of_a_known_error()
            change = found[-1] - found[-2] if n > 1 else found[-1]
            self.outcar.write(f" total energy-change (2. order) :{change: .7E}  ({change: .7E})\n")
            self.oszicar.write(f"DAV: {n:3d}   {found[-1]: .12E}   {change: .5E}  {change: .5E}  1000   0.1E+00\n")
            if abs(change) < self.incar["EDIFF"] and n > 2:
                why = "because EDIFF is reached"
                break
            if "LABORT" in self.stop_file():
                why = "because hard stop was set"
                self.done = "hard stop"
                break
            slow = "slow" in self.faults and self.incar["ALGO"] != "All"
            error *= -1.0 if "unconverged" in self.faults or slow or self.hiccup() else 1e-2
        self.outcar.write(f"------------------------ aborting loop {why} --------\n")
        if self.incar["LWAVE"]:
            Path("WAVECAR").write_text("not the waves of VASP\n")
        self.continued = True
        found[-1] = energy
        return found

    def hiccup(self) -> bool:
        steps = os.environ.get("VASP_STAND_IN_UNCONVERGED", "").split()
        return str(self.step) in steps and self.incar["ALGO"] != "All"

    @staticmethod
    def stop_file() -> str:
        try:
            return Path("STOPCAR").read_text()
        except FileNotFoundError:
            return ""

    def ionic_step(self) -> None:
        """Compute the atoms as they are, and write it down."""
        self.step += 1
        atoms, energy = self.atoms, float(self.atoms.get_potential_energy())
        forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
        if self.hiccup():
            energy, forces = energy + 1.0, forces + 0.1
        electronic = self.electrons(energy)
        kbar = -stress / units.GPa * 10
        self.xml.write(" <calculation>\n")
        for e in electronic:
            self.xml.write(f"  <scstep>\n{self.energies(e)}\n  </scstep>\n")
        if self.at_half_way("truncated"):
            self.end_here(0)
        self.xml.write(
            f"{xml_structure(atoms)}\n{xml_vectors('forces', forces)}\n{xml_vectors('stress', kbar)}\n"
            f"{self.energies(energy)}\n </calculation>\n"
        )
        xx, yy, zz, xy, yz, zx = (kbar[k] for k in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)))
        self.outcar.write(f"  in kB  {xx:14.5f}{yy:14.5f}{zz:14.5f}{xy:14.5f}{yz:14.5f}{zx:14.5f}\n")
        if self.at_half_way("killed"):
            self.end_here(signal.SIGKILL)
        self.outcar.write("      direct lattice vectors                 reciprocal lattice vectors\n")
        for row in np.hstack([atoms.cell.array, atoms.cell.reciprocal().array]):
            self.outcar.write("".join(f"{x:16.9f}" for x in row) + "\n")
        self.outcar.write(" POSITION                                       TOTAL-FORCE (eV/Angst)\n ------\n")
        for row in np.hstack([atoms.positions, forces]):
            self.outcar.write("".join(f"{x:15.7f}" for x in row) + "\n")
        self.outcar.write(
            " ------\n    total drift:  0.000000  0.000000  0.000000\n\n E-fermi :   0.0000\n"
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------------------------------------------\n"
            f"  free  energy   TOTEN  = {energy:18.8f} eV\n\n"
            f"  energy  without entropy= {energy:18.8f}  energy(sigma->0) = {energy:18.8f}\n\n"
        )
        if self.incar["IBRION"] == 0:
            kinetic, temperature = atoms.get_kinetic_energy(), temperature_of(atoms)
            self.oszicar.write(
                f"{self.step:7d} T= {temperature:6.0f}. E= {energy + kinetic: .8E} F= {energy: .8E} E0= {energy: .8E} "
                f"EK= {kinetic: .5E} SP= 0.00E+00 SK= 0.00E+00\n"
            )
        else:
            self.oszicar.write(f"{self.step:4d} F= {energy: .8E} E0= {energy: .8E}  d E ={0.0: .6E}\n")
        if self.step % self.incar["NBLOCK"] == 0:
            self.xdatcar.write(f"Direct configuration={self.step:6d}\n")
            for row in atoms.get_scaled_positions(wrap=False):
                self.xdatcar.write("".join(f"{x:12.8f}" for x in row) + "\n")
        for file in self.files:
            file.flush()
        if "LSTOP" in self.stop_file():
            self.done = "soft stop"

    @staticmethod
    def energies(energy: float) -> str:
        names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
        return "<energy>" + "".join(f'<i name="{name}">{energy:18.8f} </i>' for name in names) + "</energy>"

    def die_of_a_known_error(self) -> None:
        for fault in MESSAGES.keys() & set(self.faults):
            message, tag, value, step = MESSAGES[fault]
            helped = self.incar[tag] == value and "hopeless" not in self.faults
            if self.step == min(step, max(self.incar["NSW"], 1)) and not helped:
                print(message, flush=True)
                self.end_here(0)

    def at_half_way(self, fault: str) -> bool:
        return fault in self.faults and self.step > self.incar["NSW"] // 2

    def end_here(self, number: int) -> None:
        for file in self.files:
            file.flush()
        if number:
            os.kill(os.getpid(), number)
        os._exit(0)

    def steps(self) -> Iterator[bool]:
        """Move the atoms; yields, after each step, whether the ions have converged."""
        i, atoms = self.incar, self.atoms
        if i["NSW"] == 0 or i["IBRION"] == -1:
            yield False
        elif i["IBRION"] == 0:
            from ase.md.verlet import VelocityVerlet

            rng = np.random.default_rng(1)
            if not atoms.get_momenta().any():
                atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses())[:, None])
            dynamics = VelocityVerlet(atoms, i["POTIM"] * units.fs)
            for n in range(i["NSW"]):
                end = i["TEBEG"] if "isothermal" in self.faults else i["TEEND"]
                target = i["TEBEG"] + (end - i["TEBEG"]) * n / max(i["NSW"] - 1, 1)
                target = 10.0 if "unheated" in self.faults else target
                atoms.set_momenta(atoms.get_momenta() * np.sqrt(target / max(temperature_of(atoms), 1e-3)))
                yield False
                dynamics.run(1)
        else:
            from ase.filters import FrechetCellFilter
            from ase.optimize import BFGS

            moved = FrechetCellFilter(atoms) if i["ISIF"] == 3 else atoms
            optimizer = BFGS(moved, logfile=None)
            for converged in optimizer.irun(fmax=-i["EDIFFG"], steps=i["NSW"] - 1):
                yield bool(converged)

    def run(self) -> None:
        for converged in self.steps():
            self.ionic_step()
            moves = self.incar["IBRION"] == 0
            Path("CONTCAR").write_text(poscar(self.atoms, self.species, velocities=moves))
            if converged:
                self.outcar.write(" reached required accuracy - stopping structural energy minimisation\n")
            if self.done:
                self.outcar.write(f" {self.done} encountered!  aborting job ...\n")
                break
        self.xml.write(f"{xml_structure(self.atoms, 'finalpos')}\n</modeling>\n")
        self.outcar.write(
            "\n\n General timing and accounting informations for this job:\n ========\n"
            f"                  Total CPU time used (sec): {time.process_time():12.3f}\n"
            f"                         Elapsed time (sec): {time.monotonic() - self.started:12.3f}\n"
        )
        for file in self.files:
            file.close()


if __name__ == "__main__":
    print(f"vasp.{VERSION}: a stand-in for tests, not VASP")
    Run().run()
    print("stand-in: done")
