"""The config as Python sees it: attributes, round trips, errors, files."""

from __future__ import annotations

import copy
import json
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rscontainer import SpecError
from rscontainer.spec import Linux, Map, Mount, Namespace, Node, Process, Root, Spec, User

BUSYBOX = Path(__file__).parent / "bundles" / "busybox"


@pytest.fixture
def spec() -> Spec:
    return Spec.default()


# -- the default ----------------------------------------------------------------------------


def test_default_is_what_runc_writes(spec: Spec) -> None:
    assert list(spec) == ["ociVersion", "process", "root", "hostname", "mounts", "linux"]
    assert spec.ociVersion == "1.3.0"
    assert spec.hostname == "rscontainer"
    assert spec.process.args == ["sh"]
    assert spec.process.terminal is True
    assert spec.process.noNewPrivileges is True
    assert list(spec.process.capabilities) == ["bounding", "effective", "permitted"]
    assert spec.root == {"path": "rootfs", "readonly": True}
    destinations = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"]
    assert [mount.destination for mount in spec.mounts] == [*destinations, "/sys/fs/cgroup"]
    assert spec.linux.resources.devices == [{"allow": False, "access": "rwm"}]
    assert "/proc/kcore" in spec.linux.maskedPaths
    assert spec.validate() == []


def test_default_rootless(spec: Spec) -> None:
    rootless = Spec.default(rootless=True)
    kinds = [namespace.type for namespace in rootless.linux.namespaces]
    assert "user" in kinds
    assert "network" not in kinds
    mapping = {"containerID": 0, "hostID": os.geteuid(), "size": 1}
    assert rootless.linux.uidMappings == [mapping]
    assert "resources" not in rootless.linux
    (sys_mount,) = (mount for mount in rootless.mounts if mount.destination == "/sys")
    assert (sys_mount.type, sys_mount.source) == ("none", "/sys")
    assert not any("gid=5" in mount.options for mount in rootless.mounts)
    assert rootless.validate() == []
    assert rootless != spec


# -- attributes -----------------------------------------------------------------------------


def test_attributes_are_keys(spec: Spec) -> None:
    spec.process.args = ["ls", "-l"]
    assert spec["process"]["args"] == ["ls", "-l"]
    spec["process"]["cwd"] = "/tmp"
    assert spec.process.cwd == "/tmp"
    assert "noNewPrivileges" in dir(spec.process)
    assert "Required" in (Process.cwd.__doc__ or "")


def test_absent_value_is_none(spec: Spec) -> None:
    assert spec.domainname is None
    assert spec.process.oomScoreAdj is None
    assert spec.linux.resources.memory.limit is None


def test_reading_changes_nothing(spec: Spec) -> None:
    before = spec.to_dict()
    assert not spec.linux.resources.memory
    assert not spec.hooks.poststop
    assert not spec.annotations
    assert spec.to_dict() == before


def test_absent_objects_and_arrays_appear_when_written_to() -> None:
    spec = Spec()
    spec.linux.resources.memory.limit = 5
    spec.process.env.append("A=b")
    spec.process.rlimits += [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]
    spec.annotations["com.example.key"] = "value"
    spec.hooks.poststop.extend([{"path": "/bin/true"}])
    spec.linux.timeOffsets.monotonic.secs = 7
    assert spec == {
        "linux": {
            "resources": {"memory": {"limit": 5}},
            "timeOffsets": {"monotonic": {"secs": 7}},
        },
        "process": {
            "env": ["A=b"],
            "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
        },
        "annotations": {"com.example.key": "value"},
        "hooks": {"poststop": [{"path": "/bin/true"}]},
    }


def test_two_readers_of_an_absent_object_share_it() -> None:
    spec = Spec()
    one, other = spec.linux.resources, spec.linux.resources
    one.memory.limit = 1
    other.pids.limit = 2
    assert spec.linux.resources == {"memory": {"limit": 1}, "pids": {"limit": 2}}


def test_an_absent_object_whose_place_is_taken_stays_outside() -> None:
    spec = Spec()
    early = spec.linux.resources
    spec.linux.resources = {"pids": {"limit": 2}}
    early.memory.limit = 1
    assert spec.linux.resources == {"pids": {"limit": 2}}


def test_none_and_del_remove(spec: Spec) -> None:
    spec.process = None
    assert "process" not in spec
    del spec.linux.maskedPaths
    assert "maskedPaths" not in spec.linux
    with pytest.raises(AttributeError, match=r"Linux\.maskedPaths is absent"):
        del spec.linux.maskedPaths
    spec.hooks = None
    assert "hooks" not in spec


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("no_new_privileges", "noNewPrivileges"),
        ("noNewPrivilege", "noNewPrivileges"),
        ("capabilites", "capabilities"),
        ("oomscoreadj", "oomScoreAdj"),
    ],
)
def test_unknown_names_raise_and_suggest(spec: Spec, written: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"did you mean {meant}"):
        getattr(spec.process, written)
    with pytest.raises(AttributeError, match=f"did you mean {meant}"):
        setattr(spec.process, written, True)
    with pytest.raises(TypeError, match=f"did you mean {meant}"):
        Process(**{written: True})
    assert written not in spec.process


def test_a_name_like_no_other_has_no_suggestion(spec: Spec) -> None:
    with pytest.raises(AttributeError) as error:
        spec.process.xyzzy = 1  # type: ignore[attr-defined]
    assert str(error.value) == "Process.xyzzy is no property of the specification"


def test_unknown_keys_survive() -> None:
    source = {"process": {"x-note": [{"a": {"b": None}}]}, "platform": {"os": "linux"}}
    spec = Spec.from_dict(source)
    assert spec.to_dict() == source
    assert Spec.from_json(spec.to_json()).to_dict() == source
    assert spec.process["x-note"][0]["a"] == {"b": None}
    with pytest.raises(AttributeError, match=r'as a key it is \["platform"\]'):
        getattr(spec, "platform")  # noqa: B009 - for the type checker it is not there


def test_maps_have_keys_only(spec: Spec) -> None:
    spec.linux.sysctl = {"net.core.somaxconn": "256"}
    assert type(spec.linux.sysctl) is Map
    with pytest.raises(AttributeError, match=r"as a key it is"):
        spec.linux.sysctl.net = "1"  # type: ignore[attr-defined]


# -- what is put in -------------------------------------------------------------------------


def test_plain_dicts_become_nodes(spec: Spec) -> None:
    spec.process.user = {"uid": 7}
    assert type(spec.process.user) is User
    spec.mounts.append({"destination": "/a"})
    spec.mounts.insert(0, {"destination": "/b"})
    spec.mounts[1] = {"destination": "/c"}
    spec.mounts[2:3] = [{"destination": "/d"}]
    assert all(type(mount) is Mount for mount in spec.mounts)
    spec.update({"linux": {"namespaces": [{"type": "uts"}]}})
    assert type(spec.linux) is Linux
    assert type(spec.linux.namespaces[0]) is Namespace
    spec.setdefault("hooks", {"poststop": []})
    assert spec.hooks.poststop == []
    spec["extension"] = {"deep": [{}]}
    assert type(spec["extension"]["deep"][0]) is Node


def test_plain_values_are_copied(spec: Spec) -> None:
    source: dict[str, Any] = {"destination": "/a", "options": ["ro"]}
    spec.mounts = [source]
    source["options"].append("bind")
    assert spec.mounts[0].options == ["ro"]
    whole = {"process": {"args": ["a"]}}
    copied = Spec.from_dict(whole)
    copied.process.args.append("b")
    assert whole == {"process": {"args": ["a"]}}


def test_a_fresh_node_is_taken_as_it_is(spec: Spec) -> None:
    mount = Mount(destination="/a", type="tmpfs")
    spec.mounts.append(mount)
    mount.source = "tmpfs"
    assert spec.mounts[-1].source == "tmpfs"


def test_a_node_with_a_place_is_copied(spec: Spec) -> None:
    other = Spec(process=spec.process, mounts=spec.mounts)
    other.process.cwd = "/elsewhere"
    other.mounts[0].destination = "/elsewhere"
    other.process.env.append("A=b")
    assert spec == Spec.default()


def test_kinds_of_values(spec: Spec) -> None:
    class Count:
        def __index__(self) -> int:
            return 3

    spec.root.path = Path("/srv/rootfs")
    spec.process.args = ("ls", Path("/tmp"))  # type: ignore[assignment]
    spec.process.capabilities.bounding = {"CAP_KILL", "CAP_CHOWN"}
    spec.process.env = (f"{name}=1" for name in "AB")
    spec.linux.resources.pids.limit = Count()  # type: ignore[assignment]
    assert spec.root.path == "/srv/rootfs"
    assert spec.process.args == ["ls", "/tmp"]
    assert spec.process.capabilities.bounding == ["CAP_CHOWN", "CAP_KILL"]
    assert spec.process.env == ["A=1", "B=1"]
    assert spec.linux.resources.pids.limit == 3
    assert spec.validate() == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("args", "sh -c", r"Process\.args must be a list, not str: 'sh -c'"),
        ("args", {"a": 1}, r"Process\.args must be a list, not dict"),
        ("args", 5, r"Process\.args must be a list, not int"),
        ("user", [0, 0], r"Process\.user must be a User or a dict, not list"),
        ("user", "root", r"Process\.user must be a User or a dict, not str"),
        ("cwd", ["/"], r"Process\.cwd must be a single value, not list"),
        ("cwd", object(), r"a config cannot hold a object"),
        ("cwd", b"/", r"a config cannot hold a bytes"),
    ],
)
def test_wrong_shapes_are_refused_at_once(spec: Spec, name: str, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        setattr(spec.process, name, value)
    assert spec == Spec.default()


def test_keys_are_strings(spec: Spec) -> None:
    with pytest.raises(TypeError, match="a JSON key is a str, not int"):
        spec[1] = 2  # type: ignore[index]


# -- copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda spec: spec.copy(),
        lambda spec: pickle.loads(pickle.dumps(spec)),
        lambda spec: Spec.from_dict(spec.to_dict()),
        lambda spec: Spec.from_json(spec.to_json()),
        lambda spec: Spec.from_json(spec.to_json(indent=4).encode()),
    ],
)
def test_copies_are_equal_and_apart(spec: Spec, copied: Any) -> None:
    spec["extension"] = {"a": [1]}
    other = copied(spec)
    assert type(other) is Spec
    assert other == spec
    other.process.args.append("x")
    other["extension"]["a"].append(2)
    assert spec.process.args == ["sh"]
    assert spec["extension"]["a"] == [1]
    assert other != spec


def test_to_dict_is_plain(spec: Spec) -> None:
    def kinds(value: Any) -> set[type]:
        if isinstance(value, dict):
            return {type(value)}.union(*map(kinds, value.values()))
        return {type(value)}.union(*map(kinds, value)) if isinstance(value, list) else {type(value)}

    assert kinds(spec.to_dict()) == {dict, list, str, int, bool}


def test_parts_can_be_pickled(spec: Spec) -> None:
    assert pickle.loads(pickle.dumps(spec.mounts)) == spec.mounts
    assert type(pickle.loads(pickle.dumps(spec.root))) is Root


def test_repr_is_short(spec: Spec) -> None:
    assert repr(spec) == "<Spec ['sh'] in 'rootfs', 7 mounts>"
    spec.process.args = ["x" * 10_000]
    assert len(repr(spec)) < 200
    assert len(repr(spec.process)) < 250
    assert repr(spec.root) == "Root(path='rootfs', readonly=True)"
    assert repr(Spec.from_dict({"process": 1})) == "Spec(process=1)"


# -- files ----------------------------------------------------------------------------------


def test_load_takes_the_file_or_the_bundle() -> None:
    spec = Spec.load(BUSYBOX / "config.json")
    assert spec == Spec.load(str(BUSYBOX))
    assert spec.ociVersion == "1.0.0-rc5"
    assert spec["platform"] == {"os": "linux", "arch": "amd64"}
    assert spec.to_dict() == json.loads((BUSYBOX / "config.json").read_text())
    assert spec.validate() == []


def test_save_and_load(spec: Spec, tmp_path: Path) -> None:
    spec.process.env.append("GREETING=grüß dich 🐚")
    spec.save(tmp_path / "config.json")
    assert Spec.load(tmp_path) == spec
    assert list(json.loads((tmp_path / "config.json").read_text())) == list(spec)
    spec.hostname = "other"
    spec.save(tmp_path, indent=None)
    assert Spec.load(tmp_path) == spec
    assert os.listdir(tmp_path) == ["config.json"]


def test_save_keeps_mode_and_link(spec: Spec, tmp_path: Path) -> None:
    target = tmp_path / "target.json"
    target.write_text("{}")
    target.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(target)
    spec.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert Spec.load(target) == spec


def test_a_failed_save_leaves_the_old_file(spec: Spec, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    spec.save(path)
    old = path.read_bytes()
    spec.process.env.append("BAD=\udc80")
    with pytest.raises(SpecError, match="cannot be written as JSON"):
        spec.save(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["config.json"]
    with pytest.raises(OSError, match="No such file"):
        Spec.default().save(tmp_path / "missing" / "config.json")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the host has no /dev/full")
def test_a_save_that_ends_in_mid_write_leaves_the_old_file(spec: Spec, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    spec.save(path)
    # A limit on file sizes fails the write as a full disk does, without filling one.
    program = (
        "import resource, signal, sys\n"
        "from rscontainer.spec import Spec\n"
        "spec = Spec.default()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    spec.save(sys.argv[1])\n"
        "except OSError as error:\n"
        "    print(error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "27"
    assert Spec.load(path) == spec
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Spec.load(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a":\n  {"b": 1', "line 2 column 10, where it is cut off"),
        (b"", "line 1 column 1"),
        (b"{'a': 1}", "line 1 column 2"),
        (b"{} x", "line 1 column 4"),
        (b'{\n"a": "\xff"}', "not UTF-8 at line 2 column 7"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b"[]", "must be a JSON object, not list"),
        (b"[" * 200_000, "nested too deeply|not JSON"),
        (b'{"a": "' + b"x" * (16 << 20) + b'"}', "larger than 16777216 bytes"),
    ],
)
def test_bad_json_names_file_and_place(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(SpecError, match=message) as error:
        Spec.load(path)
    assert str(path) in str(error.value)
    with pytest.raises(SpecError, match=message):
        Spec.from_json(data)


@pytest.mark.parametrize("value", [[], "{}", 1, None.__class__])
def test_from_dict_wants_a_dict(value: Any) -> None:
    with pytest.raises(TypeError, match="Spec is made from a dict"):
        Spec.from_dict(value)


def test_from_json_wants_text() -> None:
    with pytest.raises(TypeError, match="JSON is str or bytes, not dict"):
        Spec.from_json({})  # type: ignore[arg-type]


# -- validation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("process.cwd", "tmp", ['$.process.cwd = "tmp"', "absolute", "config.md#process"]),
        ("process.args", ["sh", 7], ["$.process.args[1] = 7", "must be a string"]),
        ("process.user", {"uid": -1}, ["$.process.user.uid = -1", "config.md#user"]),
        ("root", None, ["$.root", "missing", "config.md#root"]),
        ("hostname", "x" * 65, ["$.hostname", "64", "config.md#hostname"]),
        ("linux.namespaces", [{"type": "nett"}], ["$.linux.namespaces[0].type", "one of"]),
        ("linux.resources.memory", {"limit": -5}, ["memory.limit = -5", "config-linux.md#memory"]),
        ("ociVersion", "9", ['$.ociVersion = "9"', "SemVer"]),
    ],
)
def test_validate_names_path_value_and_section(
    spec: Spec, path: str, value: Any, words: list[str]
) -> None:
    *parents, name = path.split(".")
    node: Any = spec
    for parent in parents:
        node = getattr(node, parent)
    setattr(node, name, value)
    with pytest.raises(SpecError) as error:
        spec.validate()
    for word in words:
        assert word in str(error.value)


def test_validate_warns(spec: Spec) -> None:
    spec.process.capabilities.bounding.append("CAP_SYS_ADMN")
    spec.process["noNewPriviledges"] = True
    del spec.process.noNewPrivileges
    capability, typo = spec.validate()
    assert capability.startswith("$.process.capabilities.bounding[3]")
    assert "CAP_SYS_ADMIN" in capability
    expected = "$.process.noNewPriviledges: unknown, and ignored; did you mean noNewPrivileges?"
    assert typo == expected


def test_null_counts_as_absent() -> None:
    members = Spec.default().to_dict()
    members["mounts"] = members["hooks"] = members["linux"]["sysctl"] = None
    spec = Spec.from_dict(members)
    assert spec.hooks.poststop == []
    assert spec.to_dict() == members
    assert spec.validate() == []
    spec.hooks.poststop.append({"path": "/bin/true"})
    assert spec["hooks"] == {"poststop": [{"path": "/bin/true"}]}


def test_explain_prints_a_step_a_line(spec: Spec) -> None:
    lines = spec.explain(BUSYBOX).splitlines()
    assert len(lines) > 10
    assert any("/proc" in line for line in lines)
    spec.process.cwd = "relative"
    with pytest.raises(SpecError):
        spec.explain()
