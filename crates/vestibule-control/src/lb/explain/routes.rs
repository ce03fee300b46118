//! Where static routes lead.

use std::net::Ipv4Addr;

use vestibule_store::View;
use vestibule_vpc::{NetworkId, Route};

use super::{End, Traveller};
use crate::vpc;

impl Traveller<'_> {
    /// The network of the asking client in which a static route leads to an address, and its next hop. A route whose
    /// next hops are not there ends the way. `None`: no route is about the address, or it leads out of the network.
    pub(super) fn led(&mut self, view: &View, to: Ipv4Addr) -> Result<Option<(NetworkId, Ipv4Addr)>, End> {
        let wanted = |network: &NetworkId| {
            let named = self.question.network.as_deref().is_none_or(|wanted| wanted == network.as_str());
            let stands = |from| self.members(network).iter().any(|member| member.address == from);
            named && self.question.from.is_none_or(stands)
        };
        let mut routes = vpc::routes(view).into_iter().filter(|(network, _)| wanted(network));
        let found = routes.find_map(|(network, routes)| Some((network, *Route::to(&routes, to)?, routes)));
        let Some((network, route, routes)) = found else { return Ok(None) };
        let members = self.members(&network);
        let there = |hop: &Ipv4Addr| members.iter().any(|member| member.address == *hop);
        let range = (route.range, route.prefix);
        let hops = Route::in_force(&routes, there).remove(&range).unwrap_or_default();
        let told = format!("{}/{}", range.0, range.1);
        if let Some(hop) = hops.first() {
            self.story.notes.push(format!("A static route to {told} leads to {hop}."));
            return Ok(Some((network, *hop)));
        }
        if route.next_hop.is_none() {
            return Ok(None);
        }
        let why = format!("A static route to {told} leads to a client that is not there now.");
        self.refuse("route", None, why)
    }
}
