//! `gcloud config`.

use serde_json::{Map, Value, json};

use super::error::Failure;
use super::grammar::{Command, Group};
use super::invocation::{Display, Invocation};
use super::properties::{Properties, locate};

pub fn group() -> Group {
    let property = "SECTION/PROPERTY, or a property of the section core.";
    Group::new("config", "View and edit properties.")
        .command(
            Command::new("set", "Set a property.", set)
                .arg("SECTION/PROPERTY", property)
                .arg("VALUE", "Its value."),
        )
        .command(Command::new("unset", "Unset a property.", unset).arg("SECTION/PROPERTY", property))
        .command(Command::new("get", "Print the value of a property.", get).arg("SECTION/PROPERTY", property))
        .command(
            Command::new("get-value", "Print the value of a property.", get)
                .arg("SECTION/PROPERTY", property),
        )
        .command(Command::new("list", "List properties.", list))
}

const PROPERTY: &str = "SECTION/PROPERTY";

fn change(inv: &Invocation<'_>, value: Option<&str>) -> Result<(), Failure> {
    let (section, name) = locate(inv.args.name(PROPERTY)).map_err(Failure::new)?;
    let mut properties: Properties = inv.properties.clone();
    properties
        .set(&section, &name, value)
        .map_err(|error| Failure::new(format!("Cannot write the configuration: {error}")))?;
    if let Some(variable) = properties.overridden_by(&section, &name) {
        inv.warn(&format!("Property [{name}] is overridden by environment setting [{variable}]"));
    }
    let did = if value.is_some() { "Updated" } else { "Unset" };
    inv.status(&format!("{did} property [{section}/{name}]."));
    Ok(())
}

fn set(inv: &Invocation<'_>) -> Result<(), Failure> {
    change(inv, Some(inv.args.name("VALUE")))
}

fn unset(inv: &Invocation<'_>) -> Result<(), Failure> {
    change(inv, None)
}

fn get(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (section, name) = locate(inv.args.name(PROPERTY)).map_err(Failure::new)?;
    match inv.properties.get(&section, &name) {
        Some(value) => inv.printer.line(value),
        None => inv.status("(unset)"),
    }
    Ok(())
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let sections = inv.properties.sections();
    if !inv.is_default_format() {
        let all: Map<String, Value> =
            sections.into_iter().map(|(name, values)| (name, json!(values))).collect();
        return inv.show(&Value::Object(all), Display::YAML);
    }
    for (section, values) in sections {
        inv.printer.line(&format!("[{section}]"));
        values.iter().for_each(|(name, value)| inv.printer.line(&format!("{name} = {value}")));
    }
    inv.status("\nYour active configuration is: [default]");
    Ok(())
}
