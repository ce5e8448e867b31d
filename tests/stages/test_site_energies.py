"""Site energies: charges of closed shells, sites by symmetry, and the neutral lattice under its own name."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atom
from charged_ions import Ions

from argyase.calculators import calculator
from argyase.datalake.lake import Lake
from argyase.errors import CalculatorError, ConfigError
from argyase.stages import _cli, site_energies
from argyase.stages._frames import unpack
from argyase.structures import sites
from argyase.structures.argyrodite import assemble
from argyase.structures.ordering import distinct_orderings


def charged(**more: object) -> site_energies.Config:
    return site_energies.Config(quantity="charged", calculator="charged_ions:Ions", a=10.0, **more)  # type: ignore[arg-type]


def test_charged_sites_by_symmetry_are_all_sites(tmp_path: Path) -> None:
    """Three Cl on 4a and one on 4d: 112 sites one by one against those that symmetry leaves, with their weights."""
    lake = Lake(tmp_path / "lake")
    (run_id,) = site_energies.run(charged(inversion=(0.25,)), lake)
    data = lake.open_run(run_id)
    assert "lattice_site_energy" not in data
    assert data.sizes["sample"] < 50
    (ordering,) = distinct_orderings(3, 1)
    host = assemble(ordering.halide_4a, ordering.halide_4d, np.empty(0, dtype=int), a=10.0)
    bare = host.copy()
    bare.calc = Ions(-24)
    for kind, count in (("T2", 48), ("T4", 16), ("T5", 48)):
        energies = []
        for place in sites.orbit(sites.TETRAHEDRAL_SITES[kind]):
            atoms = host.copy()
            atoms.append(Atom("Li", place * 10.0))
            atoms.calc = Ions(-23)
            energies.append(atoms.get_potential_energy() - bare.get_potential_energy())
        assert float(data["mean"].sel(kind=kind)) == pytest.approx(np.mean(energies), abs=1e-4)
        assert float(data["spread"].sel(kind=kind)) == pytest.approx(np.std(energies), abs=1e-4)
        assert int(data["sites"].sel(kind=kind)) == count
        own = data["charged_site_energy"].values[data["site_kind"].values == kind]
        np.testing.assert_allclose([np.min(own), np.max(own)], [np.min(energies), np.max(energies)], atol=1e-4)
    # Two single points of another charge each: their frames are in the lake, and computed once.
    charges = {r.parameters["calculator"]["settings"]["charge"] for r in lake.search("label")}
    assert charges == {-23, -24}
    assert site_energies.run(charged(inversion=(0.25,)), lake) == [run_id]


def test_ordered_and_chlorine_rich(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    (ordered,) = site_energies.run(charged(inversion=(0.0,)), lake)
    data = lake.open_run(ordered)
    assert data["site_kind"].values.tolist() == ["T2", "T4", "T5"]  # all sites of a kind are equivalent
    np.testing.assert_allclose(data["spread"], 0, atol=1e-12)
    np.testing.assert_allclose(data["overlap_stderr"], 0, atol=1e-12)
    (rich,) = site_energies.run(charged(x=1.0, inversion=(1.0,)), lake)
    assert {r.parameters["calculator"]["settings"]["charge"] for r in lake.search("label")} == {-23, -24, -19, -20}
    assert lake.record(rich).parameters["formula"] == "Li5PS4Cl2"


def test_one_ordering_of_two(tmp_path: Path) -> None:
    """At 50 % there are two, of 12 and 24 distributions: one alone is its part of both, by its own weights."""
    lake = Lake(tmp_path / "lake")
    both, first = (
        lake.open_run(site_energies.run(charged(inversion=(0.5,), orderings=n), lake)[0]) for n in ((), (0,))
    )
    assert (both.sizes["sample"], first.sizes["sample"]) == (48, 20)
    own = both.isel(sample=np.flatnonzero(both["ordering"] == 0))
    for name in ("charged_site_energy", "site_kind", "site_number"):
        np.testing.assert_array_equal(own[name], first[name])
    # Of each kind 12 of 36 distributions are its own.
    np.testing.assert_allclose(own["weight"], first["weight"] * 12 / 36, atol=1e-12)
    with pytest.raises(ConfigError, match=r"orderings = 1: at x = 0 and inversion = 0 there are 1, counted from 0"):
        site_energies.run(charged(inversion=(0.0,), orderings=(0, 1)), lake)


def test_engines_without_charge_are_refused(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    config = site_energies.Config(quantity="charged", inversion=(0.0,), settings=("potential=LiPSCl-study",))
    with pytest.raises(ConfigError, match="charge"):
        site_energies.run(config, lake)
    with pytest.raises(ConfigError, match="charge is computed"):
        site_energies.run(charged(settings=("charge=0",)), lake)


def test_the_neutral_lattice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = tmp_path / "lake"
    flags = ["--inversion", "0", "--a", "10", "--settings", "potential=LiPSCl-study", "--starts", "2"]
    assert _cli.main(["site_energies", *flags, "--lake", str(lake)]) == 0
    run_id = capsys.readouterr().out.split()[-1]
    data = Lake(lake).open_run(run_id)
    assert "charged_site_energy" not in data
    assert data.sizes["sample"] == 48 + 16 + 48
    np.testing.assert_allclose(data["density"].integrate("energy"), 1.0, atol=2e-6)
    engine = calculator("mtp", potential="LiPSCl-study")
    frames = {r.parameters["which"]: unpack(Lake(lake).open_run(r.id)) for r in Lake(lake).search("sample")}
    assert {len(a) for a in frames["occupied"]} == {52}
    assert {len(a) for a in frames["empty"]} == {51}
    for n in (0, 60, 111):
        kind, number = data["site_kind"].values[n], int(data["site_number"].values[n])
        occupied = frames["occupied"][n]
        place = sites.orbit(sites.TETRAHEDRAL_SITES[kind])[number]
        np.testing.assert_allclose(occupied.positions[-1], 10 * place)
        # Neither on a doublet of another Li nor too near to one.
        lithium = np.flatnonzero(occupied.symbols == "Li")[:-1]
        assert occupied.get_distances(51, lithium, mic=True).min() > 1.9
        empty = occupied[:-1]
        occupied.calc = empty.calc = engine
        expected = occupied.get_potential_energy() - empty.get_potential_energy()
        assert float(data["lattice_site_energy"][n]) == pytest.approx(expected, abs=1e-6)
    assert _cli.main(["figures", run_id, "--lake", str(lake), "--figures", str(tmp_path / "figures")]) == 0
    stems = {f"site_energies.{kind}" for kind in ("png", "svg", "pdf")}
    assert {p.name for p in (tmp_path / "figures").iterdir()} == stems


def test_a_distribution_with_holes_is_none(tmp_path: Path) -> None:
    engine = "broken_ions:Broken"
    (tmp_path / "broken_ions.py").write_text(
        "from charged_ions import Ions\n"
        "class Broken(Ions):\n"
        "    def calculate(self, atoms, *more):\n"
        "        if abs(atoms.positions[-1, 0] - 1.5) < 1e-6:\n"
        "            raise ValueError('no convergence')\n"
        "        super().calculate(atoms, *more)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        config = site_energies.Config(quantity="charged", calculator=engine, a=10.0, inversion=(0.0,))
        with pytest.raises(CalculatorError, match="1 of 3 cells could not be computed"):
            site_energies.run(config, Lake(tmp_path / "lake"))
