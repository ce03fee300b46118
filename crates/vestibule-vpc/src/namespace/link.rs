//! Links, addresses and routes: what `ip link`, `ip address` and `ip route` would do.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteScope, RouteType};
use rtnetlink::{Error, Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder, RouteNextHopBuilder};

pub const LOOPBACK: &str = "lo";
/// Segments that a connection may send before the first is acknowledged: 64 KiB at Google's MTU. Linux begins with 10
/// because of queues on the way; a cable here is a call from one half of the kernel to the other, and has none.
const FIRST_WINDOW: u32 = 46;

/// `ip link show NAME`: the index.
pub async fn index(handle: &Handle, name: &str) -> Result<u32, Error> {
    let mut found = handle.link().get().match_name(name.to_owned()).execute();
    match found.try_next().await? {
        Some(link) => Ok(link.header.index),
        None => Err(Error::RequestFailed),
    }
}

pub async fn up(handle: &Handle, name: &str) -> Result<(), Error> {
    let index = index(handle, name).await?;
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
}

/// `ip link add OUTSIDE up mtu MTU type veth peer name INSIDE mtu MTU netns GUEST`. Both ends are made where they belong: moving one
/// would cost the kernel as much again.
pub async fn add_cable(
    handle: &Handle,
    outside: &str,
    inside: &str,
    guest: RawFd,
    mtu: u32,
) -> Result<(), Error> {
    let far =
        LinkMessageBuilder::<LinkUnspec>::new().name(inside.to_owned()).mtu(mtu).setns_by_fd(guest).build();
    let cable = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
        .name(outside.to_owned())
        .mtu(mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
        .up()
        .build();
    handle.link().add(cable).execute().await
}

/// `ip link delete NAME`.
pub async fn delete(handle: &Handle, name: &str) -> Result<(), Error> {
    let index = index(handle, name).await?;
    handle.link().del(index).execute().await
}

/// `ip address replace IP/32 dev NAME`.
pub async fn add_address(handle: &Handle, name: &str, ip: Ipv4Addr) -> Result<(), Error> {
    let index = index(handle, name).await?;
    handle.address().add(index, ip.into(), 32).replace().execute().await
}

pub async fn delete_address(handle: &Handle, name: &str, ip: Ipv4Addr) -> Result<(), Error> {
    let index = index(handle, name).await?;
    let mut found =
        handle.address().get().set_link_index_filter(index).set_address_filter(ip.into()).execute();
    while let Some(message) = found.try_next().await? {
        handle.address().del(message).execute().await?;
    }
    Ok(())
}

/// `ip route replace IP/32 dev NAME scope link initcwnd FIRST_WINDOW`.
pub async fn add_link_route(handle: &Handle, name: &str, ip: Ipv4Addr) -> Result<(), Error> {
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(ip, 32)
        .output_interface(index(handle, name).await?)
        .scope(RouteScope::Link)
        .build();
    route.attributes.push(first_window());
    handle.route().add(route).replace().execute().await
}

/// `ip route replace default via GATEWAY dev NAME initcwnd FIRST_WINDOW`.
pub async fn add_default_route(handle: &Handle, name: &str, gateway: Ipv4Addr) -> Result<(), Error> {
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(gateway)
        .output_interface(index(handle, name).await?)
        .build();
    route.attributes.push(first_window());
    handle.route().add(route).replace().execute().await
}

fn first_window() -> RouteAttribute {
    RouteAttribute::Metrics(vec![RouteMetric::InitCwnd(FIRST_WINDOW)])
}

/// `ip route replace unreachable RANGE/PREFIX`: whoever asks for an address of the range that nobody has is told so.
pub async fn add_unreachable(handle: &Handle, range: Ipv4Addr, prefix: u8) -> Result<(), Error> {
    handle.route().add(unreachable(range, prefix)).replace().execute().await
}

pub async fn delete_unreachable(handle: &Handle, range: Ipv4Addr, prefix: u8) -> Result<(), Error> {
    handle.route().del(unreachable(range, prefix)).execute().await
}

fn unreachable(range: Ipv4Addr, prefix: u8) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range, prefix)
        .kind(RouteType::Unreachable)
        .build()
}

/// `ip route replace RANGE/PREFIX nexthop via HOP nexthop via …`, or `unreachable` without any.
pub async fn add_static_route(
    handle: &Handle,
    (range, prefix): (Ipv4Addr, u8),
    hops: &BTreeSet<Ipv4Addr>,
) -> Result<(), Error> {
    if hops.is_empty() {
        return add_unreachable(handle, range, prefix).await;
    }
    let hops = hops.iter().filter_map(|hop| RouteNextHopBuilder::new_ipv4().via((*hop).into()).ok());
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range, prefix)
        .multipath(hops.map(RouteNextHopBuilder::build).collect())
        .build();
    handle.route().add(route).replace().execute().await
}

/// Takes away what [`add_static_route`] laid, unless the kernel did when its last cable went.
pub async fn delete_static_route(
    handle: &Handle,
    (range, prefix): (Ipv4Addr, u8),
    hops: &BTreeSet<Ipv4Addr>,
) -> Result<(), Error> {
    let kind = if hops.is_empty() { RouteType::Unreachable } else { RouteType::Unicast };
    let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(range, prefix).kind(kind).build();
    match handle.route().del(route).execute().await {
        Err(Error::NetlinkError(refusal)) if is_missing(&refusal.to_io()) => Ok(()),
        other => other,
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}
