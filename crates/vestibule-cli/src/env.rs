//! `vestibule env`: variables that point other programs at a running `serve`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::http::Api;
use crate::printer::Printer;
use crate::secret::Secret;
use crate::settings::{DEFAULT_API, DEFAULT_PROJECT, Environment};

/// Print `export` lines.
#[derive(Args)]
pub struct Options {
    /// Only the variables for these programs [default: all]
    #[arg(long = "for", value_name = "WHO", value_enum)]
    only: Option<Who>,
    /// The project to work in [default: $CLOUDSDK_CORE_PROJECT, or local-project]
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    Gcloud,
    Terraform,
    Clients,
}

/// gcloud's APIs, and the path that the endpoint of each ends in.
const GCLOUD_APIS: &[(&str, &str)] = &[
    ("COMPUTE", "/compute/v1/"),
    ("DNS", "/dns/v1/"),
    ("RUN", "/"),
    ("SERVICEUSAGE", "/"),
    ("LOGGING", "/"),
    ("CLOUDRESOURCEMANAGER", "/"),
    ("IAM", "/"),
    ("IAMCREDENTIALS", "/"),
    ("SECRETMANAGER", "/"),
    ("NETWORKSECURITY", "/"),
    ("CERTIFICATEMANAGER", "/"),
    ("CLOUDFUNCTIONS", "/"),
    ("CLOUDBUILD", "/"),
    ("ARTIFACTREGISTRY", "/"),
    ("STORAGE", "/"),
    ("APPENGINE", "/"),
];

/// Terraform's endpoint arguments. The version is part of each; Cloud Run's carries the region.
const TERRAFORM_APIS: &[(&str, &str)] = &[
    ("COMPUTE", "/compute/v1/"),
    ("CLOUD_RUN", "/run/{{location}}/"),
    ("CLOUD_RUN_V2", "/v2/"),
    ("CLOUDFUNCTIONS2", "/v2/"),
    ("APP_ENGINE", "/v1/"),
    ("DNS", "/dns/v1/"),
    ("LOGGING", "/v2/"),
    ("RESOURCE_MANAGER", "/v1/"),
    ("CLOUD_BILLING", "/v1/"),
    ("SERVICE_USAGE", "/v1/"),
    ("SECRET_MANAGER", "/v1/"),
    ("NETWORK_SECURITY", "/v1/"),
    ("CERTIFICATE_MANAGER", "/v1/"),
    // One for the provider since 7.30.0, one for those before.
    ("IAM_BETA", "/v1/"),
    ("IAM", "/v1/"),
];

/// A line of output.
enum Line {
    Variable(String, String),
    Comment(String),
}

pub fn run(options: &Options, environment: &Environment, printer: &Printer) -> Result<(), String> {
    let api = Api::new(environment.get("VESTIBULE_API").unwrap_or(DEFAULT_API), Secret::new("local"));
    let status = api.get("/vestibule/v1/status").map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{} is no Vestibule API: {}", api.base(), status.error_message()));
    }
    let state = status
        .body
        .get("state_dir")
        .and_then(Value::as_str)
        .ok_or("the API does not tell its state folder")?;
    let project = options
        .project
        .as_deref()
        .or_else(|| environment.get("CLOUDSDK_CORE_PROJECT"))
        .unwrap_or(DEFAULT_PROJECT);
    let place = Place {
        base: api.base().to_owned(),
        folder: PathBuf::from(state).join("client"),
        project: project.to_owned(),
    };
    let wants = |who: Who| options.only.is_none_or(|only| only == who);
    let mut lines = vec![Line::Variable("VESTIBULE_API".into(), place.base.clone())];
    if wants(Who::Gcloud) {
        lines.extend(place.gcloud()?);
    }
    if wants(Who::Terraform) {
        lines.extend(place.terraform());
    }
    if wants(Who::Clients) {
        lines.extend(place.clients());
    }
    for line in lines {
        match line {
            Line::Variable(name, value) => printer.line(&format!("export {name}={}", quoted(&value))),
            Line::Comment(text) => printer.line(&format!("# {text}")),
        }
    }
    Ok(())
}

/// What the lines are about.
struct Place {
    base: String,
    /// Where files for clients are kept.
    folder: PathBuf,
    project: String,
}

impl Place {
    fn gcloud(&self) -> Result<Vec<Line>, String> {
        let credentials = self.folder.join("user.json");
        write_credentials(&credentials)
            .map_err(|error| format!("cannot write {}: {error}", credentials.display()))?;
        let configuration = self.folder.join("gcloud");
        fs::create_dir_all(&configuration)
            .map_err(|error| format!("cannot make {}: {error}", configuration.display()))?;
        let mut lines = vec![Line::Comment("gcloud".into())];
        let mut set = |name: &str, value: String| lines.push(Line::Variable(name.to_owned(), value));
        for (api, path) in GCLOUD_APIS {
            set(&format!("CLOUDSDK_API_ENDPOINT_OVERRIDES_{api}"), format!("{}{path}", self.base));
        }
        // gcloud tells Cloud Run's region by the host name alone (us-central1-ENDPOINT), and no such name resolves.
        // With us as its proxy it sends the name along and asks nobody. Its regional endpoints would resolve too, but
        // drop the region.
        let (host, port) = self.authority().rsplit_once(':').unwrap_or((self.authority(), "80"));
        set("CLOUDSDK_PROXY_TYPE", "http".into());
        set("CLOUDSDK_PROXY_ADDRESS", host.to_owned());
        set("CLOUDSDK_PROXY_PORT", port.to_owned());
        set("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", credentials.display().to_string());
        set("CLOUDSDK_AUTH_TOKEN_HOST", format!("{}/token", self.base));
        set("CLOUDSDK_CORE_PROJECT", self.project.clone());
        set("CLOUDSDK_CONFIG", configuration.display().to_string());
        set("CLOUDSDK_CORE_DISABLE_USAGE_REPORTING", "true".into());
        set("CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK", "true".into());
        set("CLOUDSDK_SURVEY_DISABLE_PROMPTS", "true".into());
        set("CLOUDSDK_CORE_DISABLE_PROMPTS", "1".into());
        set("GCE_METADATA_ROOT", self.authority().to_owned());
        Ok(lines)
    }

    fn terraform(&self) -> Vec<Line> {
        let mut lines = vec![Line::Comment("Terraform's google provider".into())];
        let mut set = |name: String, value: String| lines.push(Line::Variable(name, value));
        for (api, path) in TERRAFORM_APIS {
            set(format!("GOOGLE_{api}_CUSTOM_ENDPOINT"), format!("{}{path}", self.base));
        }
        set("GOOGLE_OAUTH_ACCESS_TOKEN".into(), "local".into());
        set("GOOGLE_PROJECT".into(), self.project.clone());
        lines.push(Line::Comment(
            "Without a network the provider asks openidconnect.googleapis.com in vain for minutes; this ends the wait:".into(),
        ));
        lines.push(Line::Comment("export HTTPS_PROXY=http://127.0.0.1:1".into()));
        lines
    }

    fn clients(&self) -> Vec<Line> {
        let set = |name: &str, value: String| Line::Variable(name.to_owned(), value);
        vec![
            Line::Comment("Google's client libraries: credentials from the metadata server".into()),
            set("GOOGLE_CLOUD_PROJECT", self.project.clone()),
            set("GCE_METADATA_HOST", self.authority().to_owned()),
            set("GCE_METADATA_IP", self.authority().to_owned()),
            set("GOOGLE_API_USE_CLIENT_CERTIFICATE", "false".into()),
            set("GOOGLE_API_USE_MTLS_ENDPOINT", "never".into()),
            Line::Comment(
                "The endpoint itself they take in code, with the REST transport, such as in Python:".into(),
            ),
            Line::Comment(format!("  UrlMapsClient(client_options={{\"api_endpoint\": \"{}\"}})", self.base)),
        ]
    }

    fn authority(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, authority)| authority)
    }
}

/// The credential file of the local user. It holds no secret: the token endpoint takes any refresh token.
fn write_credentials(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let user = json!({"type": "authorized_user", "client_id": "vestibule", "client_secret": "local", "refresh_token": "local"});
    let mut options = fs::OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    opened.write_all(format!("{user}\n").as_bytes())
}

/// A value as a shell reads it back: as it is where every character is plain, else in single quotes.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !value.is_empty() && value.chars().all(plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(words: &[&str], state: &Path) -> (String, String) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let call = crate::support::Call {
            method: "GET".into(),
            target: "/vestibule/v1/status".into(),
            request: Value::Null,
            status: 200,
            response: json!({"state_dir": state, "network_mode": "loopback"}),
        };
        let replay = crate::support::Replay::start(vec![call]);
        let mut environment = Environment::default();
        environment.set("VESTIBULE_API", &replay.base);
        let printer = Printer::captured();
        let line = <Line as clap::Parser>::parse_from([&["env"], words].concat());
        run(&line.options, &environment, &printer).unwrap();
        assert!(replay.complaints().is_empty());
        (printer.into_captured().0, replay.base.clone())
    }

    #[test]
    fn the_lines_for_gcloud() {
        let state = tempfile::tempdir().unwrap();
        let (text, base) = print(&["--for", "gcloud", "--project", "p1"], state.path());
        let credentials = state.path().join("client/user.json");
        for line in [
            format!("export VESTIBULE_API={base}"),
            format!("export CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE={base}/compute/v1/"),
            "export CLOUDSDK_PROXY_TYPE=http".into(),
            "export CLOUDSDK_PROXY_ADDRESS=127.0.0.1".into(),
            format!("export CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE={}", credentials.display()),
            "export CLOUDSDK_CORE_PROJECT=p1".into(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("GOOGLE_COMPUTE_CUSTOM_ENDPOINT"));
        let user: Value = serde_json::from_str(&fs::read_to_string(&credentials).unwrap()).unwrap();
        assert_eq!(user["type"], "authorized_user");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&credentials).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_lines_for_the_others() {
        let state = tempfile::tempdir().unwrap();
        let (text, base) = print(&[], state.path());
        assert!(
            text.contains(&format!(
                "export GOOGLE_CLOUD_RUN_CUSTOM_ENDPOINT='{base}/run/{{{{location}}}}/'\n"
            )),
            "{text}"
        );
        assert!(
            text.contains("export GOOGLE_PROJECT=local-project\n")
                && text.contains("export GCE_METADATA_HOST=")
        );
    }

    #[test]
    fn quotes_for_a_shell() {
        assert_eq!(quoted("http://h:1/"), "http://h:1/");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("/run/{{location}}/"), "'/run/{{location}}/'");
    }
}
