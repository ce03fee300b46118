//! Identifiers the server hands out.
//!
//! Every one is drawn from a random source: nothing but the store orders writes, so a counter here would be a second
//! truth. Collisions are as likely as with UUIDs, except where noted.

use jiff::Timestamp;

/// A compute resource's `id`: a decimal number of 19 digits that fits a signed 64-bit integer (Go clients parse it as
/// uint64, some others as int64).
pub fn resource_id() -> String {
    fastrand::u64(1_000_000_000_000_000_000..=i64::MAX as u64).to_string()
}

/// The name of a compute operation: `operation-<ms since epoch>-<13 hex>-<8 hex>-<8 hex>`, as Google's clients expect
/// nothing more of it than to be a valid resource name.
pub fn operation_name() -> String {
    format!(
        "operation-{}-{:013x}-{:08x}-{:08x}",
        Timestamp::now().as_millisecond(),
        fastrand::u64(..) >> 12,
        fastrand::u32(..),
        fastrand::u32(..)
    )
}

/// A random UUID (RFC 9562, version 4).
pub fn uuid() -> String {
    let mut bytes = fastrand::u128(..).to_be_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    format!("{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
}

/// A Knative `resourceVersion` as Cloud Run writes them: base64 of a document's revision. It changes exactly when the
/// revision does.
pub fn resource_version(revision: u64) -> String {
    use base64::Engine as _;
    let mut bytes = [0xAA; 9];
    bytes[1..].copy_from_slice(&revision.to_be_bytes());
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// `n` random lower-case letters, as in the revision name `hello-00001-abc`.
pub fn letters(n: usize) -> String {
    std::iter::repeat_with(|| fastrand::char('a'..='z')).take(n).collect()
}

/// `n` random lower-case hexadecimal digits, as in trace and span ids.
pub fn hex(n: usize) -> String {
    std::iter::repeat_with(|| char::from_digit(fastrand::u32(0..16), 16).unwrap_or('0')).take(n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::is_valid_name;

    #[test]
    fn shapes() {
        assert_eq!(resource_id().len(), 19);
        assert!(resource_id().parse::<i64>().is_ok());
        assert!(is_valid_name(&operation_name()), "{}", operation_name());
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(letters(3).bytes().all(|b| b.is_ascii_lowercase()));
        assert_eq!(hex(32).len(), 32);
    }

    #[test]
    fn they_differ() {
        assert_ne!(operation_name(), operation_name());
        assert_ne!(uuid(), uuid());
        assert_ne!(resource_version(1), resource_version(2));
        assert_eq!(resource_version(7), resource_version(7));
    }
}
