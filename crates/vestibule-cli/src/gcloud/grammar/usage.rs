//! What gcloud says to a command line it does not understand.

use super::command::{Command, Flag, Group, Rule};
use super::known;
use super::matching::closest;

/// gcloud wraps usage at this many columns.
const WIDTH: usize = 80;

/// The last lines of many complaints.
const SEARCH_HELP: &str = "To search the help text of gcloud commands, run:\n  gcloud help -- SEARCH_TERMS";

/// A command line that cannot be run. `text` is what goes to stderr after `ERROR: `.
#[derive(Debug, Clone)]
pub struct Misuse {
    pub text: String,
    /// 2 for words that make no sense, 1 for words that make sense but cannot be served.
    pub exit_code: u8,
}

impl Misuse {
    /// A complaint alone.
    pub fn plain(path: &[&str], message: String) -> Misuse {
        Misuse { text: format!("({}) {message}", path.join(".")), exit_code: 2 }
    }

    /// Understood, but not to be had here.
    pub fn failure(path: &[&str], message: String) -> Misuse {
        Misuse { exit_code: 1, ..Misuse::plain(path, message) }
    }

    /// A complaint with the command's usage.
    pub fn usage(path: &[&str], command: &Command, inherited: &[&Flag], message: String) -> Misuse {
        let line = path.join(" ");
        let text = format!(
            "{message}\nUsage: {line}{}\n\nFor detailed information on this command and its flags, run:\n  {line} --help",
            usage_lines(path, command, inherited)
        );
        Misuse::plain(path, text)
    }

    /// Words that belong to no flag or positional.
    pub fn unrecognized(path: &[&str], words: &[String]) -> Misuse {
        let message = match words {
            [one] => format!("unrecognized arguments: {one} \n\n{SEARCH_HELP}"),
            many => format!("unrecognized arguments:\n  {}\n  {SEARCH_HELP}", many.join("\n  ")),
        };
        Misuse::plain(path, message)
    }
}

/// A word that is no command of `group`.
pub fn unknown_command(path: &[&'static str], group: &Group, word: &str, rest: &[String]) -> Misuse {
    let groups = group.groups.iter().map(|g| g.name);
    let commands = group.commands.iter().map(|c| c.name);
    if known::members(path).any(|name| name == word) {
        return Misuse::failure(
            path,
            format!("Vestibule does not implement the command `{} {word}`.", path.join(" ")),
        );
    }
    let mut message = format!("Invalid choice: '{word}'.");
    let near = closest(word, groups.chain(commands));
    let near_group = near.and_then(|name| group.groups.iter().find(|g| g.name == name));
    let (base, listed) = match near_group {
        Some(sub) => {
            (format!("{} {}", path.join(" "), sub.name), command_names(&[path, &[sub.name]].concat(), sub))
        }
        None => (path.join(" "), command_names(path, group)),
    };
    // The words that follow may name the command that was meant.
    let wanted = rest.iter().find(|w| !w.starts_with('-')).map(String::as_str);
    let (first, others): (Vec<&str>, Vec<&str>) = listed.into_iter().partition(|name| Some(*name) == wanted);
    let lines: Vec<String> = first.into_iter().chain(others).map(|name| format!("  {base} {name}")).collect();
    if !lines.is_empty() {
        message += &format!("\nMaybe you meant:\n{}", lines.join("\n"));
    }
    Misuse::plain(path, format!("{message}\n\n{SEARCH_HELP}"))
}

fn command_names(path: &[&'static str], group: &Group) -> Vec<&'static str> {
    let mut names: Vec<&str> = group.commands.iter().map(|c| c.name).chain(known::commands(path)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A group named without a command.
pub fn missing_command(path: &[&'static str], group: &Group) -> Misuse {
    let line = path.join(" ");
    let mut text = String::from("Command name argument expected.\n");
    let sections = [
        ("command groups", group.groups.iter().map(|g| (g.name, g.summary)).collect::<Vec<_>>()),
        ("commands", group.commands.iter().map(|c| (c.name, c.summary)).collect()),
    ];
    for (title, mut entries) in sections {
        if entries.is_empty() {
            continue;
        }
        entries.sort_unstable();
        text += &format!("\nAvailable {title} for {line}:\n\n");
        let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(22);
        for (name, summary) in entries {
            text += &hanging(&format!("      {name:width$}  "), summary, width + 8);
        }
    }
    text += &format!("\nFor detailed information on this command and its flags, run:\n  {line} --help");
    Misuse::plain(path, text)
}

/// Text wrapped behind a head, later lines indented.
pub fn hanging(head: &str, text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut line = head.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out += line.trim_end();
            out.push('\n');
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line += word;
        empty = false;
    }
    out += line.trim_end();
    out.push('\n');
    out
}

/// ` NAME --required=REQUIRED (--a=A | --b=B) [optional flags]` and the list of optional flags.
fn usage_lines(path: &[&str], command: &Command, inherited: &[&Flag]) -> String {
    let mut line = String::new();
    match command.usage_head {
        Some("") => {}
        Some(head) => line += &format!(" {head}"),
        None => command
            .positionals
            .iter()
            .for_each(|p| line += &format!(" {}", positional_shape(p.name, p.required, p.many))),
    }
    let mut required: Vec<&Flag> = command.flags.iter().filter(|f| f.required).collect();
    required.sort_by_key(|f| f.name);
    for flag in required {
        let short = flag.short.map_or(String::new(), |s| format!(", -{s} {}", flag.placeholder()));
        line += &format!(" --{}={}{short}", flag.name, flag.placeholder());
    }
    for rule in &command.rules {
        if let Rule::OneOf(sets) = rule {
            let sets: Vec<String> = sets.iter().map(|set| shapes(command, set)).collect();
            line += &format!(" ({})", sets.join(" | "));
        }
    }
    line + " [optional flags]\n" + &optional_flags(path, command, inherited)
}

fn positional_shape(name: &str, required: bool, many: bool) -> String {
    match (required, many) {
        (true, true) => format!("{name} [{name} ...]"),
        (true, false) => name.to_owned(),
        (false, true) => format!("[{name} ...]"),
        (false, false) => format!("[{name}]"),
    }
}

fn shapes(command: &Command, names: &[&str]) -> String {
    let shape = |name: &&str| match command.flags.iter().find(|f| f.name == *name) {
        Some(flag) if !flag.takes_value() => flag.shown(),
        Some(flag) => format!("--{name}={}", flag.placeholder()),
        None => format!("--{name}={}", name.replace('-', "_").to_uppercase()),
    };
    names.iter().map(shape).collect::<Vec<_>>().join(" ")
}

fn optional_flags(path: &[&str], command: &Command, inherited: &[&Flag]) -> String {
    let own = command.flags.iter().filter(|f| !f.required && !f.hidden);
    let above = inherited.iter().copied().filter(|f| !f.hidden && !f.global);
    let mut names: Vec<(String, String)> = own.chain(above).map(|f| (f.name.to_owned(), f.shown())).collect();
    // Flags that are required or left out on purpose do not come back by this door.
    let own = |name: &str| command.flags.iter().any(|f| f.name == name);
    names.extend(
        known::flags(path).filter(|name| !own(name)).map(|name| (name.to_owned(), format!("--{name}"))),
    );
    names.push(("help".into(), "--help".into()));
    names.sort();
    names.dedup_by(|a, b| a.0 == b.0);
    let mut lines = Vec::new();
    let mut line = String::new();
    for (index, (_, shown)) in names.iter().enumerate() {
        let piece = if index + 1 < names.len() { format!("{shown} |") } else { shown.clone() };
        if !line.is_empty() && 25 + line.len() + 1 + piece.len() > WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += &piece;
    }
    lines.push(line);
    format!("  optional flags may be  {}", lines.join(&format!("\n{}", " ".repeat(25))))
}
