"""Cgroups that systemd makes: a scope for each container, with its limits."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import ORDINARY, eventually
from limits import (
    FOREVER,
    MIB,
    SYSTEMD,
    cgroup_file,
    cgroup_files,
    needs,
    not_here,
    systemctl,
)

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, CommandLine

QUIET = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
SLICE = "rsctest.slice"


def properties(unit: str, *names: str) -> dict[str, str]:
    shown = systemctl("show", unit, *(f"--property={name}" for name in names))
    return dict(line.split("=", 1) for line in shown.splitlines())


@pytest.fixture
def slice_() -> Iterator[None]:
    """Containers leave theirs, which others may be in."""
    yield
    # That of a user's containers is not one of the session's own.
    systemctl("stop", SLICE, *(["user.slice"] if ORDINARY else []))


def state(unit: str) -> str:
    return properties(unit, "LoadState")["LoadState"]


def in_slice(box: str, **resources: object) -> Change:
    def change(spec: rsc.Spec) -> None:
        spec.linux.cgroupsPath = f"{SLICE}:rsc:{box}"
        spec.linux.resources = resources

    return change


def place(pid: int) -> str:
    """Where systemd has it: in version 2's hierarchy, or its own."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line for line in lines if line.startswith("0::") or ":name=systemd:" in line)


@not_here
@pytest.mark.usefixtures("slice_")
def test_a_scope_with_its_limits(bundle: BundleFactory, root: Path, box: str) -> None:
    limits = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}}
    made = bundle(in_slice(box, **limits), args=FOREVER)
    unit = f"rsc-{box}.scope"
    with Container.run(box, made, root=root) as container:
        assert place(container.pid).endswith(f"/{SLICE}/{unit}")
        names = ("ActiveState", "Slice", "Delegate", "TasksMax", "Description")
        assert properties(unit, *names) == {
            "ActiveState": "active",
            "Slice": SLICE,
            "Delegate": "yes",
            "TasksMax": "50",
            "Description": f"container {box}",
        }
        assert cgroup_file(container.pid, "pids.max") == "50"
        limit = cgroup_file(container.pid, "memory.limit_in_bytes", "memory.max")
        assert limit == str(64 * MIB)
        with container.exec(["cat", "/proc/self/cgroup"], stdout=rsc.PIPE, text=True) as other:
            assert other.wait() == 0
            assert Path(f"/proc/{container.pid}/cgroup").read_text().count(unit) >= 1
        container.pause()
        assert container.status == "paused"
        container.resume()
    assert state(unit) == "not-found"


@not_here
@pytest.mark.usefixtures("slice_")
@needs("memory")
@needs("pids")
def test_what_systemd_applies_again_is_the_same(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    limits = {
        "memory": {"limit": 64 * MIB},
        "pids": {"limit": 50},
        "cpu": {"quota": 20_000, "period": 100_000, "shares": 512},
        **({} if ORDINARY else {"devices": [{"allow": False, "access": "rwm"}]}),
    }
    with Container.run(box, bundle(in_slice(box, **limits), args=FOREVER), root=root) as container:
        directories = {file.parent for file in cgroup_files(container.pid, "cgroup.procs")}
        names = ("memory.max", "memory.limit_in_bytes", "pids.max", "cpu.max", "cpu.weight")
        names = (*names, "cpu.shares", "cpu.cfs_quota_us", "devices.list")

        def limits_now() -> dict[Path, str]:
            files = (directory / name for directory in directories for name in names)
            return {file: file.read_text() for file in files if file.exists()}

        before = limits_now()
        assert len(before) >= 4
        systemctl("daemon-reload")
        # Something else of the unit is changed: all of it is applied again.
        systemctl("set-property", "--runtime", f"rsc-{box}.scope", "Description=other")
        assert limits_now() == before


@not_here
@pytest.mark.usefixtures("slice_")
def test_a_change_is_told_to_systemd(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(in_slice(box, pids={"limit": 50}), args=FOREVER)
    with Container.run(box, made, root=root) as container:
        container.update(pids=70)
        assert properties(f"rsc-{box}.scope", "TasksMax") == {"TasksMax": "70"}
        systemctl("daemon-reload")
        assert cgroup_file(container.pid, "pids.max") == "70"


@not_here
@pytest.mark.usefixtures("slice_")
@needs("cpu")
def test_a_changed_quota_is_not_rounded(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.run(box, bundle(in_slice(box), args=FOREVER), root=root) as container:
        # systemd keeps hundredths of a processor.
        container.update(resources={"cpu": {"quota": 12_345, "period": 100_000}})
        quota = cgroup_file(container.pid, "cpu.max", "cpu.cfs_quota_us")
        assert quota.split()[0] == "12345"


@not_here
@pytest.mark.usefixtures("slice_")
def test_the_same_name_again_at_once(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(in_slice(box), args=["true"])
    for _ in range(5):
        assert rsc.run(made, id=box, root=root).returncode == 0


@not_here
@pytest.mark.usefixtures("slice_")
def test_a_name_that_is_taken(bundle: BundleFactory, root: Path, box: str) -> None:
    manager = ["--user"] if ORDINARY else []
    unit = f"rsc-{box}.scope"
    run = ["systemd-run", *manager, "--scope", f"--unit={unit}", "sleep", "1000"]
    with subprocess.Popen(run, stderr=subprocess.DEVNULL) as other:
        try:
            eventually(lambda: state(unit) == "loaded", "a unit of that name")
            with pytest.raises(rsc.ContainerError, match=f'systemd start "{unit}".*another name'):
                Container.run(box, bundle(in_slice(box), args=FOREVER), root=root)
        finally:
            other.kill()


@not_here
@pytest.mark.usefixtures("slice_")
def test_the_end_of_its_program_ends_the_scope(bundle: BundleFactory, root: Path, box: str) -> None:
    unit = f"rsc-{box}.scope"
    with Container.run(box, bundle(in_slice(box), args=FOREVER), root=root) as container:
        container.kill("KILL")
        container.wait()
        eventually(lambda: state(unit) == "not-found", "the unit's end")
        assert container.status == "stopped"


@not_here
@pytest.mark.usefixtures("slice_")
def test_on_the_command_line(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    made = bundle(args=FOREVER)
    cli("--systemd-cgroup", "run", "-d", "-b", made.path, box, **QUIET)
    assert properties(f"rscontainer-{box}.scope", "ActiveState") == {"ActiveState": "active"}
    cli("exec", box, "true")
    cli("update", "--pids-limit", "30", box)
    assert properties(f"rscontainer-{box}.scope", "TasksMax") == {"TasksMax": "30"}
    cli("delete", "--force", box)
    eventually(lambda: state(f"rscontainer-{box}.scope") == "not-found", "the unit's end")


def test_the_flag_wants_a_path_of_systemds(
    cli: CommandLine, bundle: BundleFactory, box: str
) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.cgroupsPath = f"/rsctest/{box}"

    done = cli("--systemd-cgroup", "run", "-b", bundle(change).path, box, check=False)
    assert '$.linux.cgroupsPath = "/rsctest/' in done.stderr
    assert 'systemd needs "slice:prefix:name"' in done.stderr


@pytest.mark.parametrize("path", ["a.slice:b:", "noslice:b:c", "a--b.slice:b:c", ":b:c.slice"])
def test_paths_that_name_no_scope(bundle: BundleFactory, root: Path, box: str, path: str) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.cgroupsPath = path

    with pytest.raises(rsc.SpecError) as caught:
        Container.run(box, bundle(change), root=root)
    assert caught.value.path == "$.linux.cgroupsPath"


@pytest.mark.skipif(SYSTEMD or ORDINARY, reason="systemd runs here")
def test_without_systemd(bundle: BundleFactory, root: Path, box: str) -> None:
    with pytest.raises(rsc.ContainerError, match=r"connect to systemd's bus at .*; install") as it:
        Container.run(box, bundle(in_slice(box)), root=root)
    assert "(asked for by $.linux.cgroupsPath)" in str(it.value)
