//! The file system that a container sees.
//!
//! The image's layers are the read-only lower part of an overlay whose upper part is in memory, as in Cloud Run: what
//! a program writes counts against its memory and is gone when it ends. Nothing is copied. The overlay is mounted
//! inside the user namespace, so with its own kind of attributes (`userxattr`), which is also how layers were
//! unpacked.
//!
//! Everything that is mounted into the image's tree is mounted before the root is changed, when a path could still
//! lead to the machine's files. So each folder of the image is opened one component at a time, no link is followed,
//! and the mount is made on the open folder. An image whose `/proc` is a link is refused.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::{fchdir, pivot_root};

use super::helper::{METADATA, While};
use super::plan::{Mount, Plan, Users};
use super::pod::{BOX, volume_path};

/// Devices that every container has.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
/// Links in `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Parts of `/proc` that tell about the machine. What other container runtimes hide.
const HIDDEN: [&str; 9] =
    ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list"];
/// Parts of `/proc` that can be written to.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// Bytes of shared memory. Docker's default.
const SHARED: u64 = 64 << 20;

/// Nothing there is a device, gains privileges, or, in the last case, is run.
const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const DATA: MountFlags = PLAIN.union(MountFlags::NOEXEC);

/// Builds the container's file system and makes it the root of this process, which is in the folder of layers.
pub(super) fn change_root(plan: &Plan) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .during("separating mounts")?;
    let sources: Vec<_> = plan.mounts.iter().map(|mount| source(plan, mount)).collect();
    let root = stack(plan)?;
    let proc = folder(&root, "proc")?;
    mount_on(&proc, "proc", DATA, None).during("mounting /proc")?;
    hide(&folder(&root, "proc")?)?;
    // Where it cannot be had, in a container on a container, programs do without.
    let sys = folder(&root, "sys")?;
    let _ = mount_on(&sys, "sysfs", DATA | MountFlags::RDONLY, None);
    devices(plan, &root)?;
    files(plan, &root)?;
    for (mount, source) in plan.mounts.iter().zip(sources) {
        attach(&root, mount, &source?).during(&format!("mounting a volume at {}", mount.target))?;
    }

    fchdir(&root)?;
    // The old root is now on top of the new one, and is taken off.
    pivot_root(".", ".").during("changing the root")?;
    unmount(".", UnmountFlags::DETACH).during("leaving the machine's files")?;
    std::env::set_current_dir("/")
}

/// Mounts the overlay. Answers with its root.
fn stack(plan: &Plan) -> io::Result<OwnedFd> {
    let at = format!("{}/{BOX}", plan.mount_point);
    let memory = format!("mode=0755,size={}", plan.writable);
    mount("tmpfs", at.as_str(), "tmpfs", PLAIN, options(&memory)?.as_c_str())
        .during("mounting memory to write to")?;
    for name in ["upper", "work", "root", "empty"] {
        fs::create_dir(format!("{at}/{name}"))?;
    }
    let lower = lower(&plan.layers).unwrap_or_else(|| format!("{at}/empty"));
    let stacked = format!("userxattr,lowerdir={lower},upperdir={at}/upper,workdir={at}/work");
    let root = format!("{at}/root");
    mount("overlay", root.as_str(), "overlay", PLAIN, options(&stacked)?.as_c_str())
        .during("stacking layers")?;
    Ok(openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn options(text: &str) -> io::Result<std::ffi::CString> {
    Ok(std::ffi::CString::new(text)?)
}

/// Layers from the top to the bottom. An overlay refuses a folder that it has already; of two that are the same, the
/// lower one changes nothing.
fn lower(layers: &[String]) -> Option<String> {
    let mut lower: Vec<&str> = Vec::new();
    for layer in layers.iter().rev() {
        if !lower.contains(&layer.as_str()) {
            lower.push(layer);
        }
    }
    (!lower.is_empty()).then(|| lower.join(":"))
}

/// A folder of the image's root, made if it is missing; never a link.
fn folder(root: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(root, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).during(&format!("making /{name}")),
    }
    // Not O_PATH: it will be written to.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(root, name, flags, Mode::empty()).during(&format!("the image's /{name} is not a folder"))
}

/// Mounts a new file system on an open folder, which is hidden by it: to get inside, open it again.
fn mount_on(target: &OwnedFd, kind: &str, flags: MountFlags, with: Option<&str>) -> io::Result<()> {
    fchdir(target)?;
    let with = with.map(options).transpose()?;
    Ok(mount(kind, ".", kind, flags, with.as_deref())?)
}

/// Hides and locks parts of a fresh `/proc`. Most are closed to a user namespace anyway.
fn hide(proc: &OwnedFd) -> io::Result<()> {
    fchdir(proc)?;
    for name in HIDDEN {
        let covered = match fs::metadata(name) {
            Ok(found) if found.is_dir() => {
                mount("tmpfs", name, "tmpfs", DATA | MountFlags::RDONLY, options("size=0")?.as_c_str())
            }
            Ok(_) => mount_bind("/dev/null", name),
            Err(_) => Ok(()),
        };
        covered.during(&format!("hiding /proc/{name}"))?;
    }
    for name in READ_ONLY {
        if fs::metadata(name).is_ok() {
            let what = format!("locking /proc/{name}");
            mount_bind_recursive(name, name).during(&what)?;
            mount_remount(name, MountFlags::BIND | MountFlags::RDONLY | DATA, "").during(&what)?;
        }
    }
    Ok(())
}

fn devices(plan: &Plan, root: &OwnedFd) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_on(&folder(root, "dev")?, "tmpfs", flags, Some("mode=0755,size=65536")).during("mounting /dev")?;
    let dev = folder(root, "dev")?;
    for name in DEVICES {
        // A device cannot be made in a user namespace, so each is the machine's own.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        openat(&dev, name, flags, Mode::from_raw_mode(0o666))?;
        fchdir(&dev)?;
        mount_bind(format!("/dev/{name}"), name).during(&format!("mounting /dev/{name}"))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name)?;
    }
    let terminals = match plan.users {
        Users::Shifted { .. } => "newinstance,ptmxmode=0666,mode=0620,gid=5",
        Users::Own => "newinstance,ptmxmode=0666,mode=0620",
    };
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_on(&folder(&dev, "pts")?, "devpts", flags, Some(terminals)).during("mounting /dev/pts")?;
    let shared = format!("mode=1777,size={SHARED}");
    mount_on(&folder(&dev, "shm")?, "tmpfs", DATA, Some(&shared)).during("mounting /dev/shm")?;
    // Few kernels lack it, and few programs want it.
    let _ = mount_on(&folder(&dev, "mqueue")?, "mqueue", DATA, None);
    Ok(())
}

/// Files that tell a container about itself, and the temporary folder, which is in memory as all that is written.
fn files(plan: &Plan, root: &OwnedFd) -> io::Result<()> {
    match mkdirat(root, "tmp", Mode::from_raw_mode(0o1777)) {
        // The mode is subject to the mask.
        Ok(()) => rustix::fs::fchmod(folder(root, "tmp")?, Mode::from_raw_mode(0o1777))?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error).during("making /tmp"),
    }
    // An image whose /etc is a link keeps what it has.
    let Ok(etc) = folder(root, "etc") else { return Ok(()) };
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned();
    let mut names = String::new();
    if plan.metadata {
        hosts.push_str(&format!("{METADATA}\tmetadata.google.internal metadata\n"));
    }
    if plan.metadata || plan.outlet.is_some() {
        names = format!("nameserver {METADATA}\n");
    }
    for (name, text) in [("hosts", hosts), ("resolv.conf", names), ("hostname", "localhost\n".to_owned())] {
        // Never written through: what the image has there may be a link, a pipe or a folder.
        if matches!(
            rustix::fs::unlinkat(&etc, name, rustix::fs::AtFlags::empty()),
            Ok(()) | Err(Errno::NOENT)
        ) {
            write(&etc, name, &text)?;
        }
    }
    Ok(())
}

/// A volume, or the part of it that is to be mounted, which is made if it is missing. What is in a volume was written by
/// programs of images, so no link in it leads out of it.
fn source(plan: &Plan, mount: &Mount) -> io::Result<OwnedFd> {
    let volume = openat(
        CWD,
        volume_path(&plan.mount_point, mount.volume),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let volume = volume.during("opening a volume")?;
    reach(&volume, &mount.sub_path, true).during(&format!("finding {:?} in a volume", mount.sub_path))
}

/// Mounts a volume in the container's tree.
fn attach(root: &OwnedFd, mount: &Mount, source: &OwnedFd) -> io::Result<()> {
    let is_folder = FileType::from_raw_mode(fstat(source)?.st_mode) == FileType::Directory;
    let target = reach(root, &mount.target, is_folder)?;
    // Both are open, so both names mean what was opened.
    let name = |file: &OwnedFd| format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    mount_bind(name(source), name(&target))?;
    if mount.read_only {
        // The name of what was mounted on is now under it: look it up again.
        let mounted = reach(root, &mount.target, is_folder)?;
        mount_remount(name(&mounted), MountFlags::BIND | MountFlags::RDONLY | PLAIN, "")?;
    }
    Ok(())
}

/// A place in a tree, made if it is missing. Links in the tree count, as they do for the programs that run in it, but an
/// absolute one counts from the tree's root, and none leads out.
fn reach(root: &OwnedFd, path: &str, folder: bool) -> io::Result<OwnedFd> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &str| openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    let mut at = open("/")?;
    for (index, part) in parts.iter().enumerate() {
        let so_far = parts[..=index].join("/");
        at = match open(&so_far) {
            Err(Errno::NOENT) if index + 1 == parts.len() && !folder => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                // Opened for writing just to be made: an O_PATH open makes nothing.
                openat(readable(&at)?, *part, flags, Mode::from_raw_mode(0o644))?;
                open(&so_far)?
            }
            Err(Errno::NOENT) => {
                mkdirat(readable(&at)?, *part, Mode::from_raw_mode(0o755))?;
                open(&so_far)?
            }
            other => other?,
        };
    }
    Ok(at)
}

/// A folder that something can be made in.
fn readable(folder: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn write(folder: impl AsFd, name: &str, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        openat(folder, name, flags, Mode::from_raw_mode(0o644)).during(&format!("making /etc/{name}"))?;
    fs::File::from(file).write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_comes_first_and_nothing_twice() {
        let layers = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lower(&layers("a b c")).as_deref(), Some("c:b:a"));
        assert_eq!(lower(&layers("a b a e e")).as_deref(), Some("e:a:b"));
        assert_eq!(lower(&[]), None);
    }
}
