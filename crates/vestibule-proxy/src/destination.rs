//! Where a request goes: an instance of a serverless service, or one of a group's endpoints.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use vestibule_http1::Name;
use vestibule_run::desired as revision;
use vestibule_run::entries::EntryHead;
use vestibule_run::front::{Admitted, Ask, Origin, Refusal, Target};
use vestibule_urlmap::ForwardDecision;

use crate::answer::Answer;
use crate::endpoints::{Choice, NoChoice, Parts};
use crate::record::RunRecord;
use crate::site::Balancer;
use crate::snapshot::{Protocol, ServerlessNeg};
use crate::trace::Trace;
use crate::turn::{Next, RequestVariables, Turn, Url};

/// Where a request goes.
pub(crate) enum Destination {
    /// Endpoints of a backend service, one after the other.
    Endpoints(Box<Choice>),
    /// A service of Cloud Run that lets the request in.
    Run(Box<Admitted>),
}

/// Why there is no destination.
pub(crate) enum NoDestination {
    /// The URL mask of the group does not fit the URL, or leaves the service open.
    Mask(String),
    /// Cloud Run's front does not let the request in.
    Refused(Box<Refusal>),
}

/// Asks the service that a serverless group names, or that its mask finds in the URL. The mask sees the URL as the
/// client sent it, after normalisation.
pub(crate) fn serverless(
    turn: &mut Turn<'_>,
    neg: &ServerlessNeg,
    url: &Url<'_>,
) -> Result<Admitted, NoDestination> {
    let mut service = neg.service.as_deref().map(Cow::Borrowed);
    let mut tag = neg.tag.as_deref().map(Cow::Borrowed);
    if let Some(mask) = &neg.mask {
        let found = mask.extract(url.authority.as_bytes(), &url.path);
        let found = found.ok_or_else(|| {
            NoDestination::Mask(format!(
                "The URL does not match the URL mask {:?} of {}.",
                mask.as_str(),
                neg.name
            ))
        })?;
        service = found.service.or(service);
        tag = found.tag.or(tag);
    }
    let service = service.ok_or_else(|| NoDestination::Mask(format!("{} names no service.", neg.name)))?;
    let target = Target::Service {
        project: &neg.project,
        region: &neg.region,
        service: &service,
        tag: tag.as_deref(),
    };
    admit(turn, target, Origin::InternalLoadBalancer, url)
}

/// Asks the service with this default URL.
pub(crate) fn host(turn: &mut Turn<'_>, origin: Origin, url: &Url<'_>) -> Result<Admitted, NoDestination> {
    admit(turn, Target::Host(url.authority), origin, url)
}

fn admit(
    turn: &mut Turn<'_>,
    target: Target<'_>,
    origin: Origin,
    url: &Url<'_>,
) -> Result<Admitted, NoDestination> {
    let asked = match url.query {
        // Both were checked to be ASCII.
        Some(query) => Cow::Owned([&url.path, &b"?"[..], query].concat()),
        None => Cow::Borrowed(&*url.path),
    };
    let ask = Ask {
        target,
        origin,
        authorization: turn.request.first(Name::Authorization),
        serverless_authorization: turn.request.first(Name::XServerlessAuthorization),
        path: std::str::from_utf8(&asked).unwrap_or_default(),
        cookies: turn.request.first(Name::Cookie),
    };
    let answer = turn.worker.run.admit(&ask);
    let trace = Trace::of(&turn.request);
    let head = match &answer {
        Ok(admitted) => Some(admitted.log_head.clone()),
        Err(refusal) => refusal.service.as_ref().map(|service| Arc::new(EntryHead::new(&service.key, ""))),
    };
    turn.record.run = head.map(|head| RunRecord { head, instance: None, cookie: None, trace });
    answer.map_err(|refusal| NoDestination::Refused(Box::new(refusal)))
}

/// How the containers of a service are spoken to. One whose port is named `h2c` gets every request in HTTP/2, whatever
/// the client speaks; any other gets none in it (Cloud Run container contract).
pub(crate) fn protocol(admitted: &Admitted) -> Protocol {
    match admitted.revision.protocol {
        revision::Protocol::Http1 => Protocol::Http1,
        revision::Protocol::H2c => Protocol::H2c,
    }
}

/// What a route does to a response of its backend.
#[derive(Clone, Copy)]
pub(crate) struct WayBack<'a> {
    pub(crate) decision: &'a ForwardDecision<'a>,
    /// The load balancer's address.
    pub(crate) server: SocketAddr,
}

/// Answers a request that has no destination. The client learns nothing of the inside; the log does.
pub(crate) async fn refuse(turn: &mut Turn<'_>, why: NoDestination, way: Option<WayBack<'_>>) -> Next {
    match why {
        NoDestination::Mask(detail) => {
            turn.record.detail = Some(detail.into());
            turn.answer(Answer::text(404, "Not Found"), None).await
        }
        NoDestination::Refused(refusal) => refuse_run(turn, &refusal, way).await,
    }
}

/// Relays what Cloud Run's front answers. To the load balancer that is a response of its backend like any other, so the
/// route's CORS policy and header actions see it.
pub(crate) async fn refuse_run(turn: &mut Turn<'_>, refusal: &Refusal, way: Option<WayBack<'_>>) -> Next {
    turn.record.detail = Some(refusal.log.clone().into());
    let mut answer = Answer::refusal(refusal);
    let Some(WayBack { decision, server }) = way else { return turn.answer(answer, None).await };
    let request = turn.request;
    if let Some(policy) = decision.action.cors() {
        let origin = request.first(Name::Origin);
        answer.fields.extend(policy.response_headers(origin).map(|(name, value)| (name, value.into())));
    }
    let variables = RequestVariables { peer: turn.peer, request, server };
    turn.answer(answer, Some((&decision.headers, &variables))).await
}

/// The way of a request among the endpoints of a backend service.
pub(crate) fn endpoints(turn: &Turn<'_>, balancer: &Balancer, service: usize) -> Result<Choice, NoChoice> {
    let members = balancer.members(service).ok_or(NoChoice::Nobody)?;
    Choice::new(members, &Parts(turn))
}
