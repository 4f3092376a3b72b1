//! All numbers that calls may have, as runs of those that are answered alike.

use std::collections::BTreeMap;

use super::abi::{Abi, X32_BIT};
use super::assemble::{Outcome, Question, Run};
use super::decisions::{Decision, Decisions};
use crate::sys::seccomp::answer;

/// The runs of the architectures behind one `AUDIT_ARCH_…`, and the questions of all.
pub(super) struct Numbers<'q> {
    default: u32,
    /// What is answered to numbers beyond all that the config names.
    beyond: u32,
    questions: &'q mut Vec<Question>,
    runs: Vec<Run>,
}

impl<'q> Numbers<'q> {
    pub(super) fn new(default: u32, beyond: u32, questions: &'q mut Vec<Question>) -> Self {
        Numbers { default, beyond, questions, runs: Vec::new() }
    }

    /// Of x86_64 and x32, which differ by a bit of the number alone. One that is not allowed is
    /// answered as an unknown architecture; but not -1, which is what a tracer leaves in place of
    /// a number to have the call skipped.
    pub(super) fn shared(
        mut self,
        low: Option<(Abi, Decisions<'_>)>,
        high: Option<(Abi, Decisions<'_>)>,
    ) -> Vec<Run> {
        for (start, part) in [(0, low), (X32_BIT, high)] {
            match part {
                Some((abi, decisions)) => self.fill(start, abi, decisions),
                None => self.set(start, Outcome::Answer(answer::KILL_THREAD)),
            }
        }
        self.set(u32::MAX, Outcome::Answer(self.default));
        self.runs
    }

    /// Of an architecture that has all numbers for itself.
    pub(super) fn of(mut self, abi: Abi, decisions: Decisions<'_>) -> Vec<Run> {
        self.fill(0, abi, decisions);
        self.runs
    }

    fn fill(&mut self, start: u32, abi: Abi, decisions: Decisions<'_>) {
        let (default, beyond) = (Outcome::Answer(self.default), Outcome::Answer(self.beyond));
        let Decisions { mut by_number, largest, .. } = decisions;
        let private = abi.private_from();
        let after = private.map(|private| by_number.split_off(&private)).unwrap_or_default();
        self.set(start, default);
        // Programs try new calls first and fall back to old ones on ENOSYS; EPERM they take for
        // the answer. A call past all that the profile names is newer than the profile, so it is
        // answered as by a kernel that does not have it. runc does this for every default that
        // does not let calls through, and profiles are written for it.
        if largest.is_some() && abi.hides_large_numbers() {
            self.set(start, beyond);
            self.set(start + 1, default);
        }
        self.decide(abi, by_number, default);
        if let Some(largest) = largest {
            self.set(largest + 1, beyond);
        }
        if let Some(private) = private {
            self.set(private, default);
            self.decide(abi, after, default);
        }
    }

    fn decide(&mut self, abi: Abi, by_number: BTreeMap<u32, Decision>, default: Outcome) {
        for (number, decision) in by_number {
            let outcome = self.outcome(abi, decision);
            self.set(number, outcome);
            self.set(number + 1, default);
        }
    }

    fn outcome(&mut self, abi: Abi, decision: Decision) -> Outcome {
        let alternatives = match decision {
            Decision::Always(action) => return Outcome::Answer(action),
            Decision::When(alternatives) => alternatives,
        };
        let wide = abi.is_wide();
        let question = Question { alternatives, wide };
        let known = self.questions.iter().position(|other| *other == question);
        Outcome::Ask(known.unwrap_or_else(|| {
            self.questions.push(question);
            self.questions.len() - 1
        }))
    }

    /// From this number on; numbers come in order.
    fn set(&mut self, from: u32, outcome: Outcome) {
        while self.runs.last().is_some_and(|run| run.from >= from) {
            self.runs.pop();
        }
        if self.runs.last().is_none_or(|run| run.outcome != outcome) {
            self.runs.push(Run { from, outcome });
        }
    }
}
