//! The data of the grammar: what a command takes.

use crate::gcloud::error::Failure;
use crate::gcloud::invocation::Invocation;

/// What runs when a command was parsed.
pub type Handler = fn(&Invocation<'_>) -> Result<(), Failure>;

/// A group of commands, such as `gcloud compute networks`.
pub struct Group {
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    pub groups: Vec<Group>,
    pub commands: Vec<Command>,
    /// Flags that every command below takes.
    pub flags: Vec<Flag>,
}

/// One command.
pub struct Command {
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// What else is worth knowing; may be empty.
    pub description: &'static str,
    pub positionals: Vec<Positional>,
    pub flags: Vec<Flag>,
    pub rules: Vec<Rule>,
    /// Names of those flags that belong to one container. Where there are any, `--container=NAME` begins the part of the
    /// command line that is about the container NAME.
    pub of_container: Vec<&'static str>,
    pub examples: &'static [&'static str],
    /// gcloud's way to write the positionals in a usage line, where it is not the plain one.
    pub usage_head: Option<&'static str>,
    pub run: Handler,
}

/// A word without dashes.
pub struct Positional {
    pub name: &'static str,
    pub help: &'static str,
    pub required: bool,
    pub many: bool,
}

/// A flag.
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    /// The placeholder in help; the flag's name in capitals when empty.
    pub metavar: &'static str,
    pub required: bool,
    /// Left out of usage and help: accepted because scripts have it.
    pub hidden: bool,
    /// A one-letter form, such as `z` for `-z`.
    pub short: Option<char>,
    /// Left out of usage lines only.
    pub global: bool,
    /// Shown as `--no-NAME`, because the plain form is the default.
    pub shown_negated: bool,
}

/// What a flag's value is.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Present or not: `--async`.
    Switch,
    /// `--NAME` or `--no-NAME`.
    Toggle,
    Text,
    Int,
    Float,
    /// `10s`, `2m`, `1h30m`; kept as seconds.
    Duration,
    Choice(&'static [Choice]),
    /// `a,b,c` with gcloud's `^:^` escape.
    List,
    /// `k=v,k=v` with the same escape; later ones win, order kept.
    Pairs,
    /// A flag that may be given many times, one value each.
    Repeated,
}

/// One value a choice flag accepts: what the user types.
pub type Choice = &'static str;

/// A rule between flags. Members that belong together stand in one inner list.
pub enum Rule {
    /// At most one.
    Exclusive(Vec<Vec<&'static str>>),
    /// Exactly one.
    OneOf(Vec<Vec<&'static str>>),
    /// At least one.
    AnyOf(Vec<&'static str>),
}

impl Group {
    pub fn new(name: &'static str, summary: &'static str) -> Group {
        Group { name, summary, groups: Vec::new(), commands: Vec::new(), flags: Vec::new() }
    }

    pub fn group(mut self, group: Group) -> Group {
        self.groups.push(group);
        self
    }

    pub fn command(mut self, command: Command) -> Group {
        self.commands.push(command);
        self
    }

    pub fn flag(mut self, flag: Flag) -> Group {
        self.flags.push(flag);
        self
    }
}

impl Command {
    pub fn new(name: &'static str, summary: &'static str, run: Handler) -> Command {
        Command {
            name,
            summary,
            description: "",
            positionals: Vec::new(),
            flags: Vec::new(),
            rules: Vec::new(),
            of_container: Vec::new(),
            examples: &[],
            usage_head: None,
            run,
        }
    }

    pub fn about(mut self, description: &'static str) -> Command {
        self.description = description;
        self
    }

    pub fn arg(mut self, name: &'static str, help: &'static str) -> Command {
        self.positionals.push(Positional { name, help, required: true, many: false });
        self
    }

    pub fn args(mut self, name: &'static str, help: &'static str) -> Command {
        self.positionals.push(Positional { name, help, required: true, many: true });
        self
    }

    pub fn optional_arg(mut self, name: &'static str, help: &'static str) -> Command {
        self.positionals.push(Positional { name, help, required: false, many: false });
        self
    }

    pub fn optional_args(mut self, name: &'static str, help: &'static str) -> Command {
        self.positionals.push(Positional { name, help, required: false, many: true });
        self
    }

    pub fn flag(mut self, flag: Flag) -> Command {
        self.flags.push(flag);
        self
    }

    pub fn flags(mut self, flags: impl IntoIterator<Item = Flag>) -> Command {
        self.flags.extend(flags);
        self
    }

    /// Flags of one container; all others of the command are about what holds the containers.
    pub fn container_flags(mut self, flags: impl IntoIterator<Item = Flag>) -> Command {
        let flags: Vec<Flag> = flags.into_iter().collect();
        self.of_container.extend(flags.iter().map(|flag| flag.name));
        self.flags.extend(flags);
        self
    }

    pub fn rule(mut self, rule: Rule) -> Command {
        self.rules.push(rule);
        self
    }

    pub fn examples(mut self, examples: &'static [&'static str]) -> Command {
        self.examples = examples;
        self
    }

    pub fn usage_head(mut self, head: &'static str) -> Command {
        self.usage_head = Some(head);
        self
    }
}

impl Flag {
    pub fn new(name: &'static str, kind: Kind, help: &'static str) -> Flag {
        Flag {
            name,
            kind,
            help,
            metavar: "",
            required: false,
            hidden: false,
            short: None,
            global: false,
            shown_negated: false,
        }
    }

    pub fn text(name: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Text, help)
    }

    pub fn switch(name: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Switch, help)
    }

    pub fn toggle(name: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Toggle, help)
    }

    pub fn int(name: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Int, help)
    }

    pub fn list(name: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::List, help)
    }

    pub fn pairs(name: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Pairs, help)
    }

    pub fn choice(name: &'static str, choices: &'static [Choice], help: &'static str) -> Flag {
        Flag::new(name, Kind::Choice(choices), help)
    }

    pub fn required(mut self) -> Flag {
        self.required = true;
        self
    }

    pub fn hidden(mut self) -> Flag {
        self.hidden = true;
        self
    }

    pub fn hidden_in_usage(mut self) -> Flag {
        self.global = true;
        self
    }

    pub fn metavar(mut self, metavar: &'static str) -> Flag {
        self.metavar = metavar;
        self
    }

    pub fn short(mut self, short: char) -> Flag {
        self.short = Some(short);
        self
    }

    pub fn shown_negated(mut self) -> Flag {
        self.shown_negated = true;
        self
    }

    pub fn takes_value(&self) -> bool {
        !matches!(self.kind, Kind::Switch | Kind::Toggle)
    }

    /// The placeholder: `REGION`, `[KEY=VALUE,...]`.
    pub fn placeholder(&self) -> String {
        let name = match self.metavar {
            "" => self.name.replace('-', "_").to_uppercase(),
            given => given.to_owned(),
        };
        match self.kind {
            Kind::List => format!("[{name},...]"),
            Kind::Pairs => "[KEY=VALUE,...]".to_owned(),
            _ => name,
        }
    }

    /// As usage lines name it.
    pub fn shown(&self) -> String {
        if self.shown_negated { format!("--no-{}", self.name) } else { format!("--{}", self.name) }
    }
}
