//! Recorded sessions of the real gcloud, played against ours.
//!
//! Each entry of a fixture is one command of gcloud 578 with the calls it made, the answers it got, and what it printed.
//! Our gcloud must make the same calls with the same bodies, print the same text on the same stream, and end with the
//! same code. What is left out of the comparison is said where it is left out.

#![allow(clippy::unwrap_used, reason = "a test may stop where its world is not as it should be")]

mod support;

use std::path::Path;

use support::{Call, Replay};
use vestibule_cli::gcloud;
use vestibule_cli::printer::Printer;
use vestibule_cli::settings::Environment;

#[derive(serde::Deserialize)]
struct Session {
    id: String,
    command: String,
    exit: u8,
    stdout: String,
    stderr: String,
    calls: Vec<Call>,
}

/// Files that the recorded commands read.
fn write_files(folder: &Path, base: &str) {
    let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    std::fs::create_dir_all(folder.join("path/to")).unwrap();
    std::fs::write(folder.join("path/to/cert.pem"), certificate).unwrap();
    std::fs::write(folder.join("path/to/key.pem"), certificate.replace("CERTIFICATE", "PRIVATE KEY"))
        .unwrap();
    std::fs::write(folder.join("service.yaml"), include_str!("fixtures/service.yaml")).unwrap();
    let map = include_str!("fixtures/url-map.yaml").replace("HOST", base);
    std::fs::write(folder.join("um2.yaml"), map.replace("fingerprint: Wr8wXhvX5Is=\n", "")).unwrap();
    std::fs::write(folder.join("um.yaml"), map).unwrap();
    let policy =
        r#"{"bindings": [{"members": ["user:a@b.c"], "role": "roles/run.invoker"}], "etag": "ACAB"}"#;
    std::fs::write(folder.join("policy.json"), policy).unwrap();
    let policy = "mtlsPolicy:\n  clientValidationMode: ALLOW_INVALID_OR_MISSING_CLIENT_CERT\n";
    std::fs::write(folder.join("server-tls-policy.yaml"), policy).unwrap();
    std::fs::write(folder.join("transaction.yaml"), include_str!("fixtures/transaction.yaml")).unwrap();
}

/// gcloud's dots are a clock: three stand for any number.
fn without_clock(text: &str) -> String {
    let mut out = String::new();
    let mut dots = 0;
    for c in text.chars().chain(['\0']) {
        if c == '.' {
            dots += 1;
            continue;
        }
        out.push_str(&".".repeat(if dots > 3 { 3 } else { dots }));
        dots = 0;
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in command.trim_start_matches("gcloud ").chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (_, c) => word.push(c),
        }
    }
    words.push(word);
    words
}

fn play(session: &Session) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let replay = Replay::start(session.calls.clone());
    write_files(folder.path(), &replay.base);
    if session.command.ends_with("transaction start --zone=internal-zone") {
        std::fs::remove_file(folder.path().join("transaction.yaml")).unwrap();
    }
    let mut environment = Environment::default();
    environment.folder = Some(folder.path().to_owned());
    environment.set("VESTIBULE_API", &replay.base);
    environment.set("CLOUDSDK_CORE_PROJECT", "demo");
    environment.set("CLOUDSDK_CONFIG", folder.path().to_str().unwrap());
    match session.id.as_str() {
        "345" => environment.set("CLOUDSDK_CORE_SHOULD_PROMPT_TO_ENABLE_API", "false"),
        "424" => environment.set("CLOUDSDK_CORE_ACCOUNT", "sa@demo.iam.gserviceaccount.com"),
        "417" | "418" => environment.set("CLOUDSDK_AUTH_ACCESS_TOKEN", "ya29.value"),
        _ => {}
    }
    let printer = Printer::captured();
    let exit = gcloud::run(&words(&session.command), &environment, &printer);
    let (stdout, stderr) = printer.into_captured();
    let own = |text: String| text.replace(&replay.base, "HOST");
    let mut complaints = replay.complaints();
    for (what, got, expected) in [
        ("exit", exit.to_string(), session.exit.to_string()),
        ("stdout", own(stdout), session.stdout.clone()),
        ("stderr", without_clock(&own(stderr)), without_clock(&session.stderr)),
    ] {
        if got != expected {
            complaints.push(format!("{what} expected:\n{expected}\n{what} got:\n{got}"));
        }
    }
    complaints
}

fn play_all(fixture: &str) {
    let sessions: Vec<Session> = serde_json::from_str(fixture).unwrap();
    assert!(!sessions.is_empty());
    let mut failed = Vec::new();
    for session in &sessions {
        let complaints = play(session);
        if !complaints.is_empty() {
            failed.push(format!("### {} {}\n{}", session.id, session.command, complaints.join("\n")));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} sessions differ:\n{}",
        failed.len(),
        sessions.len(),
        failed.join("\n\n")
    );
}

#[test]
fn networks() {
    play_all(include_str!("fixtures/networks.json"));
}

#[test]
fn network_endpoint_groups() {
    play_all(include_str!("fixtures/network-endpoint-groups.json"));
}

#[test]
fn backend_services() {
    play_all(include_str!("fixtures/backend-services.json"));
}

#[test]
fn url_maps() {
    play_all(include_str!("fixtures/url-maps.json"));
}

#[test]
fn target_proxies_and_certificates() {
    play_all(include_str!("fixtures/target-proxies.json"));
}

#[test]
fn server_tls_policies_and_trust_configs() {
    play_all(include_str!("fixtures/mutual-tls.json"));
}

#[test]
fn forwarding_rules_and_addresses() {
    play_all(include_str!("fixtures/forwarding-rules.json"));
}

#[test]
fn cloud_run() {
    play_all(include_str!("fixtures/run.json"));
}

#[test]
fn dns() {
    play_all(include_str!("fixtures/dns.json"));
}

#[test]
fn logging_projects_services_auth() {
    play_all(include_str!("fixtures/others.json"));
}
