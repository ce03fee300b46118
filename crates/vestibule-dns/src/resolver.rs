//! Name resolution as seen from inside a network (Cloud DNS's name resolution order).
//!
//! One walk serves both uses: [`Resolver::lookup`] collects records for callers inside this process, and the server
//! has the same walk write straight into the answer. The walk never waits; when it leads out of our own data, it says
//! which servers to ask for what.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use vestibule_vpc::{NetworkId, Vpc};

use crate::name::Name;
use crate::rdata::kind;
use crate::table::{Authority, Index, Table};
use crate::upstream;
use crate::wire::{Query, Rcode, Record, Writer};
use crate::zone::{Found, Stored};

/// Aliases and peerings followed for one question.
const MAX_STEPS: usize = 16;

/// The resolver of all networks. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    index: ArcSwap<Index>,
    upstream: Vec<SocketAddr>,
    /// Where private addresses of networks are reached from this process.
    vpc: Option<Vpc>,
}

/// An answer, before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub rcode: Rcode,
    /// The name that was asked for is one of ours.
    pub authoritative: bool,
    pub records: Vec<Record>,
    /// The SOA of a negative answer.
    pub authority: Option<Record>,
}

impl Answer {
    /// The IPv4 addresses in it.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        let data = self.records.iter().filter(|r| r.kind == kind::A).map(|r| r.data.as_slice());
        data.filter_map(|d| <[u8; 4]>::try_from(d).ok()).map(Ipv4Addr::from).collect()
    }
}

/// How the walk over our own data ends.
enum Step {
    Done(Rcode),
    /// The rest must be asked of these servers.
    Ask {
        servers: Vec<SocketAddr>,
        name: Name,
    },
}

/// Where the walk puts records: into an answer's bytes, or into a list. `rest` is a record behind its owner's name.
trait Sink {
    fn answer(&mut self, owner: &Name, rest: &[u8]);
    fn authority(&mut self, owner: &Name, rest: &[u8]);
}

impl Sink for Writer<'_, '_> {
    fn answer(&mut self, owner: &Name, rest: &[u8]) {
        Writer::answer(self, owner, rest);
    }

    fn authority(&mut self, owner: &Name, rest: &[u8]) {
        Writer::authority(self, owner, rest);
    }
}

#[derive(Default)]
struct Collected {
    answers: Vec<Record>,
    authority: Option<Record>,
}

impl Sink for Collected {
    fn answer(&mut self, owner: &Name, rest: &[u8]) {
        self.answers.extend(Record::behind(owner, rest));
    }

    fn authority(&mut self, owner: &Name, rest: &[u8]) {
        self.authority = Record::behind(owner, rest);
    }
}

impl Resolver {
    /// A resolver that asks `upstream` for what no zone holds; with none, such names get SERVFAIL. See
    /// [`crate::system_servers`].
    pub fn new(upstream: Vec<SocketAddr>) -> Resolver {
        Resolver(Arc::new(Inner { index: ArcSwap::default(), upstream, vpc: None }))
    }

    /// The same, where the targets of forwarding zones may be servers inside the networks of this machine.
    pub fn in_vpc(upstream: Vec<SocketAddr>, vpc: Vpc) -> Resolver {
        Resolver(Arc::new(Inner { index: ArcSwap::default(), upstream, vpc: Some(vpc) }))
    }

    /// From now on every question is answered from this table.
    pub fn apply(&self, table: Table) {
        self.0.index.store(Arc::new(Index::new(table)));
    }

    /// The generation of the current table.
    pub fn generation(&self) -> u64 {
        self.0.index.load().generation
    }

    /// Resolves a name and type as a client inside `network` sees it.
    pub async fn lookup(&self, network: &NetworkId, name: &Name, wanted: u16) -> Answer {
        let mut found = Collected::default();
        let (step, authoritative) = self.walk(network, name, wanted, true, &mut found);
        match step {
            Step::Done(Rcode::ServFail) => Answer::failed(),
            Step::Done(rcode) => {
                Answer { rcode, authoritative, records: found.answers, authority: found.authority }
            }
            Step::Ask { servers, name } => {
                let Some(heard) = upstream::ask(&servers, &name, wanted).await else {
                    return Answer::failed();
                };
                let mut records = found.answers;
                records.extend(heard.answers);
                Answer { rcode: heard.rcode, authoritative, records, authority: heard.soa }
            }
        }
    }

    /// The same for what our own data answers; `None` if another server would have to be asked. Never waits.
    pub fn lookup_local(&self, network: &NetworkId, name: &Name, wanted: u16) -> Option<Answer> {
        let mut found = Collected::default();
        match self.walk(network, name, wanted, true, &mut found) {
            (Step::Ask { .. }, _) => None,
            (Step::Done(Rcode::ServFail), _) => Some(Answer::failed()),
            (Step::Done(rcode), authoritative) => {
                Some(Answer { rcode, authoritative, records: found.answers, authority: found.authority })
            }
        }
    }

    /// The IPv4 addresses of a host name, as a client inside `network` sees them.
    pub async fn addresses(&self, network: &NetworkId, host: &str) -> Vec<Ipv4Addr> {
        match Name::parse(host) {
            Ok(name) => self.lookup(network, &name, kind::A).await.addresses(),
            Err(_) => Vec::new(),
        }
    }

    /// Writes the answer if it needs no other server; `false` says that [`Resolver::write_asking`] must be called, and
    /// leaves `out` as it was.
    pub(crate) fn write_local(
        &self,
        network: &NetworkId,
        query: &Query<'_>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let before = out.len();
        let mut writer = Writer::new(query, limit, out);
        let wants = query.recursion_desired;
        let (step, authoritative) = self.walk(network, &query.name, query.kind, wants, &mut writer);
        match step {
            Step::Done(rcode) => {
                if rcode == Rcode::ServFail {
                    writer.drop_records();
                }
                writer.finish(authoritative, rcode);
                true
            }
            Step::Ask { .. } => {
                out.truncate(before);
                false
            }
        }
    }

    pub(crate) async fn write_asking(
        &self,
        network: &NetworkId,
        query: &Query<'_>,
        limit: usize,
        out: &mut Vec<u8>,
    ) {
        let answer = self.lookup(network, &query.name, query.kind).await;
        let mut writer = Writer::new(query, limit, out);
        for record in &answer.records {
            writer.answer(&record.name, &record.rest());
        }
        if let Some(soa) = &answer.authority {
            writer.authority(&soa.name, &soa.rest());
        }
        writer.finish(answer.authoritative, answer.rcode);
    }

    /// Follows a question through our own data. Tells also whether the name that was asked for is one of ours.
    fn walk(
        &self,
        network: &NetworkId,
        asked: &Name,
        wanted: u16,
        recursion_desired: bool,
        sink: &mut impl Sink,
    ) -> (Step, bool) {
        let index = self.0.index.load();
        let (mut network, mut name) = (network, asked);
        let mut ours = false;
        for _ in 0..MAX_STEPS {
            match index.authority(network, name) {
                Some(Authority::Peering(target)) => network = target,
                Some(Authority::Forwarding(servers)) => {
                    let servers = servers.iter().map(|server| self.reached(network, *server)).collect();
                    return (Step::Ask { servers, name: name.clone() }, ours);
                }
                Some(Authority::Zone(zone)) => {
                    ours = true;
                    match zone.find(name, wanted) {
                        Found::Records(set) => {
                            push(sink, name, set);
                            return (Step::Done(Rcode::NoError), ours);
                        }
                        Found::Alias(set, target) => {
                            push(sink, name, set);
                            name = target;
                        }
                        Found::NoData => {
                            sink.authority(zone.apex(), zone.negative());
                            return (Step::Done(Rcode::NoError), ours);
                        }
                        Found::NoName => {
                            sink.authority(zone.apex(), zone.negative());
                            return (Step::Done(Rcode::NxDomain), ours);
                        }
                    }
                }
                // Who wants only what we know ourselves is told that we know nothing of this name.
                None if !recursion_desired && !ours => return (Step::Done(Rcode::Refused), ours),
                None if !recursion_desired => return (Step::Done(Rcode::NoError), ours),
                None if self.0.upstream.is_empty() => return (Step::Done(Rcode::ServFail), ours),
                None => return (Step::Ask { servers: self.0.upstream.clone(), name: name.clone() }, ours),
            }
        }
        (Step::Done(Rcode::ServFail), ours)
    }

    /// Where a name server is asked: one with a private address inside of the network if something listens there.
    fn reached(&self, network: &NetworkId, server: SocketAddr) -> SocketAddr {
        let SocketAddr::V4(private) = server else { return server };
        let vpc = self.0.vpc.as_ref().filter(|_| private.ip().is_private());
        vpc.and_then(|vpc| vpc.locate(network, *private.ip(), private.port())).unwrap_or(server)
    }
}

impl Answer {
    fn failed() -> Answer {
        Answer { rcode: Rcode::ServFail, authoritative: false, records: Vec::new(), authority: None }
    }
}

/// The records of a set under the name that was asked for, which differs from the set's own for a wildcard. A random
/// one comes first, so that clients that take the first spread over all.
fn push(sink: &mut impl Sink, owner: &Name, set: &Stored) {
    set.records(fastrand::u16(..)).for_each(|rest| sink.answer(owner, rest));
}

#[cfg(test)]
mod tests;
