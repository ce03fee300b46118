//! What the server holds, over time.

use std::fmt;
use std::fs;
use std::time::Duration;

use crate::bench::proc;

/// Growth that counts as flat: a share of the mean an hour, and an amount in any case.
const FLAT_SHARE: f64 = 0.10;
const FLAT_KIB: f64 = 16.0 * 1024.0;
const FLAT_COUNT: f64 = 16.0;
/// Fewer samples of one process than this say nothing.
const ENOUGH: usize = 30;

/// One look at the server's process.
#[derive(Debug, Clone, Copy)]
struct Sample {
    pid: u32,
    at: Duration,
    resident_kib: f64,
    descriptors: f64,
    threads: f64,
}

/// One of the figures of a look.
type Figure = fn(&Sample) -> f64;

/// All looks.
#[derive(Debug, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    pub fn take(&mut self, pid: u32, at: Duration) {
        let count =
            |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count) as f64;
        self.0.push(Sample {
            pid,
            at,
            resident_kib: proc::resident_kib(&[pid]) as f64,
            descriptors: count("fd"),
            threads: count("task"),
        });
    }

    /// What grew in the process that was looked at longest, after the warm-up.
    pub fn growth(&self, warm_up: f64) -> Vec<String> {
        let longest = self.longest();
        let kept = &longest[(longest.len() as f64 * warm_up) as usize..];
        if kept.len() < ENOUGH {
            return Vec::new();
        }
        let figures: [(&str, Figure, f64); 3] = [
            ("resident KiB", |sample| sample.resident_kib, FLAT_KIB),
            ("descriptors", |sample| sample.descriptors, FLAT_COUNT),
            ("threads", |sample| sample.threads, FLAT_COUNT),
        ];
        let mut grown = Vec::new();
        for (name, figure, flat) in figures {
            let points: Vec<(f64, f64)> =
                kept.iter().map(|sample| (sample.at.as_secs_f64(), figure(sample))).collect();
            let mean = points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
            let hourly = slope(&points) * 3600.0;
            let span = points[points.len() - 1].0 - points[0].0;
            if hourly > mean * FLAT_SHARE && hourly * span / 3600.0 > flat {
                grown.push(format!("{name} grow by {hourly:.0} an hour, from a mean of {mean:.0}"));
            }
        }
        grown
    }

    /// Looks at the process that has most of them.
    fn longest(&self) -> Vec<Sample> {
        let of = |pid: u32| self.0.iter().filter(move |sample| sample.pid == pid);
        let pid = self.0.iter().map(|sample| sample.pid).max_by_key(|pid| of(*pid).count());
        pid.map(|pid| of(pid).copied().collect()).unwrap_or_default()
    }
}

/// The slope of the line that fits best, by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    let (x, y) = (x / count, y / count);
    let (above, below) = points.iter().fold((0.0, 0.0), |sum, point| {
        let off = point.0 - x;
        (sum.0 + off * (point.1 - y), sum.1 + off * off)
    });
    if below == 0.0 { 0.0 } else { above / below }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures: [(&str, Figure); 3] = [
            ("resident KiB", |sample| sample.resident_kib),
            ("descriptors", |sample| sample.descriptors),
            ("threads", |sample| sample.threads),
        ];
        write!(f, "{} samples", self.0.len())?;
        for (name, figure) in figures {
            let values = || self.0.iter().map(figure);
            let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
            write!(f, "; {name} {low:.0} to {high:.0}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(resident: impl Fn(u32) -> f64) -> Samples {
        let sample = |second: u32| Sample {
            pid: 1,
            at: Duration::from_secs(second.into()),
            resident_kib: resident(second),
            descriptors: 50.0,
            threads: 20.0,
        };
        Samples((0..1800).map(sample).collect())
    }

    #[test]
    fn growth_is_told_from_noise() {
        let noisy = samples(|second| 40_000.0 + f64::from(second % 7) * 500.0);
        assert!(noisy.growth(0.3).is_empty(), "{:?}", noisy.growth(0.3));
        let leaking = samples(|second| 40_000.0 + f64::from(second) * 20.0);
        assert_eq!(leaking.growth(0.3).len(), 1);
        let warming = samples(|second| 40_000.0 + f64::from(second.min(400)) * 50.0);
        assert!(warming.growth(0.3).is_empty());
    }
}
