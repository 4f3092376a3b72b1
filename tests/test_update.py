"""update: other limits for a container that runs, which bite from then on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import eventually
from limits import (
    FOREVER,
    MIB,
    cgroup_file,
    cgroup_files,
    controllers,
    has_a_cgroup,
    limiting,
    needing_swap,
    needs,
)

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, CommandLine


@pytest.fixture
def running(bundle: BundleFactory, root: Path, box: str) -> Iterator[Container]:
    """A container that sleeps."""
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        if not has_a_cgroup(container):
            pytest.skip("the container has no cgroup of its own: none is delegated to this user")
        yield container


def limits_of(pid: int) -> dict[str, str]:
    """What the files say that updates change."""
    names = [
        *("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes"),
        *("memory.max", "memory.swap.max", "memory.low", "pids.max", "cpuset.cpus", "cpuset.mems"),
        *("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.idle"),
        *("cpu.weight", "cpu.max", "cpu.max.burst"),
    ]
    return {name: file.read_text().strip() for name in names for file in cgroup_files(pid, name)}


def memory_limit(container: Container) -> str:
    return cgroup_file(container.pid, "memory.limit_in_bytes", "memory.max")


def cpu_quota(container: Container) -> list[int | str]:
    """Quota and period."""
    if cgroup_files(container.pid, "cpu.max"):
        words: list[int | str] = [*cgroup_file(container.pid, "cpu.max").split()]
        return [-1 if word == "max" else int(word) for word in words]
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    return [int(cgroup_file(container.pid, name)) for name in names]


# -- they bite --------------------------------------------------------------------------------


@needs("pids")
def test_a_fork_bomb_stops_at_the_new_limit(running: Container) -> None:
    running.update(pids=15)
    script = "b() { b | b & }; b; sleep 1000"
    bomb = running.exec(["sh", "-c", script], stderr=rsc.DEVNULL)
    (events,) = cgroup_files(running.pid, "pids.events")
    eventually(lambda: "max 0" not in events.read_text(), "the limit's being hit")
    assert int(cgroup_file(running.pid, "pids.current")) <= 15
    bomb.kill()
    running.delete(force=True)
    assert bomb.wait(30) is not None


EATER = 'exec awk \'BEGIN { s = "x"; while (length(s) < 33554432) s = s s; print "fed" }\''


@needs("memory")
def test_memory_bites_and_is_given_back(running: Container) -> None:
    def eat() -> tuple[Any, int]:
        process = running.exec(["sh", "-c", EATER], stdout=rsc.PIPE, stderr=rsc.DEVNULL)
        out, _ = process.communicate(timeout=60)
        return out, process.wait()

    with needing_swap():
        running.update(memory="16M", memory_swap="16M")
    assert eat()[1] == -9
    running.update(memory="256M", memory_swap="256M")
    assert eat() == (b"fed\n", 0)
    assert memory_limit(running) == str(256 * MIB)


@needs("memory")
def test_memory_goes_up_and_down_with_swap(running: Container) -> None:
    for size in (64, 32, 200, 100):
        running.update(memory=size * MIB, memory_swap=2 * size * MIB)
        assert memory_limit(running) == str(size * MIB)
    # Without a limit to memory there is none to memory and swap together.
    running.update(memory=-1)
    assert memory_limit(running) in {"max", "9223372036854771712"}
    assert "swap" not in running.resources()["memory"]
    running.update(memory="1G")
    assert memory_limit(running) == str(2**30)


@needs("memory")
def test_what_holds_is_part_of_the_check(running: Container) -> None:
    running.update(memory="32M", memory_swap="64M")
    with pytest.raises(rsc.SpecError, match="memory and swap together") as caught:
        running.update(memory="128M")
    assert caught.value.path == "$.linux.resources.memory.swap"
    assert memory_limit(running) == str(32 * MIB)


@needs("memory")
def test_less_than_is_in_use_is_refused_with_the_usage(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    made = bundle(limiting(memory={"limit": 256 * MIB}), args=FOREVER)
    with Container.run(box, made, root=root) as container:
        script = EATER.replace("print", 'system("sleep 1000"); print').replace("exec ", "")
        eater = container.exec(["sh", "-c", script], stdout=rsc.DEVNULL)
        usage = ("memory.usage_in_bytes", "memory.current")
        eventually(lambda: int(cgroup_file(container.pid, *usage)) > 32 * MIB, "some eating")
        check = {"memory": {"limit": 8 * MIB, "checkBeforeUpdate": True}}
        with pytest.raises(rsc.ContainerError, match=r"\d{8} bytes are in use"):
            container.update(resources=check, pids=10)
        assert memory_limit(container) == str(256 * MIB)
        assert eater.poll() is None


@needs("cpu")
def test_quota_and_period_go_together(running: Container) -> None:
    running.update(cpus=1.5)
    assert cpu_quota(running) == [150_000, 100_000]
    running.update(resources={"cpu": {"period": 50_000}})
    assert cpu_quota(running) == [150_000, 50_000]
    running.update(resources={"cpu": {"quota": 5_000, "period": 10_000, "burst": 4_000}})
    assert cpu_quota(running) == [5_000, 10_000]
    # The burst may not be more than the quota, now or then.
    with pytest.raises(rsc.SpecError, match="burst"):
        running.update(resources={"cpu": {"quota": 3_000}})
    running.update(resources={"cpu": {"quota": 3_000, "burst": 2_000, "period": 20_000}})
    assert cpu_quota(running) == [3_000, 20_000]
    running.update(cpus=-1)
    assert cpu_quota(running) == [-1, 100_000]


@needs("cpu")
def test_idle_and_shares_in_any_order(running: Container) -> None:
    files = cgroup_files(running.pid, "cpu.idle")
    if not files:
        pytest.skip("this kernel has no idle cgroups")
    running.update(cpu_shares=512)
    weight = cgroup_file(running.pid, "cpu.shares", "cpu.weight")
    running.update(resources={"cpu": {"idle": 1}})
    assert files[0].read_text() == "1\n"
    with pytest.raises(rsc.SystemCallError, match=r"set cpu\.idle to 0"):
        running.update(cpu_shares=256)
    assert files[0].read_text() == "1\n"
    # What was asked for before it idled holds again.
    running.update(resources={"cpu": {"idle": 0}})
    assert cgroup_file(running.pid, "cpu.shares", "cpu.weight") == weight


@needs("cpuset")
def test_processors(running: Container) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    running.update(cpuset=allowed[:1])
    assert os.sched_getaffinity(running.pid) == set(allowed[:1])
    running.update(cpuset=",".join(map(str, allowed)))
    assert os.sched_getaffinity(running.pid) == set(allowed)


def test_io_of_a_device(running: Container) -> None:
    disks = [path for path in Path("/sys/block").iterdir() if (path / "device").exists()]
    if not disks or not controllers() & {"blkio", "io"}:
        pytest.skip("no disk, or no controller for it")
    major, minor = map(int, (disks[0] / "dev").read_text().split(":"))
    device = {"major": major, "minor": minor}
    for rate in (2**20, 2**21):
        running.update(resources={"blockIO": {"throttleReadBpsDevice": [{**device, "rate": rate}]}})
        text = cgroup_file(running.pid, "blkio.throttle.read_bps_device", "io.max")
        assert f"{major}:{minor}" in text
        assert str(rate) in text
    held = running.resources()["blockIO"]["throttleReadBpsDevice"]
    assert held == [{**device, "rate": 2**21}]


def test_a_file_of_version_2_by_its_name(running: Container) -> None:
    if not cgroup_files(running.pid, "memory.high"):
        with pytest.raises(rsc.ContainerError, match=r'unified\["memory.high"\]'):
            running.update(**{"memory.high": "64M"})
        return
    running.update(**{"memory.high": 64 * MIB})
    assert cgroup_file(running.pid, "memory.high") == str(64 * MIB)
    assert running.resources()["unified"] == {"memory.high": str(64 * MIB)}


# -- devices ----------------------------------------------------------------------------------

KMSG = {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}
NOTHING = {"allow": False, "access": "rwm"}
TO_KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}


@pytest.mark.requires_root("to change rules for devices")
def test_devices_are_allowed_and_denied(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.devices = [KMSG]
        spec.linux.resources.devices = [NOTHING]

    def writes(container: Container) -> bool:
        process = container.exec(["sh", "-c", "true >>/dev/kmsg"], stderr=rsc.DEVNULL)
        return process.wait(30) == 0

    # It opens a device that every container has as fast as it can, and ends when it may not.
    script = "while true <>/dev/null; do :; done"
    with Container.run(box, bundle(change, args=["sh", "-c", script]), root=root) as container:
        assert not writes(container)
        for rules, expected in [
            ([NOTHING, TO_KMSG], True),
            ([NOTHING], False),
            ([{"allow": True, "access": "rwm"}], True),
            ([NOTHING], False),
            ([NOTHING, TO_KMSG], True),
        ] * 3:
            container.update(resources={"devices": rules})
            assert writes(container) is expected
        assert container.resources()["devices"] == [NOTHING, TO_KMSG]
        assert container.status == "running"


@pytest.mark.requires_root("to change rules for devices")
def test_a_paused_container_stays_paused(running: Container) -> None:
    running.pause()
    running.update(resources={"devices": [{"allow": True, "access": "rwm"}]}, pids=9)
    assert running.status == "paused"
    assert cgroup_file(running.pid, "pids.max") == "9"
    running.resume()


# -- all or nothing ---------------------------------------------------------------------------


@needs("cpuset")
@needs("pids")
def test_a_refused_part_takes_the_others_back(running: Container) -> None:
    running.update(memory="64M", cpus=1, pids=100)
    before, held = limits_of(running.pid), running.resources()
    with pytest.raises(rsc.SystemCallError, match="the limits stay as they were") as caught:
        running.update(memory="32M", cpus=0.5, cpuset="1000", pids=50)
    assert caught.value.asked_by == "$.linux.resources.cpu.cpus"
    assert "cpuset.cpus" in str(caught.value)
    assert limits_of(running.pid) == before
    assert running.resources() == held
    assert sorted(path.name for path in running._core.root.joinpath(running.id).iterdir()) == [
        "init",
        "limits",
        "state.json",
    ]


def test_limits_as_a_config_has_them(running: Container) -> None:
    spec = rsc.Spec.default()
    spec.linux.resources = {"pids": {"limit": 55}, "cpu": {"quota": 50_000}}
    running.update(resources=spec.linux.resources)
    assert cgroup_file(running.pid, "pids.max") == "55"
    assert cpu_quota(running)[0] == 50_000


def test_none_changes_nothing(running: Container) -> None:
    before = limits_of(running.pid)
    running.update()
    running.update(resources={"memory": {"limit": 0}, "cpu": {"cpus": ""}, "blockIO": None})
    assert limits_of(running.pid) == before


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"memory": "lots"}, "no number of bytes"),
        ({"memory": -2}, "no number of bytes"),
        ({"cpus": 0}, "cpus must be more than 0"),
        ({"cpus": -0.5}, "cpus must be more than 0"),
        ({"speed": 1}, "unexpected keyword argument 'speed'"),
        ({"pids": 3, "resources": {"pids": {"limit": 4}}}, "given twice"),
        ({"resources": {"memory": {"limit": "4"}}}, r"\$.linux.resources.memory.limit"),
        ({"resources": {"cpu": {"cpus": "all"}}}, r"\$.linux.resources.cpu.cpus"),
        ({"resources": {"memory": {"limit": 9, "swap": 8}}}, "memory and swap together"),
    ],
)
def test_what_is_not_valid(running: Container, given: dict[str, Any], complaint: str) -> None:
    before = limits_of(running.pid)
    with pytest.raises((rsc.ContainerError, ValueError, TypeError), match=complaint):
        running.update(**given)
    assert limits_of(running.pid) == before


def test_kernel_memory_is_ignored_with_a_warning(running: Container) -> None:
    with pytest.warns(rsc.ConfigWarning, match="kernel"):
        running.update(resources={"memory": {"kernel": 64 * MIB}})


def test_a_stopped_container_has_no_limits(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.run(box, bundle(args=["true"]), root=root) as container:
        container.wait(30)
        with pytest.raises(rsc.StateError, match="it is stopped"):
            container.update(pids=5)


def test_updates_at_once_lose_nothing(running: Container, cli: CommandLine) -> None:
    def in_python(number: int) -> None:
        running.update(resources={"cpu": {"period": 50_000 + 1000 * number, "quota": 40_000}})

    def on_the_command_line(number: int) -> None:
        cli("update", "--pids-limit", 100 + number, running.id)

    def memory(number: int) -> None:
        running.update(memory=(64 + number) * MIB)

    def rounds(work: Callable[[int], None]) -> None:
        for number in range(10):
            work(number)

    works = (in_python, on_the_command_line, memory)
    threads = [threading.Thread(target=rounds, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = running.resources()
    assert held["cpu"]["period"] == 59_000
    assert held["pids"]["limit"] == 109
    assert held["memory"]["limit"] == 73 * MIB
    assert cpu_quota(running) == [40_000, 59_000]
    assert cgroup_file(running.pid, "pids.max") == "109"
    assert memory_limit(running) == str(73 * MIB)


CHANGING = """
import sys
import rscontainer as rsc
container = rsc.Container.load(sys.argv[2], root=sys.argv[1])
sys.stdin.readline()
for number in range(30):
    if sys.argv[3] == "pids":
        container.update(pids=100 + number)
    else:
        container.update(cpus=(10 + number) / 10)
    print(container.resources()[sys.argv[4]], flush=True)
"""


def test_two_processes_lose_nothing_of_each_others(running: Container) -> None:
    asked = [("pids", "pids"), ("cpus", "cpu")]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", CHANGING, str(running._core.root), running.id, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for words in asked
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("now\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    # What either was told holds, holds: the other's changes have not put it back.
    assert said[0] == [str({"limit": 100 + number}) for number in range(30)]
    quotas = [f"'quota': {10_000 * (10 + number)}" for number in range(30)]
    assert len(said[1]) == 30
    assert all(quota in line for quota, line in zip(quotas, said[1]))
    held = running.resources()
    assert held["pids"] == {"limit": 129}
    assert held["cpu"]["quota"] == 390_000
    assert cgroup_file(running.pid, "pids.max") == "129"
    assert cpu_quota(running) == [390_000, 100_000]


@needs("memory")
def test_the_kernels_killing_is_put_off_and_back(running: Container) -> None:
    if not cgroup_files(running.pid, "memory.oom_control"):
        # Version 2 has nothing like it.
        with pytest.raises(rsc.SpecError, match="disableOOMKiller"):
            running.update(resources={"memory": {"disableOOMKiller": True}})
        return
    for disabled in (True, False):
        running.update(resources={"memory": {"disableOOMKiller": disabled}})
        text = cgroup_file(running.pid, "memory.oom_control")
        assert text.splitlines()[0] == f"oom_kill_disable {int(disabled)}"


# -- the command line -------------------------------------------------------------------------


def test_options(cli: CommandLine, running: Container) -> None:
    options = [
        *("--memory", "64M", "--memory-swap", "1g", "--memory-reservation", "32m"),
        *("--cpu-period", 50_000, "--cpu-quota", 20_000, "--cpu-burst", 1000, "--cpu-share", 300),
        *("--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", 30, "--cpu-idle", 0),
    ]
    cli("update", *options, running.id)
    assert running.resources() == {
        **running.resources(),
        "memory": {"limit": 64 * MIB, "swap": 2**30, "reservation": 32 * MIB},
        "pids": {"limit": 30},
    }
    assert memory_limit(running) == str(64 * MIB)
    assert cpu_quota(running) == [20_000, 50_000]
    cli("update", running.id, "--memory", "-1", "--pids-limit", "-1", "--cpu-quota", "-1")
    assert memory_limit(running) in {"max", "9223372036854771712"}
    assert cgroup_file(running.pid, "pids.max") == "max"
    assert cpu_quota(running) == [-1, 50_000]
    assert cgroup_file(running.pid, "cpuset.cpus") == "0"


@pytest.mark.parametrize("by_name", [True, False])
def test_a_file_or_standard_input(
    cli: CommandLine, running: Container, tmp_path: Path, by_name: bool
) -> None:
    change = {"pids": {"limit": 44}, "memory": {"limit": 64 * MIB, "swap": 0}, "cpu": {}}
    text = json.dumps(change)
    (tmp_path / "change.json").write_text(text)
    where = tmp_path / "change.json" if by_name else "-"
    # What else is said is ignored then.
    cli("update", "-r", where, "--pids-limit", 3, running.id, input=None if by_name else text)
    assert cgroup_file(running.pid, "pids.max") == "44"
    assert memory_limit(running) == str(64 * MIB)


def test_faults_on_the_command_line(cli: CommandLine, running: Container, tmp_path: Path) -> None:
    done = cli("update", "--memory", "much", running.id, check=False)
    assert done.returncode == 1
    assert '--memory "much" is no number of bytes' in done.stderr
    done = cli("update", "-r", tmp_path / "none", running.id, check=False)
    assert "no such file" in done.stderr
    done = cli("update", "-r", "-", running.id, input="{", check=False)
    assert "not JSON" in done.stderr
    done = cli("update", "--l3-cache-schema", "L3:0=f", running.id, check=False)
    assert "no shares of cache" in done.stderr
    done = cli("update", "--kernel-memory", "5M", running.id)
    assert "warning" in done.stderr
    assert "--kernel-memory" not in cli("update", "--help").stdout
