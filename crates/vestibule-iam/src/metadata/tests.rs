use serde_json::{Value, json};

use super::*;

const EMAIL: &str = "caller@demo.iam.gserviceaccount.com";

/// Says what it was asked for instead of minting.
struct Echo;

impl TokenSource for Echo {
    fn identity_token(&self, identity: &Identity, audience: &str) -> Result<String, String> {
        match audience {
            "broken" => Err("no key".to_owned()),
            _ => Ok(format!("{} for {audience}", identity.service_account)),
        }
    }

    fn access_token(&self, _: &Identity, scopes: &[String]) -> (String, i64) {
        (scopes.join(" "), 3599)
    }
}

fn identity() -> Identity {
    Identity::cloud_run("demo", "123456789012", "us-central1", "00a1", EMAIL)
}

fn get(target: &str) -> Answer {
    answer(Request { method: "GET", target, flavor: Some("Google"), forwarded: false }, &identity(), &Echo)
}

fn text(path: &str) -> String {
    let answer = get(&format!("/computeMetadata/v1/{path}"));
    assert_eq!((answer.status, answer.content_type), (200, "application/text"), "{path}: {answer:?}");
    answer.body
}

#[test]
fn leaves() {
    let table = [
        ("project/project-id", "demo"),
        ("project/numeric-project-id", "123456789012"),
        ("instance/region", "projects/123456789012/regions/us-central1"),
        ("instance/zone", "projects/123456789012/zones/us-central1-1"),
        ("instance/id", "00a1"),
        ("instance/service-accounts/default/email", EMAIL),
        ("instance/service-accounts/caller%40demo.iam.gserviceaccount.com/email", EMAIL),
        ("instance/service-accounts/default/scopes", "https://www.googleapis.com/auth/cloud-platform\n"),
        ("instance/service-accounts/default/aliases", "default\n"),
        ("universe/universe-domain", "googleapis.com"),
    ];
    for (path, expected) in table {
        assert_eq!(text(path), expected, "{path}");
    }
}

#[test]
fn folders_are_listed_and_redirected_to() {
    assert_eq!(text(""), "instance/\nproject/\nuniverse/\n");
    assert_eq!(text("instance/service-accounts/"), format!("default/\n{EMAIL}/\n"));
    assert_eq!(text("instance/service-accounts/default/"), "aliases\nemail\nidentity\nscopes\ntoken\n");
    assert_eq!(text("instance/"), "attributes/\nid\nregion\nservice-accounts/\nzone\n");
    let answer = get("/computeMetadata/v1/instance");
    assert_eq!((answer.status, answer.location.as_deref()), (301, Some("/computeMetadata/v1/instance/")));
    assert_eq!(get("/computeMetadata/v1").location.as_deref(), Some("/computeMetadata/v1/"));
    assert_eq!(get("/").body, "computeMetadata/\n");
}

#[test]
fn machines_have_names() {
    let machine = Identity {
        instance_name: "vm-1".into(),
        hostname: "vm-1.c.demo.internal".into(),
        zone: "us-central1-a".into(),
        ..identity()
    };
    let request = Request {
        method: "GET",
        target: "/computeMetadata/v1/instance/name",
        flavor: Some("Google"),
        forwarded: false,
    };
    assert_eq!(answer(request, &machine, &Echo).body, "vm-1");
    assert_eq!(get("/computeMetadata/v1/instance/name").status, 404);
}

#[test]
fn recursion_answers_json() {
    let account = json!({
        "aliases": ["default"], "email": EMAIL, "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
    });
    let answer = get(&format!("/computeMetadata/v1/instance/service-accounts/{EMAIL}/?recursive=true"));
    assert_eq!((answer.status, answer.content_type), (200, "application/json"));
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), account);

    let all: Value = serde_json::from_str(&get("/computeMetadata/v1/?recursive=true").body).unwrap();
    assert_eq!(all["project"]["numericProjectId"], 123456789012u64);
    assert_eq!(all["instance"]["serviceAccounts"][EMAIL], account);
    assert_eq!(get("/computeMetadata/v1/instance/id?alt=json").body, "\"00a1\"");
}

#[test]
fn tokens() {
    let identity =
        text("instance/service-accounts/default/identity?audience=https%3A%2F%2Fx.run.app&format=full");
    assert_eq!(identity, format!("{EMAIL} for https://x.run.app"));
    let identity =
        |query: &str| get(&format!("/computeMetadata/v1/instance/service-accounts/default/identity{query}"));
    assert_eq!(identity("").status, 400);
    assert_eq!(identity("?audience=").status, 400);
    assert_eq!(identity("?audience=a&format=odd").status, 400);
    assert_eq!(identity("?audience=broken").status, 503);
    assert_eq!(identity("?audience=a&format=standard&licenses=FALSE").status, 200);

    let token = |query: &str| -> Value {
        let answer = get(&format!("/computeMetadata/v1/instance/service-accounts/default/token{query}"));
        assert_eq!((answer.status, answer.content_type), (200, "application/json"));
        serde_json::from_str(&answer.body).unwrap()
    };
    assert_eq!(
        token(""),
        json!({ "access_token": CLOUD_PLATFORM_SCOPE, "expires_in": 3599, "token_type": "Bearer" })
    );
    assert_eq!(token("?scopes=a%2Cb")["access_token"], "a b");
}

#[test]
fn refusals() {
    let ask = |method, flavor, forwarded| {
        let target = "/computeMetadata/v1/project/project-id";
        answer(Request { method, target, flavor, forwarded }, &identity(), &Echo).status
    };
    assert_eq!(ask("GET", Some("Google"), false), 200);
    assert_eq!(ask("GET", None, false), 403);
    assert_eq!(ask("GET", Some("Bing"), false), 403);
    assert_eq!(ask("GET", Some("Google"), true), 403);
    assert_eq!(ask("POST", Some("Google"), false), 405);
    assert_eq!(get("/computeMetadata/v1/nothing").status, 404);
    assert_eq!(get("/computeMetadata/v1/project/project-id/more").status, 404);
    assert_eq!(get("/elsewhere").status, 404);
}

#[test]
fn percent_encoding() {
    assert_eq!(unescape("a%40b"), "a@b");
    for odd in ["%", "%4", "%zz", "100%", "%ff"] {
        assert_eq!(unescape(odd), odd);
    }
}
