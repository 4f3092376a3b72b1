"""SELinux labels, where the host has it enabled: on programs from the first call, and on mounts."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from conftest import BundleFactory, Change, CommandLine, Shell

pytestmark = [
    pytest.mark.skipif(
        not Path("/sys/fs/selinux/enforce").exists(), reason="this host has no SELinux enabled"
    ),
    pytest.mark.requires_root("to set labels"),
]
# Of the reference policy, which every distribution's comes from.
PROCESS = "system_u:system_r:initrc_t:s0"
OTHER = "system_u:system_r:init_t:s0"
FILES = "system_u:object_r:tmp_t:s0"
SEEN = "cat /proc/self/attr/current"


def labelled(**process: object) -> Change:
    return lambda spec: spec.process.update(process)


@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_the_program_has_the_label(sh: Shell, no_new_privileges: bool) -> None:
    change = labelled(selinuxLabel=PROCESS, noNewPrivileges=no_new_privileges)
    assert sh(SEEN, change).strip("\0\n") == PROCESS


def test_what_is_executed_later_has_it_too(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine, tmp_path: Path
) -> None:
    made = bundle(labelled(selinuxLabel=PROCESS), args=["sleep", "1000"])
    with Container.run(box, made, root=root) as container:
        with container.exec(["sh", "-c", SEEN], stdout=rsc.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.read().strip("\0\n") == PROCESS
        file = tmp_path / "process.json"
        file.write_text(
            f'{{"cwd": "/", "args": ["sh", "-c", "{SEEN}"], "selinuxLabel": "{OTHER}"}}'
        )
        assert cli("exec", "--process", file, box).stdout.strip("\0\n") == OTHER


def test_a_label_that_the_policy_does_not_know(bundle: BundleFactory, root: Path, box: str) -> None:
    label = "system_u:system_r:no_such_type:s0"
    with pytest.raises(rsc.SystemCallError) as caught:
        Container.create(box, bundle(labelled(selinuxLabel=label)), root=root)
    assert caught.value.errno == errno.EINVAL
    assert label in str(caught.value)
    assert "(asked for by $.process.selinuxLabel)" in str(caught.value)


def test_the_containers_own_mounts_have_the_label(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.mountLabel = FILES
        spec.mounts = [
            *spec.mounts,
            {"destination": "/labelled", "type": "tmpfs", "source": "tmpfs"},
        ]

    script = "cat /proc/self/mountinfo"
    lines = sh(script, change, own_rootfs=True).splitlines()
    (own,) = (line for line in lines if " /labelled " in line)
    assert re.search(rf'context="?{re.escape(FILES)}', own), own
