//! Whiteouts: how a layer says that something below it is gone.
//!
//! In an archive a file `.wh.NAME` removes NAME, and `.wh..wh..opq` removes everything below its folder (OCI image
//! specification, "Whiteouts"). An overlay file system wants a character device 0:0 in the place of NAME, and an
//! attribute on the folder. Both can be made without privileges, the attribute in the form that overlays have inside
//! user namespaces (`user.overlay.opaque`), so that one form serves root and everyone else.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, Stat, XattrFlags, fsetxattr, makedev, mknodat, statat};
use rustix::io::Errno;

use crate::error::ImageError;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const OPAQUE_ATTRIBUTE: &str = "user.overlay.opaque";

/// What a file's name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// An ordinary file.
    Plain,
    /// This name is gone from the layers below.
    Gone(&'a [u8]),
    /// Everything in this folder is gone from the layers below.
    Opaque,
}

/// What the last component of a path means.
pub(super) fn meaning(name: &[u8]) -> Result<Meaning<'_>, ImageError> {
    if name == OPAQUE {
        return Ok(Meaning::Opaque);
    }
    match name.strip_prefix(PREFIX) {
        None => Ok(Meaning::Plain),
        // Names that would reach for the folder itself or its parent, and marks of file systems that are long gone.
        Some(gone) if gone.is_empty() || gone == b"." || gone == b".." || gone.starts_with(PREFIX) => Err(
            ImageError::refused(format!("a layer has a bad whiteout {:?}", String::from_utf8_lossy(name))),
        ),
        Some(gone) => Ok(Meaning::Gone(gone)),
    }
}

/// Puts a whiteout in the place of `name`.
pub(super) fn place(folder: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
}

/// Hides what the layers below have in a folder.
pub(super) fn make_opaque(folder: impl AsFd) -> Result<(), Errno> {
    fsetxattr(folder, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
}

/// Whether there is a whiteout. Layers themselves can bring no devices, so every one there is was placed here.
pub(super) fn is_at(folder: impl AsFd, name: &[u8]) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is(&stat))
}

pub(super) fn is(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(meaning(b"file").unwrap(), Meaning::Plain);
        assert_eq!(meaning(b".whatever").unwrap(), Meaning::Plain);
        assert_eq!(meaning(b".wh.file").unwrap(), Meaning::Gone(b"file"));
        assert_eq!(meaning(b".wh..hidden").unwrap(), Meaning::Gone(b".hidden"));
        assert_eq!(meaning(b".wh..wh..opq").unwrap(), Meaning::Opaque);
        for bad in [&b".wh."[..], b".wh..", b".wh...", b".wh..wh.", b".wh..wh..plnk", b".wh..wh.aufs"] {
            assert!(meaning(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
