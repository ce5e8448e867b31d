"""A lake with all that a report may find: runs with all observables, some, none; bounds, failures, markup in names."""

from pathlib import Path
from typing import Any

import numpy as np
from argyrodite_walk import STEP, cage_walk, trajectory
from numpy.typing import NDArray

from argyase.datalake.lake import Lake
from argyase.schemas import INGEST
from argyase.stages import campaign, conductivity, hops, msd, structures, vanhove

CELLS = (2, 2, 2)
FRAMES = 250
MARKUP = "</script><script>window.bad = 1</script><img src=x onerror='window.bad = 2'><b>&amp;"
"""What runs or vanishes if it is taken for HTML anywhere."""


def run(
    lake: Lake,
    *,
    rate: float = 2.0,
    seed: int = 1,
    stage: str = "md",
    scalars: dict[str, Any] | None = None,
    reason: str = "",
    **parameters: Any,
) -> str:
    """A trajectory of Li that jumps between cages at a rate (1/ps); with a reason, one that failed after it."""
    rng = np.random.default_rng(seed)
    lithium, _ = cage_walk(rng, CELLS, 24, FRAMES, rate, seats=1)
    lithium = lithium + rng.normal(0, 0.2, lithium.shape)
    positions, cells, species = trajectory(CELLS, lithium, rng, inversion=0.5, breathe=1e-3)
    inversion = parameters.get("inversion")
    parents = [] if inversion is None else structures.run(structures.Config(inversion=inversion, supercell=CELLS), lake)
    known = {"seed": seed, "replica": 1, "supercell": CELLS, **parameters} if stage == "md" else parameters
    with lake.begin(
        stage, known, parents, INGEST, {"host": f"host of {seed}", "command": ["argyase", stage]}
    ) as attempt:
        writer = attempt.trajectory_writer(
            n_atoms=len(species), n_frames=FRAMES, coords=_labels(species), time_step_ps=STEP
        )
        for place, cell in zip(positions, cells, strict=True):
            writer.append(place, cell)
        writer.finish()
        data = INGEST.dataset(time=writer.times(), volume=np.abs(np.linalg.det(cells)))
        return attempt.publish_failure(reason, data, scalars) if reason else attempt.publish(data, scalars)


def _labels(species: NDArray[np.str_]) -> dict[str, Any]:
    n = len(species)
    return {"species": species, "atom_id": np.arange(n), "site": [""] * n, "cage": [-1] * n}


def make(path: Path) -> dict[str, str]:
    """Make the lake; ids by what the run is for."""
    lake = Lake(path)
    common = {"formula": "Li6PS5Cl", "x": 0.0, "temperature_K": 600.0, "potential": "LiPSCl-study"}
    graded = {"max_grade": 3.25, "left_domain": True, "mean_temperature": 598.5}
    ids = {
        "whole": run(lake, inversion=0.5, scalars=graded, **common, grade_select=2.1),
        "seed": run(lake, inversion=0.5, seed=2, **common),
        "bound": run(lake, inversion=0.0, rate=0.0, **common),
        "hot": run(lake, inversion=0.5, rate=4.0, **{**common, "temperature_K": 900.0}),
        "markup": run(lake, inversion=0.75, seed=3, **{**common, "x": 0.5, "formula": MARKUP, "potential": MARKUP}),
        "failed": run(lake, inversion=1.0, seed=4, reason=f"lost atoms {MARKUP}", **common),
        "foreign": run(lake, stage="ingest", source=f"{MARKUP}.xyz", seed=5),
    }
    for name in ("whole", "seed", "bound", "hot"):
        msd.run(msd.Config(run=ids[name]), lake)
        conductivity.run(conductivity.Config(run=ids[name]), lake)
    hops.run(hops.Config(run=ids["whole"]), lake)
    vanhove.run(vanhove.Config(run=ids["whole"]), lake)
    for stage in campaign.FURTHER.values():
        stage.run(stage.Config(run=ids["whole"]), lake)
    return ids
