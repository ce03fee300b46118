//! What clients send, as four proxies take it.

use crate::accepted::Accepted;
use crate::programs::Programs;
use crate::{asking, judge, request_cases};

#[test]
fn requests_mean_to_us_what_they_mean_to_others() {
    let Some(programs) = Programs::find() else { return };
    let (proxies, _alive) = asking::all(&programs);
    let differences = judge::compare(&proxies, &request_cases::all(), judge::requests);
    Accepted::read(include_str!("accepted/requests.txt")).check(&differences);
}
