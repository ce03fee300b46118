//! The images of a state directory.
//!
//! ```text
//! images/
//!   images/NAME.json           what a reference means (one record each)
//!   blobs/sha256/HEX           manifests, configurations, packed layers, as they came
//!   layers/shifted/NAME/       unpacked layers, named by the digest of their content
//!   layers/own/NAME/           the same, for a server without root
//!   held/HEX                   locked by whoever runs the image with this manifest
//!   tmp/                       what is being written
//!   lock                       shared while something is added, exclusive while something is thrown away
//! ```
//!
//! Several processes may work on one store: files get their names when they are whole, and what is in use is locked,
//! so that pruning spares it, however the user of it ends.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use crate::archive;
use crate::blobs::Blobs;
use crate::config::{self, ImageConfig};
use crate::digest::Digest;
use crate::error::{ImageError, Kind};
use crate::export::{Export, Packed};
use crate::layer;
use crate::layout::{self, Found};
use crate::limits::{MAX_CONFIG, MAX_MANIFEST};
use crate::manifest::{self, Parsed};
use crate::ownership::Ownership;
use crate::records::{Origin, Record, Records};
use crate::reference::{self, RegistryReference, Source};
use crate::registry;
use crate::user::{self, User};

/// Folder of the store inside a state directory.
const FOLDER: &str = "images";

/// How new the answer to a tag must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// What the store has, if it has something: for what was resolved before.
    Stored,
    /// What the registry has now. What the store has if the registry cannot be asked, or if the image was loaded from
    /// a file under that name. For a deployment.
    Newest,
}

/// How far an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes that came, of bytes that are missing.
    Pulling { done: u64, total: u64 },
    /// Layers that were unpacked, of layers of the image.
    Unpacking { done: usize, total: usize },
}

/// An image that can be run.
#[derive(Debug, Clone)]
pub struct Image {
    /// `NAME@sha256:…`.
    pub name: String,
    pub config: ImageConfig,
    /// Who its program runs as.
    pub user: User,
    /// Where [`Image::layers`] are.
    pub layers_dir: PathBuf,
    /// Folders of the layers, from the bottom to the top, relative to [`Image::layers_dir`]. Their names have letters,
    /// digits, `-` and `_` only.
    pub layers: Vec<String>,
    packed: Vec<Packed>,
    temporary: PathBuf,
    /// Keeps it from being pruned.
    _held: Arc<File>,
}

impl Image {
    /// The same image, to be handed to another engine.
    pub fn export(&self) -> Export {
        Export::new(self.packed.clone(), &self.temporary)
    }
}

/// An image as [`Images::list`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub reference: String,
    pub digest: Digest,
    /// Packed bytes of its layers.
    pub size: u64,
    /// When it was resolved last, RFC 3339.
    pub created: String,
    /// Loaded from a file, not from a registry.
    pub loaded: bool,
    /// Someone runs it, or may at any moment.
    pub in_use: bool,
    /// The revision or execution that has settled on it, as [`Images::resolve_for`] was told. Never in
    /// [`Images::list`].
    pub settled_for: Option<String>,
}

/// What [`Images::prune`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// References of images that are gone.
    pub images: Vec<String>,
    pub layers: usize,
    /// Packed bytes that were freed. Unpacked layers are not counted.
    pub bytes: u64,
}

/// The images of a state directory. All calls block.
#[derive(Debug)]
pub struct Images {
    root: PathBuf,
    ownership: Ownership,
    layers_dir: PathBuf,
    blobs: Blobs,
    records: Records,
    /// One at a time for each reference: the second finds what the first has got.
    busy: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    held: Mutex<HashMap<Digest, std::sync::Weak<File>>>,
}

impl Images {
    /// Opens the store of a state directory, and makes it if there is none.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        Self::open_as(state_dir, Ownership::of_this_process())
    }

    /// The same, for an ownership that is not this process's usual one.
    pub fn open_as(state_dir: &Path, ownership: Ownership) -> io::Result<Self> {
        let root = state_dir.join(FOLDER);
        let layers_dir = root.join("layers").join(ownership.folder());
        fs::create_dir_all(&layers_dir)?;
        fs::create_dir_all(root.join("held"))?;
        // A container's root, who is nobody here, looks up its layers in it.
        fs::create_dir_all(layers_dir.join(Self::MOUNT_POINT))?;
        for folder in [&layers_dir, &layers_dir.join(Self::MOUNT_POINT)] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        let (blobs, records) = (Blobs::open(&root)?, Records::open(&root)?);
        let (busy, held) = (Mutex::default(), Mutex::default());
        Ok(Self { root, ownership, layers_dir, blobs, records, busy, held })
    }

    /// Name of an empty folder in [`Images::layers_dir`] that whoever runs an image may mount on, in a view of its own.
    pub const MOUNT_POINT: &str = "mnt";

    /// Where unpacked layers are.
    pub fn layers_dir(&self) -> &Path {
        &self.layers_dir
    }

    /// Whom the files of its layers belong to.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// An image of an empty folder, which whoever hands it to an engine may run something of his own in.
    pub fn nothing(&self) -> io::Result<Export> {
        // An archive without an entry.
        let layer = self.blobs.writer().and_then(|mut writer| {
            io::Write::write_all(&mut writer, &[0; 1024])?;
            Ok(writer.keep()?.0)
        })?;
        let layer = Packed { diff_id: layer, path: self.blobs.path(&layer) };
        Ok(Export::new(vec![layer], self.blobs.temporary()))
    }

    /// Finds the image that `reference` names, gets what is missing of it, and unpacks it.
    pub fn resolve(
        &self,
        reference: &str,
        freshness: Freshness,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Image, ImageError> {
        self.resolve_as(None, reference, freshness, progress)
    }

    /// The same for a revision, which keeps the image that it got at first: a tag that moves later, for another
    /// revision, does not move it, not even after a restart. [`Freshness::Newest`] settles it anew.
    pub fn resolve_for(
        &self,
        revision: &str,
        reference: &str,
        freshness: Freshness,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Image, ImageError> {
        self.resolve_as(Some(revision), reference, freshness, progress)
    }

    fn resolve_as(
        &self,
        revision: Option<&str>,
        reference: &str,
        freshness: Freshness,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Image, ImageError> {
        let (plain, pin) = reference::pinned(reference);
        let source = Source::parse(plain)?;
        let key = match &source {
            Source::Registry(parsed) => parsed.whole(),
            _ => reference.to_owned(),
        };
        let turn = lock(&self.busy).entry(key.clone()).or_default().clone();
        let _turn = lock(&turn);
        let _adding = self.guard(FlockOperation::LockShared)?;
        let settled =
            self.records.get(&key, revision).filter(|_| revision.is_some() && freshness == Freshness::Stored);
        let found = match settled {
            Some(record) => Ok(record.found()),
            None => self.find(&source, &key, pin, freshness, progress),
        };
        let image = match found.and_then(|found| Ok((found, self.assemble(&key, found, progress)?))) {
            // A store of which a part was lost is no reason to give up if the part can be had again.
            Err(error) if error.kind == Kind::Io && freshness == Freshness::Stored => {
                tracing::info!(reference = key, error = error.chain(), "the stored image is not whole");
                let found = self.find(&source, &key, pin, Freshness::Newest, progress)?;
                (found, self.assemble(&key, found, progress)?)
            }
            other => other?,
        };
        if revision.is_some() {
            self.note(&key, revision, image.0, Origin::Registry)?;
        }
        Ok(image.1)
    }

    fn guard(&self, operation: FlockOperation) -> Result<File, ImageError> {
        let path = self.root.join("lock");
        let take = || {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            flock(&file, operation)?;
            Ok(file)
        };
        take().map_err(|error| ImageError::io(&path, error))
    }

    fn find(
        &self,
        source: &Source,
        key: &str,
        pin: Option<Digest>,
        freshness: Freshness,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Found, ImageError> {
        if let Some(digest) = pin {
            return self.find_pinned(source, key, digest);
        }
        match source {
            Source::Registry(reference) => self.find_in_registry(reference, key, freshness, progress),
            local => {
                let stored = self.records.get(key, None).filter(|_| freshness == Freshness::Stored);
                if let Some(record) = stored {
                    return Ok(record.found());
                }
                let images = self.read_local(local, key)?;
                let [image] = &images[..] else {
                    let count = images.len();
                    return Err(ImageError::invalid(format!(
                        "'{key}' holds {count} images, and one is needed"
                    )));
                };
                self.note(key, None, image.found, Origin::Loaded)
            }
        }
    }

    /// What a file held when it had the digest: the store keeps it, whatever the file has become.
    fn find_pinned(&self, source: &Source, key: &str, digest: Digest) -> Result<Found, ImageError> {
        if let Some(found) = self.known(key, digest) {
            return Ok(found);
        }
        let images = self.read_local(source, key)?;
        match images.into_iter().find(|image| image.found.digest == digest) {
            Some(image) => self.note(key, None, image.found, Origin::Loaded),
            None => Err(ImageError::not_found(key)),
        }
    }

    /// An image of that name and digest that the store got under any tag.
    fn known(&self, key: &str, digest: Digest) -> Option<Found> {
        let name = without_version(key);
        let all = self.records.all().unwrap_or_default();
        let same = |record: &&Record| record.digest == digest && without_version(&record.reference) == name;
        all.iter().find(same).map(Record::found)
    }

    fn find_in_registry(
        &self,
        reference: &RegistryReference,
        key: &str,
        freshness: Freshness,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Found, ImageError> {
        let stored = self.records.get(key, None);
        if let Some(record) = &stored {
            let settled = reference.digest().is_some() || record.origin == Origin::Loaded;
            if settled || freshness == Freshness::Stored {
                return Ok(record.found());
            }
        }
        // A digest means the same wherever it comes from, and an image that was loaded is in no registry.
        if let Some(digest) = reference.digest().and_then(|digest| digest.parse().ok())
            && let Some(found) = self.known(key, digest)
        {
            return Ok(found);
        }
        match (registry::pull(reference, &self.blobs, progress), stored) {
            (Ok(found), _) => self.note(key, None, found, Origin::Registry),
            (Err(error), Some(record)) if error.kind == Kind::Unreachable => {
                tracing::warn!(reference = key, error = error.chain(), "using the image that was got before");
                Ok(record.found())
            }
            (Err(error), _) => Err(error),
        }
    }

    fn read_local(&self, source: &Source, reference: &str) -> Result<Vec<archive::Archived>, ImageError> {
        match source {
            Source::Layout { folder, name } => {
                let found = layout::read(folder, name.as_deref(), reference, &self.blobs)?;
                Ok(vec![archive::Archived { names: Vec::new(), found }])
            }
            Source::Archive(path) => archive::read(path, reference, &self.blobs),
            Source::Registry(_) => Err(ImageError::invalid(format!("'{reference}' is not a file"))),
        }
    }

    fn note(
        &self,
        reference: &str,
        revision: Option<&str>,
        found: Found,
        origin: Origin,
    ) -> Result<Found, ImageError> {
        let record = Record {
            reference: reference.to_owned(),
            revision: revision.map(str::to_owned),
            digest: found.digest,
            manifest: found.manifest,
            size: found.size,
            origin,
            created: jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default().to_string(),
        };
        self.records.put(&record).map_err(|error| ImageError::io(&self.root, error))?;
        Ok(found)
    }

    /// Makes an image of what is in the store: reads its configuration, unpacks its layers.
    fn assemble(
        &self,
        reference: &str,
        found: Found,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Image, ImageError> {
        // Held before anything is looked at, so that nothing can be pruned in between.
        let held = self.hold(&found.manifest).map_err(|error| ImageError::io(&self.root, error))?;
        let Parsed::Manifest(manifest) = manifest::parse(&self.blobs.read(&found.manifest, MAX_MANIFEST)?)?
        else {
            return Err(ImageError::invalid(format!("the manifest of '{reference}' is an index")));
        };
        let bytes = self.blobs.read(&manifest.config.digest, MAX_CONFIG)?;
        let (config, diff_ids) = config::parse(&bytes, reference)?;
        if diff_ids.len() != manifest.layers.len() {
            return Err(ImageError::refused(format!(
                "'{reference}' has {} layers and names {}",
                manifest.layers.len(),
                diff_ids.len()
            )));
        }
        let total = diff_ids.len();
        for (done, (diff_id, packed)) in diff_ids.iter().zip(&manifest.layers).enumerate() {
            let target = self.layers_dir.join(diff_id.short());
            if !target.is_dir() {
                progress(Progress::Unpacking { done, total });
                layer::unpack(&self.blobs.path(&packed.digest), &target, diff_id, self.ownership)?;
            }
        }
        let layers: Vec<String> = diff_ids.iter().map(Digest::short).collect();
        let packed = diff_ids.iter().zip(&manifest.layers);
        let packed = packed
            .map(|(diff_id, packed)| Packed { diff_id: *diff_id, path: self.blobs.path(&packed.digest) })
            .collect();
        let user = user::find(&config.user, &self.layers_dir, &layers)?;
        let name = format!("{}@{}", without_version(reference), found.digest);
        let (layers_dir, temporary) = (self.layers_dir.clone(), self.blobs.temporary().to_owned());
        Ok(Image { name, config, user, layers_dir, layers, packed, temporary, _held: held })
    }

    fn hold(&self, manifest: &Digest) -> io::Result<Arc<File>> {
        let mut held = lock(&self.held);
        if let Some(file) = held.get(manifest).and_then(std::sync::Weak::upgrade) {
            return Ok(file);
        }
        let file = File::options().create(true).truncate(false).write(true).open(self.hold_path(manifest))?;
        flock(&file, FlockOperation::LockShared)?;
        let file = Arc::new(file);
        held.insert(*manifest, Arc::downgrade(&file));
        Ok(file)
    }

    fn hold_path(&self, manifest: &Digest) -> PathBuf {
        self.root.join("held").join(manifest.hex())
    }

    fn is_held(&self, manifest: &Digest) -> bool {
        let Ok(file) = File::open(self.hold_path(manifest)) else { return false };
        flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
    }

    /// Puts the images of a layout or archive into the store, under the names that it gives them and under `name`,
    /// which must be given if it gives none. Answers with the references.
    pub fn load(&self, source: &Source, name: Option<&str>) -> Result<Vec<String>, ImageError> {
        let shown = match source {
            Source::Layout { folder, .. } => folder.display().to_string(),
            Source::Archive(path) => path.display().to_string(),
            Source::Registry(reference) => reference.whole(),
        };
        let _adding = self.guard(FlockOperation::LockShared)?;
        let images = self.read_local(source, &shown)?;
        if name.is_some() && images.len() > 1 {
            return Err(ImageError::invalid(format!(
                "'{shown}' holds {} images, too many for one name",
                images.len()
            )));
        }
        let mut loaded = Vec::new();
        for image in &images {
            for name in image.names.iter().map(String::as_str).chain(name) {
                let Source::Registry(reference) = Source::parse(name)? else {
                    return Err(ImageError::invalid(format!("{name:?} cannot be the name of an image")));
                };
                self.note(&reference.whole(), None, image.found, Origin::Loaded)?;
                loaded.push(reference.whole());
            }
        }
        if loaded.is_empty() {
            return Err(ImageError::invalid(format!(
                "'{shown}' gives its image no name, so one must be given"
            )));
        }
        Ok(loaded)
    }

    /// The images of the store, by reference.
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let records = self.records.all()?.into_iter().filter(|record| record.revision.is_none());
        Ok(records.map(|record| self.listed(&record)).collect())
    }

    fn listed(&self, record: &Record) -> Listed {
        Listed {
            in_use: self.is_held(&record.manifest),
            reference: record.reference.clone(),
            digest: record.digest,
            size: record.size,
            created: record.created.clone(),
            loaded: record.origin == Origin::Loaded,
            settled_for: record.revision.clone(),
        }
    }

    /// Throws away images that nobody holds and `keep` does not want, and what belongs to no image. `keep` is asked
    /// once for every image of [`Images::list`], and once more for every revision that settled on one.
    ///
    /// Waits until no process adds anything.
    pub fn prune(&self, keep: &dyn Fn(&Listed) -> bool) -> Result<Pruned, ImageError> {
        let _alone = self.guard(FlockOperation::LockExclusive)?;
        self.prune_alone(keep).map_err(|error| ImageError::io(&self.root, error))
    }

    fn prune_alone(&self, keep: &dyn Fn(&Listed) -> bool) -> io::Result<Pruned> {
        let mut pruned = Pruned::default();
        for record in self.records.all()? {
            let image = self.listed(&record);
            if !image.in_use && !keep(&image) {
                self.records.remove(&record)?;
                if record.revision.is_none() {
                    pruned.images.push(image.reference);
                }
            }
        }
        let mut blobs: BTreeSet<Digest> = BTreeSet::new();
        let mut layers: BTreeSet<String> = BTreeSet::new();
        let held = fs::read_dir(self.root.join("held"))?.flatten();
        let held = held.filter_map(|file| format!("sha256:{}", file.file_name().to_str()?).parse().ok());
        let held: Vec<Digest> = held.filter(|manifest| self.is_held(manifest)).collect();
        let held = held.into_iter().map(|manifest| Found { digest: manifest, manifest, size: 0 });
        for found in self.records.all()?.iter().map(Record::found).chain(held) {
            let used = archive::in_use(&found, &self.blobs);
            layers.extend(self.layers_of(&used));
            blobs.extend(used);
        }
        self.prune_blobs(&blobs, &mut pruned)?;
        self.prune_layers(&layers, &mut pruned)?;
        sweep(self.blobs.temporary())?;
        Ok(pruned)
    }

    /// Folders of the layers that configurations among these blobs name.
    fn layers_of(&self, blobs: &[Digest]) -> Vec<String> {
        let config = |digest: &Digest| config::parse(&self.blobs.read(digest, MAX_CONFIG).ok()?, "").ok();
        let configs = blobs.iter().filter_map(config);
        configs.flat_map(|(_, diff_ids)| diff_ids).map(|diff_id| diff_id.short()).collect()
    }

    fn prune_blobs(&self, used: &BTreeSet<Digest>, pruned: &mut Pruned) -> io::Result<()> {
        for digest in self.blobs.all()?.iter().filter(|digest| !used.contains(digest)) {
            pruned.bytes += self.blobs.remove(digest)?;
            let _ = fs::remove_file(self.hold_path(digest));
        }
        Ok(())
    }

    fn prune_layers(&self, used: &BTreeSet<String>, pruned: &mut Pruned) -> io::Result<()> {
        for folder in fs::read_dir(&self.layers_dir)? {
            let path = folder?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let half = name.starts_with(".new-");
            if used.contains(name) || name == Self::MOUNT_POINT {
                continue;
            }
            // Out of the way first: half of a layer must not have the name of a whole one.
            let gone = path.with_file_name(format!(".new-{:016x}", fastrand::u64(..)));
            fs::rename(&path, &gone)?;
            layer::remove_folder(&gone)?;
            pruned.layers += usize::from(!half);
        }
        Ok(())
    }
}

impl Record {
    fn found(&self) -> Found {
        Found { digest: self.digest, manifest: self.manifest, size: self.size }
    }
}

/// A reference without its tag and digest. Files keep their whole name.
fn without_version(reference: &str) -> &str {
    if ["oci:", "oci-archive:", "docker-archive:"].iter().any(|prefix| reference.starts_with(prefix)) {
        return reference::pinned(reference).0;
    }
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

/// Removes files that were never finished. Nobody is writing any now.
fn sweep(folder: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        fs::remove_file(file?.path())?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
