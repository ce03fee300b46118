//! `/metrics`: the page follows the format, says what the document says, and its numbers are those of the requests.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use world::{REGION, World, until};

/// Name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// A page, read by the rules of the text format: what is not in them is refused.
#[derive(Debug, Default)]
struct Page {
    kinds: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Page {
    fn read(text: &str) -> Page {
        assert!(text.ends_with('\n'), "the last line must end");
        let mut page = Page::default();
        let mut helped = BTreeSet::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && !help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(matches!(kind, "counter" | "gauge" | "histogram") && helped.contains(name), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(page.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
                current = name.to_owned();
            } else {
                let sample = read_sample(line);
                let suffix =
                    sample.0.strip_prefix(&current).unwrap_or_else(|| panic!("not of {current}: {line}"));
                let allowed: &[&str] =
                    if page.kinds[&current] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(allowed.contains(&suffix), "{line}");
                let twin = page.samples.iter().any(|other| (&other.0, &other.1) == (&sample.0, &sample.1));
                assert!(!twin, "a series twice: {line}");
                page.samples.push(sample);
            }
        }
        page.check_histograms();
        page
    }

    /// Buckets rise, the last is the count.
    fn check_histograms(&self) {
        for (name, labels, count) in &self.samples {
            let Some(base) = name.strip_suffix("_count") else { continue };
            let bucket = format!("{base}_bucket");
            let buckets: Vec<(&str, f64)> = self
                .samples
                .iter()
                .filter(|(other, of, _)| *other == bucket && without(of, "le") == *labels)
                .map(|(_, of, value)| (of["le"].as_str(), *value))
                .collect();
            assert_eq!(buckets.last(), Some(&("+Inf", *count)), "{name} {labels:?}");
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{name} {labels:?}");
            let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| bound.parse().unwrap()).collect();
            assert!(bounds.is_sorted_by(|a, b| a < b), "{name} {bounds:?}");
        }
    }

    /// The sum of the samples of a name that have these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        assert!(
            self.kinds.keys().any(|kind| name.starts_with(kind.as_str())),
            "there is no {name} on the page"
        );
        let fits = |of: &BTreeMap<String, String>| {
            labels.iter().all(|(k, v)| of.get(*k).is_some_and(|own| own == v))
        };
        self.samples.iter().filter(|(other, of, _)| other == name && fits(of)).map(|sample| sample.2).sum()
    }
}

fn without(labels: &BTreeMap<String, String>, name: &str) -> BTreeMap<String, String> {
    labels.iter().filter(|(key, _)| *key != name).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn read_sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let name = &line[..end];
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    let mut rest = &line[end..];
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (key, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(key), "{line}");
            let mut value = String::new();
            let mut characters = after.char_indices();
            let closing = loop {
                match characters.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        other => panic!("escape {other:?} in {line}"),
                    }),
                    (_, other) => value.push(other),
                }
            };
            assert!(labels.insert(key.to_owned(), value).is_none(), "a label twice: {line}");
            rest = &after[closing + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("not closed: {line}"));
    }
    let value = rest.strip_prefix(' ').and_then(|value| value.parse().ok());
    (name.to_owned(), labels, value.unwrap_or_else(|| panic!("no number: {line}")))
}

fn scrape(world: &World) -> Page {
    let answer = fetch(world);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    Page::read(body)
}

fn fetch(world: &World) -> String {
    let answer = world.shell(&format!("curl -sS -i --max-time 30 {}/metrics", world.api()));
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.stdout
}

#[test]
fn the_numbers_are_those_of_the_requests() {
    let world = World::start();
    world.published_setup();
    for service in ["my-internal-service", "my-api"] {
        world.ok(&format!(
            "run services add-iam-policy-binding {service} {REGION} --member=allUsers --role=roles/run.invoker"
        ));
    }
    let before = scrape(&world);
    let urls = |count: usize, url: &str| vec![url.to_owned(); count];
    let asked = [
        urls(7, "http://10.0.0.100/"),
        urls(5, "http://10.0.0.100/api/x"),
        urls(3, "http://10.0.0.100/web/x"),
        urls(2, "https://10.0.0.100/api/y"),
    ]
    .concat();
    // One curl: the requests of a scheme share a connection.
    let mut words = vec!["curl", "-sS", "-k", "--max-time", "60", "-o", "/dev/null"];
    let rest: Vec<&str> = asked.iter().flat_map(|url| ["-o", "/dev/null", url.as_str()]).collect();
    words.extend(&rest[2..]);
    let answer = world.vm(&words);
    assert_eq!(answer.code, 0, "{answer:?}");
    // What is counted is counted after the last byte of a response: a moment after curl has it.
    let all = |page: &Page| page.sum("vestibule_lb_requests_total", &[]) >= asked.len() as f64;
    let page = until(|| scrape(&world), all);

    let requests = |labels: &[(&str, &str)]| {
        let name = "vestibule_lb_requests_total";
        page.sum(name, labels) - before.sum(name, labels)
    };
    assert_eq!(requests(&[]), asked.len() as f64);
    let (plain, tls) = (("forwarding_rule", "my-internal-lb-rule"), ("forwarding_rule", "my-https-rule"));
    for (labels, count) in [
        ([plain, ("matched_rule", "UNMATCHED"), ("status_class", "2xx")], 7.0),
        ([plain, ("matched_rule", "/api/*"), ("backend_service", "my-api-backend")], 5.0),
        ([tls, ("matched_rule", "/api/*"), ("status_class", "2xx")], 2.0),
        ([plain, ("matched_rule", "/web/*"), ("status_class", "4xx")], 3.0),
        ([plain, ("url_map", "my-internal-url-map"), ("region", "us-central1")], 15.0),
    ] {
        assert_eq!(requests(&labels), count, "{labels:?}");
    }
    assert_eq!(page.sum("vestibule_lb_request_duration_seconds_count", &[]), requests(&[]));
    assert!(page.sum("vestibule_lb_request_duration_seconds_sum", &[]) > 0.0);
    assert!(page.sum("vestibule_lb_response_bytes_total", &[("matched_rule", "/api/*")]) > 700.0);
    assert_eq!(page.sum("vestibule_proxy_tls_handshakes_total", &[("result", "full")]), 1.0);
    // In loopback mode a plain request comes through the gateway, with a connection of its own.
    assert!(page.sum("vestibule_proxy_connections_total", &[]) >= 2.0);
    assert_eq!(page.sum("vestibule_proxy_limit_reached_total", &[]), 0.0);
    assert_eq!(page.sum("vestibule_run_instance_starts_total", &[("service", "my-api")]), 1.0);
    assert_eq!(page.sum("vestibule_run_instances", &[("service", "my-api"), ("state", "ready")]), 1.0);
    assert_eq!(page.sum("vestibule_run_instance_requests", &[]), 0.0);
    until(|| scrape(&world), |page| page.sum("vestibule_proxy_connections", &[]) == 0.0);
}

/// Every metric is documented, with its type, and nothing else is.
#[test]
fn the_document_lists_what_there_is() {
    let world = World::start();
    let page = scrape(&world);
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md")).unwrap();
    let documented: BTreeMap<String, String> = document
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `vestibule_")?.split(" | ");
            let name = format!("vestibule_{}", cells.next()?.trim_end_matches('`'));
            Some((name, cells.next()?.to_owned()))
        })
        .collect();
    assert_eq!(page.kinds, documented);
}
