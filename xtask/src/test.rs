//! `cargo xtask test`: every test of the workspace, with what it needs.
//!
//! The end-to-end tests drive the real binary with clients that nobody here wrote. What they need beyond a Rust
//! toolchain and a C compiler is installed here where that is possible (Debian packages as root, Python packages
//! into `target/python`, Envoy among them), and named exactly where it is not; tests that then cannot run say so.

use std::error::Error;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

type Outcome = Result<(), Box<dyn Error>>;

/// Programs the tests call, with the Debian package that brings each.
const PROGRAMS: [(&str, &str); 9] = [
    ("curl", "curl"),
    ("dig", "bind9-dnsutils"),
    ("python3", "python3"),
    ("taskset", "util-linux"),
    ("busybox", "busybox-static"),
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("docker-registry", "docker-registry"),
    ("buildah", "buildah"),
];

/// Runs `cargo xtask test [--no-lint] [FILTER…]`.
pub fn run(args: &[String]) -> Outcome {
    let (flags, filters): (Vec<_>, Vec<_>) = args.iter().partition(|a| a.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|f| **f != "--no-lint") {
        return Err(format!("unknown flag {unknown}; there is --no-lint").into());
    }
    install_programs();
    warn_of_a_full_disk();
    let python = python();
    if flags.is_empty() {
        cargo(&["fmt", "--all", "--check"], None)?;
        cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"], None)?;
        crate::api::run(&["--check".to_owned()])?;
    }
    let mut words = vec!["test", "--workspace", "--no-fail-fast"];
    words.extend(filters.iter().map(|f| f.as_str()));
    cargo(&words, python.as_deref())
}

fn cargo(args: &[&str], python: Option<&Path>) -> Outcome {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args).current_dir(crate::root());
    if let Some(python) = python {
        command.env("VESTIBULE_PYTHON", python);
    }
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", args.join(" ")).into()) }
}

/// Says beforehand what would otherwise end some test with "no space left on device".
fn warn_of_a_full_disk() {
    // A build from nothing writes 4 GB (7 GB with what incremental builds keep), the tests' images under 2.
    let needed: u64 = if crate::root().join("target/debug/deps").exists() { 2 } else { 9 };
    if let Some(free) = free_gigabytes().filter(|free| *free < needed) {
        eprintln!(
            "{free} GB are free on the disk of the workspace, and about {needed} are needed; make room, \
             or set CARGO_INCREMENTAL=0, which saves 3"
        );
    }
}

/// What `df` says is free beside the workspace; `None` where it cannot be asked.
fn free_gigabytes() -> Option<u64> {
    let asked = Command::new("df").arg("-Pk").arg(crate::root()).output().ok()?;
    let table = String::from_utf8(asked.stdout).ok()?;
    let kilobytes: u64 = table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kilobytes / (1024 * 1024))
}

/// Installs missing programs as root on Debian; names those that are then still missing.
fn install_programs() {
    let missing = missing_packages();
    if missing.is_empty() {
        return;
    }
    let _quiet = NoServices::new();
    // One that cannot be had must not keep the others away, so each is asked for on its own.
    if apt(&["update", "-qq"]) {
        missing.iter().for_each(|package| _ = apt(&["install", "-y", "-qq", package]));
    }
    let missing = missing_packages();
    if !missing.is_empty() {
        eprintln!("some tests cannot run without: {} (Debian package names)", missing.join(", "));
    }
}

fn missing_packages() -> Vec<&'static str> {
    PROGRAMS.iter().filter(|(program, _)| !runs(program)).map(|(_, package)| *package).collect()
}

/// Whether apt-get is there, may do this and has done it.
fn apt(args: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// While it lives, a package that is installed does not start its service: the tests want the programs of nginx and
/// HAProxy, and whoever runs them does not want a web server. Debian asks `policy-rc.d` before it starts anything; a
/// machine that has one already keeps its own.
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn new() -> NoServices {
        let path = Path::new("/usr/sbin/policy-rc.d");
        NoServices(Self::forbid(path).is_ok().then_some(path))
    }

    fn forbid(path: &Path) -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o755).open(path)?;
        // 101: the action is forbidden by policy.
        file.write_all(b"#!/bin/sh\nexit 101\n")
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether the program can be started at all.
fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// An interpreter with Google's client libraries in `target/python`, made if need be.
fn python() -> Option<PathBuf> {
    match make_python() {
        Ok(python) => Some(python),
        Err(error) => {
            eprintln!("the tests with Google's Python clients cannot run: {error}");
            None
        }
    }
}

fn make_python() -> Result<PathBuf, Box<dyn Error>> {
    let root = crate::root();
    let wanted = root.join("crates/vestibule/tests/python/requirements.txt");
    let home = root.join("target/python");
    let python = home.join("bin/python");
    let stamp = home.join("installed.txt");
    let list = std::fs::read_to_string(&wanted)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|done| done == list) {
        return Ok(python);
    }
    eprintln!("installing Google's Python clients into target/python");
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&wanted))?;
    std::fs::write(stamp, list)?;
    Ok(python)
}

fn succeed(command: &mut Command) -> Outcome {
    let status = command.stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}").into()) }
}
