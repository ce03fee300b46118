//! What a client of the HTTPS load balancer is offered, asked with curl and OpenSSL.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use world::{Answer, REGION, World};

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
