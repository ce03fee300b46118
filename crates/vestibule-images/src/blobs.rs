//! Blobs under their own digests.
//!
//! A blob is written to a file that nobody else knows, its digest is computed on the way, and only if it is the one
//! that was asked for is the file flushed and given its name. A file that has a name is therefore whole and right.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::digest::{Digest, Hasher};
use crate::error::ImageError;

/// Bytes read at a time.
const BUFFER: usize = 128 * 1024;

/// A folder of blobs.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    folder: PathBuf,
    temporary: PathBuf,
}

impl Blobs {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let folder = root.join("blobs/sha256");
        let temporary = root.join("tmp");
        fs::create_dir_all(&folder)?;
        fs::create_dir_all(&temporary)?;
        Ok(Self { folder, temporary })
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// A small blob. It is checked again: disks forget too.
    pub(crate) fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ImageError> {
        let path = self.path(digest);
        let read = |path: &Path| {
            let mut bytes = Vec::new();
            File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read(&path).map_err(|error| ImageError::io(&path, error))?;
        if bytes.len() as u64 > limit {
            return Err(ImageError::refused(format!("{digest} is bigger than {limit} bytes")));
        }
        if Digest::of(&bytes) != *digest {
            return Err(ImageError::refused(format!("the stored content of {digest} was changed")));
        }
        Ok(bytes)
    }

    pub(crate) fn writer(&self) -> io::Result<Writer> {
        let path = self.temporary.join(format!("blob-{:016x}", fastrand::u64(..)));
        let file = File::create_new(&path)?;
        Ok(Writer { blobs: self.clone(), file, path, hasher: Hasher::default(), size: 0, kept: false })
    }

    /// Stores bytes that are at hand.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let store = || -> io::Result<Digest> {
            let mut writer = self.writer()?;
            writer.write_all(bytes)?;
            Ok(writer.keep()?.0)
        };
        store().map_err(|error| ImageError::io(&self.folder, error))
    }

    /// Stores what `reader` holds, which must be what `digest` says, and not more than `size` bytes.
    pub(crate) fn copy(&self, mut reader: impl Read, digest: &Digest, size: u64) -> Result<(), ImageError> {
        let io = |error| ImageError::io(&self.folder, error);
        let mut writer = self.writer().map_err(io)?;
        // One more, so that one that is too long is seen to be.
        copy(&mut reader.by_ref().take(size.saturating_add(1)), &mut writer).map_err(io)?;
        writer.commit(digest, size)
    }

    /// Every blob there is.
    pub(crate) fn all(&self) -> io::Result<Vec<Digest>> {
        let names = fs::read_dir(&self.folder)?.flatten().map(|file| file.file_name());
        Ok(names.filter_map(|name| format!("sha256:{}", name.to_str()?).parse().ok()).collect())
    }

    /// Removes a blob. Answers with the bytes that were freed.
    pub(crate) fn remove(&self, digest: &Digest) -> io::Result<u64> {
        let path = self.path(digest);
        let size = fs::metadata(&path)?.len();
        fs::remove_file(&path)?;
        Ok(size)
    }
}

/// A blob that is being written. Dropping it forgets it.
pub(crate) struct Writer {
    blobs: Blobs,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
    kept: bool,
}

impl Writer {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Keeps it if it is what it should be.
    pub(crate) fn commit(self, digest: &Digest, size: u64) -> Result<(), ImageError> {
        if self.size != size {
            let found = self.size;
            return Err(ImageError::refused(format!("{digest} should have {size} bytes and has {found}")));
        }
        let folder = self.blobs.folder.clone();
        let (found, _) = self.finish(Some(digest)).map_err(|error| ImageError::io(&folder, error))?;
        if found != *digest {
            return Err(ImageError::refused(format!("the content of {digest} has the digest {found}")));
        }
        Ok(())
    }

    /// Keeps it, whatever it is. Answers also whether it was not there before.
    pub(crate) fn keep(self) -> io::Result<(Digest, bool)> {
        self.finish(None)
    }

    fn finish(mut self, expected: Option<&Digest>) -> io::Result<(Digest, bool)> {
        let digest = std::mem::take(&mut self.hasher).finish();
        if expected.is_some_and(|expected| *expected != digest) {
            return Ok((digest, false));
        }
        let new = !self.blobs.has(&digest);
        self.file.sync_all()?;
        fs::rename(&self.path, self.blobs.path(&digest))?;
        self.kept = true;
        File::open(&self.blobs.folder)?.sync_all()?;
        Ok((digest, new))
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `io::copy` with a buffer that is worth a digest.
pub(crate) fn copy(reader: &mut impl Read, writer: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        writer.write_all(&buffer[..count])?;
        total += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn keeps_only_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = Digest::of(b"content");
        for (bytes, size) in
            [(&b"content"[..], 6), (b"content", 8), (b"contend", 7), (b"contents", 7), (b"", 0)]
        {
            assert_eq!(blobs.copy(bytes, &digest, size).unwrap_err().kind, Kind::Refused, "{bytes:?}");
        }
        assert!(!blobs.has(&digest));
        blobs.copy(&b"content"[..], &digest, 7).unwrap();
        assert_eq!(blobs.read(&digest, 7).unwrap(), b"content");
        assert_eq!(blobs.read(&digest, 6).unwrap_err().kind, Kind::Refused);
        assert_eq!(fs::read_dir(blobs.temporary()).unwrap().count(), 0, "something was left behind");
        assert_eq!(blobs.all().unwrap(), [digest]);
        fs::write(blobs.path(&digest), "changed").unwrap();
        assert_eq!(blobs.read(&digest, 7).unwrap_err().kind, Kind::Refused);
    }
}
