"""Limits bite: pids, memory, cpu, devices, freezer (config-linux.md#control-groups)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import eventually, user_namespace
from limits import FOREVER, MIB, cgroup_files, controllers, limiting, needs

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from conftest import BundleFactory, CommandLine


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


@needs("pids")
def test_pids_limit_stops_a_fork_bomb(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(limiting(pids={"limit": 20}), args=FOREVER)
    with Container.run(box, made, root=root) as container:
        bomb = container.exec(sh("b() { b | b & }; b; sleep 1000"), stderr=rsc.DEVNULL)
        peak = cgroup_files(container.pid, "pids.current")
        (events,) = (file for file in cgroup_files(container.pid, "pids.events"))
        eventually(lambda: "max 0" not in events.read_text(), "the limit's being hit")
        assert all(int(file.read_text()) <= 20 for file in peak)
        assert container.status == "running"
        # A container that is full can still be ended.
        container.delete(force=True)
        assert bomb.wait(30) is not None


@needs("pids")
def test_exec_counts_against_pids(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(limiting(pids={"limit": 2}), args=FOREVER)
    with Container.run(box, made, root=root) as container:
        second = container.exec(FOREVER)
        with contextlib.suppress(rsc.ContainerError):
            # Where it is born outside and moved in, the kernel does not count it as a fork.
            third = container.exec(sh("true & wait; echo $!"), stderr=rsc.DEVNULL)
            assert third.wait(30) != 0
        second.kill()
        second.wait(30)
        assert container.exec(["true"]).wait(30) == 0


@needs("memory")
def test_memory_limit_kills(bundle: BundleFactory, root: Path) -> None:
    # Swap counts as well, so that the kernel cannot put it off.
    change = limiting(memory={"limit": 16 * MIB, "swap": 16 * MIB})
    script = "exec awk 'BEGIN { s = \"x\"; while (1) s = s s }'"
    try:
        done = rsc.run(bundle(change), sh(script), root=root, timeout=100)
    except rsc.SystemCallError as error:
        if "memsw" in str(error) or "swap" in str(error):
            pytest.skip(f"this kernel does not account for swap: {error}")
        raise
    assert done.returncode == -9


@needs("memory")
def test_memory_within_the_limit(bundle: BundleFactory, root: Path) -> None:
    change = limiting(memory={"limit": 64 * MIB})
    script = "dd if=/dev/zero of=/dev/null bs=8M count=4"
    done = rsc.run(bundle(change), sh(script), root=root, capture_output=True)
    assert done.returncode == 0


@needs("cpu")
def test_cpu_quota_bites(bundle: BundleFactory, root: Path, box: str) -> None:
    # A tenth of a core: a busy loop gets no more than that, however long it takes.
    change = limiting(cpu={"quota": 10_000, "period": 100_000})
    with Container.run(box, bundle(change, args=sh("while :; do :; done")), root=root) as container:
        stat = Path(f"/proc/{container.pid}/stat")

        def used() -> float:
            fields = stat.read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / 100

        began, at_first = time.monotonic(), used()
        eventually(lambda: used() - at_first >= 0.15, "some computing", 60)
        spent, took = used() - at_first, time.monotonic() - began
        # Two periods' worth may have been saved up, and ticks are rounded.
        assert spent <= 0.1 * took + 0.05, f"{spent} s of cpu in {took} s"


@needs("cpu")
def test_cpu_shares_are_set(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.run(
        box, bundle(limiting(cpu={"shares": 512}), args=FOREVER), root=root
    ) as container:
        shares = [int(file.read_text()) for file in cgroup_files(container.pid, "cpu.shares")]
        # Without the file of version 1 there is that of version 2.
        assert shares == [512] or (not shares and cgroup_files(container.pid, "cpu.weight"))


def test_limits_are_set_before_the_program_runs(bundle: BundleFactory, root: Path) -> None:
    if "pids" not in controllers():
        pytest.skip("no pids controller in a mounted hierarchy")
    done = rsc.run(
        bundle(limiting(pids={"limit": 1})),
        sh("(true) && echo forked"),
        root=root,
        capture_output=True,
    )
    assert done.returncode != 0
    assert done.stdout == b""
    assert b"fork" in done.stderr


# -- devices --------------------------------------------------------------------------------


def reading(device: str) -> list[str]:
    return sh(f"dd if={device} of=/dev/null count=1 2>&1 || true")


def node(path: str, major: int, minor: int) -> dict[str, Any]:
    return {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666}


# /dev/kmsg: every kernel has it, and no container may use it unless told so.
KMSG = node("/dev/kmsg", 1, 11)


def test_denied_device_gives_eperm(bundle: BundleFactory, root: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.devices = [KMSG]
        spec.linux.resources.devices = [{"allow": False, "access": "rwm"}]

    done = rsc.run(bundle(change), reading("/dev/kmsg"), root=root, stdout=rsc.PIPE, text=True)
    assert "Operation not permitted" in done.stdout
    for allowed in ("/dev/null", "/dev/zero", "/dev/urandom"):
        done = rsc.run(bundle(change), reading(allowed), root=root, stdout=rsc.PIPE, text=True)
        assert "not permitted" not in done.stdout


@pytest.mark.requires_root("to make devices")
def test_the_hosts_console_is_kept_from_containers(bundle: BundleFactory, root: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.devices = [node("/dev/hosts", 5, 1)]
        spec.linux.resources.devices = [{"allow": False, "access": "rwm"}]

    done = rsc.run(bundle(change), reading("/dev/hosts"), root=root, stdout=rsc.PIPE, text=True)
    assert "Operation not permitted" in done.stdout


@pytest.mark.requires_root("to make devices")
def test_allowed_device_can_be_used(bundle: BundleFactory, root: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.devices = [node("/dev/nothing", 1, 3)]
        spec.linux.resources.devices = [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"},
        ]

    done = rsc.run(bundle(change), reading("/dev/nothing"), root=root, stdout=rsc.PIPE, text=True)
    assert done.stdout.startswith("0+0 records in")


@pytest.mark.requires_root("to open a device that is root's")
def test_access_is_told_apart(bundle: BundleFactory, root: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.devices = [KMSG]
        spec.linux.resources.devices = [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"},
        ]
        # Without the right to read the kernel's log, opening it for that is refused as well.
        spec.process.capabilities = {}

    script = "true >> /dev/kmsg && echo writes; true < /dev/kmsg && echo reads"
    done = rsc.run(bundle(change), sh(script), root=root, capture_output=True, text=True)
    assert done.stdout == "writes\n"
    assert "Operation not permitted" in done.stderr


def test_exec_is_kept_from_devices_too(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.devices = [KMSG]
        spec.linux.resources.devices = [{"allow": False, "access": "rwm"}]

    with Container.run(box, bundle(change, args=FOREVER), root=root) as container:
        process = container.exec(reading("/dev/kmsg"), stdout=rsc.PIPE)
        assert b"Operation not permitted" in process.communicate()[0]


# -- freezer --------------------------------------------------------------------------------


def test_frozen_container_does_not_run(bundle: BundleFactory, root: Path, box: str) -> None:
    # It counts as fast as it can; frozen, it does not.
    script = "while :; do echo; done"
    made = bundle(args=sh(script))
    with Container.run(box, made, root=root, stdout=rsc.PIPE) as container:
        ticks = Path(f"/proc/{container.pid}/stat")

        def used() -> int:
            fields = ticks.read_text().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        assert container.init.stdout.read(1) == b"\n"
        container.pause()
        before = used()
        container.kill("TERM")
        time.sleep(0.3)
        assert used() == before
        assert container.status == "paused"
        container.resume()
        # It has filled the pipe when it has run on.
        assert len(container.init.stdout.read(2**17)) == 2**17
        assert container.status == "running"


def test_frozen_container_can_be_killed(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        others = [container.exec(FOREVER) for _ in range(3)]
        container.pause()
        began = time.monotonic()
        container.delete(force=True)
        assert container.wait(30) == -9
        assert [other.wait(30) for other in others] == [-9] * 3
        assert time.monotonic() - began < 30


# -- where it goes --------------------------------------------------------------------------


@pytest.mark.requires_root("to make a cgroup at the top of a hierarchy")
@pytest.mark.parametrize("style", ["/{}", "/deep/down/{}", "relative/{}"])
def test_cgroups_path(bundle: BundleFactory, root: Path, box: str, style: str) -> None:
    path = style.format(box) if style == "/{}" else style.format("").rstrip("/") + f"/{box}"
    # Folders of the path that are there for this container alone go with it.
    path = path.replace("deep", f"{box}-deep").replace("relative", f"{box}-relative")
    made = bundle(lambda spec: spec.linux.update(cgroupsPath=path), args=FOREVER)
    with Container.run(box, made, root=root) as container:
        lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
        assert all(line.endswith(path.lstrip("/")) for line in lines), lines
        container.exec(["true"]).wait(30)


@pytest.mark.requires_root("to make a cgroup at the top of a hierarchy")
def test_two_containers_in_one_cgroup(
    bundle: BundleFactory, root: Path, unique_id: Callable[[], str]
) -> None:
    first, second = unique_id(), unique_id()
    made = bundle(lambda spec: spec.linux.update(cgroupsPath=f"/{first}"), args=FOREVER)
    with Container.run(first, made, root=root) as container:
        # One's limits and end would be the other's as well.
        with pytest.raises(rsc.ContainerError, match=r"cgroup"):
            Container.run(second, made, root=root)
        assert container.status == "running"
        assert container.exec(["true"]).wait(30) == 0


# Version 2 alone, in a mount namespace of its own where the host has version 1 too.
IN_VERSION_2 = """
set -e
box=$1; shift
if ! test -e /sys/fs/cgroup/cgroup.procs; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
trap 'cd / && "$@" delete --force "$box"' EXIT
"$@" run -d -b "$BUNDLE" "$box" </dev/null >/dev/null 2>/dev/null
cd "/sys/fs/cgroup/$box"
stat -c '%u %n' . *
"$@" exec "$box" sh -c 'mkdir /sys/fs/cgroup/inner && echo made'
"""


@pytest.mark.requires_root("to hand a cgroup to another user")
@pytest.mark.parametrize("options", [["rw"], ["ro"]])
def test_who_owns_the_cgroup(
    bundle: BundleFactory, cli: CommandLine, box: str, options: list[str]
) -> None:
    def change(spec: rsc.Spec) -> None:
        user_namespace(spec)
        kinds = {namespace.type for namespace in spec.linux.namespaces}
        if "cgroup" not in kinds:
            spec.linux.namespaces = [*spec.linux.namespaces, {"type": "cgroup"}]
        spec.process.user = {"uid": 7, "gid": 7}
        spec.linux.cgroupsPath = f"/{box}"
        mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
        others = [mount for mount in spec.mounts if mount.destination != "/sys/fs/cgroup"]
        spec.mounts = [*others, {**mount, "options": options}]

    made = bundle(change, args=FOREVER)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", IN_VERSION_2, "sh", box, *cli.argv()],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "BUNDLE": str(made.path)},
    )
    lines = done.stdout.splitlines()
    owners = {name: int(owner) for owner, _, name in (line.partition(" ") for line in lines[:-1])}
    if options == ["ro"]:
        assert set(owners.values()) == {0}
        return
    listed = set(Path("/sys/kernel/cgroup/delegate").read_text().split())
    assert lines[-1] == "made", done.stderr
    theirs = {name for name, owner in owners.items() if owner == 100_007}
    assert theirs == {".", *(listed & owners.keys())}
    # Its limits stay the host's.
    assert owners["cgroup.max.depth"] == 0
