"""Compiles a profile as runc does, with libseccomp: JSON in, the BPF program and numbers out.

Run by tests/seccomp.rs, which compares the program with this runtime's; ``LIBSECCOMP`` names
another library than the system's. One profile a line; an answer is a line of JSON, null where
libseccomp refuses the profile.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from ctypes import c_int, c_uint, c_uint32, c_uint64, c_void_p
from typing import Any

ACTIONS = {
    "KILL": 0,
    "KILL_THREAD": 0,
    "KILL_PROCESS": 0x80000000,
    "TRAP": 0x00030000,
    "ERRNO": 0x00050000,
    "NOTIFY": 0x7FC00000,
    "TRACE": 0x7FF00000,
    "LOG": 0x7FFC0000,
    "ALLOW": 0x7FFF0000,
}
OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}


class Argument(ctypes.Structure):
    _fields_ = [("arg", c_uint), ("op", c_int), ("a", c_uint64), ("b", c_uint64)]


def load() -> Any:
    library = ctypes.CDLL(os.environ.get("LIBSECCOMP", "libseccomp.so.2"))
    library.seccomp_init.restype = c_void_p
    library.seccomp_init.argtypes = [c_uint32]
    library.seccomp_release.argtypes = [c_void_p]
    library.seccomp_arch_resolve_name.restype = c_uint32
    library.seccomp_arch_native.restype = c_uint32
    library.seccomp_arch_add.argtypes = [c_void_p, c_uint32]
    library.seccomp_attr_set.argtypes = [c_void_p, c_int, c_uint32]
    library.seccomp_syscall_resolve_name_arch.argtypes = [c_uint32, ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [c_void_p, c_uint32, c_int, c_uint, c_void_p]
    library.seccomp_export_bpf.argtypes = [c_void_p, c_int]
    return library


def action(name: str, errno: int | None) -> int:
    name = name.removeprefix("SCMP_ACT_")
    data = (1 if errno is None else errno) if name in {"ERRNO", "TRACE"} else 0
    return ACTIONS[name] | data


def compiled(library: Any, profile: dict[str, Any]) -> dict[str, Any] | None:
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    native = library.seccomp_arch_native()
    archs = {native}
    try:
        for name in profile.get("architectures", []):
            short = name.removeprefix("SCMP_ARCH_").lower()
            token = library.seccomp_arch_resolve_name(short.encode())
            archs.add(token)
            if library.seccomp_arch_add(context, token) not in {0, -17}:
                return None
        if profile.get("optimize"):
            library.seccomp_attr_set(context, 8, 2)
        for rule in profile["syscalls"]:
            if not add(library, context, default, rule):
                return None
        with tempfile.TemporaryFile() as file:
            if library.seccomp_export_bpf(context, file.fileno()) != 0:
                return None
            file.seek(0)
            program = file.read()
    finally:
        library.seccomp_release(context)
    names = sorted({name for rule in profile["syscalls"] for name in rule["names"]})
    resolve = library.seccomp_syscall_resolve_name_arch
    numbers = {arch: {name: resolve(arch, name.encode()) for name in names} for arch in archs}
    return {"program": program.hex(), "numbers": numbers}


def add(library: Any, context: int, default: int, rule: dict[str, Any]) -> bool:
    answer = action(rule["action"], rule.get("errnoRet"))
    if answer == default:
        return True
    arguments = [
        Argument(
            one["index"],
            OPERATORS[one["op"].removeprefix("SCMP_CMP_")],
            one["value"],
            one.get("valueTwo", 0),
        )
        for one in rule.get("args", [])
    ]
    once = len({one.arg for one in arguments}) == len(arguments)
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            continue
        for some in [arguments] if once else [[one] for one in arguments]:
            array = (Argument * len(some))(*some)
            if library.seccomp_rule_add_array(context, answer, number, len(some), array) != 0:
                return False
    return True


def main() -> None:
    library = load()
    for line in sys.stdin:
        print(json.dumps(compiled(library, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
