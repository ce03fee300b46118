//! What is said to command lines that make no sense: the real gcloud's words, its exit codes, and no call to the API.

#![allow(clippy::unwrap_used, reason = "a test may stop where its world is not as it should be")]

use vestibule_cli::gcloud;
use vestibule_cli::printer::Printer;
use vestibule_cli::settings::Environment;

fn run(line: &str) -> (u8, String, String) {
    let mut environment = Environment::default();
    // Nothing listens there: a call would end in another message.
    environment.set("VESTIBULE_API", "http://127.0.0.1:9");
    let printer = Printer::captured();
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let code = gcloud::run(&words, &environment, &printer);
    let (stdout, stderr) = printer.into_captured();
    (code, stdout, stderr)
}

#[track_caller]
fn refused(line: &str, code: u8, expected: &str) {
    let (got_code, stdout, stderr) = run(line);
    assert_eq!(stderr, expected, "{line}");
    assert_eq!((got_code, stdout.as_str()), (code, ""), "{line}");
}

#[test]
fn unknown_words() {
    let search = "To search the help text of gcloud commands, run:\n  gcloud help -- SEARCH_TERMS\n";
    refused(
        "compute networks create x --foo",
        2,
        &format!(
            "ERROR: (gcloud.compute.networks.create) unrecognized arguments: --foo (did you mean '--format'?) \n\n{search}"
        ),
    );
    refused(
        "compute networks create x --foo --bar=1 y",
        2,
        &format!(
            "ERROR: (gcloud.compute.networks.create) unrecognized arguments:\n  --foo (did you mean '--format'?)\n  --bar=1\n  y\n  {search}"
        ),
    );
    refused(
        "compute networks create x --no-foo",
        2,
        &format!("ERROR: (gcloud.compute.networks.create) unrecognized arguments: --no-foo \n\n{search}"),
    );
    refused(
        "run deploy a b --image=x",
        2,
        &format!("ERROR: (gcloud.run.deploy) unrecognized arguments: b \n\n{search}"),
    );
}

#[test]
fn missing_words() {
    refused(
        "compute networks subnets create x --region=r",
        2,
        "ERROR: (gcloud.compute.networks.subnets.create) argument --network: Must be specified.
Usage: gcloud compute networks subnets create NAME --network=NETWORK [optional flags]
  optional flags may be  --description | --enable-flow-logs |
                         --enable-private-ip-google-access |
                         --external-ipv6-prefix | --help | --ip-collection |
                         --ipv6-access-type | --logging-aggregation-interval |
                         --logging-filter-expr | --logging-flow-sampling |
                         --logging-metadata | --logging-metadata-fields |
                         --private-ipv6-google-access-type | --purpose |
                         --range | --region | --reserved-internal-range |
                         --role | --secondary-range |
                         --secondary-range-with-reserved-internal-range |
                         --stack-type

For detailed information on this command and its flags, run:
  gcloud compute networks subnets create --help
",
    );
    refused(
        "run services add-iam-policy-binding s --region=r --member=x",
        2,
        "ERROR: (gcloud.run.services.add-iam-policy-binding) argument --role: Must be specified.
Usage: gcloud run services add-iam-policy-binding SERVICE --member=PRINCIPAL --role=ROLE [optional flags]
  optional flags may be  --condition | --condition-from-file | --help | --region

For detailed information on this command and its flags, run:
  gcloud run services add-iam-policy-binding --help
",
    );
}

#[test]
fn values_that_are_none() {
    let (code, _, stderr) = run("compute networks create x --subnet-mode");
    assert_eq!(code, 2);
    assert!(stderr.starts_with(
        "ERROR: (gcloud.compute.networks.create) argument --subnet-mode: expected one argument\nUsage: "
    ));
    let (code, _, stderr) = run("compute networks list --limit=x");
    assert_eq!(code, 2);
    assert!(stderr.starts_with(
        "ERROR: (gcloud.compute.networks.list) argument --limit: Value must be an integer; received: x\n"
    ));
    refused(
        "compute networks create x --subnet-mode=foo",
        2,
        "ERROR: (gcloud.compute.networks.create) argument --subnet-mode: Invalid choice: 'foo'.\n\nValid choices are [auto, custom].\n",
    );
    let (_, _, stderr) = run("compute backend-services create b --region=r --timeout=xx");
    assert!(stderr.contains(
        "argument --timeout: Failed to parse duration: Duration unit 'xx' must be preceded by a number\n"
    ));
    let (_, _, stderr) = run("run deploy x --labels=a --image=x --region=r");
    assert!(stderr.contains("argument --labels: Bad syntax for dict arg: [a]."));
}

#[test]
fn commands_that_are_none() {
    refused(
        "compute network list",
        2,
        "ERROR: (gcloud.compute) Invalid choice: 'network'.
Maybe you meant:
  gcloud compute networks list
  gcloud compute networks create
  gcloud compute networks delete
  gcloud compute networks describe
  gcloud compute networks get-effective-firewalls
  gcloud compute networks update

To search the help text of gcloud commands, run:
  gcloud help -- SEARCH_TERMS
",
    );
    let (code, _, stderr) = run("compute networks");
    assert_eq!(code, 2);
    assert!(stderr.starts_with(
        "ERROR: (gcloud.compute.networks) Command name argument expected.\n\nAvailable command groups"
    ));
}

/// What gcloud has and Vestibule has not is told apart from nonsense, and nothing is ever done halfway.
#[test]
fn what_is_not_implemented_says_so() {
    refused(
        "compute networks create x --network-profile=p",
        1,
        "ERROR: (gcloud.compute.networks.create) Vestibule does not implement the flag --network-profile of this command.\n",
    );
    refused(
        "compute url-maps edit x",
        1,
        "ERROR: (gcloud.compute.url-maps) Vestibule does not implement the command `gcloud compute url-maps edit`.\n",
    );
    refused(
        "compute instances list",
        1,
        "ERROR: (gcloud.compute) Vestibule does not implement the command `gcloud compute instances`.\n",
    );
}

#[test]
fn expressions_that_are_none() {
    let (code, _, stderr) = run("auth list --format=tabl(name)");
    assert_eq!(code, 1);
    assert!(stderr.starts_with("ERROR: (gcloud.auth.list) Format must be one of "), "{stderr}");
    let (code, _, stderr) = run("auth list --filter=a=(b");
    assert_eq!(
        (code, stderr.as_str()),
        (1, "ERROR: (gcloud.auth.list) More tokens expected [a=(b *HERE*].\n")
    );
    let (_, _, stderr) = run("auth list --filter=name==x");
    assert_eq!(stderr, "ERROR: (gcloud.auth.list) Malformed operator [name *HERE* ==x].\n");
    let (_, _, stderr) = run("auth list --format=value");
    assert!(stderr.contains("Format [value] requires a non-empty projection."), "{stderr}");
    let (_, _, stderr) = run("auth list --format=value(name.nope())");
    assert!(stderr.starts_with("ERROR: (gcloud.auth.list) Unknown transform function nope ["), "{stderr}");
}

#[test]
fn help_for_every_command() {
    for line in [
        "--help",
        "compute --help",
        "compute networks create --help",
        "run deploy --help",
        "dns record-sets transaction --help",
    ] {
        let (code, stdout, stderr) = run(line);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        assert!(stdout.starts_with("NAME\n    gcloud"), "{line}");
        assert!(
            stdout.lines().filter(|l| !l.starts_with("        $")).all(|l| l.chars().count() <= 80),
            "{line}:\n{stdout}"
        );
    }
}

#[test]
fn an_api_that_is_not_there() {
    let (code, _, stderr) = run("compute networks list");
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot reach the Vestibule API at http://127.0.0.1:9 "), "{stderr}");
    assert!(stderr.contains("Is `vestibule serve` running?"), "{stderr}");
}
