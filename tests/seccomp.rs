//! What compiled filters answer: run by an interpreter of the kernel's virtual machine, compared
//! with what the config says, and with what libseccomp makes of random configs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use oci_spec::runtime::Arch;
use rscontainer::cgroup::Hierarchies;
use rscontainer::plan::seccomp::{Filter, Support};
use rscontainer::plan::step::{StartSignal, Step};
use rscontainer::plan::{Facts, Plan, SecurityModules, Situation};
use rscontainer::spec;
use rscontainer::sys::seccomp::{Instruction, answer};
use serde_json::{Value, json};

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;
const X32: u32 = 1 << 30;
const ENOSYS: u32 = answer::ERRNO | libc::ENOSYS as u32;
const EPERM: u32 = answer::ERRNO | libc::EPERM as u32;

fn compile_on(native: Arch, seccomp: &Value) -> Result<(Filter, Vec<String>), String> {
    let config = json!({
        "ociVersion": "1.3.0",
        "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}], "seccomp": seccomp},
    });
    let (spec, _) = spec::check(config.to_string().as_bytes()).map_err(|e| e.to_string())?;
    let facts = Facts {
        hierarchies: Hierarchies::parse("", ""),
        rootless: false,
        uid: 0,
        gid: 0,
        setgroups: true,
        capabilities: u64::MAX,
        seccomp: Support { native: Some(native), ..Support::full() },
        modules: SecurityModules::default(),
        resctrl: None,
    };
    let situation = Situation::new("box", "/bundle", StartSignal::Parent);
    let plan = Plan::compile(&spec, &facts, &situation).map_err(|e| e.to_string())?;
    let warnings = plan.warnings;
    let filter = plan.steps.into_iter().find_map(|planned| match planned.step {
        Step::LoadFilter(filter) => Some(filter),
        _ => None,
    });
    Ok((filter.unwrap(), warnings))
}

fn compile(seccomp: &Value) -> Filter {
    let (filter, warnings) = compile_on(Arch::ScmpArchX86_64, seccomp).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    filter
}

/// One call as a filter sees it.
#[derive(Debug, Clone, Copy)]
struct Call {
    arch: u32,
    number: u32,
    args: [u64; 6],
    little_endian: bool,
}

impl Call {
    fn new(arch: u32, number: u32, args: [u64; 6]) -> Self {
        Call { arch, number, args, little_endian: arch & 0x4000_0000 != 0 }
    }

    fn is_wide(&self) -> bool {
        self.arch & 0x8000_0000 != 0 && (self.arch != X86_64 || self.number & X32 == 0)
    }

    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 => {
                let argument = self.args[(offset as usize - 16) / 8];
                let first = offset.is_multiple_of(8);
                if first == self.little_endian { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("a load of {offset}"),
        }
    }
}

/// Runs a program as the kernel does, having checked it as the kernel does.
fn run(program: &[Instruction], call: Call) -> u32 {
    assert!(!program.is_empty() && program.len() <= 4096);
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let Instruction { code, then, otherwise, operand } = program[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { then } else { otherwise });
        match code {
            0x20 => accumulator = call.word(operand),
            0x54 => accumulator &= operand,
            0x05 => at += operand as usize,
            0x15 => branch(accumulator == operand),
            0x25 => branch(accumulator > operand),
            0x35 => branch(accumulator >= operand),
            0x45 => branch(accumulator & operand != 0),
            0x06 => return operand,
            _ => panic!("code {code:#x}"),
        }
    }
}

fn says(filter: &Filter, arch: u32, number: u32, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    run(&filter.program, Call::new(arch, number, all))
}

fn rule(names: &[&str], action: &str) -> Value {
    json!({"names": names, "action": format!("SCMP_ACT_{action}")})
}

fn rule_if(names: &[&str], action: &str, args: &[(u64, &str, u64, u64)]) -> Value {
    let mut rule = rule(names, action);
    let args: Vec<_> = args
        .iter()
        .map(|(index, op, value, two)| {
            let op = format!("SCMP_CMP_{op}");
            json!({"index": index, "op": op, "value": value, "valueTwo": two})
        })
        .collect();
    rule["args"] = Value::Array(args);
    rule
}

fn profile(default: &str, rules: &[Value]) -> Value {
    json!({"defaultAction": format!("SCMP_ACT_{default}"), "syscalls": rules})
}

#[test]
fn every_action_has_its_answer() {
    let actions = [
        ("KILL", answer::KILL_THREAD),
        ("KILL_THREAD", answer::KILL_THREAD),
        ("KILL_PROCESS", answer::KILL_PROCESS),
        ("TRAP", answer::TRAP),
        ("ERRNO", EPERM),
        ("TRACE", answer::TRACE | 1),
        ("LOG", answer::LOG),
        ("NOTIFY", answer::USER_NOTIF),
    ];
    for (action, expected) in actions {
        let mut profile = profile("ALLOW", &[rule(&["mkdir"], action)]);
        profile["listenerPath"] = json!("/agent");
        let filter = compile(&profile);
        assert_eq!(says(&filter, X86_64, 83, &[]), expected, "{action}");
        assert_eq!(says(&filter, X86_64, 84, &[]), answer::ALLOW);
        assert_eq!(filter.notifies(), action == "NOTIFY");
    }
    let mut profile = profile("ERRNO", &[rule(&["mkdir"], "TRACE")]);
    profile["defaultErrnoRet"] = json!(13);
    profile["syscalls"][0]["errnoRet"] = json!(77);
    let filter = compile(&profile);
    assert_eq!(says(&filter, X86_64, 83, &[]), answer::TRACE | 77);
    assert_eq!(says(&filter, X86_64, 0, &[]), answer::ERRNO | 13);
}

#[test]
fn what_the_profile_does_not_know_yet_is_not_there() {
    let filter = compile(&profile("ERRNO", &[rule(&["read", "statx"], "ALLOW")]));
    assert_eq!(says(&filter, X86_64, 331, &[]), EPERM);
    assert_eq!(says(&filter, X86_64, 332, &[]), answer::ALLOW);
    assert_eq!(says(&filter, X86_64, 333, &[]), ENOSYS);
    assert_eq!(says(&filter, X86_64, X32 - 1, &[]), ENOSYS);
    // What is named only to be refused is known too.
    let rules = [rule(&["read"], "ALLOW"), rule(&["statx"], "ERRNO")];
    let filter = compile(&profile("ERRNO", &rules));
    assert_eq!(says(&filter, X86_64, 332, &[]), EPERM);
    assert_eq!(says(&filter, X86_64, 333, &[]), ENOSYS);
    for (default, expected) in [("KILL", ENOSYS), ("TRAP", ENOSYS), ("LOG", answer::LOG)] {
        let filter = compile(&profile(default, &[rule(&["statx"], "ALLOW")]));
        assert_eq!(says(&filter, X86_64, 333, &[]), expected, "{default}");
    }
    let filter = compile(&profile("KILL_PROCESS", &[]));
    assert_eq!(says(&filter, X86_64, 4000, &[]), answer::KILL_PROCESS);
}

#[test]
fn architectures_have_their_own_numbers() {
    let mut profile = profile("ERRNO", &[rule(&["mkdir", "statx", "mkdirat"], "ALLOW")]);
    let filter = compile(&profile);
    assert_eq!(says(&filter, X86_64, 83, &[]), answer::ALLOW);
    assert_eq!(says(&filter, X86_64, 83 | X32, &[]), answer::KILL_THREAD);
    // What a tracer leaves to have a call skipped.
    assert_eq!(says(&filter, X86_64, u32::MAX, &[]), EPERM);
    assert_eq!(says(&filter, X86, 39, &[]), answer::KILL_THREAD);
    profile["architectures"] = json!(["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"]);
    let filter = compile(&profile);
    let allowed =
        [(X86_64, 83), (X86_64, 83 | X32), (X86, 39), (X86, 383), (AARCH64, 34), (AARCH64, 291)];
    for (arch, number) in allowed {
        assert_eq!(says(&filter, arch, number, &[]), answer::ALLOW, "{arch:#x} {number}");
        assert_eq!(says(&filter, arch, number - 1, &[]), EPERM, "{arch:#x} {number}");
    }
    assert_eq!(says(&filter, X86_64, 333 | X32, &[]), ENOSYS);
    assert_eq!(says(&filter, AARCH64, 292, &[]), ENOSYS);
    assert_eq!(says(&filter, 0xc000_00f3, 0, &[]), answer::KILL_THREAD);
}

#[test]
fn numbers_that_start_elsewhere() {
    let on = |native, profile: &Value| compile_on(native, profile).unwrap().0;
    let profile = profile("ERRNO", &[rule(&["read", "cacheflush", "openat"], "ALLOW")]);
    let mips = on(Arch::ScmpArchMips64, &profile);
    assert_eq!(says(&mips, 0x8000_0008, 5000, &[]), answer::ALLOW);
    assert_eq!(says(&mips, 0x8000_0008, 0, &[]), EPERM);
    // Arm's private calls are neither beyond the profile nor is all before them known.
    let arm = on(Arch::ScmpArchArm, &profile);
    for (number, expected) in
        [(3, answer::ALLOW), (0xf_0002, answer::ALLOW), (0xf_0003, EPERM), (323, ENOSYS)]
    {
        assert_eq!(says(&arm, 0x4000_0028, number, &[]), expected, "{number:#x}");
    }
    // 0 is what a number that the kernel does not know looks like there.
    let s390x = on(Arch::ScmpArchS390x, &profile);
    assert_eq!(says(&s390x, 0x8000_0016, 0, &[]), ENOSYS);
    assert_eq!(says(&s390x, 0x8000_0016, 1, &[]), EPERM);
}

#[test]
fn both_halves_of_an_argument_count() {
    const V: u64 = 0x1_0000_0005;
    let values = [0, 5, 6, V - 1, V, V + 1, V + (1 << 32), V << 1, u64::MAX, 1 << 32, 4];
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("EQ", |a, b| a == b),
        ("GE", |a, b| a >= b),
        ("GT", |a, b| a > b),
    ];
    // On a big-endian machine the halves change places.
    for (native, arch, number) in
        [(Arch::ScmpArchX86_64, X86_64, 135), (Arch::ScmpArchS390x, 0x8000_0016, 136)]
    {
        for (operator, holds) in operators {
            let asked = rule_if(&["personality"], "LOG", &[(3, operator, V, 0)]);
            let (filter, _) = compile_on(native, &profile("ALLOW", &[asked])).unwrap();
            for value in values {
                let expected = if holds(value, V) { answer::LOG } else { answer::ALLOW };
                let said = says(&filter, arch, number, &[0, 0, 0, value]);
                assert_eq!(said, expected, "{value:#x} {operator}");
            }
        }
        for (mask, two) in [(0xf_0000_000f, V), (0xff, 5), (0xff00_0000_0000_0000, 0), (0, 0)] {
            let asked = rule_if(&["personality"], "LOG", &[(0, "MASKED_EQ", mask, two)]);
            let (filter, _) = compile_on(native, &profile("ALLOW", &[asked])).unwrap();
            for value in values {
                let holds = value & mask == two & mask;
                let expected = if holds { answer::LOG } else { answer::ALLOW };
                assert_eq!(says(&filter, arch, number, &[value]), expected, "{value:#x} {mask:#x}");
            }
        }
    }
}

#[test]
fn conditions_of_a_rule_and_rules_of_a_call() {
    let both = rule_if(&["ioctl"], "ALLOW", &[(0, "EQ", 1, 0), (2, "GT", 5, 0)]);
    let other = rule_if(&["ioctl"], "ALLOW", &[(1, "EQ", 7, 0)]);
    let filter = compile(&profile("ERRNO", &[both, other.clone()]));
    for (args, expected) in [
        ([1, 0, 6], answer::ALLOW),
        ([1, 0, 5], EPERM),
        ([2, 0, 6], EPERM),
        ([2, 7, 0], answer::ALLOW),
    ] {
        assert_eq!(says(&filter, X86_64, 16, &args), expected, "{args:?}");
    }
    // One without conditions decides, wherever it stands.
    let all = rule(&["ioctl"], "LOG");
    for rules in [[other.clone(), all.clone()], [all.clone(), other.clone()]] {
        let (filter, warnings) =
            compile_on(Arch::ScmpArchX86_64, &profile("ERRNO", &rules)).unwrap();
        assert_eq!(says(&filter, X86_64, 16, &[0, 7]), answer::LOG);
        assert!(warnings[0].contains("the first without args decides"), "{warnings:?}");
    }
    // Of two without conditions the first, and not a word: profiles of engines have such.
    let twice = [all, rule(&["ioctl"], "KILL_PROCESS")];
    let (filter, warnings) = compile_on(Arch::ScmpArchX86_64, &profile("ERRNO", &twice)).unwrap();
    assert_eq!(says(&filter, X86_64, 16, &[]), answer::LOG);
    assert!(warnings.is_empty(), "{warnings:?}");
    // Two on one argument are alternatives.
    let twice = rule_if(&["ioctl"], "ALLOW", &[(1, "EQ", 7, 0), (1, "EQ", 8, 0)]);
    let (filter, warnings) = compile_on(Arch::ScmpArchX86_64, &profile("ERRNO", &[twice])).unwrap();
    assert_eq!(says(&filter, X86_64, 16, &[0, 8]), answer::ALLOW);
    assert!(warnings[0].contains("any of them"), "{warnings:?}");
    // The exact value comes before the range.
    let exact = rule_if(&["ioctl"], "LOG", &[(1, "EQ", 7, 0)]);
    let range = rule_if(&["ioctl"], "ALLOW", &[(1, "GE", 5, 0)]);
    for rules in [[exact.clone(), range.clone()], [range, exact]] {
        let filter = compile(&profile("ERRNO", &rules));
        assert_eq!(says(&filter, X86_64, 16, &[0, 7]), answer::LOG);
        assert_eq!(says(&filter, X86_64, 16, &[0, 6]), answer::ALLOW);
        assert_eq!(says(&filter, X86_64, 16, &[0, 4]), EPERM);
    }
    let error = compile_on(
        Arch::ScmpArchX86_64,
        &profile("ERRNO", &[other, rule_if(&["ioctl"], "LOG", &[(1, "EQ", 7, 0)])]),
    );
    assert!(error.unwrap_err().starts_with("$.linux.seccomp.syscalls[1]: another rule"));
}

#[test]
fn calls_made_through_another_one() {
    let mut profile = profile("ERRNO", &[rule(&["socket", "shmget"], "ALLOW")]);
    profile["architectures"] = json!(["SCMP_ARCH_X86"]);
    let filter = compile(&profile);
    assert_eq!(says(&filter, X86, 359, &[]), answer::ALLOW);
    assert_eq!(says(&filter, X86, 102, &[1]), answer::ALLOW);
    assert_eq!(says(&filter, X86, 102, &[2]), EPERM);
    assert_eq!(says(&filter, X86, 117, &[23]), answer::ALLOW);
    assert_eq!(says(&filter, X86, 117, &[24]), EPERM);
}

#[test]
fn what_cannot_be_had_is_said() {
    let refused = |profile: &Value, native| compile_on(native, profile).unwrap_err();
    let conditions: Vec<_> =
        (0..1500).map(|value| rule_if(&["ioctl"], "ALLOW", &[(1, "EQ", value << 20, 0)])).collect();
    let error = refused(&profile("ERRNO", &conditions), Arch::ScmpArchX86_64);
    assert!(error.contains("compiles to more than the 4096 that the kernel takes"), "{error}");
    let mut foreign = profile("ERRNO", &[rule(&["read"], "ALLOW")]);
    foreign["architectures"] = json!(["SCMP_ARCH_S390X", "SCMP_ARCH_X86_64"]);
    let (_, warnings) = compile_on(Arch::ScmpArchX86_64, &foreign).unwrap();
    assert!(warnings[0].contains("SCMP_ARCH_S390X is left out"), "{warnings:?}");
    let misspelt = profile("ERRNO", &[rule(&["raed"], "ALLOW")]);
    let (_, warnings) = compile_on(Arch::ScmpArchX86_64, &misspelt).unwrap();
    assert!(warnings[0].contains("no system call is called \"raed\""), "{warnings:?}");
}

#[test]
fn every_architecture_of_the_specification_is_known() {
    let names = [
        "X86",
        "X86_64",
        "X32",
        "ARM",
        "AARCH64",
        "MIPS",
        "MIPS64",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64",
        "MIPSEL64N32",
        "PPC",
        "PPC64",
        "PPC64LE",
        "S390",
        "S390X",
        "PARISC",
        "PARISC64",
        "RISCV64",
        "LOONGARCH64",
        "M68K",
        "SH",
        "SHEB",
    ];
    let mut profile = profile("ERRNO", &[rule(&["read", "openat"], "ALLOW")]);
    for name in names {
        let name = format!("SCMP_ARCH_{name}");
        let native: Arch = serde_json::from_value(json!(name)).unwrap();
        profile["architectures"] = json!([name]);
        let (filter, warnings) = compile_on(native, &profile).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        let allowed = (0..8000).filter(|number| {
            let number = if name.ends_with("X32") { number | X32 } else { *number };
            let token = if name.ends_with("X32") { X86_64 } else { native as u32 };
            says(&filter, token, number, &[]) == answer::ALLOW
        });
        assert_eq!(allowed.count(), 2, "{name}");
    }
}

/// xorshift64*: the same profiles at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }

    fn value(&mut self) -> u64 {
        match self.below(5) {
            0 => self.next(),
            1 => self.next() & 0xffff_ffff,
            2 => self.below(4) as u64 | (self.below(3) as u64) << 32,
            3 => u64::from(self.below(3) == 0) << 32,
            _ => self.below(8) as u64,
        }
    }

    fn condition(&mut self) -> (u64, &'static str, u64, u64) {
        let operator = self.pick(&["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ", "EQ"]);
        let two = if operator == "MASKED_EQ" { self.value() } else { 0 };
        (self.below(6) as u64, operator, self.value(), two)
    }

    /// Actions differ between calls, and between the rules of one call only with `mixed`.
    fn profile(&mut self, mixed: bool) -> Value {
        const NAMES: [&str; 30] = [
            "read",
            "write",
            "open",
            "openat",
            "close",
            "stat",
            "mmap",
            "mmap2",
            "ioctl",
            "clone",
            "clone3",
            "personality",
            "socket",
            "accept4",
            "sendmsg",
            "semop",
            "shmget",
            "msgctl",
            "socketcall",
            "ipc",
            "futex",
            "futex_time64",
            "statx",
            "execve",
            "prctl",
            "mount",
            "no_such_call",
            "setns",
            "arch_prctl",
            "unlinkat",
        ];
        const ACTIONS: [&str; 7] =
            ["ALLOW", "ERRNO", "KILL_THREAD", "KILL_PROCESS", "TRAP", "LOG", "TRACE"];
        let default = self.pick(&ACTIONS);
        let mut rules = Vec::new();
        for _ in 0..self.below(14) {
            let names: Vec<_> = (0..=self.below(4)).map(|_| self.pick(&NAMES)).collect();
            let action = if mixed { self.pick(&ACTIONS) } else { "LOG" };
            let conditions: Vec<_> = match self.below(3) {
                0 => Vec::new(),
                _ => (0..=self.below(2)).map(|_| self.condition()).collect(),
            };
            rules.push(rule_if(&names, action, &conditions));
        }
        let mut profile = profile(default, &rules);
        let archs = ["X86", "X86_64", "X32", "AARCH64", "RISCV64", "ARM", "MIPSEL", "PPC64LE"];
        let archs: Vec<_> =
            (0..self.below(5)).map(|_| format!("SCMP_ARCH_{}", self.pick(&archs))).collect();
        profile["architectures"] = json!(archs);
        profile["optimize"] = json!(self.below(2) == 1);
        profile
    }
}

/// What the library says, after what runc puts before its program.
struct Reference {
    program: Vec<Instruction>,
    /// Of the names, by architecture.
    numbers: Vec<(u32, BTreeMap<String, i64>)>,
    stub: bool,
}

impl Reference {
    fn of(answer: &Value, profile: &Value) -> Self {
        let hex = answer["program"].as_str().unwrap().as_bytes();
        let bytes: Vec<u8> = hex
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let program = bytes
            .chunks(8)
            .map(|bytes| Instruction {
                code: u16::from_le_bytes([bytes[0], bytes[1]]),
                then: bytes[2],
                otherwise: bytes[3],
                operand: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            })
            .collect();
        let numbers = answer["numbers"].as_object().unwrap();
        let numbers = numbers
            .iter()
            .map(|(arch, names)| {
                (arch.parse().unwrap(), serde_json::from_value(names.clone()).unwrap())
            })
            .collect();
        let default = profile["defaultAction"].as_str().unwrap();
        let lenient = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];
        Reference { program, numbers, stub: !lenient.contains(&default) }
    }

    fn numbers(&self, call: Call) -> Option<&BTreeMap<String, i64>> {
        // The library calls x32 by a number that the kernel does not have.
        let is_x32 = call.arch == X86_64 && call.number & X32 != 0 && call.number != u32::MAX;
        let arch = if is_x32 { 0x4000_003e } else { call.arch };
        self.numbers.iter().find(|(known, _)| *known == arch).map(|(_, numbers)| numbers)
    }

    /// None where the two need not agree.
    fn says(&self, call: Call) -> Option<u32> {
        let numbers = || self.numbers(call).into_iter().flat_map(BTreeMap::values).copied();
        let largest = numbers().max().filter(|largest| *largest >= 0);
        if !self.stub || largest.is_some_and(|largest| i64::from(call.number) <= largest) {
            return Some(run(&self.program, call));
        }
        // The library has no number for what goes through socketcall(2) and ipc(2) too, so that
        // runc refuses the direct calls, allowed or not; nor are Arm's private calls beyond the
        // profile here.
        let multiplexes = numbers().any(|number| (-300..=-100).contains(&number));
        let skipped = matches!((call.arch, call.number), (X86_64, u32::MAX) | (ARM, 0xf_0000..));
        if multiplexes || skipped {
            return None;
        }
        Some(if largest.is_some() { ENOSYS } else { run(&self.program, call) })
    }

    /// What the config itself says, where its rules for the call have but one action: a rule
    /// without conditions decides, else the ones that hold.
    fn config_says(&self, profile: &Value, call: Call, default: u32) -> Option<u32> {
        let names = self.numbers(call).into_iter().flatten();
        let names: Vec<_> = names
            .filter(|(_, number)| **number == i64::from(call.number))
            .map(|(n, _)| n)
            .collect();
        let action = |rule: &Value| match rule["action"].as_str().unwrap() {
            "SCMP_ACT_KILL_PROCESS" => answer::KILL_PROCESS,
            "SCMP_ACT_KILL_THREAD" => answer::KILL_THREAD,
            "SCMP_ACT_TRAP" => answer::TRAP,
            "SCMP_ACT_ERRNO" => EPERM,
            "SCMP_ACT_TRACE" => answer::TRACE | 1,
            "SCMP_ACT_LOG" => answer::LOG,
            _ => answer::ALLOW,
        };
        let names_it = |rule: &&Value| {
            let mut named = rule["names"].as_array().unwrap().iter().filter_map(Value::as_str);
            named.any(|name| names.iter().any(|other| *other == name)) && action(rule) != default
        };
        let rules = || profile["syscalls"].as_array().unwrap().iter().filter(names_it);
        if let Some(first) = rules().find(|rule| rule["args"].as_array().unwrap().is_empty()) {
            return Some(action(first));
        }
        let holds = |rule: &&Value| {
            let args = rule["args"].as_array().unwrap();
            let index = |arg: &Value| arg["index"].as_u64().unwrap() as usize;
            let mut indices: Vec<_> = args.iter().map(index).collect();
            indices.sort_unstable();
            indices.dedup();
            let mut held = args.iter().map(|arg| {
                let (value, two) =
                    (arg["value"].as_u64().unwrap(), arg["valueTwo"].as_u64().unwrap());
                let keep = if call.is_wide() { u64::MAX } else { u64::from(u32::MAX) };
                let (is, value, two) = (call.args[index(arg)] & keep, value & keep, two & keep);
                match arg["op"].as_str().unwrap() {
                    "SCMP_CMP_NE" => is != value,
                    "SCMP_CMP_LT" => is < value,
                    "SCMP_CMP_LE" => is <= value,
                    "SCMP_CMP_EQ" => is == value,
                    "SCMP_CMP_GE" => is >= value,
                    "SCMP_CMP_GT" => is > value,
                    _ => is & value == two & value,
                }
            });
            if indices.len() == args.len() { held.all(|it| it) } else { held.any(|it| it) }
        };
        let mut actions: Vec<_> = rules().filter(holds).map(action).collect();
        actions.dedup();
        match actions[..] {
            [] => Some(default),
            [one] => Some(one),
            _ => None,
        }
    }
}

#[test]
fn libseccomp_says_the_same() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp_reference.py");
    let started = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut reference) = started else {
        eprintln!("skipped: this host has no python3");
        return;
    };
    let mut questions = reference.stdin.take().unwrap();
    let mut answers = BufReader::new(reference.stdout.take().unwrap()).lines();
    let count = std::env::var("PROFILES").map_or(300, |count| count.parse().unwrap());
    let mut random = Random(0x5eed);
    let (mut compared, mut calls, mut misread) = (0, 0, 0);
    let mut wrong = Vec::new();
    for index in 0..count {
        let profile = random.profile(index % 8 == 7);
        if writeln!(questions, "{profile}").is_err() {
            break;
        }
        let Some(Ok(answer)) = answers.next() else { break };
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let mut config = profile.clone();
        config.as_object_mut().unwrap().remove("optimize");
        let ours = compile_on(Arch::ScmpArchX86_64, &config);
        let (false, Ok((filter, _))) = (answer.is_null(), &ours) else { continue };
        let reference = Reference::of(&answer, &profile);
        compared += 1;
        let default = run(&filter.program, Call::new(X86_64, u32::MAX, [0; 6]));
        for call in questions_about(&reference, &profile, &mut random) {
            calls += 1;
            let Some(theirs) = reference.says(call) else { continue };
            let ours = run(&filter.program, call);
            if ours == theirs {
                continue;
            }
            // Where alternatives on one argument differ in their upper halves, the library merges
            // what it should not; then the config itself decides.
            if reference.config_says(&profile, call, default) != Some(ours) {
                wrong.push(format!("{call:x?}: {ours:#x}, libseccomp {theirs:#x}\n{profile}"));
                break;
            }
            misread += 1;
        }
    }
    drop(questions);
    reference.wait().unwrap();
    if compared == 0 {
        eprintln!("skipped: this host has no libseccomp");
        return;
    }
    eprintln!(
        "{compared} profiles, {calls} calls compared, {misread} misread by it, {} wrong",
        wrong.len()
    );
    assert!(
        wrong.is_empty(),
        "{} of {compared}\n{}",
        wrong.len(),
        wrong[..wrong.len().min(3)].join("\n")
    );
}

/// Calls near everything that the profile speaks of.
fn questions_about(reference: &Reference, profile: &Value, random: &mut Random) -> Vec<Call> {
    let conditions: Vec<(usize, u64)> = profile["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|rule| rule["args"].as_array().unwrap())
        .flat_map(|argument| {
            let index = argument["index"].as_u64().unwrap() as usize;
            [
                (index, argument["value"].as_u64().unwrap()),
                (index, argument["valueTwo"].as_u64().unwrap()),
            ]
        })
        .collect();
    let mut calls = Vec::new();
    for (arch, numbers) in &reference.numbers {
        let token = if *arch == 0x4000_003e { X86_64 } else { *arch };
        let named = numbers.values().filter(|number| **number >= 0).map(|number| *number as u32);
        let near = named.flat_map(|number| [number, number + 1, number.saturating_sub(1)]);
        for number in near.chain([0, 102, 117, u32::MAX, X32, X32 - 1, X32 + 200, 600]) {
            for _ in 0..8 {
                let mut args = [0; 6].map(|_: u64| random.value());
                for _ in 0..conditions.len().min(4) {
                    let (index, value) = conditions[random.below(conditions.len())];
                    args[index] = value.wrapping_add(random.below(3) as u64).wrapping_sub(1);
                }
                let narrow = token & 0x8000_0000 == 0 || *arch == 0x4000_003e;
                // A program of 32 bits has no more to pass.
                let args = if narrow { args.map(|arg| arg & 0xffff_ffff) } else { args };
                calls.push(Call::new(token, number, args));
            }
        }
    }
    calls.push(Call::new(0x1234, 0, [0; 6]));
    calls
}
