//! What this machine allows, found out by trying it, for `vestibule doctor`.
//!
//! A process of its own: what an ordinary user tries changes the process for ever (it enters a user namespace), and
//! must be tried before a second thread. It prints one JSON object and ends, and nothing of what it made stays.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use vestibule_run::Program;
use vestibule_run::driver::container::ContainerDriver;
use vestibule_run::driver::docker::DockerDriver;
use vestibule_vpc::Driver;

/// The subcommand.
pub const PROBE: &str = "internal-probe";

/// `helper` is the subcommand that makes a container, `inside` the one that is the first process of an engine's.
#[allow(clippy::print_stdout, reason = "the answer to the process that asked")]
pub fn main(helper: &str, inside: &str) -> ExitCode {
    let networks = crate::serve::namespaces();
    let firewall = networks.as_ref().ok().and_then(Driver::firewall_gap);
    let networks = networks.err().map(|error| describe(&error));
    let containers = containers(helper);
    // Asked for only where it would be used: a trial takes a second.
    let engine = containers.get("error").map(|_| engine(inside));
    let answer = json!({
        "networks": networks, "firewall": firewall, "containers": containers, "engine": engine,
    });
    println!("{answer}");
    ExitCode::SUCCESS
}

fn describe(error: &std::io::Error) -> Value {
    json!({ "message": error.to_string(), "errno": error.raw_os_error() })
}

fn containers(helper: &str) -> Value {
    let opened = Folder::make().and_then(|folder| ContainerDriver::open(&folder.0, own(helper)?));
    match opened {
        Ok(driver) => json!({ "missing_limits": driver.missing_limits() }),
        Err(error) => json!({ "error": describe(&error) }),
    }
}

fn engine(inside: &str) -> Value {
    let opened = Folder::make().and_then(|folder| DockerDriver::open(&folder.0, &own(inside)?));
    match opened {
        Ok(driver) => json!({ "name": driver.describe() }),
        Err(error) => json!({ "error": describe(&error) }),
    }
}

fn own(word: &str) -> std::io::Result<Program> {
    Ok(Program { path: std::env::current_exe()?, args: vec![word.to_owned()] })
}

/// A folder that goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn make() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("vestibule-probe-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
