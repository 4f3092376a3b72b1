"""When and where a container's processes run: scheduler, processors, memory nodes, personality."""

from __future__ import annotations

import errno
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from conftest import BundleFactory, Change, CommandLine, Shell

FOREVER = ["sleep", "1000"]
# CAP_SYS_NICE in a user namespace of one's own is not enough.
URGENT = pytest.mark.requires_root("to run before others")
ALL = sorted(os.sched_getaffinity(0))


def process(**properties: Any) -> Change:
    return lambda spec: spec.process.update(properties)


def linux(**properties: Any) -> Change:
    return lambda spec: spec.linux.update(properties)


def refusal(made: rsc.Bundle, root: Path, box: str) -> rsc.SystemCallError:
    with pytest.raises(rsc.SystemCallError) as caught:
        Container.create(box, made, root=root)
    return caught.value


def processors(text: str) -> list[int]:
    """The numbers in a list such as ``0-3,7``."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


ALLOWED = "sed -n 's/Cpus_allowed_list:\\s*//p' /proc/self/status"


REAL_TIME_SHARES = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")


# -- process.scheduler ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "policy", "priority", "nice"),
    [
        pytest.param({"policy": "SCHED_OTHER", "nice": -7}, os.SCHED_OTHER, 0, -7, marks=URGENT),
        ({"policy": "SCHED_OTHER", "nice": 7}, os.SCHED_OTHER, 0, 7),
        ({"policy": "SCHED_BATCH", "nice": 19}, os.SCHED_BATCH, 0, 19),
        ({"policy": "SCHED_IDLE"}, os.SCHED_IDLE, 0, 0),
        pytest.param({"policy": "SCHED_FIFO", "priority": 3}, os.SCHED_FIFO, 3, 0, marks=URGENT),
        pytest.param({"policy": "SCHED_RR", "priority": 9}, os.SCHED_RR, 9, 0, marks=URGENT),
        (
            {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            os.SCHED_BATCH | os.SCHED_RESET_ON_FORK,
            0,
            0,
        ),
    ],
)
def test_scheduler(
    bundle: BundleFactory,
    root: Path,
    box: str,
    wanted: dict[str, Any],
    policy: int,
    priority: int,
    nice: int,
) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.scheduler = wanted
        if priority and REAL_TIME_SHARES.exists():
            # Where cgroups share the time of these classes out, a new one has none.
            spec.linux.resources.cpu = {"realtimeRuntime": 1000, "realtimePeriod": 1_000_000}

    made = bundle(change, args=FOREVER)
    found = []
    # A further process has the config's too.
    with Container.run(box, made, root=root) as container, container.exec(FOREVER) as other:
        for pid in (container.pid, other.pid):
            assert pid is not None
            shown = os.sched_getparam(pid).sched_priority, os.getpriority(os.PRIO_PROCESS, pid)
            found.append((os.sched_getscheduler(pid), *shown))
        other.kill()
    # The other policies leave the number alone, which this process may have from elsewhere.
    if policy & ~os.SCHED_RESET_ON_FORK not in (os.SCHED_OTHER, os.SCHED_BATCH):
        nice = os.getpriority(os.PRIO_PROCESS, 0)
    assert found == [(policy, priority, nice)] * 2


@URGENT
def test_deadline(bundle: BundleFactory, root: Path, box: str) -> None:
    wanted = {
        "policy": "SCHED_DEADLINE",
        "flags": ["SCHED_FLAG_RESET_ON_FORK"],
        "runtime": 1_000_000,
        "deadline": 50_000_000,
        "period": 100_000_000,
    }
    made = bundle(process(scheduler=wanted), args=FOREVER)
    with Container.run(box, made, root=root) as container:
        assert container.pid is not None
        policy = os.sched_getscheduler(container.pid)
        assert policy & ~os.SCHED_RESET_ON_FORK == 6
        shown = Path(f"/proc/{container.pid}/sched").read_text()
        assert "dl.runtime" in shown


def test_scheduler_that_the_kernel_refuses(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(process(scheduler={"policy": "SCHED_FIFO"}), args=FOREVER)
    error = refusal(made, root, box)
    assert (error.call, error.errno) == ("sched_setattr", errno.EINVAL)
    assert str(error).startswith("schedule by SCHED_FIFO: EINVAL: ")
    assert "(asked for by $.process.scheduler)" in str(error)
    assert "SCHED_FIFO and SCHED_RR need a priority" in str(error)


@pytest.mark.parametrize(
    ("scheduler", "path", "message"),
    [
        ({"policy": "SCHED_FAIR"}, "policy", "must be one of SCHED_OTHER, SCHED_FIFO"),
        (
            {"policy": "SCHED_RR", "flags": ["SCHED_FLAG_RESET"]},
            "flags[0]",
            "must be one of SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM, SCHED_FLAG_DL_OVERRUN",
        ),
        ({"nice": 1}, "policy", "missing"),
    ],
)
def test_scheduler_is_validated(
    bundle: BundleFactory, scheduler: dict[str, Any], path: str, message: str
) -> None:
    made = bundle(process(scheduler=scheduler))
    with pytest.raises(rsc.SpecError, match=message) as caught:
        made.spec.validate()
    assert caught.value.path == f"$.process.scheduler.{path}"


# -- process.ioPriority -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "level", "shown"),
    [
        ("BE", 0, "best-effort: prio 0"),
        pytest.param("RT", 3, "realtime: prio 3", marks=URGENT),
        ("IDLE", 4, "idle"),
    ],
)
def test_io_priority(sh: Shell, name: str, level: int, shown: str) -> None:
    wanted = {"class": f"IOPRIO_CLASS_{name}", "priority": level}
    assert sh("ionice -p $$", process(ioPriority=wanted)).startswith(shown)


def test_io_priority_of_an_exec(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine, tmp_path: Path
) -> None:
    wanted = {"class": "IOPRIO_CLASS_IDLE", "priority": 7}
    own = {"class": "IOPRIO_CLASS_BE", "priority": 7}
    with Container.run(box, bundle(process(ioPriority=wanted), args=FOREVER), root=root):
        assert cli("exec", box, "ionice", "-p", "1").stdout.startswith("idle")
        assert cli("exec", box, "sh", "-c", "ionice -p $$").stdout.startswith("idle")
        further = tmp_path / "process.json"
        said = {"cwd": "/", "args": ["sh", "-c", "ionice -p $$"], "ioPriority": own}
        further.write_text(json.dumps(said))
        assert cli("exec", "--process", further, box).stdout.startswith("best-effort: prio 7")


# -- processors -------------------------------------------------------------------------------


def test_processors_are_those_of_the_cgroup(bundle: BundleFactory, root: Path) -> None:
    """Not those of the runtime's caller, as runc does."""
    made = bundle(args=["sh", "-c", ALLOWED])
    assert processors(rsc.run(made, capture_output=True, text=True, root=root).stdout) == ALL
    os.sched_setaffinity(0, ALL[:1])
    try:
        done = rsc.run(made, capture_output=True, text=True, root=root, timeout=60)
        assert processors(done.stdout) == ALL
    finally:
        os.sched_setaffinity(0, ALL)


def test_command_line_on_one_processor(bundle: BundleFactory, box: str, cli: CommandLine) -> None:
    made = bundle(args=["sh", "-c", ALLOWED])
    shown = cli(
        *("run", "--bundle", made.path, box),
        preexec_fn=lambda: os.sched_setaffinity(0, ALL[:1]),
    ).stdout
    assert processors(shown) == ALL


def test_final_affinity(bundle: BundleFactory, root: Path, box: str) -> None:
    last = ALL[-1]
    affinity = {"initial": str(ALL[0]), "final": f"{last},{last}-{last}"}
    made = bundle(process(execCPUAffinity=affinity), args=["sh", "-c", f"{ALLOWED}; sleep 1000"])
    with Container.run(box, made, root=root, stdout=rsc.PIPE, text=True) as container:
        # It is for what is executed in the container, not for its init.
        assert processors(container.init.stdout.readline()) == ALL
        with container.exec(["sh", "-c", ALLOWED], stdout=rsc.PIPE, text=True) as other:
            assert processors(other.stdout.read()) == [last]


def test_initial_affinity_alone(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(process(execCPUAffinity={"initial": str(ALL[0])}), args=FOREVER)
    with Container.run(box, made, root=root) as container:
        with container.exec(["sh", "-c", ALLOWED], stdout=rsc.PIPE, text=True) as other:
            # What becomes of it in the cgroup is the kernel's to say.
            assert processors(other.stdout.read()) in ([ALL[0]], ALL)
        # The runtime itself is as it was for the next one.
        assert sorted(os.sched_getaffinity(0)) == ALL


@pytest.mark.parametrize("name", ["initial", "final"])
def test_processors_that_are_not_there(
    bundle: BundleFactory, root: Path, box: str, name: str
) -> None:
    made = bundle(process(execCPUAffinity={name: "60000"}), args=FOREVER)
    with Container.run(box, made, root=root) as container:
        with pytest.raises(rsc.SystemCallError) as caught:
            container.exec(["true"])
        assert (caught.value.call, caught.value.errno) == ("sched_setaffinity", errno.EINVAL)
        assert "60000" in str(caught.value)
        assert f"(asked for by $.process.execCPUAffinity.{name})" in str(caught.value)
        assert "must be online" in str(caught.value)


@pytest.mark.parametrize("text", ["0-", "1,,2", "x", " 1", "3-1", "0-70000", "-1"])
def test_lists_are_validated(bundle: BundleFactory, text: str) -> None:
    made = bundle(process(execCPUAffinity={"final": text}))
    with pytest.raises(rsc.SpecError, match="must ") as caught:
        made.spec.validate()
    assert caught.value.path == "$.process.execCPUAffinity.final"
    made = bundle(linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": text}))
    with pytest.raises(rsc.SpecError, match="must ") as caught:
        made.spec.validate()
    assert caught.value.path == "$.linux.memoryPolicy.nodes"


# -- linux.memoryPolicy -----------------------------------------------------------------------

NUMA = Path("/proc/self/numa_maps")


@pytest.mark.skipif(not NUMA.exists(), reason="this kernel is built without NUMA")
@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"),
        (
            {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
            "bind=static:0",
        ),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_PREFERRED"}, "local"),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_DEFAULT"}, "default"),
    ],
)
def test_memory_policy(
    bundle: BundleFactory, root: Path, box: str, wanted: dict[str, Any], shown: str
) -> None:
    policy = "head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2"
    made = bundle(linux(memoryPolicy=wanted), args=["sh", "-c", f"{policy}; sleep 1000"])
    with Container.run(box, made, root=root, stdout=rsc.PIPE, text=True) as container:
        assert container.init.stdout.readline() == f"{shown}\n"
        # It is the container's: what is executed in it has it too.
        with container.exec(["sh", "-c", policy], stdout=rsc.PIPE, text=True) as other:
            assert other.stdout.read() == f"{shown}\n"


def test_memory_policy_that_the_kernel_refuses(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": "1000"}), args=FOREVER)
    error = refusal(made, root, box)
    assert error.call == "set_mempolicy"
    assert str(error).startswith("set memory policy MPOL_BIND, nodes 1000: ")
    assert "(asked for by $.linux.memoryPolicy)" in str(error)
    expected = "the nodes must be online" if NUMA.exists() else "built without NUMA"
    assert expected in str(error)


# -- linux.personality ------------------------------------------------------------------------


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="this machine's other name is known for x86_64 alone"
)
@pytest.mark.parametrize(("domain", "machine"), [("LINUX", "x86_64"), ("LINUX32", "i686")])
def test_personality(
    bundle: BundleFactory, root: Path, box: str, domain: str, machine: str
) -> None:
    made = bundle(linux(personality={"domain": domain}), args=["sh", "-c", "uname -m; sleep 1000"])
    with Container.run(box, made, root=root, stdout=rsc.PIPE, text=True) as container:
        assert container.init.stdout.readline() == f"{machine}\n"
        with container.exec(["uname", "-m"], stdout=rsc.PIPE, text=True) as other:
            assert other.stdout.read() == f"{machine}\n"
