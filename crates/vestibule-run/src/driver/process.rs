//! Instances as plain processes of this machine.
//!
//! Runs the sample service that is built in, and, where that is allowed, any program of the machine. It differs from
//! Cloud Run's contract in what a process without a container cannot have:
//!
//! * Instances share the machine's network, so each is given a port of its own in `PORT`, not the one of its revision.
//! * It sees the machine's files and users, and no limit is set on its processor and memory.
//!
//! Each instance leads a process group, dies with the runtime, and is written down in the state directory.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, io};

use super::child::GroupChild;
use super::image::Image;
use super::leftovers::{Records, Written};
use super::ports::Port;
use super::{Driver, Exit, Failure, Handle, Labels, Listed, Order, Output, Pending, Started};
use crate::config::Program;
use crate::desired::Revision;
use crate::hello;

/// Variables that an instance has from the runtime's own environment. Nothing else is passed on: it may hold secrets.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Starts processes.
pub struct ProcessDriver {
    hello: Program,
    exec: Program,
    allow_programs: bool,
    records: Records,
}

impl ProcessDriver {
    /// A driver that keeps its records under `state_dir`. `allow_programs`: images may name programs of this machine.
    pub fn open(state_dir: &Path, hello: Program, exec: Program, allow_programs: bool) -> io::Result<Self> {
        Ok(Self { hello, exec, allow_programs, records: Records::open(state_dir)? })
    }

    /// Whether it can run the revision at all.
    pub fn can_run(&self, revision: &Revision) -> bool {
        self.command(revision).is_some()
    }

    /// The command that runs a revision, without environment; `None` if that takes a container.
    fn command(&self, revision: &Revision) -> Option<Command> {
        let image = Image::of(&revision.image);
        if image == Image::Hello && revision.command.is_empty() {
            let mut command = Command::new(&self.hello.path);
            command.args(&self.hello.args);
            return Some(command);
        }
        if !self.allow_programs {
            return None;
        }
        let (program, first) = match (image, revision.command.split_first()) {
            (_, Some((program, first))) => (program.as_str(), first),
            (Image::Program(path), None) => (path, &[][..]),
            _ => return None,
        };
        let mut command = Command::new(&self.exec.path);
        command.args(&self.exec.args).arg("--").arg(std::process::id().to_string());
        command.arg(program).args(first).args(&revision.args);
        Some(command)
    }

    fn spawn(&self, order: &Order) -> Result<Started, Failure> {
        let mut command = self.command(&order.revision).ok_or_else(|| missing(&order.revision))?;
        let failed = |error: io::Error| start_failure(&order.revision, &error);
        let port = Port::reserve().map_err(failed)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        command.env_clear();
        command.envs(INHERITED.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        command.envs(order.environment.iter().map(|(name, value)| (name, value)));
        if Image::of(&order.revision.image) == Image::Hello {
            command.envs(hello::environment(&order.service.key));
        }
        command.env("PORT", port.number().to_string());

        let (stdout, write_stdout) = io::pipe().map_err(failed)?;
        let (stderr, write_stderr) = io::pipe().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(write_stdout).stderr(write_stderr);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = GroupChild::spawn(&mut command).map_err(failed)?;
        // The write ends live in the command; while they do, the pipes would never end.
        drop(command);

        let marks = vec![format!("PORT={}", port.number()), format!("K_REVISION={}", order.revision.name)];
        let written = self.records.write(&order.instance_id, child.pid(), &order.labels(), marks);
        let written = written.map_err(failed)?;
        Ok(Started {
            address,
            output: Output { stdout: Some(stdout.into()), stderr: Some(stderr.into()) },
            handle: Box::new(Process { child, _port: port, _written: written }),
        })
    }
}

impl Driver for ProcessDriver {
    fn name(&self) -> &'static str {
        "process"
    }

    fn prepare<'a>(&'a self, revision: &'a Revision) -> Pending<'a, Result<String, Failure>> {
        Box::pin(async move {
            if self.can_run(revision) { Ok(revision.image.clone()) } else { Err(missing(revision)) }
        })
    }

    fn start<'a>(&'a self, order: &'a Order) -> Pending<'a, Result<Started, Failure>> {
        Box::pin(async move { self.spawn(order) })
    }

    fn list<'a>(&'a self, labels: &'a Labels) -> Pending<'a, Vec<Listed>> {
        Box::pin(async move {
            let fits = |of: &Labels| labels.iter().all(|(name, value)| of.get(name) == Some(value));
            let records = self.records.all().into_iter().filter(|record| fits(&record.labels));
            let listed = records.map(|record| Listed {
                left_behind: self.records.is_left_behind(&record),
                instance_id: record.instance_id,
                labels: record.labels,
            });
            listed.collect()
        })
    }

    fn remove<'a>(&'a self, instance_id: &'a str) -> Pending<'a, ()> {
        Box::pin(async move {
            let records = self.records.all();
            for record in records.iter().filter(|record| record.instance_id == instance_id) {
                self.records.remove(record);
            }
        })
    }
}

/// A process that was started.
struct Process {
    child: GroupChild,
    _port: Port,
    _written: Written,
}

impl Handle for Process {
    fn pid(&self) -> Option<u32> {
        Some(self.child.pid())
    }

    fn terminate(&self) -> Pending<'_, ()> {
        Box::pin(async { self.child.terminate() })
    }

    fn kill(&self) -> Pending<'_, ()> {
        Box::pin(async { self.child.kill() })
    }

    fn exited(&self) -> Pending<'_, Exit> {
        Box::pin(self.child.exited())
    }
}

/// The image would take a container runtime.
fn missing(revision: &Revision) -> Failure {
    Failure {
        reason: "ContainerMissing".to_owned(),
        message: format!(
            "Image '{}' not found. Running it takes a container runtime, which is not available here. Deploy \
             gcr.io/cloudrun/hello, which is built in, or start the server with --driver=process to run a program of \
             this machine (image process:/absolute/path, or --command).",
            revision.image
        ),
        transient: false,
    }
}

/// The machine did not start the process.
fn start_failure(revision: &Revision, error: &io::Error) -> Failure {
    Failure {
        reason: "ContainerCreationError".to_owned(),
        message: format!("Cannot start the container of revision '{}': {error}.", revision.name),
        transient: true,
    }
}
