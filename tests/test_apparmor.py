"""AppArmor profiles, where the host has it enabled: programs are confined from their first call."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, CommandLine

ENABLED = Path("/sys/kernel/security/apparmor")
PARSER = shutil.which("apparmor_parser", path="/usr/sbin:/sbin:/usr/bin")
pytestmark = [
    pytest.mark.skipif(not ENABLED.exists(), reason="this host has no AppArmor enabled"),
    pytest.mark.skipif(PARSER is None, reason="no apparmor_parser(8) to load profiles with"),
    pytest.mark.requires_root("to load profiles"),
]
# All is allowed but one thing, by which the profile is known; and signals, since whoever confines a
# container must let its runtime end it.
PROFILE = """
profile {name} flags=(attach_disconnected,mediate_deleted) {{
    capability, file, mount, network, ptrace, signal, umount, unix,
    deny /dev/shm/forbidden w,
}}
"""
SEEN = "cat /proc/self/attr/current; touch /dev/shm/free /dev/shm/forbidden 2>&1; ls /dev/shm"


@pytest.fixture(scope="module")
def profile() -> Iterator[str]:
    name = f"rscontainer-test-{os.getpid()}"

    def tell(what: str) -> None:
        text = PROFILE.format(name=name)
        subprocess.run([str(PARSER), what], input=text, text=True, check=True, timeout=600)

    tell("--replace")
    yield name
    tell("--remove")


def under(profile: str, **more: object) -> Change:
    return lambda spec: spec.process.update(apparmorProfile=profile, **more)


def confined(said: str, profile: str) -> None:
    assert said.splitlines() == [
        f"{profile} (enforce)",
        "touch: /dev/shm/forbidden: Permission denied",
        "free",
    ]


@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_the_program_is_confined(
    bundle: BundleFactory, root: Path, profile: str, no_new_privileges: bool
) -> None:
    made = bundle(under(profile, noNewPrivileges=no_new_privileges))
    done = rsc.run(made, ["sh", "-c", SEEN], capture_output=True, text=True, root=root)
    confined(done.stdout, profile)


def test_in_a_user_namespace(bundle: BundleFactory, root: Path, profile: str) -> None:
    def change(spec: rsc.Spec) -> None:
        under(profile)(spec)
        spec.linux.namespaces = [*spec.linux.namespaces, {"type": "user"}]
        spec.linux.uidMappings = spec.linux.gidMappings = [
            {"containerID": 0, "hostID": 100_000, "size": 65536}
        ]

    done = rsc.run(bundle(change), ["sh", "-c", SEEN], capture_output=True, text=True, root=root)
    confined(done.stdout, profile)


def test_created_and_started(bundle: BundleFactory, root: Path, box: str, profile: str) -> None:
    made = bundle(under(profile), args=["sh", "-c", SEEN])
    with Container.create(box, made, root=root, stdout=rsc.PIPE, text=True) as container:
        # Until it runs the program it is the runtime's own, and as free as that.
        current = Path(f"/proc/{container.pid}/attr/current").read_text()
        assert current.strip() == "unconfined"
        container.start()
        confined(container.init.communicate()[0], profile)


def test_exec_is_confined_too(bundle: BundleFactory, root: Path, box: str, profile: str) -> None:
    with Container.run(box, bundle(under(profile), args=["sleep", "1000"]), root=root) as container:
        process = container.exec(["sh", "-c", SEEN], stdout=rsc.PIPE, text=True)
        confined(process.communicate()[0], profile)
        # One confined can still be ended.
        container.kill("KILL")
        assert container.wait(300) == -9


def test_exec_with_a_profile_of_its_own(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine, profile: str
) -> None:
    with Container.run(box, bundle(args=["sleep", "1000"]), root=root):
        confined(cli("exec", "--apparmor", profile, box, "sh", "-c", SEEN).stdout, profile)
        free = cli("exec", box, "cat", "/proc/self/attr/current")
        assert free.stdout.strip() == "unconfined"


def test_a_profile_that_is_not_loaded(bundle: BundleFactory, root: Path, box: str) -> None:
    with pytest.raises(rsc.SystemCallError, match="not-loaded") as caught:
        Container.run(box, bundle(under("not-loaded"), args=["true"]), root=root)
    assert "$.process.apparmorProfile" in str(caught.value)
    assert "apparmor_parser" in str(caught.value)
