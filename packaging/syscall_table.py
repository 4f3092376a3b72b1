"""Writes src/plan/seccomp/table.rs from the kernel's headers for user space.

``syscall_table.py UAPI S390 > src/plan/seccomp/table.rs``, where ``UAPI`` is a folder of the
installed headers by architecture (``UAPI/x86/asm/unistd_64.h``, as Debian's linux-libc-dev has
them in /usr/lib/linux/uapi) and ``S390`` the asm/unistd_32.h of the last kernel that could run
programs of 31-bit s390.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# The column's constant, the header that it comes from.
COLUMNS = [
    ("X86_64", "x86/asm/unistd_64.h"),
    ("X32", "x86/asm/unistd_x32.h"),
    ("X86", "x86/asm/unistd_32.h"),
    ("AARCH64", "arm64/asm/unistd_64.h"),
    ("ARM", "arm/asm/unistd-eabi.h"),
    ("RISCV64", "riscv/asm/unistd_64.h"),
    ("LOONGARCH64", "loongarch/asm/unistd_64.h"),
    ("PPC64", "powerpc/asm/unistd_64.h"),
    ("PPC", "powerpc/asm/unistd_32.h"),
    ("S390X", "s390/asm/unistd_64.h"),
    ("S390", None),
    ("MIPS64", "mips/asm/unistd_n64.h"),
    ("MIPS64N32", "mips/asm/unistd_n32.h"),
    ("MIPS", "mips/asm/unistd_o32.h"),
    ("M68K", "m68k/asm/unistd_32.h"),
    ("SH", "sh/asm/unistd_32.h"),
    ("PARISC64", "parisc/asm/unistd_64.h"),
    ("PARISC", "parisc/asm/unistd_32.h"),
]
# A number, or one past a base that the architecture has for all its calls.
CALL = re.compile(r"^#define __NR_(\w+)\s+\(?(?:__\w+ \+ )?(\d+)\)?\s*$", re.MULTILINE)
PRIVATE = re.compile(r"^#define __ARM_NR_(\w+)\s+\(__ARM_NR_BASE\+(\d+)\)", re.MULTILINE)
ARM_PRIVATE = 0xF000
# Since Linux 5.1 a new call has the same number everywhere: the first of them, and the first that
# 31-bit s390 never had.
UNIFORM = range(424, 470)
NO_CALLS = re.compile(r"(unused|reserved)\d*|syscalls|arch_specific_syscall|Linux\w*")


def calls(text: str) -> dict[str, int]:
    found = {name: int(number) for name, number in CALL.findall(text)}
    return {name: number for name, number in found.items() if not NO_CALLS.fullmatch(name)}


def tables(uapi: Path, s390: Path) -> dict[str, dict[str, int]]:
    found = {column: calls((uapi / header).read_text()) for column, header in COLUMNS if header}
    for name, number in PRIVATE.findall((uapi / "arm/asm/unistd.h").read_text()):
        found["ARM"][name] = ARM_PRIVATE + int(number)
    newer = {name: number for name, number in found["S390X"].items() if number in UNIFORM}
    found["S390"] = {**newer, **calls(s390.read_text())}
    return found


def main() -> None:
    uapi, s390 = map(Path, sys.argv[1:])
    by_column = tables(uapi, s390)
    names = sorted(set().union(*by_column.values()))
    print(HEADER, end="")
    for index, (column, _) in enumerate(COLUMNS):
        print(f"pub(super) const {column}: usize = {index};")
    print(f"\n#[rustfmt::skip]\npub(super) static TABLE: [(&str, Row); {len(names)}] = [")
    for name in names:
        numbers = [by_column[column].get(name) for column, _ in COLUMNS]
        row = ",".join("X" if number is None else str(number) for number in numbers)
        print(f'    ("{name}", [{row}]),')
    print("];")


HEADER = """\
//! The numbers of system calls: data, written by packaging/syscall_table.py.
//!
//! From the headers of Linux 7.2 (Debian's linux-libc-dev 7.2.13), those of 31-bit s390, which
//! that one cannot run any more, from Linux 6.1.

/// A call's number on each architecture: `X` where it has none.
///
/// Without the bit of x32 and the bases of MIPS; Arm's private calls count from 0xf000.
pub(super) type Row = [u16; 18];

/// Not there.
pub(super) const X: u16 = u16::MAX;

"""

if __name__ == "__main__":
    main()
