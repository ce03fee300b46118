//! `gcloud run services`: list, describe, delete.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::deploy::service_name;
use super::rollout::Place;
use super::service::{Document, LAST_MODIFIER, LOCATION};
use super::{describe, location_path, namespace_path, region};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::tree::list_flags;

/// How long a deleted service may take to go.
const DELETE_LIMIT: Duration = Duration::from_secs(5 * 60);

const TABLE: Display = Display::computed(
    "table(glyph:label='',metadata.name:label=SERVICE,region:label=REGION,url:label=URL,last_deployed_by:label='LAST DEPLOYED BY',\
     last_deployed_at:label='LAST DEPLOYED AT')",
    |service, name| {
        let service = Document(service);
        let text = match name {
            "glyph" => service.glyph().to_owned(),
            "region" => service.label(LOCATION)?.to_owned(),
            "url" => service.url()?,
            "last_deployed_by" => service.annotation(LAST_MODIFIER)?.to_owned(),
            "last_deployed_at" => service.condition("Ready")?.get("lastTransitionTime")?.as_str()?.to_owned(),
            _ => return None,
        };
        Some(Value::String(text))
    },
);

pub fn list_command() -> Command {
    Command::new("list", "List available Cloud Run services.", list)
        .about("Without --region, the services of all regions.")
        .flags(list_flags())
}

pub fn describe_command() -> Command {
    Command::new("describe", "Obtain details about a given service.", describe_service)
        .about("--format=export prints what `services replace` takes.")
        .optional_arg("SERVICE", "The name of the service.")
}

pub fn delete_command() -> Command {
    Command::new("delete", "Delete a Cloud Run service.", delete)
        .optional_arg("SERVICE", "The name of the service.")
        .flag(Flag::switch("async", "Return at once."))
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let project = inv.project();
    let target = match region(inv) {
        Ok(region) => format!("{}/services", namespace_path(&region, &project)),
        Err(_) => format!("{}/services", location_path(&project, "-")),
    };
    let mut found = collect(inv, &target)?;
    found.sort_by(|a, b| Document(a).name().cmp(Document(b).name()));
    let base = inv.api.base().to_owned();
    inv.list_with_uri(found, TABLE, &|service| {
        Some(format!(
            "{base}/apis/serving.knative.dev/v1/namespaces/{project}/services/{}",
            Document(service).name()
        ))
    })
}

/// All items of a Knative list.
pub fn collect(inv: &Invocation<'_>, target: &str) -> Result<Vec<Value>, Failure> {
    let joint = if target.contains('?') { '&' } else { '?' };
    let mut found = Vec::new();
    let mut page = String::new();
    loop {
        let answer = inv.api.get(&format!("{target}{joint}alt=json{page}"))?;
        if !answer.is_success() {
            return Err(Failure::run(&answer));
        }
        found.extend(answer.body.get("items").and_then(Value::as_array).into_iter().flatten().cloned());
        match answer
            .body
            .pointer("/metadata/continue")
            .and_then(Value::as_str)
            .filter(|token| !token.is_empty())
        {
            Some(token) => page = format!("&continue={}", crate::gcloud::query(token)),
            None => return Ok(found),
        }
    }
}

fn describe_service(inv: &Invocation<'_>) -> Result<(), Failure> {
    let place = Place { project: inv.project(), service: service_name(inv)?, region: region(inv)? };
    let Some(service) = place.read(inv)? else {
        return Err(Failure::new(format!("Cannot find service [{}]", place.service)));
    };
    match inv.args.text("format").map(str::trim) {
        None | Some("default") => inv.printer.data(&describe::service(&service)),
        Some("export") => inv.printer.data(&describe::export(&service)),
        Some(_) => inv.show(&service, Display::YAML)?,
    }
    Ok(())
}

fn delete(inv: &Invocation<'_>) -> Result<(), Failure> {
    let place = Place { project: inv.project(), service: service_name(inv)?, region: region(inv)? };
    inv.confirm_or_abort(&format!("Service [{}] will be deleted.", place.service))?;
    let later = inv.args.on("async");
    if !later {
        inv.status(&format!("Deleting [{}]...", place.service));
    }
    let answer = inv.api.call("DELETE", &format!("{}?alt=json", place.path()), None)?;
    if !answer.is_success() {
        if !later {
            inv.status("failed.");
        }
        return Err(match answer.status {
            404 => Failure::new(format!("Service [{}] could not be found.", place.service)),
            _ => Failure::run(&answer),
        });
    }
    if later {
        inv.status(&format!("Service [{}] is being deleted.", place.service));
        return Ok(());
    }
    let start = Instant::now();
    while place.read(inv)?.is_some() {
        if start.elapsed() > DELETE_LIMIT {
            return Err(Failure::new(format!(
                "Service [{}] was not gone within {} minutes.",
                place.service,
                DELETE_LIMIT.as_secs() / 60
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    inv.status("done.");
    inv.status(&format!("Deleted service [{}].", place.service));
    Ok(())
}
