"""Stage ``density``: probability density of Li on a grid, its percolation level and free-energy barrier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import xarray as xr

from argyase.datalake.lake import Lake, RunRecord
from argyase.schemas import DENSITY
from argyase.stages._config import setting
from argyase.stages._observable import chunks_of, observable, temperature_of
from argyase.stages._run import Report, out, silent, stage_main, with_error


@dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    run: str = setting(help="id of a trajectory in the lake (stage md or ingest), or its first digits")
    ion: str = setting("Li", help="the diffusing species")
    spacing: float = setting(0.3, help="largest edge of a voxel", unit="A")
    smoothing: float = setting(0.3, help="standard deviation of the Gaussian that smoothes the grid", unit="A")
    fold: bool = setting(False, help="average over the unit cells of an argyrodite")
    symmetry: bool = setting(False, help="average over the operations of F-43m, too (with fold)")
    temperature_K: float | None = setting(None, help="temperature, if the run does not know it", unit="K")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute the observable unless the lake has it; its id."""

    def compute(record: RunRecord) -> xr.Dataset:
        from argyase.physics.density import density

        trajectory = lake.trajectory(record.id)
        return density(
            chunks_of(lake, record, report),
            trajectory.coords["species"],
            trajectory.n_frames,
            temperature_of(record, config.temperature_K),
            ion=config.ion,
            spacing=config.spacing,
            smoothing=config.smoothing,
            fold=config.fold,
            symmetry=config.symmetry,
        )

    settings = {k: v for k, v in asdict(config).items() if k != "run"}
    return observable("density", DENSITY, lake, config.run, settings, compute, config)


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print levels and barriers."""
    data = lake.open_run(ids[0])
    for n in data["dimension"].values.tolist():
        found = {str(k): float(v.sel(dimension=n)) for k, v in data.data_vars.items() if "dimension" in v.dims}
        level, height = with_error(found, "percolation_level"), with_error(found, "barrier")
        out.print(f"{n} directions: percolates at {level} times the mean, barrier {height} eV", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(
        argv, stage="density", config=Config, run=run, description=__doc__ or "", epilogue=show, create=False
    )


if __name__ == "__main__":
    raise SystemExit(main())
