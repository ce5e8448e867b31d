"""Stage ``label``: energies, forces and stresses of frames by any calculator, each frame computed once ever."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from argyase.datalake.errors import RunningElsewhereError
from argyase.datalake.lake import Lake
from argyase.datalake.store import Store
from argyase.errors import CalculatorError, ConfigError
from argyase.schemas import LABEL
from argyase.stages._config import setting
from argyase.stages._frames import (
    CALCULATOR_HELP,
    INFO,
    SETTINGS_HELP,
    frame_key,
    frames_of,
    pack,
    packable,
    parse_settings,
    unpack,
)
from argyase.stages._run import (
    Report,
    collect_provenance,
    console,
    end_with_parent,
    published,
    silent,
    stage_main,
    stop_requested,
    terminate_children,
)


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


DEATHS = 3
"""A frame at which so many processes have died is a failure."""

_SUFFIXES = (".extxyz", ".extxyz.gz")

Job = tuple[str, Atoms]


def read_frames(lake: Lake, ids: Sequence[str]) -> list[Atoms]:
    """Labelled frames of label runs, with group and trajectory in ``info``.

    Raises
    ------
    ConfigError
        If a run is of another stage.
    """
    found = []
    for name in ids:
        if (stage := lake.record(name).stage) != "label":
            raise ConfigError(f"{name}: a run of stage {stage}, which has no labels; make them with: argyase label")
        found += unpack(lake.open_run(name))
    return found


# ---- in the processes that compute ----

_worker: dict[str, Any] = {}


def _start_worker(lake: str, store: str, calculator: str, settings: dict[str, Any]) -> None:
    _worker.clear()
    _worker.update(store=Store(Path(lake), store), engine=(calculator, settings))


def _start_process(*worker: Any) -> None:
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to the parent, too, which ends this one
    end_with_parent()
    _start_worker(*worker)


class _Ended(BaseException):
    """Of SIGTERM in a process of its own."""


def _end(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not come between what the first makes it do
    if _worker.get("busy"):
        raise _Ended
    os._exit(1)


def _compute_or_end(job: Job) -> str:
    """In a process of its own, which SIGTERM ends; that is no death of the frame (see `Store.claim`)."""
    try:
        _worker["busy"] = True
        return _compute(job)
    except _Ended:
        os._exit(1)
    finally:
        _worker["busy"] = False


def _compute(job: Job) -> str:
    """Label a frame unless somebody has or does: "settled" or "elsewhere"."""
    key, atoms = job
    store: Store = _worker["store"]
    with store.claim(key) as deaths:
        if deaths is None:
            return "elsewhere"
        if store.settled(key):
            return "settled"
        if deaths >= DEATHS:
            reason = f"{deaths} processes died while they computed it: a crash, out of memory, or killed"
            store.fail(key, reason, _about(atoms))
            return "settled"
        if "calculator" not in _worker:  # only now: it may take longer than to wait for others
            from argyase.calculators import single_point

            name, settings = _worker["engine"]
            _worker["calculator"] = single_point(name, **settings)
        try:
            arrays = _labels(atoms, _worker["calculator"])
        except ConfigError:
            raise  # of the settings, not of this frame
        except Exception as error:  # calculators raise anything
            store.fail(key, f"{type(error).__name__}: {error}", _about(atoms))
            del _worker["calculator"]  # some are of no use after an error
        else:
            store.put(key, arrays)
    return "settled"


def _about(atoms: Atoms) -> dict[str, str]:
    """What ``argyase lake failures`` says of a frame, besides the reason."""
    name, settings = _worker["engine"]
    return {
        "calculator": " ".join([name, *(f"{k}={v}" for k, v in settings.items())]),
        "frame": f"{atoms.info.get('parent', '')} frame {atoms.info.get('parent_frame', '')}",
        "formula": atoms.get_chemical_formula("hill"),
    }


def _labels(atoms: Atoms, calculator: Any) -> dict[str, Any]:
    frame = atoms.copy()
    frame.calc = calculator
    arrays = {"energy": frame.get_potential_energy(), "forces": frame.get_forces()}
    if frame.cell.rank == 3 and "stress" in calculator.implemented_properties:
        arrays["stress"] = frame.get_stress()
    if wrong := [name for name, values in arrays.items() if not np.isfinite(values).all()]:
        raise CalculatorError(f"the {wrong[0]} is not finite")
    if corrections := getattr(calculator, "corrections", []):  # of vasp, by custodian
        arrays["corrections"] = np.array(corrections)
    if made := getattr(calculator, "made_by", []):  # of vasp
        arrays["made_by"] = np.array(json.dumps(made[-1], sort_keys=True))
    return {"stress": np.full(6, np.nan), **arrays}


# ---- the stage ----


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute what is missing, and publish the labels of all frames that could be computed; the id of the run.

    Raises
    ------
    ConfigError
        If a setting is wrong, also if the calculator finds that out.
    CalculatorError
        If no frame could be labelled, or labels are of different versions of VASP or POTCARs.
    """
    from argyase.calculators import identity

    if config.jobs < 1 or config.stride < 1:
        raise ConfigError(f"label.jobs = {config.jobs}, label.stride = {config.stride}: need 1 or more")
    if config.export:
        _check_export(config.export)
    settings = parse_settings(config.settings, "label.settings")
    who = identity(config.calculator, **settings)
    frames, parents = frames_of(lake, config.frames, config.stride)
    frames = [packable(atoms) for atoms in frames]
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
    if any(Path(source).is_file() for source in config.frames):
        # Runs of the lake are named as inputs; of files, this says where frames come from and what group they are of.
        parameters["origin_sha256"] = _hash([[str(a.info.get(k, "")) for k in INFO] for a, _ in labelled])
    made = _made_by([arrays for _, arrays in labelled])
    if made:
        from argyase.calculators.vasp import refuse_mixture, told

        if not settings.get("mixed"):
            refuse_mixture(json.loads(one) for one, numbers in made.items() for _ in numbers)
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
        corrected = {str(n): a["corrections"].tolist() for n, (_, a) in enumerate(labelled) if "corrections" in a}
        provenance = {**collect_provenance(config), **({"corrections": corrected} if corrected else {})}
        scalars: dict[str, float | str] = {
            "failed": len(failed),
            **({"corrected": len(corrected)} if corrected else {}),
        }
        if made:
            provenance["made_by"] = [{**json.loads(one), "frames": numbers} for one, numbers in made.items()]
            scalars.update(told([json.loads(one) for one in made]))
        while run_id is None:
            try:
                run_id = lake.publish("label", parameters, dataset, parents, LABEL, scalars, provenance)
            except RunningElsewhereError:  # the same command, at the same moment
                time.sleep(0.5)
                run_id = published(lake, "label", parameters, parents, LABEL.version)
    if config.export:
        _export(lake, run_id, Path(config.export))
    return [run_id]


def _made_by(labels: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """What made labels of VASP, as JSON, and the numbers of the frames; older labels do not say."""
    found: dict[str, list[int]] = {}
    for number, arrays in enumerate(labels):
        if "made_by" in arrays:
            found.setdefault(str(arrays["made_by"]), []).append(number)
    return found


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _label(
    unique: dict[str, Atoms], store: Store, worker: tuple[Any, ...], config: Config, report: Report
) -> dict[str, str]:
    """Compute the labels that are missing; the reasons of those that failed, by key."""
    if config.retry_failed:
        for key in unique:
            store.forget_failure(key)
    todo = [job for job in unique.items() if not store.settled(job[0])]
    done, broken = len(unique) - len(todo), 0
    report(done, len(unique))
    with stop_requested() as stop:
        while todo and broken <= DEATHS:
            begun = done
            try:
                with _workers(worker, min(config.jobs, len(todo)), stop) as outcomes:
                    while todo:
                        for outcome in outcomes(todo):
                            done += outcome == "settled"
                            report(done, len(unique))
                            if stop.is_set():
                                raise KeyboardInterrupt
                        # What is left is what other processes are at, until they have it, or died.
                        if todo := [job for job in todo if not store.settled(job[0])]:
                            time.sleep(0.5)
                        done = len(unique) - len(todo)
            except BrokenProcessPool:  # one died, and the pool with it: on with fresh ones
                if stop.is_set():
                    raise KeyboardInterrupt from None
                broken = 1 if done > begun else broken + 1
                todo = [job for job in todo if not store.settled(job[0])]
                done = len(unique) - len(todo)
    if todo:
        raise CalculatorError(
            f"label: the processes that compute die at once ({len(todo)} frames are left); frames done are kept; try "
            "--jobs 1 to see why"
        )
    report(done, len(unique))
    return {key: store.failure(key) or "" for key in unique if key not in store}


@contextmanager
def _workers(
    worker: tuple[Any, ...], jobs: int, stop: threading.Event
) -> Iterator[Callable[[Sequence[Job]], Iterable[str]]]:
    """Yield what computes frames: a map in this process, or over others that keep their calculators until `stop`."""
    if jobs == 1:
        _start_worker(*worker)
        try:
            yield lambda todo: map(_compute, todo)
        finally:
            _worker.clear()
        return
    # Fresh processes: torch and its threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, _start_process, worker)
    over = threading.Event()

    def end() -> None:
        while not over.is_set():
            if stop.wait(0.2):  # a frame may take hours: they are told at once
                terminate_children()
                return

    threading.Thread(target=end, daemon=True).start()
    try:
        yield lambda todo: pool.map(_compute_or_end, todo)
    finally:
        over.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _check_export(name: str) -> None:
    if not name.endswith(_SUFFIXES):
        raise ConfigError(f"label.export = {name}: must end in {' or '.join(_SUFFIXES)}")
    if not (folder := Path(name).absolute().parent).is_dir():
        raise ConfigError(f"label.export = {name}: there is no folder {folder}; make it first")


def _export(lake: Lake, run_id: str, path: Path) -> None:
    import ase.io

    frames = read_frames(lake, [run_id])
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        ase.io.write(aside, frames, format="extxyz")
        os.replace(aside, path)
    except OSError as error:
        raise ConfigError(f"label.export = {path}: cannot be written: {error.strerror}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="label", config=Config, run=run, description=__doc__ or "")


if __name__ == "__main__":
    raise SystemExit(main())
