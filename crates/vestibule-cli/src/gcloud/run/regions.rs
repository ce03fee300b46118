//! `gcloud run regions`.

use serde_json::Value;

use super::location_path;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::Command;
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::tree::list_flags;

const TABLE: Display = Display::new("table(locationId:label=NAME:sort=1)");

pub fn list_command() -> Command {
    Command::new("list", "View available Cloud Run regions.", list).flags(list_flags())
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let base = location_path(&inv.project(), "");
    let mut found = Vec::new();
    let mut page = String::new();
    loop {
        let answer = inv.api.get(&format!("{}?alt=json&pageSize=100{page}", base.trim_end_matches('/')))?;
        if !answer.is_success() {
            return Err(Failure::run(&answer));
        }
        found.extend(answer.body.get("locations").and_then(Value::as_array).into_iter().flatten().cloned());
        match answer.body.get("nextPageToken").and_then(Value::as_str).filter(|token| !token.is_empty()) {
            Some(token) => page = format!("&pageToken={}", crate::gcloud::query(token)),
            None => break,
        }
    }
    inv.list_with_uri(found, TABLE, &|location| location.get("name")?.as_str().map(str::to_owned))
}
