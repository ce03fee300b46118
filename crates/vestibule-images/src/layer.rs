//! Layers: from a packed blob to a folder that an overlay file system can stack.

mod entries;
mod tree;
mod unpack;
mod whiteout;

pub(crate) use unpack::{plain, remove_folder, unpack};
