//! The tour, as a newcomer runs it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

use std::process::{Command, Stdio};

#[test]
fn the_tour_does_all_it_says_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let temporary = home.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .arg("tour")
        .env("HOME", home.path())
        .env("TMPDIR", &temporary)
        .env_remove("VESTIBULE_API")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains('\x1b'), "colours in a pipe");
    for seen in [
        "gcloud compute forwarding-rules create my-internal-lb-rule",
        "403  GET http://10.0.0.100/",
        "200  GET http://10.0.0.100/",
        "GET https://",
        "GET http://api.internal.example.com/",
        "gcloud logging read",
        "internal_http_lb_rule",
    ] {
        assert!(text.contains(seen), "the tour does not show {seen:?}:\n{text}");
    }
    let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "the tour leaves {left:?}");
}
