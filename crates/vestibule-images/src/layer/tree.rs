//! A folder into which a layer is unpacked, and out of which nothing in the layer can reach.
//!
//! Every path is walked from the folder's own descriptor, one component at a time, and no symbolic link is followed
//! on the way. `..` never gets here. So what a path names is always inside, whatever the layer put there before.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, UTIME_OMIT, Uid, chownat,
    fchmod, fchown, futimens, linkat, mkdirat, mknodat, openat, statat, symlinkat, syncfs, unlinkat,
    utimensat,
};
use rustix::io::Errno;

use super::entries::{Entry, What};
use super::whiteout::{self, Meaning};
use crate::blobs::copy;
use crate::error::{ImageError, Kind};
use crate::limits::MAX_FOLDER_NAMES;
use crate::ownership::Ownership;

/// Mode of folders that a layer does not mention but has something in.
const IMPLIED: RawMode = 0o755;
/// Bits that a file may have. No program in a container may gain privileges, so the bits that would say so are left
/// out, and a layer cannot leave such a program on this machine.
const FILE_BITS: RawMode = 0o777;
/// Folders also have the bit by which only its owner may remove a file.
const FOLDER_BITS: RawMode = 0o1777;

/// A folder that a layer is unpacked into.
pub(super) struct Tree {
    root: OwnedFd,
    ownership: Ownership,
    /// The folder that was used last: archives are sorted by folder.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Modes and times of folders, set at the end: a mode could keep us out, and a time changes with every file.
    folders: HashMap<Vec<u8>, (RawMode, i64)>,
    folder_names: usize,
}

/// A path of clean components.
type Components<'a> = Vec<&'a [u8]>;

/// A folder that must not be a link, opened.
fn open_folder(at: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// The components of a path. An absolute path counts from the layer's root, as everywhere.
pub(super) fn components(path: &[u8]) -> Result<Components<'_>, ImageError> {
    let parts: Components<'_> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(refused("leads out of the layer", path));
    }
    Ok(parts)
}

fn refused(why: &str, path: &[u8]) -> ImageError {
    ImageError::refused(format!("a layer has an entry that {why}: {:?}", String::from_utf8_lossy(path)))
}

/// An error of the system at a path. Names that are too long for it are the layer's fault.
fn failed(path: &[u8], error: Errno) -> ImageError {
    let shown = String::from_utf8_lossy(path);
    let kind = if error == Errno::NAMETOOLONG { Kind::Refused } else { Kind::Io };
    ImageError::because(kind, format!("cannot unpack {shown:?}"), error)
}

impl Tree {
    pub(super) fn open(folder: &Path, ownership: Ownership) -> Result<Self, ImageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, folder, flags, Mode::empty())
            .map_err(|error| ImageError::io(folder, error.into()))?;
        let tree = Self { root, ownership, last: None, folders: HashMap::new(), folder_names: 0 };
        let ready =
            tree.own(&tree.root, 0, 0).and_then(|()| fchmod(&tree.root, Mode::from_raw_mode(IMPLIED)));
        ready.map_err(|error| ImageError::io(folder, error.into()))?;
        Ok(tree)
    }

    /// Unpacks one entry.
    pub(super) fn add(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), ImageError> {
        let path = components(&entry.path)?;
        let Some((name, parents)) = path.split_last() else {
            return match entry.what {
                What::Folder => self.remember(&[], entry),
                _ => Err(refused("takes the place of the root", &entry.path)),
            };
        };
        // A folder that a whiteout hid is not this layer's to fill.
        if let Some(strange) = parents.iter().find(|part| part.starts_with(b".wh.")) {
            return Err(refused("is in a whiteout", strange));
        }
        let folder = self.folder(parents, true)?;
        let done = match whiteout::meaning(name)? {
            Meaning::Plain => self.place(&folder, name, &path, entry, content),
            Meaning::Gone(gone) => Self::hide(&folder, gone, &entry.path),
            Meaning::Opaque => whiteout::make_opaque(&folder).map_err(|error| failed(&entry.path, error)),
        };
        self.last = Some((parents.join(&b'/'), folder));
        done
    }

    /// A whiteout counts for the layers below only: what this layer has of that name stays, and hides them anyway.
    fn hide(folder: &OwnedFd, gone: &[u8], path: &[u8]) -> Result<(), ImageError> {
        match whiteout::place(folder, gone) {
            Err(Errno::EXIST) => match open_folder(folder, gone) {
                Ok(own) => whiteout::make_opaque(own).map_err(|error| failed(path, error)),
                Err(_) => Ok(()),
            },
            other => other.map_err(|error| failed(path, error)),
        }
    }

    fn place(
        &mut self,
        folder: &OwnedFd,
        name: &[u8],
        path: &Components<'_>,
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<(), ImageError> {
        if entry.what == What::Folder {
            return self.place_folder(folder, name, path, entry);
        }
        self.make_room(folder, name, &entry.path)?;
        let io = |error: Errno| failed(&entry.path, error);
        match &entry.what {
            What::File => self.write(folder, name, entry, content)?,
            What::Symlink(target) => {
                if target.is_empty() {
                    return Err(refused("is a link to nothing", &entry.path));
                }
                symlinkat(&target[..], folder, name).map_err(io)?;
            }
            What::Link(target) => return self.link(folder, name, target, &entry.path),
            What::Fifo => {
                let mode = Mode::from_raw_mode(entry.mode & FILE_BITS);
                mknodat(folder, name, FileType::Fifo, mode, 0).map_err(io)?;
            }
            What::Folder => {}
        }
        if entry.what != What::File {
            self.own_at(folder, name, entry).map_err(io)?;
            utimensat(folder, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
        }
        Ok(())
    }

    fn write(
        &self,
        folder: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<(), ImageError> {
        let io = |error: Errno| failed(&entry.path, error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(folder, name, flags, Mode::from_raw_mode(0o600)).map_err(io)?);
        copy(&mut &mut *content, &mut file).map_err(|error| match error.downcast::<ImageError>() {
            Ok(error) => error,
            Err(error) => ImageError::because(
                Kind::Io,
                format!("cannot unpack {:?}", entry.path.escape_ascii().to_string()),
                error,
            ),
        })?;
        self.own(&file, entry.uid, entry.gid).map_err(io)?;
        fchmod(&file, Mode::from_raw_mode(entry.mode & FILE_BITS)).map_err(io)?;
        futimens(&file, &times(entry.modified)).map_err(io)
    }

    /// Another name for something of the same layer.
    fn link(&mut self, folder: &OwnedFd, name: &[u8], target: &[u8], path: &[u8]) -> Result<(), ImageError> {
        let outside = || refused("is a hard link to what the layer does not hold", path);
        let parts = components(target)?;
        let Some((target_name, parents)) = parts.split_last() else { return Err(outside()) };
        let from = self.folder(parents, false)?;
        let stat = statat(&from, *target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| outside())?;
        if whiteout::is(&stat) || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(outside());
        }
        linkat(&from, *target_name, folder, name, AtFlags::empty()).map_err(|error| failed(path, error))
    }

    fn place_folder(
        &mut self,
        folder: &OwnedFd,
        name: &[u8],
        path: &Components<'_>,
        entry: &Entry,
    ) -> Result<(), ImageError> {
        let io = |error: Errno| failed(&entry.path, error);
        let made = match open_folder(folder, name) {
            Ok(known) => known,
            Err(_) => {
                let hidden = whiteout::is_at(folder, name);
                self.make_room(folder, name, &entry.path)?;
                mkdirat(folder, name, Mode::from_raw_mode(0o700)).map_err(io)?;
                let made = open_folder(folder, name).map_err(io)?;
                if hidden {
                    whiteout::make_opaque(&made).map_err(io)?;
                }
                made
            }
        };
        self.own(&made, entry.uid, entry.gid).map_err(io)?;
        self.remember(path, entry)
    }

    fn remember(&mut self, path: &[&[u8]], entry: &Entry) -> Result<(), ImageError> {
        let path = path.join(&b'/');
        self.folder_names += path.len();
        if self.folder_names > MAX_FOLDER_NAMES {
            return Err(ImageError::refused("a layer has too many folders"));
        }
        self.folders.insert(path, (entry.mode & FOLDER_BITS, entry.modified));
        Ok(())
    }

    /// Removes what an earlier entry, or a whiteout, put in the place of a new one.
    fn make_room(&self, folder: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), ImageError> {
        match unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => match unlinkat(folder, name, AtFlags::REMOVEDIR) {
                Ok(()) => Ok(()),
                Err(_) => Err(refused("takes the place of a folder", path)),
            },
            Err(error) => Err(failed(path, error)),
        }
    }

    /// Opens a folder of the tree. `make`: makes what is missing on the way.
    fn folder(&mut self, path: &[&[u8]], make: bool) -> Result<OwnedFd, ImageError> {
        let joined = path.join(&b'/');
        if let Some((_, known)) = self.last.as_ref().filter(|(last, _)| *last == joined) {
            return known.try_clone().map_err(|error| ImageError::because(Kind::Io, "cannot unpack", error));
        }
        let mut at =
            self.root.try_clone().map_err(|error| ImageError::because(Kind::Io, "cannot unpack", error))?;
        for part in path {
            at = match open_folder(&at, part) {
                Ok(next) => next,
                Err(Errno::NOENT) if make => self.imply(&at, part, false, &joined)?,
                Err(Errno::NOENT) => {
                    return Err(refused("is a hard link to what the layer does not hold", &joined));
                }
                Err(Errno::NOTDIR | Errno::LOOP) if make && whiteout::is_at(&at, part) => {
                    unlinkat(&at, *part, AtFlags::empty()).map_err(|error| failed(&joined, error))?;
                    self.imply(&at, part, true, &joined)?
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(refused("leads through a link or a file", &joined));
                }
                Err(error) => return Err(failed(&joined, error)),
            };
        }
        Ok(at)
    }

    fn imply(&self, at: &OwnedFd, name: &[u8], opaque: bool, path: &[u8]) -> Result<OwnedFd, ImageError> {
        let make = || {
            mkdirat(at, name, Mode::from_raw_mode(IMPLIED))?;
            let made = open_folder(at, name)?;
            fchmod(&made, Mode::from_raw_mode(IMPLIED))?;
            self.own(&made, 0, 0)?;
            if opaque {
                whiteout::make_opaque(&made)?;
            }
            Ok(made)
        };
        make().map_err(|error| failed(path, error))
    }

    fn owner(&self, uid: u64, gid: u64) -> Option<(Uid, Gid)> {
        Some((Uid::from_raw(self.ownership.id(uid)?), Gid::from_raw(self.ownership.id(gid)?)))
    }

    fn own(&self, file: impl AsFd, uid: u64, gid: u64) -> Result<(), Errno> {
        match self.owner(uid, gid) {
            Some((uid, gid)) => fchown(file, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    fn own_at(&self, folder: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Errno> {
        match self.owner(entry.uid, entry.gid) {
            Some((uid, gid)) => chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW),
            None => Ok(()),
        }
    }

    /// Gives folders their modes and times, the deepest first, and flushes everything to the disk.
    pub(super) fn finish(mut self) -> Result<(), ImageError> {
        self.last = None;
        let mut folders: Vec<_> = std::mem::take(&mut self.folders).into_iter().collect();
        folders.sort_by(|(a, _), (b, _)| b.cmp(a));
        for (path, (mode, modified)) in folders {
            // It may have been replaced since by something that is no folder.
            let Ok(folder) = self.folder(&components(&path)?, false) else { continue };
            let set =
                futimens(&folder, &times(modified)).and_then(|()| fchmod(&folder, Mode::from_raw_mode(mode)));
            set.map_err(|error| failed(&path, error))?;
        }
        syncfs(&self.root).map_err(|error| failed(b"/", error))
    }
}

fn times(modified: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified, tv_nsec: 0 },
    }
}
