//! The way of a request through the load balancer, one step a line, in the one order there is: normalise the path,
//! match host and path, redirect, CORS, fault, choose the service, change headers and URL, find an instance, ask it,
//! change the answer's headers, log.

use std::time::Duration;

use vestibule_http1::{Form, Name};
use vestibule_run::front::Origin;
use vestibule_urlmap::{
    AskedUrl, Decision, ForwardDecision, HeaderLevels, RedirectDecision, RequestView, UNMATCHED,
};

use crate::answer::Answer;
use crate::destination::{self, Destination, WayBack};
use crate::endpoints::NoChoice;
use crate::forward::{Forward, Limit, Plan, Whose};
use crate::grpc;
use crate::limits::SERVERLESS_TIMEOUT;
use crate::mirror;
use crate::peer::Version;
use crate::site::{Balancer, Site};
use crate::snapshot::{Backend, Front, FrontAddress};
use crate::turn::{Next, RequestHeaders, RequestVariables, Turn, Url};

/// Serves one request, and writes it down.
pub(crate) async fn serve(turn: &mut Turn<'_>, site: &Site) -> Next {
    let _under_way = turn.worker.begin();
    match site {
        Site::Balancer(balancer) => {
            let (next, rule) = match turn.worker.overload() {
                None => balance(turn, balancer).await,
                Some(why) => (turn.answer(Answer::overloaded(why), None).await, UNMATCHED),
            };
            turn.record.request_size += turn.inbound.received();
            turn.worker.cells.request(balancer, rule, &turn.record);
            turn.log(Some((balancer, rule)));
            next
        }
        Site::Front(front) => {
            let next = match turn.worker.overload() {
                None => enter(turn, front).await,
                Some(why) => turn.answer(Answer::overloaded(why), None).await,
            };
            turn.record.request_size += turn.inbound.received();
            turn.worker.cells.default_url(&mut turn.worker.default_urls.borrow_mut(), &turn.record);
            turn.log(None);
            next
        }
    }
}

/// Serves a request that came to the load balancer. Answers with the rule that matched, for the log.
async fn balance<'b>(turn: &mut Turn<'_>, balancer: &'b Balancer) -> (Next, &'b str) {
    let url = match Url::of(&turn.request) {
        Some(Ok(url)) => url,
        Some(Err(rejected)) => return (reject(turn, rejected.to_string()).await, UNMATCHED),
        None => return (turn.answer(Answer::no_route(), None).await, UNMATCHED),
    };
    if turn.peer.tls.is_none() && matches!(turn.request.form(), Form::Absolute { https: true, .. }) {
        return (turn.answer(Answer::wrong_scheme(), None).await, UNMATCHED);
    }
    if is_misdirected(turn, &url, balancer.listener.tls.as_deref()) {
        return (turn.answer(Answer::misdirected(), None).await, UNMATCHED);
    }
    let headers = RequestHeaders(turn.request);
    let view = RequestView {
        host: url.authority.as_bytes(),
        path: &url.path,
        query: url.query,
        method: turn.request.method_text().as_bytes(),
        headers: &headers,
        random: fastrand::u64(..),
    };
    match balancer.listener.routes.url_map.route(&view) {
        Decision::Redirect(redirect) => {
            (send_elsewhere(turn, balancer, &url, &redirect).await, redirect.trail.label())
        }
        Decision::Forward(forward) => (send_on(turn, balancer, &url, &forward).await, forward.trail.label()),
    }
}

/// Redirects the client. No backend service is involved, so nothing is logged.
async fn send_elsewhere(
    turn: &mut Turn<'_>,
    balancer: &Balancer,
    url: &Url<'_>,
    redirect: &RedirectDecision<'_>,
) -> Next {
    let mut location = Vec::new();
    let asked = AskedUrl {
        https: turn.peer.tls.is_some(),
        host: url.authority.as_bytes(),
        path: &url.path,
        query: url.query,
    };
    redirect.location(asked, &mut location);
    answer_routed(turn, balancer, &redirect.headers, Answer::redirect(redirect.status(), location)).await
}

/// Serves a request that is meant for a backend service.
async fn send_on(
    turn: &mut Turn<'_>,
    balancer: &Balancer,
    url: &Url<'_>,
    decision: &ForwardDecision<'_>,
) -> Next {
    turn.record.service = Some(decision.service);
    if let Some(answer) = preflight(turn, decision) {
        return turn.answer(answer, None).await;
    }
    if let Some(delay) = decision.action.fault().and_then(|fault| fault.delay(fastrand::u64(..))) {
        let mut pause = Box::pin(tokio::time::sleep(delay));
        turn.timer.idle(Duration::MAX);
        if turn.inbound.during(None, |cx| pause.as_mut().poll(cx)).await.is_err() {
            return Next::Abort;
        }
    }
    if let Some(status) = decision.action.fault().and_then(|fault| fault.abort(fastrand::u64(..))) {
        return answer_routed(turn, balancer, &decision.headers, Answer::fault(status)).await;
    }
    let Some(service) = balancer.service(decision.service) else {
        return answer_routed(turn, balancer, &decision.headers, Answer::no_backend()).await;
    };
    let mut decision = *decision;
    decision.headers = decision.headers.with_service(service.headers.as_ref());
    let decision = &decision;
    let (destination, limit, protocol) = match &service.backend {
        Backend::Empty => {
            return answer_routed(turn, balancer, &decision.headers, Answer::no_backend()).await;
        }
        Backend::Serverless(neg) => match destination::serverless(turn, neg, url) {
            Ok(admitted) => {
                let protocol = destination::protocol(&admitted);
                (Destination::Run(Box::new(admitted)), SERVERLESS_TIMEOUT, protocol)
            }
            Err(refusal) => {
                let server = (balancer.listener.ip, balancer.listener.port).into();
                return destination::refuse(turn, refusal, Some(WayBack { decision, server })).await;
            }
        },
        Backend::Endpoints(_) => match destination::endpoints(turn, balancer, decision.service) {
            Ok(choice) => (Destination::Endpoints(Box::new(choice)), service.timeout, service.protocol),
            Err(why) => {
                let answer =
                    if why == NoChoice::Overflow { Answer::overflow() } else { Answer::no_backend() };
                return answer_routed(turn, balancer, &decision.headers, answer).await;
            }
        },
    };
    mirror::start(turn, balancer, url, decision);
    let plan = Plan {
        url,
        server: (balancer.listener.ip, balancer.listener.port).into(),
        balancer: Some(balancer),
        decision: Some(decision),
        limit: with_deadline(turn, decision.action.timeout().unwrap_or(limit)),
        protocol,
    };
    Forward::new(turn, plan, destination).run().await
}

/// A call of gRPC may say how long its client waits.
fn with_deadline(turn: &Turn<'_>, limit: Duration) -> Limit {
    let asked = (turn.peer.version == Version::Http2).then(|| grpc::timeout(&turn.request)).flatten();
    match asked.filter(|asked| *asked < limit) {
        Some(time) => Limit { time, whose: Whose::Client },
        None => Limit { time: limit, whose: Whose::Balancer },
    }
}

/// The answer to a CORS preflight request that the route's policy answers.
fn preflight<'t>(turn: &Turn<'t>, decision: &ForwardDecision<'t>) -> Option<Answer<'t>> {
    let policy = decision.action.cors()?;
    let origin = turn.request.first(Name::Origin);
    let requested = turn.request.first(Name::AccessControlRequestMethod);
    let fields = policy.preflight(turn.request.method_text().as_bytes(), origin, requested)?;
    let mut answer = Answer::empty(200);
    answer.fields = fields.into_iter().map(|(name, value)| (name, value.into())).collect();
    Some(answer)
}

/// An answer of the load balancer after a route was chosen: the route's response headers apply, but those of the
/// weighted service.
async fn answer_routed(
    turn: &mut Turn<'_>,
    balancer: &Balancer,
    levels: &HeaderLevels<'_>,
    answer: Answer<'_>,
) -> Next {
    let levels = levels.for_local_reply();
    let server = (balancer.listener.ip, balancer.listener.port).into();
    let variables = RequestVariables { peer: turn.peer, request: turn.request, server };
    turn.answer(answer, Some((&levels, &variables))).await
}

async fn reject(turn: &mut Turn<'_>, why: String) -> Next {
    turn.record.detail = Some(why.into());
    turn.answer(Answer::text(400, "Bad Request").because("http_request_error", ""), None).await
}

/// The connection was made for a host with another certificate (RFC 9110 section 15.5.20).
fn is_misdirected(turn: &Turn<'_>, url: &Url<'_>, tls: Option<&crate::tls::Tls>) -> bool {
    match (&turn.peer.tls, tls) {
        (Some(handshake), Some(tls)) if !handshake.sni.is_empty() => {
            !tls.may_serve(&handshake.sni, &url.host().to_ascii_lowercase())
        }
        _ => false,
    }
}

/// Serves a request that came to the default URL of a service.
async fn enter(turn: &mut Turn<'_>, front: &Front) -> Next {
    let url = match Url::of(&turn.request) {
        Some(Ok(url)) => url,
        Some(Err(rejected)) => return reject(turn, rejected.to_string()).await,
        None => return turn.answer(Answer::no_route(), None).await,
    };
    if front.tls.is_none() {
        let location = format!("https://{}{}", url.host(), turn.request.path_and_query());
        return turn.answer(Answer::redirect(302, location.into_bytes()), None).await;
    }
    let origin = match front.at {
        FrontAddress::Network { .. } => Origin::Vpc,
        FrontAddress::Machine(_) => Origin::External,
    };
    let admitted = match destination::host(turn, origin, &url) {
        Ok(admitted) => admitted,
        Err(refusal) => return destination::refuse(turn, refusal, None).await,
    };
    let plan = Plan {
        url: &url,
        server: front.address(),
        balancer: None,
        decision: None,
        limit: with_deadline(turn, SERVERLESS_TIMEOUT),
        protocol: destination::protocol(&admitted),
    };
    Forward::new(turn, plan, Destination::Run(Box::new(admitted))).run().await
}
