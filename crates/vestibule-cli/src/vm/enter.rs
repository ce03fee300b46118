//! The helper that becomes a client's command inside the client's namespaces.
//!
//! Only a process with one thread may move into a user namespace, so it is a process of its own: this binary, started
//! again, that enters and then replaces itself.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};
use vestibule_vpc::Guest;
use vestibule_vpc::namespace::{Place, enter_place};

use super::lease::Vm;

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    network_namespace: String,
    #[arg(long)]
    user_namespace: Option<String>,
    #[arg(long)]
    resolv_conf: PathBuf,
    /// The client's full host name
    #[arg(long, requires = "address")]
    hostname: Option<String>,
    #[arg(long)]
    address: Option<Ipv4Addr>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The command line of the helper for this client.
pub fn command(vm: &Vm, command: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let namespace = vm.namespace.as_ref().ok_or("the client has no namespace")?;
    let resolv_conf = vm.resolv_conf.as_ref().ok_or("the client has no resolver file")?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut words: Vec<OsString> = vec![own.into(), "vm".into(), "enter".into()];
    words.extend(["--network-namespace".into(), namespace.network.clone().into()]);
    if let Some(user) = &namespace.user {
        words.extend(["--user-namespace".into(), user.clone().into()]);
    }
    words.extend(["--resolv-conf".into(), resolv_conf.clone().into()]);
    if let Some(hostname) = &vm.hostname {
        let address = vm.address.clone();
        words.extend(["--hostname".into(), hostname.into(), "--address".into(), address.into()]);
    }
    words.push("--".into());
    words.extend(command);
    Ok(words)
}

/// Enters and becomes the command. Returns only what went wrong.
pub fn run(options: &Options) -> String {
    let guest = Guest { network: options.network_namespace.clone(), user: options.user_namespace.clone() };
    let name = options.hostname.as_deref().zip(options.address);
    let place = Place { guest: &guest, resolv_conf: &options.resolv_conf, name };
    if let Err(error) = enter_place(&place) {
        return format!("cannot enter the network: {error}");
    }
    // A client without its supervisor would be without a lease. Moving between namespaces forgets this, so it comes
    // last.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let Some((program, arguments)) = options.command.split_first() else {
        return "no command to run".to_owned();
    };
    let error = std::process::Command::new(program).args(arguments).exec();
    format!("{}: {error}", program.to_string_lossy())
}
