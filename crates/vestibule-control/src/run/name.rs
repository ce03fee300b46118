//! Names of services, revisions, jobs and executions, and the keys of their documents.

use std::collections::BTreeSet;

use vestibule_model::name::is_valid_name;
use vestibule_model::{project, region};
use vestibule_store::View;

use crate::Error;

/// Where a service is made when neither path nor endpoint says: the v1 API has the region in its host name, which a
/// client that was pointed at another host may have dropped.
pub const DEFAULT_LOCATION: &str = "us-central1";

/// Where a call is aimed.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The project's id.
    pub project: &'a str,
    /// `None` where the endpoint names no region: a service is then looked for in all of them. `-` means the same.
    pub location: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub fn new(project: &'a str, location: Option<&'a str>) -> Place<'a> {
        Place { project, location: location.filter(|location| *location != "-") }
    }
}

/// What a document describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Service,
    Revision,
    Job,
    Execution,
}

impl Kind {
    pub(super) fn collection(self) -> &'static str {
        match self {
            Kind::Service => "services",
            Kind::Revision => "revisions",
            Kind::Job => "jobs",
            Kind::Execution => "executions",
        }
    }

    /// The kind of a collection.
    pub(super) fn of_collection(collection: &str) -> Option<Kind> {
        let kinds = [Kind::Service, Kind::Revision, Kind::Job, Kind::Execution];
        kinds.into_iter().find(|kind| kind.collection() == collection)
    }

    /// The name of the message that describes it.
    pub(super) fn message(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::Revision => "Revision",
            Kind::Job => "Job",
            Kind::Execution => "Execution",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Service => "SERVICE",
            Kind::Revision => "REVISION",
            Kind::Job => "JOB",
            Kind::Execution => "EXECUTION",
        }
    }
}

/// The name of a service, a revision, a job or an execution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) project: String,
    pub(super) location: String,
    pub(super) name: String,
}

impl Name {
    pub(super) fn new(project: &str, location: &str, name: &str) -> Name {
        Name { project: project.to_owned(), location: location.to_owned(), name: name.to_owned() }
    }

    /// `projects/P/locations/L/services/S`
    pub(super) fn relative(&self, kind: Kind) -> String {
        format!("projects/{}/locations/{}/{}/{}", self.project, self.location, kind.collection(), self.name)
    }

    pub(super) fn key(&self, kind: Kind) -> String {
        format!("run/{}", self.relative(kind))
    }

    /// The key of the policy of a service or a job.
    pub(super) fn policy_key(&self, kind: Kind) -> String {
        format!("policy/{}", self.key(kind))
    }

    /// Another document of the same region.
    pub(super) fn sibling(&self, name: &str) -> Name {
        Name::new(&self.project, &self.location, name)
    }

    pub(super) fn project_number(&self) -> String {
        project::project_number(&self.project).to_string()
    }

    pub(super) fn not_found(&self, kind: Kind) -> Error {
        not_found(kind, &self.name, &self.location, &self.project)
    }
}

fn not_found(kind: Kind, name: &str, location: &str, project: &str) -> Error {
    Error::NotFound {
        message: format!(
            "Resource '{name}' of kind '{}' in region '{location}' in project '{project}' does not exist.",
            kind.word()
        ),
    }
}

/// The prefix of all keys of a project, or of one of its regions.
pub(super) fn prefix(place: Place<'_>) -> String {
    match place.location {
        Some(location) => format!("run/projects/{}/locations/{location}/", place.project),
        None => format!("run/projects/{}/locations/", place.project),
    }
}

/// Takes a key apart: the collection and the name.
pub(super) fn parse_key(key: &str) -> Option<(&str, Name)> {
    match key.split('/').collect::<Vec<_>>().as_slice() {
        ["run", "projects", project, "locations", location, collection, name] => {
            Some((collection, Name::new(project, location, name)))
        }
        _ => None,
    }
}

/// The names of one kind of document under a place.
pub(super) fn names(view: &View, place: Place<'_>, kind: Kind) -> Vec<Name> {
    let prefix = prefix(place);
    let found = view.range(&prefix).filter_map(|kv| parse_key(&kv.key));
    found.filter(|(collection, _)| *collection == kind.collection()).map(|(_, name)| name).collect()
}

/// Finds a document that exists. Without a location it is looked for in every region; should several have one of that
/// name, the default region's is meant, else the first.
pub(super) fn locate(view: &View, place: Place<'_>, kind: Kind, name: &str) -> Result<Name, Error> {
    if let Some(location) = place.location {
        let name = Name::new(place.project, location, name);
        let exists = view.get(&name.key(kind)).is_some();
        return if exists { Ok(name) } else { Err(name.not_found(kind)) };
    }
    let locations: BTreeSet<&str> = region::REGIONS.iter().map(|region| region.name).collect();
    let at = |location: &str| {
        Some(Name::new(place.project, location, name)).filter(|n| view.get(&n.key(kind)).is_some())
    };
    at(DEFAULT_LOCATION)
        .or_else(|| locations.into_iter().find_map(at))
        .ok_or_else(|| not_found(kind, name, DEFAULT_LOCATION, place.project))
}

/// Refuses a region that Google does not have.
pub(super) fn check_location(location: &str) -> Result<(), Error> {
    match region::find(location) {
        Some(_) => Ok(()),
        None => Err(Error::NotFound {
            message: format!("Location '{location}' is not found or access is unauthorized."),
        }),
    }
}

/// Refuses what cannot be the name of a service or a job: lower-case letters, digits and hyphens, a letter first, at
/// most 63.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::required("metadata.name"));
    }
    if is_valid_name(name) {
        return Ok(());
    }
    Err(Error::invalid(
        "metadata.name",
        name,
        "Resource name must use only lowercase letters, numbers and '-'. Must begin with a letter and cannot end \
         with a '-'. Maximum length is 63 characters.",
    ))
}
