//! `vestibule images`: the images of a state directory, whether `serve` runs or not.
//!
//! The store of images is made for several processes at once, so nothing has to be asked of a server: what revisions and
//! jobs name is read from the committed state, under the lock that keeps images from being added meanwhile.

use std::cell::OnceCell;
use std::error::Error;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use vestibule_control::run::ImageUse;
use vestibule_images::reference::Source;
use vestibule_images::{Freshness, ImageError, Images, Listed, Progress};
use vestibule_store::{OpenError, Store};

/// Container images of the private cloud.
///
/// They are kept in the state directory of `vestibule serve`, which may run meanwhile or not.
#[derive(Parser)]
#[command(name = "vestibule images")]
struct Options {
    #[command(flatten)]
    state: State,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct State {
    /// Where all state lives. Default: $XDG_STATE_HOME/vestibule, or ~/.local/state/vestibule
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Load images from an OCI layout, an OCI archive, or what `docker save` writes
    ///
    /// A service that names NAME then runs the loaded image; no registry is asked.
    Load {
        /// A folder with an OCI layout, or an archive
        path: PathBuf,
        /// What to call it, such as my-app:v1. Needed where the file gives its image no name
        name: Option<String>,
    },
    /// Get an image from its registry
    Pull {
        /// Such as docker.io/library/busybox:latest
        image: String,
    },
    /// List the images
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Throw away images that no revision, service or job names
    Prune,
}

/// Parses the flags and does what they say.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let words = args.into_iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, word)| word);
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut out = Vec::new();
    let done = run(&options, &mut out);
    let written = std::io::stdout().lock().write_all(&out);
    match done.and(written.map_err(Into::into)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, out: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    let state_dir = std::path::absolute(crate::serve::state_dir(options.state.state_dir.as_deref()))?;
    let images = Images::open(&state_dir)?;
    match &options.command {
        Command::Load { path, name } => {
            let source = Source::of_path(std::path::absolute(path)?);
            for reference in images.load(&source, name.as_deref()).map_err(Chain)? {
                writeln!(out, "{reference}")?;
            }
        }
        Command::Pull { image } => {
            let meter = Meter { shown: std::io::stderr().is_terminal() };
            let pulled = images.resolve(image, Freshness::Newest, &|progress| meter.show(progress));
            meter.end();
            writeln!(out, "{}", pulled.map_err(Chain)?.name)?;
        }
        Command::List { json: true } => {
            let all: Vec<Value> = images.list()?.iter().map(as_json).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        }
        Command::List { json: false } => table(&images.list()?, out)?,
        Command::Prune => prune(&images, &state_dir, out)?,
    }
    Ok(())
}

fn prune(images: &Images, state_dir: &Path, out: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    // Read when the store of images has been locked: what is deployed later finds its image, or gets it again.
    let wanted: OnceCell<Result<ImageUse, OpenError>> = OnceCell::new();
    let keep = |image: &Listed| {
        let wanted = wanted.get_or_init(|| Ok(ImageUse::of(&Store::peek(&state_dir.join("store"))?)));
        // What cannot be known must not be thrown away.
        wanted.as_ref().map_or(true, |wanted| is_wanted(wanted, image))
    };
    let pruned = images.prune(&keep).map_err(Chain)?;
    if let Some(Err(error)) = wanted.into_inner() {
        return Err(error.into());
    }
    for reference in &pruned.images {
        writeln!(out, "{reference}")?;
    }
    note(&format!(
        "{} images and {} layers thrown away, {} freed",
        pruned.images.len(),
        pruned.layers,
        size(pruned.bytes)
    ));
    Ok(())
}

fn is_wanted(wanted: &ImageUse, image: &Listed) -> bool {
    match &image.settled_for {
        Some(owner) => wanted.owners.contains(owner),
        None => wanted.references.iter().any(|reference| whole(reference) == image.reference),
    }
}

/// A reference as the store has it: `busybox` is `docker.io/library/busybox:latest`.
fn whole(reference: &str) -> String {
    match Source::parse(reference) {
        Ok(Source::Registry(parsed)) => parsed.whole(),
        _ => reference.to_owned(),
    }
}

fn as_json(image: &Listed) -> Value {
    json!({
        "reference": image.reference,
        "digest": image.digest.to_string(),
        "size": image.size,
        "created": image.created,
        "loaded": image.loaded,
        "inUse": image.in_use,
    })
}

fn table(all: &[Listed], out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut rows = vec![["REFERENCE", "DIGEST", "SIZE", "RESOLVED", "ORIGIN"].map(str::to_owned)];
    for image in all {
        let seconds = image.created.split('.').next().unwrap_or_default().replace('T', " ");
        let origin = match (image.loaded, image.in_use) {
            (true, true) => "loaded, in use",
            (true, false) => "loaded",
            (false, true) => "registry, in use",
            (false, false) => "registry",
        };
        // As much of it as people compare.
        let digest = image.digest.to_string().chars().take(19).collect();
        rows.push([image.reference.clone(), digest, size(image.size), seconds, origin.to_owned()]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    for row in &rows {
        let line = row.iter().zip(widths.iter().chain([&0])).map(|(cell, width)| format!("{cell:width$}  "));
        writeln!(out, "{}", line.collect::<String>().trim_end())?;
    }
    Ok(())
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut whole = bytes / 1024;
    let mut part = bytes % 1024 * 10 / 1024;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        (whole, part) = (whole / 1024, whole % 1024 * 10 / 1024);
        unit += 1;
    }
    format!("{whole}.{part} {}", UNITS[unit])
}

/// A line about progress that is written over again and again. Nothing where nobody would see it move.
struct Meter {
    shown: bool,
}

impl Meter {
    fn show(&self, progress: Progress) {
        if !self.shown {
            return;
        }
        let line = match progress {
            Progress::Pulling { done, total } => format!("pulling {} of {}", size(done), size(total)),
            Progress::Unpacking { done, total } => format!("unpacking layer {} of {total}", done + 1),
        };
        overwrite(&line);
    }

    fn end(&self) {
        if self.shown {
            overwrite("");
        }
    }
}

#[allow(clippy::print_stderr, reason = "what a command tells people beside its data")]
fn overwrite(line: &str) {
    eprint!("\r\x1b[K{line}");
}

#[allow(clippy::print_stderr, reason = "what a command tells people beside its data")]
fn note(line: &str) {
    eprintln!("{line}");
}

/// An error with all that led to it.
#[derive(Debug)]
struct Chain(ImageError);

impl std::fmt::Display for Chain {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0.chain())
    }
}

impl Error for Chain {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn sizes() {
        for (bytes, shown) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3.0 TiB")]
        {
            assert_eq!(size(bytes), shown);
        }
    }
}
