//! The first process of a container: this very binary, started by the engine.
//!
//! It meets the runtime at a socket that was mounted into the container, is given a plan and the pipes for the
//! program's output, sets the network up, and starts the image's program. From then on it holds no privilege but that
//! of ending processes. It hands out sockets of the container's network, reaps what the program leaves, passes on what
//! the runtime asks for, and ends with the program or the runtime, whichever goes first; the kernel ends what is left.
//!
//! The program cannot harm it: the kernel lets nobody in a container signal its first process, and it can be neither
//! traced nor read.

use std::convert::Infallible;
use std::fs;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::thread::JoinHandle;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal,
    set_dumpable_behavior, wait,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

use super::program::FOLDER;
use crate::driver::container::cgroup::own_out_of_memory;
use crate::driver::container::clone::fork;
use crate::driver::container::helper::{METADATA, While, open_network, own_output, read_plan, tell, watch};
use crate::driver::container::plan::{Message, Plan, Pod};
use crate::driver::container::{init, wire};

/// Name of the folder, below [`FOLDER`], and of the socket in it at which the runtime is met.
pub(super) const MEETING: &str = "meet";
pub(super) const SOCKET: &str = "socket";
/// What the runtime asks for.
pub(super) const TERMINATE: &[u8] = b"terminate";
pub(super) const KILL: &[u8] = b"kill";
/// Makes the kernel end the program rather than this process when the container runs out of memory.
const OOM_SCORE: &str = "700";

/// Runs the first process of a container. For `main` of the binary that
/// [`DockerDriver::open`](super::DockerDriver::open) is told of, before any other thread exists.
pub fn run_inside() -> ExitCode {
    let Ok(runtime) = meet() else { return ExitCode::FAILURE };
    match live(&runtime) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = tell(&runtime, &Message::Failed { message: error.to_string() }, &[]);
            ExitCode::FAILURE
        }
    }
}

fn meet() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(format!("{FOLDER}/{MEETING}/{SOCKET}"))?)?;
    Ok(socket)
}

fn live(runtime: &OwnedFd) -> io::Result<()> {
    let (plan, output) = read_plan(runtime).during("reading the plan")?;
    let [stdout, stderr] = <[OwnedFd; 2]>::try_from(output)
        .map_err(|_| io::Error::other("the plan came without pipes for the output"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let stock = match plan.pod {
        Pod::New { address } => {
            name_servers(&plan);
            Some(open_network(runtime, &plan, address)?)
        }
        Pod::Join => None,
    };
    own_output(&plan, &stdout, &stderr);
    let program = start(&plan, stdout, stderr)?;
    let first = pidfd_open(program, PidfdFlags::empty()).ok();
    tell(runtime, &Message::Started, &[])?;

    set_no_new_privs(true)?;
    set_capabilities(None, ONLY_KILL)?;
    let (ended, reaper) = reap(program)?;
    let mut stock = stock.as_ref();
    while watch(&[ended.as_fd(), runtime.as_fd()], &mut stock)? != 0 {
        let signal = match &wire::receive(runtime, false)?.bytes[..] {
            TERMINATE => Signal::TERM,
            KILL => Signal::KILL,
            // The runtime has gone.
            _ => return Ok(()),
        };
        // The only error that can be is that it has ended.
        let _ = match &first {
            Some(first) => pidfd_send_signal(first, signal),
            None => kill_process(program, signal),
        };
    }
    let (code, signal) = reaper.join().map_err(|_| io::Error::other("the reaper panicked"))?;
    let out_of_memory = own_out_of_memory();
    tell(runtime, &Message::Exited { code, signal, out_of_memory }, &[])
}

const ONLY_KILL: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::KILL,
    permitted: CapabilitySet::KILL,
    inheritable: CapabilitySet::empty(),
};

/// Says where names are asked for. Engines put files of their own there, which can be written to.
fn name_servers(plan: &Plan) {
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned();
    if plan.metadata {
        hosts.push_str(&format!("{METADATA}\tmetadata.google.internal metadata\n"));
    }
    let _ = fs::write("/etc/hosts", hosts);
    if plan.metadata || plan.outlet.is_some() {
        let _ = fs::write("/etc/resolv.conf", format!("nameserver {METADATA}\n"));
    }
}

/// Starts the program. Returns when it runs.
fn start(plan: &Plan, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Pid> {
    let (ours, theirs) = wire::pair()?;
    let mut ours = Some(ours);
    let child = || -> Infallible {
        drop(ours.take());
        let error = match become_program(plan, &stdout, &stderr) {
            Ok(()) => std::process::exit(0),
            Err(error) => error,
        };
        let _ = wire::send(&theirs, error.to_string().as_bytes(), &[], false);
        std::process::exit(1)
    };
    let pid = fork(child)?;
    drop(theirs);
    let ours = ours.ok_or_else(|| io::Error::other("the child's socket is gone"))?;
    // It closes when it becomes the program.
    let said = wire::receive(&ours, false)?;
    if said.bytes.is_empty() {
        return Ok(pid);
    }
    Err(io::Error::other(String::from_utf8_lossy(&said.bytes).into_owned()))
}

fn become_program(plan: &Plan, stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let filters = init::begin_session()?;
    init::become_user(plan)?;
    init::install(&filters)?;
    init::execute(plan)
}

/// How the program ended: exit code, signal.
type Ended = (Option<i32>, Option<i32>);

/// Reaps whoever ends, until the program does. The pipe closes then.
fn reap(program: Pid) -> io::Result<(PipeReader, JoinHandle<Ended>)> {
    let (ended, open) = io::pipe()?;
    let run = move || {
        let _open = open;
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == program => {
                    return (status.exit_status(), status.terminating_signal());
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return (None, None),
            }
        }
    };
    Ok((ended, std::thread::Builder::new().name("reaper".to_owned()).spawn(run)?))
}
