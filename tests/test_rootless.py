"""Containers of an ordinary user: which ids, which cgroups, where what is refused says why.

Run by root, each test becomes an ordinary user who is made up for it (``tests/as-user``); run by an
ordinary user, the tests are that user.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Callable

import pytest
from conftest import AS_USER, ORDINARY, need_user_namespaces

# What every script below begins with: a bundle of the user's own, and a way to run it.
PRELUDE = """
import getpass, os, sys
from pathlib import Path
import rscontainer as rsc
place = Path(os.environ["TMPDIR"])
made = rsc.Bundle.create(place / "bundle", rootfs="busybox")

def config(*args):
    spec = rsc.Spec.load(made.config)
    spec.process.terminal = False
    spec.process.args = list(args or ["true"])
    return spec

def sh(script, spec=None):
    argv = ["sh", "-c", script]
    done = rsc.run(made, argv, spec=spec or config(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout

def refusal(spec):
    try:
        rsc.run(made, ["true"], spec=spec)
    except rsc.ContainerError as error:
        return str(error)
    raise AssertionError("not refused")

def several(spec, start=None):
    def ranges(file, own):
        for line in Path(file).read_text().splitlines():
            user, first, count = line.split(":")
            if user == getpass.getuser():
                break
        first = first if start is None else start
        return [
            {"containerID": 0, "hostID": own, "size": 1},
            {"containerID": 1, "hostID": int(first), "size": 65536},
        ]
    spec.linux.uidMappings = ranges("/etc/subuid", os.getuid())
    spec.linux.gidMappings = ranges("/etc/subgid", os.getgid())
    return spec
"""

Script = Callable[..., str]


@pytest.fixture
def as_user(tmp_path: Path) -> Script:
    """Runs a Python script as an ordinary user; gives what it prints."""
    need_user_namespaces()

    def run(script: str, *wrapper: str, delegate: bool = False) -> str:
        argv = [*wrapper, sys.executable, "-B", "-c", PRELUDE + textwrap.dedent(script)]
        env = dict(os.environ)
        if ORDINARY:
            if delegate:
                pytest.skip("needs root: to hand a cgroup to the user")
            (tmp_path / "run").mkdir(mode=0o700, exist_ok=True)
            env.update(TMPDIR=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path / "run"))
        else:
            argv = [str(AS_USER), *(["--delegate"] if delegate else []), *argv]
        done = subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            env=env,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def delegated() -> bool:
    """Whether a cgroup that this process is in is its user's."""
    places = {line.rpartition(":")[2] for line in Path("/proc/self/cgroup").read_text().split()}
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    groups = [Path(f"{point}{place}") for point in points for place in places if place != "/"]
    return any(os.access(group, os.W_OK) for group in groups if "cgroup" in str(group))


without_cgroups = pytest.mark.skipif(
    ORDINARY and delegated(), reason="this user has cgroups: root tests it with another"
)
needs_ranges = pytest.mark.skipif(
    not (shutil.which("newuidmap") and Path("/etc/subuid").exists()),
    reason="needs several ids: newuidmap, and a range for this user in /etc/subuid",
)


def test_the_default_config(as_user: Script) -> None:
    script = """
        assert made.spec == rsc.Spec.default(rootless=True)
        print(os.getuid())
        print(sh("id -u; cat /proc/self/uid_map /proc/self/setgroups; ls /sys/class/net"))
    """
    own, *shown = as_user(script).split()
    assert shown[:5] == ["0", "0", own, "1", "deny"]
    # The host's network, and its /sys with it.
    assert set(shown[5:]) == set(os.listdir("/sys/class/net"))


def test_the_whole_life(as_user: Script) -> None:
    script = """
        spec = config("sleep", "100")
        with rsc.Container.create("box", made, spec=spec, stdin=rsc.DEVNULL) as box:
            print(box.status)
            box.start()
            print([(box.id, box.status) for box in rsc.Container.list()])
            entered = box.exec(["sh", "-c", "id -u; echo $$; readlink /proc/self/ns/user"],
                stdout=rsc.PIPE, text=True)
            uid, pid, namespace = entered.communicate()[0].split()
            print(uid, int(pid) > 1, namespace == os.readlink(f"/proc/{box.pid}/ns/user"))
            others = [box.exec(["sleep", "100"]) for _ in range(2)]
            box.kill("KILL", all=True)
            print(box.wait(30), [other.wait(30) for other in others])
        states = Path(os.environ["XDG_RUNTIME_DIR"]) / "rscontainer"
        print(rsc.Container.list(), list(states.iterdir()))
    """
    assert as_user(script).splitlines() == [
        "created",
        "[('box', 'running')]",
        "0 True True",
        "-9 [-9, -9]",
        "[] []",
    ]


def test_a_score_for_the_oom_killer_with_exec(as_user: Script) -> None:
    script = """
        spec = config("sleep", "100")
        spec.process.oomScoreAdj = 300
        with rsc.Container.run("box", made, spec=spec, stdin=rsc.DEVNULL) as box:
            files = ["/proc/1/oom_score_adj", "/proc/self/oom_score_adj"]
            seen = box.exec(["cat", *files], stdout=rsc.PIPE)
            print(seen.communicate()[0].decode())
    """
    assert as_user(script).split() == ["300", "300"]


@without_cgroups
def test_pausing_without_a_cgroup_says_what_is_missing(as_user: Script) -> None:
    script = """
        with rsc.Container.run("box", made, spec=config("sleep", "100"), stdin=rsc.DEVNULL) as box:
            try:
                box.pause()
            except rsc.ContainerError as error:
                print(error)
    """
    assert "no cgroup of its own" in as_user(script)


# -- ids --------------------------------------------------------------------------------------


@needs_ranges
def test_ranges_of_ids(as_user: Script) -> None:
    script = """
        spec = several(config())
        spec.process.user = {"uid": 1000, "gid": 1001, "additionalGids": [5, 10]}
        print(sh("id -u; id -G; cat /proc/self/setgroups; stat -c %u:%g /bin", spec))
    """
    assert as_user(script).split() == ["1000", "1001", "5", "10", "allow", "0:0"]


@needs_ranges
def test_exec_with_another_id(as_user: Script) -> None:
    script = """
        spec = several(config("sleep", "9"))
        with rsc.Container.run("box", made, spec=spec, stdin=rsc.DEVNULL) as box:
            print(box.exec(["id"], user="33:44", stdout=rsc.PIPE, text=True).communicate()[0])
    """
    assert as_user(script).startswith("uid=33 gid=44")


@needs_ranges
def test_a_range_that_is_not_the_users(as_user: Script) -> None:
    words = as_user("print(getpass.getuser()); print(refusal(several(config(), start=40000)))")
    user, error = words.split("\n", 1)
    assert "newuidmap" in error
    assert "not allowed" in error
    assert f'add the line "{user}:40000:65536" to /etc/subuid' in error
    assert "$.linux.uidMappings" in error


# In a mount namespace: newuidmap without its power, and gone.
POWERLESS = 'mount --bind /dev/null /usr/bin/newuidmap && exec "$@"'
MISSING = """
    mkdir "$0/all" "$0/rest" && mount --bind /usr/bin "$0/all" &&
    cp -as "$0/all/." "$0/rest" && rm "$0"/rest/new?idmap &&
    mount --bind "$0/rest" /usr/bin && exec "$@"
"""


@pytest.mark.requires_root("to take newuidmap away")
@needs_ranges
@pytest.mark.parametrize(
    ("how", "words"), [(POWERLESS, "not setuid"), (MISSING, "install the package uidmap")]
)
def test_without_the_helper(how: str, words: str) -> None:
    need_user_namespaces()
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        script = PRELUDE + "print(refusal(several(config())))"
        argv = ["unshare", "--mount", "sh", "-c", how, place, str(AS_USER)]
        argv += [sys.executable, "-B", "-c", script]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    assert words in done.stdout, done.stderr


def test_groups_take_ranges(as_user: Script) -> None:
    script = """
        spec = config()
        spec.process.user.additionalGids = [0]
        print(refusal(spec))
    """
    words = as_user(script)
    assert "$.process.user.additionalGids" in words
    assert "/etc/subgid" in words


def test_a_group_of_terminals_that_is_not_mapped(as_user: Script) -> None:
    script = """
        spec = config()
        (pts,) = (mount for mount in spec.mounts if mount.type == "devpts")
        pts.options = [*pts.options, "gid=5"]
        print(refusal(spec))
    """
    words = as_user(script)
    assert "$.mounts[2].options[5]" in words
    assert "$.linux.gidMappings" in words


def test_user_namespaces_that_are_forbidden(as_user: Script) -> None:
    # The limit is a user namespace's own: nobody outside of this one notices.
    limit = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    words = as_user("print(refusal(config()))", "unshare", "-Ur", "sh", "-c", limit, "sh")
    assert "user.max_user_namespaces = 0" in words


def test_root_of_a_user_namespace(as_user: Script) -> None:
    script = """
        assert os.getuid() == 0
        print(sh("id -u; cat /proc/self/uid_map; [ -c /dev/null ]"))
        # Without a user namespace of the container's own there is that of its maker.
        spec = config()
        spec.linux.namespaces = [n for n in spec.linux.namespaces if n.type != "user"]
        del spec.linux.uidMappings, spec.linux.gidMappings
        print(sh("echo here; readlink /proc/self/ns/user", spec), os.readlink("/proc/self/ns/user"))
    """
    lines = as_user(script, "unshare", "-Ur").split()
    assert lines[:4] == ["0", "0", "0", "1"]
    assert lines[-3] == "here"
    assert lines[-2] == lines[-1]


def test_network_of_a_user_namespace_s_root(as_user: Script) -> None:
    # Whoever left the host's network for a new one could not come back.
    script = """
        import subprocess
        from rscontainer import _binary
        spec = config("sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1")
        kinds = "pid", "mount", "ipc", "uts", "network"
        spec.linux.namespaces = [{"type": kind} for kind in kinds]
        del spec.linux.uidMappings, spec.linux.gidMappings
        spec.save(made.config)
        argv = [_binary.binary(), "--root", place / "states", "run", "-b", made.path, "box"]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        print(done.stdout)
    """
    assert as_user(script, "unshare", "-Ur").split() == ["lo"]


# -- mounts -----------------------------------------------------------------------------------


def test_locked_options_stay(as_user: Script) -> None:
    # What is mounted outside of a user namespace keeps its options in there.
    script = """
        options = next(
            set(line.split()[3].split(","))
            for line in Path("/proc/self/mounts").read_text().splitlines()
            if line.split()[1] == "/proc"
        )
        spec = config()
        spec.mounts = [*spec.mounts,
            {"destination": "/mnt", "source": "/proc", "options": ["rbind", "nosuid", "noexec"]}]
        shown = next(
            set(line.split()[3].split(","))
            for line in sh("cat /proc/self/mounts", spec).splitlines()
            if line.split()[1] == "/mnt"
        )
        assert options | {"nosuid", "noexec"} <= shown, (options, shown)
        spec.mounts[-1].options = ["rbind", "noatime"]
        print(refusal(spec))
        spec.mounts[-1].options = ["bind"]
        spec.mounts[-1].source = "/sys"
        print(refusal(spec))
    """
    atime, alone = as_user(script).splitlines()
    assert "$.mounts[7]" in atime
    assert "drop the option" in atime
    assert "use rbind" in alone


def test_sysfs_needs_a_network(as_user: Script) -> None:
    script = """
        spec = config()
        (sys,) = (mount for mount in spec.mounts if mount.destination == "/sys")
        sys.type = sys.source = "sysfs"
        sys.options = ["ro"]
        print(refusal(spec))
        spec.linux.namespaces = [*spec.linux.namespaces, {"type": "network"}]
        print(sh("ls /sys/class/net", spec))
    """
    refused, shown = as_user(script).strip().split("\n", 1)
    assert "bind the host's /sys" in refused
    assert shown.split() == ["lo"]


# -- cgroups ----------------------------------------------------------------------------------


@without_cgroups
def test_limits_take_a_cgroup(as_user: Script) -> None:
    script = """
        spec = config()
        spec.linux.resources = {"pids": {"limit": 10}}
        print(refusal(spec))
        spec = config()
        spec.linux.cgroupsPath = "/box"
        print(refusal(spec))
    """
    limit, path = as_user(script).splitlines()
    assert re.search(r"mkdir \"/sys/fs/cgroup/.*EACCES", limit)
    assert "$.linux.resources.pids.limit" in limit
    assert "EACCES" in path
    assert "$.linux.cgroupsPath" in path


def test_own_cgroups_are_shown(as_user: Script) -> None:
    shown = set(as_user('print(sh("ls /sys/fs/cgroup"))').split())
    assert shown == set(os.listdir("/sys/fs/cgroup")) or "cgroup.procs" in shown


@pytest.mark.requires_root("to hand a cgroup to the user")
def test_delegated_cgroups_are_used(as_user: Script) -> None:
    script = """
        spec = config("sleep", "100")
        spec.linux.resources = {"pids": {"limit": 7}}
        with rsc.Container.run("box", made, spec=spec, stdin=rsc.DEVNULL) as box:
            own = Path(f"/proc/{box.pid}/cgroup").read_text().splitlines()
            print(sum(line.endswith("/box") for line in own))
            box.pause()
            print(box.status)
            box.resume()
            print(box.exec(["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 9 & done"],
                stderr=rsc.DEVNULL).wait(30) != 0)
            box.kill("KILL", all=True)
            print(box.wait(30))
    """
    count, *rest = as_user(script, delegate=True).split()
    assert int(count) > 0
    assert rest == ["paused", "True", "-9"]


def test_cgroup_of_another_root(as_user: Script) -> None:
    # Hierarchies of version 1 take in only who is still the user that opened their files.
    script = """
        def others(file, property):
            own = next(
                line.split(":")
                for line in Path(file).read_text().splitlines()
                if line.split(":")[0] == getpass.getuser()
            )
            spec.linux[property] = [{"containerID": 0, "hostID": int(own[1]), "size": int(own[2])}]
        spec = config()
        others("/etc/subuid", "uidMappings")
        others("/etc/subgid", "gidMappings")
        # The rootfs is reached by a path that is closed to others.
        for folder in made.path, *made.path.parents:
            if folder.owner() == getpass.getuser():
                folder.chmod(0o755)
        lines = sh("id -u; cat /proc/self/cgroup", spec).splitlines()
        own = Path("/proc/self/cgroup").read_text().splitlines()
        print(lines[0], len(lines) > 1 and not set(lines[1:]) & set(own))
    """
    assert as_user(script, delegate=True).split() == ["0", "True"]


# -- where states are -------------------------------------------------------------------------


def test_no_folder_for_states(as_user: Script) -> None:
    script = """
        del os.environ["XDG_RUNTIME_DIR"]
        session = Path(f"/run/user/{os.getuid()}")
        if session.exists():
            print(sh("echo runs"), (session / "rscontainer").exists())
        else:
            print(refusal(config()))
    """
    said = as_user(script)
    # Where the user has a session there is a folder, whatever the variable says.
    assert "set XDG_RUNTIME_DIR" in said or said.split() == ["runs", "True"]


def test_another_users_states(as_user: Script) -> None:
    script = """
        for verb in (
            lambda: rsc.Container.list(root="/proc/1/root/rscontainer"),
            lambda: rsc.Container.load("box", root="/proc/1/root/rscontainer"),
            lambda: rsc.run(made, ["true"], root="/proc/1/root/rscontainer"),
        ):
            try:
                verb()
            except rsc.ContainerError as error:
                print(error)
    """
    lines = as_user(script).splitlines()
    assert len(lines) == 3
    assert all("another user's" in line for line in lines)


def test_files_of_others_become_the_users(as_user: Script) -> None:
    script = """
        import io, tarfile
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            info = tarfile.TarInfo("file")
            info.uid, info.gid = 33, 44
            tar.addfile(info)
        archive.seek(0)
        other = rsc.Bundle.create(place / "other", rootfs=archive)
        file = (other.rootfs / "file").stat()
        print(file.st_uid == os.getuid(), file.st_gid == os.getgid())
    """
    assert as_user(script).split() == ["True", "True"]
