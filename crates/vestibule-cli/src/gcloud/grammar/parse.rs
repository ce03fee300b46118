//! From words to a command and its values.

use std::collections::BTreeMap;

use super::command::{Command, Flag, Group, Kind, Rule};
use super::known;
use super::matching::closest;
use super::usage::{Misuse, missing_command, unknown_command};
use super::values::{ValueError, parse_duration, split_list, split_pairs};

/// The values of a command's flags and positionals.
#[derive(Debug, Clone, Default)]
pub struct Args {
    flags: BTreeMap<&'static str, Given>,
    positionals: BTreeMap<&'static str, Vec<String>>,
    /// What was said of each container behind its `--container`, in order.
    containers: Vec<(String, Args)>,
}

#[derive(Debug, Clone)]
enum Given {
    Switch(bool),
    Text(String),
    Number(i64),
    Fraction(f64),
    Many(Vec<String>),
    Pairs(Vec<(String, String)>),
}

/// What the words asked for.
pub enum Parsed<'t> {
    Run { path: Vec<&'static str>, command: &'t Command, args: Args },
    CommandHelp { path: Vec<&'static str>, command: &'t Command, inherited: Vec<&'t Flag> },
    GroupHelp { path: Vec<&'static str>, group: &'t Group },
    Version,
}

impl Args {
    pub fn text(&self, flag: &str) -> Option<&str> {
        match self.flags.get(flag)? {
            Given::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn int(&self, flag: &str) -> Option<i64> {
        match self.flags.get(flag)? {
            Given::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn float(&self, flag: &str) -> Option<f64> {
        match self.flags.get(flag)? {
            Given::Fraction(number) => Some(*number),
            _ => None,
        }
    }

    /// A switch that was given.
    pub fn on(&self, flag: &str) -> bool {
        self.toggle(flag) == Some(true)
    }

    /// `Some(false)` for `--no-NAME`, `None` when neither form was given.
    pub fn toggle(&self, flag: &str) -> Option<bool> {
        match self.flags.get(flag)? {
            Given::Switch(on) => Some(*on),
            _ => None,
        }
    }

    pub fn list(&self, flag: &str) -> Option<&[String]> {
        match self.flags.get(flag)? {
            Given::Many(values) => Some(values),
            _ => None,
        }
    }

    pub fn pairs(&self, flag: &str) -> Option<&[(String, String)]> {
        match self.flags.get(flag)? {
            Given::Pairs(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The containers that the command line names, each with its flags.
    pub fn containers(&self) -> &[(String, Args)] {
        &self.containers
    }

    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag)
    }

    /// Whether any of these flags was given.
    pub fn has_any(&self, flags: &[&str]) -> bool {
        flags.iter().any(|flag| self.has(flag))
    }

    /// All words of a positional.
    pub fn words(&self, positional: &str) -> &[String] {
        self.positionals.get(positional).map(Vec::as_slice).unwrap_or_default()
    }

    /// The first word of a positional.
    pub fn word(&self, positional: &str) -> Option<&str> {
        self.words(positional).first().map(String::as_str)
    }

    /// The word of a required positional; parsing has seen to it that it is there.
    pub fn name(&self, positional: &str) -> &str {
        self.word(positional).unwrap_or_default()
    }
}

/// Reads the words after `gcloud`. `globals` are the flags of every command.
pub fn parse<'t>(root: &'t Group, globals: &'t [Flag], words: &[String]) -> Result<Parsed<'t>, Misuse> {
    let mut walk = Walk { group: root, path: vec![root.name], inherited: globals.iter().collect() };
    walk.inherited.extend(&root.flags);
    let mut early = Vec::new();
    let mut index = 0;
    while index < words.len() {
        let word = words[index].as_str();
        match word {
            "--help" | "-h" => return Ok(Parsed::GroupHelp { path: walk.path, group: walk.group }),
            "--version" | "-v" if walk.path.len() == 1 => return Ok(Parsed::Version),
            _ => {}
        }
        if word.starts_with('-') && word.len() > 1 {
            // A global flag may stand before the command.
            let taken = words_of_flag(&walk.inherited, word);
            early.extend_from_slice(&words[index..(index + taken).min(words.len())]);
            index += taken;
            continue;
        }
        if let Some(command) = walk.group.commands.iter().find(|c| c.name == word) {
            let mut path = walk.path;
            path.push(command.name);
            let mut rest = early;
            rest.extend_from_slice(&words[index + 1..]);
            return Reader::new(path, command, walk.inherited).read(&rest);
        }
        match walk.group.groups.iter().find(|g| g.name == word) {
            Some(group) => walk.enter(group),
            None => return Err(unknown_command(&walk.path, walk.group, word, &words[index + 1..])),
        }
        index += 1;
    }
    Err(missing_command(&walk.path, walk.group))
}

struct Walk<'t> {
    group: &'t Group,
    path: Vec<&'static str>,
    inherited: Vec<&'t Flag>,
}

impl<'t> Walk<'t> {
    fn enter(&mut self, group: &'t Group) {
        self.group = group;
        self.path.push(group.name);
        self.inherited.extend(&group.flags);
    }
}

/// How many words a flag before the command takes up.
fn words_of_flag(flags: &[&Flag], word: &str) -> usize {
    let known = flags
        .iter()
        .find(|f| format!("--{}", f.name) == word || f.short.is_some_and(|s| format!("-{s}") == word));
    if known.is_some_and(|flag| flag.takes_value()) { 2 } else { 1 }
}

/// Reads one command's words.
struct Reader<'t> {
    path: Vec<&'static str>,
    command: &'t Command,
    inherited: Vec<&'t Flag>,
    args: Args,
    /// The container that the words are about, counted in the order of `args`.
    container: Option<usize>,
    loose: Vec<String>,
    unknown: Vec<String>,
}

impl<'t> Reader<'t> {
    fn new(path: Vec<&'static str>, command: &'t Command, inherited: Vec<&'t Flag>) -> Reader<'t> {
        let (args, loose, unknown) = (Args::default(), Vec::new(), Vec::new());
        Reader { path, command, inherited, args, container: None, loose, unknown }
    }

    fn read(mut self, words: &[String]) -> Result<Parsed<'t>, Misuse> {
        let mut words = words.iter().peekable();
        let mut only_words = false;
        while let Some(word) = words.next() {
            if only_words || !word.starts_with('-') || word == "-" {
                self.loose.push(word.clone());
            } else if word == "--" {
                only_words = true;
            } else if word == "--help" || word == "-h" {
                return Ok(Parsed::CommandHelp {
                    path: self.path,
                    command: self.command,
                    inherited: self.inherited,
                });
            } else {
                self.flag(word, &mut words)?;
            }
        }
        self.place_words();
        self.complain_of_unknown()?;
        self.check_containers()?;
        self.check_required()?;
        self.check_rules()?;
        Ok(Parsed::Run { path: self.path, command: self.command, args: self.args })
    }

    /// The flag of that name that may stand here.
    fn find(&self, name: &str) -> Option<&'t Flag> {
        let own = self.command.flags.iter().find(|f| f.name == name);
        if self.container.is_some() {
            return own.filter(|flag| self.command.of_container.contains(&flag.name));
        }
        own.or_else(|| self.inherited.iter().find(|f| f.name == name).copied())
    }

    fn find_short(&self, letter: char) -> Option<&'t Flag> {
        if self.container.is_some() {
            return None;
        }
        let own = self.command.flags.iter().find(|f| f.short == Some(letter));
        own.or_else(|| self.inherited.iter().find(|f| f.short == Some(letter)).copied())
    }

    fn flag<'w>(
        &mut self,
        word: &str,
        rest: &mut std::iter::Peekable<impl Iterator<Item = &'w String>>,
    ) -> Result<(), Misuse> {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        if name == "--container" && !self.command.of_container.is_empty() {
            let Some(container) = inline.or_else(|| rest.next().cloned()) else {
                return Err(self.usage("argument --container: expected one argument".into()));
            };
            self.begin_container(container);
            return Ok(());
        }
        let found = match name.strip_prefix("--") {
            Some(long) => self.find(long).map(|flag| (flag, true)).or_else(|| {
                let flag = self.find(long.strip_prefix("no-")?)?;
                matches!(flag.kind, Kind::Toggle).then_some((flag, false))
            }),
            None => {
                name[1..].chars().next().and_then(|letter| self.find_short(letter)).map(|flag| (flag, true))
            }
        };
        let Some((flag, positive)) = found else {
            return self.not_found(word, name.trim_start_matches('-'));
        };
        if !flag.takes_value() {
            return match inline {
                Some(value) => Err(self.argument(flag, format!("ignored explicit argument '{value}'"))),
                None => {
                    self.given().insert(flag.name, Given::Switch(positive));
                    Ok(())
                }
            };
        }
        let next_is_value = |next: &&String| !next.starts_with('-') || next.len() == 1 || is_number(next);
        let value = match inline {
            Some(value) => value,
            None => match rest.next_if(|next| next_is_value(next)) {
                Some(value) => value.clone(),
                None => return Err(self.argument(flag, "expected one argument".into())),
            },
        };
        self.store(flag, &value)
    }

    /// What follows is about this container.
    fn begin_container(&mut self, name: String) {
        let containers = &mut self.args.containers;
        let at = containers.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            containers.push((name, Args::default()));
            containers.len() - 1
        });
        self.container = Some(at);
    }

    /// Where the flags go that stand here.
    fn given(&mut self) -> &mut BTreeMap<&'static str, Given> {
        match self.container.and_then(|at| self.args.containers.get_mut(at)) {
            Some((_, args)) => &mut args.flags,
            None => &mut self.args.flags,
        }
    }

    /// Where containers are named, each flag of a container must say which it means.
    fn check_containers(&self) -> Result<(), Misuse> {
        let stray: Vec<String> = match self.args.containers.is_empty() {
            true => Vec::new(),
            false => {
                let stray = self.command.of_container.iter().filter(|flag| self.args.has(flag));
                stray.map(|flag| format!("--{flag}")).collect()
            }
        };
        match stray.is_empty() {
            true => Ok(()),
            false => Err(self.usage(format!(
                "When --container is specified {} must be specified after --container.",
                stray.join(", ")
            ))),
        }
    }

    /// A flag that gcloud has and Vestibule lacks is an error of its own; anything else is collected, as gcloud
    /// names all unknown words at once.
    fn not_found(&mut self, word: &str, name: &str) -> Result<(), Misuse> {
        let plain = name.strip_prefix("no-").unwrap_or(name);
        if known::flags(&self.path).any(|known| known == name || known == plain) {
            return Err(Misuse::failure(
                &self.path,
                format!("Vestibule does not implement the flag --{name} of this command."),
            ));
        }
        self.unknown.push(word.to_owned());
        Ok(())
    }

    fn store(&mut self, flag: &'t Flag, value: &str) -> Result<(), Misuse> {
        let given = self.value(flag, value)?;
        let all = self.given();
        match (all.get_mut(flag.name), given) {
            (Some(Given::Many(old)), Given::Many(new)) => old.extend(new),
            (Some(Given::Pairs(old)), Given::Pairs(new)) => {
                old.retain(|(key, _)| !new.iter().any(|(k, _)| k == key));
                old.extend(new);
            }
            (_, given) => {
                all.insert(flag.name, given);
            }
        }
        Ok(())
    }

    fn value(&self, flag: &Flag, value: &str) -> Result<Given, Misuse> {
        let wrong = |error: ValueError| self.argument(flag, error.0);
        match flag.kind {
            Kind::Switch | Kind::Toggle => Ok(Given::Switch(true)),
            Kind::Text => Ok(Given::Text(value.to_owned())),
            Kind::Int => match value.parse() {
                Ok(number) => Ok(Given::Number(number)),
                Err(_) => Err(self.argument(flag, format!("Value must be an integer; received: {value}"))),
            },
            Kind::Float => {
                match value.parse::<f64>() {
                    Ok(number) if number.is_finite() => Ok(Given::Fraction(number)),
                    _ => Err(self
                        .argument(flag, format!("Value must be a floating point number; received: {value}"))),
                }
            }
            Kind::Duration => {
                let seconds = parse_duration(value).map_err(wrong)?;
                Ok(Given::Number(i64::try_from(seconds).unwrap_or(i64::MAX)))
            }
            Kind::List => Ok(Given::Many(split_list(value))),
            Kind::Repeated => Ok(Given::Many(vec![value.to_owned()])),
            Kind::Pairs => Ok(Given::Pairs(split_pairs(value).map_err(wrong)?)),
            Kind::Choice(choices) => match choices.iter().find(|c| c.eq_ignore_ascii_case(value)) {
                Some(choice) => Ok(Given::Text((*choice).to_owned())),
                None => Err(self.invalid_choice(flag, value, choices)),
            },
        }
    }

    fn invalid_choice(&self, flag: &Flag, value: &str, choices: &[&str]) -> Misuse {
        let start = format!("argument --{}: Invalid choice: '{value}'.", flag.name);
        match closest(value, choices.iter().copied()) {
            Some(near) => Misuse::usage(
                &self.path,
                self.command,
                &self.inherited,
                format!("{start} Did you mean '{near}'?"),
            ),
            None => {
                Misuse::plain(&self.path, format!("{start}\n\nValid choices are [{}].", choices.join(", ")))
            }
        }
    }

    /// Hands the loose words to the positionals, in order; what is left is unknown.
    fn place_words(&mut self) {
        let mut words = std::mem::take(&mut self.loose).into_iter();
        for positional in &self.command.positionals {
            let taken: Vec<String> =
                if positional.many { words.by_ref().collect() } else { words.by_ref().take(1).collect() };
            if !taken.is_empty() {
                self.args.positionals.insert(positional.name, taken);
            }
        }
        self.unknown.extend(words);
    }

    fn complain_of_unknown(&self) -> Result<(), Misuse> {
        if self.unknown.is_empty() {
            return Ok(());
        }
        // Suggestions are gcloud's; `--api` is ours alone.
        let flags =
            self.command.flags.iter().chain(self.inherited.iter().copied()).filter(|flag| flag.name != "api");
        let mut names: Vec<String> = flags.map(Flag::shown).collect();
        names.extend(known::flags(&self.path).map(|name| format!("--{name}")));
        names.sort();
        let described = self.unknown.iter().map(|word| {
            let name = word.split('=').next().unwrap_or(word);
            let near =
                name.starts_with("--").then(|| closest(name, names.iter().map(String::as_str))).flatten();
            near.map_or_else(|| word.clone(), |near| format!("{word} (did you mean '{near}'?)"))
        });
        Err(Misuse::unrecognized(&self.path, &described.collect::<Vec<_>>()))
    }

    fn check_required(&self) -> Result<(), Misuse> {
        let mut missing: Vec<String> = Vec::new();
        let words =
            self.command.positionals.iter().filter(|p| p.required && self.args.words(p.name).is_empty());
        missing.extend(
            words.map(|p| if p.many { format!("{} [{} ...]", p.name, p.name) } else { p.name.to_owned() }),
        );
        let flags = self.command.flags.iter().filter(|f| f.required && !self.args.has(f.name));
        missing.extend(flags.map(|f| format!("--{}", f.name)));
        match missing.is_empty() {
            true => Ok(()),
            false => Err(self.usage(format!("argument {}: Must be specified.", missing.join(" ")))),
        }
    }

    fn check_rules(&self) -> Result<(), Misuse> {
        let all = std::iter::once(&self.args).chain(self.args.containers.iter().map(|(_, args)| args));
        // A rule that asks for a flag is about the command, one that forbids two at once about each container too.
        all.enumerate().try_for_each(|(at, args)| {
            let rules =
                self.command.rules.iter().filter(|rule| at == 0 || matches!(rule, Rule::Exclusive(_)));
            rules.into_iter().try_for_each(|rule| self.check_rule(args, rule))
        })
    }

    fn check_rule(&self, args: &Args, rule: &Rule) -> Result<(), Misuse> {
        let given = |sets: &[Vec<&'static str>]| sets.iter().filter(|set| args.has_any(set)).count();
        match rule {
            Rule::Exclusive(sets) if given(sets) > 1 => {
                let first =
                    sets.iter().find(|set| args.has_any(set)).map_or(String::new(), |set| self.dashed(set));
                let all: Vec<String> = sets.iter().map(|set| self.dashed(set)).collect();
                Err(self
                    .usage(format!("argument {first}: At most one of {} can be specified.", all.join(" | "))))
            }
            Rule::OneOf(sets) if given(sets) != 1 => {
                let all: Vec<String> = sets.iter().map(|set| self.dashed(set)).collect();
                Err(self.usage(format!("Exactly one of ({}) must be specified.", all.join(" | "))))
            }
            Rule::AnyOf(flags) if !args.has_any(flags) => {
                let all: Vec<String> = flags.iter().map(|f| format!("--{f}")).collect();
                Err(self.usage(format!("At least one of {} must be specified.", all.join(" | "))))
            }
            _ => Ok(()),
        }
    }

    fn dashed(&self, names: &[&str]) -> String {
        let kind =
            |name: &str| self.command.flags.iter().find(|flag| flag.name == name).map(|flag| flag.kind);
        let shown = names.iter().map(|name| match kind(name) {
            Some(Kind::Toggle) => format!("--[no-]{name}"),
            _ => format!("--{name}"),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    fn argument(&self, flag: &Flag, why: String) -> Misuse {
        self.usage(format!("argument --{}: {why}", flag.name))
    }

    fn usage(&self, message: String) -> Misuse {
        Misuse::usage(&self.path, self.command, &self.inherited, message)
    }
}

fn is_number(word: &str) -> bool {
    word.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, Flag, Group};
    use super::*;

    fn parsed(words: &str) -> Result<Args, Misuse> {
        let deploy = Command::new("deploy", "Deploys.", |_| Ok(()))
            .optional_arg("SERVICE", "Its name.")
            .flag(Flag::text("region", "Where."))
            .container_flags([Flag::text("image", "What."), Flag::list("args", "How.")]);
        let root = Group::new("gcloud", "All.").command(deploy);
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        match parse(&root, &[], &words)? {
            Parsed::Run { args, .. } => Ok(args),
            _ => panic!("not a command"),
        }
    }

    #[test]
    fn flags_behind_a_container_are_its_own() {
        let words =
            "deploy web --region=r --container=a --image=x --args=1 --container b --image y --args=2,3";
        let args = parsed(words).unwrap();
        assert_eq!((args.name("SERVICE"), args.text("region"), args.text("image")), ("web", Some("r"), None));
        let [(a, of_a), (b, of_b)] = args.containers() else { panic!("not two containers") };
        assert_eq!((a.as_str(), of_a.text("image")), ("a", Some("x")));
        assert_eq!((b.as_str(), of_b.text("image")), ("b", Some("y")));
        assert_eq!(of_b.list("args").unwrap(), ["2", "3"]);
        // Named again, it goes on.
        let args = parsed("deploy --container=a --image=x --container=b --container=a --args=1").unwrap();
        assert_eq!(args.containers()[0].1.list("args").unwrap(), ["1"]);
    }

    #[test]
    fn a_flag_must_say_which_container_it_means() {
        let error = parsed("deploy --image=x --container=a --image=y").unwrap_err();
        assert!(error.text.contains("When --container is specified --image must be"), "{}", error.text);
        let error = parsed("deploy --container=a --region=r").unwrap_err();
        assert!(error.text.contains("unrecognized arguments: --region=r"), "{}", error.text);
        assert!(parsed("deploy --container").is_err());
        assert_eq!(parsed("deploy --image=x").unwrap().text("image"), Some("x"));
    }
}
