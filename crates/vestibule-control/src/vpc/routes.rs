//! Static routes of networks.

use std::collections::BTreeMap;

use vestibule_store::View;
use vestibule_vpc::{NetworkId, Route};

use crate::compute::linked;
use crate::compute::ranges::Range;
use crate::{Document, document};

/// The static routes of every network that has any, in the order of their names. The one that a network came with is
/// not among them: nothing leads to the internet, whether it is there or not.
pub fn routes(view: &View) -> BTreeMap<NetworkId, Vec<Route>> {
    let mut found: BTreeMap<NetworkId, Vec<Route>> = BTreeMap::new();
    let stored = view.range("compute/projects/").filter(|kv| kv.key.contains("/global/routes/"));
    for doc in stored.map(|kv| document::object(&kv.value)) {
        if let Some((network, route)) = route(doc) {
            found.entry(network).or_default().push(route);
        }
    }
    // Where nothing else is said about a range, leading out of the network is as good as no route.
    found.retain(|_, routes| routes.iter().any(|route| route.next_hop.is_some()));
    found
}

fn route(doc: &Document) -> Option<(NetworkId, Route)> {
    let network = linked(doc, "network")?;
    let range = Range::parse(document::text(doc, "destRange")?).ok()?;
    let next_hop = match document::text(doc, "nextHopIp") {
        Some(hop) => Some(hop.parse().ok()?),
        None => None,
    };
    let priority = u16::try_from(document::integer(doc, "priority")?).ok()?;
    let route = Route { range: range.first(), prefix: range.prefix(), priority, next_hop };
    Some((NetworkId::from_relative(&network.relative()), route))
}
