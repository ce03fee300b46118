//! `gcloud run jobs`.

mod deploy;
mod execute;
mod executions;
mod manage;
mod place;
mod replace;
mod tasks;

use super::{logs, policy};
use crate::gcloud::grammar::Group;

pub fn group() -> Group {
    let executions = Group::new("executions", "View and manage your Cloud Run jobs executions.")
        .command(executions::list_command())
        .command(executions::describe_command())
        .command(executions::describe_latest_command())
        .command(executions::cancel_command())
        .command(executions::delete_command())
        .group(
            Group::new("tasks", "View and manage your Cloud Run jobs tasks.")
                .command(tasks::list_command())
                .command(tasks::describe_command()),
        );
    let group = Group::new("jobs", "View and manage your Cloud Run jobs.")
        .command(deploy::create_command())
        .command(deploy::update_command())
        .command(deploy::deploy_command())
        .command(execute::command())
        .command(manage::list_command())
        .command(manage::describe_command())
        .command(manage::delete_command())
        .command(replace::command())
        .group(executions)
        .group(Group::new("logs", "Read logs for Cloud Run jobs.").command(logs::read_job_command()));
    policy::job_commands().into_iter().fold(group, Group::command)
}
