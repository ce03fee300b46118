//! Finding a few members of an entry without parsing it.
//!
//! Every line passes here when it is written (does it have an `insertId`? when was it?) and again when it is searched
//! (is it in the range at all?). Values that nobody asked for are skipped over, not read.

/// What is known of a line after one pass over its outermost object. Texts are as they stand in the line, still escaped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline<'a> {
    pub(crate) log_name: Option<&'a str>,
    pub(crate) timestamp: Option<&'a str>,
    pub(crate) insert_id: Option<&'a str>,
    pub(crate) receive_timestamp: Option<&'a str>,
    /// Whether the object has no member at all.
    pub(crate) empty: bool,
}

/// Reads the outline of a line that holds one JSON object; `None` when it does not look like one.
pub(crate) fn outline(line: &[u8]) -> Option<Outline<'_>> {
    let mut cursor = Cursor { line, at: 0 };
    let mut found = Outline { empty: true, ..Outline::default() };
    cursor.expect(b'{')?;
    if cursor.peek()? == b'}' {
        cursor.at += 1;
        return cursor.finished().then_some(found);
    }
    loop {
        let key = cursor.string()?;
        cursor.expect(b':')?;
        found.empty = false;
        let slot = match key {
            b"logName" => Some(&mut found.log_name),
            b"timestamp" => Some(&mut found.timestamp),
            b"insertId" => Some(&mut found.insert_id),
            b"receiveTimestamp" => Some(&mut found.receive_timestamp),
            _ => None,
        };
        match slot {
            Some(slot) if cursor.peek()? == b'"' => *slot = Some(std::str::from_utf8(cursor.string()?).ok()?),
            _ => cursor.skip_value()?,
        }
        match cursor.next()? {
            b',' => {}
            b'}' => return cursor.finished().then_some(found),
            _ => return None,
        }
    }
}

struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&mut self) -> Option<u8> {
        while self.line.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.line.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn finished(&mut self) -> bool {
        self.peek().is_none()
    }

    /// The inside of a string.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            let special = memchr::memchr2(b'"', b'\\', self.line.get(self.at..)?)?;
            self.at += special + 1;
            if self.line[self.at - 1] == b'"' {
                break;
            }
            // What is escaped is no end.
            self.at += 1;
        }
        self.line.get(start..self.at - 1)
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.') => self.scalar(),
                _ => return None,
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn scalar(&mut self) {
        let part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
        while self.line.get(self.at).is_some_and(part) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_members_of_the_outermost_object_only() {
        let line = br#" {"a":{"insertId":"no","t":[1,{"x":"}\""}]},"timestamp" : "T","logName":"L","n":-1.5e+3,"b":null}"#;
        let found = outline(line).unwrap();
        assert_eq!(found.timestamp, Some("T"));
        assert_eq!(found.log_name, Some("L"));
        assert_eq!(found.insert_id, None);
        assert!(!found.empty);
    }

    #[test]
    fn what_is_no_object_is_told() {
        for bad in [
            "",
            "{",
            "[]",
            "{\"a\":1",
            "{\"a\"}",
            "{\"a\":1}x",
            "{\"a\":}",
            "{\"a\":\"x",
            "{\"a\":1]",
            "null",
        ] {
            assert!(outline(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(outline(b"{}").unwrap().empty);
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\a1 t".to_vec()), 0..40)) {
            let _ = outline(&bytes);
        }

        #[test]
        fn agrees_with_a_real_parser(text in any::<String>(), id in "[a-z\"\\\\]{0,5}") {
            let value = serde_json::json!({"jsonPayload": {"x": [text, {"insertId": 1}]}, "insertId": id, "z": text});
            let line = value.to_string();
            let found = outline(line.as_bytes()).unwrap();
            let raw = format!("\"{}\"", found.insert_id.unwrap());
            prop_assert_eq!(serde_json::from_str::<String>(&raw).unwrap(), id);
        }
    }
}
