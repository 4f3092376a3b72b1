"""Network devices of the host in the container: moved, renamed, their addresses kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import ORDINARY

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, Shell

MAPPING = [{"containerID": 0, "hostID": 100_000, "size": 65536}]


def ip(*args: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *args], check=False, capture_output=True, text=True)
    assert done.returncode == 0 or not check, f"ip {args}: {done.stderr}"
    return done.stdout


def exists(name: str) -> bool:
    return os.path.exists(f"/sys/class/net/{name}")


class Pair:
    """A device to give away, with a global address, and the other end that stays."""

    def __init__(self, number: int) -> None:
        # At most 15 bytes; other runs of this suite may be going on beside this one.
        self.name = f"t{os.getpid() % 10**7}v{number}"
        self.peer = f"{self.name}p"
        self.address = f"10.213.{number}.7/24"
        self.wide = f"fd00:213:{number + 1}::7/64"
        ip("link", "add", self.name, "type", "veth", "peer", "name", self.peer)
        ip("address", "add", self.address, "broadcast", "+", "dev", self.name)
        ip("-6", "address", "add", self.wide, "nodad", "dev", self.name)
        ip("link", "set", self.name, "up")


@pytest.fixture
def pair() -> Iterator[Callable[[], Pair]]:
    if ORDINARY:
        pytest.skip("needs root: to make network devices")
    if shutil.which("ip") is None:
        pytest.skip("no ip(8) to make network devices with")
    made: list[Pair] = []

    def make() -> Pair:
        try:
            made.append(Pair(len(made)))
        except AssertionError as error:
            pytest.skip(f"no veth network devices on this host: {error}")
        return made[-1]

    yield make
    for one in made:
        # Where its other end was with a container, it is gone already.
        ip("link", "delete", one.peer, check=False)


@pytest.fixture
def owner() -> Iterator[int]:
    """A process with a network namespace, of which the container is then not the owner."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 60"], stdout=-1
    ) as own:
        try:
            assert own.stdout is not None
            assert own.stdout.readline() == b"\n"
            yield own.pid
        finally:
            own.kill()


def giving(devices: dict[str, Any], *, path: str | None = None, user: bool = False) -> Change:
    def change(spec: rsc.Spec) -> None:
        spec.linux.netDevices = devices
        for namespace in spec.linux.namespaces:
            if namespace.type == "network" and path is not None:
                namespace.path = path
        if user:
            spec.linux.namespaces = [*spec.linux.namespaces, {"type": "user"}]
            spec.linux.uidMappings = spec.linux.gidMappings = MAPPING

    return change


@pytest.mark.parametrize("user", [False, True])
def test_a_device_moves_with_its_addresses(sh: Shell, pair: Callable[[], Pair], user: bool) -> None:
    given = pair()
    ip("link", "set", given.name, "mtu", "1389", "address", "02:00:00:00:00:17")
    out = sh(f"ip address show {given.name}; ip route", giving({given.name: {}}, user=user))
    assert given.address in out
    assert "brd 10.213.0.255" in out
    assert given.wide in out
    assert "mtu 1389" in out
    assert "02:00:00:00:00:17" in out
    assert ",UP" in out.splitlines()[0]
    # The kernel's route to the network of the address came back as well.
    assert f"10.213.0.0/24 dev {given.name}" in out
    # With the namespace the device has gone, and its other end with it.
    assert not exists(given.name)


def test_only_permanent_addresses_of_global_scope_are_kept(
    sh: Shell, pair: Callable[[], Pair]
) -> None:
    given = pair()
    add = ["address", "add", "dev", given.name]
    ip(*add, "10.213.7.1/24", "valid_lft", "600", "preferred_lft", "600")
    ip(*add, "10.213.8.1/24", "scope", "link")
    ip(*add, "10.213.9.1", "peer", "10.213.9.2/32")
    ip(*add, "10.213.0.8/24")
    out = sh("ip address show up", giving({given.name: {"name": "eth0"}}))
    shown = [line.strip() for line in out.splitlines() if "inet 10." in line]
    assert len(shown) == 3, out
    assert any(line.startswith(f"inet {given.address} ") for line in shown)
    assert any(line.startswith("inet 10.213.9.1 peer 10.213.9.2/32") for line in shown)
    assert any(line.startswith("inet 10.213.0.8/24") and "secondary" in line for line in shown)


def test_devices_are_renamed(sh: Shell, pair: Callable[[], Pair]) -> None:
    first, second, third, fourth = pair(), pair(), pair(), pair()
    devices = {
        first.name: {"name": "eth%d"},
        second.name: {"name": "eth%d"},
        third.name: {"name": "backend"},
        fourth.name: {"name": "eth1"},
    }
    out = sh("ip -o address show", giving(devices))
    assert f"eth0    inet {first.address}" in out
    assert f"eth2    inet {second.address}" in out
    assert f"eth1    inet {fourth.address}" in out
    assert f"backend    inet {third.address}" in out


def test_two_devices_swap_their_names(sh: Shell, pair: Callable[[], Pair]) -> None:
    first, second = pair(), pair()
    devices = {first.name: {"name": second.name}, second.name: {"name": first.name}}
    out = sh("ip -o address show", giving(devices))
    assert f"{second.name}    inet {first.address}" in out
    assert f"{first.name}    inet {second.address}" in out


def test_the_device_works(bundle: BundleFactory, root: Any, box: str, pair: Any) -> None:
    given = pair()
    ip("address", "add", "10.213.0.1/24", "dev", given.peer)
    ip("link", "set", given.peer, "up")
    made = bundle(giving({given.name: {"name": "eth0"}}), args=["sleep", "60"])
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        script = "nc -l -p 7 -w 20 >/dev/null & sleep 0.2; echo ready; wait"
        server = container.exec(["sh", "-c", script], stdout=rsc.PIPE)
        assert server.stdout.readline() == b"ready\n"
        subprocess.run(["bash", "-c", "echo hello >/dev/tcp/10.213.0.7/7"], check=True, timeout=30)
        assert server.wait(timeout=30) == 0
        server.stdout.close()


def test_a_device_is_there_for_hooks_and_sysctls(
    sh: Shell, pair: Callable[[], Pair], tmp_path: Any
) -> None:
    given = pair()
    seen = tmp_path / "seen"

    def change(spec: rsc.Spec) -> None:
        giving({given.name: {"name": "eth0"}})(spec)
        spec.linux.sysctl = {"net.ipv4.conf.eth0.forwarding": "1"}
        script = f"cat /proc/net/dev >{seen}"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
        spec.hooks.createContainer = [hook]

    assert sh("cat /proc/sys/net/ipv4/conf/eth0/forwarding", change) == "1\n"
    assert "eth0:" in seen.read_text()


@pytest.mark.requires_root("to make network devices")
def test_a_namespace_that_is_joined(sh: Shell, pair: Callable[[], Pair], owner: int) -> None:
    given, other = pair(), pair()
    ip("link", "set", other.name, "netns", str(owner), "name", "eth0")
    path = f"/proc/{owner}/ns/net"
    change = giving({given.name: {"name": "eth0"}}, path=path)
    with pytest.raises(rsc.SystemCallError, match=r'"eth0".*EEXIST') as caught:
        sh("true", change)
    message = str(caught.value)
    assert f'move network device "{given.name}" into the container as "eth0"' in message
    assert f"$.linux.netDevices.{given.name}" in message
    # It has not moved, under whichever name.
    assert exists(given.name)
    assert given.address in ip("address", "show", given.name)
    out = sh("ip -o address show", giving({given.name: {"name": "eth%d"}}, path=path))
    assert f"eth1    inet {given.address}" in out
    # The container has ended, the namespace and what is in it have not.
    entered = ["nsenter", f"--net={path}", "ip", "address", "show", "eth1"]
    assert given.address in subprocess.check_output(entered, text=True)


# -- what cannot be -----------------------------------------------------------------------------


def test_a_missing_device_is_named_and_none_moves(sh: Shell, pair: Callable[[], Pair]) -> None:
    given = pair()
    change = giving({given.name: {}, "zz-not-there": {}})
    with pytest.raises(rsc.SystemCallError, match='move network device "zz-not-there"') as caught:
        sh("true", change)
    assert "ENODEV" in str(caught.value)
    assert '$.linux.netDevices["zz-not-there"]' in str(caught.value)
    assert exists(given.name)


@pytest.mark.requires_root("to move network devices")
def test_the_loopback_device_stays(sh: Shell) -> None:
    with pytest.raises(rsc.SystemCallError, match='move network device "lo"') as caught:
        sh("true", giving({"lo": {"name": "host-lo"}}))
    assert "the loopback and some virtual devices cannot be moved" in str(caught.value)


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ({"a": {"name": "eth0"}, "b": {"name": "eth0"}}, "another device's name too"),
        ({"a": {"name": "sixteen-bytes-xx"}}, "at most 15 bytes"),
        ({"a/b": {}}, "name of a network device"),
        ({"a": {"name": "eth%x"}}, "percent"),
    ],
)
def test_what_the_specification_does_not_allow(
    sh: Shell, devices: dict[str, Any], words: str
) -> None:
    with pytest.raises(rsc.SpecError, match=words) as caught:
        sh("true", giving(devices))
    assert "$.linux.netDevices" in str(caught.value)


def test_it_needs_a_network_namespace(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.netDevices = {"eth9": {}}
        spec.linux.namespaces = [n for n in spec.linux.namespaces if n.type != "network"]

    with pytest.raises(rsc.SpecError, match="needs a network namespace"):
        sh("true", change)
