//! Path normalisation is idempotent: what was matched is what is forwarded.
#![no_main]

use vestibule_urlmap::normalize::path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(once) = path(bytes) {
        assert_eq!(path(&once).expect("a normal path is accepted"), once);
    }
});
