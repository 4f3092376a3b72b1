"""What a hostile rootfs or a hostile program inside might try against the host."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import ORDINARY

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, CommandLine, Shell


def adding(*mounts: dict[str, Any], without: str = "@") -> Change:
    def change(spec: rsc.Spec) -> None:
        kept = [m for m in spec.mounts if not m.destination.startswith(without)]
        spec.mounts = [*kept, *mounts]

    return change


def tmpfs(destination: str) -> dict[str, Any]:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs"}


def fingerprint(path: Path) -> dict[str, object]:
    """All below a folder: names, kinds, modes, contents."""
    found: dict[str, object] = {}
    for place, folders, files in os.walk(path):
        for name in [*folders, *files]:
            entry = Path(place, name)
            mode = entry.lstat().st_mode
            content = entry.read_bytes() if stat.S_ISREG(mode) else b""
            found[str(entry.relative_to(path))] = (mode, content)
    return found


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host that must stay as it is, and so must the host's mounts."""
    place = tmp_path / "victim"
    (place / "deep").mkdir(parents=True)
    (place / "file").write_text("of the host\n")
    before, mounts = fingerprint(place), Path("/proc/self/mounts").read_text()
    yield place
    assert fingerprint(place) == before
    assert str(tmp_path) not in "".join(
        set(Path("/proc/self/mounts").read_text().splitlines()) - set(mounts.splitlines())
    )


def replace(path: Path, target: object) -> None:
    """Put a link in the place of whatever is there."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(str(target))


# -- mount targets that are not what they seem ------------------------------------------------

LINKS = {
    "absolute": lambda victim: victim,
    "dots": lambda victim: "../" * 40 + str(victim)[1:],
    "dots inside": lambda victim: f"/etc/../../../../../..{victim}",
    "dangling": lambda victim: victim / "new",
}


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("how", ["tmpfs", "bind", "file"])
def test_links_lead_nowhere_but_into_the_rootfs(
    sh: Shell, bundle: BundleFactory, victim: Path, kind: str, how: str
) -> None:
    file = victim.parent / "source"
    file.write_text("of the container\n")
    mount = {
        "tmpfs": tmpfs("/target"),
        "bind": {"destination": "/target", "source": "/etc", "options": ["rbind"]},
        "file": {"destination": "/target", "source": str(file), "options": ["bind"]},
    }[how]
    made = bundle(adding(mount), own_rootfs=True)
    replace(made.rootfs / "target", LINKS[kind](victim))
    inside = victim / "new" if kind == "dangling" else victim
    assert f" {inside} " in sh("cat /proc/self/mountinfo", bundle=made)


@pytest.mark.parametrize("target", ["/proc/self/root/etc", "/proc/1/cwd", "/proc/self/fd/3"])
def test_magic_links_are_refused(sh: Shell, bundle: BundleFactory, target: str) -> None:
    made = bundle(adding(tmpfs("/target/below")), own_rootfs=True)
    replace(made.rootfs / "target", target)
    with pytest.raises(rsc.SystemCallError) as caught:
        sh("true", bundle=made)
    assert caught.value.errno in {errno.ELOOP, errno.ENOENT}
    assert "/target/below" in str(caught.value)


@pytest.mark.parametrize("kind", [*LINKS, "loop", "inside"])
@pytest.mark.parametrize("place", ["proc", "sys"])
def test_proc_and_sysfs_go_on_folders_only(
    sh: Shell, bundle: BundleFactory, victim: Path, kind: str, place: str
) -> None:
    made = bundle(own_rootfs=True)
    target = {"loop": f"/{place}", "inside": "/tmp"}.get(kind) or LINKS[kind](victim)
    replace(made.rootfs / place, target)
    with pytest.raises(rsc.SystemCallError, match=f'on "/{place}".*ELOOP'):
        sh("true", bundle=made)


@pytest.mark.parametrize("kind", LINKS)
def test_dev_may_be_a_link_inside_the_rootfs(
    sh: Shell, bundle: BundleFactory, victim: Path, kind: str
) -> None:
    made = bundle(own_rootfs=True)
    replace(made.rootfs / "dev", LINKS[kind](victim))
    assert sh("stat -c %t:%T /dev/null; ls /dev/pts", bundle=made).split() == ["1:3", "ptmx"]


def test_a_target_that_is_a_file(sh: Shell, bundle: BundleFactory) -> None:
    made = bundle(adding(tmpfs("/file")), own_rootfs=True)
    (made.rootfs / "file").write_text("a file")
    with pytest.raises(rsc.SystemCallError, match="ENOTDIR"):
        sh("true", bundle=made)


@pytest.mark.requires_root("to make devices")
@pytest.mark.parametrize("name", ["null", "tty"])
def test_odd_devices_in_the_rootfs_are_refused(
    sh: Shell, bundle: BundleFactory, victim: Path, name: str
) -> None:
    made = bundle(adding(without="/dev"), own_rootfs=True)
    replace(made.rootfs / "dev" / name, victim / "file")
    with pytest.raises(rsc.SystemCallError, match=rf'"/dev/{name}".*EEXIST'):
        sh("true", bundle=made)


@pytest.mark.parametrize("name", ["console", "ptmx", "pts"])
def test_odd_terminals_in_the_rootfs(
    bundle: BundleFactory, root: Path, box: str, victim: Path, name: str
) -> None:
    def change(spec: rsc.Spec) -> None:
        pts = {"destination": "/dev/pts", "type": "devpts", "source": "devpts"}
        adding(pts, without="/dev")(spec)

    made = bundle(change, args=["sleep", "60"], own_rootfs=True)
    replace(made.rootfs / "dev" / name, victim / "deep")
    if name == "pts":
        # The terminal's own folder is looked for without links.
        with pytest.raises(rsc.SystemCallError, match=r"open a terminal.*ELOOP"):
            rsc.Container.run(box, made, root=root, terminal=True)
        return
    if name == "console":
        (made.rootfs / str(victim)[1:]).mkdir(parents=True)
    with rsc.Container.run(box, made, root=root, terminal=True) as container:
        assert os.readlink(f"/proc/{container.pid}/fd/0").startswith("/dev/pts/")
        container.init.terminal.close()


def test_masks_are_the_hosts_null_device(sh: Shell, bundle: BundleFactory, victim: Path) -> None:
    dev = victim.parent / "dev"
    dev.mkdir()
    (dev / "null").symlink_to("/proc/sys/kernel/core_pattern")

    def change(spec: rsc.Spec) -> None:
        bind = {"destination": "/dev", "source": str(dev), "options": ["bind"]}
        adding(bind, without="/dev")(spec)
        spec.linux.maskedPaths = ["/proc/version", "/link/file"]

    made = bundle(change, own_rootfs=True)
    (made.rootfs / "link").symlink_to(victim)
    (made.rootfs / str(victim)[1:]).mkdir(parents=True)
    (made.rootfs / str(victim)[1:] / "file").write_text("in the rootfs\n")
    script = "stat -c %t:%T /proc/version /link/file; cat /link/file"
    assert sh(script, bundle=made).split() == ["1:3", "1:3"]


def test_kernel_parameters_are_written_to_the_real_proc(
    sh: Shell, bundle: BundleFactory, victim: Path
) -> None:
    def change(spec: rsc.Spec) -> None:
        adding(without="/proc")(spec)
        spec.linux.sysctl = {"net.ipv4.ip_forward": "1"}
        spec.linux.maskedPaths = spec.linux.readonlyPaths = []

    made = bundle(change, own_rootfs=True)
    (made.rootfs / "proc").chmod(0o755)
    (made.rootfs / "proc" / "sys" / "net" / "ipv4").mkdir(parents=True)
    (made.rootfs / "proc" / "sys" / "net" / "ipv4" / "ip_forward").symlink_to(victim / "file")
    sh("true", bundle=made)


# -- the working directory --------------------------------------------------------------------


@pytest.mark.parametrize("number", range(3, 13))
def test_no_working_directory_by_descriptor(
    sh: Shell, bundle: BundleFactory, cli: CommandLine, box: str, number: int
) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.cwd = f"/proc/self/fd/{number}"

    made = bundle(change, args=["pwd"])
    with pytest.raises(rsc.SystemCallError):
        sh("true", bundle=made)
    done = cli("run", "-b", os.fspath(made), box, check=False)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("cwd", ["/proc/self/fd/7", "/proc/1/cwd", "/link", "/proc/self/root/.."])
def test_no_working_directory_by_magic_link(
    bundle: BundleFactory, root: Path, unique_id: Callable[[], str], cwd: str
) -> None:
    made = bundle(args=["sleep", "60"], own_rootfs=True)
    (made.rootfs / "link").symlink_to("/proc/self/fd/8")
    with rsc.Container.run(unique_id(), made, root=root, stdin=rsc.DEVNULL) as container:
        with pytest.raises(rsc.SystemCallError, match="change to") as caught:
            container.exec(["pwd"], cwd=cwd, stdout=rsc.PIPE)
        assert caught.value.errno in {errno.ELOOP, errno.ENOENT}


# -- descriptors ------------------------------------------------------------------------------


@pytest.fixture
def inheritable(tmp_path: Path) -> Iterator[None]:
    """A folder and files of the host, open and not closed on exec."""
    opened = [os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY) for _ in range(3)]
    opened.append(os.open("/etc/passwd", os.O_RDONLY))
    for number in opened:
        os.set_inheritable(number, True)
    yield
    for number in opened:
        os.close(number)


@pytest.mark.usefixtures("inheritable")
@pytest.mark.parametrize("started", ["run", "created"])
def test_no_descriptor_from_python(
    bundle: BundleFactory, root: Path, box: str, started: str
) -> None:
    made = bundle(args=["sleep", "60"])
    verb = rsc.Container.run if started == "run" else rsc.Container.create
    with verb(box, made, root=root, stdin=rsc.DEVNULL) as container:
        if started == "created":
            container.start()
        assert sorted(os.listdir(f"/proc/{container.pid}/fd")) == ["0", "1", "2"]
        entered = container.exec(["sleep", "60"], stdin=rsc.DEVNULL)
        assert sorted(os.listdir(f"/proc/{entered.pid}/fd")) == ["0", "1", "2"]
        entered.kill()
        entered.wait()


@pytest.mark.usefixtures("inheritable")
@pytest.mark.parametrize("started", ["run", "created"])
def test_no_descriptor_from_the_command_line(
    bundle: BundleFactory, cli: CommandLine, box: str, started: str
) -> None:
    made = bundle(args=["sleep", "60"])
    quiet: dict[str, Any] = {
        "close_fds": False,
        "capture_output": False,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    file = Path(os.fspath(made)) / "pid"
    if started == "run":
        cli("run", "-d", "--pid-file", file, "-b", os.fspath(made), box, **quiet)
    else:
        cli("create", "--pid-file", file, "-b", os.fspath(made), box, **quiet)
        cli("start", box)
    try:
        pid = int(file.read_text())
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
        file.unlink()
        cli("exec", "-d", "--pid-file", file, box, "sleep", "60", **quiet)
        pid = int(file.read_text())
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    finally:
        cli("delete", "--force", box)


def test_preserved_descriptors_alone(
    bundle: BundleFactory, cli: CommandLine, box: str, tmp_path: Path
) -> None:
    made = bundle(args=["sh", "-c", "cat <&3; ls /proc/1/fd; true"])
    file = tmp_path / "kept"
    file.write_text("kept\n")
    script = 'exec 3<"$1" 4</etc 5</etc; shift; exec "$@"'
    argv = cli.argv("run", "--preserve-fds", "1", "-b", os.fspath(made), box)
    shell = ["bash", "-c", script, "sh", str(file), *argv]
    shown = subprocess.run(
        shell, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    assert shown.stdout.split() == ["kept", "0", "1", "2", "3"]


@pytest.mark.requires_root("to look into a process that hides")
@pytest.mark.usefixtures("inheritable")
def test_a_created_container_holds_nothing_of_its_maker(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    made = bundle(args=["sleep", "60"])
    with rsc.Container.create(box, made, root=root, stdin=rsc.DEVNULL) as container:
        place = f"/proc/{container.pid}/fd"
        found = {int(n): os.readlink(f"{place}/{n}") for n in os.listdir(place)}
        others = [target for number, target in found.items() if number > 2]
        # To its parent, and the socket on which it waits for its start.
        assert [target.partition(":")[0] for target in others] == ["socket", "socket"], found


def test_a_created_container_outlives_its_launcher(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    made = bundle(args=["true"])
    script = """
import contextlib, os, signal, sys
from pathlib import Path
import rscontainer as rsc
box, bundle, root = sys.argv[1:]
quiet = dict.fromkeys(("stdin", "stdout", "stderr"), rsc.DEVNULL)
container = rsc.Container.create(box, bundle, root=root, detach=True, **quiet)
status = Path(f"/proc/{container.pid}/status").read_text()
launcher = int(status.split("PPid:")[1].split()[0])
children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
for pid in [launcher, *(int(child) for child in children if int(child) != container.pid)]:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
try:
    done = rsc.run(bundle, id=box + "-again", root=root)
except rsc.ContainerError as error:
    # The call may come before the killed are gone; the next one may not.
    assert "the launcher died" in str(error)
    done = rsc.run(bundle, id=box + "-again", root=root)
print(done.returncode)
"""
    argv = [sys.executable, "-c", script, box, os.fspath(made), str(root)]
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    finally:
        rsc.Container.load(box, root=root).delete(force=True)


# -- the runtime's own program ----------------------------------------------------------------


@pytest.mark.requires_root("to look into a process that hides")
@pytest.mark.parametrize("maker", ["python", "command line"])
def test_nobody_can_write_to_what_waits_in_a_container(
    bundle: BundleFactory, root: Path, cli: CommandLine, box: str, maker: str
) -> None:
    made = bundle(args=["true"])
    if maker == "python":
        rsc.Container.create(box, made, root=root, stdin=rsc.DEVNULL, detach=True)
    else:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        cli("create", "-b", os.fspath(made), box, capture_output=False, **quiet)
    container = rsc.Container.load(box, root=root)
    try:
        program = f"/proc/{container.pid}/exe"
        if maker == "python":
            assert os.readlink(program) == "/memfd:rscontainer (deleted)"
            with open(program, "rb") as file:
                seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
            kept = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
            wanted = kept | fcntl.F_SEAL_SEAL
            assert seals & wanted == wanted
            why = r"Operation not permitted|Text file busy"
        else:
            assert os.readlink(program) == "/rscontainer"
            why = "Read-only file system"
        with pytest.raises(OSError, match=why):
            os.close(os.open(program, os.O_WRONLY))
        # Nobody inside may look at it either: it is not dumpable, so its files are the host's.
        script = """
            for file in exe cwd root ns/mnt fd/0; do
                readlink /proc/1/$file >/dev/null 2>&1 && echo "read $file"
            done
            for file in environ maps mem; do
                head -c 1 /proc/1/$file >/dev/null 2>&1 && echo "read $file"
            done
            (echo x >/proc/1/exe) 2>/dev/null && echo "wrote exe"
            echo done
        """
        looked = container.exec(["sh", "-c", script], stdout=rsc.PIPE, text=True)
        assert looked.communicate()[0] == "done\n"
    finally:
        container.delete(force=True)


@pytest.mark.parametrize("maker", ["python", "command line"])
def test_a_program_that_hunts_for_the_runtime(
    bundle: BundleFactory, root: Path, cli: CommandLine, box: str, maker: str
) -> None:
    def change(spec: rsc.Spec) -> None:
        adding(tmpfs("/tmp"))(spec)
        # The worst that a config may allow: it may look into and stop every process.
        sets = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL"]
        spec.process.capabilities = dict.fromkeys(("bounding", "permitted", "effective"), sets)
        spec.process.noNewPrivileges = False

    hunter = """
        echo hunting
        while :; do
            for exe in /proc/[0-9]*/exe; do
                case $(readlink $exe) in
                *memfd* | /rscontainer)
                    (echo x >>$exe) 2>/dev/null && echo "wrote $exe" >>/tmp/hits ;;
                esac
            done
        done
    """
    made = bundle(change, args=["sh", "-c", hunter])
    binary = Path(rsc._binary.binary())
    before = hashlib.sha256(binary.read_bytes()).digest()
    with rsc.Container.run(box, made, root=root, stdout=rsc.PIPE) as container:
        assert container.init.stdout.readline() == b"hunting\n"
        for _ in range(20):
            if maker == "command line":
                # An ordinary user's is the small program, which does nothing for a stranger.
                entered = cli("exec", box, "/proc/self/exe", "--version", check=not ORDINARY)
                assert entered.stdout[:11] == ("" if ORDINARY else "rscontainer")
                cli("exec", box, "true")
                continue
            # A debug build is not static, and its loader not in the rootfs.
            with contextlib.suppress(FileNotFoundError, rsc.SystemCallError):
                entered = container.exec(["/proc/self/exe", "--version"], stdout=rsc.PIPE)
                assert entered.communicate()[0].startswith(b"rscontainer")
            assert container.exec(["true"]).wait() == 0
        hits = container.exec(["cat", "/tmp/hits"], stdout=rsc.PIPE, stderr=rsc.DEVNULL)
        assert hits.communicate()[0] == b""
    assert hashlib.sha256(binary.read_bytes()).digest() == before


def test_the_hosts_root_is_out_of_reach(sh: Shell, victim: Path) -> None:
    script = f"""
        cd / && cd ../../../../../../.. && ls -d {victim} 2>/dev/null
        cat /proc/self/root{victim}/file /proc/1/root{victim}/file 2>/dev/null
        ls / | wc -l; ls /proc/self/root/../../ | wc -l
    """
    inside, above = sh(script).split()
    assert inside == above


def test_a_long_state_reaches_the_hooks_and_the_start(
    bundle: BundleFactory, root: Path, box: str, tmp_path: Path
) -> None:
    place = tmp_path / "state"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\nwc -c >{place}\n")
    hook.chmod(0o755)

    def change(spec: rsc.Spec) -> None:
        spec.annotations = {"long": "x" * 300_000}
        spec.hooks = {
            "createContainer": [{"path": str(hook), "env": ["PATH=/usr/bin:/bin"]}],
            "startContainer": [{"path": "/bin/true"}],
        }

    made = bundle(change, args=["sleep", "60"])
    with rsc.Container.create(box, made, root=root, stdin=rsc.DEVNULL) as container:
        assert int(place.read_text()) > 300_000
        container.start()
        assert container.exec(["true"]).wait() == 0
