//! Writing JSON without building it first.
//!
//! A request's log entry is a few dozen members of which most are the same for every request of a route. [`Object`]
//! appends members to a byte buffer one by one, and takes runs of members that were formatted beforehand.

/// Appends `text` as a JSON string, quotes included.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text.as_bytes());
    out.push(b'"');
}

/// Appends bytes that should be UTF-8 as a JSON string; what is not becomes U+FFFD.
pub fn write_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        write_escaped(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Appends UTF-8 text with all that JSON does not allow in a string escaped. Copies runs that need no escape whole.
fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut copied = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
    }
    out.extend_from_slice(&text[copied..]);
}

/// Appends a number in decimal.
pub fn write_u64(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A JSON object that is being appended to a buffer. Keys are written as they are: they must need no escape.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object at the end of `out`.
    pub fn begin(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, empty: true }
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }

    /// Writes a key and gives the buffer for its value. The caller must append exactly one JSON value.
    pub fn value(&mut self, key: &str) -> &mut Vec<u8> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A string member.
    pub fn str(&mut self, key: &str, text: &str) {
        write_str(self.value(key), text);
    }

    /// A string member from bytes that should be UTF-8; what is not becomes U+FFFD.
    pub fn lossy(&mut self, key: &str, bytes: &[u8]) {
        write_lossy(self.value(key), bytes);
    }

    /// A number member.
    pub fn number(&mut self, key: &str, number: u64) {
        write_u64(self.value(key), number);
    }

    /// A 64-bit integer member, which JSON of Google's APIs carries as a string.
    pub fn int64(&mut self, key: &str, number: u64) {
        let out = self.value(key);
        out.push(b'"');
        write_u64(out, number);
        out.push(b'"');
    }

    /// A boolean member.
    pub fn bool(&mut self, key: &str, value: bool) {
        let text: &[u8] = if value { b"true" } else { b"false" };
        self.value(key).extend_from_slice(text);
    }

    /// A member that is an object itself.
    pub fn object(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        let mut inner = Object::begin(self.value(key));
        members(&mut inner);
        inner.end();
    }

    /// Members that were formatted beforehand, without the outer braces (`"a":1,"b":2`). Empty adds nothing.
    pub fn members(&mut self, formatted: &[u8]) {
        if !formatted.is_empty() {
            self.separate();
            self.out.extend_from_slice(formatted);
        }
    }

    fn separate(&mut self) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
    }
}

/// The members of an object as [`Object::members`] takes them, formatted once and used often.
pub fn members(write: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    write(&mut object);
    out.remove(0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn objects_nest_and_take_prepared_members() {
        let prepared = members(|o| {
            o.str("logName", "projects/p/logs/x");
            o.object("resource", |r| r.str("type", "global"));
        });
        let mut out = Vec::new();
        let mut entry = Object::begin(&mut out);
        entry.members(&prepared);
        entry.members(b"");
        entry.object("httpRequest", |h| {
            h.number("status", 200);
            h.int64("requestSize", u64::MAX);
            h.bool("cacheHit", false);
            h.lossy("userAgent", b"a\xff\"b");
        });
        entry.end();
        let read: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            read,
            json!({
                "logName": "projects/p/logs/x",
                "resource": {"type": "global"},
                "httpRequest": {"status": 200, "requestSize": u64::MAX.to_string(), "cacheHit": false, "userAgent": "a\u{fffd}\"b"},
            })
        );
    }

    proptest! {
        #[test]
        fn any_string_is_read_back(text in any::<String>()) {
            let mut out = Vec::new();
            write_str(&mut out, &text);
            prop_assert!(!out.contains(&b'\n'));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn any_bytes_become_a_string(bytes in any::<Vec<u8>>(), number in any::<u64>()) {
            let mut out = Vec::new();
            write_lossy(&mut out, &bytes);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), String::from_utf8_lossy(&bytes));
            out.clear();
            write_u64(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
