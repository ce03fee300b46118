//! The head of a request as it goes to a backend.

use vestibule_http1::{Expect, Field, Framing, Name, Request, encode};
use vestibule_urlmap::ForwardDecision;

use crate::destination::Destination;
use crate::forward::Plan;
use crate::headers::{self, List};
use crate::turn::{RequestVariables, Turn};

/// Appends the head, and the body behind it if it was held.
pub(crate) fn write(out: &mut Vec<u8>, turn: &Turn<'_>, plan: &Plan<'_>, destination: &Destination) {
    let request = &turn.request;
    let path = write_request_line(out, request, plan);
    let host = plan.decision.and_then(|decision| decision.rewritten_host());
    encode::field(out, b"host", host.unwrap_or(plan.url.authority).as_bytes());
    write_fields(out, turn, plan, destination);
    if host.is_some() {
        encode::field(out, b"x-envoy-original-host", plan.url.authority.as_bytes());
    }
    if path == Path::Rewritten {
        out.extend_from_slice(b"x-envoy-original-path: ");
        out.extend_from_slice(&plan.url.path);
        write_query(out, plan);
        out.extend_from_slice(b"\r\n");
    }
    let suffix = plan.balancer.map_or(&b""[..], |balancer| &balancer.forwarded_suffix);
    headers::forwarded_for(out, request.buffer(), request.fields(), &turn.peer.ip, suffix);
    encode::field(out, b"x-forwarded-proto", turn.peer.scheme().as_bytes());
    if plan.balancer.is_some() {
        headers::via(out);
    }
    if let (Destination::Run(admitted), Some(run)) = (destination, &turn.record.run) {
        if let Some(token) = &admitted.replaced_token {
            let name: &[u8] = if token.serverless { b"x-serverless-authorization" } else { b"authorization" };
            encode::field(out, name, &token.value);
        }
        write_forwarded(out, turn);
        run.trace.write(out);
    }
    if plan.protocol.is_http2() && wants_trailers(request) {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    if is_upgrade(request) && !plan.protocol.is_http2() {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    }
    write_framing(out, turn);
    encode::end_of_head(out);
    out.extend_from_slice(turn.held);
}

/// The client asks for a WebSocket: the one protocol that is switched to. What others ask for (`h2c`, above all) ends
/// here, and the request goes on as a plain one.
pub(crate) fn is_upgrade(request: &Request<'_>) -> bool {
    request.upgrade().is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
        && request.framing() == Framing::Empty
}

/// gRPC servers ask for it, and `te` says nothing else in HTTP/2 (RFC 9113 section 8.2.2).
fn wants_trailers(request: &Request<'_>) -> bool {
    let values = request.fields().iter().filter(|field| field.id == Name::Te);
    let mut codings = values.flat_map(|field| field.value.of(request.buffer()).split(|&b| b == b','));
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[derive(PartialEq, Eq)]
enum Path {
    Kept,
    Rewritten,
}

fn write_request_line(out: &mut Vec<u8>, request: &Request<'_>, plan: &Plan<'_>) -> Path {
    out.extend_from_slice(request.method_text().as_bytes());
    out.push(b' ');
    let rewritten = plan.decision.is_some_and(|decision| rewrite(out, decision, &plan.url.path));
    if !rewritten {
        out.extend_from_slice(&plan.url.path);
    }
    write_query(out, plan);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if rewritten { Path::Rewritten } else { Path::Kept }
}

/// Appends the rewritten path. A substitution is configuration and the path was checked, but together they could still
/// hold a byte that ends a target.
fn rewrite(out: &mut Vec<u8>, decision: &ForwardDecision<'_>, path: &[u8]) -> bool {
    let start = out.len();
    let rewritten = decision.rewrite_path(path, out);
    if out[start..].iter().any(|b| !b.is_ascii_graphic() || *b == b'#') {
        out.truncate(start);
        return false;
    }
    rewritten
}

fn write_query(out: &mut Vec<u8>, plan: &Plan<'_>) {
    if let Some(query) = plan.url.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

/// The client's fields, less those that end here or are written anew, as the header actions want them.
fn write_fields(out: &mut Vec<u8>, turn: &Turn<'_>, plan: &Plan<'_>, destination: &Destination) {
    let request = &turn.request;
    let trace = turn.record.run.as_ref().map(|run| run.trace);
    let token = match destination {
        Destination::Run(admitted) => admitted.replaced_token.as_ref().map(|token| token.serverless),
        Destination::Endpoints(_) => None,
    };
    let streams = !turn.inbound.is_complete();
    let keep = |field: &Field| match field.id {
        Name::Other | Name::UserAgent => !field.nominated,
        Name::Host | Name::ContentLength | Name::XForwardedFor | Name::XForwardedProto => false,
        // Whoever holds the whole body waits for nothing.
        Name::Expect => streams && request.expect() == Expect::Continue,
        Name::Authorization if token == Some(false) => false,
        Name::XServerlessAuthorization if token == Some(true) => false,
        _ => !field.is_hop_by_hop() && !trace.is_some_and(|trace| trace.replaces(field)),
    };
    match plan.decision.map(|decision| decision.headers).filter(|levels| !levels.is_empty()) {
        None => headers::copy(out, request.buffer(), request.fields(), keep),
        Some(levels) => {
            let mut list = List::of(request.buffer(), request.fields(), keep);
            let variables = RequestVariables { peer: turn.peer, request: *request, server: plan.server };
            levels.apply_request(&mut list, &variables);
            list.write(out);
        }
    }
}

/// RFC 7239, as Cloud Run's containers get it.
fn write_forwarded(out: &mut Vec<u8>, turn: &Turn<'_>) {
    let bracket = turn.peer.address.is_ipv6();
    out.extend_from_slice(b"forwarded: for=\"");
    out.extend_from_slice(if bracket { b"[" } else { b"" });
    out.extend_from_slice(turn.peer.ip.as_bytes());
    out.extend_from_slice(if bracket { b"]\";proto=" } else { b"\";proto=" });
    out.extend_from_slice(turn.peer.scheme().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_framing(out: &mut Vec<u8>, turn: &Turn<'_>) {
    match (turn.request.framing(), turn.inbound.is_complete()) {
        (Framing::Empty, _) if turn.request.content_length().is_none() => {}
        (Framing::Empty, _) => encode::content_length(out, 0),
        (_, true) => encode::content_length(out, turn.held.len() as u64),
        (Framing::Length(length), false) => encode::content_length(out, length),
        (_, false) => encode::chunked(out),
    }
}
