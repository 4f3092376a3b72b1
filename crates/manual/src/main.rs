//! Writes what is made of the command line's definitions, below the folder that it is given: manual
//! pages and completions for shells, each where man(1) or the shell looks below a `share`.

use std::fs;
use std::io::Result;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

// The command line's own file, of which this uses the definitions and no value.
#[path = "../../../src/cli/args/mod.rs"]
#[allow(dead_code, unused_imports)]
mod args;

const NAME: &str = "rscontainer";
/// System administration, as runc's pages.
const SECTION: &str = "8";
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/rscontainer"),
    (Shell::Zsh, "zsh/site-functions/_rscontainer"),
    (Shell::Fish, "fish/vendor_completions.d/rscontainer.fish"),
];

fn main() -> Result<()> {
    let Some(share) = std::env::args_os().nth(1) else {
        eprintln!("usage: rscontainer-manual FOLDER");
        std::process::exit(1);
    };
    let share = Path::new(&share);
    let mut command = args::definition();
    for (shell, place) in COMPLETIONS {
        let mut script = Vec::new();
        generate(shell, &mut command, NAME, &mut script);
        write(&share.join(place), &script)?;
    }
    command.build();
    let pages = share.join(format!("man/man{SECTION}"));
    page(&command, NAME, &pages)?;
    for inner in command.get_subcommands() {
        page(inner, &format!("{NAME}-{}", inner.get_name()), &pages)?;
    }
    Ok(())
}

fn page(command: &Command, title: &str, folder: &Path) -> Result<()> {
    let man = Man::new(command.clone())
        .title(title.to_uppercase())
        .section(SECTION)
        .source(NAME)
        .manual("OCI containers");
    let mut text = Vec::new();
    man.render(&mut text)?;
    write(&folder.join(format!("{title}.{SECTION}")), &text)
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, text)
}
