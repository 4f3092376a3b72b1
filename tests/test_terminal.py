"""Terminals: the walkthrough in front of one, and everything that has to do with its window."""

from __future__ import annotations

import array
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import PATIENCE, eventually, process_status

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, CommandLine


# After the prompt busybox asks the terminal where its cursor is; when the window changes, it clears
# what may follow.
PROMPT = re.compile(rb"/ [#$] (\x1b\[6n|\x1b\[J)*$")
DONE = re.compile(rb"\ndone\r\n/ [#$] ")
EXAMPLE = Path(__file__).parent.parent / "examples" / "busybox.py"
RUN = "import sys, rscontainer as rsc; sys.exit(rsc.run(sys.argv[1], root=sys.argv[2]).returncode)"


def window(rows: int, cols: int) -> bytes:
    return struct.pack("HHHH", rows, cols, 0, 0)


class Desk:
    """A terminal, the program that it controls, and the person in front of it."""

    def __init__(self, argv: list[Any], rows: int = 24, cols: int = 80, **more: Any) -> None:
        # Both ends stay open, for a terminal whose last user leaves forgets its settings.
        self.screen, self.keyboard = pty.openpty()
        self.resize(rows, cols)
        self.settings = termios.tcgetattr(self.keyboard)
        streams = {"stdin": self.keyboard, "stdout": self.keyboard, "stderr": self.keyboard}
        self.program = subprocess.Popen(["setsid", "--ctty", *argv], **{**streams, **more})
        self.seen = b""

    def close(self) -> None:
        if self.program.poll() is None:
            self.program.kill()
            self.program.wait()
        os.close(self.screen)
        os.close(self.keyboard)

    def __enter__(self) -> Desk:  # noqa: PYI034  # nobody derives from it
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, window(rows, cols))

    def type(self, keys: bytes) -> None:
        os.write(self.screen, keys)

    def expect(self, wanted: re.Pattern[bytes] | bytes, patience: float = PATIENCE) -> bytes:
        """Read on until what was shown since the last call has ``wanted`` in it; give it."""
        pattern = re.compile(re.escape(wanted)) if isinstance(wanted, bytes) else wanted
        until = time.monotonic() + patience
        while not pattern.search(self.seen):
            left = until - time.monotonic()
            ready = select.select([self.screen], [], [], max(0.0, left))[0]
            assert ready, f"{pattern.pattern!r} did not appear after {self.seen!r}"
            self.seen += os.read(self.screen, 65536)
        seen, self.seen = self.seen, b""
        return seen

    def say(self, command: bytes) -> list[str]:
        """Type a command at the prompt; the lines that it shows, to the next prompt."""
        # Prompts appear at any time, when the window changes for one; this word is unlike its echo.
        self.type(command + b"; echo d''one\n")
        shown = self.expect(DONE).decode().replace("\r", "").split("\n")
        # Typed before the prompt is there, it is echoed by the terminal and again by the shell.
        echo = max(number for number, line in enumerate(shown) if "d''one" in line)
        return shown[echo + 1 : shown.index("done")]

    def run(self, script: bytes) -> None:
        """Run a script in a shell of its own, until it has said "ready"."""
        self.type(b'/bin/sh -c "' + script.replace(b"ready", b"re''ady") + b'"\n')
        self.expect(b"\nready\r\n")

    def end(self) -> int:
        return self.program.wait(PATIENCE)

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.keyboard) == self.settings

    def is_raw(self) -> bool:
        flags = termios.tcgetattr(self.keyboard)[3]
        return not flags & (termios.ICANON | termios.ECHO | termios.ISIG)


def processes(lines: list[str]) -> list[tuple[str, str]]:
    """PID and command of what ``ps`` shows."""
    header, *rows = (line.split() for line in lines)
    assert header[0] == "PID", lines
    place = header.index("COMMAND")
    return [(row[0], " ".join(row[place:])) for row in rows]


@pytest.fixture
def seed(bundle: BundleFactory) -> rsc.Bundle:
    return bundle(seed=True, terminal=True)


@pytest.fixture(params=["binary", "python", "example"])
def desk(
    request: pytest.FixtureRequest, cli: CommandLine, seed: rsc.Bundle, box: str, root: Path
) -> Iterator[Desk]:
    """The walkthrough's shell, begun in each of the ways there are."""
    argv = {
        # As the walkthrough has it: in the bundle's folder.
        "binary": cli.argv("run", box),
        "python": [sys.executable, "-c", RUN, seed.path, root],
        "example": [sys.executable, EXAMPLE],
    }[request.param]
    with Desk(argv, rows=31, cols=101, cwd=seed.path) as desk:
        desk.expect(PROMPT)
        yield desk


# -- the walkthrough --------------------------------------------------------------------------


@pytest.mark.requires_root("to do without a user namespace")
def test_the_seed_is_run_as_it_stands(seed: rsc.Bundle) -> None:
    """What the fixture writes differs from the seed's file in the place of the rootfs alone."""
    config = rsc.Spec.load(Path(__file__).parent / "bundles" / "busybox" / "config.json")
    config.root.path = seed.spec.root.path
    assert seed.spec == config


@pytest.mark.requires_root("to do without a user namespace")
def test_walkthrough_from_the_bundles_folder(
    cli: CommandLine, tmp_path: Path, busybox: rsc.Bundle, box: str
) -> None:
    """The file, byte for byte, with the rootfs beside it."""
    place = tmp_path / "my_container"
    place.mkdir()
    shutil.copy(Path(__file__).parent / "bundles" / "busybox" / "config.json", place)
    shutil.copytree(busybox.rootfs, place / "rootfs", symlinks=True)
    with Desk(cli.argv("run", box), cwd=place) as desk:
        desk.expect(PROMPT)
        # By its path it is executed; by its name alone the shell of some builds runs it itself.
        assert processes(desk.say(b"/bin/ps aux")) == [("1", "sh"), ("2", "/bin/ps aux")]
        desk.type(b"exit 3\n")
        assert desk.end() == 3


def test_ps_shows_the_shell_and_itself(desk: Desk) -> None:
    shown = processes(desk.say(b"ps aux"))
    assert [pid for pid, _ in shown] == ["1", "2"]
    assert shown[0][1] == "sh"
    # As Debian builds busybox, its shell runs its own applets without an exec.
    assert shown[1][1] in ("ps aux", "{ps} sh")
    desk.type(b"exit 3\n")
    assert desk.end() == 3
    assert desk.is_as_before()


def test_the_example_lets_ps_show_ps_aux(desk: Desk) -> None:
    assert processes(desk.say(b"/bin/ps aux"))[1:] == [("2", "/bin/ps aux")]
    desk.type(b"exit\n")
    assert desk.end() == 0


def test_window_size_is_passed_on_and_its_changes_too(desk: Desk) -> None:
    # The shell may be quicker than the size.
    eventually(lambda: desk.say(b"stty size") == ["31 101"], "the size at the start")
    desk.run(b"trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done")
    desk.resize(40, 120)
    desk.expect(b"40 120\r\n")
    assert desk.say(b"stty size") == ["40 120"]
    desk.type(b"exit\n")
    assert desk.end() == 0


def test_control_c_reaches_the_container_only(desk: Desk) -> None:
    assert desk.is_raw()
    desk.run(b"trap 'echo trapped; exit' INT; echo ready; while :; do sleep 0.1; done")
    desk.type(b"\x03")
    desk.expect(b"trapped\r\n")
    assert desk.say(b"echo on") == ["on"]
    assert desk.program.poll() is None
    desk.type(b"exit 4\n")
    assert desk.end() == 4
    assert desk.is_as_before()


def test_control_d_ends_the_shell(desk: Desk) -> None:
    desk.type(b"\x04")
    assert desk.end() == 0
    assert desk.is_as_before()


def test_control_z_stops_in_the_container_and_not_here(desk: Desk) -> None:
    desk.run(b"echo ready; exec sleep 1000")
    desk.type(b"\x1a")
    desk.expect(b"Stopped")
    assert desk.program.poll() is None
    assert desk.say(b"kill %1; echo on")[-1] == "on"
    desk.type(b"exit 5\n")
    # It would remind of stopped jobs once.
    desk.type(b"exit 5\n")
    assert desk.end() == 5


def test_much_output_arrives_whole(desk: Desk) -> None:
    lines = desk.say(b"seq 20000")
    assert lines == [str(number) for number in range(1, 20001)]
    desk.type(b"exit\n")
    assert desk.end() == 0


def test_long_input_arrives_whole(desk: Desk) -> None:
    """More than a terminal's line takes, so that it has to be fed as it is read."""
    desk.say(b"stty -echo")
    desk.type(b"wc -l\n")
    text = b"".join(b"%078d\n" % number for number in range(3000))
    feeder = threading.Thread(target=lambda: write_all(desk.screen, text + b"\x04"))
    feeder.start()
    desk.expect(re.compile(rb"\b3000\b"))
    feeder.join()
    desk.type(b"exit 0\n")
    assert desk.end() == 0


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def test_settings_changed_inside_do_not_stay(desk: Desk) -> None:
    desk.say(b"stty -echo -icanon")
    desk.type(b"exit\n")
    assert desk.end() == 0
    assert desk.is_as_before()


def test_console_is_the_terminal(desk: Desk) -> None:
    assert desk.say(b"tty") == ["/dev/pts/0"]
    console = desk.say(b"ls -ln /dev/console /dev/pts/0")
    numbers = [re.findall(r"136, +0", line) for line in console]
    assert numbers == [["136,   0"], ["136,   0"]]
    assert "seen" in desk.say(b"echo seen >/dev/console")
    assert "seen" in desk.say(b"echo seen >/dev/tty")
    desk.type(b"exit\n")
    assert desk.end() == 0


# -- settings are restored --------------------------------------------------------------------


def joined(seed: rsc.Bundle, root: Path, box: str, before: str = "", after: str = "") -> list[Any]:
    """A program that runs the seed's shell and says how that ended."""
    program = f"""
import os, signal, sys
import rscontainer as rsc
{before}
c = rsc.Container.run(sys.argv[2], sys.argv[1], root=sys.argv[3])
try:
    print("returned", c.init.interact())
except BaseException as error:
    print("raised", type(error).__name__)
finally:
    {after or "c.delete(force=True)"}
"""
    return [sys.executable, "-c", program, seed.path, box, root]


def test_settings_after_an_exception(seed: rsc.Bundle, root: Path, box: str) -> None:
    before = """
class Alarm(Exception): pass
def ring(*_): raise Alarm
signal.signal(signal.SIGUSR1, ring)"""
    with Desk(joined(seed, root, box, before)) as desk:
        desk.expect(PROMPT)
        eventually(desk.is_raw, "raw mode")
        desk.program.send_signal(signal.SIGUSR1)
        desk.expect(b"raised Alarm")
        assert desk.end() == 0
        assert desk.is_as_before()


def test_settings_after_keyboard_interrupt(seed: rsc.Bundle, root: Path, box: str) -> None:
    with Desk(joined(seed, root, box)) as desk:
        desk.expect(PROMPT)
        eventually(desk.is_raw, "raw mode")
        desk.program.send_signal(signal.SIGINT)
        desk.expect(b"raised KeyboardInterrupt")
        assert desk.end() == 0
        assert desk.is_as_before()


def test_settings_after_the_container_is_killed(
    seed: rsc.Bundle, root: Path, box: str, cli: CommandLine
) -> None:
    with Desk(joined(seed, root, box)) as desk:
        desk.expect(PROMPT)
        cli("kill", box, "KILL")
        desk.expect(b"returned -9")
        assert desk.end() == 0
        assert desk.is_as_before()


def test_a_terminal_outlives_the_launcher(
    seed: rsc.Bundle, root: Path, box: str, cli: CommandLine
) -> None:
    with Desk(joined(seed, root, box)) as desk:
        desk.expect(PROMPT)
        init = rsc.Container.load(box, root=root).pid
        launcher = parent(init)
        os.kill(launcher, signal.SIGKILL)
        # Not process 1 where a session's manager takes orphans in.
        eventually(lambda: parent(init) != launcher, "another parent")
        assert desk.say(b"echo still here") == ["still here"]
        desk.type(b"exit 6\n")
        # From Linux 6.15 on the kernel tells how it ended, else nobody does.
        desk.expect(re.compile(rb"returned 6\r\n|raised ContainerError\r\n"))
        assert desk.end() == 0
        assert desk.is_as_before()
    cli("delete", "--force", box)


def parent(pid: int) -> int:
    return int(process_status(pid, "PPid"))


def test_settings_after_the_binary_is_told_to_end(
    cli: CommandLine, bundle: BundleFactory, box: str
) -> None:
    place = bundle(
        terminal=True, args=["sh", "-c", "trap 'exit 7' TERM; sleep 99 & echo ready; wait"]
    )
    with Desk(cli.argv("run", "-b", place.path, box)) as desk:
        desk.expect(b"ready")
        eventually(desk.is_raw, "raw mode")
        desk.program.send_signal(signal.SIGTERM)
        assert desk.end() == 7
        assert desk.is_as_before()


def test_a_script_that_reads_a_terminals_output_gets_lines(
    cli: CommandLine, bundle: BundleFactory, box: str
) -> None:
    """A screen wants a carriage return before each end, and a pipe does not."""
    script = "echo one; echo two; test -t 1; echo $?"
    said = cli("run", "-b", bundle(args=["sh", "-c", script], terminal=True).path, box).stdout
    assert said == "one\ntwo\n0\n"
    quiet = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    cli("run", "-d", "-b", bundle(args=["sleep", "1000"]).path, box, **quiet)
    assert cli("exec", "--tty", box, "sh", "-c", script).stdout == said
    cli("delete", "--force", box)


def test_failure_leaves_the_settings(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    place = bundle(terminal=True, args=["/no/such/program"])
    with Desk(cli.argv("run", "-b", place.path, box)) as desk:
        assert b"/no/such/program" in desk.expect(re.compile(rb"ENOENT[^\n]*\n"))
        assert desk.end() == 1
        assert desk.is_as_before()


# -- terminals in Python ----------------------------------------------------------------------


def read_until(terminal: rsc.Terminal, wanted: bytes) -> bytes:
    seen = b""
    until = time.monotonic() + PATIENCE
    while wanted not in seen:
        left = max(0.0, until - time.monotonic())
        assert select.select([terminal], [], [], left)[0], f"{wanted!r} did not come after {seen!r}"
        more = terminal.read(65536)
        assert more, f"the end came, and not {wanted!r}, after {seen!r}"
        seen += more
    return seen


def test_terminal_is_a_binary_file(bundle: BundleFactory, root: Path, box: str) -> None:
    place = bundle(args=["sh", "-c", "stty -echo; echo ready; read a; stty size; echo got $a"])
    with rsc.Container.run(box, place, terminal=True, root=root) as c:
        terminal = c.init.terminal
        assert terminal is not None
        assert terminal.readable()
        assert terminal.writable()
        assert os.isatty(terminal.fileno())
        read_until(terminal, b"ready\r\n")
        terminal.resize(11, 22)
        assert terminal.write(b"word\n") == 5
        assert terminal.readall() == b"11 22\r\ngot word\r\n"
        assert terminal.read() == b""
        assert terminal.read(10) == b""
        assert terminal.readinto(bytearray(10)) == 0
        assert c.wait() == 0


def test_process_resize(bundle: BundleFactory, root: Path, box: str) -> None:
    place = bundle(
        args=["sh", "-c", "trap 'stty size; exit 0' WINCH; echo ready; sleep 1000 & wait"]
    )
    with rsc.Container.run(box, place, terminal=True, root=root) as c:
        read_until(c.init.terminal, b"ready\r\n")
        c.init.resize(33, 44)
        assert c.init.terminal.readall() == b"33 44\r\n"
        assert c.wait() == 0


def test_no_terminal_no_resize(bundle: BundleFactory, root: Path, box: str) -> None:
    with rsc.Container.run(box, bundle(args=["true"]), stdin=rsc.DEVNULL, root=root) as c:
        assert c.init.terminal is None
        for verb in (lambda: c.init.resize(1, 1), c.init.interact):
            with pytest.raises(rsc.ContainerError, match="has no terminal; ask for one with"):
                verb()
        assert c.wait() == 0


def test_exec_with_a_terminal(bundle: BundleFactory, root: Path, box: str) -> None:
    with rsc.Container.run(box, bundle(args=["sleep", "1000"]), stdin=rsc.DEVNULL, root=root) as c:
        script = "tty; ps -o pid,tty,args | grep [s]h; stty size; read x; echo got $x"
        with c.exec(["sh", "-c", script], terminal=True) as p:
            p.resize(12, 34)
            p.terminal.write(b"it\n")
            seen = p.terminal.readall().decode().replace("\r", "")
            assert p.wait() == 0
        assert seen.startswith(("/dev/pts/0\n", "it\n/dev/pts/0\n"))
        assert seen.endswith("got it\n")


def test_two_execs_have_terminals_of_their_own(bundle: BundleFactory, root: Path, box: str) -> None:
    with rsc.Container.run(box, bundle(args=["sleep", "1000"]), stdin=rsc.DEVNULL, root=root) as c:
        ps = [c.exec(["sh", "-c", "tty; read x"], terminal=True) for _ in range(2)]
        assert read_until(ps[0].terminal, b"\r\n") == b"/dev/pts/0\r\n"
        assert read_until(ps[1].terminal, b"\r\n") == b"/dev/pts/1\r\n"
        for p in ps:
            p.terminal.write(b"\x04")
            p.wait()
            p.close()


def test_console_size_of_the_config(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.consoleSize = {"height": 17, "width": 71}

    place = bundle(change, args=["stty", "size"], terminal=True)
    with rsc.Container.run(box, place, root=root) as c:
        assert c.init.terminal.readall() == b"17 71\r\n"
        assert c.wait() == 0


def test_console_size_counts_where_no_window_is(
    cli: CommandLine, bundle: BundleFactory, box: str
) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.consoleSize = {"height": 17, "width": 71}

    place = bundle(change, args=["stty", "size"], terminal=True)
    assert cli("run", "--bundle", place.path, box).stdout == "17 71\n"


@pytest.mark.parametrize("exec", [False, True], ids=["init", "exec"])
def test_a_user_owns_its_terminal(bundle: BundleFactory, root: Path, box: str, exec: bool) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.user.uid = 0 if exec else 1234
        spec.process.user.gid = 0 if exec else 1234

    program = ["sh", "-c", "stat -c '%u %a' $(tty); echo opened >$(tty); read x </dev/tty"]
    place = bundle(change, args=["sleep", "1000"] if exec else program, several_ids=True)
    with rsc.Container.run(box, place, terminal=not exec, root=root) as c:
        p = c.exec(program, user=1234, terminal=True) if exec else c.init
        p.terminal.write(b"\n")
        seen = p.terminal.readall().replace(b"\r", b"").split()
        assert p.wait() == 0
        assert seen == [b"1234", b"620", b"opened"]
        p.close()


def test_the_console_belongs_to_the_user(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.user.uid = 1234

    place = bundle(change, args=["sh", "-c", "echo seen >/dev/console"])
    with rsc.Container.run(box, place, terminal=True, root=root) as c:
        assert c.init.terminal.readall() == b"seen\r\n"
        assert c.wait() == 0


def test_interact_with_a_timeout(bundle: BundleFactory, root: Path, box: str) -> None:
    place = bundle(args=["sleep", "1000"])
    with (
        open(os.devnull, "r+b") as null,
        rsc.Container.run(box, place, terminal=True, root=root) as c,
    ):
        with pytest.raises(rsc.TimeoutExpired):
            c.init.interact(stdin=null, stdout=null, timeout=0.1)
        assert c.init.poll() is None


def test_interact_joins_pipes(bundle: BundleFactory, root: Path, box: str) -> None:
    """What is no terminal is joined as it is, and its end is the end of the container's input."""
    place = bundle(args=["sh", "-c", "stty -echo; read a; read b || echo got $a"])
    reader, writer = os.pipe()
    shown, out = os.pipe()
    with rsc.Container.run(box, place, terminal=True, root=root) as c:
        os.write(writer, b"word\n")
        os.close(writer)
        with open(out, "wb") as stdout:
            assert c.init.interact(stdin=reader, stdout=stdout) == 0
        os.close(reader)
        with open(shown, "rb") as file:
            assert file.read().endswith(b"got word\r\n")


def test_run_with_a_terminal_and_a_timeout(bundle: BundleFactory, root: Path, box: str) -> None:
    program = f"""
import sys, rscontainer as rsc
try:
    rsc.run({os.fspath(bundle(args=["sleep", "1000"]))!r}, terminal=True, timeout=0.5,
            id={box!r}, root={os.fspath(root)!r})
except rsc.TimeoutExpired as error:
    print("expired after", error.timeout)
"""
    with Desk([sys.executable, "-c", program]) as desk:
        desk.expect(b"expired after 0.5")
        assert desk.end() == 0
        assert desk.is_as_before()


# -- terminals without one here ---------------------------------------------------------------


def test_terminal_with_input_from_a_pipe(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    place = bundle(terminal=True, args=["sh", "-c", "stty -echo; cat; tty"])
    done = cli("run", "-b", place.path, box, input="one\ntwo\n")
    # Until stty has run, the terminal shows what is typed.
    assert done.stdout.endswith("one\ntwo\n/dev/pts/0\n")


def test_terminal_with_empty_input(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    place = bundle(terminal=True, args=["sh", "-c", "cat; tty"])
    assert cli("run", "-b", place.path, box).stdout == "/dev/pts/0\n"


def test_seed_with_commands_from_a_pipe(cli: CommandLine, seed: rsc.Bundle, box: str) -> None:
    done = cli("run", box, cwd=seed.path, input="echo $((40 + 2))\nexit 3\n", check=False)
    assert "\n42\n" in done.stdout
    assert done.returncode == 3


def test_terminal_with_output_that_nobody_reads(
    cli: CommandLine, bundle: BundleFactory, box: str
) -> None:
    place = bundle(terminal=True, args=["sh", "-c", "while echo more; do :; done"])
    program = subprocess.Popen(
        cli.argv("run", "-b", place.path, box),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout.read(5) == b"more\n"
    program.stdout.close()
    # As with any program in a pipe whose reader has left, it is over.
    assert program.wait(PATIENCE) != 0
    program.stderr.close()


# -- the console socket -----------------------------------------------------------------------


class Console:
    """The socket on which an engine waits for a terminal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._socket.settimeout(PATIENCE)

    def __enter__(self) -> Console:  # noqa: PYI034  # nobody derives from it
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def receive(self) -> tuple[bytes, rsc.Terminal]:
        peer, _ = self._socket.accept()
        with peer:
            numbers = array.array("i")
            name, control, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(numbers.itemsize * 4))
        for level, kind, data in control:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            numbers.frombytes(data)
        assert len(numbers) == 1
        return name, rsc.Terminal(numbers[0])


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    with Console(tmp_path / "console.sock") as console:
        yield console


def test_create_sends_its_terminal(
    cli: CommandLine, bundle: BundleFactory, box: str, console: Console
) -> None:
    place = bundle(terminal=True, args=["sh", "-c", "read a; tty; echo got $a"])
    cli("create", "--bundle", place.path, "--console-socket", console.path, box)
    _, terminal = console.receive()
    with terminal:
        assert os.isatty(terminal.fileno())
        terminal.resize(10, 20)
        cli("start", box)
        terminal.write(b"word\n")
        assert terminal.readall() == b"word\r\n/dev/pts/0\r\ngot word\r\n"
    eventually(lambda: "stopped" in cli("state", box).stdout, "the end")
    cli("delete", box)


def test_detached_run_sends_its_terminal(
    cli: CommandLine, bundle: BundleFactory, box: str, console: Console
) -> None:
    place = bundle(terminal=True, args=["sh", "-c", "read a; echo got $a"])
    cli("run", "-d", "--bundle", place.path, "--console-socket", console.path, box)
    _, terminal = console.receive()
    with terminal:
        terminal.write(b"word\n")
        assert terminal.readall() == b"word\r\ngot word\r\n"
    cli("delete", "--force", box)


def test_exec_sends_its_terminal(
    cli: CommandLine, bundle: BundleFactory, box: str, console: Console
) -> None:
    cli("run", "-d", "-b", bundle(args=["sleep", "1000"]).path, box, capture_output=False)
    cli("exec", "-d", "-t", "--console-socket", console.path, box, "tty", capture_output=False)
    _, terminal = console.receive()
    with terminal:
        assert terminal.readall() == b"/dev/pts/0\r\n"
    cli("delete", "--force", box)


@pytest.mark.parametrize("command", [["create"], ["run", "--detach"]], ids=["create", "run"])
def test_a_terminal_that_nobody_holds(
    cli: CommandLine, bundle: BundleFactory, box: str, command: list[str]
) -> None:
    place = bundle(terminal=True)
    done = cli(*command, "-b", place.path, box, check=False)
    assert done.returncode != 0
    assert "--console-socket" in done.stderr
    assert "$.process.terminal" in done.stderr
    assert not cli.root.exists()


def test_a_console_socket_without_a_terminal(
    cli: CommandLine, bundle: BundleFactory, box: str, console: Console
) -> None:
    place = bundle(args=["true"])
    done = cli("create", "-b", place.path, "--console-socket", console.path, box, check=False)
    assert done.returncode == 1
    assert "set $.process.terminal, or leave --console-socket out" in done.stderr


def test_a_console_socket_that_is_not_there(
    cli: CommandLine, bundle: BundleFactory, box: str, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.sock"
    place = bundle(terminal=True)
    done = cli("create", "-b", place.path, "--console-socket", missing, box, check=False)
    assert done.returncode == 1
    assert str(missing) in done.stderr
    assert "ENOENT" in done.stderr
    assert not cli.root.exists()
