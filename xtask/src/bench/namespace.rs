//! `cargo xtask bench namespace`: what a network of the kernel's own costs the proxy.
//!
//! Our proxy serves one virtual IP in loopback mode and one in namespace mode, in turns, with the same backend on the
//! machine and the same load; in namespace mode the load generator stands inside the network, as a client does. The
//! proxy is pinned to the first core, load and backend to the second. Needs root, to enter the client's namespace.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::peers::{self, LOAD_CORE, PROXY_CORE, Running, Tools};
use super::works::{self, Work};
use super::{Failure, Options, failure, load, proc};

/// What is measured.
const WORKS: [Work; 3] = [
    works::plain("HTTP/1.1 keep-alive, empty answer", "/0"),
    works::plain("HTTP/1.1 keep-alive, 1 KiB", "/1024"),
    works::plain("HTTP/1.1 keep-alive, 64 KiB", "/65536"),
];

const MODES: [&str; 2] = ["loopback", "namespace"];

/// One counted run.
#[derive(Clone, Copy)]
struct Sample {
    /// Requests a second.
    throughput: f64,
    /// CPU time of the proxy a request, microseconds.
    cpu: f64,
}

/// The proxy in one mode; ends with this value.
struct Proxy {
    child: Child,
    /// `host:port` of the virtual IP.
    at: String,
    /// The client's network namespace.
    inside: Option<String>,
}

impl Proxy {
    fn start(program: &PathBuf, mode: &str, backend: u16) -> Result<Proxy, Failure> {
        let mut child = Command::new("taskset")
            .args(["-c", PROXY_CORE])
            .arg(program)
            .args([&format!("127.0.0.1:{backend}"), "--workers", "1"])
            .env("FORWARD_NETWORKS", mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next() {
            Some(at) => Ok(Proxy { child, at, inside: words.next() }),
            None => {
                peers::end(&mut child);
                Err(failure(format!("the proxy did not start in {mode} mode")))
            }
        }
    }

    fn sample(&self, tools: &Tools, work: Work, length: Duration) -> Result<Sample, Failure> {
        self.load(tools, work, length / 4)?;
        let family = proc::family(self.child.id());
        let before = proc::cpu_time(&family)?;
        let requests = self.load(tools, work, length)? as f64;
        let cpu = proc::cpu_time(&family)? - before;
        Ok(Sample {
            throughput: requests / length.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / requests.max(1.0),
        })
    }

    /// Runs the load generator where the client stands; the requests that were answered.
    fn load(&self, tools: &Tools, work: Work, length: Duration) -> Result<u64, Failure> {
        let mut command = match &self.inside {
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={namespace}")).arg("taskset");
                command
            }
            None => Command::new("taskset"),
        };
        command.args(["-c", LOAD_CORE]).arg(&tools.h2load).args(["--h1", "-t", "1"]);
        command.args(["-c", &work.connections.to_string(), "-D", &format!("{}ms", length.as_millis())]);
        let output = command.arg(format!("http://{}{}", self.at, work.path)).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let outcome = load::parse(&text).filter(|outcome| outcome.requests > 0 && outcome.failed == 0);
        let told = || {
            let errors = String::from_utf8_lossy(&output.stderr);
            failure(format!("h2load said nothing usable:\n{text}{errors}"))
        };
        Ok(outcome.ok_or_else(told)?.requests)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        peers::end(&mut self.child);
    }
}

/// Measures, and prints a table.
pub fn run(options: &Options) -> Result<(), Failure> {
    let tools = Tools::find()?;
    let dir = super::tempdir()?;
    let result =
        peers::start_backend(&tools, &dir, "backend").and_then(|backend| measure(options, &tools, &backend));
    let _ = std::fs::remove_dir_all(&dir);
    let text = result?;
    println!("{text}");
    if let Some(file) = &options.write {
        std::fs::write(file, text)?;
    }
    Ok(())
}

fn measure(options: &Options, tools: &Tools, backend: &Running) -> Result<String, Failure> {
    let program = peers::build_example("vestibule-proxy", "forward")?;
    let length = Duration::from_secs(options.seconds);
    let mut text =
        "| work | loopback, requests/s | namespace, requests/s | ratio | loopback, CPU µs/request | \
                    namespace, CPU µs/request | ratio |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for work in WORKS {
        let mut samples = [const { Vec::new() }; MODES.len()];
        for round in 0..options.rounds {
            for (mode, taken) in MODES.iter().zip(&mut samples) {
                super::progress(&format!("{} · {mode} · round {}", work.name, round + 1));
                let proxy = Proxy::start(&program, mode, backend.port)?;
                taken.push(proxy.sample(tools, work, length)?);
            }
        }
        let [loopback, namespace] = samples.map(|taken| Sample {
            throughput: median(taken.iter().map(|sample| sample.throughput)),
            cpu: median(taken.iter().map(|sample| sample.cpu)),
        });
        text += &format!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.2} |\n",
            work.name,
            loopback.throughput,
            namespace.throughput,
            namespace.throughput / loopback.throughput,
            loopback.cpu,
            namespace.cpu,
            namespace.cpu / loopback.cpu,
        );
    }
    Ok(text)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
