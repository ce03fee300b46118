//! Names of service accounts: e-mail addresses and unique ids.
//!
//! A unique id has 21 decimal digits and is what an identity token carries as `sub`. Accounts that a client created
//! get a random one, so that an account deleted and made anew under its old name is another account. The default
//! Compute Engine account of a project is created by nobody, so its id is computed from the project number, and the
//! address can be computed back from the id: a token without e-mail still tells who its bearer is.

use ring::digest;

/// Decimal digits of a unique id.
const UNIQUE_ID_DIGITS: usize = 21;
/// Decimal digits of a project number.
const PROJECT_NUMBER_DIGITS: usize = 12;
/// How the ids of default Compute Engine accounts start; random and derived ids never have a zero here.
const DEFAULT_COMPUTE_PREFIX: &str = "100000000";
/// What follows the project number in a default account's address.
const DEFAULT_COMPUTE_SUFFIX: &str = "-compute@developer.gserviceaccount.com";
/// What follows the project id in the address of an account that a client created.
const ACCOUNT_DOMAIN_SUFFIX: &str = ".iam.gserviceaccount.com";

/// The account a service runs as when none is named: `NUMBER-compute@developer.gserviceaccount.com`.
pub fn default_compute(project_number: &str) -> String {
    format!("{project_number}{DEFAULT_COMPUTE_SUFFIX}")
}

/// The project number in a default Compute Engine account's address.
pub fn default_compute_project(email: &str) -> Option<&str> {
    let number = email.strip_suffix(DEFAULT_COMPUTE_SUFFIX)?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    digits.then_some(number)
}

/// The address of an account that a client created.
pub fn address(account_id: &str, project: &str) -> String {
    format!("{account_id}@{project}{ACCOUNT_DOMAIN_SUFFIX}")
}

/// The project id in such an address.
pub fn project_of(email: &str) -> Option<&str> {
    let (_, domain) = email.split_once('@')?;
    domain.strip_suffix(ACCOUNT_DOMAIN_SUFFIX).filter(|project| !project.is_empty())
}

/// Whether an account id is well formed: 6 to 30 of `a-z0-9-`, a letter first, no hyphen last (iam.v1
/// `CreateServiceAccountRequest.accountId`).
pub fn is_account_id(id: &str) -> bool {
    let bytes = id.as_bytes();
    (6..=30).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes.last() != Some(&b'-')
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// A unique id that follows from the address alone, for accounts that no document describes.
pub fn unique_id(email: &str) -> String {
    if let Some(number) = default_compute_project(email)
        && number.len() == PROJECT_NUMBER_DIGITS
    {
        return format!("{DEFAULT_COMPUTE_PREFIX}{number}");
    }
    let hash = digest::digest(&digest::SHA256, email.as_bytes());
    let mut digits = String::with_capacity(UNIQUE_ID_DIGITS);
    digits.push('1');
    for byte in hash.as_ref().iter().take(UNIQUE_ID_DIGITS - 1) {
        // The first free digit is never zero, which keeps these ids apart from the default accounts'.
        let digit = if digits.len() == 1 { 1 + byte % 9 } else { byte % 10 };
        digits.push(char::from(b'0' + digit));
    }
    digits
}

/// A fresh unique id.
pub fn random_unique_id() -> String {
    let mut digits = String::with_capacity(UNIQUE_ID_DIGITS);
    digits.push('1');
    digits.push(char::from(fastrand::u8(b'1'..=b'9')));
    while digits.len() < UNIQUE_ID_DIGITS {
        digits.push(char::from(fastrand::u8(b'0'..=b'9')));
    }
    digits
}

/// The address of a default Compute Engine account, from its unique id.
pub fn default_compute_by_id(unique_id: &str) -> Option<String> {
    let number = unique_id.strip_prefix(DEFAULT_COMPUTE_PREFIX)?;
    (number.len() == PROJECT_NUMBER_DIGITS).then(|| default_compute(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_21_digits() {
        for id in [unique_id("a@b.iam.gserviceaccount.com"), random_unique_id(), unique_id("me@example.com")]
        {
            assert_eq!(id.len(), UNIQUE_ID_DIGITS, "{id}");
            assert!(id.bytes().all(|b| b.is_ascii_digit()), "{id}");
            assert_eq!(default_compute_by_id(&id), None, "{id}");
        }
        assert_eq!(unique_id("a@example.com"), unique_id("a@example.com"));
        assert_ne!(random_unique_id(), random_unique_id());
    }

    #[test]
    fn a_default_account_is_found_again_by_its_id() {
        let email = default_compute("123456789012");
        assert_eq!(email, "123456789012-compute@developer.gserviceaccount.com");
        let id = unique_id(&email);
        assert_eq!(id.len(), UNIQUE_ID_DIGITS);
        assert_eq!(default_compute_by_id(&id), Some(email));
    }

    #[test]
    fn account_ids_are_checked() {
        for good in ["caller", "a23456", "a-b-c-d", "abcdefghijabcdefghijabcdefghij"] {
            assert!(is_account_id(good), "{good}");
        }
        for bad in ["", "short", "1caller", "caller-", "Caller", "call_er", "abcdefghijabcdefghijabcdefghijk"]
        {
            assert!(!is_account_id(bad), "{bad}");
        }
    }

    #[test]
    fn addresses_tell_their_project() {
        assert_eq!(address("caller", "demo"), "caller@demo.iam.gserviceaccount.com");
        assert_eq!(project_of("caller@demo.iam.gserviceaccount.com"), Some("demo"));
        assert_eq!(project_of("1-compute@developer.gserviceaccount.com"), None);
        assert_eq!(default_compute_project("1-compute@developer.gserviceaccount.com"), Some("1"));
        assert_eq!(default_compute_project("x-compute@developer.gserviceaccount.com"), None);
    }
}
