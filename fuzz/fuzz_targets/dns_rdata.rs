//! Record data: any text is read or refused, and data that was read has a text; so has data that nobody has checked.
#![no_main]

use vestibule_dns::rdata;

libfuzzer_sys::fuzz_target!(|input: (u16, &str, &[u8])| {
    let (number, text, data) = input;
    let _ = rdata::text(number, data);
    for name in rdata::type_names() {
        if let Ok(wire) = rdata::parse(name, text) {
            let number = rdata::type_number(name).expect("it has one");
            assert!(!rdata::text(number, &wire).is_empty());
        }
    }
});
