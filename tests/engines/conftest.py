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
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar

import pytest
from conftest import PATIENCE, PREFIX, eventually

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
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(word) for word in argv],
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

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        unmount_below(self.place)


def unmount_below(place: Path) -> None:
    """Take down what an engine has left mounted, the latest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if Path(point).is_relative_to(place):
            run(["umount", "--lazy", point])


@contextlib.contextmanager
def cgroup(name: str) -> Iterator[str]:
    """A cgroup in every hierarchy, the parent of an engine's; gives its path.

    Engines leave the parents of their containers' cgroups; this one is removed at the end.
    """
    name = f"{PREFIX}{name}"
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
