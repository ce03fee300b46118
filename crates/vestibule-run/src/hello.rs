//! The sample service: what `gcr.io/cloudrun/hello` is here.
//!
//! It answers every path with what it knows about itself and about the request, so that whoever sets up a load balancer
//! sees which service and revision answered and what became of path and headers on the way. In HTML to a browser, in
//! JSON to who asks for it, else in plain text.
//!
//! It is this very binary, started again, so it has to start fast: one thread, nothing but what it needs.

mod http;
mod page;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::exec::die_with;
pub(crate) use page::Identity;

/// The port when `PORT` is not set.
const DEFAULT_PORT: u16 = 8080;
/// Connections at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 2_000;
/// How long requests may go on after SIGTERM. Cloud Run's contract leaves 10 s.
const DRAIN: Duration = Duration::from_secs(9);
/// Pause after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Id of the runtime's process.
const PARENT: &str = "VESTIBULE_PARENT";
/// Where the service is: what its real counterpart would ask the metadata server.
const PROJECT: &str = "VESTIBULE_PROJECT";
const REGION: &str = "VESTIBULE_REGION";

/// What the runtime tells the sample service beyond what it tells every instance.
pub(crate) fn environment(project: &str, region: &str) -> Vec<(&'static str, OsString)> {
    vec![(PARENT, std::process::id().to_string().into()), (PROJECT, project.into()), (REGION, region.into())]
}

/// Runs the sample service until SIGTERM. It listens on all addresses, at the port that `PORT` says.
pub fn run() -> io::Result<()> {
    if let Some(parent) = variable(PARENT).and_then(|parent| parent.parse().ok()) {
        die_with(parent)?;
    }
    let identity = Identity {
        service: variable("K_SERVICE"),
        revision: variable("K_REVISION"),
        project: variable(PROJECT),
        region: variable(REGION),
    };
    let port = variable("PORT").and_then(|port| port.parse().ok()).unwrap_or(DEFAULT_PORT);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(port, identity))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

async fn serve(port: u16, identity: Identity) -> io::Result<()> {
    // Before anything can connect, so that a signal is never answered by the default, sudden death.
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    say(listener.local_addr()?.port());
    let identity = std::sync::Arc::new(identity);
    let (ending, watch_ending) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            Some(_) = connections.join_next() => {}
            stream = accept(&listener), if connections.len() < MAX_CONNECTIONS => {
                let (identity, ending) = (identity.clone(), watch_ending.clone());
                connections.spawn(async move {
                    let answer = |request: &http::Request| page::answer(&identity, request);
                    // A client that misbehaves or goes away is none of our business.
                    let _ = http::serve(stream, ending, answer).await;
                });
            }
        }
    }
    drop(listener);
    ending.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, drained).await;
    Ok(())
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Tells the log that it runs. Nobody need be reading.
fn say(port: u16) {
    let text = format!(
        "Hello from Cloud Run! The container started and is listening for HTTP requests on port {port}"
    );
    let _ = writeln!(io::stdout(), "{text}");
}
