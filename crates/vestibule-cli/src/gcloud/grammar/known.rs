//! The names of gcloud's flags and commands, implemented here or not.
//!
//! They tell a flag that Vestibule lacks from one that nobody has, and make usage lines and suggestions the same as
//! gcloud's. Read only when something is wrong or help is wanted.

/// One line a command or group: its path, a colon, names. A group's line ends its path with a slash, and so
/// does the name of a group within a group.
const NAMES: &str = include_str!("known.txt");

/// gcloud's flags of a command, without dashes; nothing for a command that is not listed.
pub fn flags(path: &[&str]) -> impl Iterator<Item = &'static str> + use<> {
    line(&path[1..].join(" "))
}

/// gcloud's commands in a group.
pub fn commands(path: &[&str]) -> impl Iterator<Item = &'static str> + use<> {
    line(&format!("{}/", path[1..].join(" "))).filter(|name| !name.ends_with('/'))
}

/// gcloud's commands and groups in a group.
pub fn members(path: &[&str]) -> impl Iterator<Item = &'static str> + use<> {
    line(&format!("{}/", path[1..].join(" "))).map(|name| name.trim_end_matches('/'))
}

fn line(path: &str) -> impl Iterator<Item = &'static str> + use<> {
    let found = NAMES.lines().find_map(|line| line.strip_prefix(path)?.strip_prefix(':'));
    found.unwrap_or("").split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_flags_and_commands() {
        assert!(flags(&["gcloud", "compute", "networks", "create"]).any(|f| f == "mtu"));
        assert!(commands(&["gcloud", "compute", "url-maps"]).any(|c| c == "edit"));
        assert_eq!(flags(&["gcloud", "nonsense"]).count(), 0);
    }
}
