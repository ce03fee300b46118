//! From a whole HTTP request to a whole HTTP response, without a socket: what a connection, a part of a batch and a
//! test all go through.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::Value;
use vestibule_control::Error;
use vestibule_iam::Principal;
use vestibule_model::Service;
use vestibule_model::name::is_project_id;
use vestibule_model::route::{self, Found, RouteMatch};

use crate::call::Body;
use crate::envelope::{self, Refusal, Style};
use crate::projects::{PARAMETERS, Projects};
use crate::target::{self, Target};
use crate::{ApiDeps, Ctx, Registry, Reply, decode, fields, serviceusage};

/// How many handlers may wait for something at the same time. Each holds a thread.
pub(crate) const MAX_WAITING: usize = 64;

/// How long a waiting handler may block: Google's own limit for `operations.wait`.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

/// The API front. Cheap to clone; clones share state.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    deps: ApiDeps,
    registry: Registry,
    projects: Projects,
    waiting: AtomicUsize,
}

impl Api {
    /// An API with every service's handlers.
    pub fn new(deps: ApiDeps) -> Api {
        let mut registry = Registry::default();
        crate::register(&mut registry);
        // Identity tokens of before the start must still tell whose they are.
        deps.control.iam(&deps.issuer).publish_accounts();
        let (projects, waiting) = (Projects::default(), AtomicUsize::new(0));
        Api(Arc::new(Inner { deps, registry, projects, waiting }))
    }

    pub(crate) fn deps(&self) -> &ApiDeps {
        &self.0.deps
    }

    /// The id of a project that a client named by id or number.
    pub(crate) fn project_id(&self, project: &str) -> String {
        self.0.projects.id_of(project, || self.0.deps.control.view())
    }

    /// Ids of all projects that hold anything or were asked for, in order.
    pub(crate) fn project_ids(&self) -> Vec<String> {
        self.0.projects.all(|| self.0.deps.control.view())
    }

    /// Answers one request. May block, for [`PATIENCE`] at worst.
    pub fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let started = Instant::now();
        let request = target::overridden(request);
        let target = target::read(request.uri(), request.headers());
        let verb = request.method().clone();
        let path = target.path.clone();
        let (name, response) = self.route(target, request);
        let elapsed = started.elapsed();
        tracing::debug!(%verb, path, name, status = response.status().as_u16(), ?elapsed, "answered");
        response
    }

    /// The answer to a request that could not even be read.
    pub(crate) fn refuse(&self, path: &str, refusal: &Refusal) -> Response<Bytes> {
        refused(style_of_path(path), refusal)
    }

    fn route(&self, target: Target, request: Request<Bytes>) -> (&'static str, Response<Bytes>) {
        let path = target.path.clone();
        let principal = match self.authenticate(&request) {
            Ok(principal) => principal,
            Err(error) => return ("", refused(style_of_path(&path), &error.into())),
        };
        let region = target.region;
        let mut ctx =
            Ctx { api: self, principal, region, base_url: target.base_url, patience: Duration::ZERO };
        if let Some(handler) = self.0.registry.path_handler(&path) {
            return ("", handler(&ctx, request));
        }
        let verb = request.method().as_str();
        let refusal = match route::find(verb, &path) {
            RouteMatch::Found(found) => {
                let method = found.method;
                let style = Style::of(method.service);
                let response = self.call(&mut ctx, found, &request).map(|reply| respond(style, reply));
                return (method.id, response.unwrap_or_else(|refusal| refused(style, &refusal)));
            }
            RouteMatch::MethodNotAllowed(allowed) => Refusal::WrongVerb { verb: verb.to_owned(), allowed },
            RouteMatch::NotFound => Refusal::UnknownPath { verb: verb.to_owned(), path: path.clone() },
            RouteMatch::Unserved(id) => Error::not_implemented(id).into(),
            RouteMatch::BadEncoding => {
                Refusal::Malformed { message: "Invalid UTF-8 in the percent-encoded path.".to_owned() }
            }
        };
        ("", refused(style_of_path(&path), &refusal))
    }

    /// Steps of a call, in order.
    fn call(&self, ctx: &mut Ctx<'_>, mut found: Found, request: &Request<Bytes>) -> Result<Reply, Refusal> {
        let method = found.method;
        let entry =
            self.0.registry.entry(method).ok_or_else(|| Refusal::from(Error::not_implemented(method.id)))?;
        self.0.projects.canonicalise(&mut found.params, || self.0.deps.control.view());
        check_project(&found)?;
        let call = decode::call(found, request.uri().query().unwrap_or_default(), request.body())?;
        serviceusage::check_enabled(&self.0.deps.control, &call)?;
        if matches!(method.service, Service::Compute | Service::Dns) {
            self.0.deps.control.compute().begin(call.project())?;
        }
        let mask = call.fields.clone();
        let _turn = entry.waits.then(|| self.take_turn(ctx));
        let mut reply = (entry.handler)(ctx, call)?;
        if let (Some(mask), Body::Json(value)) = (mask, &mut reply.body) {
            fields::select(&mask, value)?;
        }
        Ok(reply)
    }

    /// Counts a waiting handler and gives it its patience: none if too many wait already, so that they cannot use up
    /// the threads. Its client then polls.
    fn take_turn(&self, ctx: &mut Ctx<'_>) -> Turn<'_> {
        let before = self.0.waiting.fetch_add(1, Ordering::Relaxed);
        ctx.patience = if before < MAX_WAITING { PATIENCE } else { Duration::ZERO };
        Turn(&self.0.waiting)
    }

    /// Any token is the person at this machine, unless it was minted here. One that was minted here and is no longer
    /// good must be refused, or a client would go on under another identity without noticing.
    fn authenticate(&self, request: &Request<Bytes>) -> Result<Principal, Error> {
        let header = request.headers().get(header::AUTHORIZATION);
        let Some(token) = header.and_then(|header| vestibule_iam::token::bearer(header.as_bytes())) else {
            return Ok(Principal::local());
        };
        let issuer = &self.0.deps.issuer;
        if !issuer.is_own_access_token(token) {
            return Ok(Principal::local());
        }
        let checked = issuer.verify_access_token(token, Timestamp::now());
        checked.map(|token| token.principal).map_err(|_| Error::Unauthenticated {
            message: "Request had invalid authentication credentials. Expected a valid OAuth 2 access token."
                .to_owned(),
        })
    }
}

/// A waiting handler's place; dropping it frees it.
struct Turn<'a>(&'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Any well-formed id is a project, so an ill-formed one is the only project that does not exist. `-` stands for any
/// project in IAM's paths.
fn check_project(found: &Found) -> Result<(), Error> {
    let project = PARAMETERS.iter().find_map(|name| found.params.get(name));
    match project.filter(|project| *project != "-" && !is_project_id(project)) {
        None => Ok(()),
        Some(project) => Err(Error::not_found(format!("projects/{project}"))),
    }
}

fn respond(style: Style, reply: Reply) -> Response<Bytes> {
    let Reply { status, headers, body } = reply;
    let bytes = match body {
        Body::Raw(bytes) => bytes,
        Body::Json(value) => match serde_json::to_vec(&value) {
            Ok(bytes) => bytes.into(),
            Err(error) => return refused(style, &Error::internal(error.to_string()).into()),
        },
    };
    let mut response = Response::new(bytes);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().entry(header::CONTENT_TYPE).or_insert(JSON);
    response
}

fn refused(style: Style, refusal: &Refusal) -> Response<Bytes> {
    if let Refusal::Error(error) = refusal
        && let Some(context) = error.context()
    {
        tracing::error!(context, "a call failed through no fault of its caller");
    }
    let (status, body) = envelope::refusal(style, refusal);
    let mut response = json_response(status, &body);
    if let Refusal::WrongVerb { allowed, .. } = refusal
        && let Ok(allowed) = HeaderValue::from_str(&allowed.join(", "))
    {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// A response with a JSON body, for handlers of paths.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// A refusal in Google's plain shape, for handlers of paths.
pub(crate) fn refused_plainly(error: Error) -> Response<Bytes> {
    refused(Style::Google, &error.into())
}

/// The style of errors for what never became a call.
fn style_of_path(path: &str) -> Style {
    match path {
        path if path.starts_with("/compute/") => Style::of(Service::Compute),
        path if path.starts_with("/dns/") => Style::of(Service::Dns),
        _ => Style::Google,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use serde_json::json;
    use std::collections::BTreeSet;

    /// Methods that are documented but not built, one `module id` a line.
    const NOT_IMPLEMENTED: &str = include_str!("../tests/not_implemented.txt");

    /// Set to anything: methods that got a handler are taken off the list. Nothing ever puts one on it.
    const SHRINK: &str = "VESTIBULE_SHRINK_LISTS";

    #[test]
    fn every_method_is_answered_or_known_to_be_missing() {
        let mut registry = Registry::default();
        crate::register(&mut registry);
        let missing: BTreeSet<String> = route::methods()
            .filter(|method| registry.entry(method).is_none())
            .map(|method| format!("{} {}", method.service.module(), method.id))
            .collect();
        let listed: BTreeSet<String> = NOT_IMPLEMENTED.lines().map(str::to_owned).collect();
        let new: Vec<_> = missing.difference(&listed).collect();
        assert!(new.is_empty(), "without a handler: {new:#?}");
        let done: Vec<_> = listed.difference(&missing).collect();
        if std::env::var_os(SHRINK).is_some() {
            let left: String = listed.intersection(&missing).map(|line| format!("{line}\n")).collect();
            let list = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/not_implemented.txt");
            return std::fs::write(list, left).unwrap();
        }
        assert!(
            done.is_empty(),
            "has a handler, or is gone; take it off tests/not_implemented.txt: {done:#?}"
        );
    }

    #[test]
    fn unknown_paths_and_verbs() {
        let world = World::new();
        let (status, body) = world.get("/nowhere");
        assert_eq!((status, body["error"]["status"].as_str()), (404, Some("NOT_FOUND")));
        let (status, body) = world.send("PUT", "/compute/v1/projects/p/global/networks", json!({}));
        assert_eq!(
            (status, body["error"]["errors"][0]["reason"].as_str()),
            (405, Some("httpMethodNotAllowed"))
        );
        let (status, _) = world.get("/compute/v1/projects/p/global/networks/%ff");
        assert_eq!(status, 400);
    }

    #[test]
    fn a_method_without_a_handler_says_so() {
        let world = World::new();
        // Any that takes no body and asks for no parameter.
        let plain = |method: &route::Method| {
            method.verb == "GET"
                && method.query.iter().all(|query| !query.required)
                && NOT_IMPLEMENTED
                    .lines()
                    .any(|line| line == format!("{} {}", method.service.module(), method.id))
        };
        let google = |method: &route::Method| Style::of(method.service) == Style::Google;
        let Some(method) = route::methods().find(|method| plain(method) && google(method)) else { return };
        let id = method.id;
        let path = method.template.replace(['{', '}'], "").replace("projectsId", "demo");
        let (status, body) = world.get(&path);
        assert_eq!(status, 501, "{body}");
        let expected = format!("Method {id} is not implemented by Vestibule.");
        assert_eq!(body["error"]["message"], expected);
        assert_eq!(body["error"]["status"], "UNIMPLEMENTED");
    }

    #[test]
    fn tokens_tell_who_calls() {
        let world = World::new();
        let account = Principal::from_email("caller@demo.iam.gserviceaccount.com");
        let issuer = &world.api.deps().issuer;
        let who = |token: Option<&str>| {
            let mut request = Request::get("/v1/projects/demo");
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            world.api.authenticate(&request.body(Bytes::new()).unwrap())
        };
        assert_eq!(who(None), Ok(Principal::local()));
        assert_eq!(who(Some("ya29.anything")), Ok(Principal::local()));
        let now = Timestamp::now();
        let good = issuer.access_token(&account, &[], 3600, now);
        assert_eq!(who(Some(&good)), Ok(account.clone()));
        let stale = issuer.access_token(&account, &[], -7200, now);
        assert!(matches!(who(Some(&stale)), Err(Error::Unauthenticated { .. })));
        let forged = format!("{}x", &good[..good.len() - 1]);
        assert!(matches!(who(Some(&forged)), Err(Error::Unauthenticated { .. })));
    }

    #[test]
    fn waiting_handlers_are_bounded() {
        let world = World::new();
        let ctx = || Ctx {
            api: &world.api,
            principal: Principal::local(),
            region: None,
            base_url: String::new(),
            patience: Duration::ZERO,
        };
        let mut contexts: Vec<_> = (0..=MAX_WAITING).map(|_| ctx()).collect();
        let turns: Vec<_> = contexts.iter_mut().map(|ctx| world.api.take_turn(ctx)).collect();
        assert!(contexts[..MAX_WAITING].iter().all(|ctx| ctx.patience == PATIENCE));
        assert_eq!(contexts[MAX_WAITING].patience, Duration::ZERO);
        drop(turns);
        let mut again = ctx();
        let _turn = world.api.take_turn(&mut again);
        assert_eq!(again.patience, PATIENCE);
    }

    #[test]
    fn a_query_too_long_for_a_url_comes_as_a_form() {
        let world = World::new();
        let request = Request::post("/compute/v1/projects/demo/global/networks")
            .header("x-http-method-override", "GET")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(format!("filter=name+%3D+{}&alt=json", "x".repeat(3000))));
        let response = world.request(request.unwrap());
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            (response.status().as_u16(), &body["kind"]),
            (200, &json!("compute#networkList")),
            "{body}"
        );
    }

    #[test]
    fn an_ill_formed_project_does_not_exist() {
        let world = World::new();
        let (status, body) = world.get("/v1/projects/Not%20A%20Project");
        assert_eq!((status, body["error"]["status"].as_str()), (404, Some("NOT_FOUND")));
    }
}
