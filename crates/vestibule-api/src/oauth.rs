//! The token endpoint, and the public keys with which anyone can check what it hands out.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use vestibule_control::Error;
use vestibule_control::iam::oauth::Refusal;

use crate::answer::{json_response, refused_plainly};
use crate::iam::iam;
use crate::{Ctx, Registry, decode};

/// How long clients may keep public keys, in seconds. Google's answers say some hours; keys here change never, but
/// the state folder may.
const KEYS_MAX_AGE: &str = "public, max-age=300";

pub(crate) fn register(registry: &mut Registry) {
    registry.path("/token", token);
    registry.path("/oauth2/v4/token", token);
    registry.path("/oauth2/v3/certs", jwks);
    registry.path("/oauth2/v1/certs", certificates);
    registry.path("/.well-known/openid-configuration", discovery);
    // Google serves the same keys under two names.
    for prefix in ["/service_accounts/v1/", "/robot/v1/"] {
        registry.prefix(prefix, account_keys);
    }
}

/// `POST /token` with a form, as RFC 6749 has it. Some of Google's clients send JSON.
fn token(ctx: &Ctx<'_>, request: Request<Bytes>) -> Response<Bytes> {
    if request.method() != Method::POST {
        return refusal(&Refusal { error: "invalid_request", description: "It must be a POST.".to_owned() });
    }
    let Some(form) = form(&request) else {
        return refusal(&Refusal {
            error: "invalid_request",
            description: "The body cannot be read.".to_owned(),
        });
    };
    let field = |name: &str| form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let outcome = match field("grant_type") {
        Some("refresh_token") => {
            iam(ctx).refresh(field("refresh_token").unwrap_or_default(), field("client_id"))
        }
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
            let endpoint = format!("{}{}", ctx.base_url(), request.uri().path());
            iam(ctx).exchange(field("assertion").unwrap_or_default(), &endpoint)
        }
        Some(other) => Err(Refusal {
            error: "unsupported_grant_type",
            description: format!("Invalid grant_type: {other}"),
        }),
        None => Err(Refusal {
            error: "invalid_request",
            description: "Missing required parameter: grant_type".to_owned(),
        }),
    };
    match outcome {
        Ok(answer) => {
            let mut response = json_response(StatusCode::OK, &answer);
            // RFC 6749 section 5.1.
            response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => refusal(&error),
    }
}

fn form(request: &Request<Bytes>) -> Option<Vec<(String, String)>> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        let body: Value = serde_json::from_slice(request.body()).ok()?;
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return Some(body.as_object()?.iter().map(|(name, value)| (name.clone(), text(value))).collect());
    }
    let body = std::str::from_utf8(request.body()).ok()?;
    decode::pairs(body).ok()
}

/// RFC 6749 section 5.2. What went wrong on our side is no fault of the client's.
fn refusal(refusal: &Refusal) -> Response<Bytes> {
    let status = match refusal.error {
        "server_error" => StatusCode::SERVICE_UNAVAILABLE,
        "unauthorized_client" => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_REQUEST,
    };
    json_response(status, &json!({ "error": refusal.error, "error_description": refusal.description }))
}

fn keys(answer: Result<Value, Error>) -> Response<Bytes> {
    match answer {
        Ok(keys) => {
            let mut response = json_response(StatusCode::OK, &keys);
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, http::HeaderValue::from_static(KEYS_MAX_AGE));
            response
        }
        Err(error) => refused_plainly(error),
    }
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable { context: error.to_string() }
}

fn jwks(ctx: &Ctx<'_>, _: Request<Bytes>) -> Response<Bytes> {
    keys(ctx.deps().issuer.jwks().map_err(unavailable))
}

fn certificates(ctx: &Ctx<'_>, _: Request<Bytes>) -> Response<Bytes> {
    keys(ctx.deps().issuer.certificates().map_err(unavailable))
}

/// OpenID Connect Discovery 1.0: where to find the keys.
fn discovery(ctx: &Ctx<'_>, _: Request<Bytes>) -> Response<Bytes> {
    let base = ctx.base_url();
    keys(Ok(json!({
        "issuer": vestibule_iam::token::ISSUER,
        "token_endpoint": format!("{base}/token"),
        "jwks_uri": format!("{base}/oauth2/v3/certs"),
        "id_token_signing_alg_values_supported": ["RS256"],
        "subject_types_supported": ["public"],
        "response_types_supported": ["id_token"],
    })))
}

/// `…/metadata/{x509,jwk}/EMAIL`: the public keys of one service account.
fn account_keys(ctx: &Ctx<'_>, request: Request<Bytes>) -> Response<Bytes> {
    let path = percent_encoding::percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        [_, "v1", "metadata", "x509", email] => keys(iam(ctx).public_keys(email, true)),
        [_, "v1", "metadata", "jwk", email] => keys(iam(ctx).public_keys(email, false)),
        [_, "v1", "metadata", "raw", _] => {
            refused_plainly(Error::not_implemented("service_accounts.metadata.raw"))
        }
        _ => refused_plainly(Error::NotFound {
            message: "The requested URL was not found on this server.".to_owned(),
        }),
    }
}
