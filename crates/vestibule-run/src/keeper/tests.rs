use super::fake::{Start, World, revision};
use super::*;
use crate::desired::RevisionReport;

use crate::refusal::Cause;
use crate::registry::InstanceState;
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::time::{sleep, sleep_until};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Waits in line with so much time.
async fn acquire(world: &World, time: Duration) -> Result<Lease, Refusal> {
    match world.pool.try_acquire(None) {
        Some(lease) => Ok(lease),
        None => world.pool.wait(Instant::now() + time).await,
    }
}

/// The status of the refusal, and after how long it came.
async fn refused(world: &World, time: Duration) -> (Cause, u16, Duration) {
    let start = Instant::now();
    let refusal = acquire(world, time).await.expect_err("was let in");
    (refusal.cause, refusal.status, start.elapsed())
}

fn states(world: &World) -> Vec<RevisionState> {
    std::iter::from_fn(|| world.reports.try_recv()).map(|RevisionReport { state, .. }| state).collect()
}

/// Lets the keeper do what it has to do now.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

fn close(left: Duration, right: Duration) -> bool {
    left.abs_diff(right) < Duration::from_millis(20)
}

#[tokio::test(start_paused = true)]
async fn a_burst_from_zero_is_served_whole_by_as_few_as_it_takes() {
    for (requests, concurrency, expected) in [(1_000, 80, 13), (200, 80, 3), (100, 1, 100)] {
        let world = Arc::new(World::new(Revision { concurrency, ..revision() }));
        let load: Arc<Mutex<HashMap<Arc<str>, u32>>> = Arc::default();
        let tasks = (0..requests).map(|_| {
            let (world, load) = (world.clone(), load.clone());
            tokio::spawn(async move {
                let lease = acquire(&world, 300 * SECOND).await.unwrap();
                let id = lease.instance_id.clone();
                let now = {
                    let mut load = load.lock().unwrap();
                    let count = load.entry(id.clone()).or_default();
                    *count += 1;
                    *count
                };
                assert!(now <= concurrency, "{now} requests at once in one instance");
                sleep(SECOND).await;
                *load.lock().unwrap().get_mut(&id).unwrap() -= 1;
                drop(lease);
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let (starts, running, peak) = world.driver.counts();
        assert_eq!((starts, running, peak), (expected, expected, expected), "{requests} requests");
    }
}

#[tokio::test(start_paused = true)]
async fn goes_back_to_zero_after_the_idle_timeout_and_not_before() {
    let world = World::new(revision());
    let lease = acquire(&world, HOUR).await.unwrap();
    // Longer than the idle timeout: a request in it keeps an instance.
    sleep(HOUR).await;
    assert_eq!(world.driver.counts().1, 1);
    let ended = Instant::now();
    drop(lease);
    sleep_until(ended + 900 * SECOND - SECOND).await;
    assert_eq!(world.driver.counts().1, 1, "gone too soon");
    sleep_until(ended + 900 * SECOND + SECOND).await;
    assert_eq!(world.driver.counts().1, 0, "kept too long");
    assert!(world.registry.list().is_empty());
    // And from zero again.
    drop(acquire(&world, HOUR).await.unwrap());
    assert_eq!(world.driver.counts().0, 2);
}

#[tokio::test(start_paused = true)]
async fn minimum_is_kept_warm_and_replaced_after_a_crash() {
    let world = World::new(Revision { min_instances: 2, ..revision() });
    sleep(HOUR).await;
    assert_eq!(world.driver.counts(), (2, 2, 2));
    assert!(world.pool.try_acquire(None).is_some(), "a warm instance has to be there at once");
    world.driver.crash();
    sleep(SECOND).await;
    assert_eq!(world.driver.counts().1, 2);
    let warm = Arc::new(Revision { min_instances: 0, ..world.revision.clone() });
    world.tell(Command::Update { service: world.service.clone(), revision: warm, reachable: true });
    sleep(HOUR).await;
    assert_eq!(world.driver.counts().1, 0);
}

#[tokio::test(start_paused = true)]
async fn at_the_maximum_the_wait_ends_with_429_after_ten_seconds() {
    let world = World::new(Revision { concurrency: 1, max_instances: 1, ..revision() });
    let _held = acquire(&world, HOUR).await.unwrap();
    let (cause, status, waited) = refused(&world, 300 * SECOND).await;
    assert_eq!((cause, status), (Cause::Saturated, 429));
    assert!(close(waited, 10 * SECOND), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_starts_allow_longer_waits() {
    let world = World::new(Revision { concurrency: 1, max_instances: 1, ..revision() });
    world.driver.set(Start::After(4 * SECOND));
    let _held = acquire(&world, HOUR).await.unwrap();
    let (_, status, waited) = refused(&world, 300 * SECOND).await;
    assert_eq!(status, 429);
    assert!(close(waited, 14 * SECOND), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn below_the_maximum_a_slow_start_ends_the_wait_with_500() {
    let world = World::new(Revision { concurrency: 1, max_instances: 2, ..revision() });
    world.driver.set(Start::After(SECOND));
    let held = acquire(&world, HOUR).await.unwrap();
    world.driver.set(Start::After(100 * SECOND));
    let (_, status, waited) = refused(&world, 300 * SECOND).await;
    // Both instances that are allowed exist, one of them is not ready.
    assert_eq!(status, 429);
    assert!(close(waited, 10 * SECOND), "{waited:?}");
    drop(held);

    let world = World::new(Revision { concurrency: 1, max_instances: 3, ..revision() });
    world.driver.set(Start::After(SECOND));
    let _held = acquire(&world, HOUR).await.unwrap();
    world.driver.set(Start::After(100 * SECOND));
    let (cause, status, waited) = refused(&world, 300 * SECOND).await;
    assert_eq!((cause, status), (Cause::TooSlow, 500));
    assert!(close(waited, 10 * SECOND), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn the_own_deadline_ends_the_wait_with_504() {
    let world = World::new(Revision { concurrency: 1, max_instances: 1, ..revision() });
    let _held = acquire(&world, HOUR).await.unwrap();
    let (cause, status, waited) = refused(&world, 3 * SECOND).await;
    assert_eq!((cause, status), (Cause::Timeout, 504));
    assert!(close(waited, 3 * SECOND), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_order() {
    let world = Arc::new(World::new(Revision { concurrency: 1, max_instances: 1, ..revision() }));
    let order: Arc<Mutex<Vec<u32>>> = Arc::default();
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (world_of_task, order) = (world.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let lease = acquire(&world_of_task, HOUR).await.unwrap();
            order.lock().unwrap().push(number);
            sleep(Duration::from_millis(100)).await;
            drop(lease);
        }));
        settle().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(world.driver.counts().0, 1);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_line_takes_no_slot_and_starts_no_instance() {
    let world = World::new(Revision { concurrency: 1, max_instances: 2, ..revision() });
    let held = acquire(&world, HOUR).await.unwrap();
    world.driver.set(Start::Never);
    for _ in 0..50 {
        let impatient = tokio::time::timeout(Duration::from_millis(10), acquire(&world, HOUR));
        assert!(impatient.await.is_err());
    }
    settle().await;
    assert_eq!(world.pool.signals.interest.load(Ordering::SeqCst), 0, "someone who left still counts");
    assert_eq!(world.driver.counts().0, 2);
    drop(held);
    assert!(world.pool.try_acquire(None).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_start_ends_the_wait_with_503_and_is_not_tried_all_the_time() {
    for start in [Start::Exits, Start::Fails { transient: true }] {
        let world = World::new(revision());
        world.driver.set(start);
        let (cause, status, waited) = refused(&world, 300 * SECOND).await;
        assert_eq!((cause, status), (Cause::StartFailed, 503));
        assert!(waited < SECOND, "{waited:?}");
        let at_once = refused(&world, 300 * SECOND).await;
        assert_eq!((at_once.1, at_once.2 < Duration::from_millis(20)), (503, true), "{at_once:?}");
        // Steady traffic on a broken program for ten minutes.
        for _ in 0..600 {
            assert_eq!(refused(&world, 300 * SECOND).await.1, 503);
            sleep(SECOND).await;
        }
        let (starts, running, _) = world.driver.counts();
        assert!((30..90).contains(&starts), "{starts} starts");
        assert_eq!(running, 0);
        // It recovers when the program does.
        world.driver.set(Start::After(SECOND));
        sleep(11 * SECOND).await;
        drop(acquire(&world, 300 * SECOND).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_that_never_listens_is_given_its_time_then_refused() {
    let world = World::new(revision());
    world.driver.set(Start::Never);
    *world.driver.ignores_sigterm.lock().unwrap() = true;
    let (cause, status, waited) = refused(&world, 300 * SECOND).await;
    assert_eq!((cause, status), (Cause::StartFailed, 503));
    assert!(waited <= probe::MAX_STARTUP + SECOND, "{waited:?}");
    assert_eq!(world.registry.list()[0].state, InstanceState::Stopping);
    sleep(11 * SECOND).await;
    assert!(world.registry.list().is_empty());
    assert_eq!(world.driver.ends(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_replaced_when_it_is_needed() {
    let world = World::new(revision());
    drop(acquire(&world, HOUR).await.unwrap());
    sleep(60 * SECOND).await;
    world.driver.crash();
    settle().await;
    assert!(world.registry.list().is_empty());
    assert_eq!(world.driver.counts().0, 1, "nobody asked for another");
    drop(acquire(&world, HOUR).await.unwrap());
    assert_eq!(world.driver.counts().0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_with_a_minimum_is_bounded() {
    let world = World::new(Revision { min_instances: 1, ..revision() });
    world.driver.set(Start::After(Duration::from_millis(10)));
    let end = Instant::now() + 600 * SECOND;
    while Instant::now() < end {
        sleep(Duration::from_millis(50)).await;
        world.driver.crash();
    }
    let starts = world.driver.counts().0;
    assert!((30..120).contains(&starts), "{starts} starts");
}

#[tokio::test(start_paused = true)]
async fn a_new_revision_is_proved_by_one_instance() {
    let world = World::new(Revision { proven: false, ..revision() });
    settle().await;
    assert_eq!(states(&world), [RevisionState::Deploying]);
    sleep(SECOND).await;
    assert_eq!(states(&world), [RevisionState::Ready { image_digest: "fake@sha256:00".into() }]);
    assert_eq!(world.driver.counts(), (1, 1, 1));
    sleep(HOUR).await;
    assert_eq!(world.driver.counts(), (1, 0, 1), "kept without need");
    assert_eq!(states(&world), []);
}

#[tokio::test(start_paused = true)]
async fn a_new_revision_is_ready_with_its_minimum() {
    let unproven = || Revision { proven: false, min_instances: 3, ..revision() };
    let ready = [RevisionState::Ready { image_digest: "fake@sha256:00".into() }];
    let world = World::new(unproven());
    world.driver.set(Start::InTurn(10 * SECOND));
    sleep(29 * SECOND).await;
    assert_eq!(states(&world), [RevisionState::Deploying], "two are there");
    sleep(2 * SECOND).await;
    assert_eq!(states(&world), ready);
    assert_eq!(world.driver.counts(), (3, 3, 3));

    // Trouble with the others does not take the deployment back.
    let world = World::new(unproven());
    world.driver.set(Start::InTurn(10 * SECOND));
    sleep(11 * SECOND).await;
    assert_eq!(states(&world), [RevisionState::Deploying]);
    world.driver.crash();
    sleep(SECOND).await;
    assert_eq!(states(&world), ready);
}

#[tokio::test(start_paused = true)]
async fn a_proven_revision_is_not_started_until_it_is_needed() {
    let world = World::new(revision());
    sleep(HOUR).await;
    assert_eq!(world.driver.counts().0, 0);
    assert_eq!(states(&world), []);
}

#[tokio::test(start_paused = true)]
async fn a_new_revision_that_does_not_start_is_told_and_left_alone() {
    let unproven = || Revision { proven: false, min_instances: 1, ..revision() };
    let world = World::new(unproven());
    world.driver.set(Start::Fails { transient: false });
    settle().await;
    let failed = RevisionState::Failed { reason: "Reason".into(), message: "It fails.".into() };
    assert_eq!(states(&world), [failed]);
    assert_eq!(refused(&world, 300 * SECOND).await.1, 503);
    sleep(HOUR).await;
    assert_eq!(world.driver.counts().0, 1);

    let world = World::new(unproven());
    world.driver.set(Start::Exits);
    sleep(SECOND).await;
    let [RevisionState::Failed { reason, message }] = &states(&world)[..] else { panic!("not told") };
    assert_eq!(reason, "HealthCheckContainerError");
    let expected = "Cloud Run error: The user-provided container failed to start and listen on the port defined \
                    provided by the PORT=8080 environment variable. Logs for this revision might contain more \
                    information.\n\nLogs URL: https://console.cloud.google.com/logs/viewer?project=p&resource=\
                    cloud_run_revision/service_name/svc/revision_name/svc-1&advancedFilter=";
    assert!(message.starts_with(expected), "{message}");
    assert_eq!(world.driver.counts().0, 2, "tried once more, in case it was not its fault");

    let world = World::new(unproven());
    world.driver.set(Start::Never);
    sleep(241 * SECOND).await;
    assert!(matches!(&states(&world)[..], [RevisionState::Failed { .. }]));
    assert_eq!(world.driver.counts(), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_retired_revision_serves_what_is_in_it_and_ends() {
    let world = World::new(Revision { concurrency: 1, max_instances: 1, min_instances: 1, ..revision() });
    let held = acquire(&world, HOUR).await.unwrap();
    let (waiting, ()) = tokio::join!(acquire(&world, HOUR), async {
        settle().await;
        world.tell(Command::Retire);
        sleep(5 * SECOND).await;
        assert_eq!(world.driver.counts().1, 1, "a request was cut");
        drop(held);
    });
    let lease = waiting.expect("who was in line is still served");
    sleep(5 * SECOND).await;
    assert!(!world.keeper.is_finished());
    drop(lease);
    settle().await;
    assert_eq!(world.driver.counts(), (1, 0, 1));
    assert!(world.keeper.is_finished());
    assert!(acquire(&world, HOUR).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn retiring_ends_a_start_that_nobody_waits_for() {
    let world = World::new(Revision { proven: false, ..revision() });
    world.driver.set(Start::Never);
    settle().await;
    assert_eq!(world.driver.counts().1, 1);
    world.tell(Command::Retire);
    settle().await;
    assert_eq!(world.driver.counts().1, 0);
    // A request may have been sent its way before it heard.
    sleep(2 * SECOND).await;
    assert!(world.keeper.is_finished());
}

#[tokio::test(start_paused = true)]
async fn who_was_sent_to_a_revision_that_goes_is_served() {
    let world = World::new(revision());
    settle().await;
    world.tell(Command::Retire);
    settle().await;
    let late = acquire(&world, HOUR).await;
    assert!(late.is_ok(), "{late:?}");
    drop(late);
    sleep(5 * SECOND).await;
    assert_eq!(world.driver.counts().1, 0);
    assert!(world.keeper.is_finished());
}

#[tokio::test(start_paused = true)]
async fn closing_ends_everything_by_force_if_need_be() {
    let world = World::new(Revision { min_instances: 3, concurrency: 1, max_instances: 3, ..revision() });
    *world.driver.ignores_sigterm.lock().unwrap() = true;
    sleep(SECOND).await;
    let leases: Vec<_> = std::iter::from_fn(|| world.pool.try_acquire(None)).collect();
    assert_eq!(leases.len(), 3);
    let start = Instant::now();
    let (waiting, ()) = tokio::join!(acquire(&world, HOUR), async {
        settle().await;
        world.closing.send_replace(true);
    });
    assert_eq!(waiting.unwrap_err().cause, Cause::ShuttingDown);
    let states: Vec<_> = world.registry.list().iter().map(|status| status.state).collect();
    assert_eq!(states, [InstanceState::Stopping; 3]);
    let World { keeper, driver, .. } = world;
    keeper.await.unwrap();
    assert!(close(start.elapsed(), 10 * SECOND), "{:?}", start.elapsed());
    assert_eq!((driver.counts().1, driver.ends()), (0, (3, 3)));
}

/// Requests arrive just when instances go idle, from threads that share nothing with the keeper's, thousands of times.
#[test]
fn no_request_is_lost_while_scaling_down() {
    const TRIALS: usize = 2_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = runtime.block_on(async {
        let two = Revision { concurrency: 2, max_instances: 3, ..revision() };
        World::with_idle_timeout(two, Duration::from_millis(1))
    });
    world.driver.set(Start::After(Duration::ZERO));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let world = &world;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                // Neither timers nor sockets: the way to a slot must not need the caller's runtime to have them.
                let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for trial in 0..TRIALS {
                    let lease = bare.block_on(acquire(world, HOUR));
                    let lease = lease.unwrap_or_else(|refusal| panic!("trial {trial}: {refusal:?}"));
                    world.driver.using(&lease.instance_id);
                    std::thread::yield_now();
                    world.driver.used(&lease.instance_id);
                    drop(lease);
                    let pause = Duration::from_micros(random.u64(..3_000));
                    let start = std::time::Instant::now();
                    while start.elapsed() < pause {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    let (starts, _, peak) = world.driver.counts();
    assert!(starts > 200, "instances never went away: {starts} starts");
    assert!(peak <= 3, "{peak} at once");
    runtime.shutdown_background();
}
