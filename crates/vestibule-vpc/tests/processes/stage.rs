//! Starts servers and clients, and looks at them from outside.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use rustix::system::uname;

use crate::client::{NAME, links};
use crate::server::{CLIENT, GATEWAY, GREETING};

const RESOLV_CONF: &str = "search c.p.internal google.internal\nnameserver 169.254.169.254\n";
/// The user that stands for every ordinary one.
const ORDINARY: &str = "1000";

/// Who plays.
#[derive(Debug, Clone, Copy, PartialEq)]
enum As {
    Myself,
    Ordinary,
}

struct Server {
    child: Child,
    network: String,
    user: String,
    /// Closing it ends the server.
    _input: ChildStdin,
}

pub fn play() -> ExitCode {
    let root = rustix::process::geteuid().is_root();
    let (host_before, files_before) = (outside(), machine_files());
    for player in [As::Myself, As::Ordinary] {
        if player == As::Ordinary && (!root || !has("setpriv")) {
            println!("not run as another ordinary user: that takes root and the setpriv program");
            continue;
        }
        let Some(server) = Server::start(player) else { continue };
        a_client_sees_its_own_network(&server, player);
        programs_work_inside(&server, player);
        if player == As::Myself && root {
            odd_machines_are_no_obstacle(&server);
        }
        nothing_survives_the_server(server, player);
        assert_eq!(outside(), host_before, "links of the machine");
        assert_eq!(machine_files(), files_before, "the machine's own files and name");
        println!("test all scenes as {player:?} ... ok");
    }
    ExitCode::SUCCESS
}

impl Server {
    /// `None` where this machine forbids namespaces to this player, and a line that says so.
    fn start(player: As) -> Option<Server> {
        let mut child = spawn(player, &["role-server"]);
        let line = first_line(&mut child.stdout).1;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["ready", network, user] => Some(Server {
                network: (*network).to_owned(),
                user: (*user).to_owned(),
                _input: child.stdin.take().unwrap(),
                child,
            }),
            _ => {
                println!("not run as {player:?}: no network namespaces here: {line}");
                child.wait().unwrap();
                None
            }
        }
    }

    /// Arguments of a client's role.
    fn arguments<'a>(&'a self, role: &'a str, resolv_conf: &'a str, etc: &'a str) -> Vec<&'a str> {
        vec![role, &self.network, &self.user, resolv_conf, etc]
    }
}

fn a_client_sees_its_own_network(server: &Server, player: As) {
    look(server, player, "as it is");
}

/// `/etc/resolv.conf` may lead nowhere, or be missing with everything else.
fn odd_machines_are_no_obstacle(server: &Server) {
    look(server, As::Myself, "dangling");
    look(server, As::Myself, "empty");
}

fn look(server: &Server, player: As, etc: &str) {
    let file = resolv_conf();
    let seen = output(player, &server.arguments("role-look", file.path().to_str().unwrap(), etc));
    let expect = |line: &str| {
        assert!(seen.lines().any(|l| l.starts_with(line)), "no {line:?} with /etc {etc} in {seen}")
    };
    expect(&format!("resolv.conf={}", RESOLV_CONF.replace('\n', "|")));
    expect(&format!("hosts={CLIENT} {NAME} vm-10-0-0-7|"));
    expect("host=vm-10-0-0-7");
    expect("links=lo,eth0");
    expect("tmp=false");
    expect(&format!("greeting={}from={CLIENT}:", GREETING.replace('\n', "|")));
}

fn programs_work_inside(server: &Server, player: As) {
    let file = resolv_conf();
    let run = |program: &str, args: &[&str]| {
        let mut all = server.arguments("role-run", file.path().to_str().unwrap(), "as it is");
        all.push(program);
        all.extend(args);
        output(player, &all)
    };
    if has("ip") {
        let addresses = run("ip", &["-4", "-o", "address", "show", "eth0"]);
        assert!(addresses.contains(&format!("inet {CLIENT}/32")), "{addresses}");
        let routes = run("ip", &["route"]);
        assert!(routes.contains(&format!("default via {GATEWAY} dev eth0")), "{routes}");
    }
    if has("getent") {
        let found = run("getent", &["hosts", "vm-10-0-0-7"]);
        assert!(found.starts_with(&CLIENT.to_string()), "{found}");
    }
    let shell = run("sh", &["-c", "cat /etc/resolv.conf; ls /sys/class/net"]);
    assert!(shell.starts_with(RESOLV_CONF) && shell.contains("eth0"), "{shell}");
}

/// A killed server takes its networks along, though a client still lives in one of them.
fn nothing_survives_the_server(mut server: Server, player: As) {
    let file = resolv_conf();
    let mut client =
        spawn(player, &server.arguments("role-watch", file.path().to_str().unwrap(), "as it is"));
    let (mut output, line) = first_line(&mut client.stdout);
    assert_eq!(line, "up");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "down lo", "the client still has a link");
    drop(client.stdin.take());
    assert!(client.wait().unwrap().success());
}

fn spawn(player: As, args: &[&str]) -> Child {
    command(player, args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn output(player: As, args: &[&str]) -> String {
    let output = command(player, args).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{args:?} as {player:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn command(player: As, args: &[&str]) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut command = match player {
        As::Myself => Command::new(own),
        As::Ordinary => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"]).arg(own);
            command
        }
    };
    command.args(args);
    command
}

fn first_line(output: &mut Option<ChildStdout>) -> (BufReader<ChildStdout>, String) {
    let mut reader = BufReader::new(output.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (reader, line.trim_end().to_owned())
}

/// A file that every player can read.
fn resolv_conf() -> tempfile::NamedTempFile {
    use std::os::unix::fs::PermissionsExt;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(RESOLV_CONF.as_bytes()).unwrap();
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).unwrap();
    file
}

fn outside() -> Vec<String> {
    let mut links = links();
    links.sort();
    links
}

fn machine_files() -> (Option<Vec<u8>>, Option<Vec<u8>>, String) {
    let name = uname().nodename().to_string_lossy().into_owned();
    (fs::read("/etc/resolv.conf").ok(), fs::read("/etc/hosts").ok(), name)
}

fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|p| p.join(program).exists()));
    if !found {
        println!("not run: there is no {program} program here");
    }
    found
}
