//! Which of several answers a question gets: the routing policies of record sets.
//!
//! A policy chooses by weight, by where the asker is, or by what is up. Its answers may hold targets whose health is
//! checked: those that are down are left out, and an answer of which nothing is left gives way to another. Where nothing
//! at all is up everything is taken for up, since an answer that may work is better than none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::place::Place;

/// Whether a target is up, as whoever checks it says. Clones tell the same.
#[derive(Debug, Clone)]
pub struct Liveness(Arc<AtomicBool>);

impl Liveness {
    pub fn new(up: bool) -> Liveness {
        Liveness(Arc::new(AtomicBool::new(up)))
    }

    /// Seen by the next question.
    pub fn set(&self, up: bool) {
        self.0.store(up, Ordering::Relaxed);
    }

    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether anybody else has it.
    pub fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// How an answer is chosen. `D` is what is answered with.
#[derive(Debug, Clone)]
pub enum Routing<D> {
    /// The same for everyone.
    Same(D),
    /// By weight, against the sum of the weights of what is up. Weight 0 is chosen only if there is no other.
    Weighted(Vec<(f64, D)>),
    /// By where the asker is.
    Nearest(Nearest<D>),
    /// The primary as long as any of it is up, and else the backup.
    Failover {
        primary: D,
        backup: Nearest<D>,
        /// The share of questions, 0 to 1, that get the backup all the same.
        trickle: f64,
    },
}

/// Answers for places. An asker that nobody knows the place of stands where the first answer is.
#[derive(Debug, Clone)]
pub struct Nearest<D> {
    pub items: Vec<(Place, D)>,
    /// An answer of which nothing is up does not give way to the next nearest (`enableFencing`).
    pub fenced: bool,
}

/// What is answered with, where it can be up or down.
pub trait Checked {
    /// Whether any of it is up.
    fn is_up(&self) -> bool;
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chosen<'a, D> {
    /// What is up of this.
    Up(&'a D),
    /// All of this, since nothing is up.
    All(&'a D),
}

impl<D> Routing<D> {
    /// The same with other answers.
    pub fn try_map<E, F>(self, mut make: impl FnMut(D) -> Result<E, F>) -> Result<Routing<E>, F> {
        Ok(match self {
            Routing::Same(data) => Routing::Same(make(data)?),
            Routing::Weighted(items) => {
                let items = items.into_iter().map(|(weight, data)| Ok((weight, make(data)?)));
                Routing::Weighted(items.collect::<Result<_, _>>()?)
            }
            Routing::Nearest(items) => Routing::Nearest(items.try_map(make)?),
            Routing::Failover { primary, backup, trickle } => {
                Routing::Failover { primary: make(primary)?, backup: backup.try_map(make)?, trickle }
            }
        })
    }

    /// All answers that may be given.
    pub fn answers(&self) -> Vec<&D> {
        match self {
            Routing::Same(data) => vec![data],
            Routing::Weighted(items) => items.iter().map(|(_, data)| data).collect(),
            Routing::Nearest(nearest) => nearest.items.iter().map(|(_, data)| data).collect(),
            Routing::Failover { primary, backup, .. } => {
                std::iter::once(primary).chain(backup.items.iter().map(|(_, data)| data)).collect()
            }
        }
    }
}

impl<D> Nearest<D> {
    fn try_map<E, F>(self, mut make: impl FnMut(D) -> Result<E, F>) -> Result<Nearest<E>, F> {
        let items = self.items.into_iter().map(|(place, data)| Ok((place, make(data)?)));
        Ok(Nearest { items: items.collect::<Result<_, _>>()?, fenced: self.fenced })
    }
}

impl<D: Checked> Routing<D> {
    /// Chooses. `draw` is a random number from 0 to below 1, `place` tells where the asker is.
    pub(crate) fn choose(&self, draw: f64, place: impl FnOnce() -> Option<Place>) -> Option<Chosen<'_, D>> {
        match self {
            Routing::Same(data) => Some(Chosen::of(data)),
            Routing::Weighted(items) => by_weight(items, draw),
            Routing::Nearest(nearest) => nearest.choose(place()),
            Routing::Failover { primary, backup, trickle } => {
                if primary.is_up() && draw >= *trickle {
                    return Some(Chosen::Up(primary));
                }
                let second = backup.choose(place());
                match second {
                    Some(Chosen::All(_)) | None if primary.is_up() => Some(Chosen::Up(primary)),
                    second => second,
                }
            }
        }
    }
}

impl<'a, D: Checked> Chosen<'a, D> {
    fn of(data: &'a D) -> Chosen<'a, D> {
        if data.is_up() { Chosen::Up(data) } else { Chosen::All(data) }
    }
}

impl<D: Checked> Nearest<D> {
    fn choose(&self, place: Option<Place>) -> Option<Chosen<'_, D>> {
        let place = place.or_else(|| self.items.first().map(|(place, _)| *place))?;
        let best = closest(&place, self.items.iter())?;
        if self.fenced || best.is_up() {
            return Some(Chosen::of(best));
        }
        let up = closest(&place, self.items.iter().filter(|(_, data)| data.is_up()));
        Some(up.map_or(Chosen::All(best), Chosen::Up))
    }
}

/// The first of those that are nearest.
fn closest<'a, D>(place: &Place, items: impl Iterator<Item = &'a (Place, D)>) -> Option<&'a D> {
    let mut best: Option<(f64, &D)> = None;
    for (at, data) in items {
        let closeness = place.closeness(at);
        if best.is_none_or(|(most, _)| closeness > most) {
            best = Some((closeness, data));
        }
    }
    best.map(|(_, data)| data)
}

fn by_weight<D: Checked>(items: &[(f64, D)], draw: f64) -> Option<Chosen<'_, D>> {
    let up = || items.iter().filter(|(_, data)| data.is_up());
    match drawn(up(), draw) {
        Some(data) => Some(Chosen::Up(data)),
        None => drawn(items.iter(), draw).map(Chosen::All),
    }
}

fn drawn<'a, D: 'a>(items: impl Iterator<Item = &'a (f64, D)> + Clone, draw: f64) -> Option<&'a D> {
    let total: f64 = items.clone().map(|(weight, _)| weight).sum();
    let mut left = draw * total;
    for (weight, data) in items.clone() {
        if left < *weight {
            return Some(data);
        }
        left -= weight;
    }
    items.clone().next().map(|(_, data)| data)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with a name, and whether any of it is up.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Item(&'static str, bool);

    impl Checked for Item {
        fn is_up(&self) -> bool {
            self.1
        }
    }

    const IOWA: fn() -> Option<Place> = || Some(Place::new(41.3, -95.9));
    const NOWHERE: fn() -> Option<Place> = || None;

    /// Whether something of what was chosen is up, and its name.
    fn told(chosen: Option<Chosen<'_, Item>>) -> (bool, &'static str) {
        match chosen.unwrap() {
            Chosen::Up(item) => (true, item.0),
            Chosen::All(item) => (false, item.0),
        }
    }

    fn world(up: [bool; 3], fenced: bool) -> Nearest<Item> {
        let [tokyo, oregon, carolina] = up;
        let items = vec![
            (Place::new(35.7, 139.7), Item("tokyo", tokyo)),
            (Place::new(45.6, -121.2), Item("oregon", oregon)),
            (Place::new(33.2, -80.0), Item("carolina", carolina)),
        ];
        Nearest { items, fenced }
    }

    #[test]
    fn weights_count_among_what_is_up() {
        let weighted = |up: [bool; 3]| {
            Routing::Weighted(vec![(0.0, Item("a", up[0])), (3.0, Item("b", up[1])), (1.0, Item("c", up[2]))])
        };
        for (up, draw, chosen) in [
            ([true; 3], 0.0, (true, "b")),
            ([true; 3], 0.74, (true, "b")),
            ([true; 3], 0.76, (true, "c")),
            ([true, false, true], 0.0, (true, "c")),
            ([true, false, false], 0.9, (true, "a")),
            ([false; 3], 0.1, (false, "b")),
        ] {
            let policy = weighted(up);
            assert_eq!(told(policy.choose(draw, NOWHERE)), chosen, "{up:?} {draw}");
        }
    }

    #[test]
    fn the_nearest_that_is_up_unless_there_is_a_fence() {
        for (up, fenced, place, chosen) in [
            ([true; 3], false, IOWA, (true, "carolina")),
            ([true, true, false], false, IOWA, (true, "oregon")),
            ([true, true, false], true, IOWA, (false, "carolina")),
            ([true; 3], true, IOWA, (true, "carolina")),
            ([false; 3], false, IOWA, (false, "carolina")),
            ([true; 3], false, NOWHERE, (true, "tokyo")),
        ] {
            let policy = Routing::Nearest(world(up, fenced));
            assert_eq!(told(policy.choose(0.5, place)), chosen, "{up:?} {fenced}");
        }
    }

    #[test]
    fn the_backup_serves_when_the_primary_is_down_and_a_few_always() {
        for (primary, backup, draw, chosen) in [
            (true, [true; 3], 0.5, (true, "primary")),
            (true, [true; 3], 0.05, (true, "carolina")),
            (true, [false; 3], 0.05, (true, "primary")),
            (false, [true; 3], 0.5, (true, "carolina")),
            (false, [true, true, false], 0.5, (true, "oregon")),
            (false, [false; 3], 0.5, (false, "carolina")),
        ] {
            let backup = world(backup, false);
            let policy = Routing::Failover { primary: Item("primary", primary), backup, trickle: 0.1 };
            assert_eq!(told(policy.choose(draw, IOWA)), chosen, "{primary} {draw}");
        }
    }
}
