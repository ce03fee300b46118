//! A record set as a zone keeps it: its records as they go onto the wire, so that answering is copying bytes.

use smallvec::{SmallVec, smallvec};

use crate::name::Name;
use crate::place::Place;
use crate::rdata::kind;
use crate::records::{Data, RecordSet};
use crate::routing::{Checked, Chosen, Liveness, Routing};

/// Internet.
const CLASS_IN: u16 = 1;

/// Octets of a record between its owner's name and its data: type, class, TTL, length.
const FIXED: usize = 10;

/// The owner of a record, as a pointer to the name in the question (RFC 1035, section 4.1.4): that name stands right
/// behind the header, which has 12 octets.
const OWNER: [u8; 2] = [0xc0, 12];

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) kind: u16,
    answer: Answer,
}

#[derive(Debug, Clone)]
enum Answer {
    /// Nearly every set.
    Same(Records),
    Routed(Box<Routing<Records>>),
}

/// Records one behind the other. Each begins with a pointer to the name in the question, so that the usual answer is
/// one copy.
#[derive(Debug, Clone)]
struct Records {
    wire: Box<[u8]>,
    count: u16,
    rare: Option<Box<Rare>>,
}

/// What few records have.
#[derive(Debug, Clone)]
struct Rare {
    /// Where a CNAME points.
    target: Option<Name>,
    /// Of the last so many records.
    checks: Box<[Liveness]>,
}

/// The records of one answer: a random one comes first, so that clients that take the first spread over all.
#[derive(Debug, Clone)]
pub(crate) struct Picked<'z> {
    pub(crate) runs: SmallVec<[Run<'z>; 2]>,
    /// Where it points, if it is a CNAME.
    pub(crate) target: Option<&'z Name>,
}

/// Records one behind the other, each behind a pointer to the name in the question.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Run<'z> {
    pub(crate) wire: &'z [u8],
    pub(crate) count: u16,
}

impl Stored {
    pub(super) fn new(set: &RecordSet) -> Stored {
        let prepared: Result<_, std::convert::Infallible> =
            set.routing.clone().try_map(|data| Ok(Records::new(set, &data)));
        let answer = match prepared {
            Ok(Routing::Same(records)) => Answer::Same(records),
            Ok(routing) => Answer::Routed(Box::new(routing)),
        };
        Stored { kind: set.kind, answer }
    }

    /// Chooses the records of an answer. `place` tells where the asker is, and is asked only if that matters.
    pub(crate) fn pick(&self, place: impl FnOnce() -> Option<Place>) -> Picked<'_> {
        match &self.answer {
            Answer::Same(records) if records.count == 1 && records.rare.is_none() => {
                Picked { runs: smallvec![records.whole()], target: None }
            }
            Answer::Same(records) => records.picked(fastrand::u16(..)),
            Answer::Routed(routing) => match routing.choose(fastrand::f64(), place) {
                Some(Chosen::Up(records)) => records.picked(fastrand::u16(..)),
                Some(Chosen::All(records)) => records.whatever(fastrand::u16(..)),
                None => Picked { runs: SmallVec::new(), target: None },
            },
        }
    }

    /// Whether an answer leads elsewhere.
    pub(super) fn is_alias(&self) -> bool {
        self.kind == kind::CNAME
    }
}

impl<'z> Run<'z> {
    /// Each record without its owner's name: type, class, TTL, length, data.
    pub(crate) fn records(self) -> impl Iterator<Item = &'z [u8]> {
        let mut rest = self.wire;
        std::iter::from_fn(move || {
            let (record, after) = rest.split_at_checked(length(rest)?)?;
            rest = after;
            Some(&record[OWNER.len()..])
        })
    }
}

/// The octets of the first of some records.
fn length(records: &[u8]) -> Option<usize> {
    let data = records.get(OWNER.len() + 8..OWNER.len() + FIXED)?;
    Some(OWNER.len() + FIXED + usize::from(u16::from_be_bytes([data[0], data[1]])))
}

impl Checked for Records {
    fn is_up(&self) -> bool {
        let checks = self.checks();
        checks.len() < usize::from(self.count) || checks.iter().any(Liveness::is_up)
    }
}

impl Records {
    fn new(set: &RecordSet, answer: &Data) -> Records {
        let mut wire = Vec::new();
        let mut count = 0;
        for data in answer.all() {
            wire.extend_from_slice(&OWNER);
            wire.extend_from_slice(&behind_owner(set.kind, set.ttl, data));
            count += 1;
        }
        let target = answer.all().next().filter(|_| set.kind == kind::CNAME).map(Name::from_wire);
        let checks: Box<[Liveness]> = answer.checked.iter().map(|(_, liveness)| liveness.clone()).collect();
        let rare = (target.is_some() || !checks.is_empty()).then(|| Box::new(Rare { target, checks }));
        Records { wire: wire.into(), count, rare }
    }

    fn checks(&self) -> &[Liveness] {
        self.rare.as_ref().map_or(&[], |rare| &rare.checks)
    }

    fn target(&self) -> Option<&Name> {
        self.rare.as_ref()?.target.as_ref()
    }

    fn whole(&self) -> Run<'_> {
        Run { wire: &self.wire, count: self.count }
    }

    /// What is up of it; all if nothing is.
    fn picked(&self, draw: u16) -> Picked<'_> {
        let checks = self.checks();
        if checks.iter().all(Liveness::is_up) || !self.is_up() {
            return self.whatever(draw);
        }
        let always = usize::from(self.count) - checks.len();
        let mut runs: SmallVec<[Run<'_>; 2]> = SmallVec::new();
        let mut at = 0;
        for number in 0..usize::from(self.count) {
            let end = at + length(&self.wire[at..]).unwrap_or(self.wire.len() - at);
            let check = number.checked_sub(always).and_then(|check| checks.get(check));
            if check.is_none_or(Liveness::is_up) {
                runs.push(Run { wire: &self.wire[at..end], count: 1 });
            }
            at = end;
        }
        let first = usize::from(draw) % runs.len().max(1);
        runs.rotate_left(first);
        Picked { runs, target: self.target() }
    }

    /// All of it, up or not.
    fn whatever(&self, draw: u16) -> Picked<'_> {
        Picked { runs: self.turned(draw).into(), target: self.target() }
    }

    fn turned(&self, draw: u16) -> [Run<'_>; 2] {
        let first = draw % self.count.max(1);
        let cut =
            self.whole().records().take(usize::from(first)).map(|record| OWNER.len() + record.len()).sum();
        let (end, start) = self.wire.split_at(cut);
        [Run { wire: start, count: self.count - first }, Run { wire: end, count: first }]
    }
}

/// Everything of a record but its owner's name: type, class, TTL, length, data.
pub(super) fn behind_owner(kind: u16, ttl: u32, data: &[u8]) -> Box<[u8]> {
    let mut wire = Vec::with_capacity(FIXED + data.len());
    wire.extend_from_slice(&kind.to_be_bytes());
    wire.extend_from_slice(&CLASS_IN.to_be_bytes());
    wire.extend_from_slice(&ttl.to_be_bytes());
    wire.extend_from_slice(&(data.len() as u16).to_be_bytes());
    wire.extend_from_slice(data);
    wire.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Texts;

    fn last_octets(picked: Picked<'_>) -> Vec<u8> {
        picked.runs.into_iter().flat_map(Run::records).map(|record| record[13]).collect()
    }

    #[test]
    fn several_records_take_turns_at_being_first() {
        let stored =
            Stored::new(&RecordSet::parse("a.", "A", 1, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]).unwrap());
        let Answer::Same(records) = &stored.answer else { panic!("{stored:?}") };
        let order = |draw: u16| last_octets(records.picked(draw));
        assert_eq!([order(0), order(1), order(2), order(3)], [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]);
        assert_eq!(stored.pick(|| None).runs.iter().map(|run| run.count).sum::<u16>(), 3);
    }

    #[test]
    fn what_is_down_is_left_out_unless_nothing_is_up() {
        let health = [true, true].map(Liveness::new);
        let texts = |fixed: &[&str]| Texts {
            fixed: fixed.iter().map(|text| (*text).to_owned()).collect(),
            checked: vec![("10.0.0.8".into(), health[0].clone()), ("10.0.0.9".into(), health[1].clone())],
        };
        let stored = |fixed: &[&str]| {
            let routing = Routing::Weighted(vec![(1.0, texts(fixed))]);
            Stored::new(&RecordSet::routed("a.", "A", 1, routing).unwrap())
        };
        let answer = |stored: &Stored| {
            let mut found = last_octets(stored.pick(|| None));
            found.sort_unstable();
            found
        };
        let (mixed, checked) = (stored(&["10.0.0.1"]), stored(&[]));
        assert_eq!((answer(&mixed), answer(&checked)), (vec![1, 8, 9], vec![8, 9]));
        health[0].set(false);
        assert_eq!((answer(&mixed), answer(&checked)), (vec![1, 9], vec![9]));
        health[1].set(false);
        assert_eq!((answer(&mixed), answer(&checked)), (vec![1], vec![8, 9]));
    }

    /// Every alias of a policy leads to its own target.
    #[test]
    fn aliases_are_chosen_with_their_targets() {
        let texts = |text: &str| Texts { fixed: vec![text.into()], checked: Vec::new() };
        for (weights, target) in [([1.0, 0.0], "a.x."), ([0.0, 1.0], "b.x.")] {
            let items = weights.into_iter().zip(["A.x.", "B.x."].map(texts)).collect();
            let stored =
                Stored::new(&RecordSet::routed("c.x.", "CNAME", 1, Routing::Weighted(items)).unwrap());
            let picked = stored.pick(|| None);
            assert_eq!(picked.target.map(Name::to_string).as_deref(), Some(target));
        }
    }

    #[test]
    fn a_stored_set_is_small() {
        assert!(size_of::<Stored>() <= 40, "{}", size_of::<Stored>());
    }
}
