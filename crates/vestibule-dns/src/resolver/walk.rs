//! The walk through our own data, in Cloud DNS's order.
//!
//! It never waits; when it leads out of our own data, it says which servers to ask for what.

use std::sync::Arc;

use vestibule_vpc::NetworkId;

use super::Inner;
use crate::asker::Asker;
use crate::dns64;
use crate::name::Name;
use crate::origin::Origin;
use crate::place::{Place, Site};
use crate::policy::{Prepared, Target};
use crate::table::{Authority, Index, View};
use crate::wire::{Query, Rcode, Record, Writer};
use crate::zone::{Found, Run, ZoneData};

/// Aliases and peerings followed for one question.
const MAX_STEPS: usize = 16;

/// Where a walk leads.
pub(super) enum Step {
    Done(Rcode),
    /// The rest must be asked of these servers, as seen from this network.
    Ask {
        servers: Arc<[Target]>,
        network: NetworkId,
        name: Name,
    },
}

/// How a walk ends.
pub(super) struct Walk {
    pub(super) step: Step,
    /// The name that was asked for is in a zone of ours.
    pub(super) authoritative: bool,
    /// There are records of the wanted type.
    pub(super) found: bool,
}

/// Where the walk puts records: into an answer's bytes, or into a list. Owners are in wire form, in lower case.
pub(super) trait Sink {
    fn answer(&mut self, owner: &[u8], run: Run<'_>);
    /// `rest` is a record behind its owner's name.
    fn authority(&mut self, owner: &[u8], rest: &[u8]);
}

impl Sink for Writer<'_, '_> {
    fn answer(&mut self, owner: &[u8], run: Run<'_>) {
        self.answers(owner, run);
    }

    fn authority(&mut self, owner: &[u8], rest: &[u8]) {
        Writer::authority(self, owner, rest);
    }
}

#[derive(Default)]
pub(super) struct Collected {
    pub(super) answers: Vec<Record>,
    pub(super) authority: Option<Record>,
}

impl Sink for Collected {
    fn answer(&mut self, owner: &[u8], run: Run<'_>) {
        self.answers.extend(run.records().filter_map(|rest| Record::behind(owner, rest)));
    }

    fn authority(&mut self, owner: &[u8], rest: &[u8]) {
        self.authority = Record::behind(owner, rest);
    }
}

/// What a network sees at one moment: all questions that are asked of it are answered from the same table.
pub(crate) struct Now<'r> {
    pub(super) inner: &'r Inner,
    pub(super) index: Arc<Index>,
    pub(super) view: Arc<View>,
    pub(super) network: &'r NetworkId,
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
    /// There is a newer table.
    pub(crate) fn is_outdated(&self) -> bool {
        !std::ptr::eq(Arc::as_ptr(&self.index), Arc::as_ptr(&self.inner.index.load()))
    }

    /// Writes the answer if it needs no other server and no translation; `false` says that
    /// [`crate::Resolver::write_asking`] must be called, and leaves `out` as it was.
    pub(crate) fn write(&self, query: &Query<'_>, asker: Asker, limit: usize, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let mut writer = Writer::new(query, limit, out);
        let walk = self.walk(&query.name, query.kind, query.recursion_desired, asker, &mut writer);
        match walk.step {
            Step::Done(rcode) if !self.translates(query, asker, rcode, walk.found) => {
                if rcode == Rcode::ServFail {
                    writer.drop_records();
                }
                writer.finish(walk.authoritative && rcode != Rcode::ServFail, rcode);
                true
            }
            Step::Done(_) | Step::Ask { .. } => {
                out.truncate(before);
                false
            }
        }
    }

    /// Whether an answer of our own is not what this asker gets.
    fn translates(&self, query: &Query<'_>, asker: Asker, rcode: Rcode, found: bool) -> bool {
        self.has_dns64(asker) && !found && rcode != Rcode::NxDomain && dns64::is_for(query)
            || self.has_dns64(asker) && dns64::is_reverse(query)
    }

    /// Whether this asker's answers are translated for IPv6.
    pub(super) fn has_dns64(&self, asker: Asker) -> bool {
        self.view.dns64 && asker.may_translate()
    }

    /// Whether questions of this network are logged.
    pub(crate) fn is_logged(&self) -> bool {
        self.view.log && self.inner.log.get().is_some()
    }

    /// Who answers for a name.
    pub(crate) fn origin(&self, name: &[u8]) -> Origin {
        if let Some((_, origin)) = &self.view.alternative {
            return origin.clone();
        }
        if let Some((rules, origin)) = &self.view.rules
            && let Some(Prepared::Answer(_)) = rules.find(name)
        {
            return origin.clone();
        }
        let source = self.view.source(name).map(|source| source.origin.clone());
        source.unwrap_or_else(|| Origin::unnamed(Origin::EXTERNAL))
    }

    /// The place in the network from which somebody asks.
    pub(crate) fn site(&self, asker: Asker) -> Option<&Site> {
        self.view.sites.as_ref()?.of(self.inner.address(self.network, asker)?)
    }

    fn place(&self, asker: Asker) -> Option<Place> {
        self.site(asker)?.place
    }

    /// Follows a question through our own data.
    pub(super) fn walk(
        &self,
        asked: &[u8],
        wanted: u16,
        recursion_desired: bool,
        asker: Asker,
        sink: &mut impl Sink,
    ) -> Walk {
        let (mut view, mut network) = (&self.view, self.network);
        // Set by the alias that the walk is at; the name that is asked for lives longer.
        let mut name: &[u8] = asked;
        let (mut authoritative, mut answered) = (false, false);
        // Rules that have answered for this question.
        let mut spent: Vec<&ZoneData> = Vec::new();
        let done = |rcode, authoritative, found| Walk { step: Step::Done(rcode), authoritative, found };
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
                Known::Servers(servers) => return asking(servers, network, name, authoritative),
                // Who wants only what we know ourselves is told that we know nothing of this name.
                Known::Nothing if !recursion_desired => {
                    let rcode = if answered { Rcode::NoError } else { Rcode::Refused };
                    return done(rcode, authoritative, false);
                }
                Known::Nothing if self.inner.upstream.is_empty() => break,
                Known::Nothing => return asking(&self.inner.upstream, network, name, authoritative),
            };
            answered = true;
            let rcode = match zone.find(name, wanted) {
                Found::Records(set) => {
                    let picked = set.pick(|| self.place(asker));
                    picked.runs.into_iter().for_each(|run| sink.answer(name, run));
                    return done(Rcode::NoError, authoritative, true);
                }
                Found::Alias(set) => {
                    let picked = set.pick(|| self.place(asker));
                    picked.runs.into_iter().for_each(|run| sink.answer(name, run));
                    let Some(target) = picked.target else { break };
                    name = target.wire();
                    continue;
                }
                Found::NoData => Rcode::NoError,
                Found::NoName => Rcode::NxDomain,
            };
            sink.authority(zone.apex().wire(), zone.negative());
            return done(rcode, authoritative, false);
        }
        done(Rcode::ServFail, authoritative, false)
    }
}

/// Cloud DNS's order: the network's own choice of name servers, its response policy, its zones, the names that every
/// network has, public zones.
///
/// An alias that a rule answers is followed in the same order, but the same rule does not answer twice: with a rule for
/// `*.example.com.` that is an alias of `proxy.example.com.`, the latter is resolved as usual.
fn known<'z>(view: &'z View, name: &[u8], spent: &[&'z ZoneData]) -> Known<'z> {
    if let Some((servers, _)) = &view.alternative {
        return Known::Servers(servers);
    }
    if let Some(Prepared::Answer(zone)) = view.rules.as_ref().and_then(|(rules, _)| rules.find(name))
        && !spent.iter().any(|used| std::ptr::eq(*used, zone))
    {
        return Known::Rule(zone);
    }
    match view.source(name).map(|source| &*source.authority) {
        Some(Authority::Zone(zone)) => Known::Zone(zone),
        Some(Authority::Forwarding(servers)) => Known::Servers(servers),
        Some(Authority::Peering(target)) => Known::Peering(target),
        Some(Authority::Machines) => view.machines.as_deref().map_or(Known::Nothing, Known::Zone),
        None => Known::Nothing,
    }
}

fn asking(servers: &Arc<[Target]>, network: &NetworkId, name: &[u8], authoritative: bool) -> Walk {
    let (servers, network) = (servers.clone(), network.clone());
    let step = Step::Ask { servers, network, name: Name::from_wire(name) };
    Walk { step, authoritative, found: false }
}
