"""Each exception provoked: its attributes, its words, and that nothing is left behind.

The leak check around each test sees to the last of these.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import ORDINARY

import rscontainer as rsc
from rscontainer import Container, Spec

if TYPE_CHECKING:
    from conftest import BundleFactory, CommandLine


FOREVER = ["sleep", "1000"]


def failure(error: type, call: Callable[[], object]) -> Any:
    """Give what ``call`` raises, of exactly this type, after checking how it reads."""
    with pytest.raises(rsc.ContainerError) as caught:
        call()
    raised = caught.value
    assert type(raised) is error
    message = str(raised)
    # A name of a property, of a call or of a signal may come first; a sentence does not.
    assert message
    assert not message[0].isupper() or message.split(maxsplit=1)[0].isupper()
    assert not message.endswith(".")
    assert "\n" not in message
    return raised


def create(made: Any, root: Path, box: str, **more: Any) -> Callable[[], Container]:
    return lambda: Container.run(box, made, root=root, **more)


# -- the classes ----------------------------------------------------------------------------


def test_one_base() -> None:
    for name in rsc.errors.__all__:
        base = UserWarning if name.endswith("Warning") else rsc.ContainerError
        assert issubclass(getattr(rsc, name), base)
    assert issubclass(rsc.SystemCallError, OSError)
    assert issubclass(rsc.TimeoutExpired, subprocess.TimeoutExpired)
    assert f"{rsc.TimeoutExpired}" == "<class 'rscontainer.errors.TimeoutExpired'>"
    with pytest.raises(AttributeError, match="has no attribute 'TimeoutExpiry'"):
        rsc.TimeoutExpiry  # type: ignore[attr-defined]  # noqa: B018
    assert issubclass(rsc.CalledProcessError, subprocess.CalledProcessError)


def test_spec_error(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(lambda spec: spec.process.update(cwd="relative"), args=FOREVER)
    error = failure(rsc.SpecError, create(made, root, box))
    assert (error.path, error.value, error.section) == (
        "$.process.cwd",
        '"relative"',
        "config.md#process",
    )
    message = str(error)
    assert message.startswith('$.process.cwd = "relative": ')
    assert f"(in {made.config})" in message
    assert "(see config.md#process)" in message


def test_not_found_error(bundle: BundleFactory, root: Path, box: str, tmp_path: Path) -> None:
    error = failure(rsc.NotFoundError, lambda: Container.load(box, root))
    assert str(error) == (
        f'container "{box}" does not exist in "{root}"; '
        "see which there are with `rscontainer list` or Container.list(), or name another folder "
        "with root"
    )
    nowhere = tmp_path / "nowhere"
    error = failure(rsc.NotFoundError, create(nowhere, root, box))
    assert str(error).startswith(f'there is no bundle "{nowhere}"')
    (tmp_path / "empty").mkdir()
    error = failure(rsc.NotFoundError, create(tmp_path / "empty", root, box))
    assert str(error) == (
        f'the bundle "{tmp_path}/empty" has no config.json; '
        "write one with `rscontainer spec` or Spec.default().save()"
    )
    container = Container.run(box, bundle(args=["true"]), root=root)
    container.delete(force=True)
    for verb in (
        container.state,
        container.start,
        container.pause,
        container.resume,
        container.kill,
        container.delete,
        lambda: container.exec(["true"]),
        lambda: container.status,
        lambda: container.pid,
    ):
        assert box in str(failure(rsc.NotFoundError, verb))


def test_already_exists_error(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(args=FOREVER)
    with Container.run(box, made, root=root) as container:
        error = failure(rsc.AlreadyExistsError, create(made, root, box))
        assert str(error) == (
            f'container "{box}" exists already (in "{root}"); '
            "choose another id, or delete that container first"
        )
        assert container.status == "running"


def test_state_error(bundle: BundleFactory, root: Path, box: str) -> None:
    def refused(verb: Callable[[], object], *words: str) -> None:
        message = str(failure(rsc.StateError, verb))
        assert f'container "{box}"' in message
        for word in words:
            assert word in message

    with Container.create(box, bundle(args=FOREVER), root=root) as container:
        refused(container.resume, "cannot resume", "it is created, and must be paused")
        container.start()
        refused(container.start, "cannot start", "it is running, and must be created")
        refused(container.resume, "cannot resume", "it is running, and must be paused")
        refused(container.delete, "cannot delete", "kill it first, or delete it with force")
        container.pause()
        refused(container.pause, "cannot pause", "it is paused, and must be running or created")
        refused(
            lambda: container.exec(["true"]), "cannot exec in", "it is paused", "resume it first"
        )
        container.resume()
        container.kill("KILL")
        container.wait(30)
        again = "delete it and create it anew"
        refused(container.kill, "cannot kill", "it is stopped", again)
        refused(container.start, "cannot start", "it is stopped", again)
        refused(container.pause, "cannot pause", "it is stopped", again)
        refused(lambda: container.exec(["true"]), "cannot exec in", "it is stopped", again)


def test_system_call_error(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(args=["/nowhere"])
    error = failure(rsc.SystemCallError, create(made, root, box))
    assert isinstance(error, OSError)
    assert (error.errno, error.call, error.path) == (errno.ENOENT, "execve", "/nowhere")
    assert error.step == 'find program "/nowhere"'
    assert error.asked_by == "$.process.args[0]"
    assert str(error) == (
        'find program "/nowhere": ENOENT: no such file or directory '
        "(asked for by $.process.args[0]); the rootfs does not have that file"
    )


def test_timeout_expired(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        with pytest.raises(rsc.TimeoutExpired) as caught:
            container.wait(0.05)
        assert (caught.value.cmd, caught.value.timeout) == ("the config's process", 0.05)
        assert str(caught.value) == ("Command 'the config's process' timed out after 0.05 seconds")


def test_errors_survive_pickling(bundle: BundleFactory, root: Path, box: str) -> None:
    # As they come back from a worker of multiprocessing.
    for made in (bundle(args=["/nowhere"]), bundle(lambda spec: spec.process.update(cwd="x"))):
        with pytest.raises(rsc.ContainerError) as caught:
            create(made, root, box)()
        copy = pickle.loads(pickle.dumps(caught.value))
        assert type(copy) is type(caught.value)
        assert str(copy) == str(caught.value)
        assert vars(copy) == vars(caught.value)


# -- what is no config ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", ["the config is empty"]),
        (b'{"ociVersion": "1.3.0", "process"', ["line 1 column 33"]),
        (b'{"ociVersion": "1.3.0"} trailing', ["line 1"]),
        (b"[1, 2]", []),
        (b"null", []),
        (b"\xff\xfe{}", []),
        (b'{"ociVersion": 7}', ["$.ociVersion"]),
        (b"[" * 100_000, []),
        (b'{"a":' * 100_000, []),
        (b'{"hostname": "' + b"x" * 70_000_000 + b'"}', []),
    ],
    ids=[
        "empty",
        "truncated",
        "more",
        "array",
        "null",
        "binary",
        "number",
        "deep",
        "deeper",
        "huge",
    ],
)
def test_no_config(
    bundle: BundleFactory, root: Path, box: str, text: bytes, words: list[str]
) -> None:
    made = bundle()
    made.config.write_bytes(text)
    error = failure(rsc.SpecError, create(made, root, box))
    message = str(error)
    assert str(made.config) in message
    assert len(message) < 1000
    for word in words:
        assert word in message


@pytest.mark.parametrize("kind", ["folder", "fifo", "loop"])
def test_config_that_is_no_file(bundle: BundleFactory, root: Path, box: str, kind: str) -> None:
    made = bundle()
    made.config.unlink()
    if kind == "folder":
        made.config.mkdir()
    elif kind == "fifo":
        os.mkfifo(made.config)
    else:
        made.config.symlink_to(made.config)
    with pytest.raises(rsc.ContainerError, match=str(made.config)) as caught:
        create(made, root, box)()
    assert ("ELOOP" if kind == "loop" else "is not a regular file") in str(caught.value)


def wrong(path: str, value: Any) -> Any:
    return pytest.param(path, value, id=f"{path}={json.dumps(value)[:30]}")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        wrong("process", []),
        wrong("process.args", "sh"),
        wrong("process.args", [1]),
        wrong("process.args", []),
        wrong("process.env", {"A": "b"}),
        wrong("process.env", ["no equals sign"]),
        wrong("process.cwd", ""),
        wrong("process.cwd", "relative"),
        wrong("process.user.uid", -1),
        wrong("process.user.uid", 2**32),
        wrong("process.user.uid", "root"),
        wrong("process.terminal", "yes"),
        wrong("process.oomScoreAdj", 1001),
        wrong("process.rlimits", [{"type": "RLIMIT_NO_SUCH", "soft": 1, "hard": 1}]),
        wrong("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]),
        wrong("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 2**64, "hard": 2**64}]),
        wrong("root.path", 5),
        wrong("root", None),
        wrong("mounts", {}),
        wrong("mounts", [{"destination": 1}]),
        wrong("mounts", [{"source": "proc"}]),
        wrong("hostname", ["a"]),
        wrong("hostname", "x" * 65),
        wrong("hooks", {"createRuntime": [{"path": "relative"}]}),
        wrong("linux.namespaces", [{"type": "no-such"}]),
        wrong("linux.namespaces", [{"type": "uts"}, {"type": "pid"}, {"type": "pid"}]),
        wrong("linux.resources.memory.limit", "lots"),
        wrong("linux.resources.memory.limit", 2**63),
        wrong("linux.resources.pids.limit", 1.5),
        wrong("linux.maskedPaths", [""]),
        wrong("linux.sysctl", {"kernel.no/../thing": "1"}),
        wrong("linux.cgroupsPath", ".."),
    ],
)
def test_wrong_values(bundle: BundleFactory, root: Path, box: str, path: str, value: Any) -> None:
    made = bundle(args=FOREVER)
    config = json.loads(made.config.read_text())
    place = config
    *folders, last = path.split(".")
    for folder in folders:
        place = place.setdefault(folder, {})
    place[last] = value
    made.config.write_text(json.dumps(config))
    error = failure(rsc.SpecError, create(made, root, box))
    assert error.path is not None
    assert error.path.startswith(f"$.{path}")
    assert str(made.config) in str(error)


@pytest.mark.parametrize("how", ["spec", "args", "terminal"])
def test_no_process(bundle: BundleFactory, root: Path, box: str, how: str) -> None:
    made = bundle(args=FOREVER)
    config = json.loads(made.config.read_text())
    del config["process"]
    more = {"spec": {}, "args": {"args": ["true"]}, "terminal": {"terminal": False}}[how]
    error = failure(rsc.SpecError, create(made, root, box, spec=Spec.from_dict(config), **more))
    assert error.path == "$.process"


# -- the rootfs -----------------------------------------------------------------------------


def test_missing_rootfs(bundle: BundleFactory, root: Path, box: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    made = bundle(lambda spec: spec.root.update(path=str(gone)), args=FOREVER)
    error = failure(rsc.SpecError, create(made, root, box))
    assert (error.path, error.value) == ("$.root.path", f'"{gone}"')
    assert str(error) == (
        f'$.root.path = "{gone}": there is no such rootfs (see config.md#root); '
        "unpack an image's file system there, or point $.root.path at one"
    )


def test_rootfs_that_is_a_file(bundle: BundleFactory, root: Path, box: str, tmp_path: Path) -> None:
    file = tmp_path / "rootfs.tar"
    file.write_bytes(b"")
    made = bundle(lambda spec: spec.root.update(path=str(file)), args=FOREVER)
    error = failure(rsc.SpecError, create(made, root, box))
    assert (error.path, error.value) == ("$.root.path", f'"{file}"')
    assert "the rootfs is not a folder" in str(error)


# -- ids ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "/a",
        "a\nb",
        "a b",
        "ä",
        "\N{SNOWMAN}",
        "x" * 256,
        "x" * 10_000,
        "a\0b",
        "\udcff",
    ],
    ids=lambda name: repr(name)[:12],
)
def test_ids(bundle: BundleFactory, root: Path, name: str) -> None:
    made = bundle(args=FOREVER)
    for call in (create(made, root, name), lambda: Container.load(name, root)):
        try:
            error = failure(rsc.ContainerError, call)
        except UnicodeEncodeError:
            # What cannot be said in UTF-8 does not come as far as the core.
            assert name == "\udcff"
            continue
        message = str(error)
        assert message.startswith("no container can be called ")
        assert len(message) < 300
        if not name:
            assert message.endswith("it is empty; choose another id")
        elif len(name) > 255:
            assert f"it has {len(name)} bytes, and 255 is the most" in message
        else:
            assert message.endswith(
                "only letters, digits and _ + - . may be in it; choose another id"
            )
    assert not root.exists()


def test_longest_id(bundle: BundleFactory, root: Path, box: str) -> None:
    # Names of cgroups may be as long as those of files.
    longest = box.ljust(255, "x")
    with Container.run(longest, bundle(args=["true"]), root=root) as container:
        assert container.wait(30) == 0
        assert [found.id for found in Container.list(root)] == [longest]


# -- programs -------------------------------------------------------------------------------


def spoil(made: rsc.Bundle) -> None:
    """Put programs in the rootfs that do not run."""
    programs = made.rootfs / "bin"
    for name, content in {
        "plain": b"#!/bin/sh\n",
        "lost": b"#!/no/interpreter\n",
        "garbage": b"\x00\x01\x02\x03",
        "empty": b"",
        "foreign": foreign_elf(),
    }.items():
        (programs / name).write_bytes(content)
        (programs / name).chmod(0o644 if name == "plain" else 0o755)


def foreign_elf() -> bytes:
    """Busybox's own header, for a machine that this is not."""
    header = bytearray(Path(sys.executable).resolve().read_bytes()[:4096])
    assert header[:4] == b"\x7fELF"
    # EM_SPARCV9: e_machine of elf(5).
    header[18:20] = (43).to_bytes(2, sys.byteorder)
    return bytes(header)


@pytest.mark.parametrize(
    ("program", "number", "words"),
    [
        ("missing", errno.ENOENT, "no folder in the container's PATH has it"),
        ("/bin/missing", errno.ENOENT, "the rootfs does not have that file"),
        ("./missing", errno.ENOENT, "the rootfs does not have that file"),
        ("/etc/passwd/x", errno.ENOENT, "the rootfs does not have that file"),
        ("/bin", errno.EACCES, "it must be a file that its user may execute"),
        ("plain", errno.EACCES, "it must be a file that its user may execute"),
        ("/bin/lost", errno.ENOENT, "its interpreter or dynamic loader is not"),
        ("foreign", errno.ENOEXEC, "it is no program of this machine's architecture"),
        ("garbage", errno.ENOEXEC, "it is no program of this machine's architecture"),
        ("empty", errno.ENOEXEC, "it is no program of this machine's architecture"),
    ],
)
def test_programs(
    bundle: BundleFactory, root: Path, box: str, program: str, number: int, words: str
) -> None:
    made = bundle(own_rootfs=True, args=FOREVER)
    spoil(made)

    def check(error: Any, *also: str | None) -> None:
        assert error.errno == number
        assert error.call == "execve"
        assert error.path == program
        # The program is looked for by the first of them and gets all.
        assert error.asked_by in {"$.process.args[0]", "$.process.args", *also}
        assert errno.errorcode[number] in str(error)
        assert words in str(error)
        assert program in str(error)

    check(failure(rsc.SystemCallError, create(made, root, box, args=[program])))
    with Container.create(box, made, root=root, args=FOREVER) as container:
        container.start()
        # No line of the config asks for what is given to exec.
        check(failure(rsc.SystemCallError, lambda: container.exec([program])), None)
        assert container.status == "running"


def test_program_too_long(bundle: BundleFactory, root: Path, box: str) -> None:
    # One argument may have 32 pages (execve(2)).
    error = failure(rsc.SystemCallError, create(bundle(), root, box, args=["echo", "x" * 2**17]))
    assert error.errno == errno.E2BIG
    assert "arguments and environment are too long together" in str(error)


def test_start_reports_what_does_not_run(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(own_rootfs=True, args=["/bin/lost"])
    spoil(made)
    container = Container.create(box, made, root=root)
    error = failure(rsc.SystemCallError, container.start)
    assert (error.errno, error.asked_by) == (errno.ENOENT, "$.process.args")
    assert "its interpreter or dynamic loader is not" in str(error)
    container.wait(30)
    assert container.status == "stopped"
    container.delete()


# -- mounts and what else the kernel refuses -------------------------------------------------


def mounting(**mount: Any) -> Callable[[Spec], None]:
    return lambda spec: spec.mounts.append(mount)


def test_unknown_mount_option(bundle: BundleFactory, root: Path, box: str) -> None:
    change = mounting(destination="/mnt", type="tmpfs", source="t", options=["nosuch=1"])
    error = failure(rsc.SystemCallError, create(bundle(change, own_rootfs=True), root, box))
    assert (error.errno, error.call, error.path) == (errno.EINVAL, "fsconfig", "/mnt")
    assert error.asked_by == "$.mounts[7]"
    assert error.step.startswith('mount "tmpfs" on "/mnt"')
    assert "nosuch" in str(error)


def test_unknown_file_system(bundle: BundleFactory, root: Path, box: str) -> None:
    change = mounting(destination="/mnt", type="nosuchfs", source="t")
    error = failure(rsc.SystemCallError, create(bundle(change, own_rootfs=True), root, box))
    assert (error.errno, error.call) == (errno.ENODEV, "fsopen")
    assert error.asked_by == "$.mounts[7]"
    assert "this kernel does not have that file system" in str(error)


def test_missing_bind_source(bundle: BundleFactory, root: Path, box: str) -> None:
    change = mounting(destination="/mnt", type="bind", source="/nowhere", options=["bind"])
    error = failure(rsc.SystemCallError, create(bundle(change, own_rootfs=True), root, box))
    assert error.errno == errno.ENOENT
    assert error.asked_by == "$.mounts[7]"
    assert "the source must exist on the host" in str(error)


def test_mount_point_in_a_readonly_rootfs(bundle: BundleFactory, root: Path, box: str) -> None:
    # The rootfs is read-only itself where it is on a file system that is.
    change = mounting(destination="/sys/nowhere", type="tmpfs", source="t")
    error = failure(rsc.SystemCallError, create(bundle(change), root, box))
    assert error.asked_by == "$.mounts[7]"
    assert "/sys/nowhere" in str(error)


def test_unknown_sysctl(bundle: BundleFactory, root: Path, box: str) -> None:
    change = lambda spec: spec.linux.update(sysctl={"net.no_such": "1"})  # noqa: E731
    error = failure(rsc.SystemCallError, create(bundle(change), root, box))
    assert error.errno == errno.ENOENT
    assert error.asked_by.startswith("$.linux.sysctl")
    assert "this kernel does not have that parameter" in str(error)


def test_namespace_that_is_none(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: Spec) -> None:
        spec.linux.namespaces = [n for n in spec.linux.namespaces if n.type != "ipc"]
        spec.linux.namespaces.append({"type": "ipc", "path": "/proc/self/ns/uts"})

    error = failure(rsc.SystemCallError, create(bundle(change), root, box))
    assert (error.errno, error.call) == (errno.EINVAL, "setns")
    assert error.asked_by.startswith("$.linux.namespaces[")
    assert "the path is a namespace of another kind" in str(error)


RAISE = """
import sys, rscontainer as rsc
try:
    rsc.Container.run(sys.argv[1], sys.argv[2], root=sys.argv[3])
except rsc.SystemCallError as error:
    print(error.errno, error.call, error.asked_by, error)
"""


def test_raising_a_limit(bundle: BundleFactory, root: Path, box: str) -> None:
    import ctypes  # noqa: PLC0415  # of use here alone
    import resource  # noqa: PLC0415

    def change(spec: Spec) -> None:
        spec.process.rlimits = [{"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1000}]

    made = bundle(change, args=["true"])

    def without_sys_resource() -> None:
        # PR_CAPBSET_DROP of CAP_SYS_RESOURCE: gone with the next exec.
        assert ORDINARY or ctypes.CDLL(None).prctl(24, 24, 0, 0, 0) == 0
        resource.setrlimit(resource.RLIMIT_NOFILE, (500, 500))

    done = subprocess.run(
        [sys.executable, "-c", RAISE, box, str(made.path), str(root)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        preexec_fn=without_sys_resource,
    )
    assert done.stdout.startswith(f"{errno.EPERM} prlimit $.process.rlimits[0] ")
    assert "limit RLIMIT_NOFILE to 1000 (hard 1000): EPERM: operation not permitted" in done.stdout
    assert "raising a hard limit needs CAP_SYS_RESOURCE" in done.stdout


# -- the rest -------------------------------------------------------------------------------


def test_no_such_signal(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        for signal in ("NOPE", "SIGNOPE", "", 65, -1, "RTMIN+99"):
            error = failure(rsc.ContainerError, lambda: container.kill(signal))  # noqa: B023
            assert str(error) == (
                f'there is no signal "{signal}"; name one such as TERM, SIGKILL, RTMIN+1 or 15'
            )


def test_folder_of_states_that_cannot_be_made(bundle: BundleFactory, box: str) -> None:
    error = failure(rsc.SystemCallError, create(bundle(), Path("/proc/states"), box))
    assert error.call == "mkdir"
    assert "make the folder of containers' states" in str(error)
    error = failure(rsc.SystemCallError, create(bundle(), Path("/dev/null"), box))
    assert error.errno == errno.ENOTDIR


def test_command_line_says_the_same(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine
) -> None:
    made = bundle(args=["/nowhere"])
    error = failure(rsc.SystemCallError, create(made, root, box))
    done = cli("run", "--bundle", made.path, box, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr == f"rscontainer: error: {error}\n"
