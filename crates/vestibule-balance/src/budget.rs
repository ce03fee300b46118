//! How many retries there may be at once.
//!
//! When every backend fails, retries multiply the load on what is failing. So they are bounded by a share of what is
//! under way (Envoy's `retry_budget`, with its defaults), unless `circuitBreakers.maxRetries` names a number.

/// Retries that may be under way for every 100 requests that are (Envoy's default).
pub const SHARE: u32 = 20;

/// Retries that may always be under way (Envoy's default).
pub const LEAST: u32 = 3;

/// Whether there may be one more retry beside `retries` that are under way, of `requests` in all. `limit` is
/// `circuitBreakers.maxRetries`.
pub fn allows(limit: Option<u32>, retries: u32, requests: u32) -> bool {
    let most = limit.unwrap_or_else(|| LEAST.max((u64::from(requests) * u64::from(SHARE) / 100) as u32));
    retries < most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_but_at_least_three() {
        assert!(allows(None, 2, 1) && !allows(None, 3, 1));
        assert!(allows(None, 19, 100) && !allows(None, 20, 100));
        assert!(allows(Some(1), 0, 100) && !allows(Some(1), 1, 100));
        assert!(!allows(Some(0), 0, u32::MAX));
        assert!(allows(None, 0, u32::MAX));
    }
}
