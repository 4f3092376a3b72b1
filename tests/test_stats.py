"""What a container has used, as the kernel counts it, from Python and on the command line."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import eventually
from limits import (
    FOREVER,
    GROWING,
    MIB,
    cgroup_files,
    delete_theirs,
    has_a_cgroup,
    limiting,
    needing_swap,
    needs,
)

import rscontainer as rsc
from rscontainer import Container
from rscontainer.stats import Pids, Throttling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import BundleFactory, CommandLine

QUIET = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture
def running(bundle: BundleFactory, root: Path, box: str) -> Iterator[Container]:
    """A container that sleeps, with a cgroup of its own."""
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        if not has_a_cgroup(container):
            pytest.skip("the container has no cgroup of its own: none is delegated to this user")
        yield container


def sh(container: Container, script: str) -> int:
    return container.exec(["sh", "-c", script], stdout=rsc.DEVNULL, stderr=rsc.DEVNULL).wait(60)


def test_processor_time(running: Container) -> None:
    before = running.stats().cpu
    assert before is not None
    assert before.total is not None
    sh(running, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    after = running.stats().cpu
    assert after is not None
    assert after.total is not None
    # Nanoseconds: it took some milliseconds, and less than a minute.
    assert 10**6 < after.total - before.total < 60 * 10**9
    assert after.user is not None
    assert after.system is not None
    if after.per_cpu is not None:
        assert sum(after.per_cpu) == pytest.approx(after.total, rel=0.1)


@needs("cpu")
def test_throttling(running: Container) -> None:
    running.update(cpus=0.05)
    process = running.exec(["sh", "-c", "while :; do :; done"])

    def throttled() -> Throttling | None:
        cpu = running.stats().cpu
        found = cpu and cpu.throttling
        return found if found and found.throttled_time > 0 else None

    found = eventually(throttled, "some throttling")
    assert found.periods >= found.throttled_periods > 0
    process.kill()
    process.wait()


@needs("memory")
def test_memory(running: Container) -> None:
    running.update(memory="64M")
    before = running.stats().memory
    assert before is not None
    assert before.limit == 64 * MIB
    assert before.usage < 20 * MIB
    assert sh(running, "dd if=/dev/zero of=/dev/null bs=32M count=1") == 0
    after = running.stats().memory
    assert after is not None
    assert 0 < after.usage < 64 * MIB
    if after.max_usage is not None:
        assert 32 * MIB < after.max_usage <= 64 * MIB
    for part in (after.anon, after.cache, after.kernel, after.shmem, after.mapped):
        assert part is not None
        assert 0 <= part <= after.usage
    assert after.oom_kills == 0
    assert after.stat
    running.update(memory=-1)
    after = running.stats().memory
    assert after is not None
    assert after.limit is None


@needs("memory")
def test_files_in_memory_are_cache(running: Container) -> None:
    assert sh(running, "dd if=/dev/zero of=/dev/shm/file bs=1M count=8") == 0
    memory = running.stats().memory
    assert memory is not None
    assert memory.shmem is not None
    assert memory.cache is not None
    assert 8 * MIB <= memory.shmem <= memory.cache <= memory.usage


@needs("pids")
def test_processes(running: Container) -> None:
    assert running.stats().pids == Pids(current=1, limit=None)
    running.update(pids=7)
    process = running.exec(FOREVER)
    assert running.stats().pids == Pids(current=2, limit=7)
    process.kill()
    process.wait()


def test_input_and_output(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(args=FOREVER, own_rootfs=True)
    with Container.run(box, made, root=root) as container:
        if not has_a_cgroup(container) or container.stats().io is None:
            pytest.skip("the container has no cgroup of its own: none is delegated to this user")
        # Past the page cache, whose writing back is nobody's in version 1.
        if sh(container, "dd if=/dev/zero of=/file bs=1M count=4 oflag=direct"):
            pytest.skip("no direct output to a file here")
        found = eventually(lambda: [io for io in container.stats().io or () if io.writes], "output")
        assert sum(io.write_bytes for io in found) >= 4 * MIB
        assert all(io.major >= 0 and io.minor >= 0 for io in found)


def test_network(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        (before,) = container.stats().network or ()
        assert before.name == "lo"
        # What it says of its end is up to nc; a handshake alone is a few packets.
        sh(container, "nc -l -p 4444 >/dev/null & sleep 0.3; echo hello | nc 127.0.0.1 4444")
        (after,) = container.stats().network or ()
        assert after.rx_bytes - before.rx_bytes >= 100
        assert after.rx_packets > before.rx_packets
        assert after.tx_bytes == after.rx_bytes


def test_who_shares_the_hosts_network_has_no_figures_of_it(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    def change(spec: rsc.Spec) -> None:
        kinds = spec.linux.namespaces or ()
        spec.linux.namespaces = [kind for kind in kinds if kind.type != "network"]
        # sysfs can be mounted only by who owns the network.
        spec.mounts = [mount for mount in spec.mounts or () if mount.type != "sysfs"]

    with Container.run(box, bundle(change, args=FOREVER), root=root) as container:
        assert container.stats().network is None


def test_pressure(running: Container) -> None:
    pressure = running.stats().pressure.cpu
    if not cgroup_files(running.pid, "cpu.pressure"):
        assert pressure is None
        return
    assert pressure is not None
    assert 0 <= pressure.some.avg10 <= 100
    assert pressure.some.total >= pressure.full.total >= 0


@needs("hugetlb")
def test_huge_pages(running: Container) -> None:
    pages = running.stats().hugetlb
    names = ("hugetlb.2MB.usage_in_bytes", "hugetlb.2MB.current")
    if not any(cgroup_files(running.pid, name) for name in names):
        # The processor may have others, or the cgroup above keep the controller back.
        assert "2MB" not in (pages or {})
        return
    assert pages
    assert all(size.endswith("B") and of.usage == 0 for size, of in pages.items())


def test_figures_are_frozen_and_of_a_moment(running: Container) -> None:
    stats = running.stats()
    assert isinstance(stats, rsc.Stats)
    assert abs(stats.time - time.time()) < 60
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.time = 0.0  # type: ignore[misc]
    assert running.stats() != stats


def test_figures_stay_until_the_end_is_tidied_up(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        owned = has_a_cgroup(container)
        container.kill("KILL")
        container.wait(30)
        stats = container.stats()
        assert stats.network is None
        if owned and stats.cpu is not None:
            assert stats.cpu.total
    with pytest.raises(rsc.NotFoundError):
        container.stats()


def test_a_frozen_container_has_figures(running: Container) -> None:
    running.pause()
    # The kernel takes a process for frozen just before that gives up its processor, and counts the
    # time until then.
    eventually(lambda: running.stats().cpu == running.stats().cpu, "figures that stay")
    running.resume()


def test_stream(running: Container) -> None:
    began = time.monotonic()
    seen = []
    for stats in running.stats_stream(interval=0.2):
        seen.append(stats)
        if len(seen) == 4:
            running.kill("KILL")
            running.wait(30)
    assert len(seen) == 4
    assert 0.6 <= time.monotonic() - began < 30
    # Of one that has ended there is nothing to wait for.
    assert list(running.stats_stream()) == []
    with pytest.raises(ValueError, match="more than 0"):
        next(running.stats_stream(interval=0))


def test_several_look_at_once(running: Container) -> None:
    found: list[rsc.Stats] = []

    def look() -> None:
        found.extend(running.stats() for _ in range(20))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert {stats.cpu is None for stats in found} == {found[0].cpu is None}


# -- memory ran out -----------------------------------------------------------------------------


@needs("memory")
def test_the_init_is_killed_for_want_of_memory(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(limiting(memory={"limit": 16 * MIB, "swap": 16 * MIB}), args=GROWING)
    with needing_swap():
        container = Container.run(box, made, root=root)
    with container:
        assert container.wait(100) == -9
        assert container.init.oom_killed is True
        memory = container.stats().memory
        assert memory is not None
        assert memory.oom_kills == 1
    # It is known after that, too.
    assert container.init.oom_killed is True


def test_who_was_not(running: Container) -> None:
    assert running.init.oom_killed is None
    process = running.exec(["false"])
    process.wait(30)
    assert process.oom_killed is False
    running.init.kill()
    assert running.wait(30) == -9
    assert running.init.oom_killed is False


@needs("memory")
def test_a_process_of_many(running: Container) -> None:
    with needing_swap():
        running.update(memory="16M", memory_swap="16M")
    process = running.exec(GROWING)
    assert process.wait(100) == -9
    assert process.oom_killed is True
    assert running.init.oom_killed is None


# -- the command line -----------------------------------------------------------------------------


def test_events_prints_figures_once(cli: CommandLine, running: Container) -> None:
    (line,) = cli("events", "--stats", running.id).stdout.splitlines()
    event = json.loads(line)
    assert (event["type"], event["id"]) == ("stats", running.id)
    data = event["data"]
    assert list(data) == [
        *("cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"),
        "network_interfaces",
    ]
    assert data["cpu"]["usage"]["total"] > 0
    assert data["pids"] == {"current": 1}
    assert data["network_interfaces"][0]["Name"] == "lo"


def test_events_of_one_that_has_ended(cli: CommandLine, running: Container) -> None:
    running.kill("KILL")
    running.wait(30)
    done = cli("events", "--stats", running.id, check=False)
    assert done.returncode == 1
    assert "is stopped" in done.stderr


def names(value: Any, place: str = "") -> set[str]:
    """The paths of all fields, but for what has names of the kernel's."""
    if isinstance(value, list):
        return {name for item in value for name in names(item, f"{place}[]")}
    if not isinstance(value, dict) or place == ".memory.raw":
        return {place}
    return {name for key, inner in value.items() for name in names(inner, f"{place}.{key}")}


@pytest.mark.requires_root("to compare what root's containers use")
def test_the_fields_are_runcs(
    bundle: BundleFactory, cli: CommandLine, tmp_path: Path, unique_id: Callable[[], str]
) -> None:
    runc = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    if runc is None:
        pytest.skip("this host has no runc")

    def change(spec: rsc.Spec) -> None:
        spec.ociVersion = "1.0.2"
        limiting(pids={"limit": 50}, cpu={"quota": 5000, "period": 100_000})(spec)

    # Pages of a file count for whoever touched them first: each has a file of its own.
    script = "echo > /dev/shm/file; while :; do :; done"
    made = bundle(change, args=["sh", "-c", script])
    ours, theirs = unique_id(), unique_id()
    call = [runc, "--root", str(tmp_path / "runc")]
    subprocess.run(
        [*call, "run", "--detach", "-b", made.path, theirs],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )
    cli("run", "--detach", "-b", made.path, ours, **QUIET)
    try:
        # Zeros are left out: all have used something by then.
        time.sleep(1)
        said = subprocess.run(
            [*call, "events", "--stats", theirs],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        known = json.loads(said)
        found = json.loads(cli("events", "--stats", ours).stdout)
        assert known.keys() == found.keys()
        # What comes and goes: whether there was input, and in which mode time was spent.
        loose = (".blkio", ".network_interfaces", ".cpu.psi", ".memory.psi")
        missing = {
            name
            for name in names(known["data"]) - names(found["data"])
            if not name.startswith(loose)
        }
        assert missing == set()
        for blkio in (known["data"]["blkio"], found["data"]["blkio"]):
            blkio.pop("psi", None)
        assert names(found["data"]["blkio"]) <= {*names(known["data"]["blkio"]), *IO_NAMES, ""}
    finally:
        delete_theirs(call, theirs)
        cli("delete", "--force", ours)


IO_NAMES = {
    f".io{kind}Recursive[].{name}"
    for kind in ("ServiceBytes", "Serviced")
    for name in ("major", "minor", "op", "value")
}
