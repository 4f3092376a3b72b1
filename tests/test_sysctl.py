"""Kernel parameters: set in the container's namespaces, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import ORDINARY, rootless, user_namespace

import rscontainer as rsc

if TYPE_CHECKING:
    from conftest import Change, Shell


def setting(**values: str) -> Change:
    def change(spec: rsc.Spec) -> None:
        spec.linux.sysctl = {name.replace("__", "."): value for name, value in values.items()}

    return change


def test_network_and_ipc_parameters(sh: Shell) -> None:
    values = setting(
        net__ipv4__ip_forward="1",
        net__ipv4__ping_group_range="0 5",
        kernel__shm_rmid_forced="1",
        kernel__msgmax="12345",
        fs__mqueue__msg_max="7",
    )

    def change(spec: rsc.Spec) -> None:
        values(spec)
        if ORDINARY:
            # The groups must be there.
            rootless(spec, several=True)

    own = Path("/proc/sys/kernel/msgmax").read_text()
    script = """
        cd /proc/sys; cat net/ipv4/ip_forward net/ipv4/ping_group_range kernel/shm_rmid_forced
        cat kernel/msgmax fs/mqueue/msg_max
    """
    assert sh(script, change).splitlines() == ["1", "0\t5", "1", "12345", "7"]
    assert Path("/proc/sys/kernel/msgmax").read_text() == own != "12345\n"


def test_slashes_are_as_good_as_dots(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.sysctl = {"net/ipv4/conf/lo/rp_filter": "2"}

    assert sh("cat /proc/sys/net/ipv4/conf/lo/rp_filter", change) == "2\n"


@pytest.mark.requires_root("to write the host's /proc/sys/kernel")
def test_domainname_in_a_uts_namespace(sh: Shell) -> None:
    change = setting(kernel__domainname="example.org")
    assert sh("cat /proc/sys/kernel/domainname", change) == "example.org\n"


def test_in_a_user_namespace(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        user_namespace(spec)
        spec.linux.sysctl = {"net.ipv4.ip_forward": "1"}

    assert sh("cat /proc/sys/net/ipv4/ip_forward", change) == "1\n"


@pytest.mark.parametrize("name", ["kernel.panic", "vm.swappiness", "kernel.core_pattern"])
def test_the_hosts_own_are_refused(sh: Shell, name: str) -> None:
    before = Path("/proc/sys", name.replace(".", "/")).read_text()

    def change(spec: rsc.Spec) -> None:
        spec.linux.sysctl = {name: "1"}

    with pytest.raises(rsc.SpecError, match=name):
        sh("true", change)
    assert Path("/proc/sys", name.replace(".", "/")).read_text() == before


def test_without_the_namespace_it_is_refused(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.namespaces = [n for n in spec.linux.namespaces if n.type != "network"]
        spec.mounts = [m for m in spec.mounts if m.type != "sysfs"]
        spec.linux.sysctl = {"net.ipv4.ip_forward": "1"}

    with pytest.raises(rsc.SpecError, match=r"net\.ipv4\.ip_forward.*network"):
        sh("true", change)


@pytest.mark.parametrize("name", ["net.ipv4.../kernel/panic", "net/../kernel/panic", "net..x"])
def test_names_that_lead_elsewhere_are_refused(sh: Shell, name: str) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.sysctl = {name: "1"}

    before = Path("/proc/sys/kernel/panic").read_text()
    with pytest.raises(rsc.ContainerError):
        sh("true", change)
    assert Path("/proc/sys/kernel/panic").read_text() == before


def test_a_parameter_that_is_not_there_is_named(sh: Shell) -> None:
    with pytest.raises(rsc.SystemCallError, match="this kernel does not have that") as caught:
        sh("true", setting(net__ipv4__not_there="1"))
    assert '$.linux.sysctl["net.ipv4.not_there"]' in str(caught.value)


@pytest.mark.requires_root("to enter a network namespace from a hook")
def test_a_hook_may_bring_the_device_that_is_named(sh: Shell, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(
        "#!/bin/sh\n"
        "pid=$(sed -E 's/.*\"pid\": ?([0-9]+).*/\\1/')\n"
        "exec nsenter --net=/proc/$pid/ns/net ip link add dum0 type dummy\n"
    )
    hook.chmod(0o755)

    def change(spec: rsc.Spec) -> None:
        path = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        spec.hooks = {"createRuntime": [{"path": str(hook), "env": path}]}
        spec.linux.sysctl = {"net.ipv4.conf.dum0.rp_filter": "2"}

    try:
        assert sh("cat /proc/sys/net/ipv4/conf/dum0/rp_filter", change) == "2\n"
    except rsc.ContainerError as error:
        if "Unknown device type" in str(error) or "not found" in str(error):
            pytest.skip(f"no dummy network devices on this host: {error}")
        raise
