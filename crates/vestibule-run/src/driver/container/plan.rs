//! What the runtime tells the helper, and what the helper answers.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container as the helper has to make it. JSON in an anonymous file, because an environment may be bigger than a
/// message can be, and because it holds secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::driver) struct Plan {
    /// Process that must live for the container to live.
    pub(in crate::driver) runtime: u32,
    pub(in crate::driver) users: Users,
    /// Where `layers` are. The helper works in this folder: its path may lead through folders that the container's
    /// root may not enter, and the names of all layers must fit into one page of mount options.
    pub(in crate::driver) layers_dir: PathBuf,
    /// Folders, from the bottom to the top.
    pub(in crate::driver) layers: Vec<String>,
    /// Name in `layers_dir` of an empty folder to mount on.
    pub(in crate::driver) mount_point: String,
    /// Bytes that may be written to the container's file system, which is in memory.
    pub(in crate::driver) writable: u64,
    /// Program and arguments. Empty: everything is set up and nothing run, to see whether it could be.
    pub(in crate::driver) command: Vec<String>,
    pub(in crate::driver) environment: Vec<(String, String)>,
    pub(in crate::driver) working_dir: String,
    pub(in crate::driver) uid: u32,
    pub(in crate::driver) gid: u32,
    pub(in crate::driver) groups: Vec<u32>,
    /// Whether its instance has a metadata server.
    pub(in crate::driver) metadata: bool,
    /// Whether what its instance connects to is carried on, and its own address in a VPC network.
    pub(in crate::driver) outlet: Option<Outlet>,
    pub(in crate::driver) pod: Pod,
    /// Volumes that are to be made. Those of earlier containers of the instance are there.
    pub(in crate::driver) volumes: Vec<Volume>,
    pub(in crate::driver) mounts: Vec<Mount>,
}

/// The way out of an instance.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::driver) struct Outlet {
    /// Its own address in a VPC network.
    pub(in crate::driver) address: Option<Ipv4Addr>,
}

/// The instance that a container belongs to: what its containers share.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::driver) enum Pod {
    /// This is the first container, and the address is the one under which the instance is reached.
    New { address: Ipv4Addr },
    /// An earlier container's namespaces come with the plan: users, mounts, network.
    Join,
}

/// A volume to make.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::driver) struct Volume {
    /// Its number in the instance.
    pub(in crate::driver) number: usize,
    /// Bytes it may hold.
    pub(in crate::driver) size: u64,
    /// What is in it at first: path, content, mode.
    pub(in crate::driver) files: Vec<(String, Vec<u8>, u32)>,
}

// Not derived: contents may be secret.
impl std::fmt::Debug for Volume {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "volume {} of {} files", self.number, self.files.len())
    }
}

/// A volume at a place in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::driver) struct Mount {
    /// Number of the volume.
    pub(in crate::driver) volume: usize,
    /// Path in the volume; empty for all of it.
    pub(in crate::driver) sub_path: String,
    /// Absolute path in the container.
    pub(in crate::driver) target: String,
    pub(in crate::driver) read_only: bool,
}

/// The user namespace.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::driver) enum Users {
    /// Ids from 0 are ids from `base` outside.
    Shifted { base: u32, count: u32 },
    /// There is one user, who is the user of the runtime outside.
    Own,
}

/// What the helper answers, in this order. Each is one message on a socket, some with file descriptors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::driver) enum Message {
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
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
        /// Bytes that it may use and bytes that it used, if the kernel ended something in it because that was too much
        /// and the helper is where that can be seen.
        out_of_memory: Option<(u64, u64)>,
    },
}

/// What the runtime says when limits are in force: go on.
pub(in crate::driver) const GO: &[u8] = b"go";
