//! Session affinity: a cookie that names the instance that served a client last.
//!
//! Cloud Run's cookie is opaque and lives for 30 days; so is this one. It holds the first half of the instance's id,
//! which is random: enough to find the instance, and not the whole name under which logs know it. Nothing is remembered
//! here: an instance that is gone is just not found, and the next one sends its own cookie.

/// Name of the cookie, as Cloud Run has it.
pub const COOKIE: &str = "GAESA";
/// How long a client keeps it, in seconds: 30 days.
const MAX_AGE: u32 = 30 * 24 * 3600;
/// How much of an instance's id it holds.
const LENGTH: usize = 32;

/// What stands for an instance in its cookie.
fn token(instance_id: &str) -> &str {
    instance_id.get(..LENGTH).unwrap_or(instance_id)
}

/// Whether the value of a cookie stands for an instance.
pub(crate) fn is_meant(instance_id: &str, wanted: &[u8]) -> bool {
    token(instance_id).as_bytes() == wanted
}

/// The value of the cookie in a `Cookie` header (RFC 6265 section 4.2.1).
pub(crate) fn wanted(cookies: &[u8]) -> Option<&[u8]> {
    let mut pairs = cookies.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| pair.strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"="));
    value.filter(|value| !value.is_empty())
}

/// The `Set-Cookie` header for an instance.
pub(crate) fn set_cookie(instance_id: &str) -> String {
    format!("{COOKIE}={}; Max-Age={MAX_AGE}; Path=/; HttpOnly", token(instance_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_comes_back() {
        let id = "0123456789abcdef".repeat(4);
        let set = set_cookie(&id);
        assert_eq!(set, "GAESA=0123456789abcdef0123456789abcdef; Max-Age=2592000; Path=/; HttpOnly");
        let pair = set.split(';').next().unwrap();
        let header = format!("a=b; {pair};c=d");
        let wanted = wanted(header.as_bytes()).unwrap();
        assert!(is_meant(&id, wanted));
        assert!(!is_meant(&"f".repeat(64), wanted));
    }

    #[test]
    fn other_cookies_mean_nothing() {
        for cookies in ["", "a=b", "XGAESA=1", "GAESA=", "GAESAX=1", ";;", "gaesa=1"] {
            assert_eq!(wanted(cookies.as_bytes()), None, "{cookies}");
        }
        assert_eq!(wanted(b"a=GAESA=2; GAESA=1"), Some(&b"1"[..]));
    }
}
