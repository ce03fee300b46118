//! `gcloud dns record-sets changes`: what was changed in a zone, and when.

use super::record_sets::zone_flag;
use super::transaction::CHANGE_TABLE;
use super::{limited, pages, shown, zone_path};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::{query, segment, tree::list_flags};

const CHANGE: &str = "CHANGE_ID";

pub fn group() -> Group {
    Group::new("changes", "View details about changes to your Cloud DNS record-sets.")
        .command(
            Command::new("describe", "View the details of a change.", describe)
                .arg(CHANGE, "The number of the change.")
                .flag(zone_flag()),
        )
        .command(
            Command::new("list", "View the list of changes that have been made to your record-sets.", list)
                .flag(zone_flag())
                .flag(Flag::choice("sort-order", &["ascending", "descending"], "Oldest or newest first."))
                .flags(list_flags()),
        )
}

fn path(inv: &Invocation<'_>) -> String {
    format!("{}/changes", zone_path(inv, inv.args.text("zone").unwrap_or_default()))
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let answer = inv.api.get(&format!("{}/{}?alt=json", path(inv), segment(inv.args.name(CHANGE))))?;
    match answer.is_success() {
        true => inv.show(&shown(answer.body), Display::YAML),
        false => Err(Failure::http(&answer)),
    }
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let order = inv.args.text("sort-order").map(|order| format!("&sortOrder={}", query(order)));
    let found = pages(inv, &path(inv), &order.unwrap_or_default(), "changes")?;
    inv.list(limited(inv, found.into_iter().map(shown).collect()), CHANGE_TABLE)
}
