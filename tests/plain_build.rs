//! The command line as a plain `cargo build` makes it, without the small program in it.

use std::path::Path;
use std::process::Command;

#[test]
fn a_copy_of_the_whole_program_clones_as_well() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: containers need root here");
        return;
    }
    let bundle = std::env::temp_dir().join(format!("rscontainer-plain-{}", std::process::id()));
    std::fs::create_dir_all(bundle.join("rootfs")).expect("a bundle");
    let run = |arguments: &[&str]| {
        Command::new(Path::new(env!("CARGO_BIN_EXE_rscontainer")))
            .current_dir(&bundle)
            .args(["--root", "state"])
            .args(arguments)
            .output()
            .expect("it runs")
    };
    assert!(run(&["spec"]).status.success());
    let config = std::fs::read_to_string(bundle.join("config.json")).expect("a config");
    let config = config.replace("\"terminal\": true", "\"terminal\": false");
    std::fs::write(bundle.join("config.json"), config).expect("room");
    let done = run(&["run", "plain"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    std::fs::remove_dir_all(&bundle).expect("nothing is mounted there");
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("find program \"sh\""), "{said}");
}
