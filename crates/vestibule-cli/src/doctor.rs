//! `vestibule doctor`: what this machine allows.
//!
//! Nothing here changes the machine, and nothing asks a running `serve`: what decides how `serve` will work here is
//! tried by a process of its own, as `serve` would try it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};

use crate::printer::{Printer, Tone};
use crate::settings::Environment;

#[derive(Args)]
pub struct Options {
    /// How to print
    #[arg(long, value_parser = ["text", "json"], default_value = "text")]
    format: String,
}

/// This very program, and the word that makes it try what the machine allows.
const OWN_PROGRAM: &str = "/proc/self/exe";
const PROBE: &str = "internal-probe";

/// The port of the API by default.
const API_PORT: u16 = 8470;

/// Free space that a state folder should have, bytes.
const COMFORTABLE_DISK: u64 = 1 << 30;

/// Open files that a busy proxy wants.
const COMFORTABLE_FILES: u64 = 65_536;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Works, with less.
    Less,
    Bad,
}

/// One thing that was looked at.
struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do, where there is something to do.
    advice: Option<String>,
}

pub fn run(options: &Options, environment: &Environment, printer: &Printer) -> Result<(), String> {
    let probe = Probe::run();
    let tried =
        |what: &'static str, look: fn(&Probe) -> Finding| probe.as_ref().map_or_else(|| unknown(what), look);
    let findings = [
        tried("networks", networks),
        tried("firewall rules", firewall),
        tried("containers", containers),
        resolver(),
        low_ports(probe.as_ref()),
        api_port(),
        files(),
        disk(environment),
    ];
    if options.format == "json" {
        let all: Vec<_> = findings
            .iter()
            .map(|f| json!({"check": f.what, "verdict": word(f.verdict), "found": f.found, "advice": f.advice}))
            .collect();
        printer.line(&serde_json::to_string_pretty(&all).unwrap_or_default());
        return Ok(());
    }
    let width = findings.iter().map(|f| f.what.len()).max().unwrap_or(0);
    for finding in &findings {
        let tone = match finding.verdict {
            Verdict::Good => Tone::Good,
            Verdict::Less => Tone::Notice,
            Verdict::Bad => Tone::Bad,
        };
        printer.line(&format!(
            "{}  {:width$}  {}",
            printer.tone(tone, word(finding.verdict)),
            finding.what,
            finding.found
        ));
        if let Some(advice) = &finding.advice {
            printer.line(&format!("{:6}{:width$}  {}", "", "", printer.tone(Tone::Dim, advice)));
        }
    }
    Ok(())
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok  ",
        Verdict::Less => "less",
        Verdict::Bad => "bad ",
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// What a process that tried what `serve` does found out.
struct Probe(Value);

impl Probe {
    /// `None` where this program cannot try, or was not understood.
    fn run() -> Option<Probe> {
        let output = Command::new(OWN_PROGRAM).arg(PROBE).stderr(Stdio::null()).output().ok()?;
        let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
        answer.get("networks")?;
        Some(Probe(answer))
    }

    fn error(&self, pointer: &str) -> Option<(&str, Option<i64>)> {
        let error = self.0.pointer(pointer).filter(|error| error.is_object())?;
        Some((error["message"].as_str()?, error["errno"].as_i64()))
    }
}

/// What nobody could find out.
fn unknown(what: &'static str) -> Finding {
    let advice = "this program cannot try it; `vestibule serve` says how it went";
    Finding { what, verdict: Verdict::Less, found: "not known".into(), advice: Some(advice.into()) }
}

/// Which of the two network modes `serve` will take.
fn networks(probe: &Probe) -> Finding {
    let what = "networks";
    let is_root = rustix::process::geteuid().is_root();
    match probe.error("/networks") {
        None => {
            let how = if is_root { "as root" } else { "in a user namespace of your own" };
            let found = format!("namespace mode, {how}");
            Finding { what, verdict: Verdict::Good, found, advice: None }
        }
        Some((error, errno)) => Finding {
            what,
            verdict: Verdict::Less,
            found: format!("loopback mode: no network namespaces here ({error})"),
            advice: Some(format!(
                "{}; loopback mode needs nothing and does all but real addresses",
                way_to_namespaces(is_root, errno)
            )),
        },
    }
}

/// Switches of the kernel that forbid namespaces: the file, the value that forbids them, who is concerned, and the remedy.
const SWITCHES: [(&str, &str, bool, &str); 4] = [
    ("/proc/sys/user/max_net_namespaces", "0", true, "sysctl user.max_net_namespaces=10000"),
    ("/proc/sys/user/max_user_namespaces", "0", false, "sysctl user.max_user_namespaces=10000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", false, "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        false,
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// `ENOSPC`: more namespaces than the kernel allows.
const TOO_MANY: i64 = 28;

fn way_to_namespaces(is_root: bool, errno: Option<i64>) -> String {
    let forbids = |(file, value, concerns_root, _): &&(&str, &str, bool, &str)| {
        (!is_root || *concerns_root) && read(file).as_deref() == Some(*value)
    };
    if let Some((_, _, _, remedy)) = SWITCHES.iter().find(forbids) {
        return format!("as root: {remedy}");
    }
    if errno == Some(TOO_MANY) {
        return "there are as many namespaces as the kernel allows: raise user.max_user_namespaces and user.max_net_namespaces".into();
    }
    match is_root {
        true => "this root may not make network namespaces: give it CAP_NET_ADMIN and CAP_SYS_ADMIN (docker run --privileged)".into(),
        false => "something forbids user namespaces, most likely the container around this: run outside of it, as root, or with docker run --security-opt seccomp=unconfined".into(),
    }
}

/// Whether firewall rules of networks are enforced.
fn firewall(probe: &Probe) -> Finding {
    let what = "firewall rules";
    let less = |found: &str, advice: &str| Finding {
        what,
        verdict: Verdict::Less,
        found: found.into(),
        advice: Some(advice.into()),
    };
    match (probe.error("/networks"), probe.0["firewall"].as_str()) {
        (Some(_), _) => less("not enforced in loopback mode", "see networks"),
        (None, Some(gap)) => {
            less(gap, "use a kernel with nf_tables (CONFIG_NF_TABLES, CONFIG_NFT_CT, CONFIG_NFT_FIB_IPV4)")
        }
        (None, None) => Finding { what, verdict: Verdict::Good, found: "enforced".into(), advice: None },
    }
}

/// Whether images run, and what holds them back.
fn containers(probe: &Probe) -> Finding {
    let what = "containers";
    if let (Some((error, _)), Some(engine)) =
        (probe.error("/containers/error"), probe.0.pointer("/engine/name").and_then(Value::as_str))
    {
        return Finding {
            what,
            verdict: Verdict::Good,
            found: format!("run by {engine}; Vestibule itself may not make any: {error}"),
            advice: None,
        };
    }
    if let Some((error, _)) = probe.error("/containers/error") {
        let engine = probe.error("/engine/error").map(|(error, _)| error);
        return Finding {
            what,
            verdict: Verdict::Less,
            found: format!("not allowed: {error}; {}", engine.unwrap_or("no engine was asked")),
            advice: Some("the built-in image gcr.io/cloudrun/hello and plain programs (`serve --driver process`) run all the same; for images see networks (containers need the same namespaces), or start a Docker engine that you may use".into()),
        };
    }
    let missing = probe.0.pointer("/containers/missing_limits").and_then(Value::as_array);
    let missing: Vec<&str> = missing.into_iter().flatten().filter_map(Value::as_str).collect();
    if missing.is_empty() {
        let found = "run by Vestibule itself, with limits of CPU, memory and processes".into();
        return Finding { what, verdict: Verdict::Good, found, advice: None };
    }
    let remedy = match rustix::process::geteuid().is_root() {
        true => "mount the controllers (cgroup v2 at /sys/fs/cgroup, or v1) so that root may write to them",
        false => {
            "start it where your user has control groups: systemd-run --user --scope -p Delegate=yes vestibule serve"
        }
    };
    Finding {
        what,
        verdict: Verdict::Less,
        found: format!("run by Vestibule itself, without limits of: {}", missing.join(", ")),
        advice: Some(remedy.into()),
    }
}

/// Who is asked for names that no private zone holds.
fn resolver() -> Finding {
    let what = "name servers";
    let text = read("/etc/resolv.conf").unwrap_or_default();
    let server = |line: &str| line.strip_prefix("nameserver").map(|rest| rest.trim().to_owned());
    let servers: Vec<String> = text.lines().filter_map(server).filter(|s| !s.is_empty()).collect();
    match servers.as_slice() {
        [] => Finding {
            what,
            verdict: Verdict::Less,
            found: "none in /etc/resolv.conf".into(),
            advice: Some("names outside of private zones get SERVFAIL inside the networks; name a server: serve --dns-upstream ADDR:53".into()),
        },
        some => Finding { what, verdict: Verdict::Good, found: some.join(", "), advice: None },
    }
}

fn low_ports(probe: Option<&Probe>) -> Finding {
    let what = "ports below 1024";
    if probe.is_some_and(|probe| probe.error("/networks").is_none()) {
        let found = "not needed: virtual IPs are inside the networks".into();
        return Finding { what, verdict: Verdict::Good, found, advice: None };
    }
    let first = read("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .and_then(|text| text.parse::<u16>().ok())
        .unwrap_or(1024);
    let root = rustix::process::geteuid().is_root();
    match root || first <= 80 {
        true => Finding { what, verdict: Verdict::Good, found: "allowed".into(), advice: None },
        false => Finding {
            what,
            verdict: Verdict::Less,
            found: format!("from {first} on"),
            advice: Some("virtual IPs are served on free ports in loopback mode, and the gateway knows them; as root: sysctl net.ipv4.ip_unprivileged_port_start=80".into()),
        },
    }
}

fn api_port() -> Finding {
    let what = "API port";
    match TcpListener::bind(("127.0.0.1", API_PORT)) {
        Ok(_) => Finding { what, verdict: Verdict::Good, found: format!("{API_PORT} is free"), advice: None },
        Err(error) => Finding {
            what,
            verdict: Verdict::Less,
            found: format!("{API_PORT}: {error}"),
            advice: Some("a `serve` is running already, or use --api-listen and VESTIBULE_API".into()),
        },
    }
}

fn files() -> Finding {
    let what = "open files";
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    match maximum >= COMFORTABLE_FILES {
        true => Finding { what, verdict: Verdict::Good, found: format!("up to {maximum}"), advice: None },
        false => Finding {
            what,
            verdict: Verdict::Less,
            found: format!("up to {maximum}"),
            advice: Some(format!("thousands of connections need more: ulimit -n {COMFORTABLE_FILES}")),
        },
    }
}

/// The state folder by default, or the nearest folder above it that is there.
fn state_folder(environment: &Environment) -> PathBuf {
    let state = match (environment.get("XDG_STATE_HOME"), environment.get("HOME")) {
        (Some(state), _) => PathBuf::from(state),
        (None, Some(home)) => PathBuf::from(home).join(".local/state"),
        (None, None) => PathBuf::from("/"),
    };
    let wanted = state.join("vestibule");
    wanted.ancestors().find(|folder| folder.exists()).map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

fn disk(environment: &Environment) -> Finding {
    let what = "disk";
    let folder = state_folder(environment);
    let free = rustix::fs::statvfs(&folder).map(|stat| stat.f_bavail * stat.f_frsize);
    match free {
        Ok(free) => Finding {
            what,
            verdict: if free >= COMFORTABLE_DISK { Verdict::Good } else { Verdict::Bad },
            found: format!("{} MiB free in {}", free >> 20, folder.display()),
            advice: (free < COMFORTABLE_DISK)
                .then(|| "state, images and logs need room: use `serve --state-dir` on another disk".into()),
        },
        Err(error) => Finding {
            what,
            verdict: Verdict::Bad,
            found: format!("{}: {error}", folder.display()),
            advice: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_says_something() {
        let environment = Environment::default();
        let good = Probe(json!({"networks": null, "firewall": null, "containers": {"missing_limits": []}}));
        let refused = json!({"message": "No", "errno": 28});
        let bad = Probe(json!({"networks": refused, "firewall": null, "containers": {"error": refused}}));
        let less =
            Probe(json!({"networks": null, "firewall": "None.", "containers": {"missing_limits": ["cpu"]}}));
        for look in [networks, firewall, containers] {
            assert!(look(&good).verdict == Verdict::Good, "{}", look(&good).found);
            assert!(look(&bad).verdict == Verdict::Less, "{}", look(&bad).found);
        }
        for finding in [
            networks(&bad),
            firewall(&bad),
            firewall(&less),
            containers(&bad),
            containers(&less),
            unknown("networks"),
            resolver(),
            low_ports(None),
            low_ports(Some(&good)),
            low_ports(Some(&bad)),
            api_port(),
            files(),
            disk(&environment),
        ] {
            assert!(!finding.found.is_empty(), "{}", finding.what);
            assert!(finding.verdict == Verdict::Good || finding.advice.is_some(), "{}", finding.what);
        }
    }
}
