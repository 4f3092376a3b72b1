"""Limits bite: each is shown by what a program can no longer do, wherever its cgroup is.

In the hierarchies of this host, of version 1 or 2, made here or by systemd.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import eventually
from limits import (
    FOREVER,
    GROWING,
    MIB,
    cgroup_file,
    cgroup_files,
    controllers,
    limiting,
    needing_swap,
    needs,
    not_here,
    systemctl,
)

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change

SLICE = "rsclimits.slice"


@pytest.fixture(params=["path", pytest.param("scope", marks=not_here)])
def limited(request: pytest.FixtureRequest, box: str) -> Iterator[Callable[..., Change]]:
    """Gives changes to a config: limits, and the cgroup that is to have them."""

    def limited(**resources: Any) -> Change:
        def change(spec: rsc.Spec) -> None:
            limiting(**resources)(spec)
            if request.param == "scope":
                spec.linux.cgroupsPath = f"{SLICE}:rsc:{box}"

        return change

    yield limited
    if request.param == "scope":
        # Containers leave theirs, which others may be in.
        systemctl("stop", SLICE, check=False)


@needs("memory")
def test_a_process_over_its_memory_is_killed_and_reported(
    bundle: BundleFactory, root: Path, box: str, limited: Callable[..., Change]
) -> None:
    # Swap counts as well, so that the kernel cannot put it off.
    made = bundle(limited(memory={"limit": 16 * MIB, "swap": 16 * MIB}), args=FOREVER)
    with needing_swap():
        container = Container.run(box, made, root=root)
    with container:
        events = container.events()
        process = container.exec(GROWING)
        assert process.wait(100) == -9
        assert process.oom_killed is True
        kinds = {next(events).type}
        while "oom_kill" not in kinds:
            kinds.add(next(events).type)
        assert kinds == {"oom", "oom_kill"}
        memory = container.stats().memory
        assert memory is not None
        assert memory.oom_kills == 1
        assert container.init.oom_killed is None
        assert container.status == "running"


# What makes more of itself, and goes on where it may not.
BOMB = 'exec awk \'BEGIN { while (1) system(ENVIRON["BOMB"] " &") }\''


def bombing(spec: rsc.Spec, box: str) -> None:
    spec.process.env = [*spec.process.env, f"BOMB={BOMB}", f"BOX={box}"]
    spec.process.args = ["sh", "-c", BOMB]


@needs("pids")
def test_a_fork_bomb_stops_at_its_limit(
    bundle: BundleFactory, root: Path, box: str, limited: Callable[..., Change]
) -> None:
    def change(spec: rsc.Spec) -> None:
        limited(pids={"limit": 30})(spec)
        bombing(spec, box)

    made = bundle(change)
    with Container.run(box, made, root=root, stderr=rsc.DEVNULL) as container:
        (events,) = cgroup_files(container.pid, "pids.events")
        eventually(lambda: "max 0" not in events.read_text(), "the limit's being hit")
        for _ in range(20):
            assert int(cgroup_file(container.pid, "pids.current")) <= 30
        assert container.status == "running"


@needs("pids")
@pytest.mark.requires_root("to be among the host's processes")
def test_nothing_of_a_fork_bomb_escapes(
    bundle: BundleFactory, root: Path, box: str, limited: Callable[..., Change]
) -> None:
    def among_the_hosts(spec: rsc.Spec) -> None:
        # The kernel ends a pid namespace with its init; here there is none to do that.
        limited(pids={"limit": 30})(spec)
        kept = [namespace for namespace in spec.linux.namespaces if namespace.type != "pid"]
        spec.linux.namespaces = kept
        bombing(spec, box)

    def fragments() -> list[str]:
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if f"BOX={box}".encode() in environment.split(b"\0"):
                found.append(name)
        return found

    made = bundle(among_the_hosts)
    with Container.run(box, made, root=root, stderr=rsc.DEVNULL) as container:
        (events,) = cgroup_files(container.pid, "pids.events")
        eventually(lambda: "max 0" not in events.read_text(), "the limit's being hit")
        assert len(fragments()) > 2
        container.delete(force=True)
        # One that has ended may not be reaped yet; it has no environment any more.
        assert fragments() == []


@needs("cpu")
def test_half_a_processor_is_half_a_processor(
    bundle: BundleFactory, root: Path, box: str, limited: Callable[..., Change]
) -> None:
    made = bundle(
        limited(cpu={"quota": 50_000, "period": 100_000}), args=["sh", "-c", "while :; do :; done"]
    )
    with Container.run(box, made, root=root) as container:

        def share() -> float:
            """What it has used of a processor, over three seconds."""
            before, began = container.stats().cpu, time.monotonic()
            time.sleep(3)
            after, ended = container.stats().cpu, time.monotonic()
            assert before is not None
            assert after is not None
            return float(after.total - before.total) / 1e9 / (ended - began)

        shares = []
        while len(shares) < 5:
            shares.append(share())
            assert shares[-1] <= 0.55, shares
            if shares[-1] >= 0.45:
                return
            # Less than the quota is what other programs of the host have left of it.
        pytest.fail(f"less than half a processor, each time: {shares}")


def disk_of(path: Path) -> tuple[int, int] | None:
    """The device that keeps what is written there, if it is a disk or a part of one."""
    number = path.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not device.exists():
        return None
    # Limits are those of the whole disk.
    whole = device.resolve().parent if (device / "partition").exists() else device
    major, minor = map(int, (whole / "dev").read_text().split(":"))
    return major, minor


def test_writing_to_a_disk_is_throttled(
    bundle: BundleFactory, root: Path, box: str, limited: Callable[..., Change]
) -> None:
    made = bundle(limited(), args=FOREVER, own_rootfs=True)
    disk = disk_of(made.rootfs)
    if disk is None or not controllers() & {"blkio", "io"}:
        pytest.skip("no disk, or no controller for it")
    # Past the page cache, whose writing back is nobody's in version 1.
    write = ["dd", "if=/dev/zero", "of=/file", "bs=256k", "count=12", "oflag=direct"]
    with Container.run(box, made, root=root) as container:
        if not cgroup_files(container.pid, "blkio.throttle.write_bps_device") and not cgroup_files(
            container.pid, "io.max"
        ):
            pytest.skip("no disk, or no controller for it")

        def took() -> float:
            began = time.monotonic()
            if container.exec(write, stderr=rsc.DEVNULL).wait(100):
                pytest.skip("no direct output to a file here")
            return time.monotonic() - began

        # The file is there from now on: what is measured is writing alone.
        took()
        freely = took()
        device = {"major": disk[0], "minor": disk[1], "rate": MIB}
        container.update(resources={"blockIO": {"throttleWriteBpsDevice": [device]}})
        # Three seconds' worth, of which the first piece is free.
        assert took() > max(2.0, freely)
        container.update(resources={"blockIO": {"throttleWriteBpsDevice": [{**device, "rate": 0}]}})
        assert took() < 2.0 + 2 * freely


@pytest.mark.requires_root("to restrict devices")
def test_a_denied_device_gives_eperm(
    bundle: BundleFactory, root: Path, box: str, limited: Callable[..., Change]
) -> None:
    kmsg = {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}
    nothing = {"allow": False, "access": "rwm"}
    writing = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}
    script = "true >>/dev/kmsg && echo written"
    said = {}
    for rules in ([nothing], [nothing, writing]):

        def change(spec: rsc.Spec, rules: list[dict[str, Any]] = rules) -> None:
            limited(devices=rules)(spec)
            spec.linux.devices = [{**kmsg, "fileMode": 0o666}]

        done = rsc.run(
            bundle(change, args=["sh", "-c", script]),
            id=box,
            root=root,
            capture_output=True,
            text=True,
        )
        said[len(rules)] = done.stdout + done.stderr
    assert "Operation not permitted" in said[1]
    assert "written" not in said[1]
    assert said[2] == "written\n"
