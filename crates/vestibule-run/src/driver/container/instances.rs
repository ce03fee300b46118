//! What the runtime keeps of an instance while any container of it is there.
//!
//! The first container of an instance brings its namespaces and its network; the others are put into them.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::metadata::Forwarder;
use super::outlet::Outlet;
use super::plan::{Mount, Volume};
use super::route::Route;
use crate::driver::{Contents, Mounted};

/// The instances that have containers.
#[derive(Debug)]
pub(in crate::driver) struct Instances<T>(Mutex<HashMap<Arc<str>, Weak<T>>>);

/// An instance. Its containers hold it.
#[derive(Debug)]
pub(in crate::driver) struct Instance {
    /// User, mount and network namespace, to be joined.
    pub(in crate::driver) namespaces: [OwnedFd; 3],
    /// The address under which it is reached.
    pub(in crate::driver) address: Ipv4Addr,
    pub(in crate::driver) volumes: Mutex<Volumes>,
    pub(in crate::driver) _route: Route,
    pub(in crate::driver) _forwarder: Option<Forwarder>,
    pub(in crate::driver) _outlet: Option<Outlet>,
}

impl<T> Default for Instances<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Instances<T> {
    pub(in crate::driver) fn get(&self, id: &str) -> Option<Arc<T>> {
        lock(&self.0).get(id)?.upgrade()
    }

    pub(in crate::driver) fn add(&self, id: &Arc<str>, instance: &Arc<T>) {
        let mut all = lock(&self.0);
        all.retain(|_, instance| instance.strong_count() > 0);
        all.insert(id.clone(), Arc::downgrade(instance));
    }
}

/// Volumes that an instance has, by name.
#[derive(Debug, Clone, Default)]
pub(in crate::driver) struct Volumes(Vec<Arc<str>>);

impl Volumes {
    /// What has to be made for these mounts, each holding `size` bytes if nothing else is said, and the mounts
    /// themselves.
    pub(in crate::driver) fn add(&mut self, mounts: &[Mounted], size: u64) -> (Vec<Volume>, Vec<Mount>) {
        let mut new = Vec::new();
        let mut placed = Vec::new();
        for mounted in mounts {
            let volume = self.0.iter().position(|name| *name == mounted.volume).unwrap_or_else(|| {
                let number = self.0.len();
                self.0.push(mounted.volume.clone());
                new.push(volume(number, &mounted.source, size));
                number
            });
            placed.push(Mount {
                volume,
                sub_path: mounted.sub_path.clone(),
                target: mounted.path.clone(),
                read_only: mounted.read_only,
            });
        }
        (new, placed)
    }
}

fn volume(number: usize, contents: &Contents, size: u64) -> Volume {
    match contents {
        Contents::Memory { size_limit } => {
            Volume { number, size: size_limit.unwrap_or(size), files: Vec::new() }
        }
        Contents::Files(files) => Volume {
            number,
            // The file system counts in pages, and folders too.
            size: files.iter().map(|file| file.data.len() as u64 + (16 << 10)).sum::<u64>() + (64 << 10),
            files: files.iter().map(|file| (file.path.clone(), file.data.clone(), file.mode)).collect(),
        },
    }
}

pub(in crate::driver) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_made_once() {
        let mounted = |volume: &str, path: &str| Mounted {
            volume: volume.into(),
            source: Contents::Memory { size_limit: None },
            path: path.into(),
            read_only: false,
            sub_path: String::new(),
        };
        let mut volumes = Volumes::default();
        let (new, placed) = volumes.add(&[mounted("a", "/a"), mounted("b", "/b"), mounted("a", "/c")], 5);
        assert_eq!((new.len(), new[0].size), (2, 5));
        assert_eq!(placed.iter().map(|mount| mount.volume).collect::<Vec<_>>(), [0, 1, 0]);
        let (new, placed) = volumes.add(&[mounted("b", "/x"), mounted("c", "/y")], 5);
        assert_eq!((new.len(), new[0].number, placed[0].volume, placed[1].volume), (1, 2, 1, 2));
    }
}
