"""linux.seccomp: what a filter answers to the program's calls, and who hears of it."""

from __future__ import annotations

import array
import contextlib
import copy
import ctypes
import errno
import fcntl
import json
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import eventually

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, CommandLine, Shell

# What a profile lets through that is made as engines make theirs: a list of what is allowed.
ALLOWED = """
accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown
chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
clock_gettime64 clock_nanosleep clock_nanosleep_time64 clone clone3 close close_range connect
copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait
epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown
fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr
fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue
futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid
getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid
getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid
getuid32 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl
io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit
ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr
link linkat listen listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv
msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open
openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect
poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom
recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat renameat2
restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity
sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send
sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32
setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt
set_thread_area set_tid_address setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown
sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64
statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat
utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
"""
OF_ECHO = """execve arch_prctl set_tid_address set_robust_list rseq brk mmap munmap mprotect prctl
getuid getgid geteuid getegid setuid setgid write writev exit exit_group readlink readlinkat
getrandom prlimit64 ioctl fstat newfstatat uname"""
NEW_NAMESPACES = 0x7E020000
NATIVE = {"x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}
LIKE_AN_ENGINES = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": errno.EPERM,
    "architectures": NATIVE.get(platform.machine(), []),
    "syscalls": [
        {
            "names": [name for name in ALLOWED.split() if name != "clone"],
            "action": "SCMP_ACT_ALLOW",
        },
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": NEW_NAMESPACES, "op": "SCMP_CMP_MASKED_EQ"}],
        },
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}],
        },
        *(
            {
                "names": ["personality"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}],
            }
            for value in (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
        ),
    ],
}
MKDIR = ["mkdir", "mkdirat"]


def under(profile: dict[str, Any], no_new_privileges: bool = True, **process: Any) -> Change:
    def change(spec: rsc.Spec) -> None:
        spec.linux.seccomp = profile
        spec.process.noNewPrivileges = no_new_privileges
        for name, value in process.items():
            setattr(spec.process, name, value)

    return change


def but(names: list[str], action: str, default: str = "SCMP_ACT_ALLOW", **rule: Any) -> Any:
    return {"defaultAction": default, "syscalls": [{"names": names, "action": action, **rule}]}


def refused(shell: Shell, change: Change, script: str = "mkdir /dev/shm/x") -> str:
    """What a shell whose last command fails says of it, and its status."""
    return shell(f"{{ {script}; }} 2>&1; echo $?", change)


@pytest.fixture(params=[True, False], ids=["no_new_privileges", "privileged"])
def no_new_privileges(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_errno(sh: Shell, no_new_privileges: bool) -> None:
    said = refused(sh, under(but(MKDIR, "SCMP_ACT_ERRNO"), no_new_privileges))
    assert said == "mkdir: can't create directory '/dev/shm/x': Operation not permitted\n1\n"
    profile = but(MKDIR, "SCMP_ACT_ERRNO", errnoRet=errno.EXDEV)
    assert "Invalid cross-device link" in refused(sh, under(profile, no_new_privileges))


@pytest.mark.parametrize(
    "action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"]
)
def test_kill_and_trap(sh: Shell, action: str) -> None:
    said = refused(sh, under(but(MKDIR, action)))
    assert said.splitlines()[-1] == str(128 + signal.SIGSYS)


def test_log_lets_calls_through(sh: Shell) -> None:
    assert refused(sh, under(but(MKDIR, "SCMP_ACT_LOG"))) == "0\n"


def test_trace_without_a_tracer_is_not_there(sh: Shell) -> None:
    said = refused(sh, under(but(MKDIR, "SCMP_ACT_TRACE", errnoRet=7)))
    assert "Function not implemented" in said


def test_status(sh: Shell, no_new_privileges: bool) -> None:
    change = under(LIKE_AN_ENGINES, no_new_privileges)
    found = dict(line.split(":\t") for line in sh("cat /proc/self/status", change).splitlines())
    assert found["Seccomp"] == "2"
    assert found["Seccomp_filters"] == "1"
    assert found["NoNewPrivs"] == str(int(no_new_privileges))


def test_a_profile_like_an_engines(sh: Shell, no_new_privileges: bool) -> None:
    change = under(LIKE_AN_ENGINES, no_new_privileges)
    script = "mkdir /dev/shm/x && ls -l / | wc -l && (sleep 0.01 & wait) && echo done"
    assert sh(script, change).splitlines()[-1] == "done"
    assert "Operation not permitted" in refused(sh, change, "unshare -m true")
    assert "permission denied" in refused(sh, change, "mount -t tmpfs none /mnt")


def test_a_profile_older_than_the_runtimes_calls(sh: Shell, no_new_privileges: bool) -> None:
    newer = {"close_range", "faccessat2", "openat2"}
    old = copy.deepcopy(LIKE_AN_ENGINES)
    old["syscalls"][0]["names"] = [name for name in ALLOWED.split() if name not in newer]

    def change(spec: rsc.Spec) -> None:
        under(old, no_new_privileges)(spec)
        spec.process.env = ["PATH=/bin"]

    assert sh("echo $HOME", change) == "/root\n"


def test_user_without_privileges(sh: Shell, no_new_privileges: bool) -> None:
    user = {"uid": 1000, "gid": 1000}
    change = under(LIKE_AN_ENGINES, no_new_privileges, user=user, capabilities={})
    assert sh("id -u; grep Seccomp: /proc/self/status", change).split() == ["1000", "Seccomp:", "2"]


def test_as_few_calls_as_possible_after_the_load(bundle: BundleFactory, root: Path) -> None:
    # What busybox itself takes, and execve(2); nothing of what makes a container.
    made = bundle(under(but(OF_ECHO.split(), "SCMP_ACT_ALLOW", default="SCMP_ACT_KILL_PROCESS")))
    done = rsc.run(made, ["echo", "hello"], capture_output=True, text=True, root=root, timeout=60)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_filter_that_kills_its_init(bundle: BundleFactory, root: Path) -> None:
    profile = but(["execve", "exit"], "SCMP_ACT_ALLOW", default="SCMP_ACT_KILL_PROCESS")
    with pytest.raises(rsc.ContainerError) as caught:
        rsc.run(bundle(under(profile, False)), ["true"], root=root, timeout=60)
    assert "was killed while it was set up (asked for by $.linux.seccomp)" in str(caught.value)
    assert "its filter may kill it for a call" in str(caught.value)


def test_conditions_on_arguments(sh: Shell) -> None:
    # kill(pid, signal): of the signals only one.
    condition = {"index": 1, "value": signal.SIGUSR1, "op": "SCMP_CMP_EQ"}
    change = under(but(["kill"], "SCMP_ACT_ERRNO", args=[condition]))
    assert sh("sleep 9 & kill -USR1 $! || kill $! && echo only", change) == "only\n"


def test_the_upper_half_of_an_argument_counts(sh: Shell) -> None:
    # A pointer has one, and a file's length: of 4 GiB and more, truncate(2) is refused.
    condition = {"index": 1, "value": 1 << 32, "op": "SCMP_CMP_GE"}
    names = ["ftruncate", "truncate"]
    profile = but(names, "SCMP_ACT_ERRNO", errnoRet=errno.EFBIG, args=[condition])
    script = "truncate -s 4095M /dev/shm/a && echo small; truncate -s 4096M /dev/shm/a 2>&1"
    said = sh(script, under(profile), check=False)
    assert said.startswith("small\n")
    assert "File too large" in said


def test_exec_is_filtered_too(
    bundle: BundleFactory, root: Path, box: str, no_new_privileges: bool
) -> None:
    change = under(but(MKDIR, "SCMP_ACT_ERRNO"), no_new_privileges)
    with Container.run(box, bundle(change, args=["sleep", "60"]), root=root) as container:
        script = "grep Seccomp: /proc/self/status; mkdir /dev/shm/x 2>&1"
        with container.exec(["sh", "-c", script], stdout=rsc.PIPE, text=True) as process:
            said, _ = process.communicate(timeout=60)
    assert said.split("\n")[0] == "Seccomp:\t2"
    assert "Operation not permitted" in said


def test_create_then_start(
    bundle: BundleFactory, root: Path, box: str, no_new_privileges: bool
) -> None:
    change = under(LIKE_AN_ENGINES, no_new_privileges)
    made = bundle(change, args=["grep", "Seccomp:", "/proc/self/status"])
    with Container.create(box, made, root=root, stdout=rsc.PIPE, text=True) as container:
        assert container.init is not None
        # As late as can be: what waits is not the program.
        mode = Path(f"/proc/{container.init.pid}/status").read_text()
        assert f"\nSeccomp:\t{0 if no_new_privileges else 2}\n" in mode
        container.start()
        assert container.init.communicate(timeout=60)[0] == "Seccomp:\t2\n"


def test_hooks_in_the_container_are_filtered(
    bundle: BundleFactory, root: Path, no_new_privileges: bool
) -> None:
    """What they run is the image's."""

    def change(spec: rsc.Spec) -> None:
        under(but(MKDIR, "SCMP_ACT_KILL_PROCESS"), no_new_privileges)(spec)
        argv = ["sh", "-c", "mkdir /dev/shm/x"]
        spec.hooks.startContainer = [{"path": "/bin/sh", "args": argv}]

    with pytest.raises(rsc.ContainerError, match=r'hook "/bin/sh": .*(signal 31|status 159)'):
        rsc.run(bundle(change), ["true"], root=root, timeout=60)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs a machine with x86_64 and x86")
@pytest.mark.parametrize(
    ("architectures", "expected"),
    [([], -signal.SIGSYS), (["SCMP_ARCH_X86"], 42), (["SCMP_ARCH_X86", "SCMP_ARCH_X32"], 42)],
)
def test_other_architectures(
    bundle: BundleFactory, root: Path, architectures: list[str], expected: int
) -> None:
    made = bundle(
        under({**but(["exit"], "SCMP_ACT_LOG"), "architectures": architectures}), own_rootfs=True
    )
    program = made.rootfs / "old"
    program.write_bytes(small_program())
    program.chmod(0o755)
    assert rsc.run(made, ["/old"], root=root, timeout=60).returncode == expected


def small_program() -> bytes:
    """A program for x86 that ends with status 42: mov eax, 1; mov ebx, 42; int 0x80."""
    code = bytes.fromhex("b801000000 bb2a000000 cd80")
    base = 0x08048000
    size = 52 + 32 + len(code)
    header = struct.pack(
        "<16sHHIIIIIHHHHHH",
        b"\x7fELF\x01\x01\x01", 2, 3, 1, base + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0,
    )  # fmt: skip
    return header + struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 0x1000) + code


# -- notifications ----------------------------------------------------------------------------

# struct seccomp_notif, seccomp_notif_resp and their ioctls (seccomp_unotify(2)).
RECEIVE, SEND = 0xC0502100, 0xC0182101
REQUEST, RESPONSE = struct.Struct("<QIIiIQ6Q"), struct.Struct("<QqiI")


class Agent:
    """Answers every call that it is notified of with an errno; ``said`` is what it was told."""

    def __init__(self, path: Path, answer: int) -> None:
        self.said: list[dict[str, Any]] = []
        self.pids: list[int] = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(os.fspath(path))
        self._socket.listen()
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                thread = threading.Thread(target=self._attend, args=[connection], daemon=True)
                self._threads.append(thread)
                thread.start()

    def _attend(self, connection: socket.socket) -> None:
        with connection:
            data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4))
            while more := connection.recv(1 << 16):
                data += more
        self.said.append(json.loads(data))
        ((_, _, rights),) = ancillary
        (listener,) = array.array("i", rights)
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        with contextlib.suppress(OSError):
            # When nobody is left under the filter, this ends on every kernel; the wait for a
            # request does not before Linux 6.11.
            while not poll.poll()[0][1] & select.POLLHUP:
                request = bytearray(80)
                fcntl.ioctl(listener, RECEIVE, request)
                cookie, pid, *_ = REQUEST.unpack(request)
                self.pids.append(pid)
                response = bytearray(RESPONSE.pack(cookie, 0, -self._answer, 0))
                fcntl.ioctl(listener, SEND, response)
        os.close(listener)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(timeout=30)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "agent", errno.EDOM)
    yield agent
    agent.close()


def notifying(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {**but(MKDIR, "SCMP_ACT_NOTIFY"), "listenerPath": str(tmp_path / "agent"), **more}


def test_notify(
    bundle: BundleFactory,
    root: Path,
    box: str,
    tmp_path: Path,
    agent: Agent,
    no_new_privileges: bool,
) -> None:
    profile = notifying(tmp_path, listenerMetadata="a=b")
    made = bundle(under(profile, no_new_privileges), args=["sh", "-c", "mkdir /dev/shm/x 2>&1"])
    with Container.create(box, made, root=root, stdout=rsc.PIPE, text=True) as container:
        assert container.init is not None
        (said,) = eventually(lambda: agent.said, "what the agent is told")
        state = said.pop("state")
        pid = container.init.pid
        fds = ["seccompFd"]
        assert said == {"ociVersion": "1.3.0", "fds": fds, "pid": pid, "metadata": "a=b"}
        assert (state["id"], state["pid"], state["status"]) == (box, pid, "creating")
        assert state["bundle"] == str(made.path)
        container.start()
        assert "Numerical argument out of domain" in container.init.communicate(timeout=60)[0]
    assert len(agent.pids) == 1


def test_exec_notifies_too(
    bundle: BundleFactory, root: Path, box: str, tmp_path: Path, agent: Agent
) -> None:
    made = bundle(under(notifying(tmp_path)), args=["sleep", "60"])
    with Container.run(box, made, root=root) as container:
        with container.exec(["mkdir", "/dev/shm/x"], stderr=rsc.PIPE, text=True) as process:
            assert "out of domain" in process.communicate(timeout=60)[1]
            pid = process.pid
        eventually(lambda: len(agent.said) == 2, "what the agent is told")
        assert [said["pid"] for said in agent.said] == [container.init.pid, pid]
        assert agent.said[1]["state"]["status"] == "running"
        assert "metadata" not in agent.said[1]


def test_no_agent(bundle: BundleFactory, root: Path, box: str, tmp_path: Path) -> None:
    made = bundle(under(notifying(tmp_path)), args=["true"])
    with pytest.raises(rsc.SystemCallError) as caught:
        Container.create(box, made, root=root)
    assert str(caught.value) == (
        f'hand the seccomp listener to its agent: connect "{tmp_path}/agent": ENOENT: no such file '
        "or directory (asked for by $.linux.seccomp.listenerPath); "
        "the agent must listen on that socket, of type SOCK_STREAM"
    )


def test_listener_path_without_notify_is_ignored(sh: Shell) -> None:
    profile = {**but(MKDIR, "SCMP_ACT_ERRNO"), "listenerPath": "/nowhere/at/all"}
    assert "not permitted" in refused(sh, under(profile))


# -- what is refused, what is said --------------------------------------------------------------


@pytest.mark.requires_root("to do without a user namespace")
def test_no_privilege_to_load(bundle: BundleFactory, root: Path) -> None:
    script = (
        "import sys, rscontainer as r\n"
        "try: r.run(sys.argv[1], root=sys.argv[2])\n"
        "except r.SystemCallError as e: print(e)"
    )

    def without_sys_admin() -> None:
        # PR_CAPBSET_DROP of CAP_SYS_ADMIN: it is gone with the next exec, and with it mounts.
        assert ctypes.CDLL(None).prctl(24, 21, 0, 0, 0) == 0

    def change(spec: rsc.Spec) -> None:
        under(but(MKDIR, "SCMP_ACT_ERRNO"), False, capabilities={})(spec)
        spec.linux.namespaces = []
        spec.linux.resources = None
        spec.linux.maskedPaths = spec.linux.readonlyPaths = spec.mounts = None
        spec.root.readonly = False
        spec.hostname = None

    made = bundle(change, args=["true"])
    done = subprocess.run(
        [sys.executable, "-c", script, str(made.path), str(root)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        preexec_fn=without_sys_admin,
    )
    assert "load seccomp filter: allow but for 1 rule;" in done.stdout, done.stderr
    assert "EACCES: permission denied (asked for by $.linux.seccomp)" in done.stdout
    assert "set $.process.noNewPrivileges" in done.stdout


@pytest.mark.parametrize(
    ("profile", "path", "words"),
    [
        (but([], "SCMP_ACT_ERRNO"), "syscalls[0].names", "must not be empty"),
        (but([""], "SCMP_ACT_ERRNO"), "syscalls[0].names[0]", "must not be empty"),
        (but(["x"], "SCMP_ACT_ALLOW", errnoRet=1), "syscalls[0].errnoRet", "returns no errno"),
        (but(["x"], "SCMP_ACT_NOTIFY"), "syscalls[0].action", "needs a listenerPath"),
        (but(["x"], "SCMP_ACT_NO"), "syscalls[0].action", "SCMP_ACT_NO"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "defaultAction", "cannot be the default"),
        (
            {**but(["sendmsg"], "SCMP_ACT_NOTIFY"), "listenerPath": "/a"},
            "syscalls[0].names",
            "sendmsg cannot wait for the agent",
        ),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NATIVE"]},
            "architectures[0]",
            "is no architecture of the specification",
        ),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NONE"]},
            "flags[0]",
            "SECCOMP_FILTER_FLAG_NONE",
        ),
        (
            but(["x"], "SCMP_ACT_ERRNO", args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]),
            "syscalls[0].args[0].index",
            "between 0 and 5",
        ),
    ],
)
def test_refused(
    bundle: BundleFactory, root: Path, box: str, profile: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(rsc.SpecError) as caught:
        Container.create(box, bundle(under(profile), args=["true"]), root=root)
    assert caught.value.path == f"$.linux.seccomp.{path}"
    assert words in str(caught.value)


def test_explain(bundle: BundleFactory, cli: CommandLine) -> None:
    made = bundle(under(LIKE_AN_ENGINES), args=["true"])
    lines = cli("explain", made.path).stdout.splitlines()
    (line,) = (line for line in lines if "seccomp" in line)
    assert line.startswith("load seccomp filter: fail with EPERM but for 8 rules; ")
    assert line.endswith(" instructions; spec_allow")
    assert lines.index(line) == len(lines) - 2
    made = bundle(under(LIKE_AN_ENGINES, False), args=["true"])
    lines = cli("explain", made.path).stdout.splitlines()
    (user,) = (line for line in lines if line.startswith("become user 0, group 0"))
    assert lines.index(line) < lines.index(user)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (None, "; spec_allow"),
        ([], " instructions"),
        (["SECCOMP_FILTER_FLAG_TSYNC"], " instructions"),
        (["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"], "; log,spec_allow"),
    ],
)
def test_flags(sh: Shell, bundle: BundleFactory, flags: list[str] | None, shown: str) -> None:
    profile = but(MKDIR, "SCMP_ACT_ERRNO")
    if flags is not None:
        profile["flags"] = flags
    made = bundle(under(profile))
    assert f"{shown}\n" in made.spec.explain(made.path)
    assert "not permitted" in refused(sh, under(profile))


@pytest.mark.usefixtures("agent")
def test_wait_killable(bundle: BundleFactory, root: Path, box: str, tmp_path: Path) -> None:
    profile = notifying(tmp_path, flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])
    made = bundle(under(profile), args=["sh", "-c", "mkdir /dev/shm/x 2>&1"])
    assert "new_listener,wait_killable_recv\n" in made.spec.explain(made.path)
    with Container.run(box, made, root=root, stdout=rsc.PIPE, text=True) as container:
        assert "out of domain" in container.init.communicate(timeout=60)[0]
    alone = {**but(MKDIR, "SCMP_ACT_ERRNO"), "flags": profile["flags"]}
    made = bundle(under(alone), args=["true"])
    assert "has no effect without SCMP_ACT_NOTIFY" in made.spec.explain(made.path)
