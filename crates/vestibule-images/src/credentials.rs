//! The user's Docker credentials, as `docker login` left them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

/// What Docker calls its own registry in its configuration.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// What a helper answers in place of a user name when the secret is a token.
const TOKEN: &str = "<token>";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// How this user enters a registry.
pub(crate) fn find(registry: &str) -> RegistryAuth {
    let Some(path) = config_path() else { return RegistryAuth::Anonymous };
    let Ok(text) = std::fs::read(&path) else { return RegistryAuth::Anonymous };
    match serde_json::from_slice::<Config>(&text) {
        Ok(config) => config.find(registry, &ask_helper).unwrap_or(RegistryAuth::Anonymous),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the Docker configuration cannot be read");
            RegistryAuth::Anonymous
        }
    }
}

/// `$DOCKER_CONFIG/config.json`, or the one in the home folder.
fn config_path() -> Option<PathBuf> {
    let folder = match std::env::var_os("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
    };
    Some(folder.join("config.json"))
}

impl Config {
    fn find(&self, registry: &str, ask: &dyn Fn(&str, &str) -> Option<Helped>) -> Option<RegistryAuth> {
        let names = names(registry);
        let helper = names.iter().find_map(|name| self.cred_helpers.get(name)).or(self.creds_store.as_ref());
        if let Some(helper) = helper
            && let Some(helped) = names.iter().find_map(|name| ask(helper, name))
        {
            return Some(if helped.username == TOKEN {
                RegistryAuth::Bearer(helped.secret)
            } else {
                RegistryAuth::Basic(helped.username, helped.secret)
            });
        }
        let entry = names.iter().find_map(|name| self.auths.get(name))?;
        if !entry.username.is_empty() {
            return Some(RegistryAuth::Basic(entry.username.clone(), entry.password.clone()));
        }
        let pair = String::from_utf8(STANDARD.decode(entry.auth.trim()).ok()?).ok()?;
        let (user, password) = pair.trim_end_matches('\0').split_once(':')?;
        Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
    }
}

/// The names under which a registry may be in the configuration.
fn names(registry: &str) -> Vec<String> {
    let mut names = vec![registry.to_owned(), format!("https://{registry}"), format!("http://{registry}")];
    if matches!(registry, "docker.io" | "index.docker.io") {
        names.insert(0, DOCKER_HUB.to_owned());
    }
    names
}

/// Asks a credential helper: a program that the user configured, which reads a name and answers with JSON.
fn ask_helper(helper: &str, registry: &str) -> Option<Helped> {
    let program = format!("docker-credential-{helper}");
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!(program, %error, "the Docker credential helper does not start");
            return None;
        }
    };
    child.stdin.take()?.write_all(registry.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    // Failing is its way to say that it knows nothing of that registry.
    output.status.success().then(|| serde_json::from_slice(&output.stdout).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn plain_entries() {
        let auth = STANDARD.encode("me:pass:word");
        let config = config(&format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{auth}"}}, "r:5000": {{"username": "u", "password": "p"}}, "bad": {{"auth": "?"}}}}}}"#
        ));
        let find = |registry: &str| config.find(registry, &|_, _| panic!("asked a helper"));
        let basic = |user: &str, password: &str| Some(RegistryAuth::Basic(user.into(), password.into()));
        assert_eq!(find("docker.io"), basic("me", "pass:word"));
        assert_eq!(find("r:5000"), basic("u", "p"));
        assert_eq!(find("bad"), None);
        assert_eq!(find("other"), None);
    }

    #[test]
    fn helpers_come_first() {
        let config = config(
            r#"{"credsStore": "all", "credHelpers": {"gcr.io": "gcloud"}, "auths": {"x": {"username": "u"}}}"#,
        );
        let ask = |helper: &str, registry: &str| {
            let known = (helper, registry) == ("gcloud", "gcr.io") || (helper, registry) == ("all", "y");
            known.then(|| Helped {
                username: if registry == "y" { TOKEN } else { helper }.into(),
                secret: "s".into(),
            })
        };
        assert_eq!(config.find("gcr.io", &ask), Some(RegistryAuth::Basic("gcloud".into(), "s".into())));
        assert_eq!(config.find("y", &ask), Some(RegistryAuth::Bearer("s".into())));
        assert_eq!(config.find("x", &ask), Some(RegistryAuth::Basic("u".into(), String::new())));
    }
}
