//! Members of a binding.

use std::fmt;

use crate::Principal;

/// Whom a binding names. Kept as normalised text with its meaning beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// `allUsers`: everyone, with or without identity.
    Everyone,
    /// `allAuthenticatedUsers`: everyone with a valid identity.
    Authenticated,
    /// `user:` or `serviceAccount:` with this address.
    Email(String),
    /// `domain:`: people with an address in it.
    Domain(String),
    /// `projectOwner:` and its like.
    Basic(BasicRole),
    /// `group:`. There is no directory of groups here, so it matches nobody.
    Group,
    /// `deleted:`, `principal://`, `principalSet://`: kept, matches nobody here.
    Nobody,
}

/// A basic role that convenience members refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BasicRole {
    Owner,
    Editor,
    Viewer,
}

impl BasicRole {
    /// The role's name in bindings.
    pub fn name(self) -> &'static str {
        match self {
            BasicRole::Owner => "roles/owner",
            BasicRole::Editor => "roles/editor",
            BasicRole::Viewer => "roles/viewer",
        }
    }
}

impl Member {
    /// Reads a member. The error completes a sentence that begins with the text.
    pub fn parse(text: &str) -> Result<Member, &'static str> {
        let keep = |kind| Ok(Member { text: text.to_owned(), kind });
        match text {
            "allUsers" => return keep(Kind::Everyone),
            "allAuthenticatedUsers" => return keep(Kind::Authenticated),
            _ => {}
        }
        if text.starts_with("principal://") || text.starts_with("principalSet://") {
            return keep(Kind::Nobody);
        }
        let (kind, value) = text.split_once(':').ok_or("has no type prefix")?;
        if value.is_empty() {
            return Err("names nobody");
        }
        let lower = value.to_ascii_lowercase();
        let kind_of = match kind {
            "user" | "serviceAccount" if is_address(&lower) => Kind::Email(lower.clone()),
            "group" if is_address(&lower) => Kind::Group,
            "user" | "serviceAccount" | "group" => return Err("is no e-mail address"),
            "domain" => Kind::Domain(lower.clone()),
            "projectOwner" => return keep(Kind::Basic(BasicRole::Owner)),
            "projectEditor" => return keep(Kind::Basic(BasicRole::Editor)),
            "projectViewer" => return keep(Kind::Basic(BasicRole::Viewer)),
            "deleted" => return keep(Kind::Nobody),
            _ => return Err("has an unknown type prefix"),
        };
        Ok(Member { text: format!("{kind}:{lower}"), kind: kind_of })
    }

    /// The member that names exactly this principal.
    pub fn of(principal: &Principal) -> Member {
        let kind = match principal.email() {
            Some(email) => Kind::Email(email.to_owned()),
            None => Kind::Everyone,
        };
        Member { text: principal.to_string(), kind }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the principal is meant. Convenience members are not decided here: see [`Member::basic_role`].
    pub fn matches(&self, principal: &Principal) -> bool {
        match &self.kind {
            Kind::Everyone => true,
            Kind::Authenticated => *principal != Principal::Anonymous,
            Kind::Email(email) => principal.email() == Some(email),
            Kind::Domain(domain) => match principal {
                Principal::User(email) => email.split_once('@').is_some_and(|(_, of)| of == domain),
                _ => false,
            },
            Kind::Basic(_) | Kind::Group | Kind::Nobody => false,
        }
    }

    /// The basic role whose holders are meant, for `projectOwner:P` and its like.
    pub fn basic_role(&self) -> Option<BasicRole> {
        match self.kind {
            Kind::Basic(role) => Some(role),
            _ => None,
        }
    }

    pub(super) fn is_group(&self) -> bool {
        self.kind == Kind::Group
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_address(text: &str) -> bool {
    match text.split_once('@') {
        Some((name, domain)) => !name.is_empty() && !domain.is_empty() && !domain.contains('@'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(member: &str, principal: &Principal) -> bool {
        Member::parse(member).unwrap().matches(principal)
    }

    #[test]
    fn members_match_whom_they_name() {
        let account = Principal::from_email("caller@demo.iam.gserviceaccount.com");
        let person = Principal::from_email("me@example.com");
        let table = [
            ("allUsers", true, true, true),
            ("allAuthenticatedUsers", true, true, false),
            ("user:Me@Example.com", false, true, false),
            ("serviceAccount:caller@demo.iam.gserviceaccount.com", true, false, false),
            ("domain:example.com", false, true, false),
            ("domain:demo.iam.gserviceaccount.com", false, false, false),
            ("group:all@example.com", false, false, false),
            ("deleted:serviceAccount:caller@demo.iam.gserviceaccount.com?uid=1", false, false, false),
            ("principalSet://goog/public:all", false, false, false),
            ("projectOwner:demo", false, false, false),
        ];
        for (member, for_account, for_person, for_anonymous) in table {
            assert_eq!(matches(member, &account), for_account, "{member}");
            assert_eq!(matches(member, &person), for_person, "{member}");
            assert_eq!(matches(member, &Principal::Anonymous), for_anonymous, "{member}");
        }
    }

    #[test]
    fn text_is_kept_or_normalised() {
        assert_eq!(Member::parse("user:Me@Example.com").unwrap().as_str(), "user:me@example.com");
        let deleted = "deleted:serviceAccount:X@demo.iam.gserviceaccount.com?uid=1";
        assert_eq!(Member::parse(deleted).unwrap().as_str(), deleted);
        for bad in
            ["", "me@example.com", "user:", "user:me", "user:a@b@c", "robot:me@example.com", "allusers"]
        {
            assert!(Member::parse(bad).is_err(), "{bad}");
        }
    }
}
