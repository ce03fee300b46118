//! No call may make us fail: every method that has a handler, with bodies and parameters that fit the published schema
//! and mean nothing. Whatever comes of it, it is never our fault (500) and never "try again" (503).

use fastrand::Rng;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use vestibule_model::route::{self, Method};
use vestibule_model::schema::{Field, Type};

use crate::Registry;
use crate::testing::World;

/// How often each method is called. Later rounds find what earlier ones made.
const ROUNDS: u64 = 20;

/// Levels of a body; deeper objects are left out.
const DEPTH: usize = 5;

const WORDS: &[&str] = &[
    "",
    "x",
    "demo",
    "us-central1",
    "10.0.0.0/24",
    "10.0.0.5",
    "80",
    "a.example.com.",
    "global/networks/x",
    "projects/demo/global/networks/x",
    "projects/demo/regions/us-central1/subnetworks/x",
    "regions/us-central1/backendServices/x",
    "https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1/urlMaps/x",
    "serviceAccount:x@demo.iam.gserviceaccount.com",
    "roles/run.invoker",
    "2026-01-01T00:00:00Z",
    "-",
    "*",
    "/",
    "..",
    "%",
    "{",
    "\u{0}",
    "ünïcödé 🦀",
    "-1",
    "99999999999999999999",
];

fn word(rng: &mut Rng) -> &'static str {
    WORDS[rng.usize(..WORDS.len())]
}

fn value(rng: &mut Rng, kind: &Type, depth: usize) -> Value {
    match kind {
        Type::String => json!(word(rng)),
        Type::Bool => json!(rng.bool()),
        Type::Int32 => json!([0, 1, -1, 30, i32::MAX, i32::MIN][rng.usize(..6)]),
        Type::Uint32 => json!([0, 1, 80, u32::MAX][rng.usize(..4)]),
        Type::Int64 => json!(["0", "-1", "9223372036854775807"][rng.usize(..3)]),
        Type::Uint64 => json!(["0", "18446744073709551615"][rng.usize(..2)]),
        Type::Double => json!([0.0, 0.5, -1.0, 1e300][rng.usize(..4)]),
        Type::Bytes => json!(["", "aGk=", "_-8"][rng.usize(..3)]),
        Type::Timestamp => json!(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z"][rng.usize(..2)]),
        Type::Duration => json!(["0s", "3600s", "-1.5s", "999999999999s"][rng.usize(..4)]),
        Type::Enum(values) => values.get(rng.usize(..values.len().max(1))).map_or(Value::Null, |v| json!(v)),
        Type::Any => json!({ word(rng): word(rng) }),
        Type::Object(schema) => value(rng, &schema.kind, depth),
        Type::Inline(fields) => object(rng, fields, depth),
        Type::Array(item) => (0..rng.usize(..3)).map(|_| value(rng, item, depth + 1)).collect(),
        Type::Map(item) => {
            (0..rng.usize(..3)).map(|_| (word(rng).to_owned(), value(rng, item, depth + 1))).collect()
        }
    }
}

fn object(rng: &mut Rng, fields: &[Field], depth: usize) -> Value {
    let mut members = Map::new();
    for field in fields {
        let chance = if depth == 0 { 0.5 } else { 0.3 };
        if depth < DEPTH && rng.f64() < chance {
            // Resources that were made are found again by later calls.
            let named = field.name == "name" && rng.f64() < 0.7;
            let value = if named { json!("x") } else { value(rng, &field.kind, depth + 1) };
            members.insert(field.name.to_owned(), value);
        }
    }
    Value::Object(members)
}

/// A path of the method's, with a likely or an unlikely word in each parameter's place.
fn path(rng: &mut Rng, method: &Method) -> String {
    let mut out = String::new();
    for part in method.template.split('/').skip(1) {
        out.push('/');
        match part.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            None => out.push_str(part),
            Some((name, custom)) => {
                let likely = match name {
                    "project" | "projectsId" | "projectId" | "namespacesId" => "demo",
                    "region" | "locationsId" | "location" => "us-central1",
                    "zone" => "us-central1-a",
                    _ => "x",
                };
                let text = if rng.f64() < 0.8 { likely } else { word(rng) };
                let text = if text.is_empty() { "x" } else { text };
                out.push_str(&format!("{}{custom}", utf8_percent_encode(text, NON_ALPHANUMERIC)));
            }
        }
    }
    let mut query = Vec::new();
    for parameter in method.query {
        if parameter.required || rng.f64() < 0.3 {
            let text = match value(rng, &parameter.kind, 0) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            query.push(format!("{}={}", parameter.name, utf8_percent_encode(&text, NON_ALPHANUMERIC)));
        }
    }
    format!("{out}?{}", query.join("&"))
}

#[test]
fn no_call_makes_us_fail() {
    let world = World::new();
    let mut registry = Registry::default();
    crate::register(&mut registry);
    let mut failures = Vec::new();
    let methods: Vec<&Method> = route::methods().filter(|method| registry.entry(method).is_some()).collect();
    for (round, method) in (0..ROUNDS).flat_map(|round| methods.iter().map(move |method| (round, method))) {
        let rng = &mut Rng::with_seed(round);
        let body = method.request.map_or(Value::Null, |schema| value(rng, &schema.kind, 0));
        let path = path(rng, method);
        let call = || world.send(method.verb, &path, body.clone());
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
            Ok((500 | 503, answer)) => failures.push(format!("{} {path} {body}: {answer}", method.id)),
            Ok(_) => {}
            Err(_) => failures.push(format!("{} {path} {body}: panicked", method.id)),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
