//! Traffic: which revision gets which share, and `gcloud run services update-traffic`.

use serde_json::{Map, Value, json};

use super::deploy::service_name;
use super::region;
use super::rollout::{Place, Progress, wait};
use super::service::{Document, Readiness};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Rule};
use crate::gcloud::invocation::Invocation;

/// The word for whichever revision is the newest that is ready.
const LATEST: &str = "LATEST";

/// One line of a traffic block: a revision (or LATEST), its share, its tags with their URLs.
#[derive(Debug, Default)]
struct Share {
    revision: String,
    latest: bool,
    percent: i64,
    tags: Vec<(String, String)>,
}

pub fn update_traffic_command() -> Command {
    Command::new("update-traffic", "Adjust the traffic assignments for a Cloud Run service.", update_traffic)
        .usage_head("[[SERVICE] --namespace=NAMESPACE]")
        .optional_arg("SERVICE", "The name of the service.")
        .flag(Flag::switch("to-latest", "All traffic goes to the newest revision, now and later."))
        .flag(Flag::pairs("to-revisions", "Shares by revision; LATEST is the newest. What is left stays with the others."))
        .flag(Flag::pairs("to-tags", "Shares by tag."))
        .flag(Flag::pairs("set-tags", "All tags, by revision: TAG=REVISION."))
        .flag(Flag::pairs("update-tags", "Tags to set: TAG=REVISION."))
        .flag(Flag::list("remove-tags", "Tags to drop.").metavar("TAG"))
        .flag(Flag::switch("clear-tags", "Drops all tags."))
        .flag(Flag::switch("async", "Return at once."))
        .rule(Rule::Exclusive(vec![vec!["to-latest"], vec!["to-revisions"], vec!["to-tags"]]))
        .rule(Rule::Exclusive(vec![vec!["set-tags"], vec!["clear-tags"], vec!["update-tags", "remove-tags"]]))
        .examples(&["gcloud run services update-traffic my-service --to-revisions=my-service-00001-abc=10,LATEST=90 --region=us-central1"])
}

fn targets(service: &Value) -> Vec<Map<String, Value>> {
    let list = service.pointer("/spec/traffic").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_object).cloned().collect()
}

fn put_targets(service: &mut Value, targets: Vec<Map<String, Value>>) {
    service["spec"]["traffic"] = targets.into_iter().map(Value::Object).collect();
}

fn percent(target: &Map<String, Value>) -> i64 {
    target.get("percent").and_then(Value::as_i64).unwrap_or(0)
}

fn tag(target: &Map<String, Value>) -> Option<&str> {
    target.get("tag").and_then(Value::as_str)
}

fn is_latest(target: &Map<String, Value>) -> bool {
    target.get("latestRevision").and_then(Value::as_bool) == Some(true)
}

/// What a target goes to: a revision's name, or LATEST.
fn goes_to(target: &Map<String, Value>) -> String {
    match is_latest(target) {
        true => LATEST.to_owned(),
        false => target.get("revisionName").and_then(Value::as_str).unwrap_or_default().to_owned(),
    }
}

fn target(revision: &str) -> Map<String, Value> {
    let mut target = Map::new();
    match revision {
        LATEST => target.insert("latestRevision".into(), json!(true)),
        name => target.insert("revisionName".into(), json!(name)),
    };
    target
}

/// Percentages by revision.
type Shares = Vec<(String, i64)>;

/// Revisions by tag.
type Tags = Vec<(String, String)>;

/// The percent targets and the tag targets. A target with both becomes one of each.
fn split(service: &Value) -> (Shares, Tags) {
    let all = targets(service);
    let shares = all.iter().filter(|t| percent(t) > 0).map(|t| (goes_to(t), percent(t))).collect();
    let tags = all.iter().filter_map(|t| Some((tag(t)?.to_owned(), goes_to(t)))).collect();
    (shares, tags)
}

fn join(service: &mut Value, shares: &[(String, i64)], tags: &[(String, String)]) {
    let mut all = Vec::new();
    for (revision, percent) in shares.iter().filter(|(_, percent)| *percent > 0) {
        let mut target = target(revision);
        target.insert("percent".into(), json!(percent));
        all.push(target);
    }
    for (tag, revision) in tags {
        let mut target = target(revision);
        target.insert("tag".into(), json!(tag));
        all.push(target);
    }
    put_targets(service, all);
}

/// `--no-traffic`: what goes to the newest revision stays with the one that is the newest now.
pub fn pin_current(service: &mut Value) {
    let (mut shares, tags) = split(service);
    let current = Document(service).text("/status/latestReadyRevisionName").unwrap_or_default().to_owned();
    if shares.is_empty() {
        shares.push((LATEST.into(), 100));
    }
    for (revision, _) in shares.iter_mut().filter(|(revision, _)| revision == LATEST) {
        *revision = current.clone();
    }
    join(service, &shares, &tags);
}

/// `--tag` of a deployment: the tag goes to the new revision, and only there.
pub fn tag_revision(service: &mut Value, tag: &str, revision: &str) {
    let (mut shares, mut tags) = split(service);
    if shares.is_empty() {
        shares.push((LATEST.into(), 100));
    }
    tags.retain(|(held, _)| held != tag);
    tags.push((tag.to_owned(), revision.to_owned()));
    join(service, &shares, &tags);
}

/// The percentage of traffic a revision gets, by its name or as the newest.
pub fn share_of(service: &Value, revision: &str) -> i64 {
    let list = service.pointer("/status/traffic").and_then(Value::as_array).into_iter().flatten();
    let mine = list
        .filter_map(Value::as_object)
        .filter(|t| t.get("revisionName").and_then(Value::as_str) == Some(revision));
    mine.map(percent).sum()
}

/// The URL of a tag.
pub fn tag_url(service: &Value, wanted: &str) -> Option<String> {
    let mut list = service
        .pointer("/status/traffic")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object);
    list.find(|t| tag(t) == Some(wanted))?.get("url")?.as_str().map(str::to_owned)
}

fn update_traffic(inv: &Invocation<'_>) -> Result<(), Failure> {
    let flags =
        ["to-latest", "to-revisions", "to-tags", "set-tags", "update-tags", "remove-tags", "clear-tags"];
    if !inv.args.has_any(&flags) {
        return Err(Failure::new("No traffic configuration change requested."));
    }
    let place = Place { project: inv.project(), service: service_name(inv)?, region: region(inv)? };
    let Some(mut service) = place.read(inv)? else {
        return Err(Failure::new(format!("Service [{}] could not be found.", place.service)));
    };
    let mut progress = Progress::start(inv, "Updating traffic...");
    if let Err(failure) = change(inv, &mut service) {
        return Err(progress.fail_as("Updating traffic failed", failure));
    }
    let answer = place.write(inv, &service, true, "")?;
    if !answer.is_success() {
        return Err(progress.fail_as("Updating traffic failed", Failure::run(&answer)));
    }
    if inv.args.on("async") {
        inv.status("Updating traffic asynchronously.");
        return Ok(());
    }
    let waits = Document(&answer.body).readiness() != Readiness::Ready;
    if waits {
        progress.step("Routing traffic");
    }
    let done = match wait(inv, &place, answer.body) {
        Ok(done) => done,
        Err(failure) => return Err(progress.fail_as("Updating traffic failed", failure)),
    };
    progress.end_step("done");
    progress.done();
    if inv.is_default_format() {
        inv.printer.line(&format!("URL: {}", Document(&done).text("/status/url").unwrap_or("None")));
        inv.printer.data(&block(&done, 0));
        return Ok(());
    }
    inv.show(&done, crate::gcloud::invocation::Display::YAML)
}

fn change(inv: &Invocation<'_>, service: &mut Value) -> Result<(), Failure> {
    let args = &inv.args;
    let (mut shares, mut tags) = split(service);
    if args.has_any(&["set-tags", "clear-tags"]) {
        tags.clear();
    }
    let removed = args.list("remove-tags").unwrap_or_default();
    tags.retain(|(tag, _)| !removed.contains(tag));
    for (tag, revision) in args.pairs("set-tags").or_else(|| args.pairs("update-tags")).unwrap_or_default() {
        tags.retain(|(held, _)| held != tag);
        tags.push((tag.clone(), revision.clone()));
    }
    if args.on("to-latest") {
        shares = vec![(LATEST.into(), 100)];
    }
    if let Some(pairs) = args.pairs("to-revisions") {
        shares = reassign(&shares, &percentages("to-revisions", pairs)?)?;
    }
    if let Some(pairs) = args.pairs("to-tags") {
        let mut wanted = Vec::new();
        for (name, percent) in percentages("to-tags", pairs)? {
            let Some((_, revision)) = tags.iter().find(|(tag, _)| *tag == name) else {
                return Err(Failure::new(format!(
                    "The following tag targets are not tags of the service: {name}"
                )));
            };
            wanted.push((revision.clone(), percent));
        }
        shares = reassign(&shares, &wanted)?;
    }
    join(service, &shares, &tags);
    Ok(())
}

fn percentages(flag: &str, pairs: &[(String, String)]) -> Result<Vec<(String, i64)>, Failure> {
    let one = |(name, text): &(String, String)| match text.parse::<i64>() {
        Ok(percent) if (0..=100).contains(&percent) => Ok((name.clone(), percent)),
        _ => Err(Failure::new(format!(
            "argument --{flag}: New traffic for key {name} must be an integer between 0 and 100, received: {text}"
        ))),
    };
    pairs.iter().map(one).collect()
}

/// New shares: the wanted ones as they are, what is left in proportion to the shares of the others.
fn reassign(old: &[(String, i64)], wanted: &[(String, i64)]) -> Result<Vec<(String, i64)>, Failure> {
    let total: i64 = wanted.iter().map(|(_, percent)| percent).sum();
    let others: Vec<&(String, i64)> =
        old.iter().filter(|(name, _)| !wanted.iter().any(|(w, _)| w == name)).collect();
    let held: i64 = others.iter().map(|(_, percent)| percent).sum();
    let left = 100 - total;
    if left < 0 {
        return Err(Failure::new(format!("Over 100% of traffic is specified: {total}%.")));
    }
    if left > 0 && held == 0 {
        return Err(Failure::new(
            "Every target with traffic is updated but 100% of traffic has not been specified.",
        ));
    }
    let mut shares: Vec<(String, i64)> = wanted.to_vec();
    if left == 0 {
        return Ok(shares);
    }
    let mut rest: Vec<(String, i64, i64)> = others
        .into_iter()
        .map(|(name, percent)| (name.clone(), percent * left / held, percent * left % held))
        .collect();
    // The points that rounding left over go to the largest remainders.
    let over = left - rest.iter().map(|(_, percent, _)| percent).sum::<i64>();
    let mut order: Vec<usize> = (0..rest.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(rest[*index].2));
    order.into_iter().zip(0..over).for_each(|(index, _)| rest[index].1 += 1);
    shares.extend(rest.into_iter().map(|(name, percent, _)| (name, percent)));
    Ok(shares)
}

/// `Traffic:` and a line for each revision that has a share or a tag.
pub fn block(service: &Value, indent: usize) -> String {
    let shares = shares(service);
    let percents: Vec<String> = shares.iter().map(|share| format!("{}%", share.percent)).collect();
    let width = percents.iter().map(String::len).max().unwrap_or(0);
    let tag_width =
        shares.iter().flat_map(|share| &share.tags).map(|(tag, _)| tag.len() + 1).max().unwrap_or(0);
    let blanks = " ".repeat(indent);
    let mut out = format!("{blanks}Traffic:\n");
    for (share, percent) in shares.iter().zip(percents) {
        let name = match share.latest {
            true => format!("{LATEST} (currently {})", share.revision),
            false => share.revision.clone(),
        };
        out += &format!("{blanks}  {percent:width$} {name}\n");
        for (tag, url) in &share.tags {
            out +=
                format!("{blanks}{}{:tag_width$} {url}", " ".repeat(width + 5), format!("{tag}:")).trim_end();
            out.push('\n');
        }
    }
    out
}

/// The status's targets, one entry a revision; the newest by that name comes last.
fn shares(service: &Value) -> Vec<Share> {
    let list = service.pointer("/status/traffic").and_then(Value::as_array).into_iter().flatten();
    let mut shares: Vec<Share> = Vec::new();
    for target in list.filter_map(Value::as_object) {
        let revision = target.get("revisionName").and_then(Value::as_str).unwrap_or_default();
        let latest = is_latest(target);
        let known = shares.iter().position(|share| share.revision == revision && share.latest == latest);
        let index = known.unwrap_or_else(|| {
            shares.push(Share { revision: revision.to_owned(), latest, ..Share::default() });
            shares.len() - 1
        });
        shares[index].percent += percent(target);
        if let Some(tag) = tag(target) {
            let url = target.get("url").and_then(Value::as_str).unwrap_or_default();
            shares[index].tags.push((tag.to_owned(), url.to_owned()));
        }
    }
    shares.sort_by_key(|share| share.latest);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(pairs: &[(&str, i64)]) -> Vec<(String, i64)> {
        pairs.iter().map(|(name, percent)| ((*name).to_owned(), *percent)).collect()
    }

    #[test]
    fn what_is_left_stays_in_proportion() {
        let new = reassign(&shares(&[("a", 60), ("b", 30), ("c", 10)]), &shares(&[("c", 50)])).unwrap();
        assert_eq!(new, shares(&[("c", 50), ("a", 33), ("b", 17)]));
        let new = reassign(&shares(&[("LATEST", 100)]), &shares(&[("a", 50), ("LATEST", 50)])).unwrap();
        assert_eq!(new, shares(&[("a", 50), ("LATEST", 50)]));
        assert!(reassign(&shares(&[("a", 100)]), &shares(&[("a", 60)])).is_err());
        assert!(reassign(&shares(&[("a", 100)]), &shares(&[("b", 101)])).is_err());
    }
}
