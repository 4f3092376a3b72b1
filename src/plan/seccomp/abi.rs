//! What a filter has to know of an architecture.

use oci_spec::runtime::Arch;

use super::table::{self, Row, TABLE, X};

/// `__X32_SYSCALL_BIT`
pub(super) const X32_BIT: u32 = 1 << 30;
/// `__ARM_NR_BASE`
const ARM_PRIVATE: u32 = 0x0f_0000;

/// The specification's constants and how they are printed; those of the table follow from these.
const NAMES: [(Arch, &str, usize); 23] = [
    (Arch::ScmpArchX86, "x86", table::X86),
    (Arch::ScmpArchX86_64, "x86_64", table::X86_64),
    (Arch::ScmpArchX32, "x32", table::X32),
    (Arch::ScmpArchArm, "arm", table::ARM),
    (Arch::ScmpArchAarch64, "aarch64", table::AARCH64),
    (Arch::ScmpArchMips, "mips", table::MIPS),
    (Arch::ScmpArchMips64, "mips64", table::MIPS64),
    (Arch::ScmpArchMips64n32, "mips64n32", table::MIPS64N32),
    (Arch::ScmpArchMipsel, "mipsel", table::MIPS),
    (Arch::ScmpArchMipsel64, "mipsel64", table::MIPS64),
    (Arch::ScmpArchMipsel64n32, "mipsel64n32", table::MIPS64N32),
    (Arch::ScmpArchPpc, "ppc", table::PPC),
    (Arch::ScmpArchPpc64, "ppc64", table::PPC64),
    (Arch::ScmpArchPpc64le, "ppc64le", table::PPC64),
    (Arch::ScmpArchS390, "s390", table::S390),
    (Arch::ScmpArchS390x, "s390x", table::S390X),
    (Arch::ScmpArchParisc, "parisc", table::PARISC),
    (Arch::ScmpArchParisc64, "parisc64", table::PARISC64),
    (Arch::ScmpArchRiscv64, "riscv64", table::RISCV64),
    (Arch::ScmpArchLoongarch64, "loongarch64", table::LOONGARCH64),
    (Arch::ScmpArchM68k, "m68k", table::M68K),
    (Arch::ScmpArchSh, "sh", table::SH),
    (Arch::ScmpArchSheb, "sheb", table::SH),
];

/// The calls that socketcall(2) multiplexes, by their number there.
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// The calls that ipc(2) multiplexes, and their numbers there.
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// An architecture, as one way of making system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abi {
    arch: Arch,
    pub(super) name: &'static str,
    column: usize,
}

impl Abi {
    /// None for a name that stands for no architecture of its own.
    pub(super) fn of(arch: Arch) -> Option<Self> {
        let (_, name, column) = *NAMES.iter().find(|(known, ..)| *known == arch)?;
        Some(Abi { arch, name, column })
    }

    /// What the kernel shows a filter, `AUDIT_ARCH_…`: x32 is an x86_64 with another bit in its
    /// numbers.
    pub(super) fn token(self) -> u32 {
        match self.arch {
            Arch::ScmpArchX32 => Arch::ScmpArchX86_64 as u32,
            arch => arch as u32,
        }
    }

    /// The one other architecture with the same token.
    pub(super) fn shares_token_with(self) -> Option<&'static str> {
        match self.arch {
            Arch::ScmpArchX32 => Some("x86_64"),
            Arch::ScmpArchX86_64 => Some("x32"),
            _ => None,
        }
    }

    /// Where calls of this architecture alone begin, far from the others.
    pub(super) fn private_from(self) -> Option<u32> {
        (self.column == table::ARM).then_some(ARM_PRIVATE)
    }

    /// Whether the lower half of a word of 64 bits comes first in memory.
    pub(super) fn is_little_endian(self) -> bool {
        self.token() & 0x4000_0000 != 0
    }

    /// Whether arguments have 64 bits. Those of x32 and n32 are compared as the 32 bits that their
    /// programs know of.
    pub(super) fn is_wide(self) -> bool {
        let n32 = self.column == table::MIPS64N32;
        self.token() & 0x8000_0000 != 0 && !n32 && self.arch != Arch::ScmpArchX32
    }

    /// Whether a call's number may be another's, which the kernel did not know, in disguise: svc 0
    /// of s390 takes the number from a register and leaves 0, setup(2)'s, where it is too large.
    pub(super) fn hides_large_numbers(self) -> bool {
        matches!(self.column, table::S390 | table::S390X)
    }

    /// The number of a call; none if it is not there.
    pub(super) fn number(self, row: &Row) -> Option<u32> {
        let number = row.get(self.column).copied().filter(|number| *number != X)?;
        Some(match (self.column, u32::from(number)) {
            (table::X32, number) => number | X32_BIT,
            (table::MIPS, number) => number + 4000,
            (table::MIPS64, number) => number + 5000,
            (table::MIPS64N32, number) => number + 6000,
            (table::ARM, number @ 0xf000..) => number - 0xf000 + ARM_PRIVATE,
            (_, number) => number,
        })
    }
}

/// A call by its name, looked up once for all architectures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) name: &'a str,
    pub(super) row: &'static Row,
    /// The call that does this one's work too, and its first argument then.
    pub(super) through: Option<(&'static Row, u64)>,
}

impl<'a> Call<'a> {
    /// None for a name that no architecture has.
    pub(super) fn find(name: &'a str) -> Option<Self> {
        Some(Call { name, row: row(name)?, through: through(name) })
    }
}

fn row(name: &str) -> Option<&'static Row> {
    let place = TABLE.binary_search_by_key(&name, |(name, _)| name).ok()?;
    TABLE.get(place).map(|(_, row)| row)
}

fn through(name: &str) -> Option<(&'static Row, u64)> {
    match SOCKET_CALLS.iter().position(|call| *call == name) {
        Some(place) => Some((row("socketcall")?, place as u64 + 1)),
        None => {
            let (_, code) = IPC_CALLS.iter().find(|(call, _)| *call == name)?;
            Some((row("ipc")?, *code))
        }
    }
}
