//! Instances as plain processes of this machine.
//!
//! Runs the sample service that is built in, and, where that is allowed, any program of the machine. It differs from
//! Cloud Run's contract in what a process without a container cannot have:
//!
//! * Instances share the machine's network, so each is given a port of its own in `PORT`, not the one of its revision.
//! * It sees the machine's files and users, and no limit is set on its processor and memory. It cannot have volumes; the
//!   sample service, which opens no file, may be given some.
//! * The containers of an instance share the machine's network not only with each other, so a sidecar's fixed port can
//!   serve one instance at a time.
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
use super::{Driver, Exit, Failure, Handle, Labels, Listed, Order, Output, Owner, Pending, Started};
use crate::config::Program;
use crate::desired::Container;
use crate::hello;

/// Variables that an instance has from the runtime's own environment. Nothing else is passed on: it may hold secrets.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Variable of a process that has no port: the id of its instance.
const INSTANCE: &str = "VESTIBULE_INSTANCE";

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

    /// Whether it can run the container at all.
    pub fn can_run(&self, container: &Container) -> bool {
        // The sample service opens no file, so nobody can tell whether its volumes are there.
        let sees_volumes = !is_sample(container) && !container.mounts.is_empty();
        !sees_volumes && self.command(container).is_some()
    }

    /// The command that runs a container, without environment; `None` if that takes a container runtime.
    fn command(&self, container: &Container) -> Option<Command> {
        let image = Image::of(&container.image);
        if is_sample(container) {
            let mut command = Command::new(&self.hello.path);
            command.args(&self.hello.args);
            return Some(command);
        }
        if !self.allow_programs {
            return None;
        }
        let (program, first) = match (image, container.command.split_first()) {
            (_, Some((program, first))) => (program.as_str(), first),
            (Image::Program(path), None) => (path, &[][..]),
            _ => return None,
        };
        let mut command = Command::new(&self.exec.path);
        command.args(&self.exec.args).arg("--").arg(std::process::id().to_string());
        command.arg(program).args(first).args(&container.args);
        if let Some(folder) = &container.working_dir {
            command.current_dir(folder);
        }
        Some(command)
    }

    fn spawn(&self, order: &Order) -> Result<Started, Failure> {
        let mut command = self.command(&order.container).ok_or_else(|| missing(&order.container))?;
        let failed = |error: io::Error| start_failure(order, &error);
        let port = order.port.map(|_| Port::reserve()).transpose().map_err(failed)?;
        let number = port.as_ref().map_or(0, Port::number);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, number));
        command.env_clear();
        command.envs(INHERITED.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        command.envs(order.environment.iter().map(|(name, value)| (name, value)));
        if Image::of(&order.container.image) == Image::Hello {
            command.envs(hello::environment(order.owner.project(), order.owner.region()));
            // Where requests do not go to it, any port will do: the machine's are shared.
            command.env("PORT", "0");
        }
        // What tells this instance's processes from all others.
        let mark = match port {
            Some(_) => ("PORT", number.to_string()),
            None => (INSTANCE, order.instance_id.to_string()),
        };
        command.env(mark.0, &mark.1);

        let (stdout, write_stdout) = io::pipe().map_err(failed)?;
        let (stderr, write_stderr) = io::pipe().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(write_stdout).stderr(write_stderr);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = GroupChild::spawn(&mut command).map_err(failed)?;
        // The write ends live in the command; while they do, the pipes would never end.
        drop(command);

        let mut marks = vec![format!("{}={}", mark.0, mark.1)];
        let revision = order.environment.iter().rfind(|(name, _)| name == "K_REVISION");
        marks.extend(revision.map(|(name, value)| format!("{name}={value}")));
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

    fn prepare<'a>(&'a self, _: &'a Owner, container: &'a Container) -> Pending<'a, Result<String, Failure>> {
        Box::pin(async move {
            if self.can_run(container) { Ok(container.image.clone()) } else { Err(missing(container)) }
        })
    }

    fn start<'a>(&'a self, order: &'a Order) -> Pending<'a, Result<Started, Failure>> {
        Box::pin(async move { self.spawn(order) })
    }

    fn list<'a>(&'a self, labels: &'a Labels) -> Pending<'a, Vec<Listed>> {
        Box::pin(async move { self.records.list(labels) })
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
    _port: Option<Port>,
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

/// Whether it is the sample service that runs, not another program under its name.
fn is_sample(container: &Container) -> bool {
    Image::of(&container.image) == Image::Hello && container.command.is_empty()
}

/// The container would take a container runtime.
fn missing(container: &Container) -> Failure {
    let image = &container.image;
    if !container.mounts.is_empty() {
        return Failure {
            reason: "ContainerMissing".to_owned(),
            message: format!(
                "Container '{}' (image '{image}') mounts volumes. That takes a container runtime, which is not \
                 available here: a process of this machine sees the machine's own files.",
                container.name
            ),
            transient: false,
        };
    }
    Failure {
        reason: "ContainerMissing".to_owned(),
        message: format!(
            "Image '{image}' not found. Running it takes a container runtime, which is not available here. Deploy \
             gcr.io/cloudrun/hello, which is built in, or start the server with --driver=process to run a program of \
             this machine (image process:/absolute/path, or --command)."
        ),
        transient: false,
    }
}

/// The machine did not start the process.
fn start_failure(order: &Order, error: &io::Error) -> Failure {
    Failure {
        reason: "ContainerCreationError".to_owned(),
        message: format!("Cannot start the container of {}: {error}.", order.owner.describe()),
        transient: true,
    }
}
