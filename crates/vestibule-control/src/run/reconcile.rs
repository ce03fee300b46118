//! Keeps the runtime doing what the documents say, and the documents saying what the runtime does.
//!
//! One thread follows the store. Each time something changed it compiles everything, hands it to the runtime, which
//! obeys before it returns, acknowledges the revision, and then writes what is now so into the services. It takes no
//! input but the store and can run at any time with the same result, so it also runs by the clock, and after a restart
//! it starts from what it finds.
//!
//! What the runtime learns about a revision (it became ready, it failed) comes back as reports, which another thread
//! writes into the revision's document. That is a change like any other: the first thread sees it, moves traffic, and
//! only then calls the service ready. A third thread writes what becomes of the tasks of jobs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use vestibule_run::desired::{Desired, RevisionReport, RevisionState, TaskReport};
use vestibule_store::{Revision, View, Watch};

use super::annotation::SERVICE;
use super::name::{Kind, Name, Place};
use super::status::{self, Facts};
use super::traffic::Readiness;
use super::{compile, jobs, json, name, revision};
use crate::{Control, Error, Plane};

/// How long the reconciler sleeps when nothing happens. It then looks whether it should end.
const IDLE: Duration = Duration::from_millis(500);
/// How often everything is compiled and handed over although nothing changed, in sleeps: about once a minute.
const ROUTINE: u32 = 120;

/// Keys that matter here. Policies decide who may call.
const PREFIXES: [&str; 2] = ["run/", "policy/"];

/// What is told what should run.
pub trait Runtime: Send + 'static {
    /// Makes it so. Returns once every new request is treated by it; starting instances may take longer.
    fn apply(&self, desired: Desired);
}

impl<F: Fn(Desired) + Send + 'static> Runtime for F {
    fn apply(&self, desired: Desired) {
        self(desired);
    }
}

/// A running reconciler. Dropping it ends its threads; the runtime goes on as it was.
pub struct Reconciler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reconciler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the run reconciler had panicked");
        }
    }
}

/// Starts the reconciler. From now on operations wait for the runtime.
pub fn start(control: Control, runtime: impl Runtime) -> io::Result<Reconciler> {
    control.planes().register(Plane::Run);
    let stop = Arc::new(AtomicBool::new(false));
    let thread = std::thread::Builder::new().name("run-reconciler".to_owned()).spawn({
        let stop = Arc::clone(&stop);
        move || follow(&control, &runtime, &stop)
    })?;
    Ok(Reconciler { stop, thread: Some(thread) })
}

/// Writes reports into documents until `next` has none left. Ends by itself when the runtime does.
pub fn start_reports(
    control: Control,
    mut next: impl FnMut() -> Option<RevisionReport> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("run-reports".to_owned()).spawn(move || {
        while let Some(report) = next() {
            if let Err(error) = record(&control, &report) {
                let context = error.context().unwrap_or_default();
                tracing::error!(revision = %report.revision, %error, context, "a report could not be written");
            }
        }
    })
}

/// Writes what becomes of tasks until `next` brings nothing more: all that it brings at once in one change, since tasks
/// may start and end by the hundred. Ends by itself when the runtime does.
pub fn start_task_reports(
    control: Control,
    mut next: impl FnMut() -> Vec<TaskReport> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("task-reports".to_owned()).spawn(move || {
        loop {
            let reports = next();
            if reports.is_empty() {
                return;
            }
            if let Err(error) = jobs::record::record(&control, &reports) {
                let context = error.context().unwrap_or_default();
                tracing::error!(%error, context, "reports about tasks could not be written");
            }
        }
    })
}

fn follow(control: &Control, runtime: &impl Runtime, stop: &AtomicBool) {
    let mut view = control.view();
    let mut watch: Watch = control.store().watch(view.revision());
    let mut idle = 0;
    // What a state of before the start left behind is applied first.
    let mut relevant = true;
    while !stop.load(Ordering::Relaxed) {
        if relevant {
            runtime.apply(compile::desired(&view));
        }
        // The view may be newer than what was looked at; what it has beyond comes next.
        control.planes().ack(Plane::Run, watch.revision());
        if relevant && let Err(error) = settle(control, &view) {
            let context = error.context().unwrap_or_default();
            // The routine run tries again.
            tracing::error!(%error, context, "the status of services could not be written");
        }
        relevant = match watch.next(IDLE) {
            Some(changes) => PREFIXES.iter().any(|prefix| changes.touch(prefix)),
            None => {
                idle += 1;
                idle % ROUTINE == 0
            }
        };
        view = control.view();
    }
}

/// Writes what is so into every service that the runtime obeys as of `applied`.
fn settle(control: &Control, applied: &View) -> Result<(), Error> {
    // Most often there is nothing to write: find that out without taking a turn.
    if stale(applied, applied.revision()).is_empty() {
        return Ok(());
    }
    control.change(|change| {
        for (name, service) in stale(change.view(), applied.revision()) {
            change.put(&name.key(Kind::Service), service);
        }
        Ok(())
    })?;
    Ok(())
}

/// Services whose status does not say what is so, as they should be. What was changed after `applied` is left for the
/// next time: the runtime does not obey that yet.
fn stale(view: &View, applied: Revision) -> Vec<(Name, serde_json::Value)> {
    let mut found = Vec::new();
    for bundle in revision::bundles(view) {
        let revisions = bundle.revisions.iter().map(|(_, revision)| revision);
        if revisions.chain([&bundle.service]).any(|kv| kv.modified > applied) {
            continue;
        }
        let facts = Facts::new(&bundle.name, bundle.revision_documents());
        let mut service = (*bundle.service.value).clone();
        if status::observe(&mut service, &facts, jiff::Timestamp::now()) {
            found.push((bundle.name, service));
        }
    }
    found
}

/// Writes one report into its revision.
pub(super) fn record(control: &Control, report: &RevisionReport) -> Result<(), Error> {
    let (readiness, digest) = match &report.state {
        RevisionState::Deploying => (Readiness::Deploying, None),
        RevisionState::Ready { image_digest } => (Readiness::Ready, Some(image_digest.as_str())),
        RevisionState::Failed { reason, message } => {
            (Readiness::Failed { reason: reason.clone(), message: message.clone() }, None)
        }
    };
    let key = &report.service;
    let place = Place { project: &key.project, location: Some(&key.region) };
    control.change(|change| {
        // A report may come after its service is gone.
        let Ok(name) = name::locate(change.view(), place, Kind::Revision, &report.revision) else {
            return Ok(());
        };
        let document_key = name.key(Kind::Revision);
        let Some(stored) = change.get(&document_key) else { return Ok(()) };
        let own = json::text(&stored, &["metadata", "labels", SERVICE]) == Some(&*key.name);
        // What is ready stays so: a revision is proven once.
        if !own || (revision::readiness(&stored) == Readiness::Ready && readiness != Readiness::Ready) {
            return Ok(());
        }
        let mut document = (*stored).clone();
        if revision::observe(&mut document, &readiness, digest, change.now()) {
            change.put(&document_key, document);
        }
        Ok(())
    })?;
    Ok(())
}
