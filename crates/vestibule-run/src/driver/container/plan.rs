//! What the runtime tells the helper, and what the helper answers.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container as the helper has to make it. JSON in an anonymous file, because an environment may be bigger than a
/// message can be, and because it holds secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Process that must live for the container to live.
    pub(super) runtime: u32,
    pub(super) users: Users,
    /// Where `layers` are. The helper works in this folder: its path may lead through folders that the container's
    /// root may not enter, and the names of all layers must fit into one page of mount options.
    pub(super) layers_dir: PathBuf,
    /// Folders, from the bottom to the top.
    pub(super) layers: Vec<String>,
    /// Name in `layers_dir` of an empty folder to mount on.
    pub(super) mount_point: String,
    /// Bytes that may be written to the container's file system, which is in memory.
    pub(super) writable: u64,
    /// Program and arguments. Empty: everything is set up and nothing run, to see whether it could be.
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) working_dir: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    /// Whether its instance has a metadata server.
    pub(super) metadata: bool,
    /// Whether what its instance connects to is carried on, and its own address in a VPC network.
    pub(super) outlet: Option<Outlet>,
    pub(super) pod: Pod,
    /// Volumes that are to be made. Those of earlier containers of the instance are there.
    pub(super) volumes: Vec<Volume>,
    pub(super) mounts: Vec<Mount>,
}

/// The way out of an instance.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Outlet {
    /// Its own address in a VPC network.
    pub(super) address: Option<Ipv4Addr>,
}

/// The instance that a container belongs to: what its containers share.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Pod {
    /// This is the first container, and the address is the one under which the instance is reached.
    New { address: Ipv4Addr },
    /// An earlier container's namespaces come with the plan: users, mounts, network.
    Join,
}

/// A volume to make.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Volume {
    /// Its number in the instance.
    pub(super) number: usize,
    /// Bytes it may hold.
    pub(super) size: u64,
    /// What is in it at first: path, content, mode.
    pub(super) files: Vec<(String, Vec<u8>, u32)>,
}

// Not derived: contents may be secret.
impl std::fmt::Debug for Volume {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "volume {} of {} files", self.number, self.files.len())
    }
}

/// A volume at a place in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mount {
    /// Number of the volume.
    pub(super) volume: usize,
    /// Path in the volume; empty for all of it.
    pub(super) sub_path: String,
    /// Absolute path in the container.
    pub(super) target: String,
    pub(super) read_only: bool,
}

/// The user namespace.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Users {
    /// Ids from 0 are ids from `base` outside.
    Shifted { base: u32, count: u32 },
    /// There is one user, who is the user of the runtime outside.
    Own,
}

/// What the helper answers, in this order. Each is one message on a socket, some with file descriptors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Message {
    /// The container's first process is there and waits to be told to go on. With a descriptor of it and, if it is the
    /// first of its instance, of the namespaces that others can join: users, mounts, network.
    Child { pid: i32 },
    /// The first container of an instance only: the network is ready. With the socket that yields sockets and what was
    /// asked for of: the metadata server's listener, and three sockets of the way out (connections, names over UDP and
    /// over TCP). Where the machine cannot divert connections there is no way out, and this says why.
    Network { no_outlet: Option<String> },
    /// The program runs.
    Started,
    /// It did not come to that.
    Failed { message: String },
    /// The program ended, and with it everything in the container.
    Exited { code: Option<i32>, signal: Option<i32> },
}

/// What the runtime says when limits are in force: go on.
pub(super) const GO: &[u8] = b"go";
