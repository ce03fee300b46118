//! What the proxy has done, in numbers.
//!
//! Every worker has cells of its own, which nobody else writes: counting is a load and a store, without a lock and
//! without a cache line that threads fight for. Who asks adds the cells of all workers up. Requests are counted by what
//! the configuration names (forwarding rule, URL map, matched rule, backend service) and by the class of their status;
//! nothing that a client sends becomes a name, so the number of series is bounded by the configuration, and by
//! [`MAX_SERIES`] where a configuration has more rules than anyone wants to see.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::record::Record;
use crate::site::Balancer;
use crate::upstream::AddressHasher;

/// Upper bounds of the latency histogram's buckets; what took longer is in one more. From 500 µs, where a local service
/// answers, to Cloud Run's longest request timeout.
pub const LATENCY_BOUNDS: [Duration; 16] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
];

/// Series that one worker keeps. Requests of rules beyond are counted under [`OTHER_RULES`].
pub const MAX_SERIES: usize = 10_000;

/// Stands for all rules of a URL map that have no series of their own.
pub const OTHER_RULES: &str = "OTHER";

/// What is counted once a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Client connections that were accepted.
    Connections,
    /// Client connections that have ended.
    ConnectionsEnded,
    /// Client connections that were refused because the client stands in another region.
    RegionRefusals,
    /// Complete TLS handshakes.
    FullHandshakes,
    /// TLS handshakes that resumed a session.
    ResumedHandshakes,
    /// TLS handshakes that failed.
    FailedHandshakes,
    /// TLS handshakes that took too long.
    LateHandshakes,
    /// Bytes that could not be read as a request, late heads among them.
    UnreadableRequests,
    /// Connections to backends that were made.
    BackendConnections,
    /// Connections to backends that could not be made.
    BackendConnectFailures,
    /// Requests that found an idle connection to their backend.
    BackendReuses,
    /// Times that accepting waited for connections to end.
    ConnectionLimit,
    /// Times that accepting from one listener waited for its connections to end.
    ListenerLimit,
    /// Requests that were refused because as many as may be are under way.
    RequestLimit,
    /// Requests that were refused because those under way hold as much memory as they may.
    MemoryLimit,
    /// Times that accepting rested because file descriptors or memory ran out.
    AcceptFailures,
}

const COUNTS: usize = Count::AcceptFailures as usize + 1;

/// A number that one thread writes and others read.
#[derive(Default)]
struct Tally(AtomicU64);

impl Tally {
    fn add(&self, amount: u64) {
        // There is no other writer, so this needs no locked instruction.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The cells of one worker. Aligned so that no two workers' cells share a cache line (or the pair that a processor
/// fetches at once).
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Cells {
    counts: [Tally; COUNTS],
    /// Taken by the worker when it sees a series for the first time under a snapshot, and by who asks.
    series: Mutex<HashMap<Labels, Arc<Series>>>,
}

/// What the configuration calls a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels {
    /// `None`: a default URL.
    pub balancer: Option<BalancerLabels>,
    pub class: StatusClass,
}

/// What the configuration calls a request to a load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BalancerLabels {
    pub project: Arc<str>,
    pub region: Arc<str>,
    pub forwarding_rule: Arc<str>,
    pub url_map: Arc<str>,
    /// The path rule or route rule that matched, as the request log has it; [`OTHER_RULES`].
    pub rule: Arc<str>,
    /// Empty: none was chosen.
    pub backend_service: Arc<str>,
}

/// The first digit of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatusClass {
    /// The client left before it got an answer.
    None,
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
}

impl StatusClass {
    fn of(status: u16) -> StatusClass {
        match status {
            100..=199 => StatusClass::Informational,
            200..=299 => StatusClass::Success,
            300..=399 => StatusClass::Redirection,
            400..=499 => StatusClass::ClientError,
            500..=599 => StatusClass::ServerError,
            _ => StatusClass::None,
        }
    }

    /// `2xx`; `none` without an answer.
    pub fn name(self) -> &'static str {
        match self {
            StatusClass::None => "none",
            StatusClass::Informational => "1xx",
            StatusClass::Success => "2xx",
            StatusClass::Redirection => "3xx",
            StatusClass::ClientError => "4xx",
            StatusClass::ServerError => "5xx",
        }
    }
}

/// The requests of one worker that have the same labels.
#[derive(Default)]
pub(crate) struct Series {
    /// By bucket, not cumulative.
    buckets: [Tally; LATENCY_BOUNDS.len() + 1],
    nanoseconds: Tally,
    request_bytes: Tally,
    response_bytes: Tally,
    retries: Tally,
}

impl Series {
    fn record(&self, record: &Record) {
        let latency = record.start.elapsed();
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < latency);
        self.buckets[bucket].add(1);
        self.nanoseconds.add(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.request_bytes.add(record.request_size);
        self.response_bytes.add(record.response_size);
        if record.retries > 0 {
            self.retries.add(record.retries.into());
        }
    }
}

/// The series of one site, found without its names: by service, by where the rule's text is, and by class. The site
/// keeps that text alive and in its place.
pub(crate) type SeriesCache =
    HashMap<(Option<usize>, usize, StatusClass), Arc<Series>, BuildHasherDefault<AddressHasher>>;

impl Cells {
    pub(crate) fn count(&self, what: Count) {
        self.counts[what as usize].add(1);
    }

    /// Counts an attempt to connect to a backend.
    pub(crate) fn connected(&self, made: bool) {
        self.count(if made { Count::BackendConnections } else { Count::BackendConnectFailures });
    }

    /// Counts a request that came to a load balancer.
    pub(crate) fn request(&self, balancer: &Balancer, rule: &str, record: &Record) {
        let class = StatusClass::of(record.status);
        let key = (record.service, rule.as_ptr() as usize, class);
        balancer
            .series
            .borrow_mut()
            .entry(key)
            .or_insert_with(|| {
                let listener = &balancer.listener;
                let service = record.service.and_then(|index| balancer.service(index));
                self.series(Labels {
                    class,
                    balancer: Some(BalancerLabels {
                        project: listener.project.clone(),
                        region: listener.region.clone(),
                        forwarding_rule: listener.forwarding_rule.clone(),
                        url_map: listener.url_map_name.clone(),
                        rule: rule.into(),
                        backend_service: service.map_or_else(|| "".into(), |service| service.name.clone()),
                    }),
                })
            })
            .record(record);
    }

    /// Counts a request that came to a default URL.
    pub(crate) fn default_url(&self, cache: &mut SeriesCache, record: &Record) {
        let class = StatusClass::of(record.status);
        let series =
            cache.entry((None, 0, class)).or_insert_with(|| self.series(Labels { balancer: None, class }));
        series.record(record);
    }

    fn series(&self, mut labels: Labels) -> Arc<Series> {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_SERIES
            && !all.contains_key(&labels)
            && let Some(balancer) = &mut labels.balancer
        {
            balancer.rule = OTHER_RULES.into();
        }
        all.entry(labels).or_default().clone()
    }
}

/// The numbers of all workers together.
#[derive(Debug, Clone, Default)]
pub struct Report {
    counts: [u64; COUNTS],
    /// In the order of their labels.
    pub requests: Vec<(Labels, Requests)>,
}

/// Requests with the same labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// By bucket of [`LATENCY_BOUNDS`] and one more, not cumulative.
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    /// All latencies together.
    pub latency: Duration,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Attempts beyond each request's first.
    pub retries: u64,
}

impl Report {
    pub(crate) fn of<'w>(workers: impl Iterator<Item = &'w Cells>) -> Report {
        let mut report = Report::default();
        let mut requests: HashMap<Labels, Requests> = HashMap::new();
        for cells in workers {
            for (sum, count) in report.counts.iter_mut().zip(&cells.counts) {
                *sum = sum.wrapping_add(count.get());
            }
            let series = cells.series.lock().unwrap_or_else(PoisonError::into_inner);
            for (labels, series) in series.iter() {
                match requests.entry(labels.clone()) {
                    Entry::Occupied(mut held) => held.get_mut().add(series),
                    Entry::Vacant(place) => place.insert(Requests::default()).add(series),
                }
            }
        }
        report.requests = requests.into_iter().collect();
        report.requests.sort_by(|(a, _), (b, _)| a.cmp(b));
        report
    }

    /// What was counted since the start.
    pub fn count(&self, what: Count) -> u64 {
        self.counts[what as usize]
    }

    /// Client connections that are open.
    pub fn open_connections(&self) -> u64 {
        self.count(Count::Connections).saturating_sub(self.count(Count::ConnectionsEnded))
    }
}

impl Requests {
    fn add(&mut self, series: &Series) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&series.buckets) {
            *sum += bucket.get();
        }
        self.latency += Duration::from_nanos(series.nanoseconds.get());
        self.request_bytes += series.request_bytes.get();
        self.response_bytes += series.response_bytes.get();
        self.retries += series.retries.get();
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Site;
    use crate::testing;

    /// What serves a listener without endpoints.
    fn balancer() -> Balancer {
        let listener = testing::listener("10.0.0.100", 80);
        match Site::balancer(listener, |_| unreachable!("its one service has no backend")) {
            Site::Balancer(balancer) => balancer,
            Site::Front(_) => unreachable!("a listener is no front"),
        }
    }

    fn record(status: u16, retries: u32) -> Record {
        Record { status, retries, response_size: 7, ..Record::new(5) }
    }

    #[test]
    fn workers_add_up_and_snapshots_go_on_counting() {
        let workers = [Cells::default(), Cells::default()];
        for (cells, times) in workers.iter().zip([3, 2]) {
            for _ in 0..times {
                // Every snapshot brings a new site.
                let balancer = balancer();
                cells.request(&balancer, "/a/*", &record(200, 1));
                cells.request(&balancer, "/a/*", &record(503, 0));
            }
            cells.count(Count::Connections);
        }
        workers[0].default_url(&mut SeriesCache::default(), &record(404, 0));
        workers[0].count(Count::ConnectionsEnded);
        let report = Report::of(workers.iter());
        assert_eq!((report.count(Count::Connections), report.open_connections()), (2, 1));
        let told: Vec<_> = report
            .requests
            .iter()
            .map(|(labels, requests)| {
                let rule = labels.balancer.as_ref().map(|balancer| balancer.rule.to_string());
                (rule, labels.class.name(), requests.count(), requests.retries, requests.response_bytes)
            })
            .collect();
        assert_eq!(
            told,
            [
                (None, "4xx", 1, 0, 7),
                (Some("/a/*".into()), "2xx", 5, 5, 35),
                (Some("/a/*".into()), "5xx", 5, 0, 35)
            ]
        );
    }

    #[test]
    fn rules_beyond_the_bound_are_counted_together() {
        let cells = Cells::default();
        let balancer = balancer();
        let rules: Vec<String> = (0..MAX_SERIES + 10).map(|n| format!("/{n}")).collect();
        rules.iter().for_each(|rule| cells.request(&balancer, rule, &record(200, 0)));
        let report = Report::of(std::iter::once(&cells));
        assert_eq!(report.requests.len(), MAX_SERIES + 1);
        let other = report.requests.iter().find(|(labels, _)| {
            labels.balancer.as_ref().is_some_and(|balancer| &*balancer.rule == OTHER_RULES)
        });
        assert_eq!(other.unwrap().1.count(), 10);
    }

    #[test]
    fn buckets_have_their_bounds() {
        assert!(LATENCY_BOUNDS.is_sorted());
        let bucket = |latency: Duration| LATENCY_BOUNDS.partition_point(|bound| *bound < latency);
        assert_eq!((bucket(Duration::ZERO), bucket(LATENCY_BOUNDS[0])), (0, 0));
        assert_eq!(bucket(LATENCY_BOUNDS[0] + Duration::from_nanos(1)), 1);
        assert_eq!(bucket(Duration::MAX), LATENCY_BOUNDS.len());
    }
}
