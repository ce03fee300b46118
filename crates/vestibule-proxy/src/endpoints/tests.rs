use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use vestibule_balance::affinity;
use vestibule_balance::load::BLACKOUT;
use vestibule_balance::{Affinity, Epoch, Health, Load, Outcome, OutlierDetection, State};
use vestibule_vpc::{Loopback, NetworkId, Vpc};

use super::*;
use crate::timers::Timers;
use crate::upstream::Pool;

/// A worker's part of the matter.
struct Desk {
    vpc: Vpc,
    clusters: Clusters,
    pool: Rc<Pool>,
    timers: Rc<Timers>,
}

struct Nothing;

impl affinity::Parts for Nothing {
    fn client(&self) -> IpAddr {
        IpAddr::from([10, 0, 0, 9])
    }
    fn header(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

impl Desk {
    fn new() -> Desk {
        let vpc = Vpc::new(Loopback::claim().unwrap());
        Desk { vpc, clusters: Clusters::default(), pool: Rc::default(), timers: Timers::new() }
    }

    fn members(&self, endpoints: &Arc<Endpoints>) -> Rc<Members> {
        self.clusters.members(endpoints, &self.vpc, &self.pool, &self.timers, 0)
    }
}

fn endpoint(last: u8, health: &Health) -> Endpoint {
    let at = At::Machine(([127, 0, 0, last], 80).into());
    Endpoint { group: 0, at, weight: 1, health: health.clone() }
}

fn endpoints(list: Vec<Endpoint>) -> Endpoints {
    let group = Group { name: "neg".into(), location: "us-central1-a".into(), is_zonal: true };
    Endpoints::new("bs".into(), NetworkId::new("p", "n"), vec![group], list)
}

fn begin(members: &Rc<Members>) -> Choice {
    Choice::new(members, &Nothing).ok().unwrap()
}

/// The last numbers of the addresses that some requests go to.
fn picked(members: &Rc<Members>, requests: usize) -> Vec<u8> {
    let one = |_| match begin(members).next()?.address.ip() {
        IpAddr::V4(ip) => Some(ip.octets()[3]),
        IpAddr::V6(_) => None,
    };
    let mut all: Vec<u8> = (0..requests).filter_map(one).collect();
    all.sort_unstable();
    all
}

#[test]
fn health_decides_who_is_picked_at_once() {
    let (desk, epoch) = (Desk::new(), Epoch::default());
    let health = [Health::unknown(&epoch), Health::unknown(&epoch)];
    let mut all = endpoints(vec![endpoint(1, &health[0]), endpoint(2, &health[1])]);
    all.epoch = epoch;
    let members = desk.members(&Arc::new(all));
    assert_eq!(picked(&members, 4), [0_u8; 0]);
    health[0].set(State::Healthy);
    assert_eq!(picked(&members, 4), [1, 1, 1, 1]);
    health[1].set(State::Healthy);
    assert_eq!(picked(&members, 4), [1, 1, 2, 2]);
    health[0].set(State::Unhealthy);
    assert_eq!(picked(&members, 4), [2, 2, 2, 2]);
}

#[test]
fn a_retry_goes_to_another_and_a_weight_of_nothing_to_nobody() {
    let (desk, good) = (Desk::new(), Health::assumed());
    let mut all = endpoints(vec![endpoint(1, &good), endpoint(2, &good), endpoint(3, &good)]);
    all.endpoints[2].weight = 0;
    let members = desk.members(&Arc::new(all));
    let mut choice = begin(&members);
    let first = choice.next().unwrap();
    assert!(choice.has_other());
    assert_ne!(choice.next().unwrap(), first);
    assert!(!choice.has_other());
    assert!(!picked(&members, 20).contains(&3));
}

#[test]
fn who_fails_is_ejected_and_remembered_by_the_next_snapshot() {
    let (desk, good) = (Desk::new(), Health::assumed());
    let list = vec![endpoint(1, &good), endpoint(2, &good)];
    let with_rules = |list: Vec<Endpoint>| {
        Arc::new(Endpoints { outlier: Some(OutlierDetection::default()), ..endpoints(list) })
    };
    let members = desk.members(&with_rules(list.clone()));
    let mut choice = begin(&members);
    let bad = choice.next().unwrap();
    (0..3).for_each(|_| choice.note(Outcome::Gateway));
    let rest = picked(&members, 4);
    assert!(rest.iter().all(|last| IpAddr::from([127, 0, 0, *last]) != bad.address.ip()), "{rest:?}");
    let later = desk.members(&with_rules(list));
    assert_eq!(picked(&later, 4), rest);
}

#[test]
fn a_snapshot_that_says_the_same_is_the_same_object_and_what_is_unused_is_forgotten() {
    let desk = Desk::new();
    let all = Arc::new(endpoints(vec![endpoint(1, &Health::assumed())]));
    let members = desk.members(&all);
    assert!(Rc::ptr_eq(&members, &desk.members(&all)));
    let host = Rc::downgrade(&members.hosts()[0]);
    desk.clusters.sweep();
    assert!(host.upgrade().is_some());
    drop(members);
    desk.clusters.sweep();
    assert!(host.upgrade().is_none());
}

#[test]
fn breakers_and_budgets_hold() {
    let (desk, good) = (Desk::new(), Health::assumed());
    let mut all = endpoints(vec![endpoint(1, &good)]);
    let limits =
        Limits { requests: Some(2), retries: Some(1), requests_per_connection: Some(3), ..Limits::default() };
    all.breakers = Some(Arc::new(Breakers::new(limits)));
    let members = desk.members(&Arc::new(all));
    let (mut first, mut second) = (begin(&members), begin(&members));
    assert!(matches!(Choice::new(&members, &Nothing), Err(NoChoice::Overflow)));
    assert!(first.retry() && first.retry() && !second.retry());
    drop(first);
    assert!(second.retry());
    assert!(!second.is_worn(2) && second.is_worn(3));
}

#[test]
fn the_busier_one_is_left_alone_by_least_request() {
    let (desk, good) = (Desk::new(), Health::assumed());
    let mut all = endpoints(vec![endpoint(1, &good), endpoint(2, &good)]);
    all.policy = Policy::LeastRequest;
    let members = desk.members(&Arc::new(all));
    let mut busy = begin(&members);
    let place = busy.next().unwrap();
    let flight = busy.begin(None);
    assert!((0..20).all(|_| begin(&members).next().unwrap() != place));
    drop(flight);
    assert_eq!(picked(&members, 200).iter().filter(|last| **last == 1).count().min(20), 20);
}

#[test]
fn a_strong_cookie_is_given_once() {
    struct Sends(Option<String>);
    impl affinity::Parts for Sends {
        fn client(&self) -> IpAddr {
            IpAddr::from([10, 0, 0, 9])
        }
        fn header(&self, name: &str) -> Option<&[u8]> {
            self.0.as_deref().filter(|_| name == "cookie").map(str::as_bytes)
        }
    }
    let (desk, good) = (Desk::new(), Health::assumed());
    let mut all = endpoints((1..=8).map(|last| endpoint(last, &good)).collect());
    let cookie = affinity::Cookie { name: "c".into(), path: None, ttl: None };
    all.affinity = Affinity::Strong(cookie);
    let members = desk.members(&Arc::new(all));
    let mut first = Choice::new(&members, &Sends(None)).ok().unwrap();
    let place = first.next().unwrap();
    let cookie = first.cookie().unwrap();
    let sent = cookie.split(';').next().unwrap().to_owned();
    for _ in 0..8 {
        let mut again = Choice::new(&members, &Sends(Some(sent.clone()))).ok().unwrap();
        assert_eq!(again.next(), Some(place));
        assert_eq!(again.cookie(), None);
    }
}

#[test]
fn who_reports_less_load_gets_more() {
    let (desk, good) = (Desk::new(), Health::assumed());
    let mut all = endpoints(vec![endpoint(1, &good), endpoint(2, &good)]);
    all.policy = Policy::WeightedRoundRobin;
    let members = desk.members(&Arc::new(all));
    assert_eq!(picked(&members, 4), [1, 1, 2, 2], "nobody has reported");
    for (index, report) in ["TEXT cpu_utilization=0.75,rps_fractional=10", "JSON nonsense"].iter().enumerate()
    {
        let mut choice = begin(&members);
        while choice.next().unwrap().address.to_string() != format!("127.0.0.{}:80", index + 1) {}
        choice.answered(Some(report.as_bytes()));
    }
    let (now, later) = (Instant::now(), Instant::now() + BLACKOUT);
    let capacities: Vec<_> = members.hosts().iter().map(|host| host.load.get().capacity(later)).collect();
    assert_eq!(capacities, [Some(10.0 / 0.75), None], "what cannot be read is no report");
    // As if both had reported for a while.
    for (host, utilization) in members.hosts().iter().zip([0.75, 0.25]) {
        let mut load = Load::default();
        load.report(utilization, 10.0, now.checked_sub(BLACKOUT).unwrap());
        host.load.set(load);
    }
    members.cluster.loads.set(members.cluster.loads.get() + 1);
    let all = picked(&members, 400);
    let share = all.iter().filter(|last| **last == 2).count();
    assert!((299..=301).contains(&share), "{share} of 400");
}

#[test]
fn a_name_has_many_addresses_or_none() {
    let desk = Desk::new();
    let named = Arc::new(Named { name: "a.test".into(), port: 80, addresses: ArcSwap::default() });
    let mut all = endpoints(vec![endpoint(1, &Health::assumed())]);
    all.endpoints[0].at = At::Name(named.clone());
    let all = Arc::new(all);
    assert_eq!(picked(&desk.members(&all), 2), [0_u8; 0]);
    named.addresses.store(Arc::new(vec![([127, 0, 0, 5], 80).into(), ([127, 0, 0, 6], 80).into()]));
    all.epoch.advance();
    assert_eq!(picked(&desk.members(&all), 4), [5, 5, 6, 6]);
}
