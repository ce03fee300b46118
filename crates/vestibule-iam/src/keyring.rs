//! Keys of single service accounts, with which `signJwt` and `signBlob` sign.
//!
//! What such a key signs is the account's own word and no identity token: the issuer's key set does not hold it, so
//! no service accepts it. A key is made when its account first signs something, and kept.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::secret_file;
use crate::token::key::SigningKey;

/// The keys that the system manages for service accounts. Cheap to clone.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    /// Keys in memory, by unique id. The lock is held while a key is made, so that an account gets only one.
    keys: Mutex<HashMap<String, Arc<SigningKey>>>,
}

impl KeyRing {
    /// The keys that lie in `dir`, which is made if missing.
    pub fn open(dir: &Path) -> io::Result<KeyRing> {
        secret_file::make_dir(dir)?;
        Ok(KeyRing(Arc::new(Inner { dir: dir.to_owned(), keys: Mutex::default() })))
    }

    /// The key of the account with this unique id; the first call makes it. May block for a second.
    pub fn key(&self, unique_id: &str) -> io::Result<Arc<SigningKey>> {
        let path = self.path(unique_id)?;
        let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.get(unique_id) {
            return Ok(Arc::clone(key));
        }
        let key = match secret_file::read(&path)? {
            Some(der) => SigningKey::from_pkcs8(&der).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
            })?,
            None => {
                let key = SigningKey::generate().map_err(io::Error::other)?;
                secret_file::write(&path, key.pkcs8())?;
                key
            }
        };
        let key = Arc::new(key);
        keys.insert(unique_id.to_owned(), Arc::clone(&key));
        Ok(key)
    }

    /// Forgets the key of an account that was deleted.
    pub fn remove(&self, unique_id: &str) -> io::Result<()> {
        let path = self.path(unique_id)?;
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(unique_id);
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, unique_id: &str) -> io::Result<PathBuf> {
        // The id becomes a file name, so nothing but digits may get here.
        if unique_id.is_empty() || !unique_id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a unique id has decimal digits only"));
        }
        Ok(self.0.dir.join(format!("{unique_id}.pk8")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_one_key_until_it_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path()).unwrap();
        let id = ring.key("1").unwrap().id().to_owned();
        assert_eq!(ring.key("1").unwrap().id(), id);
        assert_eq!(KeyRing::open(dir.path()).unwrap().key("1").unwrap().id(), id, "kept");
        ring.remove("1").unwrap();
        ring.remove("1").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        for bad in ["", "../x", "1/2"] {
            assert!(ring.key(bad).is_err(), "{bad}");
        }
    }
}
