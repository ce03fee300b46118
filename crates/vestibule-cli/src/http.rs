//! The client's side of the API: JSON over HTTP/1.1 with kept-alive connections.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::secret::Secret;

/// How long a connection attempt may take. `serve` is on this machine or near it.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long one call may take as a whole. Longer than any server-side wait (`operations.wait` holds two minutes).
const CALL_LIMIT: Duration = Duration::from_secs(300);

/// The most an answer may hold, bytes.
const ANSWER_LIMIT: u64 = 256 * 1024 * 1024;

/// The API of one `vestibule serve`.
pub struct Api {
    agent: ureq::Agent,
    base: String,
    token: Secret,
}

/// An HTTP answer of any status.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// The body, when it is JSON; `Null` when it is empty or something else.
    pub body: Value,
    pub text: String,
}

/// The API could not be asked at all.
#[derive(Debug)]
pub struct Unreachable {
    pub base: String,
    pub why: String,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot reach the Vestibule API at {} ({}). Is `vestibule serve` running? VESTIBULE_API or --api say where.",
            self.base, self.why
        )
    }
}

impl std::error::Error for Unreachable {}

impl Api {
    /// `base` is scheme, host and port, with or without a trailing slash.
    pub fn new(base: &str, token: Secret) -> Api {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_global(Some(CALL_LIMIT))
            .user_agent(concat!("vestibule/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .build();
        Api { agent: config.new_agent(), base: base.trim_end_matches('/').to_owned(), token }
    }

    /// Scheme, host and port without a trailing slash.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn token(&self) -> &Secret {
        &self.token
    }

    pub fn get(&self, target: &str) -> Result<Answer, Unreachable> {
        self.call("GET", target, None)
    }

    pub fn post(&self, target: &str, body: &Value) -> Result<Answer, Unreachable> {
        self.call("POST", target, Some(body))
    }

    /// Sends one request. `target` is path and query.
    pub fn call(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Answer, Unreachable> {
        let bytes = body.map(|b| b.to_string().into_bytes());
        self.send(method, target, "application/json", bytes)
    }

    /// Sends a form (the token endpoint takes no JSON).
    pub fn post_form(&self, target: &str, fields: &[(&str, &str)]) -> Result<Answer, Unreachable> {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let form: Vec<String> = fields.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
        self.send("POST", target, "application/x-www-form-urlencoded", Some(form.join("&").into_bytes()))
    }

    fn send(
        &self,
        method: &str,
        target: &str,
        kind: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Unreachable> {
        let unreachable = |why: String| Unreachable { base: self.base.clone(), why };
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.base))
            .header("Authorization", format!("Bearer {}", self.token.reveal()))
            .header("Accept", "application/json");
        if body.is_some() {
            request = request.header("Content-Type", kind);
        }
        // GET and DELETE must not announce a body; a POST without one must announce that it is empty.
        let answer = match (body, method) {
            (None, "GET" | "DELETE") => request.body(()).map(|request| self.agent.run(request)),
            (body, _) => request.body(body.unwrap_or_default()).map(|request| self.agent.run(request)),
        };
        let answer = answer.map_err(|error| unreachable(error.to_string()))?;
        let mut answer = answer.map_err(|error| unreachable(reason(&error)))?;
        let status = answer.status().as_u16();
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_LIMIT)
            .read_to_string()
            .map_err(|error| unreachable(reason(&error)))?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, body, text })
    }
}

/// The innermost words of an error: what a person can act on.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(io) => io.to_string(),
        other => other.to_string(),
    }
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The message of Google's error envelope, else the body, else the status.
    pub fn error_message(&self) -> String {
        match self.body.pointer("/error/message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None if self.text.trim().is_empty() => {
                format!("the server answered {} with no message", self.status)
            }
            None => format!("the server answered {}: {}", self.status, self.text.trim()),
        }
    }

    /// `error.status` of the googleapis envelope, such as `NOT_FOUND`.
    pub fn error_status(&self) -> Option<&str> {
        self.body.pointer("/error/status").and_then(Value::as_str)
    }
}
