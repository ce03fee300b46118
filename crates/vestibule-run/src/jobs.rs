//! Executions of jobs: tasks that run a container to its end.
//!
//! One task of the executor an execution ([`execution`]), and in it one for each attempt that runs ([`attempt`]). An
//! execution goes on until every task has succeeded or failed for good, whatever became of the others, as Cloud Run's
//! do. What an earlier runtime left unfinished is begun again by the next; nobody but the control plane remembers.

mod attempt;
mod execution;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::desired::{Execution, ExecutionKey};
use crate::keeper::Context;

/// Whether an execution goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Course {
    GoOn,
    /// End what runs, and tell.
    Cancel,
    /// End what runs. Nobody wants to know.
    Forget,
}

/// All executions that are wanted.
#[derive(Default)]
pub(crate) struct Jobs(Mutex<HashMap<ExecutionKey, watch::Sender<Course>>>);

impl Jobs {
    /// Begins what is new, cancels what is to be cancelled, ends what is not wanted any more. `alive` is held as long
    /// as an execution runs.
    pub(crate) fn apply(
        &self,
        wanted: &[Arc<Execution>],
        context: &Arc<Context>,
        executor: &Handle,
        alive: Option<&mpsc::Sender<()>>,
    ) {
        let mut kept = self.lock();
        kept.retain(|key, course| {
            let stays = wanted.iter().any(|execution| execution.key == *key);
            if !stays {
                course.send_replace(Course::Forget);
            }
            stays
        });
        for execution in wanted {
            let course = kept.entry(execution.key.clone()).or_insert_with(|| {
                let (course, watch) = watch::channel(Course::GoOn);
                let run = execution::Run::new(context.clone(), execution.clone(), watch);
                let alive = alive.cloned();
                executor.spawn(async move {
                    run.run().await;
                    drop(alive);
                });
                course
            });
            if execution.cancelled && *course.borrow() == Course::GoOn {
                course.send_replace(Course::Cancel);
            }
        }
    }

    /// The executions that are under way.
    pub(crate) fn executions(&self) -> Vec<ExecutionKey> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExecutionKey, watch::Sender<Course>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
