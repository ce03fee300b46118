//! Container images: where they come from, and a store of their layers that can be mounted.
//!
//! An image is named by a registry, an OCI layout, or an archive ([`reference`]). Whatever it comes from, its parts
//! are first written to a store under their own digests, which are checked; then each layer is unpacked once, into a
//! folder that an overlay file system can stack. Nothing here starts a program or mounts anything.
//!
//! **Trust.** An image is written by strangers and unpacked with the rights of the server. So nothing in a layer is
//! obeyed that would reach outside the layer's own folder: names with `..`, paths that lead through a symbolic link,
//! hard links to what the layer does not hold, device nodes (those that every `/dev` has are left out), extended
//! attributes. Everything that an image makes grow has a limit ([`limits`]). A layer that breaks a rule is refused as a
//! whole and leaves nothing behind.
//!
//! **Ownership.** A container's root is not the machine's. Where this process is root, files are stored under a
//! shifted range of user ids that no account has ([`Ownership`]), which is what the container's user namespace maps;
//! elsewhere all files belong to the user who runs the server. The two are kept apart in the store.
//!
//! | module | what it holds |
//! |---|---|
//! | [`store`] | the images of a state directory: resolve, load, list, prune |
//! | [`reference`] | what an image reference names |
//! | [`export`] | an image as another engine takes it |
//! | [`config`] | what an image says about how to run it |
//! | [`limits`] | how big things may be |
#![forbid(unsafe_code)]

pub mod config;
pub mod digest;
pub mod error;
pub mod export;
pub mod limits;
pub mod ownership;
pub mod reference;
pub mod store;

mod archive;
mod blobs;
mod credentials;
mod layer;
mod layout;
mod manifest;
mod records;
mod registry;
mod user;

pub use config::ImageConfig;
pub use digest::Digest;
pub use error::ImageError;
pub use export::Export;
pub use ownership::Ownership;
pub use store::{Freshness, Image, Images, Listed, Progress, Pruned};
pub use user::User;
