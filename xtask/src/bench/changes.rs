//! A thousand changes of the URL map under load. Each map sends everything to one of two backends and says so in a header;
//! an answer of the other backend would be half of a change.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Failure;
use super::peers::{self, Running, Tools};

/// Changes of the map.
pub const CHANGES: u32 = 1_000;
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(4);
/// Clients that ask without a pause, each on a connection of its own.
const CLIENTS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(10);

/// What came out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    pub requests: u64,
    pub failed: u64,
    pub misrouted: u64,
    pub slowest_change: Duration,
}

pub fn measure(tools: &Tools, dir: &Path, backend: &Running) -> Result<Outcome, Failure> {
    let other = peers::start_backend(tools, dir, "other")?;
    let mut running = peers::start_changing(tools, [backend.port, other.port])?;
    let address: SocketAddr = running.address().parse()?;
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let over = over.clone();
            std::thread::spawn(move || ask(address, &over))
        })
        .collect();
    let mut outcome = Outcome::default();
    for _ in 0..CHANGES {
        let start = Instant::now();
        running.change()?;
        outcome.slowest_change = outcome.slowest_change.max(start.elapsed());
        std::thread::sleep(PAUSE);
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        let (requests, failed, misrouted) = client.join().unwrap_or((0, 1, 0));
        outcome.requests += requests;
        outcome.failed += failed;
        outcome.misrouted += misrouted;
    }
    Ok(outcome)
}

/// Requests, failed, misrouted.
fn ask(address: SocketAddr, over: &AtomicBool) -> (u64, u64, u64) {
    let (mut requests, mut failed, mut misrouted) = (0, 0, 0);
    let mut connection = None;
    while !over.load(Ordering::SeqCst) {
        requests += 1;
        let answer =
            connection.take().map_or_else(|| TcpStream::connect(address), Ok).and_then(|mut stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")?;
                let mut answer = Vec::new();
                let mut bytes = [0; 2048];
                // The body is the last byte behind the head.
                while !answer.windows(4).any(|w| w == b"\r\n\r\n") || answer.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut bytes)? {
                        0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                        count => answer.extend_from_slice(&bytes[..count]),
                    }
                }
                Ok((stream, String::from_utf8_lossy(&answer).into_owned()))
            });
        match answer {
            Ok((stream, answer)) if answer.starts_with("HTTP/1.1 200") => {
                connection = Some(stream);
                let said = answer.lines().find_map(|line| line.strip_prefix("x-map: "));
                misrouted += u64::from(said != Some(&answer[answer.len() - 1..]));
            }
            _ => failed += 1,
        }
    }
    (requests, failed, misrouted)
}
