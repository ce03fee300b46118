//! The containers of one instance: started in order, watched, ended together.
//!
//! An instance of several containers starts them as they depend on each other: first those that depend on none, and
//! once all of those have passed their startup probes, those that depend on them, and so on. When one container ends,
//! for whatever reason, the instance is over: nothing can tell whether the others can go on without it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use vestibule_logs::{Severity, Stream};

use crate::desired::Container;
use crate::driver::{Driver, Exit, Failure, Handle, Order, Output, Pending, Started, end};
use crate::output::{Journal, Readers};
use crate::probe::{self, Place, Purpose};
use crate::throttle::Throttle;

/// How a program ends that has done its work.
const GOOD: Exit = Exit::Code(0);

/// A container that was started.
pub(crate) struct Part {
    pub(crate) container: Container,
    pub(crate) place: Place,
    handle: Box<dyn Handle>,
}

/// The containers of an instance that were started. What is left of them must be ended before it is dropped.
pub(crate) struct Pod {
    parts: Vec<Part>,
    journal: Journal,
    /// Where the output of containers is read.
    output: Readers,
    reading: Vec<JoinHandle<()>>,
    gone: watch::Sender<bool>,
    throttle: OnceLock<Arc<Throttle>>,
}

/// How the start of some containers ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Startup {
    /// All passed their probes.
    Ready,
    /// A container ended by itself: which, and how.
    Exited(usize, Exit),
    /// A container did not pass its probe in time.
    TimedOut(usize),
}

impl Pod {
    pub(crate) fn new(journal: Journal, output: Readers) -> Self {
        Self {
            parts: Vec::new(),
            journal,
            output,
            reading: Vec::new(),
            gone: watch::Sender::new(false),
            throttle: OnceLock::new(),
        }
    }

    /// Starts one container.
    pub(crate) async fn start(&mut self, driver: &dyn Driver, order: &Order) -> Result<&Part, Failure> {
        let Started { address, output, handle } = driver.start(order).await?;
        self.capture(output, &order.container.name);
        let place = Place { address, port: order.port };
        self.parts.push(Part { container: order.container.clone(), place, handle });
        Ok(&self.parts[self.parts.len() - 1])
    }

    fn capture(&mut self, output: Output, container: &str) {
        for (fd, stream) in [(output.stdout, Stream::Stdout), (output.stderr, Stream::Stderr)] {
            if let Some(fd) = fd {
                let journal = self.journal.of_container(container);
                let reading = self.output.read(fd, stream, journal, self.gone.subscribe());
                self.reading.push(reading);
            }
        }
    }

    pub(crate) fn part(&self, index: usize) -> &Part {
        &self.parts[index]
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Waits until the containers from the `first` on have passed their startup probes, or something went wrong.
    pub(crate) async fn until_ready(&self, first: usize) -> Startup {
        let probes = (first..self.len()).map(|at| -> Pending<'_, Option<usize>> { Box::pin(self.probe(at)) });
        let probes = probes.collect();
        tokio::select! {
            biased;
            (which, exit) = self.exited() => Startup::Exited(which, exit),
            failed = first_failure(probes) => failed.map_or(Startup::Ready, Startup::TimedOut),
        }
    }

    /// Waits until the containers from the `first` on have started, or something went wrong. For containers that run
    /// to their end: one that has done so well has started, too.
    pub(crate) async fn until_started(&self, first: usize) -> Startup {
        let starts =
            (first..self.len()).map(|at| -> Pending<'_, Option<Startup>> { Box::pin(self.start_of(at)) });
        let starts = starts.collect();
        let earlier =
            (0..first).map(|at| -> Pending<'_, (usize, Exit)> { Box::pin(self.bad_end_of(at)) }).collect();
        tokio::select! {
            biased;
            failed = first_failure(starts) => failed.unwrap_or(Startup::Ready),
            (which, exit) = race(earlier) => Startup::Exited(which, exit),
        }
    }

    async fn start_of(&self, at: usize) -> Option<Startup> {
        tokio::select! {
            biased;
            exit = self.parts[at].handle.exited() => (exit != GOOD).then_some(Startup::Exited(at, exit)),
            failed = self.probe(at) => failed.map(Startup::TimedOut),
        }
    }

    /// Waits until the containers that no other waits for have ended well, or any container has ended otherwise. Which,
    /// and how, if so.
    pub(crate) async fn until_done(&self) -> Option<(usize, Exit)> {
        let helps = |at: &usize| {
            let name = &self.parts[*at].container.name;
            self.parts.iter().any(|part| part.container.depends_on.contains(name))
        };
        let (helpers, workers): (Vec<usize>, Vec<usize>) = (0..self.len()).partition(helps);
        let ends = workers.into_iter().map(|at| -> Pending<'_, Option<(usize, Exit)>> {
            Box::pin(async move {
                let exit = self.parts[at].handle.exited().await;
                (exit != GOOD).then_some((at, exit))
            })
        });
        let ends = ends.collect();
        let helpers =
            helpers.into_iter().map(|at| -> Pending<'_, (usize, Exit)> { Box::pin(self.bad_end_of(at)) });
        tokio::select! {
            biased;
            bad = first_failure(ends) => bad,
            bad = race(helpers.collect()) => Some(bad),
        }
    }

    /// Completes when a container has ended otherwise than well.
    async fn bad_end_of(&self, at: usize) -> (usize, Exit) {
        match self.parts[at].handle.exited().await {
            GOOD => std::future::pending().await,
            exit => (at, exit),
        }
    }

    /// Waits until a container has passed its startup probe. If it does not: which it is.
    async fn probe(&self, at: usize) -> Option<usize> {
        let part = &self.parts[at];
        let probe = part.container.startup_probe.as_ref()?;
        if probe::until_ready(probe, part.place).await.is_err() {
            return Some(at);
        }
        let title = probe::title(Purpose::Startup, probe, part.place.port);
        let subject = probe::subject(&part.container, probe);
        self.journal.say(Severity::INFO, &format!("{title} succeeded after 1 attempt {subject}."));
        None
    }

    /// Waits until a container ends. Which, and how.
    pub(crate) async fn exited(&self) -> (usize, Exit) {
        let exited = |at: usize| -> Pending<'_, (usize, Exit)> {
            Box::pin(async move { (at, self.parts[at].handle.exited().await) })
        };
        race((0..self.len()).map(exited).collect()).await
    }

    /// Waits until a container fails its liveness probe. Which.
    pub(crate) async fn until_dead(&self) -> usize {
        let dead = |at: usize| -> Pending<'_, usize> { Box::pin(self.part_dead(at)) };
        race((0..self.len()).map(dead).collect()).await
    }

    async fn part_dead(&self, at: usize) -> usize {
        let part = &self.parts[at];
        let Some(probe) = &part.container.liveness_probe else { return std::future::pending().await };
        tokio::time::sleep(probe.initial_delay).await;
        probe::until_failed(probe, part.place).await;
        at
    }

    /// Process id of the first process of a container.
    pub(crate) fn pid(&self, index: usize) -> Option<u32> {
        self.parts[index].handle.pid()
    }

    /// Ends all containers by force. Returns when nothing of them is left.
    pub(crate) async fn kill(&self) {
        self.finish(Duration::ZERO).await;
    }

    /// Waits until the log has all that the containers wrote, for a moment at most. For when they have ended: whoever is
    /// told of the end may look at the log next.
    pub(crate) async fn drained(&mut self) {
        const LIMIT: Duration = Duration::from_secs(1);
        let all = async {
            for reading in self.reading.drain(..) {
                // An error says that it has ended too.
                let _ = reading.await;
            }
        };
        let _ = tokio::time::timeout(LIMIT, all).await;
    }

    /// Ends all containers: asks, waits for `grace`, then forces. Returns when nothing of them is left.
    pub(crate) async fn end(&self, grace: Duration) {
        self.finish(grace).await;
    }

    /// What takes the processors of its containers away. They get them back for their end.
    pub(crate) fn throttle(&self) -> Option<Arc<Throttle>> {
        let containers: Vec<_> = self.parts.iter().filter_map(|part| part.handle.processors()).collect();
        let throttle = (!containers.is_empty()).then(|| Arc::new(Throttle::new(containers)))?;
        Some(self.throttle.get_or_init(|| throttle).clone())
    }

    async fn finish(&self, grace: Duration) {
        if let Some(throttle) = self.throttle.get() {
            throttle.release();
        }
        let ends = self.parts.iter().map(|part| -> Pending<'_, Option<()>> { Box::pin(finish(part, grace)) });
        let ends = ends.collect();
        first_failure(ends).await;
        self.gone.send_replace(true);
    }

    /// Where the container at `index` is.
    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.parts[index].place.address
    }
}

/// Containers in waves: each depends only on containers of earlier ones. The numbers are places in `containers`.
///
/// Templates are checked before they get here; should two containers wait for each other all the same, they are started
/// last, together.
pub(crate) fn waves<'a>(containers: impl IntoIterator<Item = &'a Container>) -> Vec<Vec<usize>> {
    let mut left: BTreeMap<usize, &Container> = containers.into_iter().enumerate().collect();
    let mut waves = Vec::new();
    while !left.is_empty() {
        let waits = |container: &Container| {
            container.depends_on.iter().any(|name| left.values().any(|other| other.name == *name))
        };
        let free: Vec<usize> =
            left.iter().filter(|(_, container)| !waits(container)).map(|(at, _)| *at).collect();
        let wave = if free.is_empty() { left.keys().copied().collect() } else { free };
        left.retain(|at, _| !wave.contains(at));
        waves.push(wave);
    }
    waves
}

/// Ends one container; without `grace` by force.
async fn finish(part: &Part, grace: Duration) -> Option<()> {
    if grace.is_zero() {
        part.handle.kill().await;
        part.handle.exited().await;
    } else {
        end(&*part.handle, grace).await;
    }
    None
}

/// The first of some futures to complete; never, if there is none.
pub(crate) async fn race<T>(mut futures: Vec<Pending<'_, T>>) -> T {
    poll_fn(|context| {
        for future in &mut futures {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(value);
            }
        }
        Poll::Pending
    })
    .await
}

/// Completes with the first value that any of some futures has, or when all have completed without one.
async fn first_failure<T>(mut futures: Vec<Pending<'_, Option<T>>>) -> Option<T> {
    poll_fn(|context| {
        let mut found = None;
        futures.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(value) => {
                found = found.take().or(value);
                false
            }
            Poll::Pending => true,
        });
        match found {
            None if !futures.is_empty() => Poll::Pending,
            found => Poll::Ready(found),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    fn container(name: &str, depends_on: &[&str]) -> Container {
        let depends_on = depends_on.iter().map(|name| (*name).to_owned()).collect();
        Container { depends_on, ..Container::new(name, "i") }
    }

    #[test]
    fn containers_start_after_what_they_depend_on() {
        let of = |containers: &[Container]| waves(containers);
        assert_eq!(of(&[container("a", &[])]), [[0]]);
        let app = container("app", &["proxy", "cache"]);
        let list =
            [app, container("proxy", &["cache"]), container("cache", &[]), container("log", &["gone"])];
        assert_eq!(of(&list), [vec![2, 3], vec![1], vec![0]]);
        assert_eq!(
            of(&[container("a", &["b"]), container("b", &["a"]), container("c", &[])]),
            [vec![2], vec![0, 1]]
        );
    }

    #[tokio::test]
    async fn races_and_rows() {
        fn now<T: Send + 'static>(value: T) -> Pending<'static, T> {
            Box::pin(ready(value))
        }
        assert_eq!(race(vec![now(1), now(2)]).await, 1);
        assert_eq!(first_failure(vec![now(None), now(Some(2))]).await, Some(2));
        assert_eq!(first_failure::<u8>(vec![now(None), now(None)]).await, None);
        assert_eq!(first_failure::<u8>(Vec::new()).await, None);
        assert_eq!(
            first_failure(vec![Box::pin(pending()), now(Some(1)), Box::pin(pending())]).await,
            Some(1)
        );
    }
}
