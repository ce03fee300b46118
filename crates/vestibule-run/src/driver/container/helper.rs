//! The helper: makes one container, hands out sockets of its network, and ends with it.
//!
//! It is this very binary, started again, because it must have a single thread: namespaces belong to threads, and a
//! process with several can neither enter a user namespace nor be copied safely. It makes the container's first
//! process, a copy of itself in new namespaces ([`super::init`]). Then it enters the container's network and gives up
//! every privilege. All that it does from then on is to make sockets there and to wait for the container's end.
//!
//! The helper dies with the runtime and the container dies with the helper, because the kernel is told to see to it:
//! a killed runtime leaves nothing running.

use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, move_into_link_name_space, set_capabilities,
    set_no_new_privs,
};

use vestibule_vpc::namespace;

use super::clone::clone_into_namespaces;
use super::plan::{GO, Message, Outlet, Plan, Pod, Users};
use super::{init, link, pod, wire};
use crate::exec::die_with;

/// Where a container finds its metadata server: Google's link-local address.
pub(in crate::driver) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where name servers listen.
const DNS: u16 = 53;
/// Bounds the sockets that lie ready: the kernel takes messages until a quarter of this is in use, and each takes
/// some 800 bytes of it.
const STOCK_BYTES: usize = 32 * 1024;
/// Pause when the user has more sockets in flight than the kernel allows.
const BREATH: std::time::Duration = std::time::Duration::from_millis(20);

/// Runs the helper. Its standard input is a socket of the runtime's. For `main` of the binary that
/// [`ContainerDriver::open`](super::ContainerDriver::open) is told of, before any other thread exists.
pub fn run_helper() -> ExitCode {
    let Ok(runtime) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    match make(&runtime) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = tell(&runtime, &Message::Failed { message: error.to_string() }, &[]);
            ExitCode::FAILURE
        }
    }
}

/// What was being done when an error came.
pub(in crate::driver) trait While<T> {
    fn during(self, what: &str) -> io::Result<T>;
}

impl<T, E: Into<io::Error>> While<T> for Result<T, E> {
    fn during(self, what: &str) -> io::Result<T> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            io::Error::new(error.kind(), format!("{what}: {error}"))
        })
    }
}

pub(in crate::driver) fn tell(
    runtime: &OwnedFd,
    message: &Message,
    descriptors: &[&OwnedFd],
) -> io::Result<()> {
    let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    wire::send(runtime, &serde_json::to_vec(message)?, &descriptors, false)
}

fn make(runtime: &OwnedFd) -> io::Result<()> {
    let (plan, shared) = read_plan(runtime).during("reading the plan")?;
    die_with(plan.runtime)?;
    own_output(&plan, io::stdout(), io::stderr());
    pod::enter(&plan, &shared)?;
    drop(shared);
    // Entering may have made the kernel forget whom we die with.
    die_with(plan.runtime)?;

    let (ours, theirs) = wire::pair()?;
    let mut ours = Some(ours);
    // The child gets copies of all descriptors. Of this pair it must have one end only, to see the other close; all
    // others close when it becomes the program.
    let child = || {
        drop(ours.take());
        init::run(&plan, &theirs)
    };
    let network = matches!(plan.pod, Pod::New { .. });
    let pid = clone_into_namespaces(network, child).during("making namespaces")?;
    drop(theirs);
    let ours = ours.ok_or_else(|| io::Error::other("the child's socket is gone"))?;
    let child = pidfd_open(pid, PidfdFlags::empty())?;
    let ended = serve(runtime, &plan, pid, &child, &ours);
    if ended.is_err() {
        let _ = rustix::process::pidfd_send_signal(&child, rustix::process::Signal::KILL);
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
    }
    ended
}

/// The plan, and what came with it: the namespaces of the instance, if there are any yet.
pub(in crate::driver) fn read_plan(runtime: &OwnedFd) -> io::Result<(Plan, Vec<OwnedFd>)> {
    let mut descriptors = wire::receive(runtime, false)?.descriptors.into_iter();
    let mut plan = File::from(descriptors.next().ok_or_else(|| io::Error::other("no plan"))?);
    plan.rewind()?;
    Ok((serde_json::from_reader(io::BufReader::new(plan))?, descriptors.collect()))
}

/// A program may open its output again by name (`/dev/stdout`), so it must own the pipe.
pub(in crate::driver) fn own_output(plan: &Plan, stdout: impl AsFd, stderr: impl AsFd) {
    if let Users::Shifted { base, .. } = plan.users {
        let (uid, gid) = (Uid::from_raw(base + plan.uid), Gid::from_raw(base + plan.gid));
        // Only then does it not work by name.
        let _ = fchown(stdout, Some(uid), Some(gid));
        let _ = fchown(stderr, Some(uid), Some(gid));
    }
}

fn serve(runtime: &OwnedFd, plan: &Plan, pid: Pid, child: &OwnedFd, ours: &OwnedFd) -> io::Result<()> {
    close_output()?;
    // While the child waits: one that has failed has no namespaces any more.
    let network = File::open(format!("/proc/{}/ns/net", pid.as_raw_nonzero()))?.into();
    pod::map_users(plan, pid).during("mapping users")?;
    wire::send(ours, GO, &[], false)?;
    let stock = match plan.pod {
        Pod::New { address } => Some(begin_pod(runtime, plan, (pid, child, &network), address)?),
        Pod::Join => {
            tell(runtime, &Message::Child { pid: pid.as_raw_nonzero().get() }, &[child])?;
            None
        }
    };
    set_no_new_privs(true)?;
    set_capabilities(None, NO_CAPABILITIES)?;

    // The container's limits are in force when the runtime says so.
    if wire::receive(runtime, false)?.bytes != GO {
        return Err(io::Error::other("the runtime has gone"));
    }
    // A child that has failed by now is gone, but not what it said.
    let _ = wire::send(ours, GO, &[], false);
    let answer = wire::receive(ours, false)?;
    if !answer.bytes.is_empty() {
        return Err(io::Error::other(String::from_utf8_lossy(&answer.bytes).into_owned()));
    }
    tell(runtime, &Message::Started, &[])?;
    watch(&[child.as_fd()], &mut stock.as_ref())?;
    let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED)?;
    let code = status.as_ref().and_then(rustix::process::WaitIdStatus::exit_status);
    let signal = status.as_ref().and_then(rustix::process::WaitIdStatus::terminating_signal);
    tell(runtime, &Message::Exited { code, signal, out_of_memory: None }, &[])
}

/// Tells the runtime of the first container of an instance, and sets its network up. Answers with the end of the stock
/// that has to be filled.
fn begin_pod(
    runtime: &OwnedFd,
    plan: &Plan,
    (pid, child, container): (Pid, &OwnedFd, &OwnedFd),
    address: Ipv4Addr,
) -> io::Result<OwnedFd> {
    let own = |name: &str| File::open(format!("/proc/self/ns/{name}")).map(OwnedFd::from);
    let (user, mounts) = (own("user")?, own("mnt")?);
    tell(runtime, &Message::Child { pid: pid.as_raw_nonzero().get() }, &[child, &user, &mounts, container])?;

    let entered = move_into_link_name_space(container.as_fd(), Some(LinkNameSpaceType::Network));
    entered.during("entering the container's network")?;
    open_network(runtime, plan, address)
}

/// Sets the network up that this process is in, and tells the runtime. Answers with the end of the stock that has to be
/// filled.
pub(in crate::driver) fn open_network(
    runtime: &OwnedFd,
    plan: &Plan,
    address: Ipv4Addr,
) -> io::Result<OwnedFd> {
    let (stock, far) = wire::pair()?;
    set_socket_send_buffer_size(&stock, STOCK_BYTES)?;
    let metadata = network(address, plan.metadata).during("setting up the container's network")?;
    let (ways, no_outlet) = match plan.outlet.map(|wanted| outlet(address, wanted)) {
        None => (Vec::new(), None),
        Some(Ok(ways)) => (ways.into(), None),
        Some(Err(error)) => (Vec::new(), Some(error.to_string())),
    };
    let descriptors: Vec<_> = [&far].into_iter().chain(&metadata).chain(&ways).collect();
    tell(runtime, &Message::Network { no_outlet }, &descriptors)?;
    Ok(stock)
}

pub(in crate::driver) const NO_CAPABILITIES: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// The container's output ends when the container does, not when the helper does.
fn close_output() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Addresses of the container, and the metadata server's listener.
fn network(address: Ipv4Addr, metadata: bool) -> io::Result<Option<OwnedFd>> {
    link::up()?;
    link::add_address(address)?;
    // A program that is not root may listen on port 80, as in Cloud Run. Old kernels have no such setting.
    let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    if !metadata {
        return Ok(None);
    }
    link::add_address(METADATA)?;
    listen(METADATA, 80).map(Some)
}

/// The way out: everything that is not an address of the instance goes to a listener, and names are asked for at the
/// usual address.
fn outlet(address: Ipv4Addr, wanted: Outlet) -> io::Result<[OwnedFd; 3]> {
    let connections = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    connections.set_nonblocking(true)?;
    namespace::divert(address, connections.local_addr()?.port()).during("diverting connections")?;
    if let Some(own) = wanted.address {
        link::add_address(own)?;
    }
    link::add_address(METADATA)?;
    link::add_default_route(wanted.address.unwrap_or(address))?;
    let udp = UdpSocket::bind(SocketAddr::from((METADATA, DNS)))?;
    udp.set_nonblocking(true)?;
    Ok([connections.into(), udp.into(), listen(METADATA, DNS)?])
}

fn listen(address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
    let listener = TcpListener::bind(SocketAddr::from((address, port)))?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// Waits until one of these descriptors has something to say, and keeps the stock of sockets full. Answers with which of
/// them.
pub(in crate::driver) fn watch(
    descriptors: &[BorrowedFd<'_>],
    stock: &mut Option<&OwnedFd>,
) -> io::Result<usize> {
    loop {
        let mut watched: Vec<_> = descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        watched.extend(stock.map(|stock| PollFd::new(stock, PollFlags::OUT)));
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let said = |fd: &PollFd<'_>| !fd.revents().is_empty();
        if let Some(index) = watched[..descriptors.len()].iter().position(said) {
            return Ok(index);
        }
        let room = watched.get(descriptors.len()).is_some_and(|stock| !stock.revents().is_empty());
        if let Some(full) = stock.filter(|_| room) {
            match add_socket(full) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error()) => {
                    std::thread::sleep(BREATH);
                }
                // Nobody is there to take one any more.
                Err(_) => *stock = None,
                Ok(()) => {}
            }
        }
    }
}

pub(in crate::driver) fn add_socket(stock: &OwnedFd) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    wire::send(stock, b"s", &[socket.as_fd()], true)
}
