//! Regional URL maps. What a map may say is `vestibule-urlmap`'s business; here its references are resolved, its own
//! tests gate every change, and `validate` tells what a change would be told.

mod links;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use serde_json::{Value, json};
use vestibule_model::{ResourceName, compute};
use vestibule_urlmap::UrlMap;
use vestibule_urlmap::check::{self, Limits, Problem, Role, TestFailure};

use super::Call;
use super::kind::{Fingerprint, Info, Kind, Methods, ScopeKind};
use crate::{Change, Document, Error, document};

/// `urlMaps` of regions
pub struct UrlMaps;

const VALIDATE: &str = "validate";

static INFO: Info = Info {
    collection: "urlMaps",
    scopes: &[ScopeKind::Region],
    word: "url_map",
    kind: "compute#urlMap",
    list_kind: "compute#urlMapList",
    aggregated_kind: Some("compute#urlMapsAggregatedList"),
    fingerprint: Fingerprint::Required,
    labels: false,
    methods: Methods::BOTH,
    actions: &[],
    questions: &[VALIDATE],
    output_only: &["status"],
};

/// Largest map as JSON, in bytes, where Google's quotas hold.
const LARGEST: usize = 128 << 10;

impl Kind for UrlMaps {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        admit(change, name, doc)
    }

    fn update(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        _old: &Document,
        new: &mut Document,
    ) -> Result<(), Error> {
        admit(change, name, new)
    }

    /// The named map need not exist: the one in the body is looked at, and nothing is made.
    fn ask(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        _verb: &str,
        body: &Document,
        _doc: Option<&Document>,
    ) -> Result<Value, Error> {
        let resource = body.get("resource").and_then(Value::as_object);
        let mut doc = resource.ok_or_else(|| Error::required("resource"))?.clone();
        document::drop_nulls(&mut doc);
        let result = match validate(change, name, &mut doc) {
            Ok(failures) if failures.is_empty() => json!({"loadSucceeded": true, "testPassed": true}),
            Ok(failures) => {
                let failures: Vec<Value> = failures.iter().map(TestFailure::to_value).collect();
                json!({"loadSucceeded": true, "testPassed": false, "testFailures": failures})
            }
            Err(error) => {
                json!({"loadSucceeded": false, "loadErrors": [error.to_string()], "testPassed": false})
            }
        };
        Ok(json!({ "result": result }))
    }

    fn references(&self, _name: &ResourceName, doc: &Document) -> Vec<ResourceName> {
        let Ok(map) = document::typed::<compute::UrlMap>(doc) else { return Vec::new() };
        let serving = check::references(&map).into_iter().filter(|reference| reference.role != Role::Test);
        serving.filter_map(|reference| ResourceName::parse(reference.service).ok()).collect()
    }
}

/// Validates a map and runs its tests; refuses it if any fails.
fn admit(change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    match validate(change, name, doc)?.first() {
        Some(failure) => Err(Error::invalid("resource.tests", "", format!("Test failure: {failure}"))),
        None => Ok(()),
    }
}

/// Checks a map, makes its references canonical, and runs its tests.
fn validate(
    change: &mut Change<'_>,
    name: &ResourceName,
    doc: &mut Document,
) -> Result<Vec<TestFailure>, Error> {
    check_size(change, doc)?;
    let limits = if change.strict() { Limits::GOOGLE } else { Limits::GENEROUS };
    let map: compute::UrlMap = document::typed(doc)?;
    check::check(&map, &limits, |_| Some(0)).map_err(refused)?;
    links::resolve(change, name, &map, doc)?;
    if map.tests.is_empty() {
        return Ok(Vec::new());
    }
    run_tests(doc)
}

fn check_size(change: &Change<'_>, doc: &Document) -> Result<(), Error> {
    let size = if change.strict() { serde_json::to_string(doc).map_or(0, |text| text.len()) } else { 0 };
    if size <= LARGEST {
        return Ok(());
    }
    let message =
        format!("Value for field 'resource' is too large: maximum size {LARGEST} bytes; actual size {size}.");
    Err(Error::bad_request(message))
}

/// What is wrong with a map, or with a part of it that others have too, as an error.
pub fn refused(problem: Problem) -> Error {
    match problem {
        Problem::Invalid(error) => match error.value {
            Some(value) => Error::invalid(error.field, value, error.why),
            None => Error::required(error.field),
        },
        too_large @ Problem::TooLarge { .. } => Error::bad_request(too_large.to_string()),
    }
}

/// Runs the tests of a map whose references are canonical.
fn run_tests(doc: &Document) -> Result<Vec<TestFailure>, Error> {
    let map: compute::UrlMap = document::typed(doc)?;
    let mut services: Vec<&str> =
        check::references(&map).into_iter().map(|reference| reference.service).collect();
    services.sort_unstable();
    services.dedup();
    let indices: HashMap<&str, usize> =
        services.iter().enumerate().map(|(index, link)| (*link, index)).collect();
    let resolve = |link: &str| indices.get(link).copied();
    let compiled = UrlMap::compile(&map, resolve).map_err(|error| refused(error.into()))?;
    let name = |index: usize| services.get(index).map(|link| (*link).to_owned()).unwrap_or_default();
    Ok(check::run_tests(&map, &compiled, resolve, name))
}
