//! The command line, spelled as runc spells it: argv → request → container.

mod args;
mod argv;
mod criu;
mod events;
mod figures;
mod foreground;
mod listening;
mod log;
mod notify;
mod process;
mod ps;
mod table;
mod update;
mod usage;

use self::args::{Arguments, Command};
use crate::container::{self, Config};
use crate::error::{Error, Kind, Result};
use crate::helper;
use crate::interrupt::never;
use crate::launch::{self, Stage, StageProgram};
use crate::plan::step::StartSignal;
use crate::plan::{Facts, Plan, Situation};
use crate::spec;
use crate::state::Root;

/// Runs the program. Its exit status is the container's for `run`, `restore` and `exec`, else 0 or
/// 1; 255 where `exec` has nothing run, and 3 where there is no such command, as with runc.
///
/// `program` is what clones for it; without one a copy of this program does.
pub fn main(program: StageProgram) -> u8 {
    let mut argv = std::env::args_os().skip(1);
    match argv.next() {
        Some(argument) if argument == helper::LAUNCHER => {
            return match helper::server::run() {
                Ok(never) => match never {},
                Err(error) => fail(&error, 1),
            };
        }
        Some(argument) if argument == launch::STAGE => return launch::run_stage(),
        _ => {}
    }
    let stage = start_stage(program);
    let arguments = match usage::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let code_of_failure = match arguments.command {
        Some(Command::Exec(_)) => 255,
        _ => 1,
    };
    let done = log::open(arguments.log.as_deref(), arguments.log_format).and_then(|()| {
        if arguments.debug {
            log::debug();
        }
        carry_out(arguments, stage)
    });
    match done {
        Ok(code) => {
            log::close();
            code
        }
        Err(error) => fail(&error, code_of_failure),
    }
}

fn fail(error: &Error, code: u8) -> u8 {
    log::error(&error.to_string());
    code
}

/// Started before the command line is read, which takes as long as the stage takes to be loaded. A
/// container of such a name starts one in vain.
fn start_stage(program: StageProgram) -> Option<Result<Stage>> {
    let clones = |argument| ["run", "create", "exec"].iter().any(|verb| argument == *verb);
    std::env::args_os().skip(1).any(clones).then(|| Stage::start(program))
}

fn carry_out(arguments: Arguments, stage: Option<Result<Stage>>) -> Result<u8> {
    if arguments.criu.is_some() {
        crate::warn("--criu is ignored: criu is looked for along PATH");
    }
    let root = || Root::new(arguments.root.as_deref());
    let stage = || {
        stage
            .unwrap_or_else(|| Err(Error::new(Kind::Other, "no process was started to clone with")))
    };
    let Some(command) = arguments.command.filter(|_| !arguments.version) else {
        if arguments.version {
            print(&usage::version());
        } else {
            usage::help(None)?;
        }
        return Ok(0);
    };
    match command {
        Command::Create(mut create) => {
            create.systemd_cgroup = arguments.systemd_cgroup;
            process::create(&root()?, *create, stage()?)
        }
        Command::Run(mut run) => {
            run.create.systemd_cgroup = arguments.systemd_cgroup;
            process::run(&root()?, *run, stage()?)
        }
        Command::Exec(exec) => process::exec(&root()?, *exec, stage()?),
        Command::Start(asked) => notify::start(&root()?, &asked.id).map(done),
        Command::State(asked) => state(&root()?, &asked.id).map(done),
        Command::Kill(asked) => {
            let signal = container::signal_number(&asked.signal)?;
            container::kill(&root()?, &asked.id, signal, asked.all).map(done)
        }
        Command::Delete(asked) => {
            container::delete(&root()?, &asked.id, asked.force, &mut never).map(done)
        }
        Command::Pause(asked) => container::pause(&root()?, &asked.id, &mut never).map(done),
        Command::Resume(asked) => container::resume(&root()?, &asked.id, &mut never).map(done),
        Command::Checkpoint(asked) => criu::checkpoint(&root()?, *asked).map(done),
        Command::Restore(asked) => criu::restore(&root()?, *asked),
        Command::List(asked) => {
            arguments.root.as_deref().map_or(Ok(()), must_exist)?;
            list(&root()?, asked.format, asked.quiet).map(done)
        }
        Command::Ps(asked) => ps::ps(&root()?, asked.format, &asked.words).map(done),
        Command::Events(asked) => {
            events::events(&root()?, &asked.id, &asked.interval, asked.stats).map(done)
        }
        Command::Update(asked) => update::update(&root()?, *asked).map(done),
        Command::Spec(asked) => write_spec(&asked.bundle, asked.rootless).map(done),
        Command::Features(asked) => {
            let args::Nothing {} = *asked;
            print(&json(&crate::features::features()));
            Ok(0)
        }
        Command::Help(asked) => usage::help(asked.command.as_deref()).map(done),
        Command::Explain(asked) => explain(&asked.bundle).map(done),
    }
}

fn done((): ()) -> u8 {
    0
}

/// Where standard output is a pipe that was closed, as `list | head` does, there is no more to say.
fn print(text: &str) {
    use std::io::Write;
    // In one piece: `writeln!` would write what follows the last end of a line by itself.
    let _ = std::io::stdout().write_all(format!("{text}\n").as_bytes());
}

fn json(value: &impl serde::Serialize) -> String {
    // Strings and numbers: nothing that JSON has no form for.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn state(root: &Root, id: &str) -> Result<()> {
    print(&container::state(root, id, |state| json(&state))?);
    Ok(())
}

/// The default folder is not there before the first container; one that was named and is not is a
/// slip, of which an empty list would not tell.
fn must_exist(root: &std::path::Path) -> Result<()> {
    std::fs::metadata(root)
        .map(drop)
        .map_err(|error| Error::io("open", root, &error).hint("name a folder that holds states"))
}

fn list(root: &Root, format: args::ListFormat, quiet: bool) -> Result<()> {
    let rows = container::list(root)?;
    match (quiet, format) {
        (true, _) => rows.iter().for_each(|row| print(&row.id)),
        // On one line, as runc has it.
        (false, args::ListFormat::Json) => print(&serde_json::json!(rows).to_string()),
        (false, args::ListFormat::Table) => print(&table::containers(&rows)),
    }
    Ok(())
}

fn write_spec(bundle: &std::path::Path, rootless: bool) -> Result<()> {
    use std::io::Write;
    let path = bundle.join("config.json");
    let text = format!("{}\n", json(&spec::default_spec(rootless)));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(Kind::AlreadyExists, format!("{path:?} exists already"))
                .hint("remove it first, or name another bundle")
        }
        std::io::ErrorKind::NotFound => {
            Error::io("write", &path, &error).hint("make the bundle's folder first")
        }
        _ => Error::io("write", &path, &error),
    })
}

fn explain(bundle: &std::path::Path) -> Result<()> {
    let bundle = process::absolute(bundle)?;
    let config = Config::read(&bundle)?;
    config.warnings.iter().for_each(|warning| print(&format!("warning: {warning}")));
    let situation = Situation::new("ID", bundle, StartSignal::Parent);
    let plan = Plan::compile(&config.spec, &Facts::probe()?, &situation)?;
    print(plan.to_string().trim_end());
    Ok(())
}
