"""The features structure: its form is the specification's, and what it says is true."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import rscontainer as rsc
from rscontainer import _binary

if TYPE_CHECKING:
    from collections.abc import Callable

STRINGS = [str]
ENABLED = {"enabled": bool}
# features.md and features-linux.md of version 1.3.0; only the first two are required.
FORM = {
    "ociVersionMin": str,
    "ociVersionMax": str,
    "hooks": STRINGS,
    "mountOptions": STRINGS,
    "linux": {
        "namespaces": STRINGS,
        "capabilities": STRINGS,
        "cgroup": {"v1": bool, "v2": bool, "systemd": bool, "systemdUser": bool, "rdma": bool},
        "seccomp": {
            "enabled": bool,
            "actions": STRINGS,
            "operators": STRINGS,
            "archs": STRINGS,
            "knownFlags": STRINGS,
            "supportedFlags": STRINGS,
        },
        "apparmor": ENABLED,
        "selinux": ENABLED,
        "intelRdt": {"enabled": bool, "schemata": bool, "monitoring": bool},
        "memoryPolicy": {"modes": STRINGS, "flags": STRINGS},
        "mountExtensions": {"idmap": ENABLED},
        "netDevices": ENABLED,
    },
    "annotations": {"rscontainer.version": str},
    "potentiallyUnsafeConfigAnnotations": STRINGS,
}
# Names have one form each, whatever their number (defs-linux.json).
PATTERNS = {
    "capabilities": "CAP_[A-Z_]+",
    "actions": "SCMP_ACT_[A-Z_]+",
    "operators": "SCMP_CMP_[A-Z_]+",
    "archs": "SCMP_ARCH_(?!NATIVE)[A-Z0-9_]+",
    "knownFlags": "SECCOMP_FILTER_FLAG_[A-Z_]+",
    "supportedFlags": "SECCOMP_FILTER_FLAG_[A-Z_]+",
    "modes": "MPOL_[A-Z_]+",
    "flags": "MPOL_F_[A-Z_]+",
}


@pytest.fixture
def features() -> rsc.Features:
    return rsc.features()


def check(form: object, value: Any, at: str) -> None:
    if isinstance(form, dict):
        assert isinstance(value, dict), at
        # A part that is not there may leave its lists out, for they would promise it.
        expected = {"enabled"} if value.get("enabled") is False else set(form)
        assert set(value) == expected, at
        for name, member in value.items():
            check(form[name], member, f"{at}.{name}")
    elif isinstance(form, list):
        assert isinstance(value, list), at
        assert all(isinstance(item, str) and item for item in value), at
        assert len(set(value)) == len(value), at
        pattern = PATTERNS.get(at.rpartition(".")[2], ".*")
        assert [item for item in value if not re.fullmatch(pattern, item)] == [], at
    else:
        assert type(value) is form, at


def test_form(features: rsc.Features) -> None:
    check(FORM, features, "$")


def test_command_line_says_the_same(features: rsc.Features) -> None:
    printed = subprocess.run(
        [_binary.binary(), "features"], check=True, capture_output=True, text=True, timeout=60
    )
    assert json.loads(printed.stdout) == features
    assert list(json.loads(printed.stdout)) == list(features)


def refusal(spec: rsc.Spec) -> str:
    try:
        spec.explain("/nonexistent")
    except rsc.SpecError as error:
        return str(error)
    return ""


def test_versions_are_accepted(features: rsc.Features) -> None:
    for version in features["ociVersionMin"], features["ociVersionMax"]:
        spec = rsc.Spec.default()
        spec.ociVersion = version
        assert spec.validate() == []
    assert rsc.Spec.default().ociVersion == features["ociVersionMax"]


def test_hooks_are_those_of_a_config(features: rsc.Features) -> None:
    spec = rsc.Spec.default()
    for moment in features["hooks"]:
        setattr(spec.hooks, moment, [{"path": moment}])
        # They are read, or it would not matter that this one has no absolute path.
        assert f"$.hooks.{moment}[0].path" in refusal(spec)
        setattr(spec.hooks, moment, [{"path": f"/{moment}"}])
        assert refusal(spec) == ""
    assert len(features["hooks"]) == 6


def test_unlisted_mount_option_is_the_file_systems(features: rsc.Features) -> None:
    assert {"size", "mode", "x-mount.mkdir", ""}.isdisjoint(features["mountOptions"])
    assert {"ro", "rro", "rbind", "private", "rprivate", "tmpcopyup"} <= set(
        features["mountOptions"]
    )


def test_namespaces_are_those_of_a_config(features: rsc.Features) -> None:
    spec = rsc.Spec.default()
    spec.linux.namespaces = [{"type": kind} for kind in features["linux"]["namespaces"]]
    mappings = [{"containerID": 0, "hostID": 0, "size": 65536}]
    spec.linux.uidMappings = spec.linux.gidMappings = mappings
    assert spec.validate() == []
    spec.linux.namespaces = [{"type": "unheardof"}]
    with pytest.raises(rsc.SpecError) as caught:
        spec.validate()
    named = re.search(r"must be one of ([a-z, ]+)", str(caught.value))
    assert named
    assert sorted(named[1].strip().split(", ")) == features["linux"]["namespaces"]


def test_capabilities_are_those_of_a_config(features: rsc.Features) -> None:
    spec = rsc.Spec.default()
    spec.process.capabilities = {"bounding": features["linux"]["capabilities"]}
    assert spec.validate() == []
    assert len(features["linux"]["capabilities"]) >= 41


def test_memory_policies_are_those_of_a_config(features: rsc.Features) -> None:
    policy = features["linux"]["memoryPolicy"]
    for mode in policy["modes"]:
        nodes = "" if mode in {"MPOL_DEFAULT", "MPOL_LOCAL"} else "0"
        spec = rsc.Spec.default()
        spec.linux.memoryPolicy = {"mode": mode, "nodes": nodes, "flags": policy["flags"]}
        assert f"set memory policy {mode}" in spec.explain("/nonexistent")


def with_seccomp(spec: rsc.Spec) -> None:
    spec.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW"}


def with_id_mapping(spec: rsc.Spec) -> None:
    mapping = [{"containerID": 0, "hostID": 1, "size": 1}]
    mount = {"destination": "/m", "source": "/", "options": ["bind", "idmap"]}
    spec.mounts.append({**mount, "uidMappings": mapping, "gidMappings": mapping})


def with_network_device(spec: rsc.Spec) -> None:
    spec.linux.netDevices = {"eth7": {}}


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("seccomp", with_seccomp),
        ("mountExtensions.idmap", with_id_mapping),
        ("netDevices", with_network_device),
    ],
)
def test_enabled_is_what_plans_take(
    features: rsc.Features, path: str, change: Callable[[rsc.Spec], None]
) -> None:
    found: Any = features["linux"]
    for name in path.split("."):
        found = found[name]
    spec = rsc.Spec.default()
    change(spec)
    assert found["enabled"] is ("not supported yet" not in refusal(spec))


def test_seccomp_words_are_those_of_a_config(features: rsc.Features) -> None:
    seccomp: Any = features["linux"]["seccomp"]
    if not seccomp["enabled"]:
        # Its lists would promise what is refused.
        assert seccomp == {"enabled": False}
        return
    args = [{"index": 0, "value": 1, "op": operator} for operator in seccomp["operators"]]
    spec = rsc.Spec.default()
    spec.linux.seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": seccomp["archs"],
        "flags": seccomp["supportedFlags"],
        "listenerPath": "/run/agent",
        "syscalls": [
            {"names": ["read"], "action": action, "args": args} for action in seccomp["actions"]
        ],
    }
    assert spec.validate() == []


def test_members_are_runcs(features: rsc.Features) -> None:
    runc = shutil.which("runc")
    if runc is None:
        pytest.skip("runc is not installed here")
    done = subprocess.run([runc, "features"], check=False, capture_output=True, timeout=60)
    if done.returncode != 0:
        pytest.skip("runc is not installed here in a version that has features")
    theirs = json.loads(done.stdout)
    known: dict[str, Any] = dict(features)
    assert set(theirs) <= set(known)
    assert set(theirs["hooks"]) == set(known["hooks"])
    assert set(theirs["mountOptions"]) - set(known["mountOptions"]) == set()
    linux, known = theirs["linux"], known["linux"]
    assert set(linux) <= set(known)
    for name in "namespaces", "capabilities":
        assert set(linux[name]) <= set(known[name])
    assert set(linux["cgroup"]) <= set(known["cgroup"])
