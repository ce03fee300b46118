//! Vestibule's own commands, and the way to each.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::printer::{Printer, Tone};
use crate::settings::{Environment, VARIABLES};
use crate::{doctor, env, explain, gcloud, tour, vm};

/// A private cloud with an internal application load balancer and serverless backends, driven by the tools you know.
#[derive(Parser)]
#[command(name = "vestibule", version, disable_help_subcommand = true, after_long_help = variables())]
struct App {
    #[command(flatten)]
    api: ApiFlag,
    #[command(subcommand)]
    command: Command,
}

/// Where `vestibule serve` listens.
#[derive(Args, Clone)]
pub struct ApiFlag {
    /// Where `vestibule serve` listens [default: $VESTIBULE_API, or http://127.0.0.1:8470]
    #[arg(long, value_name = "URL", global = true)]
    pub api: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Show what Vestibule does: set up a private cloud, send it real requests, take it down
    ///
    /// Runs `serve` in a temporary folder and walks through a published set-up command by command: services, serverless
    /// network endpoint groups, backend services, URL map, HTTP and HTTPS proxies, forwarding rules, private DNS. Then it
    /// sends requests as a client inside the VPC would, with and without identity tokens, and shows the log entries. The
    /// exit code is 0 only if every step did what it should.
    Tour(tour::Options),
    /// Run the private cloud: APIs, load balancer, DNS, serverless runtime, logs (see `vestibule serve --help`)
    #[command(disable_help_flag = true)]
    Serve {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        words: Vec<OsString>,
    },
    /// Container images: load, pull, list, prune (see `vestibule images --help`)
    #[command(disable_help_flag = true)]
    Images {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        words: Vec<OsString>,
    },
    /// Print `export` lines that point gcloud, Terraform and Google's client libraries at a running `serve`
    ///
    /// Use it as: eval "$(vestibule env)". The token that the lines name is one that Vestibule takes for the local user; a
    /// credential file is written into the state folder.
    Env(env::Options),
    /// The words of gcloud, answered in milliseconds (see `vestibule gcloud --help`)
    ///
    /// A link to this binary named `gcloud` behaves so by itself.
    #[command(disable_help_flag = true)]
    Gcloud {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
        words: Vec<OsString>,
    },
    /// Clients inside a VPC network
    #[command(subcommand)]
    Vm(vm::Command),
    /// Tell which way a request would take, and which check would refuse it
    ///
    /// Nothing is sent. Exit code 0 if the way could be told, whether it ends well or not (--format=json says so under
    /// `outcome` and `refusedBy`); 1 if there is none to tell: the URL is none, the network does not exist, or the
    /// server is not there.
    Explain(explain::Options),
    /// Tell what this machine allows, and what to do about what is missing
    Doctor(doctor::Options),
}

/// The program that Google's gcloud starts for `run services proxy`. A link to this binary of that name takes its place.
pub const PROXY: &str = "cloud-run-proxy";

/// Runs a client command: the words of the process, its own name first.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let printer = Printer::stdio();
    let mut environment = Environment::of_process();
    let program = args.first().map(Path::new).and_then(Path::file_name);
    if program.is_some_and(|name| name == "gcloud") {
        return run_gcloud(&args[1..], &environment, &printer);
    }
    if program.is_some_and(|name| name == PROXY) {
        let words: Vec<String> = args[1..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
        return ExitCode::from(gcloud::run_proxy(&words, &environment, &printer));
    }
    // gcloud's words are its own: clap must not look at them.
    if let Some(at) = gcloud_at(&args) {
        if let Some(api) = api_before(&args[1..at]) {
            environment.set("VESTIBULE_API", api);
        }
        return run_gcloud(&args[at + 1..], &environment, &printer);
    }
    let app = match App::try_parse_from(args) {
        Ok(app) => app,
        Err(error) => return say_usage(&error, &printer),
    };
    if let Some(api) = &app.api.api {
        environment.set("VESTIBULE_API", api.clone());
    }
    let outcome = match app.command {
        Command::Tour(options) => tour::run(&options, &printer),
        Command::Env(options) => env::run(&options, &environment, &printer).map(|()| 0),
        Command::Vm(command) => vm::run(command, &environment, &printer),
        Command::Explain(options) => explain::run(&options, &environment, &printer),
        Command::Doctor(options) => doctor::run(&options, &environment, &printer).map(|()| 0),
        Command::Gcloud { words } => return run_gcloud(&words, &environment, &printer),
        Command::Serve { .. } | Command::Images { .. } => {
            Err("that command is not part of this program".to_owned())
        }
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            printer.note_line(&format!("{}: {message}", printer.note_tone(Tone::Bad, "error")));
            ExitCode::FAILURE
        }
    }
}

fn run_gcloud(words: &[OsString], environment: &Environment, printer: &Printer) -> ExitCode {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    ExitCode::from(gcloud::run(&words, environment, printer))
}

/// Where the word `gcloud` stands, when it is the command.
fn gcloud_at(args: &[OsString]) -> Option<usize> {
    let mut index = 1;
    loop {
        match args.get(index)?.to_str()? {
            "gcloud" => return Some(index),
            "--api" => index += 2,
            word if word.starts_with("--api=") => index += 1,
            _ => return None,
        }
    }
}

fn api_before(words: &[OsString]) -> Option<String> {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        [] => None,
        [.., "--api", url] => Some((*url).to_owned()),
        [.., last] => last.strip_prefix("--api=").map(str::to_owned),
    }
}

/// clap's own text, on the stream where it belongs.
fn say_usage(error: &clap::Error, printer: &Printer) -> ExitCode {
    let text = error.render();
    match error.use_stderr() {
        true => printer.note(&text.to_string()),
        false => printer.data(&text.to_string()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The environment variables, for the long help.
fn variables() -> String {
    let width = VARIABLES.iter().map(|variable| variable.name.len()).max().unwrap_or(0);
    let lines: Vec<String> = VARIABLES.iter().map(|v| format!("  {:width$}  {}", v.name, v.does)).collect();
    format!("Environment variables:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        use clap::CommandFactory;
        App::command().debug_assert();
    }

    #[test]
    fn finds_gcloud_behind_the_api_flag() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(gcloud_at(&words("vestibule gcloud version")), Some(1));
        assert_eq!(gcloud_at(&words("vestibule --api http://h:1 gcloud version")), Some(3));
        assert_eq!(gcloud_at(&words("vestibule env gcloud")), None);
        assert_eq!(api_before(&words("--api=http://h:1")).as_deref(), Some("http://h:1"));
        assert_eq!(api_before(&words("--api http://h:1")).as_deref(), Some("http://h:1"));
    }
}
