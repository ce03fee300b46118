//! The published set-up through Google's own Python clients.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use world::World;

/// The interpreter with Google's client libraries; `cargo xtask test` makes it.
const PYTHON: &str = "VESTIBULE_PYTHON";

#[test]
fn googles_python_clients_drive_the_published_setup() {
    let Some(python) = std::env::var_os(PYTHON) else {
        println!(
            "not run: {PYTHON} names no interpreter with Google's client libraries; cargo xtask test makes one"
        );
        return;
    };
    let world = World::start();
    let (cert, key) = world.certificate(&["api.internal.example.com"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/published_setup.py");
    let output = world
        .command(python)
        .args([script, world.api(), world.ready("gateway")])
        .args([cert, key])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("\"passed\": true"), "{text}\n{errors}");
}
