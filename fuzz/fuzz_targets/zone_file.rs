//! Zone files: reading never panics, and what was read is written so that it reads back as the same.
#![no_main]

use vestibule_cli::gcloud::parsers::zone_file::{read, write};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(records) = read(text, "example.com.") {
        let written = write(&records);
        match read(&written, "example.com.") {
            Ok(again) => assert_eq!(write(&again), written, "{text:?}"),
            Err(why) => panic!("{why}: {text:?} was written as {written:?}"),
        }
    }
});
