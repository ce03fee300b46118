//! What a rule, or a default, does with a request: redirect it, or forward it to one of its backend services.

use std::time::Duration;

use vestibule_model::compute;

use crate::chance::Chance;
use crate::cors::CorsPolicy;
use crate::duration::duration;
use crate::fault::Fault;
use crate::field::{CompileError, Field};
use crate::headers::HeaderAction;
use crate::redirect::Redirect;
use crate::retry::RetryPolicy;
use crate::rewrite::Rewrite;
use crate::template::Template;

/// Finds the index of a backend service by its reference.
pub(crate) type Resolve<'r> = &'r mut dyn FnMut(&str) -> Option<usize>;

/// The three ways, of which a rule has exactly one, as the document has them. The names differ between rules
/// (`service`, `urlRedirect`, `routeAction`) and defaults (`defaultService`, …).
pub(crate) struct ActionDoc<'d> {
    pub(crate) service: Option<&'d String>,
    pub(crate) redirect: Option<&'d compute::HttpRedirectAction>,
    pub(crate) route: Option<&'d compute::HttpRouteAction>,
    pub(crate) names: &'static ActionNames,
}

/// What the members of an [`ActionDoc`] are called.
pub(crate) struct ActionNames {
    service: &'static str,
    redirect: &'static str,
    route: &'static str,
}

pub(crate) const RULE: ActionNames =
    ActionNames { service: "service", redirect: "urlRedirect", route: "routeAction" };
pub(crate) const DEFAULT: ActionNames =
    ActionNames { service: "defaultService", redirect: "defaultUrlRedirect", route: "defaultRouteAction" };

#[derive(Debug)]
pub(crate) enum Action {
    Redirect(Redirect),
    Forward(Box<RouteAction>),
}

/// A compiled `routeAction`, and the backend services to choose from.
#[derive(Debug)]
pub struct RouteAction {
    services: Services,
    rewrite: Option<Rewrite>,
    timeout: Option<Duration>,
    retry: Option<RetryPolicy>,
    cors: Option<CorsPolicy>,
    fault: Option<Fault>,
    mirror: Option<Mirror>,
}

#[derive(Debug)]
enum Services {
    One(usize),
    Weighted { choices: Box<[Weighted]>, total: u64 },
}

#[derive(Debug)]
struct Weighted {
    service: usize,
    /// Sum of the weights up to and with this one.
    until: u64,
    headers: Option<Box<HeaderAction>>,
}

/// A compiled `requestMirrorPolicy`.
#[derive(Debug, Clone, Copy)]
pub struct Mirror {
    /// Index of the backend service that gets the copies.
    pub service: usize,
    pub chance: Chance,
}

impl RouteAction {
    /// Chooses the backend service, with the header actions of that choice.
    pub(crate) fn choose(&self, random: u64) -> (usize, Option<&HeaderAction>) {
        match &self.services {
            Services::One(service) => (*service, None),
            Services::Weighted { choices, total } => {
                let drawn = ((u128::from(random) * u128::from(*total)) >> 64) as u64;
                let chosen = choices.iter().find(|choice| drawn < choice.until);
                chosen.map_or((0, None), |choice| (choice.service, choice.headers.as_deref()))
            }
        }
    }

    /// Every backend service that this action may choose, and its share of the requests (0.0 to 1.0).
    pub fn services(&self) -> Vec<(usize, f64)> {
        match &self.services {
            Services::One(service) => vec![(*service, 1.0)],
            Services::Weighted { choices, total } => {
                let mut from = 0;
                let share = |choice: &Weighted| {
                    let weight = choice.until - std::mem::replace(&mut from, choice.until);
                    (choice.service, weight as f64 / *total as f64)
                };
                choices.iter().map(share).collect()
            }
        }
    }

    pub fn rewrite(&self) -> Option<&Rewrite> {
        self.rewrite.as_ref()
    }

    /// From the end of the request to the end of the response, all attempts together. `None`: the backend service's.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub fn retry(&self) -> Option<&RetryPolicy> {
        self.retry.as_ref()
    }

    pub fn cors(&self) -> Option<&CorsPolicy> {
        self.cors.as_ref()
    }

    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    pub fn mirror(&self) -> Option<Mirror> {
        self.mirror
    }
}

impl Action {
    pub(crate) fn compile(
        doc: &ActionDoc<'_>,
        template: Option<&Template>,
        at: &Field<'_>,
        resolve: Resolve<'_>,
    ) -> Result<Action, CompileError> {
        let weighted = doc.route.is_some_and(|route| !route.weighted_backend_services.is_empty());
        let service = doc.service.filter(|service| !service.is_empty());
        match (service, doc.redirect, weighted) {
            (None, None, false) => Err(at.member(doc.names.service).required()),
            (None, Some(redirect), false) => {
                if doc.route.is_some() {
                    return Err(at
                        .member(doc.names.route)
                        .invalid("", "A redirect cannot have a route action."));
                }
                Ok(Action::Redirect(Redirect::compile(redirect, &at.member(doc.names.redirect))?))
            }
            (Some(service), None, false) => {
                let index = find(service, &at.member(doc.names.service), resolve)?;
                compile_route(doc, Services::One(index), template, at, resolve)
            }
            (None, None, true) => {
                let route = at.member(doc.names.route);
                let services = weighted_services(doc.route, &route, resolve)?;
                compile_route(doc, services, template, at, resolve)
            }
            _ => Err(at
                .member(doc.names.service)
                .invalid(service.map_or("", String::as_str), exactly_one(doc.names))),
        }
    }
}

fn exactly_one(names: &ActionNames) -> String {
    format!(
        "Exactly one of {}, {} and {}.weightedBackendServices must be set.",
        names.service, names.redirect, names.route
    )
}

fn compile_route(
    doc: &ActionDoc<'_>,
    services: Services,
    template: Option<&Template>,
    at: &Field<'_>,
    resolve: Resolve<'_>,
) -> Result<Action, CompileError> {
    let empty = compute::HttpRouteAction::default();
    let (route, at) = (doc.route.unwrap_or(&empty), at.member(doc.names.route));
    refuse_unsupported(route, &at)?;
    let rewrite = route.url_rewrite.as_ref();
    let retry = route.retry_policy.as_ref();
    let cors = route.cors_policy.as_ref();
    let fault = route.fault_injection_policy.as_ref();
    let mirror = route.request_mirror_policy.as_ref();
    Ok(Action::Forward(Box::new(RouteAction {
        services,
        rewrite: rewrite.map(|doc| Rewrite::compile(doc, template, &at.member("urlRewrite"))).transpose()?,
        timeout: timeout(route.timeout.as_ref(), &at.member("timeout"))?,
        retry: retry.map(|doc| RetryPolicy::compile(doc, &at.member("retryPolicy"))).transpose()?,
        cors: cors.map(|doc| CorsPolicy::compile(doc, &at.member("corsPolicy"))).transpose()?.flatten(),
        fault: fault.map(|doc| Fault::compile(doc, &at.member("faultInjectionPolicy"))).transpose()?,
        mirror: mirror
            .map(|doc| compile_mirror(doc, &at.member("requestMirrorPolicy"), resolve))
            .transpose()?,
    })))
}

/// Features of other load balancers that share the schema.
fn refuse_unsupported(route: &compute::HttpRouteAction, at: &Field<'_>) -> Result<(), CompileError> {
    let members = [
        ("cachePolicy", route.cache_policy.is_some()),
        ("dynamicCompressionPolicy", route.dynamic_compression_policy.is_some()),
        ("imageOptimizationPolicy", route.image_optimization_policy.is_some()),
        ("maxStreamDuration", route.max_stream_duration.is_some()),
    ];
    match members.iter().find(|(_, set)| *set) {
        Some((member, _)) => Err(at.member(member).invalid("", UNSUPPORTED)),
        None => Ok(()),
    }
}

pub(crate) const UNSUPPORTED: &str = "Field is not supported with load balancing scheme INTERNAL_MANAGED.";

/// A timeout of zero is none.
fn timeout(doc: Option<&compute::Duration>, at: &Field<'_>) -> Result<Option<Duration>, CompileError> {
    let limit = doc.map(|doc| duration(doc, at)).transpose()?;
    Ok(limit.filter(|limit| !limit.is_zero()))
}

fn weighted_services(
    route: Option<&compute::HttpRouteAction>,
    at: &Field<'_>,
    resolve: Resolve<'_>,
) -> Result<Services, CompileError> {
    let list = route.map_or(&[][..], |route| &route.weighted_backend_services);
    let mut total = 0;
    let mut choices = Vec::with_capacity(list.len());
    for (index, doc) in list.iter().enumerate() {
        let at = at.item("weightedBackendServices", index);
        let reference = doc.backend_service.as_ref().filter(|reference| !reference.is_empty());
        let reference = reference.ok_or_else(|| at.member("backendService").required())?;
        let weight = doc.weight.unwrap_or(0);
        if weight > 1000 {
            return Err(at.member("weight").invalid(weight, "Must be between 0 and 1000 inclusive."));
        }
        let header_at = at.member("headerAction");
        let headers =
            doc.header_action.as_ref().map(|doc| HeaderAction::compile(doc, &header_at)).transpose()?;
        total += u64::from(weight);
        let service = find(reference, &at.member("backendService"), resolve)?;
        choices.push(Weighted { service, until: total, headers: headers.map(Box::new) });
    }
    if total == 0 {
        let at = at.member("weightedBackendServices");
        return Err(at.invalid("", "At least one backend service must have a weight greater than 0."));
    }
    Ok(Services::Weighted { choices: choices.into(), total })
}

fn compile_mirror(
    doc: &compute::RequestMirrorPolicy,
    at: &Field<'_>,
    resolve: Resolve<'_>,
) -> Result<Mirror, CompileError> {
    let field = at.member("backendService");
    let reference = doc.backend_service.as_ref().filter(|reference| !reference.is_empty());
    let service = find(reference.ok_or_else(|| field.required())?, &field, resolve)?;
    let chance = match doc.mirror_percent {
        Some(percent) => Chance::percent(percent, &at.member("mirrorPercent"))?,
        None => Chance::ALWAYS,
    };
    Ok(Mirror { service, chance })
}

fn find(reference: &str, at: &Field<'_>, resolve: Resolve<'_>) -> Result<usize, CompileError> {
    resolve(reference)
        .ok_or_else(|| at.invalid(reference, "The referenced backend service resource cannot be found."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compile(json: serde_json::Value) -> Result<Action, CompileError> {
        let rule: compute::PathRule = serde_json::from_value(json).expect("document");
        let doc = ActionDoc {
            service: rule.service.as_ref(),
            redirect: rule.url_redirect.as_ref(),
            route: rule.route_action.as_ref(),
            names: &RULE,
        };
        Action::compile(&doc, None, &Field::ROOT, &mut |name| name.strip_prefix('s')?.parse().ok())
    }

    fn weighted(json: serde_json::Value) -> Result<Action, CompileError> {
        compile(json!({"routeAction": {"weightedBackendServices": json}}))
    }

    #[test]
    fn weights_share_the_requests() {
        let Ok(Action::Forward(action)) = weighted(json!([
            {"backendService": "s0", "weight": 95}, {"backendService": "s1", "weight": 0},
            {"backendService": "s2", "weight": 5},
        ])) else {
            panic!("compiles")
        };
        assert_eq!(action.services(), [(0, 0.95), (1, 0.0), (2, 0.05)]);
        let mut counts = [0; 3];
        for n in 0..10_000u64 {
            counts[action.choose(n * (u64::MAX / 10_000)).0] += 1;
        }
        assert!((9499..=9501).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
    }

    #[test]
    fn exactly_one_way() {
        for bad in [
            json!({}),
            json!({"service": "s1", "urlRedirect": {"httpsRedirect": true}}),
            json!({"service": "s1", "routeAction": {"weightedBackendServices": [{"backendService": "s1", "weight": 1}]}}),
            json!({"urlRedirect": {"httpsRedirect": true}, "routeAction": {"timeout": {"seconds": "1"}}}),
            json!({"service": "unknown"}),
            json!({"service": "s1", "routeAction": {"cachePolicy": {}}}),
        ] {
            assert!(compile(bad.clone()).is_err(), "{bad}");
        }
        for bad in [
            json!([{"backendService": "s1"}]),
            json!([{"weight": 1}]),
            json!([{"backendService": "s1", "weight": 1001}]),
        ] {
            assert!(weighted(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_service_may_have_a_route_action() {
        let action = compile(json!({"service": "s4", "routeAction": {
            "timeout": {"seconds": "7", "nanos": 0},
            "retryPolicy": {"retryConditions": ["5xx"]},
            "urlRewrite": {"hostRewrite": "h"},
            "requestMirrorPolicy": {"backendService": "s2", "mirrorPercent": 10.0},
        }}));
        let Ok(Action::Forward(action)) = action else { panic!("compiles") };
        assert_eq!(action.choose(0).0, 4);
        assert_eq!(action.timeout(), Some(Duration::from_secs(7)));
        assert_eq!(action.mirror().map(|mirror| mirror.service), Some(2));
        assert!(action.retry().is_some() && action.rewrite().is_some() && action.cors().is_none());
    }
}
