//! `cargo xtask bench dns`: the resolver beside NSD and Unbound in one run on one machine.
//!
//! The same zone of 10,000 names is served by each in turn, pinned to the first core; the load (Debian's dnsperf) has
//! the second. What is compared is queries a second of CPU time (user and system time of the server's processes), which
//! a noisy machine disturbs far less than throughput does. A server that is not installed is named and left out.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Failure, Options, failure, peers, proc, progress, table};

/// The zone of all servers.
const ORIGIN: &str = "bench.example.";
/// Names with an address in it.
const NAMES: u32 = 10_000;
/// Questions in the file that the load repeats.
const QUESTIONS: u32 = 50_000;
/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Sockets of the load, and questions that are under way at a time.
const CLIENTS: &str = "16";
const OUTSTANDING: &str = "200";

/// A server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Vestibule,
    Nsd,
    Unbound,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Server::Vestibule => "Vestibule",
            Server::Nsd => "NSD",
            Server::Unbound => "Unbound",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
struct Work {
    name: &'static str,
    edns: bool,
    question: fn(u32) -> String,
}

const WORKS: [Work; 3] = [
    Work { name: "A, the name exists", edns: false, question: existing },
    Work { name: "A, the name exists, EDNS", edns: true, question: existing },
    Work { name: "mixed: address, alias, no such type, no such name, wildcard", edns: true, question: mixed },
];

struct Tools {
    dnsperf: PathBuf,
    vestibule: PathBuf,
    nsd: Option<PathBuf>,
    unbound: Option<PathBuf>,
}

/// One round of one server.
#[derive(Debug, Clone, Copy)]
struct Sample {
    queries: u64,
    lost: u64,
    /// Answers by code.
    found: u64,
    missing: u64,
    cpu: Duration,
    length: Duration,
    /// Mean time to an answer.
    latency: Duration,
    resident_kib: u64,
}

impl Sample {
    fn per_cpu_second(&self) -> f64 {
        self.queries as f64 / self.cpu.as_secs_f64()
    }
}

struct Row {
    work: Work,
    server: Server,
    sample: Sample,
    lost: u64,
}

/// Runs `cargo xtask bench dns [--seconds N] [--rounds N] [--write FILE]`.
pub fn run(options: &Options) -> Result<(), Failure> {
    let tools = find()?;
    let dir = super::tempdir()?;
    let result = measure(options, &tools, &dir);
    let _ = fs::remove_dir_all(&dir);
    let text = markdown(&result?, &tools);
    println!("{text}");
    if let Some(file) = &options.write {
        fs::write(file, document(&text))?;
    }
    Ok(())
}

fn find() -> Result<Tools, Failure> {
    let missing = |p: &str| failure(format!("{p} is missing: install Debian's {p} (apt-get install {p})"));
    let build = peers::build_example("vestibule-dns", "serve_zone");
    Ok(Tools {
        dnsperf: peers::which("dnsperf").ok_or_else(|| missing("dnsperf"))?,
        nsd: peers::which("nsd"),
        unbound: peers::which("unbound"),
        vestibule: build?,
    })
}

impl Tools {
    fn present(&self) -> Vec<Server> {
        let mut servers = vec![Server::Vestibule];
        servers.extend(self.nsd.as_ref().map(|_| Server::Nsd));
        servers.extend(self.unbound.as_ref().map(|_| Server::Unbound));
        servers
    }

    fn missing(&self) -> Vec<&'static str> {
        let named = [(&self.nsd, "NSD (Debian's nsd)"), (&self.unbound, "Unbound (Debian's unbound)")];
        named.into_iter().filter(|(program, _)| program.is_none()).map(|(_, name)| name).collect()
    }

    fn versions(&self) -> String {
        let mut all = vec![format!("Vestibule {}", env!("CARGO_PKG_VERSION"))];
        all.extend(self.nsd.as_ref().map(|p| peers::first_line(p, "-v")));
        all.extend(self.unbound.as_ref().map(|p| format!("Unbound {}", peers::first_line(p, "-V"))));
        all.push(format!("dnsperf {}", version_of_dnsperf(&self.dnsperf)));
        all.join("; ")
    }
}

/// dnsperf tells its version in the second line of its help.
fn version_of_dnsperf(program: &Path) -> String {
    let help = Command::new(program).arg("-h").output().map(|output| [output.stdout, output.stderr].concat());
    let help = String::from_utf8_lossy(&help.unwrap_or_default()).into_owned();
    let version = help.lines().find_map(|line| line.trim().strip_prefix("Version "));
    version.unwrap_or("of an unknown version").trim_end_matches('.').to_owned()
}

/// Every work with every server in turns, so that a change of the machine's speed meets all of them alike.
fn measure(options: &Options, tools: &Tools, dir: &Path) -> Result<Vec<Row>, Failure> {
    fs::write(dir.join("zone"), zone())?;
    let servers = tools.present();
    let mut rows = Vec::new();
    for work in WORKS {
        let asked = dir.join("questions");
        fs::write(&asked, (0..QUESTIONS).map(work.question).collect::<String>())?;
        let mut samples: Vec<Vec<Sample>> = servers.iter().map(|_| Vec::new()).collect();
        for round in 0..options.rounds {
            for (server, taken) in servers.iter().zip(&mut samples) {
                progress(&format!("{} · {} · round {}", work.name, server.name(), round + 1));
                taken.push(sample(options, tools, dir, *server, work, &asked)?);
            }
        }
        for (server, mut taken) in servers.iter().zip(samples) {
            taken.sort_by(|a, b| a.per_cpu_second().total_cmp(&b.per_cpu_second()));
            let lost = taken.iter().map(|s| s.lost).sum();
            rows.push(Row { work, server: *server, sample: taken[taken.len() / 2], lost });
        }
    }
    check_agreement(&rows)?;
    Ok(rows)
}

/// Servers that answer otherwise than the others do are not compared. The load ends at no fixed question, so shares
/// are compared and not counts.
fn check_agreement(rows: &[Row]) -> Result<(), Failure> {
    for row in rows {
        let of = |s: &Sample| s.missing as f64 / (s.found + s.missing).max(1) as f64;
        let first = rows.iter().find(|r| r.work.name == row.work.name).map_or(0.0, |r| of(&r.sample));
        if (of(&row.sample) - first).abs() > 0.01 || row.sample.found == 0 {
            return Err(failure(format!("{} answers otherwise at {:?}", row.server.name(), row.work.name)));
        }
    }
    Ok(())
}

fn sample(
    options: &Options,
    tools: &Tools,
    dir: &Path,
    server: Server,
    work: Work,
    asked: &Path,
) -> Result<Sample, Failure> {
    let running = Running::start(server, tools, dir)?;
    let load = |seconds: u64| {
        let mut command = peers::pinned(peers::LOAD_CORE, &tools.dnsperf);
        command.args(["-s", "127.0.0.1", "-p", &running.port.to_string(), "-l", &seconds.to_string()]);
        command.args(["-c", CLIENTS, "-T", "1", "-q", OUTSTANDING]).arg("-d").arg(asked);
        if work.edns {
            command.arg("-e");
        }
        let output = command.stdout(Stdio::piped()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        parse(&text).ok_or_else(|| failure(format!("dnsperf said nothing usable:\n{text}")))
    };
    load(options.seconds.div_ceil(4))?;
    let pids = proc::family(running.child.id());
    let before = proc::cpu_time(&pids)?;
    let heard = load(options.seconds)?;
    let cpu = proc::cpu_time(&pids)? - before;
    Ok(Sample { cpu, resident_kib: proc::resident_kib(&pids), ..heard })
}

/// Reads dnsperf's summary.
fn parse(text: &str) -> Option<Sample> {
    let after = |label: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label))?;
        line.split_whitespace().next()
    };
    let codes = text.lines().find_map(|line| line.trim().strip_prefix("Response codes:"))?;
    let code = |name: &str| {
        let part = codes.split(", ").find_map(|part| part.trim().strip_prefix(name));
        part.and_then(|part| part.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Some(Sample {
        queries: after("Queries completed:")?.parse().ok()?,
        lost: after("Queries lost:")?.parse().ok()?,
        found: code("NOERROR"),
        missing: code("NXDOMAIN"),
        length: Duration::from_secs_f64(after("Run time (s):")?.parse().ok()?),
        latency: Duration::from_secs_f64(after("Average Latency (s):")?.parse().ok()?),
        cpu: Duration::ZERO,
        resident_kib: 0,
    })
}

/// One record a line, in the form that all servers read.
fn zone() -> String {
    let soa = format!("ns.{ORIGIN} hostmaster.{ORIGIN} 1 21600 3600 259200 300");
    let mut text = format!("{ORIGIN} 21600 IN SOA {soa}\n{ORIGIN} 21600 IN NS ns.{ORIGIN}\n");
    let _ = writeln!(text, "ns.{ORIGIN} 300 IN A 127.0.0.1\n*.wild.{ORIGIN} 300 IN A 10.1.1.1");
    for n in 0..NAMES {
        let _ = writeln!(text, "h{n}.{ORIGIN} 300 IN A 10.{}.{}.{}", 16 + n / 65_536, n / 256 % 256, n % 256);
        if n % 10 == 0 {
            let _ = writeln!(text, "alias{n}.{ORIGIN} 300 IN CNAME h{n}.{ORIGIN}");
        }
    }
    text
}

/// The names in an order in which neighbours are not asked one after the other.
fn scattered(n: u32) -> u32 {
    n.wrapping_mul(7919) % NAMES
}

fn existing(n: u32) -> String {
    format!("h{}.{ORIGIN} A\n", scattered(n))
}

fn mixed(n: u32) -> String {
    let name = scattered(n);
    match n % 10 {
        6 => format!("alias{}.{ORIGIN} A\n", name / 10 * 10),
        7 => format!("h{name}.{ORIGIN} AAAA\n"),
        8 => format!("no{name}.{ORIGIN} A\n"),
        9 => format!("x{name}.wild.{ORIGIN} A\n"),
        _ => existing(n),
    }
}

/// A started server; ends with this value.
struct Running {
    child: Child,
    port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        peers::end(&mut self.child);
    }
}

impl Running {
    fn start(server: Server, tools: &Tools, dir: &Path) -> Result<Running, Failure> {
        let port = peers::free_port()?;
        let mut command = match server {
            Server::Vestibule => vestibule(&tools.vestibule, dir, port),
            Server::Nsd => nsd(tools.nsd.as_deref().unwrap_or(Path::new("nsd")), dir, port)?,
            Server::Unbound => unbound(tools.unbound.as_deref().unwrap_or(Path::new("unbound")), dir, port)?,
        };
        let mut running = Running { child: command.spawn()?, port };
        let deadline = Instant::now() + START_LIMIT;
        while !answers(port)? {
            if let Some(status) = running.child.try_wait()? {
                return Err(failure(format!("{command:?} ended with {status} before it answered")));
            }
            if Instant::now() > deadline {
                return Err(failure(format!("{command:?} does not answer on port {port}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }
}

fn vestibule(program: &Path, dir: &Path, port: u16) -> Command {
    let mut command = peers::pinned(peers::PROXY_CORE, program);
    command.args([&port.to_string(), ORIGIN]).arg(dir.join("zone")).stdin(Stdio::piped());
    command
}

/// One server process, no limit of answers a second, and no more in an answer than was asked for.
fn nsd(program: &Path, dir: &Path, port: u16) -> io::Result<Command> {
    let dir = dir.display();
    let config = format!(
        "server:\n server-count: 1\n ip-address: 127.0.0.1@{port}\n username: \"\"\n zonesdir: \"{dir}\"\n\
         \x20database: \"\"\n logfile: \"{dir}/nsd.log\"\n pidfile: \"{dir}/nsd.pid\"\n\
         \x20xfrdfile: \"{dir}/nsd.xfrd\"\n xfrdir: \"{dir}\"\n zonelistfile: \"{dir}/nsd.list\"\n\
         \x20rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n minimal-responses: yes\n verbosity: 0\n\
         remote-control:\n control-enable: no\nzone:\n name: \"{ORIGIN}\"\n zonefile: \"zone\"\n"
    );
    let file = format!("{dir}/nsd.conf");
    fs::write(&file, config)?;
    let mut command = peers::pinned(peers::PROXY_CORE, program);
    command.args(["-d", "-c", &file]);
    Ok(command)
}

/// One thread, the zone served as its own.
fn unbound(program: &Path, dir: &Path, port: u16) -> io::Result<Command> {
    let dir = dir.display();
    let config = format!(
        "server:\n num-threads: 1\n interface: 127.0.0.1@{port}\n do-daemonize: no\n username: \"\"\n\
         \x20chroot: \"\"\n directory: \"{dir}\"\n pidfile: \"\"\n use-syslog: no\n logfile: \"{dir}/unbound.log\"\n\
         \x20verbosity: 0\n module-config: \"iterator\"\n minimal-responses: yes\n\
         remote-control:\n control-enable: no\n\
         auth-zone:\n name: \"{ORIGIN}\"\n zonefile: \"{dir}/zone\"\n for-downstream: yes\n for-upstream: no\n"
    );
    let file = format!("{dir}/unbound.conf");
    fs::write(&file, config)?;
    let mut command = peers::pinned(peers::PROXY_CORE, program);
    command.args(["-d", "-c", &file]);
    Ok(command)
}

/// Whether the server answers for the last name of the zone, and listens for TCP too.
fn answers(port: u16) -> io::Result<bool> {
    if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        return Ok(false);
    }
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in format!("h{}.{ORIGIN}", NAMES - 1).trim_end_matches('.').split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    socket.send(&query)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).unwrap_or(0);
    Ok(length > 12 && answer[3] & 0xf == 0 && answer[7] == 1)
}

fn markdown(rows: &[Row], tools: &Tools) -> String {
    let mut text = format!(
        "Machine: {}. Date: {}.\nVersions: {}.\n\n",
        table::machine(),
        table::date(),
        tools.versions()
    );
    text.push_str("| work | server | queries a CPU second | Vestibule ÷ it | queries/s | mean latency | memory | lost |\n");
    text.push_str("|---|---|---:|---:|---:|---:|---:|---:|\n");
    for row in rows {
        let s = row.sample;
        let ours = rows.iter().find(|r| r.work.name == row.work.name && r.server == Server::Vestibule);
        let ratio = ours.map_or(1.0, |ours| ours.sample.per_cpu_second() / s.per_cpu_second());
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {ratio:.2} | {:.0} | {} µs | {} KiB | {} |",
            row.work.name,
            row.server.name(),
            s.per_cpu_second(),
            s.queries as f64 / s.length.as_secs_f64(),
            s.latency.as_micros(),
            s.resident_kib,
            row.lost,
        );
    }
    for name in tools.missing() {
        let _ = writeln!(text, "\nNot measured, because it was not found: {name}.");
    }
    text
}

/// The table as `docs/benchmarks-dns.md`.
fn document(table: &str) -> String {
    format!(
        "# Benchmarks: names\n\n\
         Made by `cargo xtask bench dns --write docs/benchmarks-dns.md`. Each server in turn is pinned to one core and\n\
         serves the same zone of {NAMES} names (and {} aliases) over UDP with one thread; the load (dnsperf, {CLIENTS}\n\
         sockets, {OUTSTANDING} questions under way) has another core. A CPU second is user and system time of the\n\
         server's processes, at full load. NSD's rate limit is off and its answers are minimal, as ours are. Rows are\n\
         the median of the rounds; ratios are of one run. Target: at least 0.8 of NSD.\n\n{table}",
        NAMES / 10
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dnsperfs_summary() {
        let text = "Statistics:\n\n  Queries sent:         50000\n  Queries completed:    49990 (99.98%)\n  \
                    Queries lost:         10 (0.02%)\n\n  Response codes:       NOERROR 40000 (80.02%), NXDOMAIN 9990 (19.98%)\n  \
                    Average packet size:  request 34, response 50\n  Run time (s):         0.500000\n  \
                    Queries per second:   99980.0\n\n  Average Latency (s):  0.000050 (min 0.000007, max 0.001)\n  \
                    Latency StdDev (s):   0.000024\n";
        let sample = parse(text).unwrap();
        assert_eq!((sample.queries, sample.lost, sample.found, sample.missing), (49_990, 10, 40_000, 9_990));
        assert_eq!((sample.length, sample.latency), (Duration::from_millis(500), Duration::from_micros(50)));
        assert!(parse("nothing").is_none());
    }

    #[test]
    fn the_zone_holds_what_is_asked_for() {
        let zone = zone();
        let names: std::collections::HashSet<&str> =
            zone.lines().filter_map(|line| line.split(' ').next()).collect();
        for n in 0..1000 {
            let question = mixed(n);
            let name = question.split(' ').next().unwrap();
            assert_eq!(names.contains(name), !matches!(n % 10, 8 | 9), "{question}");
        }
        assert_eq!(names.len() as u32, NAMES + NAMES / 10 + 3);
    }
}
