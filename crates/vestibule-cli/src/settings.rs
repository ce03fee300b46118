//! Environment variables, in one table.
//!
//! [`Environment`] is read once, at the start of a command, and handed down: nothing below reads the process's
//! environment itself, so tests and the tour can run a command in a world of their own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where `vestibule serve` listens when nobody says otherwise.
pub const DEFAULT_API: &str = "http://127.0.0.1:8470";

/// The project when none is configured. Projects need no creation, so the published set-up runs without `--project`.
pub const DEFAULT_PROJECT: &str = "local-project";

/// The account of a token that Vestibule did not mint.
pub const DEFAULT_ACCOUNT: &str = "local@vestibule";

/// A variable the client commands read, and what it does.
pub struct Variable {
    pub name: &'static str,
    pub does: &'static str,
}

/// Every variable the client commands read.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "VESTIBULE_API",
        does: "where `vestibule serve` listens (default http://127.0.0.1:8470)",
    },
    Variable {
        name: "CLOUDSDK_CORE_PROJECT",
        does: "the project, when --project is not given (default local-project)",
    },
    Variable { name: "CLOUDSDK_COMPUTE_REGION", does: "--region for compute resources that demand one" },
    Variable { name: "CLOUDSDK_RUN_REGION", does: "--region for Cloud Run commands" },
    Variable {
        name: "CLOUDSDK_CONFIG",
        does: "the folder that keeps `gcloud config set` (default: vestibule in the user's config folder)",
    },
    Variable { name: "CLOUDSDK_AUTH_ACCESS_TOKEN", does: "the access token to send" },
    Variable { name: "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", does: "a file with the access token to send" },
    Variable { name: "CLOUDSDK_CORE_DISABLE_PROMPTS", does: "answer every question with its default" },
    Variable { name: "NO_COLOR", does: "no colours, also on a terminal" },
];

/// A snapshot of the environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Folder that relative file names are read from; the process's own when `None`.
    pub folder: Option<PathBuf>,
}

impl Environment {
    pub fn of_process() -> Environment {
        let readable =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Environment { variables: std::env::vars_os().filter_map(readable).collect(), folder: None }
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    /// The variable's value; an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    pub fn path(&self, file: &str) -> PathBuf {
        match &self.folder {
            Some(folder) => folder.join(file),
            None => PathBuf::from(file),
        }
    }

    /// The folder of `gcloud config set`: `$CLOUDSDK_CONFIG`, else `vestibule/gcloud` in the user's config folder.
    pub fn config_folder(&self) -> Option<PathBuf> {
        if let Some(folder) = self.get("CLOUDSDK_CONFIG") {
            return Some(PathBuf::from(folder));
        }
        let base = match (self.get("XDG_CONFIG_HOME"), self.get("HOME")) {
            (Some(config), _) => PathBuf::from(config),
            (None, Some(home)) => PathBuf::from(home).join(".config"),
            (None, None) => return None,
        };
        Some(base.join("vestibule").join("gcloud"))
    }
}
