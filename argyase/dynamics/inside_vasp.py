"""Molecular dynamics inside VASP: one run of VASP for each piece of a protocol, instead of one for each step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.vasp import read_vasp
from numpy.typing import NDArray

from argyase.calculators.vasp import CONVERGED, VaspInFolders
from argyase.dynamics.ase_md import draw_velocities
from argyase.dynamics.protocols import Step
from argyase.dynamics.simulation import Frame, MDSettings, Simulation
from argyase.errors import CalculatorError, ConfigError
from argyase.units import BOLTZMANN_EV_K

OF_THE_PROTOCOL = ("tebeg", "teend", "nsw", "potim", "nblock", "ibrion")
"""Tags of INCAR that the protocol sets."""


class VaspMD(Simulation):
    """A protocol of NVT dynamics by VASP itself, frame by frame as from `argyase.dynamics.ase_md.AseMD`.

    Each piece is a run of VASP in a folder of its own, from TEBEG to TEEND in NSW steps of POTIM, with the Nose-Hoover
    thermostat (MDALGO = 2); the next one begins with the positions and velocities of its CONTCAR, its thermostat at
    rest. A piece that was finished is read, and one that was stopped or killed goes on where it was: the same again
    costs only what is left. Frames are every so-manieth ionic step, in the order of the atoms that were given; their
    positions are wrapped as VASP has them in XDATCAR (8 digits of the cell), their pressure is not read (NaN).

    Parameters
    ----------
    atoms
        Starting structure, periodic in all three directions.
    calculator
        Settings of `argyase.calculators.vasp.VaspInFolders`, without what the protocol sets (`OF_THE_PROTOCOL`).
    settings
        Protocol and bounds.

    Raises
    ------
    ConfigError
        If a piece is not ``nvt``, the preset does not move atoms, or a setting is one of the protocol's.
    CalculatorError
        While iterating `frames`: VASP was stopped or died, or electrons did not converge in one of the steps.
    SimulationError
        While iterating `frames`: the temperature of a frame is out of bounds.
    """

    def __init__(self, atoms: Atoms, calculator: Mapping[str, Any], settings: MDSettings) -> None:
        super().__init__(settings, len(atoms), float(atoms.get_volume()))
        own = {"preset": "aimd", **{key.lower(): value for key, value in calculator.items()}}
        if mine := [key for key in own if key in OF_THE_PROTOCOL]:
            raise ConfigError(f"vasp: {', '.join(mine)}: the protocol sets it; leave it out of the settings")
        for part in self._steps:
            if part.segment.ensemble != "nvt":
                raise ConfigError(
                    f"{part.segment.kind}: ensemble = {part.segment.ensemble!r}: inside VASP only nvt is possible"
                )
        self._calculator, self._atoms, self.step = own, atoms.copy(), 0
        self.corrections: list[str] = []
        if not self._made(self._steps[0]).moves_atoms:
            raise ConfigError(f"vasp: preset = {own['preset']!r} does not move atoms; take preset=aimd")
        # On ideal sites half of the kinetic energy turns into potential energy at once: start with twice.
        first = self._steps[0].segment.temperatures(settings.temperature_K)[0]
        draw_velocities(self._atoms, 2 * first, settings.seed)

    def _made(self, part: Step) -> VaspInFolders:
        begin, end = part.segment.temperatures(self._settings.temperature_K)
        # Every step is written: a run that is stopped and goes on would otherwise count its frames anew.
        return VaspInFolders(
            **self._calculator, tebeg=begin, teend=end, nsw=part.last - part.first, nblock=1,
            potim=self._settings.timestep_fs,
        )  # fmt: skip

    def frames(self) -> Iterator[Frame]:
        """Run what is left of the protocol, one frame every `sample_ps`."""
        for part in self._steps:
            start, calculator = self._atoms, self._made(part)
            calculator.check_installed()
            calculator.get_potential_energy(start.copy())
            self.corrections += [f"{part.segment.kind}: {how}" for how in calculator.corrections]
            folder = Path(calculator.directory)
            steps = self._read(folder, part, calculator.resort)
            for number in range(self._settings.sample_steps, part.last - part.first + 1, self._settings.sample_steps):
                self.step = part.first + number
                frame = self._frame(part, *(values[number - 1] for values in steps))
                self._check(frame)
                yield frame
            self._atoms = self._continued(folder, calculator.resort)

    def write_restart(self, path: Path) -> None:
        """Nothing to write: the folders of VASP are what it goes on from."""

    def close(self) -> None:
        """Nothing to free."""

    def _continued(self, folder: Path, resort: list[int]) -> Atoms:
        """The atoms as the piece has left them."""
        after = read_vasp(folder / "CONTCAR")[resort]
        atoms = self._atoms.copy()
        atoms.set_positions(after.positions)
        atoms.set_momenta(after.get_momenta())
        return atoms

    def _read(self, folder: Path, part: Step, resort: list[int]) -> tuple[NDArray[np.float64], ...]:
        """Positions (step, atom, xyz), potential and kinetic energies of all steps of a piece, over its parts."""
        found = []
        for place in [*sorted(folder.glob("part*"), key=lambda p: int(p.name[4:])), folder]:
            oszicar, outcar = ((place / name).read_text(errors="replace") for name in ("OSZICAR", "OUTCAR"))
            energies = np.array(re.findall(r"(?m)^ *\d+ T=.* E0= *(\S+) +EK= *(\S+)", oszicar), dtype=float)
            energies = energies.reshape(-1, 2)
            if (missed := len(energies) - outcar.count(CONVERGED)) > 0:
                raise CalculatorError(
                    f"vasp: the electrons did not converge in {missed} of {len(energies)} ionic steps of {place}: what "
                    f"comes after is no path of this dynamics; remove {folder} to begin this piece anew"
                )
            positions = read_xdatcar(place / "XDATCAR", self._n_atoms)
            # Killed between the two files, one has a step more.
            n = min(len(positions), len(energies))
            found.append((positions[:n], energies[:n, 0], energies[:n, 1]))
        fractions, potential, kinetic = (np.concatenate(values) for values in zip(*found, strict=True))
        wanted, lost = part.last - part.first, part.last - part.first - len(fractions)
        if lost > len(found):
            raise CalculatorError(f"vasp: {folder} has {len(fractions)} of {wanted} steps: files of it were changed")
        index = np.minimum(np.arange(wanted), len(fractions) - 1)
        return fractions[index][:, resort] @ self._atoms.cell.array, potential[index], kinetic[index]

    def _frame(self, part: Step, positions: NDArray[np.float64], potential: float, kinetic: float) -> Frame:
        return Frame(
            step=self.step,
            part=part.segment.kind,
            produced=part.segment.keep,
            time_ps=self._time_ps(),
            positions=positions,
            cell=self._atoms.cell.array.copy(),
            temperature=2 * float(kinetic) / (3 * (self._n_atoms - 1) * BOLTZMANN_EV_K),
            pressure=np.nan,
            potential_energy=float(potential),
            kinetic_energy=float(kinetic),
            volume=self._volume0,
        )


def read_xdatcar(path: Path, n_atoms: int) -> NDArray[np.float64]:
    """Fractions of the cell (frame, atom, xyz), of a cell that does not change; a frame that is cut off is left out."""
    if not path.is_file():
        return np.empty((0, n_atoms, 3))
    lines = path.read_text(errors="replace").split("\n")
    begins = [n for n, line in enumerate(lines) if line.startswith("Direct configuration")]
    frames = []
    for n in begins:
        rows = [line.split() for line in lines[n + 1 : n + 1 + n_atoms]]
        # The last line of a file that was cut off may lack digits: it is whole if it ends.
        if len(rows) == n_atoms and n + 1 + n_atoms < len(lines) and all(len(row) == 3 for row in rows):
            frames.append(rows)
    return np.array(frames, dtype=float).reshape(-1, n_atoms, 3)
