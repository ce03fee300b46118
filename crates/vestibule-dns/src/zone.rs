//! One zone, ready to be asked.
//!
//! Every name that exists is a node, names between existing names included (empty non-terminals).

mod nodes;
mod stored;

use smallvec::SmallVec;

use crate::name::{MAX_NAME, Name, starts};
use crate::rdata::kind;
use crate::records::RecordSet;
use nodes::Nodes;
use stored::behind_owner;
pub(crate) use stored::{Run, Stored};

/// A zone with records of its own. A clone shares what is not changed later.
#[derive(Debug, Clone)]
pub(crate) struct ZoneData {
    apex: Name,
    nodes: Nodes,
    /// The SOA record as negative answers carry it, behind the owner's name.
    negative: Box<[u8]>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// Nearly always one, so it stands in the table itself: what costs time here is memory that is far away.
    sets: SmallVec<[Stored; 1]>,
    /// How many names exist directly below. A name without records exists as long as there is one.
    below: u32,
}

/// The name above a name that is not the apex. Both without the apex.
fn parent(name: &[u8]) -> &[u8] {
    let label = name.first().map_or(0, |length| usize::from(*length));
    name.get(label + 1..).unwrap_or(name)
}

/// What a zone says of a name and a type.
#[derive(Debug)]
pub(crate) enum Found<'z> {
    /// These records.
    Records(&'z Stored),
    /// The name is an alias; the answer goes on at its target.
    Alias(&'z Stored),
    /// The name exists, but no such record.
    NoData,
    /// Neither the name nor anything below it exists.
    NoName,
}

impl ZoneData {
    /// Builds a zone. Records outside of it are left out.
    pub(crate) fn new(apex: Name, sets: Vec<RecordSet>) -> ZoneData {
        let mut nodes = Nodes::for_names(sets.len() + 1);
        nodes.insert(&[]);
        let mut zone = ZoneData { apex, nodes, negative: default_soa() };
        sets.iter().for_each(|set| zone.add(set));
        zone
    }

    /// The same zone with other records for some names: the records that are told are all that these names have.
    pub(crate) fn changed(&self, names: &[(Name, Vec<RecordSet>)]) -> ZoneData {
        let mut zone = self.clone();
        zone.nodes.make_room(names.len());
        for (name, sets) in names.iter().filter(|(name, _)| name.is_within(&self.apex)) {
            if *name == zone.apex {
                zone.negative = default_soa();
            }
            if let Some(node) = zone.nodes.get_mut(self.relative(name.wire())) {
                node.sets.clear();
            }
            sets.iter().filter(|set| set.name == *name).for_each(|set| zone.add(set));
            zone.forget(self.relative(name.wire()));
        }
        zone
    }

    fn add(&mut self, set: &RecordSet) {
        if !set.name.is_within(&self.apex) {
            return;
        }
        if set.kind == kind::SOA && set.name == self.apex {
            self.negative = negative_soa(set).unwrap_or_else(default_soa);
        }
        let name = self.relative(set.name.wire());
        self.remember(name);
        if let Some(node) = self.nodes.get_mut(name) {
            node.sets.push(Stored::new(set));
        }
    }

    /// The labels of a name that stand before the apex.
    fn relative<'n>(&self, name: &'n [u8]) -> &'n [u8] {
        &name[..name.len().saturating_sub(self.apex.wire().len())]
    }

    /// The name exists, and so do all between it and the apex, which is there from the beginning.
    fn remember(&mut self, name: &[u8]) {
        if self.nodes.contains(name) {
            return;
        }
        self.nodes.insert(name);
        let above = parent(name);
        self.remember(above);
        if let Some(node) = self.nodes.get_mut(above) {
            node.below += 1;
        }
    }

    /// The name does not exist any more if nothing is left of it, and so for those above it.
    fn forget(&mut self, mut name: &[u8]) {
        let is_empty = |node: &Node| node.sets.is_empty() && node.below == 0;
        while !name.is_empty() && self.nodes.get(name).is_some_and(is_empty) {
            self.nodes.remove(name);
            name = parent(name);
            if let Some(node) = self.nodes.get_mut(name) {
                node.below -= 1;
            }
        }
    }

    pub(crate) fn apex(&self) -> &Name {
        &self.apex
    }

    /// The SOA record of a negative answer, behind the owner's name.
    pub(crate) fn negative(&self) -> &[u8] {
        &self.negative
    }

    /// Asks for a name within the zone (RFC 1034, section 4.3.2; wildcards by RFC 4592).
    pub(crate) fn find(&self, name: &[u8], wanted: u16) -> Found<'_> {
        let name = self.relative(name);
        if let Some(node) = self.nodes.get(name) {
            return node.find(wanted);
        }
        self.wildcard(self.encloser(name)).map_or(Found::NoName, |node| node.find(wanted))
    }

    /// The closest name above that exists. It decides which wildcard could apply.
    ///
    /// Looked for from the apex down: what is below a name that does not exist does not exist either, so a name of a
    /// hundred labels costs no more than one of two.
    fn encloser<'n>(&self, name: &'n [u8]) -> &'n [u8] {
        let mut below = [0_u8; MAX_NAME / 2 + 1];
        let mut count = 0;
        for at in starts(name) {
            below[count] = at as u8;
            count += 1;
        }
        let mut found = &name[name.len()..];
        for at in below[..count].iter().rev() {
            let next = &name[usize::from(*at)..];
            if !self.nodes.contains(next) {
                break;
            }
            found = next;
        }
        found
    }

    /// The node `*` directly below a name.
    fn wildcard(&self, parent: &[u8]) -> Option<&Node> {
        let mut name = [0; MAX_NAME + 2];
        name[..2].copy_from_slice(b"\x01*");
        name.get_mut(2..2 + parent.len())?.copy_from_slice(parent);
        self.nodes.get(&name[..2 + parent.len()])
    }
}

impl Node {
    fn find(&self, wanted: u16) -> Found<'_> {
        if wanted == kind::ANY {
            // One set is enough (RFC 8482): nobody needs all of them, but reflection attacks like them.
            return self.sets.first().map_or(Found::NoData, Found::Records);
        }
        if let Some(set) = self.sets.iter().find(|set| set.kind == wanted) {
            return Found::Records(set);
        }
        self.sets.iter().find(|set| set.is_alias()).map_or(Found::NoData, Found::Alias)
    }
}

/// The SOA of a negative answer lives as long as the answer: the lesser of its TTL and its last field (RFC 2308).
fn negative_soa(set: &RecordSet) -> Option<Box<[u8]>> {
    let answers = set.routing.answers();
    let data = answers.first()?.all().next()?;
    let minimum = u32::from_be_bytes(*data.last_chunk()?);
    Some(behind_owner(kind::SOA, set.ttl.min(minimum), data))
}

/// For zones without an SOA of their own.
fn default_soa() -> Box<[u8]> {
    const TEXT: &str =
        "ns-gcp-private.googledomains.com. cloud-dns-hostmaster.google.com. 1 21600 3600 259200 300";
    let set = RecordSet::parse(".", "SOA", 21_600, &[TEXT]);
    set.ok().and_then(|set| negative_soa(&set)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdata;
    use proptest::prelude::*;

    fn zone(records: &[(&str, &str, &str)]) -> ZoneData {
        let set =
            |(name, kind, data): &(&str, &str, &str)| RecordSet::parse(name, kind, 300, &[data]).unwrap();
        ZoneData::new("example.com.".parse().unwrap(), records.iter().map(set).collect())
    }

    fn ask(zone: &ZoneData, name: &str, wanted: &str) -> String {
        let wanted = if wanted == "ANY" { kind::ANY } else { rdata::type_number(wanted).unwrap() };
        match zone.find(name.parse::<Name>().unwrap().wire(), wanted) {
            Found::Records(set) => {
                let data = |record: &[u8]| format!("{:?}", &record[10..]);
                let records = set.pick(|| None).runs.into_iter().flat_map(Run::records);
                format!("{} {}", set.kind, records.map(data).collect::<Vec<_>>().join(" "))
            }
            Found::Alias(set) => format!("-> {}", set.pick(|| None).target.unwrap()),
            Found::NoData => "nodata".into(),
            Found::NoName => "nxdomain".into(),
        }
    }

    #[test]
    fn names_types_and_what_lies_between() {
        let zone = zone(&[
            ("www.example.com.", "A", "10.0.0.1"),
            ("a.b.c.example.com.", "A", "10.0.0.2"),
            ("alias.example.com.", "CNAME", "www.example.com."),
            ("outside.example.org.", "A", "10.0.0.3"),
        ]);
        assert_eq!(ask(&zone, "WWW.example.com.", "A"), "1 [10, 0, 0, 1]");
        assert_eq!(ask(&zone, "www.example.com.", "AAAA"), "nodata");
        assert_eq!(ask(&zone, "www.example.com.", "ANY"), "1 [10, 0, 0, 1]");
        assert_eq!(ask(&zone, "b.c.example.com.", "A"), "nodata", "an empty non-terminal exists");
        assert_eq!(ask(&zone, "x.c.example.com.", "A"), "nxdomain");
        assert_eq!(ask(&zone, "x.www.example.com.", "A"), "nxdomain");
        assert_eq!(ask(&zone, "alias.example.com.", "A"), "-> www.example.com.");
        assert!(ask(&zone, "alias.example.com.", "CNAME").starts_with("5 "));
        assert_eq!(ask(&zone, "example.com.", "A"), "nodata");
        assert!(!zone.nodes.contains(zone.relative(Name::parse("outside.example.org.").unwrap().wire())));
    }

    /// The example of RFC 4592, section 2.2.1.
    #[test]
    fn wildcards_by_the_book() {
        let zone = zone(&[
            ("*.example.com.", "TXT", "\"this is a wildcard\""),
            ("*.example.com.", "MX", "10 host1.example.com."),
            ("sub.*.example.com.", "TXT", "\"this is not a wildcard\""),
            ("host1.example.com.", "A", "192.0.2.1"),
            ("_ssh._tcp.host1.example.com.", "SRV", "0 0 22 host1.example.com."),
        ]);
        assert!(ask(&zone, "host3.example.com.", "MX").starts_with("15 "));
        assert_eq!(ask(&zone, "host3.example.com.", "A"), "nodata");
        assert!(ask(&zone, "foo.bar.example.com.", "TXT").starts_with("16 "));
        assert_eq!(ask(&zone, "host1.example.com.", "MX"), "nodata");
        assert_eq!(ask(&zone, "sub.*.example.com.", "MX"), "nodata");
        assert_eq!(ask(&zone, "_telnet._tcp.host1.example.com.", "SRV"), "nxdomain");
        assert_eq!(ask(&zone, "ghost.*.example.com.", "MX"), "nxdomain");
        assert!(ask(&zone, "*.example.com.", "TXT").starts_with("16 "));
    }

    fn of(name: &str, kind: &str, data: &[&str]) -> RecordSet {
        RecordSet::parse(name, kind, 300, data).unwrap()
    }

    #[test]
    fn a_change_leaves_what_it_does_not_touch() {
        let before = zone(&[("a.b.example.com.", "A", "10.0.0.1"), ("x.example.com.", "A", "10.0.0.2")]);
        let name = |text: &str| text.parse::<Name>().unwrap();
        let after = before.changed(&[
            (name("a.b.example.com."), vec![]),
            (
                name("x.example.com."),
                vec![of("x.example.com.", "TXT", &["y"]), of("x.example.com.", "A", &["10.0.0.3"])],
            ),
            (name("new.deep.example.com."), vec![of("new.deep.example.com.", "A", &["10.0.0.4"])]),
            (name("never.example.com."), vec![]),
            (name("outside.example.org."), vec![of("outside.example.org.", "A", &["10.0.0.5"])]),
        ]);
        for (name, old, new) in [
            ("a.b.example.com.", "1 [10, 0, 0, 1]", "nxdomain"),
            ("b.example.com.", "nodata", "nxdomain"),
            ("x.example.com.", "1 [10, 0, 0, 2]", "1 [10, 0, 0, 3]"),
            ("new.deep.example.com.", "nxdomain", "1 [10, 0, 0, 4]"),
            ("deep.example.com.", "nxdomain", "nodata"),
            ("never.example.com.", "nxdomain", "nxdomain"),
            ("example.com.", "nodata", "nodata"),
        ] {
            assert_eq!((ask(&before, name, "A"), ask(&after, name, "A")), (old.into(), new.into()), "{name}");
        }
        let soa = of("example.com.", "SOA", &["ns. host. 9 1 2 3 60"]);
        let counted = after.changed(&[(name("example.com."), vec![soa])]);
        assert_eq!(
            (counted.negative()[4..8].to_vec(), after.negative()[4..8].to_vec()),
            (60u32.to_be_bytes().to_vec(), 300u32.to_be_bytes().to_vec())
        );
    }

    proptest! {
        /// However a zone came about, it answers as one that was built at once.
        #[test]
        fn changes_add_up(steps in prop::collection::vec((0usize..8, 0usize..3), 1..60)) {
            let names = ["a.", "b.a.", "c.b.a.", "d.b.a.", "*.a.", "x.", "y.x.", ""].map(|name| format!("{name}example.com."));
            let apex: Name = "example.com.".parse().unwrap();
            let mut held: std::collections::BTreeMap<usize, Vec<RecordSet>> = Default::default();
            let mut zone = ZoneData::new(apex.clone(), Vec::new());
            for (at, count) in steps {
                let sets: Vec<RecordSet> =
                    ["A", "TXT"].iter().take(count).map(|kind| of(&names[at], kind, &["10.0.0.1"])).collect();
                zone = zone.changed(&[(names[at].parse().unwrap(), sets.clone())]);
                held.insert(at, sets);
                let built = ZoneData::new(apex.clone(), held.values().flatten().cloned().collect());
                for name in names.iter().cloned().chain(["q.b.a.example.com.".into(), "z.example.com.".into()]) {
                    prop_assert_eq!(ask(&zone, &name, "TXT"), ask(&built, &name, "TXT"), "{}", name);
                }
            }
        }
    }

    #[test]
    fn the_longest_names_are_safe() {
        let long = format!("{}aaaaa.", "abcdefg.".repeat(31));
        assert_eq!(ask(&ZoneData::new(Name::root(), Vec::new()), &long, "A"), "nxdomain");
        let zone = ZoneData::new(Name::root(), vec![RecordSet::parse(&long, "A", 1, &["10.0.0.1"]).unwrap()]);
        assert_eq!(ask(&zone, &long, "A"), "1 [10, 0, 0, 1]");
    }

    #[test]
    fn a_negative_answer_lives_as_long_as_the_soa_says() {
        let soa = "ns. host. 7 21600 3600 259200 60";
        let zone =
            ZoneData::new("x.".parse().unwrap(), vec![RecordSet::parse("x.", "SOA", 21600, &[soa]).unwrap()]);
        assert_eq!(zone.negative()[4..8], 60u32.to_be_bytes());
    }
}
