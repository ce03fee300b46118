//! Files on the command line: `--source`, `--destination`, certificates.

use std::io::Read;

use serde_json::Value;

use crate::gcloud::error::Failure;
use crate::gcloud::grammar::Flag;
use crate::gcloud::invocation::Invocation;

pub fn source_flag() -> Flag {
    Flag::text("source", "The YAML file. Default: standard input.").metavar("PATH")
}

pub fn destination_flag() -> Flag {
    Flag::text("destination", "The YAML file to write. Default: standard output.").metavar("PATH")
}

/// A file's text, with gcloud's words when it cannot be had.
pub fn read_file(inv: &Invocation<'_>, file: &str) -> Result<String, Failure> {
    std::fs::read_to_string(inv.environment.path(file))
        .map_err(|error| Failure::new(unreadable(file, &error)))
}

/// `Unable to read file […]`, with the words of the operating system.
pub fn unreadable(file: &str, error: &std::io::Error) -> String {
    let words = match error.kind() {
        std::io::ErrorKind::NotFound => "[Errno 2] No such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "[Errno 13] Permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "[Errno 21] Is a directory".to_owned(),
        _ => error.to_string(),
    };
    format!("Unable to read file [{file}]: {words}: '{file}'")
}

/// The document of `--source`, or of standard input.
pub fn read_source(inv: &Invocation<'_>) -> Result<Value, Failure> {
    let (name, text) = match inv.args.text("source").filter(|name| *name != "-") {
        Some(name) => (name, read_file(inv, name)?),
        None => {
            let mut text = String::new();
            let read = std::io::stdin().lock().read_to_string(&mut text);
            read.map_err(|error| Failure::new(format!("Unable to read standard input: {error}")))?;
            ("-", text)
        }
    };
    parse_yaml(name, &text)
}

/// One YAML (or JSON) document that is a mapping.
pub fn parse_yaml(name: &str, text: &str) -> Result<Value, Failure> {
    let value: Value = serde_yaml_ng::from_str(text)
        .map_err(|error| Failure::new(format!("Failed to parse YAML from [{name}]: {error}")))?;
    match value.is_object() {
        true => Ok(value),
        false => Err(Failure::new(format!("Failed to parse YAML from [{name}]: a mapping was expected"))),
    }
}
