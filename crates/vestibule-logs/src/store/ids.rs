//! Ids for entries that have none.

use jiff::Timestamp;

/// Makes `insertId`s that sort in the order in which they were made, and differ from those of every other maker.
#[derive(Debug)]
pub(crate) struct InsertIds {
    last: u64,
    /// Tells makers apart that started in the same nanosecond.
    own: String,
}

impl InsertIds {
    pub(crate) fn starting_at(now: Timestamp) -> InsertIds {
        let own = (0..6).map(|_| fastrand::lowercase()).collect();
        InsertIds { last: nanos(now), own }
    }

    /// Ids from here on sort after those of earlier times.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.last = self.last.max(nanos(now));
    }

    pub(crate) fn next(&mut self) -> String {
        self.last += 1;
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        // 13 digits of base 36 hold 64 bits; a fixed width makes text sort like numbers.
        let mut text = [b'0'; 13];
        let mut rest = self.last;
        for digit in text.iter_mut().rev() {
            *digit = DIGITS[(rest % 36) as usize];
            rest /= 36;
        }
        let mut id: String = text.iter().map(|b| char::from(*b)).collect();
        id.push_str(&self.own);
        id
    }
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_in_order_and_differ_between_makers() {
        let now = Timestamp::now();
        let (mut a, mut b) = (InsertIds::starting_at(now), InsertIds::starting_at(now));
        let mut ids: Vec<String> = (0..100).map(|_| a.next()).collect();
        a.advance("2100-01-01T00:00:00Z".parse().unwrap());
        ids.push(a.next());
        let sorted = {
            let mut s = ids.clone();
            s.sort();
            s
        };
        assert_eq!(ids, sorted);
        assert!(!ids.contains(&b.next()));
    }
}
