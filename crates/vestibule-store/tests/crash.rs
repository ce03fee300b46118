//! What survives `kill -9`, and what survives a torn log.
//!
//! The parent starts this test binary again as a child that commits pairs of documents from several threads and says
//! so on stdout once each commit was acknowledged. The parent kills it at a random moment, opens the directory, and
//! checks that nothing acknowledged is missing and that no transaction is half there.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use vestibule_store::{Store, Txn};

/// In the child: the directory to write to.
const CHILD: &str = "VESTIBULE_STORE_CRASH_DIR";
/// How often to kill; 20 unless set.
const ROUNDS: &str = "VESTIBULE_STORE_CRASH_ROUNDS";
const THREADS: u64 = 3;

fn random() -> u64 {
    RandomState::new().hash_one(std::time::Instant::now())
}

/// Not a test of its own: the child's work. Does nothing unless started by [`nothing_acknowledged_is_lost`].
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let store = Store::open(Path::new(&dir)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = store.clone();
            scope.spawn(move || {
                let start = last(&store, "left", thread).map_or(0, |n| n + 1);
                for n in start.. {
                    commit(&store, thread, n);
                }
            });
        }
    });
}

fn commit(store: &Store, thread: u64, n: u64) {
    let padding = "x".repeat((random() % 6000) as usize);
    let txn = Txn::new()
        .put(format!("left/{thread}/{n}"), json!(padding))
        .put(format!("latest/{thread}"), json!(n))
        .put(format!("right/{thread}/{n}"), json!(padding));
    let revision = store.commit(txn).unwrap();
    let line = format!("acknowledged {thread} {n} {revision}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

/// The highest number a thread wrote on one side.
fn last(store: &Store, side: &str, thread: u64) -> Option<u64> {
    let prefix = format!("{side}/{thread}/");
    store.view().range(&prefix).filter_map(|kv| kv.key[prefix.len()..].parse().ok()).max()
}

#[test]
fn nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let rounds = std::env::var(ROUNDS).ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    for round in 0..rounds {
        let revision = kill_a_writer(dir.path(), &mut acknowledged);
        let store = Store::open(dir.path()).expect("opens after kill -9");
        check(&store, &acknowledged);
        assert!(store.view().revision() >= revision, "round {round}: an acknowledged revision is gone");
    }
    assert!(!acknowledged.is_empty());
}

/// Runs a child until a random acknowledgement, kills it, and notes all that it acknowledged. Returns the highest
/// revision it acknowledged.
fn kill_a_writer(dir: &Path, acknowledged: &mut BTreeMap<u64, u64>) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut until_kill = random() % 40 + 1;
    let mut highest = 0;
    for line in output.lines() {
        // The last line may be torn by the kill; what precedes it was acknowledged.
        let Ok(line) = line else { break };
        // The test harness writes the test's name without a line feed before the first line.
        let Some(at) = line.find("acknowledged ") else { continue };
        let numbers: Vec<u64> = line[at..].split(' ').skip(1).filter_map(|n| n.parse().ok()).collect();
        let [thread, n, revision] = numbers[..] else { continue };
        acknowledged.insert(thread, n);
        highest = highest.max(revision);
        until_kill = until_kill.saturating_sub(1);
        if until_kill == 0 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(until_kill == 0, "the child ended by itself");
    highest
}

fn check(store: &Store, acknowledged: &BTreeMap<u64, u64>) {
    let view = store.view();
    for thread in 0..THREADS {
        let left = numbers(store, "left", thread);
        let right = numbers(store, "right", thread);
        assert_eq!(left, right, "a transaction is half there");
        let count = left.len() as u64;
        assert_eq!(left.keys().copied().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>(), "a gap");
        let latest = view.get(&format!("latest/{thread}")).and_then(|kv| kv.value.as_u64());
        assert_eq!(latest, count.checked_sub(1));
        let promised = acknowledged.get(&thread).map_or(0, |n| n + 1);
        assert!(count >= promised, "acknowledged {promised} commits, found {count}");
    }
}

fn numbers(store: &Store, side: &str, thread: u64) -> BTreeMap<u64, Value> {
    let prefix = format!("{side}/{thread}/");
    let view = store.view();
    view.range(&prefix)
        .map(|kv| (kv.key[prefix.len()..].parse().unwrap(), kv.value.as_ref().clone()))
        .collect()
}

/// A power cut may leave any beginning of the log. Whatever is left must be the state at some revision.
#[test]
fn a_torn_log_is_a_shorter_history() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for n in 0..40u64 {
        let txn = Txn::new().put(format!("left/{n}"), json!(n)).put(format!("right/{n}"), json!(n));
        assert_eq!(store.commit(txn).unwrap(), n + 1);
    }
    let log = std::fs::read(dir.path().join("state.db-wal")).unwrap();
    let database = std::fs::read(dir.path().join("state.db")).unwrap();
    let mut lengths_seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let torn = tempfile::tempdir().unwrap();
        let keep = random() as usize % (log.len() + 1);
        std::fs::write(torn.path().join("state.db"), &database).unwrap();
        std::fs::write(torn.path().join("state.db-wal"), &log[..keep]).unwrap();
        let store = Store::open(torn.path()).unwrap();
        let revision = store.view().revision();
        assert_eq!(store.view().len() as u64, 2 * revision);
        for n in 0..revision {
            assert!(store.view().get(&format!("left/{n}")).is_some());
            assert!(store.view().get(&format!("right/{n}")).is_some());
        }
        lengths_seen.insert(revision);
    }
    assert!(lengths_seen.len() > 3, "the log was really torn at different places: {lengths_seen:?}");
}
