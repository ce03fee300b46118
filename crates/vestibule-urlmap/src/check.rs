//! Static validation of a whole URL map: what an insert, update, patch or `validate` must refuse.
//!
//! Compiling finds what cannot be understood. This finds what can be understood but must not be: hosts and paths that
//! occur twice, path matchers that nothing leads to, priorities that collide, lists that are too long.

use std::collections::{HashMap, HashSet};
use std::fmt;

use vestibule_model::compute;
use vestibule_model::name::is_valid_name;

use crate::field::{CompileError, Field};
use crate::map::UrlMap;

mod references;
mod tests_of_map;

pub use references::{Reference, Role, references};
pub use tests_of_map::{TestFailure, run_tests};

/// How large a URL map may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Host rules and path matchers of a map, together.
    pub rules: usize,
    pub hosts_per_rule: usize,
    /// Path rules, or route rules, of one path matcher.
    pub rules_per_matcher: usize,
    /// Match predicates of one path matcher's route rules.
    pub predicates_per_matcher: usize,
    /// Path templates among the predicates of one path matcher.
    pub templates_per_matcher: usize,
    /// Regular expressions of one path matcher.
    pub regexes_per_matcher: usize,
    /// Length of one regular expression in bytes.
    pub regex_length: usize,
    /// Distinct backend services.
    pub services: usize,
    pub tests: usize,
}

impl Limits {
    /// Google's quotas for internal application load balancers. A whole map may also take 128 KB when serialised,
    /// which its caller knows better.
    pub const GOOGLE: Limits = Limits {
        rules: 2000,
        hosts_per_rule: 1000,
        rules_per_matcher: 1000,
        predicates_per_matcher: 1000,
        templates_per_matcher: 100,
        regexes_per_matcher: 5,
        regex_length: 250,
        services: 2500,
        tests: 100,
    };

    /// What one machine bears: only regular expressions, whose cost adds up per request, stay few.
    pub const GENEROUS: Limits = Limits {
        rules: 100_000,
        hosts_per_rule: 100_000,
        rules_per_matcher: 1_000_000,
        predicates_per_matcher: 1_000_000,
        templates_per_matcher: 10_000,
        regexes_per_matcher: 100,
        regex_length: 1024,
        services: 100_000,
        tests: 10_000,
    };
}

/// Why a URL map is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A value is wrong, or missing.
    Invalid(CompileError),
    /// A list is too long.
    TooLarge { field: String, max: usize, actual: usize },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Invalid(error) => error.fmt(f),
            Problem::TooLarge { field, max, actual } => write!(
                f,
                "Value for field '{field}' is too large: maximum size {max} element(s); actual size {actual}."
            ),
        }
    }
}

impl std::error::Error for Problem {}

impl From<CompileError> for Problem {
    fn from(error: CompileError) -> Problem {
        Problem::Invalid(error)
    }
}

/// Checks a whole map and compiles it. `resolve` as for [`UrlMap::compile`].
pub fn check(
    doc: &compute::UrlMap,
    limits: &Limits,
    resolve: impl FnMut(&str) -> Option<usize>,
) -> Result<UrlMap, Problem> {
    check_sizes(doc, limits)?;
    check_description(doc.description.as_deref(), &Field::ROOT)?;
    let map = UrlMap::compile(doc, resolve)?;
    check_hosts(doc)?;
    check_matcher_names(doc)?;
    for (index, matcher) in doc.path_matchers.iter().enumerate() {
        check_matcher(matcher, &Field::ROOT.item("pathMatchers", index))?;
    }
    for (index, test) in doc.tests.iter().enumerate() {
        check_test(test, &Field::ROOT.item("tests", index))?;
    }
    Ok(map)
}

fn check_sizes(doc: &compute::UrlMap, limits: &Limits) -> Result<(), Problem> {
    let root = Field::ROOT;
    at_most(limits.rules, doc.host_rules.len(), &root.member("hostRules"))?;
    at_most(limits.rules, doc.host_rules.len() + doc.path_matchers.len(), &root.member("pathMatchers"))?;
    at_most(limits.tests, doc.tests.len(), &root.member("tests"))?;
    for (index, rule) in doc.host_rules.iter().enumerate() {
        at_most(limits.hosts_per_rule, rule.hosts.len(), &root.item("hostRules", index).member("hosts"))?;
    }
    for (index, matcher) in doc.path_matchers.iter().enumerate() {
        check_matcher_size(matcher, limits, &root.item("pathMatchers", index))?;
    }
    let services: HashSet<&str> = references(doc).iter().map(|reference| reference.service).collect();
    at_most(limits.services, services.len(), &root.member("pathMatchers"))
}

fn check_matcher_size(doc: &compute::PathMatcher, limits: &Limits, at: &Field<'_>) -> Result<(), Problem> {
    at_most(limits.rules_per_matcher, doc.path_rules.len(), &at.member("pathRules"))?;
    let rules = at.member("routeRules");
    at_most(limits.rules_per_matcher, doc.route_rules.len(), &rules)?;
    let matches = || doc.route_rules.iter().flat_map(|rule| &rule.match_rules);
    let predicates =
        |m: &compute::HttpRouteRuleMatch| 1 + m.header_matches.len() + m.query_parameter_matches.len();
    at_most(limits.predicates_per_matcher, matches().map(predicates).sum(), &rules)?;
    let templates = matches().filter(|found| found.path_template_match.is_some()).count();
    at_most(limits.templates_per_matcher, templates, &rules)?;
    let regexes = regexes(doc);
    at_most(limits.regexes_per_matcher, regexes.len(), &rules)?;
    match regexes.into_iter().find(|regex| regex.len() > limits.regex_length) {
        Some(regex) => {
            let why = format!("Regular expression must be at most {} characters long.", limits.regex_length);
            Err(rules.invalid(regex, why).into())
        }
        None => Ok(()),
    }
}

/// Every regular expression of a path matcher.
fn regexes(doc: &compute::PathMatcher) -> Vec<&str> {
    let mut found = Vec::new();
    for rule in &doc.route_rules {
        for one in &rule.match_rules {
            found.extend(one.regex_match.as_deref());
            found.extend(one.header_matches.iter().filter_map(|test| test.regex_match.as_deref()));
            found.extend(one.query_parameter_matches.iter().filter_map(|test| test.regex_match.as_deref()));
        }
    }
    let actions = doc.route_rules.iter().filter_map(|rule| rule.route_action.as_ref());
    let actions = actions.chain(doc.path_rules.iter().filter_map(|rule| rule.route_action.as_ref()));
    let rewrites = actions.chain(&doc.default_route_action).filter_map(|action| action.url_rewrite.as_ref());
    found.extend(rewrites.filter_map(|rewrite| rewrite.regex_rewrite.as_ref()?.path_pattern.as_deref()));
    found
}

fn at_most(max: usize, actual: usize, at: &Field<'_>) -> Result<(), Problem> {
    if actual <= max {
        return Ok(());
    }
    Err(Problem::TooLarge { field: at.to_string(), max, actual })
}

fn check_description(text: Option<&str>, at: &Field<'_>) -> Result<(), Problem> {
    match text.filter(|text| text.len() > 1024) {
        Some(text) => {
            Err(at.member("description").invalid(text, "Must be at most 1024 characters long.").into())
        }
        None => Ok(()),
    }
}

fn check_hosts(doc: &compute::UrlMap) -> Result<(), Problem> {
    let mut seen = HashMap::new();
    for (rule_index, rule) in doc.host_rules.iter().enumerate() {
        let at = Field::ROOT.item("hostRules", rule_index);
        check_description(rule.description.as_deref(), &at)?;
        if rule.hosts.is_empty() {
            return Err(at.member("hosts").required().into());
        }
        for (index, host) in rule.hosts.iter().enumerate() {
            if seen.insert(host.to_ascii_lowercase(), rule_index).is_some() {
                let why = "The host is used more than once. A host can be in one host rule only.";
                return Err(at.item("hosts", index).invalid(host, why).into());
            }
        }
    }
    Ok(())
}

fn check_matcher_names(doc: &compute::UrlMap) -> Result<(), Problem> {
    let wanted: HashSet<&str> =
        doc.host_rules.iter().filter_map(|rule| rule.path_matcher.as_deref()).collect();
    let mut seen = HashSet::new();
    for (index, matcher) in doc.path_matchers.iter().enumerate() {
        let at = Field::ROOT.item("pathMatchers", index);
        let field = at.member("name");
        let name = matcher.name.as_deref().filter(|name| !name.is_empty()).ok_or_else(|| field.required())?;
        if !is_valid_name(name) {
            let why = format!("Must be a match of regex '{}'", vestibule_model::name::NAME_PATTERN);
            return Err(field.invalid(name, why).into());
        }
        if !seen.insert(name) {
            return Err(field.invalid(name, "The name is used by more than one path matcher.").into());
        }
        if !wanted.contains(name) {
            return Err(field.invalid(name, "The path matcher is not referenced by any host rule.").into());
        }
        check_description(matcher.description.as_deref(), &at)?;
    }
    Ok(())
}

fn check_matcher(doc: &compute::PathMatcher, at: &Field<'_>) -> Result<(), Problem> {
    check_paths(doc, at)?;
    let mut priorities = HashSet::new();
    for (index, rule) in doc.route_rules.iter().enumerate() {
        let at = at.item("routeRules", index);
        let priority = rule.priority.unwrap_or(0);
        if priority < 0 {
            return Err(at
                .member("priority")
                .invalid(priority, "Must be between 0 and 2147483647 inclusive.")
                .into());
        }
        if !priorities.insert(priority) {
            let why = "The priority is used by more than one route rule of the path matcher.";
            return Err(at.member("priority").invalid(priority, why).into());
        }
        if rule.match_rules.is_empty() {
            return Err(at.member("matchRules").required().into());
        }
        check_description(rule.description.as_deref(), &at)?;
    }
    Ok(())
}

fn check_paths(doc: &compute::PathMatcher, at: &Field<'_>) -> Result<(), Problem> {
    let mut seen = HashSet::new();
    for (index, rule) in doc.path_rules.iter().enumerate() {
        let at = at.item("pathRules", index);
        if rule.paths.is_empty() {
            return Err(at.member("paths").required().into());
        }
        for (index, path) in rule.paths.iter().enumerate() {
            if !seen.insert(path) {
                let why = "The path is used more than once in the path matcher.";
                return Err(at.item("paths", index).invalid(path, why).into());
            }
        }
    }
    Ok(())
}

fn check_test(doc: &compute::UrlMapTest, at: &Field<'_>) -> Result<(), Problem> {
    check_description(doc.description.as_deref(), at)?;
    let present = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if !present(&doc.host) {
        return Err(at.member("host").required().into());
    }
    let path = doc.path.as_deref().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(at.member("path").invalid(path, "Path must begin with '/'.").into());
    }
    let (service, status) = (present(&doc.service), doc.expected_redirect_response_code);
    match status {
        Some(status) if service => {
            let why = "expectedRedirectResponseCode cannot be set when service is set.";
            return Err(at.member("expectedRedirectResponseCode").invalid(status, why).into());
        }
        None if !service && !present(&doc.expected_output_url) => {
            return Err(at.member("service").required().into());
        }
        _ => {}
    }
    let host_header = doc.headers.iter().enumerate().find(|(_, header)| {
        header.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("host"))
            && header.value != doc.host
    });
    match host_header {
        Some((index, header)) => {
            let value = header.value.as_deref().unwrap_or_default();
            let why = "The host header must equal the host of the test.";
            Err(at.item("headers", index).member("value").invalid(value, why).into())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
