//! The lease of a client: an answer of the API that stays open as long as the client lives.

use std::io::{BufReader, Read};
use std::net::TcpStream;

use serde::Deserialize;
use serde_json::Value;

use crate::wire::{self, Endpoint, Request};

/// A client, as the API describes it.
#[derive(Debug, Clone, Deserialize)]
pub struct Vm {
    pub address: String,
    /// Its full host name inside the network.
    #[serde(default)]
    pub hostname: Option<String>,
    pub resolver: String,
    pub metadata: String,
    pub ca_bundle: String,
    #[serde(default)]
    pub gateway: Option<Gateway>,
    #[serde(default)]
    pub namespace: Option<Namespace>,
    /// A file to stand in the place of `/etc/resolv.conf`, in a namespace.
    #[serde(default)]
    pub resolv_conf: Option<String>,
}

/// Proxies that lead into the network, as URLs that name the client.
#[derive(Debug, Clone, Deserialize)]
pub struct Gateway {
    pub http: String,
    pub socks5: String,
}

/// Namespaces to enter.
#[derive(Debug, Clone, Deserialize)]
pub struct Namespace {
    pub network: String,
    #[serde(default)]
    pub user: Option<String>,
}

/// A client for as long as this value lives.
pub struct Lease {
    pub vm: Vm,
    connection: BufReader<TcpStream>,
}

impl Lease {
    pub fn open(base: &str, wish: &Value) -> Result<Lease, String> {
        let endpoint = Endpoint::parse(base).ok_or_else(|| format!("{base} is no http URL"))?;
        let failed = |error: std::io::Error| {
            format!("cannot reach the Vestibule API at {base} ({error}). Is `vestibule serve` running?")
        };
        let mut stream = endpoint.connect().map_err(failed)?;
        let body = wish.to_string();
        let request = Request {
            method: "POST",
            target: "/vestibule/v1/vms",
            host: &endpoint.authority,
            headers: vec![("Authorization".into(), "Bearer local".into())],
            body: &body,
        };
        wire::send(&mut stream, &request).map_err(failed)?;
        let mut connection = BufReader::new(stream);
        let head = wire::read_head(&mut connection).map_err(failed)?;
        let text = wire::read_first_line(&mut connection, &head).map_err(failed)?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if head.status != 200 {
            let message = answer.pointer("/error/message").and_then(Value::as_str).unwrap_or(text.trim());
            return Err(message.to_owned());
        }
        let vm = serde_json::from_value(answer)
            .map_err(|error| format!("the API's answer is not understood: {error}"))?;
        Ok(Lease { vm, connection })
    }

    /// A thread-safe way to hold the lease and to notice that the server ended it.
    pub fn watch(self) -> Watch {
        Watch { connection: self.connection }
    }
}

/// Holds a lease. Dropping it gives the client's address back.
pub struct Watch {
    connection: BufReader<TcpStream>,
}

impl Watch {
    /// Another handle on the connection, to end a wait from outside.
    pub fn handle(&self) -> std::io::Result<TcpStream> {
        self.connection.get_ref().try_clone()
    }

    /// Returns when the server has ended the lease (or the connection was shut down).
    pub fn wait(mut self) {
        let _ = self.connection.get_ref().set_read_timeout(None);
        let mut byte = [0];
        while matches!(self.connection.read(&mut byte), Ok(1)) {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, Write};
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    /// Answers one request with `reply` and keeps the connection until the client ends it.
    fn server(reply: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            stream.write_all(reply.as_bytes()).unwrap();
            let mut rest = Vec::new();
            let _ = reader.read_to_end(&mut rest);
            head + &String::from_utf8_lossy(&rest)
        });
        (base, thread)
    }

    #[test]
    fn the_lease_ends_with_its_holder() {
        let body = r#"{"id":"vm-1","address":"10.0.0.2","mode":"loopback","resolver":"r","metadata":"m","ca_bundle":"c","gateway":{"http":"h","socks5":"s"}}"#;
        let reply =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len());
        let (base, server) = server(Box::leak(reply.into_boxed_str()));
        let lease = Lease::open(&base, &json!({"network": "n"})).unwrap();
        assert_eq!(lease.vm.address, "10.0.0.2");
        let watch = lease.watch();
        let handle = watch.handle().unwrap();
        let waiting = std::thread::spawn(move || watch.wait());
        handle.shutdown(std::net::Shutdown::Both).unwrap();
        waiting.join().unwrap();
        let request = server.join().unwrap();
        assert!(
            request.starts_with("POST /vestibule/v1/vms HTTP/1.1\r\n")
                && request.ends_with(r#"{"network":"n"}"#),
            "{request}"
        );
    }

    #[test]
    fn a_refusal_is_told() {
        let reply = "HTTP/1.1 404 No\r\nContent-Length: 43\r\n\r\n{\"error\":{\"message\":\"no such subnetwork\"}}\n\n";
        let (base, server) = server(reply);
        let error = Lease::open(&base, &json!({})).err().unwrap();
        assert_eq!(error, "no such subnetwork");
        server.join().unwrap();
    }
}
