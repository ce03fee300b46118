//! `vestibule gcloud`: the words of gcloud, answered in milliseconds.
//!
//! [`tree`] holds the commands as data, [`grammar`] reads a command line against them, a handler turns the values into
//! calls to the API, and [`format`] prints what came back. The requests, the texts and the exit codes are those of
//! gcloud 578; where it would only cost time (three polls of a finished operation, a batch for two names), fewer
//! requests are made.

mod auth;
mod compute;
mod config;
mod dns;
mod error;
mod files;
mod format;
mod grammar;
mod iam;
mod invocation;
mod located;
mod logging;
pub mod parsers;
mod projects;
mod properties;
mod run;
mod secrets;
mod services;
mod tree;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::http::Api;
use crate::printer::Printer;
use crate::secret::Secret;
use crate::settings::{DEFAULT_API, Environment};
use error::Failure;
use grammar::{Args, Parsed};
use invocation::Invocation;
use properties::Properties;
pub use run::proxy::component::run as run_proxy;

/// The gcloud whose behaviour this follows.
pub const GCLOUD_VERSION: &str = "578.0.0";

/// Runs one command line (the words after `gcloud`) and gives the exit code.
pub fn run(words: &[String], environment: &Environment, printer: &Printer) -> u8 {
    let root = tree::root();
    let globals = tree::globals();
    let parsed = match grammar::parse(&root, &globals, words) {
        Ok(parsed) => parsed,
        Err(misuse) => {
            printer.note_line(&format!("ERROR: {}", misuse.text));
            return misuse.exit_code;
        }
    };
    match parsed {
        Parsed::GroupHelp { path, group } => printer.data(&grammar::group_help(&path, group)),
        Parsed::CommandHelp { path, command, inherited } => {
            printer.data(&grammar::command_help(&path, command, &inherited, &globals));
        }
        Parsed::Version => printer.data(&tree::version_text()),
        Parsed::Run { path, command, args } => {
            let dotted = path.join(".");
            let outcome = invocation(path, args, environment, printer).and_then(|inv| (command.run)(&inv));
            return match outcome {
                Ok(()) => 0,
                Err(failure) => report(&dotted, failure, printer),
            };
        }
    }
    0
}

fn report(dotted: &str, failure: Failure, printer: &Printer) -> u8 {
    match failure {
        Failure::Misuse(misuse) => {
            printer.note_line(&format!("ERROR: {}", misuse.text));
            misuse.exit_code
        }
        Failure::Failed(message) => {
            printer.note_line(&format!("ERROR: ({dotted}) {message}"));
            1
        }
    }
}

fn invocation<'a>(
    path: Vec<&'static str>,
    args: Args,
    environment: &'a Environment,
    printer: &'a Printer,
) -> Result<Invocation<'a>, Failure> {
    let properties = Properties::load(environment);
    let base = args.text("api").or_else(|| environment.get("VESTIBULE_API")).unwrap_or(DEFAULT_API);
    let api = Api::new(base, token(&args, environment, &properties)?);
    let mut inv = Invocation { path, args, printer, environment, properties, api };
    if let Some(account) = inv.args.text("impersonate-service-account").map(str::to_owned) {
        inv.warn(&format!(
            "This command is using service account impersonation. All API calls will be executed as [{account}]."
        ));
        // These mint a token for that account, which it cannot do for itself.
        let mints = ["print-identity-token", "proxy"].iter().any(|word| inv.path.ends_with(&[*word]));
        if !mints {
            let token = auth::impersonated_access_token(&inv, &account)?;
            inv.api = Api::new(inv.api.base(), token);
        }
    }
    Ok(inv)
}

/// The access token to send. Any will do: one that Vestibule did not mint is the local user's.
fn token(args: &Args, environment: &Environment, properties: &Properties) -> Result<Secret, Failure> {
    let file = args.text("access-token-file").or_else(|| properties.get("auth", "access_token_file"));
    match (environment.get("CLOUDSDK_AUTH_ACCESS_TOKEN"), file) {
        (Some(token), _) => Ok(Secret::new(token)),
        (None, Some(file)) => match std::fs::read_to_string(environment.path(file)) {
            Ok(text) => Ok(Secret::new(text.trim())),
            Err(error) => Err(Failure::new(files::unreadable(file, &error))),
        },
        (None, None) => Ok(Secret::new("local")),
    }
}

/// A value in a query string. A blank becomes a plus, as in gcloud's requests.
fn query(value: &str) -> String {
    const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');
    utf8_percent_encode(value, &PLAIN).to_string().replace(' ', "+")
}

/// A value as one segment of a path.
fn segment(value: &str) -> String {
    const PLAIN: AsciiSet =
        NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'*').remove(b'@');
    utf8_percent_encode(value, &PLAIN).to_string()
}
