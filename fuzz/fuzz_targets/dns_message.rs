//! DNS messages: any bytes are read; a rejection is itself a message; what is written can be read again and says the same.
#![no_main]

use vestibule_dns::wire::{self, MAX_UDP, Query, Rcode, Record, Writer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(heard) = wire::read_answer(bytes) {
        written_again(&heard.answers);
    }
    let mut out = Vec::new();
    match wire::read_query(bytes) {
        Err(rejected) => {
            if wire::write_rejection(bytes, &rejected, &mut out).is_some() {
                assert!(wire::read_answer(&out).is_some(), "a rejection is a message");
            }
        }
        Ok(query) => {
            Writer::new(&query, MAX_UDP, &mut out).finish(true, Rcode::NoError);
            let answer = wire::read_answer(&out).expect("an answer without records is a message");
            assert_eq!((answer.id, answer.answers.len()), (query.id, 0));
        }
    }
});

/// Records that another server sent come out of our own writer as they went in.
fn written_again(records: &[Record]) {
    let asked = wire::write_query(1, &"www.example.com".parse().expect("a name"), 1);
    let query: Query<'_> = wire::read_query(&asked).expect("a query of our own");
    let mut out = Vec::new();
    let mut writer = Writer::new(&query, usize::MAX, &mut out);
    for record in records {
        let mut rest = Vec::new();
        rest.extend_from_slice(&record.kind.to_be_bytes());
        rest.extend_from_slice(&record.class.to_be_bytes());
        rest.extend_from_slice(&record.ttl.to_be_bytes());
        rest.extend_from_slice(&(record.data.len() as u16).to_be_bytes());
        rest.extend_from_slice(&record.data);
        writer.answer(record.name.wire(), &rest);
    }
    writer.finish(false, Rcode::NoError);
    assert_eq!(wire::read_answer(&out).expect("our own answer").answers, records);
}
