//! Copies of requests, sent to another service and forgotten (`requestMirrorPolicy`).

use tokio::task::spawn_local;
use vestibule_http1::{Name, encode};
use vestibule_urlmap::ForwardDecision;

use crate::buffers::Buffer;
use crate::destination;
use crate::headers;
use crate::limits::{MAX_MIRROR_RESPONSE, MAX_MIRRORS, MIRROR_TIMEOUT};
use crate::link::Parts;
use crate::site::Balancer;
use crate::snapshot::Backend;
use crate::turn::{Turn, Url};
use crate::upstream::Upstream;

/// Sends a copy if the route asks for one and this request drew it. A body that was not read whole is not copied, and
/// serverless services cannot be mirrored to.
pub(crate) fn start(turn: &Turn<'_>, balancer: &Balancer, url: &Url<'_>, decision: &ForwardDecision<'_>) {
    let Some(mirror) = decision.action.mirror().filter(|mirror| mirror.chance.hits(fastrand::u64(..))) else {
        return;
    };
    let Some(Backend::Endpoints { endpoints, .. }) =
        balancer.service(mirror.service).map(|service| &service.backend)
    else {
        return;
    };
    if !turn.inbound.is_complete() {
        return;
    }
    let address = destination::endpoints(turn, balancer, mirror.service, endpoints).first().copied();
    let Some(address) = address else { return };
    let under_way = turn.worker.mirrors.clone();
    if under_way.get() >= MAX_MIRRORS {
        return;
    }
    under_way.set(under_way.get() + 1);
    let request = copy(turn, url);
    spawn_local(async move {
        let sent = tokio::time::timeout(MIRROR_TIMEOUT, send(address, request)).await;
        if let Ok(Err(error)) = sent {
            tracing::debug!(%address, %error, "cannot send a copy of a request");
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

/// Sends the copy and reads what comes back, for a while.
async fn send(address: std::net::SocketAddr, request: Vec<u8>) -> std::io::Result<()> {
    let upstream = Upstream::connect(address).await?;
    let mut parts = Parts::new([&request[..]]);
    std::future::poll_fn(|cx| parts.poll_write(&upstream.link, cx, |_| ())).await?;
    let mut read = 0;
    while read < MAX_MIRROR_RESPONSE {
        let mut buffer = Buffer::large();
        let count = std::future::poll_fn(|cx| upstream.link.poll_read(cx, &mut buffer)).await?;
        if count == 0 {
            break;
        }
        read += count;
    }
    Ok(())
}
