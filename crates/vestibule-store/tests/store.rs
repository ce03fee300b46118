//! The store as its users see it.

use serde_json::json;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use vestibule_store::{Changes, CommitError, MAX_DEPTH, OpenError, SCHEMA_VERSION, Store, Txn};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn documents_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let document =
        json!({"name": "ü\u{0}\"", "n": 1.5, "big": 18446744073709551615u64, "list": [null, true]});
    assert_eq!(store.commit(Txn::new().put("a/ü", document.clone())).unwrap(), 1);
    assert_eq!(store.commit(Txn::new().put("b", json!(2)).put("c", json!(3))).unwrap(), 2);
    assert_eq!(store.commit(Txn::new().delete("b")).unwrap(), 3);
    let before: Vec<_> = store.view().range("").cloned().collect();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.view().revision(), 3);
    assert_eq!(store.view().range("").cloned().collect::<Vec<_>>(), before);
    assert_eq!(*store.view().get("a/ü").unwrap().value, document);
}

#[test]
fn one_process_holds_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let second = Store::open(dir.path()).unwrap_err();
    assert!(matches!(second, OpenError::Locked { holder: Some(pid), .. } if pid == std::process::id()));
    assert!(second.to_string().contains("is in use by process"), "{second}");
    let watch = store.watch(0);
    drop(store);
    assert!(Store::open(dir.path()).is_err(), "a watch keeps the store open");
    drop(watch);
    Store::open(dir.path()).expect("released at once");
}

#[test]
fn a_newer_schema_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let database = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    database.execute("UPDATE meta SET value = ?1 WHERE name = 'schema'", [SCHEMA_VERSION + 1]).unwrap();
    drop(database);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::NewerSchema { found, .. } if found == SCHEMA_VERSION + 1), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("state.db"),
        "not a database, and long enough to have a header ".repeat(100),
    )
    .unwrap();
    assert!(matches!(Store::open(dir.path()), Err(OpenError::Database(..))));
}

#[test]
fn the_state_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("deep/state");
    let store = Store::open(&state).unwrap();
    store.commit(Txn::new().put("a", json!(1))).unwrap();
    assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for file in ["state.db", "state.db-wal"] {
        assert_eq!(state.join(file).metadata().unwrap().permissions().mode() & 0o077, 0, "{file}");
    }
}

#[test]
fn compares_guard_a_transaction_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let at = store.commit(Txn::new().expect_absent("a").put("a", json!(1))).unwrap();
    let stale = Txn::new().expect_present("a").expect_modified_at("a", at + 1).put("b", json!(1)).delete("a");
    assert!(matches!(store.commit(stale), Err(CommitError::Conflict)));
    assert!(matches!(store.commit(Txn::new().expect_absent("a")), Err(CommitError::Conflict)));
    assert!(matches!(store.commit(Txn::new().expect_present("z")), Err(CommitError::Conflict)));
    assert_eq!((store.view().revision(), store.view().len()), (1, 1));
    assert_eq!(
        store.commit(Txn::new().expect_modified_at("a", at)).unwrap(),
        1,
        "only compares: no new revision"
    );
    assert_eq!(store.commit(Txn::new().expect_modified_at("a", at).put("a", json!(2))).unwrap(), 2);
}

#[test]
fn what_could_not_be_read_back_is_not_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let deep = (0..MAX_DEPTH + 1).fold(json!(1), |inner, _| json!({ "x": inner }));
    assert!(matches!(store.commit(Txn::new().put("deep", deep)), Err(CommitError::TooDeep(_))));
    let fits = (0..MAX_DEPTH).fold(json!(1), |inner, _| json!({ "x": inner }));
    store.commit(Txn::new().put("fits", fits)).unwrap();
    drop(store);
    assert_eq!(Store::open(dir.path()).unwrap().view().len(), 1);
}

#[test]
fn racing_writers_of_one_document_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(Txn::new().put("n", json!(0))).unwrap();
    const THREADS: u64 = 8;
    const EACH: u64 = 25;
    let mut watch = store.watch(1);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    loop {
                        let view = store.view();
                        let kv = view.get("n").unwrap();
                        let next = json!(kv.value.as_u64().unwrap() + 1);
                        let txn = Txn::new().expect_modified_at("n", kv.modified).put("n", next);
                        match store.commit(txn) {
                            Ok(revision) => {
                                assert!(store.view().revision() >= revision, "acknowledged means visible");
                                break;
                            }
                            Err(CommitError::Conflict) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(*store.view().get("n").unwrap().value, json!(THREADS * EACH));
    let mut expected = 1;
    while let Some(Changes::Events(events)) = watch.next(Duration::ZERO) {
        for event in events {
            assert_eq!(event.value.unwrap().as_u64(), Some(expected), "in order, none missing, none twice");
            assert_eq!(event.revision, expected + 1);
            expected += 1;
        }
    }
    assert_eq!(expected, THREADS * EACH + 1);
}

#[test]
fn a_waiting_watch_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut watch = store.watch(store.view().revision());
    assert_eq!(watch.next(Duration::from_millis(1)), None);
    let waiter = std::thread::spawn(move || (watch.next(SOON), watch.revision()));
    store.commit(Txn::new().put("x/1", json!(1)).put("y/1", json!(1))).unwrap();
    let (changes, revision) = waiter.join().unwrap();
    let changes = changes.unwrap();
    assert!(changes.touch("x/") && changes.touch("y/") && !changes.touch("z/"));
    assert_eq!((changes.revision(), revision), (1, 1));
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_task_can_wait_for_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut watch = store.watch(0);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    {
        let mut changed = std::pin::pin!(watch.changed());
        assert!(changed.as_mut().poll(&mut context).is_pending());
        let committer = store.clone();
        let thread = std::thread::spawn(move || committer.commit(Txn::new().put("x", json!(1))).unwrap());
        while changed.as_mut().poll(&mut context) == Poll::Pending {
            std::thread::park_timeout(SOON);
        }
        thread.join().unwrap();
    }
    assert!(watch.next(Duration::ZERO).is_some());
}
