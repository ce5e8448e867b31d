"""Stage ``label``: energies, forces and stresses of frames by any calculator, each frame computed once ever."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from argyase.datalake.errors import RunningElsewhereError
from argyase.datalake.lake import Lake
from argyase.datalake.store import Store
from argyase.errors import CalculatorError, ConfigError
from argyase.schemas import LABEL
from argyase.stages._config import setting
from argyase.stages._frames import (
    CALCULATOR_HELP,
    SETTINGS_HELP,
    frame_key,
    frames_of,
    pack,
    parse_settings,
    unpack,
)
from argyase.stages._run import Report, collect_provenance, console, published, silent, stage_main, stop_requested


@dataclass(frozen=True)
class Config:
    """What to label, and by what."""

    frames: tuple[str, ...] = setting(help="runs of the lake (sample, select, md, structures), or files that ASE reads")
    calculator: str = setting("sevennet", help=CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)
    stride: int = setting(1, help="of a trajectory, take every so-manieth frame")
    jobs: int = setting(1, help="processes that compute at once")
    retry_failed: bool = setting(False, help="try frames again that failed before")
    export: str = setting("", help="write the labelled frames to this file, too (.extxyz or .extxyz.gz)")


def read_frames(lake: Lake, ids: Sequence[str]) -> list[Atoms]:
    """Labelled frames of label runs, with group and trajectory in ``info``."""
    return [atoms for name in ids for atoms in unpack(lake.open_run(name))]


# ---- in the processes that compute ----

_worker: dict[str, Any] = {}


def _start_worker(lake: str, store: str, calculator: str, settings: dict[str, Any]) -> None:
    from argyase.calculators import calculator as build

    _worker["store"] = Store(Path(lake), store)
    _worker["calculator"] = build(calculator, **settings)


def _compute(job: tuple[str, Atoms]) -> str:
    """Label a frame unless somebody does: "done", "elsewhere" or "failed"."""
    key, atoms = job
    store: Store = _worker["store"]
    with store.claim(key) as ours:
        if not ours:
            return "elsewhere"
        if key in store:
            return "done"
        try:
            atoms.calc = _worker["calculator"]
            arrays = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
            arrays["stress"] = atoms.get_stress() if atoms.cell.rank == 3 else np.full(6, np.nan)
            for name, values in arrays.items():
                if not np.isfinite(values).all() and not (name == "stress" and atoms.cell.rank < 3):
                    raise CalculatorError(f"the {name} is not finite")
        except Exception as error:  # calculators raise anything
            store.fail(key, f"{type(error).__name__}: {error}")
            return "failed"
        store.put(key, arrays)
        return "done"


# ---- the stage ----


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute what is missing, and publish the labels of all frames that could be computed; the id of the run.

    Raises
    ------
    CalculatorError
        If no frame could be labelled.
    """
    from argyase.calculators import identity

    if config.jobs < 1 or config.stride < 1:
        raise ConfigError(f"label.jobs = {config.jobs}, label.stride = {config.stride}: need 1 or more")
    settings = parse_settings(config.settings, "label.settings")
    who = identity(config.calculator, **settings)
    frames, parents = frames_of(lake, config.frames, config.stride)
    # The same frame from two sources is one.
    unique = {frame_key(atoms): atoms for atoms in reversed(frames)}
    unique = dict(reversed(unique.items()))
    name = f"{config.calculator.replace(':', '.')}-{_hash(who)[:12]}"
    store = Store(lake.path, name)
    failed = _label(unique, store, (str(lake.path), name, config.calculator, settings), config, report)

    labelled = []
    for key, atoms in unique.items():
        if key not in failed:
            arrays = store.get(key)
            assert arrays is not None
            labelled.append((atoms, arrays))
    for key, reason in failed.items():
        atoms = unique[key]
        where = f"{atoms.info.get('parent', '')} frame {atoms.info.get('parent_frame', '')}"
        console.print(f"not labelled: {where}: {reason}", style="yellow", markup=False)
    if not labelled:
        raise CalculatorError(
            f"label: none of {len(unique)} frames could be labelled by {config.calculator}; the first: "
            f"{next(iter(failed.values()))}"
        )
    if failed:
        console.print(
            f"{len(failed)} of {len(unique)} frames failed; try them again with --retry-failed", style="yellow"
        )
    keys = [key for key in unique if key not in failed]
    parameters = {"calculator": who, "frames_sha256": _hash(keys), "frames": len(keys)}
    run_id = published(lake, "label", parameters, parents, LABEL.version)
    if run_id is None:
        dataset = pack(
            LABEL,
            [atoms for atoms, _ in labelled],
            energy=[float(a["energy"]) for _, a in labelled],
            forces=np.concatenate([a["forces"] for _, a in labelled]),
            stress=[a["stress"] for _, a in labelled],
            voigt=["xx", "yy", "zz", "yz", "xz", "xy"],
        )
        provenance = collect_provenance(config)
        while run_id is None:
            try:
                run_id = lake.publish("label", parameters, dataset, parents, LABEL, {"failed": len(failed)}, provenance)
            except RunningElsewhereError:  # the same command, at the same moment
                time.sleep(0.5)
                run_id = published(lake, "label", parameters, parents, LABEL.version)
    if config.export:
        _export(lake, run_id, Path(config.export))
    return [run_id]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _label(
    unique: dict[str, Atoms], store: Store, worker: tuple[Any, ...], config: Config, report: Report
) -> dict[str, str]:
    """Compute the labels that are missing; the reasons of those that failed, by key."""
    failed = {key: reason for key in unique if key not in store and (reason := store.failure(key)) is not None}
    if config.retry_failed:
        failed = {}
    todo = [(key, atoms) for key, atoms in unique.items() if key not in store and key not in failed]
    done = len(unique) - len(todo)
    report(done, len(unique))
    while todo:
        elsewhere = []
        with stop_requested() as stop:
            for (key, atoms), outcome in zip(todo, _outcomes(todo, worker, config.jobs), strict=True):
                if outcome == "failed":
                    failed[key] = store.failure(key) or ""
                elif outcome == "elsewhere":
                    elsewhere.append((key, atoms))
                else:
                    done += 1
                    report(done, len(unique))
                if stop.is_set():
                    raise KeyboardInterrupt
        if elsewhere:
            time.sleep(0.5)
        # What other processes are at, until they have it, or died.
        todo = [job for job in elsewhere if job[0] not in store and store.failure(job[0]) is None]
        done += sum(key in store for key, _ in elsewhere)
        failed |= {key: reason for key, _ in elsewhere if (reason := store.failure(key)) is not None}
    return failed


def _outcomes(todo: Sequence[tuple[str, Atoms]], worker: tuple[Any, ...], jobs: int) -> Iterator[str]:
    if jobs == 1 or len(todo) == 1:
        _start_worker(*worker)
        yield from map(_compute, todo)
        return
    # Fresh processes: torch and its threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(todo)), context, _start_worker, worker) as pool:
        try:
            yield from pool.map(_compute, todo)
        except BrokenProcessPool:
            raise CalculatorError(
                "label: a process that computed died (killed, or out of memory); frames done are kept, start it again, "
                "with fewer --jobs if memory was short"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _export(lake: Lake, run_id: str, path: Path) -> None:
    import ase.io

    frames = read_frames(lake, [run_id])
    for atoms in frames:
        atoms.info.pop("parent_frame")
        results = dict(atoms.calc.results)
        atoms.calc = SinglePointCalculator(atoms, **results)
    try:
        ase.io.write(path, frames, format="extxyz")
    except OSError as error:
        raise ConfigError(f"label.export = {path}: cannot be written: {error.strerror}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="label", config=Config, run=run, description=__doc__ or "")


if __name__ == "__main__":
    raise SystemExit(main())
