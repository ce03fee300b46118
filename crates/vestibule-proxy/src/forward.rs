//! A request on its way to its destination and back: attempts, retries, the answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use vestibule_balance::{Outcome as Outlier, orca};
use vestibule_http1::{BodyDecoder, Error, Framing, Kind, Method, Side};
use vestibule_run::front::{Admitted, Lease, Refusal};
use vestibule_urlmap::ForwardDecision;
use vestibule_urlmap::retry::{self, Outcome};

use crate::answer::Answer;
use crate::buffers::Buffer;
use crate::client::Client;
use crate::destination::{self, Destination, WayBack};
use crate::endpoints::{Choice, Flight};
use crate::exchange::{Exchange, Failure, Started, give_back};
use crate::http2::relay::FrameRelay;
use crate::inbound::Interrupt;
use crate::limits::MAX_RUN_BODY;
use crate::link::Parts;
use crate::record::ProxyStatus;
use crate::relay::{Cut, Relay};
use crate::site::Balancer;
use crate::snapshot::Protocol;
use crate::timers::Passed;
use crate::turn::{Next, RequestVariables, Turn, Url};
use crate::upstream::{Location, Target, Upstream};
use crate::{request_head, response_head, tunnel};

/// What Cloud Run's own log says of an instance that broke off.
const INSTANCE_FAILED: &str = "The request failed because either the HTTP response was malformed or connection to the \
                               instance had an error.";

/// How a request goes on.
pub(crate) struct Plan<'p> {
    pub(crate) url: &'p Url<'p>,
    /// Address that the client came to.
    pub(crate) server: SocketAddr,
    /// The load balancer; `None` on a default URL.
    pub(crate) balancer: Option<&'p Balancer>,
    /// The load balancer's route.
    pub(crate) decision: Option<&'p ForwardDecision<'p>>,
    /// From the end of the request to the end of the response.
    pub(crate) limit: Limit,
    /// How the destination is spoken to.
    pub(crate) protocol: Protocol,
}

impl<'p> Plan<'p> {
    fn way_back(&self) -> Option<WayBack<'p>> {
        self.decision.map(|decision| WayBack { decision, server: self.server })
    }
}

/// A request that goes on.
pub(crate) struct Forward<'f, 'a> {
    pub(crate) turn: &'f mut Turn<'a>,
    pub(crate) plan: Plan<'f>,
    pub(crate) destination: Destination,
    pub(crate) deadline: Deadline,
}

/// How long a request may take.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) time: Duration,
    pub(crate) whose: Whose,
}

/// Who says how long a request may take. It decides what the client is told when it took longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The load balancer: its route, or its backend service.
    Balancer,
    /// The service of Cloud Run itself.
    Service,
    /// A client of gRPC.
    Client,
}

/// When the response must be there.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    /// `None`: not known before the request is complete.
    at: Option<Instant>,
    whose: Whose,
}

/// How many instances a request may find ended before it is told so.
const ENDED_INSTANCES: u32 = 3;

/// An attempt that brought a response, and the slot it holds.
struct Answered {
    started: Started,
    _held: Held,
}

/// What an attempt holds for as long as it lasts.
enum Held {
    /// A slot of an instance.
    Instance(Lease),
    /// A request under way at an endpoint.
    Endpoint { _flight: Option<Flight> },
}

impl Held {
    fn lease(self) -> Option<Lease> {
        match self {
            Held::Instance(lease) => Some(lease),
            Held::Endpoint { .. } => None,
        }
    }
}

impl<'f, 'a> Forward<'f, 'a> {
    pub(crate) fn new(turn: &'f mut Turn<'a>, plan: Plan<'f>, destination: Destination) -> Forward<'f, 'a> {
        let deadline = Deadline { at: None, whose: plan.limit.whose };
        Forward { turn, plan, destination, deadline }
    }

    pub(crate) async fn run(mut self) -> Next {
        self.start_clock();
        if self.is_bounded() && self.turn.request.content_length().is_some_and(|length| length > MAX_RUN_BODY)
        {
            let refusal = Refusal::request_too_large();
            return destination::refuse_run(self.turn, &refusal, self.plan.way_back()).await;
        }
        let mut request = std::mem::take(self.turn.out);
        request.clear();
        request_head::write(&mut request, self.turn, &self.plan, &self.destination);
        let result = self.attempts(&request).await;
        *self.turn.out = request;
        match result {
            Ok(answered) => self.respond(answered).await,
            Err(next) => next,
        }
    }

    /// The sizes of messages are limited: a service of Cloud Run is spoken to in HTTP/1.
    fn is_bounded(&self) -> bool {
        matches!(self.destination, Destination::Run(_)) && self.plan.protocol == Protocol::Http1
    }

    /// Starts the response timeout. A service of Cloud Run counts from the start of the request, and its limit covers
    /// queue, start and answer together.
    fn start_clock(&mut self) {
        let (start, Limit { time, whose }) = (self.turn.record.start, self.plan.limit);
        if let Destination::Run(admitted) = &self.destination {
            let at = start.checked_add(admitted.timeout.min(time));
            self.turn.timer.within(at, self.turn.worker.timeouts.stream_idle);
            let whose = if admitted.timeout <= time { Whose::Service } else { whose };
            self.deadline = Deadline { at, whose };
        } else {
            self.turn.inbound.start_timeout(time, self.turn.worker.timeouts.stream_idle);
            let complete = self.turn.inbound.is_complete();
            self.deadline.at = start.checked_add(time).filter(|_| complete);
        }
    }

    /// Asks until there is a response to pass on. `Err`: the client was answered otherwise.
    async fn attempts(&mut self, request: &[u8]) -> Result<Answered, Next> {
        let policy = self.plan.decision.and_then(|decision| decision.action.retry());
        // Without a policy only what can do no harm twice is tried again.
        let has_body = self.turn.has_body() || !self.turn.request.method().is_idempotent();
        let (mut attempts, mut ended) = (1, 0);
        loop {
            let (location, held) = self.next_location().await?;
            self.limit_attempt(policy.and_then(|policy| policy.per_try_timeout));
            let result = self.attempt(location, request).await;
            if let (Err(Failure::Refused), Held::Instance(lease)) = (&result, &held)
                && ended < ENDED_INSTANCES
                && lease.has_ended().await
            {
                // It ended between requests, so nothing was sent and nobody is to blame.
                ended += 1;
                continue;
            }
            self.note(&result);
            // Nothing was sent, so another endpoint is no second attempt.
            let unsent = matches!(result, Err(Failure::Refused | Failure::ConnectTimeout));
            if unsent && self.has_other() {
                self.turn.record.retries += 1;
                continue;
            }
            let outcome =
                self.outcome(&result, policy.is_some()).filter(|_| self.turn.inbound.is_untouched());
            let again = outcome.is_some_and(|outcome| retry::again(policy, has_body, attempts, outcome));
            let again = again && self.may_retry();
            match result {
                Ok(started) if again => {
                    self.discard(started);
                    attempts += 1;
                    self.turn.record.retries += 1;
                }
                Err(_) if again => {
                    attempts += 1;
                    self.turn.record.retries += 1;
                }
                Ok(started) => return Ok(Answered { started, _held: held }),
                Err(failure) => return Err(self.fail_in(failure, held.lease()).await),
            }
        }
    }

    async fn attempt(&mut self, location: Location, request: &[u8]) -> Result<Started, Failure> {
        let target = Target { location, protocol: self.plan.protocol };
        let turn = &mut *self.turn;
        let mut exchange = Exchange {
            pool: &turn.worker.pool,
            client: turn.client,
            timer: turn.timer,
            inbound: &mut turn.inbound,
            request,
            method: turn.request.method(),
            response: turn.response,
            interim_size: 0,
        };
        let result = exchange.attempt(target).await;
        turn.record.response_size += exchange.interim_size;
        result
    }

    /// The location of the next attempt, and what it holds.
    async fn next_location(&mut self) -> Result<(Location, Held), Next> {
        match &mut self.destination {
            Destination::Endpoints(choice) => {
                let Some(location) = choice.next() else {
                    return Err(self.answer(Answer::no_backend()).await);
                };
                self.turn.record.server = Some(location.address);
                self.turn.record.group = choice.group();
                self.turn.inbound.obey(choice.cut());
                let flight = self.take_off().await?;
                Ok((location, Held::Endpoint { _flight: flight }))
            }
            Destination::Run(admitted) => {
                let lease = match admitted.try_acquire() {
                    Some(lease) => lease,
                    None => queue(self.turn, admitted, self.deadline, self.plan.way_back()).await?,
                };
                if let Some(run) = &mut self.turn.record.run {
                    run.instance = Some(lease.instance_id.clone());
                    run.cookie = admitted.affinity_cookie(&lease);
                }
                Ok((lease.address.into(), Held::Instance(lease)))
            }
        }
    }

    /// Begins an attempt at the chosen endpoint: waits for a connection where their number is limited.
    async fn take_off(&mut self) -> Result<Option<Flight>, Next> {
        let Destination::Endpoints(choice) = &self.destination else { return Ok(None) };
        let Some(breakers) = choice.breakers() else { return Ok(choice.begin(None)) };
        let semaphore = match breakers.connection() {
            Ok(permit) => return Ok(choice.begin(permit)),
            Err(semaphore) => semaphore,
        };
        let Some(_waiting) = breakers.wait() else { return Err(self.answer(Answer::overflow()).await) };
        let mut acquiring = Box::pin(semaphore.acquire_owned());
        match self.turn.inbound.during(None, |cx| acquiring.as_mut().poll(cx)).await {
            Ok(permit) => Ok(self.choice().and_then(|choice| choice.begin(permit.ok()))),
            Err(interrupt) => Err(self.fail(Failure::Interrupted(interrupt)).await),
        }
    }

    fn choice(&self) -> Option<&Choice> {
        match &self.destination {
            Destination::Endpoints(choice) => Some(choice),
            Destination::Run(_) => None,
        }
    }

    /// Tells the endpoint's record how an attempt ended.
    fn note(&self, result: &Result<Started, Failure>) {
        let Some(choice) = self.choice() else { return };
        if let Ok(started) = result
            && choice.wants_reports()
        {
            let view = self.turn.response.view(started.buffer.filled());
            let said = view.fields().iter().find(|f| f.name.of(view.buffer()) == orca::HEADER.as_bytes());
            choice.answered(said.map(|field| field.value.of(view.buffer())));
        }
        choice.note(match result {
            Ok(started) => Outlier::of_status(self.turn.response.view(started.buffer.filled()).status()),
            Err(Failure::Interrupted(Interrupt::Late(_))) => Outlier::Gateway,
            // The client's doing.
            Err(Failure::Interrupted(_)) => return,
            Err(_) => Outlier::Gateway,
        });
    }

    /// Another endpoint has not been tried.
    fn has_other(&self) -> bool {
        self.choice().is_some_and(Choice::has_other)
    }

    /// Retries at endpoints are limited in number.
    fn may_retry(&mut self) -> bool {
        match &mut self.destination {
            Destination::Endpoints(choice) => choice.retry(),
            Destination::Run(_) => true,
        }
    }

    /// Answers instead of the backend.
    async fn answer(&mut self, answer: Answer<'static>) -> Next {
        let variables =
            RequestVariables { peer: self.turn.peer, request: self.turn.request, server: self.plan.server };
        match self.plan.decision.map(|decision| decision.headers.for_local_reply()) {
            Some(levels) => self.turn.answer(answer, Some((&levels, &variables))).await,
            None => self.turn.answer(answer, None).await,
        }
    }

    /// A policy may give each attempt less time than the whole.
    fn limit_attempt(&self, limit: Option<Duration>) {
        if let Some(limit) = limit.filter(|_| self.turn.inbound.is_complete()) {
            let at = Instant::now().checked_add(limit);
            let earlier = [at, self.deadline.at].into_iter().flatten().min();
            self.turn.timer.within(earlier, self.turn.worker.timeouts.stream_idle);
        }
    }

    /// How an attempt ended, for the question whether to make another. `None`: there is no question.
    fn outcome(&self, result: &Result<Started, Failure>, with_grpc: bool) -> Option<Outcome> {
        match result {
            Ok(started) => {
                let view = self.turn.response.view(started.buffer.filled());
                let grpc = with_grpc.then(|| {
                    let field = view.fields().iter().find(|f| f.name.of(view.buffer()) == b"grpc-status")?;
                    std::str::from_utf8(field.value.of(view.buffer())).ok()?.parse().ok()
                });
                Some(Outcome::Status { status: view.status(), grpc: grpc.flatten() })
            }
            Err(Failure::Refused | Failure::ConnectTimeout | Failure::Tls) => Some(Outcome::ConnectFailure),
            Err(Failure::Unprocessed) => Some(Outcome::RefusedStream),
            Err(Failure::Closed | Failure::Reset | Failure::Malformed(_)) => Some(Outcome::NoResponse),
            Err(Failure::Interrupted(Interrupt::Late(Passed::Hard))) if !self.is_over() => {
                Some(Outcome::NoResponse)
            }
            Err(Failure::Interrupted(Interrupt::Removed)) => Some(Outcome::NoResponse),
            Err(Failure::Interrupted(_)) => None,
        }
    }

    fn is_over(&self) -> bool {
        self.deadline.at.is_none_or(|at| at <= Instant::now())
    }

    /// A response that is not passed on. Its connection is kept if the whole of it is there already.
    fn discard(&mut self, mut started: Started) {
        let view = self.turn.response.view(started.buffer.filled());
        let (framing, reusable) = (view.framing(self.turn.request.method()), view.keeps_alive());
        started.buffer.consume(started.head);
        let mut body = BodyDecoder::new(framing, Side::Upstream);
        if let Ok(piece) = body.decode(started.buffer.filled_mut()) {
            started.buffer.consume(piece.consumed);
            give_back(&self.turn.worker.pool, started.upstream, &started.buffer, reusable && body.is_done());
        }
    }

    /// Passes a response on.
    async fn respond(&mut self, answered: Answered) -> Next {
        let Started { upstream, mut buffer, head } = answered.started;
        let view = self.turn.response.view(buffer.filled());
        self.turn.record.status = view.status();
        if view.status() == 101 {
            if request_head::is_upgrade(&self.turn.request) && response_head::is_upgrade(&view) {
                return Box::pin(self.switch(upstream, buffer, head)).await;
            }
            let error = Error { side: Side::Upstream, kind: Kind::BadStatusLine };
            return self.fail(Failure::Malformed(error)).await;
        }
        if self.is_bounded()
            && matches!(view.framing(self.turn.request.method()), Framing::Length(length) if length > MAX_RUN_BODY)
        {
            let refusal = Refusal::response_too_large();
            return destination::refuse_run(self.turn, &refusal, self.plan.way_back()).await;
        }
        let worn = self.choice().is_some_and(|choice| choice.is_worn(upstream.requests()));
        let reusable = view.keeps_alive() && !worn;
        let close = self.turn.must_close();
        let framing = self.write_head(&buffer, close);
        buffer.consume(head);
        let (result, sent) = self.relay(&upstream, &mut buffer, framing).await;
        self.turn.record.response_size += sent;
        if let Err(cut) = result {
            return self.cut(cut, sent).await;
        }
        let turn = &mut *self.turn;
        let complete = turn.inbound.is_complete();
        let reusable = reusable && complete && framing != Framing::UntilClose;
        give_back(&turn.worker.pool, upstream, &buffer, reusable);
        if close || !complete { Next::Close } else { Next::Again }
    }

    /// Sends the head that is in `out`, and the body. Answers also how many bytes the client took.
    async fn relay(
        &mut self,
        upstream: &Upstream,
        buffer: &mut Buffer,
        framing: Framing,
    ) -> (Result<(), Cut>, u64) {
        let turn = &mut *self.turn;
        let (timer, inbound) = (turn.timer, &mut turn.inbound);
        match (turn.client, upstream.link()) {
            (Client::Http1(client), Some(link)) => {
                let mut relay = Relay { client, timer, inbound, upstream, link, sent: 0 };
                (relay.run(turn.out, buffer, framing).await, relay.sent)
            }
            (client, _) => {
                let mut relay = FrameRelay { client, timer, inbound, upstream, sent: 0 };
                (Box::pin(relay.run(turn.out, buffer, framing)).await, relay.sent)
            }
        }
    }

    /// Leaves the head for the client in `out`; answers how the body is delimited.
    fn write_head(&mut self, buffer: &Buffer, close: bool) -> Framing {
        let kept = self.choice().and_then(Choice::cookie);
        let of_run = matches!(self.destination, Destination::Run(_));
        let turn = &mut *self.turn;
        let view = turn.response.view(buffer.filled());
        if view.status() >= 500 {
            turn.record.proxy = Some(ProxyStatus { error: "", details: "response_sent_by_backend" });
        }
        let framing = view.framing(turn.request.method());
        let variables = RequestVariables { peer: turn.peer, request: turn.request, server: self.plan.server };
        let cookie = turn.record.run.as_ref().and_then(|run| run.cookie.as_deref()).or(kept.as_deref());
        let private = of_run
            && matches!(turn.request.method(), Method::Get | Method::Head)
            && response_head::is_shared_by_mistake(&view, cookie.is_some());
        let shape =
            response_head::Shape { framing, close, via: self.plan.balancer.is_some(), cookie, private };
        turn.out.clear();
        response_head::write(turn.out, &view, &shape, &turn.worker.dates, self.plan.decision, &variables);
        framing
    }

    /// A response that broke off. What was sent cannot be taken back; the client must see that it is not the whole.
    async fn cut(&mut self, cut: Cut, sent: u64) -> Next {
        match cut {
            Cut::Upstream(Some(error)) if sent == 0 => return self.fail(Failure::Malformed(error)).await,
            Cut::Upstream(_) if sent == 0 => return self.fail(Failure::Closed).await,
            Cut::Interrupted(interrupt @ (Interrupt::Late(_) | Interrupt::Removed)) if sent == 0 => {
                return self.fail(Failure::Interrupted(interrupt)).await;
            }
            _ => {}
        }
        let (error, details) = match cut {
            Cut::Upstream(Some(_)) => {
                ("http_protocol_error", "backend_connection_closed_after_partial_response_sent")
            }
            Cut::Upstream(None) => {
                ("connection_terminated", "backend_connection_closed_after_partial_response_sent")
            }
            Cut::Interrupted(Interrupt::ClientGone) if sent == 0 => {
                ("", "client_disconnected_before_any_response")
            }
            Cut::Interrupted(Interrupt::ClientGone) => ("", "client_disconnected_after_partial_response"),
            Cut::Interrupted(Interrupt::BadBody(_)) => ("http_request_error", ""),
            Cut::Interrupted(Interrupt::Removed) => {
                ("connection_terminated", "backend_connection_closed_after_partial_response_sent")
            }
            Cut::Interrupted(Interrupt::Late(_)) => ("http_response_timeout", "backend_timeout"),
        };
        self.turn.record.proxy = Some(ProxyStatus { error, details });
        self.blame_instance(matches!(cut, Cut::Upstream(_)));
        Next::Abort
    }

    /// Answers for an attempt that brought nothing.
    async fn fail(&mut self, failure: Failure) -> Next {
        self.blame_instance(!matches!(failure, Failure::Interrupted(_)));
        let answer = match failure {
            Failure::Refused => Answer::refused(),
            Failure::ConnectTimeout => Answer::connect_timeout(),
            Failure::Tls => Answer::no_tls(),
            Failure::Reset | Failure::Unprocessed => Answer::reset(),
            Failure::Closed => Answer::terminated(),
            Failure::Malformed(error) => {
                tracing::debug!(%error, "a backend's response cannot be read");
                Answer::protocol_error()
            }
            Failure::Interrupted(interrupt) => match self.interrupted(interrupt) {
                Interrupted::Answer(answer) => answer,
                Interrupted::Gone => return Next::Abort,
                Interrupted::Late => {
                    return destination::refuse_run(self.turn, &Refusal::timeout(), self.plan.way_back())
                        .await;
                }
            },
        };
        self.answer(answer).await
    }

    /// The same for an attempt that held a slot of an instance, whose end may say more than the connection did.
    async fn fail_in(&mut self, failure: Failure, lease: Option<Lease>) -> Next {
        let died = matches!(failure, Failure::Refused | Failure::Closed | Failure::Malformed(_));
        if let Some(lease) = lease.filter(|_| died)
            && let Some(refusal) = lease.post_mortem().await
        {
            return destination::refuse_run(self.turn, &refusal, self.plan.way_back()).await;
        }
        self.fail(failure).await
    }

    fn interrupted(&mut self, interrupt: Interrupt) -> Interrupted {
        Interrupted::Answer(match interrupt {
            Interrupt::ClientGone => {
                self.turn.leave_unanswered();
                return Interrupted::Gone;
            }
            Interrupt::Late(Passed::Hard) => match self.deadline.whose {
                Whose::Service => return Interrupted::Late,
                Whose::Client if self.is_over() => Answer::deadline(),
                Whose::Balancer | Whose::Client => Answer::timeout(),
            },
            Interrupt::Late(Passed::Idle) if !self.turn.inbound.is_complete() => Answer::late(),
            Interrupt::Late(Passed::Idle) => Answer::stream_timeout(),
            Interrupt::BadBody(error) => Answer::malformed(error),
            Interrupt::Removed => Answer::terminated(),
        })
    }

    fn blame_instance(&mut self, at_fault: bool) {
        if at_fault && matches!(self.destination, Destination::Run(_)) {
            self.turn.record.detail = Some(INSTANCE_FAILED.into());
        }
    }

    /// The backend agreed to another protocol: from here on there are only bytes.
    async fn switch(&mut self, upstream: Upstream, mut buffer: Buffer, head: usize) -> Next {
        let turn = &mut *self.turn;
        // Nobody asks for it in HTTP/2.
        let (Client::Http1(client), Upstream::Http1(connection)) = (turn.client, &upstream) else {
            return Next::Abort;
        };
        let view = turn.response.view(buffer.filled());
        let mut out = Vec::with_capacity(512);
        response_head::write_switch(&mut out, &view, self.plan.balancer.is_some());
        buffer.consume(head);
        let mut parts = Parts::new([&out[..]]);
        let written = turn.inbound.during(Some(&upstream), |cx| parts.poll_write(client, cx, |_| ())).await;
        if !matches!(written, Ok(Ok(()))) {
            return Next::Abort;
        }
        // Only the deadline bounds it: a quiet connection is nothing unusual here.
        turn.timer.within(self.deadline.at, Duration::MAX);
        let early = turn.take_early();
        let (up, down) = tunnel::run(client, &connection.link, turn.timer, early, buffer).await;
        turn.record.request_size += up;
        turn.record.response_size += out.len() as u64 + down;
        Next::Close
    }
}

/// What an interrupted attempt comes to.
enum Interrupted {
    Answer(Answer<'static>),
    /// There is nobody to answer.
    Gone,
    /// The service's own time is up.
    Late,
}

/// Waits in line for an instance.
async fn queue(
    turn: &mut Turn<'_>,
    admitted: &Admitted,
    deadline: Deadline,
    way: Option<WayBack<'_>>,
) -> Result<Lease, Next> {
    let until = deadline.at.unwrap_or_else(Instant::now);
    let mut waiting = Box::pin(admitted.acquire(until));
    let result = turn.inbound.during(None, |cx| waiting.as_mut().poll(cx)).await;
    drop(waiting);
    let is_late = match &result {
        Ok(result) => result.is_err() && until <= Instant::now(),
        Err(interrupt) => matches!(interrupt, Interrupt::Late(_)),
    };
    match result {
        Ok(Ok(lease)) => Ok(lease),
        _ if is_late && deadline.whose == Whose::Client => Err(turn.answer(Answer::deadline(), None).await),
        Ok(Err(refusal)) => Err(destination::refuse_run(turn, &refusal, way).await),
        Err(Interrupt::Late(_)) => Err(destination::refuse_run(turn, &Refusal::timeout(), way).await),
        Err(_) => {
            turn.leave_unanswered();
            Err(Next::Abort)
        }
    }
}
