//! What the containers of one instance share: a network, and volumes.
//!
//! Each container has its own helper, its own user, mount and process namespaces, and its own control group. The first
//! one makes the network, which later ones enter. Volumes are made in a mount namespace that helpers share: whatever a
//! helper mounts there is seen by the containers of all helpers that come after, because a container's mounts begin as
//! a copy of its helper's. A volume is a file system in memory, so it goes with the last container, however that ends.
//!
//! Without root a helper may mount only in a user namespace of its own. That one, too, is shared by the helpers of an
//! instance; a container's is inside it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Component, Path};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Pid, chdir, getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::clone::{Namespace, leave};
use super::helper::While;
use super::plan::{Plan, Pod, Users, Volume};

/// Where a container mounts what is its own, below the plan's mount point.
pub(super) const BOX: &str = "box";
/// Bytes for the folders in which volumes are.
const FOLDERS: &str = "mode=0755,size=1048576";

/// Where a volume is, relative to the folder of layers.
pub(super) fn volume_path(mount_point: &str, number: usize) -> String {
    format!("{mount_point}/volumes/{number}")
}

/// Brings the helper to where containers of the plan's instance are made. `shared`: namespaces of an instance that has
/// containers already. Ends in the folder of layers.
pub(super) fn enter(plan: &Plan, shared: &[OwnedFd]) -> io::Result<()> {
    match (plan.pod, shared) {
        (Pod::New { .. }, []) => {
            if let Users::Own = plan.users {
                become_root()?;
            }
            leave(Namespace::Mounts).during("separating mounts")?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            chdir(&plan.layers_dir).during("entering the folder of layers")?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            mount("tmpfs", plan.mount_point.as_str(), "tmpfs", flags, options(FOLDERS)?.as_c_str())
                .during("mounting memory for volumes")?;
            fs::create_dir(format!("{}/{BOX}", plan.mount_point))?;
            fs::create_dir(format!("{}/volumes", plan.mount_point))?;
        }
        (Pod::Join, [user, mounts, network]) => {
            let what = "joining the instance";
            if let Users::Own = plan.users {
                move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User)).during(what)?;
            }
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).during(what)?;
            move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount)).during(what)?;
            chdir(&plan.layers_dir).during("entering the folder of layers")?;
        }
        _ => return Err(io::Error::other("the plan and what came with it do not fit")),
    }
    plan.volumes.iter().try_for_each(|volume| make(plan, volume).during("making a volume"))
}

/// Enters a user namespace in which the user of the runtime is root.
fn become_root() -> io::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    leave(Namespace::Users).during("making a user namespace")?;
    write_maps("self", &format!("0 {uid} 1"), &format!("0 {gid} 1"), true).during("mapping users")
}

fn options(text: &str) -> io::Result<std::ffi::CString> {
    Ok(std::ffi::CString::new(text)?)
}

fn make(plan: &Plan, volume: &Volume) -> io::Result<()> {
    let path = volume_path(&plan.mount_point, volume.number);
    fs::create_dir(&path)?;
    let (owner, base) = match plan.users {
        Users::Shifted { base, .. } => (format!(",uid={base},gid={base}"), Some(base)),
        Users::Own => (String::new(), None),
    };
    // Everyone in the instance may write, as in Kubernetes; what must not be written to is mounted so.
    let text = format!("mode=0777,size={}{owner}", volume.size);
    mount(
        "tmpfs",
        path.as_str(),
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        options(&text)?.as_c_str(),
    )?;
    for (name, content, mode) in &volume.files {
        write_file(Path::new(&path), Path::new(name), content, *mode, base)?;
    }
    Ok(())
}

/// The volume is fresh: there is nothing in it but what was put there here.
pub(in crate::driver) fn write_file(
    volume: &Path,
    name: &Path,
    content: &[u8],
    mode: u32,
    owner: Option<u32>,
) -> io::Result<()> {
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(io::Error::other(format!("{name:?} is no path for a file of a volume")));
    }
    let mut folder = volume.to_owned();
    for part in name.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        if !folder.is_dir() {
            fs::create_dir(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            chown(&folder, owner, owner)?;
        }
    }
    let path = volume.join(name);
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o777))?;
    chown(&path, owner, owner)
}

/// Says who is who in the user namespace of a container's first process.
pub(super) fn map_users(plan: &Plan, pid: Pid) -> io::Result<()> {
    let process = pid.as_raw_nonzero().to_string();
    match plan.users {
        Users::Shifted { base, count } => {
            let map = format!("0 {base} {count}");
            write_maps(&process, &map, &map, false)
        }
        // Outside of it there is only root, who is the user of the runtime.
        Users::Own => write_maps(&process, &format!("{} 0 1", plan.uid), &format!("{} 0 1", plan.gid), true),
    }
}

fn write_maps(process: &str, users: &str, groups: &str, deny: bool) -> io::Result<()> {
    let folder = format!("/proc/{process}");
    if deny {
        // Without privileges groups may only be mapped where they can no longer be given up.
        fs::write(format!("{folder}/setgroups"), "deny")?;
    }
    fs::write(format!("{folder}/uid_map"), users)?;
    fs::write(format!("{folder}/gid_map"), groups)
}
