"""AppArmor profiles and SELinux labels, on hosts that have neither: nothing is left out in silence.

Where AppArmor is, ``test_apparmor.py`` confines programs by it.

The plans that hosts with them get are golden: ``plans/labels.json`` and ``plans/exec_labels.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from conftest import BundleFactory, CommandLine

APPARMOR = Path("/sys/kernel/security/apparmor")
SELINUX = Path("/sys/fs/selinux/enforce")
LABEL = "system_u:object_r:container_file_t:s0:c1,c2"
CASES = [
    ("process", "apparmorProfile", "box", "AppArmor", APPARMOR, "config.md#linux-process"),
    ("process", "selinuxLabel", LABEL, "SELinux", SELINUX, "config.md#linux-process"),
    ("linux", "mountLabel", LABEL, "SELinux", SELINUX, "config-linux.md#mount-label"),
]


@pytest.mark.parametrize(("place", "name", "label", "module", "sign", "section"), CASES)
def test_host_without_the_module(
    bundle: BundleFactory,
    root: Path,
    box: str,
    place: str,
    name: str,
    label: str,
    module: str,
    sign: Path,
    section: str,
) -> None:
    if sign.exists():
        pytest.skip(f"this host has {module} enabled")
    made = bundle(lambda spec: spec[place].update({name: label}), args=["true"])
    with pytest.raises(rsc.SpecError) as caught:
        Container.create(box, made, root=root)
    assert caught.value.path == f"$.{place}.{name}"
    assert f"= {json.dumps(label)}: {module} is not enabled on this host" in str(caught.value)
    assert f"(see {section})" in str(caught.value)
    assert "leave it out" in str(caught.value)


def test_empty_ones_are_none(bundle: BundleFactory, root: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.update(apparmorProfile="", selinuxLabel="")
        spec.linux.mountLabel = ""

    rsc.run(bundle(change, args=["true"]), root=root, check=True, timeout=60)


@pytest.mark.skipif(APPARMOR.exists(), reason="this host has AppArmor enabled")
def test_exec_with_a_profile(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine, tmp_path: Path
) -> None:
    process = {"cwd": "/", "args": ["true"], "apparmorProfile": "box"}
    file = tmp_path / "process.json"
    file.write_text(json.dumps(process))
    with Container.run(box, bundle(args=["sleep", "1000"]), root=root):
        done = cli("exec", "--process", file, box, check=False)
        assert done.returncode != 0
        assert "$.process.apparmorProfile" in done.stderr
        assert "AppArmor is not enabled on this host" in done.stderr
        done = cli("exec", "--apparmor", "box", box, "true", check=False)
        assert '$.process.apparmorProfile = "box"' in done.stderr


@pytest.mark.skipif(SELINUX.exists(), reason="this host has SELinux enabled")
def test_exec_with_a_label(bundle: BundleFactory, root: Path, box: str, cli: CommandLine) -> None:
    with Container.run(box, bundle(args=["sleep", "1000"]), root=root):
        done = cli("exec", "--process-label", LABEL, box, "true", check=False)
        assert f'$.process.selinuxLabel = "{LABEL}"' in done.stderr
