"""Stage ``hops``: hops by displacement from the initial position of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import xarray as xr

from argyase.datalake.lake import Lake, RunRecord
from argyase.schemas import HOPS
from argyase.stages._config import setting
from argyase.stages._observable import ion_paths, observable
from argyase.stages._run import Report, out, silent, stage_main, with_error


@dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    run: str = setting(help="id of a trajectory in the lake (stage md or ingest), or its first digits")
    ion: str = setting("Li", help="the diffusing species")
    threshold: float = setting(3.0, help="displacement that counts as a hop", unit="A")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute the observable unless the lake has it; its id."""

    def compute(record: RunRecord) -> xr.Dataset:
        from argyase.physics.hops import hops

        _, blocks, time_step = ion_paths(lake, record, config.ion, report)
        return hops(blocks, time_step, config.threshold)

    settings = {k: v for k, v in asdict(config).items() if k != "run"}
    return observable("hops", HOPS, lake, config.run, settings, compute, config)


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print the three counts."""
    s = lake.record(ids[0]).scalars
    where = f"{s['threshold']:g} A from the start, of {s['ions']} ions in {s['duration']:g} ps"
    out.print(
        f"ever beyond {s['ever_beyond']}, at the end {s['end_beyond']}, crossings {s['crossings']}: {where}",
        highlight=False,
    )
    out.print(f"crossing rate {with_error(s, 'crossing_rate')} per ion and ns", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(
        argv, stage="hops", config=Config, run=run, description=__doc__ or "", epilogue=show, create=False
    )


if __name__ == "__main__":
    raise SystemExit(main())
