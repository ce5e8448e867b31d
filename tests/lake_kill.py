"""Kill writers, appenders and catalogue builders at random moments, and look whether the lake keeps its promises.

    python tests/lake_kill.py --kills 300 --workers 6 --seed 1 FOLDER

Every number in the lake follows from the parameters of its run, so that a wrong one is seen by whoever reads it. What a
worker was told is safe (a publication, a checkpoint, a result of the store) it writes into a file of its own outside
the lake before it goes on; what is in that file and not in the lake is a loss. Prints the counts as JSON; the exit code
is 1 if there was a loss or a wrong read.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numbers_lake import NUMBERS, numbers

from argyase.datalake.errors import DatalakeError, RunningElsewhereError
from argyase.datalake.lake import FORMATS, Lake
from argyase.datalake.store import Store
from argyase.datalake.trajectory import SCALE

ATOMS, FRAMES, SHARD = 7, 70, 16
CELL = 9.0 * np.eye(3)


def value(seed: int) -> float:
    """What run `seed` of the writers holds."""
    return 1.0 + seed / 7


def frame(seed: int, t: int) -> np.ndarray:
    """Positions of frame `t` of trajectory `seed`, A: no two of them, of no two trajectories, are alike."""
    return (1000 * (seed % 100) + t + np.arange(3 * ATOMS).reshape(ATOMS, 3) / (3 * ATOMS)).astype(float)


# ---- workers: each goes on for ever, from the first thing that is not there ----


def write(root: Path, tell: Callable[..., None]) -> None:
    """Publish runs; several workers try the same ones."""
    lake, seed = Lake(root), 0
    while True:
        try:
            if lake.id("numbers", {"seed": seed}) not in lake:
                tell("run", lake.publish("numbers", {"seed": seed}, numbers(value(seed)), schema=NUMBERS))
            seed += 1
        except RunningElsewhereError:
            seed += random.random() < 0.5


def append(root: Path, tell: Callable[..., None]) -> None:
    """Append to trajectories, from the last checkpoint on; several workers try the same ones."""
    lake, seed = Lake(root), 0
    while True:
        lake.format = random.choice(FORMATS)
        if lake.id("trajectory", {"seed": seed}) in lake:
            seed += 1
            continue
        try:
            with lake.begin("trajectory", {"seed": seed}) as attempt:
                w = attempt.trajectory_writer(
                    n_atoms=ATOMS,
                    n_frames=FRAMES + 5,
                    coords={"species": ["Li"] * ATOMS},
                    time_step_ps=0.1,
                    shard_frames=SHARD,
                )
                tell("resumed", seed, w.frames, attempt.state.get("frames", 0))
                for t in range(w.frames, FRAMES):
                    w.append(frame(seed, t), CELL, energy=float(t))
                    if t % 9 == 8:
                        w.checkpoint({"frames": w.frames})
                        tell("frames", seed, w.frames)
                w.finish()
                tell("run", attempt.publish(xr.Dataset({"energy": ("frame", w.scalars()["energy"])})))
        except RunningElsewhereError:
            seed += random.random() < 0.5


def index(root: Path, tell: Callable[..., None]) -> None:
    """Make the catalogue anew, and compare all it says, and some of the runs, with what must be there."""
    lake = Lake(root)
    while True:
        if random.random() < 0.3:
            (root / "catalogue.sqlite").unlink(missing_ok=True)
        found = lake.search()
        for record in found:
            if record.stage == "numbers":
                look(tell, record.id, record.scalars["value"] == value(record.parameters["seed"]))
        for record in random.sample(found, min(3, len(found))):
            look(tell, record.id, right(lake, record.id))


def store(root: Path, tell: Callable[..., None]) -> None:
    """Put results into the store; several workers try the same ones."""
    kept, n = Store(root, "results"), 0
    while True:
        key = f"{n:064x}"
        if (found := kept.get(key)) is not None:
            look(tell, key, bool((found["a"] == n).all()) and found["a"].shape == (50,))
            n += 1
            continue
        with kept.claim(key) as ours:
            if ours is not None and key not in kept:
                kept.put(key, {"a": np.full(50, float(n))})
                tell("result", key)
        n += random.random() < 0.5


def look(tell: Callable[..., None], name: str, fine: bool) -> None:
    tell("read", name) if fine else tell("wrong", name)


def right(lake: Lake, name: str) -> bool:
    """Whether a run holds what it must; what the lake itself calls damaged is not."""
    try:
        record, dataset = lake.record(name), lake.open_run(name)
        seed = int(record.parameters["seed"])
        if record.stage == "numbers":
            return float(dataset["value"]) == value(seed) and bool(
                (dataset["curve"].values == value(seed) * np.arange(5.0)).all()
            )
        reader = lake.trajectory(name)
        want = np.array([frame(seed, t) for t in range(FRAMES)])
        return (
            reader.n_frames == FRAMES
            # Rounded to the nearest integer, and the rounding of the product.
            and bool((np.abs(reader.positions() - want) <= 0.501 * SCALE).all())
            and bool((np.abs(dataset["positions"].values - want) <= 0.501 * SCALE).all())
            and bool((reader.cell() == CELL).all())
            and bool((dataset["energy"].values == np.arange(FRAMES)).all())
        )
    except DatalakeError:
        return False


WORKERS = (write, append, index, append, write, store)


# ---- the driver ----


def start(work: Callable[..., None], root: Path, log: Path) -> int:
    """A forked process: what is imported once is there at once in all of them."""
    if pid := os.fork():
        return pid
    try:
        random.seed()
        with open(log, "ab", buffering=0) as file:
            work(root, lambda *what: file.write(json.dumps(what).encode() + b"\n"))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def kill(pid: int) -> bool:
    """End this process; whether it was still alive."""
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def drive(folder: Path, kills: int, workers: int, seed: int, longest: float = 0.6) -> dict[str, Any]:
    """Do it; the counts."""
    rng, root, logs = random.Random(seed), folder / "lake", folder / "logs"
    logs.mkdir(parents=True)
    Lake(root)
    # Nothing here may touch zarr before the last fork: its threads do not survive one.
    alive: dict[int, int] = {}
    killed = dict.fromkeys((w.__name__ for w in WORKERS), 0)
    crashes, begun, started = 0, time.monotonic(), 0
    place = list(range(workers))
    while sum(killed.values()) < kills:
        for n in place:
            if n not in alive.values():
                alive[start(WORKERS[n % len(WORKERS)], root, logs / f"{started}")] = n
                started += 1
        time.sleep(rng.uniform(0, longest))
        victim = rng.choice(sorted(alive))
        ours = kill(victim)
        killed[WORKERS[alive.pop(victim) % len(WORKERS)].__name__] += ours
        crashes += not ours
    # However slow the machine: something must have come of it.
    while time.monotonic() < begun + 120 and not all(any(root.glob(f)) for f in ("runs/*/*/*", "store/*/*/*.npz")):
        time.sleep(0.1)
    crashes += sum(not kill(pid) for pid in alive)
    counts = {"kills": sum(killed.values()) + len(alive), "of": killed, "processes": started, "crashes": crashes}
    return {**counts, **judge(root, logs), "seconds": round(time.monotonic() - begun, 1)}


def judge(root: Path, logs: Path) -> dict[str, Any]:
    """Compare what workers were told with what is there."""
    told: list[list[Any]] = []
    for log in sorted(logs.iterdir(), key=lambda p: int(p.name)):
        # A last line that the kill cut was never told.
        told += [json.loads(line) for line in log.read_bytes().split(b"\n")[:-1]]
    lake, results = Lake(root), Store(root, "results")
    there = {p.name for p in (root / "runs").glob("*/*/*")}
    promised = {what[1] for what in told if what[0] == "run"}
    keys = {what[1] for what in told if what[0] == "result"}
    lost = sorted(promised - there) + sorted(k for k in keys if k not in results)
    lost += lost_frames(told, lake)
    problems = lake.verify()
    (root / "catalogue.sqlite").unlink(missing_ok=True)
    found = {record.id for record in lake.search()}
    wrong = [what[1] for what in told if what[0] == "wrong"] + [name for name in there if not right(lake, name)]
    # A reader who sees a run that is not there, or not one that is.
    wrong += sorted(found ^ there)
    left = lake.unfinished()
    return {
        "published": len(there),
        "trajectories": len(list((root / "runs" / "trajectory").glob("*/*"))),
        "results": len(keys),
        "resumed": sum(what[0] == "resumed" and what[2] > 0 for what in told),
        "reads": sum(what[0] == "read" for what in told) + len(there),
        "unfinished": len(left),
        "losses": lost,
        "wrong": wrong,
        "problems": [str(p) for p in problems],
    }


def lost_frames(told: Sequence[Sequence[Any]], lake: Lake) -> list[str]:
    """Trajectories that are neither published nor as long as a checkpoint said, or gone on with from elsewhere."""
    reached: dict[int, int] = {}
    for what in told:
        if what[0] == "frames":
            reached[what[1]] = max(what[2], reached.get(what[1], 0))
    left = {item.id: item.frames for item in lake.unfinished()}
    lost = []
    for seed, frames in reached.items():
        name = lake.id("trajectory", {"seed": seed})
        if name not in lake and left.get(name, 0) < frames:
            lost.append(f"{name}: {left.get(name, 0)} of {frames} frames")
    # Frames and the state that belongs to them come from one checkpoint.
    return lost + [
        f"trajectory {w[1]}: {w[2]} frames, state of {w[3]}" for w in told if w[0] == "resumed" and w[2] != w[3]
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="new folder for the lake and the notes of the workers")
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument(
        "--workers", type=int, default=6, help="at the same time: " + ", ".join(w.__name__ for w in WORKERS)
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--longest", type=float, default=0.6, help="between two kills, s")
    args = parser.parse_args(argv)
    counts = drive(args.folder, args.kills, args.workers, args.seed, args.longest)
    print(json.dumps(counts, indent=1))
    return int(bool(counts["losses"] or counts["wrong"] or counts["problems"] or counts["crashes"]))


if __name__ == "__main__":
    sys.exit(main())
