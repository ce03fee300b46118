//! `gcloud run configurations` and `gcloud run routes`: what Knative makes of a service, to read only.

use serde_json::Value;

use super::service::{Document, LOCATION};
use super::{namespace_path, region, services};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Group};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::tree::list_flags;

fn column(document: &Value, name: &str) -> Option<Value> {
    let document = Document(document);
    Some(Value::from(match name {
        "glyph" => document.glyph(),
        "region" => document.label(LOCATION)?,
        _ => return None,
    }))
}

const CONFIGURATIONS: Display = Display::computed(
    "table(glyph:label='',metadata.name:label=CONFIGURATION,region:label=REGION,\
     status.latestCreatedRevisionName:label='LATEST REVISION',status.latestReadyRevisionName:label='READY REVISION')",
    column,
);

const ROUTES: Display = Display::computed("table(glyph:label='',metadata.name:label=ROUTE)", column);

pub fn configurations() -> Group {
    Group::new("configurations", "View and manage your Cloud Run configurations.")
        .command(
            Command::new("list", "List available configurations.", |inv| {
                list(inv, "configurations", CONFIGURATIONS)
            })
            .flags(list_flags()),
        )
        .command(
            Command::new("describe", "Obtain details about a given configuration.", |inv| {
                describe(inv, "configuration", inv.args.name("CONFIGURATION"))
            })
            .arg("CONFIGURATION", "The name of the configuration, which is its service's."),
        )
}

pub fn routes() -> Group {
    Group::new("routes", "View and manage your Cloud Run routes.")
        .command(Command::new("list", "List routes.", |inv| list(inv, "routes", ROUTES)).flags(list_flags()))
        .command(
            Command::new("describe", "Obtain details about a given route.", |inv| {
                describe(inv, "route", inv.args.name("ROUTE"))
            })
            .arg("ROUTE", "The name of the route, which is its service's."),
        )
}

fn list(inv: &Invocation<'_>, collection: &str, display: Display) -> Result<(), Failure> {
    let target = format!("{}/{collection}", namespace_path(&region(inv)?, &inv.project()));
    let mut found = services::collect(inv, &target)?;
    found.sort_by(|a, b| Document(a).name().cmp(Document(b).name()));
    let base = inv.api.base().to_owned();
    inv.list_with_uri(found, display, &|item| {
        Some(format!("{base}{}", Document(item).text("/metadata/selfLink")?))
    })
}

fn describe(inv: &Invocation<'_>, noun: &str, name: &str) -> Result<(), Failure> {
    let target = format!("{}/{noun}s/{name}?alt=json", namespace_path(&region(inv)?, &inv.project()));
    let answer = inv.api.get(&target)?;
    match answer.status {
        404 => Err(Failure::new(format!("Cannot find {noun} [{name}]"))),
        _ if !answer.is_success() => Err(Failure::run(&answer)),
        _ => inv.show(&answer.body, Display::YAML),
    }
}
