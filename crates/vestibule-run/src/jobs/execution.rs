//! One execution: which task runs when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Course;
use super::attempt::{Attempt, Outcome};
use crate::desired::{Execution, TaskFailure, TaskReport, TaskState};
use crate::keeper::Context;

/// Tasks of one execution that run at once at most, whatever is asked for: this is one machine.
const MAX_AT_ONCE: u32 = 100;
/// Before a task that failed is tried again; doubles with each further attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// An execution on its way.
pub(super) struct Run {
    context: Arc<Context>,
    execution: Arc<Execution>,
    course: watch::Receiver<Course>,
    /// Tasks that have not begun, with the number of the attempt to make.
    waiting: VecDeque<(u32, u32)>,
}

impl Run {
    pub(super) fn new(
        context: Arc<Context>,
        execution: Arc<Execution>,
        course: watch::Receiver<Course>,
    ) -> Self {
        let begun = &execution.begun;
        let left = (0..execution.task_count).filter(|index| !begun.get(index).is_some_and(|task| task.over));
        let waiting = left.map(|index| (index, begun.get(&index).map_or(0, |task| task.attempt))).collect();
        Self { context, execution, course, waiting }
    }

    /// Runs all tasks until none is left to run. Tells what becomes of each, and at last that it is over.
    pub(super) async fn run(mut self) {
        let mut running = JoinSet::new();
        let mut closing = self.context.closing.clone();
        loop {
            while self.goes_on()
                && running.len() < self.limit()
                && let Some((index, attempt)) = self.waiting.pop_front()
            {
                running.spawn(self.task(index, attempt));
            }
            if running.is_empty() {
                break;
            }
            tokio::select! {
                _ = running.join_next() => {}
                // Tasks see both for themselves; here only no more are started.
                _ = self.course.wait_for(|course| *course != Course::GoOn), if self.goes_on() => {}
                _ = closing.wait_for(|closing| *closing), if self.goes_on() => {}
            }
        }
        let ended_early = *self.context.closing.borrow() || *self.course.borrow() == Course::Forget;
        if !ended_early {
            let execution = self.execution.key.clone();
            self.context.task_reports.tell(TaskReport::Over { execution, at: SystemTime::now() });
        }
    }

    fn goes_on(&self) -> bool {
        *self.course.borrow() == Course::GoOn && !*self.context.closing.borrow()
    }

    fn limit(&self) -> usize {
        let wanted = if self.execution.parallelism == 0 { MAX_AT_ONCE } else { self.execution.parallelism };
        wanted.min(MAX_AT_ONCE) as usize
    }

    /// One task with all its attempts.
    fn task(&self, index: u32, attempt: u32) -> impl Future<Output = ()> + Send + 'static {
        let (context, execution, course) =
            (self.context.clone(), self.execution.clone(), self.course.clone());
        Task { context, execution, course, index }.run(attempt)
    }
}

struct Task {
    context: Arc<Context>,
    execution: Arc<Execution>,
    course: watch::Receiver<Course>,
    index: u32,
}

impl Task {
    async fn run(mut self, mut attempt: u32) {
        loop {
            let started = SystemTime::now();
            self.tell(attempt, started, TaskState::Running);
            let (context, execution) = (self.context.clone(), self.execution.clone());
            let one = Attempt::new(context, execution, self.course.clone(), self.index, attempt);
            let outcome = one.run().await;
            let at = SystemTime::now();
            match outcome {
                Outcome::Succeeded => return self.tell(attempt, started, TaskState::Succeeded { at }),
                Outcome::Cancelled => return self.tell(attempt, started, TaskState::Cancelled { at }),
                Outcome::Interrupted => return,
                Outcome::Failed { failure, again } => {
                    if !again || attempt >= self.execution.max_retries {
                        return self.tell(attempt, started, failed(failure, at));
                    }
                    if !self.pause(attempt).await {
                        return self.tell(attempt, started, TaskState::Cancelled { at });
                    }
                    attempt += 1;
                }
            }
        }
    }

    /// Waits before the next attempt. Whether there is to be one.
    async fn pause(&mut self, attempt: u32) -> bool {
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST_PAUSE);
        tokio::select! {
            biased;
            _ = self.course.wait_for(|course| *course != Course::GoOn) => false,
            () = sleep(pause) => true,
        }
    }

    fn tell(&self, attempt: u32, started: SystemTime, state: TaskState) {
        if *self.course.borrow() == Course::Forget {
            return;
        }
        let (execution, index) = (self.execution.key.clone(), self.index);
        self.context.task_reports.tell(TaskReport::Task { execution, index, attempt, started, state });
    }
}

fn failed(failure: TaskFailure, at: SystemTime) -> TaskState {
    TaskState::Failed { at, failure }
}
