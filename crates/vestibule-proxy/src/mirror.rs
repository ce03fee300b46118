//! Copies of requests, sent to another service and forgotten (`requestMirrorPolicy`).

use std::future::poll_fn;

use tokio::task::spawn_local;
use vestibule_http1::{Name, encode};
use vestibule_urlmap::ForwardDecision;

use crate::buffers::Buffer;
use crate::destination;
use crate::headers;
use crate::http2::ask::{Answered, Asked};
use crate::http2::pool::Place;
use crate::limits::{MAX_MIRROR_RESPONSE, MAX_MIRRORS, MIRROR_TIMEOUT};
use crate::link::Parts;
use crate::site::Balancer;
use crate::snapshot::Backend;
use crate::turn::{Turn, Url};
use crate::upstream::{Connection, Target};

/// Sends a copy if the route asks for one and this request drew it. A body that was not read whole is not copied, and
/// serverless services cannot be mirrored to.
pub(crate) fn start(turn: &Turn<'_>, balancer: &Balancer, url: &Url<'_>, decision: &ForwardDecision<'_>) {
    let Some(mirror) = decision.action.mirror().filter(|mirror| mirror.chance.hits(fastrand::u64(..))) else {
        return;
    };
    let Some(service) = balancer.service(mirror.service) else { return };
    if !matches!(service.backend, Backend::Endpoints(_)) || !turn.inbound.is_complete() {
        return;
    }
    let Ok(mut choice) = destination::endpoints(turn, balancer, mirror.service) else { return };
    let Some(location) = choice.next() else { return };
    let under_way = turn.worker.mirrors.clone();
    if under_way.get() >= MAX_MIRRORS {
        return;
    }
    under_way.set(under_way.get() + 1);
    let request = copy(turn, url);
    let target = Target { location, protocol: service.protocol };
    let place = target.protocol.is_http2().then(|| turn.worker.pool.shared.reserve(target));
    spawn_local(async move {
        let _flight = choice.begin(None);
        let sending = async {
            match place {
                None => send(target, &request).await,
                Some(place) => ask(target, &request, place).await,
            }
        };
        if let Ok(None) = tokio::time::timeout(MIRROR_TIMEOUT, sending).await {
            tracing::debug!(?location, "cannot send a copy of a request");
        }
        under_way.set(under_way.get() - 1);
    });
}

/// The request as a mirror gets it: its own, with `-shadow` behind the host.
fn copy(turn: &Turn<'_>, url: &Url<'_>) -> Vec<u8> {
    let request = &turn.request;
    let mut out = Vec::with_capacity(512 + turn.held.len());
    out.extend_from_slice(request.method_text().as_bytes());
    out.push(b' ');
    out.extend_from_slice(&url.path);
    if let Some(query) = url.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    encode::field(&mut out, b"host", format!("{}-shadow", url.authority).as_bytes());
    headers::copy(&mut out, request.buffer(), request.fields(), |field| {
        !field.is_hop_by_hop() && !matches!(field.id, Name::Host | Name::ContentLength | Name::Expect)
    });
    encode::field(&mut out, b"connection", b"close");
    if turn.has_body() {
        encode::content_length(&mut out, turn.held.len() as u64);
    }
    encode::end_of_head(&mut out);
    out.extend_from_slice(turn.held);
    out
}

/// Sends the copy and reads what comes back, for a while. `None`: it could not be sent.
async fn send(target: Target, request: &[u8]) -> Option<()> {
    let connection = Connection::connect(target).await.ok()?;
    let mut parts = Parts::new([request]);
    poll_fn(|cx| parts.poll_write(&connection.link, cx, |_| ())).await.ok()?;
    let mut read = 0;
    while read < MAX_MIRROR_RESPONSE {
        let mut buffer = Buffer::large();
        let count = poll_fn(|cx| connection.link.poll_read(cx, &mut buffer)).await.ok()?;
        if count == 0 {
            break;
        }
        read += count;
    }
    Some(())
}

/// The same on a connection of HTTP/2.
async fn ask(target: Target, request: &[u8], mut place: Place) -> Option<()> {
    let mut send = place.ready().await.ok()?;
    if !place.take() {
        return None;
    }
    let asked = Asked::send(request, true, target.protocol.is_encrypted(), &mut send, place).ok()?;
    while let Answered::Interim(_) = poll_fn(|cx| asked.poll_head(cx)).await.ok()? {}
    let mut body = asked.take_body()?;
    let mut read = 0;
    while read < MAX_MIRROR_RESPONSE && !body.is_ended() {
        poll_fn(|cx| body.poll_next(cx)).await.ok()?;
        read += body.held().len();
        body.release();
    }
    Some(())
}
