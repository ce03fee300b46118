//! gcloud's `--filter` and `--format`: parsing, matching and printing never panic and never recurse without end.
#![no_main]

use vestibule_cli::gcloud::parsers::{Filter, Format, Names, Verdict, render};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let resource = serde_json::json!({
        "name": "vm-1", "status": text, "size": 7, "labels": { "env": "prod", text: "x" },
        "networks": [{ "networkUrl": "https://x/global/networks/n" }], "at": "2026-01-01T00:00:00Z",
    });
    let names = Names::default();
    if let Ok(filter) = Filter::parse(text) {
        filter.matches(&resource, &names, &mut Verdict::default());
    }
    if let Ok(format) = Format::parse(text) {
        let _ = render(&format, &[resource], false, &names);
    }
});
