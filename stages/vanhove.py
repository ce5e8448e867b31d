"""Stage ``vanhove``: self part of the van Hove function of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import xarray as xr

from argyase.datalake.lake import Lake, RunRecord
from argyase.schemas import VANHOVE
from argyase.stages._config import setting
from argyase.stages._observable import ion_paths, observable
from argyase.stages._run import Report, out, silent, stage_main


@dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    run: str = setting(help="id of a trajectory in the lake (stage md or ingest), or its first digits")
    ion: str = setting("Li", help="the diffusing species")
    r_max: float = setting(12.0, help="largest displacement", unit="A")
    width: float = setting(0.1, help="width of a bin", unit="A")
    stride: int = setting(1, help="use every stride-th time origin")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute the observable unless the lake has it; its id."""

    def compute(record: RunRecord) -> xr.Dataset:
        from argyase.physics.vanhove import van_hove_self

        _, blocks, time_step = ion_paths(lake, record, config.ion, report)
        return van_hove_self(blocks, time_step, stride=config.stride, r_max=config.r_max, width=config.width)

    settings = {k: v for k, v in asdict(config).items() if k != "run"}
    return observable("vanhove", VANHOVE, lake, config.run, settings, compute, config)


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print the most probable displacement at the longest lag."""
    p = lake.open_run(ids[0])["radial_probability"].isel(lag=-1)
    r, lag = float(p.r[int(p.argmax("r"))]), float(p.lag)
    out.print(f"4 pi r2 G_s at {lag:g} ps peaks at {r:.2f} A", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(
        argv, stage="vanhove", config=Config, run=run, description=__doc__ or "", epilogue=show, create=False
    )


if __name__ == "__main__":
    raise SystemExit(main())
