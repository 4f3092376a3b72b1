//! Sockets that a service manager opened for the container's program (sd_listen_fds(3)).

use std::str::FromStr;

use oci_spec::runtime::Spec;

fn variable<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tells the program of the sockets that this process was started with, and how many there are.
pub(super) fn pass_on(spec: &mut Spec) -> i32 {
    // They are another's where the number is, of which this process has inherited the variables.
    let ours = variable("LISTEN_PID") == Some(std::process::id());
    let count = variable::<u16>("LISTEN_FDS").filter(|count| ours && *count > 0);
    let (Some(count), Some(process)) = (count, spec.process_mut()) else { return 0 };
    let mut env = process.env().clone().unwrap_or_default();
    env.retain(|variable| !variable.starts_with("LISTEN_"));
    // Its number where it has a pid namespace of its own, and as runc has it elsewhere.
    env.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
    process.set_env(Some(env));
    count.into()
}
