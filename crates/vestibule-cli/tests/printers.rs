//! What the real gcloud prints for the same resources under many formats and filters.

#![allow(clippy::unwrap_used, reason = "a test may stop where its world is not as it should be")]

mod support;

use serde_json::{Value, json};
use support::{Call, Replay};
use vestibule_cli::gcloud;
use vestibule_cli::printer::Printer;
use vestibule_cli::settings::Environment;

fn run(words: &[&str], target: &str, response: Value) -> (String, String) {
    let call =
        Call { method: "GET".into(), target: target.into(), request: Value::Null, status: 200, response };
    let replay = Replay::start(vec![call]);
    let mut environment = Environment::default();
    environment.set("VESTIBULE_API", &replay.base);
    environment.set("CLOUDSDK_CORE_PROJECT", "demo");
    let printer = Printer::captured();
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    gcloud::run(&words, &environment, &printer);
    let complaints = replay.complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
    printer.into_captured()
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/printers.json")).unwrap()
}

const ZONES: &str = "/dns/v1/projects/demo/managedZones?alt=json&maxResults=100";

#[test]
fn formats() {
    let fixture = fixture();
    let mut wrong = Vec::new();
    for case in fixture["formats"].as_array().unwrap() {
        let format = format!("--format={}", case["format"].as_str().unwrap());
        let (stdout, stderr) =
            run(&["dns", "managed-zones", "list", &format], ZONES, fixture["zones"].clone());
        if stdout != case["stdout"] || !stderr.is_empty() {
            wrong.push(format!(
                "{format}\nexpected:\n{}\ngot:\n{stdout}{stderr}",
                case["stdout"].as_str().unwrap()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn filters() {
    let fixture = fixture();
    let mut wrong = Vec::new();
    for case in fixture["filters"].as_array().unwrap() {
        let filter = format!("--filter={}", case["filter"].as_str().unwrap());
        let words = ["dns", "managed-zones", "list", "--format=value(name)", &filter];
        let (stdout, stderr) = run(&words, ZONES, fixture["zones"].clone());
        let names: Vec<&str> = stdout.split_whitespace().collect();
        if json!(names) != case["names"] || stderr.contains("WARNING") != case["warns"].as_bool().unwrap() {
            wrong.push(format!("{case}\n  got {names:?} {stderr}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn odd_strings_in_yaml() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/yaml.json")).unwrap();
    let target = "/dns/v1/projects/demo/managedZones/odd?alt=json";
    let (stdout, _) = run(&["dns", "managed-zones", "describe", "odd"], target, fixture["zone"].clone());
    let expected = fixture["yaml"].as_str().unwrap();
    for (got, expected) in stdout.lines().zip(expected.lines()) {
        assert_eq!(got, expected);
    }
    assert_eq!(stdout, expected);
}

#[test]
fn yaml_reads_back() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/yaml.json")).unwrap();
    let target = "/dns/v1/projects/demo/managedZones/odd?alt=json";
    let (stdout, _) = run(&["dns", "managed-zones", "describe", "odd"], target, fixture["zone"].clone());
    let back: Value = serde_yaml_ng::from_str(&stdout).unwrap();
    for (sent, read) in
        fixture["zone"]["nameServers"].as_array().unwrap().iter().zip(back["nameServers"].as_array().unwrap())
    {
        // gcloud leaves a carriage return as it is; a reader takes it for a line end.
        if sent != "a\r\nb" {
            assert_eq!(sent, read);
        }
    }
}
