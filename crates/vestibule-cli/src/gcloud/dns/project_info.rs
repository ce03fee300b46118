//! `gcloud dns project-info`: the limits of a project.

use super::shown;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Group};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::segment;

const PROJECT: &str = "PROJECT_ID";

pub fn group() -> Group {
    Group::new("project-info", "View Cloud DNS related information for a project.").command(
        Command::new("describe", "View Cloud DNS related information for a project.", describe)
            .arg(PROJECT, "The id of the project."),
    )
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let answer = inv.api.get(&format!("/dns/v1/projects/{}?alt=json", segment(inv.args.name(PROJECT))))?;
    match answer.is_success() {
        true => inv.show(&shown(answer.body), Display::YAML),
        false => Err(Failure::http(&answer)),
    }
}
