//! A container engine for tests: the one that runs, or Docker's own, started for the purpose.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that an engine may take to begin. Generous: machines that test are busy.
const LONGEST_START: Duration = Duration::from_secs(60);

/// An engine, ended with this value if it was started here.
pub struct Engine {
    pub socket: PathBuf,
    started: Option<(Child, tempfile::TempDir)>,
}

impl Engine {
    /// The one that runs, or Debian's, where this process may start it.
    pub fn find() -> Option<Self> {
        let host = std::env::var("DOCKER_HOST").ok();
        let named = host.as_deref().and_then(|host| host.strip_prefix("unix://"));
        let socket = PathBuf::from(named.unwrap_or("/var/run/docker.sock"));
        if UnixStream::connect(&socket).is_ok() {
            return Some(Self { socket, started: None });
        }
        if !rustix::process::geteuid().is_root() {
            println!("not run: no engine answers at {}, and only root may start one", socket.display());
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let place = |name: &str| folder.path().join(name).display().to_string();
        let started = Command::new("dockerd")
            .args(["--data-root", &place("data"), "--exec-root", &place("exec"), "--pidfile", &place("pid")])
            .args(["-H", &format!("unix://{}", socket.display())])
            .args(["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = started else {
            println!("not run: no engine answers, and there is no dockerd (Debian package docker.io)");
            return None;
        };
        let mut engine = Self { socket, started: Some((child, folder)) };
        let end = Instant::now() + LONGEST_START;
        while UnixStream::connect(&engine.socket).is_err() {
            let gone = engine.started.as_mut().is_some_and(|(child, _)| child.try_wait().unwrap().is_some());
            if gone || Instant::now() > end {
                println!("not run: dockerd does not run on this machine");
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.started {
            let pid = rustix::process::Pid::from_child(child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = child.wait();
        }
    }
}
