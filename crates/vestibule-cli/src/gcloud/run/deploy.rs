//! `gcloud run deploy` and `gcloud run services update`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::changes::{self, flags, letters, object};
use super::policy::{self, ALL_USERS, INVOKER};
use super::rollout::{Place, Progress, wait};
use super::service::{Document, NONCE, Readiness};
use super::source::Source;
use super::{namespace_path, region, traffic};
use crate::gcloud::GCLOUD_VERSION;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Rule};
use crate::gcloud::invocation::Invocation;

/// How long the revision of the last deployment is looked for by its nonce.
const NONCE_LIMIT: Duration = Duration::from_secs(2);

pub fn deploy_command() -> Command {
    let command = Command::new("deploy", "Create or update a Cloud Run service.", deploy)
        .about("A new service gets all traffic at once; so does a new revision of an old one, unless --no-traffic.")
        .usage_head("[[SERVICE] --namespace=NAMESPACE]")
        .optional_arg("SERVICE", "The name of the service.")
        .flags(flags::service())
        .container_flags(flags::container())
        .flag(Flag::text("source", "A folder with a Dockerfile: the image is built from it, with buildah or Docker."))
        .rule(Rule::Exclusive(vec![vec!["image"], vec!["source"]]))
        .flag(Flag::toggle("allow-unauthenticated", "Whether callers need no identity token. Default: they need one."))
        .examples(&[
            "gcloud run deploy my-internal-service --image=gcr.io/cloudrun/hello --region=us-central1 --no-allow-unauthenticated --ingress=internal-and-cloud-load-balancing",
        ]);
    flags::rules().into_iter().fold(command, Command::rule)
}

pub fn update_command() -> Command {
    let command = Command::new(
        "update",
        "Update Cloud Run environment variables and other configuration settings.",
        update,
    )
    .usage_head("[[SERVICE] --namespace=NAMESPACE]")
    .optional_arg("SERVICE", "The name of the service.")
    .flags(flags::service().into_iter().filter(|flag| flag.name != "description"))
    .container_flags(flags::container());
    flags::rules().into_iter().fold(command, Command::rule)
}

/// The service that the positional names.
pub fn service_name(inv: &Invocation<'_>) -> Result<String, Failure> {
    let name = inv.args.word("SERVICE").filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| {
        Failure::new(
            "Error parsing [service].\nThe [service] resource is not properly specified.\nFailed to find attribute [service]. \
             The attribute can be set in the following ways: \n- provide the argument `SERVICE` on the command line\n- specify \
             the service name from an interactive prompt",
        )
    })
}

fn deploy(inv: &Invocation<'_>) -> Result<(), Failure> {
    let service = service_name(inv)?;
    if !inv.args.has("source") {
        check_images(inv)?;
    }
    enable_api(inv)?;
    let place = Place { project: inv.project(), region: region(inv)?, service };
    let old = place.read(inv)?;
    let source = inv.args.text("source").map(|folder| Source::find(inv, folder)).transpose()?;
    let access = Access::choose(inv, &place, old.is_some())?;
    if old.is_none() && inv.args.toggle("traffic") == Some(false) {
        return Err(Failure::new("--no-traffic not supported when creating a new service."));
    }
    inv.status(&format!(
        "{} container to Cloud Run service [{}] in project [{}] region [{}]",
        if source.is_some() { "Building using Dockerfile and deploying" } else { "Deploying" },
        place.service,
        place.project,
        place.region
    ));
    let title = match (&source, &old) {
        (Some(_), Some(_)) => "Building and deploying...",
        (Some(_), None) => "Building and deploying new service...",
        (None, Some(_)) => "Deploying...",
        (None, None) => "Deploying new service...",
    };
    let mut document = old.clone().unwrap_or_else(|| fresh(&place));
    changes::apply(inv, &mut document)?;
    name_revision(inv, &place, &mut document, old.as_ref())?;
    let mut progress = Progress::start(inv, title);
    if let Some(source) = source {
        let repository = format!("{}-docker.pkg.dev/{}/cloud-run-source-deploy", place.region, place.project);
        progress.step("Building Container");
        match source.build(inv, &format!("{repository}/{}", place.service)) {
            Ok(image) => document["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image),
            Err(failure) => return Err(progress.fail(failure)),
        }
        progress.end_step("done");
    }
    let Some(done) = roll_out(inv, &place, &document, old.as_ref(), access, progress)? else { return Ok(()) };
    report(inv, &place, &done, access == Access::Unstated, true)
}

/// Every container that is deployed needs an image.
fn check_images(inv: &Invocation<'_>) -> Result<(), Failure> {
    let named = inv.args.containers();
    let without: Vec<&str> =
        named.iter().filter(|(_, args)| !args.has("image")).map(|(name, _)| name.as_str()).collect();
    if !without.is_empty() {
        return Err(Failure::new(format!(
            "Missing required argument [--image]: Containers {} require a container image to deploy.",
            without.join(", ")
        )));
    }
    if named.is_empty() && !inv.args.has("image") {
        return Err(Failure::new(
            "Missing required argument [--image]: Requires a container image to deploy (e.g. `gcr.io/cloudrun/hello:latest`) if no \
             build source is provided.",
        ));
    }
    Ok(())
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let place = Place { project: inv.project(), service: service_name(inv)?, region: region(inv)? };
    let old = place.read(inv)?;
    if !changes::any_asked(inv) {
        return Err(Failure::new(
            "No configuration change requested. Did you mean to include the flags `--update-env-vars`, `--memory`, `--concurrency`, \
             `--timeout`, `--connectivity`, `--image`, `--iap`?",
        ));
    }
    let Some(old) = old else {
        let progress = Progress::start(inv, "Deploying...");
        return Err(progress.fail(Failure::new(format!("Service [{}] could not be found.", place.service))));
    };
    let mut document = old.clone();
    if !inv.args.has("image") && inv.args.containers().is_empty() {
        pin_image(inv, &place, &mut document)?;
    }
    changes::apply(inv, &mut document)?;
    name_revision(inv, &place, &mut document, Some(&old))?;
    let progress = Progress::start(inv, "Deploying...");
    let Some(done) = roll_out(inv, &place, &document, Some(&old), Access::Untouched, progress)? else {
        return Ok(());
    };
    report(inv, &place, &done, true, false)
}

/// What a deployment does about who may call the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Lets everybody in.
    Open,
    /// Takes the permission for everybody away, where there is one.
    Closed,
    /// No flag said anything.
    Unstated,
    /// Not asked about.
    Untouched,
}

impl Access {
    fn choose(inv: &Invocation<'_>, place: &Place, exists: bool) -> Result<Access, Failure> {
        match (inv.args.toggle("allow-unauthenticated"), exists) {
            (Some(true), _) => Ok(Access::Open),
            (Some(false), true) => Ok(Access::Closed),
            (Some(false), false) => Ok(Access::Untouched),
            (None, true) => Ok(Access::Unstated),
            (None, false) => {
                let may = policy::may_set_policy(inv, place)?;
                let question = format!("Allow unauthenticated invocations to [{}]", place.service);
                Ok(if may && inv.confirm("", &question, false) { Access::Open } else { Access::Unstated })
            }
        }
    }
}

/// Cloud Run must be enabled in the project; asking costs one call and enabling is what gcloud would do.
fn enable_api(inv: &Invocation<'_>) -> Result<(), Failure> {
    let wanted = inv.environment.get("CLOUDSDK_CORE_SHOULD_PROMPT_TO_ENABLE_API");
    if wanted.is_some_and(|value| matches!(value, "false" | "False" | "0")) {
        return Ok(());
    }
    let project = inv.project();
    let answer = inv.api.get(&format!("/v1/projects/{project}/services/run.googleapis.com?alt=json"))?;
    let state = answer.body.get("state").and_then(Value::as_str);
    // A service that may not be asked about is left alone.
    if !answer.is_success() || state == Some("ENABLED") {
        return Ok(());
    }
    inv.status(&format!("Enabling APIs on project [{project}]..."));
    crate::gcloud::services::enable_services(inv, &project, &["run.googleapis.com".to_owned()])
}

/// The document of a service that does not exist yet.
fn fresh(place: &Place) -> Value {
    let mut document = json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": place.service, "namespace": place.project, "annotations": {}, "labels": {}},
        "spec": {"template": {
            "metadata": {"annotations": {"run.googleapis.com/startup-cpu-boost": "True"}, "labels": {}},
            "spec": {"containers": [{"name": ""}], "nodeSelector": {}},
        }},
        "status": {"address": {}},
    });
    sign(&mut document);
    document
}

/// Says which client made the service and the revision.
fn sign(document: &mut Value) {
    for path in [&["metadata", "annotations"][..], &["spec", "template", "metadata", "annotations"][..]] {
        let annotations = object(document, path);
        annotations.insert("run.googleapis.com/client-name".into(), json!("gcloud"));
        annotations.insert("run.googleapis.com/client-version".into(), json!(GCLOUD_VERSION));
    }
}

/// Gives the new revision a name where flags need one; otherwise a nonce by which it can be found again.
fn name_revision(
    inv: &Invocation<'_>,
    place: &Place,
    document: &mut Value,
    old: Option<&Value>,
) -> Result<(), Failure> {
    sign(document);
    let name = match (inv.args.text("revision-suffix"), inv.args.text("tag")) {
        (Some(suffix), _) => Some(format!("{}-{suffix}", place.service)),
        (None, Some(_)) => Some(invented_name(&place.service, old)),
        (None, None) => None,
    };
    let metadata = object(document, &["spec", "template", "metadata"]);
    match &name {
        Some(name) => drop(metadata.insert("name".into(), json!(name))),
        None => drop(metadata.remove("name")),
    }
    let labels = object(document, &["spec", "template", "metadata", "labels"]);
    match &name {
        Some(_) => drop(labels.remove(NONCE)),
        None => drop(labels.insert(NONCE.into(), json!(letters(10)))),
    }
    if inv.args.toggle("traffic") == Some(false) {
        traffic::pin_current(document);
    }
    if let (Some(tag), Some(name)) = (inv.args.text("tag"), &name) {
        traffic::tag_revision(document, tag, name);
    }
    Ok(())
}

/// `SERVICE-00005-abc`, as the server would have named it.
fn invented_name(service: &str, old: Option<&Value>) -> String {
    let generation = old.and_then(|old| old.pointer("/metadata/generation")?.as_i64()).unwrap_or(0);
    format!("{service}-{:05}-{}", generation + 1, letters(3))
}

/// Keeps the image that runs now: a tag may point elsewhere by the time the new revision starts.
fn pin_image(inv: &Invocation<'_>, place: &Place, document: &mut Value) -> Result<(), Failure> {
    let current = Document(document);
    let image = current.container("/spec/template/spec").and_then(|c| c.get("image")).and_then(Value::as_str);
    if image.is_none_or(|image| image.contains('@')) {
        return Ok(());
    }
    let namespace = current.namespace().unwrap_or(&place.project).to_owned();
    let revisions = format!("{}/revisions", namespace_path(&place.region, &namespace));
    let nonce = document
        .pointer("/spec/template/metadata/labels")
        .and_then(|labels| labels.get(NONCE))
        .and_then(Value::as_str);
    let named = current
        .text("/spec/template/metadata/name")
        .or_else(|| current.text("/status/latestCreatedRevisionName"));
    let mut revision = None;
    if let Some(nonce) = nonce {
        let query = crate::gcloud::query(&format!("{NONCE} = {nonce}"));
        let start = Instant::now();
        while revision.is_none() && start.elapsed() < NONCE_LIMIT {
            let answer = inv.api.get(&format!("{revisions}?alt=json&labelSelector={query}"))?;
            revision = answer.body.pointer("/items/0").cloned();
            if revision.is_none() {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
    if revision.is_none()
        && let Some(name) = named
    {
        revision = Some(inv.api.get(&format!("{revisions}/{name}?alt=json"))?.body);
    }
    let digest = revision.as_ref().and_then(|revision| revision.pointer("/status/imageDigest")).cloned();
    if let Some(digest) = digest.filter(|digest| digest.as_str().is_some_and(|d| !d.is_empty())) {
        document["spec"]["template"]["spec"]["containers"][0]["image"] = digest;
    }
    Ok(())
}

/// Writes the document and waits for it. `None` when nobody is to wait.
fn roll_out(
    inv: &Invocation<'_>,
    place: &Place,
    document: &Value,
    old: Option<&Value>,
    access: Access,
    mut progress: Progress<'_>,
) -> Result<Option<Value>, Failure> {
    let answer = place.write(inv, document, old.is_some(), "")?;
    if !answer.is_success() {
        return Err(progress.fail(Failure::run(&answer)));
    }
    let policy_failed = match access {
        Access::Open | Access::Closed => set_access(inv, place, access, &mut progress)?,
        Access::Unstated | Access::Untouched => false,
    };
    if inv.args.on("async") {
        inv.status(&format!("Service [{}] is deploying asynchronously.", place.service));
        return Ok(None);
    }
    let waits = Document(&answer.body).readiness() != Readiness::Ready;
    if waits {
        progress.step("Creating Revision");
    }
    let done = match wait(inv, place, answer.body) {
        Ok(done) => done,
        Err(failure) => return Err(progress.fail(failure)),
    };
    if waits {
        progress.end_step("done");
        progress.step("Routing traffic");
        progress.end_step("done");
    }
    match policy_failed {
        false => progress.done(),
        true => inv.status(&format!(
            "Completed with warnings:\n  Setting IAM policy failed, try \"gcloud beta run services add-iam-policy-binding \
             --region={} --member={ALL_USERS} --role={INVOKER} {}\"",
            place.region, place.service
        )),
    }
    Ok(Some(done))
}

/// Opens or closes the service to everybody. Whether that failed: it does not fail the deployment.
fn set_access(
    inv: &Invocation<'_>,
    place: &Place,
    access: Access,
    progress: &mut Progress<'_>,
) -> Result<bool, Failure> {
    progress.step("Setting IAM Policy");
    let worked = policy::set_public(inv, place, access == Access::Open)?;
    progress.end_step(if worked { "done" } else { "warning" });
    Ok(!worked)
}

/// The last lines: which revision serves how much, and how to reach it.
fn report(
    inv: &Invocation<'_>,
    place: &Place,
    done: &Value,
    look_at_policy: bool,
    is_deploy: bool,
) -> Result<(), Failure> {
    let document = Document(done);
    let revision = document.text("/status/latestReadyRevisionName").unwrap_or("None");
    let percent = traffic::share_of(done, revision);
    inv.status(&format!(
        "Service [{}] revision [{revision}] has been deployed and is serving {percent} percent of traffic.",
        place.service
    ));
    if percent > 0 {
        inv.status(&format!("Service URL: {}", document.url().unwrap_or_else(|| "None".into())));
    }
    if let Some(url) = inv.args.text("tag").and_then(|tag| traffic::tag_url(done, tag)) {
        inv.status(&format!("The revision can be reached directly at {url}"));
    }
    // Behind an internal ingress the proxy is no use after a deployment; gcloud offers it after an update all the same.
    let reachable = !is_deploy || document.ingress() == "all";
    if percent == 0 || !reachable || inv.args.on("allow-unauthenticated") {
        return Ok(());
    }
    let is_public = look_at_policy && policy::is_public(inv, place)?;
    if !is_public {
        inv.status(&format!(
            "Proxy locally with: gcloud run services proxy {} --region {} --project {}",
            place.service, place.region, place.project
        ));
    }
    Ok(())
}
