//! The store against a failing disk, and against a model.

use super::*;
use crate::disk::Row;
use crate::watch::Changes;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const WORKS: u8 = 0;
const FAILS_BEFORE: u8 = 1;
const FAILS_AFTER: u8 = 2;
const DEAD: u8 = 3;

/// A disk that can be told to fail before it wrote, after it wrote, or altogether.
struct Faulty {
    disk: Sqlite,
    mode: Arc<AtomicU8>,
}

impl Disk for Faulty {
    fn commit(&mut self, rows: &[Row], revision: Revision) -> Result<(), String> {
        match self.mode.load(Ordering::SeqCst) {
            FAILS_BEFORE | DEAD => Err("No space left on device".into()),
            FAILS_AFTER => {
                self.disk.commit(rows, revision)?;
                Err("fsync failed".into())
            }
            _ => self.disk.commit(rows, revision),
        }
    }

    fn reload(&mut self) -> Result<View, String> {
        self.disk.reload()
    }

    fn close(&mut self) {
        self.disk.close();
    }

    fn reopen(&mut self) -> Result<Revision, String> {
        if self.mode.load(Ordering::SeqCst) == DEAD {
            return Err("Input/output error".into());
        }
        self.disk.reopen()
    }
}

fn faulty(dir: &Path) -> (Store, Arc<AtomicU8>) {
    let (disk, view) = Sqlite::open(dir).unwrap();
    let mode = Arc::new(AtomicU8::new(WORKS));
    let store = Store::start(Faulty { disk, mode: mode.clone() }, view, Bounds::default()).unwrap();
    (store, mode)
}

#[test]
fn a_refused_write_changes_nothing_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mode) = faulty(dir.path());
    store.commit(Txn::new().put("a", json!(1))).unwrap();
    mode.store(FAILS_BEFORE, Ordering::SeqCst);
    let refused = store.commit(Txn::new().put("a", json!(2)).put("b", json!(2)));
    assert!(matches!(refused, Err(CommitError::Storage(_))), "{refused:?}");
    assert_eq!(store.view().revision(), 1);
    assert_eq!(*store.view().get("a").unwrap().value, json!(1));
    assert!(store.view().get("b").is_none());
    mode.store(DEAD, Ordering::SeqCst);
    assert!(matches!(store.commit(Txn::new().put("c", json!(3))), Err(CommitError::Storage(_))));
    mode.store(WORKS, Ordering::SeqCst);
    assert_eq!(store.commit(Txn::new().put("c", json!(3))).unwrap(), 2);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.view().range("").map(|kv| kv.key.to_string()).collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn a_write_that_failed_after_reaching_the_disk_is_shown_before_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mode) = faulty(dir.path());
    let mut watch = store.watch(0);
    mode.store(FAILS_AFTER, Ordering::SeqCst);
    assert!(store.commit(Txn::new().put("a", json!(1)).put("b", json!(1))).is_err());
    assert_eq!(store.view().revision(), 0, "not shown while its fate is unknown");
    mode.store(WORKS, Ordering::SeqCst);
    let conflict = store.commit(Txn::new().expect_absent("a").put("a", json!(2)));
    assert!(matches!(conflict, Err(CommitError::Conflict)), "{conflict:?}");
    assert_eq!(watch.next(SOON), Some(Changes::Compacted(1)));
    assert_eq!(store.commit(Txn::new().put("c", json!(3))).unwrap(), 2);
    assert!(matches!(watch.next(SOON), Some(Changes::Events(e)) if e.len() == 1 && e[0].revision == 2));
}

#[test]
fn a_full_database_is_an_error_and_smaller_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disk, view) = Sqlite::open(dir.path()).unwrap();
    disk.limit_pages(30);
    let store = Store::start(disk, view, Bounds::default()).unwrap();
    store.commit(Txn::new().put("small", json!(1))).unwrap();
    let big = json!("x".repeat(1 << 20));
    let refused = store.commit(Txn::new().put("also", json!(2)).put("big", big));
    assert!(matches!(&refused, Err(CommitError::Storage(why)) if why.contains("full")), "{refused:?}");
    assert_eq!(store.view().len(), 1);
    assert_eq!(store.commit(Txn::new().put("small", json!(2))).unwrap(), 2);
}

#[test]
fn a_watch_too_far_behind_is_told_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, view) = Sqlite::open(dir.path()).unwrap();
    let store = Store::start(disk, view, Bounds { events: 4, ..Bounds::default() }).unwrap();
    let mut slow = store.watch(0);
    for n in 0..6 {
        store.commit(Txn::new().put("k", json!(n))).unwrap();
    }
    assert_eq!(slow.next(SOON), Some(Changes::Compacted(6)));
    assert_eq!(slow.next(Duration::ZERO), None);
    let mut recent = store.watch(3);
    let Some(Changes::Events(events)) = recent.next(SOON) else { panic!("events are held") };
    assert_eq!(events.iter().map(|e| e.revision).collect::<Vec<_>>(), [4, 5, 6]);
}

/// One step of the model test.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u8, ModelCompare)>, Vec<(u8, Option<i32>)>),
    Reopen,
}

#[derive(Debug, Clone)]
enum ModelCompare {
    Absent,
    Present,
    /// At the revision the model knows, plus this.
    At(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let compare = prop_oneof![
        Just(ModelCompare::Absent),
        Just(ModelCompare::Present),
        (0u64..2).prop_map(ModelCompare::At)
    ];
    let commit = (
        prop::collection::vec((0u8..5, compare), 0..2),
        prop::collection::vec((0u8..5, prop::option::weighted(0.7, any::<i32>())), 0..4),
    )
        .prop_map(|(compares, ops)| Step::Commit(compares, ops));
    prop::collection::vec(prop_oneof![12 => commit, 1 => Just(Step::Reopen)], 1..30)
}

/// key → (value, created, modified)
type Model = BTreeMap<String, (i32, u64, u64)>;

fn model_commit(model: &mut Model, revision: &mut u64, ops: &[(u8, Option<i32>)]) {
    let last: BTreeMap<u8, Option<i32>> = ops.iter().copied().collect();
    let next = *revision + 1;
    for (key, value) in last {
        let key = format!("k/{key}");
        match value {
            Some(value) => {
                let created = model.get(&key).map_or(next, |(_, created, _)| *created);
                model.insert(key, (value, created, next));
                *revision = next;
            }
            None => {
                if model.remove(&key).is_some() {
                    *revision = next;
                }
            }
        }
    }
}

fn seen(view: &View) -> Model {
    let entry = |kv: &crate::KeyValue| {
        (kv.key.to_string(), (kv.value.as_i64().unwrap() as i32, kv.created, kv.modified))
    };
    view.range("k/").map(entry).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// The store does what a map with revisions does, through any commits and restarts, and a watch replays it.
    #[test]
    fn behaves_like_a_map(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let mut watch = store.watch(0);
        let mut replica: BTreeMap<String, i32> = BTreeMap::new();
        let (mut model, mut revision) = (Model::new(), 0u64);
        for step in steps {
            match step {
                Step::Commit(compares, ops) => {
                    let mut txn = Txn::new();
                    let mut holds = true;
                    for (key, compare) in compares {
                        let key = format!("k/{key}");
                        let known = model.get(&key);
                        match compare {
                            ModelCompare::Absent => { holds &= known.is_none(); txn = txn.expect_absent(key); }
                            ModelCompare::Present => { holds &= known.is_some(); txn = txn.expect_present(key); }
                            ModelCompare::At(off) => {
                                holds &= known.is_some() && off == 0;
                                let at = known.map_or(1, |k| k.2) + off;
                                txn = txn.expect_modified_at(key, at);
                            }
                        }
                    }
                    for (key, value) in &ops {
                        txn = match value {
                            Some(v) => txn.put(format!("k/{key}"), json!(v)),
                            None => txn.delete(format!("k/{key}")),
                        };
                    }
                    match store.commit(txn) {
                        Ok(at) => {
                            prop_assert!(holds);
                            model_commit(&mut model, &mut revision, &ops);
                            prop_assert_eq!(at, revision);
                        }
                        Err(CommitError::Conflict) => prop_assert!(!holds),
                        Err(e) => prop_assert!(false, "{}", e),
                    }
                }
                Step::Reopen => {
                    drop(watch);
                    drop(store);
                    store = Store::open(dir.path()).unwrap();
                    watch = store.watch(revision);
                }
            }
            prop_assert_eq!(store.view().revision(), revision);
            prop_assert_eq!(&seen(&store.view()), &model);
            match watch.next(Duration::ZERO) {
                Some(Changes::Events(events)) => for event in events {
                    match event.value {
                        Some(v) => replica.insert(event.key.to_string(), v.as_i64().unwrap() as i32),
                        None => replica.remove(&*event.key),
                    };
                },
                Some(Changes::Compacted(_)) => prop_assert!(false, "nothing was compacted"),
                None => {}
            }
            let values: BTreeMap<String, i32> = model.iter().map(|(k, v)| (k.clone(), v.0)).collect();
            prop_assert_eq!(&replica, &values);
        }
    }
}
