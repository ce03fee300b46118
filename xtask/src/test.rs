//! `cargo xtask test`: every test of the workspace, with what it needs.
//!
//! The end-to-end tests drive the real binary with clients that nobody here wrote. What they need beyond a Rust
//! toolchain and a C compiler is installed here where that is possible (Debian packages as root, Python packages
//! into `target/python`, Envoy among them), and named exactly where it is not; tests that then cannot run say so.

use std::error::Error;
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

/// Installs missing programs as root on Debian; names them otherwise.
fn install_programs() {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !runs(program)).map(|(_, p)| *p).collect();
    if missing.is_empty() {
        return;
    }
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "-qq"]).args(&missing).stdin(Stdio::null());
    let updated = Command::new("apt-get").args(["update", "-qq"]).stdin(Stdio::null()).status();
    let installed = updated.is_ok() && apt.status().is_ok_and(|s| s.success());
    if !installed {
        eprintln!("some tests cannot run without: {} (Debian package names)", missing.join(", "));
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
