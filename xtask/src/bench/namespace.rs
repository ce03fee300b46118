//! `cargo xtask bench namespace`: what a network of the kernel's own costs the proxy.
//!
//! Our proxy serves one virtual IP in loopback mode, in namespace mode, and in namespace mode with a second client and
//! firewall rules of both directions, in turns, with the same backend on the machine and the same load; in namespace
//! mode the load generator stands inside the network, as a client does. The proxy is pinned to the first core, load and
//! backend to the second. Needs root, to enter the client's namespace, and to go before what else the machine does:
//! everything that is measured runs at the highest priority of ordinary programs.

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

/// As the proxy's program calls them, and as the table does.
const MODES: [(&str, &str); 3] =
    [("loopback", "loopback"), ("namespace", "namespace"), ("ruled", "namespace, firewall rules")];

/// The most that `nice` can prefer a program by.
const FIRST: &str = "-20";

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
        let mut child = Command::new("nice")
            .args(["-n", FIRST, "taskset", "-c", PROXY_CORE])
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
        let mut command = Command::new("nice");
        command.args(["-n", FIRST]);
        if let Some(namespace) = &self.inside {
            command.arg("nsenter").arg(format!("--net={namespace}"));
        }
        command.args(["taskset", "-c", LOAD_CORE]).arg(&tools.h2load).args(["--h1", "-t", "1"]);
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
    let result = peers::start_backend(&tools, &dir, "backend").and_then(|backend| {
        let pids = proc::family(backend.id()).into_iter().map(|pid| pid.to_string());
        Command::new("renice").args(["-n", FIRST, "-p"]).args(pids).stdout(Stdio::null()).status()?;
        measure(options, &tools, &backend)
    });
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
    let mut text = format!(
        "Congestion control of the machine: {}.\n\n| work | where | requests/s | ratio | CPU µs/request | ratio |\n\
         |---|---|---|---|---|---|\n",
        std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?.trim()
    );
    for work in WORKS {
        let mut samples = [const { Vec::new() }; MODES.len()];
        for round in 0..options.rounds {
            for ((mode, _), taken) in MODES.iter().zip(&mut samples) {
                super::progress(&format!("{} · {mode} · round {}", work.name, round + 1));
                let proxy = Proxy::start(&program, mode, backend.port)?;
                taken.push(proxy.sample(tools, work, length)?);
            }
        }
        let [first, others @ ..] = samples.map(|taken| Sample {
            throughput: median(taken.iter().map(|sample| sample.throughput)),
            cpu: median(taken.iter().map(|sample| sample.cpu)),
        });
        for ((_, place), sample) in MODES.iter().zip([first].into_iter().chain(others)) {
            let (throughput, cpu) = (sample.throughput / first.throughput, sample.cpu / first.cpu);
            text += &format!(
                "| {} | {place} | {:.0} | {throughput:.2} | {:.1} | {cpu:.2} |\n",
                work.name, sample.throughput, sample.cpu
            );
        }
    }
    Ok(text)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
