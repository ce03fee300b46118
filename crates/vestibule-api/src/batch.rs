//! Google's batches: many calls in one `multipart/mixed` request.
//!
//! gcloud sends one whenever a compute command names two resources or more, and polls in batches too. Every part is an
//! HTTP request of its own; all go through [`Api::answer`](crate::Api::answer), one after the other, so that a batch
//! means what its parts mean in their order.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use vestibule_control::Error;

use crate::answer::refused_plainly;
use crate::{Ctx, Registry};

/// Calls in one batch; Google's own limit.
const MAX_PARTS: usize = 1000;

pub(crate) fn register(registry: &mut Registry) {
    registry.path("/batch/compute/v1", answer);
    // What other services' discovery documents name as their batch path.
    registry.path("/batch", answer);
}

fn answer(ctx: &Ctx<'_>, request: Request<Bytes>) -> Response<Bytes> {
    match parse(&request) {
        Ok(parts) => {
            let answers: Vec<Vec<u8>> = parts.into_iter().map(|part| part.answer(ctx)).collect();
            assemble(&answers)
        }
        Err(error) => refused_plainly(error),
    }
}

/// One call of a batch.
struct Part {
    /// The part's `Content-ID`, without the angle brackets.
    id: Option<String>,
    request: Result<Request<Bytes>, String>,
}

impl Part {
    fn answer(self, ctx: &Ctx<'_>) -> Vec<u8> {
        let response = match self.request {
            Ok(request) => ctx.api.answer(request),
            Err(why) => refused_plainly(Error::bad_request(why)),
        };
        let mut out = b"Content-Type: application/http\r\n".to_vec();
        if let Some(id) = &self.id {
            out.extend_from_slice(format!("Content-ID: <response-{id}>\r\n").as_bytes());
        }
        let status = response.status();
        let reason = status.canonical_reason().unwrap_or("");
        out.extend_from_slice(format!("\r\nHTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
        for (name, value) in response.headers() {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("content-length: {}\r\n\r\n", response.body().len()).as_bytes());
        out.extend_from_slice(response.body());
        out
    }
}

fn parse(request: &Request<Bytes>) -> Result<Vec<Part>, Error> {
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = media_type.and_then(boundary).ok_or_else(|| {
        Error::bad_request("A batch needs the content type multipart/mixed with a boundary.")
    })?;
    let parts = split(request.body(), &boundary);
    if parts.is_empty() || parts.len() > MAX_PARTS {
        return Err(Error::bad_request(format!(
            "A batch holds 1 to {MAX_PARTS} calls, not {}.",
            parts.len()
        )));
    }
    Ok(parts.into_iter().map(|part| read_part(request, part)).collect())
}

/// The boundary of `multipart/mixed; boundary="…"`.
fn boundary(media_type: &str) -> Option<String> {
    let mut parameters = media_type.split(';').map(str::trim);
    if !parameters.next()?.eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let value = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some(value.trim())
    })?;
    let bare = value.trim_matches('"');
    (!bare.is_empty()).then(|| bare.to_owned())
}

/// The parts between the delimiters (RFC 2046, section 5.1.1). Python's clients end lines with a bare line feed, so
/// both ends count. A delimiter stands at the start of a line.
fn split<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut start = None;
    let mut offset = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let text = trim_end(line);
        let closing = text.strip_suffix(b"--") == Some(delimiter.as_bytes());
        if text == delimiter.as_bytes() || closing {
            if let Some(start) = start {
                parts.push(drop_line_end(&body[start..offset]));
            }
            start = (!closing).then_some(offset + line.len());
            if closing {
                break;
            }
        }
        offset += line.len();
    }
    parts
}

fn read_part(outer: &Request<Bytes>, part: &[u8]) -> Part {
    let (head, inner) = split_head(part);
    let id = headers(head)
        .get("content-id")
        .and_then(|value| value.to_str().ok())
        .map(|id| id.trim_start_matches('<').trim_end_matches('>').to_owned());
    Part { id, request: inner_request(outer, inner) }
}

fn inner_request(outer: &Request<Bytes>, inner: &[u8]) -> Result<Request<Bytes>, String> {
    let (line, rest) = match inner.iter().position(|byte| *byte == b'\n') {
        Some(end) => (trim_end(&inner[..end]), &inner[end + 1..]),
        None => (trim_end(inner), &inner[inner.len()..]),
    };
    let line = std::str::from_utf8(line).map_err(|_| "The request line of a part is no UTF-8.".to_owned())?;
    let mut words = line.split_ascii_whitespace();
    let (Some(verb), Some(target)) = (words.next(), words.next()) else {
        return Err(format!("The request line of a part is malformed: {line:?}"));
    };
    // A request without headers and body has no empty line that would end its head.
    let (head, body) = if rest.is_empty() { (rest, rest) } else { split_head(rest) };
    let built = Request::builder().method(verb).uri(target).body(Bytes::copy_from_slice(body));
    let mut request = built.map_err(|error| format!("The request line of a part is malformed: {error}"))?;
    if request.uri().path().starts_with("/batch") {
        return Err("A batch cannot hold a batch.".to_owned());
    }
    *request.headers_mut() = headers(head);
    for inherited in [header::AUTHORIZATION, header::HOST] {
        if !request.headers().contains_key(&inherited)
            && let Some(value) = outer.headers().get(&inherited)
        {
            request.headers_mut().insert(inherited, value.clone());
        }
    }
    Ok(request)
}

/// The lines up to the first empty one, and what follows it.
fn split_head(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut offset = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let next = offset + line.len();
        if trim_end(line).is_empty() {
            return (&bytes[..offset], &bytes[next..]);
        }
        offset = next;
    }
    (bytes, &bytes[bytes.len()..])
}

/// Header lines that can be read; the others do not matter to any handler.
fn headers(head: &[u8]) -> HeaderMap {
    let lines = head.split(|byte| *byte == b'\n').map(trim_end);
    let pairs = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((name, value))
    });
    pairs.collect()
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The line end before a delimiter belongs to the delimiter.
fn drop_line_end(part: &[u8]) -> &[u8] {
    trim_end(part)
}

fn assemble(answers: &[Vec<u8>]) -> Response<Bytes> {
    // Long and random enough not to occur in an answer.
    let boundary = format!("batch_{}", vestibule_model::id::hex(32));
    let mut body = Vec::new();
    for answer in answers {
        body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        body.extend_from_slice(answer);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::OK;
    if let Ok(media_type) = HeaderValue::from_str(&format!("multipart/mixed; boundary={boundary}")) {
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn send(world: &World, body: &str) -> Response<Bytes> {
        let request = Request::post("/batch/compute/v1")
            .header("content-type", "multipart/mixed; boundary=\"===============65707==\"")
            .header("authorization", "Bearer ya29.x")
            .header("host", "127.0.0.1:8470");
        world.request(request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
    }

    /// As Python's email package writes it: line feeds only.
    fn part(id: &str, request: &str) -> String {
        format!(
            "--===============65707==\nContent-Type: application/http\nMIME-Version: 1.0\n\
             Content-Transfer-Encoding: binary\nContent-ID: <{id}>\n\n{request}\n"
        )
    }

    #[test]
    fn parts_are_answered_in_order_under_their_ids() {
        let world = World::new();
        let head = "Content-Type: application/json\nHost: 127.0.0.1:1\naccept: application/json\n";
        let body = part("a b+0", &format!("GET /v1/projects/demo?alt=json HTTP/1.1\n{head}\n"))
            + &part("x+1", &format!("GET /nowhere HTTP/1.1\n{head}content-length: 2\n\n{{}}"))
            + &part("x+2", "GET /v1/projects/other HTTP/1.1\n")
            + "--===============65707==--\n";
        let response = send(&world, &body);
        assert_eq!(response.status(), 200);
        let media_type = response.headers()["content-type"].to_str().unwrap();
        let boundary = media_type.strip_prefix("multipart/mixed; boundary=").unwrap();
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        let parts: Vec<&str> = text.split(&format!("--{boundary}")).collect();
        assert_eq!(parts.len(), 5, "{text}");
        assert!(parts[1].starts_with(
            "\r\nContent-Type: application/http\r\nContent-ID: <response-a b+0>\r\n\r\nHTTP/1.1 200 OK\r\n"
        ));
        assert!(parts[1].contains("\"projectId\":\"demo\""));
        assert!(parts[2].contains("<response-x+1>") && parts[2].contains("HTTP/1.1 404 Not Found"));
        assert!(parts[3].contains("\"projectId\":\"other\""));
        assert_eq!(parts[4], "--\r\n");
    }

    #[test]
    fn carriage_returns_are_fine_too() {
        let world = World::new();
        let body = part("a", "GET /v1/projects/demo HTTP/1.1\nhost: h\n\n") + "--===============65707==--\n";
        let response = send(&world, &body.replace('\n', "\r\n"));
        assert!(String::from_utf8_lossy(response.body()).contains("HTTP/1.1 200 OK"));
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        let world = World::new();
        assert_eq!(send(&world, "").status(), 400);
        let request = Request::post("/batch/compute/v1").body(Bytes::new()).unwrap();
        assert_eq!(world.request(request).status(), 400);
        let nested = part("a", "POST /batch/compute/v1 HTTP/1.1\n\n") + "--===============65707==--\n";
        assert!(String::from_utf8_lossy(send(&world, &nested).body()).contains("HTTP/1.1 400 Bad Request"));
        let garbled = part("a", "\n") + "--===============65707==--\n";
        assert!(String::from_utf8_lossy(send(&world, &garbled).body()).contains("HTTP/1.1 400 Bad Request"));
    }

    #[test]
    fn boundaries() {
        assert_eq!(boundary("multipart/mixed; boundary=\"a=b\"").as_deref(), Some("a=b"));
        assert_eq!(boundary("Multipart/Mixed;boundary=x").as_deref(), Some("x"));
        assert_eq!(boundary("multipart/form-data; boundary=x"), None);
        assert_eq!(boundary("multipart/mixed"), None);
    }
}
