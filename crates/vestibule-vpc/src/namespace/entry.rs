//! Becoming a client: a process moves into the namespaces of a guest before it runs the client's command.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::system::sethostname;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::etc;
use crate::Guest;

/// What a client finds around itself.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub guest: &'a Guest,
    /// What stands in the place of `/etc/resolv.conf`.
    pub resolv_conf: &'a Path,
    /// Its full host name and its address: the host name is set to the first label, and `/etc/hosts` knows both.
    /// `None`: both stay the machine's.
    pub name: Option<(&'a str, Ipv4Addr)>,
}

/// Moves the calling process into the guest's network, with `resolv_conf` in the place of the machine's own file,
/// which stays as it is. Call it from the only thread of the process, and then run the command.
pub fn enter(guest: &Guest, resolv_conf: &Path) -> io::Result<()> {
    enter_place(&Place { guest, resolv_conf, name: None })
}

/// Moves the calling process into a place. Files of the machine stay as they are: what differs is mounted over them
/// for this process and its children alone. Call it from the only thread of the process, and then run the command.
#[allow(unsafe_code, reason = "unshare has no safe form")]
pub fn enter_place(place: &Place<'_>) -> io::Result<()> {
    let during =
        |step: &'static str| move |error: io::Error| io::Error::new(error.kind(), format!("{step}: {error}"));
    // Everything is opened before anything is entered: the first move may end the right to see the rest.
    let resolv_conf = std::fs::read(place.resolv_conf).map_err(during("reading the client's resolv.conf"))?;
    let network = File::open(&place.guest.network)
        .map_err(during("opening the client's network, as only the user who runs `serve` can"))?;
    let user =
        place.guest.user.as_ref().map(File::open).transpose().map_err(during("opening the client's user"))?;
    if let Some(user) = user {
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))?;
    }
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    // SAFETY: NEWNS and NEWUTS leave the file descriptor table shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWUTS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let mut files = vec![("resolv.conf", resolv_conf)];
    if let Some((name, address)) = place.name {
        let short = name.split('.').next().unwrap_or(name);
        sethostname(short.as_bytes())?;
        files.push(("hosts", etc::hosts(name, short, address)));
    }
    etc::cover(&files).map_err(during("covering files of /etc"))?;
    remount_sys();
    Ok(())
}

/// `/sys` shows the links of the namespace that mounted it; a program that looks there must see the guest's. Where
/// the machine forbids a new mount, the old one stays: it is a view, not a way in.
fn remount_sys() {
    let _ = mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None);
}
