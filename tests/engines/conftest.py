"""What the engines share: the two runtimes, an image made here, a daemon, and the tidying up.

Each engine keeps to folders of its own and to unix sockets, without a network. A scenario is a
function of the runtime's name: it runs under runc, the reference, and under rscontainer, and what
it gives must be equal; see ``alike``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import re
import select
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar

import pytest
from conftest import PATIENCE, eventually

from rscontainer import _binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import rscontainer as rsc

REFERENCE = "runc"
RUNTIMES = (REFERENCE, "rscontainer")
IMAGE = "localhost/busybox:latest"
# The distribution's own come first: a machine may have other clients before them.
WHERE = "/usr/bin:/usr/sbin:/bin:/sbin:" + os.environ.get("PATH", "")

Result = TypeVar("Result")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Podman has no daemon, and is an ordinary user's as well.
        if Path(__file__).parent in item.path.parents and item.path.stem != "test_podman":
            item.add_marker(pytest.mark.requires_root("an engine's daemon"))


def need(program: str) -> str:
    """The program's path; the test is skipped where it is not installed."""
    path = shutil.which(program, path=WHERE)
    if path is None:
        pytest.skip(f"{program} is not installed here")
    return path


def binary(runtime: str) -> str:
    """The path of a runtime's program."""
    return need(REFERENCE) if runtime == REFERENCE else _binary.binary()


def alike(scenario: Callable[[str], Result]) -> Result:
    """Run ``scenario`` under each runtime, and give what they have in common: all of it."""
    expected, found = (scenario(runtime) for runtime in RUNTIMES)
    assert found == expected, f"under {REFERENCE} it gave {expected!r}"
    return found


def run(
    argv: Sequence[object], *, check: bool = True, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a client to its end; with ``check``, it must succeed."""
    more = {"capture_output": True, "text": True, "timeout": 2 * PATIENCE, **more}
    if "input" not in more:
        more.setdefault("stdin", subprocess.DEVNULL)
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [str(word) for word in argv], check=False, **more
    )
    if check:
        assert done.returncode == 0, f"{done.args} gave {done.returncode}: {done.stderr}"
    return done


class Client:
    """An engine's command line, with the words that every call begins with."""

    def __init__(
        self,
        *words: object,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._words = [str(word) for word in words]
        self.environment = environment
        self._folder = folder

    def argv(self, *args: object) -> list[str]:
        return [*self._words, *map(str, args)]

    def __call__(
        self, *args: object, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        return run(self.argv(*args), check=check, env=self.environment, cwd=self._folder, **more)


# -- the image ----------------------------------------------------------------------------------


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def layer_of(rootfs: Path) -> bytes:
    def of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        return entry

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        layer.add(rootfs, arcname=".", filter=of_root)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def image(busybox: rsc.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of an image of busybox, ``IMAGE``, as all engines load it (docker-archive).

    It sleeps if it is told nothing else, and so is a pod's pause container too.
    """
    layer = layer_of(Path(busybox.rootfs))
    machine = platform.machine()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sleep", "1000"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    encoded = json.dumps(config).encode()
    name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "layer.tar", layer)
        add(archive, name, encoded)
        add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


# -- a daemon -----------------------------------------------------------------------------------


class Daemon:
    """An engine's daemon, in a folder of its own; what it says is in ``log``."""

    def __init__(self, argv: Sequence[object], place: Path) -> None:
        self.place = place
        self.log = place / "log"
        self._argv = [str(word) for word in argv]
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C is for the tests, which then stop it.
                start_new_session=True,
            )

    def wait_for(self, ready: Callable[[], object]) -> None:
        """Wait until ``ready`` is true; it may fail as clients do before that."""

        def answers() -> bool:
            assert self._process.poll() is None, f"the daemon ended: {self.log.read_text()[-2000:]}"
            with contextlib.suppress(AssertionError):
                return bool(ready())
            return False

        eventually(answers, f"an answer: {self.log.read_text()[-2000:]}")

    def complaints(self, since: int = 0) -> list[str]:
        """The log's warnings and errors from an offset on."""
        lines = self.log.read_text()[since:].splitlines()
        return [line for line in lines if "level=warning" in line or "level=error" in line]

    def restart(self, ready: Callable[[], object]) -> None:
        """Stop the daemon and start it again, as for an upgrade: what it runs goes on."""
        self._end()
        self._process = self._start()
        self.wait_for(ready)

    def stop(self) -> None:
        self._end()
        unmount_below(self.place)

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def unmount_below(place: Path) -> None:
    """Take down what an engine has left mounted, the latest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if Path(point).is_relative_to(place):
            run(["umount", "--lazy", point])


@contextlib.contextmanager
def cgroup(name: str) -> Iterator[str]:
    """A cgroup in every hierarchy, the parent of an engine's; gives its path.

    Engines leave the parents of their containers' cgroups; this one is removed at the end. Its name
    should begin with ``PREFIX``.
    """
    lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    parents = [Path(line[1], name) for line in lines if line[2] in {"cgroup", "cgroup2"}]
    for parent in parents:
        parent.mkdir()
    try:
        yield f"/{name}"
    finally:
        for parent in parents:
            for path, _, _ in os.walk(parent, topdown=False):
                Path(path).rmdir()


# -- containerd ---------------------------------------------------------------------------------

# Two runtimes by name, for who asks for them by name: see docs/kubernetes.md.
CONTAINERD_CONFIG = """\
version = 2
root = "{place}/root"
state = "{place}/state"
disabled_plugins = [{disabled}]

[grpc]
  address = "{place}/socket"

[plugins."io.containerd.internal.v1.opt"]
  path = "{place}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  # Lowering a process's score takes a capability that a sandbox may withhold.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.rscontainer]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.rscontainer.options]
        BinaryName = "{binary}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{place}/cni"
"""
# What needs a disk of its own, and says so in the log where there is none.
UNUSED = ("aufs", "btrfs", "devmapper", "zfs")


class Containerd:
    """A containerd with its CRI plugin, and the socket where it answers."""

    def __init__(self, place: Path) -> None:
        self.address = place / "socket"
        (place / "cni").mkdir()
        config = place / "config.toml"
        config.write_text(
            CONTAINERD_CONFIG.format(
                place=place,
                disabled=", ".join(f'"io.containerd.snapshotter.v1.{name}"' for name in UNUSED),
                image=IMAGE,
                snapshotter="native",
                binary=binary("rscontainer"),
            )
        )
        self.daemon = Daemon([need("containerd"), "--config", config], place)
        ready = [need("ctr"), "--address", self.address, "version"]
        self.daemon.wait_for(lambda: run(ready))


@pytest.fixture(scope="session")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    need("containerd"), need("ctr")
    engine = Containerd(tmp_path_factory.mktemp("containerd"))
    try:
        yield engine
    finally:
        engine.daemon.stop()


# -- a terminal ---------------------------------------------------------------------------------


def at_terminal(argv: Sequence[str], typed: bytes, until: bytes) -> tuple[int, list[str]]:
    """Run a client at a terminal of 100 by 40, and type to the shell that it starts.

    Gives its status, and what was said that has the form of a terminal's name or of its size.
    """
    controller, terminal = os.openpty()
    subprocess.run(["stty", "rows", "40", "cols", "100"], stdin=terminal, check=True)
    client = subprocess.Popen(
        argv, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    try:
        read_until(controller, b"# ")
        # The client tells the size when the shell runs already, by a request of its own.
        time.sleep(0.5)
        os.write(controller, typed)
        said = read_until(controller, until)
        status = client.wait(2 * PATIENCE)
    finally:
        client.kill()
        client.wait()
        os.close(terminal)
        os.close(controller)
    return status, re.findall(r"/dev/pts/\d+|\b\d+ \d+\b", said.decode(errors="replace"))


def read_until(descriptor: int, what: bytes) -> bytes:
    said = b""
    until = time.monotonic() + PATIENCE
    while what not in said:
        assert time.monotonic() < until, f"not said: {what!r}, only {said!r}"
        if select.select([descriptor], [], [], 0.5)[0]:
            said += os.read(descriptor, 4096)
    return said
