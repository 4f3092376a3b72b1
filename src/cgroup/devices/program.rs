//! Version 2's rules: a program that the kernel runs at each access.

use super::{ALL, Policy, Rule};
use crate::sys::bpf::Instruction;

impl Policy {
    /// Version 2's program: 1 in r0 allows the access, 0 refuses it.
    ///
    /// It walks the rules from the last, keeping in r3 what of the access is still undecided.
    pub(in super::super) fn program(&self) -> Vec<Instruction> {
        let mut program = vec![
            // struct bpf_cgroup_dev_ctx: access and type in one word, major, minor
            Instruction::load_word(2, 1, 0),
            Instruction::and(2, 0xffff),
            Instruction::load_word(3, 1, 0),
            Instruction::shift_right(3, 16),
            Instruction::load_word(4, 1, 4),
            Instruction::load_word(5, 1, 8),
        ];
        for rule in self.rules.iter().rev() {
            let verdict = rule.verdict();
            let conditions = [(2, rule.of.map(|of| of as i32)), (4, rule.major), (5, rule.minor)];
            let conditions: Vec<_> = conditions
                .iter()
                .filter_map(|(register, value)| Some((*register, (*value)?)))
                .collect();
            for (index, (register, value)) in conditions.iter().enumerate() {
                let behind = conditions.len() - index - 1 + verdict.len();
                program.push(Instruction::jump_unless_equal(*register, *value, behind as i16));
            }
            program.extend(verdict);
        }
        program.extend(Instruction::answer(self.by_default().into()));
        program
    }
}

impl Rule {
    /// What the program does once the device is the rule's.
    fn verdict(&self) -> Vec<Instruction> {
        let mut verdict = match (self.allow, self.access) {
            (_, ALL) => Vec::new(),
            (true, access) => vec![
                Instruction::and(3, !i32::from(access)),
                Instruction::jump_unless_equal(3, 0, 2),
            ],
            (false, access) => vec![
                Instruction::copy(1, 3),
                Instruction::and(1, access.into()),
                Instruction::jump_if_equal(1, 0, 2),
            ],
        };
        verdict.extend(Instruction::answer(self.allow.into()));
        verdict
    }
}
