//! The server, what it serves, and what is done to it.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::bench::Failure;

const REGION: &str = "--region=us-central1";

/// A running server.
pub struct Stage {
    dir: PathBuf,
    program: PathBuf,
    server: Child,
    ready: String,
    /// Where the virtual IP's ports really are.
    pub http: String,
    pub https: String,
    pub changes: Changes,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes {
    deployments: u64,
    maps: u64,
    certificates: u64,
    kills: u64,
    takeovers: u64,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Changes { deployments, maps, certificates, kills, takeovers } = self;
        write!(
            f,
            "{deployments} deployments, {maps} changes of the URL map, {certificates} of the certificate, {kills} kills of \
             instances, {takeovers} takeovers"
        )
    }
}

impl Stage {
    pub fn set_up(dir: &Path) -> Result<Stage, Failure> {
        let program = build()?;
        let (server, ready) = begin(&program, dir, &[])?;
        let (http, https) = Default::default();
        let changes = Changes::default();
        let mut stage = Stage { dir: dir.to_owned(), program, server, ready, http, https, changes };
        for name in ["a", "b"] {
            let made = rcgen::generate_simple_self_signed(vec!["app.example.com".to_owned()])?;
            std::fs::write(dir.join(format!("{name}.pem")), made.cert.pem())?;
            std::fs::write(dir.join(format!("{name}.key")), made.signing_key.serialize_pem())?;
        }
        for line in SETUP.lines().map(str::trim).filter(|line| !line.is_empty()) {
            stage.gcloud(line)?;
        }
        stage.http = stage.locate(80)?;
        stage.https = stage.locate(443)?;
        Ok(stage)
    }

    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// A file of so many bytes.
    pub fn upload(&self, bytes: usize) -> PathBuf {
        let file = self.dir.join("upload");
        // A file that is missing is a failure of its load.
        let _ = std::fs::write(&file, vec![b'x'; bytes]);
        file
    }

    /// Does the next thing.
    pub fn change(&mut self, round: u64, takeovers: bool) -> Result<(), Failure> {
        match round % 5 {
            0 => {
                self.gcloud(&format!("run deploy app {DEPLOY} --set-env-vars=ROUND={round}"))?;
                self.changes.deployments += 1;
            }
            1 => {
                let to = ["app-backend", "other-backend"][(round / 5 % 2) as usize];
                self.gcloud(&format!(
                    "compute url-maps set-default-service map --default-service={to} {REGION}"
                ))?;
                self.changes.maps += 1;
            }
            2 => {
                let name = ["a", "b"][(round / 5 % 2) as usize];
                let to = format!("--ssl-certificates=cert-{name}");
                self.gcloud(&format!("compute target-https-proxies update secure {to} {REGION}"))?;
                self.changes.certificates += 1;
            }
            3 => self.kill_instance()?,
            _ if takeovers => self.take_over()?,
            _ => {}
        }
        Ok(())
    }

    fn take_over(&mut self) -> Result<(), Failure> {
        let (new, ready) = begin(&self.program, &self.dir, &["--takeover"])?;
        let mut old = std::mem::replace(&mut self.server, new);
        let status = old.wait()?;
        if !status.success() || ready != self.ready {
            return Err(format!("the old server ended with {status}; the new one says {ready:?}").into());
        }
        self.changes.takeovers += 1;
        Ok(())
    }

    /// Kills an instance that no load goes to, having woken it.
    fn kill_instance(&mut self) -> Result<(), Failure> {
        let url =
            self.gcloud(&format!("run services describe victim {REGION} --format=value(status.url)"))?;
        let front = self.field("front")?;
        let (host, port) =
            (url.trim().trim_start_matches("https://"), front.rsplit(':').next().unwrap_or_default());
        let asked = Command::new("curl")
            .args([
                "-sSk",
                "-o",
                "/dev/null",
                "--max-time",
                "30",
                "--resolve",
                &format!("{host}:{port}:127.0.0.1"),
            ])
            .arg(format!("https://{host}:{port}/"))
            .status()?;
        let victims = self.victims();
        if !asked.success() || victims.is_empty() {
            return Err("the service that is to be killed has no instance".into());
        }
        for pid in victims {
            Command::new("kill").args(["-9", &pid.to_string()]).status()?;
        }
        self.changes.kills += 1;
        Ok(())
    }

    /// Processes of the server that say that they belong to the service.
    fn victims(&self) -> Vec<u32> {
        let is_victim = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == b"K_SERVICE=victim")
        };
        crate::bench::proc::family(self.pid()).into_iter().filter(is_victim).collect()
    }

    fn field(&self, key: &str) -> Result<&str, Failure> {
        let found = self.ready.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.ok_or_else(|| format!("the ready line has no {key}").into())
    }

    /// Where a port of the virtual IP is served on this machine: the one listener in 127.0.0.0/8 beside those on 127.0.0.1.
    fn locate(&self, port: u16) -> Result<String, Failure> {
        let tcp = std::fs::read_to_string("/proc/net/tcp")?;
        let own = sockets(self.pid());
        let listening = tcp.lines().skip(1).filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (ip, at) = words.get(1)?.split_once(':')?;
            let ip = std::net::Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.swap_bytes());
            let at = u16::from_str_radix(at, 16).ok()?;
            let is_ours = own.iter().any(|inode| Some(&inode.as_str()) == words.get(9));
            (is_ours && words.get(3) == Some(&"0A") && at == port && ip.octets()[1] != 0).then_some((ip, at))
        });
        // The metadata server has port 80 as well; only the virtual IP has both, and comes later.
        let (ip, at) =
            listening.max().ok_or("this user may not listen on ports 80 and 443: run it as root")?;
        Ok(format!("{ip}:{at}"))
    }

    fn gcloud(&self, words: &str) -> Result<String, Failure> {
        let output = Command::new(&self.program)
            .arg("gcloud")
            .args(words.split_whitespace())
            .current_dir(&self.dir)
            .env("HOME", &self.dir)
            .env("CLOUDSDK_CONFIG", self.dir.join("config"))
            .env("CLOUDSDK_CORE_PROJECT", "demo")
            .env("VESTIBULE_API", self.field("api")?)
            .output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("gcloud {words}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
    }

    /// Ends the server, which must end well.
    pub fn end(mut self) -> Result<(), Failure> {
        Command::new("kill").arg(self.pid().to_string()).status()?;
        let status = self.server.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Ended already, unless something went wrong.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The inodes of the sockets of a process.
fn sockets(pid: u32) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok()?.to_str().map(str::to_owned));
    links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
}

/// The program that is soaked: `VESTIBULE`, or a release build.
fn build() -> Result<PathBuf, Failure> {
    if let Some(program) = std::env::var_os("VESTIBULE") {
        return Ok(program.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "-p", "vestibule"])
        .current_dir(crate::root())
        .status()?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    if built.success() {
        Ok(target.join("release/vestibule"))
    } else {
        Err("the program does not build".into())
    }
}

fn begin(program: &Path, dir: &Path, flags: &[&str]) -> Result<(Child, String), Failure> {
    let mut server = Command::new(program)
        .args(["serve", "--network-mode=loopback", "--dns-upstream=none", "--api-listen=127.0.0.1:0"])
        .arg("--state-dir")
        .arg(dir.join("state"))
        .args(flags)
        .env("HOME", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(out) = server.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    if line.starts_with("ready ") {
        return Ok((server, line));
    }
    let _ = server.kill();
    let _ = server.wait();
    Err("the server did not become ready".into())
}

const DEPLOY: &str = "--image=gcr.io/cloudrun/hello --region=us-central1 --allow-unauthenticated";

const SETUP: &str = "
compute networks create net --subnet-mode=custom
compute networks subnets create sub --network=net --range=10.0.0.0/24 --region=us-central1
compute networks subnets create proxies --purpose=REGIONAL_MANAGED_PROXY --role=ACTIVE --region=us-central1 --network=net --range=10.129.0.0/23
run deploy app --image=gcr.io/cloudrun/hello --region=us-central1 --allow-unauthenticated
run deploy other --image=gcr.io/cloudrun/hello --region=us-central1 --allow-unauthenticated
run deploy victim --image=gcr.io/cloudrun/hello --region=us-central1 --allow-unauthenticated
compute network-endpoint-groups create app-neg --region=us-central1 --network-endpoint-type=serverless --cloud-run-service=app
compute network-endpoint-groups create other-neg --region=us-central1 --network-endpoint-type=serverless --cloud-run-service=other
compute backend-services create app-backend --load-balancing-scheme=INTERNAL_MANAGED --protocol=HTTP --region=us-central1
compute backend-services create other-backend --load-balancing-scheme=INTERNAL_MANAGED --protocol=HTTP --region=us-central1
compute backend-services add-backend app-backend --network-endpoint-group=app-neg --network-endpoint-group-region=us-central1 --region=us-central1
compute backend-services add-backend other-backend --network-endpoint-group=other-neg --network-endpoint-group-region=us-central1 --region=us-central1
compute url-maps create map --default-service=app-backend --region=us-central1
compute target-http-proxies create plain --url-map=map --region=us-central1
compute ssl-certificates create cert-a --certificate=a.pem --private-key=a.key --region=us-central1
compute ssl-certificates create cert-b --certificate=b.pem --private-key=b.key --region=us-central1
compute target-https-proxies create secure --url-map=map --ssl-certificates=cert-a --region=us-central1
compute forwarding-rules create rule --load-balancing-scheme=INTERNAL_MANAGED --network=net --subnet=sub --address=10.0.0.100 --ports=80 --region=us-central1 --target-http-proxy=plain --target-http-proxy-region=us-central1
compute forwarding-rules create secure-rule --load-balancing-scheme=INTERNAL_MANAGED --network=net --subnet=sub --address=10.0.0.100 --ports=443 --region=us-central1 --target-https-proxy=secure --target-https-proxy-region=us-central1
";
