//! URL rewrites: what host and path the backend sees. The query always stays.

use regex::bytes::Regex;
use vestibule_model::compute;

use crate::field::{CompileError, Field};
use crate::predicate;
use crate::template::{Template, TemplateRewrite};

/// A compiled `urlRewrite`.
#[derive(Debug)]
pub struct Rewrite {
    host: Option<Box<str>>,
    path: PathRewrite,
}

#[derive(Debug)]
enum PathRewrite {
    Keep,
    /// Replaces the matched portion.
    Prefix(Box<str>),
    Template(TemplateRewrite),
    Regex {
        pattern: Box<Regex>,
        substitution: Box<[Piece]>,
    },
}

/// A piece of a substitution.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Group(usize),
}

/// What of a path a rule matched. Rewrites and redirects by prefix replace it.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'m> {
    /// Bytes from the start of the path. A default matches the leading `/`.
    pub(crate) length: usize,
    pub(crate) template: Option<&'m Template>,
}

impl Rewrite {
    /// `template` is that of the same rule, if all its matches have one and the same.
    pub(crate) fn compile(
        doc: &compute::UrlRewrite,
        template: Option<&Template>,
        at: &Field<'_>,
    ) -> Result<Rewrite, CompileError> {
        let set = [
            doc.path_prefix_rewrite.is_some(),
            doc.path_template_rewrite.is_some(),
            doc.regex_rewrite.is_some(),
        ];
        if set.iter().filter(|set| **set).count() > 1 {
            let why = "At most one of pathPrefixRewrite, pathTemplateRewrite and regexRewrite may be set.";
            return Err(at.invalid("", why));
        }
        Ok(Rewrite { host: host(doc, at)?, path: path(doc, template, at)? })
    }

    /// The `Host` that the backend sees, if it is not the client's.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Writes the path that the backend sees. `false`, and nothing written, when it is the client's own.
    pub fn path(&self, path: &[u8], matched: Matched<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        match &self.path {
            PathRewrite::Keep => return false,
            PathRewrite::Prefix(prefix) => replace_prefix(prefix, path, matched.length, out),
            PathRewrite::Template(rewrite) => match matched.template {
                Some(template) => rewrite.apply(template, path, out),
                None => return false,
            },
            PathRewrite::Regex { pattern, substitution } => substitute(pattern, substitution, path, out),
        }
        if out.get(start) != Some(&b'/') {
            // A request target must begin with a slash, whatever a substitution says.
            out.insert(start, b'/');
        }
        true
    }
}

/// Writes `prefix` in the place of the matched portion.
pub(crate) fn replace_prefix(prefix: &str, path: &[u8], matched: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(path.get(matched..).unwrap_or_default());
}

fn host(doc: &compute::UrlRewrite, at: &Field<'_>) -> Result<Option<Box<str>>, CompileError> {
    let Some(host) = doc.host_rewrite.as_deref() else { return Ok(None) };
    check_host(host).map_err(|why| at.member("hostRewrite").invalid(host, why))?;
    Ok(Some(host.into()))
}

fn path(
    doc: &compute::UrlRewrite,
    template: Option<&Template>,
    at: &Field<'_>,
) -> Result<PathRewrite, CompileError> {
    if let Some(prefix) = doc.path_prefix_rewrite.as_deref() {
        check_path(prefix).map_err(|why| at.member("pathPrefixRewrite").invalid(prefix, why))?;
        return Ok(PathRewrite::Prefix(prefix.into()));
    }
    if let Some(text) = doc.path_template_rewrite.as_deref() {
        let at = at.member("pathTemplateRewrite");
        let why = "pathTemplateRewrite needs a rule whose matches all use the same pathTemplateMatch.";
        let template = template.ok_or_else(|| at.invalid(text, why))?;
        let rewrite = TemplateRewrite::parse(text, template).map_err(|why| at.invalid(text, why))?;
        return Ok(PathRewrite::Template(rewrite));
    }
    let Some(regex) = &doc.regex_rewrite else { return Ok(PathRewrite::Keep) };
    let at = at.member("regexRewrite");
    let pattern = regex.path_pattern.as_deref().filter(|pattern| !pattern.is_empty());
    let pattern = pattern.ok_or_else(|| at.member("pathPattern").required())?;
    let compiled = predicate::regex(pattern).map_err(|why| at.member("pathPattern").invalid(pattern, why))?;
    let text = regex.path_substitution.as_deref().unwrap_or_default();
    let substitution = pieces(text, compiled.captures_len())
        .map_err(|why| at.member("pathSubstitution").invalid(text, why))?;
    Ok(PathRewrite::Regex { pattern: Box::new(compiled), substitution: substitution.into() })
}

/// A host that a rewrite or a redirect puts in place.
pub(crate) fn check_host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() || host.len() > 255 {
        return Err("Must be between 1 and 255 characters long.");
    }
    match host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)) {
        true => Ok(()),
        false => Err("Must be a valid host name, optionally with a port."),
    }
}

/// A path that a rewrite or a redirect puts in place.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > 1024 {
        return Err("Must be between 1 and 1024 characters long.");
    }
    if !path.starts_with('/') {
        return Err("Must begin with '/'.");
    }
    match path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        true => Ok(()),
        false => Err("Must be a valid URL path."),
    }
}

/// Splits a substitution. `\1` is a group, `\0` the whole match, `\\` a backslash, as in RE2.
fn pieces(text: &str, groups: usize) -> Result<Vec<Piece>, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("Substitution must consist of visible ASCII characters.".into());
    }
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        let escaped = match next {
            '\\' => chars.next(),
            literal_char => {
                literal.push(literal_char);
                continue;
            }
        };
        match escaped.map(|c| (c, c.to_digit(10))) {
            Some(('\\', _)) => literal.push('\\'),
            Some((_, Some(group))) if (group as usize) < groups => {
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
                }
                pieces.push(Piece::Group(group as usize));
            }
            Some((_, Some(group))) => {
                return Err(format!("Substitution uses group {group}, which the pattern lacks."));
            }
            _ => {
                return Err(
                    "Substitution has a backslash that is followed by neither a digit nor a backslash."
                        .into(),
                );
            }
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal.into()));
    }
    Ok(pieces)
}

/// Replaces every match.
fn substitute(pattern: &Regex, substitution: &[Piece], path: &[u8], out: &mut Vec<u8>) {
    let mut done = 0;
    for groups in pattern.captures_iter(path) {
        let Some(whole) = groups.get(0) else { continue };
        out.extend_from_slice(&path[done..whole.start()]);
        done = whole.end();
        for piece in substitution {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Group(group) => {
                    out.extend_from_slice(groups.get(*group).map_or(&[][..], |found| found.as_bytes()));
                }
            }
        }
    }
    out.extend_from_slice(&path[done..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compile(json: serde_json::Value) -> Result<Rewrite, CompileError> {
        Rewrite::compile(&serde_json::from_value(json).expect("document"), None, &Field::ROOT)
    }

    fn rewritten(json: serde_json::Value, path: &str, matched: usize) -> String {
        let mut out = Vec::new();
        let matched = Matched { length: matched, template: None };
        let changed = compile(json).expect("compiles").path(path.as_bytes(), matched, &mut out);
        if changed { String::from_utf8(out).expect("text") } else { path.to_string() }
    }

    #[test]
    fn prefixes() {
        for (rewrite, path, matched, want) in [
            ("/new/", "/pre/abc", 5, "/new/abc"),
            ("/x", "/noslashabc", 8, "/xabc"),
            ("/z", "/a/b", 4, "/z"),
            ("/b/", "/a/c", 3, "/b/c"),
            ("/b", "/c/d", 1, "/bc/d"),
        ] {
            assert_eq!(rewritten(json!({"pathPrefixRewrite": rewrite}), path, matched), want);
        }
    }

    #[test]
    fn regexes() {
        for (pattern, substitution, path, want) in [
            ("o", r"0\0", "/rxfoo/oo", "/rxf0o0o/0o0o"),
            ("^/rgx/(.*)/y", r"/a?\1", "/rgx/v/y", "/a?v"),
            ("^/(a)/(b)$", r"/\2/\1", "/a/b", "/b/a"),
            ("^/x", "y", "/x", "/y"),
            ("nope", "z", "/a", "/a"),
            ("a", r"\\", "/a", r"/\"),
        ] {
            let json = json!({"regexRewrite": {"pathPattern": pattern, "pathSubstitution": substitution}});
            assert_eq!(rewritten(json, path, 1), want, "{pattern}");
        }
    }

    #[test]
    fn only_the_host() {
        let rewrite = compile(json!({"hostRewrite": "new.example"})).expect("compiles");
        assert_eq!(rewrite.host(), Some("new.example"));
        assert_eq!(rewritten(json!({"hostRewrite": "h"}), "/a", 1), "/a");
    }

    #[test]
    fn bad_rewrites() {
        for bad in [
            json!({"pathPrefixRewrite": "/a", "regexRewrite": {"pathPattern": "a"}}),
            json!({"pathPrefixRewrite": "a"}),
            json!({"pathPrefixRewrite": ""}),
            json!({"pathPrefixRewrite": "/a b"}),
            json!({"hostRewrite": "a/b"}),
            json!({"hostRewrite": ""}),
            json!({"pathTemplateRewrite": "/{a}"}),
            json!({"regexRewrite": {"pathPattern": "("}}),
            json!({"regexRewrite": {"pathSubstitution": "a"}}),
            json!({"regexRewrite": {"pathPattern": "a", "pathSubstitution": r"\1"}}),
            json!({"regexRewrite": {"pathPattern": "a", "pathSubstitution": r"\x"}}),
            json!({"regexRewrite": {"pathPattern": "a", "pathSubstitution": "a\r\nb"}}),
        ] {
            assert!(compile(bad.clone()).is_err(), "{bad}");
        }
    }
}
