//! A compiled URL map, and the one question it answers: what becomes of this request?

use std::collections::HashMap;

use vestibule_model::compute;

use crate::action::{Action, ActionDoc, DEFAULT, RULE, Resolve, RouteAction};
use crate::field::{CompileError, Field};
use crate::headers::{HeaderAction, HeaderLevels};
use crate::hosts::Hosts;
use crate::paths::Paths;
use crate::redirect::{AskedUrl, Redirect};
use crate::request::RequestView;
use crate::rewrite::Matched;
use crate::route_rules::{RouteRules, RuleMatch};

/// What logs print in the place of a path rule when a default served the request.
pub const UNMATCHED: &str = "UNMATCHED";

/// A compiled URL map. Immutable; shared by all workers.
#[derive(Debug)]
pub struct UrlMap {
    hosts: Hosts<HostHit>,
    matchers: Vec<PathMatcher>,
    default: Action,
    headers: Option<HeaderAction>,
}

#[derive(Debug)]
struct HostHit {
    pattern: Box<str>,
    matcher: usize,
}

#[derive(Debug)]
struct PathMatcher {
    name: Box<str>,
    headers: Option<HeaderAction>,
    default: Action,
    rules: Rules,
}

#[derive(Debug)]
enum Rules {
    /// The table answers with indices of actions.
    Paths { table: Paths<u32>, actions: Vec<Action> },
    /// Rules in order of priority.
    Routes { index: RouteRules, rules: Vec<RouteRule> },
}

#[derive(Debug)]
struct RouteRule {
    headers: Option<HeaderAction>,
    action: Action,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub enum Decision<'m> {
    Redirect(RedirectDecision<'m>),
    Forward(ForwardDecision<'m>),
}

/// By which rules a decision came about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trail<'m> {
    /// The host pattern that matched. `None`: the map's defaults.
    pub host: Option<&'m str>,
    pub path_matcher: Option<&'m str>,
    /// The path rule, or the path predicate of the route rule. `None`: a default.
    pub rule: Option<&'m str>,
}

impl<'m> Trail<'m> {
    /// The rule's text for logs: `/video/hd/*`, or [`UNMATCHED`] for a default.
    pub fn label(&self) -> &'m str {
        self.rule.unwrap_or(UNMATCHED)
    }
}

/// The client is sent elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct RedirectDecision<'m> {
    pub trail: Trail<'m>,
    /// Header actions; those on responses apply to the redirect.
    pub headers: HeaderLevels<'m>,
    redirect: &'m Redirect,
    matched: Matched<'m>,
}

impl RedirectDecision<'_> {
    pub fn status(&self) -> u16 {
        self.redirect.status()
    }

    /// Writes the `Location`: always an absolute URL.
    pub fn location(&self, asked: AskedUrl<'_>, out: &mut Vec<u8>) {
        self.redirect.location(asked, self.matched, out);
    }
}

/// The request goes to a backend service.
#[derive(Debug, Clone, Copy)]
pub struct ForwardDecision<'m> {
    pub trail: Trail<'m>,
    /// Index of the backend service, as `resolve` gave it.
    pub service: usize,
    pub headers: HeaderLevels<'m>,
    /// Timeout, retries, CORS, faults, mirror.
    pub action: &'m RouteAction,
    matched: Matched<'m>,
}

impl<'m> ForwardDecision<'m> {
    /// The `Host` that the backend sees, if it is not the client's.
    pub fn rewritten_host(&self) -> Option<&'m str> {
        self.action.rewrite().and_then(|rewrite| rewrite.host())
    }

    /// Writes the path that the backend sees, without query. `false`, and nothing written, when it is the client's own.
    pub fn rewrite_path(&self, path: &[u8], out: &mut Vec<u8>) -> bool {
        self.action.rewrite().is_some_and(|rewrite| rewrite.path(path, self.matched, out))
    }
}

impl UrlMap {
    /// Compiles a URL map. `resolve` gives each backend service that the map names an index; the decisions answer with
    /// it. Whatever the document says, this does not panic; what it cannot make sense of is an error with its place.
    pub fn compile(
        doc: &compute::UrlMap,
        mut resolve: impl FnMut(&str) -> Option<usize>,
    ) -> Result<UrlMap, CompileError> {
        let at = Field::ROOT;
        if doc.default_custom_error_response_policy.is_some() {
            let field = at.member("defaultCustomErrorResponsePolicy");
            return Err(field.invalid("", crate::action::UNSUPPORTED));
        }
        let default = default_action(doc, &at, &mut resolve)?;
        let headers = header_action(doc.header_action.as_ref(), &at)?;
        let matchers = doc.path_matchers.iter().enumerate();
        let matchers =
            matchers.map(|(n, doc)| PathMatcher::compile(doc, &at.item("pathMatchers", n), &mut resolve));
        let matchers: Vec<PathMatcher> = matchers.collect::<Result<_, _>>()?;
        Ok(UrlMap { hosts: compile_hosts(doc, &matchers, &at)?, matchers, default, headers })
    }

    /// Decides on a request.
    pub fn route<'m>(&'m self, request: &RequestView<'_>) -> Decision<'m> {
        let found = self.hosts.find(request.host);
        let found = found.and_then(|hit| Some((hit, self.matchers.get(hit.matcher)?)));
        let Some((host, matcher)) = found else {
            let levels = Levels { rule: None, matcher: None, map: self.headers.as_ref() };
            return decide(&self.default, Trail::default(), levels, DEFAULT_MATCH, request.random);
        };
        let hit = matcher.rules.find(request);
        let trail = Trail {
            host: Some(&host.pattern),
            path_matcher: Some(&matcher.name),
            rule: hit.as_ref().map(|hit| hit.label),
        };
        let levels = Levels {
            rule: hit.as_ref().and_then(|hit| hit.headers),
            matcher: matcher.headers.as_ref(),
            map: self.headers.as_ref(),
        };
        match hit {
            Some(hit) => decide(hit.action, trail, levels, hit.matched, request.random),
            None => decide(&matcher.default, trail, levels, DEFAULT_MATCH, request.random),
        }
    }
}

/// A default stands for the rule `/*`: it matches the leading slash.
const DEFAULT_MATCH: Matched<'static> = Matched { length: 1, template: None };

struct Levels<'m> {
    rule: Option<&'m HeaderAction>,
    matcher: Option<&'m HeaderAction>,
    map: Option<&'m HeaderAction>,
}

fn decide<'m>(
    action: &'m Action,
    trail: Trail<'m>,
    levels: Levels<'m>,
    matched: Matched<'m>,
    random: u64,
) -> Decision<'m> {
    let headers = |weighted| HeaderLevels::new(weighted, levels.rule, levels.matcher, levels.map);
    match action {
        Action::Redirect(redirect) => {
            Decision::Redirect(RedirectDecision { trail, headers: headers(None), redirect, matched })
        }
        Action::Forward(action) => {
            let (service, weighted) = action.choose(random);
            Decision::Forward(ForwardDecision { trail, service, headers: headers(weighted), action, matched })
        }
    }
}

/// A rule that a request matched.
struct RuleHit<'m> {
    label: &'m str,
    action: &'m Action,
    headers: Option<&'m HeaderAction>,
    matched: Matched<'m>,
}

impl Rules {
    fn find<'m>(&'m self, request: &RequestView<'_>) -> Option<RuleHit<'m>> {
        match self {
            Rules::Paths { table, actions } => {
                let hit = table.find(request.path)?;
                Some(RuleHit {
                    label: hit.pattern,
                    action: actions.get(hit.value as usize)?,
                    headers: None,
                    matched: Matched { length: hit.matched, template: None },
                })
            }
            Rules::Routes { index, rules } => {
                let hit = index.find(request)?;
                let rule = rules.get(hit.found.rule)?;
                Some(RuleHit {
                    label: &hit.found.label,
                    action: &rule.action,
                    headers: rule.headers.as_ref(),
                    matched: Matched { length: hit.matched, template: hit.found.template() },
                })
            }
        }
    }
}

fn default_action(
    doc: &compute::UrlMap,
    at: &Field<'_>,
    resolve: Resolve<'_>,
) -> Result<Action, CompileError> {
    let action = ActionDoc {
        service: doc.default_service.as_ref(),
        redirect: doc.default_url_redirect.as_ref(),
        route: doc.default_route_action.as_ref(),
        names: &DEFAULT,
    };
    Action::compile(&action, None, at, resolve)
}

fn header_action(
    doc: Option<&compute::HttpHeaderAction>,
    at: &Field<'_>,
) -> Result<Option<HeaderAction>, CompileError> {
    doc.map(|doc| HeaderAction::compile(doc, &at.member("headerAction"))).transpose()
}

fn compile_hosts(
    doc: &compute::UrlMap,
    matchers: &[PathMatcher],
    at: &Field<'_>,
) -> Result<Hosts<HostHit>, CompileError> {
    let by_name: HashMap<&str, usize> =
        matchers.iter().enumerate().map(|(index, matcher)| (&*matcher.name, index)).collect();
    let mut patterns = Vec::new();
    for (index, rule) in doc.host_rules.iter().enumerate() {
        let at = at.item("hostRules", index);
        let name = rule.path_matcher.as_deref().unwrap_or_default();
        let matcher = by_name.get(name);
        let matcher = *matcher.ok_or_else(|| {
            at.member("pathMatcher").invalid(name, "The referenced path matcher does not exist.")
        })?;
        for (index, pattern) in rule.hosts.iter().enumerate() {
            crate::hosts::check_pattern(pattern)
                .map_err(|why| at.item("hosts", index).invalid(pattern, why))?;
            patterns.push((pattern.clone(), HostHit { pattern: pattern.as_str().into(), matcher }));
        }
    }
    Ok(Hosts::build(patterns))
}

impl PathMatcher {
    fn compile(
        doc: &compute::PathMatcher,
        at: &Field<'_>,
        resolve: Resolve<'_>,
    ) -> Result<PathMatcher, CompileError> {
        if doc.default_custom_error_response_policy.is_some() {
            let field = at.member("defaultCustomErrorResponsePolicy");
            return Err(field.invalid("", crate::action::UNSUPPORTED));
        }
        let action = ActionDoc {
            service: doc.default_service.as_ref(),
            redirect: doc.default_url_redirect.as_ref(),
            route: doc.default_route_action.as_ref(),
            names: &DEFAULT,
        };
        Ok(PathMatcher {
            name: doc.name.as_deref().unwrap_or_default().into(),
            headers: header_action(doc.header_action.as_ref(), at)?,
            default: Action::compile(&action, None, at, resolve)?,
            rules: Rules::compile(doc, at, resolve)?,
        })
    }
}

impl Rules {
    fn compile(
        doc: &compute::PathMatcher,
        at: &Field<'_>,
        resolve: Resolve<'_>,
    ) -> Result<Rules, CompileError> {
        match (doc.path_rules.is_empty(), doc.route_rules.is_empty()) {
            (_, true) => path_rules(doc, at, resolve),
            (true, false) => route_rules(doc, at, resolve),
            (false, false) => {
                let why = "A path matcher must not have both pathRules and routeRules.";
                Err(at.member("routeRules").invalid("", why))
            }
        }
    }
}

fn path_rules(
    doc: &compute::PathMatcher,
    at: &Field<'_>,
    resolve: Resolve<'_>,
) -> Result<Rules, CompileError> {
    let (mut patterns, mut actions) = (Vec::new(), Vec::new());
    let mut plain: HashMap<&str, u32> = HashMap::new();
    for (index, rule) in doc.path_rules.iter().enumerate() {
        let at = at.item("pathRules", index);
        if rule.custom_error_response_policy.is_some() {
            return Err(at.member("customErrorResponsePolicy").invalid("", crate::action::UNSUPPORTED));
        }
        // Of thousands of rules, nearly all only name one of a few services: they share an action, which then is
        // always at hand.
        let shared =
            rule.service.as_deref().filter(|_| rule.route_action.is_none() && rule.url_redirect.is_none());
        let known = shared.and_then(|service| plain.get(service).copied());
        let action = known.unwrap_or_else(|| u32::try_from(actions.len()).unwrap_or(u32::MAX));
        for (index, pattern) in rule.paths.iter().enumerate() {
            crate::paths::check_pattern(pattern)
                .map_err(|why| at.item("paths", index).invalid(pattern, why))?;
            patterns.push((pattern.clone(), action));
        }
        if known.is_none() {
            plain.extend(shared.map(|service| (service, action)));
            let doc = ActionDoc {
                service: rule.service.as_ref(),
                redirect: rule.url_redirect.as_ref(),
                route: rule.route_action.as_ref(),
                names: &RULE,
            };
            actions.push(Action::compile(&doc, None, &at, resolve)?);
        }
    }
    Ok(Rules::Paths { table: Paths::build(patterns), actions })
}

fn route_rules(
    doc: &compute::PathMatcher,
    at: &Field<'_>,
    resolve: Resolve<'_>,
) -> Result<Rules, CompileError> {
    let mut order: Vec<usize> = (0..doc.route_rules.len()).collect();
    order.sort_by_key(|index| doc.route_rules[*index].priority.unwrap_or(0));
    let (mut matches, mut rules) = (Vec::new(), Vec::new());
    for index in order {
        let (rule, at) = (&doc.route_rules[index], at.item("routeRules", index));
        if rule.custom_error_response_policy.is_some() {
            return Err(at.member("customErrorResponsePolicy").invalid("", crate::action::UNSUPPORTED));
        }
        let first = matches.len();
        for (n, doc) in rule.match_rules.iter().enumerate() {
            matches.push(RuleMatch::compile(doc, rules.len(), &at.item("matchRules", n))?);
        }
        // A template rewrite uses the variables of whichever match was found, so all must have the same ones.
        let templates: Vec<_> = rule.match_rules.iter().map(|doc| &doc.path_template_match).collect();
        let uniform = templates.windows(2).all(|pair| pair[0] == pair[1]);
        let template = matches.get(first).filter(|_| uniform).and_then(|(found, _)| found.template());
        let action = ActionDoc {
            service: rule.service.as_ref(),
            redirect: rule.url_redirect.as_ref(),
            route: rule.route_action.as_ref(),
            names: &RULE,
        };
        let action = Action::compile(&action, template, &at, resolve)?;
        rules.push(RouteRule { headers: header_action(rule.header_action.as_ref(), &at)?, action });
    }
    Ok(Rules::Routes { index: RouteRules::build(matches), rules })
}

#[cfg(test)]
mod tests;
