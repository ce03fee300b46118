//! The helpers between `vm run` and the client's command.
//!
//! Only a process with one thread may move into a user namespace, so `vm enter` is a process of its own: this binary,
//! started again. Inside the network it starts `vm init`, the first process of a process namespace, which starts the
//! command, and with whose end every process of the client ends. `vm init` in turn ends when the pipe from `vm run`
//! does, so nothing of a client is left when `vm run` is gone, even by `kill -9`.
//!
//! In loopback mode there is nothing to enter: `vm enter` sees to it that the command dies with `vm run`, and becomes
//! the command.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use vestibule_vpc::Guest;
use vestibule_vpc::namespace::{Place, enter_place, separate_processes};

use super::init;
use super::lease::Vm;
use super::supervise::{Reach, not_started, swallow_signals};

/// This very program, even when its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// What lists of processes show.
const OWN_NAME: &str = "vestibule";

#[derive(Args)]
pub struct Options {
    /// The process that started this one
    #[arg(long, value_name = "PID")]
    supervisor: i32,
    #[command(flatten)]
    inside: Option<Inside>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Where to go, in namespace mode.
#[derive(Args)]
#[group(requires_all = ["resolv_conf", "hostname", "address", "control"])]
struct Inside {
    #[arg(long, required = false)]
    network_namespace: String,
    #[arg(long)]
    user_namespace: Option<String>,
    #[arg(long, required = false)]
    resolv_conf: PathBuf,
    /// The client's full host name
    #[arg(long, required = false)]
    hostname: String,
    #[arg(long, required = false)]
    address: Ipv4Addr,
    /// Descriptor of the pipe from `vm run`
    #[arg(long, required = false)]
    control: RawFd,
}

/// The command line of the helper for this client.
pub fn command(vm: &Vm, reach: &Reach, command: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let mut words: Vec<OsString> = [OWN_PROGRAM, "vm", "enter", "--supervisor"].map(OsString::from).to_vec();
    words.push(std::process::id().to_string().into());
    if let Some(namespace) = &vm.namespace {
        let control = reach.descriptor().ok_or("the client has no control pipe")?;
        let resolv_conf = vm.resolv_conf.as_ref().ok_or("the client has no resolver file")?;
        let hostname = vm.hostname.as_ref().ok_or("the client has no name")?;
        let mut flag = |name: &str, value: &str| words.extend([name.into(), value.into()]);
        flag("--network-namespace", &namespace.network);
        if let Some(user) = &namespace.user {
            flag("--user-namespace", user);
        }
        flag("--resolv-conf", resolv_conf);
        flag("--hostname", hostname);
        flag("--address", &vm.address);
        flag("--control", &control.to_string());
    }
    words.push("--".into());
    words.extend(command);
    Ok(words)
}

/// Enters, and runs or becomes the command.
pub fn run(options: Options) -> Result<u8, String> {
    match &options.inside {
        Some(inside) => inside.run(&options.command),
        None => become_command(&options),
    }
}

impl Inside {
    fn run(&self, command: &[OsString]) -> Result<u8, String> {
        let guest = Guest { network: self.network_namespace.clone(), user: self.user_namespace.clone() };
        let name = Some((self.hostname.as_str(), self.address));
        let place = Place { guest: &guest, resolv_conf: &self.resolv_conf, name };
        enter_place(&place)
            .and_then(|()| separate_processes())
            .map_err(|error| format!("cannot enter the network: {error}"))?;
        // What the terminal sends is for the command; what `vm run` passes on goes through the pipe.
        swallow_signals().map_err(|error| error.to_string())?;
        let words = init::command(self.control, command);
        let mut child = Command::new(OWN_PROGRAM)
            .arg0(OWN_NAME)
            .args(words)
            .spawn()
            .map_err(|error| format!("cannot start the client's first process: {error}"))?;
        let status = child.wait().map_err(|error| error.to_string())?;
        Ok(super::supervise::exit_code(status))
    }
}

/// Becomes the command, which dies with `vm run`.
fn become_command(options: &Options) -> Result<u8, String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    // It may have ended before this was said.
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(options.supervisor) {
        return Err("`vm run` has ended".to_owned());
    }
    let Some((program, arguments)) = options.command.split_first() else {
        return Err("no command to run".to_owned());
    };
    let error = Command::new(program).args(arguments).exec();
    Ok(not_started(program, &error))
}
