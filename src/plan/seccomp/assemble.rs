//! Decisions as a program for the kernel's virtual machine.
//!
//! Jumps only go forward, so that a program is written from its end: whatever
//! an instruction jumps to is there already, at a known distance.

use std::collections::HashMap;

use super::condition::{Alternative, Compare, Condition};
use crate::sys::seccomp::{Instruction, Test, answer};

/// What is decided over a run of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Answer(u32),
    /// Look at the arguments; which of the lists of alternatives.
    Ask(usize),
}

/// From which number on an outcome holds, up to the next one's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) from: u32,
    pub(super) outcome: Outcome,
}

/// What is asked of arguments, by architectures of the same width.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) alternatives: Vec<Alternative>,
    pub(super) wide: bool,
}

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A place in the program, counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place(usize);

/// A program, written from its end.
pub(super) struct Assembler {
    /// The last instruction first.
    backwards: Vec<Instruction>,
    little_endian: bool,
    /// Where each answer is given, the nearest.
    answers: HashMap<u32, Place>,
    /// Where each far place can be reached through, the nearest.
    bridges: HashMap<Place, Place>,
    questions: HashMap<usize, Place>,
    /// The answer where no alternative holds.
    default: u32,
}

impl Assembler {
    pub(super) fn new(little_endian: bool, default: u32) -> Self {
        Assembler {
            backwards: Vec::with_capacity(256),
            little_endian,
            answers: HashMap::new(),
            bridges: HashMap::new(),
            questions: HashMap::new(),
            default,
        }
    }

    /// The whole program: which architecture, then what it says to the number.
    pub(super) fn program(
        mut self,
        architectures: &[(u32, Vec<Run>)],
        questions: &[Question],
    ) -> Vec<Instruction> {
        let unknown = self.answer(answer::KILL_THREAD);
        let mut blocks = Vec::with_capacity(architectures.len());
        for (token, runs) in architectures.iter().rev() {
            let dispatch = self.dispatch(runs, questions);
            blocks.push((*token, self.before(dispatch, Instruction::load(NUMBER))));
        }
        let mut next = unknown;
        for (token, block) in blocks {
            next = self.branch(Test::Equal, token, block, next);
        }
        self.before(next, Instruction::load(ARCHITECTURE));
        self.backwards.reverse();
        self.backwards
    }

    /// Halves the runs until one is left: with 100 of them, a call passes seven tests.
    fn dispatch(&mut self, runs: &[Run], questions: &[Question]) -> Place {
        match runs {
            [] => self.answer(self.default),
            [run] => match run.outcome {
                Outcome::Answer(action) => self.answer(action),
                Outcome::Ask(index) => self.ask(index, questions),
            },
            _ => {
                let (low, high) = runs.split_at(runs.len() / 2);
                let from = high.first().map_or(0, |run| run.from);
                let high = self.dispatch(high, questions);
                let low = self.dispatch(low, questions);
                self.branch(Test::AtLeast, from, high, low)
            }
        }
    }

    /// The same question is asked once, for whichever numbers lead to it.
    fn ask(&mut self, index: usize, questions: &[Question]) -> Place {
        if let Some(place) = self.questions.get(&index) {
            return *place;
        }
        let Some(question) = questions.get(index) else { return self.answer(self.default) };
        let mut next = self.answer(self.default);
        for alternative in question.alternatives.iter().rev() {
            let otherwise = next;
            let mut then = self.answer(alternative.action);
            for condition in alternative.conditions.iter().rev() {
                then = self.condition(condition, question.wide, then, otherwise);
            }
            next = then;
        }
        self.questions.insert(index, next);
        next
    }

    fn condition(
        &mut self,
        condition: &Condition,
        wide: bool,
        then: Place,
        otherwise: Place,
    ) -> Place {
        let Condition { argument, compare, value } = *condition;
        let (low, high) = (value as u32, (value >> 32) as u32);
        // Of two comparisons that are each other's opposite, one is enough.
        let (compare, then, otherwise) = match compare {
            Compare::NotEqual => (Compare::Equal, otherwise, then),
            Compare::Less => (Compare::AtLeast, otherwise, then),
            Compare::AtMost => (Compare::Greater, otherwise, then),
            compare => (compare, then, otherwise),
        };
        let (test, mask) = match compare {
            Compare::Greater => (Test::Greater, u64::MAX),
            Compare::AtLeast => (Test::AtLeast, u64::MAX),
            Compare::Masked(mask) => (Test::Equal, mask),
            _ => (Test::Equal, u64::MAX),
        };
        let place = ARGUMENTS + 8 * u32::from(argument);
        // Where the halves of a word of 64 bits are depends on the machine.
        let (low_at, high_at) =
            if self.little_endian { (place, place + 4) } else { (place + 4, place) };
        let low = match mask as u32 {
            0 => then,
            mask => {
                let test = self.branch(test, low, then, otherwise);
                self.masked(test, low_at, mask)
            }
        };
        let mask = (mask >> 32) as u32;
        if !wide || mask == 0 {
            return low;
        }
        let equal = self.branch(Test::Equal, high, low, otherwise);
        let test = match test {
            Test::Equal => equal,
            // Only where the upper halves are equal do the lower ones matter.
            _ => self.branch(Test::Greater, high, then, equal),
        };
        self.masked(test, high_at, mask)
    }

    /// Loads a word, and of it what the mask leaves, for a test.
    fn masked(&mut self, test: Place, offset: u32, mask: u32) -> Place {
        let test = match mask {
            u32::MAX => test,
            mask => self.before(test, Instruction::and(mask)),
        };
        self.before(test, Instruction::load(offset))
    }

    fn push(&mut self, instruction: Instruction) -> Place {
        self.backwards.push(instruction);
        Place(self.backwards.len() - 1)
    }

    fn distance(&self, to: Place) -> usize {
        self.backwards.len() - to.0 - 1
    }

    fn answer(&mut self, action: u32) -> Place {
        match self.answers.get(&action) {
            Some(place) => *place,
            None => {
                let place = self.push(Instruction::answer(action));
                self.answers.insert(action, place);
                place
            }
        }
    }

    /// An instruction after which the program goes on at a place.
    fn before(&mut self, place: Place, instruction: Instruction) -> Place {
        let distance = self.distance(place);
        if distance > 0 {
            self.push(Instruction::jump(distance as u32));
        }
        self.push(instruction)
    }

    fn branch(&mut self, test: Test, operand: u32, then: Place, otherwise: Place) -> Place {
        let (then, otherwise) = (self.reach(then), self.reach(otherwise));
        let (then, otherwise) = (self.distance(then) as u8, self.distance(otherwise) as u8);
        self.push(Instruction::branch(test, operand, then, otherwise))
    }

    /// The place itself, or one near enough that leads there: a branch holds eight bits, a jump 32.
    fn reach(&mut self, place: Place) -> Place {
        // A bridge for the branch's other end may yet come in between.
        const FARTHEST: usize = 254;
        if self.distance(place) <= FARTHEST {
            return place;
        }
        match self.bridges.get(&place) {
            Some(bridge) if self.distance(*bridge) <= FARTHEST => *bridge,
            _ => {
                let bridge = match self.backwards.get(place.0) {
                    // An answer is as short as the way to it.
                    Some(answer) if answer.code == Instruction::RETURN => *answer,
                    _ => Instruction::jump(self.distance(place) as u32),
                };
                let bridge = self.push(bridge);
                self.bridges.insert(place, bridge);
                bridge
            }
        }
    }
}
