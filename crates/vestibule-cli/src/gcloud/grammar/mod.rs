//! gcloud's grammar: groups, commands, flags, and the rules between flags, as data.
//!
//! A command says what it takes; parsing ([`parse`]), the words of errors ([`usage`]) and help pages ([`help`]) follow
//! from that alone, so they cannot drift apart. clap was not used for this part: gcloud's list and dictionary syntax,
//! its group rules and above all its error texts are the contract here, and bending clap to them would be more code
//! than the grammar itself.
//!
//! Flags and commands that gcloud has and Vestibule has not are known by name: a misspelt flag is told apart from one
//! that is not implemented, and nothing is ever silently ignored.

mod command;
mod help;
mod known;
mod matching;
mod parse;
mod usage;
mod values;

pub use command::{Command, Flag, Group, Handler, Kind, Rule};
pub use help::{command_help, group_help};
pub use parse::{Args, Parsed, parse};
pub use usage::Misuse;
pub use values::{parse_duration, split_pairs};
