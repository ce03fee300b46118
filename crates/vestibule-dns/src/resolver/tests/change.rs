//! Changes while questions are asked: every answer is wholly of one table, and none fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// How long a client waits for an answer before the test fails.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Tables that are applied, and answers that every client must see in the meantime.
const TABLES: u32 = 200;
const ANSWERS: u32 = 2_000;

/// A zone whose every record, and whose serial number, is of one table.
fn table(n: u32) -> Table {
    let [_, a, b, c] = n.to_be_bytes();
    let address = format!("10.{a}.{b}.{c}");
    let mut records = vec![
        set("example.", "SOA", &format!("ns. host. {n} 21600 3600 259200 300")),
        set("alias.example.", "CNAME", "www.example."),
        set("www.example.", "A", &address),
        set("late.example.", "TXT", &format!("\"{n}\"")),
    ];
    if n.is_multiple_of(2) {
        records.push(set("even.example.", "A", &address));
    }
    let zones = vec![zone("example.", "n", ZoneKind::Plain(records))];
    Table { generation: n.into(), zones, ..Table::default() }
}

/// The number of the table that an answer is of.
fn number(answer: &[u8]) -> Result<u32, String> {
    let reply = crate::wire::read_answer(answer).ok_or("malformed")?;
    let address = |data: &[u8]| data.try_into().map(u32::from_be_bytes).map(|n| n & 0x00ff_ffff);
    let serial = |data: &[u8]| data[data.len() - 20..][..4].try_into().map(u32::from_be_bytes);
    match (reply.rcode, reply.answers.as_slice(), reply.soa) {
        // The alias, and what it leads to.
        (0, [alias, record], None) if alias.kind == kind::CNAME => address(&record.data),
        (0, [record], None) => address(&record.data),
        (3, [], Some(soa)) => serial(&soa.data),
        other => return Err(format!("{other:?}")),
    }
    .map_err(|error| error.to_string())
}

/// Asks again and again, by UDP, until told to stop; the numbers must not fall.
fn client(at: SocketAddr, name: &str, stop: &AtomicBool) -> Result<u32, String> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    socket
        .connect(at)
        .and_then(|()| socket.set_read_timeout(Some(ANSWER_LIMIT)))
        .map_err(|e| e.to_string())?;
    let (message, mut buffer, mut last, mut seen) = (question(name, kind::A), [0; 512], 0, 0);
    while !stop.load(Ordering::Relaxed) || seen < ANSWERS {
        socket.send(&message).map_err(|error| error.to_string())?;
        let length = socket.recv(&mut buffer).map_err(|error| format!("{name}: {error}"))?;
        let now = number(&buffer[..length]).map_err(|what| format!("{name}: {what}"))?;
        let parity =
            if length > 0 && name.starts_with("even") { u32::from(buffer[3] & 0xf == 3) } else { now % 2 };
        if now < last || now % 2 != parity {
            return Err(format!("{name}: {now} after {last}"));
        }
        (last, seen) = (now, seen + 1);
    }
    Ok(last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_whole_tables_and_never_a_failure() {
    let resolver = Resolver::new(Vec::new());
    resolver.apply(table(0));
    let (sockets, at) = sockets();
    let server = tokio::spawn(serve(resolver.clone(), network("n"), sockets, std::future::pending()));
    let stop = AtomicBool::new(false);
    let ends: Vec<Result<u32, String>> = std::thread::scope(|scope| {
        let stop = &stop;
        let names = ["alias.example", "even.example", "www.example", "no.example"];
        let clients = names.map(|name| scope.spawn(move || client(at, name, stop)));
        (1..=TABLES).for_each(|n| resolver.apply(table(n)));
        // What is applied is what the next question is answered from.
        let last = client(at, "www.example", &AtomicBool::new(true));
        stop.store(true, Ordering::Relaxed);
        let ends = clients.into_iter().map(|client| client.join().expect("no panic"));
        ends.chain([last]).collect()
    });
    assert_eq!(ends, vec![Ok(TABLES); 5]);
    server.abort();
}

/// A zone of ten thousand names is prepared and swapped in while the old one answers.
#[test]
fn a_large_zone_is_swapped_whole() {
    let records = |n: u8| -> Vec<RecordSet> {
        (0..10_000).map(|host| set(&format!("h{host}.example."), "A", &format!("10.0.0.{n}"))).collect()
    };
    let table = |n: u8| Table {
        generation: n.into(),
        zones: vec![zone("example.", "n", ZoneKind::Plain(records(n)))],
        ..Table::default()
    };
    let resolver = Resolver::new(Vec::new());
    resolver.apply(table(1));
    let second = table(2);
    let ask = |name: &str| {
        let answer = resolver.lookup_local(&network("n"), &name.parse().unwrap(), kind::A);
        answer.unwrap().addresses()[0].octets()[3]
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Once the last name is new, all are.
            while ask("h9999.example.") == 1 {
                assert!(began.elapsed() < ANSWER_LIMIT, "the new table never came");
            }
            (0..100).map(|n| ask(&format!("h{}.example.", n * 97))).collect::<Vec<_>>()
        });
        resolver.apply(second);
        assert_eq!(reader.join().unwrap(), vec![2; 100]);
    });
}
