//! Who a container's program runs as: names are looked up in the image's own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use crate::error::ImageError;
use crate::limits::MAX_ACCOUNTS;
use crate::ownership::COUNT;

/// A user inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Groups beside the first.
    pub groups: Vec<u32>,
    /// The home folder that `/etc/passwd` says, or `/`.
    pub home: String,
}

/// Finds the user that an image's configuration names. `layers` are from the bottom to the top.
pub(crate) fn find(wanted: &str, folder: &Path, layers: &[String]) -> Result<User, ImageError> {
    let passwd = top_file(folder, layers, "passwd");
    let group = top_file(folder, layers, "group");
    resolve(wanted, &passwd, &group)
}

/// What the uppermost layer that has `etc/NAME` has in it; nothing if there is none, or if it is not a plain file.
fn top_file(folder: &Path, layers: &[String], name: &str) -> String {
    for layer in layers.iter().rev() {
        let path = folder.join(layer);
        let at = |at: &dyn std::os::fd::AsFd, name: &str| {
            // Nothing in a layer is followed, and what would block when opened is not waited for.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            openat(at.as_fd(), name, flags, Mode::empty())
        };
        let Ok(root) =
            openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        else {
            continue;
        };
        let Ok(etc) = at(&root, "etc") else { continue };
        match at(&etc, name) {
            Ok(file) => {
                let plain = fstat(&file)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
                let mut text = Vec::new();
                if plain && File::from(file).take(MAX_ACCOUNTS).read_to_end(&mut text).is_ok() {
                    return String::from_utf8_lossy(&text).into_owned();
                }
                return String::new();
            }
            Err(rustix::io::Errno::NOENT) => {}
            // A whiteout: what is below is gone.
            Err(_) => return String::new(),
        }
    }
    String::new()
}

fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<User, ImageError> {
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number: Option<u32> = user.parse().ok();
    let accounts =
        || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 6);
    let account = accounts().find(|fields| match number {
        Some(uid) => fields[2].parse() == Ok(uid),
        None => fields[0] == user,
    });
    let uid = match (&account, number) {
        (_, Some(uid)) => uid,
        (Some(fields), None) => parse(fields[2], wanted)?,
        (None, None) => return Err(ImageError::invalid(format!("the image has no user {user:?}"))),
    };
    let groups =
        || group.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 4);
    let gid = match (wanted_group, &account) {
        (Some(name), _) => match name.parse() {
            Ok(gid) => gid,
            Err(_) => match groups().find(|fields| fields[0] == name) {
                Some(fields) => parse(fields[2], wanted)?,
                None => return Err(ImageError::invalid(format!("the image has no group {name:?}"))),
            },
        },
        (None, Some(fields)) => parse(fields[3], wanted)?,
        (None, None) => 0,
    };
    let name = account.as_ref().map(|fields| fields[0]);
    let member =
        |fields: &Vec<&str>| name.is_some_and(|name| fields[3].split(',').any(|member| member == name));
    // A group that was asked for is the only one.
    let more = groups().filter(|fields| wanted_group.is_none() && member(fields));
    let more = more.filter_map(|fields| fields[2].parse().ok()).filter(|id| *id != gid && *id < COUNT);
    if uid >= COUNT || gid >= COUNT {
        return Err(ImageError::invalid(format!("the image's user {wanted:?} is not below {COUNT}")));
    }
    let home = account.map(|fields| fields[5]).filter(|home| home.starts_with('/')).unwrap_or("/");
    Ok(User { uid, gid, groups: more.take(32).collect(), home: home.to_owned() })
}

fn parse(number: &str, wanted: &str) -> Result<u32, ImageError> {
    number.parse().map_err(|_| ImageError::invalid(format!("the image's account {wanted:?} has no number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\njunk\napp:x:1000:100::/srv/app:/bin/false\nodd:x:no:1::/:/\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nextra:x:7:app,root\nbad:x:y:app\n";

    #[test]
    fn names_numbers_and_groups() {
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid,
            gid,
            groups: groups.into(),
            home: home.into(),
        };
        for (wanted, expected) in [
            ("", user(0, 0, &[7], "/root")),
            ("root", user(0, 0, &[7], "/root")),
            ("app", user(1000, 100, &[7], "/srv/app")),
            ("1000", user(1000, 100, &[7], "/srv/app")),
            ("app:0", user(1000, 0, &[], "/srv/app")),
            ("app:extra", user(1000, 7, &[], "/srv/app")),
            ("65532:65532", user(65532, 65532, &[], "/")),
            ("4242", user(4242, 0, &[], "/")),
        ] {
            assert_eq!(resolve(wanted, PASSWD, GROUP).unwrap(), expected, "{wanted}");
        }
        for wrong in ["nobody", "app:nobody", "odd", "4294967295", "-1", "2000000"] {
            assert!(resolve(wrong, PASSWD, GROUP).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_uppermost_file_counts_and_links_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let layers: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        for layer in &layers {
            std::fs::create_dir_all(folder.path().join(layer).join("etc")).unwrap();
        }
        std::fs::write(folder.path().join("a/etc/passwd"), PASSWD).unwrap();
        assert_eq!(find("app", folder.path(), &layers).unwrap().uid, 1000);
        std::fs::write(folder.path().join("b/etc/passwd"), "app:x:5:5::/:/").unwrap();
        assert_eq!(find("app", folder.path(), &layers).unwrap().uid, 5);
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("c/etc/passwd")).unwrap();
        assert!(find("app", folder.path(), &layers).is_err());
    }
}
