//! Writing a child's id maps: the kernel's files, or the programs that may write more into them.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::hints;
use crate::error::{Error, Kind, Result};
use crate::hooks;
use crate::interrupt::never;
use crate::plan::{HookProgram, IdMap, IdMaps};
use crate::sys::xattr;

/// One of the two maps, and everything that is named after it.
struct Which {
    file: &'static str,
    helper: &'static str,
    /// Who may map which ids with the helper (subuid(5), subgid(5)).
    allowance: &'static str,
    property: &'static str,
}

const UID: Which = Which {
    file: "uid_map",
    helper: "newuidmap",
    allowance: "/etc/subuid",
    property: "uidMappings",
};
const GID: Which = Which {
    file: "gid_map",
    helper: "newgidmap",
    allowance: "/etc/subgid",
    property: "gidMappings",
};

/// Where distributions put the helpers; not the user's PATH, whose programs gain nothing anyway.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/bin", "/run/wrappers/bin"];

/// Writes both maps, as the plan says by whom; `asked_by` is what has them in the config.
pub(super) fn write(child: Pid, maps: &IdMaps, asked_by: &str) -> Result<()> {
    write_one(child, &maps.uid, &UID, asked_by)?;
    if maps.deny_setgroups {
        write_file(child, "setgroups", "deny")
            .map_err(|error| error.asked_by(format!("{asked_by}.{}", GID.property)))?;
    }
    write_one(child, &maps.gid, &GID, asked_by)
}

fn write_one(child: Pid, map: &IdMap, which: &Which, asked_by: &str) -> Result<()> {
    let asked_by = format!("{asked_by}.{}", which.property);
    let written = if map.by_helper {
        run_helper(child, map, which, &asked_by)
    } else {
        let lines: String = map.ranges.iter().map(|[a, b, n]| format!("{a} {b} {n}\n")).collect();
        // The kernel takes a map in one write.
        write_file(child, which.file, &lines)
    };
    written.map_err(|error| {
        let refused = matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES));
        let error = error.context(format_args!("map ids \"{map}\"")).asked_by(&asked_by);
        match hints::user_namespaces_forbidden().filter(|_| refused) {
            Some(why) => error.hint(why),
            None if refused => error.hint("the ids must be mapped in this user namespace too"),
            None => error,
        }
    })
}

fn write_file(child: Pid, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{child}/{file}");
    std::fs::write(&path, text).map_err(|error| Error::io("write", &path, &error))
}

fn run_helper(child: Pid, map: &IdMap, which: &Which, asked_by: &str) -> Result<()> {
    let path = find(which.helper)?;
    let mut args = vec![which.helper.to_owned(), child.to_string()];
    args.extend(map.ranges.iter().flatten().map(u32::to_string));
    let program = HookProgram {
        path: c_string(path.clone()),
        args: args.into_iter().map(c_string).collect(),
        env: Some(Vec::new()),
        timeout: None,
        asked_by: asked_by.to_owned(),
    };
    hooks::run_program(&program, &[], &mut never).map_err(|error| {
        let error = error.context(&path);
        if no_new_privileges() {
            return error
                .hint("this process may gain no privileges (no_new_privs), not by setuid either");
        }
        match not_allowed(map, which) {
            Some([_, outside, count]) => {
                let (file, user) = (which.allowance, user_name());
                error.hint(format!("add the line \"{user}:{outside}:{count}\" to {file}, as root"))
            }
            None => error,
        }
    })
}

/// Numbers and names of our own making.
fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

fn find(helper: &str) -> Result<String> {
    let mut powerless = None;
    for path in FOLDERS.map(|folder| format!("{folder}/{helper}")) {
        let Ok(found) = std::fs::metadata(&path) else { continue };
        // Some distributions give it the one capability that it needs instead of all.
        if found.mode() & libc::S_ISUID != 0
            || xattr::is_marked(Path::new(&path), c"security.capability")
        {
            return Ok(path);
        }
        powerless.get_or_insert(path);
    }
    match powerless {
        Some(path) => {
            let message = format!("{path} is not setuid root, and has no capabilities either");
            Err(Error::new(Kind::Other, message)
                .hint(format!("install it anew, or run \"chmod u+s {path}\" as root")))
        }
        None => {
            let message = format!(
                "an ordinary user needs {helper} for other ids than the user's own, and it is in \
                 none of {}",
                FOLDERS.join(", ")
            );
            Err(Error::new(Kind::Other, message)
                .hint("install the package uidmap (Debian, Ubuntu) or shadow-utils (others)"))
        }
    }
}

/// The first range that the host's file does not give this user; a name service may give more.
fn not_allowed(map: &IdMap, which: &Which) -> Option<[u32; 3]> {
    let text = std::fs::read_to_string(which.allowance).unwrap_or_default();
    let (user, own) = (user_name(), nix::unistd::geteuid().to_string());
    let allowed: Vec<(u64, u64)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let who = fields.next()?;
            let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (who == user || who == own).then_some((start, count))
        })
        .collect();
    let own = match which.file {
        "uid_map" => nix::unistd::geteuid().as_raw(),
        _ => nix::unistd::getegid().as_raw(),
    };
    let is_allowed = |[_, outside, count]: &[u32; 3]| {
        let (first, end) = (u64::from(*outside), u64::from(*outside) + u64::from(*count));
        (*outside, *count) == (own, 1)
            || allowed.iter().any(|(start, count)| first >= *start && end <= start + count)
    };
    map.ranges.iter().copied().find(|range| !is_allowed(range))
}

/// From /etc/passwd alone, as a static program has no other name services; else the number, which
/// these files take as well.
fn user_name() -> String {
    let own = nix::unistd::geteuid().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    users
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == own).then(|| name.to_owned())
        })
        .unwrap_or(own)
}

fn no_new_privileges() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line == "NoNewPrivs:\t1"))
}
