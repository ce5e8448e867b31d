"""Training of Moment Tensor Potentials: variable projection with Levenberg-Marquardt steps.

The energy E = sum_i [xi_0(z_i) + sum_k xi_k B_k(i; c)] is linear in the coefficients xi of the species and of the
scalar basis functions B_k, and not in the coefficients c of the radial functions. With the rows of the design matrix
(energy, forces and virial of each frame, native code: `argyase/native/core/design.h`), the loss

    L = 1/n sum_frames w { w_E (dE / N)^2 + w_F / N sum_i s_i |dF_i|^2 + w_S sum_ab (V dsigma_ab / N)^2 }
        + rho_c |c - c0|^2 + rho_xi min_s sum_k (xi_k - s xi0_k)^2

is minimised over xi exactly for any c (a linear problem), so that it becomes a function of c alone. c0 and xi0 are 0,
or the coefficients of a potential that another teacher has trained: the ridges then pull towards its shape and leave
its size free, for universal potentials are soft by a common factor (B. Deng et al., npj Comput. Mater. 11, 9 (2025)).
The Gauss-Newton matrix of that function is the Schur complement S = J_c^T J_c - J_c^T J_xi (J_xi^T J_xi)^-1 J_xi^T J_c
of the joint one (G. H. Golub, V. Pereyra, SIAM J. Numer. Anal. 10, 413 (1973); L. Kaufman, BIT 15, 49 (1975)); steps
solve
(S + lambda diag S) dc = -grad L / 2, with the damping lambda steered by the gain ratio (H. B. Nielsen,
IMM-REP-1999-05). w_E, w_F, w_S weigh energy, forces and stress as in motep (`LossSetting` with all flags on) and MLIP
(`--weighting=structures`), w a frame, and s_i = s / (s + |F_i|^2) takes weight from large forces if a scale s is given
(`--scale-by-force`).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from numpy.typing import NDArray

from argyase.errors import ConfigError, StatisticsError
from argyase.potentials import _mtp
from argyase.potentials.basis import extend_radial_basis, raise_level
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, format_mtp
from argyase.potentials.repulsion import smallest_distances
from argyase.units import EV_PER_A3_TO_GPA

Array = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss (see the module)."""

    energy: float = 1.0
    forces: float = 0.01
    stress: float = 0.001
    scale_by_force: float = 0.0
    """s, eV^2/A^2; 0: all forces alike."""
    groups: Mapping[str, float] = field(default_factory=dict)
    """Weight of each frame of a group, times its own; 1 for others."""


@dataclass(frozen=True)
class Labels:
    """Labelled frames, as arrays.

    Attributes
    ----------
    frames
        The structures.
    energies
        eV, shape (frame,).
    forces
        eV/A, of each frame, shape (atom, 3).
    stresses
        eV/A^3, xx yy zz yz xz xy, of each frame, or None where there is none.
    groups, trajectories
        Names, of each frame.
    weights
        Of each frame in the loss, shape (frame,).
    """

    frames: list[Atoms]
    energies: Array
    forces: list[Array]
    stresses: list[Array | None]
    groups: list[str]
    trajectories: list[str]
    weights: Array

    @classmethod
    def of(
        cls, frames: Sequence[Atoms], group: str = "group", trajectory: str = "trajectory", weight: str = "weight"
    ) -> Labels:
        """Take energies, forces and stresses from the calculators of the frames, names and weights from their ``info``.

        Frames without the name of a trajectory are one each; those without a weight have 1.

        Raises
        ------
        StatisticsError
            If a frame has no energy or forces, or they are not finite; the message says which.
        ConfigError
            If a weight is not a number >= 0.
        """
        energies, forces, stresses = [], [], []
        for number, atoms in enumerate(frames):
            try:
                energies.append(float(atoms.get_potential_energy()))
                forces.append(np.array(atoms.get_forces(apply_constraint=False)))
            except (RuntimeError, PropertyNotImplementedError) as error:
                raise StatisticsError(f"frame {number} of the labels has no energy or no forces: {error}") from None
            try:
                stresses.append(np.array(atoms.get_stress(apply_constraint=False)) if atoms.cell.rank == 3 else None)
            except (RuntimeError, PropertyNotImplementedError):
                stresses.append(None)
            finite = np.isfinite(energies[-1]) and np.isfinite(forces[-1]).all()
            if not finite or (stresses[-1] is not None and not np.isfinite(stresses[-1]).all()):
                raise StatisticsError(
                    f"frame {number} of the labels: energy, forces or stress are not finite; leave it out"
                )
        return cls(
            [atoms.copy() for atoms in frames],
            np.array(energies),
            forces,
            stresses,
            [str(atoms.info.get(group, "")) for atoms in frames],
            [str(atoms.info.get(trajectory, f"frame {n}")) for n, atoms in enumerate(frames)],
            np.array([_weight(n, atoms.info.get(weight, 1.0), weight) for n, atoms in enumerate(frames)], dtype=float),
        )

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, numbers: Sequence[int] | NDArray[np.int64]) -> Labels:
        """Some of the frames, in the order of their numbers."""

        def pick(values: Sequence[T]) -> list[T]:
            return [values[int(n)] for n in numbers]

        return Labels(
            pick(self.frames),
            self.energies[np.asarray(numbers, dtype=int)],
            pick(self.forces),
            pick(self.stresses),
            pick(self.groups),
            pick(self.trajectories),
            self.weights[np.asarray(numbers, dtype=int)],
        )

    def hold_out(
        self, fraction: float, seed: int, names: Sequence[str] = (), never: Sequence[str] = ()
    ) -> tuple[Labels, Labels]:
        """Split off whole trajectories: those of these names, or else each with the probability `fraction`.

        One is held out if a hash of the seed and its name, as a number from 0 to 1, is below the fraction. So this
        fraction of the frames is met on average only; but whatever labels are added, none that was trained on is ever
        held out, also not by a fit that goes on from the potential of another. If no number is below the fraction, the
        lowest is held out alone (until one is added that is lower).

        None is taken by chance that has a frame of a group in `never` (patterns, as in ``*squeeze``): the errors of a
        few extreme frames, each unlike all others, would drown those of the dynamics that the fit is judged by.

        Raises
        ------
        ConfigError
            If a name is unknown, or nothing would be left on one side.
        """
        known = sorted(set(self.trajectories))
        if unknown := sorted(set(names) - set(known)):
            raise ConfigError(f"hold-out: no trajectory {unknown[0]!r}; there are {', '.join(known[:20])}")
        chosen = set(names)
        if not names and fraction > 0:
            kept = {
                name
                for name, group in zip(self.trajectories, self.groups, strict=True)
                if any(fnmatchcase(group, pattern) for pattern in never)
            }
            numbers = {name: _number_of(name, seed) for name in known if name not in kept}
            lowest = min(numbers.values(), default=0.0)
            chosen = {name for name, number in numbers.items() if number < fraction or number == lowest}
        out = [n for n, name in enumerate(self.trajectories) if name in chosen]
        stay = [n for n, name in enumerate(self.trajectories) if name not in chosen]
        if not stay or (fraction > 0 and not out):
            raise ConfigError(
                f"hold-out: {len(out)} of {len(self)} frames in {len(known)} trajectories would be held out; "
                "name them, or choose another fraction or seed (whole trajectories are held out, never single frames)"
            )
        return self.take(stay), self.take(out)

    def smallest_distance(self, cutoff: float) -> float:
        """Of any two atoms of a frame, A; infinite if none are within the cutoff."""
        species = sorted({symbol for atoms in self.frames for symbol in atoms.symbols})
        return min(smallest_distances(self.frames, species, cutoff).values(), default=np.inf)


def _number_of(trajectory: str, seed: int) -> float:
    """A number from 0 to 1 that looks random, the same for ever."""
    return int.from_bytes(hashlib.sha256(f"{seed} {trajectory}".encode()).digest()[:8]) / 2**64


def _weight(frame: int, value: Any, key: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise ConfigError(f"frame {frame} of the labels: {key} = {value!r}: expected a weight >= 0")
    return weight


@dataclass(frozen=True)
class Errors:
    """Errors of a potential on labels."""

    energy_mae: float
    """meV/atom."""
    energy_rmse: float
    force_mae: float
    """eV/A, over all components."""
    force_rmse: float
    stress_mae: float
    """GPa, over the six components; NaN without labels."""
    stress_rmse: float

    @classmethod
    def of(cls, energies: Array, forces: Array, stresses: Array) -> Errors:
        """From differences between potential and labels: eV/atom, eV/A, GPa (NaN: no label), arrays of any shape."""
        parts = 1e3 * energies, forces, stresses[np.isfinite(stresses)]
        found = [(np.abs(d).mean(), np.sqrt((d**2).mean())) if d.size else (math.nan, math.nan) for d in parts]
        return cls(*(float(value) for pair in found for value in pair))


@dataclass(frozen=True)
class Predictions:
    """What a potential gives for labelled frames, beside the labels."""

    energies: Array
    """eV/atom, shape (frame, 2): label, prediction."""
    forces: Array
    """eV/A, shape (frame and atom, 3, 2)."""
    stresses: Array
    """GPa, shape (frame, 6, 2); NaN where the label has none."""

    def take(self, frames: NDArray[np.bool_], atoms: NDArray[np.int64]) -> Predictions:
        """Of some frames only, given the number of atoms of each frame."""
        return Predictions(self.energies[frames], self.forces[np.repeat(frames, atoms)], self.stresses[frames])

    def errors(self) -> Errors:
        """Mean absolute and root mean square errors."""
        return Errors.of(*(np.diff(both, axis=-1) for both in (self.energies, self.forces, self.stresses)))


def predict(calculator: MTP, labels: Labels) -> Predictions:
    """Evaluate a potential on labelled frames."""
    energies, stresses = np.empty((len(labels), 2)), np.full((len(labels), 6, 2), np.nan)
    forces: list[Array] = []
    for n, atoms in enumerate(labels.frames):
        calculator.calculate(atoms)
        results: dict[str, Any] = calculator.results
        energies[n] = labels.energies[n] / len(atoms), results["energy"] / len(atoms)
        forces.append(np.stack([labels.forces[n], results["forces"]], axis=-1))
        stress = labels.stresses[n]
        if stress is not None:
            stresses[n] = np.stack([stress, results["stress"]], axis=-1) * EV_PER_A3_TO_GPA
    return Predictions(energies, np.concatenate(forces) if forces else np.empty((0, 3, 2)), stresses)


# ---- the linear algebra ----


class _Rows:
    """Frames with targets and weights of the rows of their design matrix."""

    def __init__(self, labels: Labels, potential: MTPFile, species: Sequence[str], weights: LossWeights) -> None:
        self.labels = labels
        text = format_mtp(potential)
        self.frames = _mtp.Frames(text, "potential")
        number_of = {symbol: k for k, symbol in enumerate(species)}
        targets, roots, self.counts = [], [], np.empty((len(labels), len(species)))
        for n, atoms in enumerate(labels.frames):
            try:
                types = np.array([number_of[s] for s in atoms.get_chemical_symbols()], dtype=np.int32)
            except KeyError as error:
                raise ConfigError(f"labels: species {error}; the potential knows {list(species)}") from None
            self.counts[n] = np.bincount(types, minlength=len(species))
            cell = atoms.cell.complete().array
            self.frames.add(types, np.ascontiguousarray(atoms.positions), np.ascontiguousarray(cell), atoms.pbc)
            size, stress = len(atoms), labels.stresses[n]
            force = labels.forces[n]
            of_frame = labels.weights[n] * weights.groups.get(labels.groups[n], 1.0) / len(labels)
            scale = np.ones(size)
            if weights.scale_by_force > 0:
                scale = weights.scale_by_force / (weights.scale_by_force + (force**2).sum(axis=1))
            volume = atoms.get_volume() if stress is not None else 1.0
            # Each component off the diagonal stands for two.
            on_stress = np.array([1, 1, 1, 2, 2, 2]) * weights.stress / size**2 if stress is not None else np.zeros(6)
            row_weights = [np.array([weights.energy / size**2]), np.repeat(weights.forces / size * scale, 3), on_stress]
            roots.append(np.sqrt(of_frame * np.concatenate(row_weights)))
            virial = volume * stress if stress is not None else np.zeros(6)
            targets.append(np.concatenate([[labels.energies[n]], force.ravel(), virial]))
        self.first_row = np.concatenate([[0], np.cumsum([len(t) for t in targets])])
        self.target, self.root = np.concatenate(targets), np.concatenate(roots)

    def subtract(self, reference: Array) -> None:
        """Take the energies of free species off the targets, eV, shape (species,): less is lost by rounding."""
        self.target[self.first_row[:-1]] -= self.counts @ reference


@dataclass
class _Normal:
    """Normal equations: J^T J, J^T t, t^T t, all weighted."""

    matrix: Array
    vector: Array
    square: float

    def loss(self, x: Array) -> float:
        n = len(x)
        return float(self.square - 2 * self.vector[:n] @ x + x @ self.matrix[:n, :n] @ x)


BATCH_NUMBERS = 8_000_000
"""Numbers of a batch of rows, 64 MB: the design matrix is never whole in memory."""


def _normal(rows: _Rows, potential: MTPFile, *, radial: bool, threads: int) -> _Normal:
    design = _mtp.Design(format_mtp(potential), "potential", threads)
    columns = design.linear_columns + (design.radial_columns if radial else 0)
    stride = columns + _mtp.Design.padding
    normal = _Normal(np.zeros((columns, columns)), np.zeros(columns), 0.0)
    first, starts = 0, rows.first_row
    # Room for the largest batch: at least one frame.
    most = max(BATCH_NUMBERS // stride, int(np.diff(starts).max(initial=1)))
    room = np.empty((most, stride))
    while first < len(rows.labels):
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + most, side="right")) - 1)
        part = slice(starts[first], starts[last])
        design.compute(rows.frames, first, last, radial, rows.root[part], room)
        j = room[: starts[last] - starts[first], :columns]
        t = rows.root[part] * rows.target[part]
        normal.matrix += j.T @ j
        normal.vector += j.T @ t
        normal.square += float(t @ t)
        first = last
    return normal


def _solver(matrix: Array, ridge: Array) -> Array:
    """Inverse of matrix + ridge on the space that the data determine, columns scaled to 1.

    From level 16 on MLIP's basis functions depend on each other, so that the matrix is singular but for the ridge: of
    eigenvalues below rounding nothing is taken.
    """
    full = matrix + ridge
    scale = np.sqrt(np.diag(full))
    scale[scale == 0] = 1.0
    values, vectors = np.linalg.eigh(full / np.outer(scale, scale))
    keep = values > 1e-13 * values[-1]
    scaled = vectors[:, keep] / scale[:, None]
    return np.asarray((scaled / values[keep]) @ scaled.T)


# ---- the fit ----


@dataclass(frozen=True)
class FitSettings:
    """How to fit."""

    weights: LossWeights = LossWeights()
    ridge_radial: float = 1e-5
    """rho_c, of the loss."""
    ridge_linear: float = 1e-9
    """rho_xi, of the loss."""
    max_iterations: int = 100
    tolerance: float = 1e-3
    """Ends when the loss fell by less than this fraction over the last five iterations."""
    patience: int = 10
    """Ends when the loss of held-out frames has not fallen for so many iterations."""
    threads: int = 1


@dataclass(frozen=True)
class FitState:
    """After an iteration: all that is needed to go on.

    Attributes
    ----------
    potential
        With the coefficients of now.
    best
        With those of the lowest loss on held-out frames (of the lowest loss, without).
    damping, growth
        lambda of the next step, and by what it grows if the step fails.
    losses, held_out
        After each iteration, shape (iteration + 1,); `held_out` NaN without held-out frames.
    errors
        After each iteration, on training and on held-out frames.
    finished
        Why the fit ended; empty while it goes on.
    """

    potential: MTPFile
    best: MTPFile
    damping: float = 1e-2
    growth: float = 2.0
    losses: tuple[float, ...] = ()
    held_out: tuple[float, ...] = ()
    errors: tuple[tuple[Errors, Errors], ...] = ()
    finished: str = ""

    @property
    def iteration(self) -> int:
        """Number of steps taken."""
        return max(0, len(self.losses) - 1)

    @property
    def lowest(self) -> float:
        """Loss by which fits from several starts are compared: the lowest on held-out frames; on all, without."""
        return self.losses[-1] if math.isnan(self.held_out[-1]) else min(self.held_out)


class Fit:
    """A fit of the coefficients of a potential to labels.

    Parameters
    ----------
    labels
        What is fitted to.
    species
        Symbols in the order of the potential's species.
    settings
        See `FitSettings`.
    held_out
        Frames that the fit does not see, for early stopping.
    prior
        Potential whose coefficients the ridges pull towards, of the level and radial basis of `potential`.

    Raises
    ------
    ConfigError
        If labels have species that the potential does not know, there are no labels, or the prior is another kind of
        potential.

    Notes
    -----
    The memory needed is that of the neighbours (32 bytes each) and of one batch of rows; the time of an iteration is
    linear in frames.
    """

    def __init__(
        self,
        potential: MTPFile,
        species: Sequence[str],
        labels: Labels,
        settings: FitSettings | None = None,
        held_out: Labels | None = None,
        prior: MTPFile | None = None,
    ) -> None:
        if len(labels) == 0:
            raise ConfigError("fit: no labelled frames")
        if prior is not None and any(
            getattr(prior, k).shape != getattr(potential, k).shape for k in ("radial_coeffs", "moment_coeffs")
        ):
            raise ConfigError("fit: the prior is of another level, radial basis or number of species; raise it first")
        self.settings = settings or FitSettings()
        self._prior = prior
        self.species = tuple(species)
        self._rows = _Rows(labels, potential, species, self.settings.weights)
        self._held_out = None
        if held_out is not None and len(held_out):
            self._held_out = _Rows(held_out, potential, species, self.settings.weights)
        # Energies of free species: the least-squares ones, the smallest of those if they are not determined.
        self._reference: Array = np.linalg.lstsq(self._rows.counts, labels.energies, rcond=1e-9)[0].astype(np.float64)
        for rows in (self._rows, self._held_out):
            if rows is not None:
                rows.subtract(self._reference)

    def _linear_ridge(self, potential: MTPFile) -> Array:
        """R of the quadratic form x R x of the linear coefficients; the prior's own direction is free."""
        species, moments = len(potential.species_coeffs), len(potential.moment_coeffs)
        ridge = np.zeros((species + moments, species + moments))
        across = np.eye(moments)
        if self._prior is not None and (size := np.linalg.norm(self._prior.moment_coeffs)) > 0:
            along = self._prior.moment_coeffs / size
            across -= np.outer(along, along)
        ridge[species:, species:] = self.settings.ridge_linear * across
        return ridge

    def _from_prior(self, potential: MTPFile) -> Array:
        """c - c0, in the shape of the radial coefficients."""
        return potential.radial_coeffs - (self._prior.radial_coeffs if self._prior is not None else 0.0)

    def _penalty(self, potential: MTPFile) -> float:
        x = self._linear(potential)
        return float(
            self.settings.ridge_radial * (self._from_prior(potential) ** 2).sum()
            + x @ self._linear_ridge(potential) @ x
        )

    def solve_linear(self, potential: MTPFile) -> tuple[MTPFile, float]:
        """The potential with the best linear coefficients for its radial ones, and the loss."""
        normal = _normal(self._rows, potential, radial=False, threads=self.settings.threads)
        x = _solver(normal.matrix, self._linear_ridge(potential)) @ normal.vector
        count = len(self.species)
        solved = replace(potential, species_coeffs=x[:count] + self._reference, moment_coeffs=x[count:])
        return solved, max(0.0, normal.loss(x)) + self._penalty(solved)

    def loss(self, potential: MTPFile) -> float:
        """The loss of a potential as it is."""
        return self._evaluate(self._rows, potential)[0] + self._penalty(potential)

    def _evaluate(self, rows: _Rows | None, potential: MTPFile) -> tuple[float, Errors]:
        """The loss without ridges, and the errors; NaN without frames."""
        if rows is None:
            return math.nan, Errors.of(np.empty(0), np.empty(0), np.empty(0))
        found = predict(MTP(potential, self.species, threads=self.settings.threads), rows.labels)
        energies, forces, stresses = (
            np.diff(both, axis=-1)[..., 0] for both in (found.energies, found.forces, found.stresses)
        )
        square, first = 0.0, 0
        for n, atoms in enumerate(rows.labels.frames):
            own = forces[first : first + len(atoms)]
            first += len(atoms)
            virial = (
                atoms.get_volume() * stresses[n] / EV_PER_A3_TO_GPA
                if rows.labels.stresses[n] is not None
                else np.zeros(6)
            )
            left = np.concatenate([[energies[n] * len(atoms)], own.ravel(), virial])
            square += float(((rows.root[rows.first_row[n] : rows.first_row[n + 1]] * left) ** 2).sum())
        return square, found.errors()

    def gradient(self, potential: MTPFile) -> tuple[float, Array, Array, Array]:
        """The loss, and its derivatives with respect to radial_coeffs, species_coeffs and moment_coeffs."""
        normal = _normal(self._rows, potential, radial=True, threads=self.settings.threads)
        x = self._linear(potential)
        residual = 2 * (normal.matrix[:, : len(x)] @ x - normal.vector)
        species, linear = len(self.species), len(x)
        residual[:linear] += 2 * self._linear_ridge(potential) @ x
        radial = residual[linear:].reshape(potential.radial_coeffs.shape)
        return (
            normal.loss(x) + self._penalty(potential),
            radial + 2 * self.settings.ridge_radial * self._from_prior(potential),
            residual[:species],
            residual[species:linear],
        )

    def _linear(self, potential: MTPFile) -> Array:
        return np.concatenate([potential.species_coeffs - self._reference, potential.moment_coeffs])

    def start(self, potential: MTPFile) -> FitState:
        """The state before the first step."""
        solved, loss = self.solve_linear(potential)
        _, training = self._evaluate(self._rows, solved)
        held_out, errors = self._evaluate(self._held_out, solved)
        return FitState(solved, solved, losses=(loss,), held_out=(held_out,), errors=((training, errors),))

    def steps(self, state: FitState) -> Iterator[FitState]:
        """Iterate from a state; yields the state after each step, the last with `finished`."""
        while not state.finished:
            state = self._judge(self._step(state))
            yield state

    def _step(self, state: FitState) -> FitState:
        s, potential, loss = self.settings, state.potential, state.losses[-1]
        normal = _normal(self._rows, potential, radial=True, threads=s.threads)
        x, c = self._linear(potential), potential.radial_coeffs.ravel()
        n = len(x)
        ridge = self._linear_ridge(potential)
        inverse = _solver(normal.matrix[:n, :n], ridge)
        coupling = normal.matrix[n:, :n] @ inverse
        schur = normal.matrix[n:, n:] - coupling @ normal.matrix[:n, n:]
        schur[np.diag_indices_from(schur)] += s.ridge_radial
        left = normal.vector - normal.matrix[:, :n] @ x
        pull = s.ridge_radial * self._from_prior(potential).ravel()
        downhill = left[n:] - pull - coupling @ (left[:n] - ridge @ x)
        diagonal = np.diag(schur)
        damped = np.maximum(diagonal, 1e-10 * diagonal.max())
        damping, growth = state.damping, state.growth
        while damping < 1e12:
            step = np.linalg.solve(schur + damping * np.diag(damped), downhill)
            trial = replace(potential, radial_coeffs=(c + step).reshape(potential.radial_coeffs.shape))
            trial, new_loss = self.solve_linear(trial)
            gain = (loss - new_loss) / (2 * step @ downhill - step @ schur @ step)
            if np.isfinite(new_loss) and gain > 1e-4:
                damping *= max(0.2, 1 - (2 * float(gain) - 1) ** 3)
                return replace(
                    state, potential=trial, damping=max(damping, 1e-12), growth=2.0, losses=(*state.losses, new_loss)
                )
            damping, growth = damping * growth, growth * 2
        return replace(state, losses=(*state.losses, loss), finished="no step lowers the loss")

    def _judge(self, state: FitState) -> FitState:
        s = self.settings
        _, training = self._evaluate(self._rows, state.potential)
        now, errors = self._evaluate(self._held_out, state.potential)
        earlier, losses = state.held_out, state.losses
        best = state.potential if self._held_out is None or now < min(earlier) else state.best
        finished = state.finished
        if not finished and len(losses) > 5 and losses[-1] > (1 - s.tolerance) * losses[-6]:
            finished = f"the loss fell by less than {s.tolerance:g} over five iterations"
        behind = len(earlier) - int(np.argmin([*earlier, now])) if self._held_out is not None else 0
        if not finished and behind >= s.patience:
            finished = f"the loss of held-out frames has not fallen for {s.patience} iterations"
        if not finished and len(losses) > s.max_iterations:
            finished = f"{s.max_iterations} iterations"
        return replace(
            state,
            best=best,
            held_out=(*earlier, now),
            errors=(*state.errors, (training, errors)),
            finished=finished,
        )


def _just_below(nearest: float) -> float:
    """A little below the smallest distance: Chebyshev polynomials grow fast beyond their range."""
    return math.floor(nearest * 0.98 * 100) / 100


def restart(potential: MTPFile, labels: Labels, level: int, radial_basis_size: int) -> MTPFile:
    """A trained potential to go on from: the same energies, more freedom, and a range that has all distances.

    Parameters
    ----------
    potential
        Of this level or a lower one, of this size of the radial basis or a smaller one.
    labels
        If distances in them are below its min_dist, that is lowered; the radial functions stay what they are.

    Raises
    ------
    PotentialFileError
        If the potential cannot be written so: see `raise_level`, `extend_radial_basis`.
    """
    nearest = labels.smallest_distance(potential.min_dist)
    min_dist = _just_below(nearest) if nearest < potential.min_dist else potential.min_dist
    return raise_level(extend_radial_basis(potential, min_dist, radial_basis_size), level)


def random_start(template: MTPFile, labels: Labels, species: Sequence[str], seed: int) -> MTPFile:
    """Random radial coefficients for a template, min_dist from the labels, and a scaling that makes moments about 1.

    Parameters
    ----------
    template
        The moments of a level; its cutoff and size of the radial basis are kept.
    seed
        Seed of the coefficients.
    """
    rng = np.random.default_rng(seed)
    shape = (len(species), len(species), template.radial_funcs_count, template.radial_basis_size)
    nearest = labels.smallest_distance(template.max_dist)
    if not nearest < template.max_dist:
        raise ConfigError(f"labels: no two atoms are within the cutoff, {template.max_dist:g} A")
    # sum_j (r_c - r_j)^4 over the neighbours of an atom, from their density: 4 pi n r_c^7 / 105.
    density = float(np.median([len(a) / a.get_volume() for a in labels.frames if a.cell.rank == 3] or [0.05]))
    size = math.sqrt(4 * math.pi * density * template.max_dist**7 / 105)
    # Smooth functions first: the higher polynomials of a random function are small.
    fall = 1.0 / (1.0 + np.arange(template.radial_basis_size))
    return replace(
        template,
        species_count=len(species),
        species_types=(),
        min_dist=_just_below(nearest),
        scaling=1.0 / size,
        radial_coeffs=rng.normal(size=shape) * fall,
        species_coeffs=np.zeros(len(species)),
        moment_coeffs=np.zeros(len(template.alpha_moment_mapping)),
    )


def fit(
    template: MTPFile,
    species: Sequence[str],
    labels: Labels,
    settings: FitSettings | None = None,
    *,
    held_out: Labels | None = None,
    prior: MTPFile | None = None,
    seeds: Sequence[int] = (1,),
    trial_iterations: int = 8,
) -> FitState:
    """Fit from random starts: a few iterations of each, then the best to the end.

    Parameters
    ----------
    template
        The moments of a level (see `argyase.potentials.basis`), or a trained potential to go on from: then there is one
        start, that one.

    Returns
    -------
    FitState
        Of the end; the result is its `best`.
    """
    starts = [random_start(template, labels, species, k) for k in seeds] if template.is_template else [template]
    problem = Fit(starts[0], species, labels, settings, held_out, prior)
    states = [problem.start(start) for start in starts]
    if len(states) > 1:
        states = [last(itertools.islice(problem.steps(state), trial_iterations), state) for state in states]
    best = min(states, key=lambda state: state.lowest)
    return last(problem.steps(best), best)


def last(states: Iterable[FitState], state: FitState) -> FitState:
    """The last of some states; `state` if there are none."""
    for later in states:
        state = later
    return state
