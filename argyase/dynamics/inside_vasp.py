"""Molecular dynamics inside VASP: one run of VASP for each piece of a protocol, instead of one for each step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.vasp import read_vasp
from numpy.typing import ArrayLike, NDArray

from argyase.calculators.vasp import VaspInFolders, convergence, parts, refuse_mixture
from argyase.dynamics.ase_md import draw_velocities
from argyase.dynamics.protocols import Step
from argyase.dynamics.simulation import Frame, MDSettings, Simulation
from argyase.errors import CalculatorError, ConfigError
from argyase.units import BOLTZMANN_EV_K

OF_THE_PROTOCOL = ("tebeg", "teend", "nsw", "potim", "nblock", "ibrion")
"""Tags of INCAR that the protocol sets."""

PERIOD_STEPS = 40
"""Period of the thermostat in steps, with SMASS = 0: temperatures nearer than that to each other are one."""

SIGMAS = 5.0
"""By how many standard errors the mean temperature of a piece may miss its target.

The temperature of a canonical ensemble of f = 3N - 3 degrees of freedom has a standard deviation of T sqrt(2 / f)
(Frenkel & Smit, Understanding Molecular Simulation, 2nd ed., section 4.1), and a mean over n steps is one of
n / `PERIOD_STEPS` values. This is more than a Nose-Hoover thermostat allows: its friction obeys d xi/dt =
(T / T0 - 1) / tau^2, so that means over longer than tau = `PERIOD_STEPS` / (sqrt(2) pi) steps converge as 1 / n. Of 52
atoms 5 standard errors are 57 % of the 29 steps at the end of a heating to 300 K, 12 % at the end of a quench, and 5 %
of 20 ps of equilibration. With such a thermostat and the shipped potential, each missed by less than 0.5 %, and if its
mass is that of the last temperature of a heating instead of the first, by up to 5 %. A ramp that did not happen misses
by 97 and 420 %. Five, as a training set has some 240 pieces.
"""


class VaspMD(Simulation):
    """A protocol of NVT dynamics by VASP itself, frame by frame as from `argyase.dynamics.ase_md.AseMD`.

    Each piece is a run of VASP in a folder of its own, from TEBEG to TEEND in NSW steps of POTIM, with the Nose-Hoover
    thermostat (MDALGO = 2); the next one begins with the positions and velocities of its CONTCAR, its thermostat at
    rest. A piece that was finished is read, and one that was stopped or killed goes on where it was: the same again
    costs only what is left. Frames are every so-manieth ionic step, in the order of the atoms that were given; their
    positions are wrapped as VASP has them in XDATCAR (8 digits of the cell), their pressure is not read (NaN).

    Of each piece the temperature is compared with what it should be (see `check_temperature`).

    Steps in which electrons did not converge, up to the fraction that the calculator allows, are steps of the dynamics,
    but never frames: their energies and forces are wrong.

    Parameters
    ----------
    atoms
        Starting structure, periodic in all three directions.
    calculator
        Settings of `argyase.calculators.vasp.VaspInFolders`, without what the protocol sets (`OF_THE_PROTOCOL`).
    settings
        Protocol and bounds.

    Attributes
    ----------
    unconverged
        Steps so far in which electrons did not converge.
    left_out
        Frames so far that were left out for that.
    corrections
        What custodian corrected, by piece.
    made_by
        What made the pieces so far (see `argyase.calculators.vasp.made_by`).

    Raises
    ------
    ConfigError
        If a piece is not ``nvt``, the preset does not move atoms, or a setting is one of the protocol's.
    CalculatorError
        While iterating `frames`: VASP was stopped or died, electrons did not converge in too many of the steps, pieces
        are of different versions of VASP or POTCARs, or the temperature of a piece is not that of the protocol.
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
        self.made_by: list[dict[str, Any]] = []
        self.unconverged = self.left_out = 0
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
            calculator.calculate(start.copy())
            self.corrections += [f"{part.segment.kind}: {how}" for how in calculator.corrections]
            self.made_by += calculator.made_by
            if not calculator.mixed:
                refuse_mixture(self.made_by)
            folder = Path(calculator.directory)
            *steps, good = self._read(folder, part, calculator.resort)
            temperatures = 2 * steps[2] / (3 * (self._n_atoms - 1) * BOLTZMANN_EV_K)
            usual = calculator.int_params["mdalgo"] == 2 and not calculator.float_params["smass"]
            try:
                check_temperature(
                    temperatures,
                    *part.segment.temperatures(self._settings.temperature_K),
                    self._n_atoms,
                    PERIOD_STEPS if usual else len(temperatures),
                )
            except CalculatorError as error:
                raise CalculatorError(f"vasp: {part.segment.kind}: {error}; remove {folder} to do it anew") from None
            self.unconverged += int((~good).sum())
            for number in range(self._settings.sample_steps, part.last - part.first + 1, self._settings.sample_steps):
                self.step = part.first + number
                if not good[number - 1]:
                    self.left_out += 1
                    continue
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

    def _read(self, folder: Path, part: Step, resort: list[int]) -> tuple[NDArray[Any], ...]:
        """Positions (step, atom, xyz), potential and kinetic energies of all steps of a piece, and whether good."""
        found, good = [], np.array(convergence(folder), dtype=bool)
        for place in parts(folder):
            energies = np.empty((0, 2))
            if (place / "OSZICAR").is_file():
                text = (place / "OSZICAR").read_text(errors="replace")
                columns = re.findall(r"(?m)^ *\d+ T=.* E0= *(\S+) +EK= *(\S+)", text)
                energies = np.array(columns, dtype=float).reshape(-1, 2)
            own, good = good[: len(energies)], good[len(energies) :]
            positions = read_xdatcar(place / "XDATCAR", self._n_atoms)
            # Killed between the two files, one has a step more.
            n = min(len(positions), len(energies))
            found.append((positions[:n], energies[:n, 0], energies[:n, 1], own[:n]))
        fractions, potential, kinetic, good = (np.concatenate(values) for values in zip(*found, strict=True))
        wanted, lost = part.last - part.first, part.last - part.first - len(fractions)
        if lost > len(found):
            raise CalculatorError(f"vasp: {folder} has {len(fractions)} of {wanted} steps: files of it were changed")
        index = np.minimum(np.arange(wanted), len(fractions) - 1)
        return fractions[index][:, resort] @ self._atoms.cell.array, potential[index], kinetic[index], good[index]

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


def check_temperature(temperatures: ArrayLike, begin: float, end: float, n_atoms: int, period: float) -> None:
    """Compare the temperatures of a piece with its ramp: over its last tenth; of one without a ramp, its second half.

    |<T> - <T0>| must be below `SIGMAS` <T0> sqrt(2 / (f n)), with f = 3N - 3 and n the number of steps over `period`,
    but at least one; T0 goes linearly from `begin` to `end`.

    Parameters
    ----------
    temperatures
        Of all steps (step,), K.
    begin, end
        Of the thermostat, K.
    n_atoms
        Number of atoms N.
    period
        Steps after which a temperature is another.

    Raises
    ------
    CalculatorError
        If they differ by more; it names both.

    >>> check_temperature(np.linspace(300, 1000, 400), 300, 1000, n_atoms=52, period=40)
    """
    found = np.asarray(temperatures, dtype=float)
    last = max(1, len(found) // (2 if begin == end else 10))
    wanted = np.linspace(begin, end, len(found) + 1)[1:][-last:].mean()
    mean = found[-last:].mean()
    allowed = SIGMAS * wanted * np.sqrt(2 / (3 * (n_atoms - 1) * max(1.0, last / period)))
    if not abs(mean - wanted) <= allowed:
        raise CalculatorError(
            f"the mean temperature of its last {last} of {len(found)} steps is {mean:.0f} K, and should be "
            f"{wanted:.0f} K within {allowed:.0f} K ({begin:g} to {end:g} K): VASP did not follow TEBEG and TEEND; "
            "look at OSZICAR, and at what is said of MDALGO, SMASS and TEEND in OUTCAR"
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
