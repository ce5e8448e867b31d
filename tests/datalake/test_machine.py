"""The lake against a dictionary, whatever is done in whatever order."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numbers_lake import publish

from argyase.datalake.errors import NotInLakeError, RunningElsewhereError
from argyase.datalake.lake import FORMATS, Attempt, Lake
from argyase.datalake.trajectory import TrajectoryWriter

FRAMES = 9
seeds = st.integers(0, 2)


class Machine(RuleBasedStateMachine):
    """Numbers and trajectories of three seeds each; up to one writer of each trajectory lives."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.lake = Lake(self.root)
        self.numbers: dict[int, float] = {}
        self.done: set[int] = set()
        self.kept: dict[int, int] = {}  # frames of the last checkpoint
        self.alive: dict[int, tuple[Attempt, TrajectoryWriter]] = {}

    def teardown(self) -> None:
        for attempt, _ in self.alive.values():
            os.close(attempt._lock)
        shutil.rmtree(self.root)

    def name(self, seed: int) -> str:
        return self.lake.id("trajectory", {"seed": seed})

    @rule(seed=seeds, value=st.integers(1, 9))
    def publish(self, seed: int, value: int) -> None:
        """What is there is kept."""
        publish(self.lake, float(value), seed=seed)
        self.numbers.setdefault(seed, float(value))

    @rule(form=st.sampled_from(FORMATS))
    def choose(self, form: str) -> None:
        """What is there stays readable."""
        self.lake.set_format(form)

    @rule(seed=seeds)
    def begin(self, seed: int) -> None:
        if seed in self.alive:
            with pytest.raises(RunningElsewhereError):
                self.lake.begin("trajectory", {"seed": seed})
            return
        attempt = self.lake.begin("trajectory", {"seed": seed})
        w = attempt.trajectory_writer(
            n_atoms=1, n_frames=FRAMES, coords={"species": ["Li"]}, time_step_ps=1.0, shard_frames=4
        )
        assert w.frames == attempt.state.get("frames", 0) == self.kept.get(seed, 0)
        self.alive[seed] = attempt, w

    @rule(seed=seeds, frames=st.integers(1, 5), checkpoint=st.booleans())
    def append(self, seed: int, frames: int, checkpoint: bool) -> None:
        if seed not in self.alive:
            return
        w = self.alive[seed][1]
        for t in range(w.frames, min(w.frames + frames, FRAMES)):
            w.append([[100.0 * seed + t] * 3], 9 * np.eye(3))
        if checkpoint:
            w.checkpoint({"frames": w.frames})
            self.kept[seed] = w.frames

    @rule(seed=seeds, finished=st.booleans())
    def kill(self, seed: int, finished: bool) -> None:
        """Nothing is said any more; the system lets the lock go. Perhaps the last shard was written already."""
        if seed in self.alive:
            attempt, w = self.alive.pop(seed)
            if finished and w.frames:
                w.finish()
            os.close(attempt._lock)

    @rule(seed=seeds)
    def finish(self, seed: int) -> None:
        if seed not in self.alive:
            return
        self.append(seed, FRAMES, False)
        attempt, w = self.alive.pop(seed)
        with attempt:
            w.finish()
            assert attempt.publish(xr.Dataset()) == self.name(seed)
        self.done.add(seed)
        self.kept.pop(seed, None)

    @rule(seed=seeds)
    def remove(self, seed: int) -> None:
        """Of a trajectory the published one; else what is left of one, unless somebody works on it."""
        name = self.name(seed)
        if seed in self.done:
            self.lake.remove(name)
            self.done.remove(seed)
        elif seed in self.alive:
            with pytest.raises(RunningElsewhereError):
                self.lake.remove(name)
        elif any(item.id == name for item in self.lake.unfinished()):
            self.lake.remove(name)
            self.kept.pop(seed, None)
        else:
            with pytest.raises(NotInLakeError):
                self.lake.remove(name)

    @rule(seed=seeds)
    def remove_numbers(self, seed: int) -> None:
        if self.numbers.pop(seed, None) is not None:
            self.lake.remove(self.lake.id("numbers", {"x": 0.5, "seed": seed}))

    @rule(catalogue=st.booleans())
    def restart(self, catalogue: bool) -> None:
        """Another process opens the lake; perhaps the catalogue is gone."""
        if catalogue:
            (self.root / "catalogue.sqlite").unlink(missing_ok=True)
        self.lake = Lake(self.root)

    @rule(low=seeds, high=seeds)
    def search(self, low: int, high: int) -> None:
        found = {r.parameters["seed"]: r.scalars["value"] for r in self.lake.search("numbers", seed=(low, high))}
        assert found == {seed: v for seed, v in self.numbers.items() if low <= seed <= high}

    @invariant()
    def what_is_there_is_right(self) -> None:
        there = {r.id: r for r in self.lake.search()}
        assert {r.parameters["seed"] for r in there.values() if r.stage == "numbers"} == self.numbers.keys()
        assert {r.parameters["seed"] for r in there.values() if r.stage == "trajectory"} == self.done
        for record in there.values():
            seed = record.parameters["seed"]
            if record.stage == "numbers":
                assert float(self.lake.open_run(record.id)["value"]) == self.numbers[seed]
            else:
                # Whole numbers of angstrom are stored exactly; the product rounds in the last bit.
                r = self.lake.trajectory(record.id).positions()[:, 0, 0]
                np.testing.assert_allclose(r, 100.0 * seed + np.arange(FRAMES), rtol=1e-15)
        living = {item.id for item in self.lake.unfinished() if item.alive}
        assert living == {self.name(seed) for seed in self.alive}
        assert self.lake.verify() == []


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=12, stateful_step_count=20)
