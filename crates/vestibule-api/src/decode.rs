//! From a routed request to a [`Call`]: query parameters and body, checked against what the method declares.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use vestibule_control::{Document, Error};
use vestibule_model::route::{Found, Method, STANDARD_PARAMETERS};
use vestibule_model::schema;

use crate::Call;
use crate::envelope::Refusal;

/// Decodes query and body.
pub(crate) fn call(found: Found, query: &str, body: &Bytes) -> Result<Call, Refusal> {
    let Found { method, params } = found;
    let mut declared = Vec::new();
    let mut fields = None;
    for (name, value) in pairs(query)? {
        if let Some(parameter) = method.query_parameter(&name) {
            // A parameter with an empty value is the same as none to Google.
            if !value.is_empty() {
                parameter.check(&value).map_err(|violation| bad_query(&name, violation.to_string()))?;
                declared.push((parameter.name, value));
            }
        } else if name == "fields" || name == "$fields" {
            fields = Some(value);
        } else if !name.starts_with('$')
            && !STANDARD_PARAMETERS.contains(&name.as_str())
            && !is_partial_success(method, &name)
        {
            return Err(unknown_query(&name));
        }
    }
    for parameter in method.query.iter().filter(|parameter| parameter.required) {
        if !declared.iter().any(|(name, _)| *name == parameter.name) {
            return Err(Error::required(parameter.name).into());
        }
    }
    Ok(Call { method, params, query: declared, fields, body: self::body(method, body)? })
}

/// Lists of Compute Engine take `returnPartialSuccess`, and gcloud up to 528 sends it; discovery documents have dropped
/// it since. It means nothing here: a list never fails in part.
fn is_partial_success(method: &Method, name: &str) -> bool {
    let is_list = method.id.ends_with(".list") || method.id.ends_with(".aggregatedList");
    name == "returnPartialSuccess" && method.id.starts_with("compute.") && is_list
}

/// The pairs of a query string. `+` is a space.
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().map(|text| text.into_owned()).map_err(|_| {
            Refusal::Malformed { message: "Invalid UTF-8 in a percent-encoded query parameter.".to_owned() }
        })
    };
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(k, v)| Ok((decode(k)?, decode(v)?)))
        .collect()
}

fn body(method: &'static Method, bytes: &Bytes) -> Result<Document, Refusal> {
    let Some(schema) = method.request else { return Ok(Document::new()) };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Document::new());
    }
    let mut value = json(bytes)?;
    schema::validate(schema, &method.body_root(), &value).map_err(Refusal::Body)?;
    schema::canonicalise(schema, &mut value);
    match value {
        Value::Object(document) => Ok(document),
        other => Err(Refusal::Malformed {
            message: format!("Invalid JSON payload received. Expected an object, got {}.", kind(&other)),
        }),
    }
}

/// Parses JSON, with serde_json's limit of 128 levels.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|error| Refusal::Malformed {
        message: format!("Invalid JSON payload received. Invalid UTF-8 at byte {}.", error.valid_up_to()),
    })?;
    serde_json::from_str(text)
        .map_err(|error| Refusal::Malformed { message: format!("Invalid JSON payload received. {error}.") })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn bad_query(name: &str, message: String) -> Refusal {
    Refusal::Query { name: name.to_owned(), message }
}

fn unknown_query(name: &str) -> Refusal {
    let message = format!(
        "Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter. \
         Field '{name}' could not be found in request message."
    );
    bad_query(name, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vestibule_model::route::{RouteMatch, find};

    fn decoded(verb: &str, path: &str, query: &str, body: &'static str) -> Result<Call, Refusal> {
        let RouteMatch::Found(found) = find(verb, path) else { panic!("{path}") };
        call(found, query, &Bytes::from_static(body.as_bytes()))
    }

    const NETWORKS: &str = "/compute/v1/projects/demo/global/networks";

    #[test]
    fn lists_of_compute_take_partial_success() {
        assert!(decoded("GET", NETWORKS, "returnPartialSuccess=True", "").is_ok());
        let all = "/compute/v1/projects/demo/aggregated/forwardingRules";
        assert!(decoded("GET", all, "returnPartialSuccess=true", "").is_ok());
        assert!(decoded("GET", &format!("{NETWORKS}/n"), "returnPartialSuccess=true", "").is_err());
    }

    #[test]
    fn query_parameters_are_declared_standard_or_refused() {
        let call = decoded(
            "GET",
            NETWORKS,
            "alt=json&maxResults=5&filter=name+%3D+x&prettyPrint=false&%24.xgafv=1&fields=items%2Fname",
            "",
        )
        .unwrap();
        assert_eq!(call.query("filter"), Some("name = x"));
        assert_eq!(call.query("maxResults"), Some("5"));
        assert_eq!(call.fields.as_deref(), Some("items/name"));
        match decoded("GET", NETWORKS, "colour=red", "") {
            Err(Refusal::Query { message, .. }) => assert_eq!(
                message,
                "Invalid JSON payload received. Unknown name \"colour\": Cannot bind query parameter. \
                 Field 'colour' could not be found in request message."
            ),
            other => panic!("{other:?}"),
        }
        assert!(matches!(decoded("GET", NETWORKS, "maxResults=-1", ""), Err(Refusal::Query { .. })));
        assert!(matches!(decoded("GET", NETWORKS, "filter=%ff", ""), Err(Refusal::Malformed { .. })));
    }

    /// What gcloud 578 sent, one request of each shape a line: `verb`, `path`, and perhaps `query` and `body`.
    const GCLOUD: &str = include_str!("../tests/gcloud_requests.jsonl");

    #[test]
    fn every_request_of_gcloud_is_understood() {
        let mut refused = Vec::new();
        for line in GCLOUD.lines() {
            let request: Value = serde_json::from_str(line).unwrap();
            let text = |member: &str| request[member].as_str().unwrap_or_default();
            let body = request.get("body").map(Value::to_string).unwrap_or_default();
            let why = match find(text("verb"), text("path")) {
                RouteMatch::Found(found) => {
                    call(found, text("query"), &Bytes::from(body)).err().map(|why| format!("{why:?}"))
                }
                other => Some(format!("{other:?}")),
            };
            refused.extend(why.map(|why| format!("{} {}: {why}", text("verb"), text("path"))));
        }
        assert!(refused.is_empty(), "{refused:#?}");
    }

    #[test]
    fn repeated_parameters_keep_their_order() {
        let call = decoded("GET", "/v1/projects/demo/services:batchGet", "names=a&names=b", "").unwrap();
        assert_eq!(call.query_all("names").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn bodies() {
        assert_eq!(decoded("POST", NETWORKS, "", "").unwrap().body, Document::new());
        assert_eq!(decoded("POST", NETWORKS, "", r#"{"name":"n"}"#).unwrap().body["name"], "n");
        assert!(matches!(decoded("POST", NETWORKS, "", r#"{"nom":"n"}"#), Err(Refusal::Body(_))));
        assert!(matches!(decoded("POST", NETWORKS, "", "[]"), Err(Refusal::Body(_))));
        assert!(matches!(decoded("POST", NETWORKS, "", "{"), Err(Refusal::Malformed { .. })));
        assert!(matches!(json(b"{\"a\":\"\xff\"}"), Err(Refusal::Malformed { .. })));
        let deep = "[".repeat(1000);
        assert!(matches!(json(deep.as_bytes()), Err(Refusal::Malformed { .. })));
    }
}
