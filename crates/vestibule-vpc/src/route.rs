//! Static routes: ranges beyond a network's own, and the client that leads there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// A static route of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// First address of the destinations.
    pub range: Ipv4Addr,
    /// Prefix length, 0 to 32.
    pub prefix: u8,
    /// Among routes of the same range the lowest number wins.
    pub priority: u16,
    /// The client that packets go to. `None`: they leave the network, which has no way out here.
    pub next_hop: Option<Ipv4Addr>,
}

/// Ranges that routes are about, by their first address and prefix length.
pub type Ranges = BTreeMap<(Ipv4Addr, u8), BTreeSet<Ipv4Addr>>;

impl Route {
    /// The next hops that packets to every range take, in equal shares; none where they are dropped. A client that is
    /// not there does not count, as a VM that is stopped does not on Google's: another route of the same range takes
    /// over, and never one of a wider range.
    pub fn in_force(routes: &[Route], is_there: impl Fn(&Ipv4Addr) -> bool) -> Ranges {
        let mut best: BTreeMap<(Ipv4Addr, u8), (u16, BTreeSet<Ipv4Addr>)> = BTreeMap::new();
        for route in routes {
            let known = best.entry((route.range, route.prefix)).or_insert((u16::MAX, BTreeSet::new()));
            let works = route.next_hop.is_none_or(|hop| is_there(&hop));
            if !works || route.priority > known.0 {
                continue;
            }
            if route.priority < known.0 {
                *known = (route.priority, BTreeSet::new());
            }
            known.1.extend(route.next_hop);
        }
        best.into_iter().map(|(range, (_, hops))| (range, hops)).collect()
    }

    /// The route that an address is reached by if no subnet has it: of the narrowest range, then of the lowest number.
    pub fn to(routes: &[Route], ip: Ipv4Addr) -> Option<&Route> {
        let about = routes.iter().filter(|route| route.covers(ip));
        about.min_by_key(|route| (u8::MAX - route.prefix, route.priority))
    }

    fn covers(&self, ip: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        u32::from(ip) & mask == u32::from(self.range) & mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
    const RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(192, 0, 2, 0), 24);

    fn route(priority: u16, next_hop: Option<Ipv4Addr>) -> Route {
        Route { range: RANGE.0, prefix: RANGE.1, priority, next_hop }
    }

    fn hops(routes: &[Route], there: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
        let found = Route::in_force(routes, |hop| there.contains(hop));
        found[&RANGE].iter().copied().collect()
    }

    #[test]
    fn the_first_priority_with_a_next_hop_that_is_there_wins() {
        let routes = [route(2000, Some(OTHER)), route(1000, Some(ONE))];
        assert_eq!(hops(&routes, &[ONE, OTHER]), [ONE]);
        assert_eq!(hops(&routes, &[OTHER]), [OTHER]);
        assert!(hops(&routes, &[]).is_empty());
    }

    #[test]
    fn equals_share_and_a_way_out_hides_what_comes_after_it() {
        let equal = [route(1000, Some(ONE)), route(1000, Some(OTHER))];
        assert_eq!(hops(&equal, &[ONE, OTHER]), [ONE, OTHER]);
        let out = [route(1000, None), route(2000, Some(ONE))];
        assert!(hops(&out, &[ONE]).is_empty());
    }

    #[test]
    fn the_narrowest_range_decides() {
        let wide = Route { range: Ipv4Addr::UNSPECIFIED, prefix: 0, priority: 0, next_hop: None };
        let routes = [wide, route(1000, Some(ONE)), route(500, Some(OTHER))];
        assert_eq!(Route::to(&routes, Ipv4Addr::new(192, 0, 2, 9)), Some(&routes[2]));
        assert_eq!(Route::to(&routes, Ipv4Addr::new(192, 0, 3, 9)), Some(&wide));
        assert_eq!(Route::to(&routes[1..], Ipv4Addr::new(192, 0, 3, 9)), None);
    }
}
