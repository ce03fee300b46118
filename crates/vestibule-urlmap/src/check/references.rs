//! Which backend services a URL map names, and where.

use vestibule_model::compute;

use crate::field::Field;

/// A backend service that a map names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference<'d> {
    /// Where it is named, e.g. `resource.pathMatchers[0].defaultService`.
    pub field: String,
    /// As it is written.
    pub service: &'d str,
    pub role: Role,
}

/// What the service is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves requests.
    Serve,
    /// It gets copies of requests, and may not be serverless.
    Mirror,
    /// A test of the map expects it.
    Test,
}

/// Every backend service that the map names, in the order of the document.
pub fn references(doc: &compute::UrlMap) -> Vec<Reference<'_>> {
    let mut found = Found(Vec::new());
    let root = Field::ROOT;
    found.add(&doc.default_service, &root.member("defaultService"), Role::Serve);
    found.action(&doc.default_route_action, &root.member("defaultRouteAction"));
    for (index, matcher) in doc.path_matchers.iter().enumerate() {
        let at = root.item("pathMatchers", index);
        found.add(&matcher.default_service, &at.member("defaultService"), Role::Serve);
        found.action(&matcher.default_route_action, &at.member("defaultRouteAction"));
        for (index, rule) in matcher.path_rules.iter().enumerate() {
            let at = at.item("pathRules", index);
            found.add(&rule.service, &at.member("service"), Role::Serve);
            found.action(&rule.route_action, &at.member("routeAction"));
        }
        for (index, rule) in matcher.route_rules.iter().enumerate() {
            let at = at.item("routeRules", index);
            found.add(&rule.service, &at.member("service"), Role::Serve);
            found.action(&rule.route_action, &at.member("routeAction"));
        }
    }
    for (index, test) in doc.tests.iter().enumerate() {
        found.add(&test.service, &root.item("tests", index).member("service"), Role::Test);
    }
    found.0
}

struct Found<'d>(Vec<Reference<'d>>);

impl<'d> Found<'d> {
    fn add(&mut self, service: &'d Option<String>, at: &Field<'_>, role: Role) {
        if let Some(service) = service.as_deref().filter(|service| !service.is_empty()) {
            self.0.push(Reference { field: at.to_string(), service, role });
        }
    }

    fn action(&mut self, action: &'d Option<compute::HttpRouteAction>, at: &Field<'_>) {
        let Some(action) = action else { return };
        for (index, weighted) in action.weighted_backend_services.iter().enumerate() {
            let at = at.item("weightedBackendServices", index);
            self.add(&weighted.backend_service, &at.member("backendService"), Role::Serve);
        }
        if let Some(mirror) = &action.request_mirror_policy {
            let at = at.member("requestMirrorPolicy");
            self.add(&mirror.backend_service, &at.member("backendService"), Role::Mirror);
        }
    }
}
