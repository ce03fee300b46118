//! Folders in memory that containers are given: where they meet the runtime, and files of volumes, which may be
//! secret.

use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";
/// How often a folder is made for containers that others are leaving.
const TRIES: u32 = 10;

/// The folder of all that a runtime gives to containers. Its name is short, because it is part of the names of sockets,
/// and always the same for a state directory, so that what a killed runtime left is found.
#[derive(Debug)]
pub(super) struct Base(PathBuf);

/// A folder of one container or instance, gone when this is.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Base {
    /// Makes it anew. No other runtime has the same state directory.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let mut hasher = DefaultHasher::new();
        (state_dir, rustix::process::geteuid().as_raw()).hash(&mut hasher);
        let memory = Path::new(MEMORY);
        let parent = if memory.is_dir() { memory.to_owned() } else { state_dir.join("run") };
        let path = parent.join(format!("vestibule-{:016x}", hasher.finish()));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&parent)?;
        Ok(Self(path))
    }

    pub(super) fn folder(&self) -> io::Result<Folder> {
        let path = self.0.join(format!("{:012x}", fastrand::u64(..) >> 16));
        // The last folder that went took this one along, and may be doing so now.
        for _ in 0..TRIES {
            match DirBuilder::new().mode(0o700).create(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            // One that somebody else has put there is not given anything.
            if fs::symlink_metadata(&self.0)
                .is_ok_and(|found| found.uid() != rustix::process::geteuid().as_raw())
            {
                break;
            }
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                made => return made.map(|()| Folder(path)),
            }
        }
        Err(io::Error::other(format!("{} cannot be used", self.0.display())))
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// A folder in it, which whoever is given it may read.
    pub(super) fn make(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // Only the last one finds it empty.
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_and_removed() {
        let state = tempfile::tempdir().unwrap();
        let base = Base::open(state.path()).unwrap();
        let folder = base.folder().unwrap();
        fs::write(folder.make("x").unwrap().join("secret"), "s").unwrap();
        let (base_path, path) = (base.0.clone(), folder.path().to_owned());
        // As if this process had been killed.
        std::mem::forget((base, folder));
        assert!(path.is_dir());
        let base = Base::open(state.path()).unwrap();
        assert!(!path.exists() && base.0 == base_path);
        drop(base);
        assert!(!base_path.exists());
    }
}
