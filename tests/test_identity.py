"""Who the program is and what it may: ids, groups, capabilities, limits, privileges."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import conftest
import pytest

import rscontainer as rsc

if TYPE_CHECKING:
    from conftest import BundleFactory, Change, CommandLine, Shell


# Numbers of capabilities(7), as the kernel has them.
CHOWN, KILL, SETUID, NET_BIND_SERVICE, NET_RAW, SYS_RESOURCE = 0, 5, 7, 10, 13, 24
# Limits that the module resource does not name (getrlimit(2)).
LIMIT_NUMBERS = {
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}


def setting(**process: Any) -> Change:
    def change(spec: rsc.Spec) -> None:
        for name, value in process.items():
            setattr(spec.process, name, value)

    return change


def status(sh: Shell, change: Change | None = None) -> dict[str, str]:
    lines = sh("cat /proc/self/status", change).splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def bits(*capabilities: int) -> int:
    return sum(1 << capability for capability in capabilities)


def test_user_and_group(sh: Shell) -> None:
    found = status(sh, setting(user={"uid": 1234, "gid": 567}))
    assert found["Uid"].split() == ["1234"] * 4
    assert found["Gid"].split() == ["567"] * 4
    assert found["Groups"] == ""


def test_additional_groups_and_no_others(sh: Shell) -> None:
    found = status(sh, setting(user={"uid": 1, "gid": 2, "additionalGids": [9, 4, 60000]}))
    assert found["Groups"].split() == ["4", "9", "60000"]
    # Who may map but one group has given up setgroups(2) for that, and keeps those that there are.
    kept = os.getgroups() if conftest.ORDINARY else []
    found = status(sh, setting(user={"uid": 0, "gid": 0}))
    assert len(found["Groups"].split()) == len(kept)


@pytest.mark.parametrize(("umask", "shown"), [(None, "0022"), (0o077, "0077"), (0, "0000")])
def test_umask(sh: Shell, umask: int | None, shown: str) -> None:
    user = {"uid": 0, "gid": 0} if umask is None else {"uid": 0, "gid": 0, "umask": umask}
    assert status(sh, setting(user=user))["Umask"] == shown


def test_capability_sets_are_set_one_by_one(sh: Shell) -> None:
    found = status(
        sh,
        setting(
            user={"uid": 1000, "gid": 1000},
            capabilities={
                "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_RAW"],
                "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
                "inheritable": ["CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"],
                "effective": ["CAP_CHOWN"],
                "ambient": ["CAP_KILL"],
            },
        ),
    )
    assert int(found["CapBnd"], 16) == bits(CHOWN, KILL, SETUID, NET_RAW)
    assert int(found["CapInh"], 16) == bits(KILL, NET_RAW, SETUID)
    # An exec by a user who is not root leaves the ambient set alone (capabilities(7)).
    assert int(found["CapAmb"], 16) == bits(KILL)
    assert int(found["CapPrm"], 16) == bits(KILL)
    assert int(found["CapEff"], 16) == bits(KILL)


def test_root_gets_the_bounding_set_on_exec(sh: Shell) -> None:
    sets = {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": []}
    found = status(sh, setting(capabilities=sets))
    assert int(found["CapPrm"], 16) == int(found["CapEff"], 16) == bits(KILL)


def test_no_capabilities_asked_are_none_given(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        del spec.process.capabilities

    found = status(sh, change)
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {name: int(found[name], 16) for name in sets} == dict.fromkeys(sets, 0)


@pytest.mark.parametrize("name", ["effective", "inheritable"])
def test_capability_sets_that_exclude_each_other(sh: Shell, name: str) -> None:
    sets = {kind: ["CAP_KILL"] for kind in ("bounding", "permitted", "effective", "inheritable")}
    sets[name].append("CAP_SYS_ADMIN")
    with pytest.raises(rsc.SpecError, match=r"CAP_SYS_ADMIN must be in .* too, .*EPERM") as caught:
        status(sh, setting(capabilities=sets))
    assert caught.value.path == f"$.process.capabilities.{name}"
    assert caught.value.section == "config.md#linux-process"


def test_unknown_capabilities_are_ignored(sh: Shell) -> None:
    sets = {kind: ["CAP_KILL", "CAP_NEWER"] for kind in ("bounding", "permitted", "effective")}
    words = r"ignoring unknown or unavailable capabilities: \[CAP_NEWER\]"
    with pytest.warns(rsc.ConfigWarning, match=words):
        assert int(status(sh, setting(capabilities=sets))["CapBnd"], 16) == bits(KILL)


def test_capabilities_that_cannot_be_granted_are_left_out(sh: Shell) -> None:
    sets = {
        "bounding": ["CAP_KILL"],
        "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL", "CAP_SYS_ADMIN"],
    }
    with pytest.warns(rsc.ConfigWarning, match="CAP_SYS_ADMIN"):
        found = status(sh, setting(user={"uid": 5, "gid": 5}, capabilities=sets))
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[name], 16) == bits(KILL), name


def test_ambient_capabilities_work(sh: Shell) -> None:
    names = ("bounding", "permitted", "effective", "inheritable", "ambient")
    sets = {name: ["CAP_CHOWN"] for name in names}

    def change(spec: rsc.Spec) -> None:
        setting(user={"uid": 5, "gid": 5}, capabilities=sets)(spec)
        tmp = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
        spec.mounts = [*spec.mounts, tmp]

    assert sh("touch /tmp/a && chown 77:88 /tmp/a && stat -c %u:%g /tmp/a", change) == "77:88\n"


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(sh: Shell, wanted: bool) -> None:
    assert status(sh, setting(noNewPrivileges=wanted))["NoNewPrivs"] == str(int(wanted))


def test_limits(sh: Shell) -> None:
    names = {
        "RLIMIT_AS": "Max address space",
        "RLIMIT_CORE": "Max core file size",
        "RLIMIT_CPU": "Max cpu time",
        "RLIMIT_DATA": "Max data size",
        "RLIMIT_FSIZE": "Max file size",
        "RLIMIT_LOCKS": "Max file locks",
        "RLIMIT_MEMLOCK": "Max locked memory",
        "RLIMIT_MSGQUEUE": "Max msgqueue size",
        "RLIMIT_NICE": "Max nice priority",
        "RLIMIT_NOFILE": "Max open files",
        "RLIMIT_NPROC": "Max processes",
        "RLIMIT_RSS": "Max resident set",
        "RLIMIT_RTPRIO": "Max realtime priority",
        "RLIMIT_RTTIME": "Max realtime timeout",
        "RLIMIT_SIGPENDING": "Max pending signals",
        "RLIMIT_STACK": "Max stack size",
    }
    unlimited = (1 << 64) - 1
    values = {}
    for index, name in enumerate(names):
        # Without CAP_SYS_RESOURCE no hard limit can be raised.
        own = resource.getrlimit(getattr(resource, name, LIMIT_NUMBERS.get(name)))[1]
        own = unlimited if own == resource.RLIM_INFINITY else own
        hard = min(own, (40 << 20) + index * 4096)
        values[name] = {"soft": hard // 2, "hard": hard}
    values["RLIMIT_AS"] = {"soft": 1 << 40, "hard": unlimited}
    values["RLIMIT_NOFILE"] = {"soft": 64, "hard": 128}
    limits = [{"type": name, **value} for name, value in values.items()]
    shown = {}
    for line in sh("cat /proc/self/limits", setting(rlimits=limits)).splitlines()[1:]:
        shown[line[:26].strip()] = line[26:].split()[:2]
    for name, title in names.items():
        wanted = [
            "unlimited" if number == unlimited else str(number)
            for number in (values[name]["soft"], values[name]["hard"])
        ]
        assert shown[title] == wanted, name


def test_a_limit_on_descriptors_does_not_hinder_the_start(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    limits = [{"type": "RLIMIT_NOFILE", "soft": 4, "hard": 4}]

    def change(spec: rsc.Spec) -> None:
        setting(rlimits=limits, cwd="/tmp")(spec)

    made = bundle(change, args=["sh", "-c", "ulimit -n"])
    done = rsc.run(made, capture_output=True, text=True, root=root, timeout=60)
    assert (done.stdout, done.stderr) == ("4\n", "")
    with rsc.Container.create(box, made, root=root, stdout=rsc.PIPE) as container:
        container.start()
        assert container.init.communicate()[0] == b"4\n"


@pytest.mark.parametrize("score", [-500, 0, 700])
@pytest.mark.parametrize("user_namespace", [False, True])
def test_oom_score(sh: Shell, score: int, user_namespace: bool) -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    (effective,) = (int(line[7:], 16) for line in lines if line.startswith("CapEff:"))
    # A session of systemd's has one above 0.
    own = int(Path("/proc/self/oom_score_adj").read_text())
    if score < own and not effective & bits(SYS_RESOURCE):
        pytest.skip("lowering the OOM score needs CAP_SYS_RESOURCE, which this host does not give")

    def change(spec: rsc.Spec) -> None:
        spec.process.oomScoreAdj = score
        if user_namespace:
            conftest.user_namespace(spec)

    assert sh("cat /proc/self/oom_score_adj", change) == f"{score}\n"


def test_another_user_keeps_further_groups_and_umask(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine
) -> None:
    """As with runc."""
    user = {"uid": 1, "gid": 2, "additionalGids": [5, 6], "umask": 0o27}
    made = bundle(setting(user=user), args=["sleep", "60"])
    script = ["sh", "-c", "id -u; id -g; id -G; umask"]
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        with container.exec(script, user=33, stdout=rsc.PIPE, text=True) as process:
            assert process.stdout.read() == "33\n2\n2 5 6\n0027\n"
        shown = cli("exec", "-u", "33:44", "-g", "7", box, *script).stdout
        assert shown == "33\n44\n44 5 6 7\n0027\n"


def test_exec_has_an_identity_of_its_own(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(args=["sleep", "60"], several_ids=True)
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        script = "id -u; id -g; id -G; grep -E 'Cap(Bnd|Eff|Prm)|NoNew' /proc/self/status"
        shown = container.exec(["sh", "-c", script], user="33:44", stdout=rsc.PIPE, text=True)
        lines = shown.communicate()[0].split("\n")
    assert lines[:3] == ["33", "44", "44"]
    found = dict(line.split() for line in lines[3:] if line)
    assert int(found["CapBnd:"], 16) == bits(KILL, NET_BIND_SERVICE, 29)
    assert int(found["CapEff:"], 16) == int(found["CapPrm:"], 16) == 0
    assert found["NoNewPrivs:"] == "1"


def test_signals_are_at_their_defaults(bundle: BundleFactory, root: Path) -> None:
    # No shell, for it has signals of its own that it ignores.
    made = bundle(args=["grep", "^S", "/proc/self/status"])
    shown = rsc.run(made, capture_output=True, text=True, root=root, timeout=60).stdout
    found = dict(line.split(":\t") for line in shown.splitlines())
    for name in ("SigIgn", "SigBlk", "SigPnd", "SigCgt"):
        assert int(found[name], 16) == 0, name
