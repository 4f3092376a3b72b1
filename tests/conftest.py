"""What the tests share: bundles, ids, a folder of states, the command line, and the leak check."""

from __future__ import annotations

import contextlib
import functools
import gc
import getpass
import itertools
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

import rscontainer as rsc
from rscontainer import _binary

if TYPE_CHECKING:
    from collections.abc import Iterator

# Makes an ordinary user for one command; see there.
AS_USER = Path(__file__).with_name("as-user")
SEED = Path(__file__).parent / "bundles" / "busybox" / "config.json"
# How many times longer than usual everything may take: where the processor is emulated.
SLOWNESS = float(os.environ.get("RSCONTAINER_TEST_PATIENCE", "1"))
# Teardown that nobody waits for, on a machine whose cores are busy with other things.
PATIENCE = 30.0 * SLOWNESS


def repeated(times: int) -> int:
    """How often to do what is done again and again: a quarter of it where every try takes long."""
    return times if SLOWNESS < 4 else times // 4


# Ids say whose they are: other runs of this suite may be going on beside this one.
PREFIX = f"t{os.getpid()}-"
# And `as-user` names the cgroup that it hands over by the number of who runs in it.
OTHERS = re.compile(rf"^(?:t(?!{os.getpid()}-)\d+-|rscontainer-test-(?!{os.getpid()}$)\d+$)")
# An init until it runs the container's program.
COMM = "rsc:[init]\n"
COUNTER = itertools.count(1)

# Run by an ordinary user, the tests' containers are in user namespaces, of the one id that the user
# has.
ORDINARY = os.geteuid() != 0
# As a container's state names its owner.
OWNER = str(os.geteuid()) if ORDINARY else "root"

Change = Callable[[rsc.Spec], object]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requires_root(privilege): needs what an ordinary user has not, and names it"
    )
    # pytest-timeout is configured after this file, and prefers the option to the ini file's line.
    if config.getoption("timeout") is None:
        config.option.timeout = float(config.getini("timeout")) * SLOWNESS


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("requires_root"):
        # As root too: else a mark without its privilege shows in the other run alone.
        (privilege,) = marker.args
        if ORDINARY:
            pytest.skip(f"needs root: {privilege}")


@functools.lru_cache(maxsize=1)
def need_user_namespaces() -> None:
    """Skip the test where this host keeps ordinary users from what their containers begin with."""
    wrapper = [] if ORDINARY else [str(AS_USER)]
    done = subprocess.run(
        [*wrapper, "unshare", "--user", "--map-root-user", "true"],
        check=False,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    if done.returncode != 0:
        pytest.skip(f"no user namespaces for ordinary users on this host: {done.stderr.strip()}")


def subordinate(helper: str, allowance: str) -> dict[str, int] | None:
    """A range of ids that this user may map beside the own one, as ids from 1 on; if there is."""
    with contextlib.suppress(OSError):
        for line in Path(allowance).read_text().splitlines():
            user, start, count = line.split(":")
            if shutil.which(helper) and user == getpass.getuser():
                return {"containerID": 1, "hostID": int(start), "size": int(count)}
    return None


def rootless(spec: rsc.Spec, *, several: bool = False) -> None:
    """Change a config by no more than it takes to be run by an ordinary user.

    The container has one id, its root's; with ``several`` also as many as newuidmap(1) gives.
    """
    kinds = [namespace.type for namespace in spec.linux.namespaces or ()]
    if "user" not in kinds:
        spec.linux.namespaces = [*(spec.linux.namespaces or ()), {"type": "user"}]
    uids: list[Any] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    gids: list[Any] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    if several:
        more_uids = subordinate("newuidmap", "/etc/subuid")
        more_gids = subordinate("newgidmap", "/etc/subgid")
        if more_uids is None or more_gids is None:
            pytest.skip("needs several ids: newuidmap, and a range for this user in /etc/subuid")
        uids, gids = [*uids, more_uids], [*gids, more_gids]
    spec.linux.uidMappings, spec.linux.gidMappings = uids, gids
    for mount in spec.mounts or ():
        # The group of terminals is not there.
        if mount.options and "gid=5" in mount.options:
            mount.options = [option for option in mount.options if option != "gid=5"]


def user_namespace(spec: rsc.Spec) -> None:
    """Give the container a new user namespace with many ids, as far as this user can."""
    if ORDINARY:
        rootless(spec, several=True)
        return
    spec.linux.namespaces = [*(spec.linux.namespaces or ()), {"type": "user"}]
    spec.linux.uidMappings = spec.linux.gidMappings = [
        {"containerID": 0, "hostID": 100000, "size": 65536}
    ]


def has_several_users(spec: rsc.Spec) -> bool:
    user = spec.process.user
    return bool(user and (user.uid or user.gid or user.additionalGids))


def eventually(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> Any:
    """Poll until ``condition`` gives something true, and return that."""
    until = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < until, f"not within {patience} s: {what}"
        time.sleep(0.01)


def process_status(pid: int, key: str) -> str | None:
    """A line of a process's or a thread's status; None once it is gone."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        found = re.search(rf"^{key}:\s*(.*)$", text, re.MULTILINE)
        return found[1] if found else None
    return None


# -- what a test is given --------------------------------------------------------------------


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> rsc.Bundle:
    """A bundle with busybox, for all tests: its rootfs is shared and not to be written to."""
    place = tmp_path_factory.mktemp("busybox") / "bundle"
    return rsc.Bundle.create(place, rootfs="busybox")


class BundleFactory:
    """Makes bundles; see ``__call__``."""

    def __init__(self, busybox: rsc.Bundle, place: Path) -> None:
        self._busybox = busybox
        self._place = place
        self._numbers = itertools.count(1)

    def __call__(
        self,
        change: Change | None = None,
        *,
        args: list[str] | None = None,
        seed: bool = False,
        terminal: bool = False,
        own_rootfs: bool = False,
        several_ids: bool = False,
    ) -> rsc.Bundle:
        """Make a bundle of the default config, or of the ``seed``'s, after ``change``.

        An ordinary user's has a user namespace, with more ids than one if there is a user in it who
        is not root, or is going to be (``several_ids``). Bundles share one read-only rootfs, but
        with ``own_rootfs``, which may be written to.
        """
        spec = rsc.Spec.load(SEED) if seed else rsc.Spec.default()
        if ORDINARY:
            rootless(spec)
        spec.process.terminal = terminal
        if args is not None:
            spec.process.args = args
        place = self._place / f"bundle{next(self._numbers)}"
        if own_rootfs:
            rsc.Bundle.create(place, rootfs="busybox")
            spec.root.readonly = False
        else:
            place.mkdir()
            spec.root.path = str(self._busybox.rootfs)
        if change is not None:
            change(spec)
        if ORDINARY and (several_ids or has_several_users(spec)):
            rootless(spec, several=True)
        spec.save(place / "config.json")
        return rsc.Bundle(place)


@pytest.fixture
def bundle(busybox: rsc.Bundle, tmp_path: Path) -> BundleFactory:
    return BundleFactory(busybox, tmp_path)


@pytest.fixture
def unique_id() -> Callable[[], str]:
    """Gives ids that no other test has, nor another run of the suite beside this one."""
    return lambda: f"{PREFIX}{next(COUNTER)}"


@pytest.fixture
def box(unique_id: Callable[[], str]) -> str:
    """One id, for the tests that need no more."""
    return unique_id()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder of states for this test alone; nothing may be left in it."""
    if ORDINARY:
        need_user_namespaces()
    place = tmp_path / "states"
    yield place

    def left() -> list[str]:
        return sorted(entry.name for entry in place.iterdir()) if place.exists() else []

    with contextlib.suppress(AssertionError):
        eventually(lambda: not left(), "an empty folder of states")
    remains = left()
    for remaining in remains:
        # The tests after this one shall not suffer from it.
        subprocess.run(
            [_binary.binary(), "--root", place, "delete", "--force", remaining],
            check=False,
            capture_output=True,
            timeout=2 * PATIENCE,
        )
    assert not remains, f"containers left in the folder of states: {remains}"


class CommandLine:
    """Runs the ``rscontainer`` binary on the test's folder of states."""

    def __init__(self, root: Path) -> None:
        self.binary = _binary.binary()
        self.root = root

    def argv(self, *args: object) -> list[str]:
        return [self.binary, "--root", str(self.root), *map(str, args)]

    def __call__(
        self, *args: object, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; with ``check``, it must succeed."""
        more = {"capture_output": True, "text": True, "timeout": 2 * PATIENCE, **more}
        if "input" not in more:
            more.setdefault("stdin", subprocess.DEVNULL)
        done: subprocess.CompletedProcess[str] = subprocess.run(
            self.argv(*args), check=False, **more
        )
        if check:
            assert done.returncode == 0, f"{done.args} gave {done.returncode}: {done.stderr}"
        return done


@pytest.fixture
def cli(root: Path) -> CommandLine:
    return CommandLine(root)


class Shell:
    """Runs a script in a container of its own; see ``__call__``."""

    def __init__(self, bundle: BundleFactory, root: Path) -> None:
        self._bundle = bundle
        self._root = root

    def __call__(
        self,
        script: str,
        change: Change | None = None,
        *,
        bundle: rsc.Bundle | None = None,
        own_rootfs: bool = False,
        check: bool = True,
    ) -> str:
        """Run ``script`` and give its standard output; with ``check``, it must succeed."""
        if bundle is None:
            bundle = self._bundle(change, own_rootfs=own_rootfs)
        done = rsc.run(
            bundle,
            ["sh", "-c", script],
            capture_output=True,
            text=True,
            root=self._root,
            timeout=2 * PATIENCE,
        )
        if check:
            assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
        return str(done.stdout)


@pytest.fixture
def sh(bundle: BundleFactory, root: Path) -> Shell:
    return Shell(bundle, root)


# -- the leak check ---------------------------------------------------------------------------


def inits() -> set[str]:
    """Inits that have not come to run their program, of whichever container."""
    found = set()
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            if not entry.name.isdecimal() or Path(entry.path, "comm").read_text() != COMM:
                continue
            groups = Path(entry.path, "cgroup").read_text().replace("\n", "/").split("/")
            if not any(map(OTHERS.match, groups)):
                found.add(f"process {entry.name}, {COMM.strip()}")
    return found


def children() -> set[str]:
    """Direct children of this process, zombies too."""
    found = set()
    for task in os.scandir("/proc/self/task"):
        with contextlib.suppress(OSError):
            text = Path(task.path, "children").read_text()
            found |= {f"child process {pid}" for pid in text.split()}
    return found


def mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {f"mount {line.split()[4]}" for line in lines}


def cgroups() -> set[str]:
    found = set()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if not kind.startswith("cgroup"):
            continue
        for path, names, _ in os.walk(place):
            names[:] = [name for name in names if not OTHERS.match(name)]
            found |= {f"cgroup {path}/{name}" for name in names}
    return found


def default_states() -> set[str]:
    place = Path("/run/rscontainer")
    if ORDINARY:
        place = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"), "rscontainer")
    names = (entry.name for entry in place.iterdir()) if place.exists() else ()
    return {f"state {place / name}" for name in names if not OTHERS.match(name)}


def is_ours(leak: str) -> bool:
    """Whether a new cgroup can be this suite's, and not one with the host's processes alone."""
    kind, _, path = leak.partition(" ")
    if kind != "cgroup":
        return True
    try:
        members = Path(path, "cgroup.procs").read_text().split()
        own = os.readlink("/proc/self/ns/pid")
        return not members or any(os.readlink(f"/proc/{pid}/ns/pid") != own for pid in members)
    except PermissionError:
        # Another user's processes are in it.
        return not ORDINARY
    except OSError:
        return True


def descriptors() -> Counter[str]:
    """This process's open files, without the numbers that tell one socket from the next."""
    found: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        # The descriptor that lists the folder is closed by now.
        with contextlib.suppress(OSError):
            found[re.sub(r":\[?\d+\]?$", "", os.readlink(f"/proc/self/fd/{number}"))] += 1
    return found


def surroundings() -> set[str]:
    return inits() | children() | mounts() | cgroups() | default_states()


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    # The launcher stays, and its socket with it: it is there before as well as after.
    rsc.start_launcher()
    files = descriptors()
    before = surroundings()
    yield
    # What the fixtures gave is kept there until after this: their descriptors with it.
    request.node.funcargs.clear()
    gc.collect()
    # What others do at the same time comes and goes; what stays is ours.
    left = {leak for leak in surroundings() - before if is_ours(leak)}
    until = time.monotonic() + PATIENCE
    while left and time.monotonic() < until:
        time.sleep(0.02)
        left &= surroundings()
    assert not left, f"left behind: {sorted(left)}"
    opened = descriptors() - files
    assert not opened, f"descriptors left open: {dict(opened)}"
