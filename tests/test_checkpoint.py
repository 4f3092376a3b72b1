"""Checkpoints and restores by criu(8); what goes wrong without one that works, anywhere."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest
from conftest import eventually

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
        container.checkpoint(images)
        assert container.status == "stopped"
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
