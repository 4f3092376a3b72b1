//! Plans compared with what they are known to be, on hosts that are only described.
//!
//! `tests/plans/NAME.json` says which host, which config to start from and how that is changed
//! (a JSON merge patch); `NAME.txt` is the plan. `UPDATE_GOLDEN=1` writes those anew.
#![allow(clippy::unwrap_used)]

mod cases;

use rscontainer::plan::step::StartSignal;
use rscontainer::plan::{Plan, Situation};
use rscontainer::spec;

use cases::{Case, config, facts};

fn compiled(case: Case) -> String {
    let facts = facts(&case);
    let config = config(&case, &facts);
    let (spec, warnings) = spec::check(config.to_string().as_bytes()).unwrap();
    let start = if case.created { StartSignal::Socket } else { StartSignal::Parent };
    let situation = Situation::new("box", "/bundle", start);
    let plan = match case.exec {
        None => Plan::compile(&spec, &facts, &situation),
        Some(process) => {
            let process = serde_json::from_value(process).unwrap();
            Plan::compile_exec(&spec, &process, &facts, &situation)
        }
    };
    let warnings: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    match (plan, case.refused) {
        (Ok(plan), None) => format!("{warnings}{plan}"),
        (Err(error), Some(words)) if error.to_string().contains(&words) => format!("{error}\n"),
        (Ok(_), Some(words)) => panic!("not refused: {words}"),
        (Err(error), _) => panic!("{error}"),
    }
}

#[test]
fn plans_are_what_they_were() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in cases::files() {
        let case = cases::read(&path);
        let about = case.about.clone();
        let printed = format!("# {about}\n{}", compiled(case));
        let golden = path.with_extension("txt");
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if printed == expected {
            continue;
        }
        if update {
            std::fs::write(&golden, printed).unwrap();
        } else {
            wrong.push(format!("{}:\n{}", golden.display(), difference(&expected, &printed)));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 writes them anew\n{}", wrong.join("\n"));
}

/// The lines that only one of the two has, and where the first is.
fn difference(expected: &str, printed: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), printed.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    let lines: Vec<String> = gone.chain(come).collect();
    format!("first difference in line {}\n{}", same + 1, lines.join("\n"))
}
