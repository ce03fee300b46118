//! A whole API over an empty store in a temporary folder, for tests of handlers.
//!
//! `World::new()` is enough for most: it answers requests without a socket. `world.serve()` puts the same world behind
//! a port of its own on loopback.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use vestibule_control::lb::{Explanation, Question};
use vestibule_control::{Control, Settings};
use vestibule_iam::Issuer;
use vestibule_logs::{LogLimits, LogStore};
use vestibule_store::Store;

use crate::host::{Held, Host, Vm, VmRequest};
use crate::{Api, ApiDeps, Error};

/// A process around the API that has no networks.
struct NoHost;

impl Host for NoHost {
    fn status(&self) -> Value {
        serde_json::json!({ "network_mode": "none" })
    }

    fn metrics(&self) -> String {
        "# none\n".to_owned()
    }

    fn open_vm(&self, _request: VmRequest) -> Result<(Vm, Held), Error> {
        Err(Error::not_implemented("vms"))
    }

    fn explain(&self, question: &Question) -> Explanation {
        Explanation { url: question.url.clone(), ..Explanation::default() }
    }
}

/// An API and the folder that its state is in.
pub(crate) struct World {
    pub(crate) api: Api,
    _dir: TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let control = Control::open(store, settings);
        let issuer = Issuer::open(&dir.path().join("iam")).unwrap();
        let logs = LogStore::open(&dir.path().join("logs"), LogLimits::default()).unwrap();
        World { api: Api::new(ApiDeps { control, issuer, logs, host: Arc::new(NoHost) }), _dir: dir }
    }

    /// Sends any request.
    pub(crate) fn request(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.api.answer(request)
    }

    /// Sends a JSON body and reads a JSON answer, null when it is empty; the path may carry a query.
    pub(crate) fn send(&self, verb: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder().method(verb).uri(path).header("host", "127.0.0.1:8470");
        let response = self.request(request.body(body).unwrap());
        if response.body().is_empty() {
            return (response.status().as_u16(), Value::Null);
        }
        let body = serde_json::from_slice(response.body()).unwrap_or_else(|error| {
            panic!("{verb} {path}: {error}: {:?}", String::from_utf8_lossy(response.body()))
        });
        (response.status().as_u16(), body)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, Value::Null)
    }

    /// Serves this world on a free port.
    pub(crate) fn serve(self) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let api = self.api.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let shutdown = async { drop(stopped.await) };
            runtime.unwrap().block_on(api.serve(listener, shutdown)).unwrap();
        });
        Server { address, running: Some((stop, thread)), _world: self }
    }
}

/// A served world. Dropping it stops the server and waits for it.
pub(crate) struct Server {
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    _world: World,
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A fresh connection. Reading from it fails after a minute, so that a test cannot hang.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    pub(crate) fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            let outcome = thread.join();
            assert!(std::thread::panicking() || outcome.is_ok(), "the server panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.halt();
    }
}
