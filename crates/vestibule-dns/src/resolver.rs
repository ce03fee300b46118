//! Name resolution as seen from inside a network (Cloud DNS's name resolution order).
//!
//! One walk serves both uses: [`Resolver::lookup`] collects records for callers inside this process, and the server
//! has the same walk write straight into the answer. The walk never waits; when it leads out of our own data, it says
//! which servers to ask for what.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use vestibule_vpc::{NetworkId, Vpc};

use crate::counts::{Counts, Report};
use crate::hosts::Hosts;
use crate::name::Name;
use crate::policy::{Path, Prepared, Target};
use crate::rdata::kind;
use crate::table::{Authority, Index, Table, View};
use crate::upstream::Paths;
use crate::wire::{Query, Rcode, Record, Writer};
use crate::zone::{Found, Stored, ZoneData};

/// Aliases and peerings followed for one question.
const MAX_STEPS: usize = 16;

/// The resolver of all networks. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    index: ArcSwap<Index>,
    /// What the index is made of.
    sources: Mutex<Sources>,
    upstream: Arc<[Target]>,
    paths: Paths,
    counts: Counts,
}

#[derive(Default)]
struct Sources {
    table: Table,
    hosts: BTreeMap<NetworkId, Hosts>,
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

    fn failed() -> Answer {
        Answer { rcode: Rcode::ServFail, authoritative: false, records: Vec::new(), authority: None }
    }
}

/// How the walk over our own data ends.
enum Step {
    Done(Rcode),
    /// The rest must be asked of these servers, as seen from this network.
    Ask {
        servers: Arc<[Target]>,
        network: NetworkId,
        name: Name,
    },
}

/// Where the walk puts records: into an answer's bytes, or into a list. Owners are in wire form, in lower case.
trait Sink {
    fn answer(&mut self, owner: &[u8], set: &Stored);
    /// `rest` is a record behind its owner's name.
    fn authority(&mut self, owner: &[u8], rest: &[u8]);
}

impl Sink for Writer<'_, '_> {
    fn answer(&mut self, owner: &[u8], set: &Stored) {
        set.runs().into_iter().for_each(|run| self.answers(owner, run));
    }

    fn authority(&mut self, owner: &[u8], rest: &[u8]) {
        Writer::authority(self, owner, rest);
    }
}

#[derive(Default)]
struct Collected {
    answers: Vec<Record>,
    authority: Option<Record>,
}

impl Sink for Collected {
    fn answer(&mut self, owner: &[u8], set: &Stored) {
        let records = set.runs().into_iter().flat_map(|run| run.records());
        self.answers.extend(records.filter_map(|rest| Record::behind(owner, rest)));
    }

    fn authority(&mut self, owner: &[u8], rest: &[u8]) {
        self.authority = Record::behind(owner, rest);
    }
}

impl Resolver {
    /// A resolver that asks `upstream` for what no zone holds; with none, such names get SERVFAIL. See
    /// [`crate::system_servers`].
    pub fn new(upstream: Vec<SocketAddr>) -> Resolver {
        Resolver::with(upstream, Paths::default())
    }

    /// The same, where the targets of forwarding zones and of policies may be servers inside the networks of this
    /// machine.
    pub fn in_vpc(upstream: Vec<SocketAddr>, vpc: Vpc) -> Resolver {
        Resolver::with(upstream, Paths::through(vpc))
    }

    fn with(upstream: Vec<SocketAddr>, paths: Paths) -> Resolver {
        let sources = Sources::default();
        let index = ArcSwap::from_pointee(Index::new(&sources.table, &sources.hosts));
        let upstream = upstream.into_iter().map(|address| Target { address, path: Path::Machine }).collect();
        let (sources, counts) = (Mutex::new(sources), Counts::default());
        Resolver(Arc::new(Inner { index, sources, upstream, paths, counts }))
    }

    /// From now on every question is answered from this table.
    pub fn apply(&self, table: Table) {
        self.change(|sources| sources.table = table);
    }

    /// From now on these are the machines of a network, and no others: their names, which must be below `internal.`,
    /// and their addresses. A private zone with a longer name takes the place of such a name.
    pub fn set_hosts(&self, network: &NetworkId, hosts: &[(Name, Ipv4Addr)]) {
        self.change(|sources| {
            if hosts.is_empty() {
                sources.hosts.remove(network);
            } else {
                sources.hosts.insert(network.clone(), Hosts::new(hosts));
            }
        });
    }

    fn change(&self, edit: impl FnOnce(&mut Sources)) {
        let mut sources = self.0.sources.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut sources);
        self.0.index.store(Arc::new(Index::new(&sources.table, &sources.hosts)));
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// How many questions were answered on sockets, and how.
    pub fn metrics(&self) -> Report {
        self.0.counts.report()
    }

    /// The generation of the current table.
    pub fn generation(&self) -> u64 {
        self.0.index.load().generation
    }

    /// What a network sees at this moment. For a moment's use: it does not follow changes.
    pub(crate) fn now<'r>(&'r self, network: &'r NetworkId) -> Now<'r> {
        let index = self.0.index.load_full();
        let view = index.view(network).clone();
        Now { inner: &self.0, index, view, network }
    }

    /// Resolves a name and type as a client inside `network` sees it.
    pub async fn lookup(&self, network: &NetworkId, name: &Name, wanted: u16) -> Answer {
        let mut found = Collected::default();
        // Nothing of the table is kept while others are asked.
        let (step, authoritative) = self.now(network).walk(name.wire(), wanted, true, &mut found);
        match step {
            Step::Done(rcode) => found.into_answer(rcode, authoritative),
            Step::Ask { servers, network, name } => {
                let asking = self.0.paths.ask(&network, &servers, &name, wanted);
                let Some(heard) = asking.await else { return Answer::failed() };
                let mut records = found.answers;
                records.extend(heard.answers);
                Answer { rcode: heard.rcode, authoritative, records, authority: heard.soa }
            }
        }
    }

    /// The same for what our own data answers; `None` if another server would have to be asked. Never waits.
    pub fn lookup_local(&self, network: &NetworkId, name: &Name, wanted: u16) -> Option<Answer> {
        let mut found = Collected::default();
        match self.now(network).walk(name.wire(), wanted, true, &mut found) {
            (Step::Ask { .. }, _) => None,
            (Step::Done(rcode), authoritative) => Some(found.into_answer(rcode, authoritative)),
        }
    }

    /// The IPv4 addresses of a host name, as a client inside `network` sees them.
    pub async fn addresses(&self, network: &NetworkId, host: &str) -> Vec<Ipv4Addr> {
        match Name::parse(host) {
            Ok(name) => self.lookup(network, &name, kind::A).await.addresses(),
            Err(_) => Vec::new(),
        }
    }

    /// Writes the answer, and asks other servers for it if need be.
    pub(crate) async fn write_asking(
        &self,
        network: &NetworkId,
        query: &Query<'_>,
        limit: usize,
        out: &mut Vec<u8>,
    ) {
        let answer = self.lookup(network, &Name::from_wire(&query.name), query.kind).await;
        let mut writer = Writer::new(query, limit, out);
        for record in &answer.records {
            writer.answer(record.name.wire(), &record.rest());
        }
        if let Some(soa) = &answer.authority {
            writer.authority(soa.name.wire(), &soa.rest());
        }
        writer.finish(answer.authoritative, answer.rcode);
    }
}

impl Collected {
    fn into_answer(self, rcode: Rcode, authoritative: bool) -> Answer {
        match rcode {
            Rcode::ServFail => Answer::failed(),
            rcode => Answer { rcode, authoritative, records: self.answers, authority: self.authority },
        }
    }
}

/// What a network sees at one moment: all questions that are asked of it are answered from the same table.
pub(crate) struct Now<'r> {
    inner: &'r Inner,
    index: Arc<Index>,
    view: Arc<View>,
    network: &'r NetworkId,
}

/// What our own data says of one name.
enum Known<'z> {
    Zone(&'z ZoneData),
    /// A response policy says it.
    Rule(&'z ZoneData),
    Peering(&'z NetworkId),
    Servers(&'z Arc<[Target]>),
    Nothing,
}

impl Now<'_> {
    /// Writes the answer if it needs no other server; `false` says that [`Resolver::write_asking`] must be called, and
    /// leaves `out` as it was.
    pub(crate) fn write(&self, query: &Query<'_>, limit: usize, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let mut writer = Writer::new(query, limit, out);
        let (step, authoritative) = self.walk(&query.name, query.kind, query.recursion_desired, &mut writer);
        match step {
            Step::Done(rcode) => {
                if rcode == Rcode::ServFail {
                    writer.drop_records();
                }
                writer.finish(authoritative && rcode != Rcode::ServFail, rcode);
                true
            }
            Step::Ask { .. } => {
                out.truncate(before);
                false
            }
        }
    }

    /// Follows a question through our own data. Tells also whether the name that was asked for is in a zone of ours.
    fn walk(&self, asked: &[u8], wanted: u16, recursion_desired: bool, sink: &mut impl Sink) -> (Step, bool) {
        let (mut view, mut network, mut name) = (&self.view, self.network, asked);
        let (mut authoritative, mut answered) = (false, false);
        // Rules that have answered for this question.
        let mut spent: Vec<&ZoneData> = Vec::new();
        for _ in 0..MAX_STEPS {
            let zone = match known(view, name, &spent) {
                Known::Zone(zone) => {
                    // The flag speaks of the first name only (RFC 1035, section 4.1.1).
                    authoritative |= !answered;
                    zone
                }
                Known::Rule(zone) => {
                    spent.push(zone);
                    zone
                }
                Known::Peering(target) => {
                    (view, network) = (self.index.view(target), target);
                    continue;
                }
                Known::Servers(servers) => return (ask(servers, network, name), authoritative),
                // Who wants only what we know ourselves is told that we know nothing of this name.
                Known::Nothing if !recursion_desired => {
                    let rcode = if answered { Rcode::NoError } else { Rcode::Refused };
                    return (Step::Done(rcode), authoritative);
                }
                Known::Nothing if self.inner.upstream.is_empty() => break,
                Known::Nothing => return (ask(&self.inner.upstream, network, name), authoritative),
            };
            answered = true;
            let rcode = match zone.find(name, wanted) {
                Found::Records(set) => {
                    sink.answer(name, set);
                    return (Step::Done(Rcode::NoError), authoritative);
                }
                Found::Alias(set, target) => {
                    sink.answer(name, set);
                    name = target.wire();
                    continue;
                }
                Found::NoData => Rcode::NoError,
                Found::NoName => Rcode::NxDomain,
            };
            sink.authority(zone.apex().wire(), zone.negative());
            return (Step::Done(rcode), authoritative);
        }
        (Step::Done(Rcode::ServFail), authoritative)
    }
}

/// Cloud DNS's order: the network's own choice of name servers, its response policy, its zones, the names that every
/// network has, public zones.
///
/// An alias that a rule answers is followed in the same order, but the same rule does not answer twice: with a rule for
/// `*.example.com.` that is an alias of `proxy.example.com.`, the latter is resolved as usual.
fn known<'z>(view: &'z View, name: &[u8], spent: &[&'z ZoneData]) -> Known<'z> {
    if let Some(servers) = &view.alternative {
        return Known::Servers(servers);
    }
    if let Some(Prepared::Answer(zone)) = view.rules.as_ref().and_then(|rules| rules.find(name))
        && !spent.iter().any(|used| std::ptr::eq(*used, zone))
    {
        return Known::Rule(zone);
    }
    match view.authority(name) {
        Some(Authority::Zone(zone)) => Known::Zone(zone),
        Some(Authority::Forwarding(servers)) => Known::Servers(servers),
        Some(Authority::Peering(target)) => Known::Peering(target),
        None => Known::Nothing,
    }
}

fn ask(servers: &Arc<[Target]>, network: &NetworkId, name: &[u8]) -> Step {
    Step::Ask { servers: servers.clone(), network: network.clone(), name: Name::from_wire(name) }
}

#[cfg(test)]
mod tests;
