//! The entries of a layer's archive, with their long names and attributes.
//!
//! The archive is read raw, not as the `tar` crate would interpret it: that crate reads name extensions into memory
//! whatever their length, so a hostile archive could make it take as much as it likes.

use std::io::{self, Read};

use tar::{Archive, EntryType, Header, PaxExtensions};

use crate::error::{ImageError, Kind};
use crate::limits::{MAX_ENTRIES, MAX_EXTENSION, MAX_PATH};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    File,
    Folder,
    Symlink(Vec<u8>),
    /// Another name for this path of the same layer.
    Link(Vec<u8>),
    Fifo,
}

/// An entry without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As written: nothing about it was checked but its length.
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
    /// Permission bits, as written.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
}

/// Names and attributes that belong to the entry that follows them.
#[derive(Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<i64>,
    size: Option<u64>,
}

/// Calls `each` with every entry and its content.
pub(crate) fn read<R: Read>(
    reader: R,
    mut each: impl FnMut(Entry, &mut dyn Read) -> Result<(), ImageError>,
) -> Result<R, ImageError> {
    let mut archive = Archive::new(reader);
    let mut pending = Pending::default();
    let mut count = 0;
    for raw in archive.entries().map_err(broken)?.raw(true) {
        let mut raw = raw.map_err(broken)?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(ImageError::refused(format!("a layer has more than {MAX_ENTRIES} entries")));
        }
        let header = raw.header().clone();
        if pending.take_extension(&header, &mut raw)? {
            continue;
        }
        if let Some(entry) = std::mem::take(&mut pending).finish(&header)? {
            each(entry, &mut raw)?;
        }
    }
    Ok(archive.into_inner())
}

fn broken(error: io::Error) -> ImageError {
    // An error of ours that came through the reader keeps its words.
    match error.downcast::<ImageError>() {
        Ok(error) => error,
        Err(error) => ImageError::because(Kind::Refused, "a layer's archive cannot be read", error),
    }
}

impl Pending {
    /// Takes an entry that only says something about the next. `false`: it is not one.
    fn take_extension(&mut self, header: &Header, content: &mut impl Read) -> Result<bool, ImageError> {
        match header.entry_type() {
            EntryType::GNULongName => self.path = Some(text(content)?),
            EntryType::GNULongLink => self.link = Some(text(content)?),
            EntryType::XHeader => self.take_pax(&bounded(content)?)?,
            // Attributes of the archive as a whole: comments.
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_pax(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        for record in PaxExtensions::new(bytes) {
            let record = record.map_err(broken)?;
            let value = record.value_bytes();
            let number = || std::str::from_utf8(value).ok()?.parse().ok();
            match record.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"uid" => self.uid = number(),
                b"gid" => self.gid = number(),
                b"size" => {
                    self.size = Some(number().ok_or_else(|| ImageError::refused("a size is no number"))?)
                }
                b"mtime" => self.modified = seconds(value),
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(ImageError::refused("a layer has a sparse file"));
                }
                // Extended attributes among them: a layer must not set those by which an overlay is steered, and
                // capabilities of files mean nothing where no program may gain privileges.
                _ => {}
            }
        }
        Ok(())
    }

    /// `None`: the entry is none of the layer's own, see [`DEFAULT_DEVICES`].
    fn finish(self, header: &Header) -> Result<Option<Entry>, ImageError> {
        let path = self.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let shown = String::from_utf8_lossy(&path).into_owned();
        let refuse = |what: &str| Err(ImageError::refused(format!("a layer has {what} at {shown:?}")));
        let link =
            self.link.or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default();
        if path.len() > MAX_PATH || link.len() > MAX_PATH || path.contains(&0) || link.contains(&0) {
            return refuse("an impossible name");
        }
        let what = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => What::Folder,
            EntryType::Regular | EntryType::Continuous => What::File,
            EntryType::Directory => What::Folder,
            EntryType::Symlink => What::Symlink(link),
            EntryType::Link => What::Link(link),
            EntryType::Fifo => What::Fifo,
            EntryType::Char if is_default_device(&path, header) => return Ok(None),
            EntryType::Char | EntryType::Block => return refuse("a device node"),
            EntryType::GNUSparse => return refuse("a sparse file"),
            _ => return refuse("an entry of an unknown kind"),
        };
        // The content was cut by the size in the header.
        if self.size.is_some_and(|size| header.entry_size().ok() != Some(size)) {
            return refuse("two different sizes");
        }
        Ok(Some(Entry {
            path,
            what,
            mode: number(header.mode(), &header.as_old().mode)?,
            uid: self.uid.map_or_else(|| number(header.uid(), &header.as_old().uid), Ok)?,
            gid: self.gid.map_or_else(|| number(header.gid(), &header.as_old().gid), Ok)?,
            modified: self.modified.or_else(|| i64::try_from(header.mtime().ok()?).ok()).unwrap_or_default(),
        }))
    }
}

/// Name, major and minor number of the devices that every container finds in its own `/dev` (OCI runtime specification,
/// "Default Devices"). A root file system as debootstrap makes it has them too. None is made: the container's own hide
/// that folder.
const DEFAULT_DEVICES: [(&[u8], u32, u32); 8] = [
    (b"console", 5, 1),
    (b"full", 1, 7),
    (b"null", 1, 3),
    (b"ptmx", 5, 2),
    (b"random", 1, 8),
    (b"tty", 5, 0),
    (b"urandom", 1, 9),
    (b"zero", 1, 5),
];

fn is_default_device(path: &[u8], header: &Header) -> bool {
    let mut parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let (Some(b"dev"), Some(name), None) = (parts.next(), parts.next(), parts.next()) else { return false };
    let (Ok(Some(major)), Ok(Some(minor))) = (header.device_major(), header.device_minor()) else {
        return false;
    };
    DEFAULT_DEVICES.contains(&(name, major, minor))
}

/// A number that was read from `field`. Some tools leave a field empty to say 0.
fn number<T: Default>(read: io::Result<T>, field: &[u8]) -> Result<T, ImageError> {
    match read {
        Err(_) if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(T::default()),
        other => other.map_err(broken),
    }
}

/// A name that ends at the first zero byte.
fn text(content: &mut impl Read) -> Result<Vec<u8>, ImageError> {
    let mut bytes = bounded(content)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    Ok(bytes)
}

fn bounded(content: &mut impl Read) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    content.take(MAX_EXTENSION + 1).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > MAX_EXTENSION {
        return Err(ImageError::refused(format!("a layer has a name of more than {MAX_EXTENSION} bytes")));
    }
    Ok(bytes)
}

/// Whole seconds of a time that may have a fraction.
fn seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.split('.').next()?.parse().ok()
}
