//! `vestibule doctor`: what this machine allows.
//!
//! Nothing here changes the machine, and nothing asks a running `serve`: the questions are those that decide how
//! `serve` will work here.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use vestibule_vpc::Driver;

use crate::printer::{Printer, Tone};
use crate::settings::Environment;

#[derive(Args)]
pub struct Options {
    /// How to print
    #[arg(long, value_parser = ["text", "json"], default_value = "text")]
    format: String,
}

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
    let findings = [
        network_mode(),
        firewall(),
        low_ports(),
        api_port(),
        cgroups(),
        containers(environment),
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

/// Which of the two network modes `serve` will take.
fn network_mode() -> Finding {
    let what = "networks";
    let is_root = rustix::process::geteuid().is_root();
    let found = |mode: &str, why: &str| format!("{mode} mode ({why})");
    if is_root && vestibule_vpc::namespace::available() {
        let found = found("namespace", "root may make network namespaces");
        return Finding { what, verdict: Verdict::Good, found, advice: None };
    }
    let count =
        read("/proc/sys/user/max_user_namespaces").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let forbidden = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    let lock = forbidden.iter().find(|(file, value, _)| read(file).as_deref() == Some(*value));
    let less = |why: &str, advice: String| Finding {
        what,
        verdict: Verdict::Less,
        found: found("loopback", why),
        advice: Some(format!("{advice}; loopback mode needs nothing and does all but real addresses")),
    };
    match (is_root, lock, count) {
        (true, _, _) => less(
            "root may not make network namespaces here",
            "run outside of this container, or with CAP_NET_ADMIN and CAP_SYS_ADMIN".into(),
        ),
        (false, Some((file, _, fix)), _) => {
            less(&format!("{file} forbids user namespaces"), format!("as root: {fix}"))
        }
        (false, None, 0) => {
            less("user namespaces are switched off", "as root: sysctl user.max_user_namespaces=10000".into())
        }
        (false, None, _) => Finding {
            what,
            verdict: Verdict::Good,
            found: found("namespace", "user namespaces are allowed"),
            advice: None,
        },
    }
}

/// Whether firewall rules of networks are enforced.
fn firewall() -> Finding {
    let what = "firewall rules";
    let good = |found: &str| Finding { what, verdict: Verdict::Good, found: found.into(), advice: None };
    let less = |found: String, advice: &str| Finding {
        what,
        verdict: Verdict::Less,
        found,
        advice: Some(advice.into()),
    };
    // Only who may make a network can look whether it would have a packet filter.
    if !rustix::process::geteuid().is_root() {
        return good(
            "enforced in namespace mode, where the kernel has nf_tables; `serve` warns where it has not",
        );
    }
    match vestibule_vpc::Namespaces::new().map(|driver| driver.firewall_gap()) {
        Ok(None) => good("enforced in namespace mode"),
        Ok(Some(gap)) => {
            less(gap, "use a kernel with nf_tables (CONFIG_NF_TABLES, CONFIG_NFT_CT, CONFIG_NFT_FIB_IPV4)")
        }
        Err(_) => less("not enforced in loopback mode".into(), "see networks"),
    }
}

fn low_ports() -> Finding {
    let what = "ports below 1024";
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

fn cgroups() -> Finding {
    let what = "cgroups";
    match read("/sys/fs/cgroup/cgroup.controllers") {
        Some(controllers) => {
            let has = |name: &str| controllers.split_whitespace().any(|c| c == name);
            match has("memory") && has("cpu") {
                true => Finding { what, verdict: Verdict::Good, found: "version 2 with cpu and memory".into(), advice: None },
                false => Finding {
                    what,
                    verdict: Verdict::Less,
                    found: format!("version 2 with [{controllers}]"),
                    advice: Some("memory and CPU limits of containers are not enforced".into()),
                },
            }
        }
        None => Finding {
            what,
            verdict: Verdict::Less,
            found: "version 1, or none".into(),
            advice: Some("memory and CPU limits of containers are not enforced; boot with systemd.unified_cgroup_hierarchy=1".into()),
        },
    }
}

fn containers(environment: &Environment) -> Finding {
    let what = "containers";
    let sockets = ["/var/run/docker.sock", "/run/podman/podman.sock"];
    let socket = sockets.iter().find(|socket| Path::new(socket).exists());
    let program = ["crun", "runc"].into_iter().find(|name| in_path(environment, name));
    match (socket, program) {
        (Some(socket), _) => Finding { what, verdict: Verdict::Good, found: (*socket).to_owned(), advice: None },
        (None, Some(program)) => Finding { what, verdict: Verdict::Good, found: program.to_owned(), advice: None },
        (None, None) => Finding {
            what,
            verdict: Verdict::Less,
            found: "no Docker, Podman, crun or runc".into(),
            advice: Some("the built-in image gcr.io/cloudrun/hello and plain programs (`serve --driver process`) need none".into()),
        },
    }
}

fn in_path(environment: &Environment, name: &str) -> bool {
    environment
        .get("PATH")
        .is_some_and(|path| std::env::split_paths(path).any(|folder| folder.join(name).is_file()))
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
        for finding in [
            network_mode(),
            low_ports(),
            api_port(),
            cgroups(),
            containers(&environment),
            files(),
            disk(&environment),
        ] {
            assert!(!finding.found.is_empty(), "{}", finding.what);
            assert!(finding.verdict == Verdict::Good || finding.advice.is_some(), "{}", finding.what);
        }
    }
}
