//! Images from registries, through the distribution protocol.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError as Oci, OciErrorCode};
use oci_client::secrets::RegistryAuth;

use crate::blobs::Blobs;
use crate::credentials;
use crate::digest::Digest;
use crate::error::{ImageError, Kind};
use crate::layout::Found;
use crate::limits::{MAX_BLOB, MAX_CONFIG, MAX_INDEX_DEPTH, MAX_MANIFEST};
use crate::manifest::{self, ACCEPTED, Descriptor, Parsed, choose};
use crate::reference::RegistryReference;
use crate::store::Progress;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a blob is tried.
const ATTEMPTS: u32 = 3;
/// Pause before the second try of a blob; before the third it is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// Blobs that are read at once.
const AT_ONCE: usize = 3;

/// A registry's image on its way here.
struct Pull<'a> {
    client: Client,
    auth: RegistryAuth,
    reference: &'a RegistryReference,
    blobs: &'a Blobs,
    progress: &'a (dyn Fn(Progress) + Sync),
}

/// Gets an image with everything it needs. Blocks.
pub(crate) fn pull(
    reference: &RegistryReference,
    blobs: &Blobs,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Found, ImageError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ImageError::because(Kind::Io, "cannot speak to registries", error))?;
    let pull = Pull {
        client: client(reference)?,
        auth: credentials::find(reference.registry()),
        reference,
        blobs,
        progress,
    };
    runtime.block_on(pull.run())
}

fn client(reference: &RegistryReference) -> Result<Client, ImageError> {
    static PROVIDER: Once = Once::new();
    // An error says that there is one already, which will do.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let plain = is_loopback(reference.resolve_registry());
    let config = ClientConfig {
        protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        platform_resolver: None,
        user_agent: concat!("vestibule/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config)
        .map_err(|error| ImageError::because(Kind::Io, "cannot speak to registries", error))
}

/// A registry on this machine may speak without TLS, as for Docker.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl Pull<'_> {
    async fn run(&self) -> Result<Found, ImageError> {
        let (top, mut at) = self.manifest(self.reference, None).await?;
        let mut digest = top;
        for _ in 0..MAX_INDEX_DEPTH {
            match at {
                Parsed::Manifest(manifest) => {
                    let size = manifest.layers.iter().map(|layer| layer.size).sum();
                    self.contents(&manifest).await?;
                    return Ok(Found { digest: top, manifest: digest, size });
                }
                Parsed::Index(entries) => {
                    let chosen = choose(&entries, &self.reference.whole())?;
                    let reference = self.reference.clone_with_digest(chosen.digest.to_string());
                    (digest, at) = self.manifest(&reference, Some(chosen.digest)).await?;
                }
            }
        }
        Err(ImageError::refused(format!("the index of '{}' is nested too deep", self.reference)))
    }

    async fn manifest(
        &self,
        reference: &RegistryReference,
        expected: Option<Digest>,
    ) -> Result<(Digest, Parsed), ImageError> {
        let given = reference.digest().map(str::parse).transpose()?;
        let asked = self.client.pull_manifest_raw(reference, &self.auth, &ACCEPTED).await;
        let (bytes, _) = asked.map_err(|error| self.failed(error))?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ImageError::refused(format!("the manifest of '{}' is too big", self.reference)));
        }
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected.or(given).filter(|expected| *expected != digest) {
            return Err(ImageError::refused(format!("the content of {expected} has the digest {digest}")));
        }
        let parsed = manifest::parse(&bytes)?;
        self.blobs.put(&bytes)?;
        Ok((digest, parsed))
    }

    async fn contents(&self, manifest: &manifest::Manifest) -> Result<(), ImageError> {
        for (descriptor, limit) in std::iter::once((&manifest.config, MAX_CONFIG))
            .chain(manifest.layers.iter().map(|layer| (layer, MAX_BLOB)))
        {
            if descriptor.size > limit {
                let (digest, size) = (descriptor.digest, descriptor.size);
                return Err(ImageError::refused(format!("{digest} has {size} bytes, more than {limit}")));
            }
        }
        let mut missing: Vec<&Descriptor> =
            std::iter::once(&manifest.config).chain(&manifest.layers).collect();
        missing.sort_by_key(|descriptor| descriptor.digest);
        missing.dedup_by_key(|descriptor| descriptor.digest);
        missing.retain(|descriptor| !self.blobs.has(&descriptor.digest));
        let total = missing.iter().map(|descriptor| descriptor.size).sum();
        let done = AtomicU64::new(0);
        let count = |bytes: u64| {
            let done = done.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
            (self.progress)(Progress::Pulling { done, total });
        };
        count(0);
        iter(missing.into_iter().map(|descriptor| self.blob(descriptor, &count)))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn blob(&self, descriptor: &Descriptor, count: &dyn Fn(u64)) -> Result<(), ImageError> {
        let mut attempt = 1;
        loop {
            match self.blob_once(descriptor, count).await {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    tracing::info!(digest = %descriptor.digest, error = error.chain(), "trying again");
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn blob_once(&self, descriptor: &Descriptor, count: &dyn Fn(u64)) -> Result<(), ImageError> {
        let io = |error| ImageError::because(Kind::Io, format!("cannot store {}", descriptor.digest), error);
        let digest = descriptor.digest.to_string();
        let mut stream = self
            .client
            .pull_blob_stream(self.reference, &*digest)
            .await
            .map_err(|error| self.failed(error))?;
        let mut writer = self.blobs.writer().map_err(io)?;
        let received = async {
            while let Some(part) = stream.next().await {
                let part = part.map_err(|error| broken_off(&descriptor.digest, error))?;
                if writer.size() + part.len() as u64 > descriptor.size {
                    return Err(ImageError::refused(format!(
                        "{digest} has more bytes than its manifest says"
                    )));
                }
                writer.write_all(&part).map_err(io)?;
                count(part.len() as u64);
            }
            Ok(())
        };
        match received.await {
            Ok(()) => writer.commit(&descriptor.digest, descriptor.size),
            Err(error) => {
                // What was read does not count any more. Wraps around, as the counter does.
                count(writer.size().wrapping_neg());
                Err(error)
            }
        }
    }

    fn failed(&self, error: Oci) -> ImageError {
        let reference = self.reference.whole();
        let kind = match &error {
            Oci::ImageManifestNotFoundError(_) | Oci::ServerError { code: 404, .. } => Kind::NotFound,
            Oci::UnauthorizedError { .. }
            | Oci::AuthenticationFailure(_)
            | Oci::RegistryTokenDecodeError(_)
            | Oci::ServerError { code: 401 | 403, .. } => Kind::Denied,
            Oci::RegistryError { envelope, .. } => match envelope.errors.first().map(|first| &first.code) {
                Some(OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound) => {
                    Kind::NotFound
                }
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => Kind::Denied,
                _ => Kind::Unreachable,
            },
            Oci::DigestError(_) => Kind::Refused,
            _ => Kind::Unreachable,
        };
        match kind {
            Kind::NotFound => ImageError::because(kind, format!("Image '{reference}' not found."), error),
            Kind::Denied => ImageError::because(
                kind,
                format!(
                    "Permission to read the image '{reference}' was denied: log in with docker login, or check its name"
                ),
                error,
            ),
            _ => ImageError::because(kind, format!("cannot get '{reference}' from its registry"), error),
        }
    }
}

/// The stream of a blob ended with an error. One that says that the content is wrong will be no better next time.
fn broken_off(digest: &Digest, error: std::io::Error) -> ImageError {
    let wrong = error.get_ref().is_some_and(|inner| inner.is::<oci_client::errors::DigestError>());
    let kind = if wrong { Kind::Refused } else { Kind::Unreachable };
    ImageError::because(kind, format!("the registry's content of {digest} broke off or is wrong"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_speak_without_tls() {
        for plain in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(plain), "{plain}");
        }
        for secure in ["docker.io", "gcr.io", "10.0.0.1:5000", "localhost.evil.com", "127.0.0.1.nip.io:80"] {
            assert!(!is_loopback(secure), "{secure}");
        }
    }
}
