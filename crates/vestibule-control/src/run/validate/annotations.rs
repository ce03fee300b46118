//! Which annotations a service and its template may have, and what they may hold.
//!
//! Google keeps `run.googleapis.com/` and `autoscaling.knative.dev/` for itself ("restricted", `ObjectMeta.annotations`
//! of the v1 API) and lists what each kind of resource accepts there. What is on no list is most often a typing error,
//! and what is on the list of another kind would do nothing where it stands, so both are refused. Everybody else's
//! annotations are theirs.

use serde_json::Value;

use crate::run::annotation as a;
use crate::{Document, Error};

/// Most characters of a description (`Service.description` of v2).
const MAX_DESCRIPTION: usize = 512;
/// Namespaces whose annotations are Google's alone.
const RESTRICTED: [&str; 2] = ["run.googleapis.com/", "autoscaling.knative.dev/"];
/// What the build of a function or of a source leaves on a service: a note, nothing that is obeyed.
const BUILD_NOTES: &str = "run.googleapis.com/build-";

/// What an annotation stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    Service,
    Revision,
    Both,
}

impl Home {
    /// As the v1 API names them.
    fn kinds(self) -> &'static str {
        match self {
            Home::Service => "Service",
            Home::Revision => "Revision",
            Home::Both => "Service, Revision",
        }
    }

    fn takes(self, other: Home) -> bool {
        self == other || self == Home::Both
    }
}

/// What an annotation may hold.
#[derive(Debug, Clone, Copy)]
enum Holds {
    /// Checked elsewhere, or a note.
    Anything,
    /// `true` or `false`, as Python writes it too.
    Flag,
    OneOf(&'static [&'static str]),
    /// An integer of at least so much.
    Count(u32),
    /// A share of what an instance has, between the two; 0 switches the rule off.
    Share(f64, f64),
    Description,
    /// A JSON list of strings.
    Strings,
    /// A JSON list of one interface.
    Interfaces,
    /// Documented and not built: only what says nothing may stand there.
    NotBuilt,
}

struct Rule {
    name: &'static str,
    home: Home,
    holds: Holds,
}

const fn rule(name: &'static str, home: Home, holds: Holds) -> Rule {
    Rule { name, home, holds }
}

/// `ObjectMeta.annotations` of the v1 API, and what gcloud sends beyond it.
const RULES: &[Rule] = &[
    rule(
        a::INGRESS,
        Home::Service,
        Holds::OneOf(&["all", "internal", "internal-and-cloud-load-balancing", "none"]),
    ),
    rule(a::CUSTOM_AUDIENCES, Home::Service, Holds::Strings),
    rule(a::DESCRIPTION, Home::Service, Holds::Description),
    rule(a::DEFAULT_URL_DISABLED, Home::Service, Holds::Flag),
    rule(a::INVOKER_IAM_DISABLED, Home::Service, Holds::Flag),
    rule(
        a::LAUNCH_STAGE,
        Home::Service,
        Holds::OneOf(&["ALPHA", "BETA", "GA", "PRELAUNCH", "EARLY_ACCESS", "DEPRECATED"]),
    ),
    rule(a::SERVICE_MIN, Home::Service, Holds::Count(0)),
    rule(a::SERVICE_MAX, Home::Service, Holds::Count(1)),
    rule(a::SCALING_MODE, Home::Service, Holds::OneOf(&["automatic", "manual"])),
    rule(a::MANUAL_COUNT, Home::Service, Holds::Count(0)),
    rule(a::BINARY_AUTHORIZATION, Home::Service, Holds::OneOf(&["default"])),
    rule(a::BREAKGLASS, Home::Service, Holds::Anything),
    rule(a::IAP_ENABLED, Home::Service, Holds::NotBuilt),
    rule("run.googleapis.com/threat-detection", Home::Service, Holds::NotBuilt),
    rule("run.googleapis.com/ssh-enabled", Home::Service, Holds::NotBuilt),
    rule("run.googleapis.com/gc-traffic-tags", Home::Service, Holds::NotBuilt),
    rule("run.googleapis.com/presets", Home::Service, Holds::NotBuilt),
    rule("run.googleapis.com/regions", Home::Service, Holds::NotBuilt),
    rule(a::INGRESS_STATUS, Home::Service, Holds::Anything),
    rule(a::URLS, Home::Service, Holds::Anything),
    rule(a::OPERATION_ID, Home::Both, Holds::Anything),
    rule(a::CLIENT_NAME, Home::Both, Holds::Anything),
    rule(a::CLIENT_VERSION, Home::Both, Holds::Anything),
    rule("run.googleapis.com/base-images", Home::Both, Holds::NotBuilt),
    rule(a::MIN_SCALE, Home::Revision, Holds::Count(0)),
    rule(a::MAX_SCALE, Home::Revision, Holds::Count(1)),
    rule(a::CPU_THROTTLING, Home::Revision, Holds::Flag),
    rule(a::STARTUP_CPU_BOOST, Home::Revision, Holds::Flag),
    rule(a::SESSION_AFFINITY, Home::Revision, Holds::Flag),
    rule(a::HEALTH_CHECK_DISABLED, Home::Revision, Holds::Flag),
    rule(a::EXECUTION_ENVIRONMENT, Home::Revision, Holds::OneOf(&["gen1", "gen2"])),
    rule(a::VPC_CONNECTOR, Home::Revision, Holds::Anything),
    rule(a::VPC_EGRESS, Home::Revision, Holds::OneOf(&["all", "all-traffic", "private-ranges-only"])),
    rule(a::NETWORK_INTERFACES, Home::Revision, Holds::Interfaces),
    // `RevisionScaling.concurrencyUtilization` and `.cpuUtilization` of v2.
    rule(a::CONCURRENCY_TARGET, Home::Revision, Holds::Share(0.1, 0.95)),
    rule(a::CPU_TARGET, Home::Revision, Holds::Share(0.1, 0.9)),
    rule(a::CONTAINER_DEPENDENCIES, Home::Revision, Holds::Anything),
    rule(a::SECRETS, Home::Revision, Holds::Anything),
    rule("run.googleapis.com/startupProbeType", Home::Revision, Holds::Anything),
    rule(a::CLOUDSQL, Home::Revision, Holds::NotBuilt),
    rule(a::ENCRYPTION_KEY, Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/encryption-key-shutdown-hours", Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/post-key-revocation-action-type", Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/gpu-zonal-redundancy-disabled", Home::Revision, Holds::Anything),
    rule("run.googleapis.com/secure-session-agent", Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/mesh", Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/mesh-dataplane", Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/ambient-networking", Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/overflow-scaling", Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/identity", Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/identity-type", Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/identity-certificate-enabled", Home::Revision, Holds::NotBuilt),
    rule("run.googleapis.com/sources", Home::Revision, Holds::NotBuilt),
];

/// Checks the annotations of a service.
pub(super) fn service(annotations: &Document) -> Result<(), Error> {
    each(annotations, Home::Service)?;
    if text(annotations, a::SCALING_MODE) == Some("manual") && text(annotations, a::MANUAL_COUNT).is_none() {
        return Err(Error::required(field(Home::Service, a::MANUAL_COUNT)));
    }
    ordered(annotations, Home::Service, a::SERVICE_MIN, a::SERVICE_MAX)
}

/// Checks the annotations of a service's template.
pub(super) fn template(annotations: &Document) -> Result<(), Error> {
    each(annotations, Home::Revision)?;
    let off = |name: &str| text(annotations, name).and_then(|share| share.parse::<f64>().ok()) == Some(0.0);
    if off(a::CPU_TARGET) && off(a::CONCURRENCY_TARGET) {
        let why = "Scaling by processor and by concurrency cannot both be switched off.";
        return Err(Error::invalid(field(Home::Revision, a::CPU_TARGET), 0, why));
    }
    ordered(annotations, Home::Revision, a::MIN_SCALE, a::MAX_SCALE)
}

fn text<'a>(annotations: &'a Document, name: &str) -> Option<&'a str> {
    annotations.get(name).and_then(Value::as_str)
}

fn field(home: Home, name: &str) -> String {
    let parent = if home == Home::Service { "metadata" } else { "spec.template.metadata" };
    format!("{parent}.annotations[{name}]")
}

fn each(annotations: &Document, home: Home) -> Result<(), Error> {
    for (name, value) in annotations {
        let said = value.as_str().unwrap_or_default();
        match RULES.iter().find(|rule| rule.name == name) {
            Some(rule) if rule.home.takes(home) => holds(rule, said, home)?,
            Some(rule) => return Err(misplaced(home, name, rule.home.kinds())),
            None if name.starts_with(BUILD_NOTES) => {}
            None if RESTRICTED.iter().any(|namespace| name.starts_with(namespace)) => {
                return Err(misplaced(home, name, "none"));
            }
            None => {}
        }
    }
    Ok(())
}

fn misplaced(home: Home, name: &str, kinds: &str) -> Error {
    let why = format!(
        "Annotation '{name}' is not supported on resources of kind '{}'. Supported kinds are: {kinds}.",
        home.kinds()
    );
    Error::invalid(field(home, name), name, why)
}

fn holds(rule: &Rule, said: &str, home: Home) -> Result<(), Error> {
    let why = match rule.holds {
        Holds::Anything => return Ok(()),
        Holds::Flag if matches!(said.to_ascii_lowercase().as_str(), "true" | "false") => return Ok(()),
        Holds::Flag => "Must be true or false.".to_owned(),
        Holds::OneOf(allowed) if allowed.contains(&said) => return Ok(()),
        Holds::OneOf(allowed) => format!("Must be one of {}.", allowed.join(", ")),
        Holds::Count(least) if said.parse::<u32>().is_ok_and(|number| number >= least) => return Ok(()),
        Holds::Count(least) => format!("Must be an integer of at least {least}."),
        Holds::Share(least, most) if is_share(said, least, most) => return Ok(()),
        Holds::Share(least, most) => format!("Must be between {least} and {most}, or 0."),
        Holds::Description if said.chars().count() <= MAX_DESCRIPTION => return Ok(()),
        Holds::Description => format!("Must have at most {MAX_DESCRIPTION} characters."),
        Holds::Strings if serde_json::from_str::<Vec<String>>(said).is_ok() => return Ok(()),
        Holds::Strings => "Must be a JSON list of strings.".to_owned(),
        Holds::Interfaces => match interfaces(said) {
            Ok(()) => return Ok(()),
            Err(why) => why.to_owned(),
        },
        Holds::NotBuilt if said.is_empty() || said.eq_ignore_ascii_case("false") => return Ok(()),
        Holds::NotBuilt => {
            let path = if home == Home::Service { "run.services" } else { "run.services.template" };
            return Err(Error::not_built(format!("{path}.annotations[{}]", rule.name)));
        }
    };
    Err(Error::invalid(field(home, rule.name), said, why))
}

fn is_share(said: &str, least: f64, most: f64) -> bool {
    said.parse::<f64>().is_ok_and(|share| share == 0.0 || (least..=most).contains(&share))
}

/// Checks the interfaces of direct VPC egress (`VpcAccess.networkInterfaces` of v2).
fn interfaces(said: &str) -> Result<(), &'static str> {
    let list: Vec<Document> = serde_json::from_str(said).map_err(|_| "Must be a JSON list of objects.")?;
    let [interface] = list.as_slice() else { return Err("Exactly one network interface must be given.") };
    let named = |member| text(interface, member).is_some_and(|name| !name.is_empty());
    match named("network") || named("subnetwork") {
        true => Ok(()),
        false => Err("One of network and subnetwork must be given."),
    }
}

/// Checks that the least number of instances is not more than the greatest.
fn ordered(annotations: &Document, home: Home, min: &str, max: &str) -> Result<(), Error> {
    let number = |name: &str| text(annotations, name).and_then(|number| number.parse::<u32>().ok());
    match (number(min), number(max)) {
        (Some(least), Some(most)) if least > most => {
            let why = "Must not be greater than the maximum number of instances.";
            Err(Error::invalid(field(home, min), least, why))
        }
        _ => Ok(()),
    }
}
