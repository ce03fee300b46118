//! HTTP/1.1: the codec's invariants hold for any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vestibule_http1::invariants::request(bytes));
