"""The ``argyase`` command: one sub-command for each stage, imported only when it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "run": ("campaign", "run a whole campaign: structures, dynamics, analysis, table, figures"),
    "plan": ("plan", "the tasks of a campaign, for any scheduler; or some of them, done here"),
    "submit": ("submit", "a campaign, or what is missing of it, as job arrays of Slurm"),
    "status": ("status", "how far the runs of a campaign are: progress, ns/day, reasons"),
    "structures": ("structures", "build an argyrodite into the lake"),
    "md": ("md", "molecular dynamics in LAMMPS, streamed into the lake"),
    "ingest": ("ingest", "bring an existing trajectory into the lake"),
    "msd": ("msd", "mean squared displacement and tracer diffusivity of a trajectory"),
    "conductivity": ("conductivity", "Nernst-Einstein conductivity of a trajectory"),
    "collective": ("collective", "conductivity of the charge current, Haven ratio, Onsager coefficients"),
    "vanhove": ("vanhove", "self part of the van Hove function, non-Gaussian parameter"),
    "distinct": ("distinct", "distinct part of the van Hove function"),
    "hops": ("hops", "hops of a trajectory by the 3 A criterion"),
    "jumps": ("jumps", "site-resolved jumps: doublets, inside and between cages; residence, rates, network"),
    "density": ("density", "probability density of Li, the level at which it percolates, free-energy barriers"),
    "coordination": ("coordination", "radial distributions and coordination numbers, by the site of anions"),
    "trends": ("trends", "Arrhenius lines, series of cell sizes, correlation with the entropy, of many runs"),
    "relax": ("relax", "a structure at rest: positions and cell, by any calculator"),
    "orderings": ("orderings", "all S/halide orderings of the unit cell, relaxed, and the lowest"),
    "hull": ("hull", "energies of argyrodites above the convex hull, and what they decompose into"),
    "site_energies": ("site_energies", "energies of Li on its tetrahedral sites, and how much they overlap"),
    "figures": ("figures", "draw figures from what the lake holds"),
    "report": ("report", "one HTML file with tables, maps and plots of all runs, for any browser, without network"),
    "learn": ("learn", "active learning: sample, select, label and fit until nothing is new"),
    "sample": ("sample", "frames to learn from: dynamics, melts, rattled and squeezed crystals"),
    "select": ("selection", "of many frames, those that a potential has yet to learn"),
    "label": ("label", "energies, forces and stresses of frames by any calculator"),
    "fit": ("fit", "train a Moment Tensor Potential on labelled frames"),
    "validate": ("validate", "a potential against its teacher: errors, scans, barriers, stability"),
    "domain": ("domain", "distances and active set of a potential, from the labels it was trained on"),
    "lake": ("lake", "list, show, export, import, verify or remove what the lake holds"),
    "plugin": ("plugin", "pair style mtp for a LAMMPS of your own: compile it, or print where it is"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Hand over to the stage; print the list of commands when none is named."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print("usage: argyase COMMAND [options]      (argyase COMMAND --help tells more)\n")
        for name, (_, text) in COMMANDS.items():
            print(f"  {name:13s} {text}")
        return 0
    if args[0] == "--version":
        import argyase

        print(argyase.__version__)
        return 0
    if args[0] not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"commands: {', '.join(COMMANDS)}"
        print(f"argyase: unknown command {args[0]!r}; {hint}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"argyase.stages.{COMMANDS[args[0]][0]}")
    code = module.main(args[1:])
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main())
