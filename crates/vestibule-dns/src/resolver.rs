//! Name resolution as seen from inside a network (Cloud DNS's name resolution order).
//!
//! One walk serves both uses: [`Resolver::lookup`] collects records for callers inside this process, and the server
//! has the same walk write straight into the answer.

mod walk;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use vestibule_vpc::{NetworkId, Vpc};

use crate::asker::Asker;
use crate::counts::{Counts, Report};
use crate::dns64;
use crate::hosts::Hosts;
use crate::name::Name;
use crate::policy::{Path, Target};
use crate::querylog::QueryLog;
use crate::rdata::kind;
use crate::table::{Index, Table};
use crate::upstream::Paths;
use crate::wire::{Query, Rcode, Record, Writer};
pub(crate) use walk::Now;
use walk::{Collected, Step};

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
    log: OnceLock<QueryLog>,
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
        let (sources, counts, log) = (Mutex::new(sources), Counts::default(), OnceLock::new());
        Resolver(Arc::new(Inner { index, sources, upstream, paths, counts, log }))
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
        Report { not_logged: self.0.log.get().map_or(0, QueryLog::dropped), ..self.0.counts.report() }
    }

    /// From now on questions of networks whose policy wants it are logged here. Only the first call has an effect.
    pub fn log_to(&self, log: QueryLog) {
        // Only a second call fails.
        let _ = self.0.log.set(log);
    }

    pub(crate) fn log(&self) -> Option<&QueryLog> {
        self.0.log.get()
    }

    /// The private address of who asks.
    pub(crate) fn address(&self, network: &NetworkId, asker: Asker) -> Option<Ipv4Addr> {
        self.0.address(network, asker)
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

    /// Resolves a name and type as a client inside `network` sees it, of whom nothing else is known.
    pub async fn lookup(&self, network: &NetworkId, name: &Name, wanted: u16) -> Answer {
        self.look(network, name, wanted, Asker::at(None)).await.0
    }

    /// The same, and which other server has answered.
    async fn look(
        &self,
        network: &NetworkId,
        name: &Name,
        wanted: u16,
        asker: Asker,
    ) -> (Answer, Option<IpAddr>) {
        let mut found = Collected::default();
        // Nothing of the table is kept while others are asked.
        let walk = self.now(network).walk(name.wire(), wanted, true, asker, &mut found);
        match walk.step {
            Step::Done(rcode) => (found.into_answer(rcode, walk.authoritative), None),
            Step::Ask { servers, network, name } => {
                let asking = self.0.paths.ask(&network, &servers, &name, wanted);
                let Some(heard) = asking.await else { return (Answer::failed(), None) };
                let mut records = found.answers;
                records.extend(heard.answers);
                let authoritative = walk.authoritative;
                let answer = Answer { rcode: heard.rcode, authoritative, records, authority: heard.soa };
                (answer, Some(heard.server))
            }
        }
    }

    /// The same for what our own data answers; `None` if another server would have to be asked. Never waits.
    pub fn lookup_local(&self, network: &NetworkId, name: &Name, wanted: u16) -> Option<Answer> {
        self.lookup_local_from(network, None, name, wanted)
    }

    /// The same for a client at this private address.
    pub fn lookup_local_from(
        &self,
        network: &NetworkId,
        from: Option<Ipv4Addr>,
        name: &Name,
        wanted: u16,
    ) -> Option<Answer> {
        let mut found = Collected::default();
        let walk = self.now(network).walk(name.wire(), wanted, true, Asker::at(from), &mut found);
        match walk.step {
            Step::Ask { .. } => None,
            Step::Done(rcode) => Some(found.into_answer(rcode, walk.authoritative)),
        }
    }

    /// The IPv4 addresses of a host name, as a client inside `network` sees them who has the private address `from`, if
    /// that is known.
    pub async fn addresses(&self, network: &NetworkId, from: Option<Ipv4Addr>, host: &str) -> Vec<Ipv4Addr> {
        match Name::parse(host) {
            Ok(name) => self.look(network, &name, kind::A, Asker::at(from)).await.0.addresses(),
            Err(_) => Vec::new(),
        }
    }

    /// Writes the answer, and asks other servers for it if need be. Tells how it came about.
    pub(crate) async fn write_asking(
        &self,
        network: &NetworkId,
        query: &Query<'_>,
        asker: Asker,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Made {
        let (answer, made) = self.answer(network, query, asker).await;
        let mut writer = Writer::new(query, limit, out);
        for record in &answer.records {
            writer.answer(record.name.wire(), &record.rest());
        }
        if let Some(soa) = &answer.authority {
            writer.authority(soa.name.wire(), &soa.rest());
        }
        writer.finish(answer.authoritative, answer.rcode);
        made
    }

    async fn answer(&self, network: &NetworkId, query: &Query<'_>, asker: Asker) -> (Answer, Made) {
        let name = Name::from_wire(&query.name);
        let look = async |name: &Name, wanted| self.look(network, name, wanted, asker).await;
        if self.now(network).has_dns64(asker) {
            if let Some(target) = dns64::reverse(query) {
                let (answer, server) = look(&target, query.kind).await;
                return (dns64::behind_alias(&name, &target, answer), Made { server, translated: true });
            }
            if dns64::is_for(query) {
                let ((six, server), (four, _)) = tokio::join!(look(&name, query.kind), look(&name, kind::A));
                let (answer, translated) = dns64::translated(six, four);
                return (answer, Made { server, translated });
            }
        }
        let (answer, server) = look(&name, query.kind).await;
        (answer, Made { server, translated: false })
    }
}

/// How an answer came about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Made {
    /// The other server that answered.
    pub(crate) server: Option<IpAddr>,
    /// It was translated for IPv6.
    pub(crate) translated: bool,
}

impl Inner {
    fn address(&self, network: &NetworkId, asker: Asker) -> Option<Ipv4Addr> {
        asker.address(|peer| self.paths.private_peer(network, peer))
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

#[cfg(test)]
mod tests;
