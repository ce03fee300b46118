//! Checks a request body against the shape that Google publishes for it.
//!
//! The tables are static data made at build time, so validation costs no start-up time and no reflection. Two things
//! are deliberately lenient, as Google's own parser is: `null` means absent, even under a name that the message does not
//! have (Terraform clears fields that way on methods that never had them), and output-only fields may hold anything,
//! because clients read a resource, change it, and send all of it back. What a value *means* is not checked here.

use crate::lenient::integer;
use base64::Engine as _;
use serde_json::{Map, Value};
use std::fmt;

/// How many violations are told at once. The rest would only repeat the first ones.
const MAX_VIOLATIONS: usize = 20;

/// A named message of an API.
#[derive(Debug)]
pub struct Schema {
    /// As in the discovery document, e.g. `UrlMap` or `GoogleCloudRunV2Service`.
    pub name: &'static str,
    pub kind: Type,
}

/// What a value may be.
#[derive(Debug)]
pub enum Type {
    String,
    Bool,
    Int32,
    Uint32,
    /// A number or, as Google writes it, a string of digits.
    Int64,
    Uint64,
    /// Also stands for single precision.
    Double,
    /// Base64, with the standard or the URL-safe alphabet, padded or not.
    Bytes,
    /// RFC 3339.
    Timestamp,
    /// Seconds with an `s` behind, e.g. `3.5s`.
    Duration,
    Enum(&'static [&'static str]),
    Any,
    Object(&'static Schema),
    /// An object without a name of its own: its fields in the order of their names.
    Inline(&'static [Field]),
    Array(&'static Type),
    Map(&'static Type),
}

/// One field of an object.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Type,
    /// Set by the server; what a client sends there is ignored by Google and not looked at here.
    pub output_only: bool,
}

impl Schema {
    pub(crate) const fn object(name: &'static str, fields: &'static [Field]) -> Self {
        Self { name, kind: Type::Inline(fields) }
    }

    /// The fields, in the order of their names; empty for a schema that is no object.
    pub fn fields(&self) -> &'static [Field] {
        match self.kind {
            Type::Inline(fields) => fields,
            _ => &[],
        }
    }

    /// One field by its name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        lookup(self.fields(), name)
    }
}

/// A field that clients set. Short, because the generated tables are long.
pub(crate) const fn f(name: &'static str, kind: Type) -> Field {
    Field { name, kind, output_only: false }
}

/// An output-only field.
pub(crate) const fn o(name: &'static str, kind: Type) -> Field {
    Field { name, kind, output_only: true }
}

/// One way in which a document does not fit. `Display` prints Google's wording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where: the path of the value, or of the object around an unknown name, e.g. `resource.pathMatchers[0]`.
    pub path: String,
    pub kind: ViolationKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViolationKind {
    UnknownField {
        name: String,
    },
    /// The value cannot be read as what the field holds, out of range included.
    WrongType {
        /// `TYPE_BOOL` and the like, or `type.googleapis.com/…` for an object.
        expected: String,
        /// The value as JSON, shortened.
        value: String,
    },
    NotInEnum {
        value: String,
        allowed: &'static [&'static str],
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.kind {
            ViolationKind::UnknownField { name } if path.is_empty() => {
                write!(f, "Invalid JSON payload received. Unknown name \"{name}\": Cannot find field.")
            }
            ViolationKind::UnknownField { name } => write!(
                f,
                "Invalid JSON payload received. Unknown name \"{name}\" at '{path}': Cannot find field."
            ),
            ViolationKind::WrongType { expected, value } => {
                write!(f, "Invalid value at '{path}' ({expected}), {value}")
            }
            ViolationKind::NotInEnum { value, allowed } => write!(
                f,
                "Invalid value for field '{path}': '{value}'. Must be one of [{}]",
                allowed.join(", ")
            ),
        }
    }
}

/// Checks `value` against `schema`. `root` is what error messages call the whole, e.g. `resource`; it may be empty.
pub fn validate(schema: &'static Schema, root: &str, value: &Value) -> Result<(), Vec<Violation>> {
    let mut validator = Validator { path: root.to_owned(), violations: Vec::new() };
    validator.value(&schema.kind, schema.name, value);
    if validator.violations.is_empty() { Ok(()) } else { Err(validator.violations) }
}

/// Renames members that are spelt in snake case (`time_out`) to the names they stand for (`timeOut`), as Google's
/// parser does. [`validate`] accepts both spellings; documents should hold only one.
pub fn canonicalise(schema: &'static Schema, value: &mut Value) {
    rename(&schema.kind, value);
}

fn rename(kind: &Type, value: &mut Value) {
    match (kind, value) {
        (Type::Object(schema), value) => rename(&schema.kind, value),
        (Type::Inline(fields), Value::Object(members)) => {
            let aliases: Vec<String> =
                members.keys().filter(|name| exact(fields, name).is_none()).cloned().collect();
            for alias in aliases {
                if let Some(field) = lookup(fields, &alias)
                    && let Some(value) = members.remove(&alias)
                {
                    members.entry(field.name).or_insert(value);
                }
            }
            for (name, member) in members {
                if let Some(field) = exact(fields, name) {
                    rename(&field.kind, member);
                }
            }
        }
        (Type::Enum(allowed), value @ Value::Number(_)) => {
            let name = value.as_number().and_then(|number| enum_name(allowed, number));
            if let Some(name) = name {
                *value = Value::from(name);
            }
        }
        (Type::Array(item), Value::Array(items)) => items.iter_mut().for_each(|value| rename(item, value)),
        (Type::Map(item), Value::Object(members)) => {
            members.values_mut().for_each(|value| rename(item, value));
        }
        _ => {}
    }
}

/// The values of `google.api.LaunchStage` by number. It is the one enum of the served services whose values are not
/// declared in the order of their numbers.
const LAUNCH_STAGES: [&str; 8] = [
    "LAUNCH_STAGE_UNSPECIFIED",
    "EARLY_ACCESS",
    "ALPHA",
    "BETA",
    "GA",
    "DEPRECATED",
    "UNIMPLEMENTED",
    "PRELAUNCH",
];

/// The name of an enum's value by its number, which Google's generated REST clients send (`enum-encoding=int`).
/// Discovery documents have no numbers, but list values as they are declared, which is in order from 0.
fn enum_name(allowed: &'static [&'static str], number: &serde_json::Number) -> Option<&'static str> {
    let at = usize::try_from(number.as_u64()?).ok()?;
    match allowed.first() {
        Some(first) if *first == LAUNCH_STAGES[0] => LAUNCH_STAGES.get(at).copied(),
        Some(first) if first.ends_with("_UNSPECIFIED") => allowed.get(at).copied(),
        // Compute's enums have hashes for numbers and are always sent by name.
        _ => None,
    }
}

/// Checks a value of a query or path parameter, which is always text.
pub fn validate_text(kind: &Type, name: &str, text: &str) -> Result<(), Violation> {
    // gcloud is written in Python and sends `includeAllScopes=True`.
    let fits = match kind {
        Type::Bool => ["true", "false", "1", "0"].iter().any(|word| text.eq_ignore_ascii_case(word)),
        Type::Double => text.parse::<f64>().is_ok(),
        Type::Enum(allowed) if !allowed.contains(&text) => {
            let kind = ViolationKind::NotInEnum { value: text.to_owned(), allowed };
            return Err(Violation { path: name.to_owned(), kind });
        }
        Type::Enum(_) => true,
        other => is_scalar(other, &Value::String(text.to_owned())),
    };
    if fits {
        return Ok(());
    }
    let kind =
        ViolationKind::WrongType { expected: type_name(kind, "").to_owned(), value: format!("{text:?}") };
    Err(Violation { path: name.to_owned(), kind })
}

struct Validator {
    path: String,
    violations: Vec<Violation>,
}

impl Validator {
    /// `owner` names the message for a type without a name of its own.
    fn value(&mut self, kind: &Type, owner: &str, value: &Value) {
        if self.violations.len() >= MAX_VIOLATIONS {
            return;
        }
        match (kind, value) {
            (Type::Any, _) => {}
            (Type::Object(schema), _) => self.value(&schema.kind, schema.name, value),
            (Type::Inline(fields), Value::Object(members)) => self.object(fields, owner, members),
            (Type::Array(item), Value::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    self.within(&format!("[{index}]"), |inner| inner.value(item, owner, value));
                }
            }
            (Type::Map(item), Value::Object(members)) => {
                for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
                    self.within(&format!("[{name}]"), |inner| inner.value(item, owner, value));
                }
            }
            (Type::Enum(allowed), Value::String(text)) => {
                if !allowed.contains(&text.as_str()) {
                    self.report(ViolationKind::NotInEnum { value: text.clone(), allowed });
                }
            }
            (Type::Enum(allowed), Value::Number(number)) => {
                if enum_name(allowed, number).is_none() {
                    self.report(ViolationKind::NotInEnum { value: number.to_string(), allowed });
                }
            }
            (scalar, value) if is_scalar(scalar, value) => {}
            (kind, value) => {
                let expected = type_name(kind, owner);
                self.report(ViolationKind::WrongType { expected, value: shortened(value) });
            }
        }
    }

    fn object(&mut self, fields: &'static [Field], owner: &str, members: &Map<String, Value>) {
        for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
            match lookup(fields, name) {
                None => self.report(ViolationKind::UnknownField { name: name.clone() }),
                Some(field) if field.output_only => {}
                Some(field) => {
                    let step = if self.path.is_empty() { name.clone() } else { format!(".{name}") };
                    self.within(&step, |inner| inner.value(&field.kind, owner, value));
                }
            }
        }
    }

    fn within(&mut self, step: &str, check: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        self.path.push_str(step);
        check(self);
        self.path.truncate(before);
    }

    fn report(&mut self, kind: ViolationKind) {
        if self.violations.len() >= MAX_VIOLATIONS {
            return;
        }
        self.violations.push(Violation { path: self.path.clone(), kind });
    }
}

/// The field of that name in either spelling.
fn lookup(fields: &'static [Field], name: &str) -> Option<&'static Field> {
    exact(fields, name).or_else(|| if name.contains('_') { exact(fields, &camel(name)) } else { None })
}

fn exact(fields: &'static [Field], name: &str) -> Option<&'static Field> {
    let index = fields.binary_search_by(|field| field.name.cmp(name)).ok()?;
    Some(&fields[index])
}

/// `time_out` → `timeOut`
pub(crate) fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut chars = word.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    out
}

fn is_scalar(kind: &Type, value: &Value) -> bool {
    let whole = || match value {
        Value::Number(number) => integer(number),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match (kind, value) {
        (Type::String, Value::String(_)) | (Type::Bool, Value::Bool(_)) | (Type::Any, _) => true,
        (Type::Int32, _) => whole().is_some_and(|n| i32::try_from(n).is_ok()),
        (Type::Uint32, _) => whole().is_some_and(|n| u32::try_from(n).is_ok()),
        (Type::Int64, _) => whole().is_some_and(|n| i64::try_from(n).is_ok()),
        (Type::Uint64, _) => whole().is_some_and(|n| u64::try_from(n).is_ok()),
        (Type::Double, Value::Number(_)) => true,
        (Type::Double, Value::String(text)) => text.parse::<f64>().is_ok(),
        (Type::Bytes, Value::String(text)) => is_base64(text),
        (Type::Timestamp, Value::String(text)) => crate::time::parse(text).is_some(),
        (Type::Duration, Value::String(text)) => is_duration(text),
        _ => false,
    }
}

fn is_base64(text: &str) -> bool {
    use base64::alphabet::{STANDARD, URL_SAFE};
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    [&STANDARD, &URL_SAFE].iter().any(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).is_ok())
}

/// Protocol buffers' JSON form of a duration: a decimal number with at most nine places, and `s`.
fn is_duration(text: &str) -> bool {
    let Some(number) = text.strip_suffix('s') else { return false };
    let number = number.strip_prefix('-').unwrap_or(number);
    let (whole, places) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    digits(whole) && digits(places) && places.len() <= 9
}

fn type_name(kind: &Type, owner: &str) -> String {
    match kind {
        Type::String => "TYPE_STRING",
        Type::Bool => "TYPE_BOOL",
        Type::Int32 => "TYPE_INT32",
        Type::Uint32 => "TYPE_UINT32",
        Type::Int64 => "TYPE_INT64",
        Type::Uint64 => "TYPE_UINT64",
        Type::Double => "TYPE_DOUBLE",
        Type::Bytes => "TYPE_BYTES",
        Type::Timestamp => "type.googleapis.com/google.protobuf.Timestamp",
        Type::Duration => "type.googleapis.com/google.protobuf.Duration",
        Type::Enum(_) => "TYPE_ENUM",
        Type::Any => "type.googleapis.com/google.protobuf.Value",
        Type::Object(schema) => return format!("type.googleapis.com/{}", schema.name),
        Type::Inline(_) | Type::Map(_) => return format!("type.googleapis.com/{owner}"),
        Type::Array(item) => return format!("repeated {}", type_name(item, owner)),
    }
    .to_owned()
}

/// A value as JSON, cut where an error message would get too long.
fn shortened(value: &Value) -> String {
    const LIMIT: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::{Service, compute_schemas, run_v1_schemas};
    use serde_json::json;

    fn complaints(schema: &'static Schema, root: &str, value: Value) -> Vec<String> {
        let violations = validate(schema, root, &value).err().unwrap_or_default();
        violations.iter().map(ToString::to_string).collect()
    }

    fn url_map(value: Value) -> Vec<String> {
        complaints(&compute_schemas::UrlMap, "resource", value)
    }

    #[test]
    fn google_s_wordings() {
        assert_eq!(
            url_map(json!({"pathMatchers": [{"foo": 1}]})),
            [
                "Invalid JSON payload received. Unknown name \"foo\" at 'resource.pathMatchers[0]': Cannot find field."
            ]
        );
        assert_eq!(
            complaints(&run_v1_schemas::Service, "", json!({"foo": 1})),
            ["Invalid JSON payload received. Unknown name \"foo\": Cannot find field."]
        );
        assert_eq!(
            url_map(json!({"defaultUrlRedirect": {"httpsRedirect": "abc"}})),
            ["Invalid value at 'resource.defaultUrlRedirect.httpsRedirect' (TYPE_BOOL), \"abc\""]
        );
        let enumerated = url_map(json!({"defaultUrlRedirect": {"redirectResponseCode": "TEAPOT"}}));
        assert!(
            enumerated[0].starts_with(
                "Invalid value for field 'resource.defaultUrlRedirect.redirectResponseCode': 'TEAPOT'. Must be one of [FOUND, "
            ),
            "{enumerated:?}"
        );
        assert_eq!(url_map(json!([])), ["Invalid value at 'resource' (type.googleapis.com/UrlMap), []"]);
        assert_eq!(url_map(json!({"name": 5})), ["Invalid value at 'resource.name' (TYPE_STRING), 5"]);
        assert_eq!(
            url_map(json!({"hostRules": {}})),
            ["Invalid value at 'resource.hostRules' (repeated type.googleapis.com/HostRule), {}"]
        );
    }

    #[test]
    fn odd_but_legal_things_pass() {
        for value in [
            json!({"name": null, "pathMatchers": null, "noSuchField": null}),
            json!({"id": "whatever", "creationTimestamp": 5, "kind": "x", "selfLink": {}}),
            json!({"hostRules": [], "tests": []}),
        ] {
            assert_eq!(url_map(value.clone()), [] as [String; 0], "{value}");
        }
        let service = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Service",
            "metadata": {"name": "s", "namespace": "demo", "annotations": {"a": "b"}, "creationTimestamp": null,
                         "generation": "3"},
            "spec": {"template": {"metadata": {"name": ""}, "spec": {
                "nodeSelector": {}, "containers": [{"image": "i", "resources": {"requests": {}},
                "ports": [{"containerPort": 8080}], "startupProbe": null}]}}},
            "status": {"address": {}, "conditions": []}
        });
        assert_eq!(complaints(&run_v1_schemas::Service, "", service), [] as [String; 0]);
        let backends =
            json!({"timeoutSec": "30", "backends": [{"capacityScaler": 1, "maxUtilization": "0.8"}]});
        assert_eq!(complaints(&compute_schemas::BackendService, "resource", backends), [] as [String; 0]);
    }

    #[test]
    fn ranges_and_formats() {
        let timeout = |value: Value| {
            complaints(&compute_schemas::BackendService, "resource", json!({ "timeoutSec": value }))
        };
        assert!(timeout(json!(2_147_483_647)).is_empty());
        assert_eq!(
            timeout(json!(2_147_483_648_u32)),
            ["Invalid value at 'resource.timeoutSec' (TYPE_INT32), 2147483648"]
        );
        assert!(!timeout(json!(1.5)).is_empty());
        assert!(!timeout(json!("x")).is_empty());
        for (good, bad) in [("3s", "3"), ("0.5s", ".5s"), ("-1s", "s"), ("1.123456789s", "1.1234567890s")] {
            assert!(is_duration(good), "{good}");
            assert!(!is_duration(bad), "{bad}");
        }
        assert!(is_base64("aGk=") && is_base64("aGk") && is_base64("_-8") && !is_base64("a b"));
    }

    #[test]
    fn many_violations_are_cut_short() {
        let many: Map<String, Value> = (0..100).map(|n| (format!("x{n}"), Value::from(1))).collect();
        assert_eq!(url_map(Value::Object(many)).len(), MAX_VIOLATIONS);
        let items: Vec<Value> = (0..100).map(|_| json!({"x": 1})).collect();
        assert_eq!(url_map(json!({ "hostRules": items })).len(), MAX_VIOLATIONS);
    }

    #[test]
    fn enums_by_number_become_names() {
        let schema = crate::route::method(crate::Service::RunV2, "run.projects.locations.services.create");
        let schema = schema.and_then(|method| method.request).unwrap();
        let mut service = json!({"ingress": 3, "launchStage": 4, "traffic": [{"type": 1, "percent": 100}]});
        validate(schema, "service", &service).unwrap();
        canonicalise(schema, &mut service);
        assert_eq!(service["ingress"], "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER");
        assert_eq!(service["launchStage"], "GA");
        assert_eq!(service["traffic"][0]["type"], "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST");
        assert!(validate(schema, "service", &json!({"ingress": 99})).is_err());
    }

    #[test]
    fn snake_case_is_another_spelling() {
        let mut value =
            json!({"host_rules": [{"path_matcher": "m"}], "default_service": "a", "defaultService": "b"});
        assert!(url_map(value.clone()).is_empty());
        canonicalise(&compute_schemas::UrlMap, &mut value);
        assert_eq!(value, json!({"hostRules": [{"pathMatcher": "m"}], "defaultService": "b"}));
        assert!(!url_map(json!({"no_such_field": []})).is_empty());
    }

    #[test]
    fn parameters() {
        assert!(validate_text(&Type::Bool, "includeAllScopes", "True").is_ok());
        assert!(validate_text(&Type::Uint32, "maxResults", "500").is_ok());
        let error = validate_text(&Type::Uint32, "maxResults", "-1").unwrap_err();
        assert_eq!(error.to_string(), "Invalid value at 'maxResults' (TYPE_UINT32), \"-1\"");
        assert!(validate_text(&Type::Enum(&["A"]), "view", "A").is_ok());
        assert!(validate_text(&Type::Enum(&["A"]), "view", "B").is_err());
    }

    #[test]
    fn tables_are_sorted() {
        fn check(kind: &Type) {
            match kind {
                Type::Inline(fields) => {
                    assert!(fields.is_sorted_by(|a, b| a.name < b.name));
                    fields.iter().for_each(|field| check(&field.kind));
                }
                Type::Array(item) | Type::Map(item) => check(item),
                _ => {}
            }
        }
        for service in Service::ALL {
            service.schemas().iter().for_each(|schema| check(&schema.kind));
        }
    }
}
