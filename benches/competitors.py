"""Whatever can run the bundle, each behind the same few methods that return nanoseconds."""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Protocol

HERE = Path(__file__).resolve().parent
# Seconds; a run takes milliseconds.
PATIENCE = 3
TARGET = "x86_64-unknown-linux-gnu"

_numbers = itertools.count()


class CompetitorError(Exception):
    """A competitor did not do what it was asked; the message says what it said."""


class HungError(CompetitorError):
    """It never ended; that may be one unlucky sample."""


class Runs(Protocol):
    """Anything whose run-to-exit can be timed."""

    name: str

    def run(self) -> int: ...


def spawn(argv: list[str]) -> int:
    """Time a program from before it is started until it was reaped.

    posix_spawn, because a fork would charge the program for this process's page tables.
    """
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    start = perf_counter_ns()
    pid = os.posix_spawn(
        argv[0],
        argv,
        os.environ,
        file_actions=null,
        # Out of the terminal's process group: on Ctrl-C it is this process that cleans up.
        setpgroup=0,
        # Python ignores it, and a container would inherit that.
        setsigdef=[signal.SIGPIPE],
    )
    try:
        # A few microseconds more than waiting at once, for not being hung by who hangs.
        ended = _ends(pid, PATIENCE)
    except BaseException:
        _ends(pid, PATIENCE)
        _kill(pid)
        raise
    if not ended:
        _kill(pid)
        raise HungError(f"did not end within {PATIENCE} s")
    _, status, _ = os.wait4(pid, 0)
    took = perf_counter_ns() - start
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        raise CompetitorError(f"{' '.join(argv)}: exit code {code}{_complaint(argv)}")
    return took


def _ends(pid: int, seconds: float) -> bool:
    """Wait for a process, which need not be this one's child."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _complaint(argv: list[str]) -> str:
    """What a failing program says; the timed run threw it away."""
    again = subprocess.run(
        argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    lines = again.stderr.strip().splitlines()
    return f": {lines[-1]}" if lines else ""


class Runtime:
    """A binary with runc's command line."""

    def __init__(self, name: str, path: str, state: Path, true: Path, idle: Path) -> None:
        self.name = name
        self.path = path
        self._base = [path, "--root", str(state / name)]
        self._true = true
        self._idle = idle
        self._live: list[str] = []
        self._exec_in: str | None = None

    def _new(self) -> str:
        identity = f"bench-{os.getpid()}-{next(_numbers)}"
        self._live.append(identity)
        return identity

    def _call(self, *words: str) -> int:
        return spawn([*self._base, *words])

    def run(self) -> int:
        identity = self._new()
        took = self._call("run", "--bundle", str(self._true), identity)
        self._live.remove(identity)
        return took

    def _init_of(self, identity: str) -> int:
        state = subprocess.run(
            [*self._base, "state", identity], check=True, capture_output=True, text=True
        )
        return int(json.loads(state.stdout)["pid"])

    def verbs(self) -> dict[str, int]:
        """One container's create, start and delete, each apart."""
        identity = self._new()
        took = {"create": self._call("create", "--bundle", str(self._true), identity)}
        init = self._init_of(identity)
        took["start"] = self._call("start", identity)
        if not _ends(init, PATIENCE):
            raise HungError(f"/bin/true did not end within {PATIENCE} s")
        took["delete"] = self._call("delete", identity)
        self._live.remove(identity)
        return took

    def exec(self) -> int:
        if self._exec_in is None:
            [(self._exec_in, _)] = self.hold(1)
        return self._call("exec", self._exec_in, "/bin/true")

    def list(self) -> int:
        return self._call("list", "--format", "json")

    def state(self, identity: str) -> int:
        return self._call("state", identity)

    def hold(self, count: int) -> list[tuple[str, int]]:
        """Start containers that idle; their names and their inits' pids."""
        held = []
        for _ in range(count):
            identity = self._new()
            self._call("create", "--bundle", str(self._idle), identity)
            self._call("start", identity)
            held.append((identity, self._init_of(identity)))
        return held

    def release(self) -> None:
        """Delete everything that is still there."""
        self._exec_in = None
        for identity in self._live:
            subprocess.run(
                [*self._base, "delete", "--force", identity],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
        self._live.clear()

    close = release


class Bubblewrap:
    """Flags for the same container, as far as it goes: it has neither cgroups nor a fresh sysfs."""

    name = "bwrap"

    def __init__(self, path: str, true: Path) -> None:
        flags = "--unshare-pid --as-pid-1 --unshare-net --unshare-ipc --unshare-uts --hostname runc"
        mounts = [
            *("--bind", str(true / "rootfs"), "/", "--proc", "/proc", "--dev", "/dev"),
            *("--tmpfs", "/dev/shm", "--mqueue", "/dev/mqueue", "--ro-bind", "/sys", "/sys"),
        ]
        for masked in ("/proc/kcore", "/proc/latency_stats", "/proc/timer_list"):
            if os.path.exists(masked):
                mounts += ["--ro-bind", "/dev/null", masked]
        if os.path.exists("/sys/firmware"):
            mounts += ["--tmpfs", "/sys/firmware"]
        for shown in ("/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"):
            if os.path.exists(shown):
                mounts += ["--ro-bind", shown, shown]
        kept = "--cap-add CAP_AUDIT_WRITE --cap-add CAP_KILL --cap-add CAP_NET_BIND_SERVICE"
        rest = f"--remount-ro / --clearenv --setenv PATH /bin --cap-drop ALL {kept} /bin/true"
        self._argv = [path, *flags.split(), *mounts, *rest.split()]

    def run(self) -> int:
        return spawn(self._argv)

    def close(self) -> None: ...


class Limit:
    """The straight line, as a program of its own or repeated within one process."""

    def __init__(self, binary: Path, true: Path, *flags: str, repeated: bool) -> None:
        tail = " +cgroups" if "--cgroups" in flags else ""
        self.name = f"limit{tail}{', in process' if repeated else ''}"
        self._argv = [str(binary), str(true), *flags]
        self._worker: subprocess.Popen[bytes] | None = None
        if repeated:
            self._worker = subprocess.Popen(
                [*self._argv, "--repeat", str(1 << 40), "--paced"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )

    def run(self) -> int:
        if self._worker is None:
            return spawn(self._argv)
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write(b"\n")
        answer = self._worker.stdout.readline()
        if not answer:
            raise CompetitorError(f"{' '.join(self._argv)} ended")
        return int(answer)

    def close(self) -> None:
        if self._worker is not None:
            # The end of its input is its end, after the run it may be in.
            self._worker.communicate()


def build_limit() -> Path:
    """cargo knows when there is nothing to do."""
    folder = HERE / "limit"
    target = folder / "target"
    command = ["cargo", "build", "--release", "--quiet", "--target-dir", str(target)]
    # From inside: that is where cargo finds the flags for a static binary.
    subprocess.run(command, cwd=folder, check=True)
    return target / TARGET / "release/limit"


class Python:
    """rscontainer in a Python process of its own, so that its size can be chosen."""

    def __init__(self, name: str, state: Path, true: Path, idle: Path, resident: int = 0) -> None:
        self.name = name
        self._worker = subprocess.Popen(
            [sys.executable, HERE / "worker.py", state / name, true, idle, str(resident)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._worker.pid
        try:
            self.version: str = self._ask("hello")
        except BaseException:
            self.close()
            raise

    def _ask(self, verb: str, *arguments: Any) -> Any:
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        try:
            print(json.dumps([verb, *arguments]), file=self._worker.stdin, flush=True)
        except BrokenPipeError:
            raise CompetitorError("the worker ended") from None
        line = self._worker.stdout.readline()
        if not line:
            raise CompetitorError("the worker ended")
        answer = json.loads(line)
        if "error" in answer:
            raise CompetitorError(answer["error"])
        return answer["value"]

    def run(self, stdio: str = "pipe") -> int:
        return int(self._ask("run", stdio))

    def verbs(self) -> dict[str, int]:
        return {verb: int(took) for verb, took in self._ask("verbs").items()}

    def exec(self) -> int:
        return int(self._ask("exec"))

    def many(self, threads: int, each: int) -> int:
        return int(self._ask("many", threads, each))

    def hold(self, count: int) -> list[tuple[str, int]]:
        return [(str(identity), int(pid)) for identity, pid in self._ask("hold", count)]

    def release(self) -> None:
        self._ask("release")

    def close(self) -> None:
        if self._worker.stdin is not None:
            self._worker.stdin.close()
        try:
            self._worker.wait(60)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()
        if self._worker.stdout is not None:
            self._worker.stdout.close()


class PythonDiscarding:
    """The same Python process, its containers' output thrown away instead of captured."""

    def __init__(self, python: Python) -> None:
        self.name = f"{python.name}, devnull"
        self._python = python

    def run(self) -> int:
        return self._python.run("null")


def find(name: str, peers: Path | None) -> str | None:
    if peers is not None and os.access(peers / name, os.X_OK):
        return str(peers / name)
    # runc is installed where only root's PATH looks.
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def version(path: str) -> str:
    said = subprocess.run([path, "--version"], check=False, capture_output=True, text=True)
    return (said.stdout.split("\n")[0].split() or ["?"])[-1]
