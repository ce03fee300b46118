//! What backends answer, as four proxies pass it on.

use crate::accepted::Accepted;
use crate::programs::Programs;
use crate::{asking, judge, response_cases};

#[test]
fn responses_mean_to_us_what_they_mean_to_others() {
    let Some(programs) = Programs::find() else { return };
    let (proxies, _alive) = asking::all(&programs);
    let differences = judge::compare(&proxies, &response_cases::all(), judge::responses);
    Accepted::read(include_str!("accepted/responses.txt")).check(&differences);
}
