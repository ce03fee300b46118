//! What an image reference means to the process driver.

/// Repositories of the image that is built in: Google's sample service.
const HELLO: [&str; 2] = ["gcr.io/cloudrun/hello", "us-docker.pkg.dev/cloudrun/container/hello"];

/// Marks a program of this machine in place of an image.
const PROGRAM_PREFIX: &str = "process:";

/// What an image reference names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Image<'a> {
    /// The sample service, whatever tag or digest was asked for.
    Hello,
    /// A program of this machine: `process:/absolute/path`.
    Program(&'a str),
    /// An image that a container runtime would have to run.
    Container,
}

impl<'a> Image<'a> {
    pub(crate) fn of(reference: &'a str) -> Self {
        if let Some(path) = reference.strip_prefix(PROGRAM_PREFIX) {
            return if path.starts_with('/') { Image::Program(path) } else { Image::Container };
        }
        if HELLO.contains(&repository(reference)) { Image::Hello } else { Image::Container }
    }
}

/// The reference without tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    // A colon before the last slash belongs to the registry's port.
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_service_under_every_tag() {
        for reference in [
            "gcr.io/cloudrun/hello",
            "gcr.io/cloudrun/hello:latest",
            "gcr.io/cloudrun/hello@sha256:2e70803dbc92a7bffcee3af54b5d264b23a6096f304f00d63b7d1e177e40986c",
            "us-docker.pkg.dev/cloudrun/container/hello",
            "us-docker.pkg.dev/cloudrun/container/hello:v1@sha256:00",
        ] {
            assert_eq!(Image::of(reference), Image::Hello, "{reference}");
        }
    }

    #[test]
    fn programs_and_containers() {
        assert_eq!(Image::of("process:/bin/true"), Image::Program("/bin/true"));
        for reference in
            ["", "process:true", "hello", "gcr.io/cloudrun/hello2", "localhost:5000/cloudrun/hello", ":", "@"]
        {
            assert_eq!(Image::of(reference), Image::Container, "{reference}");
        }
    }
}
