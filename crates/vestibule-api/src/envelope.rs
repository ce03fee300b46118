//! From refusals to HTTP: the one place that knows status codes, reason words and the shape of errors.
//!
//! Google has two shapes. Compute's clients read `error.errors[].reason`; everyone else's read `error.status` and
//! `error.details`. Cloud DNS sends both. `error.code` always equals the HTTP status: Google's Go client believes
//! the body where they differ.

use http::StatusCode;
use serde_json::{Map, Value, json};
use vestibule_control::Error;
use vestibule_model::Service;
use vestibule_model::schema::{Violation, ViolationKind};

/// How a service writes its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `errors[]` with reason words.
    Compute,
    /// `status` and `details[]`.
    Google,
    /// All of it.
    Both,
}

impl Style {
    pub fn of(service: Service) -> Style {
        match service {
            Service::Compute => Style::Compute,
            Service::Dns => Style::Both,
            _ => Style::Google,
        }
    }
}

/// Why a request got no successful answer.
#[derive(Debug)]
pub enum Refusal {
    /// The handler refused.
    Error(Error),
    /// The body does not fit the method's schema.
    Body(Vec<Violation>),
    /// A query parameter is unknown or holds what it must not.
    Query { name: String, message: String },
    /// The body is no JSON object, or the path or query cannot be decoded.
    Malformed { message: String },
    /// The body is longer than we read.
    TooLarge { limit: usize },
    /// The body did not arrive in time.
    TooSlow,
    /// No method has this path.
    UnknownPath { verb: String, path: String },
    /// The path exists, but not with this HTTP method.
    WrongVerb { verb: String, allowed: Vec<&'static str> },
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Error(error)
    }
}

/// A refusal in HTTP's terms, before it takes one of the shapes.
struct Verdict {
    code: StatusCode,
    /// Compute's word.
    reason: &'static str,
    /// The canonical code of other services.
    status: &'static str,
    message: String,
    /// `google.rpc.BadRequest.fieldViolations`: field and description.
    fields: Vec<(String, String)>,
}

/// The HTTP status and the JSON body that tell a refusal.
pub fn refusal(style: Style, refusal: &Refusal) -> (StatusCode, Value) {
    let verdict = verdict(refusal, style);
    let mut error = Map::new();
    error.insert("code".to_owned(), json!(verdict.code.as_u16()));
    error.insert("message".to_owned(), json!(verdict.message));
    if style != Style::Google {
        let entry = json!({ "message": verdict.message, "domain": "global", "reason": verdict.reason });
        error.insert("errors".to_owned(), json!([entry]));
    }
    // Compute has no `status` on errors of its own, but the layer in front of it, which parses JSON, does.
    if style != Style::Compute || !matches!(refusal, Refusal::Error(_)) {
        error.insert("status".to_owned(), json!(verdict.status));
    }
    if style != Style::Compute && !verdict.fields.is_empty() {
        let violations: Vec<Value> = verdict
            .fields
            .iter()
            .map(|(field, description)| json!({ "field": field, "description": description }))
            .collect();
        let kind = "type.googleapis.com/google.rpc.BadRequest";
        error.insert("details".to_owned(), json!([{ "@type": kind, "fieldViolations": violations }]));
    }
    (verdict.code, json!({ "error": error }))
}

fn verdict(refusal: &Refusal, style: Style) -> Verdict {
    let plain = |code: StatusCode, reason: &'static str, status: &'static str, message: String| Verdict {
        code,
        reason,
        status,
        message,
        fields: Vec::new(),
    };
    let bad_request = |message: String| plain(StatusCode::BAD_REQUEST, "badRequest", INVALID, message);
    match refusal {
        Refusal::Error(error) => of_error(error, style),
        Refusal::Body(violations) => of_violations(violations),
        Refusal::Query { name, message } => {
            Verdict { fields: vec![(name.clone(), message.clone())], ..bad_request(message.clone()) }
        }
        Refusal::Malformed { message } => bad_request(message.clone()),
        Refusal::TooLarge { limit } => plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            "uploadTooLarge",
            INVALID,
            format!("Request payload size exceeds the limit: {limit} bytes."),
        ),
        Refusal::TooSlow => plain(
            StatusCode::REQUEST_TIMEOUT,
            "requestTimeout",
            "DEADLINE_EXCEEDED",
            "The request body did not arrive in time.".to_owned(),
        ),
        Refusal::UnknownPath { verb, path } => plain(
            StatusCode::NOT_FOUND,
            "notFound",
            "NOT_FOUND",
            format!("The requested URL was not found on this server: {verb} {path}"),
        ),
        Refusal::WrongVerb { verb, allowed } => plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "httpMethodNotAllowed",
            "UNIMPLEMENTED",
            format!("The method {verb} is not allowed here. Allowed: {}.", allowed.join(", ")),
        ),
    }
}

const INVALID: &str = "INVALID_ARGUMENT";

fn of_error(error: &Error, style: Style) -> Verdict {
    use StatusCode as S;
    let (code, reason, status) = match error {
        Error::Invalid { .. } => (S::BAD_REQUEST, "invalid", INVALID),
        Error::Required { .. } => (S::BAD_REQUEST, "required", INVALID),
        Error::Named { reason, .. } => (S::BAD_REQUEST, *reason, INVALID),
        Error::BadRequest { .. } => (S::BAD_REQUEST, "badRequest", INVALID),
        Error::NotFound { .. } => (S::NOT_FOUND, "notFound", "NOT_FOUND"),
        Error::AlreadyExists { .. } => (S::CONFLICT, "alreadyExists", "ALREADY_EXISTS"),
        Error::InUse { .. } => (S::BAD_REQUEST, "resourceInUseByAnotherResource", "FAILED_PRECONDITION"),
        Error::NotReady { .. } => (S::BAD_REQUEST, "resourceNotReady", "FAILED_PRECONDITION"),
        // Services with etags call a stale one a lost race; only those with fingerprints know 412.
        Error::ConditionNotMet { .. } if style == Style::Google => (S::CONFLICT, "aborted", "ABORTED"),
        Error::ConditionNotMet { .. } => (S::PRECONDITION_FAILED, "conditionNotMet", "FAILED_PRECONDITION"),
        Error::IpInUse { .. } => (S::CONFLICT, "IP_IN_USE_BY_ANOTHER_RESOURCE", "ALREADY_EXISTS"),
        Error::IpSpaceExhausted { .. } => (S::BAD_REQUEST, "IP_SPACE_EXHAUSTED", "RESOURCE_EXHAUSTED"),
        // No 501: clients try that again.
        Error::NotBuilt { .. } => (S::BAD_REQUEST, "invalid", INVALID),
        Error::NotImplemented { .. } => (S::NOT_IMPLEMENTED, "notImplemented", "UNIMPLEMENTED"),
        Error::PermissionDenied { .. } => (S::FORBIDDEN, "forbidden", "PERMISSION_DENIED"),
        Error::Unauthenticated { .. } => (S::UNAUTHORIZED, "authError", "UNAUTHENTICATED"),
        Error::Aborted { .. } => (S::CONFLICT, "aborted", "ABORTED"),
        Error::FailedPrecondition { .. } => (S::BAD_REQUEST, "failedPrecondition", "FAILED_PRECONDITION"),
        Error::ResourceExhausted { .. } if style != Style::Google => {
            (S::FORBIDDEN, "quotaExceeded", "RESOURCE_EXHAUSTED")
        }
        Error::ResourceExhausted { .. } => (S::TOO_MANY_REQUESTS, "rateLimitExceeded", "RESOURCE_EXHAUSTED"),
        Error::Unavailable { .. } => (S::SERVICE_UNAVAILABLE, "backendError", "UNAVAILABLE"),
        // `Internal`, and what a newer control plane may add: our own fault until it is listed here.
        _ => (S::INTERNAL_SERVER_ERROR, "backendError", "INTERNAL"),
    };
    let message = match error {
        Error::NotImplemented { method } => format!("Method {method} is not implemented by Vestibule."),
        Error::NotBuilt { .. } => format!("{error}."),
        error => error.to_string(),
    };
    let fields = match error {
        Error::Invalid { field, why, .. } => vec![(field.clone(), why.clone())],
        Error::NotBuilt { what } => vec![(what.clone(), message.clone())],
        Error::Required { field } => vec![(field.clone(), message.clone())],
        _ => Vec::new(),
    };
    Verdict { code, reason, status, message, fields }
}

fn of_violations(violations: &[Violation]) -> Verdict {
    let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
    let enumerated = violations.iter().any(|v| matches!(v.kind, ViolationKind::NotInEnum { .. }));
    Verdict {
        code: StatusCode::BAD_REQUEST,
        reason: if enumerated { "invalid" } else { "badRequest" },
        status: INVALID,
        message: texts.join("\n"),
        fields: violations.iter().map(|v| v.path.clone()).zip(texts).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(style: Style, error: Error) -> (u16, Value) {
        let (code, body) = refusal(style, &Refusal::Error(error));
        (code.as_u16(), body)
    }

    #[test]
    fn compute_tells_reasons_and_no_status() {
        let (code, body) = body(Style::Compute, Error::not_found("projects/p/global/networks/n"));
        let message = "The resource 'projects/p/global/networks/n' was not found";
        assert_eq!(code, 404);
        assert_eq!(
            body,
            json!({"error": {"code": 404, "message": message,
                "errors": [{"message": message, "domain": "global", "reason": "notFound"}]}})
        );
    }

    #[test]
    fn other_services_tell_status_and_details() {
        let (code, body) = body(Style::Google, Error::invalid("spec.image", "x", "Unsupported image format"));
        assert_eq!(code, 400);
        assert_eq!(body["error"]["status"], "INVALID_ARGUMENT");
        assert_eq!(body["error"].get("errors"), None);
        assert_eq!(
            body["error"]["details"][0]["fieldViolations"],
            json!([{"field": "spec.image", "description": "Unsupported image format"}])
        );
    }

    #[test]
    fn dns_tells_both() {
        let (_, body) = body(Style::Both, Error::already_exists("projects/p/managedZones/z"));
        assert_eq!(body["error"]["errors"][0]["reason"], "alreadyExists");
        assert_eq!(body["error"]["status"], "ALREADY_EXISTS");
    }

    #[test]
    fn stale_writes_differ_by_service() {
        let stale = || Error::condition_not_met("Invalid fingerprint.");
        assert_eq!(body(Style::Compute, stale()).0, 412);
        assert_eq!(body(Style::Google, stale()).0, 409);
    }

    #[test]
    fn what_is_not_built_says_so_and_is_never_retried() {
        let (code, body) = body(Style::Compute, Error::not_implemented("compute.urlMaps.invalidateCache"));
        assert_eq!(code, 501);
        assert_eq!(
            body["error"]["message"],
            "Method compute.urlMaps.invalidateCache is not implemented by Vestibule."
        );
    }

    #[test]
    fn a_field_that_is_not_built_is_the_caller_s_fault() {
        let (code, body) = body(Style::Google, Error::not_built("run.services.iapEnabled"));
        let message = "run.services.iapEnabled is not supported by Vestibule.";
        assert_eq!((code, &body["error"]["message"]), (400, &json!(message)));
        assert_eq!(body["error"]["status"], "INVALID_ARGUMENT");
        let violation = &body["error"]["details"][0]["fieldViolations"][0];
        assert_eq!(*violation, json!({"field": "run.services.iapEnabled", "description": message}));
    }

    #[test]
    fn internal_context_stays_inside() {
        let (code, body) = body(Style::Google, Error::internal("secret path"));
        assert_eq!(code, 500);
        assert!(!body.to_string().contains("secret path"));
    }
}
