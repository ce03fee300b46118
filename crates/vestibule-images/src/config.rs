//! What an image says about how to run it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::{ImageError, Kind};
use crate::manifest::architecture;

/// The part of an image's configuration that matters to whoever runs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Names and values, in order.
    pub env: Vec<(String, String)>,
    pub entrypoint: Vec<String>,
    /// Arguments of the entry point, or the whole command if there is none.
    pub cmd: Vec<String>,
    /// `USER`, `USER:GROUP`, names or numbers; empty means root.
    pub user: String,
    /// Empty means `/`.
    pub working_dir: String,
    /// As in `8080/tcp`.
    pub exposed_ports: Vec<String>,
}

impl ImageConfig {
    /// The command line of a container: `command` replaces the entry point and the image's arguments, `args` replaces
    /// the image's arguments. Kubernetes' rule, which Cloud Run has too.
    pub fn command_line(&self, command: &[String], args: &[String]) -> Vec<String> {
        let (program, defaults) = match command {
            [] => (&self.entrypoint[..], &self.cmd[..]),
            _ => (command, &[][..]),
        };
        let rest = if args.is_empty() { defaults } else { args };
        [program, rest].concat()
    }
}

/// A configuration as it is stored.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    config: Option<Settings>,
    rootfs: RootFs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Settings {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// Reads a configuration: the settings, and the digests of the unpacked layers from the bottom to the top.
pub(crate) fn parse(bytes: &[u8], reference: &str) -> Result<(ImageConfig, Vec<Digest>), ImageError> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| {
        ImageError::because(Kind::Invalid, "the image's configuration cannot be read", error)
    })?;
    let of_machine = |given: &str, own: &str| given.is_empty() || given == own;
    if !of_machine(&stored.os, "linux") || !of_machine(&stored.architecture, architecture()) {
        return Err(ImageError::new(
            Kind::Platform,
            format!(
                "Container manifest type of '{reference}' must support linux/{}, and it is for {}/{}.",
                architecture(),
                stored.os,
                stored.architecture
            ),
        ));
    }
    let settings = stored.config.unwrap_or_default();
    let pair = |entry: &String| {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        (name.to_owned(), value.to_owned())
    };
    let config = ImageConfig {
        env: settings.env.unwrap_or_default().iter().map(pair).collect(),
        entrypoint: settings.entrypoint.unwrap_or_default(),
        cmd: settings.cmd.unwrap_or_default(),
        user: settings.user.unwrap_or_default(),
        working_dir: settings.working_dir.unwrap_or_default(),
        exposed_ports: settings.exposed_ports.unwrap_or_default().into_keys().collect(),
    };
    let texts = config.env.iter().flat_map(|(name, value)| [name, value]);
    let texts = texts.chain(&config.entrypoint).chain(&config.cmd).chain([&config.user, &config.working_dir]);
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(ImageError::invalid("the image's configuration has a zero byte in a text"));
    }
    Ok((config, stored.rootfs.diff_ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_matters() {
        let text = json!({
            "architecture": architecture(), "os": "linux", "created": "2020-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/bin", "EMPTY=", "EQ=a=b"], "Entrypoint": ["/app"], "Cmd": null, "User": "app:9",
                "WorkingDir": "/srv", "ExposedPorts": { "8080/tcp": {} }, "Labels": { "a": "b" },
            },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"1")] },
        });
        let (config, layers) = parse(text.to_string().as_bytes(), "x").unwrap();
        assert_eq!(config.env[2], ("EQ".to_owned(), "a=b".to_owned()));
        assert_eq!((&*config.entrypoint, config.cmd.len()), (&["/app".to_owned()][..], 0));
        assert_eq!((&*config.user, &*config.working_dir), ("app:9", "/srv"));
        assert_eq!(config.exposed_ports, ["8080/tcp"]);
        assert_eq!(layers, [Digest::of(b"1")]);
    }

    #[test]
    fn refuses_other_machines_and_zero_bytes() {
        let rootfs = json!({ "diff_ids": [] });
        for (wrong, kind) in [
            (json!({ "os": "windows", "rootfs": rootfs }), Kind::Platform),
            (json!({ "architecture": "vax", "rootfs": rootfs }), Kind::Platform),
            (json!({ "rootfs": rootfs, "config": { "Cmd": ["a\0b"] } }), Kind::Invalid),
            (json!({ "os": "linux" }), Kind::Invalid),
        ] {
            assert_eq!(parse(wrong.to_string().as_bytes(), "x").unwrap_err().kind, kind, "{wrong}");
        }
    }

    #[test]
    fn command_and_arguments_replace_as_in_kubernetes() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let config = ImageConfig { entrypoint: words("e p"), cmd: words("c m"), ..ImageConfig::default() };
        for (command, args, expected) in
            [("", "", "e p c m"), ("", "a", "e p a"), ("x y", "", "x y"), ("x", "a", "x a")]
        {
            assert_eq!(config.command_line(&words(command), &words(args)), words(expected));
        }
    }
}
