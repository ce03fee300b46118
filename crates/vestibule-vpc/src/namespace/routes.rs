//! Static routes in a network's own table of routes.
//!
//! Which of them are laid depends on the clients: the kernel takes a route away with the cable that it leads along, and
//! a range whose next hops are all gone must be unreachable rather than fall to a wider range.

use std::io;
use std::net::Ipv4Addr;

use super::room::Room;
use super::{NetworkState, link};
use crate::Route;

impl NetworkState {
    /// Makes the table of routes what documents and clients say now.
    pub fn lay_routes(&mut self, router: &Room) -> io::Result<()> {
        let wanted = Route::in_force(&self.routes, |hop| self.guests.contains_key(hop));
        let gone: Vec<_> = self.laid.iter().filter(|(range, _)| !wanted.contains_key(range)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(range, hops)| (*range, hops.clone())).collect();
        let new: Vec<_> = wanted.iter().filter(|(range, hops)| self.laid.get(range) != Some(hops)).collect();
        let new: Vec<_> = new.into_iter().map(|(range, hops)| (*range, hops.clone())).collect();
        if gone.is_empty() && new.is_empty() {
            return Ok(());
        }
        router.run(move |inside| {
            inside.netlink(async |handle| {
                for (range, hops) in &gone {
                    link::delete_static_route(handle, *range, hops).await?;
                }
                for (range, hops) in &new {
                    link::add_static_route(handle, *range, hops).await?;
                }
                Ok(())
            })
        })?;
        self.laid = wanted;
        Ok(())
    }

    /// A client came or went: what leads to it is to be laid anew.
    pub fn lay_routes_by(&mut self, router: &Room, client: Ipv4Addr) {
        self.laid.retain(|_, hops| !hops.contains(&client));
        if let Err(error) = self.lay_routes(router) {
            tracing::error!(%client, %error, "static routes are not as they should be");
        }
    }
}
