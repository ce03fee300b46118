//! What this machine allows, found out by trying it, for `vestibule doctor`.
//!
//! A process of its own: what an ordinary user tries changes the process for ever (it enters a user namespace), and
//! must be tried before a second thread. It prints one JSON object and ends, and nothing of what it made stays.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use vestibule_run::Program;
use vestibule_run::driver::container::ContainerDriver;
use vestibule_vpc::Driver;

/// The subcommand.
pub const PROBE: &str = "internal-probe";

/// `helper` is the subcommand that makes a container.
#[allow(clippy::print_stdout, reason = "the answer to the process that asked")]
pub fn main(helper: &str) -> ExitCode {
    let networks = crate::serve::namespaces();
    let firewall = networks.as_ref().ok().and_then(Driver::firewall_gap);
    let networks = networks.err().map(|error| describe(&error));
    let answer = json!({ "networks": networks, "firewall": firewall, "containers": containers(helper) });
    println!("{answer}");
    ExitCode::SUCCESS
}

fn describe(error: &std::io::Error) -> Value {
    json!({ "message": error.to_string(), "errno": error.raw_os_error() })
}

fn containers(helper: &str) -> Value {
    let folder = Folder(std::env::temp_dir().join(format!("vestibule-probe-{}", std::process::id())));
    let opened = std::fs::create_dir(&folder.0)
        .and_then(|()| std::env::current_exe())
        .and_then(|path| ContainerDriver::open(&folder.0, Program { path, args: vec![helper.to_owned()] }));
    match opened {
        Ok(driver) => json!({ "missing_limits": driver.missing_limits() }),
        Err(error) => json!({ "error": describe(&error) }),
    }
}

/// A folder that goes with this value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
