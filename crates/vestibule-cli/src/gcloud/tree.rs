//! The commands as data, and the flags of all of them.

use super::grammar::{Command, Flag, Group};
use super::invocation::Invocation;
use super::{
    GCLOUD_VERSION, auth, compute, config, dns, iam, located, logging, projects, run, secrets, services,
};
use crate::gcloud::error::Failure;

/// All commands.
pub fn root() -> Group {
    Group::new("gcloud", "Manage the private cloud of a running `vestibule serve`, with the words of gcloud.")
        .group(auth::group())
        .group(located::certificate_manager())
        .group(compute::group())
        .group(config::group())
        .group(dns::group())
        .group(iam::group())
        .group(logging::group())
        .group(located::network_security())
        .group(projects::group())
        .group(run::group())
        .group(secrets::group())
        .group(services::group())
        .command(Command::new("version", "Print version information.", version))
}

/// The flags of every command. Those without a use here are accepted, because scripts have them.
pub fn globals() -> Vec<Flag> {
    let plain = |name, help| Flag::text(name, help);
    vec![
        plain(
            "project",
            "The project. Default: CLOUDSDK_CORE_PROJECT, the property core/project, local-project.",
        ),
        plain("format", "How to print: json, yaml, table(…), value(…), csv(…), list, text, none."),
        Flag::list("flatten", "Prints a resource for each element under the key.").metavar("KEY"),
        Flag::switch("quiet", "Answers every question with its default.").short('q'),
        plain("impersonate-service-account", "Acts as this service account."),
        plain("access-token-file", "A file with the access token to send."),
        plain("api", "Where `vestibule serve` listens. Default: VESTIBULE_API, http://127.0.0.1:8470."),
        plain("account", "Accepted; the token decides who you are."),
        plain("billing-project", "Accepted; nothing is billed."),
        plain("configuration", "Accepted; there is one configuration."),
        plain("trace-token", "Accepted; nothing is traced."),
        plain("verbosity", "Accepted; errors and warnings are always shown."),
        Flag::switch("log-http", "Accepted; requests are not shown."),
        Flag::toggle("user-output-enabled", "Accepted; output is always shown."),
    ]
    .into_iter()
    // gcloud's usage lines leave the global flags out.
    .map(Flag::hidden_in_usage)
    .collect()
}

/// The flags of every `list`.
pub fn list_flags() -> Vec<Flag> {
    vec![
        Flag::text("filter", "Only resources that fit, such as 'region:us-central1 AND name~^web'.")
            .metavar("EXPRESSION"),
        Flag::list("sort-by", "Fields to sort by; ~ in front sorts the other way.").metavar("FIELD"),
        Flag::int("limit", "The most resources to list."),
        Flag::int("page-size", "Accepted; pages do not show."),
        Flag::switch("uri", "Prints links instead."),
    ]
}

pub fn version_text() -> String {
    format!("Google Cloud SDK {GCLOUD_VERSION}\nvestibule {}\n", env!("CARGO_PKG_VERSION"))
}

fn version(inv: &Invocation<'_>) -> Result<(), Failure> {
    inv.printer.data(&version_text());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that stands twice would make one of the two unreachable.
    #[test]
    fn names_are_unique() {
        fn check(group: &Group, above: &[&str]) {
            let mut names: Vec<&str> =
                group.groups.iter().map(|g| g.name).chain(group.commands.iter().map(|c| c.name)).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", group.name);
            let own: Vec<&str> = group.flags.iter().map(|f| f.name).collect();
            let inherited = [above, &own].concat();
            for command in &group.commands {
                let mut flags: Vec<&str> =
                    command.flags.iter().map(|f| f.name).chain(inherited.iter().copied()).collect();
                let count = flags.len();
                flags.sort_unstable();
                flags.dedup();
                assert_eq!(flags.len(), count, "{} {}", group.name, command.name);
            }
            group.groups.iter().for_each(|g| check(g, &inherited));
        }
        let globals = globals();
        let names: Vec<&str> = globals.iter().map(|f| f.name).collect();
        check(&root(), &names);
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn check(group: &Group) {
            assert!(group.summary.ends_with('.'), "{}", group.name);
            for command in &group.commands {
                assert!(command.summary.ends_with('.'), "{} {}", group.name, command.name);
                assert!(
                    command.flags.iter().all(|f| f.help.ends_with('.')),
                    "{} {}",
                    group.name,
                    command.name
                );
            }
            group.groups.iter().for_each(check);
        }
        check(&root());
    }
}
