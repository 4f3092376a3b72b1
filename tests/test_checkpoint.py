"""Checkpoints and restores by criu(8); what goes wrong without one that works, anywhere."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import eventually
from test_options import keyrings, needs_keys

import rscontainer as rsc

if TYPE_CHECKING:
    from conftest import BundleFactory, CommandLine

# Counts where it can be seen: what goes on counting has not begun anew.
COUNTING = ["sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.05; done"]
# For who runs on when the command line has ended: what is the caller's file cannot be written.
QUIET = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
RUNS_ALONE = pytest.mark.requires_root("to have criu write and make processes")


@functools.lru_cache(maxsize=1)
def need_criu() -> None:
    """Skip the test where there is no criu, or none that this kernel is known to."""
    if shutil.which("criu") is None:
        pytest.skip("criu is not installed")
    checked = subprocess.run(
        ["criu", "check"], check=False, capture_output=True, text=True, timeout=60
    )
    if checked.returncode != 0:
        pytest.skip("criu does not work with this kernel")
    # It keeps connections from going on while they are written.
    if shutil.which("iptables-restore") is None:
        pytest.skip("no iptables-restore(8) for criu on this host")


@pytest.fixture
def criu() -> None:
    need_criu()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def counting(bundle: BundleFactory) -> rsc.Bundle:
    return bundle(args=COUNTING, own_rootfs=True)


def count(bundle: rsc.Bundle) -> int:
    """How far the container of this bundle has counted."""
    place = Path(bundle.rootfs, "count")
    return int(eventually(lambda: place.exists() and place.read_text().strip(), "a count"))


def counts_on(bundle: rsc.Bundle) -> bool:
    before = count(bundle)
    return bool(eventually(lambda: count(bundle) > before, "counting on"))


def fails(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(rsc.ContainerError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)


# -- without a criu that works ----------------------------------------------------------------


def test_streams_that_are_null_are_on_a_mount_that_the_container_has(
    bundle: BundleFactory, box: str, root: Path
) -> None:
    # Else criu does not find them, nor does anybody inside.
    script = "id=$(sed -n 's/^mnt_id:[^0-9]*//p' /proc/self/fdinfo/0); "
    script += 'grep "^$id " /proc/self/mountinfo'
    streams: dict[str, Any] = {"stdin": rsc.DEVNULL, "stdout": rsc.PIPE, "text": True}
    with rsc.Container.run(box, bundle(args=["sleep", "60"]), root=root) as container:
        process = container.exec(["sh", "-c", script], **streams)
        assert " /dev" in process.communicate(timeout=30)[0]
        process.close()
    inside = bundle(args=["sh", "-c", script])
    with rsc.Container.run(box, inside, root=root, **streams) as container:
        assert " /dev" in container.init.communicate(timeout=30)[0]


def test_a_container_that_does_not_run_is_refused(
    cli: CommandLine, bundle: BundleFactory, box: str, root: Path, images: Path
) -> None:
    with rsc.Container.create(box, bundle(), root=root) as container:
        with pytest.raises(rsc.StateError, match="it is created, and must be running or paused"):
            container.checkpoint(images)
        done = cli("checkpoint", "--image-path", images, box, check=False)
        assert done.returncode == 1
        assert f'cannot checkpoint container "{box}": it is created' in done.stderr
    assert not images.exists()
    fails(lambda: rsc.Container.load(box, root).checkpoint(images), "does not exist")


def test_a_missing_criu_is_named(
    cli: CommandLine,
    bundle: BundleFactory,
    box: str,
    root: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    with rsc.Container.run(box, bundle(args=["sleep", "60"]), root=root) as container:
        monkeypatch.setenv("PATH", str(tmp_path))
        words = (f'cannot checkpoint container "{box}": criu(8) is not installed', "package criu")
        fails(lambda: container.checkpoint(images), *words)
        done = cli("checkpoint", "--image-path", images, box, check=False)
        assert done.returncode == 1
        assert all(word in done.stderr for word in words)
        assert container.status == "running"
    assert not images.exists()


@pytest.mark.parametrize(
    ("parent", "why"), [("/earlier", "must be relative"), ("../earlier", "is no folder")]
)
def test_a_parent_that_cannot_be_linked_is_refused(
    cli: CommandLine,
    bundle: BundleFactory,
    box: str,
    root: Path,
    images: Path,
    parent: str,
    why: str,
) -> None:
    with rsc.Container.run(box, bundle(args=["sleep", "60"]), root=root) as container:
        fails(lambda: container.checkpoint(images, parent=parent), "--parent-path", why)
        options = ["--image-path", images, "--parent-path", parent]
        done = cli("checkpoint", *options, box, check=False)
        assert done.returncode == 1
        assert "--parent-path" in done.stderr
        assert why in done.stderr
        assert container.status == "running"
    assert not images.exists()


def test_a_parent_may_be_there_before_the_images_are(
    bundle: BundleFactory,
    box: str,
    root: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "earlier").mkdir()
    with rsc.Container.run(box, bundle(args=["sleep", "60"]), root=root) as container:
        monkeypatch.setenv("PATH", str(tmp_path))
        fails(lambda: container.checkpoint(images, parent="../earlier"), "criu(8) is not installed")


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--empty-ns=ipc", "only the network"),
        ("--manage-cgroups-mode=hard", "soft, full, strict or ignore"),
        ("--page-server=host", "ADDRESS:PORT"),
    ],
)
def test_options_that_mean_nothing_are_refused(cli: CommandLine, option: str, why: str) -> None:
    done = cli("checkpoint", option, "box", check=False)
    assert done.returncode == 1
    assert why in done.stderr


def test_a_criu_that_ends_at_once_is_told_of(
    bundle: BundleFactory,
    box: str,
    root: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    broken = tmp_path / "criu"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    with rsc.Container.run(box, bundle(args=["sleep", "60"]), root=root) as container:
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        fails(lambda: container.checkpoint(images), "criu ended before it answered", "criu check")
        assert container.status == "running"


# -- with one ---------------------------------------------------------------------------------


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_a_container_is_stopped_by_a_checkpoint(
    counting: rsc.Bundle, box: str, root: Path, images: Path
) -> None:
    with rsc.Container.run(
        box, counting, root=root, stdin=rsc.DEVNULL, stdout=rsc.DEVNULL, stderr=rsc.DEVNULL
    ) as container:
        count(counting)
        process = Path(f"/proc/{container.pid}")
        container.checkpoint(images)
        assert container.status == "stopped"
        assert container.wait(timeout=10) == -9
        # Its parent has heard of its end too, after criu had.
        eventually(lambda: not process.exists(), "an init that is reaped")
        container.delete()
    assert (images / "inventory.img").exists()
    assert (images / "dump.log").exists()
    assert images.stat().st_mode & 0o777 == 0o700


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_a_container_runs_on_when_asked_to(
    cli: CommandLine, counting: rsc.Bundle, box: str, images: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    cli("run", "--detach", "--bundle", counting.path, box, **QUIET)
    options = ["--image-path", images, "--work-path", work]
    cli("checkpoint", "--leave-running", *options, box)
    assert (work / "dump.log").exists()
    assert counts_on(counting)
    cli("checkpoint", *options, box)
    # As with runc: who checkpoints on the command line has no container any more.
    assert "does not exist" in cli("state", box, check=False).stderr


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_a_paused_container_can_be_written(
    counting: rsc.Bundle, box: str, root: Path, images: Path
) -> None:
    with rsc.Container.run(
        box, counting, root=root, stdin=rsc.DEVNULL, stdout=rsc.DEVNULL, stderr=rsc.DEVNULL
    ) as container:
        count(counting)
        container.pause()
        container.checkpoint(images, leave_running=True)
        assert container.status == "paused"
        container.checkpoint(images)
        assert container.status == "stopped"


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_what_criu_says_is_in_the_error(
    bundle: BundleFactory, box: str, root: Path, images: Path, tmp_path: Path
) -> None:
    outside = (tmp_path / "outside").open("w")
    with (
        outside,
        rsc.Container.run(
            box, bundle(args=["sleep", "60"]), root=root, stdin=rsc.DEVNULL, stdout=outside
        ) as container,
    ):
        fails(lambda: container.checkpoint(images), "criu failed:", "outside", "dump.log")
        time.sleep(0.1)
        assert container.status == "running"


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_an_interrupted_checkpoint_is_undone(
    counting: rsc.Bundle, box: str, root: Path, images: Path
) -> None:
    class InterruptionError(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise InterruptionError

    with quietly(box, counting, root) as container:
        count(counting)
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        try:
            with pytest.raises(InterruptionError):
                container.checkpoint(images)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert container.status == "running"
        assert counts_on(counting)
        container.checkpoint(images)


# -- and back ---------------------------------------------------------------------------------


def quietly(id: str, bundle: rsc.Bundle, root: Path, **more: Any) -> rsc.Container:
    """Run a container whose streams are nothing that it would have to be restored with."""
    streams = {"stdin": rsc.DEVNULL, "stdout": rsc.DEVNULL, "stderr": rsc.DEVNULL, **more}
    return rsc.Container.run(id, bundle, root=root, **streams)


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_a_restored_container_goes_on_where_it_was(
    counting: rsc.Bundle, box: str, root: Path, images: Path, unique_id: Callable[[], str]
) -> None:
    with quietly(box, counting, root) as container:
        eventually(lambda: count(counting) > 3, "counting")
        container.checkpoint(images)
    written = count(counting)
    other = unique_id()
    with rsc.Container.restore(other, images, counting, root=root) as container:
        assert container.status == "running"
        assert container.pid == container.init.pid
        assert counts_on(counting)
        assert count(counting) > written
        container.pause()
        assert container.status == "paused"
        container.resume()
        container.kill("KILL")
        assert container.wait(timeout=10) == -9
        container.delete()


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_a_container_is_written_and_restored_again_and_again(
    counting: rsc.Bundle, box: str, root: Path, images: Path
) -> None:
    container = quietly(box, counting, root)
    for _ in range(2):
        with container:
            count(counting)
            container.checkpoint(images)
        container = rsc.Container.restore(box, images, counting, root=root)
    with container:
        assert counts_on(counting)


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_processes_enter_a_restored_container(
    counting: rsc.Bundle, box: str, root: Path, images: Path
) -> None:
    with quietly(box, counting, root) as container:
        count(counting)
        container.checkpoint(images)
    script = "readlink /proc/1/ns/time; readlink /proc/self/ns/time; ip addr show lo"
    with rsc.Container.restore(box, images, counting, root=root) as container:
        process = container.exec(["sh", "-c", script], stdout=rsc.PIPE, text=True)
        said, _ = process.communicate(timeout=10)
        process.close()
        init, own, *rest = said.splitlines()
        # criu puts what it restores into a time namespace, so that clocks do not jump.
        assert init == own
        assert any("LOOPBACK,UP" in line for line in rest)
        assert box in Path(f"/proc/{container.pid}/cgroup").read_text()


@RUNS_ALONE
@needs_keys
@pytest.mark.usefixtures("criu")
def test_a_restored_container_has_its_session_keyring(
    counting: rsc.Bundle, box: str, root: Path, images: Path
) -> None:
    with quietly(box, counting, root) as container:
        count(counting)
        container.checkpoint(images)
    eventually(lambda: not keyrings(box), "the keyring's end")
    with rsc.Container.restore(box, images, counting, root=root) as container:
        assert keyrings(box) == 1
        process = container.exec(["sleep", "1000"])
        # Exec finds that one.
        assert keyrings(box) == 1
        process.kill()
        process.wait()
    # A descriptor knows who opened it, and their keyring.
    del container, process
    eventually(lambda: not keyrings(box), "the keyring's end")


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_pipes_become_those_of_who_restores(
    bundle: BundleFactory, box: str, root: Path, images: Path
) -> None:
    # Another pipe, inside, stays what it is.
    script = "while read line; do echo $line; done | while read line; do echo got $line; done"
    inside = bundle(args=["sh", "-c", script])
    pipes: dict[str, Any] = {"stdin": rsc.PIPE, "stdout": rsc.PIPE, "text": True}
    with rsc.Container.run(box, inside, root=root, stderr=rsc.DEVNULL, **pipes) as container:
        print("before", file=container.init.stdin, flush=True)
        assert container.init.stdout.readline() == "got before\n"
        container.checkpoint(images)
    with rsc.Container.restore(box, images, inside, root=root, **pipes) as container:
        print("after", file=container.init.stdin, flush=True)
        assert container.init.stdout.readline() == "got after\n"
        container.init.stdin.close()
        assert container.init.stdout.read() == ""
        assert container.wait(timeout=10) == 0


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_a_terminal_comes_back(bundle: BundleFactory, box: str, root: Path, images: Path) -> None:
    script = "while read line; do echo got $line; done"
    inside = bundle(args=["sh", "-c", script], terminal=True)

    def answer(container: rsc.Container, word: str) -> bool:
        number = container.init._core.terminal()
        assert number is not None
        with open(number, "r+b", buffering=0) as terminal:
            terminal.write(word.encode() + b"\n")
            said = b""
            while b"got " + word.encode() not in said:
                said += terminal.read(100)
        return True

    with rsc.Container.run(box, inside, root=root) as container:
        assert answer(container, "before")
        container.checkpoint(images)
    with rsc.Container.restore(box, images, inside, root=root) as container:
        assert answer(container, "after")


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_mounts_of_the_host_are_shown_again(
    bundle: BundleFactory, box: str, root: Path, images: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)

    def change(spec: rsc.Spec) -> None:
        # The second is inside of the first, whose link leads elsewhere in the container.
        one = {"source": str(tmp_path / "one"), "destination": "/link", "type": "bind"}
        two = {"source": str(tmp_path / "two"), "destination": "/place/inner", "type": "bind"}
        spec.mounts = [*(spec.mounts or ()), one, two]

    inside = bundle(change, args=["sleep", "1000"], own_rootfs=True)
    Path(inside.rootfs, "place").mkdir()
    Path(inside.rootfs, "link").symlink_to("/place")
    with quietly(box, inside, root) as container:
        container.checkpoint(images)
    (tmp_path / "one" / "inner").rmdir()
    (tmp_path / "two" / "file").write_text("changed")
    with rsc.Container.restore(box, images, inside, root=root) as container:
        shown = container.exec(
            ["cat", "/link/file", "/place/inner/file"], stdout=rsc.PIPE, text=True
        )
        assert shown.communicate(timeout=10)[0] == "onechanged"
        shown.close()


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_the_command_line_stays_with_what_it_restores(
    cli: CommandLine, bundle: BundleFactory, box: str, images: Path, tmp_path: Path
) -> None:
    script = "until [ -e /go ]; do sleep 0.05; done; exit 7"
    inside = bundle(args=["sh", "-c", script], own_rootfs=True)
    cli("run", "--detach", "--bundle", inside.path, box, **QUIET)
    cli("checkpoint", "--image-path", images, box)
    restore = ["restore", "--bundle", inside.path, "--image-path", images]
    number = tmp_path / "number"
    cli(*restore, "--detach", "--pid-file", number, box, **QUIET)
    assert f'"pid": {number.read_text()}' in cli("state", box).stdout
    cli("checkpoint", "--image-path", images, box)
    Path(inside.rootfs, "go").touch()
    assert cli(*restore, box, check=False, **QUIET).returncode == 7
    assert "does not exist" in cli("state", box, check=False).stderr


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_hooks_run_before_a_restored_container_does(
    bundle: BundleFactory, box: str, root: Path, images: Path, tmp_path: Path
) -> None:
    inside = bundle(args=["sleep", "1000"])
    with quietly(box, inside, root) as container:
        container.checkpoint(images)
    told, status = tmp_path / "told", tmp_path / "status"
    script = f'cat > {told}; exit "$(cat {status})"'
    spec = rsc.Spec.load(Path(inside.path, "config.json"))
    spec.hooks = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    status.write_text("0")
    with rsc.Container.restore(box, images, inside, spec=spec, root=root) as container:
        said = json.loads(told.read_text())
        assert (said["id"], said["status"], said["pid"]) == (box, "created", container.pid)
    status.write_text("3")
    fails(
        lambda: rsc.Container.restore(box, images, inside, spec=spec, root=root),
        f'cannot restore container "{box}"',
        "exit status 3",
        "$.hooks.createRuntime[0]",
    )


@RUNS_ALONE
@pytest.mark.usefixtures("criu")
def test_a_failed_restore_leaves_nothing(
    cli: CommandLine, bundle: BundleFactory, box: str, root: Path, images: Path
) -> None:
    inside = bundle(args=["sleep", "1000"])
    restore = ["restore", "--bundle", inside.path, "--image-path", images]

    def restoring() -> object:
        return rsc.Container.restore(box, images, inside, root=root)

    words = (f'cannot restore container "{box}"', "descriptors.json", "folder of a checkpoint")
    fails(restoring, *words)
    done = cli(*restore, box, check=False)
    assert done.returncode == 1
    assert all(word in done.stderr for word in words)
    images.mkdir()
    (images / "descriptors.json").write_text('["/dev/null", "/dev/null", "/dev/null"]')
    fails(restoring, "criu failed:", "empty-image")
    assert "criu failed:" in cli(*restore, box, check=False).stderr
    assert not list(root.iterdir())


def test_a_restore_without_criu_is_refused(
    cli: CommandLine,
    bundle: BundleFactory,
    box: str,
    root: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    inside = bundle(args=["sleep", "1000"])
    fails(lambda: rsc.Container.restore(box, images, inside, root=root), "criu(8) is not installed")
    done = cli("restore", "--bundle", inside.path, "--image-path", images, box, check=False)
    assert done.returncode == 1
    assert "criu(8) is not installed" in done.stderr


def test_criu_named_by_hand_is_noted(cli: CommandLine) -> None:
    done = cli("--criu", "/elsewhere/criu", "features")
    assert "--criu is ignored" in done.stderr
