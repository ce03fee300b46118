//! What is asked of a container engine: Docker, or whoever speaks its API (Podman does).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use vestibule_images::Export;

use super::http::Socket;
use crate::driver::Labels;

/// Version of the API whose fields are used here. Engines that know only newer or older ones are asked in theirs.
const API: (u32, u32) = (1, 44);
/// How often it is looked whether a container that is being removed has gone.
const PAUSE: Duration = Duration::from_millis(20);
/// How long that may take.
const LONGEST_REMOVAL: Duration = Duration::from_secs(60);
/// Variable that says where the engine is.
const HOST: &str = "DOCKER_HOST";
const DEFAULT: &str = "/var/run/docker.sock";

/// A container engine on this machine.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    socket: Socket,
    path: PathBuf,
    /// `/v1.41`
    prefix: String,
    /// Name and version.
    pub(super) name: String,
}

/// Where the engine is: what `DOCKER_HOST` says, or the usual place.
pub(super) fn place() -> io::Result<PathBuf> {
    match std::env::var(HOST) {
        Ok(host) if !host.is_empty() => match host.strip_prefix("unix://") {
            Some(path) => Ok(path.into()),
            None => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{HOST} is '{host}', and only an engine on this machine can be used (unix://PATH)"),
            )),
        },
        _ => {
            let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            let own = own.map(|folder| folder.join("docker.sock")).filter(|path| path.exists());
            Ok(own.unwrap_or_else(|| DEFAULT.into()))
        }
    }
}

impl Engine {
    /// The engine behind a socket, if one answers there.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(path);
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("no engine answers at {}: {error}", path.display()))
        };
        let greeting = socket.ask(Method::GET, "/_ping", None).await.map_err(failed)?;
        let theirs = greeting.api_version.as_deref().and_then(version).unwrap_or(API);
        greeting.ok().map_err(failed)?;
        let (major, minor) = theirs.min(API);
        let prefix = format!("/v{major}.{minor}");
        let told = socket.ask(Method::GET, &format!("{prefix}/version"), None).await?.ok()?;
        let maker = told.pointer("/Components/0/Name").and_then(Value::as_str).unwrap_or("Docker Engine");
        let name = format!("{maker} {}", told["Version"].as_str().unwrap_or_default());
        Ok(Self { socket, path: path.to_owned(), prefix, name })
    }

    pub(super) fn describe(&self) -> String {
        format!("{} at {}", self.name, self.path.display())
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> io::Result<Value> {
        self.socket.ask(method, &format!("{}{path}", self.prefix), body).await?.ok()
    }

    /// Makes sure that it has an image.
    pub(super) async fn load(&self, image: Export) -> io::Result<()> {
        let (name, path) = (image.name(), format!("{}/images/load?quiet=1", self.prefix));
        if self.has_image(&name).await? {
            return Ok(());
        }
        let said = self.socket.upload(&path, move |to| image.write(to)).await?.ok()?;
        if let Some(error) = said.pointer("/errorDetail/message").and_then(Value::as_str) {
            return Err(io::Error::other(format!("the engine does not take the image: {error}")));
        }
        if self.has_image(&name).await? {
            return Ok(());
        }
        Err(io::Error::other(format!("the engine took the image and does not have it: {said}")))
    }

    async fn has_image(&self, name: &str) -> io::Result<bool> {
        found(self.ask(Method::GET, &format!("/images/{name}/json"), None).await)
    }

    /// Makes a container. Answers with its id.
    pub(super) async fn create(&self, container: Value) -> io::Result<String> {
        let made = self.ask(Method::POST, "/containers/create", Some(container)).await?;
        let id = made["Id"].as_str().ok_or_else(|| io::Error::other("the engine gives a container no id"))?;
        Ok(id.to_owned())
    }

    pub(super) async fn start(&self, id: &str) -> io::Result<()> {
        self.ask(Method::POST, &format!("/containers/{id}/start"), None).await.map(drop)
    }

    /// Waits for the end of a container. Answers with its exit code.
    pub(super) async fn wait(&self, id: &str) -> io::Result<i64> {
        let ended = self.socket.wait(&format!("{}/containers/{id}/wait", self.prefix)).await?.ok()?;
        Ok(ended["StatusCode"].as_i64().unwrap_or(-1))
    }

    /// Ends a container by force and removes it, with what it alone had. Returns when it has gone.
    pub(super) async fn remove(&self, id: &str) -> io::Result<()> {
        let removal = async {
            loop {
                match self.ask(Method::DELETE, &format!("/containers/{id}?force=1&v=1"), None).await {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    // Somebody is removing it: the engine itself, as a rule.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                    Ok(_) => {}
                }
                if !found(self.ask(Method::GET, &format!("/containers/{id}/json"), None).await)? {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the engine does not remove a container");
        tokio::time::timeout(LONGEST_REMOVAL, removal).await.unwrap_or_else(|_| Err(late()))
    }

    /// Ids and labels of containers, running or not, that have all of these labels.
    pub(super) async fn containers(&self, labels: &Labels) -> io::Result<Vec<(String, Labels)>> {
        let path = format!("/containers/json?all=1&filters={}", filter(labels));
        let found = self.ask(Method::GET, &path, None).await?;
        let found = found.as_array().into_iter().flatten();
        Ok(found.filter_map(|one| Some((one["Id"].as_str()?.to_owned(), labels_of(one)))).collect())
    }

    /// Makes a volume in memory of so many bytes, which everyone may write to.
    pub(super) async fn create_volume(&self, name: &str, size: u64, labels: &Labels) -> io::Result<()> {
        let options = format!("size={size},mode=0777,nosuid,nodev");
        let volume = json!({
            "Name": name,
            "Driver": "local",
            "DriverOpts": { "type": "tmpfs", "device": "tmpfs", "o": options },
            "Labels": labels,
        });
        self.ask(Method::POST, "/volumes/create", Some(volume)).await.map(drop)
    }

    pub(super) async fn remove_volume(&self, name: &str) -> io::Result<()> {
        match self.ask(Method::DELETE, &format!("/volumes/{name}"), None).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Names and labels of volumes that have all of these labels.
    pub(super) async fn volumes(&self, labels: &Labels) -> io::Result<Vec<(String, Labels)>> {
        let found = self.ask(Method::GET, &format!("/volumes?filters={}", filter(labels)), None).await?;
        let found = found["Volumes"].as_array().into_iter().flatten();
        Ok(found.filter_map(|one| Some((one["Name"].as_str()?.to_owned(), labels_of(one)))).collect())
    }
}

fn found(answer: io::Result<Value>) -> io::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn labels_of(found: &Value) -> Labels {
    let labels = found["Labels"].as_object().into_iter().flatten();
    labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// A filter of lists, as a part of a path.
fn filter(labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let filter = json!(BTreeMap::from([("label", labels)])).to_string();
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    filter.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_filters() {
        assert_eq!(version("1.41"), Some((1, 41)));
        assert_eq!(version("x"), None);
        let text = filter(&Labels::from([("vestibule/x".to_owned(), "ä b".to_owned())]));
        assert_eq!(text, "%7B%22label%22%3A%5B%22vestibule%2Fx%3D%C3%A4%20b%22%5D%7D");
    }
}
