//! `cargo xtask bench cold-start`: how long a request to a service without an instance takes, and what of it is not the
//! program's own start.
//!
//! The real binary serves one service at a time over each driver: the built-in one as a process, and Debian's static
//! busybox as a container (`busybox httpd`, one layer). Each round asks twice in a row, which gives the time of a warm
//! request; after a short pause, which gives that of an instance without processors; and after its instance was stopped,
//! which gives that of a start. Times are from the request's first byte to the answer's first, without connecting. The
//! program's own start is measured by starting it without Vestibule and connecting to it until that works.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Failure, failure, table};

/// Starts over each driver.
const ROUNDS: usize = 50;
/// Longer than an instance keeps its processors without a request.
const DOZE: Duration = Duration::from_millis(250);
/// Longer than `--idle-timeout=1` and the end of an instance.
const GONE: Duration = Duration::from_millis(1_600);
/// How long a program may take to listen by itself.
const LISTENS: Duration = Duration::from_secs(10);
const REGION: &str = "--region=us-central1";
/// Names a binary to measure instead of a release build.
const BINARY: &str = "VESTIBULE_BINARY";

/// A running `serve`, and the words that lead clients to it.
struct Serve {
    child: Child,
    binary: PathBuf,
    api: String,
    front: String,
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// What was measured of one driver.
struct Row {
    what: &'static str,
    cold: Vec<Duration>,
    dozing: Vec<Duration>,
    warm: Vec<Duration>,
    own: Vec<Duration>,
}

/// Measures, prints the table, and writes it to `write` if there is such a file.
pub fn run(write: Option<&Path>, dir: &Path) -> Result<(), Failure> {
    let binary = binary()?;
    let hello = own_start(&binary, &["internal-hello"], dir)?;
    let mut rows =
        vec![measure(&binary, dir, "process, gcr.io/cloudrun/hello", "gcr.io/cloudrun/hello", hello)?];
    if Path::new("/bin/busybox").exists() {
        let image = image(dir)?;
        let own = own_start(Path::new("/bin/busybox"), &["httpd", "-f", "-p", "PORT"], dir)?;
        rows.push(measure(&binary, dir, "container, busybox httpd", &image, own)?);
    } else {
        eprintln!("no container is measured: there is no /bin/busybox (Debian package busybox-static)");
    }
    let text = markdown(&binary, &rows);
    println!("{text}");
    if let Some(file) = write {
        std::fs::write(file, format!("{HEAD}{text}"))?;
    }
    Ok(())
}

const HEAD: &str = "# Cold starts\n\nMade by `cargo xtask bench cold-start --write docs/benchmarks-cold-start.md`; \
                    `xtask/src/bench/cold_start.rs` says what is measured and how.\n\n";

fn binary() -> Result<PathBuf, Failure> {
    if let Some(binary) = std::env::var_os(BINARY) {
        return Ok(binary.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "--package", "vestibule"]).current_dir(crate::root());
    if !build.status()?.success() {
        return Err(failure("vestibule does not build"));
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    Ok(target.join("release/vestibule"))
}

fn measure(
    binary: &Path,
    dir: &Path,
    what: &'static str,
    image: &str,
    own: Vec<Duration>,
) -> Result<Row, Failure> {
    let serve = Serve::start(binary, &dir.join(format!("state-{}", what.len())))?;
    serve.gcloud(&[
        "run",
        "deploy",
        "app",
        &format!("--image={image}"),
        REGION,
        "--allow-unauthenticated",
    ])?;
    let url = serve.gcloud(&["run", "services", "describe", "app", REGION, "--format=value(status.url)"])?;
    let ask = || serve.ask(url.trim());
    let mut row = Row { what, cold: Vec::new(), dozing: Vec::new(), warm: Vec::new(), own };
    for _ in 0..ROUNDS {
        ask()?;
        row.warm.push(ask()?);
        sleep(DOZE);
        row.dozing.push(ask()?);
        sleep(GONE);
        row.cold.push(ask()?);
    }
    Ok(row)
}

impl Serve {
    fn start(binary: &Path, state: &Path) -> Result<Serve, Failure> {
        let mut command = Command::new(binary);
        command.args(["serve", "--api-listen=127.0.0.1:0", "--network-mode=loopback", "--dns-upstream=none"]);
        command.args(["--idle-timeout=1", "--state-dir"]).arg(state).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let value = |key: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
                .map(str::to_owned)
        };
        let (api, front) = (value("api").unwrap_or_default(), value("front").unwrap_or_default());
        let front = front.trim_start_matches("https://").to_owned();
        Ok(Serve { child, binary: binary.to_owned(), api, front })
    }

    fn gcloud(&self, words: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(&self.binary);
        command
            .arg("gcloud")
            .args(words)
            .env("VESTIBULE_API", &self.api)
            .env("CLOUDSDK_CORE_PROJECT", "bench");
        let output = command.output()?;
        if !output.status.success() {
            return Err(failure(String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// From the first byte of a request to the first of its answer.
    fn ask(&self, url: &str) -> Result<Duration, Failure> {
        let format = "%{http_code} %{time_pretransfer} %{time_starttransfer}";
        let mut command = Command::new("curl");
        command.args([
            "-sSk",
            "-o",
            "/dev/null",
            "-w",
            format,
            "--connect-to",
            &format!("::{}", self.front),
            url,
        ]);
        let said = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
        let numbers: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [200.0, before, after] => Ok(Duration::from_secs_f64((after - before).max(0.0))),
            _ => Err(failure(format!("curl {url}: {said}"))),
        }
    }
}

/// How long a program takes to listen, started like any other. `PORT` in its arguments becomes its port.
fn own_start(program: &Path, args: &[&str], dir: &Path) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new(program);
        command
            .args(args.iter().map(|arg| if *arg == "PORT" { port.to_string() } else { (*arg).to_owned() }));
        command.env("PORT", port.to_string()).env("K_SERVICE", "app").env("K_REVISION", "app-1");
        command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut child = command.spawn()?;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() && begun.elapsed() < LISTENS {
            std::thread::yield_now();
        }
        times.push(begun.elapsed());
        child.kill()?;
        child.wait()?;
    }
    Ok(times)
}

/// An OCI layout of busybox alone.
fn image(dir: &Path) -> Result<String, Failure> {
    const MAKE: &str = r#"
set -e
mkdir -p root/bin root/www image/blobs/sha256
cp /bin/busybox root/bin/ && ln -s busybox root/bin/httpd && echo hello > root/www/index.html
tar -C root -cf layer .
put() { sum=$(sha256sum "$1" | cut -d' ' -f1); size=$(stat -c %s "$1"); mv "$1" image/blobs/sha256/$sum; }
put layer; layer=$sum layer_size=$size
case $(uname -m) in aarch64) arch=arm64;; *) arch=amd64;; esac
printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/bin/httpd","-f","-p","8080","-h","/www"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' $arch $layer > config
put config; config=$sum config_size=$size
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%s}]}' $config $config_size $layer $layer_size > manifest
put manifest
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s}]}' $sum $size > image/index.json
echo '{"imageLayoutVersion":"1.0.0"}' > image/oci-layout
"#;
    if !Command::new("sh").args(["-c", MAKE]).current_dir(dir).status()?.success() {
        return Err(failure("no image could be made"));
    }
    Ok(format!("oci:{}", dir.join("image").display()))
}

fn markdown(binary: &Path, rows: &[Row]) -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut text = format!(
        "Machine: {}, load {}. Date: {}. {ROUNDS} starts each.{}\n\n",
        table::machine(),
        load.split(' ').next().unwrap_or("?"),
        table::date(),
        if binary.ends_with("release/vestibule") { "" } else { " **Not a release build.**" },
    );
    text.push_str("| what | from zero, p50 | p99 | the program's own start, p50 | beyond it | idle for 250 ms, p50 | warm, p50 |\n");
    text.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    for row in rows {
        let (cold, own) = (at(&row.cold, 50), at(&row.own, 50));
        let _ = writeln!(
            text,
            "| {} | {:.1} ms | {:.1} ms | {own:.1} ms | **{:.1} ms** | {:.2} ms | {:.2} ms |",
            row.what,
            cold,
            at(&row.cold, 99),
            (cold - own).max(0.0),
            at(&row.dozing, 50),
            at(&row.warm, 50),
        );
    }
    text
}

/// A percentile, in milliseconds.
fn at(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}
