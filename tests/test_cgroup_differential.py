"""The same limits under runc, crun and this runtime: the files of the cgroups must say the same."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import pytest
from conftest import PATIENCE
from limits import FOREVER, MIB, cgroups, controllers, delete_theirs, limiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, CommandLine

    import rscontainer as rsc

pytestmark = [
    pytest.mark.parametrize("runtime", ["runc", "crun"]),
    pytest.mark.requires_root("to compare what root's containers get"),
]

QUIET: dict[str, Any] = {
    "capture_output": False,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}

# What the kernel counts or measures, and what names this one cgroup: no setting, and different from
# one moment or container to the next. What the weight is as a nice level, the weight's file says.
FIGURES = re.compile(
    r"(^tasks|^cpu\.weight\.nice|\.(procs|threads|stat|stat\.local|events|events\.local|current|peak|numa_stat"
    r"|usage\w*|max_usage_in_bytes|failcnt|slabinfo|io_serv\w+|prioidx)|(?<!^cgroup)\.pressure)$"
)

V1 = {name for name in cgroups(os.getpid()) if name}


class Case(NamedTuple):
    """Limits to begin with, and others for an update."""

    first: dict[str, Any]
    then: dict[str, Any]


def throttles(device: str, rate: int) -> dict[str, Any]:
    major, minor = map(int, device.split(":"))
    names = [f"throttle{way}{what}Device" for way in ("Read", "Write") for what in ("Bps", "IOPS")]
    return {
        "blockIO": {
            name: [{"major": major, "minor": minor, "rate": rate + index}]
            for index, name in enumerate(names)
        }
    }


def devices(*allowed: int) -> dict[str, Any]:
    """Rules that let in some of the kernel's memory devices, by their minor numbers."""
    rules = [{"allow": True, "type": "c", "major": 1, "minor": minor} for minor in allowed]
    none: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    return {"devices": none + [{**rule, "access": "r"} for rule in rules]}


def cases() -> dict[str, Case]:
    """What this host has controllers for."""
    memory = {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB}
    more_memory = {"limit": 128 * MIB, "swap": 256 * MIB, "reservation": 48 * MIB}
    cpu = {"shares": 512, "quota": 40_000, "period": 80_000}
    burst = {"shares": 2048, "quota": 30_000, "period": 60_000, "burst": 5000}
    found = {
        "nothing": Case({}, {}),
        "memory": Case({"memory": memory}, {"memory": more_memory}),
        "less memory": Case({"memory": more_memory}, {"memory": memory}),
        "cpu": Case({"cpu": cpu}, {"cpu": {**cpu, "quota": 20_000}}),
        "burst": Case({"cpu": burst}, {"cpu": {**burst, "burst": 7000}}),
        "cpuset": Case({"cpu": {"mems": "0"}}, {"cpu": {"cpus": "0", "mems": "0"}}),
        "pids": Case({"pids": {"limit": 200}}, {"pids": {"limit": 33}}),
        "devices": Case(devices(11, 8), devices(11)),
    }
    disks = sorted(Path("/sys/block").glob("*/dev"))
    disks = [disk for disk in disks if int(disk.with_name("size").read_text())]
    if disks and controllers() & {"blkio", "io"}:
        disk = disks[0].read_text().strip()
        found["throttles"] = Case(throttles(disk, MIB), throttles(disk, 2 * MIB))
    # On hybrid hosts they do not look for it in the unified hierarchy.
    if "hugetlb" in (V1 or controllers()):
        sizes = Path("/sys/kernel/mm/hugepages").iterdir()
        size = min(int(size.name.split("-")[1][:-2]) for size in sizes) // 1024
        limits = [{"pageSize": f"{size}MB", "limit": size * MIB * count} for count in (2, 3)]
        found["hugetlb"] = Case({"hugepageLimits": limits[:1]}, {"hugepageLimits": limits[1:]})
    if not V1:
        unified = {"memory.high": str(48 * MIB), "pids.max": "77"}
        found["unified"] = Case({"unified": unified}, {"unified": {**unified, "pids.max": "78"}})
    return found


CASES = cases()


class Known(NamedTuple):
    """Files where another runtime may differ, and ours is right."""

    runtime: str
    files: str
    # Of what ours and theirs say, and what theirs said before the update.
    is_it: Callable[[str, str, str | None], bool]
    why: str


def has_more_devices(ours: str, theirs: str, _before: str | None) -> bool:
    more = set(theirs.splitlines()) - set(ours.splitlines())
    fewer = set(ours.splitlines()) - set(theirs.splitlines())
    return not fewer and more <= {"c 10:200 rwm", "c 5:1 rwm"}


def has_no_burst(_ours: str, theirs: str, _before: str | None) -> bool:
    return theirs == "0"


def has_a_straight_line(_ours: str, theirs: str, _before: str | None) -> bool:
    return theirs in {str(1 + (shares - 2) * 9999 // 262_142) for shares in (512, 777, 2048)}


def has_no_limit(_ours: str, theirs: str, _before: str | None) -> bool:
    # On version 1 the highest number of whole pages: usual ones, or huge ones of 2 MiB.
    return theirs in {"max", "9223372036854771712", "9223372036852678656"}


def stays_as_it_was(_ours: str, theirs: str, before: str | None) -> bool:
    return theirs == before


KNOWN = [
    Known(
        "runc|crun",
        r"devices\.list",
        has_more_devices,
        "older ones let every container use tun, or the host's console; config-linux.md does not",
    ),
    Known(
        "runc|crun",
        r"cpu\.cfs_burst_us|cpu\.max\.burst",
        has_no_burst,
        "releases that know of no burst pass over it; a limit that was asked for is set",
    ),
    Known(
        "runc|crun",
        r"cpu\.weight",
        has_a_straight_line,
        "it made of the default of shares less than half of the default weight; newer ones have "
        "the curve that meets both",
    ),
    Known(
        "runc|crun",
        r"hugetlb\..*\.rsvd\..*",
        has_no_limit,
        "who reserves more than the limit is refused by ours, and killed on first touch by theirs",
    ),
    Known(
        "runc|crun",
        r"devices\.list|blkio\.throttle\..*|io\.max|hugetlb\..*",
        stays_as_it_was,
        "their update passes over these; what an update asks for is done, or it fails",
    ),
]


def settings(pid: int) -> dict[str, str]:
    """Everything that can be read in the cgroups of a process and is no figure."""
    found = {}
    for hierarchy, place in cgroups(pid).items():
        for file in place.iterdir():
            # Some can only be written, to some there is nothing as long as nothing is set.
            with contextlib.suppress(OSError):
                if file.is_file() and not FIGURES.search(file.name):
                    # Lines are of devices, in the order that they came in.
                    lines = sorted(file.read_text().splitlines())
                    found[f"{hierarchy or 'unified'}/{file.name}"] = "\n".join(lines)
    return found


class Pair:
    """A container of theirs and one of ours, made of the same config."""

    def __init__(self, cli: CommandLine, binary: str, states: Path, ids: tuple[str, str]) -> None:
        self.runtime = Path(binary).name
        self._cli = cli
        self._argv = [binary, "--root", str(states)]
        self._ours, self._theirs = ids
        self._before: dict[str, str] = {}

    def call(
        self, *args: object, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of theirs."""
        argv = [*self._argv, *map(str, args)]
        more = {"capture_output": True, **more}
        return subprocess.run(argv, check=check, text=True, timeout=2 * PATIENCE, **more)

    def create(self, bundle: BundleFactory, resources: dict[str, Any], errors: Path) -> None:
        def beside(id: str) -> Path:
            def change(spec: rsc.Spec) -> None:
                # What all know, and both below the same cgroup.
                spec.ociVersion = "1.0.2"
                spec.linux.cgroupsPath = f"/{id}"
                limiting(**resources)(spec)

            return Path(bundle(change, args=FOREVER).path)

        with errors.open("w") as file:
            # Whoever stays must not hold the pipe of who waits for its end.
            to = {"capture_output": False, "stdout": file, "stderr": file}
            done = self.call("create", "-b", beside(self._theirs), self._theirs, check=False, **to)
        said = errors.read_text()
        if done.returncode and self.runtime == "crun" and "cgroup" in said:
            pytest.skip(f"crun wants cgroup mounts that this host does not have: {said}")
        assert done.returncode == 0, said
        self._cli("create", "-b", beside(self._ours), self._ours, **QUIET)

    def update(self, *options: object, **more: Any) -> None:
        done = self.call("update", *options, self._theirs, check=False, **more)
        assert done.returncode == 0, f"{options}: {done.stderr}"
        self._cli("update", *options, self._ours, **more)

    def delete(self) -> None:
        delete_theirs(self._argv, self._theirs)
        self._cli("delete", "--force", self._ours)

    def differing(self) -> dict[str, tuple[str | None, str | None]]:
        """The files that say different things: ours and theirs, without what is known."""
        said = (self._cli("state", self._ours).stdout, self.call("state", self._theirs).stdout)
        own, other = (settings(json.loads(state)["pid"]) for state in said)
        assert len(own) > 5, own
        found = {
            file: (own.get(file), other.get(file))
            for file in sorted(own.keys() | other.keys())
            if own.get(file) != other.get(file)
            # Of this controller runc 1.1 knows nothing on version 1, and stays in the root.
            and not (self.runtime == "runc" and file.startswith("misc/"))
            and not self._is_known(file, own.get(file), other.get(file))
        }
        self._before = other
        return found

    def _is_known(self, file: str, ours: str | None, theirs: str | None) -> bool:
        if ours is None or theirs is None:
            return False
        return any(
            re.fullmatch(known.runtime, self.runtime)
            and re.fullmatch(known.files, Path(file).name)
            and known.is_it(ours, theirs, self._before.get(file))
            for known in KNOWN
        )


@pytest.fixture
def pair(
    cli: CommandLine, tmp_path: Path, unique_id: Callable[[], str], runtime: str
) -> Iterator[Pair]:
    binary = shutil.which(runtime, path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        pytest.skip(f"this host has no {runtime}")
    both = Pair(cli, binary, tmp_path / runtime, (unique_id(), unique_id()))
    yield both
    both.delete()


@pytest.mark.parametrize("name", CASES)
def test_a_config(bundle: BundleFactory, pair: Pair, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    pair.create(bundle, case.first, tmp_path / "errors")
    assert pair.differing() == {}
    pair.update("--resources", "-", input=json.dumps(case.then))
    assert pair.differing() == {}


# Changes one after the other, as options. What a release does not know, it is not asked for.
CHANGES: list[list[object]] = [
    ["--memory", 64 * MIB],
    ["--memory", 32 * MIB, "--memory-swap", 48 * MIB],
    ["--memory", 128 * MIB, "--memory-swap", 256 * MIB],
    ["--memory", 40 * MIB, "--memory-swap", 40 * MIB],
    ["--memory-reservation", 20 * MIB],
    ["--memory", -1],
    ["--cpu-quota", 30_000],
    ["--cpu-period", 50_000],
    ["--cpu-quota", 90_000, "--cpu-period", 100_000],
    ["--cpu-burst", 5_000],
    ["--cpu-quota", -1],
    ["--cpu-share", 777],
    ["--cpuset-cpus", "0"],
    ["--cpuset-mems", "0"],
    ["--pids-limit", 33],
    ["--pids-limit", -1],
    # Back from there theirs has the kernel's default for shares, and ours what was asked for.
    ["--cpu-idle", 1],
]


def test_options_of_update(bundle: BundleFactory, pair: Pair, tmp_path: Path) -> None:
    first = {"pids": {"limit": 200}, "cpu": {"shares": 512}}
    pair.create(bundle, first, tmp_path / "errors")
    knows = set(re.findall(r"--[a-z-]+", pair.call("update", "--help").stdout))
    for change in CHANGES:
        if not {option for option in change if str(option).startswith("--")} <= knows:
            continue
        if pair.runtime == "crun" and (change[-1] == -1 or change[:-1] == ["--cpu-period"]):
            # Not everywhere does it take that for unlimited, nor think of swap with memory; and in
            # version 2 it forgets the quota when the period changes.
            continue
        pair.update(*change)
        assert pair.differing() == {}, change
