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
