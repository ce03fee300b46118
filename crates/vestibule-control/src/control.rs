//! The control plane's heart: one change at a time, whole or not at all.
//!
//! Changes are serialised by one mutex around "read a view, build the change, commit". That is what makes checks such
//! as "no two subnetworks overlap" true, which no comparison on single documents can. The comparisons are put into
//! the transaction all the same: they are what will guard the same code when several processes share one store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vestibule_store::{CommitError, Revision, Store, View};

use crate::compute::{OperationLog, Vms};
use crate::lb::HealthTable;
use crate::{Change, Error, Planes, Settings};

/// How long a call that changes something waits for the data planes before it answers an operation that still runs.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The control plane. Cheap to clone; clones share state.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    store: Store,
    planes: Planes,
    settings: Settings,
    /// Held while a change is built and committed.
    turn: Mutex<()>,
    operations: OperationLog,
    vms: Vms,
    health: HealthTable,
}

impl Control {
    /// A control plane over an open store. Reads the store once.
    pub fn open(store: Store, settings: Settings) -> Control {
        let operations = OperationLog::read(&store.view());
        Control(Arc::new(Inner {
            store,
            planes: Planes::default(),
            settings,
            turn: Mutex::new(()),
            operations,
            vms: Vms::default(),
            health: HealthTable::default(),
        }))
    }

    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The committed state of this moment.
    pub fn view(&self) -> View {
        self.0.store.view()
    }

    pub fn planes(&self) -> &Planes {
        &self.0.planes
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The addresses that clients inside subnetworks hold.
    pub fn vms(&self) -> &Vms {
        &self.0.vms
    }

    /// What is known of the endpoints that are probed.
    pub fn health(&self) -> &HealthTable {
        &self.0.health
    }

    pub(crate) fn operations(&self) -> &OperationLog {
        &self.0.operations
    }

    /// Builds and commits one change, alone. Returns what `build` made and the revision of the commit; a change that
    /// stages nothing commits nothing and returns the revision it read. Blocks for the disk.
    ///
    /// Do not wait for the planes inside `build`.
    pub fn change<T>(
        &self,
        build: impl FnOnce(&mut Change<'_>) -> Result<T, Error>,
    ) -> Result<(T, Revision), Error> {
        let _turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.view();
        let base = view.revision();
        let mut change = Change::new(self, view);
        let made = build(&mut change)?;
        change.verify()?;
        let txn = change.into_txn();
        if txn.ops.is_empty() {
            return Ok((made, base));
        }
        let revision = self.0.store.commit(txn).map_err(refused)?;
        Ok((made, revision))
    }
}

fn refused(error: CommitError) -> Error {
    match error {
        CommitError::Conflict => {
            Error::Aborted { message: "The resource was changed by another request. Try again.".to_owned() }
        }
        CommitError::TooDeep(_) => Error::bad_request("Invalid JSON payload received. It nests too deeply."),
        error => Error::Unavailable { context: error.to_string() },
    }
}
