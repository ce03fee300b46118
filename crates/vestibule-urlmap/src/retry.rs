//! Retries: what counts as a failure worth another attempt, and how many there may be.

use std::time::Duration;

use vestibule_model::compute;

use crate::duration::positive;
use crate::field::{CompileError, Field};

/// Longest `perTryTimeout` in seconds: 24 hours.
const MAX_PER_TRY: u64 = 24 * 3600;

/// A compiled `retryPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    conditions: Box<[Condition]>,
    /// Attempts after the first.
    pub retries: u32,
    /// Limit of one attempt. `None`: the route's timeout.
    pub per_try_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    ServerError,
    GatewayError,
    ConnectFailure,
    Retriable4xx,
    RefusedStream,
    /// A gRPC status in the response's headers.
    Grpc(u16),
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A response began. `grpc` is its `grpc-status` header.
    Status { status: u16, grpc: Option<u16> },
    /// No connection could be made.
    ConnectFailure,
    /// The stream was refused before it was processed.
    RefusedStream,
    /// The connection broke or timed out before a response began.
    NoResponse,
}

impl RetryPolicy {
    pub(crate) fn compile(
        doc: &compute::HttpRetryPolicy,
        at: &Field<'_>,
    ) -> Result<RetryPolicy, CompileError> {
        let retries = doc.num_retries.unwrap_or(1);
        if retries == 0 {
            return Err(at.member("numRetries").invalid(0, "Must be greater than 0."));
        }
        let per_try = at.member("perTryTimeout");
        let per_try_timeout = doc.per_try_timeout.as_ref().map(|doc| positive(doc, &per_try)).transpose()?;
        if let Some(limit) = per_try_timeout.filter(|limit| limit.as_secs() > MAX_PER_TRY) {
            return Err(per_try.invalid(limit.as_secs(), "Must be at most 24 hours."));
        }
        let conditions = doc.retry_conditions.iter().enumerate().map(|(index, text)| {
            condition(text).ok_or_else(|| {
                at.item("retryConditions", index).invalid(text, "Retry condition is not supported.")
            })
        });
        Ok(RetryPolicy { conditions: conditions.collect::<Result<_, _>>()?, retries, per_try_timeout })
    }

    /// Whether such an outcome is worth another attempt.
    pub fn covers(&self, outcome: Outcome) -> bool {
        self.conditions.iter().any(|condition| condition.covers(outcome))
    }
}

fn condition(text: &str) -> Option<Condition> {
    Some(match text {
        "5xx" => Condition::ServerError,
        "gateway-error" => Condition::GatewayError,
        "connect-failure" => Condition::ConnectFailure,
        "retriable-4xx" => Condition::Retriable4xx,
        "refused-stream" => Condition::RefusedStream,
        "cancelled" => Condition::Grpc(1),
        "deadline-exceeded" => Condition::Grpc(4),
        "resource-exhausted" => Condition::Grpc(8),
        "internal" => Condition::Grpc(13),
        "unavailable" => Condition::Grpc(14),
        _ => return None,
    })
}

impl Condition {
    fn covers(self, outcome: Outcome) -> bool {
        match (self, outcome) {
            (Condition::ServerError, Outcome::Status { status, .. }) => (500..600).contains(&status),
            (Condition::ServerError, _) => true,
            (Condition::GatewayError, Outcome::Status { status, .. }) => (502..=504).contains(&status),
            // Envoy answers 503 or 504 for these, and "gateway error" covers what it answers.
            (Condition::GatewayError, _) => true,
            (Condition::ConnectFailure, outcome) => outcome == Outcome::ConnectFailure,
            (Condition::Retriable4xx, Outcome::Status { status, .. }) => status == 409,
            (Condition::RefusedStream, outcome) => outcome == Outcome::RefusedStream,
            (Condition::Grpc(wanted), Outcome::Status { grpc, .. }) => grpc == Some(wanted),
            _ => false,
        }
    }
}

/// Whether to try again after `attempts` attempts (the first counts), the last of which ended so.
///
/// Without a policy, a request without a body that got 502, 503, 504 or no answer is tried once more; any other is
/// not. An explicit policy covers requests with a body as well.
pub fn again(policy: Option<&RetryPolicy>, has_body: bool, attempts: u32, outcome: Outcome) -> bool {
    match policy {
        Some(policy) => attempts <= policy.retries && policy.covers(outcome),
        None => attempts <= 1 && !has_body && Condition::GatewayError.covers(outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compile(json: serde_json::Value) -> Result<RetryPolicy, CompileError> {
        RetryPolicy::compile(&serde_json::from_value(json).expect("document"), &Field::ROOT)
    }

    fn status(status: u16) -> Outcome {
        Outcome::Status { status, grpc: None }
    }

    #[test]
    fn conditions() {
        for (condition, outcome, want) in [
            ("5xx", status(500), true),
            ("5xx", status(404), false),
            ("5xx", Outcome::NoResponse, true),
            ("5xx", Outcome::ConnectFailure, true),
            ("gateway-error", status(500), false),
            ("gateway-error", status(502), true),
            ("gateway-error", status(504), true),
            ("connect-failure", Outcome::ConnectFailure, true),
            ("connect-failure", status(503), false),
            ("retriable-4xx", status(409), true),
            ("retriable-4xx", status(429), false),
            ("refused-stream", Outcome::RefusedStream, true),
            ("refused-stream", Outcome::NoResponse, false),
            ("unavailable", Outcome::Status { status: 200, grpc: Some(14) }, true),
            ("unavailable", Outcome::Status { status: 200, grpc: Some(13) }, false),
        ] {
            let policy = compile(json!({"retryConditions": [condition]})).expect("compiles");
            assert_eq!(policy.covers(outcome), want, "{condition} {outcome:?}");
        }
    }

    #[test]
    fn two_retries_make_three_attempts() {
        let policy = compile(json!({"retryConditions": ["5xx"], "numRetries": 2})).expect("compiles");
        let tries: Vec<bool> = (1..=3).map(|n| again(Some(&policy), true, n, status(500))).collect();
        assert_eq!(tries, [true, true, false]);
    }

    #[test]
    fn without_a_policy_only_requests_without_a_body_are_tried_once_more() {
        assert!(again(None, false, 1, status(503)));
        assert!(!again(None, false, 2, status(503)));
        assert!(!again(None, true, 1, status(503)));
        assert!(!again(None, false, 1, status(500)));
    }

    #[test]
    fn bad_policies() {
        for bad in [
            json!({"numRetries": 0}),
            json!({"perTryTimeout": {"seconds": "0"}}),
            json!({"perTryTimeout": {"seconds": "86401"}}),
            json!({"retryConditions": ["sometimes"]}),
        ] {
            assert!(compile(bad.clone()).is_err(), "{bad}");
        }
    }
}
