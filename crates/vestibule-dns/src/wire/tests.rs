use super::*;
use proptest::prelude::*;

/// `example.` A, id 7, RD set.
fn query() -> Vec<u8> {
    write_query(7, &"example".parse().unwrap(), kind::A)
}

fn with_opt(mut message: Vec<u8>, version: u8) -> Vec<u8> {
    message[11] += 1;
    message.extend_from_slice(&[0, 0, 41, 0x10, 0, 0, version, 0x80, 0, 0, 0]);
    message
}

fn rcode_of(message: &[u8]) -> Option<u16> {
    match read_query(message) {
        Ok(_) => Some(0),
        Err(Rejected::Drop) => None,
        Err(Rejected::Answer { rcode, .. }) => Some(rcode as u16),
    }
}

#[test]
fn a_plain_query_is_read() {
    let message = query();
    let read = read_query(&message).unwrap();
    assert_eq!((read.id, read.kind, read.recursion_desired, read.edns), (7, kind::A, true, None));
    assert_eq!(&*read.name, "EXAMPLE.".parse::<Name>().unwrap().wire());
}

#[test]
fn edns_is_read_once_and_in_version_0() {
    let message = with_opt(query(), 0);
    let read = read_query(&message).unwrap();
    assert_eq!((read.edns, read.dnssec_ok), (Some(4096), true));
    assert_eq!(rcode_of(&with_opt(query(), 1)), Some(16));
    assert_eq!(rcode_of(&with_opt(with_opt(query(), 0), 0)), Some(1));
}

#[test]
fn malformed_messages_get_what_the_rfcs_say() {
    let edit = |at: usize, value: u8| {
        let mut message = query();
        message[at] = value;
        message
    };
    let mut long = query();
    long.splice(12..21, [vec![63; 1], vec![b'a'; 63]].concat().repeat(4).into_iter().chain([0]));
    for (what, message, rcode) in [
        ("eleven octets", query()[..11].to_vec(), None),
        ("an answer", edit(2, 0x80), None),
        ("an unknown opcode", edit(2, 0x28), Some(4)),
        ("two questions", edit(5, 2), Some(1)),
        ("no question", edit(5, 0), Some(1)),
        ("a label of 64", edit(12, 64), Some(1)),
        ("a pointer in the question", edit(12, 0xc0), Some(1)),
        ("a name without end", query()[..18].to_vec(), Some(1)),
        ("a name of 257", long, Some(1)),
        ("trailing octets", [query(), vec![0]].concat(), Some(1)),
        ("class CHAOS", edit(24, 3), Some(5)),
        ("a zone transfer", edit(22, 252), Some(5)),
        ("an opcode of the future", edit(2, 0x78), Some(4)),
        ("an additional record that is not there", edit(11, 1), Some(1)),
    ] {
        assert_eq!(rcode_of(&message), rcode, "{what}");
    }
}

#[test]
fn an_answer_that_is_too_long_is_truncated() {
    let message = with_opt(query(), 0);
    let read = read_query(&message).unwrap();
    let mut out = Vec::new();
    let mut writer = Writer::new(&read, 100, &mut out);
    let record =
        Record { name: Name::from_wire(&read.name), kind: kind::A, class: 1, ttl: 1, data: vec![1, 2, 3, 4] };
    for _ in 0..10 {
        writer.answer(record.name.wire(), &record.rest());
    }
    writer.finish(true, Rcode::NoError);
    assert!(out.len() <= 100);
    assert_eq!((out[2] & 0x02, out[7], out[11]), (0x02, 0, 1));
}

#[test]
fn a_compressed_answer_is_written_out() {
    let mut message = query();
    message[2] = 0x81;
    message[7] = 1;
    message.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 6, 3, b'w', b'w', b'w', 0xc0, 12]);
    let reply = read_answer(&message).unwrap();
    assert_eq!((reply.id, reply.rcode, reply.answers[0].ttl), (7, 0, 9));
    assert_eq!(reply.answers[0].data, Name::parse("www.example").unwrap().wire());
}

/// What follows a name could make the data longer than two octets can tell, once the name is written out.
#[test]
fn nothing_follows_a_name_in_data() {
    let with = |data: &[u8]| {
        let mut message = query();
        (message[2], message[7]) = (0x81, 1);
        message.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
        message.extend_from_slice(data);
        read_answer(&message).is_some()
    };
    assert!(with(&[0xc0, 12]));
    assert!(!with(&[0xc0, 12, 0]));
    assert!(!with(&[0xc0]));
}

#[test]
fn pointers_that_loop_or_look_ahead_are_malformed() {
    for pointer in [[0xc0, 25], [0xc0, 40]] {
        let mut message = query();
        message[2] = 0x81;
        message[7] = 1;
        message.extend_from_slice(&pointer);
        message.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read_answer(&message), None);
    }
}

proptest! {
    #[test]
    fn reading_never_panics(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_answer(&message);
        if let Err(rejected) = read_query(&message) {
            let _ = write_rejection(&message, &rejected, &mut Vec::new());
        }
    }

    #[test]
    fn reading_a_damaged_query_never_panics(at in 0usize..36, value: u8) {
        let mut message = with_opt(query(), 0);
        let at = at % message.len();
        message[at] = value;
        if let Err(rejected) = read_query(&message) {
            let _ = write_rejection(&message, &rejected, &mut Vec::new());
        }
    }
}
