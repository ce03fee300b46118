//! How big what an image brings may be. A bigger one is refused.

/// Bytes of a manifest or index. Registries commonly refuse more than 4 MiB.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Bytes of an image's configuration.
pub const MAX_CONFIG: u64 = 8 << 20;
/// Layers of an image. What an overlay mount's options have room for, and what Docker allows.
pub const MAX_LAYERS: usize = 127;
/// Bytes of one layer as it is stored or sent. Cloud Run's own limit for a layer is 9.9 GB.
pub const MAX_BLOB: u64 = 10 << 30;
/// Bytes of one layer when unpacked.
pub const MAX_UNPACKED: u64 = 32 << 30;
/// How many times bigger than its packed form a layer may be, once it is bigger than [`FREE_UNPACKED`]. Text packs
/// about tenfold, and a layer of zeros a thousandfold.
pub const MAX_RATIO: u64 = 100;
/// Unpacked bytes for which [`MAX_RATIO`] does not count: small layers may well be mostly zeros.
pub const FREE_UNPACKED: u64 = 64 << 20;
/// Files, folders and links of one layer.
pub const MAX_ENTRIES: u64 = 1_000_000;
/// Bytes of a path in a layer: Linux's own limit.
pub const MAX_PATH: usize = 4096;
/// Bytes of a name extension or attribute record in a layer's archive.
pub const MAX_EXTENSION: u64 = 1 << 20;
/// Bytes of names of folders that are remembered while a layer is unpacked.
pub const MAX_FOLDER_NAMES: usize = 64 << 20;
/// Members of an image archive.
pub const MAX_MEMBERS: usize = 10_000;
/// Bytes of an image archive, all members together.
pub const MAX_ARCHIVE: u64 = 64 << 30;
/// Indexes inside indexes.
pub const MAX_INDEX_DEPTH: usize = 3;
/// Bytes of `/etc/passwd` and `/etc/group` that are read.
pub const MAX_ACCOUNTS: u64 = 1 << 20;
