"""Mounts: every option, every kind of target, what is hidden, what becomes of the root itself."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from conftest import ORDINARY, user_namespace

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, Shell


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
    if ORDINARY:
        pytest.skip("needs root: to mount on the host")
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
    # Each takes its own mode back, and no other.
    (["strictatime", "nostrictatime"], {"relatime"}, {"noatime"}),
    (["strictatime", "atime"], set(), {"relatime", "noatime"}),
    (["strictatime", "norelatime"], set(), {"relatime", "noatime"}),
    (["noatime", "norelatime"], {"noatime"}, {"relatime"}),
    (["noatime", "nostrictatime"], {"noatime"}, {"relatime"}),
    (["nodiratime"], {"nodiratime", "relatime"}, set()),
    (["nodiratime", "diratime"], {"relatime"}, {"nodiratime"}),
    (["defaults"], {"rw", "relatime"}, {"nosuid", "nodev", "noexec"}),
    (["nosuid", "nodev", "noexec", "ro"], {"nosuid", "nodev", "noexec", "ro"}, set()),
    # Of these nothing is to be seen.
    (["silent", "loud", "x-of-another-tool", "x-mount.mkdir=0700"], {"rw"}, set()),
    (["iversion", "noatime"], {"noatime"}, set()),
    (["noiversion"], {"rw"}, set()),
]

SUPERBLOCK = [
    # option, what mountinfo then shows of the file system, what it does not
    (["sync"], {"sync"}, {"dirsync"}),
    (["async"], set(), {"sync"}),
    (["sync", "async"], set(), {"sync"}),
    (["async", "sync"], {"sync"}, set()),
    (["dirsync"], {"dirsync"}, {"sync"}),
    (["lazytime"], {"lazytime"}, set()),
    (["lazytime", "nolazytime"], set(), {"lazytime"}),
    (["mand"], {"mand"}, set()),
    (["mand", "nomand"], set(), {"mand"}),
    (["ro"], {"ro"}, {"rw"}),
    (["iversion", "sync", "size=1m", "mode=700", "ro"], {"sync", "size=1024k", "mode=700"}, {"rw"}),
    (["iversion", "noiversion"], {"rw"}, set()),
]

SEALED = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"}


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_options(sh: Shell, kind: str) -> None:
    wanted = OPTIONS
    if ORDINARY and kind == "bind":
        # How the access time is kept is the host's to say.
        wanted = [case for case in OPTIONS if "atime" not in "".join(case[0])]
    places = [f"/tmp/{index}" for index in range(len(wanted))]
    # A bind mount begins with its source's options, and a host's /tmp may have some.
    mounts = [
        tmpfs(*options, destination=place)
        if kind == "tmpfs"
        else bind("/usr", *options, destination=place)
        for place, (options, _, _) in zip(places, wanted)
    ]
    shown = mountinfo(sh("cat /proc/self/mountinfo", adding(tmpfs(), *mounts)))
    for place, (options, present, absent) in zip(places, wanted):
        found = shown[place].options
        assert present <= found, options
        assert not absent & found, options


def test_options_of_the_file_system(sh: Shell) -> None:
    mounts = [
        tmpfs(*options, destination=f"/tmp/{index}")
        for index, (options, _, _) in enumerate(SUPERBLOCK)
    ]
    shown = mountinfo(sh("cat /proc/self/mountinfo", adding(tmpfs(), *mounts)))
    for index, (options, present, absent) in enumerate(SUPERBLOCK):
        found = shown[f"/tmp/{index}"].superblock
        assert present <= found, options
        assert not absent & found, options


SOURCE = {"ro", "nosuid", "nodev", "noexec", "noatime"}

BOUND = [
    # options, what the mount has then of SOURCE's
    ([], SOURCE),
    (["nosuid"], {"nosuid", "noatime"}),
    (["ro"], {"ro", "noatime"}),
    (["rw"], {"noatime"}),
    (["dev", "noexec"], {"noexec", "noatime"}),
    (["strictatime"], set()),
    (["rprivate"], SOURCE),
]


@pytest.mark.parametrize("below", [False, True], ids=["", "user namespace"])
def test_options_of_the_source_that_are_not_asked_for(sh: Shell, tree: Path, below: bool) -> None:
    """They go where anything is said of any, unless they are locked (mount_namespaces(7))."""
    source = tree / "below"
    subprocess.run(["mount", "-o", f"remount,bind,{','.join(SOURCE)}", source], check=True)
    wanted = BOUND
    if below:
        kept = {"rw", "dev", "strictatime"}
        wanted = [(options, SOURCE) for options, _ in BOUND if not kept & set(options)]
    mounts = [
        bind(source, *options, destination=f"/tmp/{index}")
        for index, (options, _) in enumerate(wanted)
    ]

    def change(spec: rsc.Spec) -> None:
        adding(tmpfs(), *mounts)(spec)
        if below:
            user_namespace(spec)

    shown = mountinfo(sh("cat /proc/self/mountinfo", change))
    for index, (options, expected) in enumerate(wanted):
        assert shown[f"/tmp/{index}"].options & SOURCE == expected, options


def test_a_read_only_dev_has_its_devices(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        (dev,) = [mount for mount in spec.mounts if mount.destination == "/dev"]
        dev.options = [*dev.options, "ro"]

    said = sh(
        "ls /dev/pts/ptmx; echo >/dev/null; touch /dev/x 2>&1; cat /proc/self/mountinfo", change
    )
    assert said.startswith("/dev/pts/ptmx\ntouch: /dev/x: Read-only file system\n")
    assert "ro" in mountinfo(said.split("\n", 2)[2])["/dev"].options


def test_a_read_only_tmpfs_has_what_the_config_puts_there(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        below = tmpfs(destination="/tmp/a/b"), bind("/usr", "ro", destination="/tmp/c")
        adding(tmpfs("ro"), *below, tmpfs("ro", destination="/tmp/e"))(spec)
        spec.process.cwd = "/tmp/d"

    said = sh("pwd; touch /tmp/a/b/x; ls /tmp; touch /tmp/x /tmp/e/x 2>&1", change, check=False)
    assert said == (
        "/tmp/d\na\nc\nd\ne\n"
        "touch: /tmp/x: Read-only file system\ntouch: /tmp/e/x: Read-only file system\n"
    )


RECURSIVE = [
    (["rro"], {"ro"}, {"rw"}),
    (["rnosuid"], {"nosuid"}, set()),
    (["rnodev"], {"nodev"}, set()),
    (["rnoexec"], {"noexec"}, set()),
    (["rnosymfollow"], {"nosymfollow"}, set()),
    (["rnoatime"], {"noatime"}, {"relatime"}),
    (["rnodiratime"], {"nodiratime"}, set()),
    (["rstrictatime"], set(), {"relatime", "noatime"}),
    (["rnoatime", "rnostrictatime"], {"noatime"}, {"relatime"}),
    (["rro", "rnosuid", "rnodev"], {"ro", "nosuid", "nodev"}, set()),
]

# Of mounts that have it all.
RECURSIVELY_CLEARED = [
    (["rrw"], SEALED - {"ro"}, {"ro"}),
    (["rsuid"], SEALED - {"nosuid"}, {"nosuid"}),
    (["rdev"], SEALED - {"nodev"}, {"nodev"}),
    (["rexec"], SEALED - {"noexec"}, {"noexec"}),
    (["rsymfollow"], SEALED - {"nosymfollow"}, {"nosymfollow"}),
    (["rdiratime"], SEALED - {"nodiratime"}, {"nodiratime"}),
    (["ratime"], {"ro", "relatime", "nodiratime"}, {"noatime"}),
    (["rrelatime"], {"ro", "relatime"}, {"noatime"}),
    (["rnorelatime"], {"ro", "relatime"}, {"noatime"}),
    (["rnostrictatime"], {"ro", "relatime"}, {"noatime"}),
]


@pytest.mark.parametrize(
    ("sealed", "cases"), [(False, RECURSIVE), (True, RECURSIVELY_CLEARED)], ids=["set", "clear"]
)
def test_recursive_options_reach_the_mounts_below(
    sh: Shell, tree: Path, sealed: bool, cases: list[tuple[list[str], set[str], set[str]]]
) -> None:
    if sealed:
        subprocess.run(["mount", "--bind", tree / "below", tree], check=True)
        subprocess.run(["mkdir", "-p", tree / "below"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tree / "below"], check=True)
        flags = "remount,bind," + ",".join(SEALED)
        for place in (tree / "below", tree):
            subprocess.run(["mount", "-o", flags, place], check=True)
    mounts = [
        bind(tree, "rbind", *options, destination=f"/tmp/{index}")
        for index, (options, _, _) in enumerate(cases)
    ]
    try:
        shown = mountinfo(sh("cat /proc/self/mountinfo", adding(tmpfs(), *mounts)))
    finally:
        if sealed:
            subprocess.run(["umount", tree / "below", tree], check=True)
    for index, (options, present, absent) in enumerate(cases):
        for place in (f"/tmp/{index}", f"/tmp/{index}/below"):
            assert present <= shown[place].options, f"{options} on {place}"
            assert not absent & shown[place].options, f"{options} on {place}"


def test_every_option_of_the_specification_is_tried() -> None:
    table = """
        async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime
        nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid
        nosymfollow private ratime rbind rdev rdiratime relatime remount rexec rnoatime
        rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime
        rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave
        strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap
    """
    cases = [*OPTIONS, *SUPERBLOCK, *RECURSIVE, *RECURSIVELY_CLEARED, *PROPAGATION]
    tried = {option for case in cases for option in case[0]}
    # Each has tests of its own.
    apart = {"bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"}
    assert set(table.split()) == (tried | apart) & set(table.split())


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
    (["slave"], set()),
    (["rslave"], set()),
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


@pytest.mark.requires_root("to mount on the host")
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


@pytest.mark.requires_root("to mount on the host")
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
    with pytest.raises(rsc.SystemCallError, match=r'"/not/there".*ENOENT') as caught:
        sh("true", adding(bind("/not/there")))
    assert r"$.mounts[7]" in str(caught.value)


def test_an_unknown_option_is_named(sh: Shell) -> None:
    with pytest.raises(rsc.SystemCallError, match="bogus") as caught:
        sh("true", adding(tmpfs("bogus")))
    assert r"$.mounts[7]" in str(caught.value)


# -- kinds of mounts --------------------------------------------------------------------------


@pytest.mark.requires_root("to make devices")
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


def test_remount_changes_the_file_system(sh: Shell) -> None:
    options = ["remount", "size=2m", "sync", "nolazytime", "nosuid", "ro"]
    remount = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": options}
    mount = tmpfs("size=1m", "mode=711", "lazytime", "nodev")
    shown = mountinfo(sh("cat /proc/self/mountinfo", adding(mount, remount)))["/tmp"]
    assert shown.options >= {"ro", "nosuid", "nodev"}
    assert shown.superblock >= {"size=2048k", "mode=711", "sync"}
    assert "lazytime" not in shown.superblock


def test_remount_leaves_a_superblock_that_the_host_has_too(sh: Shell, tree: Path) -> None:
    remount = {"destination": "/tmp", "options": ["remount", "ro"]}
    shown = mountinfo(sh("cat /proc/self/mountinfo", adding(bind(tree / "below"), remount)))
    assert "ro" in shown["/tmp"].options
    (tree / "below" / "new").touch()


def test_remount_with_what_the_file_system_does_not_know(sh: Shell) -> None:
    remount = {"destination": "/tmp", "options": ["remount", "bogus=1"]}
    with pytest.raises(rsc.SystemCallError, match=r'remount "/tmp".*bogus') as caught:
        sh("true", adding(tmpfs(), remount))
    assert "$.mounts[8]" in str(caught.value)


def test_options_that_mean_nothing_to_a_bind_mount_are_mentioned(tree: Path) -> None:
    spec = rsc.Spec.default()
    adding(bind(tree, "ro", "nosiud"))(spec)
    assert '"nosiud" means nothing to a bind mount' in spec.explain()


def test_a_tmpfs_has_the_mode_of_the_folder_that_it_covers(
    sh: Shell, bundle: BundleFactory
) -> None:
    made = bundle(
        adding(
            tmpfs(destination="/there"),
            tmpfs("mode=700", destination="/asked"),
            tmpfs(destination="/missing"),
            tmpfs("tmpcopyup", destination="/filled"),
            tmpfs("iversion", destination="/other/way"),
        ),
        own_rootfs=True,
    )
    for name in ("there", "asked", "filled", "other/way"):
        (made.rootfs / name).mkdir(parents=True)
        (made.rootfs / name).chmod(0o2751)
    script = "stat -c '%n %a' /there /asked /missing /filled /other/way"
    assert sh(script, bundle=made).splitlines() == [
        "/there 2751",
        "/asked 700",
        "/missing 1777",
        "/filled 2751",
        "/other/way 2751",
    ]


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (tmpfs(destination="/"), "the root itself"),
        (bind("/tmp", destination="/tmp/.."), "the root itself"),
        (tmpfs(destination="/proc"), "nothing but a procfs"),
        (tmpfs(destination="proc/./sys"), "in /proc"),
        (bind("/dev/null", destination="/proc/self/attr/exec"), "in /proc"),
    ],
)
def test_root_and_proc_cannot_be_mounted_over(sh: Shell, mount: dict[str, Any], words: str) -> None:
    with pytest.raises(rsc.SpecError, match=words) as caught:
        sh("true", adding(mount))
    assert r"$.mounts[7].destination" in str(caught.value)


def test_what_is_bound_on_proc_is_a_procfs(sh: Shell, tmp_path: Path) -> None:
    with pytest.raises(rsc.SystemCallError, match="nothing but a procfs"):
        sh("true", adding(bind(tmp_path, destination="/proc")))
    assert "proc" in sh("cat /proc/mounts", adding(bind("/proc", "rbind", destination="/proc")))
    mine = tmp_path / "uptime"
    mine.write_text("1.00 1.00\n")
    assert sh("cat /proc/uptime", adding(bind(mine, destination="/proc/uptime"))) == "1.00 1.00\n"


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
    assert shown["/dev/pts"].superblock >= {"mode=620", "ptmxmode=666"}
    assert ("gid=5" in shown["/dev/pts"].superblock) is not ORDINARY
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
    # In a cgroup namespace, the default where version 2 is alone, its own is the root that it sees.
    kinds = [namespace.type for namespace in rsc.Spec.default().linux.namespaces]
    assert all((mounted.root == "/") == ("cgroup" in kinds) for mounted in bound)


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


def without_namespace(*kinds: str) -> Change:
    def change(spec: rsc.Spec) -> None:
        spec.linux.namespaces = [n for n in spec.linux.namespaces if n.type not in kinds]

    return change


def test_cgroup_mounts_without_a_cgroup_namespace(sh: Shell) -> None:
    script = "cat /proc/self/mountinfo; ls /sys/fs/cgroup/*/cgroup.procs | wc -l"
    *mounts, count = sh(script, without_namespace("cgroup")).splitlines()
    shown = [m for m in mountinfo("\n".join(mounts)).values() if m.fstype.startswith("cgroup")]
    assert shown
    assert all(mounted.root != "/" for mounted in shown)
    assert int(count) + 1 >= len(shown)


@pytest.mark.parametrize("kind", ["none", "cgroup"])
def test_recursive_options_of_a_cgroup_mount(sh: Shell, kind: str) -> None:
    def change(spec: rsc.Spec) -> None:
        without_namespace(kind)(spec)
        for mount in spec.mounts:
            if mount.type == "cgroup":
                mount.options = ["rro", "rnosuid", "rnoexec"]

    shown = mountinfo(sh("cat /proc/self/mountinfo", change))
    inside = [m for place, m in shown.items() if place.startswith("/sys/fs/cgroup")]
    assert inside
    assert all(mounted.options >= {"ro", "nosuid", "noexec"} for mounted in inside)


@pytest.mark.requires_root("to do without a user namespace")
def test_sysfs_of_the_host(sh: Shell) -> None:
    shown = sh("ls /sys/class/net", without_namespace("network")).split()
    assert set(shown) == set(os.listdir("/sys/class/net"))


def test_sysfs_without_a_network_namespace(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        without_namespace("network", "user")(spec)
        user_namespace(spec)

    with pytest.raises(rsc.SystemCallError, match=r'mount "sysfs".*EPERM') as caught:
        sh("true", change)
    assert "bind the host's /sys" in str(caught.value)


def test_mounts_in_a_user_namespace(sh: Shell, tree: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.namespaces = [*spec.linux.namespaces, {"type": "user"}]
        ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        spec.linux.uidMappings = spec.linux.gidMappings = ids
        spec.mounts = [
            *spec.mounts,
            tmpfs("size=1m"),
            bind(tree, "rbind", "ro", destination="/tmp/x"),
        ]

    shown = mountinfo(sh("cat /proc/self/mountinfo", change))
    kinds = {place: mounted.fstype for place, mounted in shown.items()}
    expected = {"/proc": "proc", "/dev/mqueue": "mqueue", "/sys": "sysfs", "/tmp": "tmpfs"}
    assert expected.items() <= kinds.items()
    assert "ro" in shown["/tmp/x"].options

    def alone(spec: rsc.Spec) -> None:
        change(spec)
        spec.mounts[-1].options = ["bind"]

    # The kernel does not show what a mount of the host covers.
    with pytest.raises(rsc.SystemCallError, match="EINVAL") as caught:
        sh("true", alone)
    assert "use rbind" in str(caught.value)


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


def test_relative_paths_are_hidden_as_if_from_the_root(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.maskedPaths = ["proc/version", "not/there"]
        spec.linux.readonlyPaths = ["proc/sys"]

    script = "cd /etc; cat /proc/version; echo x >/proc/sys/kernel/hostname"
    assert "Read-only file system" in sh(f"{{ {script}; }} 2>&1 || true", change)
    assert "Linux" not in sh(script + " || true", change)


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
    assert (made.rootfs / "made").stat().st_uid == os.geteuid()
