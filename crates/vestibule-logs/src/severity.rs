//! `google.logging.type.LogSeverity`.

use std::fmt;

/// A severity: one of the named levels, ordered by urgency. `DEFAULT` by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Severity(u16);

const NAMES: [(u16, &str); 9] = [
    (0, "DEFAULT"),
    (100, "DEBUG"),
    (200, "INFO"),
    (300, "NOTICE"),
    (400, "WARNING"),
    (500, "ERROR"),
    (600, "CRITICAL"),
    (700, "ALERT"),
    (800, "EMERGENCY"),
];

impl Severity {
    /// No severity was given.
    pub const DEFAULT: Severity = Severity(0);
    /// Routine information.
    pub const INFO: Severity = Severity(200);
    /// Normal, and yet worth a look.
    pub const NOTICE: Severity = Severity(300);
    /// Something that might cause problems.
    pub const WARNING: Severity = Severity(400);
    /// Something that is likely to cause problems.
    pub const ERROR: Severity = Severity(500);

    /// The severity with this name, in any case.
    pub fn from_name(name: &str) -> Option<Severity> {
        NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| Severity(*number))
    }

    /// The severity with this number. Numbers between the named ones exist in filters only.
    pub fn from_number(number: u16) -> Severity {
        Severity(number)
    }

    /// The severity's number.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The severity's name, if the number has one.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_order() {
        assert_eq!(Severity::from_name("warning"), Some(Severity::WARNING));
        assert_eq!(Severity::from_name("WARN"), None);
        assert!(Severity::from_name("NOTICE") < Severity::from_name("WARNING"));
        assert_eq!(Severity::from_number(450).to_string(), "450");
        assert_eq!(Severity::default().to_string(), "DEFAULT");
    }
}
