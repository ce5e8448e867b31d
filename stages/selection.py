"""Stage ``select``: of the frames of many runs, those that a potential has yet to learn.

(Not select.py: a script in this folder would take it for the module of that name in the standard library.)

An atom with an extrapolation grade above --grade-select is new to the potential. Of all such frames, MaxVol over the
rows of their atoms and of the potential's active set keeps the few that span the rest. Of dynamics that went wrong
without a large grade, the last frame before that is kept, too. What is not new may still be wrong: with --each, frames
of all trajectories are chosen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError
from argyase.potentials.active import GRADE_BREAK, GRADE_SELECT
from argyase.potentials.model_card import DEFAULT, find_potential
from argyase.schemas import SELECT
from argyase.stages._config import setting
from argyase.stages._frames import frame_key, frames_of, pack, packable
from argyase.stages._run import Report, collect_provenance, console, published, silent, stage_main


@dataclass(frozen=True)
class Config:
    """Where to look, and for whom."""

    frames: tuple[str, ...] = setting(help="runs of the lake (sample, md, failed md), or files that ASE reads")
    potential: str = setting(DEFAULT, help="name of a shipped potential, or path of an .mtp file")
    species: tuple[str, ...] = setting((), help="symbols of the potential's species, when it has no model card")
    stride: int = setting(1, help="of a trajectory, look at every so-manieth frame")
    grade_select: float = setting(GRADE_SELECT, help="frames with a grade above this are candidates")
    grade_break: float = setting(
        GRADE_BREAK, help="of dynamics, only the first frame above this: what follows is no longer physical"
    )
    nearest: float = setting(0.5, help="leave frames out with two atoms nearer than this", unit="A")
    layers: int = setting(1, help="choose so often, each time among what is left: more frames from the same sampling")
    each: int = setting(0, help="and so many frames of every trajectory, new or not, evenly over its time")
    most: int = setting(100, help="frames at most, those with the largest grades first")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Select, unless the lake has it; the id of the run, none if there is nothing to learn.

    Raises
    ------
    ConfigError
        If the potential has no active set.
    """
    from matscipy.neighbours import neighbour_list

    from argyase.potentials.active import ActiveSet, basis, maxvol
    from argyase.potentials.mtp import MTP

    potential = find_potential(config.potential, config.species)
    if potential.active_set is None:
        raise ConfigError(
            f"select.potential = {config.potential}: has no active set; make it from its labels with: argyase domain"
        )
    if not 1 <= config.grade_select <= config.grade_break or min(config.most, config.layers) < 1:
        raise ConfigError(
            f"select: grade_select = {config.grade_select:g}, grade_break = {config.grade_break:g}, "
            f"most = {config.most}, layers = {config.layers}: need 1 <= grade_select <= grade_break, one frame, "
            "and one layer at least"
        )
    active = ActiveSet.load(potential.active_set)
    calculator = MTP(potential.path, potential.species)
    frames, parents = frames_of(lake, config.frames, config.stride)
    frames = [packable(atoms) for atoms in frames]

    candidates: list[tuple[Atoms, Any, float]] = []
    last: dict[str, int] = {}  # candidate by trajectory that went wrong
    regular: list[int] = []  # candidates that are chosen anyway
    count = 0  # new ones
    lost: set[str] = set()  # trajectories that are beyond the break
    spread = _evenly(frames, config.each)
    largest = 0.0
    for n, atoms in enumerate(frames):
        report(n, len(frames))
        trajectory = str(atoms.info.get("trajectory", n))
        if trajectory in lost or (config.nearest > 0 and len(neighbour_list("d", atoms, config.nearest))):
            continue
        rows = basis(calculator, atoms)
        grade = float(active.grades(rows).max())
        largest = max(largest, grade)
        if grade > config.grade_break and not atoms.info.get("independent"):
            lost.add(trajectory)
        caught = bool(atoms.info.get("caught"))
        if caught:
            last[trajectory] = len(candidates)
        new = caught or grade > config.grade_select
        if n in spread:
            regular.append(len(candidates))
        if new or n in spread:
            candidates.append((atoms, rows, grade))
        count += new
    report(len(frames), len(frames))
    console.print(
        f"{len(frames)} frames, largest grade {largest:.3g}; {count} above {config.grade_select:g}, or "
        "before dynamics went wrong",
        highlight=False,
    )
    if not candidates:
        return []
    order = list(last.values())
    for _ in range(config.layers):
        if not (left := [k for k in range(len(candidates)) if k not in order]):
            break
        matrix = np.concatenate([active.rows, *(candidates[k][1] for k in left)])
        of_row = np.repeat(left, [len(candidates[k][1]) for k in left])
        chosen = maxvol(matrix).chosen - len(active.rows)
        order += sorted({int(of_row[k]) for k in chosen if k >= 0}, key=lambda k: -candidates[k][2])
    numbers = sorted({*order[: config.most], *regular})
    picked = [candidates[k][0] for k in numbers]
    parameters = {
        "potential": potential.name,
        "potential_sha256": potential.sha256,
        "active_set_sha256": hashlib.sha256(potential.active_set.read_bytes()).hexdigest(),
        "frames_sha256": hashlib.sha256("".join(map(frame_key, picked)).encode()).hexdigest(),
        "grade_select": config.grade_select,
        "grade_break": config.grade_break,
    }
    if run_id := published(lake, "select", parameters, parents, SELECT.version):
        return [run_id]
    dataset = pack(SELECT, picked, grade=[candidates[k][2] for k in numbers])
    scalars = {"frames": len(picked), "candidates": count, "max_grade": largest}
    return [
        lake.publish(
            "select",
            parameters,
            dataset,
            inputs=parents,
            schema=SELECT,
            provenance=collect_provenance(config),
            scalars=scalars,
        )
    ]


def _evenly(frames: Sequence[Atoms], each: int) -> set[int]:
    """Numbers of so many frames of each trajectory, the last one among them."""
    of: dict[str, list[int]] = {}
    for n, atoms in enumerate(frames):
        of.setdefault(str(atoms.info.get("trajectory", n)), []).append(n)
    return {own[-1 - k * len(own) // each] for own in of.values() for k in range(min(each, len(own)))}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="select", config=Config, run=run, description=__doc__ or "")


if __name__ == "__main__":
    raise SystemExit(main())
