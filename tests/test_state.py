"""What is on disk: full disks, spoilt files, creators that die, verbs side by side."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest
from conftest import ORDINARY, eventually, repeated

import rscontainer as rsc
from rscontainer import Container, _binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, CommandLine


FOREVER = ["sleep", "1000"]


# -- a full disk ----------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A folder of states on a disk of 64 KiB."""
    if ORDINARY:
        pytest.skip("needs root: to mount on the host")
    place = tmp_path / "tiny"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tiny", str(place)], check=True
    )
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> Path:
    filler = place / "filler,"
    free = os.statvfs(place)
    filler.write_bytes(b"x" * free.f_bfree * free.f_bsize)
    assert os.statvfs(place).f_bfree == 0
    return filler


def test_full_disk(bundle: BundleFactory, tiny: Path, unique_id: Callable[[], str]) -> None:
    first, second = unique_id(), unique_id()
    made = bundle(args=FOREVER)
    with Container.create(first, made, root=tiny) as container:
        old = (tiny / first / "state.json").read_bytes()
        filler = fill(tiny)
        with pytest.raises(rsc.SystemCallError) as caught:
            Container.run(second, made, root=tiny)
        assert "ENOSPC: no space left on device" in str(caught.value)
        assert str(tiny / second) in str(caught.value)
        # Nothing of the second is left, and the first is as it was.
        assert sorted(entry.name for entry in tiny.iterdir()) == sorted([first, filler.name])
        assert (tiny / first / "state.json").read_bytes() == old
        assert [found.id for found in Container.list(tiny)] == [first]
        # No verb but create needs room on the disk.
        container.start()
        container.pause()
        container.resume()
        assert container.exec(["true"]).wait(30) == 0
        container.kill("KILL")
        assert container.wait(30) == -9
        container.delete()
        assert [entry.name for entry in tiny.iterdir()] == [filler.name]
        filler.unlink()
    with Container.run(second, made, root=tiny) as container:
        assert container.status == "running"


@pytest.mark.parametrize("left", range(4), ids=["folder", "socket", "record", "init"])
def test_disk_without_inodes(
    bundle: BundleFactory, tiny: Path, unique_id: Callable[[], str], left: int
) -> None:
    """Each file that a created container has is the one that there is no room for."""
    subprocess.run(["mount", "-o", "remount,nr_inodes=20", str(tiny)], check=True)
    box, made = unique_id(), bundle(args=FOREVER)
    fillers = [tiny / f"filler,{number}" for number in range(os.statvfs(tiny).f_ffree - left)]
    for filler in fillers:
        filler.touch()
    with pytest.raises(rsc.SystemCallError, match="ENOSPC: no space left on device") as caught:
        Container.create(box, made, root=tiny)
    assert str(tiny / box) in str(caught.value)
    assert "free space there" in str(caught.value)
    assert not (tiny / box).exists()
    fillers[0].unlink()
    if left == 3:
        Container.create(box, made, root=tiny).delete(force=True)


# -- spoilt files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [None, b"", b"{", b"[]", b"null", b'{"id": 5}', b"\xff\x00"],
    ids=["gone", "empty", "truncated", "array", "null", "wrong", "binary"],
)
def test_spoilt_state(
    bundle: BundleFactory, root: Path, box: str, text: bytes | None, cli: CommandLine
) -> None:
    container = Container.run(box, bundle(args=FOREVER), root=root)
    file = root / box / "state.json"
    whole = file.read_bytes()
    try:
        if text is None:
            file.unlink()
        else:
            file.write_bytes(whole[: whole.index(b"\n") // 2] if text == b"{" else text)
        for verb in (
            container.state,
            container.start,
            container.kill,
            container.pause,
            lambda: container.exec(["true"]),
            lambda: Container.load(box, root),
        ):
            with pytest.raises(rsc.ContainerError) as caught:
                verb()
            assert box in str(caught.value)
            assert "delete" in str(caught.value)
            if text is not None:
                assert str(file) in str(caught.value)
        # One that cannot be read does not keep the others from being listed.
        assert Container.list(root) == []
        assert cli("list", "--quiet").stdout == ""
        with pytest.raises(rsc.AlreadyExistsError):
            Container.run(box, bundle(args=FOREVER), root=root)
    finally:
        # What it had is known here alone; a forced delete takes the record away.
        aside = root.parent / "aside"
        shutil.copytree(root / box, aside, symlinks=True)
        container.delete(force=True)
        assert not (root / box).exists()
        shutil.copytree(aside, root / box, symlinks=True)
        (root / box / "state.json").write_bytes(whole)
        Container.load(box, root).delete(force=True)
    assert container.wait(30) == -9


def test_an_init_that_is_no_link(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        record = root / box / "init"
        own = os.readlink(record)
        record.unlink()
        record.write_text(own)
        with pytest.raises(rsc.SystemCallError) as caught:
            container.state()
        assert f'state of container "{box}"' in str(caught.value)
        assert str(record) in str(caught.value)
        assert "delete the container with force" in str(caught.value)
        record.unlink()
        record.symlink_to(own)
        assert container.status == "running"


def test_spoilt_config(bundle: BundleFactory, root: Path, box: str) -> None:
    """It stands after the state, and is read by those verbs alone that need it."""
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        file = root / box / "state.json"
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.raises(rsc.ContainerError, match=r"recorded config.*delete"):
            container.exec(["true"])
        assert container.status == "running"


def test_strangers_in_the_folder_of_states(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine
) -> None:
    with Container.run(box, bundle(args=FOREVER), root=root):
        (root / "a file").write_text("")
        (root / "plain").write_text("")
        (root / "empty").mkdir()
        try:
            assert [found.id for found in Container.list(root)] == [box]
            assert cli("list", "--quiet").stdout.split() == [box]
            with pytest.raises(rsc.ContainerError, match="plain"):
                Container.load("plain", root)
            with pytest.raises(rsc.StateError, match="was not created to the end; delete it"):
                Container.load("empty", root)
        finally:
            (root / "a file").unlink()
            (root / "plain").unlink()
            cli("delete", "empty")
        assert not (root / "empty").exists()


def test_a_list_of_many(bundle: BundleFactory, root: Path, box: str, cli: CommandLine) -> None:
    """So many that several threads look at them."""
    ids = [f"{box}-{number:03}" for number in range(500)]
    spoilt = {ids[100], ids[400]}
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        try:
            for other in ids:
                shutil.copytree(root / box, root / other, symlinks=True)
            for other in spoilt:
                (root / other / "state.json").write_text("{")
            kept = [box, *(other for other in ids if other not in spoilt)]
            assert [found.id for found in Container.list(root)] == kept
            listed = cli("list", "--format", "json")
            rows = json.loads(listed.stdout)
            assert [row["id"] for row in rows] == kept
            assert {row["pid"] for row in rows} == {container.pid}
            for other in spoilt:
                assert f'state of container "{other}"' in listed.stderr
            alone = subprocess.run(
                [_binary.binary(), "--root", str(root), "list", "--format", "json"],
                # No further thread for an ordinary user.
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)),
                capture_output=True,
                check=True,
            )
            assert json.loads(alone.stdout) == rows
        finally:
            for other in ids:
                shutil.rmtree(root / other, ignore_errors=True)


def test_state_of_an_earlier_process_with_that_number(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    container = Container.run(box, bundle(args=FOREVER), root=root)
    record = root / box / "init"
    own = os.readlink(record)

    def put_on_record(init: str) -> None:
        record.unlink()
        record.symlink_to(init)

    # The kernel counts the time of a start in hundredths of a second.
    time.sleep(0.05)
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        put_on_record(f"{stranger.pid} {own.split()[1]}")
        # Another has its number: the container's own has ended.
        assert container.status == "stopped"
        with pytest.raises(rsc.StateError):
            container.kill("KILL")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        put_on_record(own)
        container.delete(force=True)


def test_state_is_private(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.create(box, bundle(args=FOREVER), root=root):
        for path in (root, root / box):
            assert path.stat().st_mode & 0o777 == 0o700
        assert (root / box / "state.json").stat().st_mode & 0o777 == 0o600


# -- creators that die ----------------------------------------------------------------------

KILLED = """
import sys, rscontainer as rsc
bundle, root, id = sys.argv[1:]
rsc.start_launcher()
print("ready", flush=True)
sys.stdin.readline()
quiet = dict(stdin=rsc.DEVNULL, stdout=rsc.DEVNULL, stderr=rsc.DEVNULL)
c = rsc.Container.create(id, bundle, root=root, **quiet)
c.start()
c.exec(["true"], **quiet)
c.delete(force=True)
"""


def launcher_of(pid: int) -> int:
    """The launcher that watches over this Python."""
    # One that goes through its descriptors while they are looked through is looked at again.
    return eventually(lambda: find_launcher(pid), f"a launcher of process {pid}")


def find_launcher(pid: int) -> int | None:
    wanted = f"Pid:\t{pid}\n"
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text() != "rsc:[launcher]\n":
                continue
            if any(wanted in info.read_text() for info in (comm.parent / "fdinfo").iterdir()):
                return int(comm.parent.name)
        except OSError:
            continue
    return None


def workers_of(launcher: int) -> list[int]:
    text = Path(f"/proc/{launcher}/task/{launcher}/children").read_text()
    found = []
    for pid in text.split():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "rsc:[worker]\n":
                found.append(int(pid))
    return found


@pytest.mark.requires_root("to look into a process that hides")
@pytest.mark.parametrize("victim", ["worker", "launcher", "python", "all"])
def test_killed_at_any_point(
    bundle: BundleFactory, root: Path, unique_id: Callable[[], str], victim: str
) -> None:
    made = bundle(args=FOREVER)
    # Deterministic moments, spread over what a create takes on a fast and on a slow machine.
    moments = random.Random(victim)
    for _ in range(repeated(12)):
        box = unique_id()
        argv = [sys.executable, "-c", KILLED, str(made.path), str(root), box]
        with subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as python:
            assert python.stdout.readline() == "ready\n"
            launcher = launcher_of(python.pid)
            workers = eventually(lambda: workers_of(launcher), "a worker")  # noqa: B023
            python.stdin.write("\n")
            python.stdin.flush()
            time.sleep(moments.uniform(0, 0.03))
            victims = {
                "worker": workers,
                "launcher": [launcher],
                "python": [python.pid],
                "all": [*workers, launcher, python.pid],
            }[victim]
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            python.wait(60)
        eventually(
            lambda: is_zombie(launcher),  # noqa: B023
            "the launcher's end",
        )
        # By hand what nobody was left to do; twice, for it must be possible to repeat it.
        for _ in range(2):
            subprocess.run(
                [_binary.binary(), "--root", root, "delete", "--force", box],
                check=True,
                timeout=60,
            )
        assert list(root.glob("*")) == []


def is_zombie(pid: int) -> bool:
    """Whether it has ended, waited for or not."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


@pytest.mark.requires_root("to look into a process that hides")
def test_launcher_killed_while_a_container_runs(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        launcher = launcher_of(os.getpid())
        workers = eventually(lambda: workers_of(launcher), "a worker")
        os.kill(launcher, signal.SIGKILL)
        # A worker that has a request by then would serve it, and nobody say how it ended.
        eventually(lambda: all(map(is_zombie, [launcher, *workers])), "the launcher's end")
        # It lives on, and the next call starts a new launcher.
        assert container.exec(["true"]).wait(30) == 0
        assert container.status == "running"
        container.pause()
        container.resume()
        container.kill("KILL")
        eventually(lambda: container.status == "stopped", "the container's end")
        try:
            assert container.wait(30) == -9
        except rsc.ContainerError as error:
            assert "how is not known here; its launcher is gone" in str(error)  # noqa: PT017
        container.delete()


def test_stopped_is_deleted_with_its_python(bundle: BundleFactory, root: Path, box: str) -> None:
    script = """
import sys, time, rscontainer as rsc
bundle, root, id = sys.argv[1:]
quiet = dict(stdin=rsc.DEVNULL, stdout=rsc.DEVNULL, stderr=rsc.DEVNULL)
rsc.Container.run(id, bundle, root=root, **quiet).wait()
print("stopped", flush=True)
time.sleep(1000)
"""
    argv = [sys.executable, "-c", script, str(bundle(args=["true"]).path), str(root), box]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as python:
        assert python.stdout.readline() == "stopped\n"
        assert Container.load(box, root).status == "stopped"
        python.kill()
    eventually(lambda: not (root / box).exists(), "the deletion of what was attached")


# -- side by side ---------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
def test_deletes_at_once(
    bundle: BundleFactory, root: Path, unique_id: Callable[[], str], force: bool
) -> None:
    made = bundle(args=["true"])
    for _ in range(5):
        container = Container.run(unique_id(), made, root=root)
        container.wait(30)
        results: list[str] = []
        together = threading.Barrier(4)

        def delete() -> None:
            together.wait(30)  # noqa: B023
            try:
                container.delete(force)  # noqa: B023
                results.append("deleted")  # noqa: B023
            except rsc.NotFoundError:
                results.append("gone")  # noqa: B023

        threads = [threading.Thread(target=delete) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        # One does it; with force, that it is done is all that the others wanted.
        assert sorted(results) == (["deleted"] * 4 if force else ["deleted", *["gone"] * 3])


def test_creates_at_once(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(args=FOREVER)
    results: list[Container | str] = []
    together = threading.Barrier(6)

    def create() -> None:
        together.wait(30)
        try:
            results.append(Container.run(box, made, root=root))
        except rsc.AlreadyExistsError:
            results.append("exists")

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results.count("exists") == 5
    (container,) = (result for result in results if isinstance(result, Container))
    assert container.status == "running"
    container.delete(force=True)


def test_starts_at_once(bundle: BundleFactory, root: Path, box: str) -> None:
    results: list[str] = []
    with Container.create(box, bundle(args=FOREVER), root=root) as container:
        together = threading.Barrier(6)

        def start() -> None:
            together.wait(30)
            try:
                container.start()
                results.append("started")
            except rsc.StateError:
                results.append("refused")

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(results) == [*["refused"] * 5, "started"]


@pytest.mark.parametrize(("verb", "status"), [("create", "created"), ("run", "running")])
def test_creating_is_seen_as_such(
    bundle: BundleFactory, root: Path, box: str, tmp_path: Path, verb: str, status: str
) -> None:
    # Who came in now would be in a copy of the host's tree.
    reached, go_on = tmp_path / "reached", tmp_path / "go-on"
    script = f"touch {reached}; until test -e {go_on}; do sleep 0.05; done"

    def change(spec: rsc.Spec) -> None:
        spec.hooks = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}

    made = bundle(change, args=FOREVER)
    results: list[Container] = []
    make = getattr(Container, verb)
    thread = threading.Thread(target=lambda: results.append(make(box, made, root=root)))
    thread.start()
    try:
        eventually(reached.exists, "the hook")
        other = Container.load(box, root)
        # Hooks of that point run before the environment is there (runtime.md#state).
        assert other.status == "creating"
        with pytest.raises(rsc.StateError, match="creating"):
            other.exec(["true"])
    finally:
        go_on.touch()
        thread.join(60)
    assert results[0].status == status
    results[0].delete(force=True)
