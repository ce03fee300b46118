//! Cloud Run and identities over HTTP: what gcloud 578 sent, replayed, and what it needs of the answers.

use std::collections::HashMap;
use std::sync::mpsc;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use vestibule_control::run::reconcile;
use vestibule_run::desired::{Desired, RevisionReport, RevisionState};

use crate::testing::World;

/// One command a line: the calls that it made, and the statuses it got from a server it was content with.
const GCLOUD: &str = include_str!("../tests/gcloud_run.jsonl");

/// The project's number in the recording, and here.
const RECORDED_NUMBER: &str = "123456789012";
const NUMBER: &str = "496268734596";

/// An API with a runtime behind it for which every revision becomes ready at once.
struct RunWorld {
    world: World,
    _reconciler: reconcile::Reconciler,
}

impl RunWorld {
    fn new() -> RunWorld {
        let world = World::new();
        let control = world.api.deps().control.clone();
        let (tell, reports) = mpsc::channel();
        let runtime = move |desired: Desired| {
            for service in &desired.services {
                for revision in service.revisions.iter().filter(|revision| !revision.proven) {
                    let image_digest = format!(
                        "{}@sha256:00",
                        revision.container.image.split('@').next().unwrap_or_default()
                    );
                    let report = RevisionReport {
                        service: service.key.clone(),
                        revision: revision.name.clone(),
                        state: RevisionState::Ready { image_digest },
                    };
                    // The other end goes when the world goes.
                    let _ = tell.send(report);
                }
            }
        };
        let _reconciler = reconcile::start(control.clone(), runtime).unwrap();
        reconcile::start_reports(control, move || reports.recv().ok()).unwrap();
        RunWorld { world, _reconciler }
    }

    fn send(&self, verb: &str, path: &str, body: Value) -> (u16, Value) {
        self.world.send(verb, path, body)
    }

    fn ok(&self, verb: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(verb, path, body);
        assert_eq!(status, 200, "{verb} {path}: {answer}");
        answer
    }
}

/// What changes from run to run: replaced in a recorded call by what this server answered.
#[derive(Default)]
struct Replacements {
    /// Revision names that the recorded server made up, by ours of the same service and number.
    revisions: HashMap<String, String>,
    operation: String,
    version: Value,
    etag: Value,
}

impl Replacements {
    fn path(&self, path: &str) -> String {
        let path = self.text(path).replace(RECORDED_NUMBER, NUMBER);
        match path.split_once("/operations/") {
            Some((head, tail)) => {
                let action = tail.split_once(':').map(|(_, action)| format!(":{action}")).unwrap_or_default();
                format!("{head}/operations/{}{action}", self.operation)
            }
            None => path,
        }
    }

    fn text(&self, text: &str) -> String {
        self.revisions.iter().fold(text.to_owned(), |text, (recorded, ours)| text.replace(recorded, ours))
    }

    fn body(&self, body: &Value) -> Value {
        let mut body: Value = serde_json::from_str(&self.text(&body.to_string())).unwrap();
        if body["metadata"]["resourceVersion"].is_string() {
            body["metadata"]["resourceVersion"] = self.version.clone();
        }
        if body["policy"]["etag"].is_string() {
            body["policy"]["etag"] = self.etag.clone();
        }
        body
    }

    /// Learns from an answer.
    fn learn(&mut self, answer: &Value) {
        if answer["kind"] == "Service" {
            let annotations = &answer["metadata"]["annotations"];
            if let Some(operation) = annotations["run.googleapis.com/operation-id"].as_str() {
                self.operation = operation.to_owned();
            }
            self.version = answer["metadata"]["resourceVersion"].clone();
        }
        if answer["etag"].is_string() {
            self.etag = answer["etag"].clone();
        }
    }

    /// Learns which of our revisions stands for which recorded one: those with the same number of one service.
    fn pair(&mut self, recorded: &[String], ours: &str) {
        let stem = |name: &str| name.rsplit_once('-').map(|(stem, _)| stem.to_owned());
        let same = recorded.iter().filter(|name| stem(name) == stem(ours) && *name != ours);
        for name in same {
            self.revisions.insert(name.clone(), ours.to_owned());
        }
    }
}

/// Every revision name in the recording.
fn recorded_revisions() -> Vec<String> {
    let pattern = regex::Regex::new(r"my-[a-z]+-service-\d{5}-[a-z]{3}").unwrap();
    let mut names: Vec<String> = pattern.find_iter(GCLOUD).map(|found| found.as_str().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn gcloud_s_commands_get_what_they_need() {
    let world = RunWorld::new();
    let recorded = recorded_revisions();
    let mut replacements = Replacements::default();
    for line in GCLOUD.lines() {
        let command: Value = serde_json::from_str(line).unwrap();
        let name = command["number"].as_str().unwrap();
        for call in command["calls"].as_array().unwrap() {
            let (verb, path) =
                (call["verb"].as_str().unwrap(), replacements.path(call["path"].as_str().unwrap()));
            let body = replacements.body(&call["body"]);
            let (status, answer) = world.send(verb, &path, body);
            assert_eq!(status, call["status"], "{name} {verb} {path}: {answer}");
            check_answer(name, &answer);
            replacements.learn(&answer);
            if let Some(created) = answer["status"]["latestCreatedRevisionName"].as_str() {
                replacements.pair(&recorded, created);
            }
        }
    }
}

/// What gcloud crashes over or waits for ever for if it is not so.
fn check_answer(command: &str, answer: &Value) {
    match answer["kind"].as_str() {
        Some("Service") => check_service(command, answer),
        Some("Revision") => check_revision(command, answer),
        Some("ServiceList") => {
            answer["items"].as_array().unwrap().iter().for_each(|s| check_service(command, s))
        }
        Some("RevisionList") => {
            answer["items"].as_array().unwrap().iter().for_each(|r| check_revision(command, r))
        }
        _ if answer["name"].as_str().is_some_and(|name| name.contains("/operations/")) => {
            assert_eq!(answer["done"], true, "{command}");
            assert_eq!(answer["response"]["@type"], "type.googleapis.com/google.cloud.run.v1.Service");
            check_service(command, &answer["response"]);
        }
        _ => {}
    }
}

fn check_service(command: &str, service: &Value) {
    let metadata = &service["metadata"];
    assert_eq!(metadata["namespace"], NUMBER, "{command}");
    assert!(metadata["generation"].is_u64(), "{command}");
    assert_eq!(metadata["generation"], service["status"]["observedGeneration"], "{command}");
    assert_eq!(metadata["labels"]["cloud.googleapis.com/location"], "us-central1", "{command}");
    let annotations = &metadata["annotations"];
    assert!(annotations["serving.knative.dev/lastModifier"].is_string(), "{command}");
    let urls: Vec<String> =
        serde_json::from_str(annotations["run.googleapis.com/urls"].as_str().unwrap()).unwrap();
    let name = metadata["name"].as_str().unwrap();
    assert_eq!(urls[0], format!("https://{name}-{NUMBER}.us-central1.run.app"), "{command}");
    assert_eq!(service["status"]["url"], urls[1].as_str(), "{command}");
    let conditions = service["status"]["conditions"].as_array().unwrap();
    assert_eq!(
        (&conditions[0]["type"], &conditions[0]["status"]),
        (&json!("Ready"), &json!("True")),
        "{command}"
    );
    assert!(service["status"]["latestReadyRevisionName"].is_string(), "{command}");
    let shares = service["status"]["traffic"].as_array().unwrap().iter();
    assert_eq!(shares.map(|entry| entry["percent"].as_u64().unwrap_or(0)).sum::<u64>(), 100, "{command}");
}

fn check_revision(command: &str, revision: &Value) {
    let labels = &revision["metadata"]["labels"];
    assert!(labels["serving.knative.dev/service"].is_string(), "{command}");
    assert_eq!(labels["cloud.googleapis.com/location"], "us-central1", "{command}");
    let kinds: Vec<&Value> = revision["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| &condition["type"])
        .collect();
    assert_eq!(kinds, ["Ready", "Active", "ContainerHealthy", "ResourcesAvailable"], "{command}");
}

#[test]
fn after_gcloud_s_commands_everything_is_as_it_should_be() {
    let world = RunWorld::new();
    let recorded = recorded_revisions();
    let mut replacements = Replacements::default();
    let mut seen = HashMap::new();
    for line in GCLOUD.lines() {
        let command: Value = serde_json::from_str(line).unwrap();
        let mut last = Value::Null;
        for call in command["calls"].as_array().unwrap() {
            let path = replacements.path(call["path"].as_str().unwrap());
            (_, last) = world.send(call["verb"].as_str().unwrap(), &path, replacements.body(&call["body"]));
            replacements.learn(&last);
            if let Some(created) = last["status"]["latestCreatedRevisionName"].as_str() {
                replacements.pair(&recorded, created);
            }
        }
        seen.insert(command["number"].as_str().unwrap().to_owned(), last);
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    // Three updates and a tagged deployment, newest first; moving traffic about made none.
    let revisions = names(&seen["027"]);
    let numbers: Vec<&str> = revisions.iter().map(|name| name.rsplit('-').nth(1).unwrap()).collect();
    assert_eq!(numbers, ["00005", "00004", "00003", "00002", "00001"]);
    assert_eq!(revisions[0], "my-internal-service-00005-loh", "the name that gcloud chose");
    let active: Vec<bool> = seen["027"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|revision| revision["status"]["conditions"][1]["status"] == "True")
        .collect();
    assert_eq!(active, [true, true, false, false, false], "the tagged one and the one before it");

    let traffic = &seen["031"]["response"]["status"]["traffic"];
    let urls: Vec<&str> =
        traffic.as_array().unwrap().iter().filter_map(|entry| entry["url"].as_str()).collect();
    assert!(urls[0].starts_with("https://canary---my-internal-service-"), "{urls:?}");
    assert!(urls[1].starts_with("https://blue---my-internal-service-"), "{urls:?}");
    assert_eq!(traffic[2]["revisionName"], "my-internal-service-00005-loh");

    let granted = &seen["033"]["bindings"];
    let caller = "serviceAccount:caller@demo.iam.gserviceaccount.com";
    assert_eq!(*granted, json!([{"role": "roles/run.invoker", "members": [caller]}]));
    assert_eq!(seen["034"].get("bindings"), None);
    assert_eq!(names(&seen["021"]), ["my-internal-service"]);
    assert!(seen["040"]["metadata"]["name"].as_str().unwrap().starts_with("my-yaml-service-00001-"));
}

#[test]
fn the_region_of_the_endpoint_counts() {
    let world = RunWorld::new();
    let body = json!({"metadata": {"name": "svc"}, "spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}});
    let services = "/apis/serving.knative.dev/v1/namespaces/demo/services";
    let made = world.ok("POST", &format!("/run/europe-west1{services}"), body.clone());
    assert_eq!(made["metadata"]["labels"]["cloud.googleapis.com/location"], "europe-west1");
    let listed = |path: String| world.ok("GET", &path, Value::Null)["items"].as_array().unwrap().len();
    assert_eq!(listed(format!("/run/europe-west1{services}")), 1);
    assert_eq!(listed(format!("/run/us-central1{services}")), 0);
    assert_eq!(listed(services.to_owned()), 1);
    let (status, _) = world.send("GET", &format!("/run/us-central1{services}/svc"), Value::Null);
    assert_eq!(status, 404);
    world.ok("GET", &format!("/run/europe-west1{services}/svc"), Value::Null);
    let policy = "/run/europe-west1/v1/projects/demo/locations/europe-west1/services/svc:getIamPolicy";
    assert_eq!(world.ok("GET", policy, Value::Null), json!({"etag": "ACAB"}));
}

#[test]
fn lists_come_in_pages() {
    let world = RunWorld::new();
    let services = "/v1/projects/demo/locations/us-central1/services";
    for name in ["a", "b", "c"] {
        let spec = json!({"template": {"spec": {"containers": [{"image": "x"}]}}});
        world.ok("POST", services, json!({"metadata": {"name": name}, "spec": spec}));
    }
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = world.ok("GET", &format!("{services}{query}"), Value::Null);
        let items = page["items"].as_array().unwrap();
        seen.push(
            items
                .iter()
                .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>(),
        );
        match page["metadata"]["continue"].as_str() {
            Some(token) => query = format!("?limit=2&continue={token}"),
            None => break,
        }
    }
    assert_eq!(seen, [vec!["c".to_owned(), "b".to_owned()], vec!["a".to_owned()]]);
    let v2 = world.ok("GET", "/v2/projects/demo/locations/-/services?pageSize=2", Value::Null);
    assert_eq!((v2["services"].as_array().unwrap().len(), v2["nextPageToken"].is_string()), (2, true));
    let (status, _) = world.send("GET", &format!("{services}?watch=true"), Value::Null);
    assert_eq!(status, 400);
}

#[test]
fn terraform_s_v2_service() {
    let world = RunWorld::new();
    let services = "/v2/projects/demo/locations/us-central1/services";
    let body = json!({
        "labels": {"goog-terraform-provisioned": "true"},
        "template": {"containers": [{"image": "gcr.io/cloudrun/hello", "startupProbe": null}]},
    });
    let operation = world.ok("POST", &format!("{services}?serviceId=svc"), body);
    let done = world.ok(
        "POST",
        &format!("/v2/{}:wait", operation["name"].as_str().unwrap()),
        json!({"timeout": "20s"}),
    );
    assert_eq!(done["done"], true, "{done}");
    let service = world.ok("GET", &format!("{services}/svc"), Value::Null);
    assert_eq!(
        (&service["generation"], &service["labels"]["goog-terraform-provisioned"]),
        (&json!("1"), &json!("true"))
    );
    let patched = world.ok(
        "PATCH",
        &format!("{services}/svc?updateMask=ingress"),
        json!({"ingress": "INGRESS_TRAFFIC_INTERNAL_ONLY"}),
    );
    assert_eq!(patched["done"], true, "{patched}");
    let knative = world.ok("GET", "/apis/serving.knative.dev/v1/namespaces/demo/services/svc", Value::Null);
    assert_eq!(knative["metadata"]["annotations"]["run.googleapis.com/ingress-status"], "internal");
    let (status, error) = world.send(
        "POST",
        &format!("{services}?serviceId=svc"),
        json!({"template": {"containers": [{"image": "x"}]}}),
    );
    assert_eq!((status, &error["error"]["status"]), (409, &json!("ALREADY_EXISTS")));
    let revisions = world.ok("GET", &format!("{services}/svc/revisions"), Value::Null);
    assert_eq!(revisions["revisions"].as_array().unwrap().len(), 1);
    let deleted = world.ok("DELETE", &format!("{services}/svc"), Value::Null);
    assert_eq!(deleted["done"], true, "{deleted}");
    assert_eq!(world.send("GET", &format!("{services}/svc"), Value::Null).0, 404);
}

#[test]
fn refusals_name_the_field() {
    let world = RunWorld::new();
    let body = json!({"metadata": {"name": "svc"}, "spec": {"template": {"spec": {"containers": [{"image": "x"}], "timeoutSeconds": 9999}}}});
    let (status, error) = world.send("POST", "/apis/serving.knative.dev/v1/namespaces/demo/services", body);
    assert_eq!((status, &error["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    let violation = &error["error"]["details"][0]["fieldViolations"][0];
    assert_eq!(violation["field"], "spec.template.spec.timeoutSeconds");
    let (status, error) =
        world.send("GET", "/apis/domains.cloudrun.com/v1/namespaces/demo/domainmappings", Value::Null);
    assert_eq!((status, &error["error"]["status"]), (501, &json!("UNIMPLEMENTED")));
}

#[test]
fn identities() {
    let world = RunWorld::new();
    let accounts = "/v1/projects/demo/serviceAccounts";
    let email = "caller@demo.iam.gserviceaccount.com";
    let made =
        world.ok("POST", accounts, json!({"accountId": "caller", "serviceAccount": {"displayName": "c"}}));
    assert_eq!(made["email"], email);
    assert_eq!(world.ok("GET", &format!("{accounts}/{email}"), Value::Null), made);
    assert_eq!(world.ok("GET", &format!("/v1/projects/{NUMBER}/serviceAccounts/{email}"), Value::Null), made);
    assert_eq!(world.ok("GET", accounts, Value::Null)["accounts"].as_array().unwrap().len(), 2);

    let anyone = format!("/v1/projects/-/serviceAccounts/{email}");
    let request = json!({"audience": "https://x.run.app", "includeEmail": true, "delegates": null});
    let token = world.ok("POST", &format!("{anyone}:generateIdToken"), request.clone())["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let verifier = world.world.api.deps().issuer.verifier();
    let verified =
        verifier.verify(&token, &["https://x.run.app".to_owned()], jiff::Timestamp::now()).unwrap();
    assert_eq!(verified.principal.email(), Some(email));
    let (status, _) = world.send("POST", &format!("{accounts}/{email}:generateIdToken"), request);
    assert_eq!(status, 400, "the project must be -");

    let access = world.ok(
        "POST",
        &format!("{anyone}:generateAccessToken"),
        json!({"scope": ["a"], "lifetime": "3600s"}),
    );
    let as_caller = Request::builder()
        .method("POST")
        .uri(format!("{anyone}:generateAccessToken"))
        .header("authorization", format!("Bearer {}", access["accessToken"].as_str().unwrap()))
        .body(Bytes::from(json!({"scope": ["a"]}).to_string()));
    assert_eq!(
        world.world.request(as_caller.unwrap()).status(),
        403,
        "its own token lets it speak for nobody"
    );

    let jwks = world.ok("GET", "/oauth2/v3/certs", Value::Null);
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
    assert_eq!(world.ok("GET", "/oauth2/v1/certs", Value::Null).as_object().unwrap().len(), 1);
    let own = world.ok("GET", &format!("/service_accounts/v1/metadata/jwk/{email}"), Value::Null);
    assert_ne!(own["keys"], jwks["keys"]);
    assert_eq!(
        world
            .send("GET", "/service_accounts/v1/metadata/jwk/nobody@demo.iam.gserviceaccount.com", Value::Null)
            .0,
        404
    );

    let project =
        world.ok("POST", "/v1/projects/demo:getIamPolicy", json!({"options": {"requestedPolicyVersion": 3}}));
    assert_eq!(project["bindings"][0]["role"], "roles/owner");
    assert_eq!(world.ok("POST", &format!("/v1/projects/{NUMBER}:getIamPolicy"), json!({})), project);
    let set = json!({"policy": {"bindings": [], "etag": project["etag"]}, "updateMask": "bindings,etag"});
    world.ok("POST", "/v1/projects/demo:setIamPolicy", set.clone());
    let (status, error) = world.send("POST", "/v3/projects/demo:setIamPolicy", set);
    assert_eq!((status, &error["error"]["status"]), (409, &json!("ABORTED")));

    world.ok("DELETE", &format!("{accounts}/{email}"), Value::Null);
    assert_eq!(world.send("GET", &format!("{accounts}/{email}"), Value::Null).0, 404);
}

#[test]
fn the_token_endpoint() {
    let world = RunWorld::new();
    let post = |kind: &str, body: &str| {
        let request =
            Request::post("/token").header("content-type", kind).body(Bytes::from(body.to_owned())).unwrap();
        let response = world.world.request(request);
        (response.status().as_u16(), serde_json::from_slice::<Value>(response.body()).unwrap())
    };
    let form = "application/x-www-form-urlencoded";
    let refresh = "grant_type=refresh_token&client_id=32555940559.apps.googleusercontent.com&client_secret=x&refresh_token=r&scope=a%20b";
    let (status, answer) = post(form, refresh);
    assert_eq!((status, &answer["token_type"]), (200, &json!("Bearer")), "{answer}");
    assert!(answer["expires_in"].is_u64() && answer["access_token"].is_string());
    let claims = vestibule_iam::token::jwt::parse(answer["id_token"].as_str().unwrap()).unwrap().claims;
    assert_eq!(
        (&claims["aud"], &claims["email"]),
        (&json!("32555940559.apps.googleusercontent.com"), &json!("local@vestibule"))
    );
    assert_eq!(post("application/json", r#"{"grant_type": "refresh_token", "refresh_token": "r"}"#).0, 200);

    for (body, error) in [
        ("", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=refresh_token", "invalid_request"),
        ("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=x", "invalid_grant"),
        ("grant_type=%ff", "invalid_request"),
    ] {
        let (status, answer) = post(form, body);
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{body}");
    }
    assert_eq!(world.send("GET", "/token", Value::Null).0, 400);
}

#[test]
fn the_metadata_server() {
    let world = RunWorld::new();
    world.ok("GET", "/v1/projects/my-project", Value::Null);
    let get = |path: &str, flavor: bool| {
        let request = Request::get(path);
        let request = if flavor { request.header("metadata-flavor", "Google") } else { request };
        let response = world.world.request(request.body(Bytes::new()).unwrap());
        let flavor =
            response.headers().get("metadata-flavor").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned(), flavor)
    };
    let project = get("/computeMetadata/v1/project/project-id", true);
    assert_eq!(project, (200, "my-project".to_owned(), Some("Google".to_owned())));
    assert_eq!(get("/computeMetadata/v1/project/project-id", false).0, 403);
    assert_eq!(get("/", true).0, 200);
    assert_eq!(get("/", false).0, 404);
    let email = get("/computeMetadata/v1/instance/service-accounts/default/email", true).1;
    assert!(email.ends_with("-compute@developer.gserviceaccount.com"), "{email}");
    let token = get("/computeMetadata/v1/instance/service-accounts/default/identity?audience=a", true).1;
    let verifier = world.world.api.deps().issuer.verifier();
    let verified = verifier.verify(&token, &["a".to_owned()], jiff::Timestamp::now()).unwrap();
    assert_eq!(verified.principal.email(), Some(email.as_str()));
}
