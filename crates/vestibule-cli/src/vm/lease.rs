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
        let failed = |error: std::io::Error| format!("cannot reach the Vestibule API at {base} ({error}). Is `vestibule serve` running?");
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
        let vm = serde_json::from_value(answer).map_err(|error| format!("the API's answer is not understood: {error}"))?;
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
