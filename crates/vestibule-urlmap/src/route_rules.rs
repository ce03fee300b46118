//! Route rules: in ascending priority, the first whose any match is satisfied.
//!
//! Walking hundreds of rules for each request would make its cost follow the number of rules. So every match is filed
//! under what its path must begin with, or be; one pass over the path finds the drawers that can hold a match, and only
//! those matches are tried, in order of priority. Only regular expressions must always be tried, and there may be few.

use std::collections::HashMap;

use regex::bytes::Regex;
use vestibule_model::compute;

use crate::field::{CompileError, Field};
use crate::key_table::{KeyTable, Keying, Lengths, RunningHash};
use crate::predicate::{HeaderMatch, QueryMatch, full_match};
use crate::request::RequestView;
use crate::template::Template;

/// Longest `regexMatch` expressions aside, what a path predicate may hold, in bytes.
const MAX_PATH: usize = 1024;

/// The matches of all route rules of a path matcher.
#[derive(Debug, Default)]
pub(crate) struct RouteRules {
    matches: Vec<RuleMatch>,
    sensitive: Drawers,
    insensitive: Drawers,
    /// Matches without a known beginning, in order.
    open: Vec<u32>,
}

/// One `matchRules[]` entry. Matches are kept in order of priority.
#[derive(Debug)]
pub(crate) struct RuleMatch {
    /// Position of its rule among the rules in order of priority.
    pub(crate) rule: usize,
    /// The path predicate as written, for logs.
    pub(crate) label: Box<str>,
    path: PathTest,
    headers: Box<[HeaderMatch]>,
    query: Box<[QueryMatch]>,
}

#[derive(Debug)]
enum PathTest {
    /// The drawers have tested it.
    Prefix {
        length: usize,
    },
    /// The drawers have tested it.
    Full,
    Regex(Regex),
    Template(Template),
}

/// Where to look for the matches of a path.
#[derive(Debug, Default)]
struct Drawers {
    /// Matches by the whole path.
    full: KeyTable<Vec<u32>>,
    /// Matches by what the path begins with.
    begins: KeyTable<Vec<u32>>,
    begin_lengths: Lengths,
}

/// What of the path a match covers.
pub(crate) struct RouteHit<'m> {
    pub(crate) found: &'m RuleMatch,
    pub(crate) matched: usize,
}

impl RuleMatch {
    pub(crate) fn compile(
        doc: &compute::HttpRouteRuleMatch,
        rule: usize,
        at: &Field<'_>,
    ) -> Result<(RuleMatch, Filing), CompileError> {
        if !doc.metadata_filters.is_empty() {
            return Err(at.member("metadataFilters").invalid("", crate::action::UNSUPPORTED));
        }
        let (path, filing, label) = path_test(doc, at)?;
        let headers = doc.header_matches.iter().enumerate();
        let headers = headers.map(|(n, doc)| HeaderMatch::compile(doc, &at.item("headerMatches", n)));
        let query = doc.query_parameter_matches.iter().enumerate();
        let query = query.map(|(n, doc)| QueryMatch::compile(doc, &at.item("queryParameterMatches", n)));
        let (headers, query) = (headers.collect::<Result<_, _>>()?, query.collect::<Result<_, _>>()?);
        Ok((RuleMatch { rule, label: label.into(), path, headers, query }, filing))
    }

    pub(crate) fn template(&self) -> Option<&Template> {
        match &self.path {
            PathTest::Template(template) => Some(template),
            _ => None,
        }
    }

    fn holds(&self, request: &RequestView<'_>) -> bool {
        let path = match &self.path {
            PathTest::Prefix { .. } | PathTest::Full => true,
            PathTest::Regex(regex) => regex.is_match(request.path),
            PathTest::Template(template) => template.is_match(request.path),
        };
        path && self.headers.iter().all(|test| test.holds(request))
            && self.query.iter().all(|test| test.holds(request.query))
    }

    fn matched(&self, path: &[u8]) -> usize {
        match self.path {
            PathTest::Prefix { length } => length,
            _ => path.len(),
        }
    }
}

/// The drawer that a match belongs to.
#[derive(Debug)]
pub(crate) enum Filing {
    Full { text: String, ignore_case: bool },
    Begins { text: String, ignore_case: bool },
    Open,
}

fn path_test<'d>(
    doc: &'d compute::HttpRouteRuleMatch,
    at: &Field<'_>,
) -> Result<(PathTest, Filing, &'d str), CompileError> {
    let ignore_case = doc.ignore_case.unwrap_or(false);
    let set = [&doc.prefix_match, &doc.full_path_match, &doc.regex_match, &doc.path_template_match];
    if set.iter().filter(|text| text.is_some()).count() != 1 {
        let why = "Exactly one of prefixMatch, fullPathMatch, regexMatch and pathTemplateMatch must be set.";
        return Err(at.invalid("", why));
    }
    if let Some(text) = &doc.prefix_match {
        check_path(text).map_err(|why| at.member("prefixMatch").invalid(text, why))?;
        return Ok((
            PathTest::Prefix { length: text.len() },
            Filing::Begins { text: text.clone(), ignore_case },
            text,
        ));
    }
    if let Some(text) = &doc.full_path_match {
        check_path(text).map_err(|why| at.member("fullPathMatch").invalid(text, why))?;
        return Ok((PathTest::Full, Filing::Full { text: text.clone(), ignore_case }, text));
    }
    if ignore_case {
        let why = "ignoreCase can only be used with prefixMatch and fullPathMatch.";
        return Err(at.member("ignoreCase").invalid(ignore_case, why));
    }
    if let Some(text) = &doc.regex_match {
        let regex = full_match(text).map_err(|why| at.member("regexMatch").invalid(text, why))?;
        return Ok((PathTest::Regex(regex), Filing::Open, text));
    }
    let text = doc.path_template_match.as_deref().unwrap_or_default();
    let template = Template::parse(text).map_err(|why| at.member("pathTemplateMatch").invalid(text, why))?;
    let filing = Filing::Begins { text: template.literal_prefix().into(), ignore_case: false };
    Ok((PathTest::Template(template), filing, text))
}

fn check_path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("Path must begin with '/'.".into());
    }
    if text.len() > MAX_PATH {
        return Err(format!("Path must be at most {MAX_PATH} characters long."));
    }
    if text.contains(['?', '#']) {
        return Err("Path must not contain '?' or '#'.".into());
    }
    Ok(())
}

impl RouteRules {
    /// Files the matches, which come in order of priority.
    pub(crate) fn build(matches: Vec<(RuleMatch, Filing)>) -> RouteRules {
        let mut rules = RouteRules::default();
        let mut full = [HashMap::new(), HashMap::new()];
        let mut begins = [HashMap::new(), HashMap::new()];
        for (index, (found, filing)) in matches.into_iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            match filing {
                Filing::Open => rules.open.push(index),
                Filing::Full { text, ignore_case } => {
                    file(&mut full[usize::from(ignore_case)], text, ignore_case, index)
                }
                Filing::Begins { text, ignore_case } => {
                    file(&mut begins[usize::from(ignore_case)], text, ignore_case, index);
                }
            }
            rules.matches.push(found);
        }
        let ([full, full_any_case], [begins, begins_any_case]) = (full, begins);
        rules.sensitive = Drawers::build(full, begins);
        rules.insensitive = Drawers::build(full_any_case, begins_any_case);
        rules
    }

    /// The first match, in order of priority, that the request satisfies.
    pub(crate) fn find(&self, request: &RequestView<'_>) -> Option<RouteHit<'_>> {
        let mut best = u32::MAX;
        let mut try_drawer = |drawer: &[u32]| {
            let better = drawer.iter().take_while(|index| **index < best);
            let found =
                better.copied().find(|index| self.at(*index).is_some_and(|found| found.holds(request)));
            best = found.unwrap_or(best);
        };
        self.sensitive.visit(request.path, |byte| byte, &mut try_drawer);
        self.insensitive.visit(request.path, |byte| byte.to_ascii_lowercase(), &mut try_drawer);
        try_drawer(&self.open);
        let found = self.at(best)?;
        Some(RouteHit { found, matched: found.matched(request.path) })
    }

    fn at(&self, index: u32) -> Option<&RuleMatch> {
        self.matches.get(index as usize)
    }
}

fn file(drawers: &mut HashMap<String, Vec<u32>>, text: String, ignore_case: bool, index: u32) {
    let text = if ignore_case { text.to_ascii_lowercase() } else { text };
    drawers.entry(text).or_default().push(index);
}

impl Drawers {
    fn build(full: HashMap<String, Vec<u32>>, begins: HashMap<String, Vec<u32>>) -> Drawers {
        let boxed = |drawers: HashMap<String, Vec<u32>>| {
            let entries = drawers.into_iter().map(|(key, drawer)| (key.into_boxed_str(), drawer));
            KeyTable::build(entries.collect(), Keying::Plain)
        };
        let begins = boxed(begins);
        let begin_lengths = Lengths::of(begins.keys());
        Drawers { full: boxed(full), begins, begin_lengths }
    }

    /// Shows every drawer whose key the path begins with, or is, after `fold`.
    fn visit(&self, path: &[u8], fold: impl Fn(u8) -> u8 + Copy, show: &mut impl FnMut(&[u32])) {
        let same = |key: &[u8], text: &[u8]| {
            key.len() == text.len() && key.iter().zip(text).all(|(known, byte)| *known == fold(*byte))
        };
        let may_be_full = path.len() <= self.full.longest();
        let reach = if may_be_full { path.len() } else { path.len().min(self.begin_lengths.longest()) };
        let mut hash = RunningHash::new();
        for (at, &byte) in path[..reach].iter().enumerate() {
            hash.push(fold(byte));
            if self.begin_lengths.contains(at + 1)
                && let Some((_, drawer)) = self.begins.find(hash, |key| same(key, &path[..=at]))
            {
                show(drawer);
            }
        }
        if may_be_full && let Some((_, drawer)) = self.full.find(hash, |key| same(key, path)) {
            show(drawer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn rules(docs: &[serde_json::Value]) -> RouteRules {
        let compiled = docs.iter().enumerate().map(|(n, doc)| {
            let doc = serde_json::from_value(doc.clone()).expect("document");
            RuleMatch::compile(&doc, n, &Field::ROOT).expect("compiles")
        });
        RouteRules::build(compiled.collect())
    }

    fn view(path: &str) -> RequestView<'_> {
        RequestView {
            host: b"h",
            path: path.as_bytes(),
            query: None,
            method: b"GET",
            headers: &(),
            random: 0,
        }
    }

    fn find(rules: &RouteRules, path: &str) -> Option<usize> {
        rules.find(&view(path)).map(|hit| hit.found.rule)
    }

    #[test]
    fn priority_beats_length() {
        let rules = rules(&[json!({"prefixMatch": "/"}), json!({"fullPathMatch": "/a"})]);
        assert_eq!(find(&rules, "/a"), Some(0));
    }

    #[test]
    fn predicates() {
        for (doc, path, want) in [
            (json!({"prefixMatch": "/a"}), "/abc", true),
            (json!({"prefixMatch": "/a*"}), "/abc", false),
            (json!({"prefixMatch": "/a*"}), "/a*c", true),
            (json!({"prefixMatch": "/a"}), "/A", false),
            (json!({"prefixMatch": "/Ab", "ignoreCase": true}), "/aBc", true),
            (json!({"fullPathMatch": "/a/b"}), "/a/b", true),
            (json!({"fullPathMatch": "/a/b"}), "/a/b/", false),
            (json!({"fullPathMatch": "/a/b", "ignoreCase": true}), "/A/B", true),
            (json!({"regexMatch": "/re/[0-9]+"}), "/re/12", true),
            (json!({"regexMatch": "/re/[0-9]+"}), "/re/12x", false),
            (json!({"pathTemplateMatch": "/d/{x=**}"}), "/d/a/b", true),
            (json!({"pathTemplateMatch": "/d/**"}), "/d", false),
        ] {
            assert_eq!(find(&rules(std::slice::from_ref(&doc)), path).is_some(), want, "{doc} {path}");
        }
    }

    #[test]
    fn a_failed_candidate_leaves_the_next() {
        let rules = rules(&[
            json!({"prefixMatch": "/a", "headerMatches": [{"headerName": "x", "presentMatch": true}]}),
            json!({"regexMatch": "/a.*", "queryParameterMatches": [{"name": "q", "presentMatch": true}]}),
            json!({"prefixMatch": "/a"}),
        ]);
        assert_eq!(find(&rules, "/abc"), Some(2));
        let with_query = RequestView { query: Some(b"q=1"), ..view("/abc") };
        assert_eq!(rules.find(&with_query).map(|hit| hit.found.rule), Some(1));
        let headers = vec![("X", "")];
        let with_header = RequestView { headers: &headers, ..view("/abc") };
        assert_eq!(rules.find(&with_header).map(|hit| hit.found.rule), Some(0));
    }

    #[test]
    fn bad_matches() {
        for bad in [
            json!({}),
            json!({"prefixMatch": "/a", "fullPathMatch": "/a"}),
            json!({"prefixMatch": "a"}),
            json!({"prefixMatch": ""}),
            json!({"fullPathMatch": "/a?b"}),
            json!({"regexMatch": "("}),
            json!({"regexMatch": "a", "ignoreCase": true}),
            json!({"pathTemplateMatch": "/***"}),
            json!({"prefixMatch": "/", "metadataFilters": [{"filterMatchCriteria": "MATCH_ALL"}]}),
        ] {
            let doc = serde_json::from_value(bad.clone()).expect("document");
            assert!(RuleMatch::compile(&doc, 0, &Field::ROOT).is_err(), "{bad}");
        }
    }

    #[derive(Debug, Clone)]
    enum Simple {
        Prefix(String, bool),
        Full(String, bool),
        Regex(String),
    }

    fn simple() -> impl Strategy<Value = Simple> {
        let text = "/[abA/]{0,4}";
        prop_oneof![
            (text, any::<bool>()).prop_map(|(t, i)| Simple::Prefix(t, i)),
            (text, any::<bool>()).prop_map(|(t, i)| Simple::Full(t, i)),
            text.prop_map(Simple::Regex),
        ]
    }

    fn naive(rules: &[Simple], path: &str) -> Option<usize> {
        let fold =
            |text: &str, ignore: bool| if ignore { text.to_ascii_lowercase() } else { text.to_string() };
        rules.iter().position(|rule| match rule {
            Simple::Prefix(text, ignore) => fold(path, *ignore).starts_with(&fold(text, *ignore)),
            Simple::Full(text, ignore) => fold(path, *ignore) == fold(text, *ignore),
            Simple::Regex(text) => path == text,
        })
    }

    proptest! {
        #[test]
        fn equals_trying_one_after_another(
            docs in proptest::collection::vec(simple(), 0..16), path in "/[abA/]{0,6}",
        ) {
            let json: Vec<_> = docs.iter().map(|doc| match doc {
                Simple::Prefix(text, ignore) => json!({"prefixMatch": text, "ignoreCase": ignore}),
                Simple::Full(text, ignore) => json!({"fullPathMatch": text, "ignoreCase": ignore}),
                Simple::Regex(text) => json!({"regexMatch": text}),
            }).collect();
            prop_assert_eq!(find(&rules(&json), &path), naive(&docs, &path));
        }
    }
}
