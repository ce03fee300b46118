//! `gcloud compute target-http-proxies` and `target-https-proxies`.

use serde_json::{Map, Value, json};

use super::link::{Kind, Link, Scope, Scopes, basename};
use super::ssl_certificates::SSL_CERTIFICATES;
use super::ssl_policies::SSL_POLICIES;
use super::transfer;
use super::url_maps::{URL_MAPS, is_same};
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::files;
use crate::gcloud::grammar::{Command, Flag, Group, Rule};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::located;

pub const HTTP: Kind = Kind {
    collection: "targetHttpProxies",
    scopes: Scopes::GlobalUnlessRegion,
    plural: "target http proxies",
};
pub const HTTPS: Kind = Kind {
    collection: "targetHttpsProxies",
    scopes: Scopes::GlobalUnlessRegion,
    plural: "target https proxies",
};

const HTTP_TABLE: Display = Display::new("table(name,urlMap.basename())");
const HTTPS_TABLE: Display = Display::new(
    "table(name,sslCertificates.map().basename().list():label=SSL_CERTIFICATES,urlMap.basename(),region.basename(),\
     certificateMap.basename())",
);

const NAME: &str = "NAME";

pub fn http_group() -> Group {
    let group = Group::new("target-http-proxies", "List, create, and delete target HTTP proxies.")
        .command(
            Command::new("create", "Create a target HTTP proxy.", |inv| create(inv, &HTTP))
                .arg(NAME, "The name of the proxy.")
                .flags(shared_flags())
                .examples(&["gcloud compute target-http-proxies create my-internal-proxy --url-map=my-internal-url-map --region=us-central1"]),
        )
        .command(
            Command::new("update", "Update a target HTTP proxy.", |inv| update(inv, &HTTP))
                .arg(NAME, "The name of the proxy.")
                .flags(shared_flags())
                .rule(Rule::AnyOf(vec!["url-map", "http-keep-alive-timeout-sec"])),
        );
    common(
        group,
        |inv| verbs::delete(inv, &HTTP, NAME),
        |inv| verbs::describe(inv, &HTTP, NAME),
        |inv| verbs::list(inv, &HTTP, HTTP_TABLE),
    )
}

pub fn https_group() -> Group {
    let group = Group::new("target-https-proxies", "List, create, and delete target HTTPS proxies.")
        .command(
            Command::new("create", "Create a target HTTPS proxy.", |inv| create(inv, &HTTPS))
                .arg(NAME, "The name of the proxy.")
                .flags(shared_flags())
                .flags(certificate_flags())
                .flags(policy_flags())
                .examples(&["gcloud compute target-https-proxies create my-internal-https-proxy --url-map=my-internal-url-map --ssl-certificates=my-internal-cert --region=us-central1"]),
        )
        .command(
            Command::new("update", "Update a target HTTPS proxy.", |inv| update(inv, &HTTPS))
                .arg(NAME, "The name of the proxy.")
                .flags(shared_flags())
                .flags(certificate_flags())
                .flags(policy_flags())
                .flag(Flag::switch("clear-ssl-policy", "Removes any attached SSL policy from the HTTPS proxy."))
                .flag(Flag::switch("clear-server-tls-policy", "Removes any attached server TLS policy from the HTTPS proxy."))
                .rule(Rule::Exclusive(vec![vec!["ssl-policy"], vec!["clear-ssl-policy"]]))
                .rule(Rule::Exclusive(vec![vec!["server-tls-policy"], vec!["clear-server-tls-policy"]]))
                .rule(Rule::AnyOf(vec![
                    "ssl-certificates",
                    "url-map",
                    "ssl-policy",
                    "clear-ssl-policy",
                    "server-tls-policy",
                    "clear-server-tls-policy",
                    "http-keep-alive-timeout-sec",
                ])),
        )
        .command(
            Command::new("export", "Export a target HTTPS proxy.", |inv| transfer::export(inv, &HTTPS, NAME))
                .arg(NAME, "The name of the proxy.")
                .flags(super::scope_flags())
                .flag(files::destination_flag()),
        )
        .command(
            Command::new("import", "Import a target HTTPS proxy.", |inv| {
                transfer::import(inv, &transfer::TARGET_HTTPS_PROXY, NAME)
            })
            .about("An existing proxy of the name is replaced by the file's.")
            .arg(NAME, "The name of the proxy.")
            .flags(super::scope_flags())
            .flag(files::source_flag()),
        );
    common(
        group,
        |inv| verbs::delete(inv, &HTTPS, NAME),
        |inv| verbs::describe(inv, &HTTPS, NAME),
        |inv| verbs::list(inv, &HTTPS, HTTPS_TABLE),
    )
}

type Run = crate::gcloud::grammar::Handler;

fn common(group: Group, delete: Run, describe: Run, list: Run) -> Group {
    group
        .command(
            Command::new("delete", "Delete target proxies.", delete)
                .args(NAME, "The names of the proxies.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("describe", "Describe a target proxy.", describe)
                .arg(NAME, "The name of the proxy.")
                .flags(super::scope_flags()),
        )
        .command(Command::new("list", "List target proxies.", list).flags(super::list_scope_flags()))
}

fn shared_flags() -> Vec<Flag> {
    let mut flags = super::scope_flags();
    flags.extend([
        Flag::text("url-map", "The URL map that routes the proxy's requests."),
        Flag::text("url-map-region", "The URL map's region. Default: the proxy's."),
        Flag::switch("global-url-map", "The URL map is global."),
        Flag::text("description", "What the proxy is for."),
        Flag::int(
            "http-keep-alive-timeout-sec",
            "How long an idle client connection stays open, seconds. Default: 610.",
        ),
    ]);
    flags
}

fn certificate_flags() -> Vec<Flag> {
    vec![
        Flag::list("ssl-certificates", "The certificates; the first is the default.")
            .metavar("SSL_CERTIFICATE"),
        Flag::text("ssl-certificates-region", "The certificates' region. Default: the proxy's."),
        Flag::switch("global-ssl-certificates", "The certificates are global."),
    ]
}

fn policy_flags() -> Vec<Flag> {
    vec![
        Flag::text("ssl-policy", "The SSL policy: which versions and cipher suites of TLS are offered."),
        Flag::text("ssl-policy-region", "The policy's region. Default: the proxy's."),
        Flag::switch("global-ssl-policy", "The policy is global."),
        Flag::text(
            "server-tls-policy",
            "The server TLS policy: whether clients are asked for certificates, and which are trusted.",
        ),
    ]
}

/// The scope of something beside the proxy: its own flag's, or the proxy's.
fn beside(inv: &Invocation<'_>, proxy: &Link, region: &str, global: &str) -> Scope {
    match inv.args.text(region) {
        Some(region) => Scope::Region(basename(region).to_owned()),
        None if inv.args.on(global) => Scope::Global,
        None => proxy.scope.clone(),
    }
}

fn url_map(inv: &Invocation<'_>, proxy: &Link) -> Result<Option<String>, Failure> {
    let Some(name) = inv.args.text("url-map") else { return Ok(None) };
    let scope = beside(inv, proxy, "url-map-region", "global-url-map");
    Ok(Some(URL_MAPS.at(inv, &scope, name)?.url(inv.api.base())))
}

fn certificates(inv: &Invocation<'_>, proxy: &Link) -> Result<Option<Vec<String>>, Failure> {
    let Some(names) = inv.args.list("ssl-certificates") else { return Ok(None) };
    let scope = beside(inv, proxy, "ssl-certificates-region", "global-ssl-certificates");
    let urls = names.iter().map(|name| Ok(SSL_CERTIFICATES.at(inv, &scope, name)?.url(inv.api.base())));
    Ok(Some(urls.collect::<Result<_, Failure>>()?))
}

fn ssl_policy(inv: &Invocation<'_>, proxy: &Link) -> Result<Option<String>, Failure> {
    let Some(name) = inv.args.text("ssl-policy") else { return Ok(None) };
    let scope = beside(inv, proxy, "ssl-policy-region", "global-ssl-policy");
    Ok(Some(SSL_POLICIES.at(inv, &scope, name)?.url(inv.api.base())))
}

/// A bare name is a policy in the proxy's region.
fn server_tls_policy(inv: &Invocation<'_>, proxy: &Link) -> Option<String> {
    let word = inv.args.text("server-tls-policy")?;
    let location = match &proxy.scope {
        Scope::Region(region) => region,
        _ => "global",
    };
    Some(format!(
        "//networksecurity.googleapis.com/{}",
        located::SERVER_TLS_POLICIES.relative(&inv.project(), location, word)
    ))
}

fn create(inv: &Invocation<'_>, kind: &Kind) -> Result<(), Failure> {
    let link = kind.resolve(inv, inv.args.name(NAME))?;
    let Some(url_map) = url_map(inv, &link)? else {
        return Err(Failure::new("argument --url-map: Must be specified."));
    };
    let mut body = Map::new();
    body.insert("name".into(), json!(link.name));
    body.insert("urlMap".into(), json!(url_map));
    if let Some(certificates) = certificates(inv, &link)? {
        body.insert("sslCertificates".into(), json!(certificates));
    }
    if let Some(policy) = ssl_policy(inv, &link)? {
        body.insert("sslPolicy".into(), json!(policy));
    }
    if let Some(policy) = server_tls_policy(inv, &link) {
        body.insert("serverTlsPolicy".into(), json!(policy));
    }
    if let Some(description) = inv.args.text("description") {
        body.insert("description".into(), json!(description));
    }
    if let Some(seconds) = inv.args.int("http-keep-alive-timeout-sec") {
        body.insert("httpKeepAliveTimeoutSec".into(), json!(seconds));
    }
    let table = if kind.collection == HTTPS.collection { HTTPS_TABLE } else { HTTP_TABLE };
    verbs::create(inv, link, Value::Object(body), table)
}

fn update(inv: &Invocation<'_>, kind: &Kind) -> Result<(), Failure> {
    let link = kind.resolve(inv, inv.args.name(NAME))?;
    if kind.collection == HTTP.collection {
        if let Some(url_map) = url_map(inv, &link)? {
            return verbs::update(inv, Change::call(link, "setUrlMap", json!({"urlMap": url_map})));
        }
        let seconds = inv.args.int("http-keep-alive-timeout-sec");
        return verbs::update(inv, Change::patch(link, json!({"httpKeepAliveTimeoutSec": seconds})));
    }
    let old = verbs::read(inv, &link)?;
    let mut body = Map::new();
    if let Some(certificates) = certificates(inv, &link)? {
        let held: Vec<&str> = old
            .get("sslCertificates")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let same = held.len() == certificates.len()
            && held.iter().zip(&certificates).all(|(a, b)| is_same(inv, a, b));
        if !same {
            body.insert("sslCertificates".into(), json!(certificates));
        }
    }
    if let Some(url_map) = url_map(inv, &link)? {
        let same = old.get("urlMap").and_then(Value::as_str).is_some_and(|held| is_same(inv, held, &url_map));
        if !same {
            body.insert("urlMap".into(), json!(url_map));
        }
    }
    if let Some(policy) = ssl_policy(inv, &link)? {
        let same =
            old.get("sslPolicy").and_then(Value::as_str).is_some_and(|held| is_same(inv, held, &policy));
        if !same {
            body.insert("sslPolicy".into(), json!(policy));
        }
    } else if inv.args.on("clear-ssl-policy") && old.get("sslPolicy").is_some() {
        body.insert("sslPolicy".into(), Value::Null);
    }
    if let Some(policy) = server_tls_policy(inv, &link) {
        body.insert("serverTlsPolicy".into(), json!(policy));
    } else if inv.args.on("clear-server-tls-policy") && old.get("serverTlsPolicy").is_some() {
        body.insert("serverTlsPolicy".into(), Value::Null);
    }
    if let Some(seconds) = inv.args.int("http-keep-alive-timeout-sec") {
        body.insert("httpKeepAliveTimeoutSec".into(), json!(seconds));
    }
    if body.is_empty() {
        return Ok(());
    }
    body.insert("fingerprint".into(), old.get("fingerprint").cloned().unwrap_or(Value::Null));
    verbs::update(inv, Change::patch(link, Value::Object(body)))
}
