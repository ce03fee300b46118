mod asker;
mod change;
mod order;

use super::*;
use crate::serve::{Sockets, serve};
use crate::{Entry, RecordSet, Visibility, Zone, ZoneKind};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

fn network(name: &str) -> NetworkId {
    NetworkId::new("p", name)
}

fn set(name: &str, type_name: &str, data: &str) -> RecordSet {
    RecordSet::parse(name, type_name, 300, &[data]).unwrap()
}

fn zone(apex: &str, network_name: &str, kind: ZoneKind) -> Arc<Zone> {
    Arc::new(Zone::new(apex.parse().unwrap(), Visibility::Networks(vec![network(network_name)]), kind))
}

fn plain(apex: &str, network_name: &str, records: &[(&str, &str, &str)]) -> Arc<Zone> {
    let mut all = vec![set(apex, "SOA", "ns. admin. 1 21600 3600 259200 60")];
    all.extend(records.iter().map(|(name, kind, data)| set(name, kind, data)));
    zone(apex, network_name, ZoneKind::Plain(all))
}

fn resolver() -> Resolver {
    let resolver = Resolver::new(Vec::new());
    resolver.apply(Table {
        generation: 3,
        zones: vec![
            plain(
                "example.com.",
                "n",
                &[
                    ("www.example.com.", "A", "10.0.0.100"),
                    ("a.dev.example.com.", "A", "10.0.0.1"),
                    ("here.example.com.", "CNAME", "www.example.com."),
                    ("there.example.com.", "CNAME", "x.other.org."),
                    ("loop.example.com.", "CNAME", "loop.example.com."),
                    ("away.example.com.", "CNAME", "public.example.net."),
                ],
            ),
            plain("dev.example.com.", "n", &[]),
            plain("other.org.", "n", &[("x.other.org.", "A", "10.9.9.9")]),
            plain("example.com.", "m", &[("www.example.com.", "A", "10.77.0.1")]),
            zone("peered.", "n", ZoneKind::Peering(network("m"))),
            zone("here.and.there.", "n", ZoneKind::Peering(network("m"))),
            zone("here.and.there.", "m", ZoneKind::Peering(network("n"))),
            Arc::new(Zone::new(
                "example.com.".parse().unwrap(),
                Visibility::Public,
                ZoneKind::Plain(vec![set("nope.example.com.", "A", "198.51.100.1")]),
            )),
            plain("peered.", "m", &[("a.peered.", "A", "10.66.0.1")]),
        ],
        run_app: Some(Ipv4Addr::new(199, 36, 153, 8)),
        ..Table::default()
    });
    resolver
}

async fn asked(net: &str, name: &str) -> (Rcode, Vec<Ipv4Addr>) {
    let resolver = resolver();
    let answer = resolver.lookup(&network(net), &name.parse().unwrap(), kind::A).await;
    (answer.rcode, resolver.addresses(&network(net), None, name).await)
}

#[tokio::test]
async fn the_longest_suffix_answers_and_nothing_falls_through() {
    for (net, name, rcode, address) in [
        ("n", "www.example.com", Rcode::NoError, Some(VIP)),
        ("n", "WWW.Example.COM.", Rcode::NoError, Some(VIP)),
        ("m", "www.example.com", Rcode::NoError, Some(Ipv4Addr::new(10, 77, 0, 1))),
        ("n", "nope.example.com", Rcode::NxDomain, None),
        ("n", "a.dev.example.com", Rcode::NxDomain, None),
        ("n", "here.example.com", Rcode::NoError, Some(VIP)),
        ("n", "there.example.com", Rcode::NoError, Some(Ipv4Addr::new(10, 9, 9, 9))),
        ("n", "loop.example.com", Rcode::ServFail, None),
        ("n", "a.peered", Rcode::NoError, Some(Ipv4Addr::new(10, 66, 0, 1))),
        ("n", "a.here.and.there", Rcode::ServFail, None),
        ("n", "metadata.google.internal", Rcode::NoError, Some(crate::RESOLVER)),
        ("elsewhere", "metadata.google.internal", Rcode::NoError, Some(crate::RESOLVER)),
        ("n", "other.google.internal", Rcode::NxDomain, None),
        ("n", "vm-1.c.p.internal", Rcode::NxDomain, None),
        ("n", "5.0.0.10.in-addr.arpa", Rcode::NxDomain, None),
        ("n", "a.16.172.in-addr.arpa", Rcode::NxDomain, None),
        ("n", "svc-abc-uc.a.run.app", Rcode::NoError, Some(Ipv4Addr::new(199, 36, 153, 8))),
        ("n", "away.example.com", Rcode::ServFail, None),
        ("elsewhere", "www.example.com", Rcode::NxDomain, None),
        ("elsewhere", "nope.example.com", Rcode::NoError, Some(Ipv4Addr::new(198, 51, 100, 1))),
        ("elsewhere", "www.example.org", Rcode::ServFail, None),
    ] {
        assert_eq!(asked(net, name).await, (rcode, address.into_iter().collect()), "{name} from {net}");
    }
}

#[tokio::test]
async fn a_negative_answer_brings_the_soa_with_its_minimum() {
    let answer = resolver().lookup(&network("n"), &"nope.example.com".parse().unwrap(), kind::A).await;
    assert_eq!(answer.authority.map(|soa| (soa.kind, soa.ttl)), Some((kind::SOA, 60)));
}

/// A name server on loopback that knows one address for every name.
async fn stub(address: Ipv4Addr) -> SocketAddr {
    let resolver = Resolver::new(Vec::new());
    let everything = zone(".", "stub", ZoneKind::Plain(vec![set("*.", "A", &address.to_string())]));
    resolver.apply(Table { generation: 1, zones: vec![everything], ..Table::default() });
    let (sockets, at) = sockets();
    tokio::spawn(serve(resolver, network("stub"), sockets, std::future::pending()));
    at
}

fn sockets() -> (Sockets, SocketAddr) {
    // A port that is free for UDP may be taken for TCP.
    loop {
        let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = udp.local_addr().unwrap();
        if let Ok(tcp) = std::net::TcpListener::bind(at) {
            return (Sockets { udp, tcp, entry: Entry::Machines }, at);
        }
    }
}

#[tokio::test]
async fn other_names_are_asked_of_the_servers_above() {
    let above = stub(Ipv4Addr::new(192, 0, 2, 1)).await;
    let resolver = Resolver::new(vec![above]);
    resolver.apply(Table {
        generation: 1,
        zones: vec![plain("example.com.", "n", &[("away.example.com.", "CNAME", "public.example.net.")])],
        ..Table::default()
    });
    let found = resolver.addresses(&network("n"), None, "away.example.com").await;
    assert_eq!(found, [Ipv4Addr::new(192, 0, 2, 1)]);
}

#[tokio::test]
async fn dig_reads_the_answers_over_udp_and_tcp() {
    let (sockets, at) = sockets();
    tokio::spawn(serve(resolver(), network("n"), sockets, std::future::pending()));
    for transport in ["+notcp", "+tcp"] {
        let port = at.port().to_string();
        let mut dig = tokio::process::Command::new("dig");
        dig.args(["@127.0.0.1", "-p", &port, transport, "+short", "+tries=1", "here.example.com"]);
        let output = match dig.output().await {
            Ok(output) => output,
            Err(error) => return println!("not run: dig (Debian's bind9-dnsutils) is missing: {error}"),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.lines().collect::<Vec<_>>(), ["www.example.com.", "10.0.0.100"], "{transport}");
    }
}

/// The table of Cloud DNS's resolution order with a forwarding zone.
#[tokio::test]
async fn forwarding_zones_ask_their_targets_and_nobody_else() {
    let (target, above) = (stub(Ipv4Addr::new(10, 0, 0, 53)).await, stub(Ipv4Addr::new(192, 0, 2, 1)).await);
    let deaf = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = deaf.local_addr().unwrap();
    drop(deaf);
    let resolver = Resolver::new(vec![above]);
    resolver.apply(Table {
        generation: 1,
        zones: vec![
            zone(
                "corp.example.com.",
                "n",
                ZoneKind::Forwarding(vec![Target::new(nobody), Target::new(target)]),
            ),
            zone("down.example.com.", "n", ZoneKind::Forwarding(vec![Target::new(nobody)])),
            plain("example.com.", "n", &[("alias.example.com.", "CNAME", "x.corp.example.com.")]),
        ],
        ..Table::default()
    });
    for (net, name, expected) in [
        ("n", "x.corp.example.com", vec![Ipv4Addr::new(10, 0, 0, 53)]),
        ("n", "alias.example.com", vec![Ipv4Addr::new(10, 0, 0, 53)]),
        ("n", "x.down.example.com", vec![]),
        ("m", "x.corp.example.com", vec![Ipv4Addr::new(192, 0, 2, 1)]),
    ] {
        assert_eq!(resolver.addresses(&network(net), None, name).await, expected, "{name} from {net}");
    }
    let down = resolver.lookup(&network("n"), &"x.down.example.com".parse().unwrap(), kind::A).await;
    assert_eq!(down.rcode, Rcode::ServFail);
    assert!(resolver.lookup_local(&network("n"), &"x.corp.example.com".parse().unwrap(), kind::A).is_none());
    let local = resolver.lookup_local(&network("n"), &"no.example.com".parse().unwrap(), kind::A);
    assert_eq!(local.map(|answer| answer.rcode), Some(Rcode::NxDomain));
}

/// The bytes that a client gets, over UDP with the limit it offers.
fn written(resolver: &Resolver, message: &[u8], limit: usize) -> Vec<u8> {
    let query = crate::wire::read_query(message).unwrap();
    let mut out = Vec::new();
    assert!(resolver.now(&network("n")).write(&query, Asker::at(None), limit, &mut out));
    out
}

fn question(name: &str, wanted: u16) -> Vec<u8> {
    crate::wire::write_query(4711, &name.parse().unwrap(), wanted)
}

/// What we write, as another implementation reads it.
#[test]
fn an_independent_reader_agrees() {
    use hickory_proto::op::{Message, ResponseCode};
    use hickory_proto::rr::RecordType;
    let resolver = resolver();
    let read = |name: &str, wanted: u16| {
        Message::from_vec(&written(&resolver, &question(name, wanted), 1232)).unwrap()
    };
    let chain = read("there.example.com", kind::A);
    assert!(chain.metadata.authoritative && chain.metadata.recursion_available);
    let kinds: Vec<_> = chain.answers.iter().map(|r| (r.name.to_string(), r.record_type())).collect();
    assert_eq!(
        kinds,
        [("there.example.com.".to_owned(), RecordType::CNAME), ("x.other.org.".to_owned(), RecordType::A)]
    );
    let none = read("nope.example.com", kind::A);
    assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(none.authorities[0].name.to_string(), "example.com.");
    assert_eq!(none.authorities[0].record_type(), RecordType::SOA);
    let no_data = read("www.example.com", 28);
    assert_eq!(no_data.metadata.response_code, ResponseCode::NoError);
    assert_eq!((no_data.answers.len(), no_data.authorities.len()), (0, 1));
    assert_eq!(read("www.example.com", 65_280).authorities.len(), 1, "an unknown type is no data");
    assert_eq!(read("www.example.com", kind::ANY).answers.len(), 1);
}

#[test]
fn who_wants_no_recursion_is_refused_what_is_not_ours() {
    let resolver = resolver();
    let rcode = |name: &str| {
        let mut message = question(name, kind::A);
        message[2] = 0;
        written(&resolver, &message, 512)[3] & 0xf
    };
    assert_eq!(rcode("www.example.org"), Rcode::Refused as u8);
    assert_eq!(rcode("www.example.com"), Rcode::NoError as u8);
}

#[test]
fn the_letter_case_of_the_question_comes_back() {
    let mut message = question("www.example.com", kind::A);
    message[13..16].copy_from_slice(b"wWw");
    let answer = written(&resolver(), &message, 512);
    assert_eq!(answer[12..33], message[12..33]);
    assert_eq!(answer[7], 1);
}

fn with_many_records() -> Resolver {
    let resolver = Resolver::new(Vec::new());
    let addresses: Vec<String> = (0..100).map(|n| format!("10.0.0.{n}")).collect();
    let records = vec![RecordSet::parse("many.example.", "A", 60, &addresses).unwrap()];
    let zones = vec![zone("example.", "n", ZoneKind::Plain(records))];
    resolver.apply(Table { generation: 1, zones, ..Table::default() });
    resolver
}

/// Speaks TCP: two questions in one write that is cut in the middle of the second.
#[tokio::test]
async fn what_is_too_long_for_udp_comes_over_tcp_pipelined_and_split() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let resolver = with_many_records();
    let message = question("many.example", kind::A);
    let short = written(&resolver, &message, 512);
    assert_eq!((short[2] & 0x02, short.len()), (0x02, message.len()), "truncated to the question");
    let (sockets, at) = sockets();
    let server = tokio::spawn(serve(resolver, network("n"), sockets, std::future::pending()));
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    let both = [framed.clone(), framed].concat();
    let (first, second) = both.split_at(both.len() - 5);
    stream.write_all(first).await.unwrap();
    for round in 0..2 {
        let length = stream.read_u16().await.unwrap();
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.unwrap();
        let records = crate::wire::read_answer(&answer).unwrap().answers;
        assert_eq!((records.len(), answer[2] & 0x02), (100, 0), "answer {round}");
        if round == 0 {
            stream.write_all(second).await.unwrap();
        }
    }
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "the conversation ends with the server");
}

/// A question that waits for another server does not hold up those behind it; a client that has said all it wants to say
/// still gets its answers.
#[tokio::test]
async fn over_tcp_each_answer_comes_when_it_is_ready() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let above = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let resolver = Resolver::new(vec![above.local_addr().unwrap()]);
    let zones = vec![plain("example.com.", "n", &[("www.example.com.", "A", "10.0.0.1")])];
    resolver.apply(Table { generation: 1, zones, ..Table::default() });
    let (sockets, at) = sockets();
    tokio::spawn(serve(resolver, network("n"), sockets, std::future::pending()));
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let framed = |message: Vec<u8>| [(message.len() as u16).to_be_bytes().to_vec(), message].concat();
    let both = [framed(question("slow.example.net", kind::A)), framed(question("www.example.com", kind::A))];
    stream.write_all(&both.concat()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(crate::wire::read_answer(&answer).unwrap().answers.len(), 1, "ours comes first");
    let mut asked = [0; 512];
    let (length, peer) = above.recv_from(&mut asked).await.unwrap();
    asked[2] |= 0x80;
    above.send_to(&asked[..length], peer).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[3] & 0xf, 0, "the other server's answer");
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "and then nothing more");
}

/// The first datagram is lost; the second is not.
#[tokio::test]
async fn a_silent_server_is_asked_again() {
    let above = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let resolver = Resolver::new(vec![above.local_addr().unwrap()]);
    let server = tokio::spawn(async move {
        let mut asked = [0; 512];
        above.recv_from(&mut asked).await.unwrap();
        let (length, peer) = above.recv_from(&mut asked).await.unwrap();
        asked[2] |= 0x80;
        above.send_to(&asked[..length], peer).await.unwrap();
    });
    let answer = resolver.lookup(&network("n"), &"x.example.net".parse().unwrap(), kind::A).await;
    assert_eq!(answer.rcode, Rcode::NoError);
    server.await.unwrap();
}

/// Malformed datagrams are answered or dropped, and the server goes on.
#[tokio::test]
async fn bad_datagrams_do_no_harm() {
    let (sockets, at) = sockets();
    let server = tokio::spawn(serve(resolver(), network("n"), sockets, std::future::pending()));
    let client = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect(at).await.unwrap();
    let mut answered = question("x", 1);
    answered[2] |= 0x80;
    for dropped in [vec![], vec![1; 11], answered] {
        client.send(&dropped).await.unwrap();
    }
    let mut buffer = [0; 2048];
    let mut two = question("www.example.com", kind::A);
    two[5] = 2;
    client.send(&two).await.unwrap();
    let length = client.recv(&mut buffer).await.unwrap();
    assert_eq!(
        (length, buffer[3] & 0xf),
        (12, Rcode::FormErr as u8),
        "the first answer is to the fourth datagram"
    );
    client.send(&question("www.example.com", kind::A)).await.unwrap();
    let length = client.recv(&mut buffer).await.unwrap();
    assert_eq!(crate::wire::read_answer(&buffer[..length]).unwrap().answers.len(), 1);
    server.abort();
}

/// Readers never see half of a change: both records come from one table.
#[test]
fn tables_are_swapped_whole() {
    let resolver = Resolver::new(Vec::new());
    let apply = |n: u8| {
        let address = format!("10.0.0.{n}");
        let records = [
            ("a.example.", "CNAME", "b.example."),
            ("b.example.", "A", &address),
            ("c.example.", "A", &address),
        ];
        let both = plain("example.", "n", &records);
        resolver.apply(Table { generation: n.into(), zones: vec![both], ..Table::default() });
    };
    apply(0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut seen, mut last) = (0, 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) || seen < 100 {
                let answer =
                    resolver.lookup_local(&network("n"), &"a.example".parse().unwrap(), kind::A).unwrap();
                let now = answer.addresses()[0].octets()[3];
                assert!(now >= last, "no step back");
                (seen, last) = (seen + 1, now);
            }
        });
        (0..=200).for_each(apply);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(resolver.generation(), 200);
}

/// A name server inside the network, at a private address that only the network knows.
#[tokio::test]
async fn forwarding_targets_inside_the_network_are_reached() {
    use vestibule_vpc::{Loopback, Vpc};
    let vpc = Vpc::new(Loopback::claim().unwrap());
    let inside = Ipv4Addr::new(10, 0, 0, 53);
    let udp = vpc.bind_udp(&network("n"), inside, 53).unwrap();
    let tcp = vpc.listen_tcp(&network("n"), inside, 53, 1).unwrap().remove(0);
    let there = Resolver::new(Vec::new());
    let records = ZoneKind::Plain(vec![set("x.corp.", "A", "10.0.0.7")]);
    there.apply(Table { generation: 1, zones: vec![zone("corp.", "n", records)], ..Table::default() });
    let server = tokio::spawn(serve(
        there,
        network("n"),
        Sockets { udp, tcp, entry: Entry::Machines },
        std::future::pending(),
    ));
    let resolver = Resolver::in_vpc(Vec::new(), vpc.clone());
    let forwarding = ZoneKind::Forwarding(vec![Target::new(SocketAddr::new(inside.into(), 53))]);
    resolver.apply(Table { generation: 1, zones: vec![zone("corp.", "n", forwarding)], ..Table::default() });
    assert_eq!(resolver.addresses(&network("n"), None, "x.corp").await, [Ipv4Addr::new(10, 0, 0, 7)]);
    let none = resolver.lookup(&network("n"), &"y.corp".parse().unwrap(), kind::A).await;
    assert_eq!((none.rcode, none.authority.map(|soa| soa.ttl)), (Rcode::NxDomain, Some(300)), "with its SOA");
    server.abort();
}
