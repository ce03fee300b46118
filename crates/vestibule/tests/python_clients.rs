//! Google's own Python clients: the published set-up, and Cloud Run's services and jobs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use world::World;

/// The interpreter with Google's client libraries; `cargo xtask test` makes it.
const PYTHON: &str = "VESTIBULE_PYTHON";

/// The interpreter, unless there is none.
fn python() -> Option<OsString> {
    let python = std::env::var_os(PYTHON);
    if python.is_none() {
        println!(
            "not run: {PYTHON} names no interpreter with Google's client libraries; cargo xtask test makes one"
        );
    }
    python
}

/// Runs a script of the folder of scripts, which must pass.
fn passes(world: &World, python: OsString, script: &str, args: &[&OsStr]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let output = world.command(python).arg(script).arg(world.api()).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("\"passed\": true"), "{text}\n{errors}");
}

#[test]
fn googles_python_client_runs_services_and_jobs() {
    let Some(python) = python() else { return };
    let world = World::start_with("loopback", &["--driver", "process"]);
    passes(&world, python, "run.py", &[]);
}

#[test]
fn googles_python_clients_drive_the_published_setup() {
    let Some(python) = python() else { return };
    let world = World::start();
    let (cert, key) = world.certificate(&["api.internal.example.com"]);
    let gateway = OsStr::new(world.ready("gateway"));
    passes(&world, python, "published_setup.py", &[gateway, cert.as_os_str(), key.as_os_str()]);
}
