//! Properties over generated input, and the replay of every input that was ever worth keeping.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use vestibule_http1::invariants;

/// Pieces of which heads are made, good and bad ones, so that generated input gets past the first byte.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        &b"GET / HTTP/1.1\r\n"[..],
        b"POST http://a.b/c?d HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 404\r\n",
        b"HTTP/1.1 101 Switching\r\n",
        b"Host: a\r\n",
        b"HOST:b:80\r\n",
        b"Content-Length: 5\r\n",
        b"content-length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close, X-A\r\n",
        b"Connection: upgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"X-A: \t b \r\n",
        b"x-b:\r\n",
        b"Expect: 100-continue\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"5\r\nhello\r\n",
        b"1;x=y\r\na\r\n",
        b"a\r\n0123456789\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
        b"t: v\r\n",
    ]);
    prop_oneof![8 => known.prop_map(<[u8]>::to_vec), 1 => prop::collection::vec(any::<u8>(), 0..6)]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..10).prop_map(|pieces| pieces.concat())
}

/// A request that may be sent, and what it must read as.
fn valid_request() -> impl Strategy<Value = (Vec<u8>, Vec<(String, String)>)> {
    let name = "[A-Za-z][A-Za-z0-9-]{0,12}".prop_map(|n| format!("x-{n}"));
    let value = "([!-~]([ !-~]{0,30}[!-~])?)?";
    let fields = prop::collection::vec((name, value, "[ \t]{0,2}", "[ \t]{0,2}"), 0..12);
    ("[A-Z]{1,8}", "/[!\"$-~]{0,40}", fields).prop_map(|(method, target, fields)| {
        let method = if method == "CONNECT" { "GET".to_owned() } else { method };
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n");
        for (name, value, before, after) in &fields {
            bytes += &format!("{name}:{before}{value}{after}\r\n");
        }
        let read = fields.into_iter().map(|(name, value, ..)| (name.to_lowercase(), value)).collect();
        ((bytes + "\r\n").into_bytes(), read)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_hold_the_invariants(bytes in bytes()) {
        invariants::request(&bytes);
        invariants::response(&bytes);
        invariants::chunked(&bytes);
    }

    #[test]
    fn any_split_reads_the_same(bytes in bytes(), step in 1usize..40) {
        prop_assert_eq!(invariants::read_request(&bytes, step), invariants::read_request(&bytes, usize::MAX));
        prop_assert_eq!(invariants::read_response(&bytes, step), invariants::read_response(&bytes, usize::MAX));
    }

    #[test]
    fn valid_requests_are_read_in_full((bytes, fields) in valid_request()) {
        let reading = invariants::read_request(&bytes, 7).unwrap().unwrap();
        let read: Vec<(String, String)> = reading.fields[1..]
            .iter()
            .map(|(n, v, _)| (String::from_utf8(n.clone()).unwrap(), String::from_utf8(v.clone()).unwrap()))
            .collect();
        prop_assert_eq!(read, fields);
        prop_assert_eq!(reading.length, bytes.len());
    }

    /// Whatever we accept, an independent parser reads the same way.
    #[test]
    fn a_second_opinion_agrees(bytes in bytes()) {
        if let Ok(Some(reading)) = invariants::read_request(&bytes, usize::MAX) {
            let mut fields = [httparse::EMPTY_HEADER; 128];
            let mut request = httparse::Request::new(&mut fields);
            prop_assert_eq!(request.parse(&bytes), Ok(httparse::Status::Complete(reading.length)));
            prop_assert_eq!(request.method.unwrap().as_bytes(), &reading.first[0][..]);
            let theirs: Vec<_> =
                request.headers.iter().map(|h| (h.name.to_lowercase().into_bytes(), h.value.to_vec())).collect();
            let ours: Vec<_> = reading.fields.into_iter().map(|(n, v, _)| (n, v)).collect();
            prop_assert_eq!(theirs, ours);
        }
        if let Ok(Some(reading)) = invariants::read_response(&bytes, usize::MAX) {
            let mut fields = [httparse::EMPTY_HEADER; 128];
            let mut response = httparse::Response::new(&mut fields);
            prop_assert_eq!(response.parse(&bytes), Ok(httparse::Status::Complete(reading.length)));
            prop_assert_eq!(response.headers.len(), reading.fields.len());
        }
    }
}

#[test]
fn the_corpus_holds_the_invariants() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut replayed = 0;
    for (folder, check) in [
        ("request", invariants::request as fn(&[u8])),
        ("response", invariants::response),
        ("chunked", invariants::chunked),
    ] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            check(&fs::read(entry.unwrap().path()).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed >= 15, "the corpus is there");
}
