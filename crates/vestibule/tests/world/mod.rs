//! A whole world for one test: the real binary on free ports with a state directory of its own.

#![allow(dead_code, reason = "every test file uses its own part of the world")]
#![allow(clippy::unwrap_used, reason = "a test may stop where its world is not as it should be")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_vestibule");
pub const PROJECT: &str = "demo";
pub const REGION: &str = "--region=us-central1";

/// How long `serve` may take to be ready or to end. Far more than it needs: a slow machine is no failure.
const LIMIT: Duration = Duration::from_secs(60);

/// A running `vestibule serve` and the place it keeps its state.
pub struct World {
    home: TempDir,
    server: Option<Server>,
    network_mode: &'static str,
    /// Further flags of `serve`.
    flags: Vec<&'static str>,
    /// Further variables of `serve`.
    variables: Vec<(String, String)>,
}

struct Server {
    child: Child,
    ready: HashMap<String, String>,
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    /// A server with an empty state directory, in loopback mode.
    pub fn start() -> World {
        World::start_in("loopback")
    }

    /// A server with an empty state directory, in a network mode.
    pub fn start_in(network_mode: &'static str) -> World {
        World::start_with(network_mode, &[])
    }

    /// The same with further flags of `serve`.
    pub fn start_with(network_mode: &'static str, flags: &[&'static str]) -> World {
        World::start_where(network_mode, flags, &[])
    }

    /// The same with further flags and variables of `serve`.
    pub fn start_where(
        network_mode: &'static str,
        flags: &[&'static str],
        variables: &[(&str, &str)],
    ) -> World {
        let flags = flags.to_vec();
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let home = TempDir::new().unwrap();
        let mut world = World { home, server: None, network_mode, flags, variables };
        std::fs::create_dir(world.path("bin")).unwrap();
        std::os::unix::fs::symlink(BINARY, world.path("bin/gcloud")).unwrap();
        world.serve();
        world
    }

    /// Starts the server again on the same state.
    pub fn serve(&mut self) {
        assert!(self.server.is_none(), "one server a world");
        self.server = Some(self.begin(&[]));
    }

    /// Has a new server take over from the running one, which is awaited; the new one says the same of itself.
    pub fn take_over(&mut self) -> ExitStatus {
        let new = self.begin(&["--takeover"]);
        let mut old = self.server.replace(new).expect("a running server");
        assert_eq!(self.server().ready, old.ready);
        wait(&mut old.child)
    }

    /// `serve` with this world's flags and further ones; flags that come twice are left to the caller.
    pub fn serve_command(&self, flags: &[&str]) -> Command {
        let mut command = self.command(BINARY);
        let own = ["serve", "--network-mode", self.network_mode, "--dns-upstream", "none", "--state-dir"];
        command.args(own).arg(self.path("state")).args(&self.flags).args(flags);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn begin(&self, flags: &[&str]) -> Server {
        let mut command = self.serve_command(flags);
        let mut child = command.args(["--api-listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let line = first_line(&mut child);
        let words = line.strip_prefix("ready ").unwrap_or_else(|| panic!("not a ready line: {line:?}"));
        let pairs = words.split_whitespace().filter_map(|w| w.split_once('='));
        let ready = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Server { child, ready }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("a running server");
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }

    /// SIGTERM, and wait for the end.
    pub fn stop(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("a running server");
        terminate(&server.child);
        wait(&mut server.child)
    }

    pub fn pid(&self) -> u32 {
        self.server().child.id()
    }

    /// A value of the ready line.
    pub fn ready(&self, key: &str) -> &str {
        self.server().ready.get(key).unwrap_or_else(|| panic!("the ready line has no {key}"))
    }

    pub fn api(&self) -> &str {
        self.ready("api")
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("a running server")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A command that knows only this world.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.home.path()).stdin(Stdio::null()).env("HOME", self.home.path());
        for (name, _) in std::env::vars().filter(|(n, _)| is_foreign(n)) {
            command.env_remove(name);
        }
        command.env("CLOUDSDK_CONFIG", self.path("config")).env("CLOUDSDK_CORE_PROJECT", PROJECT);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        if let Some(server) = &self.server {
            command.env("VESTIBULE_API", &server.ready["api"]);
        }
        command
    }

    /// `gcloud WORDS` through the link, words split at spaces.
    pub fn gcloud(&self, words: &str) -> Answer {
        self.gcloud_args(&words.split_whitespace().collect::<Vec<_>>())
    }

    pub fn gcloud_args(&self, args: &[&str]) -> Answer {
        Answer::of(self.command(self.path("bin/gcloud")).args(args).output().unwrap())
    }

    /// `gcloud WORDS`, which must succeed; its stdout.
    pub fn ok(&self, words: &str) -> String {
        let answer = self.gcloud(words);
        assert_eq!(answer.code, 0, "gcloud {words}\n{}", answer.stderr);
        answer.stdout
    }

    /// A pasted line of a shell script, where `gcloud` and `vestibule` are on the path.
    pub fn shell(&self, script: &str) -> Answer {
        Answer::of(self.command("sh").args(["-c", script]).output().unwrap())
    }

    /// `vestibule vm run` in `my-vpc`; the words after `--`.
    pub fn vm(&self, words: &[&str]) -> Answer {
        let mut command = self.command(BINARY);
        command.args(["vm", "run", "--network", "my-vpc", "--subnet", "my-subnet", "--"]).args(words);
        Answer::of(command.output().unwrap())
    }

    /// The status and body of a request from inside `my-vpc`.
    pub fn get(&self, url: &str, headers: &[&str]) -> (u16, String) {
        let mut words = vec!["curl", "-sS", "-k", "--max-time", "60", "-w", "\n%{http_code}"];
        words.extend(headers.iter().flat_map(|h| ["-H", h]));
        words.push(url);
        let answer = self.vm(&words);
        assert_eq!(answer.code, 0, "curl {url}: {answer:?}");
        let (body, status) = answer.stdout.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// A self-signed certificate and its key, as files.
    pub fn certificate(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let made =
            rcgen::generate_simple_self_signed(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        let made = made.unwrap();
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (cert, key)
    }

    /// The published set-up, up to and including the forwarding rules.
    pub fn published_setup(&self) {
        self.certificate(&["api.internal.example.com"]);
        for line in SETUP.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let answer = self.shell(line);
            assert_eq!(answer.code, 0, "{line}\n{}{}", answer.stdout, answer.stderr);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            terminate(&server.child);
            wait(&mut server.child);
        }
    }
}

impl Answer {
    pub fn of(output: Output) -> Answer {
        Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The published commands, word for word, with what they presuppose made by the same tool.
pub const SETUP: &str = r#"
gcloud compute networks create my-vpc --subnet-mode=custom
gcloud compute networks subnets create my-subnet --network=my-vpc --range=10.0.0.0/24 --region=us-central1
gcloud run deploy my-internal-service --image=gcr.io/cloudrun/hello --region=us-central1 --no-allow-unauthenticated --ingress=internal-and-cloud-load-balancing
gcloud run deploy my-api --image=gcr.io/cloudrun/hello --region=us-central1 --no-allow-unauthenticated --ingress=internal-and-cloud-load-balancing
gcloud run deploy my-web --image=gcr.io/cloudrun/hello --region=us-central1 --no-allow-unauthenticated --ingress=internal-and-cloud-load-balancing
gcloud compute networks subnets create proxy-only-subnet --purpose=REGIONAL_MANAGED_PROXY --role=ACTIVE --region=us-central1 --network=my-vpc --range=10.129.0.0/23
gcloud compute network-endpoint-groups create my-serverless-neg --region=us-central1 --network-endpoint-type=serverless --cloud-run-service=my-internal-service
gcloud compute network-endpoint-groups create my-flexible-neg --region=us-central1 --network-endpoint-type=serverless --cloud-run-url-mask="<service>"
gcloud compute network-endpoint-groups create my-api-neg --region=us-central1 --network-endpoint-type=serverless --cloud-run-service=my-api
gcloud compute network-endpoint-groups create my-web-neg --region=us-central1 --network-endpoint-type=serverless --cloud-run-service=my-web
gcloud compute backend-services create my-internal-backend --load-balancing-scheme=INTERNAL_MANAGED --protocol=HTTP --region=us-central1
gcloud compute backend-services add-backend my-internal-backend --network-endpoint-group=my-serverless-neg --network-endpoint-group-region=us-central1 --region=us-central1
gcloud compute backend-services create my-api-backend --load-balancing-scheme=INTERNAL_MANAGED --protocol=HTTP --region=us-central1
gcloud compute backend-services add-backend my-api-backend --network-endpoint-group=my-api-neg --network-endpoint-group-region=us-central1 --region=us-central1
gcloud compute backend-services create my-web-backend --load-balancing-scheme=INTERNAL_MANAGED --protocol=HTTP --region=us-central1
gcloud compute backend-services add-backend my-web-backend --network-endpoint-group=my-web-neg --network-endpoint-group-region=us-central1 --region=us-central1
gcloud compute url-maps create my-internal-url-map --default-service=my-internal-backend --region=us-central1
gcloud compute url-maps add-path-matcher my-internal-url-map --path-matcher-name=my-matcher --default-service=my-internal-backend --path-rules="/api/*=my-api-backend,/web/*=my-web-backend" --region=us-central1
gcloud compute target-http-proxies create my-internal-proxy --url-map=my-internal-url-map --region=us-central1
gcloud compute ssl-certificates create my-internal-cert --certificate=cert.pem --private-key=key.pem --region=us-central1
gcloud compute target-https-proxies create my-internal-https-proxy --url-map=my-internal-url-map --ssl-certificates=my-internal-cert --region=us-central1
gcloud compute forwarding-rules create my-internal-lb-rule --load-balancing-scheme=INTERNAL_MANAGED --network=my-vpc --subnet=my-subnet --address=10.0.0.100 --ports=80 --region=us-central1 --target-http-proxy=my-internal-proxy --target-http-proxy-region=us-central1
gcloud compute forwarding-rules create my-https-rule --load-balancing-scheme=INTERNAL_MANAGED --network=my-vpc --subnet=my-subnet --address=10.0.0.100 --ports=443 --region=us-central1 --target-https-proxy=my-internal-https-proxy --target-https-proxy-region=us-central1
gcloud dns managed-zones create internal-zone --dns-name=internal.example.com. --visibility=private --networks=my-vpc
gcloud dns record-sets create api.internal.example.com. --zone=internal-zone --type=A --ttl=300 --rrdatas=10.0.0.100
"#;

/// Variables that would lead a command out of its world.
fn is_foreign(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.ends_with("_proxy") || ["cloudsdk_", "google_", "vestibule_"].iter().any(|p| lower.starts_with(p))
}

fn first_line(child: &mut Child) -> String {
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = stdout.read_line(&mut line);
        let _ = send.send(line);
        let _ = stdout.read_to_end(&mut Vec::new());
    });
    let line = receive.recv_timeout(LIMIT).expect("serve says in time that it is ready");
    line.trim_end().to_owned()
}

pub fn terminate(child: &Child) {
    let _ = Command::new("kill").arg(child.id().to_string()).status();
}

pub fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("serve did not end within {LIMIT:?} of SIGTERM");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Repeats a question until its answer is wanted; the last answer when it never was.
pub fn until<T>(mut ask: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = ask();
        if wanted(&answer) || Instant::now() > deadline {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes whose environment names this directory: what a world's server started.
pub fn processes_of(dir: &Path) -> Vec<u32> {
    let needle = dir.display().to_string().into_bytes();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        ["cmdline", "environ"].iter().any(|file| {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            text.windows(needle.len()).any(|w| w == needle)
        })
    })
    .collect()
}
