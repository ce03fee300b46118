//! What a client of the HTTPS load balancer is offered, asked with curl and OpenSSL.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use world::{Answer, REGION, World, until};

const URL: &str = "https://api.internal.example.com/";

fn prepared() -> World {
    let world = World::start();
    world.published_setup();
    let member = "--member=allUsers --role=roles/run.invoker";
    world.ok(&format!("run services add-iam-policy-binding my-internal-service {REGION} {member}"));
    world
}

/// curl from inside the network; its exit code tells whether the handshake worked (35: it did not).
fn curl(world: &World, flags: &[&str]) -> Answer {
    let fixed = [
        "curl",
        "-sS",
        "-k",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{ssl_verify_result}",
        "--max-time",
        "30",
    ];
    let words: Vec<&str> = fixed.iter().chain(flags).copied().chain([URL]).collect();
    world.vm(&words)
}

#[test]
fn an_ssl_policy_decides_what_is_offered() {
    let world = prepared();
    let old = ["--tls-max", "1.2"];
    let chacha = ["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305"];
    let newest = ["--tlsv1.3"];
    let works = |flags: &[&str]| match curl(&world, flags).code {
        0 => true,
        35 => false,
        code => panic!("curl {flags:?} ended with {code}"),
    };
    assert!(works(&old) && works(&chacha) && works(&newest), "without a policy");

    let made = world.gcloud(&format!(
        "compute ssl-policies create strict --profile=RESTRICTED --min-tls-version=1.3 {REGION}"
    ));
    assert_eq!((made.code, made.stderr.as_str()), (0, "Creating SSL policy...\n.....done.\n"), "{made:?}");
    assert!(made.stdout.starts_with("NAME    PROFILE     MIN_TLS_VERSION"), "{}", made.stdout);
    let attach = |policy: &str| {
        world.ok(&format!("compute target-https-proxies update my-internal-https-proxy {policy} {REGION}"));
    };
    attach("--ssl-policy=strict");
    assert!(!works(&old) && works(&newest), "TLS 1.3 alone");
    assert_eq!(
        world.gcloud(&format!("compute ssl-policies delete strict {REGION} --quiet")).code,
        1,
        "in use"
    );

    // A change of the policy reaches the proxy without a change of the proxy.
    world.ok(&format!(
        "compute ssl-policies update strict --profile=CUSTOM --min-tls-version=1.2 \
         --custom-features=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 {REGION}"
    ));
    assert!(works(&old) && !works(&chacha) && works(&newest), "one suite of TLS 1.2");
    attach("--clear-ssl-policy");
    assert!(works(&chacha), "no policy again");
    world.ok(&format!("compute ssl-policies delete strict {REGION} --quiet"));
    assert!(!world.ok("compute ssl-policies list --regions=us-central1").contains("strict"));
}

#[test]
fn a_policy_says_what_is_not_offered() {
    let world = World::start();
    let made = world.gcloud(&format!("compute ssl-policies create wide {REGION}"));
    assert!(made.stderr.contains("TLS 1.0 and TLS 1.1 are not offered"), "{made:?}");
    let shown =
        world.ok(&format!("compute ssl-policies describe wide {REGION} --format=value(enabledFeatures)"));
    let features = world.ok("compute ssl-policies list-available-features --region=us-central1");
    assert_eq!(shown.trim().split(';').count(), features.lines().count(), "COMPATIBLE has every feature");
    let refused = world.gcloud(&format!("compute ssl-policies create odd --profile=FIPS_202205 {REGION}"));
    assert!(
        refused.code == 1 && refused.stderr.contains("requires the minimum TLS version TLS_1_2"),
        "{refused:?}"
    );
    let listed = world.ok("compute ssl-policies list");
    assert!(listed.contains("wide  us-central1  COMPATIBLE  TLS_1_0"), "{listed}");
}

#[test]
fn the_client_gets_the_certificate_that_it_can_use() {
    let world = prepared();
    let made = world.shell(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=rsa -addext \
         subjectAltName=DNS:api.internal.example.com -keyout rsa-key.pem -out rsa.pem && \
         openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=wild -addext \
         subjectAltName=DNS:*.wild.example.com -keyout wild-key.pem -out wild.pem",
    );
    if made.code != 0 {
        println!("not run: no openssl here to make RSA certificates ({})", made.stderr.trim());
        return;
    }
    for name in ["rsa", "wild"] {
        world.ok(&format!(
            "compute ssl-certificates create {name} --certificate={name}.pem --private-key={name}-key.pem {REGION}"
        ));
    }
    world.ok(&format!(
        "compute target-https-proxies update my-internal-https-proxy --ssl-certificates=my-internal-cert,rsa,wild {REGION}"
    ));
    let show = |name: &str, flags: &[&str]| {
        let (connect, url) = (format!("{name}:443:10.0.0.100:443"), format!("https://{name}/"));
        let fixed = ["curl", "-sS", "-k", "--max-time", "30", "-o", "/dev/null", "--connect-to", &connect];
        let words: Vec<&str> =
            fixed.iter().chain(flags).copied().chain(["-w", "%{http_code} %{certs}", &url]).collect();
        let answer = world.vm(&words);
        assert_eq!(answer.code, 0, "{name} {flags:?}: {answer:?}");
        assert!(answer.stdout.starts_with("200 "), "{answer:?}");
        let subject = answer.stdout.lines().find_map(|line| line.split_once("Subject:")).unwrap().1;
        subject.trim().rsplit(['=', ' ']).next().unwrap().to_owned()
    };
    let api = "api.internal.example.com";
    let old: &[&str] = &["--tls-max", "1.2", "--ciphers", "ECDHE-RSA-AES128-GCM-SHA256"];
    let first = show(api, &[]);
    assert!(!["rsa", "wild"].contains(&first.as_str()), "the first certificate of the name: {first}");
    assert_eq!(show(api, old), "rsa", "a client that knows no ECDSA");
    assert_eq!(show("x.wild.example.com", &[]), "wild");
    assert_eq!(show("x.y.wild.example.com", &[]), first, "a wildcard stands for one label");
    assert_eq!(show("unknown.example", &[]), first, "no certificate of this name: the first");
    // A request for a host that another certificate is for does not belong on the connection.
    let misdirected = curl(&world, &["-H", "Host: x.wild.example.com"]);
    assert!(misdirected.stdout.starts_with("421 "), "{misdirected:?}");
}

#[test]
fn certificates_that_cannot_serve_are_refused() {
    let world = World::start();
    let (cert, key) = world.certificate(&["a.example"]);
    let foreign = rcgen::generate_simple_self_signed(vec!["b.example".to_owned()]).unwrap();
    std::fs::write(world.path("foreign.pem"), foreign.signing_key.serialize_pem()).unwrap();
    std::fs::write(
        world.path("garbage.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for (certificate, key, why) in [
        (
            cert.as_path(),
            world.path("foreign.pem").as_path(),
            "The private key does not match the certificate.",
        ),
        (world.path("garbage.pem").as_path(), key.as_path(), "The SSL certificate could not be parsed."),
        (cert.as_path(), world.path("garbage.pem").as_path(), "The SSL key could not be parsed."),
    ] {
        let words = format!(
            "compute ssl-certificates create c --certificate={} --private-key={} {REGION}",
            certificate.display(),
            key.display()
        );
        let refused = world.gcloud(&words);
        assert!(refused.code == 1 && refused.stderr.contains(why), "{refused:?}");
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

/// An authority for certificates of clients; its own certificate is `NAME.pem`.
fn authority(world: &World, name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(world.path(&format!("{name}.pem")), authority.pem()).unwrap();
    authority
}

/// A certificate of a client with its key, in `NAME.pem`.
fn client(world: &World, name: &str, authority: &Authority) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://td.example/{name}").try_into().unwrap())];
    let pem = params.signed_by(&key, authority).unwrap().pem() + &key.serialize_pem();
    std::fs::write(world.path(&format!("{name}.pem")), pem).unwrap();
}

/// What a backend is told of certificates of clients.
const TOLD: [&str; 5] = ["present", "chain_verified", "error", "spiffe_id", "sha256_fingerprint"];

/// And by a custom header of the backend service.
const LEAF: &str = "leaf";

/// The load balancer of the set-up, which asks its clients for certificates that `ca.pem` vouches for.
fn asking(mode: &str) -> World {
    let world = prepared();
    let member = "--member=allUsers --role=roles/run.invoker";
    world.ok(&format!("run services add-iam-policy-binding my-internal-service {REGION} {member}"));
    let trusted = authority(&world, "ca");
    client(&world, "good", &trusted);
    client(&world, "stranger", &authority(&world, "other"));
    let here = "--location=us-central1";
    world.ok(&format!(
        "certificate-manager trust-configs create trust {here} --trust-store=trust-anchors=ca.pem"
    ));
    write_policy(&world, mode);
    world.ok(&format!("network-security server-tls-policies import mtls {here} --source=policy.yaml"));
    world.ok(&format!("compute url-maps export my-internal-url-map {REGION} --destination=map.yaml"));
    let headers = TOLD.map(|name| {
        format!(
            "  - headerName: x-cert-{name}\n    headerValue: '{{client_cert_{name}}}'\n    replace: true\n"
        )
    });
    let map = std::fs::read_to_string(world.path("map.yaml")).unwrap();
    let map = format!("{map}headerAction:\n  requestHeadersToAdd:\n{}", headers.concat());
    std::fs::write(world.path("map.yaml"), map).unwrap();
    world.ok(&format!("compute url-maps import my-internal-url-map {REGION} --source=map.yaml --quiet"));
    world.ok(&format!(
        "compute backend-services update my-internal-backend {REGION} --enable-logging --logging-sample-rate=1 \
         --logging-optional=INCLUDE_ALL_OPTIONAL --custom-request-header=x-cert-leaf:{{client_cert_leaf}}"
    ));
    let proxy = "compute target-https-proxies update my-internal-https-proxy";
    world.ok(&format!("{proxy} --server-tls-policy=mtls {REGION}"));
    world
}

fn write_policy(world: &World, mode: &str) {
    let policy = format!(
        "mtlsPolicy:\n  clientValidationMode: {mode}\n  \
         clientValidationTrustConfig: projects/demo/locations/us-central1/trustConfigs/trust\n"
    );
    std::fs::write(world.path("policy.yaml"), policy).unwrap();
}

/// What the backend was told of a client with these flags of curl; none if there was no connection.
fn told(world: &World, flags: &[&str]) -> Option<Vec<String>> {
    let fixed = ["curl", "-sS", "-k", "--max-time", "30", "-H", "Accept: application/json"];
    let words: Vec<&str> = fixed.iter().chain(flags).copied().chain([URL]).collect();
    let answer = world.vm(&words);
    // But for 35 the client had finished its handshake when the server refused its certificate, or missed one: then
    // curl tells what it was doing.
    if matches!(answer.code, 16 | 18 | 35 | 55 | 56 | 92 | 98) {
        assert_eq!(answer.stdout, "", "refused, and answered: {answer:?}");
        return None;
    }
    assert_eq!(answer.code, 0, "{flags:?}: {answer:?}");
    let seen: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let names = TOLD.iter().chain([&LEAF]);
    Some(names.map(|name| text_of(&seen["headers"][format!("x-cert-{name}")])).collect())
}

fn text_of(header: &serde_json::Value) -> String {
    let header = header.get(0).unwrap_or(header);
    header.as_str().unwrap_or("absent").to_owned()
}

#[test]
fn backends_are_told_who_the_client_is() {
    let world = asking("ALLOW_INVALID_OR_MISSING_CLIENT_CERT");
    for version in [["--tls-max", "1.2"], ["--tlsv1.3", "--http2"]] {
        let ask = |flags: &[&str]| told(&world, &[&version[..], flags].concat()).unwrap();
        let good = ask(&["--cert", "good.pem"]);
        assert_eq!(good[..4], ["true", "true", "", "spiffe://td.example/good"], "{good:?}");
        assert_eq!(good[4].len(), 43, "{good:?}");
        assert!(good[5].len() > 100 && good[5].starts_with(':') && good[5].ends_with(':'), "{good:?}");
        let stranger = ask(&["--cert", "stranger.pem"]);
        assert_eq!(stranger[..4], ["true", "false", "client_cert_validation_failed", ""], "{stranger:?}");
        // Nobody can claim to be what the load balancer tells.
        let nobody = ask(&[
            "-H",
            "x-cert-leaf: :forged:",
            "-H",
            "x-cert-present: true",
            "-H",
            "x-cert-spiffe_id: spiffe://td.example/good",
        ]);
        assert_eq!(nobody, ["false", "false", "client_cert_not_provided", "", "", ""]);
    }
    let log = "logging read jsonPayload.mtls.clientCertChainVerified=true --format=value(jsonPayload.mtls)";
    let logged = until(|| world.ok(log), |logged| !logged.is_empty());
    assert!(logged.contains("clientCertSpiffeId=spiffe://td.example/good"), "{logged}");
}

#[test]
fn clients_without_a_trusted_certificate_are_refused() {
    let mut world = asking("REJECT_INVALID");
    // They are from the first moment on, after a restart too.
    world.kill();
    world.serve();
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        let ask = |flags: &[&str]| told(&world, &[&[version, "--tls-max", &version[6..]], flags].concat());
        assert_eq!(ask(&["--cert", "good.pem"]).unwrap()[..3], ["true", "true", ""]);
        assert_eq!((ask(&["--cert", "stranger.pem"]), ask(&[])), (None, None));
    }
    for details in ["client_cert_validation_failed", "client_cert_not_provided"] {
        let log = format!(
            "logging read jsonPayload.statusDetails={details} --format=value(jsonPayload.proxyStatus)"
        );
        let logged = until(|| world.ok(&log), |logged| logged.lines().count() == 2);
        let wanted = format!("error=\"tls_certificate_error\"; details=\"{details}\"\n");
        assert_eq!(logged, wanted.repeat(2));
    }
    // What is in use stays.
    let here = "--location=us-central1 --quiet";
    let policy = format!("network-security server-tls-policies delete mtls {here}");
    let trust = format!("certificate-manager trust-configs delete trust {here}");
    for words in [&policy, &trust] {
        let refused = world.gcloud(words);
        assert!(refused.code == 1 && refused.stderr.contains("is being used by"), "{refused:?}");
    }
    // A change of the policy and of the trust config reaches the proxy without a change of the proxy.
    let update = "certificate-manager trust-configs update trust --location=us-central1";
    world.ok(&format!("{update} --add-allowlisted-certificates=stranger.pem"));
    assert!(told(&world, &["--cert", "stranger.pem"]).is_some(), "allowlisted");
    write_policy(&world, "ALLOW_INVALID_OR_MISSING_CLIENT_CERT");
    world.ok(&format!("network-security server-tls-policies import mtls {here} --source=policy.yaml"));
    assert!(told(&world, &[]).is_some());
    let clear = "compute target-https-proxies update my-internal-https-proxy --clear-server-tls-policy";
    world.ok(&format!("{clear} {REGION}"));
    assert_eq!(told(&world, &["--cert", "good.pem"]).unwrap(), [""; 6], "nobody asks");
    world.ok(&policy);
    world.ok(&trust);
}

/// Resumes sessions, and holds a connection until standard input tells that the trust config has changed.
const RESUMING: &str = r#"
import base64, http.client, json, os, socket, ssl, sys
from urllib.parse import urlsplit
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.maximum_version = getattr(ssl.TLSVersion, sys.argv[1])
context.load_cert_chain("good.pem")
gateway = urlsplit(os.environ["http_proxy"])

def connect(session=None):
    raw = socket.create_connection((gateway.hostname, gateway.port), 30)
    user = base64.b64encode(f"{gateway.username}:{gateway.password}".encode()).decode()
    raw.sendall(f"CONNECT 10.0.0.100:443 HTTP/1.1\r\nHost: lb\r\nProxy-Authorization: Basic {user}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"): answer += raw.recv(1)
    return context.wrap_socket(raw, server_hostname="api.internal.example.com", session=session)

def ask(stream):
    stream.sendall(b"GET / HTTP/1.1\r\nHost: api.internal.example.com\r\nAccept: application/json\r\n\r\n")
    answer = http.client.HTTPResponse(stream)
    answer.begin()
    return json.loads(answer.read())["headers"]["x-cert-chain_verified"]

held = connect()
print("first", held.session_reused, ask(held), flush=True)
again = connect(held.session)
print("again", again.session_reused, ask(again), flush=True)
sys.stdin.readline()
print("held", ask(held), flush=True)
try:
    late = connect(again.session)
    print("late", late.session_reused, ask(late), flush=True)
except (OSError, http.client.HTTPException):
    print("late refused", flush=True)
"#;

#[test]
fn sessions_know_the_client_until_the_trust_changes() {
    let world = asking("REJECT_INVALID");
    let python = std::env::var("VESTIBULE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !world.shell(&format!("{python} -c 'import ssl'")).stderr.is_empty() {
        println!("not run: no Python with ssl to resume sessions");
        return;
    }
    std::fs::write(world.path("resuming.py"), RESUMING).unwrap();
    let update = "certificate-manager trust-configs update trust --location=us-central1";
    for version in ["TLSv1_2", "TLSv1_3"] {
        world.ok(&format!("{update} --trust-store=trust-anchors=ca.pem"));
        let mut command = world.command(world::BINARY);
        let vm = ["vm", "run", "--network", "my-vpc", "--subnet", "my-subnet", "--", &python, "resuming.py"];
        let piped = std::process::Stdio::piped;
        let mut child = command.args(vm).arg(version).stdin(piped()).stdout(piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        let mut next = || lines.next().unwrap().unwrap();
        assert_eq!([next(), next()], ["first False true", "again True true"], "{version}");
        world.ok(&format!("{update} --trust-store=trust-anchors=other.pem"));
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
        // Who is in may stay; who comes is judged anew.
        assert_eq!([next(), next()], ["held true", "late refused"], "{version}");
        assert!(child.wait().unwrap().success());
    }
}
