//! What must hold for every input: the checks behind the property tests, the corpus replay and the fuzz targets.
//!
//! Each function takes any bytes and panics if an invariant is broken.

use crate::body::{BodyDecoder, Framing};
use crate::encode;
use crate::error::{Error, Side};
use crate::fields::Field;
use crate::request::{Method, RequestHead};
use crate::response::ResponseHead;

/// What was read from some bytes, in a form that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Bytes that the head takes.
    pub length: usize,
    /// The first line: method, authority and path, or status and reason.
    pub first: Vec<Vec<u8>>,
    /// Name, value, and whether the field ends at this hop.
    pub fields: Vec<(Vec<u8>, Vec<u8>, bool)>,
    pub framing: Framing,
}

/// A request head reads the same however it is split, and reads the same again after it was written.
pub fn request(bytes: &[u8]) {
    let whole = read_request(bytes, bytes.len().max(1));
    for step in [1, 3, 64] {
        assert_eq!(read_request(bytes, step), whole, "split into reads of {step}");
    }
    if let Ok(Some(reading)) = whole {
        let again = read_request(&rewrite_request(bytes), usize::MAX);
        let again = again.expect("what we write is valid").expect("what we write is complete");
        assert_eq!(
            (&again.first, &again.fields, again.framing),
            (&reading.first, &reading.fields, reading.framing)
        );
    }
}

/// A response head reads the same however it is split, and reads the same again after it was written.
pub fn response(bytes: &[u8]) {
    let whole = read_response(bytes, bytes.len().max(1));
    for step in [1, 3, 64] {
        assert_eq!(read_response(bytes, step), whole, "split into reads of {step}");
    }
    if let Ok(Some(reading)) = whole {
        let again = read_response(&rewrite_response(&reading), usize::MAX);
        let again = again.expect("what we write is valid").expect("what we write is complete");
        assert_eq!((&again.fields, again.framing), (&reading.fields, reading.framing));
    }
}

/// A chunked body gives the same data however it is split, and gives it again after it was written.
pub fn chunked(bytes: &[u8]) {
    let whole = read_chunked(bytes, bytes.len().max(1));
    for step in [1, 3, 64] {
        assert_eq!(read_chunked(bytes, step), whole, "split into reads of {step}");
    }
    if let Ok((data, _, true)) = whole {
        let mut written = Vec::new();
        if !data.is_empty() {
            written.extend_from_slice(encode::ChunkSize::new(data.len()).as_bytes());
            written.extend_from_slice(&data);
            written.extend_from_slice(encode::CHUNK_END);
        }
        written.extend_from_slice(encode::LAST_CHUNK);
        assert_eq!(read_chunked(&written, 5), Ok((data, written.len(), true)));
    }
}

/// Reads a request head in reads of `step` bytes. `None`: it is not complete.
pub fn read_request(bytes: &[u8], step: usize) -> Result<Option<Reading>, Error> {
    let mut head = RequestHead::default();
    let mut buffer = Vec::with_capacity(bytes.len());
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        if let Some(length) = head.parse(&mut buffer)? {
            let view = head.view(&buffer);
            let first = [view.method_text(), view.authority(), view.path_and_query()];
            return Ok(Some(Reading {
                length,
                first: first.map(|s| s.as_bytes().to_vec()).to_vec(),
                fields: fields(view.fields(), &buffer),
                framing: view.framing(),
            }));
        }
    }
    Ok(None)
}

/// Reads a response head to a `GET`, as [`read_request`] does.
pub fn read_response(bytes: &[u8], step: usize) -> Result<Option<Reading>, Error> {
    let mut head = ResponseHead::default();
    let mut buffer = Vec::with_capacity(bytes.len());
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        if let Some(length) = head.parse(&mut buffer)? {
            let view = head.view(&buffer);
            return Ok(Some(Reading {
                length,
                first: vec![view.status().to_string().into_bytes(), view.reason().to_vec()],
                fields: fields(view.fields(), &buffer),
                framing: view.framing(Method::Get),
            }));
        }
    }
    Ok(None)
}

/// Reads a chunked body: its data, how many bytes it takes, and whether it is complete.
pub fn read_chunked(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), Error> {
    let mut decoder = BodyDecoder::new(Framing::Chunked, Side::Client);
    let (mut data, mut taken) = (Vec::new(), 0);
    for piece in bytes.chunks(step) {
        let mut piece = piece.to_vec();
        let found = decoder.decode(&mut piece)?;
        data.extend_from_slice(&piece[found.data]);
        taken += found.consumed;
        if decoder.is_done() {
            break;
        }
    }
    Ok((data, taken, decoder.is_done()))
}

fn fields(fields: &[Field], buffer: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
    fields
        .iter()
        .map(|f| (f.name.of(buffer).to_vec(), f.value.of(buffer).to_vec(), f.is_hop_by_hop()))
        .collect()
}

/// Writes a request that was read; by whole lines where they may be copied.
fn rewrite_request(bytes: &[u8]) -> Vec<u8> {
    let mut buffer = bytes.to_vec();
    let mut head = RequestHead::default();
    let _ = head.parse(&mut buffer);
    let view = head.view(&buffer);
    let mut out = Vec::new();
    encode::request_line(&mut out, view.method_text(), view.target());
    for field in view.fields() {
        match field.whole_line() {
            Some(line) => out.extend_from_slice(&buffer[line]),
            None => encode::field(&mut out, field.name.of(&buffer), field.value.of(&buffer)),
        }
    }
    encode::end_of_head(&mut out);
    out
}

fn rewrite_response(reading: &Reading) -> Vec<u8> {
    let mut out = Vec::new();
    let status = reading.first[0].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    encode::status_line(&mut out, status, &reading.first[1]);
    for (name, value, _) in &reading.fields {
        encode::field(&mut out, name, value);
    }
    encode::end_of_head(&mut out);
    out
}
