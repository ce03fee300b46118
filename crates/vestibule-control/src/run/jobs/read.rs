//! Reading jobs, executions and tasks.

use serde_json::Value;
use vestibule_store::View;

use super::super::Run;
use super::super::annotation::EXECUTION;
use super::super::name::{Kind, Name, Place};
use super::super::read::{Listing, all, find};
use super::super::selector::Selector;
use super::show;
use crate::Error;

/// Of lists of jobs, executions and tasks in v1.
const API_VERSION: &str = "run.googleapis.com/v1";

impl Run<'_> {
    /// A job.
    pub fn job(&self, place: Place<'_>, job: &str) -> Result<Value, Error> {
        let view = self.control.view();
        let (name, stored) = find(&view, place, Kind::Job, job)?;
        Ok(show::job(&view, &name, &stored))
    }

    /// All jobs whose labels fit a selector.
    pub fn jobs(&self, place: Place<'_>, selector: &str) -> Result<Listing, Error> {
        let view = self.control.view();
        listing(
            "JobsList",
            selector,
            all(&view, place, Kind::Job).iter().map(|(name, job)| show::job(&view, name, job)),
        )
    }

    /// An execution of a job.
    pub fn execution(&self, place: Place<'_>, execution: &str) -> Result<Value, Error> {
        let view = self.control.view();
        let (name, stored) = find(&view, place, Kind::Execution, execution)?;
        Ok(show::execution(&view, &name, &stored))
    }

    /// All executions whose labels fit a selector.
    pub fn executions(&self, place: Place<'_>, selector: &str) -> Result<Listing, Error> {
        let view = self.control.view();
        let found = all(&view, place, Kind::Execution);
        let shown = found.iter().map(|(name, execution)| show::execution(&view, name, execution));
        listing("ExecutionsList", selector, shown)
    }

    /// A task, named `EXECUTION-taskINDEX`.
    pub fn task(&self, place: Place<'_>, task: &str) -> Result<Value, Error> {
        let view = self.control.view();
        let (name, stored, index) = find_task(&view, place, task)?;
        Ok(show::task(&view, &name, &stored, index))
    }

    /// All tasks whose labels fit a selector, the newest execution first.
    pub fn tasks(&self, place: Place<'_>, selector: &str) -> Result<Listing, Error> {
        let view = self.control.view();
        let found = match Selector::parse(selector)?.only(EXECUTION) {
            // One execution need not have all the others read.
            Some(execution) => find(&view, place, Kind::Execution, execution).into_iter().collect(),
            None => all(&view, place, Kind::Execution),
        };
        let shown = found.iter().flat_map(|(name, execution)| {
            (0..show::task_count(execution)).map(|index| show::task(&view, name, execution, index))
        });
        listing("TasksList", selector, shown)
    }
}

fn listing(kind: &'static str, selector: &str, shown: impl Iterator<Item = Value>) -> Result<Listing, Error> {
    let selector = Selector::parse(selector)?;
    let items = shown.filter(|item| selector.matches(item)).collect();
    Ok(Listing { api_version: API_VERSION, kind, items })
}

/// A task's execution, and its index.
fn find_task(view: &View, place: Place<'_>, task: &str) -> Result<(Name, std::sync::Arc<Value>, u32), Error> {
    let missing = || Error::NotFound {
        message: format!("Resource '{task}' of kind 'TASK' in project '{}' does not exist.", place.project),
    };
    let (execution, index) = show::parse_task(task).ok_or_else(missing)?;
    let (name, stored) = find(view, place, Kind::Execution, execution).map_err(|_| missing())?;
    if index >= show::task_count(&stored) {
        return Err(missing());
    }
    Ok((name, stored, index))
}
