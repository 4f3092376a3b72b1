"""What `pip install` leaves on the machine, and that nothing of it stays behind."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import statistics
import struct
import subprocess
import sys
import sysconfig
import tarfile
import time
import venv
import zipfile
from pathlib import Path

import pytest

import rscontainer
from rscontainer import _binary, _core

# The wheel is linked once more for these, which takes its time where the cores are busy.
pytestmark = pytest.mark.timeout(900)

PROJECT = Path(__file__).resolve().parent.parent
MIB = 1024 * 1024
# Prints the package's version and the path of its binary, by way of the package alone.
ASK = (
    "import rscontainer, rscontainer._binary as b; "
    "assert b.__file__.startswith({under!r}), b.__file__; "
    "print(rscontainer.__version__, b.binary())"
)


# The maturin beside this interpreter, which need not be on the caller's PATH.
TOOLS = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])


def run(*command: object, **environment: str) -> str:
    """Runs a command outside the project's folder, and shows what it said if it fails."""
    arguments = [str(argument) for argument in command]
    done = subprocess.run(
        arguments,
        cwd="/",
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: exit status {done.returncode}\n{done.stdout}"
    return done.stdout


def segments(program: Path) -> set[int]:
    """The types of an ELF file's program headers."""
    image = program.read_bytes()
    assert image[:6] == b"\x7fELF\x02\x01"
    (offset,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    return {struct.unpack_from("<I", image, offset + size * i)[0] for i in range(count)}


def sections(program: Path) -> set[int]:
    """The types of an ELF file's sections."""
    image = program.read_bytes()
    (offset,) = struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    return {struct.unpack_from("<I", image, offset + size * i + 4)[0] for i in range(count)}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("maturin", reason="maturin is not installed: nothing can be packed here")
    if not shutil.which("cargo") and not (Path.home() / ".cargo/bin/cargo").exists():
        pytest.skip("there is no cargo: nothing can be built here")
    folder = tmp_path_factory.mktemp("sdist")
    # Called as an installer calls it: from the project's folder, the backend's folder in sys.path.
    code = (
        "import os, sys, rscontainer_build as b; os.chdir(sys.argv[1]); b.build_sdist(sys.argv[2])"
    )
    run(
        sys.executable,
        "-Bc",
        code,
        PROJECT,
        folder,
        PATH=TOOLS,
        PYTHONPATH=str(PROJECT / "packaging"),
    )
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the sdist alone."""
    folder = tmp_path_factory.mktemp("wheel")
    # The dependencies that the project's own build compiled are good for this one too.
    target = os.environ.get("CARGO_TARGET_DIR", str(PROJECT / "target"))
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index"]
    run(*pip, "--no-build-isolation", "-w", folder, sdist, PATH=TOOLS, CARGO_TARGET_DIR=target)
    (built,) = folder.glob("*.whl")
    return built


def install(python: object, wheel: Path, *options: str, **environment: str) -> None:
    pip = [python, "-m", "pip", "install", "--no-deps", "--no-index", "--ignore-installed"]
    run(*pip, *options, wheel, **environment)


def left_behind(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*rscontainer*"))


def test_version_is_the_same_everywhere() -> None:
    assert (
        importlib.metadata.distribution("rscontainer").version
        == rscontainer.__version__
        == _core.VERSION
    )
    assert run(_binary.binary(), "--version").split()[:3] == [
        "rscontainer",
        "version",
        _core.VERSION,
    ]


def test_binary_is_what_the_installer_recorded() -> None:
    files = importlib.metadata.distribution("rscontainer").files or []
    # A shell's completion of it has that name too.
    (recorded,) = [file for file in files if file.name == "rscontainer" and "bin" in file.parts]
    assert os.path.samefile(recorded.locate(), _binary.binary())


def test_binary_is_on_path_of_its_environment() -> None:
    assert Path(_binary.binary()) == Path(sysconfig.get_path("scripts"), "rscontainer")


def test_binary_is_static_and_stripped() -> None:
    program = Path(_binary.binary())
    interpreter, symbols = 3, 2
    assert interpreter not in segments(program)
    assert symbols not in sections(program)


def test_module_is_stripped() -> None:
    assert _core.__file__ is not None
    assert 2 not in sections(Path(_core.__file__))


def test_package_has_no_dependencies() -> None:
    requires = importlib.metadata.distribution("rscontainer").requires or []
    assert [r for r in requires if "extra ==" not in r] == []


def test_import_is_quick() -> None:
    def milliseconds(code: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd="/", check=True)
        return (time.perf_counter() - begun) * 1000

    # In turn, so that whatever else the machine does falls on both alike.
    pairs = [(milliseconds("pass"), milliseconds("import rscontainer")) for _ in range(15)]
    assert statistics.median(imported - bare for bare, imported in pairs) <= 20


def test_import_brings_little_in() -> None:
    # Each of them costs as much as the package, and none is needed to run a container.
    heavy = {"contextlib", "enum", "hashlib", "json", "pathlib", "re", "signal", "subprocess"}
    code = (
        "import sys; before = set(sys.modules); import rscontainer as rsc; "
        f"print(*({heavy!r} & (set(sys.modules) - before))); rsc.TimeoutExpired; "
        "import subprocess; assert issubclass(rsc.CalledProcessError, subprocess.SubprocessError)"
    )
    done = subprocess.run([sys.executable, "-Ic", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_finding_the_binary_is_quick() -> None:
    # Its own time, for others may have the processor meanwhile.
    code = (
        "import time, rscontainer, sys; assert 'rscontainer._binary' not in sys.modules; "
        "begun = time.process_time(); from rscontainer._binary import binary; binary(); "
        "print((time.process_time() - begun) * 1000)"
    )
    taken = [float(run(sys.executable, "-c", code)) for _ in range(9)]
    assert statistics.median(taken) <= 3


def test_sdist_has_the_sources_and_nothing_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        for member in archive:
            content = archive.extractfile(member)
            assert content is None or content.read(4) != b"\x7fELF", member.name
    needed = {"Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "pyproject.toml", "src/main.rs"}
    assert needed | {"packaging/rscontainer_build.py", "crates/regex/Cargo.toml"} <= names
    assert not [name for name in names if name.startswith(("data/", "target/", ".venv"))]


def test_wheel_is_small_and_complete(wheel: Path) -> None:
    assert wheel.stat().st_size <= 10 * MIB
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert sum(name.endswith(".so") for name in names) == 1
        (script,) = [name for name in names if ".data/scripts/" in name]
        assert script.endswith(".data/scripts/rscontainer")
        shared = {name.partition(".data/data/share/")[2] for name in names if ".data/data/" in name}
        assert {"man/man8/rscontainer.8", "bash-completion/completions/rscontainer"} <= shared
        assert archive.getinfo(script).external_attr >> 16 & 0o111
    assert {"rscontainer/__init__.py", "rscontainer/py.typed", "rscontainer/_core.pyi"} <= {*names}


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    venv.create(tmp_path / "venv", with_pip=True)
    return tmp_path / "venv"


def test_install_and_uninstall_in_an_environment(environment: Path, wheel: Path) -> None:
    python, program = environment / "bin/python", environment / "bin/rscontainer"
    install(python, wheel)
    assert run(python, "-c", ASK.format(under=str(environment))).split()[1] == str(program)
    run(program, "--version")
    run(python, "-m", "pip", "uninstall", "-y", "rscontainer")
    assert left_behind(environment) == []


def test_install_into_a_prefix(environment: Path, wheel: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    python = environment / "bin/python"
    install(python, wheel, "--prefix", str(prefix))
    (site,) = prefix.glob("lib/python*/*-packages")
    said = run(python, "-c", ASK.format(under=str(prefix)), PYTHONPATH=str(site))
    assert said.split()[1] == str(prefix / "bin/rscontainer")


def test_install_into_a_folder(environment: Path, wheel: Path, tmp_path: Path) -> None:
    # pip moves what it installs this way, and the record then leads elsewhere: here to a decoy.
    folder, decoy = tmp_path / "some/lib/folder", tmp_path / "some/bin/rscontainer"
    decoy.parent.mkdir(parents=True)
    decoy.write_text("#!/bin/sh\necho decoy\n")
    decoy.chmod(0o755)
    python = environment / "bin/python"
    install(python, wheel, "--target", str(folder))
    said = run(python, "-c", ASK.format(under=str(folder)), PYTHONPATH=str(folder))
    assert said.split()[1] == str(folder / "bin/rscontainer")


def test_install_for_one_user(wheel: Path, tmp_path: Path) -> None:
    base = tmp_path / "user"
    # A virtual environment has no user's site, so this needs the interpreter it was made from; a
    # distribution's own has no pip, so it borrows this one's.
    python = sys._base_executable  # type: ignore[attr-defined]
    version = importlib.metadata.version("pip")
    if tuple(map(int, version.split(".")[:2])) < (22, 3):
        pytest.skip(f"pip {version} cannot install for another interpreter, 22.3 can")
    pip = [sys.executable, "-m", "pip", "--python", python]
    options = {"PYTHONUSERBASE": str(base), "PIP_BREAK_SYSTEM_PACKAGES": "1"}
    offline = ["--no-deps", "--no-index", "--ignore-installed"]
    run(*pip, "install", "--user", *offline, wheel, **options)
    said = run(python, "-c", ASK.format(under=str(base)), **options)
    assert said.split()[1] == str(base / "bin/rscontainer")
    run(*pip, "uninstall", "-y", "rscontainer", **options)
    assert left_behind(base) == []


def test_missing_binary_is_named(environment: Path, wheel: Path) -> None:
    python, program = environment / "bin/python", environment / "bin/rscontainer"
    install(python, wheel)
    program.unlink()
    code = "from rscontainer._binary import binary\ntry: binary()\nexcept OSError as e: print(e)"
    said = run(python, "-c", code)
    assert f"missing or not executable at {program}" in said
    assert "reinstall" in said


def test_package_that_is_not_installed_says_so() -> None:
    code = "from rscontainer._binary import binary\ntry: binary()\nexcept OSError as e: print(e)"
    package = Path(rscontainer.__file__).parent
    # Isolated, so that no site-packages is searched; the package comes from a bare folder.
    finder = f"import sys; sys.path.insert(0, {str(package.parent)!r}); import rscontainer; "
    hide = "sys.path.pop(0); import os; os.listdir = lambda path: []\n"
    assert "not installed" in run(sys.executable, "-ISc", finder + hide + code)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (None, "there is no cargo on PATH nor in ~/.cargo/bin"),
        ("cargo 1.63.0 (fd9c4297c 2022-07-01)", "is version 1.63"),
        ("not a version", "does not answer with a version"),
    ],
)
def test_build_without_a_usable_rust(tmp_path: Path, answer: str | None, complaint: str) -> None:
    pytest.importorskip("maturin", reason="maturin is not installed: nothing can be packed here")
    if answer is not None:
        cargo = tmp_path / "cargo"
        cargo.write_text(f"#!/bin/sh\necho '{answer}'\n")
        cargo.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-Bc", "import rscontainer_build as b; b.get_requires_for_build_wheel()"],
        cwd=PROJECT,
        env={"PATH": f"{tmp_path}:/nowhere", "HOME": str(tmp_path), "PYTHONPATH": "packaging"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "rustup.rs" in done.stderr
    assert "Traceback" not in done.stderr
