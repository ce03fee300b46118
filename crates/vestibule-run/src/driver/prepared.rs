//! Images, got once for everything that is started from them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use vestibule_images::error::Kind;
use vestibule_images::{Freshness, Image, ImageError, Images, Progress};

use super::container::instances::lock;
use super::{Failure, Owner};
use crate::desired::Container;

/// How often the log tells how far an image is.
const PROGRESS: Duration = Duration::from_secs(2);

/// An image that is being got, or was.
type Cell = Arc<OnceCell<Arc<Image>>>;

/// The images of what runs.
#[derive(Debug)]
pub(super) struct Prepared {
    images: Arc<Images>,
    /// By owner and image reference.
    prepared: Mutex<HashMap<(String, String), Cell>>,
}

impl Prepared {
    pub(super) fn new(images: Arc<Images>) -> Self {
        Self { images, prepared: Mutex::default() }
    }

    pub(super) fn store(&self) -> &Arc<Images> {
        &self.images
    }

    /// The image of a container. Whoever comes second waits for the first.
    pub(super) async fn get(&self, owner: &Owner, container: &Container) -> Result<Arc<Image>, Failure> {
        let key = (name(owner), container.image.clone());
        let cell = lock(&self.prepared).entry(key).or_default().clone();
        let image = cell.get_or_try_init(|| self.resolve(owner, container)).await?;
        Ok(image.clone())
    }

    async fn resolve(&self, owner: &Owner, container: &Container) -> Result<Arc<Image>, Failure> {
        // What was never ready is being deployed, and that is when a tag is looked up.
        let freshness = if owner.is_proven() { Freshness::Stored } else { Freshness::Newest };
        let (images, name, reference) = (self.images.clone(), name(owner), container.image.clone());
        let resolve = move || {
            let said = Mutex::new(None);
            images.resolve_for(&name, &reference, freshness, &|progress| say(&said, &reference, progress))
        };
        let resolved = tokio::task::spawn_blocking(resolve).await;
        let resolved = resolved.unwrap_or_else(|error| Err(io::Error::other(error).into()));
        resolved.map(Arc::new).map_err(|error| missing(container, &error))
    }
}

/// A name for what a container belongs to that nothing else has.
fn name(owner: &Owner) -> String {
    format!("{}/{}/{}", owner.project(), owner.region(), owner.name())
}

/// Tells the log how far an image is, but not too often.
fn say(said: &Mutex<Option<Instant>>, reference: &str, progress: Progress) {
    let mut said = lock(said);
    let last = matches!(progress, Progress::Pulling { done, total } if done == total && total > 0);
    if !last && said.is_some_and(|said| said.elapsed() < PROGRESS) {
        return;
    }
    *said = Some(Instant::now());
    match progress {
        Progress::Pulling { total: 0, .. } => {}
        Progress::Pulling { done, total } => {
            tracing::info!(image = reference, done, total, percent = done * 100 / total, "pulling");
        }
        Progress::Unpacking { done, total } => {
            tracing::info!(image = reference, done, total, "unpacking layers")
        }
    }
}

/// There is no image to run.
fn missing(container: &Container, error: &ImageError) -> Failure {
    let message = match error.kind {
        Kind::NotFound => error.message.clone(),
        _ => format!("Image '{}' cannot be used: {}.", container.image, error.chain()),
    };
    Failure { reason: "ContainerMissing".to_owned(), message, transient: error.is_transient() }
}
