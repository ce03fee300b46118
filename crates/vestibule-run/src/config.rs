//! What the runtime is told when it starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vestibule_iam::Verifier;
use vestibule_logs::LogSink;

use crate::desired::SecretRef;
use crate::driver::{Driver, InstanceNetwork, Owner};

/// How long an instance without a request is kept. Cloud Run keeps it for up to 15 minutes.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Between SIGTERM and SIGKILL. Cloud Run container contract: 10 seconds.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Settings of a runtime.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where records of running instances are kept.
    pub state_dir: PathBuf,
    /// The sample service that is built in.
    pub hello: Program,
    /// The helper through which other programs are started, so that they die with the runtime.
    pub exec: Program,
    /// Whether programs of this machine may be run in place of images (`serve --driver=process`). Default `false`:
    /// whoever may deploy could otherwise run anything as the user of the runtime.
    pub allow_programs: bool,
    /// Default [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// Default [`SHUTDOWN_GRACE`].
    pub shutdown_grace: Duration,
}

impl RuntimeConfig {
    /// The defaults, for a state directory and the two programs.
    pub fn new(state_dir: PathBuf, hello: Program, exec: Program) -> Self {
        Self {
            state_dir,
            hello,
            exec,
            allow_programs: false,
            idle_timeout: IDLE_TIMEOUT,
            shutdown_grace: SHUTDOWN_GRACE,
        }
    }
}

/// A program and its first arguments: usually this very binary and the name of a subcommand.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<String>,
}

/// What the runtime uses of its surroundings.
pub struct Dependencies {
    pub verifier: Verifier,
    pub logs: LogSink,
    /// `None`: instances are told of no metadata server.
    pub metadata: Option<Arc<dyn MetadataSource>>,
    /// `None`: instances that have a network of their own reach nothing but their metadata server.
    pub networks: Option<Arc<dyn NetworkSource>>,
    /// Runs images. `None`: a revision whose image is not built in fails.
    pub containers: Option<Arc<dyn Driver>>,
    /// `None`: what refers to a secret fails.
    pub secrets: Option<Arc<dyn SecretSource>>,
}

/// Where the values of secrets come from.
pub trait SecretSource: Send + Sync {
    /// The payload of a version, read in the name of a service account. Must not block. The error is a sentence for the
    /// revision's condition, such as `Secret projects/1/secrets/s/versions/latest was not found`.
    fn read(&self, secret: &SecretRef, service_account: &str) -> Result<Vec<u8>, String>;
}

/// What instances can reach.
pub trait NetworkSource: Send + Sync {
    /// The network of an instance that is about to start; dropping it gives its address back. Must not block for long.
    /// The error is a sentence for the revision's condition.
    fn open(&self, instance_id: &str, owner: &Owner) -> Result<Arc<dyn InstanceNetwork>, String>;
}

/// Where instances find their metadata server.
///
/// A metadata server tells callers apart by where they ask, so each instance may get an address of its own.
pub trait MetadataSource: Send + Sync {
    /// `host:port` at which the instance is to ask. Called before it starts.
    fn open(&self, instance_id: &str, owner: &Owner) -> Option<String>;
    /// The instance is gone.
    fn close(&self, instance_id: &str);
}
