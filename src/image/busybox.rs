//! The smallest root file system: the machine's static busybox under each of its names.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::meta::{Meta, Node};
use super::tree::Tree;
use crate::error::{Error, Kind, Result};

const HINT: &str = "`apt-get install busybox-static` brings a static one";

const FOLDERS: [(&str, u32); 18] = [
    (".", 0o755),
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("lib", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

const FILES: [(&str, u32, &str); 6] = [
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\n\
         daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
         bin:x:2:2:bin:/bin:/bin/false\n\
         sys:x:3:3:sys:/dev:/bin/false\n\
         nobody:x:65534:65534:nobody:/home:/bin/false\n",
    ),
    (
        "etc/group",
        0o644,
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\n\
         kmem:x:15:\nutmp:x:43:\nusers:x:100:\nnogroup:x:65534:\n",
    ),
    // No password opens an account.
    ("etc/shadow", 0o600, "root:*:::::::\nnobody:*:::::::\n"),
    ("etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
    ("etc/hostname", 0o644, "localhost\n"),
    // A new network namespace reaches no name server; who joins another one mounts over this.
    ("etc/resolv.conf", 0o644, ""),
];

/// Fills a folder that is there with busybox and what programs expect around it.
pub fn busybox_rootfs(destination: &Path) -> Result<Vec<String>> {
    let busybox = find()?;
    let binary = std::fs::read(&busybox).map_err(|error| Error::io("read", &busybox, &error))?;
    require_static(&busybox, &binary)?;
    let applets = applets(&busybox)?;
    let mut tree = Tree::in_folder(destination)?;
    for (path, mode) in FOLDERS {
        tree.add(path.as_bytes(), &Node::Folder, Meta::with_mode(mode), |_| Ok(()))?;
    }
    for (path, mode, text) in FILES {
        file(&mut tree, path, mode, text.as_bytes())?;
    }
    file(&mut tree, "bin/busybox", 0o755, &binary)?;
    let link = Node::HardLink(b"bin/busybox".to_vec());
    for applet in applets.lines().map(str::trim).filter(|applet| !applet.is_empty()) {
        tree.add(format!("bin/{applet}").as_bytes(), &link, Meta::with_mode(0o755), |_| Ok(()))?;
    }
    // Scripts begin with this one path.
    let env = Node::Symlink(b"../../bin/env".to_vec());
    tree.add(b"usr/bin/env", &env, Meta::with_mode(0o777), |_| Ok(()))?;
    tree.finish()
}

fn file(tree: &mut Tree, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    tree.add(path.as_bytes(), &Node::File, Meta::with_mode(mode), |file| {
        let file = file.try_clone().map(File::from);
        file.and_then(|file| file.write_all_at(content, 0))
            .map_err(|error| Error::io("write", path, &error))
    })
}

fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let runs = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(OsStr::new("busybox")))
        .chain([PathBuf::from("/bin/busybox")])
        .find(runs)
        .ok_or_else(|| {
            Error::new(Kind::NotFound, "no busybox on PATH and none at /bin/busybox").hint(HINT)
        })
}

/// A dynamic program names its loader in a segment of its own, and there is none in the tree.
fn require_static(path: &Path, binary: &[u8]) -> Result<()> {
    let fault = match has_loader(binary) {
        Some(false) => return Ok(()),
        Some(true) => "is dynamically linked, and its libraries are not in the root file system",
        None => "is not an ELF program",
    };
    Err(Error::new(Kind::Other, format!("{:?} {fault}", path.display())).hint(HINT))
}

/// None for what is no ELF file of this machine's byte order.
fn has_loader(binary: &[u8]) -> Option<bool> {
    const PT_INTERP: u64 = 3;
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    let class = *binary.get(4)?;
    if !binary.starts_with(b"\x7fELF") || *binary.get(5)? != order {
        return None;
    }
    let number = |at: u64, length: usize| -> Option<u64> {
        let bytes = binary.get(at as usize..(at as usize).checked_add(length)?)?;
        let digit = |value, byte: &u8| value << 8 | u64::from(*byte);
        Some(match order {
            1 => bytes.iter().rev().fold(0, digit),
            _ => bytes.iter().fold(0, digit),
        })
    };
    let (start, size, count) = match class {
        1 => (number(28, 4)?, number(42, 2)?, number(44, 2)?),
        2 => (number(32, 8)?, number(54, 2)?, number(56, 2)?),
        _ => return None,
    };
    for segment in 0..count {
        if number(start.checked_add(segment * size)?, 4)? == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

fn applets(busybox: &Path) -> Result<String> {
    let failed = |error: &std::io::Error| Error::io("execve", busybox, error);
    let child = Command::new(busybox)
        .arg("--list")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| failed(&error))?;
    let mut list = String::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_string(&mut list).map_err(|error| failed(&error))?;
    }
    let status = child.wait().map_err(|error| failed(&error))?;
    if !status.success() || !list.lines().any(|applet| applet == "sh") {
        let message = format!("{:?} --list names no shell ({status})", busybox.display());
        return Err(Error::new(Kind::Other, message).hint(HINT));
    }
    Ok(list)
}
