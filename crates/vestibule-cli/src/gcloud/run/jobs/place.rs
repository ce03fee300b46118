//! Where jobs, executions and tasks are, and how they are read.

use serde_json::Value;

use crate::gcloud::error::Failure;
use crate::gcloud::invocation::Invocation;
use crate::gcloud::run::region;
use crate::http::Answer;

/// A region of a project.
pub struct Place {
    pub project: String,
    pub region: String,
}

impl Place {
    pub fn of(inv: &Invocation<'_>) -> Result<Place, Failure> {
        Ok(Place { project: inv.project(), region: region(inv)? })
    }

    /// The path of a collection: `jobs`, `executions` or `tasks`.
    pub fn collection(&self, name: &str) -> String {
        format!("/run/{}{}/{name}", self.region, namespace(&self.project))
    }

    /// A document, if there is one.
    pub fn read(&self, inv: &Invocation<'_>, collection: &str, name: &str) -> Result<Option<Value>, Failure> {
        let answer = inv.api.get(&format!("{}/{name}?alt=json", self.collection(collection)))?;
        match answer.status {
            404 => Ok(None),
            _ if answer.is_success() => Ok(Some(answer.body)),
            _ => Err(Failure::run(&answer)),
        }
    }

    /// Creates or replaces a job.
    pub fn write(
        &self,
        inv: &Invocation<'_>,
        job: &str,
        document: &Value,
        exists: bool,
    ) -> Result<Value, Failure> {
        let path = self.collection("jobs");
        let answer = match exists {
            true => inv.api.call("PUT", &format!("{path}/{job}?alt=json"), Some(document))?,
            false => inv.api.post(&format!("{path}?alt=json"), document)?,
        };
        body(answer)
    }
}

/// The path of jobs' collections in a namespace, in all regions.
pub fn namespace(project: &str) -> String {
    format!("/apis/run.googleapis.com/v1/namespaces/{project}")
}

/// The body of an answer that is no refusal.
pub fn body(answer: Answer) -> Result<Value, Failure> {
    if answer.is_success() { Ok(answer.body) } else { Err(Failure::run(&answer)) }
}
