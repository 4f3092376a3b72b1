"""What runc's command line can ask for besides the config: roots, keyrings, cgroups, sockets."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import eventually, user_namespace

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, CommandLine


QUIET = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture
def sleeper(bundle: BundleFactory) -> rsc.Bundle:
    return bundle(args=["sleep", "1000"])


@pytest.fixture
def running(cli: CommandLine, sleeper: rsc.Bundle, box: str) -> Iterator[str]:
    cli("run", "--detach", "--bundle", sleeper.path, box, **QUIET)
    yield box
    cli("delete", "--force", box)


# -- --no-pivot -------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [False, True], ids=["root", "user namespace"])
def test_no_pivot(cli: CommandLine, bundle: BundleFactory, box: str, user: bool) -> None:
    before = Path("/proc/self/mountinfo").read_text()

    def change(spec: rsc.Spec) -> None:
        if user:
            user_namespace(spec)
        # procfs shows what it shows of, which masks would take from it.
        spec.linux.maskedPaths = spec.linux.readonlyPaths = []

    place = bundle(change, args=["sh", "-c", "cat /proc/self/mountinfo; ls /; pwd; sleep 1000"])
    with subprocess.Popen(
        cli.argv("run", "--no-pivot", "-b", place.path, box),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        lines = list(itertools.takewhile(lambda line: line != "/\n", program.stdout))
        assert {"bin\n", "proc\n", "dev\n"} <= set(lines)
        shown = [line.split()[4] for line in lines if " - " in line]
        assert shown.count("/") == 1
        # Nothing of the host's is left that the kernel would take for a whole procfs or sysfs.
        whole = [line for line in lines if re.search(r"^\d+ \d+ \S+ / (.*) - (proc|sysfs) ", line)]
        assert sorted(line.split()[4] for line in whole) == ["/proc", "/sys"]
        # And exec comes in on top.
        assert "bin" in cli("exec", box, "ls", "/").stdout.split()
        cli("kill", box, "KILL")
    assert Path("/proc/self/mountinfo").read_text() == before


def test_no_pivot_beside_shared_mounts(
    cli: CommandLine, bundle: BundleFactory, box: str, root: Path
) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.rootfsPropagation = "shared"

    done = cli("run", "--no-pivot", "-b", bundle(change, args=["true"]).path, box, check=False)
    assert done.returncode == 1
    assert "$.linux.rootfsPropagation" in done.stderr
    assert not (root / box).exists()


# -- --no-new-keyring -------------------------------------------------------------------------


def keyrings(box: str) -> int:
    """How many session keyrings of that container's name there are."""
    return Path("/proc/keys").read_text().count(f" _ses.{box}: ")


needs_keys = pytest.mark.skipif(not os.path.exists("/proc/keys"), reason="this kernel has no keys")


@needs_keys
def test_a_container_has_a_session_keyring(cli: CommandLine, running: str) -> None:
    assert keyrings(running) == 1
    # Exec finds that one.
    cli("exec", "-d", running, "sleep", "1000", **QUIET)
    assert keyrings(running) == 1
    cli("kill", "--all", running, "KILL")
    eventually(lambda: not keyrings(running), "the keyring's end")


@needs_keys
def test_no_new_keyring(cli: CommandLine, sleeper: rsc.Bundle, box: str) -> None:
    cli("run", "-d", "--no-new-keyring", "-b", sleeper.path, box, **QUIET)
    cli("exec", box, "true")
    assert keyrings(box) == 0
    cli("delete", "--force", box)


@needs_keys
def test_keyrings_in_a_user_namespace(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: rsc.Spec) -> None:
        user_namespace(spec)
        spec.linux.maskedPaths = []

    made = bundle(change, args=["sleep", "1000"])
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        for _ in range(2):
            grep = container.exec(["grep", f"_ses.{box}", "/proc/keys"], stdout=rsc.PIPE, text=True)
            # One, of the container's root, who may search it.
            (line,) = grep.communicate()[0].splitlines()
            assert re.search(r" perm 3f1b0000 +0 +0 ", line), line


# -- LISTEN_FDS -------------------------------------------------------------------------------


@pytest.mark.parametrize("mine", [True, False], ids=["for it", "for another"])
def test_listening_sockets(cli: CommandLine, bundle: BundleFactory, box: str, mine: bool) -> None:
    script = "echo ${LISTEN_FDS-none} ${LISTEN_PID-none}; ls /proc/self/fd"
    place = bundle(args=["sh", "-c", script])
    pipes = [os.pipe() for _ in range(3)]
    shell = " ".join(f"{n}<&{reader}" for n, (reader, _) in zip((3, 4, 5), pipes))
    pid = "$$" if mine else "1"
    argv = cli.argv("run", "-b", str(place.path), "--preserve-fds", "1", box)
    done = subprocess.run(
        ["bash", "-c", f'LISTEN_FDS=2 LISTEN_PID={pid} exec "$@" {shell}', "bash", *argv],
        pass_fds=[reader for reader, _ in pipes],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for pipe in pipes:
        for number in pipe:
            os.close(number)
    first, *numbers = done.stdout.split("\n")[:-1]
    # The last is the folder that ls reads.
    assert (first, len(numbers)) == (("2 1", 7) if mine else ("none none", 5))


# -- exec -------------------------------------------------------------------------------------


def sets(cli: CommandLine, *words: str) -> dict[str, int]:
    text = cli("exec", *words, "grep", "^Cap", "/proc/self/status").stdout
    return {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines()}


def test_exec_with_capabilities(cli: CommandLine, running: str) -> None:
    before = sets(cli, running)
    kill, chown, fowner = 1 << 5, 1 << 0, 1 << 3
    assert not before["CapEff"] & (chown | fowner)
    assert before["CapEff"] & kill
    after = sets(cli, "--cap", "CAP_CHOWN", "-c", "CAP_FOWNER", running)
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert after[name] == before[name] | chown | fowner, name
    for name in ("CapInh", "CapAmb"):
        assert after[name] == before[name], name
    done = cli("exec", "--cap", "CAP_NOVEL", running, "true", check=False)
    assert done.returncode == 255
    assert 'error: --cap "CAP_NOVEL": there is no such capability' in done.stderr


def test_exec_in_a_paused_container(cli: CommandLine, running: str) -> None:
    cli("pause", running)
    done = cli("exec", running, "true", check=False)
    assert "it is paused" in done.stderr
    later = threading.Timer(0.5, cli, ("resume", running))
    later.start()
    try:
        assert cli("exec", "--ignore-paused", running, "echo", "on").stdout == "on\n"
    finally:
        later.join()


def directories(pid: int) -> dict[str, Path]:
    """The cgroups of a process, by their controllers."""
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words, _, rest = line.partition(" - ")
        kind, _, options = rest.split()[:3]
        if kind == "cgroup2":
            mounts[""] = words.split()[4]
        elif kind == "cgroup":
            mounts.update(dict.fromkeys(options.split(","), words.split()[4]))
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        first = names.split(",")[0]
        if first in mounts:
            found[names] = Path(mounts[first] + path)
    return found


@pytest.fixture
def parts(cli: CommandLine, running: str) -> Iterator[dict[str, Path]]:
    """Cgroups named ``part`` inside of a running container's, by their controllers."""
    pid = rsc.Container.load(running, cli.root).pid
    made = {name: path / "part" for name, path in directories(pid).items()}
    for path in made.values():
        path.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            with contextlib.suppress(OSError):
                path.joinpath(name).write_text(path.parent.joinpath(name).read_text())
    yield made
    cli("kill", "--all", running, "KILL")
    for path in made.values():
        eventually(lambda path=path: remove(path), f"an empty {path}")


def remove(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()


def inside(cli: CommandLine, running: str, tmp_path: Path, *words: str) -> dict[str, Path]:
    file = tmp_path / "pid"
    cli("exec", "-d", "--pid-file", file, *words, running, "sleep", "2000", **QUIET)
    return directories(int(file.read_text()))


def test_exec_in_a_cgroup_below(
    cli: CommandLine, running: str, parts: dict[str, Path], tmp_path: Path
) -> None:
    for path in ("part", "/part", "./part/"):
        assert inside(cli, running, tmp_path, "--cgroup", path) == parts


def test_exec_in_a_cgroup_below_of_a_controller(
    cli: CommandLine, running: str, parts: dict[str, Path], tmp_path: Path
) -> None:
    own = {name: path.parent for name, path in parts.items()}
    first = [name for name in parts if name and "=" not in name][:2]
    if len(first) < 2:
        pytest.skip("no hierarchies of cgroup v1 are mounted here")
    words = [word for name in first for word in ("--cgroup", f"{name}:part")]
    expected = {name: parts[name] if name in first else own[name] for name in parts}
    assert inside(cli, running, tmp_path, *words) == expected
    joint = ["--cgroup", f"{','.join(first)}:part"]
    assert inside(cli, running, tmp_path, *joint) == expected


def test_exec_from_python_in_a_cgroup_below(
    cli: CommandLine, running: str, parts: dict[str, Path]
) -> None:
    container = rsc.Container.load(running, cli.root)

    def inside(cgroup: str | list[str]) -> dict[str, Path]:
        with container.exec(["sleep", "2000"], cgroup=cgroup) as process:
            found = directories(process.pid)
            process.kill()
        return found

    assert inside("part") == parts
    assert inside(["part"]) == parts
    one = next((name for name in parts if name and "=" not in name), None)
    if one is not None:
        own = {name: path.parent for name, path in parts.items()}
        assert inside([f"{one}:part"]) == {**own, one: parts[one]}
    with pytest.raises(rsc.NotFoundError, match="there is no cgroup"):
        container.exec(["true"], cgroup="missing")
    with pytest.raises(rsc.ContainerError, match="leads out of the container's cgroup"):
        container.exec(["true"], cgroup="../part")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["missing"], "there is no cgroup"),
        (["../x"], "leads out of"),
        (["a/../../x"], "leads out of"),
        (["novel:x"], '"novel" is no controller'),
        ([":x"], '"" is no controller'),
        (["a", "b"], "a path for all"),
    ],
)
def test_exec_in_no_such_cgroup(
    cli: CommandLine, running: str, asked: list[str], said: str
) -> None:
    words: list[Any] = [word for place in asked for word in ("--cgroup", place)]
    done = cli("exec", *words, running, "true", check=False)
    assert done.returncode == 255
    assert f'error: enter cgroup "{asked[0]}": ' in done.stderr
    assert said in done.stderr
