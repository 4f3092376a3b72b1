"""What both conformance drivers share: programs under a subreaper, results, tables, arguments."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
PR_SET_CHILD_SUBREAPER = 36
MNT_DETACH = 2
UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
LIBC = ctypes.CDLL(None, use_errno=True)
# Something to read when a child has ended.
WAKE = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)


@dataclass
class Test:
    """One test's result; a program of runtime-tools, or a test of a contest group."""

    name: str
    status: str
    seconds: float
    # Why it did not pass, as far as the suite says; empty where it passed.
    detail: str = ""


@dataclass
class Runtime:
    """A runtime under test, and what came of it."""

    name: str
    path: Path
    version: str = ""
    seconds: float = 0.0
    tests: list[Test] = field(default_factory=list)

    def add(self, test: Test) -> None:
        self.tests.append(test)
        detail = test.detail.strip().splitlines()
        print(
            f"{self.name:12} {test.status:8} {test.seconds:6.1f} s  {test.name}"
            f"{'  ' + detail[0][:120] if detail else ''}",
            file=sys.stderr,
            flush=True,
        )


@dataclass
class Ended:
    """A program that has ended, or was ended: ``status`` is None where the time was up."""

    status: int | None
    output: str
    seconds: float

    def describe(self) -> str:
        if self.status is None:
            return f"not done after {self.seconds:.0f} s"
        if self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        return f"exit status {self.status}"


# -- processes -------------------------------------------------------------------------------


def become_subreaper() -> None:
    """Have what is orphaned below this process become its child, to be reaped at once.

    PID 1 of a machine may leave zombies for seconds, and to a runtime a zombie is a container
    that has not ended.
    """
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    signal.set_wakeup_fd(WAKE[1], warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Whatever ends this process, what it runs ends first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def run(command: Sequence[str | Path], timeout: float, cwd: Path, env: Mapping[str, str]) -> Ended:
    """Run a program to its end, reaping all its orphans; what is left of it then is killed."""
    begun = time.monotonic()
    # A file, not a pipe: what the program leaves behind may hold it open.
    with tempfile.TemporaryFile() as output:
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        try:
            status = reap_until(program.pid, begun + timeout)
        finally:
            kill_descendants()
        # It has been reaped, which Popen does not know.
        program.returncode = -signal.SIGKILL if status is None else status
        output.seek(0)
        text = output.read().decode(errors="replace")
    return Ended(status, text, time.monotonic() - begun)


def reap_until(pid: int, until: float) -> int | None:
    """Reap every child that ends until the one with this number does: its exit status."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while True:
                ended, status = os.waitpid(-1, os.WNOHANG)
                if ended == pid:
                    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
                if ended == 0:
                    break
        left = until - time.monotonic()
        if left <= 0:
            return None
        # What ended since the children were looked at has left its byte.
        if select.select([WAKE[0]], [], [], left)[0]:
            os.read(WAKE[0], 4096)


def kill_descendants() -> None:
    """Kill and reap all children, and theirs as they become children; take their cgroups away."""
    cgroups: set[Path] = set()
    own = cgroups_of("self")
    while True:
        children = Path("/proc/thread-self/children").read_text().split()
        if not children:
            break
        for child in children:
            cgroups |= cgroups_of(child) - own
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
            thaw(cgroups)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(int(child), 0)
    # Deepest first. What others still use cannot be removed.
    for path in sorted(cgroups, reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()


def cgroups_of(pid: str) -> set[Path]:
    """The cgroups, but no root, that a process is in."""
    found = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc", pid, "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            folder = controllers.replace("name=", "") or "unified"
            root = Path("/sys/fs/cgroup", folder)
            if path != "/" and root.is_dir():
                found.add(root / path.lstrip("/"))
    return found


@contextlib.contextmanager
def new_cgroups_removed() -> Iterator[None]:
    """Take away the cgroups that appear meanwhile, are empty, and are named as suites name theirs.

    They belonged to containers that the suite has forgotten.
    """
    before = container_cgroups()
    yield
    for path in sorted(container_cgroups() - before, reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()


def container_cgroups() -> set[Path]:
    found = set()
    for folder, subfolders, _ in os.walk("/sys/fs/cgroup"):
        found |= {Path(folder, name) for name in subfolders if UUID.search(name)}
    return found


def thaw(cgroups: set[Path]) -> None:
    """A frozen process of cgroup v1 does not even die."""
    for path in cgroups:
        state = path / "freezer.state"
        with contextlib.suppress(OSError):
            if state.exists():
                state.write_text("THAWED")


# -- files -----------------------------------------------------------------------------------


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for bundles, with a short name as sockets need; nothing stays mounted in it."""
    folder = Path(tempfile.mkdtemp(prefix="oci-"))
    # Root in a user namespace is nobody out here, and has to find its bundle.
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed(points):
            if Path(point).is_relative_to(folder):
                LIBC.umount2(point.encode(), MNT_DETACH)
        shutil.rmtree(folder, ignore_errors=True)


# -- arguments and results -------------------------------------------------------------------


def parser(description: str, timeout: float) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--suite", type=Path, required=True, help="folder of the built suite")
    parser.add_argument(
        "--runtime",
        dest="runtimes",
        action="append",
        required=True,
        metavar="NAME=PATH",
        type=runtime,
        help="a runtime to test; may be given again",
    )
    parser.add_argument("--timeout", type=float, default=timeout, help="seconds [%(default)s]")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--only", action="append", metavar="TEST", help="run only this; may repeat")
    return parser


def runtime(text: str) -> Runtime:
    name, found, path = text.partition("=")
    program = Path(path).resolve()
    if not found or not name or not os.access(program, os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH of a program")
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return Runtime(name, program, version=(told.stdout.splitlines() or [""])[0])


def report(suite: str, runtimes: Sequence[Runtime], json_file: Path | None) -> None:
    """Write the results, and print the table: sums, then each test that not all passed."""
    if json_file:
        document = {"suite": suite, "runtimes": [asdict(runtime) for runtime in runtimes]}
        json_file.write_text(json.dumps(document, indent=1, default=str) + "\n")
    width = max(len(test.name) for runtime in runtimes for test in runtime.tests)
    columns = [max(len(runtime.name), 8) for runtime in runtimes]

    def row(title: str, cells: Sequence[object]) -> None:
        padded = (f"{cell!s:>{column}}" for cell, column in zip(cells, columns))
        print(f"{title:{width}}  {'  '.join(padded)}")

    row(suite, [runtime.name for runtime in runtimes])
    results = [{test.name: test.status for test in runtime.tests} for runtime in runtimes]
    for status in (PASSED, FAILED, SKIPPED):
        row(status, [list(result.values()).count(status) for result in results])
    row("seconds", [round(runtime.seconds) for runtime in runtimes])
    print()
    for name in sorted({name for result in results for name in result}):
        statuses = [result.get(name, "-") for result in results]
        if set(statuses) != {PASSED}:
            row(name, statuses)
