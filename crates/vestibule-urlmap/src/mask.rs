//! URL masks of serverless NEGs: they find the service, and the tag, in the URL of each request.
//!
//! `<tag>.example.com/home/<service>` reads from the right end of the host (labels further left are free) and from the
//! left end of the path (segments further right are free). A placeholder stands for one non-empty run of characters
//! inside a label or segment; literal text around it must match, in the host without regard to case. A mask sees the
//! URL as the client sent it, after normalisation and before any rewrite.
//!
//! A mask that is one bare placeholder could mean the host or the path; it means the path's first segment.

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

/// A compiled URL mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    text: Box<str>,
    /// Labels from the right end.
    host: Vec<Pattern>,
    /// Segments from the left end.
    path: Vec<Pattern>,
}

/// What a placeholder asks for. A function is the service that a request goes to, a version of App Engine is its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Service,
    Tag,
    Function,
    Version,
}

impl Slot {
    const ALL: [Slot; 4] = [Slot::Service, Slot::Tag, Slot::Function, Slot::Version];

    fn name(self) -> &'static str {
        match self {
            Slot::Service => "service",
            Slot::Tag => "tag",
            Slot::Function => "function",
            Slot::Version => "version",
        }
    }

    fn is_service(self) -> bool {
        matches!(self, Slot::Service | Slot::Function)
    }
}

/// Literal text and placeholders of one label or segment, in order.
type Pattern = SmallVec<[Part; 3]>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Slot(Slot),
}

/// What a mask found. The NEG's own `service` and `tag` fields fill what is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured<'r> {
    pub service: Option<Cow<'r, str>>,
    pub tag: Option<Cow<'r, str>>,
}

/// Why a text is not a URL mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskError {
    Empty,
    /// More than 255 characters.
    TooLong,
    /// No placeholder at all.
    NoPlaceholder,
    /// `<` without `>`, or a name that is not known.
    BadPlaceholder,
    /// A placeholder occurs twice.
    Repeated,
    /// Two placeholders without text between them.
    Adjacent,
    /// A query, a fragment, white space or a control.
    ForbiddenCharacter,
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MaskError::Empty => "URL mask must not be empty.",
            MaskError::TooLong => "URL mask must be at most 255 characters long.",
            MaskError::NoPlaceholder => "URL mask must contain a placeholder such as <service>.",
            MaskError::BadPlaceholder => "URL mask contains an invalid placeholder.",
            MaskError::Repeated => "URL mask must not contain a placeholder more than once.",
            MaskError::Adjacent => "URL mask must have text between two placeholders.",
            MaskError::ForbiddenCharacter => "URL mask must not contain a query, a fragment or white space.",
        })
    }
}

impl std::error::Error for MaskError {}

impl Mask {
    /// Compiles a mask. A scheme in front is dropped.
    pub fn parse(text: &str) -> Result<Mask, MaskError> {
        check_characters(text)?;
        let body = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let (host, path) = split(body);
        let mut seen = Vec::new();
        let mut host = host.map_or(Ok(Vec::new()), |host| {
            host.split('.').map(|label| pattern(&label.to_ascii_lowercase(), &mut seen)).collect()
        })?;
        host.reverse();
        let path = path.map_or(Ok(Vec::new()), |path| {
            path.split('/').map(|segment| pattern(segment, &mut seen)).collect::<Result<Vec<_>, _>>()
        })?;
        if seen.is_empty() {
            return Err(MaskError::NoPlaceholder);
        }
        Ok(Mask { text: text.into(), host: trim_free_end(host), path: trim_free_end(path) })
    }

    /// The mask as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the mask itself finds the service.
    pub fn finds_service(&self) -> bool {
        self.slots().any(Slot::is_service)
    }

    /// Whether the mask itself finds the tag.
    pub fn finds_tag(&self) -> bool {
        self.slots().any(|slot| !slot.is_service())
    }

    /// Names of the placeholders, without their brackets: `service`, `tag`, `function`, `version`.
    pub fn placeholders(&self) -> impl Iterator<Item = &'static str> {
        self.slots().map(Slot::name)
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        self.host.iter().chain(&self.path).flatten().filter_map(|part| match part {
            Part::Slot(slot) => Some(*slot),
            Part::Literal(_) => None,
        })
    }

    /// Reads service and tag out of a request's host (a port is ignored) and normalised path (no query).
    /// `None` when the URL does not fit the mask.
    pub fn extract<'r>(&self, host: &'r [u8], path: &'r [u8]) -> Option<Captured<'r>> {
        let mut captured = Captured::default();
        self.match_host(host, &mut captured)?;
        self.match_path(path, &mut captured)?;
        Some(captured)
    }

    fn match_host<'r>(&self, host: &'r [u8], captured: &mut Captured<'r>) -> Option<()> {
        if self.host.is_empty() {
            return Some(());
        }
        let host = without_port(std::str::from_utf8(host).ok()?);
        let mut labels = host.rsplit('.');
        for pattern in &self.host {
            let label = match labels.next()? {
                label if label.bytes().any(|b| b.is_ascii_uppercase()) => {
                    Cow::Owned(label.to_ascii_lowercase())
                }
                label => Cow::Borrowed(label),
            };
            match_part(pattern, label, captured)?;
        }
        Some(())
    }

    fn match_path<'r>(&self, path: &'r [u8], captured: &mut Captured<'r>) -> Option<()> {
        if self.path.is_empty() {
            return Some(());
        }
        let mut segments = std::str::from_utf8(path).ok()?.strip_prefix('/')?.split('/');
        for pattern in &self.path {
            match_part(pattern, Cow::Borrowed(segments.next()?), captured)?;
        }
        Some(())
    }
}

fn check_characters(text: &str) -> Result<(), MaskError> {
    match text {
        "" => Err(MaskError::Empty),
        _ if text.len() > 255 => Err(MaskError::TooLong),
        _ if text.contains(|c: char| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control()) => {
            Err(MaskError::ForbiddenCharacter)
        }
        _ => Ok(()),
    }
}

/// Host and path of a mask.
fn split(body: &str) -> (Option<&str>, Option<&str>) {
    let bare = body.starts_with('<') && body.find('>') == Some(body.len() - 1);
    match body.split_once('/') {
        None if bare => (None, Some(body)),
        None => (Some(body), None),
        Some(("", path)) => (None, Some(path)),
        Some((host, path)) => (Some(host), Some(path)),
    }
}

/// Drops trailing free parts: what lies beyond the last thing the mask says is anything. `example.com/` says nothing
/// about the path.
fn trim_free_end(mut patterns: Vec<Pattern>) -> Vec<Pattern> {
    while patterns.last().is_some_and(|last| last.is_empty()) {
        patterns.pop();
    }
    patterns
}

fn pattern(text: &str, seen: &mut Vec<Slot>) -> Result<Pattern, MaskError> {
    let mut parts = Pattern::new();
    let mut rest = text;
    while !rest.is_empty() {
        let literal_end = rest.find(['<', '>']).unwrap_or(rest.len());
        if literal_end > 0 {
            parts.push(Part::Literal(rest[..literal_end].into()));
            rest = &rest[literal_end..];
            continue;
        }
        let end = rest.find('>').filter(|_| rest.starts_with('<')).ok_or(MaskError::BadPlaceholder)?;
        let slot = Slot::ALL.into_iter().find(|slot| slot.name() == &rest[1..end]);
        let slot = slot.ok_or(MaskError::BadPlaceholder)?;
        if seen.iter().any(|other: &Slot| other.is_service() == slot.is_service()) {
            return Err(MaskError::Repeated);
        }
        if matches!(parts.last(), Some(Part::Slot(_))) {
            return Err(MaskError::Adjacent);
        }
        seen.push(slot);
        parts.push(Part::Slot(slot));
        rest = &rest[end + 1..];
    }
    Ok(parts)
}

/// A host without its port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn match_part<'r>(pattern: &[Part], text: Cow<'r, str>, captured: &mut Captured<'r>) -> Option<()> {
    let mut runs: SmallVec<[(Slot, usize, usize); 2]> = SmallVec::new();
    if !fits(pattern, &text, 0, &mut runs) {
        return None;
    }
    for (slot, start, end) in runs {
        let run = match &text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[start..end]),
            Cow::Owned(text) => Cow::Owned(text[start..end].to_string()),
        };
        match slot.is_service() {
            true => captured.service = Some(run),
            false => captured.tag = Some(run),
        }
    }
    Some(())
}

/// Whether `text[from..]` is the pattern from end to end. Runs are as short as lets the rest fit. There are at most
/// two placeholders in a mask, so the search is short.
fn fits(pattern: &[Part], text: &str, from: usize, runs: &mut SmallVec<[(Slot, usize, usize); 2]>) -> bool {
    let rest = &text[from..];
    match pattern {
        [] => rest.is_empty(),
        [Part::Literal(literal), tail @ ..] => {
            rest.starts_with(&**literal) && fits(tail, text, from + literal.len(), runs)
        }
        [Part::Slot(slot), tail @ ..] => {
            let ends = rest.char_indices().map(|(at, c)| from + at + c.len_utf8());
            let mut ends: SmallVec<[usize; 64]> = ends.collect();
            if tail.is_empty() {
                ends.drain(..ends.len().saturating_sub(1));
            }
            ends.into_iter().any(|end| {
                runs.push((*slot, from, end));
                let fit = fits(tail, text, end, runs);
                if !fit {
                    runs.pop();
                }
                fit
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extract(mask: &str, host: &str, path: &str) -> Option<(String, String)> {
        let mask = Mask::parse(mask).expect(mask);
        let captured = mask.extract(host.as_bytes(), path.as_bytes())?;
        let text = |value: Option<Cow<'_, str>>| value.unwrap_or_default().into_owned();
        Some((text(captured.service), text(captured.tag)))
    }

    #[test]
    fn worked_examples() {
        let table = [
            ("<service>-home.example.com", "login-home.example.com", "/web", Some(("login", ""))),
            ("example.com/<service>", "example.com", "/login/web", Some(("login", ""))),
            ("/<service>", "example.com", "/login/web", Some(("login", ""))),
            ("<service>", "example.com", "/my-service/path", Some(("my-service", ""))),
            ("<tag>.<service>.example.com", "test.login.example.com", "/web", Some(("login", "test"))),
            ("example.com/home/<service>/<tag>", "example.com", "/home/login/test", Some(("login", "test"))),
            ("/home/<service>/<tag>", "example.com", "/home/login/test", Some(("login", "test"))),
            (
                "<tag>.example.com/home/<service>",
                "test.example.com",
                "/home/login/web",
                Some(("login", "test")),
            ),
            ("<tag>.domain.com/<service>", "foo1.domain.com", "/bar1", Some(("bar1", "foo1"))),
            ("/<function>", "mydomain.com", "/function1", Some(("function1", ""))),
            (
                "<service>-dot-appname.appspot.com/<version>",
                "foo1-dot-appname.appspot.com",
                "/v1",
                Some(("foo1", "v1")),
            ),
            ("<service>.example.com", "a.login.example.com", "/", Some(("login", ""))),
            ("/<service>", "example.com", "/", None),
            ("/home/<service>/<tag>", "example.com", "/home/login", None),
            ("https://example.com/<service>", "example.com", "/login", Some(("login", ""))),
            ("<service>.example.com", "LOGIN.Example.com:8080", "/", Some(("login", ""))),
            ("<service>.example.com/", "login.example.com", "/x/y", Some(("login", ""))),
            ("/a/<service>", "h", "/A/x", None),
            ("<service>-home.example.com", "a-home-home.example.com", "/", Some(("a-home", ""))),
            ("/<tag>---<service>", "h", "/canary---api/x", Some(("api", "canary"))),
            ("/v1-<service>", "h", "/v1-", None),
        ];
        for (mask, host, path, want) in table {
            let got = extract(mask, host, path);
            assert_eq!(got, want.map(|(s, t)| (s.into(), t.into())), "{mask} {host}{path}");
        }
    }

    #[test]
    fn bad_masks() {
        for (mask, why) in [
            ("", MaskError::Empty),
            ("example.com", MaskError::NoPlaceholder),
            ("/<service", MaskError::BadPlaceholder),
            ("/service>", MaskError::BadPlaceholder),
            ("/<Service>", MaskError::BadPlaceholder),
            ("/<service>/<service>", MaskError::Repeated),
            ("/<service><tag>", MaskError::Adjacent),
            ("/<service>?x", MaskError::ForbiddenCharacter),
            ("/<service> ", MaskError::ForbiddenCharacter),
        ] {
            assert_eq!(Mask::parse(mask), Err(why), "{mask}");
        }
        assert_eq!(Mask::parse(&"a".repeat(256)), Err(MaskError::TooLong));
    }

    #[test]
    fn tells_what_it_finds() {
        let mask = Mask::parse("/<service>").expect("mask");
        assert!(mask.finds_service() && !mask.finds_tag());
        assert_eq!(mask.placeholders().collect::<Vec<_>>(), ["service"]);
        assert_eq!(mask.as_str(), "/<service>");
    }

    proptest! {
        #[test]
        fn never_panics(mask in "[<>/.a-]{0,12}|.*", host in ".{0,20}", path in "/.{0,20}") {
            if let Ok(mask) = Mask::parse(&mask) {
                let _ = mask.extract(host.as_bytes(), path.as_bytes());
            }
        }

        #[test]
        fn finds_what_was_put_in(service in "[a-z][a-z0-9-]{0,20}", tag in "[a-z]{1,8}") {
            let mask = Mask::parse("<tag>.example.com/x/<service>").expect("mask");
            let (host, path) = (format!("{tag}.example.com"), format!("/x/{service}/more"));
            let captured = mask.extract(host.as_bytes(), path.as_bytes()).expect("fits");
            prop_assert_eq!(captured.service.as_deref(), Some(&*service));
            prop_assert_eq!(captured.tag.as_deref(), Some(&*tag));
        }
    }
}
