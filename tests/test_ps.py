"""Who is in a container: its processes by their numbers on the host."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import eventually
from limits import FOREVER

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, CommandLine

needs_ps = pytest.mark.skipif(shutil.which("ps") is None, reason="no ps\\(1\\) on this host")


@pytest.fixture
def running(bundle: BundleFactory, root: Path, box: str) -> Iterator[Container]:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        # Until then its init is nothing that others may look at.
        eventually(lambda: container.status == "running", "the program")
        yield container


def test_numbers(running: Container) -> None:
    assert running.pids() == [running.pid]
    script = "sleep 1000 & sleep 1000 & wait"
    process = running.exec(["sh", "-c", script])
    found = eventually(lambda: len(running.pids()) == 4 and running.pids(), "all of them")
    assert {running.pid, process.pid} < set(found)
    assert found == sorted(found)
    assert all(Path(f"/proc/{pid}").exists() for pid in found)
    process.kill()
    process.wait()
    running.kill("KILL")
    running.wait(30)
    assert running.pids() == []


def test_those_in_cgroups_inside(running: Container) -> None:
    if os.geteuid() != 0:
        assert running.pids() == [running.pid]
        return
    line = next(
        line
        for line in Path(f"/proc/{running.pid}/cgroup").read_text().splitlines()
        if line.startswith("0::") or ":freezer:" in line
    )
    _, controllers, path = line.split(":", 2)
    mounts = [line.split()[:4] for line in Path("/proc/self/mounts").read_text().splitlines()]
    place = next(
        place
        for _, place, kind, options in mounts
        if (kind == "cgroup2" if not controllers else controllers in options.split(","))
    )
    inside = Path(place + path) / "inside"
    process = running.exec(FOREVER)
    inside.mkdir()
    (inside / "cgroup.procs").write_text(str(process.pid))
    assert running.pids() == sorted([running.pid, process.pid])
    process.kill()
    process.wait()


def test_of_none(running: Container) -> None:
    running.delete(force=True)
    with pytest.raises(rsc.NotFoundError):
        running.pids()


def test_json(cli: CommandLine, running: Container) -> None:
    assert json.loads(cli("ps", "--format", "json", running.id).stdout) == [running.pid]
    assert json.loads(cli("ps", "-f", "json", running.id, "aux").stdout) == [running.pid]


@needs_ps
def test_table(cli: CommandLine, running: Container) -> None:
    heading, *lines = cli("ps", running.id).stdout.splitlines()
    assert heading.split()[:3] == ["UID", "PID", "PPID"]
    assert [line.split()[1] for line in lines] == [str(running.pid)]
    assert lines[0].endswith("sleep 1000")


@needs_ps
@pytest.mark.parametrize("options", [["aux"], ["-ef"], ["-e", "-o", "comm,pid"], ["-f", "-A"]])
def test_options_of_ps(cli: CommandLine, running: Container, options: list[str]) -> None:
    # Whatever comes after the container is for ps(1), -f too.
    heading, *lines = cli("ps", running.id, *options).stdout.splitlines()
    column = heading.split().index("PID")
    assert [line.split()[column] for line in lines] == [str(running.pid)]


@needs_ps
def test_faults(cli: CommandLine, running: Container) -> None:
    done = cli("ps", running.id, "-e", "-o", "comm", check=False)
    assert "shows no column PID" in done.stderr
    done = cli("ps", running.id, "--nonsense", check=False)
    assert "ps --nonsense failed" in done.stderr
    done = cli("ps", "--format", "xml", running.id, check=False)
    assert done.returncode == 1
    assert "possible values: table, json" in done.stderr
    done = cli("ps", running.id, check=False, env={**os.environ, "PATH": "/nonexistent"})
    assert "--format json" in done.stderr
