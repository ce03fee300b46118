//! `export` and `import`: resources as YAML files.

use serde_json::{Map, Value, json};

use super::backend_services::BACKEND_SERVICES;
use super::link::Kind;
use super::target_proxies::HTTPS;
use super::url_maps::URL_MAPS;
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::files::read_source;
use crate::gcloud::format::yaml_document;
use crate::gcloud::invocation::{Display, Invocation};

/// Fields that the server alone fills.
const OUTPUT_ONLY: &[&str] =
    &["creationTimestamp", "id", "kind", "region", "selfLink", "selfLinkWithId", "usedBy"];

/// How a kind is imported.
pub struct Import {
    kind: &'static Kind,
    /// `URL map`, in progress lines.
    noun: &'static str,
    /// `Url Map`, in warnings.
    title: &'static str,
    /// Fields that are cleared when the file lacks them: lists and single values.
    lists: &'static [&'static str],
    values: &'static [&'static str],
    /// A fingerprint in the file is warned of.
    warns: bool,
}

pub const URL_MAP: Import = Import {
    kind: &URL_MAPS,
    noun: "URL map",
    title: "Url Map",
    lists: &["hostRules", "pathMatchers", "tests"],
    values: &[
        "description",
        "defaultCustomErrorResponsePolicy",
        "defaultRouteAction",
        "defaultService",
        "defaultUrlRedirect",
        "headerAction",
    ],
    warns: true,
};

pub const TARGET_HTTPS_PROXY: Import = Import {
    kind: &HTTPS,
    noun: "TargetHttpsProxy",
    title: "Target Https Proxy",
    lists: &[],
    values: &["description", "serverTlsPolicy", "sslPolicy"],
    warns: false,
};

pub const BACKEND_SERVICE: Import = Import {
    kind: &BACKEND_SERVICES,
    noun: "backend service",
    title: "Backend Service",
    lists: &["backends", "customRequestHeaders", "customResponseHeaders", "healthChecks"],
    values: &["description"],
    warns: true,
};

/// `export`: the resource without what only the server may say.
pub fn export(inv: &Invocation<'_>, kind: &Kind, positional: &str) -> Result<(), Failure> {
    let link = kind.resolve(inv, inv.args.name(positional))?;
    let mut resource = verbs::read(inv, &link)?;
    if let Value::Object(map) = &mut resource {
        map.retain(|name, _| !OUTPUT_ONLY.contains(&name.as_str()));
    }
    let text = yaml_document(&resource);
    match inv.args.text("destination").filter(|file| *file != "-") {
        None => inv.printer.data(&text),
        Some(file) => {
            let written = std::fs::write(inv.environment.path(file), text);
            written.map_err(|error| Failure::new(format!("Unable to write file [{file}]: {error}")))?;
        }
    }
    Ok(())
}

/// `import`: creates the resource, or replaces the one of that name.
pub fn import(inv: &Invocation<'_>, import: &Import, positional: &str) -> Result<(), Failure> {
    let link = import.kind.resolve(inv, inv.args.name(positional))?;
    let Value::Object(mut body) = read_source(inv)? else {
        return Err(Failure::new("a mapping was expected"));
    };
    body.insert("name".into(), json!(link.name));
    let change = match verbs::fetch(inv, &link)? {
        Err(answer) if answer.status == 404 => {
            body.remove("fingerprint");
            inv.status(&format!("Creating {}...", import.noun));
            Change::insert(link, Value::Object(body))
        }
        Err(answer) => return Err(Failure::compute(&[answer.error_message()])),
        Ok(old) => {
            inv.confirm_or_abort(&format!("{} [{}] will be overwritten.", import.title, link.name))?;
            replace(inv, import, &old, &mut body);
            inv.status(&format!("Updating {}...", import.noun));
            Change::patch(link, Value::Object(body))
        }
    };
    let made = verbs::carry_out_quietly(inv, None, vec![change])?;
    inv.status(".....done.");
    inv.show_made(&made, Display::NOTHING)
}

/// Makes the file's document one that replaces `old` as a whole.
fn replace(inv: &Invocation<'_>, import: &Import, old: &Value, body: &mut Map<String, Value>) {
    if import.warns && body.contains_key("fingerprint") {
        inv.warn(&format!(
            "An up-to-date fingerprint must be provided to update the {}. Future versions of gcloud will fail with an error \
             '412 conditionNotMet'",
            import.title
        ));
    }
    for field in ["fingerprint", "id"] {
        if let Some(value) = old.get(field) {
            body.insert(field.into(), value.clone());
        }
    }
    for field in import.lists {
        body.entry(*field).or_insert_with(|| json!([]));
    }
    for field in import.values {
        body.entry(*field).or_insert(Value::Null);
    }
}
