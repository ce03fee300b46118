//! DNS messages: any bytes are read, and a rejection is itself a message.
#![no_main]

use vestibule_dns::wire;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = wire::read_answer(bytes);
    if let Err(rejected) = wire::read_query(bytes) {
        let mut out = Vec::new();
        if wire::write_rejection(bytes, &rejected, &mut out).is_some() {
            assert!(out.len() >= wire::HEADER);
        }
    }
});
