//! Fault injection: a delay first, then an abort.

use std::time::Duration;

use vestibule_model::compute;

use crate::chance::Chance;
use crate::duration::positive;
use crate::field::{CompileError, Field};

/// A compiled `faultInjectionPolicy`.
#[derive(Debug)]
pub struct Fault {
    delay: Option<(Duration, Chance)>,
    abort: Option<(u16, Chance)>,
}

impl Fault {
    pub(crate) fn compile(doc: &compute::HttpFaultInjection, at: &Field<'_>) -> Result<Fault, CompileError> {
        let delay = doc.delay.as_ref().map(|delay| compile_delay(delay, &at.member("delay"))).transpose()?;
        let abort = doc.abort.as_ref().map(|abort| compile_abort(abort, &at.member("abort"))).transpose()?;
        Ok(Fault { delay, abort })
    }

    /// How long to hold the request, if it drew the delay.
    pub fn delay(&self, random: u64) -> Option<Duration> {
        self.delay.and_then(|(delay, chance)| chance.hits(random).then_some(delay))
    }

    /// The status to answer with at once, if the request drew the abort. Timeout and retries do not apply to it.
    pub fn abort(&self, random: u64) -> Option<u16> {
        self.abort.and_then(|(status, chance)| chance.hits(random).then_some(status))
    }
}

fn compile_delay(doc: &compute::HttpFaultDelay, at: &Field<'_>) -> Result<(Duration, Chance), CompileError> {
    let fixed = at.member("fixedDelay");
    let delay = positive(doc.fixed_delay.as_ref().ok_or_else(|| fixed.required())?, &fixed)?;
    Ok((delay, Chance::percent(doc.percentage.unwrap_or(0.0), &at.member("percentage"))?))
}

fn compile_abort(doc: &compute::HttpFaultAbort, at: &Field<'_>) -> Result<(u16, Chance), CompileError> {
    let field = at.member("httpStatus");
    let status = doc.http_status.ok_or_else(|| field.required())?;
    let status = u16::try_from(status).ok().filter(|status| (200..=599).contains(status));
    let status = status.ok_or_else(|| {
        field.invalid(doc.http_status.unwrap_or_default(), "Must be between 200 and 599 inclusive.")
    })?;
    Ok((status, Chance::percent(doc.percentage.unwrap_or(0.0), &at.member("percentage"))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compile(json: serde_json::Value) -> Result<Fault, CompileError> {
        Fault::compile(&serde_json::from_value(json).expect("document"), &Field::ROOT)
    }

    #[test]
    fn delay_and_abort_are_drawn_apart() {
        let fault = compile(json!({
            "delay": {"fixedDelay": {"seconds": "2"}, "percentage": 100.0},
            "abort": {"httpStatus": 503, "percentage": 0.0},
        }))
        .expect("compiles");
        assert_eq!(fault.delay(7), Some(Duration::from_secs(2)));
        assert_eq!(fault.abort(7), None);
    }

    #[test]
    fn bad_faults() {
        for bad in [
            json!({"delay": {"percentage": 1.0}}),
            json!({"delay": {"fixedDelay": {"seconds": "0"}, "percentage": 1.0}}),
            json!({"abort": {"percentage": 1.0}}),
            json!({"abort": {"httpStatus": 199, "percentage": 1.0}}),
            json!({"abort": {"httpStatus": 600, "percentage": 1.0}}),
            json!({"abort": {"httpStatus": 500, "percentage": 101.0}}),
        ] {
            assert!(compile(bad.clone()).is_err(), "{bad}");
        }
    }
}
