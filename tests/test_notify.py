"""NOTIFY_SOCKET: a service manager hears that a container's program is ready, as with runc."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import PATIENCE, eventually, user_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, CommandLine

    import rscontainer as rsc

INSIDE = "/run/notify/notify.sock"
RUNC = shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


class Manager:
    """The end of the socket that systemd holds."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(PATIENCE)

    def hear(self) -> str:
        """The next message; what comes with it is closed, as the barrier asks."""
        message, fds, _, _ = socket.recv_fds(self.socket, 4096, 1)
        for fd in fds:
            os.close(fd)
        return message.decode()

    def hears_nothing(self) -> bool:
        return not select.select([self.socket], [], [], 0.3)[0]


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, box: str) -> Iterator[Manager]:
    address = f"@{box}" if request.param == "abstract" else str(tmp_path / "manager")
    manager = Manager(address)
    yield manager
    manager.socket.close()


def spawn(argv: list[str], manager: Manager, **more: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "NOTIFY_SOCKET": manager.address}
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    return subprocess.Popen(argv, env=environment, **{**quiet, **more})


def say(pid: int, message: str) -> None:
    """Sends as the program with this number would, to the socket that it sees."""
    there = f"/proc/{pid}/root{INSIDE}"

    def is_there() -> bool:
        # Until it runs the program, the init is not for an ordinary user to look into.
        with contextlib.suppress(PermissionError):
            return Path(there).is_socket()
        return False

    eventually(is_there, "the socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(there)
        sender.send(message.encode())


def pid_in(file: Path) -> int:
    eventually(lambda: file.exists() and file.read_text().isdigit(), "the pid file")
    return int(file.read_text())


@pytest.fixture
def sleeper(bundle: BundleFactory) -> rsc.Bundle:
    return bundle(args=["sleep", "1000"])


def test_a_detached_run_waits_for_the_word(
    cli: CommandLine, sleeper: rsc.Bundle, box: str, manager: Manager, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    argv = cli.argv("run", "-d", "-b", sleeper.path, "--pid-file", file, box)
    with spawn(argv, manager) as program:
        pid = pid_in(file)
        say(pid, "STATUS=nearly\n")
        assert manager.hears_nothing()
        assert program.poll() is None
        say(pid, "STATUS=here\nREADY=1\n")
        assert manager.hear() == "READY=1\n"
        assert manager.hear() == f"MAINPID={pid}\n"
        assert manager.hear() == "BARRIER=1"
        assert program.wait(PATIENCE) == 0
    cli("delete", "--force", box)


def test_start_waits_for_the_word(
    cli: CommandLine, sleeper: rsc.Bundle, box: str, manager: Manager, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    with spawn(cli.argv("create", "-b", sleeper.path, "--pid-file", file, box), manager) as program:
        assert program.wait(PATIENCE) == 0
    pid = pid_in(file)
    with spawn(cli.argv("start", box), manager) as program:
        say(pid, "READY=1")
        heard = [manager.hear() for _ in range(3)]
        assert heard == ["READY=1\n", f"MAINPID={pid}\n", "BARRIER=1"]
        assert program.wait(PATIENCE) == 0
    # Once is enough, and the reason is that it runs.
    with spawn(cli.argv("start", box), manager, stderr=subprocess.PIPE) as program:
        assert b"it is running, and must be created" in program.communicate()[1]
    cli("delete", "--force", box)


def test_a_run_in_the_foreground_stays_the_main_process(
    cli: CommandLine, sleeper: rsc.Bundle, box: str, manager: Manager, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    argv = cli.argv("run", "-b", sleeper.path, "--pid-file", file, box)
    with spawn(argv, manager) as program:
        say(pid_in(file), "READY=1")
        heard = [manager.hear() for _ in range(3)]
        assert heard == ["READY=1\n", f"MAINPID={program.pid}\n", "BARRIER=1"]
        cli("kill", box, "KILL")
        assert program.wait(PATIENCE) == 137


SAY = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
    sender.connect(sys.argv[1])
    sender.send(b"READY=1")
"""


@pytest.mark.requires_root("to enter a user namespace as who is root there")
def test_who_is_root_in_a_user_namespace_reaches_the_socket(
    cli: CommandLine, bundle: BundleFactory, box: str, manager: Manager, tmp_path: Path
) -> None:
    made = bundle(user_namespace, args=["sleep", "1000"])
    file = tmp_path / "pid"
    argv = cli.argv("run", "-d", "-b", made.path, "--pid-file", file, box)
    with spawn(argv, manager) as program:
        pid = pid_in(file)
        enter = ["nsenter", "--target", str(pid), "--user", "--setuid", "0", "--setgid", "0"]
        there = f"/proc/{pid}/root{INSIDE}"
        eventually(Path(there).is_socket, "the socket")
        # The system's, for the user may be kept from any other.
        python = shutil.which("python3", path="/usr/bin") or sys.executable
        subprocess.run([*enter, python, "-c", SAY, there], check=True, timeout=PATIENCE)
        heard = [manager.hear() for _ in range(3)]
        assert heard == ["READY=1\n", f"MAINPID={pid}\n", "BARRIER=1"]
        assert program.wait(PATIENCE) == 0
    cli("delete", "--force", box)


@pytest.mark.parametrize("words", [["run"], ["run", "-d"]], ids=" ".join)
def test_a_program_that_ends_without_a_word(
    cli: CommandLine,
    bundle: BundleFactory,
    box: str,
    manager: Manager,
    tmp_path: Path,
    words: list[str],
) -> None:
    place = bundle(args=["sh", "-c", f"echo $NOTIFY_SOCKET; stat -c '%a %F' {INSIDE}"])
    said = tmp_path / "said"
    with said.open("w") as file:
        argv = cli.argv(*words, "-b", place.path, box)
        with spawn(argv, manager, stdout=file) as program:
            assert program.wait(PATIENCE) == 0
    assert said.read_text() == f"{INSIDE}\n777 socket\n"
    assert manager.hears_nothing()
    cli("delete", "--force", box)


def test_what_cannot_be_executed_is_still_named(
    cli: CommandLine, bundle: BundleFactory, box: str, manager: Manager, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such\n")
    script.chmod(0o755)

    def change(spec: rsc.Spec) -> None:
        spec.mounts.append(
            {"destination": "/script", "source": str(script), "options": ["bind"], "type": "bind"}
        )

    # The steps are those of a config with one mount more.
    place = bundle(change, args=["/script"])
    with spawn(cli.argv("create", "-b", place.path, box), manager) as program:
        program.wait(PATIENCE)
    with spawn(cli.argv("start", box), manager, stderr=subprocess.PIPE) as program:
        said = program.communicate()[1].decode()
    assert 'exec "/script"' in said
    assert "ENOENT" in said
    cli("delete", "--force", box)


@pytest.mark.skipif(RUNC is None, reason="runc is not installed here")
@pytest.mark.requires_root("to run runc as it is run")
def test_the_program_sees_what_runcs_sees(
    cli: CommandLine, bundle: BundleFactory, box: str, tmp_path: Path
) -> None:
    def older(spec: rsc.Spec) -> None:
        spec.ociVersion = "1.0.2"

    place = bundle(older, args=["sleep", "1000"])
    theirs = [str(RUNC), "--root", str(tmp_path / "runc")]
    seen = []
    for name, argv in (("ours", cli.argv()), ("runc", theirs)):
        manager = Manager(str(tmp_path / f"manager of {name}"))
        file = tmp_path / f"pid of {name}"
        words = ["run", "-d", "-b", str(place.path), "--pid-file", str(file), box]
        with spawn([*argv, *words], manager) as program:
            pid = pid_in(file)
            environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
            variables = [value for value in environment if value.startswith("NOTIFY_SOCKET=")]
            inside = Path(f"/proc/{pid}/root{INSIDE}")
            modes = [oct(path.stat().st_mode) for path in (inside, inside.parent)]
            mounts = Path(f"/proc/{pid}/mounts").read_text().splitlines()
            (options,) = [line.split()[3] for line in mounts if line.split()[1] == "/run/notify"]
            say(pid, "READY=1")
            # Since version 1.2, runc asks for the barrier too.
            heard = [manager.hear().replace(str(pid), "PID") for _ in range(2)]
            if name == "ours":
                assert manager.hear() == "BARRIER=1"
            assert program.wait(PATIENCE) == 0
        seen.append((variables, modes, sorted(options.split(",")), heard))
        subprocess.run([*argv, "delete", "--force", box], check=True)
        manager.socket.close()
    assert seen[0] == seen[1]
