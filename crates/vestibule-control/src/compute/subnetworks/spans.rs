//! Which ranges a subnetwork takes, and that no two subnetworks of a network share an address.

use serde_json::Value;
use vestibule_model::ResourceName;
use vestibule_model::name::is_valid_name;

use super::proxy_only::is_proxy_only;
use super::{automatic, networks};
use crate::compute::ranges::Range;
use crate::{Change, Document, Error, document};

/// Longest prefix of a range: /29 is the smallest subnetwork.
const LONGEST_PREFIX: u8 = 29;

/// Shortest prefix of a range.
const SHORTEST_PREFIX: u8 = 4;

/// Shortest prefix that a subnetwork of an auto mode network can grow to.
const SHORTEST_AUTO_PREFIX: u8 = 16;

/// Where automatic subnetworks of auto mode networks lie.
const AUTO_SPACE: Range = Range::of(10, 128, 0, 0, 9);

const PRIMARY: &str = "resource.ipCidrRange";

/// A range of a subnetwork and the field that names it in errors.
struct Span {
    field: String,
    range: Range,
}

/// The primary range of a stored subnetwork.
pub fn primary_range(doc: &Document) -> Result<Range, Error> {
    let text = document::text(doc, "ipCidrRange").unwrap_or_default();
    Range::parse(text).map_err(|error| Error::internal(format!("stored range {text}: {error}")))
}

/// Every range of a stored subnetwork, the primary one first.
pub fn ranges(doc: &Document) -> impl Iterator<Item = Range> + '_ {
    let secondary = document::items(doc, "secondaryIpRanges").iter().map(document::object);
    let all = std::iter::once(doc).chain(secondary);
    all.filter_map(|entry| Range::parse(document::text(entry, "ipCidrRange")?).ok())
}

/// Reads and checks the primary range of a new subnetwork.
pub fn parse_primary(doc: &Document) -> Result<Range, Error> {
    let text = document::text(doc, "ipCidrRange").ok_or_else(|| Error::required(PRIMARY))?;
    parse(PRIMARY, text)
}

fn parse(field: &str, text: &str) -> Result<Range, Error> {
    let refuse = |why: String| Error::invalid(field, text, why);
    let range = Range::parse(text).map_err(|error| refuse(error.to_string()))?;
    if range.prefix() > LONGEST_PREFIX || range.prefix() < SHORTEST_PREFIX {
        let why = format!("The prefix length must be between {SHORTEST_PREFIX} and {LONGEST_PREFIX}.");
        return Err(refuse(why));
    }
    match range.prohibited() {
        Some(prohibited) => Err(refuse(format!("The range overlaps {prohibited}, which a VPC cannot use."))),
        None => Ok(range),
    }
}

/// Checks every range of a subnetwork against every range of its network, its own included.
pub fn check_all(
    change: &Change<'_>,
    name: &ResourceName,
    network: &ResourceName,
    doc: &Document,
) -> Result<(), Error> {
    let spans = own(doc)?;
    let network_doc = change.expect(network)?;
    let automatic = automatic::is_automatic(change, name, doc);
    if networks::is_auto(document::object(&network_doc)) && !automatic {
        spans.iter().try_for_each(outside_auto_space)?;
    }
    for (other, other_doc) in change.users_in(network, "subnetworks") {
        if other == *name {
            continue;
        }
        let taken = own(document::object(&other_doc))?;
        for span in &spans {
            if taken.iter().any(|taken| taken.range.overlaps(&span.range)) {
                return Err(conflict(span, &other));
            }
        }
    }
    for (route, stored) in change.users_in(network, "routes") {
        let destinations = document::text(document::object(&stored), "destRange").map(Range::parse);
        let Some(Ok(destinations)) = destinations else { continue };
        if let Some(span) = spans.iter().find(|span| span.range.covers(&destinations)) {
            let why = format!(
                "Invalid IPCidrRange: {} conflicts with the destinations of route '{}', {destinations}.",
                span.range, route.name
            );
            return Err(Error::invalid(&span.field, span.range, why));
        }
    }
    for (at, span) in spans.iter().enumerate() {
        if spans[..at].iter().any(|earlier| earlier.range.overlaps(&span.range)) {
            return Err(conflict(span, name));
        }
    }
    Ok(())
}

fn outside_auto_space(span: &Span) -> Result<(), Error> {
    if !span.range.overlaps(&AUTO_SPACE) {
        return Ok(());
    }
    let why = "Extended subnetworks in auto subnet mode networks cannot overlap with 10.128.0.0/9.";
    Err(Error::invalid(&span.field, span.range, why))
}

fn conflict(span: &Span, other: &ResourceName) -> Error {
    let region = other.scope.region_name().unwrap_or_default();
    let why = format!(
        "Invalid IPCidrRange: {} conflicts with existing subnetwork '{}' in region '{region}'.",
        span.range, other.name
    );
    Error::invalid(&span.field, span.range, why)
}

/// The ranges a document names: the primary one first.
fn own(doc: &Document) -> Result<Vec<Span>, Error> {
    let mut spans = vec![Span { field: PRIMARY.to_owned(), range: parse_primary(doc)? }];
    let secondary = document::items(doc, "secondaryIpRanges");
    if !secondary.is_empty() && is_proxy_only(doc) {
        let why = "A proxy-only subnetwork cannot have secondary ranges.";
        return Err(Error::invalid("resource.secondaryIpRanges", "", why));
    }
    let mut names: Vec<&str> = Vec::new();
    for (at, entry) in secondary.iter().enumerate() {
        let path = format!("resource.secondaryIpRanges[{at}]");
        let entry = document::object(entry);
        document::not_built(entry, "compute.subnetworks.secondaryIpRanges", &["reservedInternalRange"])?;
        let name = range_name(entry, &path)?;
        if names.contains(&name) {
            return Err(Error::invalid(format!("{path}.rangeName"), name, "The name is not unique."));
        }
        names.push(name);
        let field = format!("{path}.ipCidrRange");
        let text = document::text(entry, "ipCidrRange").ok_or_else(|| Error::required(&field))?;
        spans.push(Span { range: parse(&field, text)?, field });
    }
    Ok(spans)
}

fn range_name<'a>(entry: &'a Document, path: &str) -> Result<&'a str, Error> {
    let field = format!("{path}.rangeName");
    let name = document::text(entry, "rangeName").ok_or_else(|| Error::required(&field))?;
    if is_valid_name(name) {
        return Ok(name);
    }
    Err(Error::invalid(field, name, "Must be a lower-case name of at most 63 characters."))
}

/// `expandIpCidrRange`: the primary range grows around what it was.
pub fn expand(
    change: &Change<'_>,
    name: &ResourceName,
    network: &ResourceName,
    body: &Document,
    doc: &mut Document,
) -> Result<(), Error> {
    let field = "ipCidrRange";
    let text = document::text(body, field).ok_or_else(|| Error::required(field))?;
    let refuse = |why: &str| Err(Error::invalid(field, text, why));
    let new = parse(field, text)?;
    let old = primary_range(doc)?;
    if is_proxy_only(doc) {
        return refuse("The range of a proxy-only subnetwork cannot be expanded.");
    }
    if automatic::is_automatic(change, name, doc) && new.prefix() < SHORTEST_AUTO_PREFIX {
        return refuse("An auto mode subnetwork can grow to a prefix length of 16 at most.");
    }
    if new.prefix() >= old.prefix() || !new.covers(&old) {
        return refuse("The new range must be larger than the current range and contain it.");
    }
    doc.insert(field.to_owned(), Value::String(new.to_string()));
    check_all(change, name, network, doc)?;
    doc.insert("gatewayAddress".into(), gateway(doc, &old, &new));
    Ok(())
}

/// The gateway of a grown range. It stays where it was: hosts have it configured.
fn gateway(doc: &Document, old: &Range, new: &Range) -> Value {
    match doc.get("gatewayAddress") {
        Some(gateway) if old.first() != new.first() => gateway.clone(),
        _ => new.nth(1).to_string().into(),
    }
}
