//! `gcloud run services proxy`: a service that wants to know who calls, reachable from a browser.
//!
//! gcloud brings a program of its own for this (the component `cloud-run-proxy`), tells it the service's URL and an
//! identity token, and starts it anew before the token is too old. Here it is part of the command line: it knows where
//! default URLs are served without asking any name server, and takes a new token without cutting anyone off. For gcloud
//! itself there is a stand-in for its program ([`component`]).

pub mod component;
mod head;
mod relay;

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::Value;

use super::deploy::service_name;
use super::service::Document;
use super::{namespace_path, region};
use crate::gcloud::auth;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag};
use crate::gcloud::invocation::Invocation;
use crate::http::Api;
use crate::secret::Secret;
use crate::tour::client;
use relay::{Relay, Upstream};

/// Where the proxy listens if nobody says otherwise.
const DEFAULT_PORT: i64 = 8080;

pub fn command() -> Command {
    Command::new("proxy", "Proxy a service to localhost, with credentials attached.", proxy)
        .about(
            "Listens on 127.0.0.1 and passes each request on to the service's URL with an identity token: the one of \
             --token, else that of the active account. The service must be reachable from outside of every network, \
             so its ingress must be `all`. Ctrl-C ends it.",
        )
        .arg("SERVICE", "The name of the service.")
        .flags([
            Flag::int("port", "The local port. Default: 8080; 0: any that is free."),
            Flag::text("tag", "The traffic tag whose revision is wanted. Default: what the service's traffic says."),
            Flag::text("token", "The identity token to attach. Default: the active account's, kept fresh."),
        ])
}

fn proxy(inv: &Invocation<'_>) -> Result<(), Failure> {
    let region = region(inv)?;
    let name = service_name(inv)?;
    let target =
        format!("{}/services/{}", namespace_path(&region, &inv.project()), super::super::segment(&name));
    let answer = inv.api.get(&target)?;
    if answer.status == 404 {
        return Err(Failure::new(format!("Cannot find service [{name}]")));
    }
    if !answer.is_success() {
        return Err(Failure::run(&answer));
    }
    let url = url(&answer.body, &name, inv.args.text("tag"))?;
    let token = || match inv.args.text("token") {
        Some(token) => Ok(Secret::new(token)),
        None => auth::token_for(inv, &url),
    };
    let port = inv.args.int("port").unwrap_or(DEFAULT_PORT);
    let port = u16::try_from(port).map_err(|_| Failure::new(format!("[{port}] is not a port.")))?;
    let relay =
        Relay::bind((Ipv4Addr::LOCALHOST, port).into(), upstream(&inv.api, &url).map_err(Failure::new)?)
            .map_err(|error| Failure::new(format!("Cannot listen on 127.0.0.1:{port}: {error}")))?;
    let first = token()?;
    inv.status(&format!(
        "Proxying to Cloud Run service [{name}] in project [{}] region [{region}]",
        inv.project()
    ));
    inv.status(&format!("http://{} proxies to {url}", relay.address()));
    let fresh = || {
        let new = token();
        if new.is_err() {
            inv.warn("No new identity token can be obtained; the last one is still used.");
        }
        new.ok()
    };
    relay.run(first, None, fresh).map_err(|error| Failure::new(error.to_string()))
}

/// The URL of a service, or of one of its tags.
fn url(service: &Value, name: &str, tag: Option<&str>) -> Result<String, Failure> {
    let document = Document(service);
    if document.annotation("run.googleapis.com/default-url-disabled") == Some("true") {
        return Err(Failure::new(format!("Service [{name}] has default URL disabled.")));
    }
    let Some(tag) = tag else {
        let url = document.text("/status/url").filter(|url| !url.is_empty());
        let missing = || Failure::new(format!("URL for service [{name}] is not ready"));
        return url.map(str::to_owned).ok_or_else(missing);
    };
    let traffic = service.pointer("/status/traffic").and_then(Value::as_array).into_iter().flatten();
    let entry = traffic.into_iter().find(|entry| entry.get("tag").and_then(Value::as_str) == Some(tag));
    let entry = entry.ok_or_else(|| Failure::new(format!("Cannot find tag [{tag}] in service [{name}].")))?;
    let url = entry.get("url").and_then(Value::as_str);
    let missing = || Failure::new(format!("URL for tag [{tag}] in service [{name}] is not ready"));
    url.map(str::to_owned).ok_or_else(missing)
}

/// Where default URLs are served, and whom to trust there: the server says both.
fn upstream(api: &Api, url: &str) -> Result<Upstream, String> {
    let status = api.get("/vestibule/v1/status").map_err(|error| error.to_string())?.body;
    let text = |field: &str| status.get(field).and_then(Value::as_str);
    let (Some(front), Some(state)) = (text("front"), text("state_dir")) else {
        return Err("The API does not tell where default URLs are served.".to_owned());
    };
    let front = front.parse().map_err(|_| format!("[{front}] is not an address."))?;
    let file = Path::new(state).join("ca/ca.pem");
    let pem = std::fs::read_to_string(&file)
        .map_err(|error| format!("Cannot read [{}]: {error}", file.display()))?;
    let host = url.trim_start_matches("https://").trim_end_matches('/').to_owned();
    Ok(Upstream { front, host, trust: client::trust(&[&pem])? })
}
