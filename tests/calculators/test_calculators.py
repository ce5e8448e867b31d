"""The registry of calculators."""

import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from argyase.calculators import ENGINES, calculator, identity
from argyase.errors import CalculatorError, ConfigError
from argyase.potentials.model_card import find_potential
from argyase.structures.argyrodite import argyrodite


def test_mtp_is_that_of_its_card() -> None:
    made = calculator("mtp", potential="LiPSCl-study")
    atoms = argyrodite(a=10.0)
    atoms.calc = made
    assert np.isfinite(atoms.get_potential_energy())
    assert made.results["grades"].shape == (52,)
    found = find_potential("LiPSCl-study")
    who = identity("mtp", potential="LiPSCl-study", threads=2)
    assert who["sha256"] == found.sha256
    assert set(who["repulsion"]) == set(found.repulsion)
    # Threads do not change what it is; the repulsion does.
    assert who == identity("mtp", potential="LiPSCl-study")
    assert who != identity("mtp", potential="LiPSCl-study", repulsion=False)


def test_any_factory() -> None:
    atoms = bulk("Cu")
    atoms.calc = calculator("ase.calculators.emt:EMT")
    again = bulk("Cu")
    again.calc = EMT()
    assert atoms.get_potential_energy() == again.get_potential_energy()
    who = identity("ase.calculators.lj:LennardJones", rc=5.0)
    assert who["settings"] == {"rc": 5.0}
    assert who["version"]
    assert who != identity("ase.calculators.lj:LennardJones", rc=6.0)


def test_a_file_of_no_card_is_what_its_species_are(tmp_path: Path) -> None:
    path = tmp_path / "own.mtp"
    path.write_bytes(find_potential("LiPSCl-study").path.read_bytes())
    one, other = (
        identity("mtp", potential=str(path), species=s) for s in (["Li", "P", "S", "Cl"], ["Na", "P", "S", "Cl"])
    )
    assert one["sha256"] == other["sha256"]
    assert one != other


def test_a_factory_of_ones_own_is_known_by_its_source_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "of_ones_own.py"
    source.write_text(
        "from ase.calculators.lj import LennardJones\n\n\n"
        "def make(weights, log=''):\n    return LennardJones()\n\n\n"
        "def broken():\n    raise RuntimeError('no licence')\n\n\n"
        "def number():\n    return 3\n"
    )
    weights, log = tmp_path / "w.pth", tmp_path / "run.log"
    weights.write_text("1")
    settings = {"weights": str(weights), "log": str(log)}
    assert calculator("of_ones_own:make", **settings).results == {}
    first = identity("of_ones_own:make", **settings)
    log.write_text("what it writes is not what it is")
    assert identity("of_ones_own:make", **settings) == first
    weights.write_text("2")
    second = identity("of_ones_own:make", **settings)
    assert second != first
    source.write_text(source.read_text() + "# changed\n")
    assert identity("of_ones_own:make", **settings) not in (first, second)
    with pytest.raises(CalculatorError, match=r"of_ones_own:broken with \{\}: RuntimeError: no licence"):
        calculator("of_ones_own:broken")
    with pytest.raises(ConfigError, match="gives a int, not an ASE calculator"):
        calculator("of_ones_own:number")
    with pytest.raises(ConfigError, match=r"settings \{'wights': 1\}"):
        calculator("of_ones_own:make", wights=1)


def test_a_factory_of_a_package_has_its_version() -> None:
    assert identity("ase.calculators.emt:EMT")["version"] == version("ase")


# What follows stands in for packages that are too large for a test: their names, files and errors.


def test_sevennet_is_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped, copy = tmp_path / "checkpoint_0.pth", tmp_path / "elsewhere" / "mine.pth"
    shipped.write_text("weights")
    copy.parent.mkdir()
    copy.write_text("weights")

    def path_of(name: str) -> str:
        if name == "7net-omat":
            raise OSError("no network")
        if name != "7net-0":
            raise ValueError("Not a valid pretrained model name")
        return str(shipped)

    util = ModuleType("sevenn.util")
    util.pretrained_name_to_path = path_of  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sevenn", ModuleType("sevenn"))
    monkeypatch.setitem(sys.modules, "sevenn.util", util)
    monkeypatch.setattr("argyase.calculators.sevennet.version", lambda _: "0.13.0")
    known = identity("sevennet", checkpoint="7net-0", threads=4)
    assert set(known) == {"name", "checkpoint", "version", "sha256"}
    assert identity("sevennet", checkpoint=str(copy))["sha256"] == known["sha256"]
    monkeypatch.chdir(copy.parent)
    assert identity("sevennet", checkpoint="mine.pth") == identity("sevennet", checkpoint=str(copy))
    assert identity("sevennet", checkpoint="7net-0", modal="PBE") != known
    with pytest.raises(ConfigError, match=r"'7nat': neither a file nor a name that sevenn 0\.13\.0 knows"):
        identity("sevennet", checkpoint="7nat")
    with pytest.raises(CalculatorError, match=r"'7net-omat': .* download failed \(no network\)"):
        identity("sevennet", checkpoint="7net-omat")


def test_chgnet_is_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chgnet = ModuleType("chgnet")
    chgnet.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, "chgnet", chgnet)
    monkeypatch.setattr("argyase.calculators.chgnet.version", lambda _: "0.4.2")
    for name in ("0.2.0", "0.3.0"):
        (tmp_path / "pretrained" / name).mkdir(parents=True)
        (tmp_path / "pretrained" / name / "w.pth.tar").write_text(name)
    assert identity("chgnet") == identity("chgnet", model="0.3.0")
    assert identity("chgnet")["sha256"] != identity("chgnet", model="0.2.0")["sha256"]
    with pytest.raises(ConfigError, match=r"model = '0\.4\.0': this version comes with 0\.2\.0, 0\.3\.0"):
        identity("chgnet", model="0.4.0")


@pytest.mark.parametrize(
    ("name", "settings", "error", "said"),
    [
        ("vsap", {}, ConfigError, "known are mtp, lammps, sevennet, chgnet, mace, gpaw, vasp, and module:factory"),
        ("no.such.module:X", {}, CalculatorError, "cannot import no.such.module"),
        ("ase.calculators.emt:ETM", {}, ConfigError, "has no 'ETM'"),
        ("mtp", {"potental": "x"}, ConfigError, "calculator mtp: settings {'potental': 'x'}"),
        ("mtp", {}, ConfigError, "potential"),
    ],
)
def test_wrong_names(name: str, settings: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        calculator(name, **settings)


@pytest.mark.parametrize("name", [e for e in ENGINES if e not in ("mtp", "lammps", "vasp")])
def test_what_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine without it, whether or not this one has it.
    parts = {
        "sevennet": ("sevenn", "sevenn.util"),
        "chgnet": ("chgnet", "chgnet.model"),
        "mace": ("mace",),
        "gpaw": ("gpaw",),
    }
    for module in parts[name]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CalculatorError, match=rf"pip install 'argyase\[{name}\]'"):
        calculator(name)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"preset": "labels"}, "known are relax, aimd, label, site_energy"),
        ({"preset": "site_energy"}, "needs the charge of the cell"),
        ({"kpts": [2, 2]}, "three whole numbers above 0"),
        ({"ecut": -1.0}, "ecut = -1.0 eV: must be positive"),
        ({"stress": "no"}, "allowed are analytic, none, differences"),
        ({"custom": "nbands"}, "expected parameters of GPAW by name"),
        ({"custom": {"txt": "-"}}, "txt is set by log"),
        ({"stress": "analytic"}, "the analytic stress of optB88-vdW is wrong"),
    ],
)
def test_wrong_settings_of_gpaw(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        calculator("gpaw", **settings)
