//! Our own API under `/vestibule/v1/`: what `vestibule env`, `vm run` and the tour ask; and `/metrics`.

use bytes::Bytes;
use http::{Method, Request, Response, header};
use serde_json::Value;
use vestibule_control::Error;

use crate::envelope::{self, Style};
use crate::held::KeepOpen;
use crate::host::{ExplainRequest, VmRequest};
use crate::{Ctx, Registry};

pub(crate) fn register(registry: &mut Registry) {
    registry.path("/vestibule/v1/status", status);
    registry.path("/metrics", metrics);
    registry.path("/vestibule/v1/vms", open_vm);
    registry.path("/vestibule/v1/explain", explain);
}

/// `GET`: where things listen and how the networks are realised.
fn status(ctx: &Ctx<'_>, request: Request<Bytes>) -> Response<Bytes> {
    match *request.method() {
        Method::GET => json(&ctx.deps().host.status()),
        _ => refuse(&Error::not_implemented(format!("{} /vestibule/v1/status", request.method()))),
    }
}

/// `GET`: what was done so far, for Prometheus.
fn metrics(ctx: &Ctx<'_>, request: Request<Bytes>) -> Response<Bytes> {
    if request.method() != Method::GET {
        return refuse(&Error::not_implemented(format!("{} /metrics", request.method())));
    }
    let mut response = Response::new(Bytes::from(ctx.deps().host.metrics()));
    let media_type = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// `POST`: lets a client into a network. The answer is one line of JSON; the lease lasts while the response is open.
fn open_vm(ctx: &Ctx<'_>, request: Request<Bytes>) -> Response<Bytes> {
    if request.method() != Method::POST {
        return refuse(&Error::not_implemented(format!("{} /vestibule/v1/vms", request.method())));
    }
    let wanted: VmRequest = match serde_json::from_slice(request.body()) {
        Ok(wanted) => wanted,
        Err(error) => return refuse(&Error::bad_request(format!("Invalid JSON payload received. {error}"))),
    };
    match ctx.deps().host.open_vm(wanted) {
        Ok((vm, held)) => {
            let mut response = json(&serde_json::to_value(vm).unwrap_or_default());
            response.extensions_mut().insert(KeepOpen(held));
            response
        }
        Err(error) => refuse(&error),
    }
}

/// `POST`: the way a request would take, and which check would refuse it.
fn explain(ctx: &Ctx<'_>, request: Request<Bytes>) -> Response<Bytes> {
    if request.method() != Method::POST {
        return refuse(&Error::not_implemented(format!("{} /vestibule/v1/explain", request.method())));
    }
    match serde_json::from_slice::<ExplainRequest>(request.body()) {
        Ok(question) => {
            let explanation = ctx.deps().host.explain(&question.into());
            json(&serde_json::to_value(explanation).unwrap_or_default())
        }
        Err(error) => refuse(&Error::bad_request(format!("Invalid JSON payload received. {error}"))),
    }
}

fn json(value: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(value.to_string() + "\n"));
    let media_type = http::HeaderValue::from_static("application/json; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

fn refuse(error: &Error) -> Response<Bytes> {
    let (status, body) = envelope::refusal(Style::Google, &error.clone().into());
    let mut response = json(&body);
    *response.status_mut() = status;
    response
}
