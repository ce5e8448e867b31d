"""``argyase domain``: what a potential was trained on: table of the repulsion, and active set for extrapolation grades.

Prints the [repulsion] table for the model card, and writes the active set as NAME.active beside the potential, where
``argyase md`` finds it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from argyase.errors import ConfigError
from argyase.potentials.model_card import DEFAULT, Potential, find_potential
from argyase.potentials.repulsion import INNER_FRACTION
from argyase.stages import _config
from argyase.stages._config import setting
from argyase.stages._frames import read_file
from argyase.stages._run import console, guarded, out


@dataclass(frozen=True)
class Config:
    """Which potential, and its labels."""

    labels: tuple[str, ...] = setting(help="files of the training structures (any format ASE reads)")
    potential: str = setting(DEFAULT, help="name of a shipped potential, or path of an .mtp file")
    species: tuple[str, ...] = setting((), help="symbols of the potential's species, when it has no model card")
    inner_fraction: float = setting(INNER_FRACTION, help="inner distance of the repulsion as a fraction of the outer")
    output: str = setting("", help="file of the active set (default: beside the potential)")


def run(config: Config) -> Path:
    """Print the table, write the active set unless the file has it already; its path.

    Raises
    ------
    ConfigError
        If the labels cannot be read, or have species that the potential does not know.
    PotentialFileError
        If the file of the active set cannot be written.
    """
    from argyase.errors import PotentialFileError
    from argyase.potentials.active import ActiveSet
    from argyase.potentials.mtp import MTP
    from argyase.potentials.repulsion import format_table, propose, smallest_distances

    potential = find_potential(config.potential, config.species)
    frames = _frames(config, potential)
    calculator = MTP(potential.path, potential.species)
    distances = smallest_distances(frames, potential.species, calculator.kernel.cutoff)
    out.print(format_table(propose(distances, config.inner_fraction)), highlight=False, markup=False)

    active = ActiveSet.select(calculator, frames)
    names = [*potential.species, *(f"basis function {k}" for k in range(len(active.rows) - len(potential.species)))]
    for column in active.not_spanned:
        console.print(
            f"{names[column]}: not spanned by the labels (none has it, or it depends on the others); atoms that have "
            "it all the same get very large grades",
            highlight=False,
            markup=False,
        )
    path = Path(config.output) if config.output else potential.path.with_suffix(".active")
    content = active.to_bytes()
    atoms = sum(len(a) for a in frames)
    what = f"{path}: {len(active.rows)} atoms of {atoms} in {len(frames)} frames"
    try:
        if path.is_file() and path.read_bytes() == content:
            console.print(f"{what} (unchanged)", highlight=False, markup=False)
        else:
            path.write_bytes(content)
            console.print(what, highlight=False, markup=False)
    except OSError as error:
        raise PotentialFileError(f"{path}: cannot be written: {error.strerror}; give another --output") from None
    return path


def _frames(config: Config, potential: Potential) -> list[Atoms]:
    frames = [atoms for name in config.labels for atoms in read_file(name, "labels")]
    if not frames:
        raise ConfigError(f"labels = {list(config.labels)}: no structures in there")
    known = set(potential.species)
    if unknown := sorted({s for a in frames for s in a.symbols} - known):
        raise ConfigError(f"labels: species {unknown}; the potential {potential.name} knows {list(potential.species)}")
    return frames


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase domain``."""
    parser = argparse.ArgumentParser(prog="argyase domain", description=__doc__)
    parser.add_argument("-c", "--config", help="campaign file with a [domain] table (- reads JSON from stdin)")
    _config.add_flags(parser, Config)
    args = parser.parse_args(argv)

    def body() -> int:
        run(_config.resolve(Config, args, "domain"))
        return 0

    return guarded(body)


if __name__ == "__main__":
    raise SystemExit(main())
