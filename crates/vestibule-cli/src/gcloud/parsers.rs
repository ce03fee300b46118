//! Everything of gcloud's own that reads a text of its own language, in one place for those who try to break it.

pub use super::dns::zone_file;
pub use super::format::{Filter, Format, Names, Verdict, render};
