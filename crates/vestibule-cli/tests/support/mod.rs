//! A server that expects recorded calls in their order, and gives the recorded answers.

#![allow(clippy::unwrap_used, reason = "a test may stop where its world is not as it should be")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// One call and its answer. `HOST` in texts stands for the server's address.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Call {
    pub method: String,
    pub target: String,
    #[serde(default)]
    pub request: Value,
    pub status: u16,
    #[serde(default)]
    pub response: Value,
}

/// The server of one replay. It ends with the test.
pub struct Replay {
    pub base: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    expected: Vec<Call>,
    next: usize,
    complaints: Vec<String>,
}

impl Replay {
    pub fn start(expected: Vec<Call>) -> Replay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { expected, ..State::default() }));
        let (shared, own_base) = (state.clone(), base.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, base) = (shared.clone(), own_base.clone());
                std::thread::spawn(move || serve(stream, &state, &base));
            }
        });
        Replay { base, state }
    }

    /// What was not as recorded: wrong calls and missing ones.
    pub fn complaints(&self) -> Vec<String> {
        let mut state = self.state.lock().unwrap();
        let missing: Vec<String> = state.expected[state.next..]
            .iter()
            .map(|call| format!("not called: {} {}", call.method, call.target))
            .collect();
        state.complaints.extend(missing);
        std::mem::take(&mut state.complaints)
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, base: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some((method, target, body)) = read_request(&mut reader) {
        let (status, body) = answer(&mut state.lock().unwrap(), base, &method, &target, &body);
        let reply = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if writer.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<(String, String, String)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((method, target, String::from_utf8(body).ok()?))
}

fn answer(state: &mut State, base: &str, method: &str, target: &str, body: &str) -> (u16, String) {
    let Some(call) = state.expected.get(state.next).cloned() else {
        state.complaints.push(format!("one call too many: {method} {target}"));
        return (500, "{}".into());
    };
    state.next += 1;
    if (call.method.as_str(), plain(&call.target).as_str()) != (method, plain(target).as_str()) {
        state
            .complaints
            .push(format!("expected {} {}\n  but got {method} {target}", call.method, call.target));
    }
    let sent: Value = serde_json::from_str(&body.replace(base, "HOST")).unwrap_or(Value::String(body.into()));
    let sent = if body.is_empty() { Value::Null } else { sent };
    if comparable(&sent) != comparable(&call.request) && !call.target.starts_with("/token") {
        state.complaints.push(format!(
            "{method} {target}\n  expected {}\n   but got {}",
            comparable(&call.request),
            comparable(&sent)
        ));
    }
    let text = match &call.response {
        Value::Null => String::new(),
        other => {
            other.to_string().replace("HOSTPORT", base.trim_start_matches("http://")).replace("HOST", base)
        }
    };
    (call.status, text)
}

/// A target without the order of its query and without the region's path prefix.
fn plain(target: &str) -> String {
    let target = match target.strip_prefix("/run/") {
        Some(rest) => rest.find('/').map_or(target, |slash| &rest[slash..]),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut parts: Vec<&str> = query.split('&').filter(|part| !part.is_empty()).collect();
    parts.sort_unstable();
    let path = path.replace("%40", "@").replace("%3C", "<").replace("%3E", ">");
    format!("{path}?{}", parts.join("&"))
}

/// A body without what is different every time.
fn comparable(body: &Value) -> String {
    let mut body = body.clone();
    blur(&mut body);
    let mut text = sorted(&body).to_string();
    for (start, length) in [("timestamp>=\\\"", 27)] {
        if let Some(at) = text.find(start) {
            let from = at + start.len();
            text.replace_range(from..(from + length).min(text.len()), "TIME");
        }
    }
    text
}

fn blur(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(blur),
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(text) if key == "client.knative.dev/nonce" => *text = "NONCE".into(),
                    Value::String(text) => *text = blur_revision(text),
                    other => blur(other),
                }
            }
        }
        _ => {}
    }
}

/// `service-00005-abc` as `service-00005-xxx`: the letters are invented.
fn blur_revision(text: &str) -> String {
    let Some((head, tail)) = text.rsplit_once('-') else { return text.to_owned() };
    let numbered =
        head.rsplit('-').next().is_some_and(|n| n.len() == 5 && n.bytes().all(|b| b.is_ascii_digit()));
    match numbered && tail.len() == 3 {
        true => format!("{head}-xxx"),
        false => text.to_owned(),
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(map) => {
            let ordered: std::collections::BTreeMap<_, _> =
                map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            serde_json::to_value(ordered).unwrap()
        }
        other => other.clone(),
    }
}
