//! `gcloud run revisions`.

use serde_json::Value;

use super::service::{CREATOR, Document};
use super::{describe, namespace_path, region, services};
use crate::gcloud::error::Failure;
use crate::gcloud::format::moment;
use crate::gcloud::grammar::{Command, Flag};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::tree::list_flags;

const SERVICE: &str = "serving.knative.dev/service";

const TABLE: Display = Display::computed(
    "table(glyph:label='',metadata.name:label=REVISION,active.yesno(yes=yes,no=''):label=ACTIVE,service:label=SERVICE:sort=1,\
     deployed:label=DEPLOYED:sort=2:reverse,deployed_by:label='DEPLOYED BY')",
    |revision, name| {
        let revision = Document(revision);
        Some(match name {
            "glyph" => Value::from(revision.glyph()),
            "active" => Value::from(revision.condition("Active")?.get("status")?.as_str()? == "True"),
            "service" => Value::from(revision.label(SERVICE)?),
            "deployed" => {
                let time = moment(revision.text("/metadata/creationTimestamp")?)?;
                Value::from(time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
            }
            "deployed_by" => Value::from(revision.annotation(CREATOR)?),
            _ => return None,
        })
    },
);

pub fn list_command() -> Command {
    Command::new("list", "List available revisions.", list)
        .flags(list_flags())
        .flag(Flag::text("service", "Only revisions of this service."))
}

pub fn describe_command() -> Command {
    Command::new("describe", "Obtain details about revisions.", describe_revision)
        .arg("REVISION", "The name of the revision.")
}

pub fn delete_command() -> Command {
    Command::new("delete", "Delete a revision.", delete)
        .arg("REVISION", "The name of the revision.")
        .flag(Flag::switch("async", "Return at once."))
}

fn collection(inv: &Invocation<'_>) -> Result<String, Failure> {
    Ok(format!("{}/revisions", namespace_path(&region(inv)?, &inv.project())))
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut target = collection(inv)?;
    if let Some(service) = inv.args.text("service") {
        target += &format!("?labelSelector={}", crate::gcloud::query(&format!("{SERVICE} = {service}")));
    }
    let found = services::collect(inv, &target)?;
    let base = inv.api.base().to_owned();
    inv.list_with_uri(found, TABLE, &|revision| {
        Some(format!("{base}{}", Document(revision).text("/metadata/selfLink")?))
    })
}

fn describe_revision(inv: &Invocation<'_>) -> Result<(), Failure> {
    let name = inv.args.name("REVISION");
    let answer = inv.api.get(&format!("{}/{name}?alt=json", collection(inv)?))?;
    match answer.status {
        404 => Err(Failure::new(format!("Cannot find revision [{name}]."))),
        _ if !answer.is_success() => Err(Failure::run(&answer)),
        _ if inv.is_default_format() => {
            inv.printer.data(&describe::revision(&answer.body));
            Ok(())
        }
        _ => inv.show(&answer.body, Display::YAML),
    }
}

fn delete(inv: &Invocation<'_>) -> Result<(), Failure> {
    let name = inv.args.name("REVISION");
    let target = format!("{}/{name}?alt=json", collection(inv)?);
    inv.confirm_or_abort(&format!("Revision [{name}] will be deleted."))?;
    inv.status(&format!("Deleting [{name}]..."));
    let answer = inv.api.call("DELETE", &target, None)?;
    if !answer.is_success() {
        inv.status("failed.");
        return Err(match answer.status {
            404 => Failure::new(format!("Revision [{name}] could not be found.")),
            _ => Failure::run(&answer),
        });
    }
    inv.status("done.");
    inv.status(&format!("Deleted revision [{name}]."));
    Ok(())
}
