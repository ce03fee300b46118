//! `gcloud dns operations`: updates of zones.

use super::record_sets::zone_flag;
use super::{pages, shown, zone_path};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::{segment, tree::list_flags};

const OPERATION: &str = "OPERATION_ID";

const TABLE: Display =
    Display::new("table(zoneContext.oldValue.name:label=ZONE_NAME:sort=1,id,startTime,user,type)");

pub fn group() -> Group {
    Group::new("operations", "Manage your Cloud DNS operations.")
        .command(
            Command::new("describe", "Describe an operation.", describe)
                .arg(OPERATION, "The id of the operation.")
                .flag(zone_flag()),
        )
        .command(
            Command::new("list", "List Cloud DNS operations.", list)
                .flag(
                    Flag::list("zones", "The zones whose operations are listed.").metavar("ZONES").required(),
                )
                .flags(list_flags()),
        )
}

fn path(inv: &Invocation<'_>, zone: &str) -> String {
    format!("{}/operations", zone_path(inv, zone))
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let operations = path(inv, inv.args.text("zone").unwrap_or_default());
    let answer = inv.api.get(&format!("{operations}/{}?alt=json", segment(inv.args.name(OPERATION))))?;
    match answer.is_success() {
        true => inv.show(&shown(answer.body), Display::YAML),
        false => Err(Failure::http(&answer)),
    }
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut found = Vec::new();
    for zone in inv.args.list("zones").unwrap_or_default() {
        found.extend(pages(inv, &path(inv, zone), "", "operations")?);
    }
    inv.list(found, TABLE)
}
