//! The container's first process, from its birth in empty namespaces until it becomes the image's program.
//!
//! Nothing of the image runs before the last line, so whatever the image holds, it is handled by this code, with the
//! rights of the container's root and, until the root is changed, a view of the machine's files. Paths of the image
//! are therefore only looked up in ways that cannot lead out ([`super::mounts`]).

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid};
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit, setsid, umask,
};
use rustix::system::sethostname;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use seccompiler::BpfProgram;

use super::clone::{Namespace, leave};
use super::helper::While;
use super::plan::{GO, Plan, Users};
use super::{filter, mounts, privileges, wire};

/// Host name of every instance, as in Cloud Run.
pub(in crate::driver) const HOSTNAME: &str = "localhost";
/// Files that a program may have open, if the machine allows as many. Cloud Run's limit.
pub(in crate::driver) const OPEN_FILES: u64 = 25_000;
/// Makes the kernel end a container rather than the runtime when the machine runs out of memory.
pub(in crate::driver) const OOM_SCORE: &str = "300";

/// Becomes the program of `plan`. `helper` ends without a word when that is done, and gets an error otherwise.
pub(super) fn run(plan: &Plan, helper: &OwnedFd) -> Infallible {
    let error = match become_program(plan, helper) {
        Ok(()) => std::process::exit(0),
        Err(error) => error,
    };
    let _ = wire::send(helper, error.to_string().as_bytes(), &[], false);
    std::process::exit(1)
}

fn become_program(plan: &Plan, helper: &OwnedFd) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    wait(helper)?;
    // Users are mapped now: become the container's root, or the one user there is.
    match plan.users {
        Users::Shifted { .. } => {
            set_thread_groups(&[])?;
            take_ids(0, 0).during("becoming root in the container")?;
        }
        Users::Own => take_ids(plan.uid, plan.gid).during("becoming the container's user")?,
    }
    set_parent_process_death_signal(Some(Signal::KILL))?;
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    sethostname(HOSTNAME.as_bytes()).during("setting the host name")?;
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    mounts::change_root(plan)?;
    let filters = begin_session()?;

    wait(helper)?;
    // The groups are those of the container from here on. A kernel without this has nothing to hide them with.
    let _ = leave(Namespace::ControlGroups);
    become_user(plan)?;
    stay_with(helper)?;
    install(&filters)?;
    execute(plan)
}

/// Limits that no control group knows, a session of its own, and the filters that are to be installed last.
pub(in crate::driver) fn begin_session() -> io::Result<[BpfProgram; 2]> {
    let filters = filter::compile()?;
    limit_resources()?;
    setsid().during("making a session")?;
    Ok(filters)
}

/// Becomes the user that the image asks for, in its working directory, with no more privileges than are kept.
pub(in crate::driver) fn become_user(plan: &Plan) -> io::Result<()> {
    enter_working_dir(&plan.working_dir)?;
    privileges::bound().during("dropping capabilities")?;
    if let Users::Shifted { .. } = plan.users {
        let groups: Vec<_> = plan.groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups).during("setting groups")?;
    }
    take_ids(plan.uid, plan.gid).during("becoming the image's user")?;
    privileges::drop_to(plan.uid).during("dropping capabilities")
}

fn take_ids(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// Waits to be told to go on.
fn wait(helper: &OwnedFd) -> io::Result<()> {
    if wire::receive(helper, false)?.bytes == GO {
        Ok(())
    } else {
        Err(io::Error::other("the helper has gone"))
    }
}

/// Another user's process forgets whom it dies with, so it is said again, and then it is checked that it is not too
/// late to say so.
fn stay_with(helper: &OwnedFd) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut watched = [PollFd::new(helper, PollFlags::empty())];
    poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if watched[0].revents().contains(PollFlags::HUP) {
        return Err(io::Error::other("the helper has gone"));
    }
    Ok(())
}

fn limit_resources() -> io::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })
        .during("limiting open files")?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).during("limiting core files")
}

/// Made if it is missing, as Docker does.
fn enter_working_dir(path: &str) -> io::Result<()> {
    let path = if path.is_empty() { "/" } else { path };
    let what = || format!("entering the working directory {path}");
    fs::create_dir_all(path).during(&what())?;
    std::env::set_current_dir(path).during(&what())
}

/// Installs the filters: the last that is done before the program.
pub(in crate::driver) fn install(filters: &[BpfProgram; 2]) -> io::Result<()> {
    filter::install(filters)
}

/// Becomes the program. Comes back only if there is none, or if that fails.
pub(in crate::driver) fn execute(plan: &Plan) -> io::Result<()> {
    let Some((program, args)) = plan.command.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env_clear();
    // Looked up in the container's own PATH.
    command.envs(plan.environment.iter().map(|(name, value)| (name, value)));
    Err(command.exec()).during(&format!("failed to run {program:?}"))
}
