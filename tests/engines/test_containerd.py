"""containerd and its command line, ctr, with rscontainer in runc's place."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from conftest import PREFIX, eventually

from engines.conftest import (
    IMAGE,
    Client,
    Containerd,
    alike,
    at_terminal,
    binary,
    cgroup,
    need,
    run,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

# Containers' cgroups are made below one of the namespace's name.
NAMESPACE = f"{PREFIX}containerd"


class Ctr(Client):
    """ctr, on a daemon of the tests' own."""

    def __init__(self, containerd: Containerd, namespace: str = NAMESPACE) -> None:
        super().__init__(need("ctr"), "--address", containerd.address, "--namespace", namespace)
        self.daemon = containerd.daemon

    def run_argv(
        self, runtime: str, box: str, *command: object, options: tuple[object, ...] = ("--rm",)
    ) -> list[str]:
        chosen = ("--runc-binary", binary(runtime))
        return self.argv("run", *chosen, *options, IMAGE, box, *command)

    def run(
        self, runtime: str, box: str, *command: object, options: tuple[object, ...] = ("--rm",)
    ) -> subprocess.CompletedProcess[str]:
        return run(self.run_argv(runtime, box, *command, options=options), check=False)

    def start(self, runtime: str, box: str, *command: object) -> None:
        """Start a container that stays."""
        done = self.run(runtime, box, *command, options=("--detach",))
        assert done.returncode == 0, done.stderr

    def status(self, box: str) -> str:
        for line in self("tasks", "list").stdout.splitlines():
            if line.split()[0] == box:
                return line.split()[-1]
        return "none"

    def remove(self, box: str) -> None:
        self("tasks", "delete", "--force", box)
        self("containers", "delete", box)


@pytest.fixture(scope="module")
def engine(containerd: Containerd, image: Path) -> Iterator[Ctr]:
    ctr = Ctr(containerd)
    with cgroup(NAMESPACE):
        ctr("images", "import", image)
        yield ctr
        ctr("images", "remove", "--sync", IMAGE)


@pytest.fixture
def ctr(engine: Ctr) -> Iterator[Ctr]:
    """The engine, without containers before and after, and what it says looked at."""
    since = engine.daemon.log.stat().st_size
    yield engine
    for box in engine("containers", "list", "--quiet").stdout.split():
        engine("tasks", "delete", "--force", box, check=False)
        engine("containers", "delete", box)
    assert unusual(engine.daemon.complaints(since)) == []


# What containerd says under runc too: of all tasks that end; and of all that do not begin, where it
# looks for a file that was not written yet, and two parts of its shim race for the exit status of
# one `delete`, so that who comes second says 255.
USUAL = re.compile(
    r"""cleaning\ up\ after\ shim\ disconnected
    | copy\ shim\ log"\ error="read\ /proc/self/fd/\d+:\ file\ already\ closed
    | starting\ signal\ loop
    | failed\ to\ remove\ runc\ container\S+\ error=\S+\ did\ not\ terminate\ successfully:
      \ exit\ status\ 255:\ \\"
    | failed\ to\ read\ init\ pid\ file
    """,
    re.VERBOSE,
)


def unusual(complaints: list[str]) -> list[str]:
    """The complaints but for the usual; what a shim says comes as several lines in one."""
    parts = (part for line in complaints for part in re.split(r"\\n(?=time=)", line))
    return [part for part in parts if not USUAL.search(part)]


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def test_run_gives_output_and_exit_status(ctr: Ctr, box: str) -> None:
    script = "echo out; echo err >&2; exit 7"
    seen = alike(lambda runtime: outcome(ctr.run(runtime, box, "sh", "-c", script)))
    # The client says nothing of its own but its status.
    assert seen == (7, "out\n", "err\n")


def test_a_program_that_is_not_there(ctr: Ctr, box: str) -> None:
    seen = alike(lambda runtime: ctr.run(runtime, box, "/nonexistent").returncode)
    assert seen == 1
    assert "no such file or directory" in ctr.run("rscontainer", box, "/nonexistent").stderr


def test_exec(ctr: Ctr, box: str) -> None:
    def scenario(runtime: str) -> list[tuple[int, str, str]]:
        ctr.start(runtime, box, "sleep", "1000")

        def execute(*command: str) -> tuple[int, str, str]:
            argv = ("tasks", "exec", "--exec-id", "second", *command)
            return outcome(ctr(*argv, check=False))

        seen = [
            execute(box, "sh", "-c", "echo $PPID $(cat /proc/1/comm); exit 3"),
            execute("--cwd", "/tmp", "--user", "1000", box, "sh", "-c", "pwd; id -u; exit 4"),
            execute(box, "sh", "-c", "kill -TERM $$"),
        ]
        ctr.remove(box)
        return seen

    first, second, killed = alike(scenario)
    assert first == (3, "0 sleep\n", "")
    assert second == (4, "/tmp\n1000\n", "")
    assert killed[0] == 128 + signal.SIGTERM


def test_a_program_that_cannot_be_executed(ctr: Ctr, box: str) -> None:
    def scenario(runtime: str) -> int:
        ctr.start(runtime, box, "sleep", "1000")
        argv = ("tasks", "exec", "--exec-id", "second", box, "/nonexistent")
        status = ctr(*argv, check=False).returncode
        assert ctr.status(box) == "RUNNING"
        ctr.remove(box)
        return status

    assert alike(scenario) == 1


def test_terminal(ctr: Ctr, box: str) -> None:
    def scenario(runtime: str) -> tuple[int, list[str]]:
        argv = ctr.run_argv(runtime, box, "sh", options=("--rm", "--tty"))
        return at_terminal(argv, b"tty; stty size; exit 3\n", until=b"40 100")

    assert alike(scenario) == (3, ["/dev/pts/0", "40 100"])


def test_kill(ctr: Ctr, box: str) -> None:
    def scenario(runtime: str) -> tuple[str, list[str]]:
        ctr.start(runtime, box, "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done")
        ctr("tasks", "kill", "--signal", "TERM", box)
        eventually(lambda: ctr.status(box) == "STOPPED", "an end")
        said = ctr("tasks", "delete", box).stderr
        ctr("containers", "delete", box)

        ctr.start(runtime, box, "sleep", "1000")
        ctr("tasks", "kill", "--signal", "KILL", box)
        eventually(lambda: ctr.status(box) == "STOPPED", "an end")
        said += ctr("tasks", "delete", box).stderr
        ctr("containers", "delete", box)
        return ctr.status(box), re.findall(r"exit code (\d+)", said)

    assert alike(scenario) == ("none", ["5", "137"])


def test_kill_all(ctr: Ctr, box: str) -> None:
    def scenario(runtime: str) -> str:
        ctr.start(runtime, box, "sh", "-c", "sleep 1000 & sleep 1000")
        ctr("tasks", "kill", "--all", "--signal", "KILL", box)
        eventually(lambda: ctr.status(box) == "STOPPED", "an end")
        seen = ctr.status(box)
        ctr.remove(box)
        return seen

    assert alike(scenario) == "STOPPED"


def test_pause_and_resume(ctr: Ctr, box: str) -> None:
    def scenario(runtime: str) -> list[object]:
        ctr.start(runtime, box, "sleep", "1000")
        ctr("tasks", "pause", box)
        seen: list[object] = [ctr.status(box)]
        argv = ("tasks", "exec", "--exec-id", "second", box, "true")
        seen.append(ctr(*argv, check=False).returncode)
        ctr("tasks", "resume", box)
        seen += [ctr.status(box), ctr(*argv, check=False).returncode]
        ctr.remove(box)
        return seen

    assert alike(scenario) == ["PAUSED", 1, "RUNNING", 0]


def test_processes_and_metrics(ctr: Ctr, box: str) -> None:
    def scenario(runtime: str) -> tuple[int, list[str]]:
        ctr.start(runtime, box, "sh", "-c", "sleep 1000 & sleep 1000; :")
        pids = eventually(
            lambda: (
                len(found) == 3 and found
                if (found := ctr("tasks", "ps", box).stdout.splitlines()[1:])
                else None
            ),
            "three processes",
        )
        rows = [line.split() for line in ctr("tasks", "metrics", box).stdout.splitlines()]
        figures = [row for row in rows if len(row) == 2 and row[0] != "ID"]
        assert {row[0]: row[1] for row in figures}["pids.current"] == "3"
        ctr.remove(box)
        return len(pids), [row[0] for row in figures]

    count, names = alike(scenario)
    assert count == 3
    assert "memory.usage_in_bytes" in names or "memory.usage" in names


def test_limits(ctr: Ctr, box: str) -> None:
    where = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us"
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        where = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max"
    options = (
        "--rm",
        "--memory-limit",
        64 << 20,
        "--cpus",
        "0.5",
        "--mount",
        "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro",
    )
    seen = alike(lambda runtime: outcome(ctr.run(runtime, box, "sh", "-c", where, options=options)))
    assert seen[1].split()[:2] == [str(64 << 20), "50000"]


def test_twenty_at_once(ctr: Ctr, box: str) -> None:
    def scenario(runtime: str) -> list[tuple[int, str, str]]:
        def one(number: int) -> tuple[int, str, str]:
            # ctr loses what a container has said that ends before ctr comes to open its pipes: it
            # happens under load, with runc too.
            script = f"echo {number}; sleep 1; exit {number}"
            return outcome(ctr.run(runtime, f"{box}-{number}", "sh", "-c", script))

        with ThreadPoolExecutor(20) as pool:
            return list(pool.map(one, range(20)))

    assert alike(scenario) == [(number, f"{number}\n", "") for number in range(20)]


def test_a_container_outlives_the_daemon_and_is_found_again(
    image: Path, box: str, tmp_path: Path
) -> None:
    containerd = Containerd(tmp_path)
    namespace = f"{PREFIX}restarted"
    ctr = Ctr(containerd, namespace)

    def scenario(runtime: str) -> tuple[str, int]:
        ctr.start(runtime, box, "sleep", "1000")
        ctr.daemon.restart(lambda: ctr("version"))
        seen = ctr.status(box)
        argv = ("tasks", "exec", "--exec-id", "second", box, "sh", "-c", "exit 6")
        status = ctr(*argv, check=False).returncode
        ctr.remove(box)
        return seen, status

    try:
        with cgroup(namespace):
            ctr("images", "import", image)
            assert alike(scenario) == ("RUNNING", 6)
    finally:
        containerd.daemon.stop()
