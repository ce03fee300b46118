//! What a connection costs that only waits.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use super::peers::{self, LOAD_CORE, Peer, Running, Tools};
use super::works::WORKS;
use super::{Failure, failure};

/// Connections that are held.
pub const CONNECTIONS: u64 = 10_000;

/// Memory of one idle connection, in bytes: resident memory with all of them less that without, after one round of them
/// came and went.
pub fn measure(tools: &Tools, dir: &Path, backend: &Running, peer: Peer) -> Result<u64, Failure> {
    let running = peers::start(peer, tools, dir, backend.port, WORKS[0])?;
    let before = running.resident_kib()?;
    let mut command = peers::pinned(LOAD_CORE, &std::env::current_exe()?);
    command.args(["bench", "client", "hold", &running.address(), &CONNECTIONS.to_string()]);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(out) = client.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let after = running.resident_kib()?;
    peers::end(&mut client);
    if line.trim() != "held" {
        return Err(failure(format!("{} did not hold {CONNECTIONS} connections", peer.name())));
    }
    Ok(after.saturating_sub(before) * 1024 / CONNECTIONS)
}
