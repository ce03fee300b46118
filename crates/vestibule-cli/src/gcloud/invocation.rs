//! One running gcloud command: its values, its output, its way to the API.

use std::io::{BufRead, IsTerminal};

use serde_json::Value;

use crate::gcloud::error::Failure;
use crate::gcloud::format::{Filter, Format, Names, Verdict, render};
use crate::gcloud::grammar::Args;
use crate::gcloud::properties::Properties;
use crate::http::Api;
use crate::printer::Printer;
use crate::settings::{DEFAULT_PROJECT, Environment};

/// What a command's handler is given.
pub struct Invocation<'a> {
    /// `gcloud`, `compute`, `networks`, `create`.
    pub path: Vec<&'static str>,
    pub args: Args,
    pub printer: &'a Printer,
    pub environment: &'a Environment,
    pub properties: Properties,
    pub api: Api,
}

/// How a command shows its resources when `--format` says nothing else.
#[derive(Clone, Copy)]
pub struct Display {
    pub format: &'static str,
    /// Names that are computed from a resource rather than found in it.
    pub computed: Option<fn(&Value, &str) -> Option<Value>>,
}

impl Display {
    pub const YAML: Display = Display { format: "yaml", computed: None };
    pub const NOTHING: Display = Display { format: "none", computed: None };

    pub const fn new(format: &'static str) -> Display {
        Display { format, computed: None }
    }

    pub const fn computed(format: &'static str, computed: fn(&Value, &str) -> Option<Value>) -> Display {
        Display { format, computed: Some(computed) }
    }
}

impl Invocation<'_> {
    /// `--project`, the configured one, or the default.
    pub fn project(&self) -> String {
        let given = self.args.text("project").or_else(|| self.properties.get("core", "project"));
        given.unwrap_or(DEFAULT_PROJECT).to_owned()
    }

    /// A line on stderr.
    pub fn status(&self, line: &str) {
        self.printer.note_line(line);
    }

    pub fn warn(&self, line: &str) {
        self.printer.note_line(&format!("WARNING: {line}"));
    }

    /// Whether questions must not be asked.
    fn is_quiet(&self) -> bool {
        let disabled = self
            .properties
            .get("core", "disable_prompts")
            .is_some_and(|v| !matches!(v, "0" | "false" | "False"));
        self.args.on("quiet")
            || disabled
            || !std::io::stdin().is_terminal()
            || !self.printer.err_is_terminal()
    }

    /// Asks on a terminal; anywhere else the answer is `default`.
    pub fn confirm(&self, message: &str, question: &str, default: bool) -> bool {
        if self.is_quiet() {
            return default;
        }
        let choice = if default { "Y/n" } else { "y/N" };
        self.printer.note(&format!("{message}\n\n{question} ({choice})?  "));
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        self.printer.note_line("");
        match (read, line.trim().to_lowercase().as_str()) {
            (Ok(0) | Err(_), _) => false,
            (_, "") => default,
            (_, answer) => matches!(answer, "y" | "yes"),
        }
    }

    /// Asks before something is taken away; a no ends the command.
    pub fn confirm_or_abort(&self, message: &str) -> Result<(), Failure> {
        match self.confirm(message, "Do you want to continue", true) {
            true => Ok(()),
            false => Err(Failure::new("Aborted by user.")),
        }
    }

    fn format(&self, display: Display) -> Result<Format, Failure> {
        Ok(Format::parse(self.args.text("format").unwrap_or(display.format))?)
    }

    /// Whether the command's own way to print is wanted.
    pub fn is_default_format(&self) -> bool {
        self.args.text("format").is_none_or(|format| format.trim() == "default")
    }

    /// Prints one resource.
    pub fn show(&self, resource: &Value, display: Display) -> Result<(), Failure> {
        let format = self.format(display)?;
        let names = Names::new(&Format::parse(display.format)?, display.computed);
        let resources = self.flatten(vec![resource.clone()]);
        let single = !self.args.has("flatten");
        self.printer.data(&render(&format, &resources, single, &names));
        Ok(())
    }

    /// Prints resources that a create or update made, as a list.
    pub fn show_made(&self, resources: &[Value], display: Display) -> Result<(), Failure> {
        let format = self.format(display)?;
        let names = Names::new(&Format::parse(display.format)?, display.computed);
        self.printer.data(&render(&format, resources, false, &names));
        Ok(())
    }

    /// Prints a list under `--filter`, `--sort-by`, `--limit` and `--uri`.
    pub fn list(&self, resources: Vec<Value>, display: Display) -> Result<(), Failure> {
        self.list_with_uri(resources, display, &|resource| {
            resource.get("selfLink")?.as_str().map(str::to_owned)
        })
    }

    /// As [`Invocation::list`], for resources whose link is not in `selfLink`.
    pub fn list_with_uri(
        &self,
        resources: Vec<Value>,
        display: Display,
        uri: &dyn Fn(&Value) -> Option<String>,
    ) -> Result<(), Failure> {
        let format = self.format(display)?;
        let names = Names::new(&Format::parse(display.format)?, display.computed);
        let mut resources = self.flatten(resources);
        let mut verdict = Verdict::default();
        let mut unseen = Vec::new();
        if let Some(expression) = self.args.text("filter") {
            let filter = Filter::parse(expression)?;
            resources.retain(|resource| filter.matches(resource, &names, &mut verdict));
            unseen = filter
                .keys()
                .into_iter()
                .filter(|key| !verdict.seen.iter().any(|seen| seen == key))
                .map(str::to_owned)
                .collect();
        }
        verdict.warnings.iter().for_each(|warning| self.warn(warning));
        if let Some(keys) = self.args.list("sort-by") {
            names.sort(&mut resources, keys)?;
        }
        if let Some(limit) = self.args.int("limit") {
            resources.truncate(usize::try_from(limit).unwrap_or(0));
        }
        let by_default = self.args.on("uri") || (self.is_default_format() && format.name == "table");
        if by_default && resources.is_empty() {
            self.status("Listed 0 items.");
        } else if self.args.on("uri") {
            resources.iter().filter_map(uri).for_each(|uri| self.printer.line(&uri));
        } else {
            self.printer.data(&render(&format, &resources, false, &names));
        }
        if !unseen.is_empty() {
            self.warn(&format!(
                "The following filter keys were not present in any resource : {}",
                unseen.join(", ")
            ));
        }
        Ok(())
    }

    /// `--flatten=key`: a resource for each element under the key.
    fn flatten(&self, resources: Vec<Value>) -> Vec<Value> {
        let Some(keys) = self.args.list("flatten") else { return resources };
        let mut resources = resources;
        for key in keys {
            let steps: Vec<&str> = key.trim_end_matches("[]").split('.').collect();
            resources = resources.into_iter().flat_map(|resource| spread(resource, &steps)).collect();
        }
        resources
    }
}

/// One copy of the resource for each element of the list at `steps`.
fn spread(resource: Value, steps: &[&str]) -> Vec<Value> {
    let pointer: String =
        steps.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect();
    let Some(Value::Array(items)) = resource.pointer(&pointer).cloned() else { return vec![resource] };
    let copy = |item: Value| {
        let mut copy = resource.clone();
        if let Some(place) = copy.pointer_mut(&pointer) {
            *place = item;
        }
        copy
    };
    items.into_iter().map(copy).collect()
}
