//! What a rule asks of a call's arguments.

use std::cmp::Reverse;

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};

/// One comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) compare: Compare,
    pub(super) value: u64,
}

/// Of the argument with the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    NotEqual,
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
    /// Of these bits alone.
    Masked(u64),
}

impl Condition {
    pub(super) fn of(argument: &LinuxSeccompArg) -> Self {
        let (value, second) = (argument.value(), argument.value_two().unwrap_or(0));
        let (compare, value) = match argument.op() {
            Operator::ScmpCmpNe => (Compare::NotEqual, value),
            Operator::ScmpCmpLt => (Compare::Less, value),
            Operator::ScmpCmpLe => (Compare::AtMost, value),
            Operator::ScmpCmpEq => (Compare::Equal, value),
            Operator::ScmpCmpGe => (Compare::AtLeast, value),
            Operator::ScmpCmpGt => (Compare::Greater, value),
            // Here the first value is the mask. Bits outside it are never compared, so that one
            // in the second value does not make the rule one that never holds.
            Operator::ScmpCmpMaskedEq => (Compare::Masked(value), second & value),
        };
        // The specification has six arguments, and the config was checked.
        Condition { argument: argument.index() as u8, compare, value }
    }

    /// The same where arguments have 32 bits: their upper half is not compared, for what the
    /// kernel shows of it is up to the architecture.
    pub(super) fn narrow(self) -> Self {
        let low = u64::from(u32::MAX);
        let compare = match self.compare {
            Compare::Masked(mask) => Compare::Masked(mask & low),
            compare => compare,
        };
        Condition { compare, value: self.value & low, ..self }
    }

    pub(super) fn always_holds(&self) -> bool {
        self.compare == Compare::Masked(0)
    }

    /// In which order conditions are asked: the last argument first, exact values before ranges,
    /// the narrower range first.
    fn rank(&self) -> Rank {
        let (class, value) = match self.compare {
            Compare::Equal | Compare::NotEqual | Compare::Masked(_) => (0, self.value),
            Compare::Less | Compare::AtMost => (1, !self.value),
            Compare::AtLeast | Compare::Greater => (2, self.value),
        };
        (Reverse(self.argument), class, Reverse(value))
    }
}

type Rank = (Reverse<u8>, u8, Reverse<u64>);

/// What is answered if all of the conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alternative {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

impl Alternative {
    /// Alternatives may overlap, and the specification does not say which one then decides. The
    /// profiles in use were written against libseccomp, which sorts them like this.
    pub(super) fn rank(&self) -> Vec<Rank> {
        self.conditions.iter().map(Condition::rank).collect::<Vec<_>>()
    }
}
