"""Stage ``distinct``: distinct part of the van Hove function of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr

from argyase.datalake.lake import Lake, RunRecord
from argyase.schemas import DISTINCT
from argyase.stages._config import setting
from argyase.stages._observable import chunks_of, observable
from argyase.stages._run import Report, out, silent, stage_main


@dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    run: str = setting(help="id of a trajectory in the lake (stage md or ingest), or its first digits")
    ion: str = setting("Li", help="the diffusing species")
    lags: int = setting(8, help="number of lags, spaced evenly in the logarithm, up to half of the run; and 0")
    origins: int = setting(40, help="number of time origins, spread over the run")
    r_max: float = setting(0.0, help="largest distance; 0: half the height of the cell, at most 10", unit="A")
    width: float = setting(0.1, help="width of a bin", unit="A")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute the observable unless the lake has it; its id."""

    def compute(record: RunRecord) -> xr.Dataset:
        from argyase.physics.vanhove import default_lags, snapshot_frames, van_hove_distinct

        trajectory = lake.trajectory(record.id)
        mobile = trajectory.coords["species"] == config.ion
        frames = trajectory.n_frames
        lags = np.concatenate([[0], default_lags(frames, config.lags)])
        wanted = snapshot_frames(frames, lags, config.origins)
        cell = trajectory.cell().mean(axis=0)
        kept, done = dict[int, np.ndarray](), 0
        for positions, cells in chunks_of(lake, record, report):
            for frame in wanted[(wanted >= done) & (wanted < done + len(positions))].tolist():
                inverse = np.linalg.inv(cells[frame - done])
                place = positions[frame - done] @ inverse
                # Relative to the framework, as far as nearest images go.
                kept[frame] = (place[mobile] - place[~mobile].mean(axis=0)) @ cell
            done += len(positions)
        room = float((1 / np.linalg.norm(np.linalg.inv(cell), axis=0)).min()) / 2
        r_max = config.r_max or min(10.0, config.width * int(room / config.width))
        return van_hove_distinct(
            kept, frames, trajectory.time_step_ps, cell,
            lags=lags, origins=config.origins, r_max=r_max, width=config.width,
        )  # fmt: skip

    settings = {k: v for k, v in asdict(config).items() if k != "run"}
    return observable("distinct", DISTINCT, lake, config.run, settings, compute, config)


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print how soon the place that an ion has left is taken."""
    data = lake.open_run(ids[0])
    near = data.sel(r=slice(0, 1.0)).mean("r")["g_distinct"]
    text = ", ".join(f"{v:.2f} after {t:.3g} ps" for t, v in zip(near["lag"].values, near.values, strict=True))
    out.print(f"another ion within 1 A of where one was, over the mean: {text}", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(
        argv, stage="distinct", config=Config, run=run, description=__doc__ or "", epilogue=show, create=False
    )


if __name__ == "__main__":
    raise SystemExit(main())
