//! Executions: made from a job, never changed but to be cancelled or to be over.

use jiff::Timestamp;
use serde_json::{Value, json};
use vestibule_model::{id, time};
use vestibule_store::View;

use super::super::annotation::{
    JOB, JOB_CREATOR, JOB_GENERATION, JOB_LAST_MODIFIER, JOB_RESOURCE_VERSION, JOB_UID, LOCATION,
    OPERATION_ID,
};
use super::super::name::{Kind, Name, Place, prefix};
use super::super::{json as reach, revision};
use super::{record, template};
use crate::{Change, Error};

/// Executions of a job that are kept. Tests need not make a thousand.
const KEEP: usize = if cfg!(test) { 5 } else { 1000 };
/// Longest name (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 63;
/// Random characters at the end of a name.
const TAIL: usize = 5;
/// What they are: neither vowels, so that no words come of them, nor what looks alike.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A new execution of a job.
pub(super) struct New<'a> {
    pub(super) job: &'a Name,
    /// The end of its name, if someone chose one.
    pub(super) token: Option<&'a str>,
    /// What is different from the job this once, as v1 says it.
    pub(super) overrides: &'a Value,
    pub(super) creator: &'a str,
    pub(super) operation: &'a str,
}

impl New<'_> {
    /// The name that it gets if there is a token.
    pub(super) fn named(&self) -> Name {
        self.job.sibling(&format!("{}-{}", self.job.name, self.token.unwrap_or_default()))
    }

    fn choose_name(&self, change: &Change<'_>) -> Result<Name, Error> {
        if let Some(token) = self.token {
            let name = self.named();
            if name.name.len() > MAX_NAME {
                let why = "The name of the job and the token together are too long.";
                return Err(Error::invalid("spec.startExecutionToken", token, why));
            }
            return Ok(name);
        }
        let job = &self.job.name;
        let base = job[..job.len().min(MAX_NAME - TAIL - 1)].trim_end_matches('-');
        loop {
            let tail: String = std::iter::repeat_with(|| {
                fastrand::choice(ALPHABET).map_or('b', |letter| char::from(*letter))
            })
            .take(TAIL)
            .collect();
            let name = self.job.sibling(&format!("{base}-{tail}"));
            if !change.exists(&name.key(Kind::Execution)) {
                return Ok(name);
            }
        }
    }
}

/// Stages an execution of a job and counts it there; the job itself is for the caller to stage.
pub(super) fn begin(change: &mut Change<'_>, new: &New<'_>, job: &mut Value) -> Result<(Name, Value), Error> {
    let wanted = template::overridden(&job["spec"]["template"], new.overrides)?;
    template::check_execution(&wanted)?;
    let name = new.choose_name(change)?;
    let document = document(&name, new, job, &wanted, change.now());
    change.put(&name.key(Kind::Execution), document.clone());
    forget_oldest(change, new.job);
    let count = job["vestibule"]["executions"].as_u64().unwrap_or(0);
    job["vestibule"]["executions"] = (count + 1).into();
    job["vestibule"]["latest"] =
        json!({ "name": name.name, "creationTimestamp": time::rfc3339(change.now()) });
    Ok((name, document))
}

fn document(name: &Name, new: &New<'_>, job: &Value, wanted: &Value, now: Timestamp) -> Value {
    let number = name.project_number();
    let of_job = &job["metadata"];
    let mut labels = wanted["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    for (key, value) in [
        (JOB, Value::from(new.job.name.as_str())),
        (JOB_UID, of_job["uid"].clone()),
        (JOB_GENERATION, of_job["generation"].as_i64().unwrap_or(1).to_string().into()),
        (JOB_RESOURCE_VERSION, of_job["resourceVersion"].clone()),
        (LOCATION, name.location.as_str().into()),
    ] {
        labels.insert(key.to_owned(), value);
    }
    let mut annotations = wanted["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    for (key, value) in
        [(JOB_CREATOR, new.creator), (JOB_LAST_MODIFIER, new.creator), (OPERATION_ID, new.operation)]
    {
        annotations.insert(key.to_owned(), value.into());
    }
    json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Execution",
        "metadata": {
            "name": name.name,
            "namespace": number,
            "selfLink": format!("/apis/run.googleapis.com/v1/namespaces/{number}/executions/{}", name.name),
            "uid": id::uuid(),
            "resourceVersion": revision::version(now),
            "generation": 1,
            "creationTimestamp": time::rfc3339(now),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "run.googleapis.com/v1",
                "kind": "Job",
                "name": new.job.name,
                "uid": of_job["uid"],
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": wanted["spec"],
        "vestibule": {},
    })
}

/// Notes that an execution is to end.
pub(super) fn cancel(execution: &mut Value, operation: &str, now: Timestamp) {
    execution["vestibule"]["cancelled"] = time::rfc3339(now).into();
    execution["metadata"]["annotations"][OPERATION_ID] = operation.into();
    execution["metadata"]["resourceVersion"] = revision::version(now).into();
}

/// Notes that nothing of an execution runs any more.
pub(super) fn finish(execution: &mut Value, at: Timestamp) {
    execution["vestibule"]["over"] = time::rfc3339(at).into();
}

/// Whether nothing of an execution runs any more, or will.
pub(in super::super) fn is_over(execution: &Value) -> bool {
    !execution["vestibule"]["over"].is_null()
}

/// Whether someone has cancelled an execution.
pub(super) fn is_cancelled(execution: &Value) -> bool {
    !execution["vestibule"]["cancelled"].is_null()
}

/// The job of an execution.
pub(in super::super) fn job_of(execution: &Value) -> Option<&str> {
    reach::text(execution, &["metadata", "labels", JOB])
}

/// All executions of a job in a committed state, the oldest first.
pub(super) fn of_job(view: &View, job: &Name) -> Vec<Name> {
    let place = Place { project: &job.project, location: Some(&job.location) };
    let range = format!("{}{}/", prefix(place), Kind::Execution.collection());
    let mut found: Vec<(Option<String>, Name)> = view
        .range(&range)
        .filter(|kv| job_of(&kv.value) == Some(job.name.as_str()))
        .map(|kv| {
            let created = reach::text(&kv.value, &["metadata", "creationTimestamp"]).map(str::to_owned);
            (created, job.sibling(kv.key.rsplit('/').next().unwrap_or_default()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

/// Stages the deletion of an execution with all that is known of its tasks.
pub(super) fn remove(change: &mut Change<'_>, name: &Name) {
    record::forget(change, name);
    change.delete(&name.key(Kind::Execution));
}

/// Stages the deletion of the oldest executions beyond those that are kept. What is not over stays.
fn forget_oldest(change: &mut Change<'_>, job: &Name) {
    let executions = of_job(change.view(), job);
    // The new one is not among them yet.
    let surplus = (executions.len() + 1).saturating_sub(KEEP);
    for name in executions.into_iter().take(surplus) {
        if change.get(&name.key(Kind::Execution)).is_some_and(|execution| is_over(&execution)) {
            remove(change, &name);
        }
    }
}
