//! Values of secrets, read when an instance starts.
//!
//! Cloud Run checks every secret that a revision uses when it is deployed, and the revision fails if one cannot be read.
//! Later, an instance whose variable cannot be read is not started, while a file that cannot be read is just not there.
//! Here files are read once, when the instance starts, not each time they are opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::SecretSource;
use crate::desired::{Container, SecretFile, SecretRef, Volume, VolumeSource};
use crate::driver::{Contents, Failure, File, Mounted};

/// Reads secrets in the name of a service account.
pub(crate) struct Reader<'a> {
    pub(crate) source: Option<&'a dyn SecretSource>,
    pub(crate) service_account: &'a str,
}

/// Contents of volumes by their names.
pub(crate) type Filled = BTreeMap<String, Contents>;

impl Reader<'_> {
    /// The variables of a container that are secrets.
    pub(crate) fn variables(&self, container: &Container) -> Result<Vec<(String, String)>, Failure> {
        let mut variables = Vec::with_capacity(container.secret_env.len());
        for variable in &container.secret_env {
            let failed = |why: &str| failure(&variable.field, why);
            let value = self.read(&variable.secret).map_err(|why| failed(&why))?;
            let value = String::from_utf8(value).ok().filter(|value| !value.contains('\0'));
            let value = value.ok_or_else(|| failed("The secret is no text, which a variable must be."))?;
            variables.push((variable.name.clone(), value));
        }
        Ok(variables)
    }

    /// Fills volumes. What cannot be read is a failure if `checked`, else it is left out and `complain` is told.
    pub(crate) fn volumes(
        &self,
        volumes: &[Volume],
        checked: bool,
        mut complain: impl FnMut(&str),
    ) -> Result<Filled, Failure> {
        let mut filled = Filled::new();
        for volume in volumes {
            let contents = match &volume.source {
                VolumeSource::Memory { size_limit } => Contents::Memory { size_limit: *size_limit },
                VolumeSource::Secret(files) => {
                    let mut read = Vec::new();
                    for file in files {
                        match self.file(file) {
                            Ok(file) => read.push(file),
                            Err(failure) if checked => return Err(failure),
                            Err(failure) => complain(&failure.message),
                        }
                    }
                    Contents::Files(read.into())
                }
            };
            filled.insert(volume.name.clone(), contents);
        }
        Ok(filled)
    }

    fn file(&self, file: &SecretFile) -> Result<File, Failure> {
        let data = self.read(&file.secret).map_err(|why| failure(&file.field, &why))?;
        Ok(File { path: file.path.clone(), data, mode: file.mode })
    }

    fn read(&self, secret: &SecretRef) -> Result<Vec<u8>, String> {
        match self.source {
            Some(source) => source.read(secret, self.service_account),
            None => Err("There are no secrets here.".to_owned()),
        }
    }
}

/// What a container mounts. A mount of a volume that does not exist mounts nothing; templates are checked before.
pub(crate) fn mounts(container: &Container, filled: &Filled) -> Vec<Mounted> {
    let mounted = |mount: &crate::desired::Mount| {
        let source = filled.get(&mount.volume)?.clone();
        let read_only = mount.read_only || matches!(source, Contents::Files(_));
        let volume: Arc<str> = mount.volume.as_str().into();
        let (path, sub_path) = (mount.path.clone(), mount.sub_path.clone());
        Some(Mounted { volume, source, path, read_only, sub_path })
    };
    container.mounts.iter().filter_map(mounted).collect()
}

/// In Cloud Run's words.
fn failure(field: &str, why: &str) -> Failure {
    Failure {
        reason: "SecretsAccessCheckFailed".to_owned(),
        message: format!("{field}: {why}"),
        transient: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{Mount, SecretEnv};

    /// Knows the secrets `text` and `bytes`.
    struct Known;

    impl SecretSource for Known {
        fn read(&self, secret: &SecretRef, account: &str) -> Result<Vec<u8>, String> {
            match secret.secret.as_str() {
                "text" => Ok(format!("{account} {}", secret.version).into_bytes()),
                "bytes" => Ok(vec![0xff]),
                "null" => Ok(b"a\0b".to_vec()),
                _ => Err("It was not found".to_owned()),
            }
        }
    }

    fn secret(name: &str) -> SecretRef {
        SecretRef { project: "p".into(), secret: name.into(), version: "latest".into() }
    }

    fn container(secrets: &[&str]) -> Container {
        let variable = |name: &&str| SecretEnv {
            name: name.to_uppercase(),
            secret: secret(name),
            field: "spec.env[0]".into(),
        };
        Container { secret_env: secrets.iter().map(variable).collect(), ..Container::new("c", "i") }
    }

    fn reader() -> Reader<'static> {
        Reader { source: Some(&Known), service_account: "sa" }
    }

    #[test]
    fn variables_are_texts() {
        let read = reader().variables(&container(&["text"])).unwrap();
        assert_eq!(read, [("TEXT".to_owned(), "sa latest".to_owned())]);
        for bad in ["bytes", "null", "none"] {
            let failure = reader().variables(&container(&["text", bad])).unwrap_err();
            assert_eq!((failure.reason.as_str(), failure.transient), ("SecretsAccessCheckFailed", false));
            assert!(failure.message.starts_with("spec.env[0]: "), "{}", failure.message);
        }
        let nothing = Reader { source: None, service_account: "sa" };
        assert!(nothing.variables(&container(&["text"])).is_err());
        assert!(nothing.variables(&container(&[])).is_ok());
    }

    #[test]
    fn files_are_bytes_and_may_be_missing_later() {
        let file = |name: &str| SecretFile {
            path: format!("d/{name}"),
            secret: secret(name),
            mode: 0o400,
            field: "spec.volumes[0]".into(),
        };
        let volumes = [
            Volume {
                name: "v".into(),
                source: VolumeSource::Secret(vec![file("bytes"), file("none"), file("text")]),
            },
            Volume { name: "m".into(), source: VolumeSource::Memory { size_limit: Some(7) } },
        ];
        assert!(reader().volumes(&volumes, true, |_| {}).is_err());
        let mut complaints = Vec::new();
        let filled = reader().volumes(&volumes, false, |why| complaints.push(why.to_owned())).unwrap();
        assert_eq!(complaints, ["spec.volumes[0]: It was not found"]);
        let mount = |volume: &str, path: &str| Mount {
            volume: volume.into(),
            path: path.into(),
            read_only: false,
            sub_path: String::new(),
        };
        let container = Container {
            mounts: vec![mount("v", "/v"), mount("m", "/m"), mount("unknown", "/u")],
            ..Container::new("c", "i")
        };
        let mounts = mounts(&container, &filled);
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].read_only, mounts[1].read_only), (true, false));
        let Contents::Files(files) = &mounts[0].source else { panic!() };
        assert_eq!((files[0].path.as_str(), &*files[0].data, files[0].mode), ("d/bytes", &[0xff][..], 0o400));
        assert_eq!(files[1].data, b"sa latest");
        assert!(!format!("{mounts:?}").contains("latest"), "a secret in a log");
    }
}
