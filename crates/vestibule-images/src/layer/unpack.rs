//! Unpacks a packed layer into a folder.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::entries;
use super::tree::Tree;
use crate::digest::{Digest, Hashing};
use crate::error::{ImageError, Kind};
use crate::export::spool;
use crate::limits::{FREE_UNPACKED, MAX_RATIO, MAX_UNPACKED};
use crate::ownership::Ownership;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;

/// Unpacks the layer in the file `packed` into `target`, which must not be there yet. What is unpacked must have the
/// digest `diff_id`; if it has not, or anything else is wrong, there is no `target` afterwards.
pub(crate) fn unpack(
    packed: &Path,
    target: &Path,
    diff_id: &Digest,
    own: Ownership,
) -> Result<(), ImageError> {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = target.with_file_name(format!(".new-{:016x}-{name}", fastrand::u64(..)));
    fs::create_dir(&folder).map_err(|error| ImageError::io(&folder, error))?;
    let unpacked = unpack_into(packed, &folder, diff_id, own);
    let kept = unpacked.and_then(|()| match fs::rename(&folder, target) {
        Ok(()) => Ok(true),
        // Someone else was faster, with the same content.
        Err(_) if target.is_dir() => Ok(false),
        Err(error) => Err(ImageError::io(target, error)),
    });
    if !matches!(kept, Ok(true))
        && let Err(error) = remove_folder(&folder)
    {
        tracing::warn!(folder = %folder.display(), %error, "a half-unpacked layer was left behind");
    }
    kept.map(drop)
}

fn unpack_into(packed: &Path, folder: &Path, diff_id: &Digest, own: Ownership) -> Result<(), ImageError> {
    let io = |error| ImageError::io(packed, error);
    let file = File::open(packed).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let content = decompress(BufReader::with_capacity(BUFFER, file))?;
    let limited = Limited { inner: content, left: limit(size) };
    let mut tree = Tree::open(folder, own)?;
    let reader = entries::read(Hashing::new(BufReader::with_capacity(BUFFER, limited)), |entry, content| {
        tree.add(&entry, content)
    })?;
    // What follows the archive's end counts for the digest too.
    let found = reader.finish().map_err(|error| match error.downcast::<ImageError>() {
        Ok(error) => error,
        Err(error) => ImageError::because(Kind::Refused, "a layer cannot be read to its end", error),
    })?;
    if found != *diff_id {
        return Err(ImageError::refused(format!("the unpacked content of {diff_id} has the digest {found}")));
    }
    tree.finish()
}

/// Bytes that a layer of so many packed bytes may have.
fn limit(packed: u64) -> u64 {
    packed.saturating_mul(MAX_RATIO).clamp(FREE_UNPACKED, MAX_UNPACKED)
}

/// A layer as it is, or without its packing if that is one which not everyone knows. Answers also with its size in
/// bytes. `temporary` is a folder for what was unpacked.
pub(crate) fn plain(packed: &Path, temporary: &Path) -> io::Result<(File, u64)> {
    let mut file = File::open(packed)?;
    let mut start = [0; ZSTD.len()];
    let length = file.read(&mut start)?;
    file.rewind()?;
    if !is_zstd(&start[..length]) {
        let size = file.metadata()?.len();
        return Ok((file, size));
    }
    let size = limit(file.metadata()?.len());
    let content = decompress(BufReader::with_capacity(BUFFER, file)).map_err(io::Error::other)?;
    spool(Limited { inner: content, left: size }, temporary)
}

fn is_zstd(start: &[u8]) -> bool {
    start.starts_with(&ZSTD) || matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// What is packed says itself how; a manifest may say otherwise.
fn decompress(mut packed: BufReader<File>) -> Result<Box<dyn Read>, ImageError> {
    let broken = |error: String| ImageError::because(Kind::Refused, "a layer cannot be decompressed", error);
    let start = packed.fill_buf().map_err(|error| broken(error.to_string()))?;
    if start.starts_with(&GZIP) {
        return Ok(Box::new(MultiGzDecoder::new(packed)));
    }
    if is_zstd(start) {
        return Ok(Box::new(Frames { next: Some(packed), current: None }));
    }
    Ok(Box::new(packed))
}

/// Zstandard frames, one after another, as parallel compressors write them.
struct Frames {
    next: Option<BufReader<File>>,
    current: Option<Box<StreamingDecoder<BufReader<File>, FrameDecoder>>>,
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(current) = &mut self.current {
                let count = current.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
            }
            let mut rest = match (self.current.take(), self.next.take()) {
                (Some(current), _) => current.into_inner(),
                (None, Some(first)) => first,
                (None, None) => return Ok(0),
            };
            skip_frames(&mut rest)?;
            if rest.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let decoder = StreamingDecoder::new(rest).map_err(|error| io::Error::other(error.to_string()))?;
            self.current = Some(Box::new(decoder));
        }
    }
}

/// Passes over frames that hold no content, such as the tables of contents that some tools add (RFC 8878, 3.1.2).
fn skip_frames(packed: &mut BufReader<File>) -> io::Result<()> {
    while matches!(packed.fill_buf()?, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
        let mut head = [0; 8];
        packed.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        io::copy(&mut packed.by_ref().take(length.into()), &mut io::sink())?;
    }
    Ok(())
}

/// A reader that refuses to yield more than it may.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(ImageError::refused(
                "a layer is far bigger unpacked than packed, or just too big",
            ))
        })?;
        Ok(count)
    }
}

/// Removes an unpacked layer. Its folders may have modes that keep even their owner out.
pub(crate) fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder)?;
            fs::remove_dir_all(folder)
        }
        other => other,
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // The type of the entry itself: a link is no folder.
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
