"""Stage ``fit``: train a Moment Tensor Potential on labelled frames.

The run in the lake holds potential.mtp, its model card and its active set; with --output they are also written as
NAME.mtp, NAME.toml and NAME.active, for ``argyase md --potential NAME.mtp``.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from argyase.datalake.lake import Attempt, Lake
from argyase.errors import ConfigError, PotentialFileError
from argyase.schemas import FIT
from argyase.stages._config import setting
from argyase.stages._errors import ERROR_COLUMNS, ERROR_UNITS, error_arrays
from argyase.stages._frames import frames_of, names_trajectory
from argyase.stages._run import Report, collect_provenance, console, published, silent, stage_main, stop_requested

if TYPE_CHECKING:
    from argyase.potentials.fit import Fit, FitSettings, FitState, Labels
    from argyase.potentials.model_card import Potential
    from argyase.potentials.mtp_file import MTPFile


@dataclass(frozen=True)
class Config:
    """What to fit to what, and how."""

    labels: tuple[str, ...] = setting(help="labelled frames: runs of stage label, or files that ASE reads")
    species: tuple[str, ...] = setting(("Li", "P", "S", "Cl"), help="symbols, in the order of the potential")
    level: int = setting(10, help="level of the potential, an even number from 2 to 28")
    start: str = setting(
        "", help="potential to go on from, shipped or an .mtp file; one of a lower level is raised to this one"
    )
    name: str = setting("", help="name of the potential (default: that of --output, or the level)")
    output: str = setting("", help="write the potential, its card and active set also to these files, without a suffix")
    mixed_teachers: bool = setting(
        False, help="labels of different calculators are meant; without, they are refused (where runs tell)"
    )
    ridge_to_start: bool = setting(
        False,
        help="ridges pull towards the coefficients of fit.start (of the linear ones: up to a common factor), not to 0; "
        "for few labels of a better teacher",
    )
    cutoff: float = setting(6.0, help="cutoff", unit="A")
    radial_basis_size: int = setting(8, help="polynomials of a radial function")
    energy_weight: float = setting(1.0, help="weight of the squared error of the energy per atom (eV)")
    force_weight: float = setting(0.01, help="weight of the squared error of a force (eV/A)")
    stress_weight: float = setting(0.001, help="weight of the squared error of volume x stress per atom (eV)")
    scale_by_force: float = setting(
        0.0, help="s: the weight of a force F is multiplied by s / (s + F^2); 0: all alike", unit="eV^2/A^2"
    )
    group_weights: tuple[str, ...] = setting(
        (), help="weights of the frames of groups, as in melt=0.3 or '* melt=0.3'; the last that fits counts, without 1"
    )
    weight_key: str = setting("weight", help="key of a frame's info that holds its own weight; 1 without")
    group_key: str = setting("group", help="key of a frame's info that names its group")
    trajectory_key: str = setting("trajectory", help="key of a frame's info that names its trajectory")
    held_out: float = setting(
        0.1,
        help="fraction of the frames that is held out, on average: each trajectory as a whole, with this probability, "
        "by a hash of its name and the seed, whatever other labels there are; one at least",
    )
    held_out_seed: int = setting(1, help="seed of the choice of held-out trajectories")
    held_out_trajectories: tuple[str, ...] = setting((), help="hold these out instead")
    never_held_out: tuple[str, ...] = setting(("*squeeze",), help="groups of which none is; * matches any text")
    ridge_radial: float = setting(1e-5, help="ridge on the radial coefficients")
    ridge_linear: float = setting(1e-9, help="ridge on the linear coefficients")
    seeds: tuple[int, ...] = setting((1, 2, 3), help="random starts, of which the best is fitted to the end")
    trial_iterations: int = setting(8, help="iterations of each random start")
    max_iterations: int = setting(100, help="iterations at most")
    tolerance: float = setting(1e-3, help="end when the loss falls by less than this fraction in five iterations")
    patience: int = setting(10, help="end when the held-out loss has not fallen for so many iterations")
    threads: int = setting(0, help="threads; 0: as many as there are cores")


# Runs are inputs, and the weights are in the digest.
_NOT_PHYSICS = ("labels", "mixed_teachers", "start", "output", "threads", "name", "weight_key")


def settings_of(config: Config, labels: Labels) -> FitSettings:
    """Settings of the fit, patterns of group weights resolved to the groups that there are."""
    from argyase.potentials.fit import FitSettings, LossWeights

    return FitSettings(
        LossWeights(
            config.energy_weight,
            config.force_weight,
            config.stress_weight,
            config.scale_by_force,
            {
                group: weight
                for pattern, weight in _group_weights(config.group_weights).items()
                for group in set(labels.groups)
                if fnmatchcase(group, pattern)
            },
        ),
        config.ridge_radial,
        config.ridge_linear,
        config.max_iterations,
        config.tolerance,
        config.patience,
        config.threads or len(os.sched_getaffinity(0)),
    )


def _group_weights(texts: Sequence[str]) -> dict[str, float]:
    """From ``melt=0.3``.

    >>> _group_weights(["melt=0.3"])
    {'melt': 0.3}
    """
    weights = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            weights[name] = -1.0
        if not name or not 0 <= weights[name] < np.inf:
            raise ConfigError(f"fit.group_weights: {text!r}: expected a group and a weight >= 0, as in melt=0.3")
    return weights


def _digest(labels: Labels) -> str:
    """Hash of everything in the labels that the fit depends on."""
    h = hashlib.sha256()
    for n, atoms in enumerate(labels.frames):
        stress = labels.stresses[n]
        parts = [atoms.numbers, atoms.pbc, atoms.positions, atoms.cell.array, labels.energies[n], labels.forces[n]]
        for part in [*parts, *([stress] if stress is not None else [])]:
            h.update(np.ascontiguousarray(part).tobytes())
        h.update(f"{labels.groups[n]}\0{labels.trajectories[n]}\0".encode())
    h.update(labels.weights.tobytes())
    return h.hexdigest()


def _check_teachers(lake: Lake, runs: Sequence[str]) -> None:
    """Refuse label runs of different calculators: of files it is not known whose labels they have."""
    first: tuple[str, Mapping[str, Any]] | None = None
    for run_id in runs:
        record = lake.record(run_id)
        if record.stage != "label":
            continue
        own = record.parameters["calculator"]
        first = first or (run_id, own)
        if own != first[1]:
            differs = [k for k in {**first[1], **own} if first[1].get(k) != own.get(k)]
            said = (" ".join(f"{k}={c.get(k, '')}" for k in differs) for c in (first[1], own))
            raise ConfigError(
                f"fit.labels: run {first[0]} has labels of {next(said)}, run {run_id} of {next(said)}: energies of "
                "different calculators do not go together (universal potentials: 0.3 eV/atom apart); label all frames "
                "by one, or say that it is meant: --mixed-teachers"
            )


def _start(config: Config, start: Potential | None, labels: Labels) -> list[MTPFile]:
    """Where the fits begin: a potential to go on from, or random ones."""
    from argyase.potentials.basis import untrained
    from argyase.potentials.fit import random_start, restart
    from argyase.potentials.mtp_file import read_mtp

    if start:
        potential = read_mtp(start.path)
        if potential.max_dist != config.cutoff:
            raise ConfigError(
                f"fit.start = {config.start}: cutoff {potential.max_dist:g} A, not fit.cutoff = {config.cutoff:g} A; "
                f"give --cutoff {potential.max_dist:g}, or start from random coefficients"
            )
        return [restart(potential, labels, config.level, config.radial_basis_size)]
    template = untrained(config.level, max_dist=config.cutoff, radial_basis_size=config.radial_basis_size)
    return [random_start(template, labels, config.species, seed) for seed in config.seeds]


def _split(config: Config, labels: Labels) -> tuple[Labels, Labels]:
    """Training and held-out frames; a warning where these may be neighbours in time."""
    if not (config.held_out or config.held_out_trajectories):
        return labels, labels.take([])
    training, held_out = labels.hold_out(
        config.held_out, config.held_out_seed, config.held_out_trajectories, config.never_held_out
    )
    alone, others = (
        [a.get_chemical_formula() for a in part.frames if not names_trajectory(a, config.trajectory_key)]
        for part in (held_out, training)
    )
    if near := sum(formula in set(others) for formula in alone):
        console.print(
            f"warning: {near} of {len(held_out)} held-out frames do not say of which trajectory they are, nor do "
            "frames of the same formula that are trained on: if they are of the same dynamics, held-out errors are "
            f"those of neighbours in time, too low; name it as {config.trajectory_key!r} in the info of each frame "
            "(docs/how-to/train-a-potential.md)",
            style="yellow",
            markup=False,
        )
    return training, held_out


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Fit, or go on with an unfinished fit, unless the lake has it; its id."""
    from argyase.potentials.fit import Fit, Labels
    from argyase.potentials.model_card import find_potential

    if not config.seeds:
        raise ConfigError("fit.seeds: give at least one")
    if config.ridge_to_start and not config.start:
        raise ConfigError("fit.ridge_to_start: towards which potential? name it as fit.start")
    # It must be of these species, in this order.
    start = find_potential(config.start, config.species) if config.start else None
    frames, parents = frames_of(lake, config.labels)
    if not config.mixed_teachers:
        _check_teachers(lake, parents)
    labels = Labels.of(frames, config.group_key, config.trajectory_key, config.weight_key)
    for group in _group_weights(config.group_weights):
        if any(fnmatchcase(own, group) for own in labels.groups):
            continue
        known = ", ".join(sorted(set(labels.groups)))
        console.print(
            f"warning: fit.group_weights: no frame is of group {group!r}; there are {known}",
            style="yellow",
            markup=False,
        )
    parameters: dict[str, Any] = {k: v for k, v in asdict(config).items() if k not in _NOT_PHYSICS}
    if not config.ridge_to_start:  # a fit without is the one that it was before there was this choice
        del parameters["ridge_to_start"]
    parameters["labels_sha256"] = _digest(labels)
    if start:
        parameters["start_sha256"] = start.sha256
    training, held_out = _split(config, labels)
    run_id = published(lake, "fit", parameters, parents, FIT.version)
    if run_id is None:
        starts = _start(config, start, labels)
        prior = starts[0] if config.ridge_to_start else None
        problem = Fit(starts[0], config.species, training, settings_of(config, labels), held_out, prior)
        with lake.begin("fit", parameters, parents, FIT, collect_provenance(config)) as attempt:
            state = _train(problem, starts, config, attempt, report)
            dataset = _results(state, config, attempt.path, training, held_out)
            run_id = attempt.publish(dataset, _scalars(dataset, state))
    if config.output:
        _export(lake, run_id, Path(config.output))
    return [run_id]


# ---- training ----


def _train(problem: Fit, starts: Sequence[MTPFile], config: Config, attempt: Attempt, report: Report) -> FitState:
    """A few iterations of each start, then the best to the end; each iteration is kept."""
    trials = config.trial_iterations if len(starts) > 1 else 0
    total, done = len(starts) * trials + config.max_iterations, 0
    attempt.checkpoint({"stage": "fit"})

    def advance(state: FitState, file: Path, until: int) -> FitState:
        nonlocal done
        with stop_requested() as stop:
            for state in itertools.islice(problem.steps(state), max(0, until - state.iteration)):  # noqa: B020
                _save(file, state)
                done += 1
                report(done, total)
                _say(state, file.stem.removeprefix("restart."))
                if stop.is_set():
                    raise KeyboardInterrupt
        return state

    states = []
    for number, start in enumerate(starts):
        file = attempt.path / f"restart.start-{number}.npz"
        state = _load(file, start)
        if state is None:
            state = problem.start(start)
            _save(file, state)
        done += min(state.iteration, trials)
        states.append(advance(state, file, trials) if trials else state)
    best = min(states, key=lambda s: s.lowest)
    file = attempt.path / "restart.best.npz"
    return advance(_load(file, best.potential) or best, file, config.max_iterations + 1)


def _say(state: FitState, what: str) -> None:
    """Current errors, for whoever watches."""
    if console.is_terminal:
        losses = {"training": state.losses[-1], "held out": state.held_out[-1]}
        console.print(f"{what}, iteration {state.iteration}; RMSE (MAE):", highlight=False)
        for (name, loss), e in zip(losses.items(), state.errors[-1], strict=True):
            if np.isfinite(loss):
                console.print(
                    f"  {name:9s} loss {loss:.4g}, energy {e.energy_rmse:.2f} ({e.energy_mae:.2f}) meV/atom, "
                    f"force {e.force_rmse:.4f} ({e.force_mae:.4f}) eV/A, "
                    f"stress {e.stress_rmse:.3f} ({e.stress_mae:.3f}) GPa",
                    highlight=False,
                )


_COEFFICIENTS = ("radial_coeffs", "species_coeffs", "moment_coeffs")


def _save(file: Path, state: FitState) -> None:
    arrays: dict[str, Any] = {
        f"{which}_{name}": getattr(getattr(state, which), name)
        for which in ("potential", "best")
        for name in _COEFFICIENTS
    }
    own: dict[str, Any] = {"damping": state.damping, "growth": state.growth, "finished": state.finished}
    new = file.with_name("restart.new.npz")
    errors = [[astuple(e) for e in both] for both in state.errors]
    np.savez(new, losses=state.losses, held_out=state.held_out, errors=errors, **own, **arrays)
    os.replace(new, file)


def _load(file: Path, potential: MTPFile) -> FitState | None:
    """The state that an earlier attempt kept."""
    from argyase.potentials.fit import Errors, FitState

    if not file.is_file():
        return None
    with np.load(file) as kept:
        now, best = (
            replace(potential, **{name: kept[f"{which}_{name}"] for name in _COEFFICIENTS})
            for which in ("potential", "best")
        )
        losses, held_out = (tuple(kept[name].tolist()) for name in ("losses", "held_out"))
        errors = tuple((Errors(*training), Errors(*other)) for training, other in kept["errors"].tolist())
        return FitState(
            now, best, float(kept["damping"]), float(kept["growth"]), losses, held_out, errors, str(kept["finished"])
        )


# ---- results ----


def _results(state: FitState, config: Config, folder: Path, training: Labels, held_out: Labels) -> xr.Dataset:
    """Errors and predictions of the best potential; its files are written to the folder."""
    from argyase.potentials.active import ActiveSet
    from argyase.potentials.mtp import MTP
    from argyase.potentials.mtp_file import write_mtp
    from argyase.potentials.repulsion import format_table, propose, smallest_distances

    name = config.name or (Path(config.output).name if config.output else f"level-{config.level}")
    potential = replace(state.best, potential_name=name)
    calculator = MTP(potential, config.species)
    arrays = error_arrays(calculator, {"training": training, "held-out": held_out})
    course: dict[str, Any] = {
        f"iteration_{c}": [[getattr(e, c) for e in both] for both in state.errors] for c in ERROR_COLUMNS
    }
    write_mtp(folder / "potential.mtp", potential)
    # What is held out was not seen: it widens neither the domain nor the distances that the potential knows.
    ActiveSet.select(calculator, training.frames).save(folder / "potential.active")
    distances = smallest_distances(training.frames, config.species, potential.max_dist)
    (folder / "potential.toml").write_text(_card(name, config, arrays, format_table(propose(distances))))
    return FIT.dataset(loss=state.losses, held_out_loss=state.held_out, **course, **arrays)


def _card(name: str, config: Config, arrays: Mapping[str, Any], repulsion: str) -> str:
    """The model card as far as the fit knows it."""
    species = ", ".join(f'"{s}"' for s in config.species)
    frames = arrays["frames"][:, 0].tolist()
    towards = f", towards those of {Path(config.start).stem}" if config.ridge_to_start else ""
    lines = [
        f"# Model card of {name}, as `argyase fit` wrote it. Say whose labels these are, and what it may be used for.",
        f'name = "{name}"',
        f'summary = "{"-".join(config.species)} Moment Tensor Potential, level {config.level}, {config.cutoff:g} A"',
        f"species = [{species}]",
        "",
        "[training]",
        f"frames = {frames[0]}",
        f"held_out_frames = {frames[1]}",
        f'ridge = "{config.ridge_radial:g} on radial, {config.ridge_linear:g} on linear coefficients{towards}"',
        "# of energy, forces, stress",
        f"weights = [{config.energy_weight:g}, {config.force_weight:g}, {config.stress_weight:g}]",
        "",
        "# Root mean square errors, by group: [training, held-out trajectories]; NaN where there are no such frames.",
    ]
    for quantity, unit in ERROR_UNITS.items():
        column = f"{quantity}_rmse"
        lines.append(f"[errors.{column}_{unit}]")
        for g, group in enumerate(arrays["group"]):
            values = ", ".join(f"{v:.4g}" for v in arrays[column][:, g])
            lines.append(f'"{group}" = [{values}]')
        lines.append("")
    return "\n".join([*lines, repulsion, ""])


def _scalars(dataset: xr.Dataset, state: FitState) -> dict[str, float | str]:
    """Errors over all frames, for tables and searches."""
    found: dict[str, float | str] = {
        "iterations": state.iteration,
        "final_loss": state.losses[-1],
        "finished": state.finished or "iterations",
    }
    for key in ("training", "held-out"):
        for column in ("energy_rmse", "force_rmse", "stress_rmse"):
            value = float(dataset[column].sel(set=key, group="all"))
            if np.isfinite(value):
                found[f"{key.replace('-', '_')}_{column}"] = value
    return found


def _export(lake: Lake, run_id: str, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".mtp", ".toml", ".active"):
            # Not with_suffix: a name may have a dot of its own.
            shutil.copyfile(lake.file(run_id, f"potential{suffix}"), output.with_name(output.name + suffix))
    except OSError as error:
        raise PotentialFileError(f"{output}: cannot be written: {error.strerror}; give another --output") from None


def _summary(lake: Lake, ids: list[str]) -> None:
    for run_id in ids:
        scalars = lake.record(run_id).scalars
        for key in ("training", "held_out"):
            if f"{key}_force_rmse" in scalars:
                console.print(
                    f"{key.replace('_', '-'):9s} energy {float(scalars[f'{key}_energy_rmse']):.2f} meV/atom, "
                    f"force {float(scalars[f'{key}_force_rmse']):.4f} eV/A, "
                    f"stress {float(scalars.get(f'{key}_stress_rmse', np.nan)):.3f} GPa (root mean square errors)",
                    highlight=False,
                )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="fit", config=Config, run=run, description=__doc__ or "", epilogue=_summary)


if __name__ == "__main__":
    raise SystemExit(main())
