//! `requestId`: the same request sent twice has one effect.
//!
//! Clients that lose an answer repeat the call with the same id. The id is therefore written down in the transaction
//! of the change itself, beside the operation, and lives exactly as long as the operation does.

use serde_json::{Value, json};

use crate::{Change, Error};

const ZERO: &str = "00000000-0000-0000-0000-000000000000";

/// Refuses what is no UUID (RFC 9562), and the zero UUID.
pub fn check(id: &str) -> Result<(), Error> {
    let shaped = id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if shaped && id != ZERO {
        return Ok(());
    }
    Err(Error::invalid("requestId", id, "Must be a valid, non-zero UUID."))
}

/// The operation that this request made before, as its key. `asked` says what is asked for now: an id that stood for
/// something else is refused.
pub fn earlier(change: &Change<'_>, project: &str, id: &str, asked: &str) -> Result<Option<String>, Error> {
    let Some(record) = change.get(&key(project, id)) else { return Ok(None) };
    if record["asked"] != asked {
        return Err(Error::invalid("requestId", id, "The ID was already used for a different request."));
    }
    let operation = record["operation"].as_str().unwrap_or_default();
    Ok(change.exists(operation).then(|| operation.to_owned()))
}

/// Writes down that this request made this operation.
pub fn remember(change: &mut Change<'_>, project: &str, id: &str, asked: &str, operation: &str) {
    let record: Value = json!({ "asked": asked, "operation": operation });
    change.put(&key(project, id), record);
}

/// Forgets a request, when its operation goes.
pub fn forget(change: &mut Change<'_>, project: &str, id: &str) {
    change.delete(&key(project, id));
}

fn key(project: &str, id: &str) -> String {
    format!("requests/{project}/{}", id.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids() {
        assert!(check("6a0d1b2c-3d4e-5f60-7182-93a4b5c6d7e8").is_ok());
        for bad in
            ["", "x", ZERO, "6a0d1b2c3d4e5f60718293a4b5c6d7e8aaaa", "6a0d1b2c-3d4e-5f60-7182-93a4b5c6d7eg"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
