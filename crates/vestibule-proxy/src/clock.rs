//! The date as answers carry it, formatted once a second.

use std::cell::{Cell, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Remembers the text of the current second.
#[derive(Default)]
pub(crate) struct Dates {
    second: Cell<u64>,
    text: RefCell<Vec<u8>>,
}

impl Dates {
    /// Appends `date: ` and the time as RFC 9110 section 5.6.7 wants it.
    pub(crate) fn field(&self, out: &mut Vec<u8>, now: SystemTime) {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut text = self.text.borrow_mut();
        if self.second.get() != second || text.is_empty() {
            self.second.set(second);
            text.clear();
            text.extend_from_slice(format!("date: {}\r\n", imf_fixdate(second)).as_bytes());
        }
        out.extend_from_slice(&text);
    }
}

fn imf_fixdate(second: u64) -> String {
    let time = Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_date_of_the_rfc() {
        let dates = Dates::default();
        for (second, text) in [
            (784_111_777, "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            (784_111_777, "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            (0, "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        ] {
            let mut out = Vec::new();
            dates.field(&mut out, UNIX_EPOCH + Duration::from_secs(second));
            assert_eq!(out, text.as_bytes());
        }
    }
}
