//! Images from source: a folder with a Dockerfile, built on this machine.
//!
//! Google builds in the cloud. Here `buildah` or Docker does it, whichever is installed, and the image goes as an archive
//! into the state directory of the server, by the same program that a user would call. No registry takes part.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::gcloud::error::Failure;
use crate::gcloud::invocation::Invocation;

const DOCKERFILE: &str = "Dockerfile";

/// What can build, in the order in which it is looked for.
const BUILDERS: [Builder; 2] = [Builder::Buildah, Builder::Docker];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Builder {
    Buildah,
    Docker,
}

/// A folder to build from, and what builds it.
#[derive(Debug)]
pub struct Source {
    folder: PathBuf,
    builder: Builder,
}

impl Source {
    /// Sees that everything is there before anything is changed.
    pub fn find(inv: &Invocation<'_>, folder: &str) -> Result<Source, Failure> {
        let path = inv.environment.path(folder);
        if !path.is_dir() {
            return Err(Failure::new(format!("--source: [{folder}] is not a folder.")));
        }
        if !path.join(DOCKERFILE).is_file() {
            return Err(Failure::new(format!(
                "--source: [{folder}] has no {DOCKERFILE}. Vestibule does not build with buildpacks: write a {DOCKERFILE}, or \
                 deploy an image with --image."
            )));
        }
        let Some(builder) = BUILDERS.into_iter().find(|builder| builder.works()) else {
            return Err(Failure::new(
                "--source: nothing on this machine can build images. Install buildah (Debian's package of that name), \
                 start Docker, or deploy an image with --image.",
            ));
        };
        Ok(Source { folder: path, builder })
    }

    /// Builds the image, puts it into the server's state directory as `name`, and answers with the reference that
    /// means this build for ever.
    pub fn build(&self, inv: &Invocation<'_>, name: &str) -> Result<String, Failure> {
        let status = inv.api.get("/vestibule/v1/status")?;
        let Some(state_dir) = status.body.get("state_dir").and_then(Value::as_str).map(PathBuf::from) else {
            return Err(Failure::new("--source: the server does not say where its state directory is."));
        };
        let archive = std::env::temp_dir().join(format!("vestibule-build-{:016x}.tar", fastrand::u64(..)));
        let built = self.builder.build(&self.folder, name, &archive);
        let loaded = built.and_then(|()| load(&state_dir, &archive, name));
        // It is in the store now, or of no use.
        let _ = std::fs::remove_file(&archive);
        loaded
    }
}

impl Builder {
    fn program(self) -> &'static str {
        match self {
            Builder::Buildah => "buildah",
            Builder::Docker => "docker",
        }
    }

    /// Docker without its daemon builds nothing.
    fn works(self) -> bool {
        let mut command = Command::new(self.program());
        command.arg(match self {
            Builder::Buildah => "--version",
            Builder::Docker => "info",
        });
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Writes an archive of what the folder says.
    fn build(self, folder: &Path, name: &str, archive: &Path) -> Result<(), Failure> {
        let name = format!("{name}:latest");
        match self {
            Builder::Buildah => {
                let mut build = Command::new("buildah");
                build.args(["build", "--format=oci", "--isolation=chroot", "--tag", &name]).arg(folder);
                run(build)?;
                let mut push = Command::new("buildah");
                push.args(["push", "--quiet", &name]).arg(format!("oci-archive:{}", archive.display()));
                run(push)
            }
            Builder::Docker => {
                let mut build = Command::new("docker");
                build.args(["build", "--tag", &name]).arg(folder);
                run(build)?;
                let mut save = Command::new("docker");
                save.args(["save", "--output"]).arg(archive).arg(&name);
                run(save)
            }
        }
    }
}

/// Runs a program whose output is of interest only if it fails.
fn run(mut command: Command) -> Result<(), Failure> {
    output(&mut command).map(drop)
}

fn output(command: &mut Command) -> Result<String, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output =
        output.map_err(|error| Failure::new(format!("--source: {program} does not start: {error}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(Failure::new(format!(
            "Build failed: {program} says\n{}\n{}",
            text(&output.stdout),
            text(&output.stderr)
        ))),
    }
}

/// Puts the archive into the store of images. `NAME@sha256:…`.
fn load(state_dir: &Path, archive: &Path, name: &str) -> Result<String, Failure> {
    let own = std::env::current_exe().map_err(|error| {
        Failure::new(format!("--source: this program does not know where it is: {error}"))
    })?;
    let images = |words: &[&str]| {
        let mut command = Command::new(&own);
        command.args(["images", "--state-dir"]).arg(state_dir).args(words);
        command
    };
    let path = archive.display().to_string();
    run(images(&["load", &path, &format!("{name}:latest")]))?;
    let listed = output(&mut images(&["list", "--json"]))?;
    let all: Vec<Value> = serde_json::from_str(&listed).unwrap_or_default();
    let loaded = all.iter().find(|image| image["reference"] == format!("{name}:latest"));
    match loaded.and_then(|image| image["digest"].as_str()) {
        Some(digest) => Ok(format!("{name}@{digest}")),
        None => Err(Failure::new("--source: the image that was built is not in the state directory.")),
    }
}
