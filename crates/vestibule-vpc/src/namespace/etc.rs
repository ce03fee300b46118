//! Files of `/etc` that a client sees differently from the machine.
//!
//! The new files lie in a file system of memory that is mounted where it hides nothing for long, bound over the old
//! ones, and unmounted: the bindings keep it, and it ends with the last process of the client. Nothing is written to
//! the machine's disk, so nothing stays there.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

const ETC: &str = "/etc";
/// Where the file system is mounted for a moment: every machine has this folder.
const MOMENT: &str = "/tmp";

/// Puts `files` (name in `/etc`, content) over the machine's. Needs a mount namespace of its own.
pub fn cover(files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    mount("tmpfs", MOMENT, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))?;
    let covered = cover_from(Path::new(MOMENT), files);
    unmount(MOMENT, UnmountFlags::DETACH)?;
    covered
}

fn cover_from(memory: &Path, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    if files.iter().any(|(name, _)| fs::symlink_metadata(Path::new(ETC).join(name)).is_err()) {
        overlay(memory)?;
    }
    for (name, content) in files {
        let file = memory.join(name);
        fs::write(&file, content)?;
        let target = Path::new(ETC).join(name);
        if fs::symlink_metadata(&target).is_err() {
            fs::write(&target, content)?;
        } else {
            bind_over(&file, &target)?;
        }
    }
    Ok(())
}

/// Binds a file over another. A link is covered itself, wherever it leads: what it leads to may be missing.
fn bind_over(file: &Path, target: &Path) -> io::Result<()> {
    let target = open(target, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    Ok(mount_bind(file, format!("/proc/self/fd/{}", target.as_raw_fd()))?)
}

/// A mount needs a file to stand on. Where the machine has none, the whole folder is covered with itself, as something
/// that can be written to.
fn overlay(memory: &Path) -> io::Result<()> {
    let (upper, work) = (memory.join("upper"), memory.join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let options = format!("lowerdir={ETC},upperdir={},workdir={}", upper.display(), work.display());
    let options = std::ffi::CString::new(options)?;
    Ok(mount("overlay", ETC, "overlay", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))?)
}

/// The machine's `/etc/hosts` with the client's own name before it.
pub fn hosts(name: &str, short: &str, address: Ipv4Addr) -> Vec<u8> {
    let machine =
        fs::read(Path::new(ETC).join("hosts")).unwrap_or_else(|_| b"127.0.0.1 localhost\n".to_vec());
    [format!("{address} {name} {short}\n").into_bytes(), machine].concat()
}
