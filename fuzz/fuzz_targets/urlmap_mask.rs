//! URL masks: parsing and matching never panic; what is captured is never empty.
#![no_main]

use vestibule_urlmap::Mask;

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8], &[u8])| {
    let (mask, host, path) = input;
    if let Ok(mask) = Mask::parse(mask)
        && let Some(captured) = mask.extract(host, path)
    {
        assert!(captured.service.is_none_or(|service| !service.is_empty()));
    }
});
