//! Help pages, made from the grammar.

use super::command::{Command, Flag, Group, Kind, Rule};
use super::known;
use super::usage::hanging;

/// The page of one command.
pub fn command_help(path: &[&str], command: &Command, inherited: &[&Flag], globals: &[Flag]) -> String {
    let line = path.join(" ");
    let mut page = section("NAME", &paragraph(&format!("{line} - {}", lower_first(command.summary))));
    page += &section("SYNOPSIS", &hanging(&format!("    {line} "), &synopsis(command), 8));
    page += &section("DESCRIPTION", &paragraph(&[command.summary, command.description].join(" ")));
    if !command.examples.is_empty() {
        let lines: String = command.examples.iter().map(|example| format!("        $ {example}\n")).collect();
        page += &section("EXAMPLES", &lines);
    }
    if !command.positionals.is_empty() {
        let words = command.positionals.iter().map(|p| {
            let shape = if p.many { format!("{0} [{0} ...]", p.name) } else { p.name.to_owned() };
            entry(&if p.required { shape } else { format!("[{shape}]") }, p.help)
        });
        page += &section("POSITIONAL ARGUMENTS", &words.collect::<Vec<_>>().join("\n"));
    }
    let visible = |f: &&Flag| !f.hidden;
    let own: Vec<&Flag> = command.flags.iter().filter(visible).collect();
    let local = inherited.iter().copied().filter(|f| !f.hidden && !globals.iter().any(|g| g.name == f.name));
    let all: Vec<&Flag> = own.into_iter().chain(local).collect();
    let (required, optional): (Vec<&Flag>, Vec<&Flag>) = all.into_iter().partition(|f| f.required);
    page += &flag_section("REQUIRED FLAGS", required);
    page += &flag_section("FLAGS", optional);
    page += &rules(command);
    let globals: Vec<String> =
        globals.iter().filter(|f| !f.hidden).map(|f| format!("--{}", f.name)).collect();
    page += &section(
        "GCLOUD WIDE FLAGS",
        &paragraph(&format!("These flags are available to all commands: {}.", globals.join(", "))),
    );
    let have = |name: &&str| command.flags.iter().chain(inherited.iter().copied()).any(|f| f.name == *name);
    let names: Vec<String> = known::flags(path).filter(|n| !have(n)).map(|n| format!("--{n}")).collect();
    if !names.is_empty() {
        page += &section("NOT IN VESTIBULE", &paragraph(&format!("gcloud also has: {}.", names.join(", "))));
    }
    page.trim_end().to_owned() + "\n"
}

/// The page of a group.
pub fn group_help(path: &[&str], group: &Group) -> String {
    let line = path.join(" ");
    let kinds = match (group.groups.is_empty(), group.commands.is_empty()) {
        (false, false) => "GROUP | COMMAND",
        (false, true) => "GROUP",
        _ => "COMMAND",
    };
    let mut page = section("NAME", &paragraph(&format!("{line} - {}", lower_first(group.summary))));
    page += &section("SYNOPSIS", &format!("    {line} {kinds} [GCLOUD_WIDE_FLAG ...]\n"));
    page += &section("DESCRIPTION", &paragraph(group.summary));
    if group.name == "gcloud" {
        page += &section(
            "PROJECT",
            &paragraph(
                "The project is --project, else CLOUDSDK_CORE_PROJECT, else what `gcloud config set project` stored, else \
             local-project. Projects need not be created.",
            ),
        );
    }
    let mut groups: Vec<String> = group.groups.iter().map(|g| entry(g.name, g.summary)).collect();
    let mut commands: Vec<String> = group.commands.iter().map(|c| entry(c.name, c.summary)).collect();
    groups.sort();
    commands.sort();
    if !groups.is_empty() {
        page += &section("GROUPS", &groups.join("\n"));
    }
    if !commands.is_empty() {
        page += &section("COMMANDS", &commands.join("\n"));
    }
    let have = |name: &&str| {
        group.commands.iter().any(|c| c.name == *name) || group.groups.iter().any(|g| g.name == *name)
    };
    let others: Vec<&str> = known::members(path).filter(|n| !have(n)).collect();
    // At the top the list would be all of Google Cloud.
    if !others.is_empty() && path.len() > 1 {
        page += &section("NOT IN VESTIBULE", &paragraph(&format!("gcloud also has: {}.", others.join(", "))));
    }
    page.trim_end().to_owned() + "\n"
}

fn section(title: &str, body: &str) -> String {
    format!("{title}\n{body}\n")
}

fn paragraph(text: &str) -> String {
    hanging("    ", text, 4)
}

fn entry(head: &str, text: &str) -> String {
    format!("    {head}\n{}", hanging("        ", text, 8))
}

fn flag_section(title: &str, mut flags: Vec<&Flag>) -> String {
    if flags.is_empty() {
        return String::new();
    }
    flags.sort_by_key(|f| f.name);
    let entries: Vec<String> =
        flags.into_iter().map(|flag| entry(&flag_head(flag), &flag_text(flag))).collect();
    section(title, &entries.join("\n"))
}

fn flag_head(flag: &Flag) -> String {
    let short = flag.short.map_or(String::new(), |s| format!(", -{s}"));
    match flag.kind {
        Kind::Switch => format!("--{}{short}", flag.name),
        Kind::Toggle => format!("--[no-]{}{short}", flag.name),
        _ => format!("--{}={}{short}", flag.name, flag.placeholder()),
    }
}

fn flag_text(flag: &Flag) -> String {
    match flag.kind {
        Kind::Choice(choices) => format!("{} One of: {}.", flag.help, choices.join(", ")),
        Kind::Repeated => format!("{} May be given many times.", flag.help),
        _ => flag.help.to_owned(),
    }
}

fn synopsis(command: &Command) -> String {
    let mut parts: Vec<String> = Vec::new();
    for p in &command.positionals {
        let shape = if p.many { format!("{0} [{0} ...]", p.name) } else { p.name.to_owned() };
        parts.push(if p.required { shape } else { format!("[{shape}]") });
    }
    let (required, optional): (Vec<&Flag>, Vec<&Flag>) =
        command.flags.iter().filter(|f| !f.hidden).partition(|f| f.required);
    parts.extend(required.into_iter().map(flag_head));
    parts.extend(optional.into_iter().map(|f| format!("[{}]", flag_head(f))));
    parts.push("[GCLOUD_WIDE_FLAG ...]".into());
    parts.join(" ")
}

fn rules(command: &Command) -> String {
    let have = |set: &&Vec<&str>| set.iter().any(|name| command.flags.iter().any(|flag| flag.name == *name));
    let dashed = |set: &Vec<&str>| set.iter().map(|f| format!("--{f}")).collect::<Vec<_>>().join(" ");
    let joined = |sets: &[Vec<&str>]| sets.iter().filter(have).map(dashed).collect::<Vec<_>>().join("; ");
    let lines = command.rules.iter().map(|rule| match rule {
        Rule::Exclusive(sets) => format!("At most one of: {}.", joined(sets)),
        Rule::OneOf(sets) if sets.iter().filter(have).count() == 1 => {
            format!("Required: {}.", joined(sets))
        }
        Rule::OneOf(sets) => format!("Exactly one of: {}.", joined(sets)),
        Rule::AnyOf(flags) => format!("At least one of: {}.", dashed(flags)),
    });
    let body: String = lines.map(|line| paragraph(&line)).collect();
    if body.is_empty() { body } else { section("RULES", &body) }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    match (chars.next(), chars.clone().next()) {
        // "VPC network" stays as it is.
        (Some(first), Some(second)) if second.is_uppercase() => first.to_string() + chars.as_str(),
        (Some(first), _) => first.to_lowercase().to_string() + chars.as_str(),
        (None, _) => String::new(),
    }
}
