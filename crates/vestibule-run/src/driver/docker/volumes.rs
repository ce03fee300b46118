//! Volumes of an instance.
//!
//! Those of files are folders in memory, which are mounted so that nobody can change them. Those that can be written to
//! are the engine's own, in memory and of limited size: its containers share them, and it knows when the last has gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::engine::Engine;
use super::folder::{Base, Folder};
use crate::driver::container::instances::lock;
use crate::driver::container::pod::write_file;
use crate::driver::{Contents, Labels, Mounted};

/// Where the contents of a volume are.
#[derive(Debug, Clone)]
enum Place {
    Folder(PathBuf),
    /// Name of a volume of the engine.
    Memory(String),
}

/// The volumes of one instance, gone when this is.
#[derive(Debug)]
pub(super) struct Volumes {
    engine: Engine,
    carrier: Handle,
    labels: Labels,
    folder: Folder,
    places: Mutex<Vec<(Arc<str>, Place)>>,
}

impl Volumes {
    pub(super) fn new(engine: &Engine, carrier: &Handle, base: &Base, labels: Labels) -> io::Result<Self> {
        let (engine, carrier, places) = (engine.clone(), carrier.clone(), Mutex::default());
        Ok(Self { engine, carrier, labels, folder: base.folder()?, places })
    }

    /// Mounts as the engine is told of them. Volumes that are not there yet are made; those in memory hold `size` bytes
    /// if nothing else is said.
    pub(super) async fn mounts(&self, mounts: &[Mounted], size: u64) -> io::Result<Vec<Value>> {
        let mut told = Vec::new();
        for mounted in mounts {
            told.push(match self.place(mounted, size).await? {
                Place::Folder(path) => bind(&join(&path, &mounted.sub_path), &mounted.path),
                Place::Memory(_) if !mounted.sub_path.is_empty() => {
                    return Err(io::Error::new(
                        io::ErrorKind::Unsupported,
                        format!(
                            "a part of volume '{}' is to be mounted, and engines mount volumes in memory as a whole",
                            mounted.volume
                        ),
                    ));
                }
                Place::Memory(name) => json!({
                    "Type": "volume",
                    "Source": name,
                    "Target": mounted.path,
                    "ReadOnly": mounted.read_only,
                    "VolumeOptions": { "NoCopy": true },
                }),
            });
        }
        Ok(told)
    }

    async fn place(&self, mounted: &Mounted, size: u64) -> io::Result<Place> {
        let known = |places: &[(Arc<str>, Place)]| {
            places.iter().find(|(name, _)| *name == mounted.volume).map(|(_, place)| place.clone())
        };
        if let Some(place) = known(&lock(&self.places)) {
            return Ok(place);
        }
        let place = match &mounted.source {
            Contents::Memory { size_limit } => {
                let name = format!("vestibule-{:016x}", fastrand::u64(..));
                self.engine.create_volume(&name, size_limit.unwrap_or(size), &self.labels).await?;
                Place::Memory(name)
            }
            Contents::Files(files) => {
                let path = self.folder.make(&lock(&self.places).len().to_string())?;
                for file in files.iter() {
                    write_file(&path, Path::new(&file.path), &file.data, file.mode, None)?;
                }
                Place::Folder(path)
            }
        };
        lock(&self.places).push((mounted.volume.clone(), place.clone()));
        Ok(place)
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        for (_, place) in lock(&self.places).drain(..) {
            if let Place::Memory(name) = place {
                let engine = self.engine.clone();
                self.carrier.spawn(async move {
                    if let Err(error) = engine.remove_volume(&name).await {
                        tracing::warn!(%error, volume = name, "a volume stays");
                    }
                });
            }
        }
    }
}

/// A path in a volume: never out of it, whatever it says.
fn join(volume: &Path, sub_path: &str) -> PathBuf {
    let parts = sub_path.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
    parts.fold(volume.to_owned(), |path, part| path.join(part))
}

/// A file or folder of this machine, which cannot be changed there.
pub(super) fn bind(from: &Path, to: &str) -> Value {
    json!({ "Type": "bind", "Source": from, "Target": to, "ReadOnly": true })
}
