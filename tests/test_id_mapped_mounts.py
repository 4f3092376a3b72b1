"""Id-mapped mounts: who owns what, seen from inside and from outside."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ORDINARY

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, Shell

HOST = 200_000
OWN = [{"containerID": 0, "hostID": HOST, "size": 65536}]
CONTAINER = [{"containerID": 0, "hostID": 100_000, "size": 65536}]


def adding(*mounts: dict[str, Any], user_namespace: bool = False) -> Change:
    def change(spec: rsc.Spec) -> None:
        spec.mounts = [*spec.mounts, *mounts]
        if user_namespace:
            spec.linux.namespaces = [*spec.linux.namespaces, {"type": "user"}]
            spec.linux.uidMappings = spec.linux.gidMappings = CONTAINER

    return change


def bind(
    source: object,
    *options: str,
    ids: list[dict[str, int]] | None = None,
    destination: str = "/tmp",
) -> dict[str, Any]:
    mount: dict[str, Any] = {
        "destination": destination,
        "source": str(source),
        "options": ["rbind", *options],
    }
    if ids is not None:
        mount["uidMappings"] = mount["gidMappings"] = ids
    return mount


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def linux() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))


@pytest.fixture(params=["tmpfs", "disk"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder with files of several owners, and one below it that is a mount of its own."""
    if ORDINARY:
        pytest.skip("needs root: to mount on the host")
    if request.param == "tmpfs" and linux() < (6, 3):
        pytest.skip("this kernel has no id-mapped tmpfs: Linux 6.3 brought it")
    top, other = tmp_path / "tree", tmp_path / "other"
    top.mkdir()
    other.mkdir()
    mounted = []

    def mount(place: Path, *how: object) -> None:
        subprocess.run(["mount", *how, place], check=True)
        mounted.append(place)

    tmpfs = ["-t", "tmpfs", "tmpfs"]
    try:
        if request.param == "tmpfs":
            mount(top, *tmpfs)
        below = top / "below"
        below.mkdir()
        mount(below, *(tmpfs if request.param == "tmpfs" else ["--bind", other]))
        for folder in (top, below):
            folder.chmod(0o777)
            for name, uid, gid in [("root", 0, 0), ("user", 1000, 1001), ("stranger", 70000, 0)]:
                (folder / name).touch()
                os.chown(folder / name, uid, gid)
        yield top
    finally:
        for place in reversed(mounted):
            subprocess.run(["umount", "-l", place], check=True)


OWNERS = "cd /tmp; stat -c '%n %u:%g' root user stranger below/root below/user"


def test_own_mappings_without_a_user_namespace(sh: Shell, tree: Path) -> None:
    change = adding(bind(tree, "idmap", ids=OWN))
    assert sh(OWNERS, change).splitlines() == [
        "root 200000:200000",
        "user 201000:201001",
        # Not in the mapping, so nobody's.
        "stranger 65534:200000",
        "below/root 0:0",
        "below/user 1000:1001",
    ]


def test_the_mounts_below_are_mapped_with_ridmap(sh: Shell, tree: Path) -> None:
    change = adding(bind(tree, "ridmap", ids=OWN))
    assert sh(OWNERS, change).splitlines() == [
        "root 200000:200000",
        "user 201000:201001",
        "stranger 65534:200000",
        "below/root 200000:200000",
        "below/user 201000:201001",
    ]


def test_the_mappings_of_the_containers_user_namespace(sh: Shell, tree: Path) -> None:
    plain = adding(bind(tree), user_namespace=True)
    assert sh("stat -c %u:%g /tmp/root", plain) == "65534:65534\n"
    change = adding(bind(tree, "idmap"), user_namespace=True)
    assert sh(OWNERS, change).splitlines() == [
        "root 0:0",
        "user 1000:1001",
        "stranger 65534:0",
        "below/root 65534:65534",
        "below/user 65534:65534",
    ]
    change = adding(bind(tree, "ridmap"), user_namespace=True)
    assert sh("stat -c %u:%g /tmp/below/user", change) == "1000:1001\n"


def test_own_mappings_in_a_user_namespace(sh: Shell, tree: Path) -> None:
    # What root owns on the disk is user 7's in the container.
    ids = [{"containerID": 0, "hostID": 100_007, "size": 2000}]
    change = adding(bind(tree, "idmap", ids=ids), user_namespace=True)
    assert sh("stat -c '%n %u:%g' /tmp/root /tmp/user", change).splitlines() == [
        "/tmp/root 7:7",
        "/tmp/user 1007:1008",
    ]


def test_a_joined_user_namespace(
    bundle: BundleFactory, root: Path, unique_id: Any, tree: Path
) -> None:
    def joining(pid: int) -> Change:
        def change(spec: rsc.Spec) -> None:
            kinds = [{"type": kind} for kind in ("mount", "uts", "ipc", "network")]
            user = {"type": "user", "path": f"/proc/{pid}/ns/user"}
            pid_namespace = {"type": "pid", "path": f"/proc/{pid}/ns/pid"}
            spec.linux.namespaces = [user, pid_namespace, *kinds]
            spec.mounts = [
                m for m in spec.mounts if m.type not in ("cgroup", "proc", "sysfs", "mqueue")
            ]
            spec.mounts = [*spec.mounts, bind(tree, "idmap")]
            spec.linux.maskedPaths = spec.linux.readonlyPaths = []

        return change

    first = bundle(adding(user_namespace=True), args=["sleep", "60"])
    with rsc.Container.run(unique_id(), first, root=root, stdin=rsc.DEVNULL) as owning:
        second = bundle(joining(owning.pid))
        script = ["sh", "-c", "stat -c '%n %u:%g' /tmp/root /tmp/user"]
        done = rsc.run(second, script, capture_output=True, text=True, root=root, timeout=60)
        assert done.stdout.splitlines() == ["/tmp/root 0:0", "/tmp/user 1000:1001"], done.stderr


@pytest.mark.parametrize("user_namespace", [False, True])
def test_what_is_made_inside_has_its_owner_outside(
    sh: Shell, tree: Path, user_namespace: bool
) -> None:
    own = [
        {"containerID": 0, "hostID": 0, "size": 1000},
        {"containerID": 1000, "hostID": HOST, "size": 1},
    ]
    mount = bind(tree, "idmap", ids=None if user_namespace else own)

    def change(spec: rsc.Spec) -> None:
        adding(mount, user_namespace=user_namespace)(spec)
        sets = ("bounding", "permitted", "effective")
        spec.process.capabilities = {key: ["CAP_CHOWN", "CAP_DAC_OVERRIDE"] for key in sets}

    user = 1000 if user_namespace else HOST
    script = f"""
        cd /tmp; touch made; touch given; chown {user}:{user} given; mkdir folder
        touch folder/x; stat -c '%u:%g' made given
    """
    assert sh(script, change).splitlines() == ["0:0", f"{user}:{user}"]
    assert owner(tree / "made") == (0, 0)
    assert owner(tree / "given") == (1000, 1000)
    assert owner(tree / "folder" / "x") == (0, 0)


def test_an_id_without_a_mapping_can_make_nothing(sh: Shell, tree: Path) -> None:
    change = adding(bind(tree, "idmap", ids=OWN))
    out = sh("touch /tmp/new 2>&1; cat /tmp/root", change, check=False)
    assert "Value too large" in out
    assert not (tree / "new").exists()


def test_an_entered_process_sees_the_same(
    bundle: BundleFactory, root: Path, box: str, tree: Path
) -> None:
    made = bundle(adding(bind(tree, "ridmap"), user_namespace=True), args=["sleep", "60"])
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        script = "stat -c %u:%g /tmp/user /tmp/below/root; touch /tmp/entered"
        entered = container.exec(["sh", "-c", script], stdout=rsc.PIPE)
        assert entered.communicate()[0].split() == [b"1000:1001", b"0:0"]
        assert owner(tree / "entered") == (0, 0)


def test_other_options_and_many_mounts(sh: Shell, tree: Path) -> None:
    mounts = [
        bind(tree, "idmap", "ro", "nosuid", "rnodev", ids=OWN, destination=f"/tmp/{index}")
        for index in range(70)
    ]
    plain = bind(tree, destination="/tmp/plain")
    tmpfs = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
    script = """
        stat -c %u /tmp/0/root /tmp/69/root /tmp/plain/root; touch /tmp/69/new 2>&1 || true
        grep -c ' /tmp/[0-9]* ro,nosuid,nodev,.*idmapped' /proc/self/mountinfo
    """
    assert sh(script, adding(tmpfs, *mounts, plain)).splitlines() == [
        str(HOST),
        str(HOST),
        "0",
        "touch: /tmp/69/new: Read-only file system",
        "70",
    ]


def test_a_file_is_mapped(sh: Shell, tree: Path) -> None:
    change = adding(bind(tree / "user", "idmap", ids=OWN, destination="/run/file"))
    assert sh("stat -c %u:%g /run/file", change, own_rootfs=True) == "201000:201001\n"


def test_mappings_alone_are_enough_and_older_runtimes_are_mentioned(sh: Shell, tree: Path) -> None:
    mount = bind(tree, ids=OWN)
    with pytest.warns(rsc.ConfigWarning, match="older runtimes ignore it"):
        said = sh("stat -c %u /tmp/root /tmp/below/root", adding(mount))
    assert said.split() == [str(HOST), "0"]


@pytest.mark.requires_root("to mount on the host")
def test_nothing_mounted_reaches_the_host(sh: Shell, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    # Its own file system, which supports more on older kernels than a tmpfs does.
    subprocess.run(["mount", "--bind", "--make-shared", place, place], check=True)
    try:
        (place / "x").mkdir()
        inside = {"destination": "/tmp/x", "type": "tmpfs", "source": "tmpfs"}
        ids = [{"containerID": 0, "hostID": 0, "size": 65536}]
        sh("grep ' /tmp/x ' /proc/self/mountinfo", adding(bind(place, "idmap", ids=ids), inside))
        assert f" {place / 'x'} " not in Path("/proc/self/mountinfo").read_text()
        assert sh("grep ' /tmp ' /proc/self/mountinfo", adding(bind(place, "idmap", ids=ids)))
    finally:
        subprocess.run(["umount", "-l", place], check=True)


# -- what cannot be -----------------------------------------------------------------------------


@pytest.mark.requires_root("to map the ids of the host's mounts")
def test_a_file_system_that_cannot_do_it_is_named(sh: Shell) -> None:
    change = adding(bind("/proc/sys", "idmap", ids=OWN))
    with pytest.raises(rsc.SystemCallError, match=r'map ids.*mount_setattr "/proc/sys"') as caught:
        sh("true", change)
    message = str(caught.value)
    assert caught.value.errno == 22
    assert "$.mounts[7]" in message
    assert "proc does not support id-mapped mounts" in message


def test_so_is_one_below(sh: Shell, tree: Path) -> None:
    below = tree / "proc"
    below.mkdir()
    subprocess.run(["mount", "-t", "proc", "proc", below], check=True)
    try:
        assert sh("stat -c %u /tmp/root", adding(bind(tree, "idmap", ids=OWN))) == f"{HOST}\n"
        with pytest.raises(rsc.SystemCallError, match="one of these") as caught:
            sh("true", adding(bind(tree, "ridmap", ids=OWN)))
        assert re.search(r": \w+, proc; ", str(caught.value))
    finally:
        subprocess.run(["umount", below], check=True)


@pytest.mark.requires_root("to map the ids of the host's mounts")
def test_a_missing_source_is_named(sh: Shell) -> None:
    with pytest.raises(rsc.SystemCallError, match=r'open_tree "/not/there".*ENOENT') as caught:
        sh("true", adding(bind("/not/there", "idmap", ids=OWN)))
    assert "the source must exist on the host" in str(caught.value)


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        pytest.param(
            bind("/tmp", "idmap"),
            "or a user namespace",
            marks=pytest.mark.requires_root("to do without a user namespace"),
        ),
        ({**bind("/tmp", "idmap"), "uidMappings": OWN}, "must come along with gidMappings"),
        (bind("/tmp", "idmap", "remount", ids=OWN), "cannot be mapped any more"),
        (
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["idmap"]},
            "only possible for bind mounts",
        ),
        (bind("/tmp", "idmap", ids=[*OWN, *OWN]), "must not overlap"),
    ],
)
def test_what_the_specification_does_not_allow(
    sh: Shell, mount: dict[str, Any], words: str
) -> None:
    with pytest.raises(rsc.SpecError, match=words) as caught:
        sh("true", adding(mount))
    assert "$.mounts[7]" in str(caught.value)
