//! The commands.

use clap::{ArgMatches, Args, Error, FromArgMatches};

use super::{
    Bundle, Checkpoint, Container, Create, Delete, Events, Exec, Help, Kill, List, Nothing, Ps,
    Restore, Run, Update, WriteSpec,
};

/// A command each: its name and a second one, its flags, and what it does. Its definition is made
/// when it is asked for, for there are more than a hundred flags in all: to make those of every other
/// command too would take longer than most commands do.
macro_rules! commands {
    ($($variant:ident($name:literal $(| $alias:literal)?, $flags:ty): $about:literal;)+) => {
        /// What is asked for.
        #[derive(Debug)]
        pub(crate) enum Command {
            $(#[doc = $about] $variant(Box<$flags>),)+
        }

        impl Command {
            const NAMES: &[&str] = &[$($name),+];

            /// The definition of the command that has this name.
            pub(crate) fn definition(name: &str) -> Option<clap::Command> {
                Some(match name {
                    $($name $(| $alias)? => {
                        define::<$flags>($name, $about)$(.alias($alias))?
                    })+
                    _ => return None,
                })
            }

            /// What was said of the command, if there was one.
            pub(super) fn of(matches: &ArgMatches) -> Result<Option<Self>, Error> {
                Ok(match matches.subcommand() {
                    $(Some(($name, said)) => {
                        Some(Command::$variant(Box::new(<$flags>::from_arg_matches(said)?)))
                    })+
                    _ => None,
                })
            }
        }
    };
}

commands! {
    Create("create", Create): "Create a container, to be started later";
    Run("run", Run): "Create a container and run its program";
    Exec("exec", Exec): "Run a further program in a container";
    Start("start", Container): "Run the program of a created container";
    State("state", Container): "Print a container's state as JSON";
    Kill("kill", Kill): "Send a signal to a container's init";
    Delete("delete", Delete): "Take away all that was made for a container";
    Pause("pause", Container): "Freeze all processes of a container";
    Resume("resume", Container): "Let them run on";
    Checkpoint("checkpoint", Checkpoint): "Write a container's processes to disk";
    Restore("restore", Restore): "Create a container of processes that were written to disk";
    List("list", List): "List containers";
    Ps("ps", Ps): "Show the processes of a container";
    Events("events", Events): "Print what a container has used";
    Update("update", Update): "Change the limits of a container that runs; what is not given stays";
    Spec("spec", WriteSpec): "Write a config.json to start from";
    Features("features", Nothing): "Print what this version understands, as JSON";
    Help("help" | "h", Help): "Say how a command is used";
    Explain("explain", Bundle): "Print what running a bundle would do, one step a line";
}

impl Command {
    /// The definitions of all, in the order in which help lists them.
    pub(super) fn definitions() -> impl Iterator<Item = clap::Command> {
        Self::NAMES.iter().filter_map(|name| Self::definition(name))
    }
}

fn define<T: Args>(name: &'static str, about: &'static str) -> clap::Command {
    // After the flags: those that several commands share have a description of their own.
    T::augment_args(clap::Command::new(name)).about(about).long_about(None)
}
