//! Who a caller is.

use std::fmt;

/// The person at this machine: who a caller is that presents a token nobody minted here.
pub const LOCAL_USER: &str = "local@vestibule";

/// A caller whose identity was established.
///
/// E-mail addresses are kept in lower case, as policies keep them, so that both compare bytewise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    User(String),
    ServiceAccount(String),
    Anonymous,
}

impl Principal {
    /// The person at this machine.
    pub fn local() -> Principal {
        Principal::User(LOCAL_USER.to_owned())
    }

    /// The principal behind an e-mail address. Google reserves `gserviceaccount.com` for service accounts.
    pub fn from_email(email: &str) -> Principal {
        let email = email.to_ascii_lowercase();
        if email.ends_with(".gserviceaccount.com") || email.ends_with("@gserviceaccount.com") {
            Principal::ServiceAccount(email)
        } else {
            Principal::User(email)
        }
    }

    /// The e-mail address; anonymous callers have none.
    pub fn email(&self) -> Option<&str> {
        match self {
            Principal::User(email) | Principal::ServiceAccount(email) => Some(email),
            Principal::Anonymous => None,
        }
    }

    /// `true` for the person at this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Principal::User(email) if email == LOCAL_USER)
    }
}

/// As a policy would name it: `user:…`, `serviceAccount:…`, or `allUsers`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::User(email) => write!(f, "user:{email}"),
            Principal::ServiceAccount(email) => write!(f, "serviceAccount:{email}"),
            Principal::Anonymous => f.write_str("allUsers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_tells_service_accounts_from_people() {
        let account = Principal::from_email("Caller@Demo.iam.gserviceaccount.com");
        assert_eq!(account, Principal::ServiceAccount("caller@demo.iam.gserviceaccount.com".into()));
        assert_eq!(account.to_string(), "serviceAccount:caller@demo.iam.gserviceaccount.com");
        let default = Principal::from_email("123-compute@developer.gserviceaccount.com");
        assert!(matches!(default, Principal::ServiceAccount(_)));
        let person = Principal::from_email("me@example.com");
        assert_eq!(person.to_string(), "user:me@example.com");
        assert!(!person.is_local() && Principal::local().is_local());
        assert_eq!(Principal::Anonymous.email(), None);
    }
}
