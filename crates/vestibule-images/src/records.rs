//! Which images there are: one small file each.
//!
//! A record says what a reference meant when it was resolved last, so that it means the same after a restart, and
//! what must not be thrown away.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Where an image came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// A registry: what it has under that name now may be newer.
    Registry,
    /// Loaded from a file under that name: what a registry has does not matter.
    Loaded,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) reference: String,
    /// The revision for which this was settled, if any: what the reference means to that revision for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<String>,
    /// What the reference was resolved to: a manifest or an index.
    pub(crate) digest: Digest,
    /// The manifest for this machine: the same, or one of the index.
    pub(crate) manifest: Digest,
    /// Packed bytes of all layers.
    pub(crate) size: u64,
    pub(crate) origin: Origin,
    /// RFC 3339.
    pub(crate) created: String,
}

/// A folder of records.
#[derive(Debug)]
pub(crate) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let folder = root.join("images");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// References may be long and have any characters, so a file is named by the digest of its reference.
    fn path(&self, reference: &str, revision: Option<&str>) -> PathBuf {
        // Neither can have a zero byte.
        let name = [reference, revision.unwrap_or_default()].join("\0");
        self.folder.join(format!("{}.json", Digest::of(name.as_bytes()).short()))
    }

    pub(crate) fn get(&self, reference: &str, revision: Option<&str>) -> Option<Record> {
        let path = self.path(reference, revision);
        let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (record.reference == reference && record.revision.as_deref() == revision).then_some(record)
    }

    pub(crate) fn put(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        let temporary = self.folder.join(format!(".{:016x}", fastrand::u64(..)));
        let write = || {
            let mut file = fs::File::create_new(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, self.path(&record.reference, record.revision.as_deref()))?;
            fs::File::open(&self.folder)?.sync_all()
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    pub(crate) fn remove(&self, record: &Record) -> io::Result<()> {
        fs::remove_file(self.path(&record.reference, record.revision.as_deref()))
    }

    /// Every record, by reference.
    pub(crate) fn all(&self) -> io::Result<Vec<Record>> {
        let mut all: Vec<Record> = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Ok(bytes) = fs::read(&path)
                && let Ok(record) = serde_json::from_slice(&bytes)
            {
                all.push(record);
            }
        }
        all.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(all)
    }
}
