//! The load balancer's reconciler: keeps the proxy serving what the documents say.
//!
//! One thread follows the store. When something that matters changed, it compiles everything the proxy serves into one
//! snapshot, hands it over, waits until every worker obeys it, reports what could not be done to the operations that
//! asked for it, and only then acknowledges the revision. What did not change is the very same object in the next
//! snapshot, so that a change costs what it touches.
//!
//! [`start`] applies the state it finds before it returns: after a restart the proxy serves before the API answers.

mod compile;
mod endpoints;
mod explain;
mod fronts;
mod health;
mod memo;
mod service;
#[cfg(test)]
mod tests;
mod tls;

pub use compile::{Compiled, Compiler};
pub(crate) use endpoints::Sources;
pub use explain::{Explanation, Live, Outcome, Question, Resolve, Share};
pub use fronts::{Fronts, GOOGLE_APIS};
pub use health::HealthTable;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vestibule_health::{Name, Prober, Target};
use vestibule_model::ResourceName;
use vestibule_proxy::snapshot::{Listener, Snapshot};
use vestibule_proxy::{ListenerError, Proxy};
use vestibule_store::{Revision, View, Watch};

use crate::{Control, Error, Plane};

/// How long the reconciler sleeps when nothing happens. It then looks whether it should end.
const IDLE: Duration = Duration::from_millis(500);

/// How long a listener that could not be opened is left alone before it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is told what to serve.
pub trait LoadBalancer: Send + 'static {
    /// Serves the snapshot. Returns once every new request is treated by it, with the listeners that could not be
    /// opened; everything else is served.
    fn apply(&self, snapshot: Snapshot) -> Result<(), Vec<ListenerError>>;
}

impl<F: Fn(Snapshot) -> Result<(), Vec<ListenerError>> + Send + 'static> LoadBalancer for F {
    fn apply(&self, snapshot: Snapshot) -> Result<(), Vec<ListenerError>> {
        self(snapshot)
    }
}

impl LoadBalancer for Arc<Proxy> {
    fn apply(&self, snapshot: Snapshot) -> Result<(), Vec<ListenerError>> {
        Proxy::apply(self, snapshot)
    }
}

/// What is told whom to probe.
pub trait HealthChecks: Send + 'static {
    /// From now on exactly these are probed, and these names looked up.
    fn apply(&self, targets: Vec<Target>, names: Vec<Name>);
}

impl HealthChecks for Prober {
    fn apply(&self, targets: Vec<Target>, names: Vec<Name>) {
        Prober::apply(self, targets, names);
    }
}

impl<F: Fn(Vec<Target>, Vec<Name>) + Send + 'static> HealthChecks for F {
    fn apply(&self, targets: Vec<Target>, names: Vec<Name>) {
        self(targets, names);
    }
}

/// A running reconciler. Dropping it ends its thread; the load balancer goes on as it was.
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
            tracing::error!("the load balancer's reconciler had panicked");
        }
    }
}

/// Applies the present state and starts the reconciler. From now on operations wait for the load balancer. `fronts` are
/// the entrances to the default URLs, which no document asks for.
pub fn start(
    control: Control,
    balancer: impl LoadBalancer,
    checks: impl HealthChecks,
    fronts: Fronts,
) -> io::Result<Reconciler> {
    control.planes().register(Plane::Lb);
    let view = control.view();
    let watch = control.store().watch(view.revision());
    let compiler = Compiler::new(&view, control.health().clone());
    let mut follower = Follower { control, balancer, checks, fronts, compiler, retry_at: None };
    follower.apply(&view, view.revision());
    follower.control.planes().ack(Plane::Lb, view.revision());
    let stop = Arc::new(AtomicBool::new(false));
    let thread = std::thread::Builder::new().name("lb-reconciler".to_owned()).spawn({
        let stop = Arc::clone(&stop);
        move || follower.follow(watch, &stop)
    })?;
    Ok(Reconciler { stop, thread: Some(thread) })
}

struct Follower<B, H> {
    control: Control,
    balancer: B,
    checks: H,
    fronts: Fronts,
    compiler: Compiler,
    /// Something could not be done; try again then.
    retry_at: Option<Instant>,
}

impl<B: LoadBalancer, H: HealthChecks> Follower<B, H> {
    fn follow(mut self, mut watch: Watch, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let changes = watch.next(IDLE);
            // The view is at least as new as the watch. What it has beyond is not acknowledged, and comes next.
            let view = self.control.view();
            let relevant = changes.as_ref().is_some_and(|changes| self.compiler.observe(changes, &view));
            if relevant || self.retry_at.is_some_and(|at| Instant::now() >= at) {
                self.apply(&view, watch.revision());
            }
            self.control.planes().ack(Plane::Lb, watch.revision());
        }
    }

    /// Compiles the view and hands it over. `revision` is what will be acknowledged.
    fn apply(&mut self, view: &View, revision: Revision) {
        let Compiled { listeners, mut failures, targets, names } = self.compiler.compile(view);
        // First, so that a new endpoint is known as soon as it can be.
        self.checks.apply(targets, names);
        let rules: Vec<ResourceName> = listeners.iter().map(|(rule, _)| rule.clone()).collect();
        let listeners: Vec<_> = listeners.into_iter().map(|(_, listener)| listener).collect();
        let snapshot = Snapshot {
            generation: view.revision(),
            listeners: listeners.clone(),
            fronts: self.fronts.of(view),
        };
        if let Err(errors) = self.balancer.apply(snapshot) {
            for error in errors {
                // An entrance to default URLs is no rule's.
                tracing::error!(error = %error, source = %error.source, "a listener could not be opened");
                let at = listeners.iter().position(|listener| is_of(listener, &error));
                failures.extend(at.map(|at| (rules[at].clone(), refused(&error))));
            }
        }
        self.retry_at = (!failures.is_empty()).then(|| Instant::now() + RETRY);
        self.report(&failures, revision);
    }

    fn report(&self, failures: &[(ResourceName, Error)], revision: Revision) {
        for (rule, error) in failures {
            let context = error.context().unwrap_or_default();
            tracing::error!(%rule, %error, context, "a forwarding rule cannot be served");
        }
        if let Err(error) = self.control.compute().report_failures(failures, revision) {
            let context = error.context().unwrap_or_default();
            tracing::error!(%error, context, "operations could not be told of a failure");
        }
    }
}

fn is_of(listener: &Listener, error: &ListenerError) -> bool {
    error.network.as_ref() == Some(&listener.network) && error.address == (listener.ip, listener.port).into()
}

fn refused(error: &ListenerError) -> Error {
    let network = error.network.as_ref().map(|network| network.short()).unwrap_or_default();
    let (ip, port) = (error.address.ip(), error.address.port());
    let message = format!(
        "The load balancer cannot listen on {ip} port {port} of network '{network}': {}",
        error.source
    );
    Error::FailedPrecondition { message }
}
