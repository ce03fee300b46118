//! The logging query language: parsing and matching never panic and never recurse without end.
#![no_main]

use vestibule_logs::Filter;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(filter) = Filter::parse(text) {
        filter.matches(&serde_json::json!({ "severity": "INFO", "textPayload": text }));
    }
});
