//! What can be done to any compute resource: create, update, delete, describe, list.

use serde_json::{Number, Value};

use super::link::{Kind, Link, Scope, Scopes};
use super::operation::Operation;
use crate::gcloud::error::Failure;
use crate::gcloud::invocation::{Display, Invocation};
use crate::http::Answer;

/// Resources a page holds when they are listed.
const PAGE: u32 = 500;

/// A mutating call to make.
pub struct Change {
    pub method: &'static str,
    /// The resource that is changed.
    pub link: Link,
    /// The path that is called, without a query.
    pub path: String,
    pub body: Option<Value>,
}

impl Change {
    pub fn insert(link: Link, body: Value) -> Change {
        Change { method: "POST", path: link.collection_path(), link, body: Some(body) }
    }

    /// The whole resource, as it was read and then changed.
    pub fn put(link: Link, body: Value) -> Change {
        Change { method: "PUT", path: link.path(), link, body: Some(body) }
    }

    pub fn patch(link: Link, body: Value) -> Change {
        Change { method: "PATCH", path: link.path(), link, body: Some(body) }
    }

    /// A method of the resource, such as `setTarget`.
    pub fn call(link: Link, method: &str, body: Value) -> Change {
        Change { method: "POST", path: format!("{}/{method}", link.path()), link, body: Some(body) }
    }

    pub fn delete(link: Link) -> Change {
        Change { method: "DELETE", path: link.path(), link, body: None }
    }
}

impl Change {
    /// The path with its query.
    fn target(&self) -> String {
        let joint = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{joint}alt=json", self.path)
    }
}

/// Makes the calls, waits for all, says `VERB [LINK].` for each, and gives the resources as they are afterwards
/// (nothing after a delete).
pub fn carry_out(inv: &Invocation<'_>, verb: &str, changes: Vec<Change>) -> Result<Vec<Value>, Failure> {
    carry_out_quietly(inv, Some(verb), changes)
}

/// As [`carry_out`], without a word when `verb` is `None`.
pub fn carry_out_quietly(
    inv: &Invocation<'_>,
    verb: Option<&str>,
    changes: Vec<Change>,
) -> Result<Vec<Value>, Failure> {
    let mut accepted = Vec::new();
    let mut errors = Vec::new();
    for change in changes {
        let answer = inv.api.call(change.method, &change.target(), change.body.as_ref())?;
        match Operation::accept(&change.link, answer) {
            Ok(operation) => accepted.push((change, operation)),
            Err(message) => errors.push(message),
        }
    }
    let mut warnings = Vec::new();
    let mut settled = Vec::new();
    for (change, operation) in accepted {
        match operation.settle(inv) {
            Ok(done) => {
                if let Some(verb) = verb {
                    inv.status(&format!("{verb} [{}].", done.target));
                }
                warnings.extend(done.warnings);
                settled.push(change);
            }
            Err(messages) => errors.extend(messages),
        }
    }
    let mut resources = Vec::new();
    for change in settled.iter().filter(|change| change.method != "DELETE") {
        match fetch(inv, &change.link)? {
            Ok(resource) => resources.push(resource),
            Err(answer) => errors.push(answer.error_message()),
        }
    }
    if !warnings.is_empty() {
        let lines: Vec<String> = warnings.iter().map(|warning| format!(" - {warning}\n")).collect();
        inv.warn(&format!("Some requests generated warnings:\n{}", lines.concat()));
    }
    match errors.is_empty() {
        true => Ok(resources),
        false => Err(Failure::compute(&errors)),
    }
}

/// Creates one resource and shows it.
pub fn create(inv: &Invocation<'_>, link: Link, body: Value, display: Display) -> Result<(), Failure> {
    let made = carry_out(inv, "Created", vec![Change::insert(link, body)])?;
    inv.show_made(&made, display)
}

/// Makes one change to an existing resource; nothing is shown unless `--format` asks for it.
pub fn update(inv: &Invocation<'_>, change: Change) -> Result<(), Failure> {
    let made = carry_out(inv, "Updated", vec![change])?;
    inv.show_made(&made, Display::NOTHING)
}

/// Reads a resource; an HTTP error is the inner `Err`.
pub fn fetch(inv: &Invocation<'_>, link: &Link) -> Result<Result<Value, Answer>, Failure> {
    let mut answer = inv.api.get(&format!("{}?alt=json", link.path()))?;
    if !answer.is_success() {
        return Ok(Err(answer));
    }
    tidy(&mut answer.body);
    Ok(Ok(answer.body))
}

/// Reads a resource or fails as gcloud does.
pub fn read(inv: &Invocation<'_>, link: &Link) -> Result<Value, Failure> {
    fetch(inv, link)?.map_err(|answer| Failure::compute(&[answer.error_message()]))
}

/// `describe`.
pub fn describe(inv: &Invocation<'_>, kind: &Kind, positional: &str) -> Result<(), Failure> {
    let link = kind.resolve(inv, inv.args.name(positional))?;
    inv.show(&read(inv, &link)?, Display::YAML)
}

/// `delete`, of one or many.
pub fn delete(inv: &Invocation<'_>, kind: &Kind, positional: &str) -> Result<(), Failure> {
    let words = inv.args.words(positional);
    let links = words.iter().map(|word| kind.resolve(inv, word)).collect::<Result<Vec<Link>, Failure>>()?;
    confirm_deletion(inv, kind, &links)?;
    carry_out(inv, "Deleted", links.into_iter().map(Change::delete).collect())?;
    Ok(())
}

pub fn confirm_deletion(inv: &Invocation<'_>, kind: &Kind, links: &[Link]) -> Result<(), Failure> {
    let lines: Vec<String> = links
        .iter()
        .map(|link| match &link.scope {
            Scope::Global => format!("\n - [{}]", link.name),
            Scope::Region(scope) | Scope::Zone(scope) => format!("\n - [{}] in [{scope}]", link.name),
        })
        .collect();
    inv.confirm_or_abort(&format!("The following {} will be deleted:{}", kind.plural, lines.concat()))
}

/// `list`.
pub fn list(inv: &Invocation<'_>, kind: &Kind, display: Display) -> Result<(), Failure> {
    let found = collect(inv, kind)?;
    inv.list(found, display)
}

/// Every resource of the kind that the scope flags ask for.
pub fn collect(inv: &Invocation<'_>, kind: &Kind) -> Result<Vec<Value>, Failure> {
    let base = format!("/compute/v1/projects/{}", inv.project());
    let collection = kind.collection;
    let mut found = Vec::new();
    if kind.scopes == Scopes::Global {
        pages(inv, &format!("{base}/global/{collection}"), "", &mut found)?;
    } else if let Some(regions) = inv.args.list("regions").filter(|regions| !regions.is_empty()) {
        for region in regions {
            pages(
                inv,
                &format!("{base}/regions/{}/{collection}", super::link::basename(region)),
                "",
                &mut found,
            )?;
        }
    } else if let Some(zones) = inv.args.list("zones").filter(|zones| !zones.is_empty()) {
        for zone in zones {
            let zone = super::link::basename(zone);
            pages(inv, &format!("{base}/zones/{zone}/{collection}"), "", &mut found)?;
        }
    } else if inv.args.on("global") {
        pages(inv, &format!("{base}/global/{collection}"), "", &mut found)?;
    } else {
        pages(inv, &format!("{base}/aggregated/{collection}"), "&includeAllScopes=True", &mut found)?;
    }
    found.iter_mut().for_each(tidy);
    Ok(found)
}

/// All pages of a list, plain or aggregated.
pub fn pages(inv: &Invocation<'_>, path: &str, query: &str, found: &mut Vec<Value>) -> Result<(), Failure> {
    let mut page = String::new();
    loop {
        let answer = inv.api.get(&format!("{path}?alt=json{query}&maxResults={PAGE}{page}"))?;
        if !answer.is_success() {
            return Err(Failure::compute(&[answer.error_message()]));
        }
        match answer.body.get("items") {
            Some(Value::Array(items)) => found.extend(items.iter().cloned()),
            Some(Value::Object(scopes)) => {
                let mut names: Vec<&String> = scopes.keys().collect();
                names.sort();
                for list in
                    names.iter().filter_map(|name| scopes[*name].as_object()).flat_map(|scope| scope.values())
                {
                    found.extend(list.as_array().into_iter().flatten().cloned());
                }
            }
            _ => {}
        }
        match answer.body.get("nextPageToken").and_then(Value::as_str).filter(|token| !token.is_empty()) {
            Some(token) => page = format!("&pageToken={}", crate::gcloud::query(token)),
            None => return Ok(()),
        }
    }
}

/// Fields that are bytes in the API's schema: Google writes plain base64, its clients the URL-safe kind.
const BYTES: &[&str] = &["fingerprint", "labelFingerprint"];

/// Fields that are fractions in the API's schema, also when they are whole.
const FRACTIONS: &[&str] = &[
    "capacityScaler",
    "failoverRatio",
    "maxRatePerEndpoint",
    "maxRatePerInstance",
    "maxUtilization",
    "sampleRate",
];

/// Gives values the form that Google's clients give them.
pub fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(map) => {
            // A typed client has no place for nothing.
            map.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()));
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(text) if BYTES.contains(&key.as_str()) => {
                        *text = text.replace('+', "-").replace('/', "_")
                    }
                    Value::Number(number) if FRACTIONS.contains(&key.as_str()) => {
                        if let Some(fraction) = number.as_f64().and_then(Number::from_f64) {
                            *number = fraction;
                        }
                    }
                    other => tidy(other),
                }
            }
        }
        _ => {}
    }
}
