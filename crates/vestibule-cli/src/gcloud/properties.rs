//! `gcloud config`: properties kept in a small file, in gcloud's own layout.
//!
//! The file is `configurations/config_default` in the configuration folder. With `CLOUDSDK_CONFIG` set it is the very
//! file that the real gcloud uses, so both see one configuration; without it Vestibule keeps its own and leaves the
//! user's real gcloud alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fs, io};

use crate::settings::Environment;

/// Sections and their properties that `config set` knows.
const SECTIONS: &[(&str, &[&str])] = &[
    ("auth", &["access_token_file", "credential_file_override", "impersonate_service_account", "token_host"]),
    ("billing", &["quota_project"]),
    ("component_manager", &["disable_update_check"]),
    ("compute", &["region", "zone"]),
    ("core", &["account", "disable_prompts", "disable_usage_reporting", "project", "verbosity"]),
    ("regional", &["endpoint_compatibility", "endpoint_mode"]),
    ("run", &["platform", "region"]),
    ("survey", &["disable_prompts"]),
];

/// The properties of one configuration.
#[derive(Debug, Default, Clone)]
pub struct Properties {
    file: Option<PathBuf>,
    stored: BTreeMap<(String, String), String>,
    environment: BTreeMap<(String, String), String>,
}

impl Properties {
    pub fn load(environment: &Environment) -> Properties {
        let file =
            environment.config_folder().map(|folder| folder.join("configurations").join("config_default"));
        let stored = file
            .as_ref()
            .and_then(|file| fs::read_to_string(file).ok())
            .map_or_else(BTreeMap::new, |text| parse(&text));
        let mut properties = Properties { file, stored, environment: BTreeMap::new() };
        for (section, names) in SECTIONS {
            for name in *names {
                let variable = format!("CLOUDSDK_{}_{}", section.to_uppercase(), name.to_uppercase());
                if let Some(value) = environment.get(&variable) {
                    properties.environment.insert((section.to_string(), name.to_string()), value.to_owned());
                }
            }
        }
        properties
    }

    /// The value in force: the environment's before the file's.
    pub fn get(&self, section: &str, name: &str) -> Option<&str> {
        let key = (section.to_owned(), name.to_owned());
        self.environment.get(&key).or_else(|| self.stored.get(&key)).map(String::as_str)
    }

    /// The environment variable that hides the stored value, if one does.
    pub fn overridden_by(&self, section: &str, name: &str) -> Option<String> {
        let value = self.environment.get(&(section.to_owned(), name.to_owned()))?;
        Some(format!("CLOUDSDK_{}_{}={value}", section.to_uppercase(), name.to_uppercase()))
    }

    pub fn set(&mut self, section: &str, name: &str, value: Option<&str>) -> io::Result<()> {
        let key = (section.to_owned(), name.to_owned());
        match value {
            Some(value) => self.stored.insert(key, value.to_owned()),
            None => self.stored.remove(&key),
        };
        self.store()
    }

    /// All values in force, by section.
    pub fn sections(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for ((section, name), value) in self.stored.iter().chain(&self.environment) {
            sections.entry(section.clone()).or_default().insert(name.clone(), value.clone());
        }
        sections
    }

    fn store(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no folder for the configuration: set CLOUDSDK_CONFIG or HOME",
            ));
        };
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut text = String::new();
        let mut section = "";
        for ((in_section, name), value) in &self.stored {
            if in_section != section {
                text += &format!("{}[{in_section}]\n", if section.is_empty() { "" } else { "\n" });
                section = in_section;
            }
            text += &format!("{name} = {value}\n");
        }
        // Whole or not at all: another command may be reading.
        let fresh = file.with_extension("new");
        fs::write(&fresh, text)?;
        fs::rename(fresh, file)
    }
}

/// `section/name`, or a bare name of the core section, checked against what exists.
pub fn locate(property: &str) -> Result<(String, String), String> {
    let (section, name) = property.split_once('/').unwrap_or(("core", property));
    let Some((_, names)) = SECTIONS.iter().find(|(known, _)| *known == section) else {
        return Err(format!("Section \"{section}\" does not exist."));
    };
    match names.contains(&name) {
        true => Ok((section.to_owned(), name.to_owned())),
        false => Err(format!("Section [{section}] has no property [{name}].")),
    }
}

fn parse(text: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_owned();
        } else if let Some((name, value)) = line.split_once('=') {
            found.insert((section.clone(), name.trim().to_owned()), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_and_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let mut environment = Environment::default();
        environment.set("CLOUDSDK_CONFIG", folder.path().to_str().unwrap());
        let mut properties = Properties::load(&environment);
        properties.set("core", "project", Some("abc")).unwrap();
        properties.set("compute", "region", Some("us-east1")).unwrap();
        assert_eq!(Properties::load(&environment).get("core", "project"), Some("abc"));
        environment.set("CLOUDSDK_CORE_PROJECT", "other");
        let again = Properties::load(&environment);
        assert_eq!(again.get("core", "project"), Some("other"));
        assert_eq!(again.overridden_by("core", "project").as_deref(), Some("CLOUDSDK_CORE_PROJECT=other"));
        properties.set("compute", "region", None).unwrap();
        assert_eq!(Properties::load(&environment).get("compute", "region"), None);
    }

    #[test]
    fn knows_its_sections() {
        assert_eq!(locate("project"), Ok(("core".into(), "project".into())));
        assert_eq!(locate("foo/bar").unwrap_err(), "Section \"foo\" does not exist.");
        assert!(locate("core/nonsense").is_err());
    }
}
