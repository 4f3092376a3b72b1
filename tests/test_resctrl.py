"""Shares of cache and memory bandwidth; what is done on a host that has them is golden."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from conftest import BundleFactory

MOUNTED = " resctrl " in Path("/proc/self/mounts").read_text()


@pytest.mark.skipif(MOUNTED, reason="this host has resctrl mounted")
@pytest.mark.parametrize("wanted", [{}, {"closID": "gold"}, {"enableMonitoring": True}])
def test_host_without_resctrl(
    bundle: BundleFactory, root: Path, box: str, wanted: dict[str, Any]
) -> None:
    made = bundle(lambda spec: spec.linux.update(intelRdt=wanted), args=["true"])
    with pytest.raises(rsc.SpecError) as caught:
        Container.create(box, made, root=root)
    assert caught.value.path == "$.linux.intelRdt"
    assert str(caught.value).startswith(
        "$.linux.intelRdt: no resctrl file system is mounted on this host "
        "(see config-linux.md#intelrdt); mount -t resctrl resctrl /sys/fs/resctrl; "
    )


@pytest.mark.skipif(not MOUNTED, reason="this host has no resctrl")
def test_class_of_its_own(bundle: BundleFactory, root: Path, box: str) -> None:
    place = Path("/sys/fs/resctrl") / box
    made = bundle(
        lambda spec: spec.linux.update(intelRdt={"enableMonitoring": True}),
        args=["sleep", "1000"],
    )
    with Container.run(box, made, root=root) as container:
        assert str(container.pid) in (place / "tasks").read_text().split()
        measured = place / "mon_groups" / box / "tasks"
        with container.exec(["sleep", "1000"]) as other:
            assert {str(container.pid), str(other.pid)} <= set(measured.read_text().split())
            other.kill()
    assert not place.exists()
