use super::*;
use crate::desired::TrafficTarget;
use crate::table::{Entry, Table};
use crate::testing;
use jiff::Timestamp;
use serde_json::json;
use std::sync::OnceLock;
use vestibule_iam::policy::Policy;
use vestibule_iam::token::{IdTokenClaims, Issuer};

const URL: &str = "https://svc-abc-uc.a.run.app";
const CALLER: &str = "caller@p.iam.gserviceaccount.com";

/// One issuer for all tests: making its key takes a while.
fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<(tempfile::TempDir, Issuer)> = OnceLock::new();
    let (_, issuer) = ISSUER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::open(folder.path()).unwrap();
        issuer.id_token(&IdTokenClaims::new("1", URL), Timestamp::now()).unwrap();
        (folder, issuer)
    });
    issuer
}

fn token(email: &str, audience: &str, at: Timestamp) -> String {
    issuer().id_token(&IdTokenClaims::new("1234", audience).with_email(email), at).unwrap()
}

fn valid(email: &str) -> String {
    format!("Bearer {}", token(email, URL, Timestamp::now()))
}

fn policy(members: &[&str]) -> Policy {
    let policy = json!({"bindings": [
        {"role": "roles/run.viewer", "members": ["user:looker@example.com"]},
        {"role": "roles/run.invoker", "members": members},
    ]});
    Policy::from_json(&policy).unwrap()
}

fn private() -> Service {
    let mut service = testing::service("svc");
    service.invoker_check_disabled = false;
    service.audiences = vec![URL.to_owned(), "custom".to_owned()];
    service.hosts = vec!["svc-abc-uc.a.run.app".to_owned()];
    let target = |revision: &str, percent, tag: Option<&str>| TrafficTarget {
        revision: revision.into(),
        percent,
        tag: tag.map(Into::into),
    };
    service.traffic = vec![target("svc-1", 100, None), target("svc-2", 0, Some("blue"))];
    service.policies = vec![Arc::new(policy(&[&format!("serviceAccount:{CALLER}")]))];
    service
}

fn front(service: Service) -> Front {
    let entry = Entry::new(&Arc::new(service), |name| Some(testing::route(name)));
    let table = Arc::new(ArcSwap::from_pointee(Table::new(1, vec![Arc::new(entry)])));
    Front::new(table, Checker::new(issuer().verifier()))
}

fn ask<'a>(origin: Origin) -> Ask<'a> {
    let target = Target::Service { project: "p", region: "r", service: "svc", tag: None };
    Ask {
        target,
        origin,
        authorization: None,
        serverless_authorization: None,
        path: "/path?q=1",
        cookies: None,
    }
}

/// The status and cause with which a request with this header is refused; `None` if it is let in.
fn with_header(service: Service, authorization: Option<&str>) -> Option<(u16, Cause)> {
    let ask = Ask { authorization: authorization.map(str::as_bytes), ..ask(Origin::InternalLoadBalancer) };
    front(service).admit(&ask).err().map(|refusal| (refusal.status, refusal.cause))
}

#[test]
fn ingress_lets_in_who_comes_from_the_right_place() {
    use Ingress::*;
    use Origin::*;
    let table = [
        (All, [true, true, true]),
        (Internal, [true, true, false]),
        (InternalAndCloudLoadBalancing, [true, true, false]),
        (None, [false, false, false]),
    ];
    for (ingress, expected) in table {
        let service = Service { ingress, policies: vec![Arc::new(policy(&["allUsers"]))], ..private() };
        let front = front(service);
        for (origin, expected) in [InternalLoadBalancer, Vpc, External].into_iter().zip(expected) {
            match front.admit(&ask(origin)) {
                Ok(_) => assert!(expected, "{ingress:?} {origin:?}"),
                Err(refusal) => {
                    assert!(!expected, "{ingress:?} {origin:?}");
                    assert_eq!((refusal.status, refusal.cause), (404, Cause::Ingress));
                    assert_eq!(&*refusal.service.unwrap().key.name, "svc");
                }
            }
        }
    }
}

#[test]
fn ingress_is_checked_before_identity() {
    let service = Service { ingress: Ingress::Internal, ..private() };
    let refusal = front(service).admit(&ask(Origin::External)).err().unwrap();
    assert_eq!(refusal.cause, Cause::Ingress);
}

#[test]
fn a_private_service_wants_a_token_of_an_invoker() {
    assert_eq!(with_header(private(), None), Some((403, Cause::NoToken)));
    assert_eq!(with_header(private(), Some(&valid(CALLER))), None);
    assert_eq!(with_header(private(), Some(&valid("other@example.com"))), Some((403, Cause::NotAllowed)));
    assert_eq!(with_header(private(), Some(&valid("looker@example.com"))), Some((403, Cause::NotAllowed)));
}

#[test]
fn a_bad_token_is_401() {
    let now = Timestamp::now();
    let hours = |hours: i64| Timestamp::from_second(now.as_second() + hours * 3_600).unwrap();
    let access = issuer().access_token(&vestibule_iam::Principal::from_email(CALLER), &[], 3_600, now);
    let good = token(CALLER, URL, now);
    for (what, header) in [
        ("garbage", "Bearer garbage".to_owned()),
        ("nothing", String::new()),
        ("another scheme", "Basic dTpw".to_owned()),
        ("no scheme", good.clone()),
        ("expired", format!("Bearer {}", token(CALLER, URL, hours(-2)))),
        ("another audience", format!("Bearer {}", token(CALLER, "https://other.a.run.app", now))),
        ("an access token", format!("Bearer {access}")),
        (
            "a token without signature",
            format!("Bearer {}", vestibule_iam::token::without_signature(&good).unwrap()),
        ),
    ] {
        assert_eq!(with_header(private(), Some(&header)), Some((401, Cause::BadToken)), "{what}");
    }
    let ask = Ask { authorization: Some(b"Bearer x"), ..ask(Origin::Vpc) };
    let refusal = front(private()).admit(&ask).err().unwrap();
    assert!(refusal.www_authenticate.is_some());
    assert!(refusal.body.contains("<code>/path?q=1</code>"));
}

#[test]
fn audiences_and_schemes_in_their_forms() {
    let now = Timestamp::now();
    for audience in [URL, "https://svc-abc-uc.a.run.app/", "custom"] {
        let header = format!("bearer {}", token(CALLER, audience, now));
        assert_eq!(with_header(private(), Some(&header)), None, "{audience}");
    }
}

#[test]
fn an_open_service_lets_everything_in_untouched() {
    let open = || Service { policies: vec![Arc::new(policy(&["allUsers"]))], ..private() };
    let unchecked = || Service { invoker_check_disabled: true, policies: Vec::new(), ..private() };
    for service in [open, unchecked as fn() -> Service] {
        for header in [None, Some("Bearer garbage"), Some(valid(CALLER).as_str())] {
            let ask = Ask { authorization: header.map(str::as_bytes), ..ask(Origin::Vpc) };
            let admitted =
                front(service()).admit(&ask).unwrap_or_else(|refusal| panic!("{header:?}: {refusal:?}"));
            assert_eq!(admitted.replaced_token, None);
        }
    }
}

#[test]
fn all_authenticated_users_need_a_token() {
    let service = || Service { policies: vec![Arc::new(policy(&["allAuthenticatedUsers"]))], ..private() };
    assert_eq!(with_header(service(), None), Some((403, Cause::NoToken)));
    assert_eq!(with_header(service(), Some(&valid("anyone@example.com"))), None);
}

#[test]
fn the_projects_policy_counts_too_and_so_do_owners() {
    let project = json!({"bindings": [{"role": "roles/owner", "members": ["user:owner@example.com"]}]});
    let own = policy(&["projectOwner:p"]);
    let policies = vec![Arc::new(own), Arc::new(Policy::from_json(&project).unwrap())];
    let service = || Service { policies: policies.clone(), ..private() };
    assert_eq!(with_header(service(), Some(&valid("owner@example.com"))), None);
    assert_eq!(with_header(service(), Some(&valid(CALLER))), Some((403, Cause::NotAllowed)));
}

#[test]
fn conditions_are_asked_with_every_request() {
    let bound = |expression: &str, member: &str| {
        let condition = json!({"title": "t", "expression": expression});
        let binding = json!({"role": "roles/run.invoker", "members": [member], "condition": condition});
        let policy = Policy::from_json(&json!({"version": 3, "bindings": [binding]})).unwrap();
        Service { policies: vec![Arc::new(policy)], ..private() }
    };
    let here = "resource.name == \"projects/p/locations/r/services/svc\"";
    let elsewhere = "resource.name == \"projects/p/locations/r/services/other\"";
    let over = "request.time < timestamp(\"2020-01-01T00:00:00Z\")";
    let caller = format!("serviceAccount:{CALLER}");
    assert_eq!(with_header(bound(here, &caller), Some(&valid(CALLER))), None);
    assert_eq!(with_header(bound(elsewhere, &caller), Some(&valid(CALLER))), Some((403, Cause::NotAllowed)));
    assert_eq!(with_header(bound(over, "allUsers"), None), Some((403, Cause::NoToken)));
    assert_eq!(with_header(bound(here, "allUsers"), None), None);
}

#[test]
fn only_the_serverless_header_counts_when_both_are_there() {
    let front = front(private());
    let good = valid(CALLER);
    let both = |authorization: &'static str, serverless: &'static str| {
        let pick = |name| if name == "good" { good.as_bytes() } else { b"Bearer bad" };
        let ask = Ask {
            authorization: Some(pick(authorization)),
            serverless_authorization: Some(pick(serverless)),
            ..ask(Origin::Vpc)
        };
        front.admit(&ask)
    };
    assert_eq!(both("good", "bad").err().unwrap().status, 401);
    let replaced =
        both("bad", "good").unwrap_or_else(|refusal| panic!("{refusal:?}")).replaced_token.unwrap();
    assert!(replaced.serverless);
}

#[test]
fn the_signature_does_not_go_on() {
    let good = valid(CALLER);
    let ask = Ask { authorization: Some(good.as_bytes()), ..ask(Origin::Vpc) };
    let admitted = front(private()).admit(&ask).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let replaced = admitted.replaced_token.unwrap();
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_eq!(replaced.value, format!("{signed}.SIGNATURE_REMOVED_BY_GOOGLE").as_bytes());
    assert!(!replaced.serverless);
}

#[test]
fn tags_pick_their_revision_and_shares_the_others() {
    let front = front(Service { invoker_check_disabled: true, ..private() });
    let revision =
        |target| front.admit(&Ask { target, ..ask(Origin::Vpc) }).map(|a| a.revision.name.to_string());
    let by_tag = |tag| Target::Service { project: "p", region: "r", service: "svc", tag };
    assert_eq!(revision(by_tag(None)).unwrap(), "svc-1");
    assert_eq!(revision(by_tag(Some("blue"))).unwrap(), "svc-2");
    assert_eq!(revision(Target::Host("blue---svc-abc-uc.a.run.app")).unwrap(), "svc-2");
    assert_eq!(revision(by_tag(Some("red"))).unwrap_err().cause, Cause::UnknownTag);
    assert_eq!(revision(Target::Host("svc")).unwrap_err().cause, Cause::UnknownService);
    assert!(front.service(&by_tag(Some("red"))).is_none());
    assert_eq!(&*front.service(&by_tag(None)).unwrap().key.name, "svc");
}

#[test]
fn without_a_revision_that_serves_it_is_503() {
    let service = Service { traffic: Vec::new(), invoker_check_disabled: true, ..private() };
    let refusal = front(service).admit(&ask(Origin::Vpc)).err().unwrap();
    assert_eq!((refusal.status, refusal.cause), (503, Cause::NoRevision));
}

/// The entrance is used from every thread.
#[test]
fn a_front_is_shared() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Front>();
    fn sent<T: Send + 'static>(_: &T) {}
    let front = front(Service { invoker_check_disabled: true, ..private() });
    let admitted = front.admit(&ask(Origin::Vpc)).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    sent(&admitted);
    let waiting = admitted.acquire(Instant::now());
    fn sendable<T: Send>(_: &T) {}
    sendable(&waiting);
    assert!(std::mem::size_of_val(&waiting) <= 512, "{}", std::mem::size_of_val(&waiting));
}

/// Half of the traffic each to two revisions with one instance each, whose ids are `aaa…` and `bbb…`.
fn sticky(affinity: bool) -> (Front, Vec<crate::table::Route>) {
    let mut service = private();
    service.invoker_check_disabled = true;
    let target = |revision: &str, tag: &str| TrafficTarget {
        revision: revision.into(),
        percent: 50,
        tag: Some(tag.into()),
    };
    service.traffic = vec![target("svc-a", "ta"), target("svc-b", "tb")];
    let routes: Vec<_> = ["a", "b"]
        .map(|name| {
            let mut route = testing::route(&format!("svc-{name}"));
            Arc::make_mut(&mut route.revision).session_affinity = affinity;
            let (address, signals) =
                (std::net::SocketAddr::from(([127, 0, 0, 1], 1)), route.pool.signals.clone());
            let instance = crate::instance::Instance::new(1, name.repeat(64).into(), address, signals);
            route.pool.publish(vec![Arc::new(instance)]);
            route
        })
        .into();
    let known = routes.clone();
    let entry = Entry::new(&Arc::new(service), move |name| {
        known.iter().find(|route| *route.revision.name == *name).cloned()
    });
    let table = Arc::new(ArcSwap::from_pointee(Table::new(1, vec![Arc::new(entry)])));
    (Front::new(table, Checker::new(issuer().verifier())), routes)
}

/// How many of a hundred requests with these cookies go to `svc-b`.
fn to_b(front: &Front, cookies: &str, tag: Option<&str>) -> usize {
    let target = Target::Service { project: "p", region: "r", service: "svc", tag };
    let ask = Ask { cookies: Some(cookies.as_bytes()), target, ..ask(Origin::Vpc) };
    (0..100).filter(|_| &*front.admit(&ask).unwrap().revision.name == "svc-b").count()
}

#[test]
fn a_cookie_leads_back_to_its_instance() {
    let (front, _) = sticky(true);
    let cookie = format!("x=y; GAESA={}", "b".repeat(32));
    assert_eq!(to_b(&front, &cookie, None), 100, "affinity takes precedence over the split");
    let admitted = front.admit(&Ask { cookies: Some(cookie.as_bytes()), ..ask(Origin::Vpc) }).unwrap();
    let lease = admitted.try_acquire().unwrap();
    assert_eq!(admitted.affinity_cookie(&lease), None, "it has the cookie already");
    // A tag says more than a cookie, and an instance that is gone says nothing.
    assert_eq!(to_b(&front, &cookie, Some("ta")), 0);
    let gone = format!("GAESA={}", "c".repeat(32));
    assert!((1..100).contains(&to_b(&front, &gone, None)));
    let admitted = front.admit(&Ask { cookies: Some(gone.as_bytes()), ..ask(Origin::Vpc) }).unwrap();
    let lease = admitted.try_acquire().unwrap();
    assert!(admitted.affinity_cookie(&lease).unwrap().starts_with("GAESA="));
}

#[test]
fn without_affinity_a_cookie_means_nothing() {
    let (front, _) = sticky(false);
    let cookie = format!("GAESA={}", "b".repeat(32));
    assert!((1..100).contains(&to_b(&front, &cookie, None)));
    let admitted = front.admit(&Ask { cookies: Some(cookie.as_bytes()), ..ask(Origin::Vpc) }).unwrap();
    let lease = admitted.try_acquire().unwrap();
    assert_eq!(admitted.affinity_cookie(&lease), None);
}
