"""The launcher: one a Python process, and what becomes of containers when either dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import PATIENCE, SLOWNESS, eventually, process_status

import rscontainer as rsc

if TYPE_CHECKING:
    from conftest import BundleFactory, CommandLine


# From here on the kernel tells a process's exit status to whoever has its pidfd.
TOLD_BY_KERNEL = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 15)
ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

needs_exit_info = pytest.mark.skipif(
    not TOLD_BY_KERNEL,
    reason=f"exit status by pidfd needs Linux 6.15 (PIDFD_INFO_EXIT), this is {os.uname().release}",
)


def parent(pid: int) -> int | None:
    found = process_status(pid, "PPid")
    return None if found is None else int(found)


def is_gone(pid: int) -> bool:
    # One look: it may go between two.
    state = process_status(pid, "State")
    return state is None or state.startswith("Z")


def workers(launcher: int) -> list[int]:
    pids = map(int, filter(str.isdecimal, os.listdir("/proc")))
    return [
        p for p in pids if process_status(p, "Name") == "rsc:[worker]" and parent(p) == launcher
    ]


def kill_launcher(launcher: int) -> None:
    """SIGKILL, and wait until nothing of it takes requests any more."""
    idle = workers(launcher)
    os.kill(launcher, signal.SIGKILL)
    eventually(lambda: all(map(is_gone, [launcher, *idle])), "the launcher's end")


class Program:
    """A Python program with containers, which is told line by line to go on."""

    def __init__(
        self, text: str, *args: object, python: list[str] | None = None, **more: Any
    ) -> None:
        before = """
            import os, signal, sys, threading, time
            import rscontainer as rsc
            def say(*words): print(*words, flush=True)
            def hear(): return sys.stdin.readline()
        """
        text = textwrap.dedent(before) + textwrap.dedent(text)
        self.process = subprocess.Popen(
            [*(python or [sys.executable]), "-c", text, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **more,
        )
        self.pid = self.process.pid

    def hear(self) -> str:
        return self.process.stdout.readline().rstrip("\n")

    def go_on(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> int:
        self.process.stdin.close()
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return code

    def __enter__(self) -> Program:  # noqa: PYI034  # nobody derives from it
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()


@pytest.fixture
def sleeper(bundle: BundleFactory) -> rsc.Bundle:
    return bundle(args=["sleep", "1000"])


def create(
    id: str, bundle: rsc.Bundle, root: Path, start: bool = True, **more: Any
) -> rsc.Container:
    make = rsc.Container.run if start else rsc.Container.create
    more = {"stdin": rsc.DEVNULL, "stdout": rsc.DEVNULL, "stderr": rsc.DEVNULL, **more}
    return make(id, bundle, root=root, **more)


# -- one launcher -----------------------------------------------------------------------------


def test_one_launcher_for_all_threads(
    sleeper: rsc.Bundle, root: Path, unique_id: Callable[[], str]
) -> None:
    text = """
        from concurrent.futures import ThreadPoolExecutor
        def make(id):
            return rsc.Container.run(id, sys.argv[1], root=sys.argv[2], stdin=rsc.DEVNULL)
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(make, sys.argv[3:]))
        say(*(c.pid for c in made))
        hear()
        for c in made: c.delete(force=True)
    """
    with Program(text, sleeper.path, root, *(unique_id() for _ in range(8))) as program:
        pids = list(map(int, program.hear().split()))
        launchers = set(map(parent, pids))
        assert len(launchers) == 1
        launcher = launchers.pop()
        assert process_status(launcher, "Name") == "rsc:[launcher]"
        # Nobody's child, lest a program that waits for its children meets it.
        assert parent(launcher) != program.pid
        program.go_on()
        assert program.end() == 0
    eventually(lambda: is_gone(launcher), "the launcher's end after its caller's")


def test_two_programs_have_two_launchers(
    sleeper: rsc.Bundle, root: Path, unique_id: Callable[[], str]
) -> None:
    text = """
        c = rsc.Container.run(sys.argv[3], sys.argv[1], root=sys.argv[2], stdin=rsc.DEVNULL)
        say(c.pid)
        hear()
        c.delete(force=True)
    """
    programs = [Program(text, sleeper.path, root, unique_id()) for _ in range(2)]
    with programs[0] as one, programs[1] as other:
        assert parent(int(one.hear())) != parent(int(other.hear()))


@pytest.mark.requires_root("to look into a process that hides")
def test_launcher_holds_on_to_nothing(sleeper: rsc.Bundle, root: Path, tmp_path: Path) -> None:
    text = """
        os.chdir(sys.argv[1])
        os.umask(0o027)
        reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        held = os.open(".", os.O_RDONLY); os.set_inheritable(held, True)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        rsc.start_launcher()
        os.close(writer)
        say(len(os.read(reader, 1)))
        c = rsc.Container.run("held", sys.argv[2], root=sys.argv[3], stdin=rsc.DEVNULL)
        say(c.pid)
        hear()
        c.delete(force=True)
    """
    with Program(text, tmp_path, sleeper.path, root) as program:
        # The launcher has no copy of the writing end, or this would wait for ever.
        assert program.hear() == "0"
        init = int(program.hear())
        launcher = parent(init)
        assert os.readlink(f"/proc/{launcher}/cwd") == "/"
        files = {}
        for number in os.listdir(f"/proc/{launcher}/fd"):
            # It may be closing what it has just handed to its next worker.
            with contextlib.suppress(FileNotFoundError):
                files[int(number)] = os.readlink(f"/proc/{launcher}/fd/{number}")
        assert str(tmp_path) not in files.values()
        assert files[0] == files[1] == "/dev/null"
        assert int(process_status(launcher, "SigBlk"), 16) == 0
        assert int(process_status(launcher, "SigIgn"), 16) & 1 << (signal.SIGUSR1 - 1) == 0
        # Its own session, so that no key typed at a terminal ends it.
        assert os.getsid(launcher) != os.getsid(program.pid)
        for key in ("SigBlk", "SigIgn", "SigCgt"):
            assert int(process_status(init, key), 16) == 0, key


@pytest.mark.requires_root("to look into a process that hides")
def test_launcher_runs_from_sealed_memory_and_hides_its_own(
    sleeper: rsc.Bundle, root: Path, box: str
) -> None:
    text = """
        rsc.start_launcher()
        c = rsc.Container.run(sys.argv[3], sys.argv[1], root=sys.argv[2], stdin=rsc.DEVNULL)
        say(c.pid)
        launcher = hear()
        try:
            say(os.readlink(f"/proc/{launcher.strip()}/exe"))
        except PermissionError:
            say("hidden")
        c.delete(force=True)
    """
    # With this capability nothing is hidden from root.
    without = ["setpriv", "--bounding-set=-sys_ptrace", sys.executable]
    with Program(text, sleeper.path, root, box, python=without) as program:
        launcher = parent(int(program.hear()))
        executable = f"/proc/{launcher}/exe"
        assert os.readlink(executable) == "/memfd:rscontainer (deleted)"
        with open(executable, "rb") as file:
            seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
        assert seals & ALL_SEALS == ALL_SEALS
        program.process.stdin.write(f"{launcher}\n")
        program.process.stdin.flush()
        assert program.hear() == "hidden"
        assert program.end() == 0


def test_closed_standard_streams(sleeper: rsc.Bundle, root: Path, box: str) -> None:
    """Descriptors 0 to 2 are then the first that are given to whatever is opened."""
    for closed in ([0], [0, 1], [0, 1, 2], [1], [2]):
        text = f"""
import os, sys
for number in {closed}: os.close(number)
import rscontainer as rsc
r = rsc.run(sys.argv[1], ["sh", "-c", "echo out; echo err >&2; exit 5"], root=sys.argv[2],
            id=sys.argv[3], capture_output=True, stdin=rsc.DEVNULL)
os._exit(0 if (r.returncode, r.stdout, r.stderr) == (5, b"out\\n", b"err\\n") else 1)
"""
        argv = [sys.executable, "-c", text, sleeper.path, root, box]
        assert subprocess.run(argv, check=False, timeout=60).returncode == 0, closed


# -- what belongs to the request and not to the launcher --------------------------------------


def test_umask_of_the_caller_changes_nothing_inside(bundle: BundleFactory, root: Path) -> None:
    """It is the config's, else 022 as runc has it; and what is made on the way has exact modes."""

    def change(spec: rsc.Spec) -> None:
        spec.mounts.append({"destination": "/made", "type": "tmpfs", "source": "tmpfs"})

    script = "umask; stat -c %a /made /dev/null /dev/shm"
    for mask in (0o077, 0o000):
        place = bundle(change, args=["sh", "-c", script], own_rootfs=True)
        before = os.umask(mask)
        try:
            r = rsc.run(place, root=root, capture_output=True, text=True)
        finally:
            os.umask(before)
        assert r.stdout.split() == ["0022", "1777", "666", "1777"]


def test_limits_of_the_caller_count(bundle: BundleFactory, root: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.rlimits = None

    place = bundle(change, args=["sh", "-c", "ulimit -Sn; ulimit -Sc"])
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    core = resource.getrlimit(resource.RLIMIT_CORE)
    for soft, blocks in ((500, 0), (600, 4096)):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, files[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (min(blocks * 512, 1 << 40), core[1]))
        try:
            r = rsc.run(place, root=root, capture_output=True, text=True)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
            resource.setrlimit(resource.RLIMIT_CORE, core)
        assert r.stdout.split() == [str(soft), str(blocks)]


def test_a_relative_bundle_is_the_callers(
    bundle: BundleFactory, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bundle(args=["echo", "found"]).path
    monkeypatch.chdir(place.parent)
    r = rsc.run(place.name, root=root, capture_output=True, text=True)
    assert r.stdout == "found\n"
    monkeypatch.chdir(place)
    r = rsc.run(root=os.path.relpath(root), capture_output=True, text=True)
    assert r.stdout == "found\n"


def test_containers_inherit_no_descriptor(bundle: BundleFactory, root: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    r = rsc.run(bundle(args=["ls", "/proc/self/fd"]), root=root, capture_output=True, text=True)
    os.close(reader)
    os.close(writer)
    # The last is the folder that ls reads.
    assert r.stdout.split() == ["0", "1", "2", "3"]


@pytest.mark.requires_root("to look into a process that hides")
def test_a_created_container_holds_nothing_of_the_launchers(
    sleeper: rsc.Bundle, root: Path, box: str, unique_id: Callable[[], str]
) -> None:
    first = create(box, sleeper, root, start=False)
    second = create(unique_id(), sleeper, root, start=False)
    for c in (first, second):
        links = [os.readlink(f"/proc/{c.pid}/fd/{n}") for n in os.listdir(f"/proc/{c.pid}/fd")]
        assert links.count("/dev/null") == 3
        others = sorted(re.sub(r"\d+", "", link) for link in links if link != "/dev/null")
        # To its parent, and the one on which it waits for start.
        assert others == ["socket:[]", "socket:[]"]
        c.delete(force=True)


# -- the launcher dies ------------------------------------------------------------------------


def test_killed_launcher_is_replaced(sleeper: rsc.Bundle, root: Path, box: str) -> None:
    c = create(box, sleeper, root)
    first = parent(c.pid)
    kill_launcher(first)
    r = rsc.run(sleeper, ["echo", "hi"], root=root, capture_output=True, text=True)
    assert r.stdout == "hi\n"
    assert c.status == "running"
    p = c.exec(["sh", "-c", "exit 3"])
    assert p.wait(PATIENCE) == 3
    c.pause()
    assert c.status == "paused"
    c.resume()
    c.kill("KILL")
    eventually(lambda: c.status == "stopped", "the end")
    c.delete()
    with pytest.raises(rsc.NotFoundError):
        c.state()


def test_created_containers_do_not_keep_a_dead_launcher_in_use(
    sleeper: rsc.Bundle, root: Path, box: str
) -> None:
    """A container that waits for its start was cloned with all that its launcher had open."""
    c = create(box, sleeper, root, start=False)
    kill_launcher(parent(c.pid))
    r = rsc.run(sleeper, ["echo", "hi"], root=root, capture_output=True, timeout=PATIENCE)
    assert r.stdout == b"hi\n"
    assert c.status == "created"
    c.start()
    assert c.status == "running"
    c.delete(force=True)


@needs_exit_info
@pytest.mark.parametrize("code", [0, 7, -9])
def test_containers_outlive_the_launcher_and_say_how_they_end(
    bundle: BundleFactory, root: Path, box: str, code: int
) -> None:
    program = ["sh", "-c", f"read x; exit {code}"]
    with create(box, bundle(args=program), root, stdin=rsc.PIPE) as c:
        kill_launcher(parent(c.pid))
        assert c.init.poll() is None
        with pytest.raises(rsc.TimeoutExpired):
            c.wait(0.05)
        if code < 0:
            c.kill(-code)
        c.init.stdin.close()
        assert c.wait(PATIENCE) == code
        assert c.init.returncode == code
        c.delete()


@needs_exit_info
def test_found_containers_say_how_they_end(sleeper: rsc.Bundle, root: Path, box: str) -> None:
    create(box, sleeper, root)
    found = rsc.Container.load(box, root=root)
    assert found.init.poll() is None
    found.kill("KILL")
    assert found.wait(PATIENCE) == -9
    found.delete()


def test_calls_in_flight_when_the_launcher_is_killed(
    sleeper: rsc.Bundle, root: Path, unique_id: Callable[[], str], cli: CommandLine
) -> None:
    """Each call ends, with what was asked for or with an error that says what happened."""
    keeper = create(unique_id(), sleeper, root)
    stop = threading.Event()
    outcomes: list[object] = []

    def work() -> None:
        while not stop.is_set():
            try:
                r = rsc.run(sleeper, ["echo", "hi"], root=root, id=unique_id(), capture_output=True)
                outcomes.append((r.returncode, r.stdout))
            except rsc.ContainerError as error:  # noqa: PERF203
                outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        seen = len(outcomes)
        eventually(lambda seen=seen: len(outcomes) > seen + 8, "some runs")
        probe = keeper.exec(["sleep", "1000"])
        with contextlib.suppress(ProcessLookupError):
            os.kill(parent(probe.pid), signal.SIGKILL)
        probe.kill()
        probe.close()
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert [o for o in outcomes if o not in failed and o != (0, b"hi\n")] == []
    for error in failed:
        assert re.search("launcher (died|is gone)|was killed", str(error)), error
    assert keeper.status == "running"
    for id in cli("list", "-q").stdout.split():  # noqa: A001
        cli("delete", "--force", id)
    # What was interrupted before it was on record is found and taken away by its id.
    for path in root.iterdir():
        cli("delete", "--force", path.name)


def test_a_new_object_manages_what_an_old_launcher_made(
    sleeper: rsc.Bundle, root: Path, box: str
) -> None:
    text = """
        c = rsc.Container.run(sys.argv[3], sys.argv[1], root=sys.argv[2], detach=True,
            stdin=rsc.DEVNULL, stdout=rsc.DEVNULL, stderr=rsc.DEVNULL)
        say(c.pid)
    """
    with Program(text, sleeper.path, root, box) as program:
        pid = int(program.hear())
        assert program.end() == 0
    (found,) = rsc.Container.list(root=root)
    assert (found.id, found.status, found.pid) == (box, "running", pid)
    p = found.exec(["sh", "-c", "exit 4"], stdin=rsc.DEVNULL)
    assert p.wait(PATIENCE) == 4
    found.kill("KILL")
    eventually(lambda: found.status == "stopped", "the end")
    found.delete()


# -- Python dies ------------------------------------------------------------------------------

BOTH = """
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), rsc.DEVNULL)
    attached = rsc.Container.run(sys.argv[3], sys.argv[1], root=sys.argv[2], **streams)
    detached = rsc.Container.run(sys.argv[4], sys.argv[1], root=sys.argv[2], detach=True, **streams)
    waiting = rsc.Container.create(sys.argv[5], sys.argv[1], root=sys.argv[2], **streams)
    helper = detached.exec(["sleep", "2000"], **streams)
    left = detached.exec(["sleep", "3000"], detach=True, **streams)
    say(attached.pid, detached.pid, waiting.pid, helper.pid, left.pid)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "exit", "os._exit", "exception"])
def test_attached_containers_end_with_python(
    sleeper: rsc.Bundle, root: Path, unique_id: Callable[[], str], how: str
) -> None:
    ids = [unique_id() for _ in range(3)]
    last = {"exit": "sys.exit(0)", "os._exit": "os._exit(0)", "exception": "raise SystemExit(1)"}
    text = BOTH + "    hear()\n    " + last.get(how, "")
    with Program(text, sleeper.path, root, *ids) as program:
        attached, detached, waiting, helper, left = map(int, program.hear().split())
        launcher = parent(attached)
        if how.startswith("SIG"):
            program.process.send_signal(getattr(signal, how))
        else:
            program.go_on()
        program.process.wait(PATIENCE)
    eventually(lambda: is_gone(launcher), "the launcher's end")
    for pid in (attached, waiting, helper):
        assert is_gone(pid)
    # Deleted, and nothing of it left.
    assert [c.id for c in rsc.Container.list(root=root)] == [ids[1]]
    found = rsc.Container.load(ids[1], root=root)
    assert (found.status, found.pid) == ("running", detached)
    assert process_status(left, "Name") == "sleep"
    found.delete(force=True)
    assert is_gone(left)


def test_python_is_killed_in_the_middle_of_runs(
    sleeper: rsc.Bundle, root: Path, cli: CommandLine
) -> None:
    text = """
        def work():
            while True:
                rsc.run(sys.argv[1], ["true"], root=sys.argv[2], stdin=rsc.DEVNULL)
                os.write(1, b"ran\\n")
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        hear()
    """
    for rounds in (1, 7, 12):
        with Program(text, sleeper.path, root) as program:
            for _ in range(rounds):
                assert program.hear() == "ran"
            program.process.kill()
        # Whatever stage each was in: the launcher takes it away.
        eventually(lambda: not any(root.iterdir()), "an empty folder of states")
    assert cli("list", "-q").stdout == ""


ENDED = """
    container = rsc.Container.create(sys.argv[2], sys.argv[1], root=sys.argv[3])
    container.start()
    say(container.pid)
    hear()
    container.kill("KILL")
    container.wait()
    say("ended")
    hear()
"""


def until_ended(program: Program) -> int:
    """Lets the program's container end, and returns its launcher."""
    launcher = parent(int(program.hear()))
    program.go_on()
    assert program.hear() == "ended"
    assert launcher is not None
    return launcher


@pytest.mark.parametrize("left", [[], ["state.json"], ["init"], ["init", "state.json"]], ids=str)
def test_what_a_killed_deletion_leaves_goes_with_python(
    sleeper: rsc.Bundle, root: Path, box: str, left: list[str]
) -> None:
    with Program(ENDED, sleeper.path, box, root) as program:
        until_ended(program)
        # A deletion begins with these.
        for group in Path("/sys/fs/cgroup").glob(f"**/{box}"):
            group.rmdir()
        for file in (root / box).iterdir():
            if file.name not in left:
                file.unlink()
        program.process.kill()
    eventually(lambda: not any(root.iterdir()), "an empty folder of states")


def test_who_took_an_ended_containers_id_outlives_its_python(
    sleeper: rsc.Bundle, root: Path, box: str
) -> None:
    with Program(ENDED, sleeper.path, box, root) as program:
        launcher = until_ended(program)
        rsc.Container.load(box, root=root).delete()
        with rsc.Container.create(box, sleeper.path, root=root) as container:
            program.process.kill()
            eventually(lambda: is_gone(launcher), "the launcher's end")
            assert container.status == "created"


def test_python_and_launcher_are_killed(
    sleeper: rsc.Bundle, root: Path, unique_id: Callable[[], str]
) -> None:
    """With nobody left to end them, containers live on and are on record."""
    ids = [unique_id() for _ in range(3)]
    with Program(BOTH + "    hear()", sleeper.path, root, *ids) as program:
        pids = list(map(int, program.hear().split()))
        os.kill(parent(pids[0]), signal.SIGKILL)
        program.process.kill()
    found = rsc.Container.list(root=root)
    assert sorted(c.id for c in found) == sorted(ids)
    for c in found:
        assert c.status == ("created" if c.id == ids[2] else "running")
        c.delete(force=True)
    assert all(map(is_gone, pids))


# -- Python forks -----------------------------------------------------------------------------


def test_forked_python_has_a_launcher_of_its_own(sleeper: rsc.Bundle, root: Path) -> None:
    text = """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), rsc.DEVNULL)
        c = rsc.Container.run("parents", sys.argv[1], root=sys.argv[2], **streams)
        child = os.fork()
        if child == 0:
            d = rsc.Container.run("childs", sys.argv[1], root=sys.argv[2], **streams)
            p = c.exec(["sh", "-c", "exit 6"])
            say(d.pid, p.wait())
            hear()
            os._exit(0)
        os.waitpid(child, 0)
        say(c.pid, c.status)
        p = c.exec(["sh", "-c", "exit 7"])
        say(p.wait())
        c.delete(force=True)
    """
    with Program(text, sleeper.path, root) as program:
        pid, code = map(int, program.hear().split())
        assert code == 6
        childs = parent(pid)
        program.go_on()
        pid, state = program.hear().split()
        assert state == "running"
        assert parent(int(pid)) != childs
        assert program.hear() == "7"
        assert program.end() == 0
    # The child's ended with the child, the parent's did not.
    eventually(lambda: is_gone(childs), "the end of the child's launcher")


def test_wait_meets_no_child_of_ours(sleeper: rsc.Bundle, root: Path) -> None:
    text = """
        rsc.start_launcher()
        with rsc.Container.run("box", sys.argv[1], root=sys.argv[2], stdin=rsc.DEVNULL) as c:
            try:
                say(os.wait())
            except ChildProcessError:
                say("none")
            p = c.exec(["true"])
            p.wait()
            try:
                say(os.waitpid(-1, os.WNOHANG))
            except ChildProcessError:
                say("none")
    """
    with Program(text, sleeper.path, root) as program:
        assert program.hear() == "none"
        assert program.hear() == "none"
        assert program.end() == 0


# -- many at once -----------------------------------------------------------------------------


def test_no_request_waits_for_another(bundle: BundleFactory, root: Path, box: str) -> None:
    """A hook that takes its time holds its own container up, and nobody else's."""

    def change(spec: rsc.Spec) -> None:
        spec.hooks.createRuntime = [{"path": "/bin/sleep", "args": ["sleep", "4"]}]

    slow = bundle(change, args=["true"])
    quick = bundle(args=["true"])
    text = """
        say("begins")
        rsc.run(sys.argv[1], root=sys.argv[2], id=sys.argv[3])
    """
    with Program(text, slow.path, root, box) as program:
        assert program.hear() == "begins"
        eventually((root / box / "state.json").exists, "the slow container's state")
        assert rsc.run(quick, root=root, timeout=PATIENCE).returncode == 0
        with ThreadPoolExecutor(4) as pool:
            runs = [pool.submit(rsc.run, quick, root=root) for _ in range(8)]
            assert {run.result(PATIENCE).returncode for run in runs} == {0}
        program.process.kill()
    eventually(lambda: not any(root.iterdir()), "an empty folder of states", 20)


def test_many_execs_at_once(sleeper: rsc.Bundle, root: Path, box: str) -> None:
    with create(box, sleeper, root) as c, ThreadPoolExecutor(16) as pool:

        def echo(number: int) -> str:
            p = c.exec(["echo", str(number)], stdout=rsc.PIPE, stderr=rsc.PIPE, text=True)
            return p.communicate()[0]

        wanted = [f"{number}\n" for number in range(100)]
        assert list(pool.map(echo, range(100))) == wanted


def test_control_c_in_a_call_leaves_nothing(sleeper: rsc.Bundle, root: Path) -> None:
    text = """
        try:
            rsc.run(sys.argv[1], root=sys.argv[2], id="box", stdin=rsc.DEVNULL)
        except KeyboardInterrupt:
            say("interrupted", os.listdir(sys.argv[2]))
    """

    def running() -> bool:
        # While it is being created there is nothing to load.
        with contextlib.suppress(rsc.NotFoundError, rsc.StateError):
            return rsc.Container.load("box", root=root).status == "running"
        return False

    with Program(text, sleeper.path, root) as program:
        eventually(running, "a running container")
        # Until it waits: a signal before would be met by the same code, and is tried elsewhere.
        time.sleep(0.05 * SLOWNESS)
        program.process.send_signal(signal.SIGINT)
        assert program.hear() == "interrupted []"
        assert program.end() == 0
