"""Mounts: every option, every kind of target, what is hidden, what becomes of the root itself."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, Shell

pytestmark = pytest.mark.requires_root


class Mounted(NamedTuple):
    """A line of mountinfo (proc_pid_mountinfo(5))."""

    point: str
    root: str
    options: set[str]
    propagation: set[str]
    fstype: str
    source: str
    superblock: set[str]


def mountinfo(text: str) -> dict[str, Mounted]:
    """The topmost mount of each place."""
    found = {}
    for line in text.splitlines():
        mount, _, filesystem = line.partition(" - ")
        _, _, _, root, point, options, *tags = mount.split()
        fstype, source, superblock = filesystem.split()
        found[point] = Mounted(
            point,
            root,
            set(options.split(",")),
            {tag.partition(":")[0] for tag in tags},
            fstype,
            source,
            set(superblock.split(",")),
        )
    return found


def adding(*mounts: dict[str, Any]) -> Change:
    def change(spec: rsc.Spec) -> None:
        spec.mounts = [*spec.mounts, *mounts]

    return change


def tmpfs(*options: str, destination: str = "/tmp") -> dict[str, Any]:
    return {
        "destination": destination,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": list(options),
    }


def bind(source: object, *options: str, destination: str = "/tmp") -> dict[str, Any]:
    options = options if "rbind" in options else ("bind", *options)
    return {"destination": destination, "source": str(source), "options": list(options)}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host with a file in it, and another file system below it."""
    top = tmp_path / "tree"
    below = top / "below"
    below.mkdir(parents=True)
    (top / "file").write_text("top\n")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        (below / "file").write_text("below\n")
        yield top
    finally:
        subprocess.run(["umount", "-l", below], check=True)


OPTIONS = [
    # option, what mountinfo then shows, what it does not
    (["ro"], {"ro"}, {"rw"}),
    (["rw"], {"rw"}, {"ro"}),
    (["ro", "rw"], {"rw"}, {"ro"}),
    (["rw", "ro"], {"ro"}, {"rw"}),
    (["nosuid"], {"nosuid"}, set()),
    (["nosuid", "suid"], set(), {"nosuid"}),
    (["nodev"], {"nodev"}, set()),
    (["nodev", "dev"], set(), {"nodev"}),
    (["noexec"], {"noexec"}, set()),
    (["noexec", "exec"], set(), {"noexec"}),
    (["nosymfollow"], {"nosymfollow"}, set()),
    (["nosymfollow", "symfollow"], set(), {"nosymfollow"}),
    (["noatime"], {"noatime"}, {"relatime"}),
    (["relatime"], {"relatime"}, {"noatime"}),
    (["noatime", "relatime"], {"relatime"}, {"noatime"}),
    (["noatime", "atime"], {"relatime"}, {"noatime"}),
    (["strictatime"], set(), {"relatime", "noatime"}),
    (["nodiratime"], {"nodiratime", "relatime"}, set()),
    (["nodiratime", "diratime"], {"relatime"}, {"nodiratime"}),
    (["defaults"], {"rw", "relatime"}, {"nosuid", "nodev", "noexec"}),
    (["nosuid", "nodev", "noexec", "ro"], {"nosuid", "nodev", "noexec", "ro"}, set()),
]


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_options(sh: Shell, tmp_path: Path, kind: str) -> None:
    places = [f"/tmp/{index}" for index in range(len(OPTIONS))]
    source = tmp_path / "source"
    source.mkdir()
    mounts = [
        tmpfs(*options, destination=place)
        if kind == "tmpfs"
        else bind(source, *options, destination=place)
        for place, (options, _, _) in zip(places, OPTIONS)
    ]
    shown = mountinfo(sh("cat /proc/self/mountinfo", adding(tmpfs(), *mounts)))
    for place, (options, present, absent) in zip(places, OPTIONS):
        found = shown[place].options
        assert present <= found, options
        assert not absent & found, options


RECURSIVE = [
    (["rro"], {"ro"}),
    (["rnosuid"], {"nosuid"}),
    (["rnodev"], {"nodev"}),
    (["rnoexec"], {"noexec"}),
    (["rnosymfollow"], {"nosymfollow"}),
    (["rnoatime"], {"noatime"}),
    (["rnodiratime"], {"nodiratime"}),
    (["rro", "rnosuid", "rnodev"], {"ro", "nosuid", "nodev"}),
]


def test_recursive_options_reach_the_mounts_below(sh: Shell, tree: Path) -> None:
    mounts = [
        bind(tree, "rbind", *options, destination=f"/tmp/{index}")
        for index, (options, _) in enumerate(RECURSIVE)
    ]
    shown = mountinfo(sh("cat /proc/self/mountinfo", adding(tmpfs(), *mounts)))
    for index, (options, present) in enumerate(RECURSIVE):
        for place in (f"/tmp/{index}", f"/tmp/{index}/below"):
            assert present <= shown[place].options, f"{options} on {place}"


def test_options_do_not_reach_the_mounts_below(sh: Shell, tree: Path) -> None:
    change = adding(tmpfs(), bind(tree, "rbind", "ro", "nosuid", destination="/tmp/x"))
    shown = mountinfo(sh("cat /proc/self/mountinfo; echo a >/tmp/x/below/new", change))
    assert {"ro", "nosuid"} <= shown["/tmp/x"].options
    assert "rw" in shown["/tmp/x/below"].options
    assert (tree / "below" / "new").read_text() == "a\n"


def test_bind_leaves_the_mounts_below_out(sh: Shell, tree: Path) -> None:
    script = "cat /tmp/file; ls /tmp/below"
    assert sh(script, adding(bind(tree))) == "top\n"
    assert sh(script, adding(bind(tree, "rbind"))) == "top\nfile\n"
    typed = {"destination": "/tmp", "type": "bind", "source": str(tree)}
    assert sh("cat /tmp/file", adding(typed)) == "top\n"


PROPAGATION = [
    (["shared"], {"shared"}),
    (["rshared"], {"shared"}),
    (["private"], set()),
    (["rprivate"], set()),
    (["unbindable"], {"unbindable"}),
    (["runbindable"], {"unbindable"}),
]


def test_propagation(sh: Shell) -> None:
    mounts = [
        tmpfs(*options, destination=f"/tmp/{index}")
        for index, (options, _) in enumerate(PROPAGATION)
    ]
    shown = mountinfo(sh("cat /proc/self/mountinfo", adding(tmpfs(), *mounts)))
    for index, (options, tags) in enumerate(PROPAGATION):
        assert shown[f"/tmp/{index}"].propagation == tags, options


def test_nothing_mounted_reaches_the_host(sh: Shell, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "--make-shared", "tmpfs", place], check=True)
    try:
        (place / "x").mkdir()
        change = adding(bind(place, "rbind", "rslave"), tmpfs(destination="/tmp/x"))
        shown = mountinfo(sh("cat /proc/self/mountinfo", change))
        assert shown["/tmp"].propagation == {"master"}
        assert "/tmp/x" in shown
        host = mountinfo(Path("/proc/self/mountinfo").read_text())
        assert str(place / "x") not in host
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_host_mounts_come_in_with_slave(
    bundle: BundleFactory, root: Path, box: str, tmp_path: Path
) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "--make-shared", "tmpfs", place], check=True)
    try:
        (place / "later").mkdir()
        change = adding(bind(place, "rbind", "rslave"))
        with rsc.Container.run(
            box, bundle(change, args=["sleep", "60"]), root=root, stdin=rsc.DEVNULL
        ) as container:
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place / "later"], check=True)
            (place / "later" / "file").touch()
            seen = container.exec(["ls", "/tmp/later"], stdout=rsc.PIPE)
            assert seen.communicate()[0] == b"file\n"
    finally:
        subprocess.run(["umount", "-R", "-l", place], check=True)


def test_rootfs_propagation(sh: Shell) -> None:
    for word, tags in [("shared", "shared"), ("rprivate", ""), ("unbindable", "unbindable")]:

        def change(spec: rsc.Spec, word: str = word) -> None:
            spec.linux.rootfsPropagation = word

        found = mountinfo(sh("cat /proc/self/mountinfo", change))["/"].propagation
        assert found - {"master"} == ({tags} if tags else set()), word


# -- targets ----------------------------------------------------------------------------------


def test_targets_are_made(sh: Shell, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("of the host\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    change = adding(
        bind(file, "ro", destination="/new/deep/file"),
        bind(folder, destination="/new/other/folder"),
        bind("/dev/null", destination="/new/null"),
        tmpfs("mode=0700", destination="/new/tmpfs"),
    )
    script = "cat /new/deep/file; stat -c %F /new/other/folder /new/null; stat -c %a /new/tmpfs"
    assert sh(script, change, own_rootfs=True).splitlines() == [
        "of the host",
        "directory",
        "character special file",
        "700",
    ]


def test_relative_destination_is_taken_from_the_root(sh: Shell) -> None:
    with pytest.warns(rsc.ConfigWarning, match='"tmp" is relative'):
        shown = mountinfo(sh("cat /proc/self/mountinfo", adding(tmpfs(destination="tmp"))))
    assert shown["/tmp"].fstype == "tmpfs"


def test_relative_source_is_taken_from_the_bundle(sh: Shell, bundle: BundleFactory) -> None:
    made = bundle(adding(bind("beside")))
    beside = Path(os.fspath(made)) / "beside"
    beside.mkdir()
    (beside / "file").write_text("beside\n")
    assert sh("cat /tmp/file", bundle=made) == "beside\n"


def test_links_in_the_rootfs_are_followed_inside_of_it(sh: Shell, bundle: BundleFactory) -> None:
    made = bundle(
        adding(
            bind("/proc/version", destination="/etc/mtab"),
            tmpfs(destination="/link/below"),
            bind("/proc/version", destination="/etc/up"),
        ),
        own_rootfs=True,
    )
    made.rootfs.joinpath("etc/mtab").symlink_to("/run/not/there/mtab")
    made.rootfs.joinpath("link").symlink_to("../../var/./missing")
    made.rootfs.joinpath("etc/up").symlink_to("../../../up")
    script = """
        cmp /run/not/there/mtab /proc/version && cmp /up /proc/version
        cut -d' ' -f5 /proc/self/mountinfo
    """
    assert {"/run/not/there/mtab", "/var/missing/below", "/up"} <= set(
        sh(script, bundle=made).split()
    )
    assert not Path("/run/not").exists()


def test_links_without_an_end_are_refused(sh: Shell, bundle: BundleFactory) -> None:
    made = bundle(adding(tmpfs(destination="/a")), own_rootfs=True)
    made.rootfs.joinpath("a").symlink_to("/b")
    made.rootfs.joinpath("b").symlink_to("/a")
    with pytest.raises(rsc.SystemCallError, match="ELOOP") as caught:
        sh("true", bundle=made)
    assert caught.value.errno == 40


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["/tmp", "/{name}"], ids=["a folder", "itself"])
def test_links_in_place_of_proc_and_sys_are_refused(
    sh: Shell, bundle: BundleFactory, name: str, target: str
) -> None:
    made = bundle(own_rootfs=True)
    made.rootfs.joinpath(name).rmdir()
    made.rootfs.joinpath(name).symlink_to(target.format(name=name))
    with pytest.raises(rsc.SystemCallError, match=r"ELOOP.*must be mounted on ordinary directory"):
        sh("true", bundle=made)


def test_a_missing_source_is_named(sh: Shell) -> None:
    with pytest.raises(rsc.SystemCallError, match=r'bind "/not/there" on "/tmp".*ENOENT') as caught:
        sh("true", adding(bind("/not/there")))
    assert r"$.mounts[7]" in str(caught.value)


def test_an_unknown_option_is_named(sh: Shell) -> None:
    with pytest.raises(rsc.SystemCallError, match="bogus") as caught:
        sh("true", adding(tmpfs("bogus")))
    assert r"$.mounts[7]" in str(caught.value)


# -- kinds of mounts --------------------------------------------------------------------------


def test_tmpcopyup(sh: Shell, bundle: BundleFactory) -> None:
    made = bundle(adding(tmpfs("tmpcopyup", "mode=755", destination="/data")), own_rootfs=True)
    data = made.rootfs / "data"
    (data / "deep").mkdir(parents=True)
    (data / "deep" / "file").write_text("content\n")
    os.chown(data / "deep" / "file", 12, 34)
    (data / "deep" / "file").chmod(0o4755)
    (data / "deep").chmod(0o2755)
    (data / "link").symlink_to("/etc/passwd")
    os.mkfifo(data / "pipe", 0o600)
    os.mknod(data / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    script = """
        cd /data; cat deep/file; readlink link
        stat -c '%a %u:%g %F' deep/file deep pipe; stat -c '%F %t:%T' null
        echo changed >link2
    """
    assert sh(script, bundle=made).splitlines() == [
        "content",
        "/etc/passwd",
        "4755 12:34 regular file",
        "2755 0:0 directory",
        "600 0:0 fifo",
        "character special file 1:3",
    ]
    assert not (data / "link2").exists()


def test_tmpcopyup_read_only(sh: Shell) -> None:
    change = adding(tmpfs("tmpcopyup", "ro", destination="/etc"))
    script = "ls /etc | wc -l; touch /etc/new 2>&1 || true; cat /proc/self/mountinfo"
    first, second, *rest = sh(script, change).splitlines()
    assert int(first) > 0
    assert "Read-only" in second
    assert "ro" in mountinfo("\n".join(rest))["/etc"].options


def test_remount(sh: Shell, tree: Path) -> None:
    remount = {"destination": "/tmp", "type": "none", "options": ["remount", "bind", "ro", "nodev"]}
    shown = mountinfo(sh("cat /proc/self/mountinfo", adding(bind(tree), remount)))
    assert {"ro", "nodev"} <= shown["/tmp"].options
    # The host's own mount is another, and stays as it was.
    (tree / "new").touch()


def test_overlay(sh: Shell, tmp_path: Path) -> None:
    lower, upper, work = (tmp_path / name for name in ("lower", "upper", "work"))
    for folder in (lower, upper, work):
        folder.mkdir()
    (lower / "file").write_text("lower\n")
    options = [f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}"]
    mount = {"destination": "/tmp", "type": "overlay", "source": "overlay", "options": options}
    assert sh("cat /tmp/file; echo upper >/tmp/file; cat /tmp/file", adding(mount)) == (
        "lower\nupper\n"
    )
    assert (upper / "file").read_text() == "upper\n"


@pytest.mark.parametrize("access", ["ro", "rw"])
def test_overlay_of_many_layers(sh: Shell, tmp_path: Path, access: str) -> None:
    layers = [tmp_path / f"a-layer-with-a-rather-long-name-{index:03}" for index in range(30)]
    for index, layer in enumerate(layers):
        layer.mkdir()
        (layer / f"file{index}").touch()
    lowerdir = "lowerdir=" + ":".join(map(str, layers))
    assert 255 < len(lowerdir) < 4096
    options = [lowerdir, access, "nosuid"]
    mount = {"destination": "/tmp", "type": "overlay", "source": "overlay", "options": options}
    out = sh("ls /tmp | wc -l; cat /proc/self/mountinfo", adding(mount))
    count, _, rest = out.partition("\n")
    assert int(count) == len(layers)
    assert {access, "nosuid"} <= mountinfo(rest)["/tmp"].options


def test_proc_options(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.mounts[0].options = ["nosuid", "nodev", "noexec", "hidepid=2"]

    proc = mountinfo(sh("cat /proc/self/mountinfo", change))["/proc"]
    assert {"nosuid", "nodev", "noexec"} <= proc.options
    assert proc.superblock & {"hidepid=invisible", "hidepid=2"}


def test_the_default_mounts(sh: Shell) -> None:
    shown = mountinfo(sh("cat /proc/self/mountinfo"))
    kinds = {place: mounted.fstype for place, mounted in shown.items()}
    assert {
        "/proc": "proc",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/dev/mqueue": "mqueue",
        "/sys": "sysfs",
    }.items() <= kinds.items()
    assert shown["/dev/pts"].superblock >= {"gid=5", "mode=620", "ptmxmode=666"}
    assert shown["/dev/shm"].options >= {"nosuid", "nodev", "noexec"}
    assert shown["/sys"].options >= {"ro", "nosuid", "nodev", "noexec"}
    assert not {place for place in kinds if place.startswith(str(Path.home()))} - {"/", "/proc"}


def test_mqueue_and_shm_are_the_containers_own(sh: Shell) -> None:
    assert sh("ls /dev/mqueue /dev/shm | grep -v : | wc -w") == "0\n"


def test_cgroup_mounts_show_the_containers_own_alone(sh: Shell) -> None:
    shown = mountinfo(sh("cat /proc/self/mountinfo"))
    inside = {place: m for place, m in shown.items() if place.startswith("/sys/fs/cgroup")}
    assert inside, "no cgroup mount in the container"
    assert all("ro" in mounted.options for mounted in inside.values())
    bound = [mounted for mounted in inside.values() if mounted.fstype.startswith("cgroup")]
    assert bound
    assert all(mounted.root != "/" for mounted in bound)


def test_cgroup_mounts_in_a_cgroup_namespace(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        kinds = [namespace.type for namespace in spec.linux.namespaces]
        if "cgroup" not in kinds:
            spec.linux.namespaces = [*spec.linux.namespaces, {"type": "cgroup"}]

    script = "cat /proc/self/mountinfo; echo; cat /proc/self/cgroup"
    mounts, _, groups = sh(script, change).partition("\n\n")
    shown = [m for m in mountinfo(mounts).values() if m.fstype.startswith("cgroup")]
    assert shown
    assert {mounted.root for mounted in shown} == {"/"}
    assert {line.split(":")[2] for line in groups.split()} == {"/"}


# -- what is hidden ---------------------------------------------------------------------------


def test_masked_paths(sh: Shell, bundle: BundleFactory) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.maskedPaths = ["/secret", "/secrets", "/not/there", "/proc/version", "/secret/x"]

    made = bundle(change, own_rootfs=True)
    (made.rootfs / "secret").write_text("secret")
    (made.rootfs / "secrets" / "deep").mkdir(parents=True)
    script = """
        cat /secret /proc/version | wc -c; ls -A /secrets | wc -l
        stat -c '%F %t:%T' /secret /proc/version; touch /secrets/new 2>&1 || true
    """
    assert sh(script, bundle=made).splitlines() == [
        "0",
        "0",
        "character special file 1:3",
        "character special file 1:3",
        "touch: /secrets/new: Read-only file system",
    ]
    assert not (made.rootfs / "not").exists()


def test_read_only_paths(sh: Shell, bundle: BundleFactory, tree: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.readonlyPaths = ["/sealed", "/etc/passwd", "/not/there", "/tmp", "/proc/sys"]
        spec.mounts = [*spec.mounts, bind(tree, "rbind")]

    made = bundle(change, own_rootfs=True)
    (made.rootfs / "sealed").mkdir()
    script = """
        for file in /sealed/x /etc/passwd /tmp/x /proc/sys/kernel/hostname; do
            (echo x >$file) 2>/dev/null && echo "wrote $file"
        done
        echo free >/free && cat /free /tmp/below/file
    """
    assert sh(script, bundle=made).splitlines() == ["free", "below"]


def test_read_only_root(sh: Shell) -> None:
    script = "touch /new 2>&1 || true; cat /proc/self/mountinfo"
    first, *rest = sh(script).splitlines()
    assert first == "touch: /new: Read-only file system"
    assert "ro" in mountinfo("\n".join(rest))["/"].options


def test_writable_root(sh: Shell, bundle: BundleFactory) -> None:
    made = bundle(own_rootfs=True)
    sh("echo written >/new", bundle=made)
    assert (made.rootfs / "new").read_text() == "written\n"


def test_the_working_directory_is_made(sh: Shell, bundle: BundleFactory) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.cwd = "/made/for/it"

    made = bundle(change, own_rootfs=True)
    assert sh("pwd; stat -c '%a %u:%g' .", bundle=made).split() == ["/made/for/it", "755", "0:0"]
    # The container's root owns it, whoever works there.
    assert (made.rootfs / "made").stat().st_uid == 0
