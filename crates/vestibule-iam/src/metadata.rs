//! The metadata server as a function from a request to an answer.
//!
//! A container, or a client inside the VPC, asks `http://metadata.google.internal/computeMetadata/v1/…` who it is and
//! for tokens. Who listens on that name, and how it finds out which [`Identity`] is asking, is not decided here.
//!
//! The entries form a tree. A path that ends in a slash lists its folder, `recursive=true` shows all below it as JSON
//! with keys in camel case, and a leaf is plain text. Without the header `Metadata-Flavor: Google` the answer is 403:
//! a browser that was tricked into asking cannot send it.

mod tree;

use jiff::Timestamp;

use crate::token::LIFETIME_SECONDS;
use crate::{IdTokenClaims, Issuer, Principal};

use tree::Node;

/// Headers of every answer.
pub const RESPONSE_HEADERS: [(&str, &str); 2] =
    [("Metadata-Flavor", "Google"), ("Server", "Metadata Server for Serverless")];
/// The scope of default credentials.
pub const CLOUD_PLATFORM_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The root of all entries.
const ROOT: &str = "/computeMetadata/v1/";

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub project_id: String,
    /// Twelve digits.
    pub project_number: String,
    pub region: String,
    /// Short name; Cloud Run has the pseudo zone `REGION-1`.
    pub zone: String,
    /// Unique id of the instance: a long hexadecimal string on Cloud Run.
    pub instance_id: String,
    /// Short name; empty on Cloud Run, which then has no such entry.
    pub instance_name: String,
    /// Full name; empty on Cloud Run, which then has no such entry.
    pub hostname: String,
    /// Address of the service account.
    pub service_account: String,
}

impl Identity {
    /// An instance of a Cloud Run service.
    pub fn cloud_run(
        project_id: &str,
        project_number: &str,
        region: &str,
        instance_id: &str,
        service_account: &str,
    ) -> Identity {
        Identity {
            project_id: project_id.to_owned(),
            project_number: project_number.to_owned(),
            region: region.to_owned(),
            zone: format!("{region}-1"),
            instance_id: instance_id.to_owned(),
            instance_name: String::new(),
            hostname: String::new(),
            service_account: service_account.to_owned(),
        }
    }
}

/// Mints what the metadata server hands out.
pub trait TokenSource {
    /// An identity token for one audience. May block (see [`Issuer`]).
    fn identity_token(&self, identity: &Identity, audience: &str) -> Result<String, String>;
    /// An access token and its remaining life in seconds.
    fn access_token(&self, identity: &Identity, scopes: &[String]) -> (String, i64);
}

impl TokenSource for Issuer {
    /// Always with the e-mail address, as on Cloud Run.
    fn identity_token(&self, identity: &Identity, audience: &str) -> Result<String, String> {
        let email = &identity.service_account;
        let subject = self.unique_id(email);
        let claims = IdTokenClaims::new(subject, audience).with_email(email.as_str());
        self.id_token(&claims, Timestamp::now()).map_err(|error| error.to_string())
    }

    fn access_token(&self, identity: &Identity, scopes: &[String]) -> (String, i64) {
        let principal = Principal::from_email(&identity.service_account);
        let token = Issuer::access_token(self, &principal, scopes, LIFETIME_SECONDS, Timestamp::now());
        // One second less, as Google answers: the token has aged on its way.
        (token, LIFETIME_SECONDS - 1)
    }
}

/// A request to the metadata server.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET` and `HEAD` are allowed.
    pub method: &'a str,
    /// Path and query as received.
    pub target: &'a str,
    /// Value of `Metadata-Flavor`.
    pub flavor: Option<&'a str>,
    /// Whether the request carries `X-Forwarded-For`: it came through a proxy, which is refused.
    pub forwarded: bool,
}

/// An answer, to be sent with [`RESPONSE_HEADERS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    /// `Location`, on 301.
    pub location: Option<String>,
    pub body: String,
}

/// Answers a request of `identity`. Blocks only where `tokens` does.
pub fn answer(request: Request<'_>, identity: &Identity, tokens: &dyn TokenSource) -> Answer {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    if !matches!(request.method, "GET" | "HEAD") {
        return error(405, "Method Not Allowed");
    }
    // The two folders above the entries say only what is below, and clients probe them to find the server.
    match path {
        "/" | "" => return listing("computeMetadata/\n"),
        "/computeMetadata" => return redirect("/computeMetadata/"),
        "/computeMetadata/" => return listing("v1/\n"),
        _ => {}
    }
    if !request.flavor.is_some_and(|flavor| flavor.eq_ignore_ascii_case("google")) {
        return error(403, "Missing Metadata-Flavor:Google header.");
    }
    if request.forwarded {
        return error(403, "Requests that carry X-Forwarded-For are refused.");
    }
    if path == ROOT.trim_end_matches('/') {
        return redirect(ROOT);
    }
    let Some(rest) = path.strip_prefix(ROOT) else { return error(404, "Not Found") };
    entry(path, rest, &Query::parse(query), identity, tokens)
}

/// Answers about one path below the root.
fn entry(path: &str, rest: &str, query: &Query, identity: &Identity, tokens: &dyn TokenSource) -> Answer {
    let root = tree::of(identity);
    let mut node = &root;
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        match node.child(&unescape(part)) {
            Some(child) => node = child,
            None => return error(404, "Not Found"),
        }
    }
    match node {
        Node::Folder(_) if query.flag("recursive") => Answer {
            status: 200,
            content_type: "application/json",
            location: None,
            body: node.json().to_string(),
        },
        Node::Folder(children) if path.ends_with('/') => {
            let names = children.iter().map(|(name, child)| format!("{name}{}", child.slash()));
            listing(&names.map(|name| name + "\n").collect::<String>())
        }
        Node::Folder(_) => redirect(&format!("{path}/")),
        Node::Leaf { text, json } if query.get("alt") == Some("json") => {
            let body = json
                .as_ref()
                .map_or_else(|| serde_json::Value::from(text.as_str()).to_string(), |j| j.to_string());
            Answer { status: 200, content_type: "application/json", location: None, body }
        }
        Node::Leaf { text, .. } => listing(text),
        Node::IdentityToken => identity_token(query, identity, tokens),
        Node::AccessToken => access_token(query, identity, tokens),
    }
}

fn identity_token(query: &Query, identity: &Identity, tokens: &dyn TokenSource) -> Answer {
    let Some(audience) = query.get("audience").filter(|audience| !audience.is_empty()) else {
        return error(400, "non-empty audience parameter required");
    };
    // `full` adds claims about a Compute Engine instance, which a serverless one has none of.
    if !matches!(query.get("format"), None | Some("standard" | "full")) {
        return error(400, "format must be standard or full");
    }
    match tokens.identity_token(identity, audience) {
        Ok(token) => listing(&token),
        Err(why) => error(503, &why),
    }
}

fn access_token(query: &Query, identity: &Identity, tokens: &dyn TokenSource) -> Answer {
    let scopes = match query.get("scopes") {
        Some(scopes) if !scopes.is_empty() => scopes.split(',').map(str::to_owned).collect(),
        _ => vec![CLOUD_PLATFORM_SCOPE.to_owned()],
    };
    let (token, seconds) = tokens.access_token(identity, &scopes);
    let body = serde_json::json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" });
    Answer { status: 200, content_type: "application/json", location: None, body: body.to_string() }
}

fn listing(body: &str) -> Answer {
    Answer { status: 200, content_type: "application/text", location: None, body: body.to_owned() }
}

fn redirect(to: &str) -> Answer {
    Answer { location: Some(to.to_owned()), ..error(301, to) }
}

fn error(status: u16, why: &str) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8", location: None, body: format!("{why}\n") }
}

/// Decoded query parameters.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Query {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(&name.replace('+', " ")), unescape(&value.replace('+', " ")))
        });
        Query(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// Undoes percent-encoding. What is not well-formed stays as it is.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|d| std::str::from_utf8(d).ok());
        match (bytes[at], digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests;
