//! Fingerprints and etags: eight bytes of SHA-256 over canonical JSON, as base64.
//!
//! Clients treat them as opaque, send them back, and must be refused when the document has moved on. They therefore
//! depend on what a document says and not on how it was written: members are taken in the order of their names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256};
use serde_json::Value;

/// The fingerprint of a document: base64 of 8 bytes, e.g. `5C3kq8b7Wgo=`.
pub fn fingerprint(document: &Value) -> String {
    let mut context = Context::new(&SHA256);
    feed(&mut context, document);
    STANDARD.encode(&context.finish().as_ref()[..8])
}

/// A stable 64-bit hash: the first eight bytes of SHA-256, big-endian. Not for secrets.
pub fn hash64(bytes: &[u8]) -> u64 {
    let digest = ring::digest::digest(&SHA256, bytes);
    digest.as_ref()[..8].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Feeds canonical JSON. Strings and numbers go through serde_json, so that escapes are unambiguous.
fn feed(context: &mut Context, value: &Value) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            context.update(b"{");
            for name in names {
                feed_scalar(context, &Value::String(name.clone()));
                feed(context, &members[name]);
            }
            context.update(b"}");
        }
        Value::Array(items) => {
            context.update(b"[");
            items.iter().for_each(|item| feed(context, item));
            context.update(b"]");
        }
        scalar => feed_scalar(context, scalar),
    }
}

fn feed_scalar(context: &mut Context, scalar: &Value) {
    context.update(scalar.to_string().as_bytes());
    context.update(b",");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn order_of_members_does_not_matter_and_all_else_does() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"x":true,"y":[1,2]}}"#).unwrap();
        let same: Value = serde_json::from_str(r#"{"b":{"y":[1,2],"x":true},"a":1}"#).unwrap();
        assert_eq!(fingerprint(&one), fingerprint(&same));
        for other in [
            json!({"a": 1, "b": {"x": true, "y": [2, 1]}}),
            json!({"a": "1", "b": {"x": true, "y": [1, 2]}}),
            json!({"a": 1, "b": {"x": true, "y": [12]}}),
            json!({"a": 1, "b": {"x": true, "y": [[1], 2]}}),
        ] {
            assert_ne!(fingerprint(&one), fingerprint(&other), "{other}");
        }
    }

    #[test]
    fn it_is_base64_of_eight_bytes() {
        let text = fingerprint(&json!({}));
        assert_eq!(STANDARD.decode(&text).unwrap().len(), 8);
    }
}
