//! Names of compute resources, and every way in which clients refer to one.
//!
//! One resource has many spellings. gcloud sends the host it was pointed at, Terraform sends
//! `https://www.googleapis.com/compute/v1/…` or a bare `projects/…`, people write `regions/us-central1/…`, and a
//! server pointed at without its service path yields `http://127.0.0.1:PORT/projects/…`. All of them are parsed
//! here, once, to a [`ResourceName`]; everything behind this module compares values, never strings.

use std::fmt;

/// The prefix of every link that we hand out, whatever endpoint the client called: Google does the same, and
/// Terraform compares links as text.
pub const SELF_LINK_PREFIX: &str = "https://www.googleapis.com/compute/v1/";

/// Google's pattern for names of compute resources (RFC 1035 labels), as it appears in its error messages.
pub const NAME_PATTERN: &str = "(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)";

/// Longest name of a compute resource, in bytes (RFC 1035, section 2.3.4).
pub const MAX_NAME_LEN: usize = 63;

/// Where a compute resource lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `global`
    Global,
    /// `regions/R`
    Region(String),
    /// `zones/Z`
    Zone(String),
}

impl Scope {
    /// A regional scope.
    pub fn region(region: impl Into<String>) -> Self {
        Scope::Region(region.into())
    }

    /// A zonal scope.
    pub fn zone(zone: impl Into<String>) -> Self {
        Scope::Zone(zone.into())
    }

    /// The region's name, for regional resources only.
    pub fn region_name(&self) -> Option<&str> {
        match self {
            Scope::Region(region) => Some(region),
            _ => None,
        }
    }

    /// The zone's name, for zonal resources only.
    pub fn zone_name(&self) -> Option<&str> {
        match self {
            Scope::Zone(zone) => Some(zone),
            _ => None,
        }
    }

    /// Reads `global`, `regions/R` or `zones/Z`: also the keys of an `aggregatedList` answer.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "global" {
            return Some(Scope::Global);
        }
        match text.split_once('/')? {
            ("regions", r) if is_location(r) => Some(Scope::region(r)),
            ("zones", z) if is_location(z) => Some(Scope::zone(z)),
            _ => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Global => f.write_str("global"),
            Scope::Region(region) => write!(f, "regions/{region}"),
            Scope::Zone(zone) => write!(f, "zones/{zone}"),
        }
    }
}

/// The canonical name of one compute resource. Two references mean the same resource exactly when these are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceName {
    pub project: String,
    pub scope: Scope,
    /// The collection as it stands in the path, e.g. `urlMaps`.
    pub collection: String,
    pub name: String,
}

/// Why a reference could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// The reference is empty.
    Empty,
    /// Its shape is none that the compute API knows.
    Malformed { reference: String },
    /// It is partial (`regions/…`, or a bare name) where nothing says what completes it.
    Partial { reference: String },
    /// One part of it is not a valid name.
    BadSegment { reference: String, segment: String },
    /// It names a resource of another collection than the field wants.
    WrongCollection { reference: String, expected: String },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => f.write_str("The reference is empty."),
            NameError::Malformed { .. } => f.write_str("The URL is malformed."),
            NameError::Partial { .. } => f.write_str("The URL is incomplete."),
            NameError::BadSegment { segment, .. } => {
                write!(f, "'{segment}' in the URL must be a match of regex '{NAME_PATTERN}'")
            }
            NameError::WrongCollection { expected, .. } => {
                write!(f, "The URL must refer to a resource of collection '{expected}'.")
            }
        }
    }
}

impl std::error::Error for NameError {}

impl ResourceName {
    /// Puts a name together from parts that are already known to be valid.
    pub fn new(
        project: impl Into<String>,
        scope: Scope,
        collection: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self { project: project.into(), scope, collection: collection.into(), name: name.into() }
    }

    /// Reads a reference that names its project: a full URL on any host, or `[compute/v1/]projects/…`.
    pub fn parse(reference: &str) -> Result<Self, NameError> {
        Self::read(reference, None)
    }

    /// Reads any reference with a collection in it; `global/…`, `regions/…` and `zones/…` are taken to be in `project`.
    pub fn parse_in(reference: &str, project: &str) -> Result<Self, NameError> {
        Self::read(reference, Some(project))
    }

    /// Reads any reference at all; a bare name is taken to be in `project`, `scope` and `collection`. This is the one
    /// to use for a field of a request body. The collection of a longer reference is *not* compared with
    /// `collection`: use [`ResourceName::expect_collection`], or look at it, where only one will do.
    pub fn parse_with(
        reference: &str,
        project: &str,
        scope: &Scope,
        collection: &str,
    ) -> Result<Self, NameError> {
        if reference.contains('/') {
            return Self::read(reference, Some(project));
        }
        if reference.is_empty() {
            return Err(NameError::Empty);
        }
        check_segment(reference, reference)?;
        Ok(Self::new(project, scope.clone(), collection, reference))
    }

    /// Reads a store key, the inverse of [`ResourceName::key`].
    pub fn from_key(key: &str) -> Option<Self> {
        Self::read(key.strip_prefix("compute/")?, None).ok()
    }

    /// Fails unless this is a resource of one of `collections`.
    pub fn expect_collection(self, collections: &[&str]) -> Result<Self, NameError> {
        if collections.contains(&self.collection.as_str()) {
            return Ok(self);
        }
        let expected = collections.join("' or '");
        Err(NameError::WrongCollection { reference: self.self_link(), expected })
    }

    /// `projects/P/regions/R/urlMaps/X`
    pub fn relative(&self) -> String {
        format!("{}/{}", self.parent_relative(), self.name)
    }

    /// `https://www.googleapis.com/compute/v1/projects/P/regions/R/urlMaps/X`
    pub fn self_link(&self) -> String {
        format!("{SELF_LINK_PREFIX}{}", self.relative())
    }

    /// The store's key: `compute/projects/P/regions/R/urlMaps/X`.
    pub fn key(&self) -> String {
        format!("compute/{}", self.relative())
    }

    /// `projects/P/regions/R/urlMaps`, the collection that holds it.
    pub fn parent_relative(&self) -> String {
        format!("projects/{}/{}/{}", self.project, self.scope, self.collection)
    }

    /// The prefix of the store's keys of all resources beside this one, with the closing slash.
    pub fn parent_key(&self) -> String {
        format!("compute/{}/", self.parent_relative())
    }

    /// Another resource of the same project and scope.
    pub fn sibling(&self, collection: &str, name: &str) -> Self {
        Self::new(self.project.clone(), self.scope.clone(), collection, name)
    }

    fn read(reference: &str, default_project: Option<&str>) -> Result<Self, NameError> {
        if reference.is_empty() {
            return Err(NameError::Empty);
        }
        let malformed = || NameError::Malformed { reference: reference.to_owned() };
        let (project, rest) = match strip_endpoint(reference).ok_or_else(malformed)? {
            rest if rest.starts_with("projects/") => {
                rest["projects/".len()..].split_once('/').ok_or_else(malformed)?
            }
            rest => {
                let partial = || NameError::Partial { reference: reference.to_owned() };
                (default_project.ok_or_else(partial)?, rest)
            }
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (scope, collection, name) = match parts.as_slice() {
            ["global", collection, name] => (Scope::Global, *collection, *name),
            ["regions", region, collection, name] => (Scope::region(*region), *collection, *name),
            ["zones", zone, collection, name] => (Scope::zone(*zone), *collection, *name),
            _ => return Err(malformed()),
        };
        if !is_collection(collection) {
            return Err(malformed());
        }
        if !is_project_id(project) {
            return Err(bad_segment(reference, project));
        }
        if let Scope::Region(location) | Scope::Zone(location) = &scope {
            check_segment(reference, location)?;
        }
        check_segment(reference, name)?;
        Ok(Self::new(project, scope, collection, name))
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.relative())
    }
}

/// Reads a reference to a region (or a bare region name): `…/regions/R`.
pub fn parse_region(reference: &str) -> Option<String> {
    parse_location(reference, "regions")
}

/// Reads a reference to a zone (or a bare zone name): `…/zones/Z`.
pub fn parse_zone(reference: &str) -> Option<String> {
    parse_location(reference, "zones")
}

/// The link to a region, as documents carry it.
pub fn region_link(project: &str, region: &str) -> String {
    format!("{SELF_LINK_PREFIX}projects/{project}/regions/{region}")
}

/// The link to a zone, as documents carry it.
pub fn zone_link(project: &str, zone: &str) -> String {
    format!("{SELF_LINK_PREFIX}projects/{project}/zones/{zone}")
}

/// Whether `text` is an RFC 1035 label of at most 63 bytes: what Google asks of names.
pub fn is_valid_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some((first, last)) = bytes.first().zip(bytes.last()) else { return false };
    bytes.len() <= MAX_NAME_LEN
        && first.is_ascii_lowercase()
        && *last != b'-'
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// Whether `text` may stand where a project is named: an id, a number, or an id of the older `domain:id` form.
///
/// Google wants 6 to 30 characters when a project is *made*. Ours are never made, and `demo` is a good name for one.
pub fn is_project_id(text: &str) -> bool {
    if !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    match text.split_once(':') {
        Some((domain, id)) => !domain.is_empty() && domain.split('.').all(is_valid_name) && is_valid_name(id),
        None => is_valid_name(text),
    }
}

fn parse_location(reference: &str, kind: &str) -> Option<String> {
    let location = match reference.rsplit_once('/') {
        None => reference,
        Some((head, location)) if head == kind || head.ends_with(&format!("/{kind}")) => location,
        Some(_) => return None,
    };
    is_location(location).then(|| location.to_owned())
}

fn is_location(text: &str) -> bool {
    is_valid_name(text)
}

/// Collections are camel case words. Operations and the like are among them, so this is no closed list.
fn is_collection(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn check_segment(reference: &str, segment: &str) -> Result<(), NameError> {
    if is_valid_name(segment) { Ok(()) } else { Err(bad_segment(reference, segment)) }
}

fn bad_segment(reference: &str, segment: &str) -> NameError {
    NameError::BadSegment { reference: reference.to_owned(), segment: segment.to_owned() }
}

/// Drops scheme, host and service path. `None` for a URL without a path or with a scheme of its own.
fn strip_endpoint(reference: &str) -> Option<&str> {
    let path = match reference.split_once("://") {
        Some(("http" | "https", rest)) => rest.split_once('/')?.1,
        Some(_) => return None,
        // Google's "full resource name": //compute.googleapis.com/projects/…
        None => match reference.strip_prefix("//") {
            Some(rest) => rest.split_once('/')?.1,
            None => reference.strip_prefix('/').unwrap_or(reference),
        },
    };
    for version in ["compute/v1/", "compute/beta/", "compute/alpha/", "v1/"] {
        if let Some(rest) = path.strip_prefix(version) {
            return Some(rest);
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url_map() -> ResourceName {
        ResourceName::new("demo", Scope::region("us-central1"), "urlMaps", "web")
    }

    #[test]
    fn every_spelling_names_the_same_resource() {
        for spelling in [
            "https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1/urlMaps/web",
            "https://compute.googleapis.com/compute/v1/projects/demo/regions/us-central1/urlMaps/web",
            "https://www.googleapis.com/compute/beta/projects/demo/regions/us-central1/urlMaps/web",
            "http://127.0.0.1:8470/compute/v1/projects/demo/regions/us-central1/urlMaps/web",
            "http://127.0.0.1:8470/projects/demo/regions/us-central1/urlMaps/web",
            "//compute.googleapis.com/projects/demo/regions/us-central1/urlMaps/web",
            "compute/v1/projects/demo/regions/us-central1/urlMaps/web",
            "/compute/v1/projects/demo/regions/us-central1/urlMaps/web",
            "projects/demo/regions/us-central1/urlMaps/web",
        ] {
            assert_eq!(ResourceName::parse(spelling).as_ref(), Ok(&url_map()), "{spelling}");
        }
    }

    #[test]
    fn partial_references_take_what_they_lack_from_the_field() {
        let scope = Scope::region("us-central1");
        assert_eq!(ResourceName::parse_with("web", "demo", &scope, "urlMaps"), Ok(url_map()));
        assert_eq!(
            ResourceName::parse_with("regions/us-central1/urlMaps/web", "demo", &Scope::Global, "networks"),
            Ok(url_map())
        );
        assert_eq!(ResourceName::parse_in("regions/us-central1/urlMaps/web", "demo"), Ok(url_map()));
        assert_eq!(
            ResourceName::parse_in("global/networks/default", "demo"),
            Ok(ResourceName::new("demo", Scope::Global, "networks", "default"))
        );
        assert!(matches!(ResourceName::parse("global/networks/n"), Err(NameError::Partial { .. })));
        assert_eq!(ResourceName::parse_with("", "demo", &scope, "urlMaps"), Err(NameError::Empty));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in [
            "https://www.googleapis.com",
            "ftp://host/projects/p/global/networks/n",
            "projects/p",
            "projects/p/global",
            "projects/p/global/networks",
            "projects/p/global/networks/",
            "projects/p/global/networks/n/extra",
            "projects/p/planets/mars/networks/n",
            "projects//global/networks/n",
            "projects/p/global/networks/UPPER",
            "projects/p/regions/../networks/n",
            "projects/p/global/Net-works/n",
        ] {
            assert!(ResourceName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_and_keys() {
        let name = url_map();
        assert_eq!(name.relative(), "projects/demo/regions/us-central1/urlMaps/web");
        assert_eq!(
            name.self_link(),
            "https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1/urlMaps/web"
        );
        assert_eq!(name.key(), "compute/projects/demo/regions/us-central1/urlMaps/web");
        assert_eq!(name.parent_key(), "compute/projects/demo/regions/us-central1/urlMaps/");
        assert_eq!(ResourceName::from_key(&name.key()), Some(name));
    }

    #[test]
    fn a_field_may_insist_on_a_collection() {
        assert!(url_map().expect_collection(&["backendServices", "urlMaps"]).is_ok());
        assert!(url_map().expect_collection(&["backendServices"]).is_err());
    }

    #[test]
    fn regions_and_zones() {
        assert_eq!(parse_region("us-central1").as_deref(), Some("us-central1"));
        assert_eq!(parse_region(&region_link("p", "us-east1")).as_deref(), Some("us-east1"));
        assert_eq!(parse_region("projects/p/zones/us-east1-b"), None);
        assert_eq!(parse_zone(&zone_link("p", "us-east1-b")).as_deref(), Some("us-east1-b"));
        assert_eq!(Scope::parse("regions/us-east1"), Some(Scope::region("us-east1")));
        assert_eq!(Scope::parse("regions/"), None);
    }

    #[test]
    fn names() {
        for good in ["a", "my-net", "a1", "x-1", &"a".repeat(63)] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "1a", "A", "a_b", "a.b", "ä", &"a".repeat(64)] {
            assert!(!is_valid_name(bad), "{bad}");
        }
        for good in ["demo", "my-project-1", "123456789012", "example.com:app"] {
            assert!(is_project_id(good), "{good}");
        }
        for bad in ["", "My", "a b", ":x", "x:", "1a"] {
            assert!(!is_project_id(bad), "{bad}");
        }
    }

    fn any_name() -> impl Strategy<Value = ResourceName> {
        let scope = prop_oneof![
            Just(Scope::Global),
            "[a-z]{2,8}-[a-z]{3,9}[1-9]".prop_map(Scope::Region),
            "[a-z]{2,8}-[a-z]{3,9}[1-9]-[a-f]".prop_map(Scope::Zone),
        ];
        ("[a-z][-a-z0-9]{0,20}[a-z0-9]", scope, "[a-z][a-zA-Z0-9]{0,20}", "[a-z]([-a-z0-9]{0,40}[a-z0-9])?")
            .prop_map(|(project, scope, collection, name)| {
                ResourceName::new(project, scope, collection, name)
            })
    }

    proptest! {
        #[test]
        fn a_name_survives_its_own_spellings(name in any_name(), port in 1u16..) {
            prop_assert_eq!(ResourceName::parse(&name.relative()), Ok(name.clone()));
            prop_assert_eq!(ResourceName::parse(&name.self_link()), Ok(name.clone()));
            prop_assert_eq!(ResourceName::from_key(&name.key()), Some(name.clone()));
            let local = format!("http://127.0.0.1:{port}/{}", name.relative());
            prop_assert_eq!(ResourceName::parse(&local), Ok(name));
        }

        #[test]
        fn what_parses_is_canonical(text in "\\PC{0,80}") {
            if let Ok(name) = ResourceName::parse_in(&text, "demo") {
                prop_assert_eq!(ResourceName::parse(&name.self_link()), Ok(name));
            }
        }
    }
}
