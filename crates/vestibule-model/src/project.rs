//! Projects need not be made: any id is a project, and its number follows from the id alone.
//!
//! Numbers appear in Cloud Run namespaces, in service account names and in URLs, so they must be the same after a
//! restart and on every machine; a hash gives that without a table. The way back needs the set of known projects.

use crate::fingerprint::hash64;

/// The smallest number of twelve digits; Google's numbers of today have twelve.
const FIRST_NUMBER: u64 = 100_000_000_000;

/// The number of a project: twelve digits, stable for an id. A numeric id is its own number.
pub fn project_number(id: &str) -> u64 {
    match id.parse() {
        Ok(number) => number,
        Err(_) => FIRST_NUMBER + hash64(id.as_bytes()) % (9 * FIRST_NUMBER),
    }
}

/// Whether a project is named by its number.
pub fn is_number(project: &str) -> bool {
    !project.is_empty() && project.bytes().all(|b| b.is_ascii_digit())
}

/// Turns what a client wrote (id or number) into a project id, given the ids that are in use. A number that belongs
/// to none of them stays as it is.
pub fn resolve<'a>(project: &'a str, known: impl IntoIterator<Item = &'a str>) -> &'a str {
    if !is_number(project) {
        return project;
    }
    let number = project_number(project);
    known.into_iter().find(|id| !is_number(id) && project_number(id) == number).unwrap_or(project)
}

/// The service account that workloads run as when none is asked for.
pub fn default_service_account(project: &str) -> String {
    format!("{}-compute@developer.gserviceaccount.com", project_number(project))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_have_twelve_digits() {
        // A change here would move every project of every installation.
        assert_eq!(project_number("demo"), 496_268_734_596);
        for id in ["demo", "a", "my-project", "example.com:app"] {
            assert_eq!(project_number(id).to_string().len(), 12, "{id}");
        }
        assert_eq!(project_number("123456789012"), 123_456_789_012);
    }

    #[test]
    fn a_number_stands_for_its_project() {
        let number = project_number("demo").to_string();
        assert_eq!(resolve(&number, ["other", "demo"]), "demo");
        assert_eq!(resolve(&number, ["other"]), number);
        assert_eq!(resolve("demo", []), "demo");
        assert!(default_service_account("demo").starts_with(&number));
    }
}
