//! Answers that depend on who asks: by place, translated for IPv6, and logged.

use vestibule_logs::{ListRequest, LogLimits, LogStore, Query};

use super::*;
use crate::policy::ServerPolicy;
use crate::querylog::QueryLog;
use crate::{Nearest, Place, Routing, Site, Sites, Texts};

fn texts(address: &str) -> Texts {
    Texts { fixed: vec![address.into()], checked: Vec::new() }
}

fn site(third: u8, region: &str, place: Option<Place>) -> Site {
    Site { first: [10, 0, third, 0].into(), last: [10, 0, third, 255].into(), region: region.into(), place }
}

const IOWA: (f64, f64) = (41.3, -95.9);
const BELGIUM: (f64, f64) = (50.4, 3.8);

fn table(dns64: bool) -> Table {
    let at = |(latitude, longitude)| Place::new(latitude, longitude);
    let items = vec![(at(IOWA), texts("10.1.0.1")), (at(BELGIUM), texts("10.2.0.1"))];
    let routing = Routing::Nearest(Nearest { items, fenced: false });
    let near = RecordSet::routed("near.example.com.", "A", 60, routing).unwrap();
    let sets = vec![
        set("example.com.", "SOA", "ns. admin. 1 21600 3600 259200 60"),
        near,
        set("four.example.com.", "A", "10.3.0.1"),
        set("alias.example.com.", "CNAME", "four.example.com."),
        set("six.example.com.", "AAAA", "2001:db8::6"),
    ];
    let zone = Zone::new(
        "example.com.".parse().unwrap(),
        Visibility::Networks(vec![network("n")]),
        ZoneKind::Plain(sets),
    );
    let policy = ServerPolicy {
        name: "policy".into(),
        networks: vec![network("n")],
        log: true,
        dns64,
        ..ServerPolicy::default()
    };
    let sites = vec![
        site(0, "us-central1", Some(at(IOWA))),
        // The nearest of the two is Belgium.
        site(1, "europe-west3", Some(Place::new(50.1, 8.7))),
        site(2, "moon1", None),
    ];
    Table {
        generation: 1,
        zones: vec![Arc::new(zone.named("zone"))],
        server_policies: vec![policy],
        sites: [(network("n"), Arc::new(Sites::new(sites)))].into(),
        ..Table::default()
    }
}

#[test]
fn who_asks_from_where_gets_what_is_near() {
    let resolver = Resolver::new(Vec::new());
    resolver.apply(table(false));
    let name = "near.example.com".parse().unwrap();
    for (from, address) in [
        (Some([10, 0, 0, 9]), [10, 1, 0, 1]),
        (Some([10, 0, 1, 9]), [10, 2, 0, 1]),
        (Some([10, 0, 2, 9]), [10, 1, 0, 1]),
        (Some([192, 168, 0, 1]), [10, 1, 0, 1]),
        (None, [10, 1, 0, 1]),
    ] {
        let from = from.map(Ipv4Addr::from);
        let answer = resolver.lookup_local_from(&network("n"), from, &name, kind::A).unwrap();
        assert_eq!(answer.addresses(), [Ipv4Addr::from(address)], "{from:?}");
    }
}

/// Asks over UDP; the answer's code and the data of its records.
async fn ask(at: SocketAddr, name: &str, wanted: u16) -> (u8, Vec<String>) {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(&crate::wire::write_query(9, &name.parse().unwrap(), wanted), at).await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = socket.recv(&mut buffer).await.unwrap();
    let reply = crate::wire::read_answer(&buffer[..length]).unwrap();
    let data = reply.answers.iter().map(|record| crate::rdata::text(record.kind, &record.data)).collect();
    (reply.rcode, data)
}

fn serving(resolver: &Resolver, entry: Entry) -> SocketAddr {
    let (sockets, at) = sockets();
    let sockets = Sockets { entry, ..sockets };
    tokio::spawn(serve(resolver.clone(), network("n"), sockets, std::future::pending()));
    at
}

#[tokio::test]
async fn names_without_ipv6_get_translated_addresses() {
    let resolver = Resolver::new(Vec::new());
    resolver.apply(table(true));
    let at = serving(&resolver, Entry::Machines);
    let translated = "64:ff9b::a03:1".to_owned();
    assert_eq!(ask(at, "four.example.com", kind::AAAA).await, (0, vec![translated.clone()]));
    let chain = vec!["four.example.com.".to_owned(), translated];
    assert_eq!(ask(at, "alias.example.com", kind::AAAA).await, (0, chain));
    assert_eq!(ask(at, "six.example.com", kind::AAAA).await, (0, vec!["2001:db8::6".into()]));
    assert_eq!(ask(at, "four.example.com", kind::A).await, (0, vec!["10.3.0.1".into()]));
    assert_eq!(ask(at, "nobody.example.com", kind::AAAA).await, (3, vec![]));
    let reverse = format!("1.0.0.0.3.0.a.0.{}b.9.f.f.4.6.0.0.ip6.arpa", "0.".repeat(16));
    let alias = vec!["1.0.3.10.in-addr.arpa.".to_owned()];
    assert_eq!(ask(at, &reverse, kind::PTR).await, (3, alias), "10.3.0.1 itself has no name");
    for entry in [Entry::Forwarder(Ipv4Addr::LOCALHOST), Entry::Instance(None)] {
        let at = serving(&resolver, entry);
        assert_eq!(ask(at, "four.example.com", kind::AAAA).await, (0, vec![]), "{entry:?}");
    }
    resolver.apply(table(false));
    assert_eq!(ask(at, "four.example.com", kind::AAAA).await, (0, vec![]));
}

#[tokio::test]
async fn questions_are_logged_with_who_answered() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    let world = stub(Ipv4Addr::new(192, 0, 2, 1)).await;
    let resolver = Resolver::new(vec![world]);
    resolver.log_to(QueryLog::start(store.sink(), Box::new(|_, _| None)).unwrap());
    resolver.apply(table(false));
    let at = serving(&resolver, Entry::Instance(Some([10, 0, 1, 9].into())));
    ask(at, "near.example.com", kind::A).await;
    ask(at, "www.example.org", kind::A).await;
    ask(at, "metadata.google.internal", kind::A).await;
    let resource_names = ["projects/p".to_owned()];
    let filter = "resource.type = dns_query";
    let request = ListRequest { resource_names: &resource_names, filter, ..ListRequest::default() };
    let page = store.list(&Query::new(&request).unwrap()).unwrap();
    let mut told: Vec<String> = page
        .entries
        .iter()
        .map(|entry| {
            let (payload, labels) = (&entry["jsonPayload"], &entry["resource"]["labels"]);
            let word = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
            [
                &payload["queryName"],
                &labels["target_type"],
                &labels["target_name"],
                &labels["location"],
                &payload["rdata"],
                &payload["destinationIP"],
            ]
            .map(word)
            .join("|")
        })
        .collect();
    told.sort();
    let ttl = "\t60\tIN\ta\t";
    assert_eq!(
        told,
        [
            "metadata.google.internal.|internal||europe-west3|metadata.google.internal.\t300\tIN\ta\t169.254.169.254|-"
                .to_owned(),
            format!("near.example.com.|private-zone|zone|europe-west3|near.example.com.{ttl}10.2.0.1|-"),
            "www.example.org.|external||europe-west3|www.example.org.\t300\tIN\ta\t192.0.2.1|127.0.0.1".to_owned(),
        ]
    );
    assert_eq!(resolver.metrics().not_logged, 0);
}
