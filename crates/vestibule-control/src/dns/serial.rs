//! The serial number of a zone: it tells that something has changed.

use serde_json::Value;

use super::{Zone, records};
use crate::{Change, document};

/// Where the serial number stands in the data of an SOA record, counted in words.
const PLACE: usize = 2;

/// Stages the zone's SOA record with the next serial number.
pub(super) fn rise(change: &mut Change<'_>, zone: &Zone) {
    let keys = records::apex_keys(zone);
    let Some(key) = keys.iter().find(|key| key.ends_with("/SOA")) else { return };
    let Some(set) = change.get(key) else { return };
    let mut set = document::object(&set).clone();
    if let Some(Value::String(data)) = set.get_mut("rrdatas").and_then(|data| data.get_mut(0))
        && let Some(next) = next(data)
    {
        *data = next;
        change.put(key, Value::Object(set));
    }
}

/// One more, by the arithmetic of serial numbers: after the greatest comes the least (RFC 1982).
fn next(data: &str) -> Option<String> {
    let mut words: Vec<&str> = data.split_whitespace().collect();
    let next = words.get(PLACE)?.parse::<u32>().ok()?.wrapping_add(1).to_string();
    *words.get_mut(PLACE)? = &next;
    Some(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn only_the_serial_number_rises() {
        assert_eq!(next("ns. host. 7 1 2 3 4").as_deref(), Some("ns. host. 8 1 2 3 4"));
        assert_eq!(next("ns.  host. 4294967295 1 2 3 4").as_deref(), Some("ns. host. 0 1 2 3 4"));
        assert_eq!(next("ns. host. x 1 2 3 4"), None);
        assert_eq!(next("ns."), None);
    }
}
