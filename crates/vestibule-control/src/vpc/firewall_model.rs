//! Firewall documents against a plain model of what Google documents of them, written without a thought to speed.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use vestibule_vpc::firewall::{Action, Direction, Flow, decide};

use super::Member;
use super::firewall::compiled;
use crate::{Document, document};

const TAGS: [&str; 3] = ["web", "db", "batch"];
const ACCOUNTS: [&str; 2] = ["a@demo.iam.gserviceaccount.com", "b@demo.iam.gserviceaccount.com"];
const RANGES: [&str; 6] = ["10.0.0.0/24", "10.0.0.2", "10.0.0.0/30", "10.1.0.0/16", "0.0.0.0/0", "fd00::/8"];
const PORTS: [&str; 4] = ["80", "80-90", "443", "0-65535"];
const PROTOCOLS: [(&str, u8); 5] = [("tcp", 6), ("UDP", 17), ("icmp", 1), ("132", 132), ("all", 0)];

fn words(all: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(all, 0..=most)
}

fn traffic() -> impl Strategy<Value = Value> {
    (select(&PROTOCOLS[..]), words(&PORTS, 2)).prop_map(|((protocol, number), ports)| {
        match [6, 17, 132].contains(&number) && !ports.is_empty() {
            true => json!({"IPProtocol": protocol, "ports": ports}),
            false => json!({"IPProtocol": protocol}),
        }
    })
}

prop_compose! {
    fn rule()(
        egress in any::<bool>(), deny in any::<bool>(), disabled in prop::bool::weighted(0.1), priority in 0..4,
        by_account in any::<bool>(), sources in words(&RANGES, 2), destinations in words(&RANGES, 2),
        source_tags in words(&TAGS, 2), target_tags in words(&TAGS, 2),
        source_accounts in words(&ACCOUNTS, 1), target_accounts in words(&ACCOUNTS, 1),
        traffic in prop::collection::vec(traffic(), 1..3),
    ) -> Value {
        let mut doc = json!({
            "name": "r", "direction": if egress { "EGRESS" } else { "INGRESS" }, "priority": priority,
            "disabled": disabled, "sourceRanges": sources, "destinationRanges": destinations,
        });
        doc[if deny { "denied" } else { "allowed" }] = json!(traffic);
        let (from, to) = match by_account {
            true => (("sourceServiceAccounts", source_accounts), ("targetServiceAccounts", target_accounts)),
            false => (("sourceTags", source_tags), ("targetTags", target_tags)),
        };
        doc[to.0] = json!(to.1);
        if !egress {
            doc[from.0] = json!(from.1);
        }
        doc
    }
}

prop_compose! {
    fn member(host: u8)(tags in words(&TAGS, 2), account in select(&ACCOUNTS[..])) -> Member {
        Member {
            address: Ipv4Addr::new(10, 0, 0, host),
            service_account: account.to_owned(),
            tags: tags.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// Addresses that no client has.
const OTHERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(192, 0, 2, 1)];

fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![(2u8..5).prop_map(|host| Ipv4Addr::new(10, 0, 0, host)), select(&OTHERS[..])]
}

/// Whether a list is not there or has something that fits.
fn any_or_none(doc: &Document, field: &str, fits: impl Fn(&str) -> bool) -> bool {
    let items = document::items(doc, field);
    items.is_empty() || items.iter().filter_map(Value::as_str).any(fits)
}

fn covers(range: &str, address: Ipv4Addr) -> bool {
    let (base, prefix) = range.split_once('/').unwrap_or((range, "32"));
    let (Ok(base), Ok(prefix)) = (base.parse::<Ipv4Addr>(), prefix.parse::<u32>()) else { return false };
    (0..prefix).all(|bit| (u32::from(base) ^ u32::from(address)) >> (31 - bit) & 1 == 0)
}

fn is(members: &[Member], address: Ipv4Addr, word: &str) -> bool {
    let found = members.iter().find(|member| member.address == address);
    found.is_some_and(|member| member.service_account == word || member.tags.iter().any(|tag| tag == word))
}

fn matches(doc: &Document, members: &[Member], flow: &Flow) -> bool {
    let egress = document::text(doc, "direction") == Some("EGRESS");
    let protected = if egress { flow.source } else { flow.destination };
    let is_target = ["targetTags", "targetServiceAccounts"]
        .iter()
        .all(|field| any_or_none(doc, field, |word| is(members, protected, word)));
    let lists = ["sourceRanges", "sourceTags", "sourceServiceAccounts"];
    let said = lists.iter().any(|field| !document::items(doc, field).is_empty());
    let from = |field: &str| {
        let mut words = document::items(doc, field).iter().filter_map(Value::as_str);
        words.any(|word| covers(word, flow.source) || is(members, flow.source, word))
    };
    let comes = !said || lists.iter().any(|field| from(field));
    let goes = any_or_none(doc, "destinationRanges", |range| covers(range, flow.destination));
    let field = if document::items(doc, "denied").is_empty() { "allowed" } else { "denied" };
    let fits = |entry: &Value| {
        let name = entry["IPProtocol"].as_str().unwrap();
        let number = PROTOCOLS.iter().find(|(known, _)| *known == name).unwrap().1;
        let port = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            (first.parse::<u16>().unwrap()..=last.parse().unwrap()).contains(&flow.port)
        };
        (number == 0 || number == flow.protocol) && any_or_none(document::object(entry), "ports", port)
    };
    is_target && comes && goes && document::items(doc, field).iter().any(fits)
}

/// The lowest number decides, a denying rule before an allowing one; without any, all goes out and nothing comes in.
fn model(docs: &[Value], members: &[Member], side: Direction, flow: &Flow) -> Action {
    let direction = if side == Direction::Egress { "EGRESS" } else { "INGRESS" };
    let mut best: Option<(i64, Action)> = None;
    for doc in docs.iter().map(document::object) {
        if document::text(doc, "direction") != Some(direction)
            || document::flag(doc, "disabled")
            || !matches(doc, members, flow)
        {
            continue;
        }
        let action = if document::items(doc, "denied").is_empty() { Action::Allow } else { Action::Deny };
        let this = (document::integer(doc, "priority").unwrap(), action);
        let wins = best.is_none_or(|(priority, action)| {
            this.0 < priority || this.0 == priority && this.1 == Action::Deny && action == Action::Allow
        });
        if wins {
            best = Some(this);
        }
    }
    let implied = if side == Direction::Egress { Action::Allow } else { Action::Deny };
    best.map_or(implied, |(_, action)| action)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn rules_decide_as_the_model(
        docs in prop::collection::vec(rule(), 0..6),
        members in (member(2), member(3), member(4)),
        source in address(), destination in address(),
        (protocol, port) in select(&[(6, 80), (6, 443), (6, 8080), (17, 85), (17, 53), (132, 80), (1, 0), (50, 0)][..]),
    ) {
        let members = [members.0, members.1, members.2];
        let rules = compiled(docs.iter().map(document::object), &members);
        let flow = Flow { source, destination, protocol, port };
        for side in [Direction::Egress, Direction::Ingress] {
            prop_assert_eq!(decide(&rules, side, &flow).0, model(&docs, &members, side, &flow), "{:?}", side);
        }
    }
}
