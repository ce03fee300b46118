#![allow(clippy::print_stdout)]
//! A resolver with one zone, for measurements: `serve_zone PORT ORIGIN FILE`.
//!
//! The file has a record a line, `NAME TTL IN TYPE DATA`, names absolute: what every name server reads. Answers on
//! 127.0.0.1, by UDP and TCP, until its standard input is closed.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;

use vestibule_dns::{Entry, RecordSet, Resolver, Sockets, Table, Visibility, Zone, ZoneKind, serve};
use vestibule_vpc::NetworkId;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, origin, file] = args.as_slice() else {
        return Err("usage: serve_zone PORT ORIGIN FILE".into());
    };
    let network = NetworkId::new("bench", "n");
    let resolver = Resolver::new(Vec::new());
    let sets = read(&std::fs::read_to_string(file)?)?;
    let visible = Visibility::Networks(vec![network.clone()]);
    let zone = Zone::new(origin.parse()?, visible, ZoneKind::Plain(sets));
    resolver.apply(Table { generation: 1, zones: vec![Arc::new(zone)], ..Table::default() });
    let at = (Ipv4Addr::LOCALHOST, port.parse()?);
    let sockets = Sockets { udp: UdpSocket::bind(at)?, tcp: TcpListener::bind(at)?, entry: Entry::Machines };
    // One thread, as the servers it is measured beside have.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(serve(resolver, network, sockets, std::future::pending()));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn read(text: &str) -> Result<Vec<RecordSet>, Failure> {
    let mut sets: BTreeMap<(&str, &str), (u32, Vec<&str>)> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().ok_or_else(|| format!("not a record: {line}"));
        let (name, ttl, _class, kind, data) = (word()?, word()?, word()?, word()?, word()?);
        sets.entry((name, kind)).or_insert((ttl.parse()?, Vec::new())).1.push(data);
    }
    let set = |((name, kind), (ttl, data)): (_, (u32, Vec<&str>))| RecordSet::parse(name, kind, ttl, &data);
    Ok(sets.into_iter().map(set).collect::<Result<_, _>>()?)
}
