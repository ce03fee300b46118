use std::cell::RefCell;

use proptest::prelude::*;

use super::*;
use crate::hash;

const POLICIES: [Policy; 5] = [
    Policy::RoundRobin,
    Policy::LeastRequest,
    Policy::Random,
    Policy::RingHash { minimum: 1024 },
    Policy::Maglev,
];

fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let one = |(n, weight): (usize, &u32)| Candidate {
        key: hash::bytes(format!("10.0.{}.{}:80", n / 250, n % 250).as_bytes()),
        weight: *weight,
    };
    weights.iter().enumerate().map(one).collect()
}

fn ask(random: u64, hash: Option<u64>) -> Ask<'static> {
    Ask { hash, random, load: &|_| 0, tried: &|_| false }
}

/// How often each is picked by requests that are all different.
fn shares(policy: Policy, weights: &[u32], requests: u64) -> Vec<u64> {
    let candidates = candidates(weights);
    let mut picker = Picker::new(policy, &candidates, 7);
    let mut counts = vec![0; weights.len()];
    for n in 0..requests {
        let random = hash::pair(1, n);
        counts[picker.pick(&ask(random, Some(hash::pair(2, n)))).unwrap()] += 1;
    }
    counts
}

#[test]
fn nobody_is_there() {
    for policy in POLICIES {
        for weights in [&[][..], &[0], &[0, 0]] {
            assert_eq!(Picker::new(policy, &candidates(weights), 1).pick(&ask(1, Some(1))), None);
        }
    }
}

#[test]
fn round_robin_gives_everyone_a_turn() {
    let mut picker = Picker::new(Policy::RoundRobin, &candidates(&[1, 1, 0, 1]), 0);
    let picked: Vec<_> = (0..6).map(|_| picker.pick(&ask(0, None)).unwrap()).collect();
    assert_eq!(picked, [0, 1, 3, 0, 1, 3]);
}

#[test]
fn weights_are_spread_and_not_in_a_row() {
    assert_eq!(shares(Policy::RoundRobin, &[3, 1], 4000), [3000, 1000]);
    let mut picker = Picker::new(Policy::RoundRobin, &candidates(&[3, 1]), 3);
    let picked: Vec<_> = (0..400).map(|_| picker.pick(&ask(0, None)).unwrap()).collect();
    assert!(picked.windows(5).all(|five| five.contains(&1)), "{picked:?}");
}

#[test]
fn every_policy_keeps_the_weights() {
    let weights = [100, 50, 25, 0, 25];
    for policy in POLICIES {
        let counts = shares(policy, &weights, 40_000);
        for (count, weight) in counts.iter().zip(weights) {
            let wanted = f64::from(weight) * 200.0;
            // A ring of 1024 points is coarse.
            let slack = if matches!(policy, Policy::RingHash { .. }) { 0.35 } else { 0.06 };
            assert!((*count as f64 - wanted).abs() <= wanted * slack, "{policy:?} {counts:?}");
        }
    }
}

#[test]
fn the_less_busy_of_two_is_picked() {
    let loads = RefCell::new([0_u32; 8]);
    let mut picker = Picker::new(Policy::LeastRequest, &candidates(&[1; 8]), 0);
    for n in 0..800 {
        let load = |index: usize| loads.borrow()[index];
        let index = picker.pick(&Ask { load: &load, ..ask(hash::pair(3, n), None) }).unwrap();
        loads.borrow_mut()[index] += 1;
    }
    // With nothing ever finished, two choices keep the fullest within a few of the mean.
    assert!(loads.borrow().iter().all(|load| (94..=106).contains(load)), "{loads:?}");
}

#[test]
fn a_request_that_nothing_places_is_drawn() {
    for policy in [Policy::RingHash { minimum: 1024 }, Policy::Maglev] {
        let mut picker = Picker::new(policy, &candidates(&[1; 4]), 0);
        let mut seen = [false; 4];
        (0..200).for_each(|n| seen[picker.pick(&ask(hash::pair(n, n), None)).unwrap()] = true);
        assert_eq!(seen, [true; 4], "{policy:?}");
    }
}

/// Where 10,000 hashes go.
fn placed(policy: Policy, candidates: &[Candidate]) -> Vec<u64> {
    let mut picker = Picker::new(policy, candidates, 0);
    let at = |n| candidates[picker.pick(&ask(0, Some(hash::pair(9, n)))).unwrap()].key;
    (0..10_000).map(at).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// When one goes away, its requests move, and of the others' few do: on a ring those that the others' new points
    /// take, in Maglev's table some hundredths.
    #[test]
    fn few_requests_move_when_one_goes(count in 2_usize..60, gone in 0_usize..60) {
        let gone = gone % count;
        let all = candidates(&vec![1; count]);
        let mut rest = all.clone();
        let lost = rest.remove(gone).key;
        let denser = 0.05 + 1.5 / count as f64;
        for (policy, allowed) in [(Policy::RingHash { minimum: 1024 }, denser), (Policy::Maglev, 0.08)] {
            let (before, after) = (placed(policy, &all), placed(policy, &rest));
            let kept = before.iter().filter(|key| **key != lost).count() as f64;
            let moved = before.iter().zip(&after).filter(|(a, b)| **a != lost && a != b).count() as f64;
            prop_assert!(moved <= kept * allowed, "{policy:?}: {moved} of {kept}");
        }
    }

    /// Where a request goes does not depend on the order in which endpoints were attached.
    #[test]
    fn order_does_not_matter(count in 1_usize..40, turn in 0_usize..40) {
        let all = candidates(&vec![1; count]);
        let mut turned = all.clone();
        turned.rotate_left(turn % count);
        for policy in [Policy::RingHash { minimum: 1024 }, Policy::Maglev] {
            prop_assert_eq!(placed(policy, &all), placed(policy, &turned));
        }
    }

    /// Maglev's shares differ by little, a ring's by more.
    #[test]
    fn shares_are_even(count in 1_usize..40) {
        let mean = 10_000.0 / count as f64;
        for (policy, most) in [(Policy::Maglev, 1.6), (Policy::RingHash { minimum: 16_384 }, 2.2)] {
            let mut counts = std::collections::HashMap::new();
            placed(policy, &candidates(&vec![1; count])).into_iter().for_each(|key| *counts.entry(key).or_insert(0) += 1);
            prop_assert_eq!(counts.len(), count);
            prop_assert!(counts.values().all(|n| f64::from(*n) <= mean * most), "{:?} {:?}", policy, counts);
        }
    }

    /// A retry goes to somebody else as long as there is somebody else.
    #[test]
    fn who_was_tried_is_not_asked_again(
        weights in prop::collection::vec(0_u32..4, 1..12), random in any::<u64>(), hash in any::<u64>(),
    ) {
        let usable = weights.iter().filter(|weight| **weight > 0).count();
        for policy in POLICIES {
            let mut picker = Picker::new(policy, &candidates(&weights), random);
            let mut tried = Vec::new();
            for _ in 0..usable {
                let known = tried.clone();
                let been = |index: usize| known.contains(&index);
                let index = picker.pick(&Ask { tried: &been, ..ask(random, Some(hash)) }).unwrap();
                prop_assert!(!tried.contains(&index) && weights[index] > 0, "{policy:?} {index} {tried:?}");
                tried.push(index);
            }
            prop_assert_eq!(picker.pick(&Ask { tried: &|_| true, ..ask(random, Some(hash)) }).is_some(), usable > 0);
        }
    }
}
