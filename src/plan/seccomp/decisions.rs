//! The config's rules as decisions over numbers, for one architecture.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSyscall};

use super::abi::{Abi, Call};
use super::condition::{Alternative, Condition};
use super::returned;

/// A rule as every architecture starts from it.
pub(super) struct Rule<'a> {
    /// Its place in the config.
    pub(super) index: usize,
    calls: Vec<Call<'a>>,
    /// The names of none.
    pub(super) unknown: Vec<&'a str>,
    action: u32,
    /// Of which one must hold; an empty one always does.
    alternatives: Vec<Vec<Condition>>,
    pub(super) repeats_an_argument: bool,
    /// It says what is said anyway.
    redundant: bool,
}

pub(super) fn rules(seccomp: &LinuxSeccomp) -> Vec<Rule<'_>> {
    let default = returned(seccomp.default_action(), seccomp.default_errno_ret());
    let syscalls = seccomp.syscalls().iter().flatten().enumerate();
    syscalls
        .map(|(index, rule)| {
            let action = returned(rule.action(), rule.errno_ret());
            let mut calls = Vec::with_capacity(rule.names().len());
            let mut unknown = Vec::new();
            for name in rule.names() {
                match Call::find(name) {
                    Some(call) => calls.push(call),
                    None => unknown.push(name.as_str()),
                }
            }
            let repeats_an_argument = repeats_an_argument(rule);
            let alternatives = alternatives(rule, repeats_an_argument);
            let redundant = action == default;
            Rule { index, calls, unknown, action, alternatives, repeats_an_argument, redundant }
        })
        .collect()
}

/// The conditions of a rule are joined by "and", but for those of a rule that has two on the same
/// argument: these are joined by "or". No range can be asked for that way, but runc and crun have
/// always read rules so, and profiles depend on it.
fn alternatives(rule: &LinuxSyscall, repeats_an_argument: bool) -> Vec<Vec<Condition>> {
    let mut conditions: Vec<_> = rule.args().iter().flatten().map(Condition::of).collect();
    if repeats_an_argument {
        return conditions.into_iter().map(|condition| vec![condition]).collect();
    }
    conditions.sort_by_key(|condition| condition.argument);
    vec![conditions]
}

fn repeats_an_argument(rule: &LinuxSyscall) -> bool {
    let mut seen = 0_u64;
    rule.args().iter().flatten().any(|argument| {
        let bit = 1 << (argument.index() & 63);
        let repeated = seen & bit != 0;
        seen |= bit;
        repeated
    })
}

/// What is decided over one number.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Always(u32),
    /// The first that holds, else the default.
    When(Vec<Alternative>),
}

/// A rule that another one keeps from having a say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflict<'a> {
    /// Its place in the config.
    pub(super) rule: usize,
    pub(super) name: &'a str,
    /// The same conditions with another action, which cannot both be meant.
    pub(super) contradicts: bool,
}

#[derive(Debug, Default)]
pub(super) struct Decisions<'a> {
    pub(super) by_number: BTreeMap<u32, Decision>,
    /// The largest number that the config names.
    pub(super) largest: Option<u32>,
    pub(super) conflicts: Vec<Conflict<'a>>,
}

impl<'a> Decisions<'a> {
    pub(super) fn of(rules: &[Rule<'a>], abi: Abi) -> Self {
        let mut decisions = Decisions::default();
        for rule in rules {
            for call in &rule.calls {
                decisions.call(rule, call, abi);
            }
        }
        for decision in decisions.by_number.values_mut() {
            if let Decision::When(alternatives) = decision {
                alternatives.sort_by_cached_key(Alternative::rank);
            }
        }
        decisions
    }

    fn call(&mut self, rule: &Rule<'a>, call: &Call<'a>, abi: Abi) {
        let number = abi.number(call.row);
        let private = abi.private_from().unwrap_or(u32::MAX);
        let counted = number.filter(|number| *number < private);
        self.largest = self.largest.max(counted);
        if rule.redundant {
            return;
        }
        let multiplexed = call.through.and_then(|(row, code)| Some((abi.number(row)?, code)));
        for alternative in &rule.alternatives {
            let mut conditions = alternative.clone();
            if !abi.is_wide() {
                conditions = conditions.into_iter().map(Condition::narrow).collect();
            }
            if let Some((by, code)) = multiplexed {
                self.add(by, rule, through(&conditions, code), None);
            }
            if let Some(number) = number {
                self.add(number, rule, conditions, Some(call.name));
            }
        }
    }

    fn add(
        &mut self,
        number: u32,
        rule: &Rule<'a>,
        mut conditions: Vec<Condition>,
        name: Option<&'a str>,
    ) {
        conditions.retain(|condition| !condition.always_holds());
        let action = rule.action;
        let mut conflict = |contradicts| {
            let found = name.map(|name| Conflict { rule: rule.index, name, contradicts });
            self.conflicts.extend(found);
        };
        let decision = self.by_number.entry(number).or_insert_with(|| Decision::When(Vec::new()));
        match decision {
            // Podman's own profile says two things of setns(2), and means the first.
            Decision::Always(_) if conditions.is_empty() => {}
            // What is said without conditions stands, whatever is said under one.
            Decision::Always(other) if *other != action => conflict(false),
            Decision::Always(_) => {}
            Decision::When(alternatives) if conditions.is_empty() => {
                if alternatives.iter().any(|other| other.action != action) {
                    conflict(false);
                }
                *decision = Decision::Always(action);
            }
            Decision::When(alternatives) => {
                match alternatives.iter().find(|other| other.conditions == conditions) {
                    Some(other) if other.action != action => conflict(true),
                    Some(_) => {}
                    None => alternatives.push(Alternative { conditions, action }),
                }
            }
        }
    }
}

/// The conditions of a call that is made through another one. That one's first argument says which
/// call is meant, and its own arguments are behind a pointer, where no filter can look: what is
/// asked of the first is given up, as libseccomp does.
fn through(conditions: &[Condition], code: u64) -> Vec<Condition> {
    use super::condition::Compare;
    let which = Condition { argument: 0, compare: Compare::Equal, value: code };
    let others = conditions.iter().filter(|condition| condition.argument != 0);
    std::iter::once(which).chain(others.copied()).collect()
}
