//! The cloud of the tour: `serve` in a folder of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long `serve` may take to get ready, and to end.
const READY_LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(20);

/// A running `serve`.
pub struct Cloud {
    child: Child,
    /// Taken apart when the tour ends, unless it is to stay.
    folder: Option<tempfile::TempDir>,
    stays: bool,
    pub api: String,
    /// How long it took from start to ready.
    pub started_in: Duration,
    pub work: PathBuf,
    pub log: PathBuf,
    /// Kept open: a closed pipe would be an error for whoever writes.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Cloud {
    /// Starts `program serve`.
    pub fn start(program: &Path) -> Result<Cloud, String> {
        let folder = tempfile::Builder::new()
            .prefix("vestibule-tour-")
            .tempdir()
            .map_err(|e| format!("cannot make a folder: {e}"))?;
        let work = folder.path().to_owned();
        let log = work.join("serve.log");
        let errors = std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(["serve", "--api-listen", "127.0.0.1:0", "--network-mode", "loopback", "--state-dir"])
            .arg(work.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let stdout = child.stdout.take();
        let (line, stdout) = first_line(stdout)?;
        let started_in = begun.elapsed();
        let api = line.split_whitespace().find_map(|word| word.strip_prefix("api=")).map(str::to_owned);
        let mut cloud = Cloud {
            child,
            folder: Some(folder),
            stays: false,
            api: String::new(),
            started_in,
            work,
            log,
            _stdout: stdout,
        };
        match api {
            Some(api) if line.starts_with("ready ") => cloud.api = api,
            _ => {
                let tail = cloud.log_tail();
                return Err(format!("`serve` did not become ready.\n{tail}"));
            }
        }
        Ok(cloud)
    }

    /// The last lines that `serve` wrote.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Leaves it running, with its folder.
    pub fn keep(&mut self) {
        self.stays = true;
        if let Some(folder) = self.folder.take() {
            let _ = folder.keep();
        }
    }

    /// Ends it and waits for the end.
    pub fn stop(&mut self) -> Result<(), String> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("`serve` ended with {status}.\n{}", self.log_tail())),
                Ok(None) if begun.elapsed() < END_LIMIT => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    return Err(format!("`serve` did not end within {} s of SIGTERM.", END_LIMIT.as_secs()));
                }
                Err(error) => return Err(format!("`serve`: {error}")),
            }
        }
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // After `stop` there is nothing left to end.
        if !self.stays && matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The first line, or nothing when there is none in time.
fn first_line(stdout: Option<ChildStdout>) -> Result<(String, Option<BufReader<ChildStdout>>), String> {
    let Some(stdout) = stdout else { return Ok((String::new(), None)) };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        let _ = sender.send((line, reader));
    });
    match receiver.recv_timeout(READY_LIMIT) {
        Ok((line, reader)) => Ok((line, Some(reader))),
        Err(_) => Ok((String::new(), None)),
    }
}
