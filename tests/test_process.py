"""Processes in a container: exec, streams, waiting, signals, interruptions."""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import descriptors, eventually

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory


FOREVER = ["sleep", "1000"]


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


@pytest.fixture
def running(bundle: BundleFactory, root: Path, box: str) -> Iterator[Container]:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        yield container


@pytest.fixture
def peopled(bundle: BundleFactory, root: Path, box: str) -> Iterator[Container]:
    """One that runs and has more users than its root."""
    with Container.run(box, bundle(args=FOREVER, several_ids=True), root=root) as container:
        yield container


def output(container: Container, args: list[str], **more: Any) -> str:
    with container.exec(args, stdout=rsc.PIPE, text=True, **more) as process:
        out = process.stdout.read()
    assert process.returncode == 0
    return out


# -- exec -----------------------------------------------------------------------------------


def test_exec_is_in_the_container(running: Container) -> None:
    rows = output(running, ["ps", "-o", "pid,comm"]).splitlines()[1:]
    names = [row.split()[1] for row in rows]
    assert names == ["sleep", "ps"]
    spaces = output(
        running,
        sh("cd /proc/self/ns; for kind in pid mnt net ipc uts cgroup; do readlink $kind; done"),
    ).split()
    for space in spaces:
        kind = space.partition(":")[0]
        assert space == os.readlink(f"/proc/{running.pid}/ns/{kind}")
    mine = output(running, ["cat", "/proc/self/cgroup"])
    assert mine == output(running, ["cat", "/proc/1/cgroup"])


def test_exec_env(running: Container) -> None:
    own = dict(line.split("=", 1) for line in output(running, ["env"]).splitlines())
    assert own["PATH"].startswith("/usr/local/sbin:")
    assert own["TERM"] == "xterm"
    env = {"PATH": "/bin", "A": "1", "B": "two words", "C": "x=y", "EMPTY": "", "U": "ä"}
    lines = output(running, ["/bin/env"], env=env, encoding="utf-8").splitlines()
    said = dict(line.split("=", 1) for line in lines)
    # Set where it is not given, as runc does.
    assert said.pop("HOME") == "/root"
    assert said == env


def test_the_last_of_several_variables_of_a_name_counts(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.env = ["A=1", "PATH=/bin", "AB=3", "A=2", "HOME=", "HOME=/x"]

    with Container.run(box, bundle(change, args=["sleep", "60"]), root=root) as container:
        assert output(container, ["env"]) == "PATH=/bin\nAB=3\nA=2\nHOME=/x\n"


def test_programs_are_found_along_the_own_path(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(lambda spec: spec.process.update(env=["PATH=/nowhere:/own"]), own_rootfs=True)
    for folder, said in [("own", "own"), ("other", "other")]:
        program = made.rootfs / folder / "tool"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho {said}\n")
        program.chmod(0o755)
    done = rsc.run(made, ["tool"], capture_output=True, text=True, root=root, timeout=60)
    assert done.stdout == "own\n"
    # A further process may have another, and the last one counts.
    spec = made.spec
    spec.process.args = ["/bin/sleep", "1000"]
    spec.save(made.path / "config.json")
    with Container.run(box, made, root=root) as container:
        assert output(container, ["tool"]) == "own\n"
        assert output(container, ["tool"], env={"PATH": "/other:/own"}) == "other\n"


@pytest.mark.parametrize("name", ["", "A=B"])
def test_exec_env_names(running: Container, name: str) -> None:
    with pytest.raises(ValueError, match="which is no name of a variable"):
        running.exec(["true"], env={name: "x"})


def test_exec_cwd(running: Container) -> None:
    assert output(running, ["pwd"]) == "/\n"
    assert output(running, ["pwd"], cwd="/usr/bin") == "/usr/bin\n"
    assert output(running, ["pwd"], cwd=Path("/tmp")) == "/tmp\n"
    with pytest.raises(rsc.SpecError, match="cwd"):
        running.exec(["pwd"], cwd="relative")
    with pytest.raises(rsc.SystemCallError, match="the folder must exist in the container") as e:
        running.exec(["pwd"], cwd="/nowhere")
    assert e.value.errno == 2


@pytest.mark.parametrize(
    ("user", "said"), [(None, "0 0"), (65534, "65534 0"), ("65534", "65534 0"), ("1:5", "1 5")]
)
def test_exec_user(peopled: Container, user: int | str | None, said: str) -> None:
    assert output(peopled, sh("echo $(id -u) $(id -g)"), user=user) == said + "\n"


@pytest.mark.parametrize("user", ["nobody", "1:", "1:x", "-1", "", "1:2:3"])
def test_exec_user_by_name(running: Container, user: str) -> None:
    with pytest.raises(rsc.ContainerError, match="neither a number nor 'uid:gid'"):
        running.exec(["true"], user=user)


@pytest.mark.parametrize("user", [2**32, 2**32 - 1, "0:4294967296"])
def test_exec_user_out_of_range(running: Container, user: int | str) -> None:
    with pytest.raises(rsc.ContainerError, match="is out of range: numbers go up to 4294967294"):
        running.exec(["true"], user=user)


@pytest.mark.requires_root("to enter a container whose init hides")
def test_exec_in_created(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.create(box, bundle(args=FOREVER), root=root) as container:
        assert output(container, ["echo", "early"]) == "early\n"
        assert container.status == "created"


def test_exec_as_an_ordinary_user_reopens_its_streams(peopled: Container) -> None:
    with peopled.exec(
        sh("echo hi > /dev/stdout; echo ho > /dev/stderr"),
        user="65534:65534",
        stdout=rsc.PIPE,
        stderr=rsc.PIPE,
    ) as process:
        assert process.communicate() == (b"hi\n", b"ho\n")


def test_process_attributes(running: Container) -> None:
    with running.exec(FOREVER) as process:
        assert process.args == FOREVER
        assert process.returncode is None
        assert Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n"
        assert repr(process) == f"<Process {process.pid}: args={FOREVER!r}>"
        assert (process.stdin, process.stdout, process.stderr, process.terminal) == (None,) * 4
        process.kill()
    assert process.returncode == -9


# -- streams --------------------------------------------------------------------------------


def test_streams_none(running: Container, capfd: Any) -> None:
    assert running.exec(sh("echo out; echo err >&2")).wait(30) == 0
    assert tuple(capfd.readouterr()) == ("out\n", "err\n")


def test_streams_pipes(running: Container) -> None:
    with running.exec(
        sh("read line; echo $line; echo err >&2; cat"),
        stdin=rsc.PIPE,
        stdout=rsc.PIPE,
        stderr=rsc.PIPE,
    ) as process:
        process.stdin.write(b"first\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"first\n"
        assert process.stderr.readline() == b"err\n"
        process.stdin.write(b"rest")
        process.stdin.close()
        assert process.stdout.read() == b"rest"
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


def test_streams_devnull(running: Container) -> None:
    script = "cat; readlink /proc/$$/fd/0; readlink /proc/$$/fd/2"
    said = output(running, sh(script), stdin=rsc.DEVNULL, stderr=rsc.DEVNULL)
    assert said == "/dev/null\n/dev/null\n"


def test_streams_stdout(running: Container) -> None:
    with running.exec(sh("echo o; echo e >&2"), stdout=rsc.PIPE, stderr=rsc.STDOUT) as process:
        assert process.stderr is None
        assert process.stdout.read() == b"o\ne\n"


def test_streams_file_and_descriptor(running: Container, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"input")
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        assert running.exec(["cat"], stdin=source.fileno(), stdout=sink).wait(30) == 0
        assert running.exec(sh("echo e >&2"), stderr=sink.fileno(), stdout=sink).wait(30) == 0
        # The caller's files are the caller's to close.
        sink.write(b"mine")
    assert (tmp_path / "out").read_bytes() == b"inpute\nmine"


def test_streams_text(running: Container) -> None:
    with running.exec(["cat"], stdin=rsc.PIPE, stdout=rsc.PIPE, encoding="utf-8") as process:
        assert process.stdin.write("ä\n") == 2
        process.stdin.close()
        assert process.stdout.read() == "ä\n"


def test_streams_are_all_that_a_program_has(running: Container) -> None:
    said = output(running, sh("ls /proc/self/fd"))
    # The third is of ls itself, which reads the folder.
    assert said.split() == ["0", "1", "2", "3"]


def test_descriptors_closed(running: Container) -> None:
    before = descriptors()
    for _ in range(20):
        with running.exec(["cat"], stdin=rsc.PIPE, stdout=rsc.PIPE, stderr=rsc.PIPE) as process:
            process.communicate(b"x")
        with pytest.raises(rsc.SystemCallError):
            running.exec(["/nowhere"], stdin=rsc.PIPE, stdout=rsc.PIPE, stderr=rsc.PIPE)
    del process
    gc.collect()
    assert descriptors() == before


# -- communicate ----------------------------------------------------------------------------


def test_communicate_large(running: Container) -> None:
    data = os.urandom(2**20) * 16
    process = running.exec(sh("tee /dev/stderr"), stdin=rsc.PIPE, stdout=rsc.PIPE, stderr=rsc.PIPE)
    out, err = process.communicate(data, timeout=100)
    assert out == data
    assert err == data
    assert process.returncode == 0
    assert process.stdin.closed
    assert process.stdout.closed
    assert process.stderr.closed


def test_communicate_text(running: Container) -> None:
    process = running.exec(["cat"], stdin=rsc.PIPE, stdout=rsc.PIPE, text=True)
    assert process.communicate("a\r\nb\n") == ("a\nb\n", None)


def test_communicate_timeout_and_retry(running: Container) -> None:
    script = "cat; until test -e /dev/shm/go; do sleep 0.05; done; echo late; echo err >&2"
    process = running.exec(sh(script), stdin=rsc.PIPE, stdout=rsc.PIPE, stderr=rsc.PIPE, text=True)
    with pytest.raises(rsc.TimeoutExpired) as caught:
        process.communicate("early\n", timeout=1)
    # As with subprocess, what is on its way is bytes.
    assert caught.value.output in {b"early\n", None, b""}
    with pytest.raises(rsc.TimeoutExpired):
        process.communicate(timeout=0)
    with pytest.raises(ValueError, match="cannot send input after starting communication"):
        process.communicate("more")
    assert process.returncode is None
    assert running.exec(["touch", "/dev/shm/go"]).wait(30) == 0
    assert process.communicate(timeout=60) == ("early\nlate\n", "err\n")
    assert process.returncode == 0


def test_communicate_waits_past_closed_streams(running: Container) -> None:
    process = running.exec(sh("exec >&- 2>&-; sleep 1000"), stdout=rsc.PIPE, stderr=rsc.PIPE)
    with pytest.raises(rsc.TimeoutExpired):
        process.communicate(timeout=0.2)
    process.kill()
    assert process.communicate(timeout=30) == (b"", b"")
    assert process.returncode == -9


def test_communicate_with_one_who_does_not_read(running: Container) -> None:
    process = running.exec(sh("exec <&-; sleep 0.1; echo done"), stdin=rsc.PIPE, stdout=rsc.PIPE)
    assert process.communicate(b"x" * 2**20, timeout=60) == (b"done\n", None)


# -- waiting --------------------------------------------------------------------------------


def test_wait_and_poll(running: Container) -> None:
    process = running.exec(sh("read line; exit 5"), stdin=rsc.PIPE)
    assert process.poll() is None
    assert process.returncode is None
    with pytest.raises(rsc.TimeoutExpired) as caught:
        process.wait(timeout=0.05)
    assert caught.value.timeout == 0.05
    with pytest.raises(rsc.TimeoutExpired):
        process.wait(timeout=0)
    with process.stdin as stdin:
        stdin.write(b"\n")
    assert process.wait(timeout=30) == 5
    assert process.wait(timeout=0) == 5
    assert process.poll() == 5
    assert process.returncode == 5


def test_fileno_is_a_pidfd(running: Container) -> None:
    process = running.exec(["cat"], stdin=rsc.PIPE)
    assert os.readlink(f"/proc/self/fd/{process.fileno()}") == "anon_inode:[pidfd]"
    assert select.select([process], [], [], 0) == ([], [], [])
    process.stdin.close()
    assert select.select([process], [], [], 30) == ([process], [], [])
    assert process.poll() == 0


def test_many_threads_wait_on_one_process(running: Container) -> None:
    process = running.exec(sh("read line; exit 6"), stdin=rsc.PIPE)
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(process.wait(60))) for _ in range(16)]
    for thread in threads:
        thread.start()
    assert process.poll() is None
    process.stdin.close()
    for thread in threads:
        thread.join(60)
    assert codes == [6] * 16


def test_other_threads_run_meanwhile(running: Container) -> None:
    process = running.exec(["cat"], stdin=rsc.PIPE)
    threading.Timer(0.1, process.stdin.close).start()
    # Would wait for ever if waiting kept the interpreter to itself.
    assert process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, 34])
def test_send_signal(running: Container, number: int) -> None:
    process = running.exec(FOREVER)
    process.send_signal(number)
    assert process.wait(30) == -number
    # There is nobody left to send it to.
    process.send_signal(number)


def test_terminate_and_kill(running: Container) -> None:
    process = running.exec(FOREVER)
    process.terminate()
    assert process.wait(30) == -15
    process = running.exec(FOREVER)
    process.kill()
    assert process.wait(30) == -9
    # A container's init does not end of a signal that it does not handle.
    running.init.terminate()
    with pytest.raises(rsc.TimeoutExpired):
        running.init.wait(0.1)


def test_send_signal_that_does_not_exist(running: Container) -> None:
    with running.exec(FOREVER) as process:
        with pytest.raises(rsc.SystemCallError, match="signal 99") as caught:
            process.send_signal(99)
        assert caught.value.errno == 22
        process.kill()


def test_context_manager_closes_and_waits(running: Container) -> None:
    with running.exec(sh("read line; exit 4"), stdin=rsc.PIPE, stdout=rsc.PIPE) as process:
        pass
    assert process.returncode == 4
    assert process.stdin.closed
    assert process.stdout.closed


def test_init_takes_the_others_along(running: Container) -> None:
    process = running.exec(FOREVER)
    running.init.kill()
    assert running.wait(30) == -9
    assert process.wait(30) == -9


def test_no_terminal(running: Container) -> None:
    with running.exec(FOREVER) as process:
        with pytest.raises(rsc.ContainerError, match="has no terminal; ask for one"):
            process.resize(24, 80)
        process.kill()


# -- interruptions --------------------------------------------------------------------------

# Runs a statement that would take for ever, and says how it ended.
BLOCKED = """
import os, signal, sys, time, rscontainer as rsc
bundle, root, id, body = sys.argv[1:]
rsc.start_launcher()
quiet = dict(stdin=rsc.DEVNULL, stdout=rsc.DEVNULL, stderr=rsc.DEVNULL)
def ready():
    # Said once the main thread waits in the core, as far as that can be seen from outside.
    print("ready", flush=True)
def stop_workers():
    # Whoever would serve the next request does not any more. A spare worker is forked within
    # milliseconds of the last one's request.
    time.sleep(0.5)
    for launcher in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{launcher}/comm") as comm:
                if comm.read() != "rsc:[launcher]\\n":
                    continue
            mine = False
            for number in os.listdir(f"/proc/{launcher}/fdinfo"):
                with open(f"/proc/{launcher}/fdinfo/{number}") as info:
                    mine = mine or f"Pid:\\t{os.getpid()}\\n" in info.read()
            if mine:
                with open(f"/proc/{launcher}/task/{launcher}/children") as children:
                    for child in children.read().split():
                        with open(f"/proc/{child}/comm") as comm:
                            if comm.read() == "rsc:[worker]\\n":
                                os.kill(int(child), signal.SIGSTOP)
                                stopped.append(child)
        except (FileNotFoundError, PermissionError):
            pass
    assert stopped
stopped = []
try:
    exec(body)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

BODIES = {
    "wait": """
with rsc.Container.run(id, bundle, root=root, **quiet) as c:
    ready()
    c.wait()
""",
    "wait with timeout": """
with rsc.Container.run(id, bundle, root=root, **quiet) as c:
    ready()
    c.wait(1000)
""",
    "communicate": """
with rsc.Container.run(id, bundle, root=root, **{**quiet, "stdout": rsc.PIPE}) as c:
    ready()
    c.init.communicate()
""",
    "read": """
with rsc.Container.run(id, bundle, root=root, **{**quiet, "stdout": rsc.PIPE}) as c:
    ready()
    c.init.stdout.read()
""",
    "run": """
ready()
rsc.run(bundle, id=id, root=root, **quiet)
""",
    "run with capture": """
ready()
rsc.run(bundle, id=id, root=root, stdin=rsc.DEVNULL, capture_output=True, timeout=1000)
""",
}


def interrupt(
    body: str,
    made: rsc.Bundle,
    root: Path,
    box: str,
    waiting: Callable[[], object] = lambda: True,
    ended: Callable[[], object] = lambda: None,
) -> float:
    """Send SIGINT to a Python that runs ``body``; gives the seconds that its end took."""
    argv = [sys.executable, "-c", BLOCKED, str(made.path), str(root), box, body]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as python:
        try:
            assert python.stdout.readline() == "ready\n", python.stderr.read()
            eventually(waiting, "the call's coming to wait")
            # The thread sleeps in the call that is to be interrupted, or is about to: then Python
            # sees the signal on the way in.
            time.sleep(0.2)
            sent = time.monotonic()
            python.send_signal(signal.SIGINT)
            # Its streams may end later: the launcher has them too.
            python.wait(60)
            took = time.monotonic() - sent
            ended()
            out, err = python.communicate(timeout=60)
            assert out == "interrupted\n", err
            assert err == ""
        finally:
            python.kill()
    return took


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_interrupt(bundle: BundleFactory, root: Path, box: str, body: str) -> None:
    made = bundle(args=FOREVER)
    running = lambda: [c for c in Container.list(root) if c.status == "running"]  # noqa: E731
    assert interrupt(body, made, root, box, running) < 30
    eventually(lambda: not Container.list(root), "the container's deletion")


def test_interrupt_create(bundle: BundleFactory, root: Path, box: str, tmp_path: Path) -> None:
    reached = tmp_path / "reached"

    def change(spec: rsc.Spec) -> None:
        script = f"echo $$ > {reached}; exec sleep 1000"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 20}
        spec.hooks = {"createRuntime": [hook]}

    body = "ready()\nrsc.Container.create(id, bundle, root=root, **quiet)"
    took = interrupt(body, bundle(change, args=FOREVER), root, box, reached.exists)
    assert took < 10
    # What is not wanted any more ends with the hook at the latest, and nothing is left of it.
    eventually(lambda: not Container.list(root), "the container's deletion", 60)
    hook = Path("/proc", reached.read_text().strip())
    eventually(lambda: not hook.exists(), "the hook's end", 60)


@pytest.mark.requires_root("to look into a process that hides")
def test_interrupt_exec(bundle: BundleFactory, root: Path, box: str) -> None:
    body = """
with rsc.Container.run(id, bundle, root=root, **quiet) as c:
    stop_workers()
    ready()
    c.exec(["true"], **quiet)
"""
    assert interrupt(body, bundle(args=FOREVER), root, box) < 10


def test_interrupt_delete(bundle: BundleFactory, root: Path, box: str, tmp_path: Path) -> None:
    reached, released = tmp_path / "reached", tmp_path / "released"

    def change(spec: rsc.Spec) -> None:
        # Whoever goes on with the deletion runs the hook as well.
        script = f"touch {reached}; until [ -e {released} ]; do sleep 0.05; done"
        spec.hooks = {
            "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 30}]
        }

    body = """
c = rsc.Container.run(id, bundle, root=root, **quiet)
ready()
c.delete(force=True)
"""
    made = bundle(change, args=FOREVER)
    assert interrupt(body, made, root, box, reached.exists, released.touch) < 10
    eventually(lambda: not Container.list(root), "the container's deletion", 60)


def test_interrupt_delete_that_waits_for_the_lock(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    import fcntl  # noqa: PLC0415  # of use here alone

    made = bundle(args=FOREVER)
    with Container.run(box, made, root=root):
        held = os.open(root / box, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            body = "ready()\nrsc.Container.load(id, root).delete(force=True)"
            assert interrupt(body, made, root, box) < 10
            assert Container.load(box, root).status == "running"
        finally:
            os.close(held)


def test_handler_that_returns_does_not_end_a_wait(running: Container) -> None:
    called = threading.Event()
    process = running.exec(["cat"], stdin=rsc.PIPE)
    old = signal.signal(signal.SIGUSR1, lambda *_: called.set())
    try:
        main = threading.main_thread().ident

        def poke() -> None:
            time.sleep(0.1)
            signal.pthread_kill(main, signal.SIGUSR1)
            called.wait(30)
            process.stdin.close()

        thread = threading.Thread(target=poke)
        thread.start()
        assert process.wait(60) == 0
        thread.join(60)
        assert called.is_set()
    finally:
        signal.signal(signal.SIGUSR1, old)
