//! Serverless groups.
//!
//! A serverless group is a pointer: to a Cloud Run service, a function or an App Engine service of its region, by name
//! or by a mask over each request's URL. What it points to need not exist; requests then fail.

use serde_json::Value;
use vestibule_model::name::is_valid_name;
use vestibule_urlmap::Mask;

use crate::{Document, Error, document};

/// What a serverless group points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    CloudRun,
    CloudFunction,
    AppEngine,
}

impl Platform {
    const ALL: [Platform; 3] = [Platform::CloudRun, Platform::CloudFunction, Platform::AppEngine];

    /// The platform of a stored group.
    pub fn of(neg: &Document) -> Option<Platform> {
        Platform::ALL.into_iter().find(|platform| neg.contains_key(platform.member()))
    }

    /// The member that holds the platform's settings.
    pub fn member(self) -> &'static str {
        match self {
            Platform::CloudRun => "cloudRun",
            Platform::CloudFunction => "cloudFunction",
            Platform::AppEngine => "appEngine",
        }
    }

    /// The member of the settings that names the service.
    pub fn service_field(self) -> &'static str {
        match self {
            Platform::CloudFunction => "function",
            _ => "service",
        }
    }

    /// The member of the settings that names a tag or a version.
    pub fn tag_field(self) -> Option<&'static str> {
        match self {
            Platform::CloudRun => Some("tag"),
            Platform::CloudFunction => None,
            Platform::AppEngine => Some("version"),
        }
    }

    fn placeholders(self) -> &'static [&'static str] {
        match self {
            Platform::CloudRun => &["service", "tag"],
            Platform::CloudFunction => &["function"],
            Platform::AppEngine => &["service", "version"],
        }
    }
}

/// Checks a serverless group.
pub fn validate(doc: &Document) -> Result<(), Error> {
    for field in ["network", "subnetwork", "defaultPort", "pscTargetService", "pscData"] {
        if let Some(value) = doc.get(field) {
            let why = "The field cannot be set for Serverless network endpoint groups.";
            return Err(Error::invalid(format!("resource.{field}"), document::quoted(value), why));
        }
    }
    check_target(doc)
}

/// Whether a stored group is serverless.
pub fn is_serverless(doc: &Document) -> bool {
    document::text(doc, "networkEndpointType") == Some("SERVERLESS")
}

/// Exactly one platform, with a name or a mask that finds one.
fn check_target(doc: &Document) -> Result<(), Error> {
    let mut platforms = Platform::ALL.into_iter().filter(|platform| doc.contains_key(platform.member()));
    let platform = platforms.next().ok_or_else(|| Error::required("resource.cloudRun"))?;
    if let Some(other) = platforms.next() {
        let why = "Exactly one of cloudRun, appEngine and cloudFunction must be set.";
        let value = doc.get(other.member()).map(document::quoted).unwrap_or_default();
        return Err(Error::invalid(format!("resource.{}", other.member()), value, why));
    }
    let path = format!("resource.{}", platform.member());
    let settings = doc.get(platform.member()).and_then(Value::as_object);
    let settings = settings.ok_or_else(|| Error::invalid(&path, "", "Must be an object."))?;
    let mask = mask_of(settings, &path, platform)?;
    check_names(settings, &path, platform)?;
    let named = document::text(settings, platform.service_field()).is_some();
    let found = mask.as_ref().is_some_and(Mask::finds_service);
    match platform {
        // Without a service, the application's own dispatch rules choose one.
        Platform::AppEngine => {
            let version = document::text(settings, "version").filter(|_| !named && !found);
            match version {
                Some(version) => {
                    let why = "A version can only be set together with a service.";
                    Err(Error::invalid(format!("{path}.version"), version, why))
                }
                None => Ok(()),
            }
        }
        _ if named || found => Ok(()),
        _ => Err(Error::required(format!("{path}.{}", platform.service_field()))),
    }
}

fn mask_of(settings: &Document, path: &str, platform: Platform) -> Result<Option<Mask>, Error> {
    let Some(text) = document::text(settings, "urlMask") else { return Ok(None) };
    let refuse = |why: String| Error::invalid(format!("{path}.urlMask"), text, why);
    let mask = Mask::parse(text).map_err(|error| refuse(error.to_string()))?;
    let foreign = mask.placeholders().find(|name| !platform.placeholders().contains(name));
    match foreign {
        Some(foreign) => Err(refuse(format!("URL mask contains the invalid placeholder <{foreign}>."))),
        None => Ok(Some(mask)),
    }
}

/// A field and what its values must be.
type NameRule = (&'static str, fn(&str) -> bool);

fn check_names(settings: &Document, path: &str, platform: Platform) -> Result<(), Error> {
    let rules: [Option<NameRule>; 2] = match platform {
        Platform::CloudRun => [Some(("service", is_valid_name)), Some(("tag", is_valid_name))],
        Platform::CloudFunction => [Some(("function", is_function)), None],
        Platform::AppEngine => [Some(("service", is_function)), Some(("version", is_version))],
    };
    for (field, valid) in rules.into_iter().flatten() {
        match document::text(settings, field) {
            Some(text) if !valid(text) => {
                return Err(Error::invalid(format!("{path}.{field}"), text, "The name is not valid."));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names of functions and of App Engine's services keep their case.
fn is_function(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&text.len()) && text.bytes().all(plain)
}

fn is_version(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
