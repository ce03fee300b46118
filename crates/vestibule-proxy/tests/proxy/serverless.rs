//! Serverless groups: to Cloud Run's front, and to an instance.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vestibule_proxy::ProxyConfig;
use vestibule_proxy::snapshot::{self, Front, FrontAddress, ServerlessNeg};
use vestibule_run::desired::Ingress;
use vestibule_urlmap::Mask;

use crate::backend::{Backend, ok};
use crate::instances::Instances;
use crate::wire::Wire;
use crate::world::{Site, World};

fn world(backend: &Backend) -> World {
    World::with(ProxyConfig::default(), Some(Instances::at(backend.address)))
}

pub fn neg(service: Option<&str>, mask: Option<&str>) -> snapshot::Backend {
    snapshot::Backend::Serverless(ServerlessNeg {
        name: "neg".into(),
        project: "p".into(),
        region: "us-central1".into(),
        service: service.map(Into::into),
        tag: None,
        mask: mask.map(|mask| Mask::parse(mask).unwrap()),
    })
}

#[test]
fn a_request_reaches_an_instance_started_from_nothing() {
    let backend = Backend::http(|_| ok("hello"));
    let world = world(&backend);
    world.deploy("svc", |_, _| {});
    world.serve(Site::of(neg(Some("svc"), None)));
    let answer = world.ask("GET /a?b HTTP/1.1\r\nHost: app.example\r\nUser-Agent: t\r\n\r\n");
    assert_eq!((answer.status(), answer.text()), (200, "hello".to_owned()));
    let request = backend.request();
    assert_eq!((request.line(), request.field("host")), ("GET /a?b HTTP/1.1", Some("app.example")));
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1,10.0.0.100"));
    assert_eq!(request.field("forwarded"), Some("for=\"127.0.0.1\";proto=http"));
    let trace = request.field("traceparent").unwrap()[3..35].to_owned();
    assert!(request.field("x-cloud-trace-context").unwrap().starts_with(&trace));

    let balancer = world.entry();
    let labels = &balancer["resource"]["labels"];
    assert_eq!((&labels["backend_name"], &labels["backend_target_name"]), (&"neg".into(), &"bs".into()));
    let run = world.entries("cloud_run_revision", 1).remove(0);
    assert_eq!(run["resource"]["labels"]["service_name"], "svc");
    assert_eq!(run["resource"]["labels"]["revision_name"], "svc-00001");
    assert_eq!(run["httpRequest"]["requestUrl"], "http://app.example/a?b");
    assert_eq!(run["trace"], format!("projects/p/traces/{trace}"));
    assert!(run["labels"]["instanceId"].is_string(), "{run}");
}

#[test]
fn a_mask_finds_the_service_and_the_path_stays() {
    let backend = Backend::text("hello");
    let world = world(&backend);
    world.deploy("svc", |_, _| {});
    world.serve(Site::of(neg(None, Some("<service>"))));
    assert_eq!(world.get("/svc/path").text(), "hello");
    assert_eq!(backend.request().line(), "GET /svc/path HTTP/1.1");
    for path in ["/other/path", "/"] {
        assert_eq!(world.get(path).status(), 404, "{path}");
    }
    let entries = world.entries("internal_http_lb_rule", 3);
    let told = |entry: &serde_json::Value| entry["jsonPayload"]["statusDetails"].as_str().unwrap().to_owned();
    assert!(told(&entries[1]).contains("other"), "{}", entries[1]);
    assert!(told(&entries[2]).contains("URL mask"), "{}", entries[2]);
}

#[test]
fn a_refusal_is_relayed_and_its_reason_logged() {
    let backend = Backend::text("hello");
    let world = world(&backend);
    world.deploy("svc", |service, _| service.ingress = Ingress::None);
    world.serve(Site::of(neg(Some("svc"), None)));
    assert_eq!(world.get("/").status(), 404);
    world.deploy("svc", |service, _| service.invoker_check_disabled = false);
    let mut client = world.connect();
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.status(), 403);
    assert!(answer.field("content-type").unwrap().starts_with("text/html"));
    assert!(answer.text().contains("<code>/x</code>"), "{}", answer.text());
    client.send("GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nonsense\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.status(), 401);
    assert!(answer.field("www-authenticate").unwrap().contains("invalid_token"));
    assert!(backend.requests().is_empty());
    let runs = world.entries("cloud_run_revision", 3);
    assert!(
        runs.iter().all(|run| run["textPayload"].is_string() && run["severity"] == "WARNING"),
        "{runs:#?}"
    );
}

#[test]
fn the_services_own_timeout_counts_from_the_start() {
    let backend = Backend::raw(|wire, seen| {
        if let Some(request) = wire.request() {
            seen(request);
            wire.rest();
        }
    });
    let world = world(&backend);
    world.deploy("svc", |_, revision| {
        revision.timeout = Duration::from_millis(400);
        revision.concurrency = 1;
    });
    world.serve(Site::of(neg(Some("svc"), None)));
    let answer = world.get("/");
    assert_eq!((answer.status(), answer.text()), (504, "upstream request timeout".to_owned()));
    let text = world.entries("cloud_run_revision", 1)[0]["textPayload"].as_str().unwrap().to_owned();
    assert!(text.contains("maximum request timeout"), "{text}");
    // The slot is free again, or this would wait for it.
    assert_eq!(world.get("/").status(), 504);
    assert_eq!(backend.requests().len(), 2);
}

/// An instance takes one request at a time; a client that leaves gives its slot to the next in line.
#[test]
fn a_client_that_leaves_gives_its_slot_back() {
    let backend = Backend::raw(|wire, seen| {
        while let Some(request) = wire.request() {
            let hangs = request.line().contains("hang");
            seen(request);
            if hangs {
                wire.rest();
                return;
            }
            wire.send(ok("next"));
        }
    });
    let world = world(&backend);
    world.deploy("svc", |_, revision| {
        revision.concurrency = 1;
        revision.max_instances = 1;
    });
    world.serve(Site::of(neg(Some("svc"), None)));
    let mut first = world.connect();
    first.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    while backend.requests().is_empty() {
        std::thread::yield_now();
    }
    let mut second = world.connect();
    second.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    drop(first);
    assert_eq!(second.response().text(), "next");
}

#[test]
fn an_instance_that_breaks_off_is_blamed() {
    let broken = Arc::new(AtomicBool::new(false));
    let theirs = broken.clone();
    let backend = Backend::raw(move |wire, seen| {
        while let Some(request) = wire.request() {
            seen(request);
            if theirs.load(Ordering::SeqCst) {
                return;
            }
            wire.send(ok("fine"));
        }
    });
    let world = world(&backend);
    world.deploy("svc", |_, _| {});
    world.serve(Site::of(neg(Some("svc"), None)));
    assert_eq!(world.get("/").text(), "fine");
    broken.store(true, Ordering::SeqCst);
    assert_eq!(world.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").status(), 503);
    let runs = world.entries("cloud_run_revision", 2);
    assert!(runs[1]["textPayload"].as_str().unwrap().contains("connection to the instance had an error"));
    assert_eq!(runs[1]["severity"], "ERROR");
}

/// The default URL, from outside and from inside.
#[test]
fn default_urls_are_entered_by_host() {
    let backend = Backend::text("hello");
    let world = world(&backend);
    let made = rcgen::generate_simple_self_signed(vec!["*.a.run.app".to_owned()]).unwrap();
    let certificate = vestibule_proxy::tls::Certificate::from_pem(
        &made.cert.pem(),
        &made.signing_key.serialize_pem(),
        vec!["*.a.run.app".to_owned()],
    );
    let tls = Arc::new(vestibule_proxy::tls::Tls::new(vec![certificate.unwrap()]).unwrap());
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let front = |at, tls: Option<&Arc<_>>| Arc::new(Front { at, tls: tls.cloned() });
    let (outside, plain) = (free(), free());
    let (ip, port) = (Ipv4Addr::new(199, 36, 153, 8), 8443);
    let fronts = vec![
        front(FrontAddress::Network { network: world.network.clone(), ip, port }, Some(&tls)),
        front(FrontAddress::Machine(outside), Some(&tls)),
        front(FrontAddress::Machine(plain), None),
    ];
    world.apply(Vec::new(), fronts).unwrap();
    let inside = world.vpc.locate(&world.network, ip, port).unwrap();
    world.deploy("svc", |service, _| service.ingress = Ingress::Internal);

    let mut client = Wire::new(TcpStream::connect(plain).unwrap());
    client.send("GET /x?y HTTP/1.1\r\nHost: svc-abc-uc.a.run.app\r\n\r\n");
    assert_eq!(client.response().field("location"), Some("https://svc-abc-uc.a.run.app/x?y"));

    for (front, host, status) in [
        (inside, "svc-abc-uc.a.run.app", 200),
        (outside, "svc-abc-uc.a.run.app", 404),
        (inside, "other-abc-uc.a.run.app", 404),
    ] {
        assert_eq!(ask_securely(front, host, &made.cert.pem()).status(), status, "{host}");
    }
    let request = backend.request();
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!((request.field("x-forwarded-proto"), request.field("via")), (Some("https"), None));
}

fn ask_securely(front: SocketAddr, host: &str, pem: &str) -> crate::wire::Message {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let plain = Wire::new(TcpStream::connect(front).unwrap()).stream;
    let mut client = Wire { stream: rustls::StreamOwned::new(connection, plain), read: Vec::new() };
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    client.response()
}

#[test]
fn a_client_with_affinity_keeps_its_instance() {
    let backend = Backend::text("hello");
    let world = world(&backend);
    world.deploy("svc", |_, revision| revision.session_affinity = true);
    world.serve(Site::of(neg(Some("svc"), None)));
    let first = world.get("/");
    let set = first.field("set-cookie").unwrap().to_owned();
    assert!(set.starts_with("GAESA=") && set.ends_with("; Path=/; HttpOnly"), "{set}");
    let cookie = set.split(';').next().unwrap();
    let again = world.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; {cookie}\r\n\r\n"));
    assert_eq!((again.status(), again.field("set-cookie")), (200, None));
    world.deploy("svc", |_, _| {});
    assert_eq!(world.get("/").field("set-cookie"), None);
}
