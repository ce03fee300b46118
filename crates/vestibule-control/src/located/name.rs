//! Names of located resources, and the keys of their documents.

use std::fmt;

use vestibule_model::{project, region};

use super::{Info, KINDS};
use crate::Error;

/// Stands for all locations in lists.
const ANY_LOCATION: &str = "-";

/// The location of what is in no region.
const GLOBAL: &str = "global";

/// A project and a location.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The project's id.
    pub project: &'a str,
    /// A region, or `global`; in lists also `-`.
    pub location: &'a str,
}

impl Place<'_> {
    /// Refuses a location that does not exist.
    pub(super) fn check(self) -> Result<(), Error> {
        if self.location == GLOBAL || region::find(self.location).is_some() {
            return Ok(());
        }
        let (project, location) = (self.project, self.location);
        let message =
            format!("Location 'projects/{project}/locations/{location}' was not found or is not served.");
        Err(Error::NotFound { message })
    }
}

/// The name of a resource.
#[derive(Debug, Clone)]
pub struct Name {
    info: &'static Info,
    pub project: String,
    pub location: String,
    pub id: String,
}

impl Name {
    pub(super) fn new(info: &'static Info, place: Place<'_>, id: &str) -> Name {
        let (project, location) = (place.project.to_owned(), place.location.to_owned());
        Name { info, project, location, id: id.to_owned() }
    }

    /// Reads a reference: a relative name, with or without the API's host in front. `project` is the id of the project
    /// in which it was found: it may be named by its number.
    pub(super) fn read(info: &'static Info, reference: &str, project: &str) -> Option<Name> {
        let at = reference.find("projects/")?;
        if !(at == 0 || reference[..at].ends_with('/')) {
            return None;
        }
        let parts: Vec<&str> = reference[at..].split('/').collect();
        match parts[..] {
            ["projects", of, "locations", location, collection, id]
                if collection == info.collection && !id.is_empty() =>
            {
                Some(Name::new(info, Place { project: project::resolve(of, [project]), location }, id))
            }
            _ => None,
        }
    }

    /// The resource whose document is at a key.
    pub(super) fn of_key(info: &'static Info, key: &str) -> Option<Name> {
        let (service, relative) = key.split_once('/')?;
        (service == info.service && relative.starts_with("projects/"))
            .then(|| Name::read(info, relative, ""))
            .flatten()
    }

    /// The key of its document.
    pub fn key(&self) -> String {
        format!("{}/{self}", self.info.service)
    }

    /// The full name, `//networksecurity.googleapis.com/projects/…`, as other APIs show it.
    pub fn full(&self) -> String {
        format!("//{}.googleapis.com/{self}", self.info.service)
    }

    pub(super) fn info(&self) -> &'static Info {
        self.info
    }

    pub(super) fn not_found(&self) -> Error {
        Error::NotFound { message: format!("Resource '{self}' was not found") }
    }
}

/// The relative name.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name { info, project, location, id } = self;
        write!(f, "projects/{project}/locations/{location}/{}/{id}", info.collection)
    }
}

/// The prefix of keys of an API's documents in a place.
pub(super) fn prefix(service: &str, place: Place<'_>) -> String {
    let project = place.project;
    match place.location {
        ANY_LOCATION => format!("{service}/projects/{project}/locations/"),
        location => format!("{service}/projects/{project}/locations/{location}/"),
    }
}

/// Whether the document at a key is a resource, which the load balancer may be made of.
pub(crate) fn is_relevant(key: &str) -> bool {
    KINDS.iter().any(|kind| Name::of_key(kind.info(), key).is_some())
}
