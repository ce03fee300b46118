//! Processes inside a network.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use vestibule_vpc::Guest;
use vestibule_vpc::namespace::{Place, enter_place};

use crate::server::{CLIENT, PORT, VIP};

pub const NAME: &str = "vm-10-0-0-7.us-central1-a.c.p.internal";

/// `NETWORK USER RESOLV_CONF ETC`: enters the network. ETC says what the machine's `/etc` is like before.
fn enter(args: &[String]) {
    let [network, user, resolv_conf, etc, ..] = args else { panic!("four arguments") };
    match etc.as_str() {
        "dangling" => own_etc(|etc| symlink("/run/nowhere/resolv.conf", etc.join("resolv.conf")).unwrap()),
        "empty" => own_etc(|_| {}),
        _ => {}
    }
    let guest = Guest { network: network.clone(), user: Some(user.clone()).filter(|user| user != "-") };
    enter_place(&Place { guest: &guest, resolv_conf: Path::new(resolv_conf), name: Some((NAME, CLIENT)) })
        .unwrap();
}

/// Gives this process an `/etc` of its own.
#[allow(unsafe_code, reason = "unshare has no safe form")]
fn own_etc(fill: impl FnOnce(&Path)) {
    // SAFETY: NEWNS leaves the file descriptor table shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("tmpfs", "/etc", "tmpfs", MountFlags::empty(), None).unwrap();
    fill(Path::new("/etc"));
}

/// Prints what a client sees, as `key=value` lines.
pub fn look(args: &[String]) {
    enter(args);
    let lines =
        |path: &str| fs::read_to_string(path).unwrap_or_else(|error| error.to_string()).replace('\n', "|");
    println!("resolv.conf={}", lines("/etc/resolv.conf"));
    println!("hosts={}", lines("/etc/hosts"));
    println!("host={}", rustix::system::uname().nodename().to_string_lossy());
    println!("links={}", links().join(","));
    println!(
        "tmp={}",
        fs::read_dir("/tmp").unwrap().filter_map(Result::ok).any(|e| e.file_name() == "upper")
    );
    match greet(Duration::from_secs(20)) {
        Ok((text, from)) => println!("greeting={}from={from}", text.replace('\n', "|")),
        Err(error) => println!("greeting failed: {error}"),
    }
}

/// Becomes another program.
pub fn run(args: &[String]) {
    enter(args);
    panic!("{}", Command::new(&args[4]).args(&args[5..]).exec());
}

/// Says `up` once the virtual IP answers and `down` when it does no more, and which links are left then.
pub fn watch(args: &[String]) {
    enter(args);
    greet(Duration::from_secs(20)).unwrap();
    println!("up");
    while greet(Duration::from_millis(500)).is_ok() {}
    while links().iter().any(|link| link != "lo") {
        std::thread::yield_now();
    }
    println!("down {}", links().join(","));
    std::io::stdout().flush().unwrap();
    // Until the stage has looked at what is left.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn greet(patience: Duration) -> std::io::Result<(String, SocketAddr)> {
    let mut stream = TcpStream::connect_timeout(&(VIP, PORT).into(), patience)?;
    let mut text = String::new();
    stream.set_read_timeout(Some(patience))?;
    stream.read_to_string(&mut text)?;
    Ok((text, stream.local_addr()?))
}

/// Names of the links that this process sees.
pub fn links() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}
